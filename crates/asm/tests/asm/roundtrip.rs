//! Text and bytes of every command, in every configuration, read back as the same program.

use pollux_asm::{Buffer, ElementType, LocalRegion, Program, binary, disassemble, fuzz};
use pollux_isa::config::Capacity;
use pollux_isa::table::{FieldKind, INSTRUCTIONS};
use pollux_isa::{GemminiConfig, RoccCommand, StreamItem, ValidConfig};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{seeded, small4};

/// Named configurations, every DIM, and one without a name.
fn configs() -> Vec<ValidConfig> {
    let named = GemminiConfig::NAMES.iter().map(|name| GemminiConfig::by_name(name).unwrap());
    let dims = [4, 8, 16, 32, 64].map(|dim| GemminiConfig::with_dim(dim).unwrap());
    let own = GemminiConfig {
        name: "my \"own\"\"\"".to_owned(),
        acc_capacity: Capacity::Kilobytes(32),
        has_loop_conv: false,
        num_counter: 0,
        ..small4().into_inner()
    };
    let own = own.validated().unwrap();
    named.chain(dims).chain([own]).collect()
}

/// A command of any instruction with legal operands made from the seeds; addresses are near the buffers.
fn legal_command(config: &GemminiConfig, instruction: usize, seeds: &[u64]) -> RoccCommand {
    let spec = &INSTRUCTIONS[instruction % INSTRUCTIONS.len()];
    let mut registers = (spec.subtype.unwrap_or(0).into(), 0);
    for (field, seed) in spec.fields.iter().zip(seeds) {
        let allowed = field.allowed(config);
        let value = match (field.kind, field.default_value(config)) {
            (_, Some(default)) if seed % 4 == 0 => default,
            (FieldKind::DramAddress, _) if seed % 4 == 1 => 0x8000_0000 + (seed >> 2) % 0x200,
            (FieldKind::LocalAddress, _) if seed % 4 == 1 => ((seed >> 2) % 16) | ((seed >> 32) & 0xfc00_0000),
            _ => allowed.min + seed % (allowed.max - allowed.min).saturating_add(1).max(1),
        };
        registers = field.insert(registers, value);
    }
    RoccCommand { funct: spec.funct, rs1: registers.0, rs2: registers.1 }
}

fn item(config: ValidConfig) -> impl Strategy<Value = StreamItem> {
    let seeds = prop::collection::vec(any::<u64>(), 17);
    let legal = (0..INSTRUCTIONS.len(), seeds).prop_map(move |(i, seeds)| legal_command(&config, i, &seeds));
    let any_command =
        (0u8..128, any::<u64>(), any::<u64>()).prop_map(|(funct, rs1, rs2)| RoccCommand { funct, rs1, rs2 });
    prop_oneof![
        20 => legal.prop_map(StreamItem::Command),
        5 => any_command.prop_map(StreamItem::Command),
        1 => Just(StreamItem::Fence),
        1 => any::<u64>().prop_map(StreamItem::Wait),
        1 => any::<String>().prop_map(StreamItem::Mark),
        1 => (0u64..1 << 40, prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(address, bytes)| StreamItem::Write { address, bytes }),
    ]
}

/// Names that are easy to read wrong.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z_][A-Za-z0-9_]{0,3}",
        "[^`\\p{C}]{1,4}",
        select(vec!["DIM", "garbage", "repeat", "mvin", "at", "max", "layer.0/q", "0", "#", "\""])
            .prop_map(str::to_owned),
    ]
}

fn buffer() -> impl Strategy<Value = Buffer> {
    let element = select(ElementType::ALL.to_vec());
    let shape = prop::collection::vec(0u64..5, 0..4);
    let address = 0x8000_0000u64..0x8000_0100;
    (name(), address, element, shape, any::<[bool; 3]>(), any::<u8>()).prop_map(
        |(name, address, element, shape, [data, expected, equal], seed)| {
            let mut buffer = Buffer { name, address, element, shape, data: None, expected: None };
            let byte = |i: u64| if equal { seed } else { seed.wrapping_mul(i as u8 | 1) };
            let bytes: Vec<u8> = (0..buffer.len()).map(byte).collect();
            buffer.data = data.then(|| bytes.clone());
            buffer.expected = expected.then_some(bytes);
            buffer
        },
    )
}

fn region() -> impl Strategy<Value = LocalRegion> {
    (name(), any::<bool>(), 0u32..16, 0u32..8).prop_map(|(name, accumulator, row, rows)| LocalRegion {
        name,
        accumulator,
        row,
        rows,
    })
}

fn program() -> impl Strategy<Value = Program> {
    select(configs()).prop_flat_map(|config| {
        let items = prop::collection::vec(item(config.clone()), 0..20);
        let buffers = prop::collection::vec(buffer(), 0..4);
        let regions = prop::collection::vec(region(), 0..4);
        (Just(config), buffers, regions, items).prop_map(|(config, buffers, regions, items)| {
            let mut program = Program { config, buffers, regions, items };
            let mut names = std::collections::HashSet::new();
            program.buffers.retain(|buffer| names.insert(buffer.name.clone()));
            program.regions.retain(|region| names.insert(region.name.clone()));
            program
        })
    })
}

proptest! {
    #![proptest_config(seeded(512))]

    #[test]
    fn text_and_bytes_are_read_back_as_the_same_program(program in program()) {
        fuzz::check_program(&program);
        let file = binary::write(&program).unwrap();
        prop_assert_eq!(binary::read(&file).unwrap(), program.clone());
        let text = disassemble(&program);
        prop_assert_eq!(pollux_asm::assemble("main.pasm", &text).unwrap(), program);
    }
}

/// In each configuration, each instruction that exists is written by its mnemonic, never as raw registers.
#[test]
fn every_legal_command_is_disassembled_to_its_mnemonic() {
    let seeds: Vec<u64> = (1..18u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    for config in configs() {
        for (index, spec) in INSTRUCTIONS.iter().enumerate() {
            let mut program = Program::new(config.clone());
            program.items.push(StreamItem::Command(legal_command(&config, index, &seeds)));
            let line = disassemble(&program).lines().last().unwrap().to_owned();
            let expected = if spec.requires.is_met(&config) { spec.mnemonic } else { "raw" };
            assert_eq!(line.split(' ').next(), Some(expected), "{}: {line}", config.name);
        }
    }
}

#[test]
fn a_listing_names_buffers_regions_and_values() {
    let mut program = Program::new(small4());
    let buffer = |name: &str, address, element, shape: &[u64]| Buffer {
        name: name.to_owned(),
        address,
        element,
        shape: shape.to_vec(),
        data: None,
        expected: None,
    };
    let a = Buffer { data: Some((0..8).collect()), ..buffer("A", 0x8000_0000, ElementType::I8, &[2, 4]) };
    let c = Buffer { expected: Some(vec![0; 16]), ..buffer("layer 0/C", 0x8000_0040, ElementType::I32, &[4]) };
    program.buffers = vec![a, c];
    program.regions = vec![
        LocalRegion { name: "a".to_owned(), accumulator: false, row: 4, rows: 4 },
        LocalRegion { name: "c".to_owned(), accumulator: true, row: 0, rows: 4 },
    ];
    let commands = [
        (0, 0x3f80_0000_0001_0004, 0x0001_0000_0000_0000),
        (2, 0x8000_0004, 0x0001_0004_0000_0005),
        (2, 0x8000_0009, 0x0001_0004_0000_0000),
        (3, 0x8000_0042, 0x0001_0004_a000_0002),
        (3, 0x8000_0044, 0x0001_0004_dc00_0001),
        (4, 0x0004_0004_0000_0004, 0x0004_0004_ffff_ffff),
        (0, 0x0000_0007_0004_0003, 0xffff_fffe_8000_0000),
        (0, 2, 0x7fc0_0000_0000_0010),
        (99, 1, 2),
    ];
    program.items.extend(commands.map(|(funct, rs1, rs2)| StreamItem::Command(RoccCommand { funct, rs1, rs2 })));
    program.items.push(StreamItem::Write { address: 0x8000_0004, bytes: vec![1, 255] });
    program.items.push(StreamItem::Mark("say \"hi\"\n".to_owned()));
    insta::assert_snapshot!(disassemble(&program));
}
