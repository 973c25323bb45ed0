use pollux_isa::GemminiConfig;
use pollux_kernels::*;
use pollux_mapper::*;
use pollux_memory::Memory;
use pollux_sim::report::Profiler;
use pollux_sim::runner::Runner;

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let v = |i: usize| a[i].parse::<usize>().unwrap();
    let config = GemminiConfig::default16().validated().unwrap();
    let problem = Problem::matmul(v(1), v(2), v(3));
    let order = match a[7].as_str() {
        "ijk" => [Axis::I, Axis::J, Axis::K],
        "jik" => [Axis::J, Axis::I, Axis::K],
        "ikj" => [Axis::I, Axis::K, Axis::J],
        "jki" => [Axis::J, Axis::K, Axis::I],
        "kij" => [Axis::K, Axis::I, Axis::J],
        _ => [Axis::K, Axis::J, Axis::I],
    };
    let keep = match a[8].as_str() {
        "Gemmini" => Keep::Gemmini,
        "Nothing" => Keep::Nothing,
        _ => Keep::Recent,
    };
    let emission = if a[9] == "u" { Emission::Unroller } else { Emission::Commands };
    let dataflow = if a[10] == "os" { Dataflow::Os } else { Dataflow::Ws };
    let s = Schedule {
        dataflow,
        tile: Tile { i: v(4), j: v(5), k: v(6) },
        order,
        double_buffer: a[11] == "db",
        emission,
        normalization: Normalization::Fused,
        keep,
    };
    let mapping = Mapping::Matmul(s);
    mapping.check(&config, &problem).unwrap();
    let program = mapping.program(&config, &problem).unwrap();
    let mut p = Profiler::new(&program.config, &program.items);
    let out =
        Runner::new(&config).memory(a[12].parse().unwrap()).run(program.items.clone(), Memory::new(), &mut p).unwrap();
    let r = p.finish(&out.summary);
    println!("cycles {}", out.summary.busy_falls);
    for b in &r.blocks {
        let c: Vec<String> = b.causes.iter().take(4).map(|c| format!("{} {}", c.cause.name(), c.cycles)).collect();
        println!(
            "{:20} busy {:7} stalled {:7} draining {:7} idle {:7}  {}",
            b.block.name(),
            b.busy,
            b.stalled,
            b.draining,
            b.idle,
            c.join(", ")
        );
    }
    println!("{:?}", r.conflicts);
}
