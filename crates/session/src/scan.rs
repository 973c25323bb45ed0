//! Looking at cycles as they pass: hits of a condition, and what each block did.

use pollux_sim::observer::{Activity, Cycle, Event, Links, Span};
use pollux_sim::report::{Block, Spent};
use pollux_trace::timeline::{Life, Lives};

use crate::condition::{Condition, matches_stall};
use crate::engine::Watch;

/// Which hits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The first one in or after this cycle.
    From(Cycle),
    /// The last one before this cycle.
    Before(Cycle),
}

/// Finds hits of a condition.
pub(crate) struct Search<'c> {
    condition: &'c Condition,
    side: Side,
    pub found: Option<Cycle>,
    /// For how long each block has been in its state.
    runs: [Run; Block::ALL.len()],
}

/// A stretch of cycles in which a block is in the same state.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    spent: Spent,
    cycles: u64,
}

impl<'c> Search<'c> {
    pub fn new(condition: &'c Condition, side: Side) -> Self {
        Self { condition, side, found: None, runs: Default::default() }
    }

    fn hit(&mut self, cycle: Cycle) {
        match self.side {
            Side::From(first) if cycle >= first => self.found = self.found.or(Some(cycle)),
            Side::Before(end) if cycle < end => self.found = self.found.max(Some(cycle)),
            _ => {}
        }
    }

    /// Adds the cycles that the condition names outright, among those that were looked at.
    pub fn hit_named(&mut self, from: Cycle, end: Cycle) {
        let condition = self.condition;
        let mut named: Vec<Cycle> = condition.cycles().filter(|cycle| (from..end).contains(cycle)).collect();
        named.extend(self.found);
        let named = named.into_iter();
        self.found = match self.side {
            Side::From(first) => named.filter(|cycle| *cycle >= first).min(),
            Side::Before(end) => named.filter(|cycle| *cycle < end).max(),
        };
    }
}

impl Watch for Search<'_> {
    fn event(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        if self.condition.matches_event(event, links) {
            self.hit(cycle);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        for (block, spent) in Block::ALL.into_iter().zip(activity.blocks) {
            let run = &mut self.runs[block as usize];
            if run.spent != spent {
                *run = Run { spent, cycles: 0 };
            }
            let before = run.cycles;
            run.cycles += span.cycles;
            let after = run.cycles;
            let condition = self.condition;
            for wanted in condition.any.iter().filter_map(|wanted| matches_stall(wanted, block, spent)) {
                if before < wanted && wanted <= after {
                    self.hit(span.first + (wanted - before - 1));
                }
            }
        }
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        if self.condition.matches_mark(mark) {
            self.hit(cycle);
        }
    }
}

/// What the blocks did in the last cycles, and the events of the last one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    /// Oldest first.
    pub spans: Vec<(Span, Activity)>,
    pub events: Vec<(Cycle, Event)>,
}

impl Watch for Recent {
    fn event(&mut self, cycle: Cycle, event: &Event, _: &Links) {
        if self.events.first().is_some_and(|(of, _)| *of != cycle) {
            self.events.clear();
        }
        self.events.push((cycle, *event));
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.spans.push((span, *activity));
    }
}

/// Follows one block until it changes its state.
pub(crate) struct BlockChange {
    pub block: Block,
    pub from: Spent,
    /// The first cycle in another state, and that state.
    pub change: Option<(Cycle, Spent)>,
    /// The last cycle in another state before the last one looked at.
    pub last_other: Option<Cycle>,
}

impl Watch for BlockChange {
    fn event(&mut self, _: Cycle, _: &Event, _: &Links) {}

    fn cycles(&mut self, span: Span, activity: &Activity) {
        let spent = activity.of(self.block);
        if spent != self.from {
            self.change = self.change.or(Some((span.first, spent)));
            self.last_other = Some(span.first + span.cycles - 1);
        }
    }
}

/// Follows one command: when it entered the station, went to its controller, was complete.
#[derive(Default)]
pub(crate) struct CommandSteps {
    pub seq: u64,
    pub allocated: Option<Cycle>,
    pub issued: Option<Cycle>,
    pub completed: Option<Cycle>,
}

impl Watch for CommandSteps {
    fn event(&mut self, cycle: Cycle, event: &Event, _: &Links) {
        match *event {
            Event::Alloc { seq, .. } if seq == self.seq => self.allocated = Some(cycle),
            Event::Issue { seq, .. } if seq == self.seq => self.issued = Some(cycle),
            Event::Complete { seq, .. } if seq == self.seq => self.completed = Some(cycle),
            _ => {}
        }
    }
}

/// The lives of commands.
#[derive(Default)]
pub(crate) struct RecentLives {
    lives: Lives,
    completed: Vec<Life>,
}

impl RecentLives {
    /// Those that were in the station in this cycle or later, oldest first.
    pub fn since(self, cycle: Cycle) -> Vec<Life> {
        let open = self.lives.open().cloned();
        let mut lives: Vec<Life> = self.completed.into_iter().chain(open).collect();
        lives.retain(|life| life.completed.is_none_or(|completed| completed >= cycle));
        lives.sort_by_key(|life| life.seq);
        lives
    }
}

impl Watch for RecentLives {
    fn event(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        self.completed.extend(self.lives.event(cycle, event, links));
    }
}
