//! Comparing a run with recorded events, streaming: the run is never stored.

use std::collections::VecDeque;

use pollux_sim::observer::{Cycle, Event, Observer};

/// How many events around a difference are kept on either side.
const CONTEXT: usize = 8;

/// The first place where a run and a trace differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// First divergent cycle: the earlier of the expected and the actual event's.
    pub cycle: Cycle,
    /// Position in the trace, counted in events from 0.
    pub index: usize,
    /// Expected events, from a little before the difference on; `None` marks the place where the trace ends.
    pub expected: Vec<(Cycle, Event)>,
    /// Actual events, from a little before the difference on.
    pub actual: Vec<(Cycle, Event)>,
    /// Number of leading entries of both lists that agree.
    pub agreeing: usize,
}

/// An observer that compares events with a recorded trace.
///
/// Detail events are compared only if the trace holds them.
#[derive(Clone, Debug)]
pub struct TraceComparer<'a> {
    expected: &'a [(Cycle, Event)],
    detail: bool,
    next: usize,
    before: VecDeque<(Cycle, Event)>,
    difference: Option<Difference>,
}

impl<'a> TraceComparer<'a> {
    /// A comparer at the start of `expected`.
    pub fn new(expected: &'a [(Cycle, Event)], detail: bool) -> Self {
        Self { expected, detail, next: 0, before: VecDeque::with_capacity(CONTEXT + 1), difference: None }
    }

    /// Events that agreed so far.
    pub fn agreed(&self) -> usize {
        self.next
    }

    /// True when enough events behind the difference are collected.
    pub fn context_complete(&self) -> bool {
        self.difference.as_ref().is_some_and(|d| d.actual.len() >= d.agreeing + CONTEXT)
    }

    /// Ends the comparison at the end of the run: expected events that never came are a difference too.
    pub fn finish(mut self, end: Cycle) -> Option<Difference> {
        if self.difference.is_none() && self.next < self.expected.len() {
            self.diverge(None, end);
        }
        self.difference
    }

    fn diverge(&mut self, actual: Option<(Cycle, Event)>, end: Cycle) {
        let agreeing = self.before.len();
        let start = self.next - agreeing;
        let stop = (self.next + CONTEXT).min(self.expected.len());
        let wanted = self.expected.get(self.next).map(|(cycle, _)| *cycle);
        let got = actual.map_or(end, |(cycle, _)| cycle);
        self.difference = Some(Difference {
            cycle: wanted.map_or(got, |w| w.min(got)),
            index: self.next,
            expected: self.expected[start..stop].to_vec(),
            actual: self.before.iter().copied().chain(actual).collect(),
            agreeing,
        });
    }
}

impl Observer for TraceComparer<'_> {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        if event.is_detail() && !self.detail {
            return;
        }
        if let Some(difference) = &mut self.difference {
            if difference.actual.len() < difference.agreeing + CONTEXT {
                difference.actual.push((cycle, *event));
            }
        } else if self.expected.get(self.next) == Some(&(cycle, *event)) {
            self.next += 1;
            if self.before.len() == CONTEXT {
                self.before.pop_front();
            }
            self.before.push_back((cycle, *event));
        } else {
            self.diverge(Some((cycle, *event)), cycle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: [(Cycle, Event); 3] =
        [(1, Event::Busy { value: true }), (5, Event::MeshA), (9, Event::Busy { value: false })];

    fn compare(run: &[(Cycle, Event)]) -> Option<Difference> {
        let mut comparer = TraceComparer::new(&TRACE, true);
        for (cycle, event) in run {
            comparer.event(*cycle, event);
        }
        comparer.finish(20)
    }

    #[test]
    fn an_equal_run_has_no_difference() {
        assert_eq!(compare(&TRACE), None);
    }

    #[test]
    fn a_late_event_is_reported_at_the_cycle_in_which_it_was_due() {
        let difference = compare(&[TRACE[0], (6, Event::MeshA), TRACE[2]]).unwrap();
        assert_eq!((difference.cycle, difference.index, difference.agreeing), (5, 1, 1));
        assert_eq!(difference.actual[1], (6, Event::MeshA));
    }

    #[test]
    fn a_missing_tail_is_a_difference() {
        let difference = compare(&TRACE[..2]).unwrap();
        assert_eq!((difference.cycle, difference.index), (9, 2));
    }

    #[test]
    fn detail_events_are_skipped_where_the_trace_has_none() {
        let trace = [TRACE[0], TRACE[2]];
        let mut comparer = TraceComparer::new(&trace, false);
        for (cycle, event) in &TRACE {
            comparer.event(*cycle, event);
        }
        assert_eq!(comparer.finish(20), None);
    }
}
