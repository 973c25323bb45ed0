//! `pollux debug`

use std::io::{self, IsTerminal};
use std::path::Path;

use pollux_session::script::Line;
use pollux_session::{Options, Session, SessionError};
use serde_json::{Value, json};

use crate::arguments::{PolicyName, SetupArguments, optional_configuration};
use crate::failure::{Failure, Outcome};
use crate::files::InputPath;
use crate::output::Output;
use crate::{execution, program_file, progress, terminal};

const EXAMPLES: &str = "\
Examples:
  pollux debug programs/softmax.pasm
  pollux debug matmul.pbin --break 'spad[0x10] written' --break 'stall load_controller memory for 20'
  pollux debug matmul.pbin --at 1234
  pollux debug matmul.pbin --script steps.txt
  echo 'until completed store
  why store_controller' | pollux debug matmul.pbin --script -

Lines of a script:
  goto CYCLE               go to a cycle, forward or back
  step [N], back [N]       N cycles forward or back; without N one
  end                      go to the end of the run
  until CONDITION          forward to the next cycle in which it holds, or to the end
  reverse-until CONDITION  back to the last one, or to the start
  view [PATH]              everything, or a part: station.load, blocks.3, array.c1, spad[0..16], acc[0], mem[C]
  why SUBJECT              why a block, `command SEQ` or the host is as it is, and until when";

/// Look into a run: stop at any cycle, step forward and back, search, and ask why something waits.
///
/// In a terminal, panes show the program, the commands over time, the blocks, the array register by register, the memories,
/// and explanations; `?` lists the keys. With --script the same commands come from a file, and each result is a line of
/// JSON.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Binary or assembly text (`-`: standard input).
    file: InputPath,
    /// Do what the lines of this file say (`-`: standard input), without a screen.
    #[arg(long, value_name = "FILE")]
    script: Option<InputPath>,
    /// A condition at which `c` and `C` stop; several are possible.
    #[arg(long = "break", value_name = "CONDITION", conflicts_with = "script")]
    breakpoints: Vec<String>,
    /// Begin at this cycle.
    #[arg(long, value_name = "CYCLE", default_value_t = 0)]
    at: u64,
    /// What to do about what the hardware does not define.
    #[arg(long, value_name = "POLICY", default_value = "error")]
    policy: PolicyName,
    /// Configuration of a text that names none, or that a binary must be made for: a name, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    #[command(flatten)]
    setup: SetupArguments,
    /// Memory for snapshots, in MiB. With less, steps back take longer.
    #[arg(long, value_name = "MIB", default_value_t = 432, value_parser = clap::value_parser!(u32).range(8..))]
    snapshots: u32,
}

impl Arguments {
    fn options(&self) -> Options {
        Options { setup: self.setup.setup(), snapshot_bytes: (self.snapshots as usize) << 20 }
    }
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let config = optional_configuration(arguments.config.as_ref())?;
    let program = progress::during(out, "reading", || program_file::load(&arguments.file, config.as_ref()))?;
    let warnings = execution::check(&program, arguments.policy)?;
    let mut session = Session::new(program, arguments.options()).map_err(failure)?;
    session.goto(arguments.at).map_err(|error| Failure::Usage(format!("--at: {error}")))?;
    match &arguments.script {
        Some(script) => {
            warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));
            run_script(&mut session, script, out)
        }
        None if out.is_json() => {
            Err(Failure::Usage("--json has no effect on a terminal: give the commands with --script".to_owned()))
        }
        None if !io::stdout().is_terminal() || !io::stdin().is_terminal() => Err(Failure::Usage(
            "the panes need a terminal, and the standard input or output is none: give the commands with --script"
                .to_owned(),
        )),
        None => {
            let breakpoints = arguments.breakpoints.iter().map(|text| session.condition(text));
            let breakpoints = breakpoints.collect::<Result<_, _>>();
            let breakpoints = breakpoints.map_err(|error| Failure::Usage(format!("--break: {error}")))?;
            terminal::run(session, breakpoints).map_err(|error| Failure::Input(format!("the terminal: {error}")))?;
            Ok(Outcome::Agrees)
        }
    }
}

fn failure(error: SessionError) -> Failure {
    Failure::Input(error.to_string())
}

/// Does what the lines of a file say; a line of JSON for each, or one document of all.
fn run_script(session: &mut Session, path: &Path, out: &Output) -> Result<Outcome, Failure> {
    let text = program_file::read_text(path)?;
    let mut lines = Vec::new();
    // A fault anywhere in the file is told before anything is done.
    for (index, text) in text.lines().enumerate() {
        let place = format!("{}:{}", path.display(), index + 1);
        let line = Line::parse(text).map_err(|error| Failure::Input(format!("{place}: {error}")))?;
        if let Some(Line::Until(condition) | Line::ReverseUntil(condition)) = &line {
            session.condition(condition).map_err(|error| Failure::Input(format!("{place}: {error}")))?;
        }
        lines.extend(line.map(|line| (place, text.trim(), line)));
    }
    if lines.is_empty() {
        return Err(Failure::Input(format!("`{}` has no line that does something: such as `step 10`", path.display())));
    }
    let mut results = Vec::new();
    for (place, text, line) in lines {
        let result = session.execute(&line).map_err(|error| Failure::Input(format!("{place}: {error}")))?;
        let result = with_line(text, result);
        match out.is_json() {
            true => results.push(result),
            false => out.text(&format!("{result}\n"))?,
        }
    }
    out.json(&json!({ "results": results }))?;
    Ok(Outcome::Agrees)
}

/// The result with the line that it is of.
fn with_line(text: &str, result: Value) -> Value {
    match result {
        Value::Object(mut fields) => {
            fields.insert("line".into(), text.into());
            Value::Object(fields)
        }
        other => other,
    }
}
