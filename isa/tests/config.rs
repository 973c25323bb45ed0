//! The configuration record: golden values field by field, text forms, rules and their messages.

use pollux_isa::GemminiConfig;
use pollux_isa::config::{Capacity, ConfigError, ConfigFile, Dataflow, ExpVariant, Opcode, SInt, ScaleUnits};

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
    // Every field but the exponential, the width of the port, the mark of publications, the commands' layout and the
    // revision, which are no generator fields.
    assert_eq!(fields, GemminiConfig::default16().settings().len() - 5);
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
    for dim in [4, 8, 16, 32, 64] {
        assert_eq!(GemminiConfig::with_dim(dim).unwrap().dim(), dim);
    }
    for dim in [0, 1, 2, 3, 12, 128, u32::MAX] {
        assert!(GemminiConfig::with_dim(dim).is_err(), "{dim}");
    }
}

#[test]
fn toml_reads_back_what_it_wrote() {
    let names = GemminiConfig::NAMES.into_iter().chain(["dim8", "dim64"]);
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
        ("base = 3", "`base` is 3: it must be the name of a configuration in quotes"),
        ("base = \"norm16\"\nmesh = 3", "line 2: `mesh`: unknown field; `pollux config` lists all"),
        ("base = \"norm16\"\n\nsp_banks = \"four\"", "line 3: `sp_banks`: invalid type: string \"four\", expected u32"),
        ("base = \"norm16\"\ndataflow = \"is\"", "unknown variant `is`, expected one of `os`, `ws`, `both`"),
        ("base = \"norm16\"\ninput_type = \"Float<8, 24>\"", "`Float<8, 24>` is not an element type: write `SInt<8>`"),
        ("base = \"norm16\"\nsp_capacity = \"256\"", "`256` is not a capacity: write `256 KiB` or `64 matrices`"),
        (
            "base = \"norm16\"\nacc_scale_args = { multiplicand = \"Float<8, 24>\", latency = 2, units = 0, identity = 1.0 }",
            "0 scale units: write -1 (one for each column) or a positive number",
        ),
        ("name = \"x\"", "missing field `opcodes`"),
        ("base = \"norm16\"\nsp_banks = 3", "configuration `norm16-"),
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
        Err(ConfigError::Invalid { reasons, .. }) => reasons.into_iter().map(|reason| reason.message).collect(),
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
            "`acc_type` is SInt<24>, which does not fit: 8, 16, 32 or 64 bits",
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
        (|c| c.dma_maxbytes = 512, "`dma_maxbytes` is 512: it must be at most 256"),
        (|c| c.aligned_to = 3, "`aligned_to` is 3: it must be a power of two"),
        (
            |c| (c.acc_read_full_width, c.acc_read_small_width) = (false, false),
            "acc_read_full_width and acc_read_small_width are both off: nothing could be stored from the accumulator",
        ),
        (|c| c.use_tl_ext_mem = true, "`use_tl_ext_mem` is on: external scratchpads; choose false"),
    ];
    for (change, expected) in cases {
        assert_eq!(reasons(change), [*expected]);
    }
    let both = reasons(|c| (c.mesh_rows, c.mesh_columns) = (12, 12));
    assert_eq!(both[0], "DIM is 12: it must be a power of two from 4 to 64");
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
        "configuration `default16` is not valid:\n  - ex_queue_length is 1: the execute controller needs at least 3 \
         (ExecuteController.scala:67)\n  - `num_counter` is 300: it must be at most 255 (GemminiConfigs.scala:271)"
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
        name: "gemmini_params-0813fd77".to_owned(),
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
        (
            ("DIM 16", "DIM sixteen"),
            "the header defines `DIM` as `sixteen`, expected a number: `sixteen` is not defined",
        ),
        (("DIM 16", "DIM 12"), "configuration `gemmini_params-"),
        (("DIM 16", "DIM 0"), "`mesh_rows` must be at least 1"),
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

/// What refuses a change to `default16`, with whose rule it is.
fn refusal(change: impl FnOnce(&mut GemminiConfig)) -> String {
    let mut cfg = GemminiConfig::default16();
    change(&mut cfg);
    match cfg.validate() {
        Err(ConfigError::Invalid { reasons, .. }) if reasons.len() == 1 => reasons[0].to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_generator_cannot_build_is_refused_with_its_line() {
    type Change = fn(&mut GemminiConfig);
    let cases: &[(Change, &str)] = &[
        (|c| c.reservation_station_entries_st = 2, "ReservationStation.scala:441"),
        (|c| c.reservation_station_entries_ld = 2, "ReservationStation.scala:441"),
        (|c| c.aligned_to = 4, "Scratchpad.scala:381"),
        (|c| scale_units(c, 2), "AccumulatorScale.scala:231"),
        (|c| scale_units(c, 53), "AccumulatorScale.scala:318"),
        (|c| without_normalizations(c, 3), "AccumulatorScale.scala:316"),
        (|c| without_normalizations(c, 8), "AccumulatorScale.scala:316"),
        (|c| c.tlb_size = 2, "FrontendTLB.scala:46"),
        (|c| c.acc_latency = 1, "AccumulatorMem.scala:111"),
        (|c| c.acc_capacity = Capacity::Kilobytes(1024), "GemminiConfigs.scala:257"),
    ];
    for (change, line) in cases {
        let text = refusal(change);
        assert!(text.ends_with(&format!(" ({line})")), "{text}");
    }
}

fn scale_units(cfg: &mut GemminiConfig, n: u32) {
    cfg.acc_scale_args.as_mut().unwrap().units = ScaleUnits::Count(n);
}

fn without_normalizations(cfg: &mut GemminiConfig, n: u32) {
    cfg.has_normalizations = false;
    scale_units(cfg, n);
}

#[test]
fn what_would_never_end_or_is_not_modelled_is_refused_as_such() {
    assert!(refusal(|c| c.max_in_flight_mem_reqs = 1).ends_with(" (built, but it never ends: DMA.scala:513)"));
    assert!(
        refusal(|c| c.reservation_station_entries_ex = 1)
            .ends_with(" (built, but it never ends: ReservationStation.scala:398)")
    );
    let small = |dataflow| {
        let capacity = Capacity::Matrices;
        let cfg = GemminiConfig { mesh_rows: 2, mesh_columns: 2, dataflow, ..GemminiConfig::default16() };
        GemminiConfig { sp_capacity: capacity(1024), acc_capacity: capacity(64), ..cfg }
            .validate()
            .unwrap_err()
            .to_string()
    };
    assert!(small(Dataflow::Ws).contains("a weight-stationary pass has at least 4 rows"));
    assert!(small(Dataflow::Os).contains("output-stationary sums over more than one tile"));

    type Change = fn(&mut GemminiConfig);
    let not_modelled: &[Change] = &[
        |c| c.clock_gate = true,
        |c| c.sp_banks = 64,
        |c| c.max_in_flight_mem_reqs = 128,
        |c| (c.dma_maxbytes, c.dma_buswidth) = (512, 512),
        |c| {
            let wide = SInt::new(16);
            (c.input_type, c.weight_type) = (wide, wide);
            (c.spatial_array_input_type, c.spatial_array_weight_type) = (wide, wide);
        },
        |c| c.paddr_bits = 41,
    ];
    for change in not_modelled {
        let text = refusal(change);
        assert!(text.ends_with(" (the generator builds this; Pollux does not model it)"), "{text}");
    }
}

#[test]
fn a_station_may_have_tables_of_two_if_none_is_larger() {
    assert!(
        reasons(|c| {
            c.reservation_station_entries_ld = 2;
            c.reservation_station_entries_st = 2;
            c.reservation_station_entries_ex = 2;
        })
        .is_empty()
    );
}

#[test]
fn what_is_marked_as_published_is_used_with_a_warning() {
    let survey = GemminiConfig::by_name("survey_rebalanced").unwrap();
    let warnings: Vec<String> = survey.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["the scratchpad holds 256 matrices: it must hold at least two more than the accumulator's 256 \
          (GemminiConfigs.scala:257)"]
    );
    let unmarked = GemminiConfig { as_published: false, ..survey.into_inner() };
    assert!(unmarked.validate().is_err());
    for (name, warnings) in [("default16", 0), ("norm16", 0), ("chip", 1), ("survey_baseline", 0)] {
        assert_eq!(GemminiConfig::by_name(name).unwrap().warnings().len(), warnings, "{name}");
    }
}

/// What a configuration is warned of.
fn warnings(change: impl FnOnce(&mut GemminiConfig)) -> Vec<String> {
    let mut config = GemminiConfig::default16();
    change(&mut config);
    config.validated().expect("a valid configuration").warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn what_the_hardware_loses_data_in_is_used_with_a_warning() {
    let queue = warnings(|c| c.ex_queue_length = 4);
    assert!(queue.len() == 1 && queue[0].starts_with("`ex_queue_length` is 4: "), "{queue:?}");
    assert!(queue[0].ends_with("choose 5 or more (built, but programs can lose data: ExecuteController.scala:613)"));
    // Without results in the scratchpad an overlapped pass needs no third command; OS has no weights.
    for change in [
        (|c| c.ex_queue_length = 5) as fn(&mut GemminiConfig),
        |c| (c.ex_queue_length, c.ex_read_from_acc, c.ex_write_to_spad) = (4, false, false),
        |c| (c.ex_queue_length, c.dataflow) = (3, Dataflow::Os),
    ] {
        assert!(warnings(change).is_empty());
    }
    let sub_bank = warnings(|c| (c.acc_singleported, c.acc_sub_banks) = (true, Some(1)));
    let latency = warnings(|c| c.acc_latency = 5);
    assert!(
        latency.len() == 1 && latency[0].contains("comes after 4 cycles and is not taken; choose 3 or less"),
        "{latency:?}"
    );
    assert!(warnings(|c| (c.acc_latency, c.dataflow) = (15, Dataflow::Os)).is_empty());
    assert!(sub_bank.len() == 2 && sub_bank[1].contains("`acc_sub_banks` is 1: "), "{sub_bank:?}");
}

#[test]
fn a_read_delay_that_a_flush_can_look_behind_is_used_with_a_warning() {
    let small = |delay, dataflow| {
        warnings(|c| {
            *c = GemminiConfig {
                spad_read_delay: delay,
                dataflow,
                ..GemminiConfig::with_dim(4).expect("a power of two").into_inner()
            };
        })
    };
    let delay = small(8, Dataflow::Both);
    assert!(
        delay.len() == 1 && delay[0].starts_with("`spad_read_delay` is 8: ") && delay[0].contains("below 8"),
        "{delay:?}"
    );
    assert!(small(7, Dataflow::Both).is_empty() && small(8, Dataflow::Ws).is_empty());
}

#[test]
fn the_default_configuration_is_valid() {
    assert_eq!(GemminiConfig::default16().validated(), Ok(pollux_isa::ValidConfig::default()));
}

#[test]
fn every_configuration_has_a_name_of_its_own() {
    let name =
        |text: &str, stem: &str| ConfigFile::parse(text).unwrap().named_after(stem).config().unwrap().name.clone();
    let (deep, wide) = ("base = \"default16\"\nld_queue_length = 16", "base = \"default16\"\nld_queue_length = 32");
    assert!(name(deep, "mine").starts_with("mine-"));
    assert_ne!(name(deep, "mine"), name(wide, "mine"));
    assert_eq!(name("base = \"norm16\"", "mine"), "norm16");
    assert_eq!(name("base = \"norm16\"\nname = \"fast\"\nld_queue_length = 16", "mine"), "fast");
    let parsed = GemminiConfig::from_toml_str(deep).unwrap();
    assert!(parsed.name.starts_with("default16-"), "{}", parsed.name);
    assert_eq!(GemminiConfig::from_toml_str(&parsed.to_toml_string().unwrap()).unwrap(), parsed);
    let (small, large) = (HEADER.replace("DIM 16", "DIM 4"), HEADER.replace("DIM 16", "DIM 8"));
    assert_ne!(name(&small, "gemmini_params"), name(&large, "gemmini_params"));
}

#[test]
fn a_file_says_which_fields_it_gives() {
    let file = ConfigFile::parse("base = \"small4\"\nsp_banks = 2\nname = \"x\"").unwrap();
    assert_eq!(file.fields_read(), ["sp_banks"]);
    assert!(file.fields_assumed().contains(&"acc_banks") && !file.fields_assumed().contains(&"sp_banks"));
    let header = ConfigFile::parse(HEADER).unwrap();
    assert!(header.fields_read().contains(&"sp_capacity") && header.fields_assumed().contains(&"acc_banks"));
    let whole = ConfigFile::parse(&GemminiConfig::default16().to_toml_string().unwrap()).unwrap();
    // An optional field that is absent is absent from the hardware, and the present layout need not be said.
    assert_eq!(whole.fields_assumed(), ["acc_sub_banks", "mvin_scale_acc_args", "command_layout", "revision"]);
}

#[test]
fn headers_are_read_as_a_c_compiler_reads_them() {
    let plain = GemminiConfig::from_params_h(HEADER).unwrap();
    let variants = [
        format!("\u{feff}{}", HEADER.replace('\n', "\r\n")),
        HEADER.replace("BANK_ROWS 4096", "BANK_ROWS (KIB*4U) /* rows */\n#define KIB 0x400"),
        HEADER.replace("BANK_ROWS 4096", "BANK_ROWS \\\n  4096"),
        HEADER.replace("#define DIM 16", "#ifdef SMALL\n#define DIM 4\n#else\n#  define DIM (1 << 4)\n#endif"),
        HEADER.replace(
            "#define DIM 16",
            "#if 0\n#error no\n#define DIM 4\n#elif defined(ACC_ROWS) || 1\n#define DIM 16\n#endif",
        ),
        HEADER.replace("#define DIM 16", "/*\n#define DIM 4\n*/\n#define DIM 16 // square"),
        HEADER.replace(
            "#define DIM 16",
            "#define row_align(blocks) __attribute__((aligned(blocks*DIM)))\n#define DIM 16",
        ),
        HEADER.replace("#define XCUSTOM_ACC 3\n", "").replace("#define MAX_BYTES 64\n", ""),
    ];
    for text in variants {
        let file = ConfigFile::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(file.named_after("gemmini_params").config().unwrap(), plain, "{text}");
    }
}

#[test]
fn files_that_stand_for_others_are_named_with_the_remedy() {
    let cases = [
        (
            "../include/gemmini_params.h",
            "a symbolic link as git stores it, not a configuration: give the file that it points to, `../include/gemmini_params.h`",
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "a pointer of Git LFS, not a configuration: fetch the file itself with `git lfs pull`",
        ),
        (
            "#include \"gemmini_params_16.h\"\n",
            "only includes another one, not a configuration: give the header that it includes, `gemmini_params_16.h`",
        ),
        ("<!DOCTYPE html>\n<html>", "a web page"),
        ("#define DIM 16\n#if\n", "line 2 of the header: a value is missing"),
        ("#define DIM 16\n#ifdef A\n", "line 2 of the header: this condition has no #endif"),
        ("#define DIM 16\n#endif\n", "line 2 of the header: #endif without #if"),
    ];
    for (text, expected) in cases {
        let message = ConfigFile::parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}
