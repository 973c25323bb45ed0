//! The messages that users see.

use std::path::Path;

use pollux_asm::{Assembler, Limits, assemble_file};

use crate::support::{brief, drawn, small4, try_assemble};

/// Brief errors of several wrong texts, each under its text.
fn table(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("> {}\n{}\n", text.replace('\n', "\n> "), brief(text, &[]))).collect()
}

#[test]
fn several_errors_are_drawn_with_their_lines() {
    let text = "\
buffer A: i8[8, 4]
spad a[4]

repeat k in 0..3
    mvin dram=A[k * DIM] local=a cols=DIM rows=DIM
end
mvni dram=A local=a cols=4 rows=4
mvin dram=A local=a cols=4 row=17
preload d=a c=acc(0) d_rows=99
";
    insta::assert_snapshot!(drawn(text));
}

#[test]
fn an_error_in_a_macro_shows_the_use() {
    let text = "\
macro tile from to
    mvin dram=from local=to cols=DIM rows=2 * DIM
end
buffer A: i8[4, 4]
tile from=A to=spad(0)
";
    insta::assert_snapshot!(drawn(text));
}

#[test]
fn an_error_shows_the_earlier_declaration() {
    insta::assert_snapshot!(drawn("const x = 1\nbuffer x: i8[4]\n"));
}

#[test]
fn what_is_not_text_of_the_language_is_named() {
    insta::assert_snapshot!(table(&[
        "mvin 'a'",
        "mark \"abc",
        "mark \"\\q\"",
        "mark \"\"\"abc",
        "const `a = 1",
        "const `` = 1",
        "fence \\ fence",
        "const a = 0x",
        "const a = 99999999999999999999",
        "const a = 1e999",
        "const a = naïve",
    ]));
}

#[test]
fn what_is_not_a_statement_is_named() {
    insta::assert_snapshot!(table(&[
        "1 + 2",
        "fence now",
        "const = 1",
        "const a",
        "const a = ",
        "const a = (1",
        "const a = [1]",
        "const a = 1 ? 2",
        "buffer A i8[4]",
        "buffer A: i8",
        "buffer A: i8[4",
        "buffer A: i8[4] = 5",
        "buffer A: i8[2] = [1\nfence",
        "spad a",
        "include file",
        "config 5",
        "wait",
        "mark name",
        "write 0 i8[1] = [1]",
        "mvin dram=1, local=spad(0)",
        "mvin 5",
        "flush skip (1)",
        "repeat i in 4\nend",
        "repeat i in 0..4",
        "repeat i in 0..4 by 2\nend",
        "if 1\nelse\nelse\nend",
        "end",
        "else",
        "macro\nend",
        "macro m 5\nend",
        "repeat 2\nbuffer A: i8[4]\nend",
        "if 1\nspad a[4]\nend",
        "repeat 2\nmacro m\nend\nend",
        "if 1\ninclude \"x\"\nend",
    ]));
}

#[test]
fn too_deep_nesting_is_refused() {
    let parentheses = format!("const a = {}1{}", "(".repeat(200), ")".repeat(200));
    let sum = format!("const a = 1{}", " + 1".repeat(200));
    let blocks = format!("{}{}", "repeat 1\n".repeat(65), "end\n".repeat(65));
    let lists = format!("buffer A: i8[1] = {}1{}", "[".repeat(70), "]".repeat(70));
    let macros: String = (1..70).map(|i| format!("macro m{i}\nm{}\nend\n", i - 1)).collect();
    let uses = format!("macro m0\nfence\nend\n{macros}m69\n");
    let all = [parentheses, sum, blocks, lists, uses].map(|text| brief(&text, &[]).lines().next().unwrap().to_owned());
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn an_error_in_a_very_long_line_is_drawn_with_what_is_near() {
    let text = format!("config small4\nmark \"{}\" x {}\nfence\n", "\u{e4}".repeat(100_000), "y ".repeat(100_000));
    let errors = pollux_asm::assemble("main.pasm", &text).unwrap_err();
    assert_eq!(errors.0[0].position(), (2, 100_009));
    let drawn = errors.render();
    assert!(drawn.contains("[main.pasm:2:") && drawn.contains("found `x`"), "{drawn}");
    assert!(drawn.len() < 10_000, "{} bytes", drawn.len());
}

#[test]
fn no_more_errors_are_collected_than_anybody_reads() {
    for text in ["mvni\n".repeat(100_000), "(\n".repeat(100_000), "\u{a7}".repeat(100_000)] {
        let errors = pollux_asm::assemble("main.pasm", &format!("config small4\n{text}")).unwrap_err();
        assert_eq!(errors.0.len(), 50);
        assert!(errors.to_string().starts_with("the program has at least 50 errors"), "{errors}");
    }
}

#[test]
fn names_that_do_not_fit_are_explained() {
    insta::assert_snapshot!(table(&[
        "const a = lenght\nconst length = 1",
        "const length = 1\nconst a = lenght",
        "const DIM = 4",
        "spad garbage[4]",
        "const a = 1\nconst a = 2",
        "macro m a a\nend\nm a=1",
        "repeat i in 0..1\nconst i = 2\nend",
        "macro mvin\nend",
        "macro m\nend\nconst a = m",
        "macro m\nm\nend\nm",
        "macro m a b=1\nend\nm b=2",
        "macro m a\nend\nm a",
        "macro m a\nend\nm a=1 a=2",
        "macro m width\nend\nm widht=1",
        "const a = 1\nconst b = a.rows",
        "const a = 1\nconst b = a[0]",
        "buffer A: i8[4]\nconst a = A.len",
        "spad a[4]\nconst b = a.cols",
        "expect C = [1]",
        "buffer C: i8[1]\nexpect C = [1]\nexpect C = [1]",
        "confg norm16",
        "prelaod",
        "macro copy_tile\nend\ncopytile",
    ]));
}

#[test]
fn values_that_do_not_fit_are_explained() {
    insta::assert_snapshot!(table(&[
        "const a = 1 / 0",
        "const a = 1 << 200",
        "const a = 1.5 & 1",
        "const a = ~1.5",
        "const a = !garbage",
        "const a = spad(0) * 2",
        "const a = spad(SP_ROWS - 1) + 1",
        "const a = garbage + 1",
        "const a = spad(SP_ROWS)",
        "const a = acc(-1)",
        "const a = accumulate(spad(0))",
        "const a = full(garbage)",
        "const a = norm(acc(0), maximum)",
        "const a = norm(5, max)",
        "const a = spad(1.0)",
        "const a = min()",
        "const a = ceil_div(1, 0)",
        "const a = local(0x1_0000_0000)",
        "const a = maxx(1)",
        "const a = spad(0) ? 1 : 2",
        "wait -1",
        "wait 1.5",
        "repeat i in 0..4 step 0\nend",
        "spad a[4]\nconst b = a[4]",
        "spad a[4]\nconst b = a[0, 0]",
        "buffer A: i8[4, 4]\nconst a = A[0, 0, 0]",
        "buffer A: i8[4, 4]\nconst a = A[-1]",
        "spad a[SP_ROWS + 1]",
        "acc a[4] at ACC_ROWS",
    ]));
}

#[test]
fn buffers_and_data_that_do_not_fit_are_explained() {
    insta::assert_snapshot!(table(&[
        "buffer A: i16[4]",
        "buffer A: i8[-1]",
        "buffer A: i32[1 << 40, 1 << 40]",
        "buffer A: i8[4] at -4",
        "buffer A: i8[8] at 0x100\nbuffer B: i8[8] at 0x104",
        "buffer A: i8[16] at 0xffff_ffff_ffff_fff0 - 1\nbuffer B: i8[1]",
        "buffer A: i8[1 << 40] = fill 0",
        "buffer A: i8[2] = [1, 128]",
        "buffer A: i8[2] = [1, 0.5]",
        "buffer A: i8[2] = [1, garbage]",
        "buffer A: i8[2] = [1]",
        "buffer A: i8[2, 2] = [[1, 2], [3]]",
        "buffer A: i8[2, 2] = [[1, 2]]",
        "buffer A: i8[2, 2] = [[1, 2], 3]",
        "buffer A: i8[2] = [[1], [2]]",
        "buffer A: i8[2, 2] = each i: i",
        "buffer A: i8[2] = each i: 200 * i",
        "buffer A: i8[2] = hex \"0\"",
        "buffer A: i8[2] = hex \"xx\"",
        "buffer A: i8[2] = hex \"000000\"",
        "write 0xffff_ffff_ffff_ffff: i8[2] = [1, 2]",
    ]));
}

#[test]
fn operands_that_do_not_fit_are_explained() {
    insta::assert_snapshot!(table(&[
        "mvin dram=0 local=spad(0)",
        "mvin dram=0 local=0 cols=4 rows=4",
        "mvin dram=spad(0) local=spad(0) cols=4 rows=4",
        "mvin dram=-1 local=spad(0) cols=65 rows=1 << 20",
        "mvin dram=1 << 40 local=spad(0) cols=4 rows=4",
        "mvin dram=0 local=spad(0) cols=4 rows=4 rows=4",
        "mvin dram=0 local=spad(0) cols=4 rows",
        "mvin dram=0 local=spad(0) cols=4 rwos=4",
        "config_ex dataflow=was",
        "config_ex dataflow=2",
        "config_ex dataflow=ws acc_scale=garbage",
        "config_ex dataflow=ws acc_scale=1e300",
        "config_ex dataflow=ws a_transpose=2",
        "config_norm qb=1 << 31",
        "loop_ws_config_bounds i=65536 j=1 k=1",
        "raw funct=1 rs1=2",
        "raw funct=128 rs1=0 rs2=0",
        "raw funct=1 rs1=-1 rs2=0",
        "raw funct=1 rs1=0 rs3=0",
        "raw funct rs1=0 rs2=0",
        "raw funct=1 funct=1 rs1=0 rs2=0",
        "config lean\nconfig_norm",
    ]));
}

#[test]
fn configurations_that_do_not_fit_are_explained() {
    insta::assert_snapshot!(table(&[
        "config nrom16",
        "config small4\nconfig norm16",
        "spad a[4]\nconfig norm16",
        "config \"missing.toml\"",
        "config toml \"base = 'small4'\\nmesh_rows = 3\\n\"",
        "config toml \"mesh = 3\"",
    ]));
    let missing = Assembler::default().assemble("main.pasm", "# nothing\nspad a[4]\n").unwrap_err();
    insta::assert_snapshot!("no_configuration", missing.render());
}

#[test]
fn files_that_do_not_fit_are_explained() {
    let npy = |descr: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let (wide, float) = (npy("|i1", "(4,)", &[0; 4]), npy("<f4", "(1,)", &[0; 4]));
    let files: [(&str, &[u8]); 7] = [
        ("wide.npy", &wide),
        ("float.npy", &float),
        ("three.bin", &[1, 2, 3]),
        ("latin1.pasm", b"# \xe9\n"),
        ("a.pasm", b"include \"lib/b.pasm\"\n"),
        ("lib/b.pasm", b"include \"../a.pasm\"\n"),
        ("lib/wrong.pasm", b"const a = 1\nfance\n"),
    ];
    let texts = [
        "include \"missing.pasm\"",
        "include \"main.pasm\"",
        "include \"a.pasm\"",
        "include \"latin1.pasm\"",
        "include \"lib/wrong.pasm\"",
        "include \"lib/wrong.pasm\"\nconst a = 2",
        "buffer A: i8[2] = npy \"wide.npy\"",
        "buffer A: i32[1] = npy \"float.npy\"",
        "buffer A: i8[3] = npy \"three.bin\"",
        "buffer A: i8[2] = raw \"three.bin\"",
        "buffer A: i8[4] = raw \"three.bin\"",
    ];
    let all: String = texts.iter().map(|text| format!("> {text}\n{}\n", brief(text, &files))).collect();
    insta::assert_snapshot!(all.replace("main.pasm:1", "1").replace("main.pasm:2", "2"));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let errors = assemble_file(Path::new("no/such/file.pasm")).unwrap_err();
    assert!(errors.render().contains("cannot read `no/such/file.pasm`: No such file"), "{}", errors.render());
    assert_eq!(errors.to_string(), "the program has an error");
}

#[test]
fn a_wrong_declaration_is_reported_once() {
    let text =
        "const n = 1 / 0\nbuffer A: i8[n, 4]\nspad a[n]\nmacro m (\nend\nmvin dram=A local=a cols=n rows=A.rows\nm\n";
    insta::assert_snapshot!(brief(text, &[]));
}

#[test]
fn an_error_in_a_loop_is_reported_once() {
    let text = "repeat i in 0..1000\n    mvin dram=0 local=spad(0) cols=4 rows=5 + i\nend\n";
    insta::assert_snapshot!(brief(text, &[]));
}

#[test]
fn an_assembly_stops_at_many_errors() {
    let text = "fance\n".repeat(1000);
    assert_eq!(try_assemble(&text, &[]).unwrap_err().0.len(), 50);
}

#[test]
fn endless_programs_end_with_an_error() {
    let limits = Limits { steps: 1000, items: 100, data: 100 };
    let assembler = Assembler::default().with_default_config(small4()).with_limits(limits);
    let texts = [
        "repeat i in 0..1 << 60\nend",
        "repeat i in 0..1 << 60\nfence\nend",
        "buffer A: i8[60] = fill 1\nexpect A = fill 1",
        "buffer A: i8[100] = each i: 1\nrepeat i in 0..30\nwrite A: i8[0, 1 << 40] = each x, y: 1\nend\nwait 1",
    ];
    let messages = texts.map(|text| match assembler.assemble("main.pasm", text) {
        Ok(program) => format!("{} items", program.items.len()),
        Err(errors) => errors.0.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("; "),
    });
    insta::assert_snapshot!(messages.join("\n"));
}
