use pollux_energy::EnergyTable;
use pollux_isa::GemminiConfig;
use pollux_kernels::*;
use pollux_mapper::search::*;
use pollux_mapper::*;

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let memory = a[1].parse().unwrap();
    let budget: u64 = a[2].parse().unwrap();
    let only = a.get(3).cloned();
    let config = GemminiConfig::default16().validated().unwrap();
    let prices = EnergyTable::by_name("horowitz45-lpddr4").unwrap().prices(&config).unwrap();
    let mut shapes: Vec<(String, Problem)> = Vec::new();
    for (i, k, j) in [(512, 512, 512), (12544, 64, 256), (12544, 256, 64), (3136, 128, 512), (3136, 512, 128), (784, 256, 1024)] {
        shapes.push((format!("exo {i} x {k} x {j}"), Problem::matmul(i, j, k)));
    }
    for (i, k, j) in [(32, 2048, 2048), (1024, 1024, 1024), (256, 256, 256), (6272, 64, 256), (12544, 64, 128), (12544, 128, 256), (128, 1024, 1024), (64, 1024, 1024), (32, 1024, 1024)] {
        shapes.push((format!("gemm {i} x {k} x {j}"), Problem::matmul(i, j, k)));
    }
    for (p, c, k) in [(56, 64, 64), (28, 128, 128), (14, 256, 256), (14, 128, 128)] {
        let shape = ConvShape { padding: 1, ..ConvShape::new(4, [p, p, c], k, 3) };
        shapes.push((format!("exo-conv {p} x {p}, {c} to {k}"), Problem::conv(shape)));
    }
    let around = Surroundings { memory, interval: 1 };
    for (name, problem) in shapes {
        if only.as_ref().is_some_and(|only| !name.starts_with(only.as_str())) {
            continue;
        }
        let settings = Settings { objective: Objective::Cycles, method: Method::Auto, limits: Limits { emission: Some(Emission::Unroller), ..Limits::default() }, emulated_cycles: budget, evaluations: 30000, seed: 1, threads: 1, prices: &prices, clock_hz: 1e9 };
        let t = std::time::Instant::now();
        match search(&config, &problem, &around, &settings, &mut |_| {}) {
            Ok(f) => {
                let (b, g) = (f.best.result.unwrap(), f.gemmini.result.unwrap());
                println!("{name}\t{}\t{}\t{}\t{:.3}\t{:.3}\t{:.0}\t{}\t{}\t{}\t{}\t{:.1}s\t{:.0} {:.0}", problem.macs() / 256, g.cycles, b.cycles, g.cycles as f64 / b.cycles as f64, b.cycles as f64 / (problem.macs() / 256) as f64, f.best.estimate, f.lower_bound, f.evaluated, f.simulated, f.best.mapping, t.elapsed().as_secs_f64(), b.energy_pj / 1e6, g.energy_pj / 1e6);
            }
            Err(e) => println!("{name}\t{e}"),
        }
    }
}
