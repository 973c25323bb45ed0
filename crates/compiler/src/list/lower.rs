//! From a listed operation to commands that know what they must compute.

use pollux_asm::program::ElementType;
use pollux_kernels as kernels;
use pollux_kernels::{ConvSchedule, Dataflow, Emission, ResidualAddSchedule, View};
use pollux_model::Matrix;
use pollux_model::layer_reference::scale_to_int8;

use super::bench::{Bench, activation, suitable_scale};
use super::reference::{convolution, product, read_out};
use super::{Combination, spec};
use crate::error::CompileError;
use crate::operation::OperationClass;

pub(super) fn matmul(bench: &mut Bench<'_>, spec: &spec::Matmul, with: &Combination) -> Result<(), CompileError> {
    let (a_transpose, b_transpose) = (with.transpose == spec::Transpose::A, with.transpose == spec::Transpose::B);
    let turned = |turn: bool, (rows, cols): (usize, usize)| if turn { (cols, rows) } else { (rows, cols) };
    let straight = |turn: bool, dense: Matrix<i8>| if turn { dense.transposed() } else { dense };
    let (a, a_data) = bench.i8s("A", turned(a_transpose, (spec.i, spec.k)), 0, spec.magnitude)?;
    let (b, b_data) = bench.i8s("B", turned(b_transpose, (spec.k, spec.j)), 0, spec.magnitude)?;
    let (bias, bias_data) = add_bias(bench, with.bias, (spec.i, spec.j), spec.magnitude)?;
    let sums = product(&straight(a_transpose, a_data), &straight(b_transpose, b_data), |r, c| {
        bias_data.as_ref().map_or(0, |bias| bias.at(r % bias.rows, c))
    });
    let activation = activation(with.activation, spec.unit)?;
    let element = if spec.full { ElementType::I32 } else { ElementType::I8 };
    let c = bench.result("C", (spec.i, spec.j), 0, element)?;
    match element {
        ElementType::I32 => bench.expect("C", &c, &sums)?,
        ElementType::I8 => bench.expect("C", &c, &read_out(&sums, &activation, with.scale))?,
    }
    let class = match with.activation {
        spec::Activation::None | spec::Activation::Relu => OperationClass::Matmul,
        _ => OperationClass::Nonlinear,
    };
    let matmul = kernels::Matmul {
        bias,
        a_transpose,
        b_transpose,
        scale: with.scale,
        activation,
        ..kernels::Matmul::new(a, b, c)
    };
    if !spec.separate {
        bench.begin("matmul", class);
        return bench.matmul(&matmul, with.dataflow);
    }
    let sums = bench.result("sums", (spec.i, spec.j), 0, ElementType::I32)?;
    bench.begin("matmul", class);
    matmul.lower_separately(&mut bench.lowering.builder, &sums, with.dataflow)?;
    Ok(())
}

fn add_bias(
    bench: &mut Bench<'_>,
    bias: spec::Bias,
    (rows, cols): (usize, usize),
    magnitude: i32,
) -> Result<(kernels::Bias, Option<Matrix<i32>>), CompileError> {
    let large = magnitude * magnitude;
    Ok(match bias {
        spec::Bias::None => (kernels::Bias::None, None),
        spec::Bias::Matrix => {
            let (view, data) = bench.i32s("D", (rows, cols), large)?;
            (kernels::Bias::Matrix(view), Some(data))
        }
        spec::Bias::Row => {
            let (view, data) = bench.i32s("D", (1, cols), large)?;
            (kernels::Bias::Row(view), Some(data))
        }
        spec::Bias::LowMatrix => {
            let (view, data) = bench.i8s("D", (rows, cols), 0, large.min(127))?;
            (kernels::Bias::Matrix(view), Some(widened(&data)))
        }
    })
}

fn widened(data: &Matrix<i8>) -> Matrix<i32> {
    Matrix::from_vec(data.rows, data.cols, data.data.iter().map(|&x| x.into()).collect())
}

pub(super) fn mlp(bench: &mut Bench<'_>, spec: &spec::Mlp) -> Result<(), CompileError> {
    let (mut input, mut data) = bench.i8s("input", (spec.rows, spec.widths[0]), 0, 127)?;
    for (layer, widths) in spec.widths.windows(2).enumerate() {
        let layer = layer + 1;
        bench.begin(&format!("layer{layer}"), OperationClass::Matmul);
        let (weights, weight_data) = bench.i8s(&format!("weights{layer}"), (widths[0], widths[1]), 0, 127)?;
        let name = format!("output{layer}");
        let out = bench.result(&name, (spec.rows, widths[1]), 0, ElementType::I8)?;
        // ReLU halves the variance of the next layer's input, and the first layer's factor fits larger elements.
        let scale = suitable_scale(widths[0], 127) * if layer > 1 { 2.0 } else { 1.0 };
        let activation = kernels::Activation::Relu;
        data = read_out(&product(&data, &weight_data, |_, _| 0), &activation, scale);
        bench.expect(&name, &out, &data)?;
        let matmul = kernels::Matmul { scale, activation, ..kernels::Matmul::new(input, weights, out) };
        bench.matmul(&matmul, Dataflow::Ws)?;
        input = out;
    }
    Ok(())
}

pub(super) fn conv(bench: &mut Bench<'_>, spec: &spec::Conv) -> Result<(), CompileError> {
    let shape = spec.shape();
    let [input, weights, output] = shape.views();
    let (input, input_data) = bench.i8s("input", input, spec.gaps[0], spec.magnitude)?;
    let (weights, weight_data) = bench.i8s("weights", weights, spec.gaps[1], spec.magnitude)?;
    let (bias, bias_data) = bench.i32s("bias", (1, shape.out_channels), spec.magnitude * spec.magnitude)?;
    let output = bench.result("output", output, spec.gaps[2], ElementType::I8)?;
    let terms = shape.kernel * shape.kernel * if shape.depthwise { 1 } else { shape.in_channels };
    let scale = spec.scale.unwrap_or_else(|| suitable_scale(terms, spec.magnitude));
    let conv = kernels::Conv { shape, input, weights, bias: Some(bias), output, scale, relu: spec.relu };
    bench.begin("conv", OperationClass::Matmul);
    if spec.pointwise {
        bench.matmul(&rows_as_product(&conv, input, output), Dataflow::Ws)?;
    } else if spec.downsample {
        downsample(bench, &conv)?;
    } else {
        let schedule = conv_schedule(bench, spec)?;
        conv.lower(&mut bench.lowering.builder, &schedule)?;
        bench.lowering.note_convolution(&conv, schedule);
    }
    bench.expect("output", &output, &convolution(&conv, &input_data, &weight_data, &bias_data.data))
}

/// The plan's tiles or Gemmini's own.
fn conv_schedule(bench: &mut Bench<'_>, spec: &spec::Conv) -> Result<ConvSchedule, CompileError> {
    let emission = if spec.commands { Emission::Commands } else { Emission::Unroller };
    match bench.lowering.planned_convolution() {
        Some(planned) if spec.commands && planned.emission != emission => Err(CompileError::Plan {
            operation: bench.lowering.builder.operation().to_owned(),
            what: "the list says single commands, the plan's tiles say the unroller".to_owned(),
        }),
        Some(planned) => Ok(planned),
        None => Ok(ConvSchedule { emission, ..ConvSchedule::gemmini_default(bench.lowering.config(), &spec.shape()) }),
    }
}

/// A 1x1 convolution of some pixels.
fn rows_as_product(conv: &kernels::Conv, input: View, output: View) -> kernels::Matmul {
    kernels::Matmul {
        bias: conv.bias.map_or(kernels::Bias::None, kernels::Bias::Row),
        scale: conv.scale,
        activation: if conv.relu { kernels::Activation::Relu } else { kernels::Activation::None },
        ..kernels::Matmul::new(input, conv.weights, output)
    }
}

/// A 1x1 convolution of stride 2 as Gemmini's `tiled_conv_downsample` does it: every other row of the images is a product
/// of every other pixel.
fn downsample(bench: &mut Bench<'_>, conv: &kernels::Conv) -> Result<(), CompileError> {
    let shape = &conv.shape;
    let [out_rows, out_cols] = shape.out_pixels();
    for row in 0..shape.batch * out_rows {
        let first = (row / out_rows * shape.in_rows + row % out_rows * 2) * shape.in_cols;
        let input =
            View { address: conv.input.at(first, 0), rows: out_cols, stride: 2 * conv.input.stride, ..conv.input };
        let output = conv.output.rows(row * out_cols..(row + 1) * out_cols)?;
        bench.matmul(&rows_as_product(conv, input, output), Dataflow::Ws)?;
    }
    Ok(())
}

pub(super) fn residual_add(bench: &mut Bench<'_>, spec: &spec::ResidualAdd) -> Result<(), CompileError> {
    let size = (spec.rows, spec.cols);
    let (a, a_data) = bench.i8s("A", size, spec.gap, 127)?;
    let (b, b_data) = bench.i8s("B", size, spec.gap, 127)?;
    let c = bench.result("C", size, spec.gap, ElementType::I8)?;
    let sum = |(&a, &b): (&i8, &i8)| {
        let sum = scale_to_int8(i32::from(scale_to_int8(a.into(), spec.a_scale)) + i32::from(b), 1.0);
        if spec.relu { sum.max(0) } else { sum }
    };
    let expected = Matrix::from_vec(spec.rows, spec.cols, a_data.data.iter().zip(&b_data.data).map(sum).collect());
    bench.expect("C", &c, &expected)?;
    bench.begin("resadd", OperationClass::DataMovement);
    let add = kernels::ResidualAdd { a_scale: spec.a_scale, relu: spec.relu, ..kernels::ResidualAdd::new(a, b, c) };
    let schedule = ResidualAddSchedule::gemmini_default(bench.lowering.config(), spec.rows, spec.cols);
    Ok(add.lower(&mut bench.lowering.builder, &schedule)?)
}

pub(super) fn global_average(bench: &mut Bench<'_>, spec: &spec::GlobalAverage) -> Result<(), CompileError> {
    let (batch, pixels) = (spec.batch, spec.edge * spec.edge);
    let (input, data) = bench.i8s("input", (batch * pixels, spec.channels), 0, 127)?;
    let out = bench.result("out", (batch, spec.channels), 0, ElementType::I8)?;
    let mean = |image: usize, channel: usize| {
        let sum = (0..pixels).map(|pixel| i32::from(data.at(image * pixels + pixel, channel))).sum();
        scale_to_int8(sum, 1.0 / pixels as f32)
    };
    bench.expect("out", &out, &Matrix::from_fn(batch, spec.channels, mean))?;
    bench.begin("global_average", OperationClass::DataMovement);
    Ok(kernels::GlobalAverage { batch, pixels, input, out }.lower(&mut bench.lowering.builder)?)
}

pub(super) fn norm(
    bench: &mut Bench<'_>,
    spec: &spec::Norm,
    act: spec::Activation,
    element: ElementType,
) -> Result<(), CompileError> {
    let size = (spec.rows, spec.cols);
    let (magnitude, scale) = match act {
        spec::Activation::Layernorm => (3000, 32.0),
        spec::Activation::Gelu => (60, -3e-4),
        _ => (60, 1.0),
    };
    let (input, data) = match element {
        ElementType::I32 => bench.i32s("input", size, magnitude)?,
        ElementType::I8 => {
            let (view, data) = bench.i8s("input", size, 0, magnitude.min(127))?;
            (view, widened(&data))
        }
    };
    let activation = activation(act, spec.unit)?;
    let out = bench.result("out", size, 0, ElementType::I8)?;
    bench.expect("out", &out, &read_out(&data, &activation, scale))?;
    bench.begin("norm", OperationClass::Nonlinear);
    Ok(kernels::Norm { input, out, scale, activation }.lower(&mut bench.lowering.builder)?)
}
