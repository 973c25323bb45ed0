//! Running a program for the core on the functional model.

use std::path::Path;

use pollux_functional::{Diagnostic, Policy};
use pollux_isa::ValidConfig;
use pollux_riscv::{DEFAULT_RAM, Elf, Machine, Misaligned, Stop};
use serde_json::{Map, Value, json};

use crate::arguments::{PolicyName, configuration};
use crate::elf::arguments::{DEFAULT_LIMIT, ElfArguments, ram};
use crate::elf::profile::Profile;
use crate::elf::spike_log::{Form, SpikeLog};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, counted};
use crate::progress;

/// Instructions between two looks at the console.
const SLICE: u64 = 1 << 22;
/// The same if each instruction is looked at.
const OBSERVED_SLICE: u64 = 1 << 16;

/// Warnings of the accelerator's model that are shown.
const SHOWN_WARNINGS: usize = 20;

/// Exit code of the usual start code for an exception.
pub const EXCEPTION: u64 = 1337;

/// What `pollux run` says about a run.
pub struct Setup<'a> {
    /// Gemmini's configuration; otherwise the default one.
    pub config: Option<ValidConfig>,
    /// What to do about commands that the hardware does not define.
    pub policy: PolicyName,
    /// The other options.
    pub options: &'a ElfArguments,
}

/// What the model makes of undefined commands.
pub fn policy(name: PolicyName) -> Policy {
    match name {
        PolicyName::Error => Policy::default(),
        other => Policy::all(other.action()),
    }
}

impl Setup<'_> {
    /// The machine at the program's first instruction.
    ///
    /// # Errors
    /// The program does not fit the memory.
    pub fn machine(&self, elf: &Elf, path: &Path) -> Result<Machine, Failure> {
        let config = self.config.clone().map_or_else(|| configuration("default16"), Ok)?;
        let mut setup = pollux_riscv::Setup::new(config);
        setup.policy = policy(self.policy);
        setup.ram = self.options.ram.map_or(DEFAULT_RAM, ram);
        setup.misaligned = if self.options.misaligned { Misaligned::Allow } else { Misaligned::Trap };
        setup.arguments = std::iter::once(path.display().to_string()).chain(self.options.arguments.clone()).collect();
        Machine::new(setup, elf).map_err(|error| Failure::Input(format!("`{}`: {error}", path.display())))
    }
}

/// `pollux run` of an ELF file.
///
/// # Errors
/// The program does not end, or not well; a file cannot be written.
pub fn execute(elf: &Elf, path: &Path, setup: &Setup<'_>, out: &Output) -> Result<Outcome, Failure> {
    let mut machine = setup.machine(elf, path)?;
    note_without_host(elf, out);
    let log_path = setup.options.spike_log.as_deref();
    let form = Form { text: false, commits: true };
    let mut observers = Observers {
        profile: setup.options.symbols.then(|| Profile::new(machine.symbols())),
        log: log_path.map(|path| SpikeLog::new(Some(path), form, out)).transpose()?,
    };
    let limit = setup.options.instructions.unwrap_or(DEFAULT_LIMIT);
    let run = run(&mut machine, limit, &mut observers, out)?;
    let warnings = warnings(&machine, &run.stop);
    warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));
    let mut document = document(&machine, &run, &observers, &warnings);
    document.insert("program".to_owned(), json!(path));
    if let Some(log) = observers.log {
        log.finish()?;
    }
    if let Some(profile) = &observers.profile {
        out.text(&profile.text())?;
    }
    let Stop::Exit(code) = run.stop else {
        let message = format!("`{}`: {}", path.display(), machine.describe(&run.stop));
        return Err(Failure::Stopped { message, so_far: document });
    };
    out.json(&document)?;
    out.note(&summary(&machine, code));
    Ok(Outcome::of(code == 0))
}

/// Warns of a program without a host.
pub fn note_without_host(elf: &Elf, out: &Output) {
    if elf.host.is_none() {
        out.note("warning: the program has no symbol `tohost`: it can neither print nor end");
    }
}

/// The last line for people, beside what the program printed.
fn summary(machine: &Machine, code: u64) -> String {
    let commands = machine.board.gemmini().counts().host_commands;
    format!("exit code {code}, {}, {}", counted(machine.instructions(), "instruction"), counted(commands, "command"))
}

/// What looks at each instruction.
#[derive(Default)]
pub struct Observers {
    /// Counts by function.
    pub profile: Option<Profile>,
    /// The log.
    pub log: Option<SpikeLog>,
}

impl Observers {
    fn are_any(&self) -> bool {
        self.profile.is_some() || self.log.is_some()
    }
}

/// What a run has come to.
pub struct ElfRun {
    /// Why it stands still.
    pub stop: Stop,
    /// What it printed, if it was not shown.
    pub console: Vec<u8>,
}

/// Runs a machine to its end, or for so many instructions. Its console is shown as it comes, or kept for JSON.
///
/// # Errors
/// The console or a file cannot be written.
pub fn run(machine: &mut Machine, limit: u64, observers: &mut Observers, out: &Output) -> Result<ElfRun, Failure> {
    let mut console = Vec::new();
    let mut left = limit;
    let spinner = progress::spinner(out, "core");
    let stop = loop {
        let slice = left.min(if observers.are_any() { OBSERVED_SLICE } else { SLICE });
        let stop = if observers.are_any() { observe(machine, slice, observers)? } else { machine.run(slice) };
        left -= slice;
        show(machine, &mut console, out, &spinner)?;
        spinner.set_message(counted(machine.instructions(), "instruction"));
        if stop != Stop::Limit || left == 0 {
            break stop;
        }
    };
    spinner.finish_and_clear();
    Ok(ElfRun { stop, console })
}

fn observe(machine: &mut Machine, instructions: u64, observers: &mut Observers) -> Result<Stop, Failure> {
    for _ in 0..instructions {
        let (retired, stop) = machine.step();
        if let Some(retired) = retired {
            if let Some(profile) = &mut observers.profile {
                profile.add(&retired);
            }
            if let Some(log) = &mut observers.log {
                log.add(&retired, machine.symbols())?;
            }
        }
        if let Some(stop) = stop {
            return Ok(stop);
        }
    }
    Ok(Stop::Limit)
}

fn show(
    machine: &mut Machine,
    console: &mut Vec<u8>,
    out: &Output,
    spinner: &indicatif::ProgressBar,
) -> Result<(), Failure> {
    let new = machine.board.htif.take_console();
    if out.is_json() {
        console.extend(new);
    } else if !new.is_empty() {
        spinner.suspend(|| out.bytes(&new))?;
    }
    Ok(())
}

/// The first of so many warnings, for people.
pub fn shown(kept: &[Diagnostic], count: u64) -> Vec<String> {
    let mut lines: Vec<String> = kept.iter().take(SHOWN_WARNINGS).map(ToString::to_string).collect();
    let more = count - lines.len() as u64;
    if more > 0 {
        lines.push(format!("and {more} more like these"));
    }
    lines
}

/// Warnings of a run, for people.
pub fn warnings(machine: &Machine, stop: &Stop) -> Vec<String> {
    let gemmini = machine.board.gemmini();
    let mut lines = shown(gemmini.warnings(), gemmini.warning_count());
    lines.extend(machine.size_hint());
    if let (Stop::Exit(EXCEPTION), (_, Some(trap))) = (stop, machine.traps()) {
        lines.push(format!("the program's trap handler ended it, for: {}", machine.trap_text(&trap)));
    }
    lines
}

/// The document of a run, without what the caller knows.
pub fn document(machine: &Machine, run: &ElfRun, observers: &Observers, warnings: &[String]) -> Map<String, Value> {
    let counts = machine.board.gemmini().counts();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("model", json!("functional"));
    put("config", json!(machine.board.gemmini().config().name));
    if let Stop::Exit(code) = run.stop {
        put("exit_code", json!(code));
    }
    put("stdout", json!(String::from_utf8_lossy(&run.console)));
    put("instructions", json!(machine.instructions()));
    put("commands", json!(counts.host_commands));
    put("macs", json!(counts.macs));
    put("bytes_in", json!(counts.bytes_in));
    put("bytes_out", json!(counts.bytes_out));
    put("traps", json!(machine.traps().0));
    put("warnings", json!(warnings));
    if let Some(profile) = &observers.profile {
        put("symbols", json!(profile.functions()));
    }
    fields
}
