//! Shared by the tests: a naive integer reference, written from the description of the hardware's arithmetic, and runs
//! of programs on both models.
#![allow(dead_code)]

use pollux_asm::Program;
use pollux_asm::program::ElementType;
use pollux_functional::{Counts, FunctionalModel};
use pollux_isa::GemminiConfig;
use pollux_kernels::{Activation, GeluConstants, SoftmaxConstants, View};
use pollux_memory::Memory;
use pollux_sim::memory::{BenchParameters, MemoryModel};
use pollux_sim::observer::NoObserver;
use pollux_sim::runner::Runner;
pub use pollux_testkit::Random;

/// The configurations that the properties run on.
pub fn configs() -> [GemminiConfig; 4] {
    [GemminiConfig::default16(), GemminiConfig::small4(), GemminiConfig::norm16(), GemminiConfig::survey_rebalanced()]
}

/// Constants of the integer GELU for inputs in units of `s` (I-BERT's coefficients).
pub fn gelu_constants(s: f64) -> GeluConstants {
    GeluConstants { qb: (-1.769 * std::f64::consts::SQRT_2 / s) as i32, qc: (2.0 / (-0.2888 * s * s)) as i32 }
}

/// Constants of the integer exponential for inputs in units of `s`.
pub fn softmax_constants(s: f64) -> SoftmaxConstants {
    let qln2 = (std::f64::consts::LN_2 / s) as i32;
    SoftmaxConstants { qln2, qln2_inv: 65536 / qln2, qb: (1.353 / s) as i32, qc: (0.344 / (0.3585 * s * s)) as i32 }
}

/// int32 to float32, one multiplication, nearest even, saturated.
pub fn to_i8(x: i32, factor: f32) -> i8 {
    let y = (x as f32 * factor).round_ties_even();
    if y.is_nan() { 127 } else { y.clamp(-128.0, 127.0) as i8 }
}

fn gelu(x: i32, g: GeluConstants) -> i32 {
    let sign = if x < 0 { -1 } else { 1 };
    let t = x.wrapping_abs().min(-g.qb).wrapping_add(g.qb);
    x.wrapping_mul(t.wrapping_mul(t).wrapping_add(g.qc).wrapping_mul(sign).wrapping_add(g.qc))
}

fn exponential(x: i32, s: SoftmaxConstants) -> i32 {
    let z = (i64::from(-x) * i64::from(s.qln2_inv)) >> 16;
    if z >= 32 {
        return 0;
    }
    let p = i64::from(x) + z * i64::from(s.qln2) + i64::from(s.qb);
    ((p * p + i64::from(s.qc)) >> z) as i32
}

/// One accumulator row as it is stored.
pub fn read_out(row: &[i32], activation: &Activation, scale: f32) -> Vec<i8> {
    match *activation {
        Activation::None => row.iter().map(|&x| to_i8(x, scale)).collect(),
        Activation::Relu => row.iter().map(|&x| to_i8(x, scale).max(0)).collect(),
        Activation::Gelu(g) => row.iter().map(|&x| to_i8(gelu(x, g), scale)).collect(),
        Activation::LayerNorm => {
            let n = row.len() as i32;
            let mean = row.iter().fold(0i32, |s, &x| s.wrapping_add(x)) / n;
            let square = |x: i32| x.wrapping_sub(mean).wrapping_mul(x.wrapping_sub(mean));
            let variance = row.iter().fold(0i32, |s, &x| s.wrapping_add(square(x))) / n;
            // The root has 16 bits, and its register extends the sign.
            let deviation = (variance as u32).isqrt().max(1) as u16 as i16;
            let factor = 1.0 / f32::from(deviation) * scale;
            row.iter().map(|&x| to_i8(x.wrapping_sub(mean), factor)).collect()
        }
        Activation::Softmax(s) => {
            let max = *row.iter().max().expect("a row has elements");
            let e: Vec<i32> = row.iter().map(|&x| exponential(x - max, s)).collect();
            let factor = 127.0 / e.iter().sum::<i32>() as f32 * scale;
            e.into_iter().map(|x| to_i8(x, factor)).collect()
        }
    }
}

/// A matrix of the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<T>,
}

impl<T: Copy> Dense<T> {
    pub fn new(rows: usize, cols: usize, data: Vec<T>) -> Self {
        assert_eq!(data.len(), rows * cols);
        Self { rows, cols, data }
    }

    pub fn at(&self, r: usize, c: usize) -> T {
        self.data[r * self.cols + c]
    }

    pub fn row(&self, r: usize) -> &[T] {
        &self.data[r * self.cols..(r + 1) * self.cols]
    }

    pub fn transposed(&self) -> Self {
        let at = |i: usize| self.at(i % self.rows, i / self.rows);
        Self::new(self.cols, self.rows, (0..self.data.len()).map(at).collect())
    }

    pub fn columns(&self, range: std::ops::Range<usize>) -> Self {
        let data = (0..self.rows).flat_map(|r| self.row(r)[range.clone()].to_vec()).collect();
        Self::new(self.rows, range.len(), data)
    }
}

/// `a * b + bias(row, column)` in int32.
pub fn product(a: &Dense<i8>, b: &Dense<i8>, bias: impl Fn(usize, usize) -> i32) -> Dense<i32> {
    let mut out = Vec::with_capacity(a.rows * b.cols);
    for r in 0..a.rows {
        for c in 0..b.cols {
            let products = (0..a.cols).map(|k| i32::from(a.at(r, k)) * i32::from(b.at(k, c)));
            out.push(products.fold(bias(r, c), i32::wrapping_add));
        }
    }
    Dense::new(a.rows, b.cols, out)
}

pub fn read_out_all(sums: &Dense<i32>, activation: &Activation, scale: f32) -> Dense<i8> {
    let data = (0..sums.rows).flat_map(|r| read_out(sums.row(r), activation, scale)).collect();
    Dense::new(sums.rows, sums.cols, data)
}

/// Runs on the functional model; undefined behaviour is an error.
pub fn run(program: &Program) -> (Memory, Counts) {
    let mut model = FunctionalModel::new(program.config.clone(), program.initial_memory());
    model.run(&program.items).expect("a legal program");
    let counts = *model.counts();
    (model.into_memory(), counts)
}

/// The elements of a view.
pub fn read(memory: &Memory, view: &View) -> Vec<i64> {
    let mut out = Vec::with_capacity(view.rows * view.cols);
    for row in 0..view.rows {
        let bytes = memory.read_vec(view.at(row, 0), view.cols * view.element.size() as usize);
        out.extend(view.element.elements(&bytes));
    }
    out
}

pub fn read_i8(memory: &Memory, view: &View) -> Dense<i8> {
    assert_eq!(view.element, ElementType::I8);
    Dense::new(view.rows, view.cols, read(memory, view).into_iter().map(|x| x as i8).collect())
}

pub fn read_i32(memory: &Memory, view: &View) -> Dense<i32> {
    assert_eq!(view.element, ElementType::I32);
    Dense::new(view.rows, view.cols, read(memory, view).into_iter().map(|x| x as i32).collect())
}

/// Runs on the cycle-level emulator with a fixed-latency memory: final memory and the cycle in which busy falls.
pub fn run_cycles(program: &Program) -> (Memory, u64) {
    run_cycles_on(program, BenchParameters { latency: 40, a_period: 1, d_period: 1 })
}

/// A memory of random latency whose port is blocked in one or two of three cycles.
pub fn any_memory(seed: u64) -> BenchParameters {
    let mut random = Random::new(seed);
    let mut period = || 1 + random.below(3) as u64;
    let (a_period, d_period) = (period(), period());
    BenchParameters { latency: [1, 13, 40, 150][random.below(4)], a_period, d_period }
}

pub fn run_cycles_on(program: &Program, parameters: BenchParameters) -> (Memory, u64) {
    let mut runner = Runner::new(&program.config);
    runner = runner.memory(MemoryModel::Bench(parameters)).limit(1_000_000_000);
    let outcome = runner.run(program.items.clone(), program.initial_memory(), &mut NoObserver).expect("no deadlock");
    (outcome.memory, outcome.summary.busy_falls)
}

/// Whether two memories agree in every buffer of the program.
pub fn assert_same_buffers(program: &Program, functional: &Memory, cycles: &Memory) {
    for buffer in &program.buffers {
        let difference = functional.first_difference(cycles, buffer.address, buffer.len());
        assert_eq!(difference, None, "the models differ in buffer `{}`", buffer.name);
    }
}
