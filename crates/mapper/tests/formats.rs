//! Mappings, problems and architectures in the forms of other tools.

mod problems;

use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::{Axis, Emission, Keep, Tile};
use pollux_mapper::formats::{Nest, dosa, map_text, scale_sim, schedule, timeloop};
use pollux_mapper::random::Random;
use pollux_mapper::{Limits, Mapping, Mapspace, Problem, Surroundings, emulate};
use problems::{Build, problems};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("data/example.yaml");

fn default16() -> ValidConfig {
    GemminiConfig::default16().validated().unwrap()
}

#[test]
fn a_timeloop_example_goes_in_and_cycles_come_out() {
    let document = timeloop::parse(EXAMPLE).unwrap();
    let (config, problem) = (document.config.unwrap(), document.problem.unwrap());
    assert_eq!(problem, Problem::matmul(256, 128, 64));
    let own = default16();
    assert_eq!((config.dim(), config.sp_rows(), config.acc_rows()), (own.dim(), own.sp_rows(), own.acc_rows()));
    let nest = document.nest.unwrap();
    let (mapping, _) = nest.mapping(&config, &problem).unwrap();
    let Mapping::Matmul(schedule) = mapping else { panic!("a product's") };
    assert_eq!((schedule.tile, schedule.order), (Tile { i: 8, j: 4, k: 4 }, [Axis::I, Axis::J, Axis::K]));
    let cycles = emulate::cycles(&config, &problem, &mapping, &Surroundings::default(), u64::MAX).unwrap();
    assert!(cycles > 256 * 128 * 64 / 256);
    // Out and in again, unchanged.
    assert_eq!(Nest::of(&config, &problem, &mapping), nest);
    assert_eq!(timeloop::parse(&timeloop::text(&nest)).unwrap().nest.unwrap(), nest);
    assert_eq!(map_text::parse(&map_text::text(&nest)).unwrap(), nest);
    assert_eq!(dosa::parse(&dosa::text(&nest)).unwrap(), nest);
    insta::assert_snapshot!(format!("{}\n{}\n{}", timeloop::text(&nest), map_text::text(&nest), dosa::text(&nest)));
}

#[test]
fn version_0_4_has_nodes_and_sizes_beside_the_shape() {
    let text = "\
architecture:
  version: 0.4
  nodes:
  - {name: DRAM, class: DRAM, attributes: {datawidth: 8}}
  - {name: Scratchpad, class: SRAM, attributes: {depth: 4096, width: 128, datawidth: 8}}
  - {name: columns, spatial: {meshX: 16}}
  - {name: Accumulator, class: SRAM, attributes: {depth: 2048, width: 32, datawidth: 32}}
  - {name: rows, spatial: {meshY: 16}}
  - {name: Registers, class: SRAM, attributes: {depth: 1, width: 8, datawidth: 8}}
problem: {version: 0.4, P: 64, C: 32, K: 48}
";
    let document = timeloop::parse(text).unwrap();
    assert_eq!(document.problem, Some(Problem::matmul(64, 48, 32)));
    let config = document.config.unwrap();
    assert_eq!((config.dim(), config.sp_rows(), config.acc_rows()), (16, 4096, 2048));
}

#[test]
fn a_dosa_string_is_a_schedule() {
    let nest = dosa::parse("L3[WIO] K8 - L2[WI] N1 K16X - L1[O] K2 C4 P8 C16X - L0[W] P16").unwrap();
    let problem = Problem::matmul(128, 256, 64);
    let (mapping, _) = nest.mapping(&default16(), &problem).unwrap();
    let Mapping::Matmul(schedule) = mapping else { panic!("a product's") };
    assert_eq!((schedule.tile, schedule.emission), (Tile { i: 8, j: 2, k: 4 }, Emission::Unroller));
}

#[test]
fn what_is_wrong_is_told_with_line_and_key() {
    let config = default16();
    let problem = Problem::matmul(256, 128, 64);
    let parse = |text: &str| timeloop::parse(text).unwrap_err().to_string();
    let mapping = |text: &str| match dosa::parse(text) {
        Ok(nest) => nest.mapping(&config, &problem).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    let messages = [
        parse("problem:\n  instance: {P: 4, X: 3}"),
        parse("problem:\n  instance: {P: 4,\n   K: 0}"),
        parse("problem:\n  instance: {P: 4, Q: 4, R: 3}"),
        parse("mapping:\n- {target: L1, type: temporal, factors: P=2}"),
        parse("mapping:\n- {target: DRAM, type: temporal, factors: P=x}"),
        parse("mapping:\n- {target: DRAM, type: sideways}"),
        parse("mapping:\n- {target: DRAM, type: temporal, permutation: ABC}"),
        parse("mapping:\n- {target: Accumulator, type: datatype, keep: [Inputs]}"),
        parse("mapping: [unclosed"),
        parse("hello: 1"),
        parse(&EXAMPLE.replace("rows[0..15]", "rows[0..7]")),
        mapping("L3[WIO] C2 K8 - L2[WI] K16X - L1[O] K2 C4 P8 C16X - L0[W] P16"),
        mapping("L3[WIO] K8 - L2[WI] K32X - L1[O] K2 C4 P8 C16X - L0[W] P16"),
        mapping("L3[WIO] K8 - L2[WI] C16X - L1[O] K2 C4 P8 C16X - L0[W] P16"),
        mapping("L3[WIO] K8 - L2[WI] P2 K16X - L1[O] K2 C4 P8 C16X - L0[W] P16"),
        mapping("L3[WIO] K8 - L2[WI] K16X - L1[O] K2 C4 P8 C16X - L0[W] K16"),
        mapping("L3[WIO] K8 - L1[O] P8"),
        mapping("L3[WIO] K? - L2[WI] K16X - L1[O] K2 - L0[W] P16"),
        map_text::parse("DRAM [ Weights ]\n---\n| for Z in [0:2)\n").unwrap_err().to_string(),
        map_text::parse("L9 [ Weights ]\n").unwrap_err().to_string(),
        map_text::parse("DRAM [ Weights ]\n").unwrap_err().to_string(),
        scale_sim::parse("Layer, M, N, K,\nfc, 3, x, 5,\n").unwrap_err().to_string(),
        scale_sim::parse("Layer, H, W, FH, FW, C, F, S,\nc1, 8, 8, 3, 1, 4, 4, 1,\n").unwrap_err().to_string(),
        scale_sim::parse("Layer, H, W, FH, FW, C, F, S,\nc1, 8, 8,\n").unwrap_err().to_string(),
        schedule::parse("[schedule]\ndataflow = 'ws'\ntiles = 3\n").unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_topology_has_convolutions_or_products() {
    let conv = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n\
                Conv1, 224, 224, 7, 7, 3, 64, 2,\n";
    let [(name, Problem::Conv(problem))] = &scale_sim::parse(conv).unwrap()[..] else { panic!("a convolution") };
    assert_eq!((name.as_str(), problem.shape.in_rows, problem.shape.stride), ("Conv1", 224, 2));
    let products = scale_sim::parse("Layer, M, N, K,\nfc, 3, 4, 5,\n").unwrap();
    assert_eq!(products, [("fc".to_owned(), Problem::matmul(3, 4, 5))]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn mappings_go_out_and_in_unchanged((Build(config), problem) in problems(), seed in any::<u64>()) {
        // What a problem has besides its sizes stands in none of the forms.
        let problem = match problem {
            Problem::Matmul(p) => Problem::matmul(p.m, p.n, p.k),
            Problem::Conv(p) if p.shape.depthwise => return Ok(()),
            conv => conv,
        };
        let limits = Limits { emission: Some(Emission::Unroller), ..Limits::default() };
        let space = Mapspace::new(&config, &problem, &limits);
        let Some(mapping) = space.sample_mapping(&mut Random::new(seed)) else { return Ok(()) };
        prop_assert_eq!(schedule::parse(&schedule::text(&mapping)).unwrap(), mapping);
        let nest = Nest::of(&config, &problem, &mapping);
        prop_assert_eq!(&timeloop::parse(&timeloop::text(&nest)).unwrap().nest.unwrap(), &nest);
        prop_assert_eq!(&map_text::parse(&map_text::text(&nest)).unwrap(), &nest);
        // Nests do not say what is kept.
        let expected = space.canonical(&match mapping {
            Mapping::Matmul(s) => Mapping::Matmul(pollux_kernels::Schedule { keep: Keep::Gemmini, ..s }),
            Mapping::Conv(s) => Mapping::Conv(pollux_kernels::ConvSchedule { keep: Keep::Gemmini, ..s }),
        });
        let (found, _) = nest.mapping(&config, &problem).unwrap();
        prop_assert_eq!(space.canonical(&found), expected, "{}", map_text::text(&nest));
        let (found, _) = dosa::parse(&dosa::text(&nest)).unwrap().mapping(&config, &problem).unwrap();
        prop_assert_eq!(space.canonical(&found), expected);
    }
}
