//! Prints the report on a golden case: `cargo run -p pollux-trace --example report -- tests/golden/directed/tile_ws [text|json|csv]`.

use std::path::Path;

use pollux_sim::report::Profiler;
use pollux_trace::GoldenCase;
use pollux_trace::report::{Format, render};
use pollux_trace::verify::{bench, config_of, initial_memory};

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
    let outcome = bench(&case, &config).run(case.items.clone(), initial_memory(&case), &mut profiler)?;
    print!("{}", render(&profiler.finish(&outcome.summary), format));
    Ok(())
}
