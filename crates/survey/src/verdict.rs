//! What is made of the paper's number and of a measured one. Nobody types a verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::paper::{Claim, Rule};
use crate::setting::Form;

/// The outcome. The order is that from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The same, within what the rule allows.
    Reproduced,
    /// Another number, in the same direction.
    SignReproduced,
    /// Another number.
    Refuted,
    /// Nothing here can say, or this run did not measure it.
    NotTestable,
}

impl Outcome {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::SignReproduced => "sign reproduced",
            Self::Refuted => "refuted",
            Self::NotTestable => "not testable",
        }
    }
}

/// A statement with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which statement.
    pub id: String,
    /// Section, figure or table.
    pub section: String,
    /// What it says.
    pub says: String,
    /// The paper's numbers.
    pub paper: Vec<f64>,
    /// The measured ones; none if they were not measured.
    pub measured: Vec<f64>,
    /// Unit of both.
    pub unit: String,
    /// Outcome: the worst of the single numbers.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

/// What a study measured, by the name of the statement.
pub type Measurements = BTreeMap<String, Vec<f64>>;

/// Compares a statement with what was measured in a form of its study.
pub fn judge(claim: &Claim, measured: &Measurements, form: Form) -> Verdict {
    let numbers = measured.get(&claim.id).cloned().unwrap_or_default();
    let (outcome, mut why) = match form {
        Form::Reduced if !claim.any_size && claim.rule != Rule::Untestable => {
            (Outcome::NotTestable, "the reduced form has other sizes than the paper".to_owned())
        }
        _ => compare(claim, &numbers),
    };
    if !claim.note.is_empty() && claim.rule != Rule::Untestable {
        why = format!("{why}; {}", claim.note);
    }
    Verdict {
        id: claim.id.clone(),
        section: claim.section.clone(),
        says: claim.says.clone(),
        paper: claim.values.clone(),
        measured: numbers,
        unit: claim.unit.clone(),
        outcome,
        why,
    }
}

fn compare(claim: &Claim, measured: &[f64]) -> (Outcome, String) {
    if claim.rule == Rule::Untestable {
        return (Outcome::NotTestable, claim.note.clone());
    }
    if measured.len() != claim.values.len() {
        let why = match measured.len() {
            0 => "this form of the study does not measure it".to_owned(),
            n => format!("{n} numbers were measured, the paper's are {}", claim.values.len()),
        };
        return (Outcome::NotTestable, why);
    }
    let pairs = || claim.values.iter().copied().zip(measured.iter().copied());
    let outcome = pairs().map(|(paper, own)| outcome(claim, paper, own)).max().unwrap_or(Outcome::NotTestable);
    let same = pairs().filter(|&(paper, own)| self::outcome(claim, paper, own) == Outcome::Reproduced).count();
    let allowed = allowance(claim);
    let why = match (measured.len(), outcome) {
        (1, Outcome::Reproduced) => allowed,
        (1, _) => format!("not {allowed}"),
        (n, Outcome::Reproduced) => format!("all {n} {allowed}"),
        (n, _) => format!("{same} of {n} {allowed}"),
    };
    (outcome, why)
}

/// What the rule allows, in words.
fn allowance(claim: &Claim) -> String {
    let (within, unit) = (claim.within, &claim.unit);
    match claim.rule {
        Rule::Near => format!("within {} %", short(100.0 * within)),
        Rule::Factor => format!("within a factor of {}", short(within)),
        Rule::Points if unit == "%" => format!("within {} points", short(within)),
        Rule::Points => format!("within {} {unit}", short(within)).trim_end().to_owned(),
        Rule::AtLeast => format!("at least {}", limits(claim, -1.0)),
        Rule::AtMost => format!("at most {}", limits(claim, 1.0)),
        Rule::Untestable => String::new(),
    }
}

fn limits(claim: &Claim, sign: f64) -> String {
    let limits: Vec<String> = claim.values.iter().map(|value| short(value + sign * claim.within)).collect();
    format!("{} {}", limits.join(", "), claim.unit).trim_end().to_owned()
}

fn outcome(claim: &Claim, paper: f64, own: f64) -> Outcome {
    let same = match claim.rule {
        Rule::Near => (own - paper).abs() <= claim.within * paper.abs(),
        Rule::Factor => own > 0.0 && (own / paper).max(paper / own) <= claim.within,
        Rule::Points => (own - paper).abs() <= claim.within,
        Rule::AtLeast => own >= paper - claim.within,
        Rule::AtMost => own <= paper + claim.within,
        Rule::Untestable => return Outcome::NotTestable,
    };
    let same_sign = claim.neutral.is_some_and(|neutral| (own - neutral) * (paper - neutral) > 0.0);
    match (same, same_sign) {
        // What is near and on the other side of nothing has another sign.
        (true, _) if claim.neutral.is_none() || same_sign => Outcome::Reproduced,
        (_, true) => Outcome::SignReproduced,
        _ => Outcome::Refuted,
    }
}

/// A number with as many digits as people want to read.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        m if m != 0.0 && !(1e-3..1e7).contains(&m) => return format!("{value:.2e}"),
        m if m >= 1000.0 => format!("{value:.0}"),
        m if m >= 100.0 => format!("{value:.1}"),
        m if m >= 1.0 || m == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(rule: Rule, value: f64, within: f64, neutral: Option<f64>) -> Claim {
        Claim {
            id: "a.b".into(),
            section: "1".into(),
            says: "s".into(),
            values: vec![value],
            unit: "x".into(),
            rule,
            within,
            any_size: false,
            neutral,
            note: String::new(),
        }
    }

    fn of(claim: &Claim, measured: f64) -> Outcome {
        judge(claim, &[("a.b".to_owned(), vec![measured])].into(), Form::Full).outcome
    }

    #[test]
    fn each_rule_has_its_limit() {
        let near = claim(Rule::Near, 100.0, 0.01, None);
        assert_eq!(
            [99.0, 101.0, 98.9].map(|x| of(&near, x)),
            [Outcome::Reproduced, Outcome::Reproduced, Outcome::Refuted]
        );
        let factor = claim(Rule::Factor, 40.0, 2.0, Some(1.0));
        assert_eq!(
            [20.0, 80.0, 90.0, 0.9].map(|x| of(&factor, x)),
            [Outcome::Reproduced, Outcome::Reproduced, Outcome::SignReproduced, Outcome::Refuted]
        );
        let points = claim(Rule::Points, -4.0, 6.0, Some(0.0));
        assert_eq!(
            [-10.0, -20.0, 1.0].map(|x| of(&points, x)),
            [Outcome::Reproduced, Outcome::SignReproduced, Outcome::Refuted],
            "a gain is no loss, however near"
        );
        let least = claim(Rule::AtLeast, 4.0, 1.0, None);
        assert_eq!([3.0, 2.9].map(|x| of(&least, x)), [Outcome::Reproduced, Outcome::Refuted]);
        let most = claim(Rule::AtMost, 4.0, 1.0, None);
        assert_eq!([5.0, 5.1].map(|x| of(&most, x)), [Outcome::Reproduced, Outcome::Refuted]);
    }

    #[test]
    fn what_is_not_measured_is_not_judged() {
        let near = claim(Rule::Near, 1.0, 0.1, None);
        let verdict = judge(&near, &Measurements::new(), Form::Full);
        assert_eq!(
            (verdict.outcome, verdict.why.as_str()),
            (Outcome::NotTestable, "this form of the study does not measure it")
        );
    }

    #[test]
    fn the_reduced_form_says_nothing_of_sizes_that_it_does_not_have() {
        let measured: Measurements = [("a.b".to_owned(), vec![1.0])].into();
        let mut near = claim(Rule::Near, 1.0, 0.1, None);
        let verdict = judge(&near, &measured, Form::Reduced);
        assert_eq!((verdict.outcome, &verdict.measured[..]), (Outcome::NotTestable, &[1.0][..]));
        near.any_size = true;
        assert_eq!(judge(&near, &measured, Form::Reduced).outcome, Outcome::Reproduced);
    }

    #[test]
    fn several_numbers_are_as_good_as_the_worst() {
        let mut several = claim(Rule::Near, 1.0, 0.1, None);
        several.values = vec![1.0, 2.0];
        let verdict = judge(&several, &[("a.b".to_owned(), vec![1.0, 3.0])].into(), Form::Full);
        assert_eq!((verdict.outcome, verdict.why.as_str()), (Outcome::Refuted, "1 of 2 within 10 %"));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.123_45, 1.0, 39.6, 2.24, 1234.5, 1.5e-5, -36.0].map(short);
        assert_eq!(shown, ["0", "0.123", "1", "39.6", "2.24", "1234", "1.50e-5", "-36"]);
    }
}
