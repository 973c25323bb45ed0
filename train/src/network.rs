//! The networks: decoders in the manner of GPT-2, all of a space in the weights of its largest one.
//!
//! A smaller network takes the first rows and columns of each matrix, the first heads, and the first layers. Norms and softmax are
//! written from primitive operations: the fused ones of candle have no derivative, and say nothing about it.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor, Var};

use crate::recipe::{HEAD, Random, Recipe, Shape};

/// GPT-2's.
const EPSILON: f64 = 1e-5;
/// Standard deviation of the first weights: GPT-2's.
const FIRST: f64 = 0.02;
/// Below any score: what a token must not see.
const HIDDEN: f32 = -1e9;

/// Weights of the largest network, and thereby of all.
#[derive(Clone, Debug)]
pub struct Network<T> {
    /// By name, as GPT-2's files have them, but for query, key and value, which are apart.
    pub weights: BTreeMap<String, T>,
    context: usize,
    mask: Tensor,
}

/// Names and sizes of all weights. Matrices are inputs x outputs.
fn sizes(recipe: &Recipe) -> Vec<(String, Vec<usize>)> {
    let Shape { width, heads, ffn } = recipe.space.largest();
    let mut sizes = vec![
        ("wte.weight".to_owned(), vec![recipe.vocabulary, width]),
        ("wpe.weight".to_owned(), vec![recipe.context, width]),
        ("ln_f.weight".to_owned(), vec![width]),
        ("ln_f.bias".to_owned(), vec![width]),
    ];
    for (layer, (heads, ffn)) in heads.iter().zip(&ffn).enumerate() {
        let inner = heads * HEAD;
        let mut add = |name: &str, size: &[usize]| sizes.push((format!("h.{layer}.{name}"), size.to_vec()));
        for norm in ["ln_1", "ln_2"] {
            add(&format!("{norm}.weight"), &[width]);
            add(&format!("{norm}.bias"), &[width]);
        }
        let dense = [
            ("attn.q", width, inner),
            ("attn.k", width, inner),
            ("attn.v", width, inner),
            ("attn.c_proj", inner, width),
            ("mlp.c_fc", width, *ffn),
            ("mlp.c_proj", *ffn, width),
        ];
        for (name, inputs, outputs) in dense {
            add(&format!("{name}.weight"), &[inputs, outputs]);
            add(&format!("{name}.bias"), &[outputs]);
        }
    }
    sizes
}

impl Network<Var> {
    /// Random weights.
    ///
    /// # Errors
    /// What the tensor library says.
    pub fn new(recipe: &Recipe, seed: u64) -> candle_core::Result<Self> {
        let mut random = Random::new(seed, 0);
        let layers = recipe.space.largest().heads.len() as f64;
        let mut weights = BTreeMap::new();
        for (name, size) in sizes(recipe) {
            let count: usize = size.iter().product();
            // What adds to the residual stream starts smaller, the deeper the network is.
            let deviation = if name.contains("c_proj") { FIRST / (2.0 * layers).sqrt() } else { FIRST };
            let values: Vec<f32> = match (size.len(), name.ends_with("bias")) {
                (_, true) => vec![0.0; count],
                (1, _) => vec![1.0; count],
                _ => (0..count).map(|_| (random.normal() * deviation) as f32).collect(),
            };
            weights.insert(name, Var::from_tensor(&Tensor::from_vec(values, size, &Device::Cpu)?)?);
        }
        Self::with(recipe, weights)
    }

    /// The same weights without a record of what is done with them.
    pub fn frozen(&self) -> Network<Tensor> {
        let weights = self.weights.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        Network { weights, context: self.context, mask: self.mask.clone() }
    }
}

impl<T> Network<T> {
    /// These weights.
    ///
    /// # Errors
    /// What the tensor library says.
    pub fn with(recipe: &Recipe, weights: BTreeMap<String, T>) -> candle_core::Result<Self> {
        let context = recipe.context;
        let mask: Vec<f32> =
            (0..context * context).map(|n| if n % context > n / context { HIDDEN } else { 0.0 }).collect();
        Ok(Self { weights, context, mask: Tensor::from_vec(mask, (context, context), &Device::Cpu)? })
    }
}

/// What holds a tensor: a variable that learns, or the tensor itself.
pub trait Weight {
    /// The tensor.
    fn tensor(&self) -> &Tensor;
}

impl Weight for Var {
    fn tensor(&self) -> &Tensor {
        self.as_tensor()
    }
}

impl Weight for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}

impl<T: Weight> Network<T> {
    /// The first rows and columns of a matrix, or elements of a vector.
    fn part(&self, name: &str, sizes: &[usize]) -> candle_core::Result<Tensor> {
        let mut tensor = self.weights[name].tensor().clone();
        for (dimension, size) in sizes.iter().enumerate() {
            if tensor.dim(dimension)? > *size {
                tensor = tensor.narrow(dimension, 0, *size)?;
            }
        }
        Ok(tensor)
    }

    fn dense(&self, x: &Tensor, name: &str, inputs: usize, outputs: usize) -> candle_core::Result<Tensor> {
        let weight = self.part(&format!("{name}.weight"), &[inputs, outputs])?.contiguous()?;
        x.matmul(&weight)?.broadcast_add(&self.part(&format!("{name}.bias"), &[outputs])?)
    }

    fn norm(&self, x: &Tensor, name: &str, width: usize) -> candle_core::Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + EPSILON)?.sqrt()?)?;
        let [gamma, beta] = ["weight", "bias"].map(|part| self.part(&format!("{name}.{part}"), &[width]));
        normal.broadcast_mul(&gamma?)?.broadcast_add(&beta?)
    }

    /// Scores of all tokens of the vocabulary after each token: sequences x tokens by vocabulary. `ids` is sequences x tokens.
    ///
    /// # Errors
    /// What the tensor library says; `ids` that are too many or none of the vocabulary.
    pub fn logits(&self, shape: &Shape, ids: &Tensor) -> candle_core::Result<Tensor> {
        let (sequences, tokens) = ids.dims2()?;
        let width = shape.width;
        let words = self.part("wte.weight", &[usize::MAX, width])?.contiguous()?;
        let places = self.part("wpe.weight", &[tokens, width])?;
        let embedded = words.index_select(&ids.flatten_all()?, 0)?.reshape((sequences, tokens, width))?;
        let mut stream = embedded.broadcast_add(&places)?.reshape((sequences * tokens, width))?;
        for (layer, (&heads, &ffn)) in shape.heads.iter().zip(&shape.ffn).enumerate() {
            let name = |part: &str| format!("h.{layer}.{part}");
            let normal = self.norm(&stream, &name("ln_1"), width)?;
            let context = self.attention(&normal, layer, heads, [sequences, tokens, width])?;
            stream = (stream + self.dense(&context, &name("attn.c_proj"), heads * HEAD, width)?)?;
            let normal = self.norm(&stream, &name("ln_2"), width)?;
            let inner = self.dense(&normal, &name("mlp.c_fc"), width, ffn)?.gelu()?;
            stream = (stream + self.dense(&inner, &name("mlp.c_proj"), ffn, width)?)?;
        }
        self.norm(&stream, "ln_f", width)?.matmul(&words.t()?)
    }

    fn attention(
        &self,
        x: &Tensor,
        layer: usize,
        heads: usize,
        [sequences, tokens, width]: [usize; 3],
    ) -> candle_core::Result<Tensor> {
        let by_heads = |part: &str| {
            let all = self.dense(x, &format!("h.{layer}.attn.{part}"), width, heads * HEAD)?;
            all.reshape((sequences, tokens, heads, HEAD))?.transpose(1, 2)?.contiguous()
        };
        let [query, key, value] = [by_heads("q")?, by_heads("k")?, by_heads("v")?];
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? * (HEAD as f64).powf(-0.5))?;
        let mask = match tokens == self.context {
            true => self.mask.clone(),
            false => self.mask.narrow(0, 0, tokens)?.narrow(1, 0, tokens)?,
        };
        let context = softmax(&scores.broadcast_add(&mask)?)?.matmul(&value)?;
        context.transpose(1, 2)?.reshape((sequences * tokens, heads * HEAD))
    }
}

/// Softmax of the last dimension. The largest value is taken off first; that moves no derivative.
fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let powers = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

/// Logarithm of the softmax.
fn log_softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let less = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    less.broadcast_sub(&less.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Mean cross entropy of the tokens that came, in nats.
///
/// # Errors
/// What the tensor library says.
pub fn cross_entropy(logits: &Tensor, next: &Tensor) -> candle_core::Result<Tensor> {
    log_softmax(logits)?.gather(&next.flatten_all()?.unsqueeze(1)?, 1)?.mean_all()?.neg()
}

/// Mean cross entropy with another network's probabilities.
///
/// # Errors
/// What the tensor library says.
pub fn distillation(logits: &Tensor, teacher: &Tensor) -> candle_core::Result<Tensor> {
    let rows = teacher.dim(0)? as f64;
    ((softmax(teacher)?.detach() * log_softmax(logits)?)?.sum_all()? / -rows)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests_recipe;

    #[test]
    fn every_variable_of_a_network_has_a_derivative() {
        let recipe = tests_recipe();
        let network = Network::new(&recipe, 1).unwrap();
        let ids = Tensor::from_vec((0..16u32).collect::<Vec<_>>(), (2, 8), &Device::Cpu).unwrap();
        let largest = network.logits(&recipe.space.largest(), &ids).unwrap();
        let gradients = cross_entropy(&largest, &ids).unwrap().backward().unwrap();
        for (name, var) in &network.weights {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has none"));
            let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            // Softmax does not see what is added to all scores of a query: the bias of keys has a derivative of zero but for rounding.
            assert!(size > 0.0 || name.contains("attn.k.bias"), "{name}: {size}");
        }
        // The smallest one teaches what it has.
        let smallest = network.logits(&recipe.space.smallest(), &ids).unwrap();
        let gradients = distillation(&smallest, &largest).unwrap().backward().unwrap();
        let words = gradients.get(&network.weights["wte.weight"]).unwrap();
        let width = recipe.space.smallest().width;
        let sum = |t: Tensor| t.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(sum(words.narrow(1, 0, width).unwrap()) > 0.0);
        assert_eq!(sum(words.narrow(1, width, words.dim(1).unwrap() - width).unwrap()), 0.0);
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let recipe = tests_recipe();
        let network = Network::new(&recipe, 2).unwrap();
        let ids = Tensor::from_vec((0..8u32).map(|n| n * 7 % 31).collect::<Vec<_>>(), (1, 8), &Device::Cpu).unwrap();
        let shape = recipe.space.largest();
        let loss = || cross_entropy(&network.logits(&shape, &ids).unwrap(), &ids).unwrap();
        let gradients = loss().backward().unwrap();
        for name in ["h.0.ln_1.weight", "h.1.attn.q.weight", "h.0.mlp.c_fc.bias", "wte.weight"] {
            let var = &network.weights[name];
            let gradient = gradients.get(var).unwrap().clone();
            // A step against the derivative makes the loss smaller by its square, to first order.
            let square = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() as f64;
            let step = 1e-3 / square;
            let before = loss().to_scalar::<f32>().unwrap() as f64;
            let value = var.as_tensor().copy().unwrap();
            var.set(&(value.clone() - (gradient * step).unwrap()).unwrap()).unwrap();
            let less = before - loss().to_scalar::<f32>().unwrap() as f64;
            var.set(&value).unwrap();
            assert!((less / 1e-3 - 1.0).abs() < 0.15, "{name}: {less:.2e} instead of 1e-3");
        }
    }

    #[test]
    fn no_token_sees_a_later_one() {
        let recipe = tests_recipe();
        let network = Network::new(&recipe, 3).unwrap().frozen();
        let row = |last: u32| {
            let ids = Tensor::from_vec(vec![1, 2, 3, last], (1, 4), &Device::Cpu).unwrap();
            network.logits(&recipe.space.largest(), &ids).unwrap().to_vec2::<f32>().unwrap()
        };
        let (a, b) = (row(4), row(9));
        assert_eq!(a[..3], b[..3]);
        assert_ne!(a[3], b[3]);
    }
}
