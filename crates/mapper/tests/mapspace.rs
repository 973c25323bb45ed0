//! Laws of the mapspace: every mapping in it can be emitted, gives the reference's result on both models, and makes the hardware do
//! what was predicted.

#[path = "../../kernels/tests/common/mod.rs"]
mod common;
#[path = "../../kernels/tests/common/conv.rs"]
mod naive;
mod problems;

use std::collections::HashSet;
use std::ops::ControlFlow;

use common::{Dense, Random, any_memory, product, read_out_all, run, run_cycles_on};
use pollux_asm::Program;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::{Activation, Conv, ConvSchedule, ConvShape, Emission, View};
use pollux_mapper::counts::of_program;
use pollux_mapper::random::Random as Sampler;
use pollux_mapper::{
    ConvProblem, Factors, Limits, Mapping, Mapspace, MatmulProblem, Operands, Problem, ReadOut, Surroundings, emulate,
};
use pollux_memory::Memory;
use pollux_sim::memory::MemoryModel;
use problems::{Build, configs, problems};
use proptest::prelude::*;

fn result(program: &Program, memory: &Memory, name: &str) -> Vec<i8> {
    let buffer = program.buffer(name).unwrap();
    memory.read_vec(buffer.address, buffer.len() as usize).into_iter().map(|byte| byte as i8).collect()
}

/// The mapping's program with random operands, and the result of the integer reference.
fn with_reference(config: &ValidConfig, problem: &Problem, mapping: &Mapping, seed: u64) -> (Program, Vec<i8>) {
    let r = &mut Random::new(seed);
    match problem {
        Problem::Matmul(MatmulProblem { m, n, k, bias, read_out }) => {
            let normal = *read_out == ReadOut::LayerNorm;
            // Normalization squares the sums.
            let small = |data: Vec<i8>| data.into_iter().map(|x| if normal { x % 8 } else { x }).collect::<Vec<_>>();
            let (a, b) = (Dense::new(*m, *k, small(r.i8s(m * k))), Dense::new(*k, *n, small(r.i8s(k * n))));
            let bias = if *bias { r.i32s(*n, 500) } else { vec![0; *n] };
            let activation = match read_out {
                ReadOut::Plain => Activation::None,
                ReadOut::Relu => Activation::Relu,
                ReadOut::LayerNorm => Activation::LayerNorm,
            };
            let scale = if normal { 40.0 } else { 1.0 / 600.0 };
            let operands = Operands { a: &a.data, b: &b.data, bias: &bias, scale };
            let program = mapping.program_with(config, problem, &operands).unwrap();
            let expected = read_out_all(&product(&a, &b, |_, col| bias[col]), &activation, scale);
            (program, expected.data)
        }
        Problem::Conv(ConvProblem { shape, bias }) => {
            let [input, weights, output] = shape.views();
            let mut dense = |(rows, cols): (usize, usize)| Dense::new(rows, cols, r.i8s(rows * cols));
            let (input, weights) = (dense(input), dense(weights));
            let bias = if *bias { r.i32s(shape.out_channels, 20_000) } else { vec![0; shape.out_channels] };
            let scale = 1.0 / 900.0;
            let operands = Operands { a: &input.data, b: &weights.data, bias: &bias, scale };
            let program = mapping.program_with(config, problem, &operands).unwrap();
            let view = View {
                address: 0,
                rows: output.0,
                cols: output.1,
                stride: output.1,
                element: pollux_asm::ElementType::I8,
            };
            let conv = Conv { shape: *shape, input: view, weights: view, bias: None, output: view, scale, relu: false };
            (program, naive::conv(&conv, &input, &weights, &bias).data)
        }
    }
}

fn output_name(problem: &Problem) -> &'static str {
    if matches!(problem, Problem::Matmul(_)) { "C" } else { "output" }
}

/// A mapping that the unroller refuses for its padding only when it is emitted.
fn emits(config: &ValidConfig, problem: &Problem, mapping: &Mapping) -> bool {
    match mapping.program(config, problem) {
        Err(error) if error.to_string().ends_with("choose larger tiles") => false,
        other => other.map(|_| true).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_mapping_gives_the_reference_result_on_both_models((Build(config), problem) in problems(), seed in any::<u64>()) {
        let space = Mapspace::new(&config, &problem, &Limits::default());
        let Some(mapping) = space.sample_mapping(&mut Sampler::new(seed)) else { return Ok(()) };
        if !emits(&config, &problem, &mapping) {
            return Ok(());
        }
        let (program, expected) = with_reference(&config, &problem, &mapping, seed);
        let memory = run(&program).0;
        prop_assert!(result(&program, &memory, output_name(&problem)) == expected, "{mapping}");
        if seed.is_multiple_of(4) {
            let cycles = run_cycles_on(&program, any_memory(seed)).0;
            prop_assert!(result(&program, &cycles, output_name(&problem)) == expected, "{mapping} on the emulator");
        }
    }

    #[test]
    fn counts_are_those_of_the_emulator((Build(config), problem) in problems(), seed in any::<u64>()) {
        let space = Mapspace::new(&config, &problem, &Limits::default());
        let Some(mapping) = space.sample_mapping(&mut Sampler::new(seed)) else { return Ok(()) };
        if !emits(&config, &problem, &mapping) {
            return Ok(());
        }
        let program = mapping.program(&config, &problem).unwrap();
        let predicted = of_program(&program).unwrap();
        let around = Surroundings { memory: MemoryModel::Bench(any_memory(seed)), interval: 1 };
        let (_, counted) = emulate::counted(&config, &problem, &mapping, &around, u64::MAX).unwrap();
        prop_assert!(predicted.agrees(&counted), "{problem}, {mapping}\n{predicted:#?}\n{counted:#?}");
    }

    #[test]
    fn a_canonical_point_loads_what_the_point_loads((Build(config), problem) in problems(), seed in any::<u64>()) {
        let space = Mapspace::new(&config, &problem, &Limits::default());
        let Some(mapping) = space.sample_point(&mut Sampler::new(seed)) else { return Ok(()) };
        let canonical = space.canonical(&mapping);
        prop_assert!(canonical.check(&config, &problem).is_ok(), "{mapping} -> {canonical}");
        prop_assert_eq!(space.canonical(&canonical), canonical);
        if !emits(&config, &problem, &mapping) {
            return Ok(());
        }
        let counts = |mapping: &Mapping| of_program(&mapping.program(&config, &problem).unwrap()).unwrap();
        prop_assert_eq!(counts(&mapping), counts(&canonical));
    }
}

/// All points, by brute force over every form and every tile up to the problem's size.
fn brute_force(space: &Mapspace) -> Vec<Mapping> {
    let mut points = Vec::new();
    for form in space.forms() {
        let mut tiles = vec![Vec::new()];
        for sizes in space.sizes() {
            tiles = tiles
                .into_iter()
                .flat_map(|tile: Vec<usize>| sizes.iter().map(move |size| [tile.clone(), vec![*size]].concat()))
                .collect();
        }
        let mappings = tiles.iter().map(|tile| pollux_mapper::space::with_tile(form, tile));
        points.extend(mappings.filter(|mapping| mapping.check(space.config(), space.problem()).is_ok()));
    }
    points
}

#[test]
fn the_space_is_counted_enumerated_and_sampled_alike() {
    let small = ConvShape { padding: 1, ..ConvShape::new(1, [3, 3, 20], 20, 3) };
    for (problem, factors) in [
        (Problem::matmul(40, 100, 60), Factors::Ragged),
        (Problem::matmul(300, 200, 400), Factors::Divisors),
        (Problem::conv(small), Factors::Divisors),
    ] {
        let config = GemminiConfig::default16().validated().unwrap();
        let space = Mapspace::new(&config, &problem, &Limits { factors, ..Limits::default() });
        let points = brute_force(&space);
        let distinct: HashSet<Mapping> = points.iter().map(|point| space.canonical(point)).collect();
        let mut visited = HashSet::new();
        let _ = space.for_each(|mapping| {
            assert!(visited.insert(mapping), "twice: {mapping}");
            ControlFlow::Continue(())
        });
        assert_eq!(visited, distinct, "{problem}");
        let size = space.size();
        assert_eq!((size.points, size.mappings), (points.len() as u128, distinct.len() as u128), "{problem}");
        let mut random = Sampler::new(1);
        for _ in 0..200 {
            assert!(distinct.contains(&space.sample_mapping(&mut random).unwrap()));
            assert!(distinct.contains(&space.canonical(&space.sample_point(&mut random).unwrap())));
        }
    }
}

#[test]
fn both_samplers_are_uniform_over_what_they_say() {
    let config = GemminiConfig::small4().validated().unwrap();
    let limits = Limits { emission: Some(Emission::Unroller), ..Limits::default() };
    let space = Mapspace::new(&config, &Problem::matmul(8, 8, 8), &limits);
    let points = brute_force(&space);
    let distinct: HashSet<Mapping> = points.iter().map(|point| space.canonical(point)).collect();
    assert!(points.len() > distinct.len());
    let frequencies = |draw: &dyn Fn(&mut Sampler) -> Mapping| {
        let mut random = Sampler::new(5);
        let mut seen = std::collections::HashMap::new();
        (0..40_000).for_each(|_| *seen.entry(draw(&mut random)).or_insert(0u64) += 1);
        seen
    };
    for (seen, kinds) in [
        (frequencies(&|r| space.sample_point(r).unwrap()), points.len()),
        (frequencies(&|r| space.sample_mapping(r).unwrap()), distinct.len()),
    ] {
        assert_eq!(seen.len(), kinds);
        let mean = 40_000.0 / kinds as f64;
        // Chi squared: its mean is the number of kinds less one, its variance twice that; 6 deviations are allowed.
        let chi: f64 = seen.values().map(|n| (*n as f64 - mean).powi(2) / mean).sum();
        let freedom = kinds as f64 - 1.0;
        assert!(chi < freedom + 6.0 * (2.0 * freedom).sqrt(), "{chi} of {freedom}");
    }
}

/// The reservation station does not keep a compute behind a load of which it only reads rows that hold several pixels.
#[test]
fn computes_wait_for_pixels_that_share_a_row() {
    let config = GemminiConfig::default16().validated().unwrap();
    let problem = Problem::conv(ConvShape { padding: 1, ..ConvShape::new(1, [4, 6, 1], 1, 2) });
    let Mapping::Conv(own) = Mapping::gemmini(&config, &problem) else { panic!("a convolution's") };
    for cols in 1..=7 {
        let mapping = Mapping::Conv(ConvSchedule { rows: 4.min(own.rows), cols, ..own });
        let (program, expected) = with_reference(&config, &problem, &mapping, 1);
        for latency in [1, 13, 40, 150] {
            for period in [1, 3] {
                let memory = pollux_sim::memory::BenchParameters { latency, a_period: period, d_period: period };
                let found = result(&program, &run_cycles_on(&program, memory).0, "output");
                assert!(found == expected, "{cols} columns, latency {latency}, period {period}");
            }
        }
    }
}

#[test]
fn what_is_illegal_is_refused_with_its_reason() {
    let config = GemminiConfig::default16().validated().unwrap();
    let problem = Problem::conv(ConvShape::new(1, [8, 8, 16], 16, 3));
    let Mapping::Conv(good) = Mapping::gemmini(&config, &problem) else { panic!("a convolution's") };
    let message = |schedule: ConvSchedule| Mapping::Conv(schedule).check(&config, &problem).unwrap_err().to_string();
    let mut order = good.order;
    order.swap(3, 6);
    let messages = [
        message(ConvSchedule { order, ..good }),
        message(ConvSchedule { order: [good.order[0]; 7], ..good }),
        message(ConvSchedule { double_buffer: false, ..good }),
        message(ConvSchedule { rows: 9, ..good }),
        Mapping::Conv(good).check(&config, &Problem::matmul(8, 8, 8)).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
    assert_eq!(configs().len(), 4);
}
