//! The integer reference of convolutional networks: every operation as the accelerator does it, without the machine.

use crate::files::encoding::INT8_MAX;
use crate::graph::error::GraphError;
use crate::graph::evaluate::{concat, taps};
use crate::graph::operator::{Conv2d, Window};
use crate::quantise::integer_graph::{IntegerGraph, IntegerOperation, Step, Tensors, Weights};
use crate::reference::layer::scale_to_int8;

impl IntegerGraph {
    /// Every int8 tensor for the given inputs: the integer reference.
    ///
    /// # Errors
    /// If an input is missing or has the wrong size.
    pub fn execute(&self, inputs: &Tensors) -> Result<Tensors, GraphError> {
        let mut tensors = Tensors::new();
        for id in self.graph.inputs() {
            let edge = self.graph.edge(id);
            let data = inputs.get(&id).cloned().unwrap_or_default();
            if data.len() != edge.elements() {
                let (expected, found) = (edge.elements(), data.len());
                return Err(GraphError::Values { edge: edge.name.clone(), shape: edge.shape.clone(), expected, found });
            }
            tensors.insert(id, data);
        }
        for step in &self.steps {
            let operands: Vec<&[i8]> = step.inputs.iter().map(|e| tensors[e].as_slice()).collect();
            let result = self.apply(step, &operands);
            tensors.insert(step.output, result);
        }
        Ok(tensors)
    }

    fn apply(&self, step: &Step, x: &[&[i8]]) -> Vec<i8> {
        let shape = &self.graph.edge(step.inputs[0]).shape;
        let out = &self.graph.edge(step.output).shape;
        match &step.operation {
            IntegerOperation::MatMul(weights) => matmul(x[0], weights),
            IntegerOperation::Conv2d { conv, weights } => convolution(x[0], shape, conv, weights, out),
            IntegerOperation::MaxPool(window) => {
                pool(x[0], shape, window, out, |inside| inside.max().map_or(0, |x| x as i8))
            }
            IntegerOperation::AveragePool { window, count_padding } => pool(x[0], shape, window, out, |inside| {
                let (count, sum) = inside.fold((0, 0), |(count, sum), x| (count + 1, sum + x));
                let count = if *count_padding { window.kernel[0] * window.kernel[1] } else { count };
                scale_to_int8(sum, 1.0 / count.max(1) as f32)
            }),
            IntegerOperation::GlobalAverage { scale } => global_average(x[0], shape, *scale),
            IntegerOperation::Add { scales, scale, relu } => {
                let add = |(&a, &b): (&i8, &i8)| {
                    let [a, b] = [(a, scales[0]), (b, scales[1])].map(|(x, s)| i32::from(scale_to_int8(x.into(), s)));
                    scale_to_int8(if *relu { (a + b).max(0) } else { a + b }, *scale)
                };
                x[0].iter().zip(x[1]).map(add).collect()
            }
            IntegerOperation::Relu => x[0].iter().map(|&x| x.max(0)).collect(),
            IntegerOperation::ClippedRelu { scale } => {
                x[0].iter().map(|&x| scale_to_int8(x.max(0).into(), *scale)).collect()
            }
            IntegerOperation::Concat { axis, scales } => {
                let read = |(x, scale): (&&[i8], &f32)| -> Vec<i8> {
                    x.iter().map(|&x| scale_to_int8(x.into(), *scale)).collect()
                };
                let parts: Vec<Vec<i8>> = x.iter().zip(scales).map(read).collect();
                let shapes = step.inputs.iter().map(|&edge| &self.graph.edge(edge).shape[..]);
                concat(&shapes.zip(parts.iter().map(Vec::as_slice)).collect::<Vec<_>>(), *axis)
            }
            IntegerOperation::Softmax { scale } => {
                x[0].chunks(out.last().copied().unwrap_or(1)).flat_map(|row| softmax(row, *scale)).collect()
            }
            IntegerOperation::Reshape => x[0].to_vec(),
        }
    }
}

impl Weights {
    /// The int8 results of a row of sums that begins with [`Weights::bias`].
    fn read_out(&self, sums: &[i32], out: &mut Vec<i8>) {
        for group in &self.groups {
            let read = |&sum: &i32| scale_to_int8(if self.relu { sum.max(0) } else { sum }, group.scale);
            out.extend(sums[group.columns.clone()].iter().map(read));
        }
    }
}

/// Adds `x` times each weight.
fn accumulate(sums: &mut [i32], x: i8, weights: &[i8]) {
    let x = i32::from(x);
    for (sum, &w) in sums.iter_mut().zip(weights) {
        *sum = sum.wrapping_add(x * i32::from(w));
    }
}

fn matmul(x: &[i8], weights: &Weights) -> Vec<i8> {
    let mut out = Vec::with_capacity(x.len() / weights.values.rows * weights.values.cols);
    for row in x.chunks(weights.values.rows) {
        let mut sums = weights.bias.clone();
        row.iter().enumerate().for_each(|(k, &x)| accumulate(&mut sums, x, weights.values.row(k)));
        weights.read_out(&sums, &mut out);
    }
    out
}

fn convolution(x: &[i8], shape: &[usize], conv: &Conv2d, weights: &Weights, out_shape: &[usize]) -> Vec<i8> {
    let [_, height, width, channels] = shape[..] else { unreachable!("shapes are checked") };
    let [images, rows, cols, outputs] = out_shape[..] else { unreachable!("shapes are checked") };
    let (per_group, outputs_per_group) = (channels / conv.groups, outputs / conv.groups);
    let mut out = Vec::with_capacity(images * rows * cols * outputs);
    for pixel in 0..images * rows * cols {
        let (image, row, col) = (pixel / (rows * cols), pixel / cols % rows, pixel % cols);
        let mut sums = weights.bias.clone();
        for (krow, irow) in taps(&conv.window, 0, row, height) {
            for (kcol, icol) in taps(&conv.window, 1, col, width) {
                let pixel = &x[((image * height + irow) * width + icol) * channels..][..channels];
                let first = (krow * conv.window.kernel[1] + kcol) * per_group;
                for (channel, &x) in pixel.iter().enumerate() {
                    let group = channel / per_group;
                    let columns = group * outputs_per_group..(group + 1) * outputs_per_group;
                    let weights = weights.values.row(first + channel % per_group);
                    accumulate(&mut sums[columns.clone()], x, &weights[columns]);
                }
            }
        }
        weights.read_out(&sums, &mut out);
    }
    out
}

/// Applies `f` to the elements inside each window.
fn pool(
    x: &[i8],
    shape: &[usize],
    window: &Window,
    out_shape: &[usize],
    f: impl Fn(&mut dyn Iterator<Item = i32>) -> i8,
) -> Vec<i8> {
    let [_, height, width, channels] = shape[..] else { unreachable!("shapes are checked") };
    let [images, rows, cols, _] = out_shape[..] else { unreachable!("shapes are checked") };
    let mut out = Vec::with_capacity(images * rows * cols * channels);
    for pixel in 0..images * rows * cols {
        let (image, row, col) = (pixel / (rows * cols), pixel / cols % rows, pixel % cols);
        for channel in 0..channels {
            let mut inside = taps(window, 0, row, height).flat_map(|(_, irow)| {
                taps(window, 1, col, width)
                    .map(move |(_, icol)| i32::from(x[((image * height + irow) * width + icol) * channels + channel]))
            });
            out.push(f(&mut inside));
        }
    }
    out
}

/// One row's probabilities.
fn softmax(row: &[i8], scale: f32) -> Vec<i8> {
    let max = row.iter().copied().max().unwrap_or(0);
    let exponentials: Vec<f32> = row.iter().map(|&x| libm::expf(scale * (f32::from(x) - f32::from(max)))).collect();
    let factor = INT8_MAX / exponentials.iter().sum::<f32>();
    exponentials.into_iter().map(|e| (e * factor).round_ties_even() as i8).collect()
}

fn global_average(x: &[i8], shape: &[usize], scale: f32) -> Vec<i8> {
    let [_, height, width, channels] = shape[..] else { unreachable!("shapes are checked") };
    let mut out = Vec::new();
    for image in x.chunks(height * width * channels) {
        let sum = |c: usize| image.iter().skip(c).step_by(channels).map(|&x| i32::from(x)).sum();
        out.extend((0..channels).map(|c| scale_to_int8(sum(c), scale)));
    }
    out
}
