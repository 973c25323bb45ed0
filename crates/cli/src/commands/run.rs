//! `pollux run`

use std::path::Path;
use std::str::FromStr;

use clap::ValueEnum;
use pollux::functional::Divisions;
use pollux::{Comparison, FunctionalOutcome};
use pollux_asm::{Buffer, Disassembler, Program, npy};
use pollux_memory::Memory;
use pollux_sim::memory::MemoryModel;
use pollux_trace::report::{Format, render, report_html};
use pollux_trace::timeline::Life;
use serde_json::{Map, Value, json};

use crate::arguments::{CycleArguments, PolicyName, ReplayArguments, optional_configuration};
use crate::commit_log;
use crate::elf;
use crate::elf::arguments::ElfArguments;
use crate::energy::{self, Pricing};
use crate::execution::{self, CycleRun, Wanted};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::options::Given;
use crate::output::{Output, counted, grouped};
use crate::timeline::TimelineArguments;
use crate::{program_file, progress, values};

const EXAMPLES: &str = "\
Examples:
  pollux run programs/softmax.pasm
  pollux run matmul.pbin --expect --dump C
  pollux run matmul.pbin --dump C=c.npy
  pollux run matmul.pbin --cycles --memory bandwidth:bytes=8,latency=100
  pollux run matmul.pbin --cycles --report text
  pollux run matmul.pbin --cycles --energy horowitz45-lpddr4
  pollux run matmul.pbin --cycles --no-values
  pollux run matmul.pbin --cycles --trace events.csv --commands commands.csv
  pollux run matmul.pbin --cycles --perfetto run.pftrace --kanata run.kanata
  pollux run layer.pbin --cycles --fst run.fst --from 1000 --to 9000
  pollux run matmul.pbin --cycles --commit-log cycles.log      what each command has written
  pollux run matmul.pbin --commit-log functional.log           the same of the functional model, to be compared by diff
  pollux run programs/riscv/matmul.elf              a RISC-V program, with its commands to Gemmini
  pollux run programs/riscv/matmul.elf --cycles     the same on Rocket, caches, L2 and Gemmini
  pollux run prog.elf --params gemmini_params.h --symbols";

/// Buffers up to this size can be dumped.
const MAX_DUMP_BYTES: u64 = 1 << 30;

/// Run a program.
///
/// The functional model executes one command after the other; with --cycles the emulator runs the whole accelerator
/// clock by clock. Results are compared with the expected contents of buffers, if the program has any.
/// An ELF file is a bare-metal program for the RISC-V core (RV64IMAFDC), which sends its commands to Gemmini; its console
/// is printed, and exit code 1 says that its own was not 0. With --cycles the emulator runs the whole system: Rocket,
/// caches, L2, memory and Gemmini.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    given: Given,
    /// ELF file, binary or assembly text (`-`: standard input, without ELF).
    file: InputPath,
    /// Simulate every clock cycle.
    #[arg(long)]
    cycles: bool,
    /// Leave the values out of the cycles: faster, with the same cycles, but nothing is computed, and neither compared nor dumped.
    #[arg(long, requires = "cycles", conflicts_with_all = ["expect", "dump"])]
    no_values: bool,
    /// Refuse a program that expects nothing.
    #[arg(long)]
    expect: bool,
    /// Print a buffer after the run, or write it to a file (NumPy if it is called `*.npy`, otherwise raw bytes; `-`:
    /// standard output). Several are separated by commas.
    #[arg(long, value_name = "NAME[=FILE]", value_delimiter = ',')]
    dump: Vec<Dump>,
    /// What to do about what the hardware does not define.
    #[arg(long, value_name = "POLICY", default_value = "error")]
    policy: PolicyName,
    /// Configuration of an ELF file (default16 unless given) or of a text that names none, or that a binary must be made
    /// for: a name, or a file (TOML, or a gemmini_params.h).
    #[arg(long, value_name = "NAME|FILE", visible_alias = "params")]
    config: Option<String>,
    #[command(flatten)]
    setup: CycleArguments,
    #[command(flatten)]
    timeline: TimelineArguments,
    /// Write what each command has written, in program order, with check sums. Both models write the same for the same program.
    #[arg(long, value_name = "OUT", conflicts_with_all = ["no_values", "from", "to", "processor"])]
    commit_log: Option<OutputPath>,
    #[command(flatten)]
    replay: ReplayArguments,
    /// Report what the cycles were spent on: each block's busy and stalled cycles with their causes, array, memory
    /// traffic, banks, operations, and Gemmini's own counters.
    #[arg(long, value_name = "FORM", requires = "cycles")]
    report: Option<ReportForm>,
    /// Energy by component and operation, from the exact counts of what happened: a built-in table (`pollux energy tables`)
    /// or a file (`*.toml`).
    #[arg(long, value_name = "TABLE", requires = "cycles")]
    energy: Option<String>,
    /// Clock, for seconds, leakage and the energy-delay product.
    #[arg(long, value_name = "CLOCK", default_value = energy::CLOCK, value_parser = values::clock, requires = "energy")]
    clock: f64,
    #[command(flatten)]
    elf: ElfArguments,
}

fn functional<'p>(arguments: &Arguments, program: &'p Program, out: &Output) -> Result<FunctionalOutcome<'p>, Failure> {
    match &arguments.commit_log {
        None => execution::run_functional(program, arguments.policy),
        Some(path) => commit_log::functional(execution::checked(program, arguments.policy), program, path, out),
    }
}

/// How the cycles are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportForm {
    /// Tables for people; with --json, the document with the report in it.
    Text,
    /// The document of --json, with the report in it.
    Json,
    /// One table with every number and nothing else.
    Csv,
    /// One HTML page with plots and nothing else: blocks over time, causes, roofline, banks, commands.
    Html,
}

/// A buffer to show.
#[derive(Clone, Debug)]
pub struct Dump {
    buffer: String,
    /// File to write it to; without one it is printed.
    pub file: Option<OutputPath>,
}

impl FromStr for Dump {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((_, "")) => Err("the file's name is missing behind `=`".to_owned()),
            Some((buffer, file)) => Ok(Self { buffer: buffer.to_owned(), file: Some(OutputPath(file.into())) }),
            None => Ok(Self { buffer: text.to_owned(), file: None }),
        }
    }
}

impl Arguments {
    /// Why nothing can be replayed, whatever the memory.
    fn obstacle_to_replay(&self) -> Option<&'static str> {
        let Self { setup: CycleArguments { trace, commands, page_walk, processor, .. }, .. } = self;
        let obstacles = [
            (!self.cycles, "the functional model has no cycles; give --cycles --no-values"),
            (!self.no_values, "the accelerator computes values; give --no-values"),
            (self.report == Some(ReportForm::Html), "--report html plots every cycle"),
            (self.timeline.given().is_some(), "a file for a viewer looks at every cycle"),
            (trace.is_some(), "--trace has every event"),
            (commands.is_some(), "--commands has every command"),
            (page_walk.is_some(), "--page-walk makes cycles depend on addresses"),
            (processor.is_some(), "--processor has a state of its own"),
        ];
        obstacles.into_iter().find_map(|(is_there, obstacle)| is_there.then_some(obstacle))
    }
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    check_forms(arguments, out)?;
    let out = &out.or_json(arguments.report == Some(ReportForm::Json));
    let config = optional_configuration(arguments.config.as_ref())?;
    if let Some(program) = elf::open(&arguments.file)? {
        arguments.given.refuse(
            &["expect", "dump", "commit_log"],
            "a program for the core has no buffers: it checks its results itself",
        )?;
        if arguments.cycles {
            let CycleArguments { memory, limit, .. } = arguments.setup;
            let memory = elf::cycles::memory(&arguments.given, memory)?;
            let (policy, options) = (arguments.policy, &arguments.elf);
            let setup = elf::cycles::Setup { config, policy, memory, limit, options };
            return elf::cycles::execute(&program, &arguments.file, &setup, out);
        }
        let setup = elf::run::Setup { config, policy: arguments.policy, options: &arguments.elf };
        return elf::run::execute(&program, &arguments.file, &setup, out);
    }
    if arguments.commit_log.is_some() && arguments.cycles && matches!(arguments.setup.memory, MemoryModel::L2(_)) {
        return Err(Failure::Usage(
            "--commit-log looks at main memory, which an L2 keeps waiting: give another --memory; contents are the same".to_owned(),
        ));
    }
    arguments.given.refuse(elf::arguments::IDS, "only an ELF file has a core that this is for")?;
    let replay = arguments.replay.options(arguments.setup.memory, arguments.obstacle_to_replay())?;
    let program = progress::during(out, "reading", || program_file::load(&arguments.file, config.as_ref()))?;
    let dumps = arguments.dump.iter().map(|dump| Ok((dump, find(&program, &dump.buffer)?)));
    let dumps: Vec<(&Dump, &Buffer)> = dumps.collect::<Result<_, Failure>>()?;
    if let Some((_, buffer)) = dumps.iter().find(|(_, buffer)| buffer.len() > MAX_DUMP_BYTES) {
        return Err(Failure::Input(format!("`{}` has {} bytes: too many to dump", buffer.name, buffer.len())));
    }
    if arguments.expect && program.buffers.iter().all(|buffer| buffer.expected.is_none()) {
        return Err(Failure::Input(format!(
            "`{}` expects nothing: give a buffer its expected contents with `expect NAME = ...`",
            arguments.file.display()
        )));
    }
    let pricing = Pricing::load(arguments.energy.as_ref(), arguments.clock, &program.config)?;
    let mut warnings = execution::check(&program, arguments.policy)?;
    let run = if arguments.cycles {
        let plots = arguments.report == Some(ReportForm::Html);
        let mut table = arguments.replay.table()?;
        let (report, values) = (arguments.report.is_some(), !arguments.no_values);
        let commit_log = arguments.commit_log.as_ref();
        let wanted = Wanted { report, plots, values, commit_log, replay: (replay, &mut table) };
        let run =
            execution::run_cycles(&program, &arguments.setup, &arguments.timeline, wanted, pricing.as_ref(), out)?;
        arguments.replay.keep(&table, out)?;
        warnings.extend(execution::violations(&run.summary, arguments.policy)?);
        let summary = &run.summary;
        execution::note_replay(summary.cycles, summary.simulated, summary.replayed, out);
        Run::Cycles(Box::new(run))
    } else {
        let run = progress::during(out, "functional model", || functional(arguments, &program, out))?;
        warnings.extend_from_slice(&run.warnings);
        Run::Functional(Box::new(run))
    };
    warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));

    let mut comparisons = Vec::new();
    let mut shown = Map::new();
    let mut text = String::new();
    if let Some(memory) = run.memory() {
        comparisons = pollux::compare(&program, memory);
        for (dump, buffer) in dumps {
            match &dump.file {
                Some(path) => write_buffer(path, buffer, memory, out)?,
                None => {
                    text.push_str(&buffer_text(buffer, memory));
                    shown.insert(buffer.name.clone(), buffer_json(buffer, memory));
                }
            }
        }
    }
    let agrees = comparisons.iter().all(|comparison| comparison.mismatches == 0);
    let mut document = run.json();
    if let Value::Object(fields) = &mut document {
        fields.insert("program".into(), json!(arguments.file));
        fields.insert("config".into(), json!(program.config.name));
        fields.insert("warnings".into(), json!(warnings));
        fields.insert("match".into(), json!((!comparisons.is_empty()).then_some(agrees)));
        fields.insert("expected".into(), json!(comparisons));
        fields.insert("dumps".into(), Value::Object(shown));
    }
    out.json(&document)?;
    if arguments.report == Some(ReportForm::Csv) {
        out.text(&run.report(Format::Csv))?;
        return Ok(Outcome::of(agrees));
    }
    if arguments.report == Some(ReportForm::Html) {
        out.text(&run.page(&arguments.file, &program))?;
        return Ok(Outcome::of(agrees));
    }
    out.text(&run.report(Format::Text))?;
    out.text(&run.text())?;
    out.text(&run.energy_text())?;
    out.text(&comparisons.iter().map(comparison_text).collect::<String>())?;
    out.text(&text)?;
    Ok(Outcome::of(agrees))
}

/// A table for programs has nothing else beside it, and JSON has one form.
fn check_forms(arguments: &Arguments, out: &Output) -> Result<(), Failure> {
    let (form, what) = match arguments.report {
        Some(ReportForm::Csv) => ("csv", "table"),
        Some(ReportForm::Html) => ("html", "page"),
        _ => return Ok(()),
    };
    if out.is_json() {
        return Err(Failure::Usage(format!(
            "--report {form} and --json exclude each other: --report json has all numbers"
        )));
    }
    if arguments.energy.is_some() {
        return Err(Failure::Usage(format!(
            "--report {form} prints nothing but its {what}, so that --energy has no effect: --report json has both"
        )));
    }
    match arguments.dump.iter().find(|dump| dump.file.is_none()) {
        None => Ok(()),
        Some(Dump { buffer, .. }) => Err(Failure::Usage(format!(
            "--report {form} prints nothing but its {what}: dump the buffer to a file with --dump {buffer}=FILE"
        ))),
    }
}

fn find<'p>(program: &'p Program, name: &str) -> Result<&'p Buffer, Failure> {
    program.buffer(name).ok_or_else(|| {
        let names: Vec<&str> = program.buffers.iter().map(|buffer| buffer.name.as_str()).collect();
        Failure::Input(format!("no buffer is called `{name}`; the program has {}", names.join(", ")))
    })
}

/// A run on one of the two models.
enum Run<'p> {
    Functional(Box<FunctionalOutcome<'p>>),
    Cycles(Box<CycleRun>),
}

impl Run<'_> {
    /// Memory after the run; none if values were left out.
    fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Functional(run) => Some(&run.memory),
            Self::Cycles(run) => run.memory.as_ref(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Functional(run) => {
                let counts = &run.counts;
                let kinds = counts.commands.by_kind().into_iter().filter(|(_, count)| *count > 0);
                let kinds: Map<String, Value> = kinds.map(|(kind, count)| (kind.to_owned(), count.into())).collect();
                json!({
                    "model": "functional", "commands": counts.host_commands, "macs": counts.macs,
                    "bytes_in": counts.bytes_in, "bytes_out": counts.bytes_out, "executed": kinds,
                })
            }
            Self::Cycles(run) => {
                let (summary, traffic) = (&run.summary, &run.summary.traffic);
                // With values nobody has to be told.
                let divisions = run.memory.is_none().then_some(&run.divisions);
                json!({
                    "model": "cycles", "commands": summary.commands, "cycles": summary.busy_falls,
                    "busy_cycles": summary.busy_cycles, "simulated_cycles": summary.simulated,
                    "replayed_cycles": summary.replayed,
                    "reads": traffic.reads, "writes": traffic.writes,
                    "bytes_in": traffic.read_bytes, "bytes_out": traffic.written_bytes, "report": run.report,
                    "violations": summary.violations, "energy": run.energy, "values": run.memory.is_some(),
                    "divisions": divisions.map(Divisions::count),
                    "zero_divisions": divisions.map(|divisions| divisions.zero().len()),
                })
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Functional(run) => format!(
                "{}, {}, {} in, {} out\n",
                counted(run.counts.host_commands, "command"),
                counted(run.counts.macs, "MAC"),
                counted(run.counts.bytes_in, "byte"),
                counted(run.counts.bytes_out, "byte"),
            ),
            Self::Cycles(run) => format!(
                "{} ({} busy), {}, {} in, {} out\n{}",
                counted(run.summary.busy_falls, "cycle"),
                grouped(run.summary.busy_cycles),
                counted(run.summary.commands, "command"),
                counted(run.summary.traffic.read_bytes, "byte"),
                counted(run.summary.traffic.written_bytes, "byte"),
                if run.memory.is_some() { String::new() } else { left_out(&run.divisions) },
            ),
        }
    }

    /// The report on energy, if there is one.
    fn energy_text(&self) -> String {
        match self {
            Self::Functional(_) => String::new(),
            Self::Cycles(run) => run.energy.as_ref().map(|energy| format!("\n{}\n", energy.text())).unwrap_or_default(),
        }
    }

    /// The report on cycles as a page, if there is one.
    fn page(&self, file: &Path, program: &Program) -> String {
        let Self::Cycles(run) = self else { return String::new() };
        let disassembler = Disassembler::new(program);
        let describe = |life: &Life| disassembler.command(life.command);
        let page = run.report.as_ref().zip(run.plots.as_ref());
        let title = format!("Pollux: {}", file.display());
        page.map(|(report, plots)| report_html(report, plots, &title, describe)).unwrap_or_default()
    }

    /// The report on cycles, if there is one.
    fn report(&self, format: Format) -> String {
        let report = match self {
            Self::Functional(_) => None,
            Self::Cycles(run) => run.report.as_ref(),
        };
        report.map(|report| render(report, format)).unwrap_or_default()
    }
}

/// That values were left out, and what timing had to know about them all the same.
fn left_out(divisions: &Divisions) -> String {
    let zero = divisions.zero().len();
    match divisions.count() {
        0 => "values left out: no results\n".to_owned(),
        count => format!(
            "values left out: no results; the functional model listed the normalizer's divisions with a zero operand, {} of {}\n",
            grouped(zero as u64),
            grouped(count),
        ),
    }
}

fn comparison_text(comparison: &Comparison) -> String {
    let Comparison { buffer, elements, mismatches, first } = comparison;
    match first {
        None => format!("{buffer}: as expected, {}\n", counted(*elements, "element")),
        Some(first) => format!(
            "{buffer}: DIFFERS in {} of {}; the first at {:?}: expected {}, actual {}\n",
            grouped(*mismatches),
            counted(*elements, "element"),
            first.index,
            first.expected,
            first.actual
        ),
    }
}

fn elements(buffer: &Buffer, memory: &Memory) -> Vec<i64> {
    buffer.element.elements(&memory.read_vec(buffer.address, buffer.len() as usize)).collect()
}

/// The buffer's innermost rows, a line each.
fn buffer_text(buffer: &Buffer, memory: &Memory) -> String {
    let elements = elements(buffer, memory);
    let shape: Vec<String> = buffer.shape.iter().map(u64::to_string).collect();
    let mut out = format!("{}: {}[{}]\n", buffer.name, buffer.element.name(), shape.join(", "));
    let width = elements.iter().map(|element| element.to_string().len()).max().unwrap_or(0);
    let row = buffer.shape.last().map_or(1, |extent| *extent as usize).max(1);
    for row in elements.chunks(row) {
        let cells: Vec<String> = row.iter().map(|element| format!("{element:width$}")).collect();
        out.push_str(&format!("  {}\n", cells.join(" ")));
    }
    out
}

fn buffer_json(buffer: &Buffer, memory: &Memory) -> Value {
    json!({ "element": buffer.element.name(), "shape": buffer.shape, "elements": elements(buffer, memory) })
}

fn write_buffer(path: &Path, buffer: &Buffer, memory: &Memory, out: &Output) -> Result<(), Failure> {
    let data = memory.read_vec(buffer.address, buffer.len() as usize);
    let contents = if path.extension().is_some_and(|extension| extension == "npy") {
        npy::write(&npy::Array { element: buffer.element, shape: buffer.shape.clone(), data })
    } else {
        data
    };
    out.write(path, &contents)
}
