//! Cycles of whole models by replay: the same, whatever is replayed and whoever computes.

use std::path::Path;
use std::sync::Arc;

use pollux_asm::assemble;
use pollux_compiler::decoder::DecoderModel;
use pollux_compiler::decoder::{Decoder, Pass, PassOptions};
use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{CycleRun, CycleSetup, Divisors, run_cycles, time_cycles};
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::{Compiled, Plan};
use pollux_isa::GemminiConfig;
use pollux_kernels::Mask;
use pollux_model::gpt2::Gpt2Model;
use pollux_model::quantise::QuantiseOptions;
use pollux_sim::memory::MemoryModel;
use pollux_sim::replay::{ReplayOptions, ReplayTable};

/// Layers that are alike.
fn encoder() -> Compiled {
    let shape = Shape { layers: 4, ..Shape::by_name("minilm-l6").unwrap() };
    let (layers, input) = (synthetic::encoder(&shape, 16, 1).unwrap(), synthetic::input(&shape, 16, 2));
    let config = GemminiConfig::norm16();
    let (plan, none) = (Plan::default(), TokenCounts::new());
    compile_parameters(config, &plan, &layers, &input, Mask::Full, &none).unwrap().compiled
}

/// Everything about the cycles but how they were come by.
fn figures(run: &CycleRun) -> impl PartialEq + std::fmt::Debug {
    let mut summary = run.summary;
    (summary.simulated, summary.replayed) = (0, 0);
    (summary, run.cycles, run.operations.clone())
}

fn time(compiled: &Compiled, setup: CycleSetup) -> CycleRun {
    time_cycles(compiled, compiled.program.initial_memory(), &setup, &mut |_| ()).unwrap()
}

#[test]
fn layers_that_come_again_are_replayed_with_the_same_cycles() {
    let compiled = encoder();
    for memory in ["bench:latency=40", "bandwidth:bytes=8,latency=100"] {
        let setup = CycleSetup { memory: memory.parse::<MemoryModel>().unwrap(), ..CycleSetup::default() };
        let plain = time(&compiled, CycleSetup { replay: None, ..setup });
        assert_eq!((plain.summary.replayed, plain.replay), (0, None));
        let run = time(&compiled, setup);
        assert_eq!(figures(&run), figures(&plain), "{memory}");
        assert!(run.summary.replayed > run.cycles / 5, "{memory}: {} of {}", run.summary.replayed, run.cycles);
        assert!(run.summary.simulated < plain.summary.simulated);
        // Both are what the same run gives again, whichever thread is first.
        assert_eq!(time(&compiled, setup).summary, run.summary);
        let check = Some(ReplayOptions { check: 1.0, ..ReplayOptions::default() });
        let checked = time(&compiled, CycleSetup { replay: check, ..setup });
        assert_eq!(figures(&checked), figures(&plain), "{memory}");
        assert!(checked.summary.replayed == 0 && checked.replay.is_some_and(|totals| totals.checked > 0));
        // No divisor is zero here.
        let assumed = time(&compiled, CycleSetup { divisors: Divisors::NotZero, ..setup });
        assert_eq!(assumed.summary, run.summary);
        assert!(assumed.assumes_no_zero_divisor && !run.assumes_no_zero_divisor);
    }
}

/// LayerNorm of rows of which every other one is constant: its variance is zero.
const NORMS: &str = "config norm16
buffer x: i32[8, 16] = fill 3
buffer y: i8[8, 16]
write x[1, 0]: i32[1] = fill 40
write x[3, 0]: i32[1] = fill 40
acc rows[8]
config_ld stride=x.stride
config_st stride=y.stride acc_scale=1.0 activation=layernorm
mvin dram=x local=rows cols=16 rows=8
repeat row in 0..8
    mvout dram=y[row] local=norm(rows[row], mean) cols=16 rows=1
    mvout dram=y[row] local=norm(rows[row], inv_stddev) cols=16 rows=1
    mvout dram=y[row] local=rows[row] cols=16 rows=1
end
fence
";

#[test]
fn divisors_that_are_zero_are_found_by_the_functional_model() {
    let program = assemble("norms.pasm", NORMS).unwrap();
    let compiled = Compiled { program, operations: Vec::new() };
    let memory = compiled.program.initial_memory();
    let full = run_cycles(&compiled, memory, &CycleSetup::default(), &mut |_| ()).unwrap();
    let run = time(&compiled, CycleSetup::default());
    assert_eq!(run.summary, full.summary);
    assert_eq!((run.replay, run.summary.divisions), (None, 16));
    let assumed = time(&compiled, CycleSetup { divisors: Divisors::NotZero, ..CycleSetup::default() });
    assert!(assumed.cycles > full.cycles, "a division takes longer than none");
}

#[test]
fn tokens_generated_by_replay_are_the_same_in_the_same_cycles_and_cost_less_than_the_first() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/tiny-gpt2");
    let float = Gpt2Model::load(directory).unwrap();
    let options = QuantiseOptions::default();
    let model = DecoderModel::quantise(float, "the cat and the dog sat in the rain", &options).unwrap();
    let ids = model.tokenize("the cat and the dog sat in the").unwrap();
    let decoder = |setup| {
        let (config, plan) = (GemminiConfig::norm16(), Plan::default());
        Decoder::new(config, &plan, Arc::clone(&model.quantised), Some(setup)).unwrap()
    };
    let passes = |mut decoder: Decoder| -> Vec<Pass> {
        let options = PassOptions { every_row: true, exit: None };
        let pieces = [&ids[..4]].into_iter().chain(ids[4..].chunks(1));
        pieces.map(|piece| decoder.pass(piece, options, &mut |_| ()).unwrap()).collect()
    };
    let expected = passes(decoder(CycleSetup::default()));
    for replay in [CycleSetup::default().replay, None] {
        let found = passes(decoder(CycleSetup { replay, ..CycleSetup::default() }).replayed(ReplayTable::new()));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((&found.scores, found.cycles), (&expected.scores, expected.cycles));
            let [found, expected] = [found, expected].map(|pass| pass.report().unwrap().operations);
            assert_eq!(found, expected);
        }
        let replayed: Vec<u64> = found.iter().map(|pass| pass.reports[0].replayed_cycles).collect();
        match replay {
            Some(_) => assert!(replayed[2..].iter().all(|&cycles| cycles > 0), "{replayed:?}"),
            None => assert!(replayed.iter().all(|&cycles| cycles == 0), "{replayed:?}"),
        }
    }
}
