//! Pruning: heads, feed-forward columns, whole blocks and single weights of quantised layers.
//!
//! Each technique exists twice: on the quantised layer it sets weights to zero, which tells the accuracy (the integer
//! reference runs it); on the kernels' parameters it leaves the work out, which saves the cycles. Both give the same result,
//! bit for bit.

use std::ops::Range;

use pollux_kernels::{ColumnGroup, DiagonalSum};
use pollux_model::Tensor;
use pollux_model::layer::{self, QuantisedLayer};

use crate::error::CompileError;
use crate::lowering::Weights;
use crate::parameters::{self, EncoderLayerParams};

/// What is left out of every layer of an encoder; by default nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Techniques {
    /// Heads of each layer, the least important ones.
    pub heads: usize,
    /// Column groups of each feed-forward network, the least important ones.
    pub ffn_groups: usize,
    /// Fraction of the blocks of weights.
    pub blocks: f64,
    /// Fraction of the weights; blocks that are all zero then are left out.
    pub weights: f64,
    /// Fraction of the tokens that go on after a layer.
    pub keep: Vec<(usize, f64)>,
}

impl Techniques {
    /// Whether layers become smaller.
    pub fn shrinks(&self) -> bool {
        self.heads > 0 || self.ffn_groups > 0
    }

    /// The layers with zeros for what is left out, and without it. `dim` is the size of a block.
    ///
    /// # Errors
    /// Nothing would be left, or a fraction outside 0..1.
    pub fn apply(
        &self,
        layers: &[QuantisedLayer],
        dim: usize,
    ) -> Result<(Vec<QuantisedLayer>, Vec<EncoderLayerParams>), CompileError> {
        let mut zeroed = layers.to_vec();
        let mut shrunk = Vec::with_capacity(layers.len());
        for layer in &mut zeroed {
            prune_blocks(layer, self.blocks, dim)?;
            prune_weights(layer, self.weights)?;
            let mut params = parameters::encoder_layer(layer);
            if self.shrinks() {
                let pruning = Pruning::least(layer, self.heads, self.ffn_groups)?;
                pruning.zero(layer);
                pruning.shrink(&mut params);
            }
            shrunk.push(params);
        }
        Ok((zeroed, shrunk))
    }

    /// Checks the layers behind which tokens are left out.
    ///
    /// # Errors
    /// A layer that does not exist, or a fraction outside 0..=1.
    pub fn check_layers(&self, layers: usize) -> Result<(), CompileError> {
        match self.keep.iter().find(|(layer, fraction)| *layer >= layers || !(*fraction > 0.0 && *fraction <= 1.0)) {
            None => Ok(()),
            Some((layer, fraction)) => Err(CompileError::Technique {
                technique: "token pruning",
                what: format!(
                    "{fraction} after layer {layer}: a fraction above 0 and at most 1 after layers 0 to {}",
                    layers - 1
                ),
            }),
        }
    }
}

/// What is left out of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// Heads, in rising order.
    pub heads: Vec<usize>,
    /// Groups of columns of the feed-forward network (GELU's read-out groups), in rising order.
    pub ffn_groups: Vec<usize>,
}

impl Pruning {
    /// The least important heads and groups of a layer: those whose rows of the next product, in real units, have the
    /// smallest sum of magnitudes.
    ///
    /// # Errors
    /// All heads or all groups would go.
    pub fn least(layer: &QuantisedLayer, heads: usize, ffn_groups: usize) -> Result<Self, CompileError> {
        let size = layer.attention.head_size;
        let of_heads: Vec<Range<usize>> = (0..layer.attention.heads).map(|h| h * size..(h + 1) * size).collect();
        let of_groups: Vec<Range<usize>> = layer.gelu.groups.iter().map(|group| group.columns.clone()).collect();
        for (what, count, all) in [("heads", heads, of_heads.len()), ("column groups", ffn_groups, of_groups.len())] {
            if count >= all {
                let what = format!("{count} of {all} {what}: leave at least one");
                return Err(CompileError::Technique { technique: "structured pruning", what });
            }
        }
        let output = RowWeights::new(layer, Tensor::AttentionOutput, &layer.attention_output);
        let ffn_output = RowWeights::new(layer, Tensor::FfnOutput, &layer.ffn_output);
        Ok(Self { heads: least(&of_heads, heads, &output), ffn_groups: least(&of_groups, ffn_groups, &ffn_output) })
    }

    /// Sets what is left out to zero.
    pub fn zero(&self, layer: &mut QuantisedLayer) {
        let size = layer.attention.head_size;
        for &head in &self.heads {
            zero_inputs(&mut layer.attention_output, &(head * size..(head + 1) * size));
        }
        for &group in &self.ffn_groups {
            zero_inputs(&mut layer.ffn_output, &layer.gelu.groups[group].columns);
        }
    }

    /// Makes the layer smaller.
    pub fn shrink(&self, params: &mut EncoderLayerParams) {
        let attention = &mut params.attention;
        let (heads, size) = (attention.heads, attention.head_size);
        let kept: Vec<usize> = (0..heads).filter(|head| !self.heads.contains(head)).collect();
        let columns: Vec<usize> = kept.iter().flat_map(|head| head * size..(head + 1) * size).collect();
        attention.heads = kept.len();
        for scales in [&mut attention.probability_scale, &mut attention.context_scale] {
            *scales = kept.iter().map(|&head| scales[head]).collect();
        }
        for linear in [&mut params.query, &mut params.key, &mut params.value] {
            keep_outputs(linear, &columns);
        }
        keep_inputs(&mut params.attention_output, &columns);

        let columns = keep_groups(&mut params.gelu, &self.ffn_groups);
        keep_outputs(&mut params.intermediate, &columns);
        keep_inputs(&mut params.ffn_output, &columns);
    }
}

/// Magnitudes of a product's weights in real units, up to a common factor.
struct RowWeights<'a> {
    linear: &'a layer::Linear,
    /// Of each output.
    units: &'a [f32],
}

impl<'a> RowWeights<'a> {
    fn new(layer: &'a QuantisedLayer, output: Tensor, linear: &'a layer::Linear) -> Self {
        // The scale of an output is in one fixed proportion to that of its weights (`pollux_model::quantise`).
        Self { linear, units: &layer.encoding(output).scale }
    }

    fn sum(&self, inputs: &Range<usize>) -> f64 {
        let row =
            |r| self.linear.weights.row(r).iter().zip(self.units).map(|(&w, &u)| f64::from(w).abs() * f64::from(u));
        rows_of(self.linear, inputs).into_iter().map(|r| row(r).sum::<f64>()).sum()
    }
}

fn least(parts: &[Range<usize>], count: usize, weights: &RowWeights<'_>) -> Vec<usize> {
    let mut order: Vec<(f64, usize)> = parts.iter().map(|inputs| weights.sum(inputs)).zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut chosen: Vec<usize> = order.into_iter().take(count).map(|(_, index)| index).collect();
    chosen.sort_unstable();
    chosen
}

/// Zeroes the weights of some input columns, wherever they occur in A.
fn zero_inputs(linear: &mut layer::Linear, inputs: &Range<usize>) {
    let rows: Vec<usize> = rows_of(linear, inputs);
    rows.into_iter().for_each(|row| linear.weights.row_mut(row).fill(0));
}

/// Rows of the weights that belong to some input columns.
fn rows_of(linear: &layer::Linear, inputs: &Range<usize>) -> Vec<usize> {
    linear.columns().enumerate().filter(|(_, column)| inputs.contains(column)).map(|(row, _)| row).collect()
}

fn keep_outputs(weights: &mut Weights, columns: &[usize]) {
    let linear = &mut weights.linear;
    let rows = linear.weights.chunks_exact(linear.outputs.max(1));
    linear.weights = rows.flat_map(|row| columns.iter().map(|&c| row[c])).collect();
    linear.bias = columns.iter().map(|&c| linear.bias[c]).collect();
    linear.outputs = columns.len();
}

/// `columns` are the input's columns that stay, in rising order.
fn keep_inputs(weights: &mut Weights, columns: &[usize]) {
    let Weights { linear, repeats } = weights;
    let repeated: Vec<usize> = repeats.iter().cloned().flatten().collect();
    let plain = linear.inputs - repeated.len();
    let stays: Vec<(usize, usize)> = (0..plain)
        .chain(repeated)
        .enumerate()
        .filter_map(|(row, column)| Some((row, columns.binary_search(&column).ok()?)))
        .collect();
    let width = linear.outputs;
    let rows = stays.iter().flat_map(|&(row, _)| &linear.weights[row * width..(row + 1) * width]);
    linear.weights = rows.copied().collect();
    linear.inputs = stays.len();
    repeats.clear();
    for &(_, column) in &stays[columns.len()..] {
        match repeats.last_mut() {
            Some(range) if range.end == column => range.end += 1,
            _ => repeats.push(column..column + 1),
        }
    }
}

/// Leaves groups out; the columns that stay.
fn keep_groups(sum: &mut DiagonalSum, pruned: &[usize]) -> Vec<usize> {
    let kept: Vec<ColumnGroup> =
        sum.groups.iter().enumerate().filter(|(i, _)| !pruned.contains(i)).map(|(_, g)| g.clone()).collect();
    let columns: Vec<usize> = kept.iter().flat_map(|group| group.columns.clone()).collect();
    let mut next = 0;
    sum.groups = kept
        .into_iter()
        .map(|group| {
            let start = next;
            next += group.columns.len();
            ColumnGroup { columns: start..next, ..group }
        })
        .collect();
    sum.bias = columns.iter().map(|&c| sum.bias[c]).collect();
    for term in &mut sum.terms {
        term.diagonal = columns.iter().map(|&c| term.diagonal[c]).collect();
    }
    columns
}

/// Sets the given fraction of the DIM x DIM blocks of each dense product to zero, those with the smallest sums of squares
/// first. [`crate::plan::Plan::skip_zero_tiles`] leaves them out.
///
/// # Errors
/// A fraction outside 0..1.
pub fn prune_blocks(layer: &mut QuantisedLayer, fraction: f64, dim: usize) -> Result<(), CompileError> {
    check_fraction("block pruning", fraction)?;
    for linear in linears(layer) {
        let weights = &mut linear.weights;
        let mut blocks = Vec::new();
        for row in (0..weights.rows).step_by(dim) {
            for col in (0..weights.cols).step_by(dim) {
                let rows = row..(row + dim).min(weights.rows);
                let cols = col..(col + dim).min(weights.cols);
                let square = |r: usize| weights.row(r)[cols.clone()].iter().map(|&w| i64::from(w).pow(2)).sum::<i64>();
                blocks.push((rows.clone().map(square).sum::<i64>(), rows, cols));
            }
        }
        blocks.sort_by_key(|(square, ..)| *square);
        let count = (blocks.len() as f64 * fraction) as usize;
        for (_, rows, cols) in blocks.into_iter().take(count) {
            rows.for_each(|r| weights.row_mut(r)[cols.clone()].fill(0));
        }
    }
    Ok(())
}

/// Sets the given fraction of the weights of each dense product to zero, the smallest magnitudes first (of equals the
/// earlier ones).
///
/// # Errors
/// A fraction outside 0..1.
pub fn prune_weights(layer: &mut QuantisedLayer, fraction: f64) -> Result<(), CompileError> {
    check_fraction("weight pruning", fraction)?;
    for linear in linears(layer) {
        let data = &mut linear.weights.data;
        let mut order: Vec<u32> = (0..data.len() as u32).collect();
        order.sort_by_key(|&i| data[i as usize].unsigned_abs());
        let count = (data.len() as f64 * fraction) as usize;
        order[..count].iter().for_each(|&i| data[i as usize] = 0);
    }
    Ok(())
}

fn check_fraction(technique: &'static str, fraction: f64) -> Result<(), CompileError> {
    if (0.0..1.0).contains(&fraction) {
        return Ok(());
    }
    Err(CompileError::Technique { technique, what: format!("the fraction {fraction} must be at least 0 and below 1") })
}

fn linears(layer: &mut QuantisedLayer) -> [&mut layer::Linear; 6] {
    [
        &mut layer.query,
        &mut layer.key,
        &mut layer.value,
        &mut layer.attention_output,
        &mut layer.intermediate,
        &mut layer.ffn_output,
    ]
}
