//! `--commit-log`: what each command has written, by either model.

use pollux::FunctionalOutcome;
use pollux::functional::FunctionalModel;
use pollux_asm::{Disassembler, Program};
use pollux_isa::Command;
use pollux_trace::commit_log::{CommitLog, CommitObserver};
use pollux_trace::timeline::Describe;

use crate::failure::Failure;
use crate::files::{OutputFile, OutputPath};
use crate::output::Output;

fn begin<'p>(path: &OutputPath, program: &'p Program, out: &Output) -> Result<CommitLog<'p, OutputFile>, Failure> {
    let disassembler = Disassembler::new(program);
    let describe: Describe<'p> = Box::new(move |command| disassembler.command(command));
    Ok(CommitLog::new(out.create(path)?, describe))
}

/// What writes the log of a run of the emulator.
pub type Commits<'p> = CommitObserver<'p, OutputFile>;

/// Begins the log of a run of the emulator.
///
/// # Errors
/// A file that cannot be written.
pub fn observer<'p>(path: &OutputPath, program: &'p Program, out: &Output) -> Result<Commits<'p>, Failure> {
    Ok(CommitObserver::new(begin(path, program, out)?, &program.config))
}

/// Ends it.
///
/// # Errors
/// Those of writing.
pub fn finish(commits: Commits<'_>, path: &OutputPath) -> Result<(), Failure> {
    commits.finish().map_err(Failure::writing(path))?.finish()
}

/// Runs a program that has been checked on the functional model, and writes its log.
///
/// # Errors
/// A program that stops, or a file that cannot be written.
pub fn functional<'p>(
    run: pollux::Run<'p>,
    program: &'p Program,
    path: &OutputPath,
    out: &Output,
) -> Result<FunctionalOutcome<'p>, Failure> {
    let mut log = begin(path, program, out)?;
    // Results of the array belong to the PRELOAD that says where they go.
    let mut preload = 0;
    let outcome = run.functional_by_command(&mut |number, command, writes, model| {
        let decoded = Command::from_rocc(&program.config, *command);
        let mut owner = number;
        match decoded {
            Some(Command::Preload(_)) => preload = number,
            Some(Command::ComputePreloaded(_) | Command::ComputeAccumulated(_)) => owner = preload,
            _ => {}
        }
        log.command(number, *command);
        note(&mut log, owner, writes, model);
    })?;
    log.finish().map_err(Failure::writing(path))?.finish()?;
    Ok(outcome)
}

fn note(log: &mut CommitLog<'_, OutputFile>, owner: u64, writes: &pollux::functional::Writes, model: &FunctionalModel) {
    for &row in &writes.scratchpad {
        log.scratchpad(owner, row, model.scratchpad().row(row as usize));
    }
    for &row in &writes.accumulator {
        log.accumulator(owner, row, model.accumulator().row(row as usize));
    }
    for &(address, bytes) in &writes.memory {
        let mut contents = vec![0; bytes];
        model.memory().read(address, &mut contents);
        log.memory(owner, address, &contents);
    }
}
