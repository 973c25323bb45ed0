//! [`CountingObserver`]: collects the counts of a run's events.

use pollux_isa::StreamItem;

use crate::observation::counts::EventCounts;
use crate::observation::event::{Cycle, Event};
use crate::observation::observer::{CountedOperation, Observer};

/// Collects the counts of a run, by operation.
#[derive(Clone, Debug, Default)]
pub struct CountingObserver {
    operations: Vec<CountedOperation>,
}

impl CountingObserver {
    /// Counts of the whole run.
    pub fn total(&self) -> EventCounts {
        self.operations.iter().fold(EventCounts::default(), |sum, operation| sum + operation.counts)
    }

    /// Counts of the operations, in their order.
    pub fn operations(&self) -> &[CountedOperation] {
        &self.operations
    }
}

impl Observer for CountingObserver {
    fn wants_events(&self) -> bool {
        false
    }

    fn wants_counts(&self) -> bool {
        true
    }

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn counted(&mut self, operation: &CountedOperation) {
        match self.operations.last_mut() {
            // A run that was stopped and goes on tells of an operation in parts.
            Some(last) if last.mark == operation.mark => {
                last.cycles += operation.cycles;
                last.counts += operation.counts;
            }
            _ => self.operations.push(*operation),
        }
    }
}

/// Names of a program's marks, in order: those that [`CountedOperation::mark`] counts.
pub fn mark_names(items: &[StreamItem]) -> Vec<String> {
    let mark = |item: &StreamItem| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None };
    items.iter().filter_map(mark).collect()
}

#[cfg(test)]
mod tests;
