//! Whole programs against recordings of the RTL (`tests/golden/soc`). The programs' files are not part of Pollux; `docs/src/soc.md` says
//! how to build them. With the folder in `POLLUX_SOC_ELFS`:
//!
//! ```text
//! POLLUX_SOC_ELFS=... cargo test --release -p pollux-soc --test recordings -- --ignored --nocapture
//! ```

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use pollux_isa::config::{CommandLayout, Revision};
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_riscv::{DEFAULT_RAM, Elf};
use pollux_sim::memory::{BandwidthMemory, BandwidthParameters};
use pollux_sim::uncore::l2::InclusiveCacheParameters;
use pollux_soc::{Ending, Soc, SocSetup};
use serde_json::Value;

/// The core asks for its first instruction in this cycle of the recordings; before, it runs the boot ROM.
const START: u64 = 1025;

/// How far Gemmini's busy cycles may be off in a program, in percent.
const TOLERANCE: f64 = 3.0;

const PROGRAMS: [&str; 18] = [
    "aligned",
    "gemmini_counter",
    "matrix_add",
    "mlp3",
    "mvin_mvout",
    "mvin_mvout_acc",
    "mvin_mvout_acc_zero_stride",
    "mvin_mvout_stride",
    "mvin_mvout_zeros",
    "mvin_scale",
    "raw_hazard",
    "resadd",
    "template",
    "test",
    "tiled_matmul_ws",
    "tiled_matmul_ws_At",
    "tiled_matmul_ws_full_C",
    "tiled_matmul_ws_perf",
];

/// Gemmini as it was recorded: the generator's default configuration, which has no normalization units, in spring 2023.
fn config() -> ValidConfig {
    let config = GemminiConfig {
        has_normalizations: false,
        command_layout: CommandLayout::March2023,
        revision: Revision::March2023,
        ..GemminiConfig::default16()
    };
    config.validated().expect("a valid configuration")
}

fn golden(program: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/soc").join(program).join(file)
}

/// Commands of a recording: function, operands.
fn commands(program: &str) -> Vec<(u64, u64, u64)> {
    let bytes = std::fs::read(golden(program, "roccstream.csv.gz")).unwrap();
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        (fields[1].parse().unwrap(), hex(fields[2]), hex(fields[3]))
    };
    text.lines().skip(1).map(parse).collect()
}

fn without_digits(text: &str) -> String {
    text.replace(|c: char| c.is_ascii_digit(), "")
}

fn percent(simulated: u64, recorded: u64) -> f64 {
    (simulated as f64 / recorded as f64 - 1.0) * 100.0
}

#[test]
#[ignore = "needs the programs' files in POLLUX_SOC_ELFS"]
fn recorded_programs_take_their_cycles() {
    let folder =
        PathBuf::from(std::env::var_os("POLLUX_SOC_ELFS").expect("POLLUX_SOC_ELFS names the programs' folder"));
    let (mut table, mut totals, mut busies) = (String::new(), 0.0, 0.0);
    for program in PROGRAMS {
        let summary: Value = serde_json::from_slice(&std::fs::read(golden(program, "summary.json")).unwrap()).unwrap();
        let recorded = |key: &str| summary[key].as_u64().unwrap();
        let elf = Elf::parse(&std::fs::read(folder.join(program)).unwrap()).unwrap();
        let setup = SocSetup::new(config(), DEFAULT_RAM, InclusiveCacheParameters::default());
        let parameters = BandwidthParameters { latency: 40, bytes: 8, cycles: 1, outstanding: u64::MAX };
        let mut soc = Soc::new(setup, &elf, START, |bytes| BandwidthMemory::new(parameters, 8, bytes)).unwrap();
        soc.observations.commands = Some(Vec::new());
        let begin = std::time::Instant::now();
        let ending = soc.run(10_000_000);
        let speed = soc.cycle() as f64 / begin.elapsed().as_secs_f64() / 1e6;
        let seen = &soc.observations;
        assert_eq!(ending, Ending::Exit(recorded("exit_code")), "{program}");
        let text = String::from_utf8_lossy(&seen.console);
        assert_eq!(without_digits(&text), without_digits(summary["output"].as_str().unwrap()), "{program}");
        let sent: Vec<_> = seen
            .commands
            .iter()
            .flatten()
            .map(|sent| (sent.command.funct.into(), sent.command.rs1, sent.command.rs2))
            .collect();
        assert_eq!(sent, commands(program), "{program}");
        assert_eq!(seen.entry, Some(recorded("entry_cycle")), "{program}");

        let (cycles, end) = (seen.end - recorded("entry_cycle"), recorded("total_cycles"));
        let (gemmini, rtl) = (seen.busy_cycles, recorded("gemmini_busy_cycles"));
        let (total, busy) = (percent(cycles, end), percent(gemmini, rtl));
        writeln!(
            table,
            "{program:27} {cycles:>9} {end:>9} {total:>+7.2} {gemmini:>8} {rtl:>8} {busy:>+7.2} {speed:>5.1}"
        )
        .unwrap();
        assert!(total.abs() < 1.0, "{program}: {total:.2} % of the cycles\n{table}");
        assert!(busy.abs() < TOLERANCE, "{program}: {busy:.2} % of the busy cycles\n{table}");
        totals += total.abs() / PROGRAMS.len() as f64;
        busies += busy.abs() / PROGRAMS.len() as f64;
    }
    println!(
        "{:27} {:>9} {:>9} {:>7} {:>8} {:>8} {:>7}  million/s",
        "program", "cycles", "RTL", "%", "busy", "RTL", "%"
    );
    println!("{table}mean of the amounts: {totals:.2} % and {busies:.2} %");
    assert!(totals < 0.5 && busies < 1.0);
}
