//! `pollux demo`

use pollux::Comparison;
use pollux_asm::binary;
use pollux_compiler::execute::read_matrix;
use pollux_model::LayerFile;
use pollux_model::quality::Quality;
use pollux_sim::replay::ReplayTable;
use pollux_trace::report::{Section, section_text};
use serde_json::{Value, json};

use crate::arguments::{CycleArguments, PolicyName, configuration};
use crate::execution::{self, CycleRun, Wanted};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::layer::{self, LoweredLayer, OUTPUT};
use crate::output::{Output, counted, grouped};
use crate::timeline::TimelineArguments;
use crate::{program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux demo                                   the embedded layer, functional model
  pollux demo --cycles                          clock by clock, cycles by operation
  pollux demo --cycles --memory dram:type=ddr3  behind an L2 cache and DDR3
  pollux demo -o layer.pbin                     keep the program";

/// Run a real encoder layer, from the model to the checked result.
///
/// A quantised layer of all-MiniLM-L6-v2 with a real sentence (embedded; no download) is lowered to commands, written
/// as a binary, read back and executed. Every element of the result is compared with an independent integer
/// reference, and the result with the float32 layer.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Simulate every clock cycle.
    #[arg(long)]
    cycles: bool,
    /// Another quantised layer, made by `pollux quantize`.
    #[arg(long, value_name = "FILE")]
    layer: Option<InputPath>,
    /// Configuration: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "norm16")]
    config: String,
    /// Also keep the program: assembly text if it is called `*.pasm`, binary otherwise.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
    #[command(flatten)]
    setup: CycleArguments,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let config = configuration(&arguments.config)?;
    let file = layer::load(arguments.layer.as_deref())?;
    let LoweredLayer { program, output, .. } = layer::lower(&file, config)?;
    out.text(&introduction(&file))?;
    if let Some(path) = &arguments.output {
        program_file::save(path, &program, out)?;
    }
    let binary = binary::write(&program).map_err(Failure::input)?;
    // What runs is what a file would hold.
    let program = binary::read(&binary).map_err(Failure::input)?;
    execution::check(&program, PolicyName::Error)?;
    let functional =
        progress::during(out, "functional model", || execution::run_functional(&program, PolicyName::Error))?;
    let table = &mut ReplayTable::new();
    let wanted = Wanted { report: true, plots: false, values: true, commit_log: None, replay: (None, table) };
    let cycles = if arguments.cycles {
        Some(execution::run_cycles(&program, &arguments.setup, &TimelineArguments::default(), wanted, None, out)?)
    } else {
        None
    };
    if let Some(run) = &cycles {
        execution::violations(&run.summary, PolicyName::Error)?;
    }

    let memory = cycles.as_ref().and_then(|run| run.memory.as_ref()).unwrap_or(&functional.memory);
    let check = Check::new(&pollux::compare(&program, memory));
    let models_agree = memory == &functional.memory;
    let quality = file.quality(&read_matrix(memory, &output));
    let agrees = check.agrees() && models_agree;

    let counts = &functional.counts;
    let macs = file.layer.macs(file.input.rows);
    let mut document = json!({
        "model": file.origin.model, "layer": file.origin.layer, "text": file.origin.text,
        "tokens": file.input.rows, "hidden": file.layer.hidden, "heads": file.layer.attention.heads,
        "ffn": file.layer.ffn, "config": program.config.name, "binary_bytes": binary.len(),
        "commands": counts.host_commands, "macs": macs, "executed_macs": counts.macs,
        "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out,
        "match": agrees, "elements": check.output.elements, "mismatches": check.output.mismatches,
        "intermediate_elements": check.intermediate.elements,
        "intermediate_mismatches": check.intermediate.mismatches,
        "cosine": quality.cosine, "max_error": quality.max_error, "sqnr_db": quality.sqnr_db,
    });
    if let (Some(run), Value::Object(fields)) = (&cycles, &mut document) {
        fields.insert("cycles".into(), json!(run.summary.busy_falls));
        fields.insert("operations".into(), json!(run.report.as_ref().map(|report| &report.operations)));
        fields.insert("models_agree".into(), json!(models_agree));
    }
    out.json(&document)?;
    out.text(&format!(
        "program        {} for {}, {} as a binary\n\
         work           {} MACs ({} with the diagonal products), {} bytes in, {} bytes out\n",
        counted(counts.host_commands, "command"),
        program.config.name,
        counted(binary.len() as u64, "byte"),
        grouped(macs),
        grouped(counts.macs),
        grouped(counts.bytes_in),
        grouped(counts.bytes_out),
    ))?;
    if let Some(run) = &cycles {
        out.text(&cycles_text(run, counts.macs, program.config.dim(), models_agree))?;
    }
    out.text(&verdict(&check, &quality))?;
    Ok(Outcome::of(agrees))
}

fn introduction(file: &LayerFile) -> String {
    let LayerFile { origin, layer, .. } = file;
    format!(
        "model          {}, encoder layer {} in INT8\n\
         input          {} tokens: \"{}\"\n\
         shape          hidden {}, {} heads, feed-forward {}\n",
        origin.model, origin.layer, file.input.rows, origin.text, layer.hidden, layer.attention.heads, layer.ffn,
    )
}

/// Elements compared with the integer reference.
#[derive(Clone, Copy, Default)]
struct Elements {
    elements: u64,
    mismatches: u64,
}

impl Elements {
    fn add(&mut self, comparison: &Comparison) {
        self.elements += comparison.elements;
        self.mismatches += comparison.mismatches;
    }
}

/// The layer's result and the tensors on the way to it, compared with the integer reference.
#[derive(Clone, Copy, Default)]
struct Check {
    output: Elements,
    intermediate: Elements,
}

impl Check {
    fn new(comparisons: &[Comparison]) -> Self {
        let mut check = Self::default();
        for comparison in comparisons {
            let part = if comparison.buffer == OUTPUT { &mut check.output } else { &mut check.intermediate };
            part.add(comparison);
        }
        check
    }

    fn agrees(&self) -> bool {
        self.output.elements > 0 && self.output.mismatches + self.intermediate.mismatches == 0
    }
}

fn cycles_text(run: &CycleRun, macs: u64, dim: u32, models_agree: bool) -> String {
    let cycles = run.summary.busy_falls;
    let peak = u64::from(dim) * u64::from(dim);
    let operations = run.report.as_ref().map(|report| section_text(report, Section::Operations)).unwrap_or_default();
    format!(
        "cycles         {} ({:.1} % of the array's {} MACs a cycle)\n\n{operations}\n\
         models         memory of the cycle-level and of the functional model: {}\n",
        grouped(cycles),
        macs as f64 * 100.0 / (cycles.max(1) * peak) as f64,
        grouped(peak),
        if models_agree { "equal" } else { "DIFFERENT" },
    )
}

fn verdict(check: &Check, quality: &Quality) -> String {
    let verdict = |Elements { elements, mismatches }: Elements| match mismatches {
        0 => format!("all {} elements equal", grouped(elements)),
        _ => format!("{} of {} elements DIFFER", grouped(mismatches), grouped(elements)),
    };
    format!(
        "integer check  {}: {} (independent integer reference)\n\
         \x20              intermediate tensors: {}\n\
         float32 check  cosine {:.5}, largest error {:.3}, signal to noise {:.1} dB\n",
        if check.agrees() { "MATCH" } else { "MISMATCH" },
        verdict(check.output),
        verdict(check.intermediate),
        quality.cosine,
        quality.max_error,
        quality.sqnr_db,
    )
}
