//! What the language means.

use pollux_asm::program::ElementType;
use pollux_isa::fields::{ConfigEx, ConfigLd, ConfigNorm, MoveOperands, Preload};
use pollux_isa::values::{Activation, DataflowMode, NormCmd, Scale};
use pollux_isa::{Command, LocalAddr, RoccCommand, StreamItem};

use crate::support::{assemble, decoded, try_assemble};

/// The rows of the moves of a program.
fn rows(text: &str) -> Vec<u16> {
    let rows = |command| match command {
        Command::Mvin(MoveOperands { rows, .. }) => rows,
        other => panic!("{other:?}"),
    };
    decoded(text).into_iter().map(rows).collect()
}

fn locals(text: &str) -> Vec<LocalAddr> {
    let local = |command| match command {
        Command::Mvout(MoveOperands { local, .. }) => local,
        other => panic!("{other:?}"),
    };
    decoded(text).into_iter().map(local).collect()
}

#[test]
fn operands_left_out_have_their_defaults() {
    let commands = decoded("config_ex dataflow=ws b_transpose\nconfig_ld stride=16\npreload\n");
    let garbage = LocalAddr::GARBAGE;
    let expected = [
        Command::ConfigEx(ConfigEx {
            dataflow: DataflowMode::Ws,
            activation: Activation::None,
            set_only_strides: false,
            a_transpose: false,
            b_transpose: true,
            a_stride: 1,
            acc_scale: Scale::IDENTITY,
            in_shift: 0,
            relu6_shift: 0,
            c_stride: 1,
        }),
        Command::ConfigLd(ConfigLd {
            shrink: false,
            state_id: 0,
            pixel_repeats: 1,
            block_stride: 4,
            scale: Scale::IDENTITY,
            stride: 16,
        }),
        Command::Preload(Preload { d: garbage, d_cols: 4, d_rows: 4, c: garbage, c_cols: 4, c_rows: 4 }),
    ];
    assert_eq!(commands, expected);
}

#[test]
fn buffers_follow_each_other_at_the_dma_alignment() {
    let program = assemble(
        "buffer A: i8[3, 5]\nbuffer B: i32[4]\nbuffer C: i8[1] at 0x9000_0000\nbuffer D: i8[1]\n\
         buffer E: i8[2] at A + 2 overlay\n",
    );
    let addresses: Vec<u64> = program.buffers.iter().map(|buffer| buffer.address).collect();
    assert_eq!(addresses, [0x8000_0000, 0x8000_0040, 0x9000_0000, 0x9000_0040, 0x8000_0002]);
}

#[test]
fn regions_follow_each_other_in_their_memory() {
    let program = assemble("spad a[8]\nacc c[4]\nspad b[4]\nacc d[4] at 2\nspad e[0]\n");
    let rows: Vec<(bool, u32, u32)> = program.regions.iter().map(|r| (r.accumulator, r.row, r.rows)).collect();
    assert_eq!(rows, [(false, 0, 8), (true, 0, 4), (false, 8, 4), (true, 2, 4), (false, 12, 0)]);
}

#[test]
fn data_come_from_lists_formulas_digits_and_files() {
    let array = pollux_asm::npy::Array { element: ElementType::I8, shape: vec![2, 2], data: vec![9, 8, 7, 6] };
    let npy = pollux_asm::npy::write(&array);
    let program = try_assemble(
        "buffer nested: i8[2, 2] = [[1, -2], [3, 4]]\n\
         buffer flat: i8[2, 2] = [1, -2,\n 3, 4,]\n\
         buffer each: i32[2, 2] = each i, j: 10 * i - j\n\
         buffer fill: i32[2] = fill -1\n\
         buffer hex: i8[4] = hex \"01 fe0304\"\n\
         buffer npy: i8[2, 2] = npy \"data/x.npy\"\n\
         buffer raw: i32[1] = raw \"data/x.bin\"\n\
         buffer none: i8[4]\n\
         expect none = nested_copy\n"
            .replace("expect none = nested_copy\n", "expect none = [1, 2, 3, 4]\n")
            .as_str(),
        &[("data/x.npy", &npy), ("data/x.bin", &[1, 2, 3, 4])],
    )
    .unwrap_or_else(|errors| panic!("{}", errors.render()));
    let data = |name: &str| program.buffer(name).unwrap().data.clone();
    assert_eq!(data("nested"), Some(vec![1, 254, 3, 4]));
    assert_eq!(data("flat"), data("nested"));
    let words = [0i32, -1, 10, 9].map(i32::to_le_bytes).concat();
    assert_eq!(data("each"), Some(words));
    assert_eq!(data("fill"), Some(vec![255; 8]));
    assert_eq!(data("hex"), Some(vec![1, 254, 3, 4]));
    assert_eq!(data("npy"), Some(vec![9, 8, 7, 6]));
    assert_eq!(data("raw"), Some(vec![1, 2, 3, 4]));
    assert_eq!((data("none"), program.buffer("none").unwrap().expected.clone()), (None, Some(vec![1, 2, 3, 4])));
}

#[test]
fn loops_conditions_and_macros_are_unrolled() {
    let text = "\
const base = 1
macro move count base=base + 1
    const rows = count * base
    mvin dram=0 local=spad(0) cols=4 rows=rows
end
repeat i in 0..4 step 2
    repeat j in i..2
        if j == 1
            move count=1
        else
            move count=j base=3
        end
    end
end
repeat 2
    move base=4 count=base
end
repeat k in 3..3
    fence
end
";
    assert_eq!(rows(text), [0, 2, 4, 4]);
}

#[test]
fn expressions_have_the_usual_precedence() {
    let value = |expression: &str| rows(&format!("mvin dram=0 local=spad(0) cols=4 rows={expression}\n"))[0];
    for (expression, expected) in [
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3 - 5", 4),
        ("7 / 2 % 2", 1),
        ("1 << 1 + 1", 4),
        ("6 & 3 | 1 ^ 1", 2),
        ("1 < 2 && 2 <= 2 || 1 / 0", 1),
        ("0 && 1 / 0", 0),
        ("1 == 2 ? 3 : 0 != 1 ? 4 : 5", 4),
        ("-(-3)", 3),
        ("!0 + !5 + (~0 & 2)", 3),
        ("min(4, 2.5, 3) == 2.5", 1),
        ("max(1, 3, 2)", 3),
        ("abs(-4)", 4),
        ("ceil_div(5, 4) + ceil_div(-5, 4) + ceil_div(4, 4)", 2),
        ("round(2.5) + round(1.5) - trunc(-1.9) - trunc(3.9)", 2),
        ("spad(1) + 1 == 1 + spad(1)", 1),
        ("1.0 / 2 < 0.75", 1),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
}

#[test]
fn local_addresses_carry_their_properties() {
    let text = "\
acc c[8]
spad s[4] at 8
mvout dram=1 cols=4 rows=4 local=c
mvout dram=1 cols=4 rows=4 local=accumulate(c[3])
mvout dram=1 cols=4 rows=4 local=full(c + 2)
mvout dram=1 cols=4 rows=4 local=norm(accumulate(c, 0), inv_sum_exp)
mvout dram=1 cols=4 rows=4 local=s[3]
mvout dram=1 cols=4 rows=4 local=local(0xdead_beef)
mvout dram=1 cols=4 rows=4 local=garbage
";
    let expected = [
        LocalAddr::accumulator(0),
        LocalAddr::accumulator(3).with_accumulate(),
        LocalAddr::accumulator(2).with_full(),
        LocalAddr::accumulator(0).with_norm_cmd(NormCmd::InvSumExp),
        LocalAddr::scratchpad(11),
        LocalAddr(0xdead_beef),
        LocalAddr::GARBAGE,
    ];
    assert_eq!(locals(text), expected);
}

#[test]
fn elements_and_attributes_of_buffers_are_addresses_and_numbers() {
    let text = "\
buffer A: i32[2, 3, 4] at 0x1000
wait A
wait A[1]
wait A[1, 2]
wait A[1, 2, 3]
wait A.rows
wait A.cols
wait A.stride
wait A.bytes
spad a[4] at 4
wait a.rows + a.first
";
    let program = assemble(text);
    let waits: Vec<u64> =
        program.items.iter().map(|item| if let StreamItem::Wait(n) = item { *n } else { 0 }).collect();
    assert_eq!(waits, [0x1000, 0x1030, 0x1050, 0x105c, 6, 4, 16, 96, 8]);
}

#[test]
fn a_name_in_backquotes_is_always_a_symbol() {
    let program =
        assemble("buffer `layer 0/q`: i8[4]\nbuffer `DIM`: i8[4]\nwait `layer 0/q`\nwait DIM\nwait `DIM`[1]\n");
    let expected = [0x8000_0000, 0x8000_0040, 0x8000_0041].map(StreamItem::Wait);
    assert_eq!(program.items, expected);
}

#[test]
fn negative_numbers_and_scale_bits_are_encoded() {
    let commands = decoded(
        "config_norm q_const=-1 qb=-2147483648 qc=2147483647\nconfig_ex dataflow=os acc_scale=f32bits(0x7fc0_0001)\n",
    );
    assert!(matches!(commands[0], Command::ConfigNorm(ConfigNorm { q_const: -1, qb: i32::MIN, qc: i32::MAX, .. })));
    assert!(matches!(commands[1], Command::ConfigEx(ConfigEx { acc_scale: Scale(0x7fc0_0001), .. })));
}

#[test]
fn items_that_are_no_commands_are_kept_in_order() {
    let program = assemble(
        "fence\nwait 0x10\nmark \"a \\\"b\\\"\"\nwrite 0x100: i32[2] = [1, -1]\nraw funct=99 rs1=0xffff_ffff_ffff_ffff rs2=1\n",
    );
    let expected = [
        StreamItem::Fence,
        StreamItem::Wait(16),
        StreamItem::Mark("a \"b\"".to_owned()),
        StreamItem::Write { address: 0x100, bytes: vec![1, 0, 0, 0, 255, 255, 255, 255] },
        StreamItem::Command(RoccCommand { funct: 99, rs1: u64::MAX, rs2: 1 }),
    ];
    assert_eq!(program.items, expected);
}

#[test]
fn the_configuration_comes_from_a_name_a_file_or_the_text() {
    let toml = b"base = \"small4\"\nname = \"mine\"\nnum_counter = 2\n";
    let program = try_assemble("config \"mine.toml\"\n", &[("mine.toml", toml)]).unwrap();
    assert_eq!((program.config.name.as_str(), program.config.num_counter), ("mine", 2));
    let same = try_assemble(&format!("config toml \"\"\"\n{}\"\"\"\n", str::from_utf8(toml).unwrap()), &[]).unwrap();
    assert_eq!(same.config, program.config);
    assert_eq!(try_assemble("config dim8\n", &[]).unwrap().config.dim(), 8);
}

#[test]
fn included_text_sees_and_declares_names() {
    let library: &[u8] = b"const rows = half * 2\nmacro load\n    mvin dram=0 local=spad(0) cols=4 rows=rows\nend\n";
    let files =
        [("lib/load.pasm", library), ("lib/data.bin", &[7]), ("lib/x.pasm", b"buffer A: i8[1] = raw \"data.bin\"\n")];
    let program =
        try_assemble("const half = 2\ninclude \"lib/load.pasm\"\ninclude \"lib/x.pasm\"\nload\n", &files).unwrap();
    assert_eq!(program.commands().count(), 1);
    assert_eq!(program.buffer("A").unwrap().data, Some(vec![7]));
}
