//! The configuration record: golden values field by field, text forms, rules and their messages.

use pollux_isa::GemminiConfig;
use pollux_isa::config::{Capacity, ConfigError, Dataflow, ExpVariant, Opcode, SInt, ScaleUnits};

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn derived(cfg: &GemminiConfig, name: &str) -> String {
    match name {
        "sp_bank_entries" => cfg.sp_bank_entries(),
        "acc_bank_entries" => cfg.acc_bank_entries(),
        "DIM" => cfg.dim(),
        "ROB_ID_WIDTH" => cfg.rob_id_width(),
        "reservation_station_entries" => cfg.reservation_station_entries(),
        "mvin_cols_bits" => cfg.mvin_cols_bits(),
        "mvin_rows_bits" => cfg.mvin_rows_bits(),
        "mvout_cols_bits" => cfg.mvout_cols_bits(),
        "load_states" => pollux_isa::config::LOAD_STATES as u32,
        "block_stride_bits" => cfg.block_stride_bits(),
        "pixel_repeats_bits" => cfg.pixel_repeats_bits(),
        "hasIm2Col" => return "false".to_owned(),
        "tree_reduction" => return cfg.tree_reduction().to_string(),
        other => panic!("unknown derived number {other}"),
    }
    .to_string()
}

#[test]
fn the_golden_configurations_agree_with_the_elaborated_hardware_field_by_field() {
    let table = include_str!("data/golden_configs.txt");
    let mut fields = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split(" | ").collect();
        for (column, name) in ["default16", "small4", "norm16"].into_iter().enumerate() {
            let expected = if columns[column + 1] == "same" { columns[1] } else { columns[column + 1] };
            let cfg = GemminiConfig::by_name(name).unwrap();
            let actual = match columns[0].strip_suffix(" (derived)") {
                Some(number) => derived(&cfg, number),
                None => {
                    let field = snake_case(columns[0]);
                    cfg.settings().into_iter().find(|(name, _)| *name == field).unwrap_or_else(|| panic!("{field}")).1
                }
            };
            assert_eq!(actual, expected, "{name}: {}", columns[0]);
        }
        fields += usize::from(!columns[0].ends_with("(derived)"));
    }
    // Every field but the exponential, which is no generator field.
    assert_eq!(fields, GemminiConfig::default16().settings().len() - 1);
}

#[test]
fn only_norm16_and_the_survey_pair_have_the_released_exponential() {
    for name in GemminiConfig::NAMES {
        let released = matches!(name, "norm16" | "survey_baseline" | "survey_rebalanced");
        let cfg = GemminiConfig::by_name(name).unwrap();
        assert_eq!(cfg.softmax_exp == ExpVariant::Released, released, "{name}");
    }
}

/// sp rows, acc rows, sp/acc/max address bits, mvin_cols/rows bits, max_block_len, _acc, pixel_repeats bits, n_cmds.
fn numbers(cfg: &GemminiConfig) -> [u32; 11] {
    let layout = cfg.layout();
    [
        cfg.sp_rows(),
        cfg.acc_rows(),
        layout.sp_addr_bits,
        layout.acc_addr_bits,
        layout.max_addr_bits,
        cfg.mvin_cols_bits(),
        cfg.mvin_rows_bits(),
        cfg.max_block_len(),
        cfg.max_block_len_acc(),
        cfg.pixel_repeats_bits(),
        cfg.n_cmds(),
    ]
}

#[test]
fn derived_numbers_of_the_named_configurations() {
    let expected = [
        ("default16", [16384, 1024, 14, 10, 14, 7, 5, 4, 1, 5, 2]),
        ("small4", [16384, 1024, 14, 10, 14, 7, 3, 16, 4, 3, 5]),
        ("norm16", [16384, 2048, 14, 11, 14, 7, 5, 4, 1, 5, 2]),
        ("lean", [16384, 1024, 14, 10, 14, 7, 5, 4, 1, 5, 5]),
        ("chip", [4096, 512, 12, 9, 12, 7, 5, 4, 1, 5, 2]),
        ("large_chip", [4096, 512, 12, 9, 12, 7, 6, 2, 1, 6, 1]),
        ("survey_baseline", [16384, 1024, 14, 10, 14, 7, 5, 4, 1, 5, 2]),
        ("survey_rebalanced", [4096, 4096, 12, 12, 12, 7, 5, 4, 1, 5, 2]),
        ("dim2", [16384, 1024, 14, 10, 14, 7, 2, 32, 8, 2, 9]),
        ("dim64", [16384, 1024, 14, 10, 14, 7, 7, 1, 1, 7, 1]),
    ];
    for (name, numbers_expected) in expected {
        let cfg = GemminiConfig::by_name(name).unwrap();
        cfg.validate().unwrap();
        assert_eq!(numbers(&cfg), numbers_expected, "{name}");
    }
}

#[test]
fn the_generators_variants_differ_from_the_default_where_the_generator_says() {
    let (lean, chip) = (GemminiConfig::lean(), GemminiConfig::chip());
    for cfg in [&lean, &chip] {
        assert_eq!(cfg.dataflow, Dataflow::Ws);
        assert!(!cfg.ex_read_from_acc && !cfg.ex_write_to_spad && cfg.hardcode_d_to_garbage_addr);
        assert!(!cfg.has_normalizations);
    }
    assert_eq!((lean.max_in_flight_mem_reqs, lean.acc_read_full_width), (64, false));
    assert_eq!((chip.mesh_output_delay, chip.acc_singleported, chip.acc_sub_banks), (2, true, Some(2)));
    assert_eq!(chip.acc_scale_args.map(|args| (args.latency, args.units)), Some((4, ScaleUnits::PerColumn)));
    let large = GemminiConfig::large_chip();
    assert_eq!((large.dim(), large.sp_capacity), (32, Capacity::Kilobytes(128)));
}

#[test]
fn dim4_is_small4_and_every_power_of_two_up_to_64_is_valid() {
    let named = |name: &str, cfg: GemminiConfig| GemminiConfig { name: name.to_owned(), ..cfg };
    assert_eq!(named("small4", GemminiConfig::with_dim(4).unwrap().into_inner()), GemminiConfig::small4());
    for dim in [2, 4, 8, 16, 32, 64] {
        assert_eq!(GemminiConfig::with_dim(dim).unwrap().dim(), dim);
    }
    for dim in [0, 1, 3, 12, 128, u32::MAX] {
        assert!(GemminiConfig::with_dim(dim).is_err(), "{dim}");
    }
}

#[test]
fn toml_reads_back_what_it_wrote() {
    let names = GemminiConfig::NAMES.into_iter().chain(["dim2", "dim64"]);
    for cfg in names.map(|name| GemminiConfig::by_name(name).unwrap()) {
        let text = cfg.to_toml_string().unwrap();
        assert_eq!(GemminiConfig::from_toml_str(&text).unwrap(), cfg, "{text}");
    }
}

#[test]
fn toml_can_start_from_a_named_configuration() {
    let text = "base = \"norm16\"\nname = \"mine\"\nacc_capacity = \"64 matrices\"\nmvin_scale_args = \"none\"\nacc_scale_args = { multiplicand = \"Float<8, 24>\", latency = 2, units = 4, identity = 1.0 }";
    let cfg = GemminiConfig::from_toml_str(text).unwrap();
    assert_eq!(cfg.acc_capacity, Capacity::Matrices(64));
    assert_eq!(cfg.acc_rows(), 1024);
    assert_eq!(cfg.mvin_scale_args, None);
    assert_eq!(cfg.mvin_scale_bits(), 1);
    assert_eq!(cfg.acc_scale_args.unwrap().units, ScaleUnits::Count(4));
    assert_eq!((cfg.name.as_str(), cfg.has_max_pool), ("mine", false));
}

fn toml_error(text: &str) -> String {
    GemminiConfig::from_toml_str(text).unwrap_err().to_string()
}

#[test]
fn toml_errors_name_the_place_or_the_value() {
    let cases = [
        ("dataflow =", "line 1"),
        ("base = \"norm17\"", "no configuration is called `norm17`: the named ones are default16, small4, norm16"),
        ("base = 3", "no configuration is called `3`"),
        ("base = \"norm16\"\nmesh = 3", "unknown field `mesh`"),
        ("base = \"norm16\"\ndataflow = \"is\"", "unknown variant `is`, expected one of `os`, `ws`, `both`"),
        ("base = \"norm16\"\ninput_type = \"Float<8, 24>\"", "`Float<8, 24>` is not an element type: write `SInt<8>`"),
        ("base = \"norm16\"\nsp_capacity = \"256\"", "`256` is not a capacity: write `256 KiB` or `64 matrices`"),
        (
            "base = \"norm16\"\nacc_scale_args = { multiplicand = \"Float<8, 24>\", latency = 2, units = 0, identity = 1.0 }",
            "0 scale units: write -1 (one for each column) or a positive number",
        ),
        ("name = \"x\"", "missing field `opcodes`"),
        ("base = \"norm16\"\nsp_banks = 3", "configuration `norm16` is not valid"),
    ];
    for (text, expected) in cases {
        let message = toml_error(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

/// The reasons for refusing `default16` after a change.
fn reasons(change: impl FnOnce(&mut GemminiConfig)) -> Vec<String> {
    let mut cfg = GemminiConfig::default16();
    change(&mut cfg);
    match cfg.validate() {
        Ok(()) => Vec::new(),
        Err(ConfigError::Invalid { reasons, .. }) => reasons.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn invalid_configurations_are_refused_with_the_reason() {
    type Change = fn(&mut GemminiConfig);
    let cases: &[(Change, &str)] = &[
        (
            |c| c.mesh_rows = 8,
            "the array must be square, not 8 x 16: tile_rows * mesh_rows must equal tile_columns * mesh_columns",
        ),
        (|c| c.sp_banks = 0, "`sp_banks` must be at least 1"),
        (|c| c.acc_scale_args.as_mut().unwrap().latency = 0, "`acc_scale_args.latency` must be at least 1"),
        (
            |c| c.reservation_station_entries_ex = 12,
            "`reservation_station_entries_ex` is 12: it must be a power of two",
        ),
        (|c| c.num_counter = 256, "`num_counter` is 256: it must be at most 255"),
        (|c| c.reservation_station_entries_ex = 128, "`reservation_station_entries_ex` is 128: it must be at most 64"),
        (|c| c.shifter_banks = 3, "`shifter_banks` is 3: it must divide DIM = 16"),
        (
            |c| c.sp_capacity = Capacity::Kilobytes(200),
            "a scratchpad bank has 3200 rows: that must be a power of two and a multiple of DIM = 16",
        ),
        (
            |c| c.acc_capacity = Capacity::Kilobytes(1),
            "an accumulator bank has 8 rows: that must be a power of two and a multiple of DIM = 16",
        ),
        (
            |c| (c.acc_banks, c.acc_capacity) = (3, Capacity::Matrices(96)),
            "`acc_banks` is 3: it must be a power of two",
        ),
        (
            |c| c.sp_capacity = Capacity::Kilobytes(1 << 20),
            "local addresses need 26 row bits: more than the 25 that fit beside the 6 control bits and the garbage bit",
        ),
        (|c| c.weight_type = SInt::new(16), "`weight_type` is SInt<16>, which does not fit: as wide as input_type"),
        (
            |c| (c.acc_type, c.has_normalizations) = (SInt::new(24), false),
            "`acc_type` is SInt<24>, which does not fit: 8, 16 or 32 bits",
        ),
        (
            |c| c.spatial_array_output_type = SInt::new(40),
            "`spatial_array_output_type` is SInt<40>, which does not fit: from input_type's to acc_type's width",
        ),
        (
            |c| c.spatial_array_input_type = SInt::new(4),
            "`spatial_array_input_type` is SInt<4>, which does not fit: input_type's width to 32 bits",
        ),
        (|c| c.acc_singleported = true, "a single-ported accumulator needs acc_sub_banks of 1, 2 or 4"),
        (
            |c| c.mvin_scale_shared = true,
            "mvin_scale_shared needs mvin_scale_args, no mvin_scale_acc_args, and input_type as wide as acc_type",
        ),
        (|c| c.ex_queue_length = 2, "ex_queue_length is 2: the execute controller needs at least 3"),
        (
            |c| c.dma_buswidth = 1024,
            "dma_buswidth is 1024 bits: it must be a power of two of at least 8 and a beat must not exceed dma_maxbytes = 64",
        ),
        (|c| c.dma_maxbytes = 8192, "`dma_maxbytes` is 8192: it must be at most 4096"),
        (|c| c.aligned_to = 3, "`aligned_to` is 3: it must be a power of two"),
        (
            |c| (c.acc_read_full_width, c.acc_read_small_width) = (false, false),
            "acc_read_full_width and acc_read_small_width are both off: nothing could be stored from the accumulator",
        ),
        (|c| c.use_tl_ext_mem = true, "`use_tl_ext_mem` is on: external scratchpads are not modelled"),
    ];
    for (change, expected) in cases {
        assert_eq!(reasons(change), [*expected]);
    }
    let both = reasons(|c| (c.mesh_rows, c.mesh_columns) = (12, 12));
    assert_eq!(both[0], "DIM is 12: it must be a power of two from 2 to 64");
    let narrow = reasons(|c| (c.acc_type, c.spatial_array_output_type) = (SInt::new(16), SInt::new(16)));
    assert_eq!(narrow, ["has_normalizations needs acc_type SInt<32>, not SInt<16>"]);
    assert_eq!(reasons(|_| ()), [""; 0]);
}

#[test]
fn all_reasons_are_listed_at_once() {
    let mut cfg = GemminiConfig::default16();
    (cfg.ex_queue_length, cfg.num_counter) = (1, 300);
    assert_eq!(
        cfg.validate().unwrap_err().to_string(),
        "configuration `default16` is not valid:\n  - ex_queue_length is 1: the execute controller needs at least 3\n  - \
         `num_counter` is 300: it must be at most 255"
    );
}

#[test]
fn absurd_sizes_are_refused_without_overflow() {
    for capacity in [Capacity::Kilobytes(u32::MAX), Capacity::Matrices(u32::MAX)] {
        assert!(!reasons(|c| (c.sp_capacity, c.acc_capacity) = (capacity, capacity)).is_empty());
    }
    assert!(!reasons(|c| (c.sp_banks, c.mesh_rows, c.mesh_columns) = (1 << 31, u32::MAX, u32::MAX)).is_empty());
    assert!(!reasons(|c| c.input_type = SInt::new(u32::MAX)).is_empty());
}

#[test]
fn digests_are_stable_and_ignore_the_name() {
    let mut seen = Vec::new();
    for name in GemminiConfig::NAMES {
        let cfg = GemminiConfig::by_name(name).unwrap();
        assert_eq!(cfg.digest(), GemminiConfig { name: "other".to_owned(), ..cfg.clone().into_inner() }.digest());
        seen.push(cfg.digest());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), GemminiConfig::NAMES.len(), "each configuration has its own digest");
    // Binary programs carry these numbers: a change breaks them.
    assert_eq!(GemminiConfig::default16().digest(), DIGEST16);
}

const DIGEST16: u64 = 0x0d6d_2c9d_73cf_25f3;

const HEADER: &str = "
#ifndef GEMMINI_PARAMS_H
#define XCUSTOM_ACC 3
#define DIM 16
#define ADDR_LEN 32
#define BANK_NUM 4
#define BANK_ROWS 4096
#define ACC_ROWS 1024
#define MAX_BYTES 64
#define MAX_BLOCK_LEN (MAX_BYTES/(DIM*1))
typedef int8_t elem_t;
typedef int32_t acc_t;
typedef int64_t full_t;
#define HAS_MVIN_SCALE
typedef float scale_t;
typedef uint32_t scale_t_bits;
#define ACC_READ_SMALL_WIDTH
#define ACC_READ_FULL_WIDTH
#define HAS_FIRST_LAYER_OPTIMIZATIONS
#define HAS_NORMALIZATIONS
#endif
";

#[test]
fn a_generated_header_gives_the_configuration_that_generated_it() {
    let cfg = GemminiConfig::from_params_h(HEADER).unwrap();
    let expected = GemminiConfig {
        name: "gemmini_params.h".to_owned(),
        sp_capacity: Capacity::Matrices(1024),
        acc_capacity: Capacity::Matrices(64),
        ..GemminiConfig::default16()
    };
    assert_eq!(cfg, expected);
    assert_eq!((cfg.sp_rows(), cfg.acc_rows()), (16384, 1024));

    let lean = HEADER
        .replace("#define HAS_NORMALIZATIONS\n", "")
        .replace("#define ACC_READ_FULL_WIDTH\n", "")
        .replace("#define HAS_MVIN_SCALE\n", "")
        .replace("XCUSTOM_ACC 3", "XCUSTOM_ACC 2 // custom2")
        .replace("DIM 16", "DIM 4");
    let cfg = GemminiConfig::from_params_h(&lean).unwrap();
    assert_eq!((cfg.dim(), cfg.opcodes, cfg.sp_rows()), (4, Opcode::Custom2, 16384));
    assert!(!cfg.has_normalizations && !cfg.acc_read_full_width && cfg.mvin_scale_args.is_none());
}

#[test]
fn an_unusable_header_is_refused_with_the_macro() {
    let cases = [
        (("#define DIM 16", ""), "the header does not define `DIM`: is it a gemmini_params.h?"),
        (("DIM 16", "DIM sixteen"), "the header defines `DIM` as `sixteen`, expected a decimal number"),
        (("DIM 16", "DIM 12"), "configuration `gemmini_params.h` is not valid"),
        (("DIM 16", "DIM 0"), "`mesh_rows` must be at least 1"),
        (("typedef int8_t elem_t;", ""), "the header does not define `elem_t`"),
        (
            ("typedef int8_t elem_t;", "typedef float elem_t;"),
            "the header defines `elem_t` as `float`, expected a signed integer type such as int8_t (float builds are not supported)",
        ),
        (("XCUSTOM_ACC 3", "XCUSTOM_ACC 7"), "the header defines `XCUSTOM_ACC` as `7`, expected 0 to 3"),
    ];
    for ((from, to), expected) in cases {
        let message = GemminiConfig::from_params_h(&HEADER.replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert!(GemminiConfig::from_params_h("").is_err());
}
