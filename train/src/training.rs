//! Training: the base network by itself, or all networks of the space at once (BigNAS): each step the largest one, the smallest one and
//! two others, of which all but the largest learn half from the text and half from the largest one's answers. The supernet begins as the
//! base network (as Once-for-all does): from random weights, its networks pull each other back to the frequencies of the tokens.
//!
//! A checkpoint holds weights, Adam's moments and the steps done. What a step draws follows from the seed and the step's number, so that
//! a training that was interrupted comes to the same weights.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::network::{Network, cross_entropy, distillation};
use crate::recipe::{Random, Recipe, Shape, Training};

/// Adam's.
const DECAY: [f64; 2] = [0.9, 0.95];
const EPSILON: f64 = 1e-8;
/// Pull of matrices towards zero.
const WEIGHT_DECAY: f64 = 0.05;
/// The gradient is at most this long.
const LONGEST: f64 = 1.0;
/// Steps between two checkpoints, and between two looks at the validation text.
const EVERY: usize = 100;
/// Sequences of a look.
const LOOK: usize = 128;
/// Random networks in a step.
const DRAWN: usize = 2;

/// Which networks learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learner {
    /// One.
    Alone(Shape),
    /// All of the space.
    Supernet,
}

/// A point of the loss curve, in nats a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: usize,
    /// Mean loss of the largest network in the steps since the point before.
    pub training: f64,
    /// Loss on sequences of the validation text: of the largest network, and with the supernet of the smallest.
    pub validation: Vec<f64>,
}

/// What a checkpoint is beside tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Steps done.
    pub step: usize,
    /// The loss curve.
    pub curve: Vec<Point>,
}

/// A training under way.
pub struct Trainer<'a> {
    recipe: &'a Recipe,
    training: &'a Training,
    learner: Learner,
    network: Network<Var>,
    moments: BTreeMap<String, [Tensor; 2]>,
    log: Log,
    path: PathBuf,
}

/// So many sequences and what follows each of their tokens.
pub struct Batch {
    /// Sequences x tokens.
    pub ids: Tensor,
    /// The same, one token later.
    pub next: Tensor,
}

impl Batch {
    /// The sequences that begin at these tokens.
    ///
    /// # Errors
    /// What the tensor library says.
    pub fn at(tokens: &[u32], starts: &[usize], context: usize) -> candle_core::Result<Self> {
        let rows = |shift: usize| -> candle_core::Result<Tensor> {
            let ids = starts.iter().flat_map(|start| &tokens[start + shift..start + shift + context]);
            Tensor::from_vec(ids.copied().collect::<Vec<u32>>(), (starts.len(), context), &Device::Cpu)
        };
        Ok(Self { ids: rows(0)?, next: rows(1)? })
    }
}

/// Starts of so many sequences, spread evenly over a text.
pub fn spread(tokens: &[u32], windows: usize, context: usize) -> Vec<usize> {
    let room = tokens.len().saturating_sub(context + 1);
    (0..windows).map(|n| n * room / windows.max(1)).collect()
}

/// Mean loss of a network on sequences of a text, in nats a token.
///
/// # Errors
/// What the tensor library says.
pub fn loss(
    network: &Network<Tensor>,
    shape: &Shape,
    tokens: &[u32],
    starts: &[usize],
    context: usize,
) -> candle_core::Result<f64> {
    let mut sum = 0.0;
    for part in starts.chunks(32) {
        let batch = Batch::at(tokens, part, context)?;
        let loss = cross_entropy(&network.logits(shape, &batch.ids)?, &batch.next)?.to_scalar::<f32>()?;
        sum += f64::from(loss) * part.len() as f64;
    }
    Ok(sum / starts.len() as f64)
}

impl<'a> Trainer<'a> {
    /// Begins, or takes up the checkpoint at `path` (its tensors; the rest is beside it, with `.json`).
    ///
    /// # Errors
    /// A checkpoint that is none of this recipe.
    pub fn new(
        recipe: &'a Recipe,
        training: &'a Training,
        learner: Learner,
        path: &Path,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let mut network = Network::new(recipe, seed)?;
        let mut moments = BTreeMap::new();
        for (name, var) in &network.weights {
            let zero = var.as_tensor().zeros_like()?;
            moments.insert(name.clone(), [zero.clone(), zero]);
        }
        let mut log = Log::default();
        if path.exists() {
            let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
            let named = |name: &str| {
                let reason = format!("no checkpoint of this recipe: it has no `{name}`; remove it to begin again");
                tensors.get(name).cloned().ok_or_else(|| TrainError::File { path: path.into(), reason })
            };
            for (name, var) in &mut network.weights {
                var.set(&named(name)?)?;
            }
            for (name, moments) in &mut moments {
                *moments = [named(&format!("first.{name}"))?, named(&format!("second.{name}"))?];
            }
            let json = path.with_extension("json");
            let text = std::fs::read_to_string(&json).map_err(TrainError::io(&json))?;
            log = serde_json::from_str(&text).map_err(TrainError::file(&json))?;
        }
        Ok(Self { recipe, training, learner, network, moments, log, path: path.into() })
    }

    /// Begins with these weights, unless a checkpoint was taken up.
    ///
    /// # Errors
    /// What the tensor library says.
    pub fn from(self, weights: &Network<Tensor>) -> candle_core::Result<Self> {
        if self.log.step == 0 {
            for (name, var) in &self.network.weights {
                var.set(&weights.weights[name])?;
            }
        }
        Ok(self)
    }

    /// Trains to the end, with a progress bar.
    ///
    /// # Errors
    /// What the tensor library says; a checkpoint that cannot be written.
    pub fn run(mut self, training: &[u32], validation: &[u32]) -> Result<(Network<Tensor>, Log), TrainError> {
        let bar = ProgressBar::new(self.training.steps as u64).with_position(self.log.step as u64);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let starts = spread(validation, LOOK, self.recipe.context);
        let (mut sum, mut steps) = (0.0, 0);
        while self.log.step < self.training.steps {
            sum += self.step(training)?;
            steps += 1;
            self.log.step += 1;
            bar.set_message(format!("loss {:.3}", sum / f64::from(steps)));
            bar.inc(1);
            if self.log.step.is_multiple_of(EVERY) || self.log.step == self.training.steps {
                let frozen = self.network.frozen();
                let look = |shape: &Shape| loss(&frozen, shape, validation, &starts, self.recipe.context);
                let validation = match &self.learner {
                    Learner::Alone(shape) => vec![look(shape)?],
                    Learner::Supernet => {
                        vec![look(&self.recipe.space.largest())?, look(&self.recipe.space.smallest())?]
                    }
                };
                let point = Point { step: self.log.step, training: sum / f64::from(steps), validation };
                bar.println(serde_json::to_string(&point).unwrap_or_default());
                self.log.curve.push(point);
                (sum, steps) = (0.0, 0);
                self.save()?;
            }
        }
        bar.finish();
        Ok((self.network.frozen(), self.log))
    }

    /// One step; the loss of the largest network that learned.
    fn step(&mut self, tokens: &[u32]) -> Result<f64, TrainError> {
        let mut random = Random::new(self.recipe.seed, self.log.step as u64 + 1);
        let room = tokens.len() - self.recipe.context - 1;
        let starts: Vec<usize> = (0..self.training.batch).map(|_| random.below(room)).collect();
        let batch = Batch::at(tokens, &starts, self.recipe.context)?;
        let mut sum = Gradients::default();
        let largest = match &self.learner {
            Learner::Alone(shape) => shape.clone(),
            Learner::Supernet => self.recipe.space.largest(),
        };
        let answers = self.network.logits(&largest, &batch.ids)?;
        let loss = cross_entropy(&answers, &batch.next)?;
        sum.add(&self.network, &loss.backward()?)?;
        if self.learner == Learner::Supernet {
            let teacher = answers.detach();
            let others = (0..DRAWN).map(|_| self.recipe.space.draw(&mut random));
            for shape in std::iter::once(self.recipe.space.smallest()).chain(others) {
                // Half from the text: a teacher that knows nothing yet would hold everyone back.
                let answers = self.network.logits(&shape, &batch.ids)?;
                let student = (distillation(&answers, &teacher)? + cross_entropy(&answers, &batch.next)?)?;
                sum.add(&self.network, &(student * 0.5)?.backward()?)?;
            }
        }
        self.update(sum)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }

    /// The rate of this step.
    fn rate(&self) -> f64 {
        let Training { steps, rate, warmup, .. } = *self.training;
        let step = self.log.step as f64;
        if self.log.step < warmup {
            return rate * (step + 1.0) / warmup as f64;
        }
        let done = (step - warmup as f64) / (steps.saturating_sub(warmup)).max(1) as f64;
        rate * (0.55 + 0.45 * (std::f64::consts::PI * done).cos())
    }

    /// Adam, with decoupled weight decay.
    fn update(&mut self, sum: Gradients) -> Result<(), TrainError> {
        let rate = self.rate();
        let mean = 1.0 / f64::from(sum.networks);
        let mut square = 0.0;
        for gradient in sum.by_name.values() {
            square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let scale = mean * (LONGEST / (square.sqrt() * mean).max(LONGEST));
        let [correct_first, correct_second] = DECAY.map(|decay| 1.0 - decay.powi(self.log.step as i32 + 1));
        for (name, var) in &self.network.weights {
            let Some(gradient) = sum.by_name.get(name) else { continue };
            let gradient = (gradient * scale)?;
            let [first, second] = self.moments.get_mut(name).expect("one for each weight");
            *first = ((&*first * DECAY[0])? + (&gradient * (1.0 - DECAY[0]))?)?;
            *second = ((&*second * DECAY[1])? + (gradient.sqr()? * (1.0 - DECAY[1]))?)?;
            let step = ((&*first / correct_first)? / ((&*second / correct_second)?.sqrt()? + EPSILON)?)?;
            let decay = if var.dims().len() > 1 { 1.0 - rate * WEIGHT_DECAY } else { 1.0 };
            var.set(&((var.as_tensor() * decay)? - (step * rate)?)?)?;
        }
        Ok(())
    }

    /// Writes a checkpoint; the one before stays until it is whole.
    fn save(&self) -> Result<(), TrainError> {
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for (name, var) in &self.network.weights {
            tensors.insert(name.clone(), var.as_detached_tensor());
            let [first, second] = self.moments[name].clone();
            tensors.insert(format!("first.{name}"), first);
            tensors.insert(format!("second.{name}"), second);
        }
        let [new, json] = [self.path.with_extension("new"), self.path.with_extension("json")];
        candle_core::safetensors::save(&tensors, &new)?;
        std::fs::rename(&new, &self.path).map_err(TrainError::io(&self.path))?;
        let text = serde_json::to_string(&self.log).map_err(TrainError::file(&json))?;
        std::fs::write(&new, text).map_err(TrainError::io(&new))?;
        std::fs::rename(&new, &json).map_err(TrainError::io(&json))
    }
}

/// Derivatives of several networks, added up.
#[derive(Default)]
struct Gradients {
    by_name: BTreeMap<String, Tensor>,
    networks: u32,
}

impl Gradients {
    fn add(&mut self, network: &Network<Var>, gradients: &GradStore) -> candle_core::Result<()> {
        self.networks += 1;
        for (name, var) in &network.weights {
            let Some(gradient) = gradients.get(var) else { continue };
            // Without the record of how it came about, which would keep all that led to it.
            let gradient = gradient.detach();
            let sum = match self.by_name.get(name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.by_name.insert(name.clone(), sum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests_recipe;

    /// A text that a small network learns soon: numbers that count.
    fn counting() -> Vec<u32> {
        (0..4000u32).map(|n| n % 50).collect()
    }

    #[test]
    fn a_small_supernet_learns_and_a_training_taken_up_again_ends_the_same() {
        let mut recipe = tests_recipe();
        recipe.supernet.steps = 60;
        let folder = std::env::temp_dir().join(format!("pollux-train-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = counting();
        let train = |name: &str| {
            let path = folder.join(name);
            let trainer = Trainer::new(&recipe, &recipe.supernet, Learner::Supernet, &path, 1).unwrap();
            trainer.run(&text, &text).unwrap()
        };
        let (network, log) = train("whole.safetensors");
        let last = log.curve.last().unwrap();
        assert!(last.validation.iter().all(|loss| *loss < 4.5), "{last:?}");
        // Half of it, saved; then the rest.
        let path = folder.join("halves.safetensors");
        let mut half = Trainer::new(&recipe, &recipe.supernet, Learner::Supernet, &path, 1).unwrap();
        for _ in 0..30 {
            half.step(&text).unwrap();
            half.log.step += 1;
        }
        half.save().unwrap();
        let (again, _) = train("halves.safetensors");
        for (name, weight) in &network.weights {
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(weight), values(&again.weights[name]), "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
