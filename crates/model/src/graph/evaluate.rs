//! The float32 meaning of a graph: every node computed plainly, in topological order.
//!
//! It defines what an imported model means and is what tests compare readers and importers with; it is not fast.

use std::collections::BTreeMap;

use super::error::GraphError;
use super::network::{EdgeId, GraphModel};
use super::operator::{Conv2d, GeluForm, Operator, TokenPooling, Window};
use super::rearrange;
use crate::float::{dot, gelu, gelu_tanh, normalise, softmax};
use crate::matrix::Matrix;

/// A tensor of the evaluation, row-major. Token ids are whole numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// Elements; the last dimension runs fastest.
    pub data: Vec<f32>,
}

impl Array {
    /// An array over `data`.
    ///
    /// # Panics
    /// If the number of elements does not fit the shape.
    pub fn new(shape: &[usize], data: Vec<f32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of shape {shape:?}");
        Self { shape: shape.to_vec(), data }
    }

    /// All dimensions but the last as rows.
    fn rows(&self) -> Matrix<f32> {
        let cols = self.shape.last().copied().unwrap_or(1);
        Matrix::from_vec(self.data.len() / cols, cols, self.data.clone())
    }

    /// Matrices `[rows, cols]` along the leading dimensions.
    fn batches(&self) -> impl Iterator<Item = &[f32]> {
        let [.., rows, cols] = self.shape[..] else { unreachable!("shapes are checked") };
        self.data.chunks(rows * cols)
    }
}

/// Every edge of the graph for the given run-time inputs (by edge name).
///
/// # Errors
/// If an input or constant is missing or has the wrong size, or a token id is outside its table.
pub fn evaluate(model: &GraphModel, inputs: &BTreeMap<&str, Array>) -> Result<BTreeMap<EdgeId, Array>, GraphError> {
    let graph = &model.graph;
    graph.check_memory()?;
    let mut values: BTreeMap<EdgeId, Array> = BTreeMap::new();
    for id in graph.inputs().chain(graph.constants()) {
        let edge = graph.edge(id);
        let data = match inputs.get(edge.name.as_str()) {
            Some(array) => array.data.clone(),
            None => model.constants.get(&id).cloned().unwrap_or_default(),
        };
        if data.len() != edge.elements() {
            return Err(GraphError::Values {
                edge: edge.name.clone(),
                shape: edge.shape.clone(),
                expected: edge.elements(),
                found: data.len(),
            });
        }
        values.insert(id, Array { shape: edge.shape.clone(), data });
    }
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let operands: Vec<&Array> = node.inputs.iter().map(|e| &values[e]).collect();
        let data = apply(&node.operator, &node.name, &operands, &graph.edge(node.output).shape)?;
        values.insert(node.output, Array { shape: graph.edge(node.output).shape.clone(), data });
    }
    Ok(values)
}

/// The float32 meaning of an operator; `name` is the node's, `shape` the result's.
pub(crate) fn apply(operator: &Operator, name: &str, x: &[&Array], shape: &[usize]) -> Result<Vec<f32>, GraphError> {
    let map = |f: fn(f32) -> f32| x[0].data.iter().map(|&v| f(v)).collect();
    Ok(match operator {
        Operator::Embedding { position, segment, first } => embedding(name, x, *position, *segment, *first)?,
        Operator::MatMul { transpose_b, bias } => matmul(x, *transpose_b, *bias),
        Operator::Attention { heads, scale, causal, .. } => attention(x, *heads, *scale, *causal),
        Operator::Softmax => {
            let mut rows = x[0].rows();
            (0..rows.rows).for_each(|r| softmax(rows.row_mut(r)));
            rows.data
        }
        Operator::LayerNorm { epsilon } => {
            let z = normalise(&x[0].rows(), *epsilon);
            let (gamma, beta) = (&x[1].data, &x[2].data);
            Matrix::from_fn(z.rows, z.cols, |r, c| gamma[c] * z.at(r, c) + beta[c]).data
        }
        Operator::RmsNorm { epsilon } => rms_norm(x, *epsilon),
        Operator::Rotary { size, base, first } => rotary(x[0], *size, *base, *first),
        Operator::Gelu { form: GeluForm::Erf } => map(gelu),
        Operator::Gelu { form: GeluForm::Tanh } => map(gelu_tanh),
        Operator::Relu => map(|v| v.max(0.0)),
        Operator::ClippedRelu { limit } => x[0].data.iter().map(|v| v.clamp(0.0, *limit)).collect(),
        Operator::Add => x[0].data.iter().zip(&x[1].data).map(|(a, b)| a + b).collect(),
        Operator::Concat { axis } => concat(&x.iter().map(|a| (&a.shape[..], &a.data[..])).collect::<Vec<_>>(), *axis),
        Operator::Pooling { kind } => {
            x[0].batches().flat_map(|b| pool(b, x[0].shape[x[0].shape.len() - 1], *kind)).collect()
        }
        Operator::Conv2d(conv) => convolution(x, conv, shape),
        Operator::MaxPool(window) => {
            windows(x[0], window, shape, |inside, _| inside.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        }
        Operator::AveragePool { window, count_padding } => windows(x[0], window, shape, |inside, all| {
            inside.iter().sum::<f32>() / if *count_padding { all } else { inside.len() } as f32
        }),
        Operator::GlobalAveragePool => {
            let pixels = x[0].shape[1] * x[0].shape[2];
            let mean = |image: &[f32]| -> Vec<f32> {
                let c = image.len() / pixels;
                (0..c).map(|c0| image.iter().skip(c0).step_by(c).sum::<f32>() / pixels as f32).collect()
            };
            x[0].data.chunks(pixels * shape[1]).flat_map(mean).collect()
        }
        Operator::Reshape { .. } => x[0].data.clone(),
        Operator::Elementwise { expression } => {
            x[0].data.iter().map(|&v| expression.eval(f64::from(v)) as f32).collect()
        }
        Operator::Binary { function } => {
            rearrange::broadcast(x, shape, |v| function.eval(f64::from(v[0]), f64::from(v[1])) as f32)
        }
        Operator::Select => rearrange::broadcast(x, shape, |v| if v[0] != 0.0 { v[1] } else { v[2] }),
        Operator::LocalResponseNorm { size, alpha, beta, bias } => {
            rearrange::local_response_norm(x[0], *size, [*alpha, *beta, *bias])
        }
        operator => rearrange::apply(operator, x, shape).map_err(|index| {
            let rows = x[0].shape.first().copied().unwrap_or(0);
            GraphError::Index { node: name.to_owned(), index, rows }
        })?,
    })
}

fn rms_norm(x: &[&Array], epsilon: f32) -> Vec<f32> {
    let gamma = &x[1].data;
    let row = |row: &[f32]| -> Vec<f32> {
        let squares: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let factor = (squares / row.len() as f64 + f64::from(epsilon)).sqrt().recip();
        row.iter().zip(gamma).map(|(&v, &g)| (f64::from(v) * factor) as f32 * g).collect()
    };
    x[0].data.chunks(gamma.len()).flat_map(row).collect()
}

fn rotary(x: &Array, size: usize, base: f32, first: usize) -> Vec<f32> {
    let width = x.shape[x.shape.len() - 1];
    let mut out = Vec::with_capacity(x.data.len());
    for (row, values) in x.data.chunks(width).enumerate() {
        for (pair, values) in values.chunks(2).enumerate() {
            // The functions are the `libm` crate's, so that every machine computes the same.
            let exponent = 2.0 * (pair % (size / 2)) as f64 / size as f64;
            let angle = (first + row) as f64 / libm::pow(f64::from(base), exponent);
            let [sin, cos] = [libm::sin(angle), libm::cos(angle)];
            let [a, b] = [values[0], values[1]].map(f64::from);
            out.extend([a * cos - b * sin, a * sin + b * cos].map(|v| v as f32));
        }
    }
    out
}

fn embedding(name: &str, x: &[&Array], position: bool, segment: bool, first: usize) -> Result<Vec<f32>, GraphError> {
    let (ids, words) = (x[0], x[1].rows());
    let tokens = ids.shape.last().copied().unwrap_or(1);
    let mut out = Vec::with_capacity(ids.data.len() * words.cols);
    for (i, &id) in ids.data.iter().enumerate() {
        if id < 0.0 || id as usize >= words.rows {
            return Err(GraphError::Index { node: name.to_owned(), index: id as i64, rows: words.rows });
        }
        for (c, &word) in words.row(id as usize).iter().enumerate() {
            let p = if position { x[2].data[(first + i % tokens) * words.cols + c] } else { 0.0 };
            let s = if segment { x[2 + usize::from(position)].data[c] } else { 0.0 };
            out.push(word + p + s);
        }
    }
    Ok(out)
}

fn matmul(x: &[&Array], transpose_b: bool, bias: bool) -> Vec<f32> {
    let k = x[0].shape[x[0].shape.len() - 1];
    let shared = x[1].shape.len() == 2;
    // Columns of B as rows, so that every element is one inner product.
    let columns: Vec<Matrix<f32>> = (x[1].batches())
        .map(|b| {
            if transpose_b {
                Matrix::from_vec(b.len() / k, k, b.to_vec())
            } else {
                Matrix::from_vec(k, b.len() / k, b.to_vec()).transposed()
            }
        })
        .collect();
    let mut out = Vec::new();
    for (i, a) in x[0].batches().enumerate() {
        let b = &columns[if shared { 0 } else { i }];
        for row in a.chunks(k) {
            out.extend((0..b.rows).map(|j| dot(row, b.row(j)) + if bias { x[2].data[j] } else { 0.0 }));
        }
    }
    out
}

fn attention(x: &[&Array], heads: usize, scale: f32, causal: bool) -> Vec<f32> {
    let width = x[0].shape[x[0].shape.len() - 1];
    let d = width / heads;
    let mut out = Vec::with_capacity(x[0].data.len());
    for (batch, queries) in x[0].batches().enumerate() {
        // The cache, if there is one, comes before the new tokens.
        let all = |new: usize, old: usize| -> Vec<f32> {
            let of = |a: &&Array| a.batches().nth(batch).unwrap_or_default().to_vec();
            [x.get(old).map(of).unwrap_or_default(), of(&x[new])].concat()
        };
        let (keys, values) = (all(1, 3), all(2, 4));
        let key_width = x[1].shape[x[1].shape.len() - 1];
        let shared = heads * d / key_width;
        let (tokens, count) = (queries.len() / width, keys.len() / key_width);
        for (t, query) in queries.chunks(width).enumerate() {
            for (head, query) in query.chunks(d).enumerate() {
                let span = head / shared * d..(head / shared + 1) * d;
                let visible = if causal { count - tokens + t + 1 } else { count };
                let mut scores: Vec<f32> =
                    (keys.chunks(key_width).take(visible)).map(|key| scale * dot(query, &key[span.clone()])).collect();
                softmax(&mut scores);
                out.extend(
                    span.map(|c| scores.iter().enumerate().map(|(k, p)| p * values[k * key_width + c]).sum::<f32>()),
                );
            }
        }
    }
    out
}

fn pool(tokens: &[f32], width: usize, kind: TokenPooling) -> Vec<f32> {
    match kind {
        TokenPooling::First => tokens[..width].to_vec(),
        TokenPooling::MeanNormalised => {
            let rows = (tokens.len() / width) as f32;
            let mean: Vec<f32> = (0..width).map(|c| tokens.iter().skip(c).step_by(width).sum::<f32>() / rows).collect();
            let norm = dot(&mean, &mean).sqrt().max(f32::MIN_POSITIVE);
            mean.into_iter().map(|v| v / norm).collect()
        }
    }
}

/// Tensors (shape and elements) one behind the other along an axis.
pub(crate) fn concat<T: Copy>(operands: &[(&[usize], &[T])], axis: usize) -> Vec<T> {
    let runs: Vec<usize> = operands.iter().map(|(shape, _)| shape[axis..].iter().product()).collect();
    let mut out = Vec::with_capacity(operands.iter().map(|(_, data)| data.len()).sum());
    for outer in 0..operands[0].1.len() / runs[0] {
        for ((_, data), run) in operands.iter().zip(&runs) {
            out.extend_from_slice(&data[outer * run..][..*run]);
        }
    }
    out
}

/// Rows or columns of the image under window position `at`: kernel index and image index.
pub(crate) fn taps(window: &Window, axis: usize, at: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let (start, padding, dilation) = (at * window.stride[axis], window.padding[axis], window.dilation[axis]);
    // Only those inside, so that the time does not depend on the padding.
    let first = padding.saturating_sub(start).div_ceil(dilation);
    let end = (size + padding).saturating_sub(start).div_ceil(dilation).min(window.kernel[axis]);
    (first..end).map(move |k| (k, start + k * dilation - padding))
}

fn convolution(x: &[&Array], conv: &Conv2d, shape: &[usize]) -> Vec<f32> {
    let [_, height, width, channels] = x[0].shape[..] else { unreachable!("shapes are checked") };
    let [n, rows, cols, outputs] = shape else { unreachable!("shapes are checked") };
    let (per_group, outputs_per_group) = (channels / conv.groups, outputs / conv.groups);
    let (image, weights, kernel_cols) = (&x[0].data, &x[1].data, conv.window.kernel[1]);
    let mut out = Vec::with_capacity(n * rows * cols * outputs);
    for (b, r, c) in (0..*n).flat_map(|b| (0..*rows).flat_map(move |r| (0..*cols).map(move |c| (b, r, c)))) {
        // All output channels at a time, so that the innermost loop reads weights in their order.
        let mut sums = if conv.bias { x[2].data.clone() } else { vec![0.0; *outputs] };
        for (kr, ir) in taps(&conv.window, 0, r, height) {
            for (kc, ic) in taps(&conv.window, 1, c, width) {
                let pixel = &image[((b * height + ir) * width + ic) * channels..][..channels];
                let first = (kr * kernel_cols + kc) * per_group;
                for (channel, &value) in pixel.iter().enumerate() {
                    let start = channel / per_group * outputs_per_group;
                    let row = &weights[(first + channel % per_group) * outputs + start..][..outputs_per_group];
                    sums[start..].iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
                }
            }
        }
        out.append(&mut sums);
    }
    out
}

/// Applies `f` to the elements inside each window and the window's full size.
fn windows(x: &Array, window: &Window, shape: &[usize], f: impl Fn(&[f32], usize) -> f32) -> Vec<f32> {
    let [_, height, width, channels] = x.shape[..] else { unreachable!("shapes are checked") };
    let [n, rows, cols, _] = shape else { unreachable!("shapes are checked") };
    let mut out = Vec::new();
    for (b, r, c) in (0..*n).flat_map(|b| (0..*rows).flat_map(move |r| (0..*cols).map(move |c| (b, r, c)))) {
        for channel in 0..channels {
            let inside: Vec<f32> = taps(window, 0, r, height)
                .flat_map(|(_, ir)| taps(window, 1, c, width).map(move |(_, ic)| (ir, ic)))
                .map(|(ir, ic)| x.data[((b * height + ir) * width + ic) * channels + channel])
                .collect();
            out.push(f(&inside, window.kernel[0] * window.kernel[1]));
        }
    }
    out
}
