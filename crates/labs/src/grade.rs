//! Grading: a solution runs on data that is made for the occasion.

use std::collections::BTreeMap;

use pollux::asm::{Buffer, ElementType};
use pollux::sim::report::RunReport;
use pollux::{Config, Cycle, MemoryModel, Program};
use pollux_isa::Command;
use pollux_isa::values::DataflowMode;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::lab::{BufferSpec, Lab};
use crate::reference::{Values, product};

/// How a solution was graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is as asked for.
    Accepted,
    /// The text has faults.
    NotAssembled,
    /// It is made for another configuration, or its buffers are not those of the lab.
    OtherTask,
    /// The hardware does not define what it does.
    Illegal,
    /// It uses an instruction, or stalls, as the lab forbids.
    RuleBroken,
    /// It never came to its end.
    DidNotEnd,
    /// The result is wrong.
    WrongResult,
    /// It takes more cycles than the lab allows.
    TooSlow,
}

impl Verdict {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotAssembled => "not_assembled",
            Self::OtherTask => "other_task",
            Self::Illegal => "illegal",
            Self::RuleBroken => "rule_broken",
            Self::DidNotEnd => "did_not_end",
            Self::WrongResult => "wrong_result",
            Self::TooSlow => "too_slow",
        }
    }
}

/// The result of grading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grade {
    /// Number of the lab.
    pub lab: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, with the place, and what to do.
    pub message: String,
    /// Cycles of an accepted solution, the most of all cases: fewer are better.
    pub score: Option<Cycle>,
    /// Cases that were run.
    pub cases: usize,
}

/// Why a solution is not accepted.
type Refused = (Verdict, String);

/// Runs beyond this many times the limit of cycles are stopped.
const PATIENCE: u64 = 20;

/// Grades a solution; `name` is that of its file. Buffers are filled from the seeds, a case for each of them and each memory.
pub fn check(lab: &Lab, name: &str, text: &[u8], seeds: &[u64]) -> Grade {
    let mut cases = 0;
    let (verdict, message, score) = match run_all(lab, name, text, seeds, &mut cases) {
        Ok(cycles) => (Verdict::Accepted, format!("accepted: {cycles} cycles"), Some(cycles)),
        Err((verdict, message)) => (verdict, message, None),
    };
    Grade { lab: lab.number, verdict, message, score, cases }
}

fn run_all(lab: &Lab, name: &str, text: &[u8], seeds: &[u64], cases: &mut usize) -> Result<Cycle, Refused> {
    let reference = Program::from_text(lab.reference).expect("the labs' references are tested");
    let program = Program::from_bytes(name, text.to_vec(), None);
    let program = program.map_err(|error| (Verdict::NotAssembled, error.to_string()))?;
    check_task(lab, &program)?;
    check_instructions(lab, &program)?;
    let mut most = 0;
    for &seed in seeds {
        let expected = expected(lab, &reference, seed)?;
        let program = filled(lab, &program, seed, Some(&expected));
        for (memory, limit) in &lab.limits.memories {
            *cases += 1;
            most = most.max(run(lab, &program, memory, *limit)?);
        }
    }
    Ok(most)
}

/// The solution is one of this lab.
fn check_task(lab: &Lab, program: &Program) -> Result<(), Refused> {
    let other = |message: String| Err((Verdict::OtherTask, message));
    let config = pollux::config(&lab.config).expect("the labs' configurations are tested");
    if *program.config != *config {
        return other(format!("lab {} is for `config {}`, not `{}`", lab.number, lab.config, program.config.name));
    }
    for spec in &lab.buffers {
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

fn check_instructions(lab: &Lab, program: &Program) -> Result<(), Refused> {
    let config: &Config = &program.config;
    for command in program.commands().filter_map(|command| Command::from_rocc(config, *command)) {
        let (Command::ConfigEx(fields), Some(dataflow)) = (command, &lab.limits.dataflow) else { continue };
        let used = if fields.dataflow == DataflowMode::Ws { "ws" } else { "os" };
        if !fields.set_only_strides && used != dataflow {
            return Err((Verdict::RuleBroken, format!("`config_ex dataflow={used}`: this lab is about `{dataflow}`")));
        }
    }
    let mnemonics = program.commands().filter_map(|command| Command::from_rocc(config, *command)).map(|c| c.mnemonic());
    for (number, mnemonic) in mnemonics.enumerate() {
        if lab.limits.forbidden.iter().any(|forbidden| forbidden == mnemonic) {
            let message = format!("command {number} is `{mnemonic}`, which this lab does without");
            return Err((Verdict::RuleBroken, message));
        }
    }
    Ok(())
}

/// The elements of the result of a case.
fn expected(lab: &Lab, reference: &Program, seed: u64) -> Result<Vec<i32>, Refused> {
    let case = filled(lab, reference, seed, None);
    match &lab.expected.product {
        Some(factors) => {
            let contents = case.buffers.iter().map(|buffer| (buffer.name.clone(), buffer.clone())).collect();
            Ok(product(factors, &lab.expected, &Contents(contents)))
        }
        None => {
            let outcome = case.run().functional();
            let tensor = outcome.and_then(|outcome| outcome.tensor(&lab.expected.c));
            let tensor = tensor.map_err(|error| (Verdict::Illegal, format!("the lab's own reference: {error}")))?;
            Ok(tensor.values.iter().map(|value| *value as i32).collect())
        }
    }
}

/// The program with the buffers of a case.
fn filled(lab: &Lab, program: &Program, seed: u64, expected: Option<&[i32]>) -> Program {
    let mut filled = program.clone().into_inner();
    let mut random = SplitMix64::seed_from_u64(seed);
    for spec in &lab.buffers {
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
    let result = filled.buffers.iter_mut().find(|buffer| buffer.name == lab.expected.c);
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
fn run(lab: &Lab, program: &Program, memory: &str, limit: u64) -> Result<Cycle, Refused> {
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
    check_stalls(lab, &report)?;
    let cycles = outcome.cycles();
    if cycles > limit {
        let message = format!("{cycles} cycles behind `--memory {memory}`: at most {limit} are allowed");
        return Err((Verdict::TooSlow, message));
    }
    Ok(cycles)
}

fn check_stalls(lab: &Lab, report: &RunReport) -> Result<(), Refused> {
    for limit in &lab.limits.causes {
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
    match lab.limits.array_busy {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::all;

    /// Any will do: data is made anew for each.
    const SEEDS: [u64; 2] = [1, 0xdead_beef];

    #[test]
    fn every_reference_is_accepted_and_every_wrong_solution_gets_its_verdict() {
        let mut faults = Vec::new();
        for lab in all() {
            assert!(lab.wrong.len() >= 3, "lab {} has {} wrong solutions", lab.number, lab.wrong.len());
            for (verdict, text) in std::iter::once(&("accepted", lab.reference)).chain(lab.wrong) {
                let grade = check(&lab, "solution.pasm", text.as_bytes(), &SEEDS);
                if grade.verdict.name() != *verdict {
                    faults.push(format!("lab {}: {verdict}, but {:?}: {}", lab.number, grade.verdict, grade.message));
                }
                if grade.verdict == Verdict::Accepted {
                    assert_eq!(grade.cases, SEEDS.len() * lab.limits.memories.len());
                    println!("lab {}: {:?} cycles", lab.number, grade.score);
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_starter_assembles_and_is_not_the_solution() {
        for lab in all() {
            let grade = check(&lab, "starter.pasm", lab.starter.as_bytes(), &SEEDS);
            assert!(
                !matches!(grade.verdict, Verdict::Accepted | Verdict::NotAssembled | Verdict::OtherTask),
                "lab {}: {grade:?}",
                lab.number
            );
        }
    }

    #[test]
    fn a_solution_that_knows_one_case_fails_the_others() {
        let lab = crate::lab(1).expect("it is there");
        // The data stands in the program and is written by the host: the grader puts its own in its place.
        let text = format!("{}\nwrite C: i32[1] = [1]\n", lab.reference);
        assert_eq!(check(&lab, "known.pasm", text.as_bytes(), &SEEDS).verdict, Verdict::WrongResult);
    }
}
