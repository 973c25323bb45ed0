//! From operations to programs that know what they must compute.

use pollux_asm::Program;
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels as kernels;
use pollux_kernels::{ConvSchedule, Dataflow, Emission, ResidualAddSchedule, View};

use crate::bench::{Bench, activation, product, suitable_scale};
use crate::common::{Dense, read_out, read_out_all, to_i8};
use crate::spec::{self, Operations};
use crate::{naive, transformer};

/// A program for every operation and combination of values.
pub fn programs(operations: &Operations, config: &GemminiConfig) -> Vec<Program> {
    let mut programs = Vec::new();
    for spec in &operations.matmul {
        for (dataflow, activation, scale, bias, transpose) in combinations(spec) {
            programs.push(matmul(config, spec, dataflow, activation, scale, bias, transpose));
        }
    }
    programs.extend(operations.mlp.iter().map(|spec| mlp(config, spec)));
    programs.extend(operations.conv.iter().map(|spec| conv(config, spec)));
    programs.extend(operations.resadd.iter().map(|spec| residual_add(config, spec)));
    programs.extend(operations.global_average.iter().map(|spec| global_average(config, spec)));
    for spec in &operations.norm {
        for &activation in &spec.activation {
            programs.extend([ElementType::I8, ElementType::I32].map(|element| norm(config, spec, activation, element)));
        }
    }
    programs.extend(operations.transformer.iter().map(|spec| transformer::lower(config, spec)));
    programs
}

type Combination = (Dataflow, spec::Activation, f32, spec::Bias, spec::Transpose);

fn combinations(spec: &spec::Matmul) -> Vec<Combination> {
    let suitable = [suitable_scale(spec.k, spec.magnitude)];
    let scales = if spec.scale.is_empty() { &suitable[..] } else { &spec.scale };
    let mut all = Vec::new();
    for &dataflow in &spec.dataflow {
        for &activation in &spec.activation {
            for &scale in scales {
                for &bias in &spec.bias {
                    all.extend(spec.transpose.iter().map(|&t| (dataflow, activation, scale, bias, t)));
                }
            }
        }
    }
    all
}

fn matmul(
    config: &GemminiConfig,
    spec: &spec::Matmul,
    dataflow: Dataflow,
    act: spec::Activation,
    scale: f32,
    bias: spec::Bias,
    transpose: spec::Transpose,
) -> Program {
    let mut bench = Bench::new(config, "matmul");
    let (a_transpose, b_transpose) = (transpose == spec::Transpose::A, transpose == spec::Transpose::B);
    let turned = |turn: bool, (rows, cols): (usize, usize)| if turn { (cols, rows) } else { (rows, cols) };
    let straight = |turn: bool, dense: Dense<i8>| if turn { dense.transposed() } else { dense };
    let (a, a_data) = bench.i8s("A", turned(a_transpose, (spec.i, spec.k)), 0, spec.magnitude);
    let (b, b_data) = bench.i8s("B", turned(b_transpose, (spec.k, spec.j)), 0, spec.magnitude);
    let (bias, bias_data) = add_bias(&mut bench, bias, (spec.i, spec.j), spec.magnitude);
    let sums = product(&straight(a_transpose, a_data), &straight(b_transpose, b_data), |r, c| {
        bias_data.as_ref().map_or(0, |bias| bias.at(r % bias.rows, c))
    });
    let activation = activation(act, spec.unit);
    let element = if spec.full { ElementType::I32 } else { ElementType::I8 };
    let c = bench.result("C", (spec.i, spec.j), 0, element);
    match element {
        ElementType::I32 => bench.expect("C", &c, &sums),
        ElementType::I8 => bench.expect("C", &c, &read_out_all(&sums, &activation, scale)),
    }
    let matmul = kernels::Matmul { bias, a_transpose, b_transpose, scale, activation, ..kernels::Matmul::new(a, b, c) };
    if spec.separate {
        let sums = bench.result("sums", (spec.i, spec.j), 0, ElementType::I32);
        matmul.lower_separately(&mut bench.builder, &sums).expect("a legal product");
    } else {
        bench.matmul(&matmul, dataflow);
    }
    bench.finish()
}

fn add_bias(
    bench: &mut Bench,
    bias: spec::Bias,
    (rows, cols): (usize, usize),
    magnitude: i32,
) -> (kernels::Bias, Option<Dense<i32>>) {
    let large = magnitude * magnitude;
    match bias {
        spec::Bias::None => (kernels::Bias::None, None),
        spec::Bias::Matrix => {
            let (view, data) = bench.i32s("D", (rows, cols), large);
            (kernels::Bias::Matrix(view), Some(data))
        }
        spec::Bias::Row => {
            let (view, data) = bench.i32s("D", (1, cols), large);
            (kernels::Bias::Row(view), Some(data))
        }
        spec::Bias::LowMatrix => {
            let (view, data) = bench.i8s("D", (rows, cols), 0, large.min(127));
            let data = data.data.into_iter().map(i32::from).collect();
            (kernels::Bias::Matrix(view), Some(Dense::new(rows, cols, data)))
        }
    }
}

fn mlp(config: &GemminiConfig, spec: &spec::Mlp) -> Program {
    let mut bench = Bench::new(config, "layer 1");
    let (mut input, mut data) = bench.i8s("input", (spec.rows, spec.widths[0]), 0, 127);
    for (layer, widths) in spec.widths.windows(2).enumerate() {
        let layer = layer + 1;
        if layer > 1 {
            bench.builder.fence();
            bench.builder.begin(&format!("layer {layer}"));
        }
        let (weights, weight_data) = bench.i8s(&format!("weights{layer}"), (widths[0], widths[1]), 0, 127);
        let name = format!("output{layer}");
        let out = bench.result(&name, (spec.rows, widths[1]), 0, ElementType::I8);
        // ReLU halves the variance of the next layer's input, and the first layer's factor fits larger elements.
        let scale = suitable_scale(widths[0], 127) * if layer > 1 { 2.0 } else { 1.0 };
        let activation = kernels::Activation::Relu;
        data = read_out_all(&product(&data, &weight_data, |_, _| 0), &activation, scale);
        bench.expect(&name, &out, &data);
        let matmul = kernels::Matmul { scale, activation, ..kernels::Matmul::new(input, weights, out) };
        bench.matmul(&matmul, Dataflow::Ws);
        input = out;
    }
    bench.finish()
}

fn conv(config: &GemminiConfig, spec: &spec::Conv) -> Program {
    let mut bench = Bench::new(config, "conv");
    let shape = spec.shape();
    let [input, weights, output] = shape.views();
    let (input, input_data) = bench.i8s("input", input, spec.gaps[0], spec.magnitude);
    let (weights, weight_data) = bench.i8s("weights", weights, spec.gaps[1], spec.magnitude);
    let (bias, bias_data) = bench.i32s("bias", (1, shape.out_channels), spec.magnitude * spec.magnitude);
    let output = bench.result("output", output, spec.gaps[2], ElementType::I8);
    let terms = shape.kernel * shape.kernel * if shape.depthwise { 1 } else { shape.in_channels };
    let scale = spec.scale.unwrap_or_else(|| suitable_scale(terms, spec.magnitude));
    let conv = kernels::Conv { shape, input, weights, bias: Some(bias), output, scale, relu: spec.relu };
    bench.expect("output", &output, &naive::conv(&conv, &input_data, &weight_data, &bias_data.data));
    if spec.pointwise {
        bench.matmul(&rows_as_product(&conv, input, output), Dataflow::Ws);
    } else if spec.downsample {
        downsample(&mut bench, &conv);
    } else {
        let emission = if spec.commands { Emission::Commands } else { Emission::Unroller };
        let schedule = ConvSchedule { emission, ..ConvSchedule::gemmini_default(config, &shape) };
        conv.lower(&mut bench.builder, &schedule).expect("a legal convolution");
    }
    bench.finish()
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
fn downsample(bench: &mut Bench, conv: &kernels::Conv) {
    let shape = &conv.shape;
    let [out_rows, out_cols] = shape.out_pixels();
    for row in 0..shape.batch * out_rows {
        let first = (row / out_rows * shape.in_rows + row % out_rows * 2) * shape.in_cols;
        let input =
            View { address: conv.input.at(first, 0), rows: out_cols, stride: 2 * conv.input.stride, ..conv.input };
        let output = conv.output.rows(row * out_cols..(row + 1) * out_cols).expect("the rows exist");
        bench.matmul(&rows_as_product(conv, input, output), Dataflow::Ws);
    }
}

fn residual_add(config: &GemminiConfig, spec: &spec::ResidualAdd) -> Program {
    let mut bench = Bench::new(config, "resadd");
    let size = (spec.rows, spec.cols);
    let (a, a_data) = bench.i8s("A", size, spec.gap, 127);
    let (b, b_data) = bench.i8s("B", size, spec.gap, 127);
    let c = bench.result("C", size, spec.gap, ElementType::I8);
    let sum = |(&a, &b): (&i8, &i8)| {
        let sum = to_i8(i32::from(to_i8(a.into(), spec.a_scale)) + i32::from(b), 1.0);
        if spec.relu { sum.max(0) } else { sum }
    };
    let expected = Dense::new(spec.rows, spec.cols, a_data.data.iter().zip(&b_data.data).map(sum).collect());
    bench.expect("C", &c, &expected);
    let add = kernels::ResidualAdd { a_scale: spec.a_scale, relu: spec.relu, ..kernels::ResidualAdd::new(a, b, c) };
    let schedule = ResidualAddSchedule::gemmini_default(config, spec.rows, spec.cols);
    add.lower(&mut bench.builder, &schedule).expect("a legal addition");
    bench.finish()
}

fn global_average(config: &GemminiConfig, spec: &spec::GlobalAverage) -> Program {
    let mut bench = Bench::new(config, "global average");
    let (batch, pixels) = (spec.batch, spec.edge * spec.edge);
    let (input, data) = bench.i8s("input", (batch * pixels, spec.channels), 0, 127);
    let out = bench.result("out", (batch, spec.channels), 0, ElementType::I8);
    let mean = |at: usize| {
        let (image, channel) = (at / spec.channels, at % spec.channels);
        let sum = (0..pixels).map(|pixel| i32::from(data.at(image * pixels + pixel, channel))).sum();
        to_i8(sum, 1.0 / pixels as f32)
    };
    let expected = Dense::new(batch, spec.channels, (0..batch * spec.channels).map(mean).collect());
    bench.expect("out", &out, &expected);
    kernels::GlobalAverage { batch, pixels, input, out }.lower(&mut bench.builder).expect("a legal average");
    bench.finish()
}

fn norm(config: &GemminiConfig, spec: &spec::Norm, act: spec::Activation, element: ElementType) -> Program {
    let mut bench = Bench::new(config, "norm");
    let size = (spec.rows, spec.cols);
    let (magnitude, scale) = match act {
        spec::Activation::Layernorm => (3000, 32.0),
        spec::Activation::Gelu => (60, -3e-4),
        _ => (60, 1.0),
    };
    let (input, data) = match element {
        ElementType::I32 => bench.i32s("input", size, magnitude),
        ElementType::I8 => {
            let (view, data) = bench.i8s("input", size, 0, magnitude.min(127));
            (view, Dense::new(spec.rows, spec.cols, data.data.into_iter().map(i32::from).collect()))
        }
    };
    let activation = activation(act, spec.unit);
    let out = bench.result("out", size, 0, ElementType::I8);
    let expected = (0..spec.rows).flat_map(|row| read_out(data.row(row), &activation, scale)).collect();
    bench.expect("out", &out, &Dense::new(spec.rows, spec.cols, expected));
    kernels::Norm { input, out, scale, activation }.lower(&mut bench.builder).expect("a legal norm");
    bench.finish()
}
