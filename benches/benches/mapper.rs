//! How fast mappings are priced without a run: a thousand, drawn uniformly from the space of an operation.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pollux_isa::GemminiConfig;
use pollux_kernels::ConvShape;
use pollux_mapper::model::Costs;
use pollux_mapper::random::Random;
use pollux_mapper::{Limits, Mapping, Mapspace, Problem, Surroundings};
use std::hint::black_box;

const MAPPINGS: usize = 1000;

fn price(criterion: &mut Criterion) {
    let config = GemminiConfig::default16().validated().expect("a built-in configuration");
    let around = Surroundings::default();
    let conv = ConvShape { padding: 1, ..ConvShape::new(1, [14, 14, 256], 256, 3) };
    let mut group = criterion.benchmark_group("mapper");
    group.throughput(Throughput::Elements(MAPPINGS as u64));
    for (name, problem) in [
        ("feed-forward product of BERT-Base, 128 x 768 x 3072", Problem::matmul(128, 3072, 768)),
        ("convolution of ResNet-50, 3 x 3, 14 x 14 x 256", Problem::conv(conv)),
    ] {
        let space = Mapspace::new(&config, &problem, &Limits::default());
        let mut random = Random::new(1);
        let mappings: Vec<Mapping> = (0..MAPPINGS).filter_map(|_| space.sample_mapping(&mut random)).collect();
        let costs = Costs::new(&config, &problem, &around);
        group.bench_function(format!("{name}: cycles"), |b| {
            b.iter(|| mappings.iter().map(|mapping| costs.cycles(black_box(mapping))).sum::<f64>());
        });
        group.bench_function(format!("{name}: bound"), |b| {
            b.iter(|| mappings.iter().map(|mapping| costs.bound(black_box(mapping))).sum::<u64>());
        });
        group.bench_function(format!("{name}: draw and price"), |b| {
            b.iter(|| {
                let mut random = Random::new(2);
                let draw = |_| space.sample_mapping(&mut random).map(|mapping| costs.cycles(&mapping));
                (0..MAPPINGS).filter_map(draw).sum::<f64>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, price);
criterion_main!(benches);
