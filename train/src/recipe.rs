//! What is trained and searched, as data (TOML).

use std::path::Path;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// Columns of a head, in every network.
pub const HEAD: usize = 16;

/// A recipe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Tokens of a sequence.
    pub context: usize,
    /// Everything drawn follows from it.
    pub seed: u64,
    /// What a network may be.
    pub space: Space,
    /// How the largest network is trained by itself.
    pub base: Training,
    /// How all of them are, together.
    pub supernet: Training,
    /// How a few of them are by themselves, to compare.
    pub retrained: Training,
    /// How the space is searched.
    pub search: Search,
}

/// What a network may be: one width, and heads and inner width of each layer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Numbers of layers.
    pub layers: Vec<usize>,
    /// Widths of the residual stream.
    pub width: Vec<usize>,
    /// Heads of a layer, [`HEAD`] columns each; at most as many as fill the width.
    pub heads: Vec<usize>,
    /// Inner widths of a layer.
    pub ffn: Vec<usize>,
}

/// A training: Adam, the rate rising in the first steps and falling with a cosine to a tenth.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Steps.
    pub steps: usize,
    /// Sequences a step.
    pub batch: usize,
    /// The highest rate.
    pub rate: f64,
    /// Steps in which it rises.
    pub warmup: usize,
}

/// An evolutionary search.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Networks of a round.
    pub population: usize,
    /// Rounds.
    pub rounds: usize,
    /// The chance that a choice is drawn anew.
    pub mutation: f64,
    /// Sequences of the validation text by which a network is judged in the search.
    pub windows: usize,
    /// Each starts a search of its own.
    pub seeds: Vec<u64>,
    /// What is minimised beside perplexity: `edp`, `cycles` or `energy`.
    pub objective: Objective,
    /// Bytes a cycle of the memory.
    pub bytes: u64,
}

/// A cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Energy times cycles.
    Edp,
    /// Cycles.
    Cycles,
    /// Energy.
    Energy,
}

/// A network of the space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Columns of the residual stream.
    pub width: usize,
    /// Heads of each layer.
    pub heads: Vec<usize>,
    /// Inner width of each layer.
    pub ffn: Vec<usize>,
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// A file that is none, or sizes that do not go together.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        let recipe: Self = toml::from_str(&text).map_err(TrainError::file(path))?;
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<(), TrainError> {
        let refuse = |what: &str| Err(TrainError::Recipe(what.to_owned()));
        let Space { layers, width, heads, ffn } = &self.space;
        if [layers, width, heads, ffn].iter().any(|list| list.is_empty() || list.contains(&0)) {
            return refuse("each list of [space] needs at least one number above 0");
        }
        if width.iter().any(|width| width % HEAD > 0) {
            return refuse(&format!("each width must be a multiple of {HEAD}, the columns of a head"));
        }
        let narrow = width.iter().min().is_some_and(|width| heads.iter().all(|heads| heads * HEAD > *width));
        if narrow {
            return refuse("the narrowest network has no number of heads that fits into its width");
        }
        if self.vocabulary < 257 || self.context < 2 {
            return refuse("vocabulary must be at least 257 (all bytes and the end of a text), context at least 2");
        }
        if [&self.base, &self.supernet, &self.retrained].iter().any(|training| training.steps * training.batch == 0) {
            return refuse("steps and batch of each training must be at least 1");
        }
        if self.search.population < 2 || !(0.0..=1.0).contains(&self.search.mutation) || self.search.windows == 0 {
            return refuse("[search] needs population of at least 2, mutation of 0 to 1, windows of at least 1");
        }
        Ok(())
    }
}

impl Space {
    /// The largest network.
    pub fn largest(&self) -> Shape {
        let most = |list: &[usize]| list.iter().copied().max().unwrap_or(1);
        self.uniform(most(&self.layers), most(&self.width), most, most(&self.ffn))
    }

    /// The smallest one.
    pub fn smallest(&self) -> Shape {
        let least = |list: &[usize]| list.iter().copied().min().unwrap_or(1);
        self.uniform(least(&self.layers), least(&self.width), least, least(&self.ffn))
    }

    fn uniform(&self, layers: usize, width: usize, pick: impl Fn(&[usize]) -> usize, ffn: usize) -> Shape {
        let heads = pick(&self.heads_of(width));
        Shape { width, heads: vec![heads; layers], ffn: vec![ffn; layers] }
    }

    /// Numbers of heads for a width.
    fn heads_of(&self, width: usize) -> Vec<usize> {
        self.heads.iter().copied().filter(|heads| heads * HEAD <= width).collect()
    }

    /// A network whose choices are uniform.
    pub fn draw(&self, random: &mut Random) -> Shape {
        let (layers, width) = (random.any(&self.layers), random.any(&self.width));
        let heads = self.heads_of(width);
        Shape {
            width,
            heads: (0..layers).map(|_| random.any(&heads)).collect(),
            ffn: (0..layers).map(|_| random.any(&self.ffn)).collect(),
        }
    }

    /// A network like another: each choice is drawn anew with this chance. Layers that are new copy the last one's choices first.
    pub fn mutate(&self, shape: &Shape, chance: f64, random: &mut Random) -> Shape {
        let layers = if random.unit() < chance { random.any(&self.layers) } else { shape.heads.len() };
        let width = if random.unit() < chance { random.any(&self.width) } else { shape.width };
        let fitting = self.heads_of(width);
        let most = fitting.iter().copied().max().unwrap_or(1);
        let last = shape.heads.len() - 1;
        let mut child = Shape { width, heads: Vec::new(), ffn: Vec::new() };
        for layer in 0..layers {
            let (heads, ffn) = (shape.heads[layer.min(last)].min(most), shape.ffn[layer.min(last)]);
            child.heads.push(if random.unit() < chance { random.any(&fitting) } else { heads });
            child.ffn.push(if random.unit() < chance { random.any(&self.ffn) } else { ffn });
        }
        child
    }

    /// Networks of the space.
    pub fn count(&self) -> f64 {
        let a_layer = |width: usize| (self.heads_of(width).len() * self.ffn.len()) as f64;
        let deep = |width: &usize| self.layers.iter().map(|layers| a_layer(*width).powi(*layers as i32)).sum::<f64>();
        self.width.iter().map(deep).sum()
    }
}

/// Random numbers of a seed.
#[derive(Clone, Debug)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// The stream of a seed and a number within it.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// One of several.
    pub fn any(&mut self, from: &[usize]) -> usize {
        from[self.below(from.len())]
    }

    /// A normal variate (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }
}

/// A recipe for tests.
#[cfg(test)]
pub fn tests_recipe() -> Recipe {
    let training = Training { steps: 12, batch: 4, rate: 3e-3, warmup: 2 };
    Recipe {
        vocabulary: 300,
        context: 16,
        seed: 1,
        space: Space { layers: vec![1, 2], width: vec![16, 32], heads: vec![1, 2], ffn: vec![32, 64] },
        base: training.clone(),
        supernet: training.clone(),
        retrained: training,
        search: Search {
            population: 4,
            rounds: 2,
            mutation: 0.2,
            windows: 2,
            seeds: vec![1],
            objective: Objective::Edp,
            bytes: 8,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        Space { layers: vec![2, 4], width: vec![32, 64], heads: vec![1, 2, 4], ffn: vec![64, 128] }
    }

    #[test]
    fn every_network_drawn_or_mutated_is_of_the_space() {
        let (space, mut random) = (space(), Random::new(1, 0));
        let mut shape = space.draw(&mut random);
        for _ in 0..500 {
            let Shape { width, heads, ffn } = &shape;
            assert!(space.width.contains(width) && space.layers.contains(&heads.len()) && heads.len() == ffn.len());
            assert!(heads.iter().all(|heads| space.heads.contains(heads) && heads * HEAD <= *width));
            assert!(ffn.iter().all(|ffn| space.ffn.contains(ffn)));
            shape = space.mutate(&shape, 0.5, &mut random);
        }
    }

    #[test]
    fn a_small_space_is_counted() {
        // Width 32: (2 x 2)^2 + (2 x 2)^4; width 64: (3 x 2)^2 + (3 x 2)^4.
        assert_eq!(space().count(), 16.0 + 256.0 + 36.0 + 1296.0);
    }
}
