//! Mutation and selection.

use std::collections::HashSet;

use super::proposals::in_order;
use super::{Proposal, Search};
use crate::mapping::Mapping;
use crate::random::Random;
use crate::space::{tile_of, with_tile};

/// Mappings of a generation that live on.
const PARENTS: usize = 48;
/// Children of a generation.
const CHILDREN: usize = 192;
/// Of them drawn anew.
const DRAWN: usize = 16;

/// All that were priced, best first.
pub(crate) fn proposals(search: &Search<'_>, gemmini: &Mapping) -> Vec<Proposal> {
    let mut random = Random::new(search.settings.seed);
    let mut seen: HashSet<Mapping> = HashSet::new();
    let mut all: Vec<Proposal> = Vec::new();
    let mut parents: Vec<Proposal> = Vec::new();
    let mut children: Vec<Mapping> = Vec::new();
    if gemmini.check(search.space.config(), search.space.problem()).is_ok() {
        children.push(*gemmini);
    }
    let first = CHILDREN.min(search.settings.evaluations);
    children.extend((0..first).map_while(|_| search.space.sample_mapping(&mut random)));
    let mut idle = 0;
    while all.len() < search.settings.evaluations && idle < 8 {
        let before = all.len();
        for child in children.drain(..) {
            let child = search.space.canonical(&child);
            if seen.insert(child) {
                let proposal = search.propose(child);
                all.push(proposal);
                parents.push(proposal);
            }
        }
        idle = if all.len() == before { idle + 1 } else { 0 };
        in_order(&mut parents);
        parents.truncate(PARENTS);
        if parents.is_empty() {
            break;
        }
        for _ in 0..CHILDREN - DRAWN {
            let parent = parents[random.below(parents.len())].mapping;
            let other = parents[random.below(parents.len())].mapping;
            children.extend(child(search, &mut random, &parent, &other));
        }
        children.extend((0..DRAWN).filter_map(|_| search.space.sample_mapping(&mut random)));
    }
    in_order(&mut all);
    all
}

/// A legal mapping near a parent, with something of another one.
pub(crate) fn child(search: &Search<'_>, random: &mut Random, parent: &Mapping, other: &Mapping) -> Option<Mapping> {
    let mut tile = tile_of(parent);
    let mut form = *parent;
    let others = tile_of(other);
    for (axis, size) in tile.iter_mut().enumerate() {
        if random.below(8) == 0 {
            *size = others[axis];
        }
    }
    // One to three sizes change: to a neighbour, to about half or twice, or to any.
    for _ in 0..1 + random.below(3) {
        let axis = random.below(tile.len());
        let sizes = &search.space.sizes()[axis];
        let at = sizes.partition_point(|size| *size < tile[axis]).min(sizes.len() - 1);
        let to = match random.below(5) {
            0 => at.saturating_sub(1),
            1 => at + 1,
            2 => at / 2,
            3 => 2 * at + 1,
            _ => random.below(sizes.len()),
        };
        tile[axis] = sizes[to.min(sizes.len() - 1)];
    }
    if random.below(3) == 0 {
        form = search.space.forms()[random.below(search.space.forms().len())];
    }
    let child = with_tile(&form, &tile);
    child.check(search.space.config(), search.space.problem()).is_ok().then_some(child)
}
