//! Commands: round trips through every form, strict decoding, and the messages of every error.

use pollux_isa::config::Opcode;
use pollux_isa::fields::{ExecOperand, LoopConvConfig2, LoopConvWs, MoveOperands};
use pollux_isa::table::{self, FieldKind, FieldSpec, INSTRUCTIONS, InstructionSpec};
use pollux_isa::values::{Activation, DataflowMode, NormCmd, Scale};
use pollux_isa::{Command, GemminiConfig, LocalAddr, RoccCommand, RoccInstruction};
use proptest::prelude::*;

fn command(funct: u8, rs1: u64, rs2: u64) -> RoccCommand {
    RoccCommand { funct, rs1, rs2 }
}

fn configurations() -> impl Strategy<Value = GemminiConfig> {
    let names = GemminiConfig::NAMES.into_iter().chain(["dim4", "dim8", "dim32", "dim64"]).collect::<Vec<_>>();
    prop::sample::select(names).prop_map(|name| GemminiConfig::by_name(name).unwrap().into_inner())
}

fn mask(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}

/// A configuration, an instruction that it has, and legal bits for every operand.
fn legal_operands() -> impl Strategy<Value = (GemminiConfig, &'static InstructionSpec, Vec<u64>)> {
    (configurations(), any::<prop::sample::Index>()).prop_flat_map(|(cfg, index)| {
        let built: Vec<_> = INSTRUCTIONS.iter().filter(|spec| spec.requires.is_met(&cfg)).collect();
        let spec: &'static InstructionSpec = built[index.index(built.len())];
        let values: Vec<_> = spec.fields.iter().map(|field| legal_value(&cfg, field)).collect();
        (Just(cfg), Just(spec), values)
    })
}

fn legal_value(cfg: &GemminiConfig, field: &FieldSpec) -> BoxedStrategy<u64> {
    let allowed = field.allowed(cfg);
    prop_oneof![allowed.min..=allowed.max, Just(allowed.min), Just(allowed.max)].boxed()
}

fn named<'a>(spec: &InstructionSpec, values: &[u64]) -> Vec<(&'a str, u64)> {
    spec.fields.iter().map(|field| field.name).zip(values.iter().copied()).collect()
}

proptest! {
    #[test]
    fn every_form_of_a_command_gives_the_command_back((cfg, spec, values) in legal_operands()) {
        let built = Command::from_operands(&cfg, spec.mnemonic, &named(spec, &values)).unwrap();
        prop_assert_eq!(built.mnemonic(), spec.mnemonic);
        let operands: Vec<u64> = built.operands().into_iter().map(|(_, value)| value).collect();
        prop_assert_eq!(operands, values);
        let encoded = built.encode(&cfg).unwrap();
        prop_assert_eq!(Command::decode_exact(&cfg, encoded).unwrap(), built);
        prop_assert_eq!(Command::from_rocc(&cfg, encoded), Some(built));
    }

    #[test]
    fn what_decodes_exactly_encodes_to_the_same_registers(cfg in configurations(), funct in 0u8..128, rs1: u64, rs2: u64, sparse: bool) {
        // Few bits set make a legal command likely.
        let registers = if sparse { (rs1 & rs2 & 0x0001_0001_0001_000f, rs2 & 0x0001_0001_0000_00ff) } else { (rs1, rs2) };
        let given = command(funct, registers.0, registers.1);
        if let Ok(decoded) = Command::decode_exact(&cfg, given) {
            prop_assert_eq!(decoded.encode(&cfg).unwrap(), given);
        }
        let exists = INSTRUCTIONS.iter().any(|spec| spec.funct == funct);
        prop_assert_eq!(Command::from_rocc(&cfg, given).is_some(), exists);
    }

    #[test]
    fn a_field_outside_its_range_is_refused_by_decoder_and_encoder(
        (cfg, spec, values) in legal_operands(),
        index: prop::sample::Index,
        wrong: u64,
    ) {
        prop_assume!(!spec.fields.is_empty());
        let index = index.index(spec.fields.len());
        let field = &spec.fields[index];
        let (allowed, wrong) = (field.allowed(&cfg), wrong & mask(field.width));
        prop_assume!(!(allowed.min..=allowed.max).contains(&wrong));
        let registers = spec.fields.iter().zip(&values).enumerate().fold((spec.subtype.unwrap_or(0).into(), 0), |regs, (i, (f, v))| {
            f.insert(regs, if i == index { wrong } else { *v })
        });
        let message = format!("{}: {} = {wrong} is not allowed: it must be {allowed}", spec.mnemonic, field.name);
        let given = command(spec.funct, registers.0, registers.1);
        prop_assert_eq!(Command::decode_exact(&cfg, given).unwrap_err().to_string(), message.clone());
        // The hardware looks at no extent of an operand at the garbage address.
        prop_assume!(!field.is_unused(&cfg, registers.0, registers.1));
        prop_assert_eq!(Command::decode(&cfg, given).unwrap_err().to_string(), message.clone());
        let mut operands = named(spec, &values);
        operands[index].1 = wrong;
        prop_assert_eq!(Command::from_operands(&cfg, spec.mnemonic, &operands).unwrap_err().to_string(), message);
    }

    #[test]
    fn bits_of_no_field_are_ignored_by_decode_and_refused_by_decode_exact((cfg, spec, values) in legal_operands(), extra: (u64, u64)) {
        let plain = Command::from_operands(&cfg, spec.mnemonic, &named(spec, &values)).unwrap();
        let encoded = plain.encode(&cfg).unwrap();
        let defined = spec.defined_bits();
        let extra = (extra.0 & !defined.0, extra.1 & !defined.1);
        let given = command(spec.funct, encoded.rs1 | extra.0, encoded.rs2 | extra.1);
        prop_assert_eq!(Command::decode(&cfg, given), Ok(plain));
        let exact = Command::decode_exact(&cfg, given);
        match extra {
            (0, 0) => prop_assert_eq!(exact, Ok(plain)),
            (0, bits) => prop_assert_eq!(exact.unwrap_err().to_string(), format!("{}: bits {bits:#x} of rs2 are set but belong to no field", spec.mnemonic)),
            (bits, _) => prop_assert_eq!(exact.unwrap_err().to_string(), format!("{}: bits {bits:#x} of rs1 are set but belong to no field", spec.mnemonic)),
        }
    }

    #[test]
    fn instruction_words_round_trip(funct in 0u8..128, rd in 0u8..32, rs1 in 0u8..32, rs2 in 0u8..32, bits: [bool; 3], opcode in prop::sample::select(Opcode::ALL.to_vec())) {
        let [xd, xs1, xs2] = bits;
        let instruction = RoccInstruction { opcode, funct, rd, rs1, rs2, xd, xs1, xs2 };
        prop_assert_eq!(RoccInstruction::decode(instruction.encode().unwrap()), Ok(instruction));
    }
}

#[test]
fn commands_recorded_in_the_golden_cases_decode_exactly_and_encode_back() {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for line in include_str!("data/golden_commands.txt").lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split(' ').collect();
        let cfg = GemminiConfig::by_name(columns[0]).unwrap();
        let given = command(columns[1].parse().unwrap(), hex(columns[2]), hex(columns[3]));
        let decoded = Command::decode_exact(&cfg, given).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(decoded.encode(&cfg).unwrap(), given, "{line}");
        seen.insert(decoded.mnemonic());
    }
    let unseen: Vec<_> = INSTRUCTIONS.iter().map(|spec| spec.mnemonic).filter(|name| !seen.contains(name)).collect();
    assert_eq!(unseen, ["mvout_spad", "clkgate_en", "loop_ws_config_spad_ab", "loop_ws_config_spad_c"]);
}

#[test]
fn the_fields_of_an_instruction_do_not_overlap_and_fit_their_registers() {
    for spec in INSTRUCTIONS {
        let mut used = (if spec.subtype.is_some() { 3 } else { 0 }, 0);
        for field in spec.fields {
            let bits = field.insert((0, 0), u64::MAX);
            assert_eq!((used.0 & bits.0, used.1 & bits.1), (0, 0), "{}: {}", spec.mnemonic, field.name);
            assert!(field.msb() < 64 && !field.meaning.is_empty());
            used = (used.0 | bits.0, used.1 | bits.1);
        }
        assert_eq!(spec.defined_bits(), used);
    }
}

#[test]
fn mnemonics_and_encodings_are_unique_and_defaults_are_legal() {
    for (index, spec) in INSTRUCTIONS.iter().enumerate() {
        let clash = |other: &InstructionSpec| {
            other.mnemonic == spec.mnemonic || (other.funct, other.subtype) == (spec.funct, spec.subtype)
        };
        assert!(!INSTRUCTIONS[..index].iter().any(clash), "{}", spec.mnemonic);
        assert_eq!(table::by_mnemonic(spec.mnemonic).unwrap().funct, spec.funct);
        for name in ["default16", "chip", "dim4", "dim64"] {
            let cfg = GemminiConfig::by_name(name).unwrap();
            for field in spec.fields {
                if let Some(default) = field.default_value(&cfg) {
                    field.check(&cfg, spec.mnemonic, default).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_function_numbers_are_those_of_the_instruction_set() {
    let functs: Vec<u8> = INSTRUCTIONS.iter().map(|spec| spec.funct).collect();
    for funct in 0..128 {
        assert_eq!(functs.contains(&funct), funct <= 25 || funct == 126, "{funct}");
    }
}

#[test]
fn config_ld_of_the_hardware_notes_has_its_fields_in_place() {
    let cfg = GemminiConfig::default16();
    let given = command(0, 0x3f00_0000_0010_0109 | 0x0004, 0x40);
    let Command::ConfigLd(config) = Command::decode_exact(&cfg, given).unwrap() else { panic!("not config_ld") };
    assert_eq!((config.state_id, config.shrink, config.pixel_repeats, config.block_stride), (1, true, 1, 16));
    assert_eq!((config.scale, config.stride), (Scale::from(0.5), 0x40));
}

#[test]
fn the_hardware_drops_what_it_does_not_keep() {
    let cfg = GemminiConfig::small4();
    // rows = 0xfff5, cols = 0xff85: 3 and 7 bits are kept with DIM 4.
    let operands = MoveOperands::from_regs(&cfg, u64::MAX, 0xfff5_ff85_8000_0000);
    assert_eq!((operands.rows, operands.cols, operands.dram), (5, 5, (1 << 40) - 1));
    assert!(operands.local.is_acc());
    assert_eq!(operands.blocks(&cfg), 2);
    let operand = ExecOperand::from_reg(&cfg, 0xfff3_ffff_0000_0007);
    assert_eq!(operand, ExecOperand { local: LocalAddr(7), rows: 3, cols: 7 });
    let no_scale = GemminiConfig { mvin_scale_args: None, ..cfg };
    let Some(Command::ConfigLd(config)) = Command::from_rocc(&no_scale, command(0, 0x3f80_0001_0000_0001, 0)) else {
        panic!("not config_ld")
    };
    assert_eq!(config.scale, Scale(1));
}

#[test]
fn config_norm_constants_are_signed() {
    let cfg = GemminiConfig::norm16();
    let given = command(0, 0xffff_fffe_0004_0103, 0x7fff_ffff_8000_0000);
    let Command::ConfigNorm(config) = Command::decode_exact(&cfg, given).unwrap() else { panic!("not config_norm") };
    assert_eq!((config.q_const, config.qb, config.qc), (-2, i32::MIN, i32::MAX));
    assert!(config.q_const_type && config.norm_stats_id == 1 && !config.act_msb);
}

#[test]
fn features_that_the_build_lacks_are_off_in_the_unrollers_view() {
    let cfg = GemminiConfig { has_dw_convs: false, has_first_layer_optimizations: false, ..GemminiConfig::norm16() };
    let run = LoopConvWs::from_regs(&cfg, 0x0000_0000_0000_03fe, 0b1_1110);
    let gated = run.gated(&cfg);
    assert!(run.dw && run.wrot180 && run.max_pixels_per_row == 3 && run.input_dilated && !run.no_pool);
    assert!(!gated.dw && !gated.wrot180 && gated.max_pixels_per_row == 1 && !gated.input_dilated && gated.no_pool);
    assert!(gated.downsample && gated.activation == Activation::Igelu);
    let pool = LoopConvConfig2::from_regs(&cfg, 0x0000_0000_0002_0201, 0).gated(&cfg);
    assert_eq!((pool.pool_size, pool.pool_stride, pool.pool_padding), (1, 1, 0));
    let default16 = GemminiConfig::default16();
    assert_eq!(LoopConvWs::from_regs(&default16, 0, 0).gated(&default16).max_pixels_per_row, 1);
}

#[test]
fn defaults_may_be_left_out() {
    let cfg = GemminiConfig::default16();
    let Command::ConfigLd(config) = Command::from_operands(&cfg, "config_ld", &[("stride", 64)]).unwrap() else {
        panic!("not config_ld")
    };
    assert_eq!((config.scale, config.block_stride, config.pixel_repeats), (Scale::IDENTITY, 16, 1));
    let Command::Preload(preload) = Command::from_operands(&cfg, "preload", &[("c", 0x8000_0000)]).unwrap() else {
        panic!("not preload")
    };
    assert_eq!((preload.d, preload.d_rows, preload.c_cols), (LocalAddr::GARBAGE, 16, 16));
}

#[test]
fn decode_errors_say_what_is_wrong() {
    let (cfg, chip) = (GemminiConfig::default16(), GemminiConfig::chip());
    let cases = [
        (&cfg, command(99, 0, 0), "funct 99 is not an instruction: the functions are 0 to 25 and 126"),
        (
            &chip,
            command(0, 3, 0),
            "config_norm does not exist in this configuration: it needs has_normalizations = true",
        ),
        (&cfg, command(0, 0x19, 0), "config_ld: state_id = 3 is not allowed: it must be 0 to 2"),
        (&cfg, command(2, 0x1000, 0x0011_0010_0000_0000), "mvin: rows = 17 is not allowed: it must be 0 to 16"),
        (
            &cfg,
            command(8, 0x500, 0),
            "loop_ws: act = 5 is not allowed: it must be 0 to 4 (none, relu, layernorm, igelu, softmax)",
        ),
        (
            &cfg,
            command(6, 0x11_0010_0000_0000, 0x10_0010_8000_0000),
            "preload: d_rows = 17 is not allowed: it must be 0 to 16",
        ),
        (&cfg, command(126, 0x80, 0), "counter: index = 8 is not allowed: it must be 0 to 7"),
    ];
    for (cfg, given, expected) in cases {
        assert_eq!(Command::decode(cfg, given).unwrap_err().to_string(), expected);
    }
    let no_counters = GemminiConfig { num_counter: 0, has_loop_conv: false, ..cfg.clone() };
    assert!(
        Command::decode(&no_counters, command(126, 0, 0))
            .unwrap_err()
            .to_string()
            .ends_with("it needs num_counter >= 1")
    );
    assert!(
        Command::decode(&no_counters, command(15, 0, 0))
            .unwrap_err()
            .to_string()
            .ends_with("it needs has_loop_conv = true")
    );
    let exact = Command::decode_exact(&cfg, command(7, 3, 0)).unwrap_err().to_string();
    assert_eq!(exact, "flush: bits 0x2 of rs1 are set but belong to no field");
}

#[test]
fn operand_errors_say_what_is_wrong() {
    let (cfg, chip) = (GemminiConfig::default16(), GemminiConfig::chip());
    let error = |cfg: &GemminiConfig, mnemonic: &str, operands: &[(&str, u64)]| {
        Command::from_operands(cfg, mnemonic, operands).unwrap_err().to_string()
    };
    assert_eq!(error(&cfg, "mvim", &[]), "there is no instruction `mvim`");
    assert_eq!(
        error(&cfg, "mvin", &[("row", 1)]),
        "mvin has no operand `row`: its operands are dram, local, cols, rows"
    );
    let twice = [("rows", 1), ("rows", 1)];
    assert_eq!(error(&cfg, "mvin", &twice), "mvin: operand `rows` is given twice");
    assert_eq!(error(&cfg, "mvin", &[("rows", 1)]), "mvin: operand `dram` is missing and has no default");
    assert_eq!(
        error(&chip, "config_norm", &[]),
        "config_norm does not exist in this configuration: it needs has_normalizations = true"
    );
    assert_eq!(
        error(&cfg, "config_ex", &[("dataflow", 2)]),
        "config_ex: dataflow = 2 is not allowed: it must be 0 to 1 (os, ws)"
    );
}

#[test]
fn the_instruction_word_of_a_command_writes_a_register_only_for_counters() {
    let cfg = GemminiConfig::default16();
    let counter = Command::from_operands(&cfg, "counter", &[("index", 2)]).unwrap();
    let flush = Command::from_operands(&cfg, "flush", &[]).unwrap();
    assert_eq!(
        counter.instruction(cfg.opcodes, 10, 11, 12).encode(),
        Ok(126 << 25 | 12 << 20 | 11 << 15 | 7 << 12 | 10 << 7 | 0x7b)
    );
    assert_eq!(flush.instruction(cfg.opcodes, 0, 11, 12).encode(), Ok(7 << 25 | 12 << 20 | 11 << 15 | 3 << 12 | 0x7b));
}

#[test]
fn unusable_instruction_words_are_refused() {
    assert_eq!(
        RoccInstruction::decode(0x0000_0033).unwrap_err().to_string(),
        "instruction word 0x00000033 has opcode 0x33: not one of 0x0b, 0x2b, 0x5b, 0x7b (custom0 to custom3)"
    );
    let word = RoccInstruction::decode(0x7b).unwrap();
    let wrong = RoccInstruction { rs2: 32, ..word }.encode().unwrap_err();
    assert_eq!(wrong.to_string(), "rs2 is 32: it must be at most 31");
    let wrong = RoccInstruction { funct: 128, ..word }.encode().unwrap_err();
    assert_eq!(wrong.to_string(), "funct is 128: it must be at most 127");
}

#[test]
fn named_values_agree_with_their_types() {
    use pollux_isa::values::Bits;
    let names = |names: &[(&'static str, u64)]| names.to_vec();
    for (name, value) in names(Activation::NAMES) {
        assert_eq!(format!("{:?}", Activation::from_bits(value)).to_lowercase(), name);
        assert_eq!(Activation::from_bits(value).to_bits(), value);
    }
    for (name, value) in names(NormCmd::NAMES) {
        assert_eq!(format!("{:?}", NormCmd::from_bits(value)).to_lowercase(), name.replace('_', ""));
        assert_eq!(NormCmd::from_bits(value).to_bits(), value);
    }
    for (name, value) in names(DataflowMode::NAMES) {
        assert_eq!(format!("{:?}", DataflowMode::from_bits(value)).to_lowercase(), name);
    }
    for code in 5..8 {
        assert_eq!(Activation::from_bits(code), Activation::None);
    }
    let field = table::by_mnemonic("config_ex").unwrap().field("dataflow").unwrap();
    assert_eq!((field.value_of("ws"), field.value_of("is"), field.name_of(0)), (Some(1), None, Some("os")));
    let plain = table::by_mnemonic("mvin").unwrap().field("rows").unwrap();
    assert_eq!((plain.value_of("ws"), plain.name_of(0), plain.kind), (None, None, FieldKind::Unsigned));
}

#[test]
fn a_block_before_the_last_uses_the_accumulating_normalization_command() {
    let pairs = NormCmd::NAMES.iter().map(|(_, value)| {
        use pollux_isa::values::Bits;
        NormCmd::from_bits(*value).non_reset_version() as u8
    });
    assert_eq!(pairs.collect::<Vec<_>>(), [0, 1, 1, 3, 3, 5, 6, 6]);
    assert!(NormCmd::Reset.writes_to_main_memory() && !NormCmd::Mean.writes_to_main_memory());
}

#[test]
fn a_load_can_be_configured_by_defaults_in_a_build_without_a_scaler() {
    let cfg = GemminiConfig { mvin_scale_args: None, ..GemminiConfig::lean() };
    let command = Command::from_operands(&cfg, "config_ld", &[("stride", 16)]).unwrap();
    assert_eq!(Command::decode_exact(&cfg, command.encode(&cfg).unwrap()), Ok(command));
}

#[test]
fn the_class_and_the_registers_of_every_instruction_come_from_its_row() {
    let cfg = GemminiConfig::norm16();
    for spec in INSTRUCTIONS {
        let rs1 = u64::from(spec.subtype.unwrap_or_default());
        let command = RoccCommand { funct: spec.funct, rs1: !3 | rs1, rs2: u64::MAX };
        assert_eq!(command.class(), Some(spec.class), "{}", spec.mnemonic);
        let wired = Command::from_rocc(&cfg, command).map(|command| command.to_rocc()).unwrap();
        assert_eq!(table::lookup(wired).map(|row| row.mnemonic), Some(spec.mnemonic));
        let defined = spec.defined_bits();
        assert_eq!((wired.rs1 & !defined.0, wired.rs2 & !defined.1), (0, 0), "{}", spec.mnemonic);
        // What the hardware keeps, it keeps again.
        let again = Command::from_rocc(&cfg, wired).map(|command| command.to_rocc());
        assert_eq!(again, Some(wired), "{}", spec.mnemonic);
    }
    assert_eq!(RoccCommand { funct: 99, rs1: 0, rs2: 0 }.class(), None);
}
