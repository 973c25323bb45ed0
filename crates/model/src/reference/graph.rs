//! The integer reference of convolutional networks: every operation as the accelerator does it, without the machine.

use crate::float::AttentionMask;
use crate::graph::error::GraphError;
use crate::graph::evaluate::{self, Array, concat, taps};
use crate::graph::operator::{Conv2d, Operator, Window};
use crate::layer::{DiagonalSum, QuantisedLayer};
use crate::matrix::Matrix;
use crate::quantise::integer_graph::{
    Format, HostOperand, IntegerGraph, IntegerOperation, Numbers, Step, Tensors, Values, Weights, scale_by_rows,
};
use crate::reference::layer::{LayerTrace, attention, diagonal_sum, layer_reference, scale_to_int8};
use crate::tensor::Tensor;

/// Smallest result of the host in int8, as of the accelerator's saturation.
const INT8_MIN: f32 = -128.0;

impl IntegerGraph {
    /// Every tensor for the given inputs: the integer reference.
    ///
    /// # Errors
    /// If an input is missing or has the wrong size, or an index lies outside its table.
    pub fn execute(&self, inputs: &Tensors) -> Result<Tensors, GraphError> {
        let mut tensors = Tensors::new();
        for id in self.graph.inputs() {
            let edge = self.graph.edge(id);
            let data = inputs.get(&id).cloned().unwrap_or(Values::Float(Vec::new()));
            if data.len() != edge.elements() {
                let (expected, found) = (edge.elements(), data.len());
                return Err(GraphError::Values { edge: edge.name.clone(), shape: edge.shape.clone(), expected, found });
            }
            tensors.insert(id, data);
        }
        for step in &self.steps {
            let operands: Vec<&Values> = step.inputs.iter().map(|e| &tensors[e]).collect();
            let inputs: Vec<Format> = step.inputs.iter().map(|&e| self.format(e)).collect();
            if let IntegerOperation::Encoder { layer, tensors: inner } = &step.operation {
                let mut trace = encoder_layer(layer, &step.name, operands[0])?;
                let outputs =
                    inner.iter().map(|(&tensor, &edge)| (tensor, edge)).chain([(Tensor::Output, step.output)]);
                let all =
                    outputs.filter_map(|(tensor, edge)| Some((edge, Values::Int8(trace.int8.remove(&tensor)?.data))));
                tensors.extend(all);
                continue;
            }
            let result = apply(&step.operation, &step.name, &inputs, &self.format(step.output), &operands)?;
            tensors.insert(step.output, result);
        }
        Ok(tensors)
    }

    /// A step with the formats of its tensors.
    pub fn task(&self, step: &Step) -> Task {
        Task {
            operation: step.operation.clone(),
            name: step.name.clone(),
            inputs: step.inputs.iter().map(|&edge| self.format(edge)).collect(),
            output: self.format(step.output),
        }
    }
}

/// A step by itself, as the host does it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What it does.
    pub operation: IntegerOperation,
    /// Name of the step.
    pub name: String,
    /// Formats of its operands.
    pub inputs: Vec<Format>,
    /// Format of its result.
    pub output: Format,
}

impl Task {
    /// The result for these operands.
    ///
    /// # Errors
    /// An index outside its table.
    pub fn run(&self, operands: &[&Values]) -> Result<Values, GraphError> {
        apply(&self.operation, &self.name, &self.inputs, &self.output, operands)
    }
}

fn apply(
    operation: &IntegerOperation,
    name: &str,
    inputs: &[Format],
    output: &Format,
    operands: &[&Values],
) -> Result<Values, GraphError> {
    match operation {
        IntegerOperation::Host { operator, operands: all, .. } => host(operator, name, all, inputs, output, operands),
        IntegerOperation::Reshape => Ok(operands[0].clone()),
        IntegerOperation::Encoder { layer, .. } => {
            Ok(Values::Int8(encoder_layer(layer, name, operands[0])?.output().data.clone()))
        }
        operation => {
            let shapes: Vec<&[usize]> = inputs.iter().map(|format| &format.shape[..]).collect();
            let operands: Vec<&[i8]> = operands.iter().map(|values| values.int8()).collect();
            Ok(match (operation, &output.numbers) {
                (IntegerOperation::MatMul(weights), Numbers::Int32 { .. }) => {
                    Values::Int32(matmul(operands[0], weights, |sums, out| out.extend_from_slice(sums)))
                }
                (IntegerOperation::Product { transpose_b, .. }, Numbers::Int32 { .. }) => {
                    Values::Int32(product(&operands, &shapes, *transpose_b, |sum| sum))
                }
                _ => Values::Int8(integers(operation, &shapes, &output.shape, &operands)),
            })
        }
    }
}

fn encoder_layer(layer: &QuantisedLayer, name: &str, x: &Values) -> Result<LayerTrace, GraphError> {
    let input = Matrix::from_vec(x.len() / layer.hidden.max(1), layer.hidden, x.int8().to_vec());
    layer_reference(layer, &input, AttentionMask::Full).map_err(|error| GraphError::Node {
        node: name.to_owned(),
        operator: "encoder_layer",
        reason: error.to_string(),
    })
}

/// The host's float32.
fn host(
    operator: &Operator,
    name: &str,
    all: &[HostOperand],
    inputs: &[Format],
    output: &Format,
    operands: &[&Values],
) -> Result<Values, GraphError> {
    if let (Operator::Elementwise { expression }, Values::Int8(x)) = (operator, operands[0]) {
        // The same function of 256 numbers.
        let table = (i8::MIN..=i8::MAX).map(|q| inputs[0].numbers.scale().unwrap_or(1.0) * f32::from(q));
        let table: Vec<f32> = table.map(|x| expression.eval(f64::from(x)) as f32).collect();
        let reals: Vec<f32> = x.iter().map(|&q| table[(i16::from(q) + 128) as usize]).collect();
        return Ok(output.of_reals(&reals, INT8_MIN));
    }
    let mut tensors = inputs.iter().zip(operands);
    let mut arrays: Vec<Array> = Vec::new();
    for operand in all {
        match operand {
            HostOperand::Tensor => {
                arrays.push(tensors.next().map_or_else(Array::default, |(format, values)| format.reals(values)));
            }
            HostOperand::RowScales => {
                if let (Some((_, Values::Rows { scales, .. })), Some(sums)) = (tensors.next(), arrays.last_mut()) {
                    scale_by_rows(sums, scales);
                }
            }
            HostOperand::Constant { shape, data } => arrays.push(Array { shape: shape.clone(), data: data.clone() }),
        }
    }
    let reals = evaluate::apply(operator, name, &arrays.iter().collect::<Vec<_>>(), &output.shape)?;
    Ok(output.of_reals(&reals, INT8_MIN))
}

fn integers(operation: &IntegerOperation, shapes: &[&[usize]], out: &[usize], x: &[&[i8]]) -> Vec<i8> {
    let shape = shapes[0];
    match operation {
        IntegerOperation::MatMul(weights) => matmul(x[0], weights, |sums, out| weights.read_out(sums, out)),
        IntegerOperation::Product { transpose_b, scale } => {
            product(x, shapes, *transpose_b, |sum| scale_to_int8(sum, *scale))
        }
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
            let parts = shapes.iter().copied().zip(parts.iter().map(Vec::as_slice));
            concat(&parts.collect::<Vec<_>>(), *axis)
        }
        IntegerOperation::Attention { causal, parameters } => {
            let [.., tokens, width] = *shape else { unreachable!("shapes are checked") };
            let [.., keys, key_width] = *shapes[1] else { unreachable!("shapes are checked") };
            let mask = if *causal { AttentionMask::Causal } else { AttentionMask::Full };
            let part = |index: usize, [rows, width]: [usize; 2], batch: usize| {
                Matrix::from_vec(rows, width, x[index][batch * rows * width..][..rows * width].to_vec())
            };
            let context = |batch: usize| {
                let query = part(0, [tokens, width], batch);
                let [key, value] = [1, 2].map(|index| part(index, [keys, key_width], batch));
                attention(parameters, [&query, &key, &value], mask, &mut 0).2.data
            };
            (0..x[0].len() / (tokens * width)).flat_map(context).collect()
        }
        IntegerOperation::Gelu { sum } => diagonal(sum, x[0], shape).data,
        IntegerOperation::LayerNorm { sum, gamma, beta, scale } => {
            let z = diagonal(sum, x[0], shape);
            let affine = |(i, &z): (usize, &i8)| {
                let channel = i % gamma.len();
                scale_to_int8(beta[channel].wrapping_add(i32::from(z) * i32::from(gamma[channel])), *scale)
            };
            z.data.iter().enumerate().map(affine).collect()
        }
        IntegerOperation::Reshape | IntegerOperation::Encoder { .. } | IntegerOperation::Host { .. } => x[0].to_vec(),
    }
}

/// A diagonal sum of one operand.
fn diagonal(sum: &DiagonalSum, x: &[i8], shape: &[usize]) -> Matrix<i8> {
    let width = shape.last().copied().unwrap_or(1);
    let x = Matrix::from_vec(x.len() / width, width, x.to_vec());
    diagonal_sum(sum, &x, &x, &mut 0).1
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

/// A product, row by row; `read_out` appends what becomes of a row of sums.
fn matmul<T>(x: &[i8], weights: &Weights, read_out: impl Fn(&[i32], &mut Vec<T>)) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len() / weights.values.rows * weights.values.cols);
    for row in x.chunks(weights.values.rows) {
        let mut sums = weights.bias.clone();
        row.iter().enumerate().for_each(|(k, &x)| accumulate(&mut sums, x, weights.values.row(k)));
        read_out(&sums, &mut out);
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

/// A product of two activations, matrix by matrix.
fn product<T>(x: &[&[i8]], shapes: &[&[usize]], transpose_b: bool, read_out: impl Fn(i32) -> T) -> Vec<T> {
    let ([.., rows, terms], [.., b_rows, b_cols]) = (shapes[0], shapes[1]) else { unreachable!("shapes are checked") };
    let cols = if transpose_b { *b_rows } else { *b_cols };
    let mut out = Vec::with_capacity(x[0].len() / terms * cols);
    for (index, a) in x[0].chunks(rows * terms).enumerate() {
        // One right operand for all if it has no leading dimensions.
        let first = if shapes[1].len() == 2 { 0 } else { index * b_rows * b_cols };
        let b = &x[1][first..][..b_rows * b_cols];
        let at = |term: usize, col: usize| if transpose_b { b[col * terms + term] } else { b[term * cols + col] };
        for row in a.chunks(*terms) {
            let mut sums = vec![0; cols];
            for (term, &x) in row.iter().enumerate() {
                (0..cols).for_each(|col| sums[col] += i32::from(x) * i32::from(at(term, col)));
            }
            out.extend(sums.into_iter().map(&read_out));
        }
    }
    out
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
