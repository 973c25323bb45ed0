//! Grading: what is handed in, the verdict, and why.

use pollux::Cycle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lab::{Lab, Work};
use crate::{design, fault, program};

/// How a solution was graded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is as asked for.
    Accepted,
    /// The text has faults.
    NotAssembled,
    /// The answer is no TOML, or lacks what it must have.
    NotRead,
    /// It is made for another configuration, other buffers, layers, or another seed than those of the lab.
    OtherTask,
    /// The hardware does not define what it does.
    Illegal,
    /// It uses an instruction, stalls, or builds something, as the lab forbids.
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
            Self::NotRead => "not_read",
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
    /// Cycles of an accepted solution, the most of all cases, or the geometric mean over layers: fewer are better.
    pub score: Option<Cycle>,
    /// Cases that were run.
    pub cases: usize,
    /// The seed that they are made from: the same again give the same.
    pub seed: u64,
}

/// Why a solution is not accepted.
pub(crate) type Refused = (Verdict, String);

/// What is said of a solution that is.
pub(crate) struct Accepted {
    pub message: String,
    pub score: Option<Cycle>,
}

/// Where cases come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// Asked for, to see the same again.
    Given(u64),
    /// Made for this grading.
    New(u64),
}

impl Seed {
    /// The number.
    pub fn number(self) -> u64 {
        let (Self::Given(seed) | Self::New(seed)) = self;
        seed
    }
}

/// Grades a solution; `name` is that of its file. A program runs on data of `cases` seeds from the given one on, behind each memory; what
/// else there is has one case.
pub fn check(lab: &Lab, name: &str, text: &[u8], seed: Seed, cases: usize) -> Grade {
    let (mut run, mut first) = (0, seed.number());
    let solution = (name, text);
    let result = match &lab.work {
        Work::Program(work) => {
            let seeds: Vec<u64> = (0..cases as u64).map(|case| first.wrapping_add(case)).collect();
            program::check(work, lab.reference, solution, &seeds, &mut run)
        }
        Work::Fault(work) => fault::check(work, lab.head, solution, seed, (&mut run, &mut first)),
        Work::Design(work) => design::check(work, solution, first, &mut run),
    };
    let (verdict, message, score) = match result {
        Ok(Accepted { message, score }) => (Verdict::Accepted, format!("accepted: {message}"), score),
        Err((verdict, message)) => (verdict, message, None),
    };
    Grade { lab: lab.number, verdict, message, score, cases: run, seed: first }
}

/// Reads an answer in TOML.
pub(crate) fn read<T: DeserializeOwned>((name, text): (&str, &[u8])) -> Result<T, Refused> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = 1 + text[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        (Verdict::NotRead, format!("{name}:{line}: this is not text: hand in an answer in TOML"))
    })?;
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        (Verdict::NotRead, format!("{name}:{line}: {}", error.message().trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::all;

    /// Any will do: data is made anew for each.
    const SEED: u64 = 0xdead_beef;
    const CASES: usize = 2;

    #[test]
    fn every_reference_is_accepted_and_every_wrong_solution_gets_its_verdict() {
        let mut faults = Vec::new();
        for lab in all() {
            assert!(lab.wrong.len() >= 3, "lab {} has {} wrong solutions", lab.number, lab.wrong.len());
            for (name, text) in std::iter::once(&("accepted", lab.reference)).chain(lab.wrong) {
                let verdict = name.split('-').next().expect("a name");
                let grade = check(&lab, "solution", text.as_bytes(), Seed::New(SEED), CASES);
                if grade.verdict.name() != verdict {
                    faults.push(format!("lab {}: {name}, but {:?}: {}", lab.number, grade.verdict, grade.message));
                }
                if grade.verdict == Verdict::Accepted {
                    let cases = match &lab.work {
                        Work::Program(work) => CASES * work.limits.memories.len(),
                        Work::Fault(_) => 1,
                        Work::Design(work) => work.layers.len() + 1,
                    };
                    assert_eq!(grade.cases, cases, "lab {}", lab.number);
                    println!("lab {}: {:?} cycles", lab.number, grade.score);
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn a_starter_can_be_handed_in_and_is_not_the_solution() {
        // The starter of a fault is not what is handed in.
        for lab in all().into_iter().filter(|lab| !lab.starter_has_seed()) {
            let grade = check(&lab, "starter", lab.starter(SEED).as_bytes(), Seed::New(SEED), CASES);
            assert!(
                !matches!(
                    grade.verdict,
                    Verdict::Accepted | Verdict::NotAssembled | Verdict::NotRead | Verdict::OtherTask
                ),
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
        assert_eq!(check(&lab, "known.pasm", text.as_bytes(), Seed::New(SEED), CASES).verdict, Verdict::WrongResult);
    }
}
