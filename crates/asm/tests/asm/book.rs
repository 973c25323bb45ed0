//! The chapters "Assembly language" and "Binary format" say what the code does.

use std::fmt::Write as _;
use std::fs;

use pollux_asm::{assemble, binary, reference_markdown};

use crate::support::{example_programs, repository};

fn chapter(name: &str) -> String {
    fs::read_to_string(repository("docs/src").join(name)).unwrap()
}

/// The code blocks of a kind, each with the text behind it.
fn blocks<'c>(chapter: &'c str, kind: &str) -> Vec<(&'c str, &'c str)> {
    let start = format!("```{kind}\n");
    chapter.split(&start).skip(1).map(|rest| rest.split_once("```\n").unwrap()).collect()
}

#[test]
fn programs_in_the_book_assemble() {
    for name in ["assembly.md", "binary-format.md"] {
        let chapter = chapter(name);
        let programs = blocks(&chapter, "pasm");
        assert!(!programs.is_empty());
        for (program, _) in programs {
            assemble("program.pasm", program).unwrap_or_else(|errors| panic!("{name}\n{}", errors.render()));
        }
    }
}

#[test]
fn the_errors_in_the_book_are_those_of_the_assembler() {
    let chapter = chapter("assembly.md");
    let wrong = blocks(&chapter, "pasm,wrong");
    assert_eq!(wrong.len(), 1);
    for (program, rest) in wrong {
        let shown = blocks(rest, "text")[0].0;
        assert_eq!(assemble("program.pasm", program).unwrap_err().render(), shown);
    }
}

#[test]
fn the_tables_of_names_and_programs_are_complete() {
    let chapter = chapter("assembly.md");
    let (_, rest) = chapter.split_once("<!-- reference -->\n").unwrap();
    assert_eq!(rest.split_once("<!-- end -->").unwrap().0, reference_markdown());
    for path in example_programs() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(chapter.contains(&format!("| `programs/{name}` |")), "{name}");
    }
}

#[test]
fn the_tables_of_the_binary_format_are_those_of_the_code() {
    let chapter = chapter("binary-format.md");
    let has = |line: String| assert!(chapter.contains(&line), "{line}");
    for field in binary::HEADER {
        has(format!("\n| {} | {} | {} |\n", field.offset, field.len, field.name));
    }
    for (number, section) in (1..).zip(binary::SECTIONS) {
        has(format!("\n## Section {number}: {section}\n"));
    }
    for (tag, item) in binary::ITEM_TAGS {
        has(format!("\n| {tag} | {item} | "));
    }
    let magic: Vec<String> = binary::MAGIC.iter().map(|byte| format!("{byte:02x}")).collect();
    has(format!("the bytes `{}`", magic.join(" ")));
    has(format!("* version: {}. ", binary::VERSION));
}

#[test]
fn the_file_in_the_book_is_the_one_that_is_written() {
    let chapter = chapter("binary-format.md");
    let (program, rest) = blocks(&chapter, "pasm")[0];
    let file = binary::write(&assemble("program.pasm", program).unwrap()).unwrap();
    assert_eq!(blocks(rest, "text")[0].0, annotated(&file));
}

/// A file's bytes, a line for each field. What depends on the configuration's text is left out.
fn annotated(file: &[u8]) -> String {
    let toml = u32::from_le_bytes(file[binary::HEADER_LEN..][..4].try_into().unwrap()) as usize;
    let header = binary::HEADER.map(|field| (field.len, field.name));
    let sections = [
        (4, "configuration: length"),
        (toml, "configuration: TOML"),
        (4, "buffers: one"),
        (4, "name: length"),
        (1, "name: A"),
        (8, "address"),
        (1, "element type: int8"),
        (1, "flags: initial data"),
        (4, "dimensions: two"),
        (8, "extent"),
        (8, "extent"),
        (4, "initial data"),
        (4, "regions: one"),
        (4, "name: length"),
        (1, "name: c"),
        (1, "memory: accumulator"),
        (4, "first row"),
        (4, "number of rows"),
        (8, "stream: three items"),
        (1, "command"),
        (1, "function: mvin"),
        (8, "rs1"),
        (8, "rs2"),
        (1, "fence"),
        (1, "mark"),
        (4, "name: length"),
        (4, "name: done"),
        (4, "checksum"),
    ];
    let mut rest = file;
    let mut out = String::new();
    for (len, meaning) in header.into_iter().chain(sections) {
        let (field, behind) = rest.split_at(len);
        let bytes: Vec<String> = field.iter().map(|byte| format!("{byte:02x}")).collect();
        let varies =
            ["file length", "configuration digest", "configuration: length", "configuration: TOML", "checksum"];
        let bytes = if varies.contains(&meaning) { "...".to_owned() } else { bytes.join(" ") };
        writeln!(out, "{bytes:23}  {meaning}").unwrap();
        rest = behind;
    }
    assert!(rest.is_empty());
    out
}
