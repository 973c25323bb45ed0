//! Laws of the models.

#[path = "../../kernels/tests/common/mod.rs"]
mod common;
mod problems;

use pollux_isa::GemminiConfig;
use pollux_kernels::{ConvShape, Pool};
use pollux_mapper::counts::of_program;
use pollux_mapper::model::{Costs, Machine, ProductCosts};
use pollux_mapper::random::Random;
use pollux_mapper::{ConvProblem, Limits, Mapping, Mapspace, Problem, Surroundings, emulate};
use pollux_sim::memory::{BandwidthParameters, DramL2Parameters, DramParameters, MemoryModel};
use problems::{Build, problems};
use proptest::prelude::*;

fn memories() -> impl Strategy<Value = MemoryModel> {
    let bench = any::<u64>().prop_map(|seed| MemoryModel::Bench(common::any_memory(seed)));
    let bandwidth = (0u64..120, 1u64..40, 1u64..4, 1u64..32).prop_map(|(latency, bytes, cycles, outstanding)| {
        MemoryModel::Bandwidth(BandwidthParameters { latency, bytes, cycles, outstanding })
    });
    let dram =
        (any::<bool>(), 1u64..64, 1u64..40, 100u64..2000).prop_map(|(lpddr, outstanding, hit_cycles, clock_mhz)| {
            let mut parameters = DramL2Parameters { outstanding, clock_mhz, ..DramL2Parameters::default() };
            parameters.cache.hit_cycles = hit_cycles;
            if lpddr {
                parameters.dram = DramParameters::lpddr3_1600();
            }
            MemoryModel::Dram(parameters)
        });
    prop_oneof![bench, bandwidth, dram]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_bound_is_never_above_the_emulator(
        (Build(config), problem) in problems(),
        memory in memories(),
        interval in 1u64..4,
        seed in any::<u64>(),
    ) {
        let space = Mapspace::new(&config, &problem, &Limits::default());
        let Some(mapping) = space.sample_mapping(&mut Random::new(seed)) else { return Ok(()) };
        let around = Surroundings { memory, interval };
        let Ok(cycles) = emulate::cycles(&config, &problem, &mapping, &around, u64::MAX) else { return Ok(()) };
        let costs = Costs::new(&config, &problem, &around);
        let bound = costs.bound(&mapping);
        prop_assert!(bound <= cycles, "{problem}, {mapping}: {bound} > {cycles}\n{:#?}", costs.work(&mapping));
    }

    #[test]
    fn a_products_counts_are_those_of_its_program((Build(config), problem) in problems(), seed in any::<u64>()) {
        let Problem::Matmul(matmul) = &problem else { return Ok(()) };
        let space = Mapspace::new(&config, &problem, &Limits::default());
        let Some(mapping) = space.sample_mapping(&mut Random::new(seed)) else { return Ok(()) };
        let Mapping::Matmul(schedule) = &mapping else { panic!("a product's") };
        let costs = ProductCosts::new(&config, &Machine::new(&config, &Surroundings::default()), matmul);
        if let Some(counts) = costs.counts(schedule) {
            let program = mapping.program(&config, &problem).unwrap();
            prop_assert_eq!(counts, of_program(&program).unwrap(), "{}, {}", problem, mapping);
        }
    }
}

/// Five channels on an array of four: a tile of four, whose kernel elements go through one by one, and one of a single channel, whose
/// elements go through side by side.
#[test]
fn a_last_tile_of_few_channels_takes_several_kernel_elements_at_once() {
    let config = GemminiConfig::small4().validated().unwrap();
    let pool = Some(Pool { size: 2, stride: 2, padding: 0 });
    let shape = ConvShape { padding: 1, pool, ..ConvShape::new(2, [6, 8, 5], 33, 3) };
    let problem = Problem::Conv(ConvProblem { shape, bias: false });
    let around = Surroundings::default();
    let costs = Costs::new(&config, &problem, &around);
    let space = Mapspace::new(&config, &problem, &Limits::default());
    let mut split = 0;
    for seed in 0..60 {
        let mapping = space.sample_mapping(&mut Random::new(seed)).expect("a mapping");
        let Mapping::Conv(schedule) = &mapping else { panic!("a convolution's") };
        split += u32::from(schedule.in_channels == 4);
        let cycles = emulate::cycles(&config, &problem, &mapping, &around, u64::MAX).unwrap();
        assert!(costs.bound(&mapping) <= cycles, "{mapping}: {} > {cycles}", costs.bound(&mapping));
    }
    assert!(split > 10, "{split} of 60 have a tile of one channel");
}
