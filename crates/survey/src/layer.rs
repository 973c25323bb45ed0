//! A Transformer's encoder layer as operations of Gemmini.

use crate::bench::{Result, Work};

/// Columns of a head in the paper's models.
pub const HEAD: usize = 64;

/// Sizes of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layer {
    /// Rows of all matrices.
    pub tokens: usize,
    /// Columns of the residual stream.
    pub hidden: usize,
    /// Columns of the feed-forward network's inner matrix.
    pub ffn: usize,
    /// Columns of each head.
    pub heads: Vec<usize>,
}

/// What an operation belongs to, as the paper's figures group them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Query, key, value.
    Projections,
    /// Query times key.
    Scores,
    /// Scores times value.
    Context,
    /// The product behind attention.
    Output,
    /// The first product of the feed-forward network.
    Up,
    /// The second.
    Down,
    /// Softmax, where it is a pass of its own.
    Softmax,
    /// LayerNorm, where it is a pass of its own.
    LayerNorm,
    /// Residual additions.
    Residual,
}

impl Part {
    /// Those that are products.
    pub const PRODUCTS: [Self; 6] =
        [Self::Projections, Self::Scores, Self::Context, Self::Output, Self::Up, Self::Down];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Projections => "QKV",
            Self::Scores => "QK",
            Self::Context => "score x V",
            Self::Output => "Wout",
            Self::Up => "W1",
            Self::Down => "W2",
            Self::Softmax => "softmax",
            Self::LayerNorm => "LayerNorm",
            Self::Residual => "residual",
        }
    }
}

/// Where rows are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Norms {
    /// In the products, as Gemmini's software does it.
    Fused,
    /// By passes over int32 sums.
    Separate,
    /// Not on the accelerator: it only yields int32 sums.
    Elsewhere,
}

/// An operation of a layer and how often it occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// What it belongs to.
    pub part: Part,
    /// What it is.
    pub work: Work,
    /// How often.
    pub times: usize,
}

impl Layer {
    /// A layer with heads of equal size.
    pub fn new(tokens: usize, hidden: usize, heads: usize, ffn: usize) -> Self {
        Self { tokens, hidden, ffn, heads: vec![hidden / heads; heads] }
    }

    /// BERT-Base.
    pub fn bert_base(tokens: usize) -> Self {
        Self::new(tokens, 768, 12, 3072)
    }

    /// A quarter of its width, for the reduced forms.
    pub fn small(tokens: usize) -> Self {
        Self::new(tokens, 192, 3, 768)
    }

    /// Columns of all heads together.
    pub fn attention(&self) -> usize {
        self.heads.iter().sum()
    }

    /// The different sizes of heads, and how many there are of each.
    fn head_sizes(&self) -> Vec<(usize, usize)> {
        let mut sizes: Vec<(usize, usize)> = Vec::new();
        for &head in &self.heads {
            match sizes.iter_mut().find(|(size, _)| *size == head) {
                Some((_, count)) => *count += 1,
                None => sizes.push((head, 1)),
            }
        }
        sizes
    }

    /// The products without what follows them, and how often each occurs.
    pub fn products(&self) -> Vec<(Part, [usize; 3], usize)> {
        let Self { tokens: l, hidden: d, ffn: f, .. } = *self;
        let a = self.attention();
        let mut products = vec![(Part::Projections, [l, a, d], 3)];
        for (size, count) in self.head_sizes() {
            products.push((Part::Scores, [l, l, size], count));
            products.push((Part::Context, [l, size, l], count));
        }
        products.extend([(Part::Output, [l, d, a], 1), (Part::Up, [l, f, d], 1), (Part::Down, [l, d, f], 1)]);
        products
    }

    /// All operations. Residual additions stand by themselves behind LayerNorm, in int8, as in Gemmini's `transformer.c`; GELU is in
    /// its product unless the host does it.
    pub fn steps(&self, norms: Norms) -> Vec<Step> {
        let Self { tokens: l, hidden: d, .. } = *self;
        let mut steps = Vec::new();
        for (part, [m, n, k], times) in self.products() {
            let (fused, pass) = match part {
                Part::Scores => (Result::Softmax, Some(Part::Softmax)),
                Part::Output | Part::Down => (Result::LayerNorm, Some(Part::LayerNorm)),
                Part::Up => (if norms == Norms::Elsewhere { Result::Int8 } else { Result::Gelu }, None),
                _ => (Result::Int8, None),
            };
            let result = if pass.is_some() && norms != Norms::Fused { Result::Int32 } else { fused };
            steps.push(Step { part, work: Work::product(m, n, k, result), times });
            if let (Some(pass), Norms::Separate) = (pass, norms) {
                let work = Work::Norm { rows: m, cols: n, wide: true, result: fused };
                steps.push(Step { part: pass, work, times });
            }
        }
        if norms != Norms::Elsewhere {
            steps.push(Step { part: Part::Residual, work: Work::Add { rows: l, cols: d }, times: 2 });
        }
        steps
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        self.products().iter().map(|(_, [m, n, k], times)| (m * n * k * times) as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bert_base_has_its_multiply_accumulates() {
        // Table 3: 97.02 GFLOPs at 512 tokens, of which 0.42 are no products.
        let flops = 2 * 12 * Layer::bert_base(512).macs();
        assert!((flops as f64 / 96.6e9 - 1.0).abs() < 1e-3, "{flops}");
    }

    #[test]
    fn heads_of_different_sizes_are_told_apart() {
        let layer = Layer { heads: vec![67, 67, 68], ..Layer::new(32, 202, 2, 64) };
        let scores: Vec<_> = layer.products().into_iter().filter(|(part, ..)| *part == Part::Scores).collect();
        assert_eq!(scores, [(Part::Scores, [32, 32, 67], 2), (Part::Scores, [32, 32, 68], 1)]);
        assert_eq!(layer.attention(), 202);
    }
}
