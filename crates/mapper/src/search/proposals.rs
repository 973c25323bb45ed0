//! Mappings drawn at random.

use super::{Proposal, Search};
use crate::random::Random;

/// As many as may be priced, best first.
pub(crate) fn random(search: &Search<'_>) -> Vec<Proposal> {
    let mut random = Random::new(search.settings.seed);
    let mut proposals: Vec<Proposal> = (0..search.settings.evaluations)
        .map_while(|_| search.space.sample_mapping(&mut random))
        .map(|mapping| search.propose(mapping))
        .collect();
    in_order(&mut proposals);
    proposals
}

/// Best first; equal ones stay as they are.
pub(crate) fn in_order(proposals: &mut [Proposal]) {
    proposals.sort_by(|a, b| a.value.total_cmp(&b.value));
}
