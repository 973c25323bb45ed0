//! Programs: a solution runs on data that is made for the occasion.

use std::collections::BTreeMap;

use pollux::asm::{Buffer, ElementType};
use pollux::sim::report::RunReport;
use pollux::{Config, Cycle, MemoryModel, Program};
use pollux_isa::Command;
use pollux_isa::values::DataflowMode;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::grade::{Accepted, Refused, Verdict};
use crate::lab::{BufferSpec, ProgramWork};
use crate::reference::{Values, product};

/// Runs beyond this many times the limit of cycles are stopped.
const PATIENCE: u64 = 20;

/// Runs a solution on the data of every seed, behind every memory; the most cycles.
pub(crate) fn check(
    work: &ProgramWork,
    reference: &str,
    (name, text): (&str, &[u8]),
    seeds: &[u64],
    cases: &mut usize,
) -> Result<Accepted, Refused> {
    let reference = Program::from_text(reference).expect("the labs' references are tested");
    let program = Program::from_bytes(name, text.to_vec(), None);
    let program = program.map_err(|error| (Verdict::NotAssembled, error.to_string()))?;
    check_task(work, &program)?;
    check_instructions(work, &program)?;
    let mut most = 0;
    for &seed in seeds {
        let expected = expected(work, &reference, seed)?;
        let program = filled(work, &program, seed, Some(&expected));
        for (memory, limit) in &work.limits.memories {
            *cases += 1;
            most = most.max(run(work, &program, memory, *limit)?);
        }
    }
    Ok(Accepted { message: format!("{most} cycles"), score: Some(most) })
}

/// The solution is one of this lab.
fn check_task(work: &ProgramWork, program: &Program) -> Result<(), Refused> {
    let other = |message: String| Err((Verdict::OtherTask, message));
    let config = pollux::config(&work.config).expect("the labs' configurations are tested");
    if *program.config != *config {
        return other(format!("this lab is for `config {}`, not `{}`", work.config, program.config.name));
    }
    for spec in &work.buffers {
        let Some(buffer) = program.buffer(&spec.name) else {
            return other(format!("no buffer is called `{0}`: declare `{1}`", spec.name, declaration(spec)));
        };
        if buffer.element.name() != spec.element || buffer.shape != spec.shape {
            return other(format!("the buffer `{}` is another one: declare `{}`", spec.name, declaration(spec)));
        }
    }
    Ok(())
}

fn declaration(spec: &BufferSpec) -> String {
    let shape: Vec<String> = spec.shape.iter().map(u64::to_string).collect();
    format!("buffer {}: {}[{}]", spec.name, spec.element, shape.join(", "))
}

fn check_instructions(work: &ProgramWork, program: &Program) -> Result<(), Refused> {
    let config: &Config = &program.config;
    for command in program.commands().filter_map(|command| Command::from_rocc(config, *command)) {
        let (Command::ConfigEx(fields), Some(dataflow)) = (command, &work.limits.dataflow) else { continue };
        let used = if fields.dataflow == DataflowMode::Ws { "ws" } else { "os" };
        if !fields.set_only_strides && used != dataflow {
            return Err((Verdict::RuleBroken, format!("`config_ex dataflow={used}`: this lab is about `{dataflow}`")));
        }
    }
    let mnemonics = program.commands().filter_map(|command| Command::from_rocc(config, *command)).map(|c| c.mnemonic());
    for (number, mnemonic) in mnemonics.enumerate() {
        if work.limits.forbidden.iter().any(|forbidden| forbidden == mnemonic) {
            let message = format!("command {number} is `{mnemonic}`, which this lab does without");
            return Err((Verdict::RuleBroken, message));
        }
    }
    Ok(())
}

/// The elements of the result of a case.
fn expected(work: &ProgramWork, reference: &Program, seed: u64) -> Result<Vec<i32>, Refused> {
    let case = filled(work, reference, seed, None);
    match &work.expected.product {
        Some(factors) => {
            let contents = case.buffers.iter().map(|buffer| (buffer.name.clone(), buffer.clone())).collect();
            Ok(product(factors, &work.expected, &Contents(contents)))
        }
        None => {
            let outcome = case.run().functional();
            let tensor = outcome.and_then(|outcome| outcome.tensor(&work.expected.c));
            let tensor = tensor.map_err(|error| (Verdict::Illegal, format!("the lab's own reference: {error}")))?;
            Ok(tensor.values.iter().map(|value| *value as i32).collect())
        }
    }
}

/// The program with the buffers of a case.
fn filled(work: &ProgramWork, program: &Program, seed: u64, expected: Option<&[i32]>) -> Program {
    let mut filled = program.clone().into_inner();
    let mut random = SplitMix64::seed_from_u64(seed);
    for spec in &work.buffers {
        let Some(buffer) = filled.buffers.iter_mut().find(|buffer| buffer.name == spec.name) else { continue };
        (buffer.data, buffer.expected) = (None, None);
        if let Some([least, most]) = spec.range {
            let width = i64::from(most) - i64::from(least) + 1;
            let mut data = Vec::new();
            for _ in 0..buffer.shape.iter().product::<u64>() {
                let value = i64::from(least) + (random.next_u64() >> 1).cast_signed() % width;
                buffer.element.append(&mut data, value);
            }
            buffer.data = Some(data);
        }
    }
    let result = filled.buffers.iter_mut().find(|buffer| buffer.name == work.expected.c);
    if let Some((buffer, expected)) = result.zip(expected) {
        let mut data = Vec::new();
        expected.iter().for_each(|value| buffer.element.append(&mut data, (*value).into()));
        buffer.expected = Some(data);
    }
    filled.into()
}

struct Contents(BTreeMap<String, Buffer>);

impl Values for Contents {
    fn shape(&self, name: &str) -> Vec<usize> {
        self.0[name].shape.iter().map(|extent| *extent as usize).collect()
    }

    fn elements(&self, name: &str) -> Vec<i32> {
        let buffer = &self.0[name];
        let zeros = vec![0; buffer.len() as usize];
        let element: ElementType = buffer.element;
        element.elements(buffer.data.as_ref().unwrap_or(&zeros)).map(|value| value as i32).collect()
    }
}

/// Runs a case; its cycles.
fn run(work: &ProgramWork, program: &Program, memory: &str, limit: u64) -> Result<Cycle, Refused> {
    let memory: MemoryModel = memory.parse().expect("the labs' memories are tested");
    let run = program.run().memory(memory).limit(limit.saturating_mul(PATIENCE)).report();
    let (outcome, report) = run.map_err(|error| match error {
        pollux::Error::Stopped(_) => (Verdict::DidNotEnd, error.to_string()),
        error => (Verdict::Illegal, error.to_string()),
    })?;
    let differs = outcome.comparisons().into_iter().find_map(|comparison| {
        let first = comparison.first?;
        let (expected, actual) = (first.expected, first.actual);
        Some(format!("{} is wrong at {:?}: {actual}, where {expected} is right", comparison.buffer, first.index))
    });
    if let Some(message) = differs {
        return Err((Verdict::WrongResult, message));
    }
    check_stalls(work, &report)?;
    let cycles = outcome.cycles();
    if cycles > limit {
        let message = format!("{cycles} cycles behind `--memory {memory}`: at most {limit} are allowed");
        return Err((Verdict::TooSlow, message));
    }
    Ok(cycles)
}

fn check_stalls(work: &ProgramWork, report: &RunReport) -> Result<(), Refused> {
    for limit in &work.limits.causes {
        let block = report.blocks.iter().find(|block| block.block.name() == limit.block);
        let stalled = block.and_then(|block| block.causes.iter().find(|cause| cause.cause.name() == limit.cause));
        let cycles = stalled.map_or(0, |cause| cause.cycles);
        if cycles > limit.cycles {
            let message = format!(
                "{} waits {cycles} cycles for {}: at most {} are allowed; `pollux debug` shows where",
                limit.block, limit.cause, limit.cycles
            );
            return Err((Verdict::RuleBroken, message));
        }
    }
    let busy = report.mesh.row_cycles as f64 / report.totals.busy_falls.max(1) as f64;
    match work.limits.array_busy {
        Some(least) if busy < least => {
            let message = format!(
                "a row enters the array in {:.0} % of the cycles: {:.0} % are asked for",
                100.0 * busy,
                100.0 * least
            );
            Err((Verdict::RuleBroken, message))
        }
        _ => Ok(()),
    }
}
