//! Prints the report on a golden case: `cargo run -p pollux-trace --example report -- tests/golden/directed/tile_ws [text|json|csv]`.

use std::path::Path;

use pollux_sim::event::Cycle;
use pollux_sim::report::Profiler;
use pollux_trace::GoldenCase;
use pollux_trace::report::{Format, render};
use pollux_trace::verify::{bench_simulation, config_of};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give the folder of a golden case")?;
    let format = match arguments.next().as_deref() {
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        _ => Format::Text,
    };
    let case = GoldenCase::read(Path::new(&folder))?;
    let config = config_of(&case)?;
    let mut profiler = Profiler::new(&config, &case.items);
    let mut simulation = bench_simulation(&case, &config, true);
    let summary = simulation.run(&mut profiler, Cycle::MAX)?;
    print!("{}", render(&profiler.finish(&summary), format));
    Ok(())
}
