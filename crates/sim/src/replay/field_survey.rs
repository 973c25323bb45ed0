//! Which fields of the canonical form matter: what would become of the states if they were left out.
//!
//! Each state that a run comes to is noted as the hashes of its fields, and each segment with its start, its commands and its outcome.
//! Afterwards every field is left out in turn, and all fields of every type: states that differ in nothing else become one, and if one of
//! them goes on otherwise than another under the same commands, the form cannot do without. States of a machine seldom differ in a
//! single register: what one says, others say, too.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::xxh3_64;

use crate::observation::event::Cycle;
use crate::port::pages::PageStep;
use crate::simulation::Passed;

/// What is known of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldFinding {
    /// States differ in it alone, and go on otherwise: it matters.
    Matters,
    /// States differ in it alone, and all that were seen go on in the same way.
    TellsApart,
    /// No states were seen that differ in it alone: the other fields say what it says.
    Redundant,
}

/// By field, as `Type.field`, and by type.
pub type FieldFindings = BTreeMap<&'static str, FieldFinding>;

/// What was noted.
#[derive(Debug, Default)]
pub(super) struct FieldSurvey {
    /// Numbers of the fields.
    fields: BTreeMap<&'static str, usize>,
    /// By state and field, the hash of the field; 0 where the state has none.
    states: Vec<Vec<u64>>,
    segments: Vec<Noted>,
}

/// A segment, between states by their numbers.
#[derive(Debug)]
pub(super) struct Noted {
    pub start: u32,
    /// Its commands.
    pub path: u128,
    /// The answers of the page registers.
    pub pages: Box<[PageStep]>,
    pub passed: Passed,
    pub marks: Box<[(Cycle, usize)]>,
    /// The state at its end, unless the program ends there.
    pub end: Option<u32>,
}

impl FieldSurvey {
    /// Notes the fields of a state, if it is a new one.
    pub fn state(&mut self, node: u32, fields: impl FnOnce() -> BTreeMap<&'static str, u64>) {
        if node as usize != self.states.len() {
            return;
        }
        let mut hashes = vec![0; self.fields.len()];
        for (field, hash) in fields() {
            let new = self.fields.len();
            let number = *self.fields.entry(field).or_insert(new);
            hashes.resize(hashes.len().max(number + 1), 0);
            hashes[number] = xxh3_64(&[field.as_bytes(), &hash.to_le_bytes()].concat());
        }
        self.states.push(hashes);
    }

    /// Notes a segment.
    pub fn segment(&mut self, segment: Noted) {
        self.segments.push(segment);
    }

    /// What follows.
    pub fn findings(&self) -> FieldFindings {
        let whole: Vec<u64> = self.states.iter().map(|fields| fields.iter().fold(0, |all, hash| all ^ hash)).collect();
        let mut groups: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
        for (&field, &number) in &self.fields {
            groups.entry(field).or_default().push(number);
            if let Some((name, _)) = field.split_once('.') {
                groups.entry(name).or_default().push(number);
            }
        }
        groups.into_iter().map(|(name, fields)| (name, self.finding(&fields, &whole))).collect()
    }

    /// What becomes of states without these fields.
    fn finding(&self, fields: &[usize], whole: &[u64]) -> FieldFinding {
        let of = |node: usize, field: usize| self.states[node].get(field).copied().unwrap_or(0);
        let without = |node: usize| fields.iter().fold(whole[node], |all, &field| all ^ of(node, field));
        let mut classes: HashMap<u64, usize> = HashMap::new();
        (0..whole.len()).for_each(|node| *classes.entry(without(node)).or_default() += 1);
        if classes.len() == whole.len() {
            return FieldFinding::Redundant;
        }
        let mut outcomes = HashMap::new();
        for Noted { start, path, pages, passed, marks, end } in &self.segments {
            let start = without(*start as usize);
            if classes[&start] < 2 {
                continue;
            }
            let outcome = (passed, marks, end.map(|end| without(end as usize)));
            if *outcomes.entry((start, path, format!("{pages:?}"))).or_insert(outcome) != outcome {
                return FieldFinding::Matters;
            }
        }
        FieldFinding::TellsApart
    }
}
