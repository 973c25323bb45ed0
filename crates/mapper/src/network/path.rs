//! The cheapest way through the operations: dynamic programming over prefixes of the network.
//!
//! Costs add up along the way, so the best way to a point is the best way to an earlier one and a choice between. Energy times cycles of
//! the whole is no sum: for it all ways to a point are kept of which none is better in both.

use std::ops::Range;

use super::choices::{Choice, Families, Stage};
use super::measure::{Extra, Measured};
use crate::search::Objective;

/// Ways to a point that are kept at most; of more, every second one goes, the ends never.
const MOST_WAYS: usize = 256;

/// Stages with one choice; `None` is the default.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Covered {
    pub first: usize,
    pub len: usize,
    pub choice: Option<Choice>,
}

impl Covered {
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.len
    }

    /// The same, or each of the stages by default.
    pub fn reverted(self, back: bool) -> Vec<Self> {
        if !back {
            return vec![self];
        }
        self.range().map(|first| Self { first, len: 1, choice: None }).collect()
    }
}

/// A way to a point: what it costs more than the default, the point and the way that it comes from, and the choice between.
#[derive(Clone, Debug)]
struct Way {
    extra: Extra,
    from: Option<(usize, usize)>,
    choice: Option<Choice>,
}

/// The choices of the cheapest way through all stages, in their order.
pub(super) fn cheapest(
    stages: &[Stage],
    families: &Families,
    default: &Measured,
    objective: Objective,
) -> Vec<Covered> {
    let mut points: Vec<Vec<Way>> = vec![Vec::new(); stages.len() + 1];
    points[0].push(Way { extra: Extra::default(), from: None, choice: None });
    for point in 0..stages.len() {
        let mut ways = std::mem::take(&mut points[point]);
        keep_best(&mut ways, objective);
        let mut go = |len: usize, more: Extra, choice: Option<&Choice>| {
            for (index, way) in ways.iter().enumerate() {
                let Extra { cycles, energy_pj, bytes } = way.extra;
                let extra = Extra {
                    cycles: cycles + more.cycles,
                    energy_pj: energy_pj + more.energy_pj,
                    bytes: bytes + more.bytes,
                };
                points[point + len].push(Way { extra, from: Some((point, index)), choice: choice.cloned() });
            }
        };
        go(1, Extra::default(), None);
        for family in families.0.iter().filter(|family| family.members.contains(&point)) {
            for candidate in &family.candidates {
                if let Some(extra) = candidate.extra {
                    go(family.len, extra, Some(&candidate.choice));
                }
            }
        }
        points[point] = ways;
    }
    let total = default.total();
    let figure = |way: &Way| match objective {
        Objective::Edp => (total.cycles as f64 + way.extra.cycles) * (total.energy_pj + way.extra.energy_pj),
        _ => scalar(&way.extra, objective),
    };
    let last = stages.len();
    // Of equal ones the first, which has fewest choices.
    let best = (0..points[last].len())
        .reduce(|best, way| if figure(&points[last][way]) < figure(&points[last][best]) { way } else { best });
    let mut chosen = Vec::new();
    let mut at = (last, best.unwrap_or(0));
    while let Some(way) = points[at.0].get(at.1)
        && let Some(from) = way.from
    {
        chosen.push(Covered { first: from.0, len: at.0 - from.0, choice: way.choice.clone() });
        at = from;
    }
    chosen.reverse();
    chosen
}

fn scalar(extra: &Extra, objective: Objective) -> f64 {
    match objective {
        Objective::Cycles => extra.cycles,
        Objective::Energy => extra.energy_pj,
        Objective::Bytes => extra.bytes,
        Objective::Edp => f64::NAN,
    }
}

/// Leaves the best way, or those of which none is better in cycles and energy. The sorts are stable: of equal ways the first stays.
fn keep_best(ways: &mut Vec<Way>, objective: Objective) {
    if objective != Objective::Edp {
        ways.sort_by(|a, b| scalar(&a.extra, objective).total_cmp(&scalar(&b.extra, objective)));
        ways.truncate(1);
        return;
    }
    ways.sort_by(|a, b| {
        a.extra.cycles.total_cmp(&b.extra.cycles).then(a.extra.energy_pj.total_cmp(&b.extra.energy_pj))
    });
    let mut least = f64::INFINITY;
    ways.retain(|way| {
        let better = way.extra.energy_pj < least;
        least = least.min(way.extra.energy_pj);
        better
    });
    while ways.len() > MOST_WAYS {
        let last = ways.len() - 1;
        let mut index = 0;
        ways.retain(|_| {
            index += 1;
            (index - 1) % 2 == 0 || index - 1 == last
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::choices::Family;
    use super::*;
    use crate::random::Random;

    fn way(cycles: f64, energy_pj: f64) -> Way {
        Way { extra: Extra { cycles, energy_pj, bytes: 0.0 }, from: None, choice: None }
    }

    #[test]
    fn ways_that_are_worse_in_both_go() {
        let mut ways = vec![way(3.0, 1.0), way(1.0, 4.0), way(2.0, 4.0), way(2.0, 2.0), way(4.0, 1.0)];
        keep_best(&mut ways, Objective::Edp);
        let kept: Vec<_> = ways.iter().map(|way| (way.extra.cycles, way.extra.energy_pj)).collect();
        assert_eq!(kept, [(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)]);
        keep_best(&mut ways, Objective::Energy);
        assert_eq!((ways.len(), ways[0].extra.cycles), (1, 3.0));
    }

    /// The least figure of all ways through, each tried.
    fn tried(families: &Families, stages: usize, at: usize, so_far: Extra, figure: &dyn Fn(&Extra) -> f64) -> f64 {
        if at == stages {
            return figure(&so_far);
        }
        let mut least = tried(families, stages, at + 1, so_far, figure);
        for family in families.0.iter().filter(|family| family.members.contains(&at)) {
            for extra in family.candidates.iter().filter_map(|candidate| candidate.extra) {
                let sum = Extra {
                    cycles: so_far.cycles + extra.cycles,
                    energy_pj: so_far.energy_pj + extra.energy_pj,
                    bytes: so_far.bytes + extra.bytes,
                };
                least = least.min(tried(families, stages, at + family.len, sum, figure));
            }
        }
        least
    }

    #[test]
    fn the_cheapest_way_is_that_of_all_ways() {
        let mut random = Random::new(3);
        let stages: Vec<Stage> = (0..6).map(|number| Stage::named(&format!("stage{number}"))).collect();
        let default = Measured::even(&stages, 100, 50.0);
        for _ in 0..40 {
            let mut families = Families::default();
            for (first, len) in [(0, 1), (1, 1), (2, 1), (4, 1), (1, 2), (1, 3), (2, 2), (3, 3)] {
                let mut extra = || Extra {
                    cycles: random.below(60) as f64 - 30.0,
                    energy_pj: random.below(60) as f64 - 30.0,
                    bytes: random.below(60) as f64 - 30.0,
                };
                let extras = [extra(), extra()];
                families.0.push(Family::measured(first, len, &extras));
            }
            for objective in [Objective::Cycles, Objective::Energy, Objective::Bytes, Objective::Edp] {
                let figure = |extra: &Extra| match objective {
                    Objective::Edp => (600.0 + extra.cycles) * (300.0 + extra.energy_pj),
                    _ => scalar(extra, objective),
                };
                let chosen = cheapest(&stages, &families, &default, objective);
                assert_eq!(chosen.iter().flat_map(Covered::range).collect::<Vec<_>>(), (0..6).collect::<Vec<_>>());
                let mut sum = Extra::default();
                for covered in chosen.iter().filter(|covered| covered.choice.is_some()) {
                    let of = |family: &&Family| family.members == [covered.first] && family.len == covered.len;
                    let family = families.0.iter().find(of).unwrap();
                    let candidate = family.candidates.iter().find(|c| Some(&c.choice) == covered.choice.as_ref());
                    let extra = candidate.unwrap().extra.unwrap();
                    sum.cycles += extra.cycles;
                    sum.energy_pj += extra.energy_pj;
                    sum.bytes += extra.bytes;
                }
                let least = tried(&families, 6, 0, Extra::default(), &figure);
                assert_eq!(figure(&sum), least, "{objective}");
            }
        }
    }

    #[test]
    fn many_ways_are_thinned_but_for_the_ends() {
        let mut ways: Vec<Way> = (0..1000).map(|i| way(f64::from(i), f64::from(1000 - i))).collect();
        keep_best(&mut ways, Objective::Edp);
        assert!(
            ways.len() <= MOST_WAYS + 1 && ways[0].extra.cycles == 0.0 && ways.last().unwrap().extra.cycles == 999.0
        );
    }
}
