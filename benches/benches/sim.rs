//! Simulated cycles a second of the cycle-level emulator: the array fully busy, and waits for main memory.

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pollux_benches::separate_loads;
use pollux_isa::{StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::host::StreamHost;
use pollux_sim::machine::{Machine, Translation};
use pollux_sim::memory::{BenchMemory, BenchParameters};
use pollux_sim::observer::NoObserver;
use pollux_sim::simulation::{RunSummary, Simulation};
use pollux_sim::values::{Full, Timing, Values};
use pollux_trace::GoldenCase;
use pollux_trace::verify::{config_of, initial_memory};

type BenchSimulation<V> = Simulation<StreamHost, BenchMemory<V>, V>;

/// A simulation at cycle 0: what is measured is the run of a copy of it.
fn simulation<V: Values>(
    config: &ValidConfig,
    parameters: BenchParameters,
    items: Vec<StreamItem>,
    mut memory: Memory,
) -> BenchSimulation<V> {
    let host = StreamHost::new(items.into(), 1, &mut memory);
    let memory = BenchMemory::with_values(parameters, config.beat_bytes() as usize, memory);
    let machine = Machine::with_oracle(config, Translation::Bare, V::Oracle::default());
    Simulation::with_machine(machine, host, memory, false)
}

fn run<V: Values>(simulation: &BenchSimulation<V>) -> RunSummary {
    simulation.clone().run(&mut NoObserver, u64::MAX).expect("the stream comes to its end")
}

fn bench<V: Values>(c: &mut Criterion, id: BenchmarkId, simulation: &BenchSimulation<V>) {
    let mut group = c.benchmark_group("sim");
    group.throughput(Throughput::Elements(run(simulation).cycles));
    group.sample_size(20).bench_function(id, |b| b.iter(|| run(simulation)));
    group.finish();
}

/// Golden cases: products by LOOP_WS in which the array is busy almost all the time, and one that waits for memory; with their
/// values, and without.
fn golden(c: &mut Criterion) {
    for name in ["loop_ws_256", "loop_ws_128", "loop_ws_64_lat200", "loop_ws_softmax"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/directed").join(name);
        let case = GoldenCase::read(&folder).expect("a golden case");
        let config = config_of(&case).expect("a named configuration");
        let parameters = BenchParameters { latency: case.latency, a_period: case.a_period, d_period: case.d_period };
        let full = simulation::<Full>(&config, parameters, case.items.clone(), initial_memory(&case));
        bench(c, BenchmarkId::from_parameter(name), &full);
        let timing = simulation::<Timing>(&config, parameters, case.items.clone(), initial_memory(&case));
        bench(c, BenchmarkId::new("without_values", name), &timing);
    }
}

/// Loads of one tile each that wait for the one before, at several memory latencies.
fn waits(c: &mut Criterion) {
    let config = ValidConfig::default();
    for latency in [100, 1_000, 10_000] {
        let items = separate_loads(&config, 100).expect("a tile fits the scratchpad");
        let parameters = BenchParameters { latency, a_period: 1, d_period: 1 };
        let simulation = simulation::<Full>(&config, parameters, items, Memory::new());
        bench(c, BenchmarkId::new("separate_loads_latency", latency), &simulation);
    }
}

criterion_group!(benches, golden, waits);
criterion_main!(benches);
