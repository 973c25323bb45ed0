//! The quantised encoder layer: everything the accelerator needs, as integers and read-out scales.
//!
//! All products are int8 x int8 into int32. Reading an accumulator row out (Gemmini's mvout) applies an integer
//! activation, multiplies by one float32 and saturates to int8; see the crate's front page for the data flow.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use crate::files::encoding::{Encoding, INT8_MAX};
use crate::matrix::Matrix;
use crate::tensor::Tensor;

/// Coefficients of I-BERT's polynomials (arXiv 2101.01321): erf(x) ~ sgn(x) * (A * (min(|x|, -B) + B)^2 + 1).
pub mod ibert {
    /// GELU polynomial, quadratic coefficient.
    pub const GELU_A: f64 = -0.2888;
    /// GELU polynomial, offset and clipping point.
    pub const GELU_B: f64 = -1.769;
    /// exp(p) ~ `EXP_A` * (p + `EXP_B`)^2 + `EXP_C` on (-ln 2, 0].
    pub const EXP_A: f64 = 0.3585;
    /// Exponential, offset.
    pub const EXP_B: f64 = 1.353;
    /// Exponential, constant.
    pub const EXP_C: f64 = 0.344;
}

/// Constants of the integer GELU for one input scale (fields `qb`, `qc` of Gemmini's CONFIG_NORM).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeluConstants {
    /// Clipping point, `trunc(B * sqrt 2 / S)`; negative.
    pub qb: i32,
    /// `trunc(1 / (A * S^2 / 2))`; negative.
    pub qc: i32,
}

impl GeluConstants {
    /// The constants for integer inputs that stand for `q * scale`.
    pub fn for_scale(scale: f64) -> Self {
        Self {
            qb: (ibert::GELU_B * std::f64::consts::SQRT_2 / scale) as i32,
            qc: (2.0 / (ibert::GELU_A * scale * scale)) as i32,
        }
    }

    /// What one unit of the integer output stands for; negative, because A is.
    pub fn output_scale(scale: f64) -> f64 {
        ibert::GELU_A * scale.powi(3) / 4.0
    }

    /// Whether inputs up to `magnitude` keep every intermediate inside int32.
    pub fn fits(self, magnitude: i64) -> bool {
        magnitude * 2 * i64::from(self.qc).abs() <= i64::from(i32::MAX)
    }
}

/// Constants of the integer exponential for one input scale (CONFIG_NORM's `qln2`, `qln2_inv`, `qb`, `qc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftmaxConstants {
    /// `trunc(ln 2 / S)`.
    pub qln2: i32,
    /// `65536 / qln2`, integer division.
    pub qln2_inv: i32,
    /// `trunc(EXP_B / S)`.
    pub qb: i32,
    /// `trunc(EXP_C / (EXP_A * S^2))`.
    pub qc: i32,
}

impl SoftmaxConstants {
    /// The constants for integer inputs that stand for `q * scale`; `None` if the scale is too coarse (above ln 2).
    pub fn for_scale(scale: f64) -> Option<Self> {
        let qln2 = (std::f64::consts::LN_2 / scale) as i32;
        (qln2 > 0).then(|| Self {
            qln2,
            qln2_inv: 65536 / qln2,
            qb: (ibert::EXP_B / scale) as i32,
            qc: (ibert::EXP_C / (ibert::EXP_A * scale * scale)) as i32,
        })
    }

    /// Whether the sum of `columns` exponentials stays inside int32.
    pub fn fits(self, columns: usize) -> bool {
        let one = i64::from(self.qb) * i64::from(self.qb) + i64::from(self.qc);
        one.checked_mul(columns as i64).is_some_and(|sum| sum <= i64::from(i32::MAX))
    }
}

/// A dense product: `out = sat8(round((A * weights + bias) * scale))`, A being the input, or the input with some of
/// its columns repeated at the end.
///
/// A repeated column has two int8 weights, which add up in the accumulator: that is how a weight beyond +-127 enters
/// an int8 mesh (see [`crate::quantise`]). In memory nothing is repeated; the columns are loaded once more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Columns of A x outputs (K x J, the layout of Gemmini's B operand).
    pub weights: Matrix<i8>,
    /// Input columns that follow the whole input in A, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<Range<usize>>,
    /// One int32 an output, added in the accumulator.
    pub bias: Vec<i32>,
    /// The float32 factor of the read-out; one for the whole tensor.
    pub scale: f32,
}

impl Linear {
    /// Columns of the input; A has more of them if some are repeated.
    pub fn inputs(&self) -> usize {
        self.weights.rows - self.repeats.iter().map(Range::len).sum::<usize>()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weights.cols
    }

    /// The input column behind each column of A (each row of the weights).
    pub fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.inputs()).chain(self.repeats.iter().cloned().flatten())
    }

    /// The A operand for an input.
    ///
    /// # Panics
    /// If the input has another width.
    pub fn operand(&self, input: &Matrix<i8>) -> Matrix<i8> {
        assert_eq!(input.cols, self.inputs(), "input columns");
        let columns: Vec<usize> = self.columns().collect();
        Matrix::from_fn(input.rows, columns.len(), |r, c| input.at(r, columns[c]))
    }

    /// Checks the sizes against `inputs` and `outputs`.
    ///
    /// # Errors
    /// A sentence that says what they should be.
    pub(crate) fn check(&self, name: &str, inputs: usize, outputs: usize) -> Result<(), String> {
        if let Some(range) = self.repeats.iter().find(|r| r.start >= r.end || r.end > inputs) {
            return Err(format!("{name}: columns {range:?} cannot be repeated, the input has {inputs}"));
        }
        let (w, k) = (&self.weights, inputs + self.repeats.iter().map(Range::len).sum::<usize>());
        if (w.rows, w.cols) != (k, outputs) || w.data.len() != k * outputs {
            return Err(format!(
                "{name}: weights are {}x{} with {} elements, expected {k}x{outputs}",
                w.rows,
                w.cols,
                w.data.len()
            ));
        }
        expect_length(name, "bias", self.bias.len(), outputs)
    }
}

/// Which matrix a [`DiagonalTerm`] multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operand {
    /// The result of the preceding [`Linear`].
    Branch,
    /// The residual stream.
    Residual,
}

/// One operand times a diagonal matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagonalTerm {
    /// The operand.
    pub operand: Operand,
    /// Main diagonal of the B operand; all its other elements are 0.
    pub diagonal: Vec<i8>,
}

/// The integer activation of a read-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Integer GELU.
    Gelu(GeluConstants),
    /// Subtract the row's mean, divide by its standard deviation.
    LayerNorm,
}

/// Columns that are read out with one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnGroup {
    /// The columns.
    pub columns: Range<usize>,
    /// The float32 factor of the read-out (of LayerNorm: of the INV_STDDEV pass over the whole row).
    pub scale: f32,
}

/// `out = sat8(round(activation(sum of operand * diagonal + bias) * scale of the column's group))`.
///
/// Each diagonal is the B operand of a matrix product whose off-diagonal tiles are zero and are skipped, so the
/// products cost one tile each, and residual addition, gamma and beta need no arithmetic outside the array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagonalSum {
    /// Products accumulated in this order; one operand may occur more than once.
    pub terms: Vec<DiagonalTerm>,
    /// One int32 a column.
    pub bias: Vec<i32>,
    /// Applied to the accumulated row at read-out.
    pub activation: Activation,
    /// Cover all columns, in order.
    pub groups: Vec<ColumnGroup>,
}

/// Scores, softmax and context of all heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Number of heads; head h owns columns `h * head_size ..` of query, key, value and context.
    pub heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Constants of the exponential on the int32 scores; 1/sqrt(head size) is folded into their scale.
    pub softmax: SoftmaxConstants,
    /// Added (as int32 bias) to the score of a key that the query must not see; makes its probability 0.
    pub mask_bias: i32,
    /// Read-out scale of each head's probabilities, on top of the normalizer's 127/sum.
    pub probability_scale: Vec<f32>,
    /// Read-out scale of each head's context.
    pub context_scale: Vec<f32>,
}

/// One encoder layer in INT8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantisedLayer {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width of the feed-forward network.
    pub ffn: usize,
    /// Most tokens for which the softmax sums are guaranteed not to wrap.
    pub max_tokens: usize,
    /// Query projection.
    pub query: Linear,
    /// Key projection.
    pub key: Linear,
    /// Value projection.
    pub value: Linear,
    /// Scores, softmax, context.
    pub attention: Attention,
    /// Projection of the concatenated heads.
    pub attention_output: Linear,
    /// Residual addition and LayerNorm after the attention; the residual is the layer's input.
    pub attention_norm: DiagonalSum,
    /// First product of the feed-forward network.
    pub intermediate: Linear,
    /// GELU of the reloaded intermediate.
    pub gelu: DiagonalSum,
    /// Second product of the feed-forward network.
    pub ffn_output: Linear,
    /// Residual addition and LayerNorm after the feed-forward network; the residual is `attention_norm`'s result.
    pub output_norm: DiagonalSum,
    /// What each int8 tensor stands for (probabilities excepted: 1/127 each, divided by their read-out scale).
    pub encodings: BTreeMap<Tensor, Encoding>,
}

impl QuantisedLayer {
    /// The encoding of `tensor`.
    ///
    /// # Panics
    /// For [`Tensor::Probabilities`], which has one scale a head instead.
    pub fn encoding(&self, tensor: Tensor) -> &Encoding {
        &self.encodings[&tensor]
    }

    /// Multiply-accumulates of the dense products for `tokens` tokens (diagonal products not counted).
    pub fn macs(&self, tokens: usize) -> u64 {
        let dense: usize = self.linears().iter().map(|(_, l)| l.weights.data.len()).sum();
        (tokens * dense + 2 * tokens * tokens * self.hidden) as u64
    }

    /// The dense products by name, in the order of execution.
    pub fn linears(&self) -> [(&'static str, &Linear); 6] {
        [
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("attention_output", &self.attention_output),
            ("intermediate", &self.intermediate),
            ("ffn_output", &self.ffn_output),
        ]
    }

    /// The diagonal sums by name, in the order of execution.
    pub fn diagonal_sums(&self) -> [(&'static str, &DiagonalSum); 3] {
        [("attention_norm", &self.attention_norm), ("gelu", &self.gelu), ("output_norm", &self.output_norm)]
    }

    /// Checks that all shapes agree.
    ///
    /// # Errors
    /// A sentence that names the part and what it should be.
    pub fn check(&self) -> Result<(), String> {
        let (h, f) = (self.hidden, self.ffn);
        for ((name, linear), (k, j)) in self.linears().into_iter().zip([(h, h), (h, h), (h, h), (h, h), (h, f), (f, h)])
        {
            linear.check(name, k, j)?;
        }
        for ((name, sum), j) in self.diagonal_sums().into_iter().zip([h, f, h]) {
            sum.check(name, j)?;
        }
        self.attention.check(h)?;
        check_encodings(&self.encodings, h, f)
    }
}

impl Attention {
    /// Checks the sizes against the width of query, key and value.
    ///
    /// # Errors
    /// A sentence that says what they should be.
    pub(crate) fn check(&self, width: usize) -> Result<(), String> {
        if self.heads * self.head_size != width {
            return Err(format!("attention: {} heads of {} do not make {width} columns", self.heads, self.head_size));
        }
        if self.softmax.qln2 <= 0 {
            return Err(format!("attention: qln2 = {} must be positive", self.softmax.qln2));
        }
        expect_length("attention", "probability_scale", self.probability_scale.len(), self.heads)?;
        expect_length("attention", "context_scale", self.context_scale.len(), self.heads)
    }
}

impl DiagonalSum {
    /// Checks the sizes against the number of columns.
    ///
    /// # Errors
    /// A sentence that says what they should be.
    pub(crate) fn check(&self, name: &str, columns: usize) -> Result<(), String> {
        expect_length(name, "bias", self.bias.len(), columns)?;
        for term in &self.terms {
            expect_length(name, "diagonal", term.diagonal.len(), columns)?;
        }
        check_groups(name, &self.groups, columns)
    }
}

/// Whether the groups cover all columns in order.
pub(crate) fn check_groups(name: &str, groups: &[ColumnGroup], columns: usize) -> Result<(), String> {
    if !covers(groups, columns) {
        return Err(format!("{name}: column groups do not cover the {columns} columns in order"));
    }
    match groups.iter().find(|group| !group.scale.is_finite()) {
        Some(group) => Err(format!("{name}: the scale {} of columns {:?} is no number", group.scale, group.columns)),
        None => Ok(()),
    }
}

/// Whether every tensor but the probabilities has an encoding of its width.
pub(crate) fn check_encodings(encodings: &BTreeMap<Tensor, Encoding>, hidden: usize, ffn: usize) -> Result<(), String> {
    for tensor in Tensor::ALL.into_iter().filter(|&t| t != Tensor::Probabilities) {
        let width = if matches!(tensor, Tensor::Intermediate | Tensor::Gelu) { ffn } else { hidden };
        let encoding = encodings.get(&tensor).ok_or(format!("encoding of `{tensor}` is missing"))?;
        expect_length(tensor.name(), "scale", encoding.scale.len(), width)?;
        expect_length(tensor.name(), "offset", encoding.offset.len(), width)?;
    }
    Ok(())
}

pub(crate) fn expect_length(part: &str, what: &str, found: usize, expected: usize) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{part}: {what} has {found} elements, expected {expected}")) }
}

fn covers(groups: &[ColumnGroup], columns: usize) -> bool {
    let mut next = 0;
    for group in groups {
        if group.columns.start != next || group.columns.is_empty() {
            return false;
        }
        next = group.columns.end;
    }
    next == columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constants_agree_with_the_golden_case_programs() {
        // ib_gelu_32x64 and ib_softmax_16x32 configure these words for an input scale of 0.05.
        assert_eq!(GeluConstants::for_scale(0.05), GeluConstants { qb: -50, qc: -2770 });
        let s = SoftmaxConstants::for_scale(0.05).unwrap();
        assert_eq!(s, SoftmaxConstants { qln2: 13, qln2_inv: 5041, qb: 27, qc: 383 });
    }

    #[test]
    fn a_scale_above_ln2_has_no_exponential() {
        assert_eq!(SoftmaxConstants::for_scale(0.7), None);
    }

    #[test]
    fn groups_must_cover_all_columns() {
        let group = |columns| ColumnGroup { columns, scale: 1.0 };
        assert!(covers(&[group(0..3), group(3..5)], 5));
        assert!(!covers(&[group(0..3), group(4..5)], 5));
        assert!(!covers(&[group(0..3)], 5));
    }

    proptest! {
        #[test]
        fn quantising_dequantised_values_changes_nothing(
            q in proptest::collection::vec(-127i8..=127, 8), scale in 1e-3f32..10.0, offset in -5.0f32..5.0,
        ) {
            let encoding = Encoding { scale: vec![scale; 4], offset: vec![offset * scale; 4] };
            let q = Matrix::from_vec(2, 4, q);
            prop_assert_eq!(encoding.quantise(&encoding.dequantise(&q)), q);
        }

        #[test]
        fn quantisation_error_is_at_most_half_a_step(x in -12.0f32..12.0, scale in 0.1f32..1.0) {
            let encoding = Encoding::scaled(vec![scale]);
            let x = Matrix::from_vec(1, 1, vec![x.clamp(-127.0 * scale, 127.0 * scale)]);
            let back = encoding.dequantise(&encoding.quantise(&x));
            prop_assert!((back.data[0] - x.data[0]).abs() <= 0.5 * scale * 1.0001);
        }

        #[test]
        fn integer_gelu_follows_the_real_one(x in -8.0f64..8.0, scale in 0.006f64..0.02) {
            let constants = GeluConstants::for_scale(scale);
            let q = (x / scale).round() as i32;
            prop_assume!(constants.fits(i64::from(q).abs()));
            let y = f64::from(crate::layer_reference::gelu(q, constants)) * GeluConstants::output_scale(scale);
            let real = f64::from(crate::float::gelu((f64::from(q) * scale) as f32));
            prop_assert!((y - real).abs() < 0.04, "{y} {real}");
        }

        #[test]
        fn integer_exponential_follows_the_real_one(x in -8.0f64..0.0, scale in 0.0006f64..0.01) {
            let constants = SoftmaxConstants::for_scale(scale).unwrap();
            let q = (x / scale).round() as i32;
            let one = f64::from(crate::layer_reference::exponential(0, constants));
            let y = f64::from(crate::layer_reference::exponential(q, constants)) / one;
            prop_assert!((y - (f64::from(q) * scale).exp()).abs() < 0.03, "{y}");
        }
    }
}
