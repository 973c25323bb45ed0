//! Every mapping of the space, with the best kept.

use std::ops::ControlFlow;

use super::{Proposal, Search, SearchError};
use crate::problem::Problem;
use crate::space::Mapspace;

/// Mappings that are looked at, at most.
const MOST_MAPPINGS: u64 = 20_000_000;
/// What [`super::Method::Auto`] takes for small.
const FEW_MAPPINGS: u64 = 1_000_000;

/// The proposals of an exhaustive search.
pub(crate) struct All {
    /// The best by the model, best first.
    pub proposals: Vec<Proposal>,
    /// Mappings looked at.
    pub evaluated: u64,
    /// The least bound of all, in cycles.
    pub least_cycles: u64,
    /// The least figure that any mapping left out of the proposals can have; infinite if none that matters was.
    pub left_out: f64,
}

/// Whether a space is small enough to be looked at as a whole without being asked to.
pub fn is_small(space: &Mapspace) -> bool {
    matches!(space.problem(), Problem::Matmul(_)) || {
        let mut mappings = 0;
        let _ = space.for_each(|_| {
            mappings += 1;
            if mappings > FEW_MAPPINGS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        mappings <= FEW_MAPPINGS
    }
}

/// Prices every mapping and keeps the best `keep`. One whose least figure is not below `best` cannot win, and is left out for good.
pub(crate) fn proposals(search: &Search<'_>, best: f64, keep: usize) -> Result<All, SearchError> {
    let mut all = All { proposals: Vec::new(), evaluated: 0, least_cycles: u64::MAX, left_out: f64::INFINITY };
    let flow = search.space.for_each(|mapping| {
        all.evaluated += 1;
        if all.evaluated > MOST_MAPPINGS {
            return ControlFlow::Break(());
        }
        let bound = search.costs.bound(&mapping);
        all.least_cycles = all.least_cycles.min(bound);
        let [_, least] = search.values(&mapping, [bound as f64; 2]);
        if least >= best {
            return ControlFlow::Continue(());
        }
        all.proposals.push(search.propose(mapping));
        if all.proposals.len() >= 2 * keep {
            cut(&mut all, keep);
        }
        ControlFlow::Continue(())
    });
    if flow.is_break() {
        return Err(SearchError::TooLarge { limit: MOST_MAPPINGS });
    }
    cut(&mut all, keep);
    Ok(all)
}

/// Keeps the best, and notes the least figure of the others. The sort is stable: equal ones stay in the space's order.
fn cut(all: &mut All, keep: usize) {
    all.proposals.sort_by(|a, b| a.value.total_cmp(&b.value));
    for proposal in all.proposals.drain(keep.min(all.proposals.len())..) {
        all.left_out = all.left_out.min(proposal.least);
    }
}
