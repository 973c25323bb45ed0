//! `pollux spike`

use std::ops::Range;
use std::path::{Path, PathBuf};

use pollux_isa::ValidConfig;
use pollux_riscv::{DEFAULT_RAM, Machine, Misaligned, Setup, Stop};
use serde_json::json;

use crate::arguments::{configuration, optional_configuration};
use crate::elf;
use crate::elf::run::{Observers, document, run, warnings};
use crate::elf::spike_log::{Form, SpikeLog};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  pollux spike --extension=gemmini prog.elf
  pollux spike --extension=gemmini -m256 -l --log=prog.log prog.elf +verbose
  pollux spike --extension=gemmini --params=gemmini_params.h prog.elf";

/// Run an ELF file with the command line of riscv-isa-sim (spike).
///
/// Nothing but what the program prints goes to the standard output, and the exit code is the program's. Understood are
/// --extension=gemmini, --extlib=FILE (not loaded: Gemmini is built in), --isa=RV64..., --priv=m, -pN (one core), -mMIB or
/// -mBASE:SIZE, -l, --log=FILE, --log-commits, --pc=ADDRESS, --instructions=COUNT and --misaligned, and as additions
/// --config=NAME|FILE and --params=FILE for Gemmini's configuration. Words behind the program, and those that begin with
/// `+`, are its arguments.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Spike's options, the program, and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "WORD")]
    words: Vec<String>,
}

/// What Spike's words mean.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    program: Option<PathBuf>,
    arguments: Vec<String>,
    config: Option<String>,
    ram: Option<Range<u64>>,
    log: bool,
    commits: bool,
    log_file: Option<PathBuf>,
    pc: Option<u64>,
    instructions: Option<u64>,
    misaligned: bool,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let options = parse(&arguments.words).map_err(Failure::Usage)?;
    let path =
        options.program.as_deref().ok_or_else(|| Failure::Usage("which program? give an ELF file".to_owned()))?;
    let elf = elf::open(path)?.ok_or_else(|| no_elf(path))?;
    let config = optional_configuration(options.config.as_ref())?;
    let mut machine = machine(&options, path, config, &elf)?;
    let form = Form { text: options.log, commits: options.commits };
    let log = (form.text || form.commits).then(|| SpikeLog::new(options.log_file.as_deref(), form, out));
    let mut observers = Observers { log: log.transpose()?, profile: None };
    // As there, nothing ends a program unless it is asked for.
    let limit = options.instructions.unwrap_or(u64::MAX);
    let run = run(&mut machine, limit, &mut observers, out)?;
    let warnings = warnings(&machine, &run.stop);
    warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));
    let mut document = document(&machine, &run, &observers, &warnings);
    document.insert("program".to_owned(), json!(path));
    if let Some(log) = observers.log {
        log.finish()?;
    }
    match run.stop {
        Stop::Exit(code) => {
            out.json(&document)?;
            // What a process can pass on.
            Ok(Outcome::Code(code as u8))
        }
        stop => {
            let message = format!("`{}`: {}", path.display(), machine.describe(&stop));
            Err(Failure::Stopped { message, so_far: document })
        }
    }
}

fn no_elf(path: &Path) -> Failure {
    match std::fs::metadata(path) {
        Err(error) => Failure::reading(path)(error),
        Ok(_) => Failure::Input(format!("`{}` is not an ELF file", path.display())),
    }
}

fn machine(
    options: &Options,
    path: &Path,
    config: Option<ValidConfig>,
    elf: &pollux_riscv::Elf,
) -> Result<Machine, Failure> {
    let mut setup = Setup::new(config.map_or_else(|| configuration("default16"), Ok)?);
    setup.ram = options.ram.clone().unwrap_or(DEFAULT_RAM);
    setup.misaligned = if options.misaligned { Misaligned::Allow } else { Misaligned::Trap };
    setup.arguments = std::iter::once(path.display().to_string()).chain(options.arguments.clone()).collect();
    let machine = Machine::new(setup, elf);
    let mut machine = machine.map_err(|error| Failure::Input(format!("`{}`: {error}", path.display())))?;
    if let Some(pc) = options.pc {
        machine.hart.pc = pc;
    }
    Ok(machine)
}

fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    for word in words {
        if options.program.is_some() || word.starts_with('+') {
            options.arguments.push(word.clone());
        } else if word.starts_with('-') {
            options.flag(word)?;
        } else if matches!(Path::new(word).file_name().and_then(|name| name.to_str()), Some("pk" | "bbl")) {
            return Err(format!("`{word}`: programs for the proxy kernel are not supported: link for bare metal"));
        } else {
            options.program = Some(PathBuf::from(word));
        }
    }
    if options.log_file.is_some() && !(options.log || options.commits) {
        return Err("--log has no effect without -l or --log-commits".to_owned());
    }
    Ok(options)
}

impl Options {
    fn flag(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let needed =
            || value.filter(|value| !value.is_empty()).ok_or(format!("`{word}`: the value behind `=` is missing"));
        match name {
            "--extension" if needed()? == "gemmini" => {}
            "--extension" => return Err(format!("`{word}`: the only extension is gemmini")),
            "--extlib" => drop(needed()?),
            "--isa" => check_isa(needed()?)?,
            "--priv" if needed()?.starts_with('m') => {}
            "-l" => self.log = true,
            "--log-commits" => self.commits = true,
            "--log" => self.log_file = Some(needed()?.into()),
            "--pc" => self.pc = Some(number(word, needed()?)?),
            "--instructions" => self.instructions = Some(number(word, needed()?)?),
            "--misaligned" => self.misaligned = true,
            "--config" | "--params" => self.config = Some(needed()?.to_owned()),
            "-p1" => {}
            _ if word.starts_with("-m") => self.ram = Some(memory(word)?),
            _ if word.starts_with("-p") => return Err(format!("`{word}`: there is one core")),
            _ => return Err(format!("`{word}` is not an option that is understood: see `pollux spike --help`")),
        }
        Ok(())
    }
}

fn number(word: &str, text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x");
    let parsed = digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    parsed.map_err(|error| format!("`{word}`: {error}"))
}

/// `-m256` (MiB) or `-m0x80000000:0x10000000`.
fn memory(word: &str) -> Result<Range<u64>, String> {
    let text = &word["-m".len()..];
    let (base, bytes) = match text.split_once(':') {
        Some((base, bytes)) => (number(word, base)?, number(word, bytes)?),
        None => (DEFAULT_RAM.start, number(word, text)?.checked_mul(1 << 20).unwrap_or(0)),
    };
    match base.checked_add(bytes) {
        Some(end) if bytes > 0 => Ok(base..end),
        _ => Err(format!("`{word}`: give a size in MiB, or BASE:SIZE in bytes, that fits the address space")),
    }
}

/// The core is RV64IMAFDC; programs for less run on it too.
fn check_isa(isa: &str) -> Result<(), String> {
    let lower = isa.to_ascii_lowercase();
    let letters = lower.strip_prefix("rv64").and_then(|rest| rest.split('_').next());
    match letters {
        Some(letters) if letters.chars().all(|letter| "gimafdcx".contains(letter)) => Ok(()),
        _ => Err(format!("--isa={isa}: the core is RV64IMAFDC")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_usual_words_are_understood() {
        let options = parsed("--extension=gemmini --isa=rv64gc -m256 -l +verbose a.elf x +y").expect("understood");
        assert_eq!(options.program, Some("a.elf".into()));
        assert_eq!(options.arguments, ["+verbose", "x", "+y"]);
        assert_eq!(options.ram, Some(0x8000_0000..0x9000_0000));
        assert!(options.log);
        assert_eq!(parsed("-m0x1000:4096 a").expect("understood").ram, Some(0x1000..0x2000));
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        for line in
            ["--extension=hwacha a", "-p4 a", "--isa=rv32i a", "-d a", "-m0 a", "-mx a", "--log=x a", "pk a", "--pc= a"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
