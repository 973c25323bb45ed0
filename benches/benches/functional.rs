//! Multiply-accumulates a second of the functional model, with the default checks on.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pollux_benches::{Workload, loop_ws_matmul, tiles};
use pollux_functional::FunctionalModel;
use pollux_isa::ValidConfig;
use pollux_isa::values::DataflowMode;
use pollux_memory::Memory;

fn operands() -> Memory {
    let mut memory = Memory::new();
    for address in [0x8000_0000, 0x8010_0000] {
        let bytes: Vec<u8> = (0..256 * 256u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        memory.write(address, &bytes);
    }
    memory
}

fn bench(c: &mut Criterion, name: &str, config: &ValidConfig, workload: &Workload) {
    let mut group = c.benchmark_group("functional");
    group.throughput(Throughput::Elements(workload.macs));
    let mut model = FunctionalModel::new(config.clone(), operands());
    group.bench_function(name, |b| {
        b.iter(|| {
            workload.commands.iter().try_for_each(|command| model.execute(command)).expect("the stream is legal")
        });
    });
    group.finish();
}

fn functional(c: &mut Criterion) {
    let config = ValidConfig::default();
    let built = "the operands fit the default configuration";
    bench(c, "ws_tiles_16x16", &config, &tiles(&config, DataflowMode::Ws, 64).expect(built));
    bench(c, "os_tiles_16x16", &config, &tiles(&config, DataflowMode::Os, 64).expect(built));
    bench(c, "loop_ws_256", &config, &loop_ws_matmul(&config, 256, [4, 8, 8]).expect(built));
}

criterion_group!(benches, functional);
criterion_main!(benches);
