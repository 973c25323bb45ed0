use pollux_isa::GemminiConfig;
use pollux_kernels::*;
use pollux_mapper::counts::of_program;
use pollux_mapper::random::Random;
use pollux_mapper::*;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let kind = args[1].as_str();
    let n: usize = args[2].parse().unwrap();
    let memory = args[3].parse().unwrap();
    let mut seed: u64 = args[4].parse().unwrap();
    let config = GemminiConfig::default16().validated().unwrap();
    let around = Surroundings { memory, interval: 1 };
    let mut shapes: Vec<Problem> = Vec::new();
    if kind != "conv" {
        for (m, n, k) in [
            (128, 128, 128),
            (256, 256, 256),
            (64, 512, 256),
            (100, 70, 300),
            (512, 64, 64),
            (32, 256, 512),
            (196, 256, 128),
            (128, 384, 384),
        ] {
            shapes.push(Problem::matmul(m, n, k));
        }
    } else {
        for (b, s, c, o, k, st) in [
            (1, 14, 64, 64, 3, 1),
            (1, 28, 32, 64, 3, 1),
            (2, 7, 128, 128, 3, 1),
            (1, 28, 64, 96, 1, 1),
            (1, 32, 3, 32, 3, 2),
            (1, 14, 96, 32, 5, 1),
        ] {
            let shape = ConvShape { stride: st, padding: k as isize / 2, ..ConvShape::new(b, [s, s, c], o, k) };
            shapes.push(Problem::conv(shape));
        }
    }
    let emission = match kind {
        "commands" => Some(Emission::Commands),
        "all" => None,
        _ => Some(Emission::Unroller),
    };
    let limits = Limits { emission, ..Limits::default() };
    for shape in shapes {
        let space = Mapspace::new(&config, &shape, &limits);
        let mut random = Random::new(seed);
        seed += 1;
        let ideal = shape.macs() / 256;
        for _ in 0..n {
            let Some(mapping) = space.sample_mapping(&mut random) else { continue };
            let Ok(program) = mapping.program(&config, &shape) else { continue };
            let p = of_program(&program).unwrap().least;
            let Ok(cycles) = emulate::cycles(&config, &shape, &mapping, &around, 40 * ideal + 200_000) else {
                continue;
            };
            println!(
                "{cycles}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{shape}\t{mapping}",
                p.mesh.rows,
                p.memory.reads,
                p.memory.read_beats,
                p.memory.write_beats,
                p.commands.load,
                p.commands.store,
                p.commands.execute,
                p.commands.host
            );
        }
    }
}
