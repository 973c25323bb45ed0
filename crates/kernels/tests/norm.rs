//! Activations and residual additions as operations of their own, against the naive reference.

mod common;

use common::{
    Dense, Random, any_memory, assert_same_buffers, configs, gelu_constants, read_i8, read_out_all, run, run_cycles_on,
    softmax_constants, to_i8,
};
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_isa::config::ExpVariant;
use pollux_kernels::{Activation, Emission, Norm, ProgramBuilder, ResidualAdd, ResidualAddSchedule};
use proptest::prelude::*;

fn check_norm(
    config: GemminiConfig,
    [rows, cols]: [usize; 2],
    activation: Activation,
    narrow: bool,
    cycles: bool,
    seed: u64,
) {
    let r = &mut Random::new(seed);
    let magnitude = if matches!(activation, Activation::Softmax(_)) { 3000 } else { 900 };
    let (data, input) = match narrow {
        true => (r.i8s(rows * cols).into_iter().map(i32::from).collect(), None),
        false => (r.i32s(rows * cols, magnitude), Some(())),
    };
    let mut builder = ProgramBuilder::new(config).unwrap();
    builder.begin("norm");
    let input = match input {
        Some(()) => builder.buffer_i32("input", rows, cols, &data).unwrap(),
        None => {
            let bytes: Vec<i8> = data.iter().map(|&x| x as i8).collect();
            builder.buffer_i8("input", rows, cols, &bytes).unwrap()
        }
    };
    let out = builder.buffer("out", rows, cols, ElementType::I8).unwrap();
    let scale = match activation {
        Activation::LayerNorm => 50.0,
        Activation::Gelu(_) => -1.0 / (1 << 18) as f32,
        Activation::Softmax(_) => 1.0,
        _ => 0.13,
    };
    Norm { input, out, scale, activation }.lower(&mut builder).unwrap();
    let statistics = builder.statistics().total();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));
    let expected = read_out_all(&Dense::new(rows, cols, data), &activation, scale);
    assert!(read_i8(&memory, &out) == expected, "{activation:?} of {rows}x{cols}");
    if cycles {
        assert_same_buffers(&program, &memory, &run_cycles_on(&program, any_memory(seed)).0);
    }
}

fn activations(config: &GemminiConfig) -> Vec<Activation> {
    let mut all =
        vec![Activation::None, Activation::Relu, Activation::Gelu(gelu_constants(0.02)), Activation::LayerNorm];
    if config.softmax_exp == ExpVariant::Released {
        all.push(Activation::Softmax(softmax_constants(0.003)));
    }
    all
}

fn check_add(
    config: GemminiConfig,
    [rows, cols]: [usize; 2],
    schedule: &ResidualAddSchedule,
    relu: bool,
    gaps: (usize, usize),
    seed: u64,
    cycles: bool,
) {
    let r = &mut Random::new(seed);
    let mut builder = ProgramBuilder::new(config).unwrap();
    builder.begin("resadd");
    let mut operand = |name, gap: usize| {
        let data = r.i8s(rows * (cols + gap));
        let view = builder.buffer_i8(name, rows, cols + gap, &data).unwrap().columns(0..cols).unwrap();
        (view, Dense::new(rows, cols + gap, data).columns(0..cols))
    };
    let ((a, a_data), (b, b_data)) = (operand("a", gaps.0), operand("b", gaps.1));
    let c = builder.buffer("c", rows, cols, ElementType::I8).unwrap();
    let add = ResidualAdd { a, b, c, a_scale: 0.7, b_scale: 1.6, scale: 0.9, relu };
    add.lower(&mut builder, schedule).unwrap();
    let statistics = builder.statistics().total();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));
    let sum = |(&a, &b): (&i8, &i8)| {
        let x = to_i8(i32::from(to_i8(a.into(), 0.7)) + i32::from(to_i8(b.into(), 1.6)), 0.9);
        if relu { x.max(0) } else { x }
    };
    let expected: Vec<i8> = a_data.data.iter().zip(&b_data.data).map(sum).collect();
    assert!(read_i8(&memory, &c).data == expected);
    if cycles {
        assert_same_buffers(&program, &memory, &run_cycles_on(&program, any_memory(seed)).0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_matrix_is_activated_as_the_reference_says(
        config in 0usize..4, act in 0usize..5, rows in 1usize..60, cols in 1usize..200, narrow in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let config = configs()[config].clone();
        let all = activations(&config);
        check_norm(config, [rows, cols], all[act % all.len()], narrow, seed % 8 == 0, seed);
    }

    #[test]
    fn any_residual_addition_equals_the_reference(
        config in 0usize..4, rows in 1usize..150, cols in 1usize..150, tile in (1usize..100, 1usize..100),
        unrolled in any::<bool>(), relu in any::<bool>(), gaps in (0usize..4, 0usize..4), seed in any::<u64>(),
    ) {
        let config = configs()[config].clone();
        let emission = if unrolled { Emission::Unroller } else { Emission::Commands };
        let schedule = ResidualAddSchedule { rows: tile.0, cols: tile.1, emission };
        prop_assume!(schedule.check(&config).is_ok());
        // The unroller's result depends on the memory's timing: see `ResidualAdd::lower_auto`.
        check_add(config, [rows, cols], &schedule, relu, gaps, seed, !unrolled && seed % 4 == 0);
    }
}

#[test]
fn addends_of_a_tile_of_one_request_are_not_mixed_up() {
    // The requests of two loads change places when the port is blocked.
    let schedule = |rows, cols| ResidualAddSchedule { rows, cols, emission: Emission::Commands };
    check_add(GemminiConfig::small4(), [141, 88], &schedule(2, 29), false, (0, 0), 7965646105133940016, true);
    check_add(GemminiConfig::norm16(), [51, 3], &schedule(5, 1), false, (0, 0), 18055147632789763112, true);
}

#[test]
fn rows_too_wide_for_whole_blocks_are_normalized_in_lower_blocks() {
    // 4096 columns: 256 blocks, and the accumulator has 2048 rows, so 8 rows at a time.
    let softmax = Activation::Softmax(softmax_constants(0.003));
    check_norm(GemminiConfig::norm16(), [19, 4096], softmax, false, true, 1);
    check_norm(GemminiConfig::norm16(), [5, 3001], Activation::LayerNorm, false, false, 2);
}

#[test]
fn rows_that_do_not_fit_at_all_are_refused() {
    let config = GemminiConfig::small4();
    let mut builder = ProgramBuilder::new(config).unwrap();
    builder.begin("layer3.scores");
    let input = builder.buffer("input", 2, 5000, ElementType::I32).unwrap();
    let out = builder.buffer("out", 2, 5000, ElementType::I8).unwrap();
    let error = Norm { input, out, scale: 1.0, activation: Activation::LayerNorm }.lower(&mut builder).unwrap_err();
    assert_eq!(
        error.to_string(),
        "operation `layer3.scores`: layernorm needs whole rows in the accumulator, but 5000 columns take 1250 of its \
         rows and it has 1024: use a configuration with a larger accumulator"
    );
}

#[test]
fn the_default_tile_of_a_residual_addition_is_gemminis() {
    let tile = |config: &GemminiConfig, rows, cols| {
        let schedule = ResidualAddSchedule::gemmini_default(config, rows, cols);
        (schedule.rows, schedule.cols)
    };
    let (small, large) = (GemminiConfig::survey_baseline(), GemminiConfig::survey_rebalanced());
    assert_eq!(tile(&small, 128, 768), (64, 128));
    assert_eq!(tile(&small, 128, 512), (64, 128));
    assert_eq!(tile(&small, 512, 768), (64, 128));
    assert_eq!(tile(&large, 128, 768), (128, 256));
}
