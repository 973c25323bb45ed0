use pollux_isa::GemminiConfig;
use pollux_kernels::*;
use pollux_mapper::model::*;
use pollux_mapper::random::Random;
use pollux_mapper::*;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let lines: Vec<Vec<String>> = std::fs::read_to_string(&args[1])
        .unwrap()
        .lines()
        .map(|l| l.split('\t').map(str::to_owned).collect())
        .collect();
    let show: usize = args[3].parse().unwrap();
    let config = GemminiConfig::default16().validated().unwrap();
    let around = Surroundings { memory: args[2].parse().unwrap(), interval: 1 };
    let machine = Machine::new(&config, &around);
    let mut errors: Vec<(f64, f64, f64, String)> = Vec::new();
    for line in &lines {
        let cycles: f64 = line[0].parse().unwrap();
        if line[9].starts_with("conv") {
            let n: Vec<usize> = line[9]
                .split(|c: char| !c.is_ascii_digit())
                .filter(|s| !s.is_empty())
                .map(|s| s.parse().unwrap())
                .collect();
            // k x k, r x c x ic to or x oc x och, stride, batch
            let shape = ConvShape {
                stride: n[8],
                padding: n[0] as isize / 2,
                ..ConvShape::new(n[9], [n[2], n[3], n[4]], n[7], n[0])
            };
            let problem = ConvProblem { shape, bias: false };
            let costs = ConvCosts::new(&config, &machine, &problem);
            let s = parse_conv(&line[10]);
            let p = costs.cycles(&s);
            errors.push((
                p / cycles - 1.0,
                cycles,
                p,
                format!(
                    "{} {} [rows {} reads {} beats {} ld {} st {}]",
                    line[9], line[10], line[1], line[2], line[3], line[5], line[6]
                ),
            ));
            continue;
        }
        let w: Vec<&str> = line[9].split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty()).collect();
        let v = |i: usize| w[i].parse::<usize>().unwrap();
        let problem = MatmulProblem::new(v(0), v(2), v(1));
        let s = parse(&line[10]);
        let costs = ProductCosts::new(&config, &machine, &problem);
        let p = costs.cycles(&s);
        errors.push((p / cycles - 1.0, cycles, p, format!("{} {}", line[9], line[10])));
    }
    let n = errors.len() as f64;
    let mape = errors.iter().map(|e| e.0.abs()).sum::<f64>() / n;
    let mean = errors.iter().map(|e| e.0).sum::<f64>() / n;
    errors.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    println!(
        "{} MAPE {:.2} signed {:+.2} median {:.2} p95 {:.2}",
        n,
        100.0 * mape,
        100.0 * mean,
        100.0 * errors[errors.len() / 2].0.abs(),
        100.0 * errors[(n * 0.95) as usize].0.abs()
    );
    for e in errors.iter().rev().take(show) {
        println!("{:+.1} {} {:.0} {}", 100.0 * e.0, e.1, e.2, e.3);
    }
    // speed
    let problem = MatmulProblem::new(512, 768, 768);
    let costs = ProductCosts::new(&config, &machine, &problem);
    let space = Mapspace::new(
        &config,
        &Problem::Matmul(problem),
        &Limits { emission: Some(Emission::Unroller), ..Limits::default() },
    );
    let mut r = Random::new(1);
    let ms: Vec<Schedule> = (0..20000)
        .map(|_| match space.sample_mapping(&mut r).unwrap() {
            Mapping::Matmul(s) => s,
            _ => panic!(),
        })
        .collect();
    let t = std::time::Instant::now();
    let sum: f64 = ms.iter().map(|s| costs.cycles(s)).sum();
    println!("{:.3} us a mapping ({sum:.0})", t.elapsed().as_secs_f64() * 1e6 / ms.len() as f64);
    let t = std::time::Instant::now();
    let sum: u64 = ms.iter().map(|s| costs.counts(s).unwrap().least.mesh.rows).sum();
    println!("{:.3} us a count ({sum})", t.elapsed().as_secs_f64() * 1e6 / ms.len() as f64);
}

fn parse(text: &str) -> Schedule {
    let t: Vec<&str> = text.split_whitespace().collect();
    let tile: Vec<usize> = t[3].split('x').map(|s| s.parse().unwrap()).collect();
    let order = t[11].trim_end_matches(',');
    let axis = |c: char| match c {
        'i' => Axis::I,
        'j' => Axis::J,
        _ => Axis::K,
    };
    let o: Vec<Axis> = order.chars().map(axis).collect();
    Schedule {
        dataflow: if t[0] == "Ws" { Dataflow::Ws } else { Dataflow::Os },
        emission: if t[1] == "Unroller" { Emission::Unroller } else { Emission::Commands },
        tile: Tile { i: tile[0], j: tile[1], k: tile[2] },
        order: [o[0], o[1], o[2]],
        double_buffer: t[12].starts_with("double"),
        normalization: Normalization::Fused,
        keep: match t[14] {
            "Gemmini" => Keep::Gemmini,
            "Nothing" => Keep::Nothing,
            _ => Keep::Recent,
        },
    }
}

fn parse_conv(text: &str) -> ConvSchedule {
    let t: Vec<&str> = text.split_whitespace().collect();
    let n = |i: usize| t[i].trim_end_matches(',').parse::<usize>().unwrap();
    let k: Vec<usize> = t[10].split('x').map(|s| s.parse().unwrap()).collect();
    let names: Vec<&str> = t[14..21].iter().map(|s| s.trim_end_matches(',')).collect();
    let axis = |name: &str| *ConvAxis::ALL.iter().find(|a| a.name() == name).unwrap();
    ConvSchedule {
        batch: n(2),
        rows: n(4),
        cols: n(6),
        out_channels: n(8),
        kernel_rows: k[0],
        kernel_cols: k[1],
        in_channels: n(12),
        emission: if t[0] == "Unroller" { Emission::Unroller } else { Emission::Commands },
        order: std::array::from_fn(|i| axis(names[i])),
        keep: match t[23] {
            "Gemmini" => Keep::Gemmini,
            "Nothing" => Keep::Nothing,
            _ => Keep::Recent,
        },
        double_buffer: t[21].starts_with("double"),
    }
}
