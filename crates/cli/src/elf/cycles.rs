//! Running a program for the core on the whole system, cycle by cycle.

use std::path::Path;

use pollux_isa::ValidConfig;
use pollux_riscv::{DEFAULT_RAM, Elf, trap_text};
use pollux_sim::memory::{MemoryModel, OuterMemory};
use pollux_sim::uncore::hierarchy::L2Parameters;
use pollux_soc::{Ending, Soc, SocSetup};
use serde_json::{Map, Value, json};

use crate::arguments::{PolicyName, configuration};
use crate::elf::arguments::{ElfArguments, ram};
use crate::elf::profile::Profile;
use crate::elf::run::{EXCEPTION, note_without_host, policy, shown};
use crate::failure::{Failure, Outcome};
use crate::options::Given;
use crate::output::{Output, counted, grouped};
use crate::progress;

/// Cycles after which a run is stopped unless told otherwise.
const DEFAULT_LIMIT: u64 = 10_000_000_000;

/// Cycles between two looks at the console.
const SLICE: u64 = 1 << 18;

/// Options of `pollux run --cycles` that mean nothing on the whole system, and why.
const USELESS: &[(&[&str], &str)] = &[
    (&["no_values"], "a program that checks its results needs them"),
    (&["interval", "processor"], "the core is there, and sends each command when it comes to it"),
    (&["page_walk"], "the core runs on physical addresses"),
    (
        &["trace", "commands", "report", "energy"],
        "they are for command streams: `pollux import` makes one of the program",
    ),
    (
        &["no_replay", "check_replay", "replay_table_size", "replay_tables"],
        "nothing is replayed, as the core computes values",
    ),
    (&["instructions"], "--limit counts cycles"),
    (&["spike_log"], "it is the same without --cycles"),
    (&["misaligned"], "Rocket traps at misaligned loads and stores"),
];

/// What `pollux run --cycles` says about a run.
pub struct Setup<'a> {
    /// Gemmini's configuration; otherwise the default one.
    pub config: Option<ValidConfig>,
    /// What to do about commands that the hardware does not define.
    pub policy: PolicyName,
    /// L2 and memory.
    pub memory: L2Parameters,
    /// Cycles after which the run is stopped.
    pub limit: Option<u64>,
    /// The other options.
    pub options: &'a ElfArguments,
}

/// The memory side of the system: `--memory l2`, with its parameters, is what there is.
///
/// # Errors
/// An option that has no effect, or another memory.
pub fn memory(given: &Given, memory: MemoryModel) -> Result<L2Parameters, Failure> {
    USELESS.iter().try_for_each(|(options, reason)| given.refuse(options, reason))?;
    match memory {
        MemoryModel::L2(parameters) => Ok(parameters),
        _ if !given.has("memory") => Ok(L2Parameters::default()),
        other => Err(Failure::Usage(format!(
            "--memory {other}: between core, Gemmini and memory there is an L2: choose `l2`, with its parameters"
        ))),
    }
}

impl Setup<'_> {
    fn system(&self, elf: &Elf, path: &Path) -> Result<Soc<OuterMemory>, Failure> {
        let named = |what: String| Failure::Input(format!("`{}`: {what}", path.display()));
        let config = self.config.clone().map_or_else(|| configuration("default16"), Ok)?;
        if let Some(reason) = self.memory.refuses(&config) {
            return Err(Failure::Input(reason));
        }
        let ram = self.options.ram.map_or(DEFAULT_RAM, ram);
        let mut setup = SocSetup::new(config, ram, self.memory.cache);
        setup.warm = self.memory.warm != 0;
        setup.policy = policy(self.policy);
        setup.arguments = std::iter::once(path.display().to_string()).chain(self.options.arguments.clone()).collect();
        Soc::new(setup, elf, 0, |bytes| self.memory.memory(bytes)).map_err(|error| named(error.to_string()))
    }
}

/// `pollux run --cycles` of an ELF file.
///
/// # Errors
/// The program does not end, or not well.
pub fn execute(elf: &Elf, path: &Path, setup: &Setup<'_>, out: &Output) -> Result<Outcome, Failure> {
    let mut soc = setup.system(elf, path)?;
    note_without_host(elf, out);
    let mut profile = setup.options.symbols.then(|| Profile::with_cycles(elf.symbols()));
    let mut console = Vec::new();
    let ending = run(&mut soc, setup.limit.unwrap_or(DEFAULT_LIMIT), profile.as_mut(), &mut console, out)?;
    let warnings = warnings(&soc, &ending);
    warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));
    let mut document = document(&soc, &ending, &console, &warnings);
    document.insert("program".to_owned(), json!(path));
    document.insert("memory".to_owned(), json!(MemoryModel::L2(setup.memory)));
    if let Some(profile) = &profile {
        document.insert("symbols".to_owned(), json!(profile.functions()));
        out.text(&profile.text())?;
    }
    let Ending::Exit(code) = ending else {
        let message = format!("`{}`: {}", path.display(), soc.describe(&ending));
        return Err(Failure::Stopped { message, so_far: document });
    };
    out.json(&document)?;
    out.note(&summary(&soc, code));
    Ok(Outcome::of(code == 0))
}

/// Runs the system to the program's end, or to the limit. Its console is shown as it comes, or kept for JSON.
fn run(
    soc: &mut Soc<OuterMemory>,
    limit: u64,
    mut profile: Option<&mut Profile>,
    console: &mut Vec<u8>,
    out: &Output,
) -> Result<Ending, Failure> {
    let progress = progress::Cycles::new(out, 0);
    let ending = loop {
        let next = soc.cycle().saturating_add(SLICE).min(limit);
        let ending = match &mut profile {
            None => soc.run(next),
            Some(profile) => soc.run_watched(next, &mut |retired| profile.add_at(&retired)),
        };
        let new = std::mem::take(&mut soc.observations.console);
        if out.is_json() {
            console.extend(new);
        } else if !new.is_empty() {
            progress.suspend(|| out.bytes(&new))?;
        }
        progress.at(soc.cycle(), None);
        if ending != Ending::Limit || soc.cycle() >= limit {
            break ending;
        }
    };
    progress.finish();
    Ok(ending)
}

/// The last line for people, beside what the program printed.
fn summary(soc: &Soc<OuterMemory>, code: u64) -> String {
    let counters = &soc.core().counters;
    format!(
        "exit code {code}, {} (Gemmini busy in {}), {}, {}",
        counted(soc.program_cycles(), "cycle"),
        grouped(soc.observations.busy_cycles),
        counted(counters.instret, "instruction"),
        counted(counters.commands, "command"),
    )
}

fn warnings(soc: &Soc<OuterMemory>, ending: &Ending) -> Vec<String> {
    let (kept, count) = soc.warnings();
    let mut lines = shown(kept, count);
    lines.extend(soc.size_hint());
    if let (Ending::Exit(EXCEPTION), Some(trap)) = (ending, soc.core().last_trap()) {
        lines.push(format!("the program's trap handler ended it, for: {}", trap_text(&trap, soc.symbols())));
    }
    let broken = soc.gemmini().violations();
    lines.extend(broken.iter().map(|violated| format!("the RTL asserts otherwise: {violated}")));
    lines
}

/// The document of a run, without what the caller knows.
fn document(soc: &Soc<OuterMemory>, ending: &Ending, console: &[u8], warnings: &[String]) -> Map<String, Value> {
    let counters = &soc.core().counters;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("model", json!("cycles"));
    put("config", json!(soc.config().name));
    if let Ending::Exit(code) = ending {
        put("exit_code", json!(code));
    }
    put("stdout", json!(String::from_utf8_lossy(console)));
    put("cycles", json!(soc.program_cycles()));
    put("simulated_cycles", json!(soc.cycle()));
    put("instructions", json!(counters.instret));
    put("gemmini_busy_cycles", json!(soc.observations.busy_cycles));
    put("commands", json!(counters.commands));
    put("commands_refused_cycles", json!(counters.rocc_blocked));
    put("fence_cycles", json!(counters.fence_wait));
    put("icache_misses", json!(counters.icache_misses));
    put("dcache_misses", json!(counters.dcache_acquires));
    put("mispredicts", json!(counters.mispredicts));
    let traffic = soc.gemmini().machine().traffic();
    put("bytes_in", json!(traffic.read_bytes));
    put("bytes_out", json!(traffic.written_bytes));
    put("traps", json!(counters.traps));
    put("warnings", json!(warnings));
    fields
}
