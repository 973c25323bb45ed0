//! A program under construction: operands with random contents, results with expected ones.

use pollux_asm::Program;
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{Activation, Dataflow, Matmul, ProgramBuilder, Schedule, View};

use crate::common::{Dense, Random, gelu_constants, softmax_constants};
use crate::spec;

pub struct Bench {
    pub builder: ProgramBuilder,
    random: Random,
}

impl Bench {
    pub fn new(config: &GemminiConfig, operation: &str) -> Self {
        let mut builder = ProgramBuilder::new(config.clone()).expect("a valid configuration");
        builder.begin(operation);
        Self { builder, random: Random::new(1) }
    }

    /// An int8 operand of elements up to `magnitude`, with `gap` more elements behind each row.
    pub fn i8s(&mut self, name: &str, (rows, cols): (usize, usize), gap: usize, magnitude: i32) -> (View, Dense<i8>) {
        let width = cols + gap;
        let data: Vec<i8> = self.random.i32s(rows * width, magnitude).into_iter().map(|x| x as i8).collect();
        let view = self.builder.buffer_i8(name, rows, width, &data).expect("memory suffices");
        let view = view.columns(0..cols).expect("the columns exist");
        (view, Dense::new(rows, width, data).columns(0..cols))
    }

    pub fn i32s(&mut self, name: &str, (rows, cols): (usize, usize), magnitude: i32) -> (View, Dense<i32>) {
        let data = self.random.i32s(rows * cols, magnitude);
        let view = self.builder.buffer_i32(name, rows, cols, &data).expect("memory suffices");
        (view, Dense::new(rows, cols, data))
    }

    /// A result, with `gap` more elements behind each row.
    pub fn result(&mut self, name: &str, (rows, cols): (usize, usize), gap: usize, element: ElementType) -> View {
        let view = self.builder.buffer(name, rows, cols + gap, element).expect("memory suffices");
        view.columns(0..cols).expect("the columns exist")
    }

    /// What the result of that name must be; elements behind rows must stay zero.
    pub fn expect<T: Copy + Into<i64>>(&mut self, name: &str, view: &View, expected: &Dense<T>) {
        assert_eq!((view.rows, view.cols), (expected.rows, expected.cols), "{name}");
        let mut bytes = Vec::new();
        for row in 0..view.rows {
            expected.row(row).iter().for_each(|&x| view.element.append(&mut bytes, x.into()));
            (view.cols..view.stride).for_each(|_| view.element.append(&mut bytes, 0));
        }
        self.builder.expect(name, bytes).expect("a buffer of that size");
    }

    /// Emits a product by Gemmini's own rule.
    pub fn matmul(&mut self, matmul: &Matmul, dataflow: Dataflow) {
        let schedule = Schedule::gemmini_default(self.builder.config(), &matmul.shape(), dataflow);
        matmul.lower(&mut self.builder, &schedule).expect("a legal product");
    }

    pub fn finish(mut self) -> Program {
        self.builder.fence();
        self.builder.finish().expect("a well-formed program")
    }
}

/// An activation for int32 in this unit.
pub fn activation(activation: spec::Activation, unit: f64) -> Activation {
    match activation {
        spec::Activation::None => Activation::None,
        spec::Activation::Relu => Activation::Relu,
        spec::Activation::Gelu => Activation::Gelu(gelu_constants(unit)),
        spec::Activation::Layernorm => Activation::LayerNorm,
        spec::Activation::Softmax => Activation::Softmax(softmax_constants(unit)),
    }
}

/// `a * b + bias(row, column)`, in an order that suits the cache.
pub fn product(a: &Dense<i8>, b: &Dense<i8>, bias: impl Fn(usize, usize) -> i32) -> Dense<i32> {
    let mut out = Vec::with_capacity(a.rows * b.cols);
    for r in 0..a.rows {
        let mut sums: Vec<i32> = (0..b.cols).map(|c| bias(r, c)).collect();
        for (k, &x) in a.row(r).iter().enumerate() {
            sums.iter_mut().zip(b.row(k)).for_each(|(sum, &y)| *sum += i32::from(x) * i32::from(y));
        }
        out.extend(sums);
    }
    Dense::new(a.rows, b.cols, out)
}

/// A factor that brings sums of `terms` products of elements up to `magnitude` into the range of int8.
pub fn suitable_scale(terms: usize, magnitude: i32) -> f32 {
    150.0 / (magnitude * magnitude) as f32 / (terms as f32).sqrt()
}
