//! A search that learns: the analytical model times what the emulator has told of mappings nearby proposes, the emulator answers.

use super::evolution::child;
use super::finalists::{Finalists, ROUND};
use super::{Candidate, Proposal, Search, SearchError};
use crate::mapping::Mapping;
use crate::random::Random;
use crate::space::tile_of;

/// Mappings of the pool that proposals come from.
const POOL: usize = 512;

/// Runs until the budget is spent or nothing new is proposed.
pub(crate) fn run(search: &Search<'_>, finalists: &mut Finalists<'_, '_, '_, '_>) -> Result<bool, SearchError> {
    let mut random = Random::new(search.settings.seed);
    let mut left = search.settings.evaluations;
    let draws = (left / 4).min(8 * POOL);
    let mut pool: Vec<Proposal> =
        (0..draws).map_while(|_| search.space.sample_mapping(&mut random)).map(|m| search.propose(m)).collect();
    left = left.saturating_sub(pool.len());
    note(search, finalists, &pool);
    loop {
        let learned = Learned::new(search, finalists.candidates());
        let mut ranked: Vec<(f64, Proposal)> =
            pool.iter().map(|p| (p.value * learned.factor(&p.mapping), *p)).collect();
        ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        ranked.truncate(POOL);
        let mut round = Vec::new();
        for (_, proposal) in &ranked {
            if round.len() < ROUND && proposal.least < finalists.best_value() && finalists.is_new(&proposal.mapping) {
                round.push(proposal.mapping);
            }
        }
        if round.is_empty() || finalists.is_over() {
            return Ok(false);
        }
        finalists.round(&round)?;
        // Children of the best by what is known now.
        let parents: Vec<Mapping> = ranked.iter().take(ROUND).map(|(_, p)| p.mapping).collect();
        let count = left.min(POOL / 2);
        let parent = |random: &mut Random| parents[random.below(parents.len())];
        let children: Vec<Proposal> = (0..count)
            .filter_map(|_| {
                let (one, other) = (parent(&mut random), parent(&mut random));
                child(search, &mut random, &one, &other)
            })
            .map(|mapping| search.propose(mapping))
            .collect();
        left -= count;
        note(search, finalists, &children);
        pool = ranked.into_iter().map(|(_, proposal)| proposal).chain(children).collect();
    }
}

fn note(search: &Search<'_>, finalists: &mut Finalists<'_, '_, '_, '_>, proposals: &[Proposal]) {
    let least = proposals.iter().map(|p| search.costs.bound(&p.mapping)).min().unwrap_or(u64::MAX);
    finalists.evaluated(proposals.len() as u64, least);
}

/// What the emulator has told: by how much the model was wrong, where.
struct Learned {
    known: Vec<(Vec<f64>, f64)>,
}

impl Learned {
    fn new(search: &Search<'_>, candidates: &[Candidate]) -> Self {
        let objective = search.settings.objective;
        let known = candidates.iter().filter_map(|candidate| {
            let result = candidate.result?;
            let value = search.propose(candidate.mapping).value;
            Some((place(&candidate.mapping), (result.value(objective) / value).ln()))
        });
        Self { known: known.collect() }
    }

    /// The factor of the model's figure: the mean over what is known, the nearer the more.
    fn factor(&self, mapping: &Mapping) -> f64 {
        let at = place(mapping);
        let (mut sum, mut weights) = (0.0, 1.0);
        for (known, error) in &self.known {
            let distance: f64 = at.iter().zip(known).map(|(a, b)| (a - b).powi(2)).sum();
            let weight = (-distance).exp();
            sum += weight * error;
            weights += weight;
        }
        (sum / weights).exp()
    }
}

/// Where a mapping is: the logarithms of its sizes, and its form as steps that are far apart.
fn place(mapping: &Mapping) -> Vec<f64> {
    let mut place: Vec<f64> = tile_of(mapping).into_iter().map(|size| (size as f64).ln()).collect();
    let step = |different: bool| if different { 2.0 } else { 0.0 };
    match mapping {
        Mapping::Matmul(s) => {
            place.push(step(s.emission == pollux_kernels::Emission::Commands));
            place.push(step(s.dataflow == pollux_kernels::Dataflow::Os));
            place.push(s.keep as usize as f64);
            place.extend(s.order.map(|axis| axis as usize as f64 / 2.0));
        }
        Mapping::Conv(s) => {
            place.push(step(s.emission == pollux_kernels::Emission::Commands));
            place.push(s.keep as usize as f64);
            place.extend(s.order.map(|axis| axis as usize as f64 / 4.0));
        }
    }
    place
}
