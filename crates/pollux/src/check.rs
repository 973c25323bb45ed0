//! What a program does that the hardware does not define, before it runs.

use pollux_asm::{Disassembler, Program};
use pollux_functional::{Action, Diagnostic, Place, Policy, check_accesses};
use pollux_isa::RoccCommand;
use pollux_isa::legality::{Illegality, check_program};

use crate::Error;

/// Findings that are shown; more are counted.
const SHOWN: usize = 20;

/// Checks a program before it runs, in the same way for both models: its commands, and what they and the processor do to
/// main memory. The findings, if `action` makes them warnings, a line each.
///
/// # Errors
/// [`Error::Illegal`]: illegal commands, or else accesses to undeclared memory, if `action` makes them errors.
pub fn check(program: &Program, action: Action) -> Result<Vec<String>, Error> {
    let mut warnings = check_commands(program, action)?;
    let disassembler = Disassembler::new(program);
    let found = check_accesses(&program.config, &program.owned(), &program.items, accesses(action));
    let found = found.map_err(|error| Error::Illegal(vec![show(&error.0, &disassembler)]))?;
    let shown = found.kept.iter().map(|diagnostic| show(diagnostic, &disassembler));
    warnings.extend(first_of(shown, found.count));
    Ok(warnings)
}

fn check_commands(program: &Program, action: Action) -> Result<Vec<String>, Error> {
    if action == Action::Ignore {
        return Ok(Vec::new());
    }
    let disassembler = Disassembler::new(program);
    let commands: Vec<_> = program.commands().collect();
    let line = |(number, illegality): (usize, Illegality)| {
        let text = command_text(commands[number], &disassembler);
        format!("command {number} (`{text}`): {illegality} (the hardware: {})", illegality.effect())
    };
    let found = check_program(&program.config, &program.items);
    let refused = action == Action::Error && any_illegal(&found);
    let count = found.len() as u64;
    let found = first_of(found.into_iter().map(line), count);
    if refused {
        return Err(Error::Illegal(found));
    }
    let configuration = program.config.warnings().into_iter().map(|warning| format!("configuration: {warning}"));
    Ok(found.into_iter().chain(configuration).collect())
}

/// Whether one of the findings is more than a warning: what only depends on the time is defined, and comes to its end.
fn any_illegal(found: &[(usize, Illegality)]) -> bool {
    found.iter().any(|(_, illegality)| !illegality.depends_on_time())
}

/// Whether the hardware may never come to the end of the program, as one of its commands is illegal.
pub(crate) fn may_be_endless(program: &Program) -> bool {
    any_illegal(&check_program(&program.config, &program.items))
}

/// What to do about accesses to main memory, whichever model runs the program.
fn accesses(action: Action) -> Policy {
    match action {
        Action::Error => Policy::default(),
        Action::Warn | Action::Ignore => Policy::all(action),
    }
}

/// The functional model's policy for what [`check`] has not found already.
pub(crate) fn unchecked(action: Action) -> Policy {
    let checked = Action::Ignore;
    Policy { illegal: checked, out_of_range: checked, unmapped_dram: checked, ..accesses(action) }
}

/// The first few of so many lines, and how many more there are.
pub(crate) fn first_of(lines: impl Iterator<Item = String>, count: u64) -> Vec<String> {
    let mut shown: Vec<String> = lines.take(SHOWN).collect();
    if count > shown.len() as u64 {
        shown.push(format!("and {} more", count - shown.len() as u64));
    }
    shown
}

pub(crate) fn show(diagnostic: &Diagnostic, disassembler: &Disassembler<'_>) -> String {
    let Diagnostic { place: Place { index, command, step }, issue } = diagnostic;
    let step = step.map(|(step, mnemonic)| format!(", step {step} of the loop ({mnemonic})")).unwrap_or_default();
    format!("command {index} (`{}`){step}: {issue}", command_text(command, disassembler))
}

/// A command as a line of assembly. The remark behind a raw one is left out: the message says the same.
fn command_text(command: &RoccCommand, disassembler: &Disassembler<'_>) -> String {
    let text = disassembler.command(*command);
    text.split(" #").next().unwrap_or_default().trim().to_owned()
}
