//! The search: evolution on perplexity and cost, of which only what is Pareto-optimal stays.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::recipe::{Objective, Random, Recipe, Search, Shape};

/// What a network costs on the accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Cycles.
    pub cycles: u64,
    /// Energy in mJ.
    pub millijoules: f64,
}

impl Cost {
    /// What is minimised.
    pub fn of(&self, objective: Objective) -> f64 {
        match objective {
            Objective::Edp => self.cycles as f64 * self.millijoules,
            Objective::Cycles => self.cycles as f64,
            Objective::Energy => self.millijoules,
        }
    }
}

/// What each layer of a space costs (TOML, as the example `layer_costs` of `pollux-survey` writes it).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostTable {
    layers: Vec<LayerCost>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerCost {
    width: usize,
    heads: usize,
    ffn: usize,
    cycles: u64,
    millijoules: f64,
}

impl CostTable {
    /// Reads a table.
    ///
    /// # Errors
    /// A file that is none.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        toml::from_str(&text).map_err(TrainError::file(path))
    }

    /// The cost of a network: its layers', added up.
    ///
    /// # Errors
    /// A layer that is not in the table.
    pub fn of(&self, shape: &Shape) -> Result<Cost, TrainError> {
        let mut sum = Cost { cycles: 0, millijoules: 0.0 };
        for (&heads, &ffn) in shape.heads.iter().zip(&shape.ffn) {
            let like = |layer: &&LayerCost| (layer.width, layer.heads, layer.ffn) == (shape.width, heads, ffn);
            let missing = || {
                let width = shape.width;
                TrainError::Costs(format!(
                    "no layer of width {width}, {heads} heads, inner width {ffn}: make the table again from this recipe"
                ))
            };
            let layer = self.layers.iter().find(like).ok_or_else(missing)?;
            sum.cycles += layer.cycles;
            sum.millijoules += layer.millijoules;
        }
        Ok(sum)
    }
}

/// A network that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The network.
    pub shape: Shape,
    /// Loss on the validation text with the supernet's weights, nats a token.
    pub loss: f64,
    /// Its cost.
    pub cost: Cost,
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Its seed.
    pub seed: u64,
    /// Networks that were judged, each counted once.
    pub judged: usize,
    /// The Pareto front, cheapest first.
    pub front: Vec<Judged>,
}

/// Searches the space; `judge` gives a network's loss and cost.
///
/// # Errors
/// Those of `judge`.
pub fn search(
    recipe: &Recipe,
    seed: u64,
    judge: &mut impl FnMut(&Shape) -> Result<(f64, Cost), TrainError>,
    watch: &mut impl FnMut(),
) -> Result<Found, TrainError> {
    let Search { population, rounds, mutation, objective, .. } = recipe.search;
    let mut random = Random::new(recipe.seed, seed);
    let mut known: BTreeMap<Shape, Judged> = BTreeMap::new();
    let (largest, smallest) = (recipe.space.largest(), recipe.space.smallest());
    let mut networks = vec![largest, smallest];
    networks.extend((2..population).map(|_| recipe.space.draw(&mut random)));
    let mut best = Vec::new();
    for _ in 0..rounds {
        for shape in &networks {
            if !known.contains_key(shape) {
                let (loss, cost) = judge(shape)?;
                known.insert(shape.clone(), Judged { shape: shape.clone(), loss, cost });
            }
            watch();
        }
        best = front(known.values(), objective);
        networks = best.iter().map(|judged| judged.shape.clone()).collect();
        // As the paper: what is Pareto-optimal stays, the rest are its children.
        let parents = networks.clone();
        for n in parents.len()..population.max(parents.len() + population / 2) {
            networks.push(recipe.space.mutate(&parents[n % parents.len()], mutation, &mut random));
        }
    }
    Ok(Found { seed, judged: known.len(), front: best })
}

/// Those than which none is better in both, cheapest first.
pub fn front<'a>(judged: impl IntoIterator<Item = &'a Judged>, objective: Objective) -> Vec<Judged> {
    let mut all: Vec<&Judged> = judged.into_iter().collect();
    let key = |judged: &Judged| (judged.cost.of(objective), judged.loss);
    all.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    let mut least = f64::INFINITY;
    all.retain(|judged| {
        judged.loss < least && {
            least = judged.loss;
            true
        }
    });
    all.into_iter().cloned().collect()
}

/// Kendall's tau-a of pairs.
pub fn kendall(pairs: &[(f64, f64)]) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for (n, a) in pairs.iter().enumerate() {
        for b in &pairs[..n] {
            let product = (a.0 - b.0) * (a.1 - b.1);
            sum += if product > 0.0 {
                1.0
            } else if product < 0.0 {
                -1.0
            } else {
                0.0
            };
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests_recipe;

    #[test]
    fn a_networks_cost_is_that_of_its_layers() {
        let entry = |ffn: usize, cycles: u64| {
            format!("[[layers]]\nwidth = 16\nheads = 1\nffn = {ffn}\ncycles = {cycles}\nmillijoules = 0.5\n")
        };
        let table: CostTable = toml::from_str(&(entry(32, 100) + &entry(64, 150))).unwrap();
        let shape = |ffn: &[usize]| Shape { width: 16, heads: vec![1; ffn.len()], ffn: ffn.to_vec() };
        let cost = table.of(&shape(&[32, 64, 64])).unwrap();
        assert_eq!((cost.cycles, cost.of(Objective::Edp)), (400, 600.0));
        assert!(table.of(&shape(&[96])).unwrap_err().to_string().contains("inner width 96"));
    }

    #[test]
    fn ranks_agree_or_not() {
        assert_eq!(kendall(&[(1.0, 1.0), (2.0, 4.0), (3.0, 9.0)]), 1.0);
        assert_eq!(kendall(&[(1.0, 9.0), (2.0, 4.0), (3.0, 1.0)]), -1.0);
        assert!((kendall(&[(1.0, 1.0), (2.0, 9.0), (3.0, 4.0)]) - 1.0 / 3.0).abs() < 1e-12);
    }

    /// In a space that is small enough to be judged whole the search finds the whole front.
    #[test]
    fn a_small_spaces_front_is_found() {
        let mut recipe = tests_recipe();
        recipe.space.layers = vec![1];
        (recipe.search.population, recipe.search.rounds, recipe.search.mutation) = (8, 30, 0.5);
        let judge = |shape: &Shape| {
            let size = shape.width * shape.ffn[0] + 100 * shape.heads[0];
            // Not monotonous: some networks are larger and worse.
            let loss = 5.0 - (size as f64).ln() / 4.0 + if shape.width == 32 && shape.ffn[0] == 32 { 0.5 } else { 0.0 };
            Ok((loss, Cost { cycles: size as u64, millijoules: 1.0 }))
        };
        let found = search(&recipe, 1, &mut { judge }, &mut || ()).unwrap();
        let mut all = Vec::new();
        for &width in &recipe.space.width {
            for &heads in recipe.space.heads.iter().filter(|heads| *heads * 16 <= width) {
                for &ffn in &recipe.space.ffn {
                    let shape = Shape { width, heads: vec![heads], ffn: vec![ffn] };
                    let (loss, cost) = judge(&shape).unwrap();
                    all.push(Judged { shape, loss, cost });
                }
            }
        }
        assert_eq!(found.front, front(&all, Objective::Edp));
        assert!(found.front.len() > 2);
    }
}
