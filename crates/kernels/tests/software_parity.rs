//! Gemmini's own test programs (gemmini-rocc-tests, commit 180c468), re-created: a test for each, called as the program,
//! with its shapes, on the functional and the cycle-level model, against the naive reference.
//!
//! The programs about moves are written command by command; the others are the kernels. Bare-metal shapes, as noted.
//! Convolutions are in `conv.rs` (all layouts), the whole encoder in `encoder.rs`.

mod common;

use common::{
    Dense, Random, assert_same_buffers, gelu_constants, product, read, read_out_all, run, run_cycles,
    softmax_constants, to_i8,
};
use pollux_asm::program::ElementType;
use pollux_isa::fields::{ConfigLd, Counter};
use pollux_isa::values::DataflowMode;
use pollux_isa::{Command, GemminiConfig, LocalAddr};
use pollux_kernels::builder::Operand;
use pollux_kernels::{
    Activation, Bias, Conv, ConvShape, Dataflow, Emission, GlobalAverage, Matmul, Norm, Pool, ProgramBuilder,
    ResidualAdd, ResidualAddSchedule, Schedule, View,
};

const DIM: usize = 16;

/// A program being written, and what it must leave.
struct Bench {
    builder: ProgramBuilder,
    random: Random,
    names: usize,
    expected: Vec<(View, Vec<i64>)>,
}

impl Bench {
    fn new(name: &str) -> Self {
        Self::on(GemminiConfig::default16(), name)
    }

    fn on(config: GemminiConfig, name: &str) -> Self {
        let mut builder = ProgramBuilder::new(config).unwrap();
        builder.begin(name);
        Self { builder, random: Random::new(777), names: 0, expected: Vec::new() }
    }

    /// A name that no buffer has.
    fn name(&mut self, name: &str) -> String {
        self.names += 1;
        format!("{name}{}", self.names)
    }

    /// A matrix of int8 values of at most `magnitude`.
    fn small(&mut self, name: &str, rows: usize, cols: usize, magnitude: i32) -> (View, Dense<i8>) {
        let data: Vec<i8> = self.random.i32s(rows * cols, magnitude).into_iter().map(|x| x as i8).collect();
        self.given(name, Dense::new(rows, cols, data))
    }

    fn i8(&mut self, name: &str, rows: usize, cols: usize) -> (View, Dense<i8>) {
        self.small(name, rows, cols, 127)
    }

    fn given(&mut self, name: &str, data: Dense<i8>) -> (View, Dense<i8>) {
        let name = self.name(name);
        (self.builder.buffer_i8(&name, data.rows, data.cols, &data.data).unwrap(), data)
    }

    fn i32(&mut self, name: &str, rows: usize, cols: usize, magnitude: i32) -> (View, Dense<i32>) {
        let data = self.random.i32s(rows * cols, magnitude);
        let name = self.name(name);
        let view = self.builder.buffer_i32(&name, rows, cols, &data).unwrap();
        (view, Dense::new(rows, cols, data))
    }

    fn out(&mut self, rows: usize, cols: usize) -> View {
        let name = self.name("out");
        self.builder.buffer(&name, rows, cols, ElementType::I8).unwrap()
    }

    fn out_i32(&mut self, rows: usize, cols: usize) -> View {
        let name = self.name("out");
        self.builder.buffer(&name, rows, cols, ElementType::I32).unwrap()
    }

    fn expect<T: Copy + Into<i64>>(&mut self, view: View, data: &Dense<T>) {
        assert_eq!((view.rows, view.cols), (data.rows, data.cols));
        self.expected.push((view, data.data.iter().map(|&x| x.into()).collect()));
    }

    /// The read-out's configuration, without an activation's constants.
    fn store(&mut self, view: &View, scale: f32, activation: Activation) {
        self.builder.config_st(view.stride_bytes(), scale, &activation).unwrap();
    }

    fn load(&mut self, view: &View, scale: f32) {
        self.builder.config_ld(0, view.stride_bytes(), scale, false).unwrap();
    }

    fn fence(&mut self) {
        self.builder.fence();
    }

    /// Runs on both models and compares everything.
    fn check(self) -> u64 {
        let program = self.builder.finish().unwrap();
        let (memory, _) = run(&program);
        assert!(!self.expected.is_empty());
        for (index, (view, expected)) in self.expected.iter().enumerate() {
            assert!(read(&memory, view) == *expected, "result {index} differs");
        }
        let (after, cycles) = run_cycles(&program);
        assert_same_buffers(&program, &memory, &after);
        cycles
    }
}

fn spad(row: usize) -> LocalAddr {
    LocalAddr::scratchpad(row as u32)
}

fn acc(row: usize) -> LocalAddr {
    LocalAddr::accumulator(row as u32)
}

fn block(local: LocalAddr) -> Operand {
    Operand { local, rows: DIM, cols: DIM }
}

fn identity() -> Dense<i8> {
    Dense::new(DIM, DIM, (0..DIM * DIM).map(|i| i8::from(i % (DIM + 1) == 0)).collect())
}

/// In * identity in the output-stationary dataflow.
#[test]
fn template() {
    let mut b = Bench::new("template");
    let (input, data) = b.i8("in", DIM, DIM);
    let (unit, _) = b.given("identity", identity());
    let out = b.out(DIM, DIM);
    b.load(&input, 1.0);
    b.store(&out, 1.0, Activation::None);
    let whole = [DIM, DIM];
    b.builder.mvin(0, &input, [0, 0], whole, spad(0)).unwrap();
    b.builder.mvin(0, &unit, [0, 0], whole, spad(DIM)).unwrap();
    b.builder.config_ex(DataflowMode::Os, &Activation::None, false, false).unwrap();
    let garbage = b.builder.garbage();
    b.builder.preload(garbage, block(spad(2 * DIM))).unwrap();
    b.builder.compute(true, block(spad(0)), block(spad(DIM)), DIM).unwrap();
    b.builder.mvout(&out, [0, 0], whole, spad(2 * DIM)).unwrap();
    b.expect(out, &data);
    b.check();
}

#[test]
fn mvin_mvout() {
    let mut b = Bench::new("mvin_mvout");
    for tile in 0..8 {
        let (input, data) = b.i8("in", DIM, DIM);
        let out = b.out(DIM, DIM);
        b.load(&input, 1.0);
        b.store(&out, 1.0, Activation::None);
        b.builder.mvin(0, &input, [0, 0], [DIM, DIM], spad(tile * DIM)).unwrap();
        b.builder.mvout(&out, [0, 0], [DIM, DIM], spad(tile * DIM)).unwrap();
        b.expect(out, &data);
    }
    b.check();
}

#[test]
fn mvin_mvout_zeros() {
    let mut b = Bench::new("mvin_mvout_zeros");
    let out = b.out(DIM, DIM);
    b.store(&out, 1.0, Activation::None);
    b.builder.load_zeros(spad(0)).unwrap();
    b.builder.mvout(&out, [0, 0], [DIM, DIM], spad(0)).unwrap();
    b.expect(out, &Dense::new(DIM, DIM, vec![0i8; DIM * DIM]));
    b.check();
}

/// Block lengths 1 to 4 of a 64 x 64 matrix.
#[test]
fn mvin_mvout_stride() {
    let mut b = Bench::new("mvin_mvout_stride");
    for blocks in 1..=4 {
        let (input, data) = b.i8("in", 64, 64);
        let out = b.out(64, 64);
        b.load(&input, 1.0);
        b.store(&out, 1.0, Activation::None);
        for row in (0..64).step_by(DIM) {
            for col in (0..64).step_by(blocks * DIM) {
                let extent = [DIM, (blocks * DIM).min(64 - col)];
                let local = spad(row * 4 + col);
                b.builder.mvin(0, &input, [row, col], extent, local).unwrap();
                b.builder.mvout(&out, [row, col], extent, local).unwrap();
            }
        }
        b.expect(out, &data);
        b.fence();
    }
    b.check();
}

#[test]
fn mvin_mvout_block_stride() {
    let mut b = Bench::new("mvin_mvout_block_stride");
    let (input, data) = b.i8("in", DIM, 4 * DIM);
    let out = b.out(DIM, 4 * DIM);
    b.store(&out, 1.0, Activation::None);
    let load = ConfigLd {
        shrink: false,
        state_id: 0,
        pixel_repeats: 1,
        block_stride: 2 * DIM as u16,
        scale: 1.0.into(),
        stride: input.stride_bytes(),
    };
    b.builder.emit(Command::ConfigLd(load)).unwrap();
    b.builder.mvin(0, &input, [0, 0], [DIM, 4 * DIM], spad(0)).unwrap();
    for tile in 0..4 {
        b.builder.mvout(&out, [0, tile * DIM], [DIM, DIM], spad(2 * DIM * tile)).unwrap();
    }
    b.expect(out, &data);
    b.check();
}

/// int32 through the accumulator: `rows` x `cols`, scaled or raw. `repeat` loads one row with stride 0.
fn accumulator_move(b: &mut Bench, rows: usize, cols: usize, activation: Activation, scale: Option<f32>, repeat: bool) {
    let (input, data) = b.i32("in", if repeat { 1 } else { rows }, cols, 1000);
    let out = if scale.is_some() { b.out(rows, cols) } else { b.out_i32(rows, cols) };
    let input = if repeat { View { rows, stride: 0, ..input } } else { input };
    b.load(&input, 1.0);
    b.store(&out, scale.unwrap_or(1.0), activation);
    for row in (0..rows).step_by(DIM) {
        for col in (0..cols).step_by(DIM) {
            let local = acc((row / DIM * cols.div_ceil(DIM) + col / DIM) * DIM);
            let extent = [DIM, DIM];
            b.builder.mvin(0, &input, [if repeat { 0 } else { row }, col], extent, local).unwrap();
            let local = if scale.is_some() { local } else { local.with_full() };
            b.builder.mvout(&out, [row, col], extent, local).unwrap();
        }
    }
    let value = |i: usize| data.at(if repeat { 0 } else { i / cols }, i % cols);
    let data = Dense::new(rows, cols, (0..rows * cols).map(value).collect());
    match scale {
        Some(scale) => b.expect(out, &read_out_all(&data, &activation, scale)),
        None => b.expect(out, &data),
    }
    b.fence();
}

#[test]
fn mvin_mvout_acc() {
    let mut b = Bench::new("mvin_mvout_acc");
    for activation in [Activation::None, Activation::Relu] {
        accumulator_move(&mut b, DIM, 4 * DIM, activation, Some(12.0), false);
    }
    b.check();
}

#[test]
fn mvin_mvout_acc_stride() {
    let mut b = Bench::new("mvin_mvout_acc_stride");
    for activation in [Activation::None, Activation::Relu] {
        for scale in [0.0, 4.0, 8.0, 12.0] {
            accumulator_move(&mut b, 64, 64, activation, Some(scale / 100.0), false);
        }
    }
    b.check();
}

#[test]
fn mvin_mvout_acc_zero_stride() {
    let mut b = Bench::new("mvin_mvout_acc_zero_stride");
    accumulator_move(&mut b, DIM, 4 * DIM, Activation::None, Some(0.1), true);
    b.check();
}

#[test]
fn mvin_mvout_acc_full() {
    let mut b = Bench::new("mvin_mvout_acc_full");
    accumulator_move(&mut b, DIM, 4 * DIM, Activation::None, None, false);
    b.check();
}

#[test]
fn mvin_mvout_acc_full_stride() {
    let mut b = Bench::new("mvin_mvout_acc_full_stride");
    accumulator_move(&mut b, 64, 64, Activation::None, None, false);
    b.check();
}

#[test]
fn mvin_scale() {
    let mut b = Bench::new("mvin_scale");
    for scale in 0u8..8 {
        let (input, data) = b.small("in", DIM, DIM, 40);
        let out = b.out(DIM, DIM);
        b.load(&input, scale.into());
        b.store(&out, 1.0, Activation::None);
        let local = spad(usize::from(scale) * DIM);
        b.builder.mvin(0, &input, [0, 0], [DIM, DIM], local).unwrap();
        b.builder.mvout(&out, [0, 0], [DIM, DIM], local).unwrap();
        let scaled = data.data.iter().map(|&x| to_i8(x.into(), scale.into())).collect();
        b.expect(out, &Dense::new(DIM, DIM, scaled));
    }
    b.check();
}

/// A source one byte behind a page.
#[test]
fn aligned() {
    let mut b = Bench::new("aligned");
    let (input, data) = b.i8("in", 1, 4096 + DIM * DIM);
    let first = (4096 - input.address % 4096) as usize % 4096 + 1;
    let input = View { address: input.address + first as u64, rows: DIM, cols: DIM, stride: DIM, ..input };
    let out = b.out(DIM, DIM);
    b.load(&input, 1.0);
    b.store(&out, 1.0, Activation::None);
    b.builder.mvin(0, &input, [0, 0], [DIM, DIM], spad(0)).unwrap();
    b.builder.mvout(&out, [0, 0], [DIM, DIM], spad(0)).unwrap();
    b.expect(out, &Dense::new(DIM, DIM, data.data[first..first + DIM * DIM].to_vec()));
    b.check();
}

/// Odd extents in a move and in both dataflows.
#[test]
fn padded() {
    let mut b = Bench::new("padded");
    let (rows, cols) = (3, 14);
    let (input, data) = b.i8("in", rows, cols);
    let out = b.out(rows, cols);
    b.load(&input, 1.0);
    b.store(&out, 1.0, Activation::None);
    b.builder.mvin(0, &input, [0, 0], [rows, cols], spad(0)).unwrap();
    b.builder.mvout(&out, [0, 0], [rows, cols], spad(0)).unwrap();
    b.expect(out, &data);
    b.fence();
    for dataflow in [Dataflow::Os, Dataflow::Ws] {
        let [i, j, k] = [0; 3].map(|_: u8| 1 + b.random.below(DIM - 1));
        single_commands(&mut b, [i, j, k], dataflow, |m| m);
    }
    b.check();
}

#[test]
fn matrix_add() {
    let mut b = Bench::new("matrix_add");
    for (a_scale, b_scale) in [(-1.0, 2.0), (0.5, 0.5), (2.0, -2.0), (1.0, 0.0)] {
        let ((x, x_data), (y, y_data)) = (b.small("a", DIM, DIM, 60), b.small("b", DIM, DIM, 60));
        let c = b.out(DIM, DIM);
        let schedule = ResidualAddSchedule { rows: DIM, cols: DIM, emission: Emission::Commands };
        ResidualAdd { a_scale, b_scale, ..ResidualAdd::new(x, y, c) }.lower(&mut b.builder, &schedule).unwrap();
        b.expect(c, &sum(&x_data, &y_data, [a_scale, b_scale, 1.0], false));
        b.fence();
    }
    b.check();
}

fn sum(a: &Dense<i8>, b: &Dense<i8>, [a_scale, b_scale, scale]: [f32; 3], relu: bool) -> Dense<i8> {
    let add = |(&a, &b): (&i8, &i8)| {
        let x = to_i8(i32::from(to_i8(a.into(), a_scale)) + i32::from(to_i8(b.into(), b_scale)), scale);
        if relu { x.max(0) } else { x }
    };
    Dense::new(a.rows, a.cols, a.data.iter().zip(&b.data).map(add).collect())
}

/// X = X * identity + D, ten times on the same rows of the scratchpad; then the same with the operands exchanged.
#[test]
fn raw_hazard() {
    let mut b = Bench::new("raw_hazard");
    let ((d, d_data), (x, x_data)) = (b.small("d", DIM, DIM, 9), b.small("x", DIM, DIM, 30));
    let (unit, _) = b.given("identity", identity());
    let [d_at, unit_at, x_at] = [0, 1, 2].map(|i| spad(i * DIM));
    b.load(&d, 1.0);
    b.builder.config_ex(DataflowMode::Os, &Activation::None, false, false).unwrap();
    for a_is_x in [true, false] {
        for (view, local) in [(&d, d_at), (&unit, unit_at), (&x, x_at)] {
            b.builder.mvin(0, view, [0, 0], [DIM, DIM], local).unwrap();
        }
        for _ in 0..10 {
            b.builder.preload(block(d_at), block(x_at)).unwrap();
            let (left, right) = if a_is_x { (x_at, unit_at) } else { (unit_at, x_at) };
            b.builder.compute(true, block(left), block(right), DIM).unwrap();
        }
        let out = b.out(DIM, DIM);
        b.store(&out, 1.0, Activation::None);
        b.builder.mvout(&out, [0, 0], [DIM, DIM], x_at).unwrap();
        let ten = |(&x, &d): (&i8, &i8)| (0..10).fold(x, |x, _| x.saturating_add(d));
        b.expect(out, &Dense::new(DIM, DIM, x_data.data.iter().zip(&d_data.data).map(ten).collect()));
        b.fence();
    }
    b.check();
}

/// A product of small random operands; `options` completes it. Everything is checked.
fn multiply(
    b: &mut Bench,
    [i, j, k]: [usize; 3],
    schedule: impl Fn(&GemminiConfig, &Matmul) -> Schedule,
    options: impl Fn(Matmul) -> Matmul,
) {
    let nothing = View { address: 0, rows: 0, cols: 0, stride: 0, element: ElementType::I8 };
    let probe = options(Matmul::new(nothing, nothing, nothing));
    let (at, bt) = (probe.a_transpose, probe.b_transpose);
    let (a, a_data) = if at { b.small("a", k, i, 20) } else { b.small("a", i, k, 20) };
    let (w, w_data) = if bt { b.small("b", j, k, 20) } else { b.small("b", k, j, 20) };
    let a_data = if at { a_data.transposed() } else { a_data };
    let w_data = if bt { w_data.transposed() } else { w_data };
    let c = b.out(i, j);
    let matmul = options(Matmul::new(a, w, c));
    let schedule = schedule(b.builder.config(), &matmul);
    matmul.lower(&mut b.builder, &schedule).unwrap();
    b.expect(c, &read_out_all(&product(&a_data, &w_data, |_, _| 0), &matmul.activation, matmul.scale));
    b.fence();
}

/// By single commands, everything in one tile.
fn single_commands(b: &mut Bench, sizes: [usize; 3], dataflow: Dataflow, options: impl Fn(Matmul) -> Matmul) {
    let schedule = |config: &GemminiConfig, matmul: &Matmul| Schedule {
        emission: Emission::Commands,
        ..Schedule::gemmini_default(config, &matmul.shape(), dataflow)
    };
    multiply(b, sizes, schedule, options);
}

fn default_schedule(b: &mut Bench, sizes: [usize; 3], dataflow: Dataflow, options: impl Fn(Matmul) -> Matmul) {
    let schedule =
        |config: &GemminiConfig, matmul: &Matmul| Schedule::gemmini_default(config, &matmul.shape(), dataflow);
    multiply(b, sizes, schedule, options);
}

/// Both dataflows (or one), transposes, activations and scales on 2 x 2 x 2 blocks.
fn small_products(name: &str, dataflows: &[Dataflow], scales: &[f32]) {
    let mut b = Bench::new(name);
    for &dataflow in dataflows {
        for (a_transpose, b_transpose) in [(false, false), (true, false), (false, true), (true, true)] {
            let legal = match dataflow {
                Dataflow::Ws => !(a_transpose && b_transpose),
                Dataflow::Os => a_transpose || !b_transpose,
            };
            if !legal {
                continue;
            }
            for activation in [Activation::None, Activation::Relu] {
                for &scale in scales {
                    let options = |m| Matmul { a_transpose, b_transpose, activation, scale: scale / 64.0, ..m };
                    single_commands(&mut b, [2 * DIM; 3], dataflow, options);
                }
            }
        }
    }
    b.check();
}

#[test]
fn matmul() {
    small_products("matmul", &[Dataflow::Os, Dataflow::Ws], &[0.0, 4.0]);
}

#[test]
fn matmul_os() {
    small_products("matmul_os", &[Dataflow::Os], &[0.0, 4.0, 8.0, 12.0]);
}

#[test]
fn matmul_ws() {
    small_products("matmul_ws", &[Dataflow::Ws], &[0.0, 4.0, 8.0, 12.0]);
}

/// A transposed in the output-stationary dataflow, times the identity.
fn transposed(name: &str, k: usize, a_scale: f32) {
    let mut b = Bench::new(name);
    let (a, data) = b.small("a", k, DIM, 50);
    let unit = (0..k * k).map(|i| i8::from(i % (k + 1) == 0)).collect();
    let (unit, _) = b.given("identity", Dense::new(k, k, unit));
    let c = b.out(DIM, k);
    let matmul = Matmul { a_transpose: true, a_scale, ..Matmul::new(a, unit, c) };
    let schedule = Schedule::gemmini_default(b.builder.config(), &matmul.shape(), Dataflow::Os);
    matmul.lower(&mut b.builder, &schedule).unwrap();
    let scaled = data.data.iter().map(|&x| to_i8(x.into(), a_scale)).collect();
    b.expect(c, &Dense::new(k, DIM, scaled).transposed());
    b.check();
}

#[test]
fn transpose() {
    transposed("transpose", DIM, 1.0);
}

#[test]
fn transpose_scale() {
    transposed("transpose_scale", 6, 2.0);
}

#[test]
fn tiled_matmul_os() {
    let mut b = Bench::new("tiled_matmul_os");
    default_schedule(&mut b, [64; 3], Dataflow::Os, |m| Matmul { scale: 0.01, ..m });
    b.check();
}

#[test]
fn tiled_matmul_ws() {
    let mut b = Bench::new("tiled_matmul_ws");
    default_schedule(&mut b, [64; 3], Dataflow::Ws, |m| Matmul { scale: 0.01, ..m });
    b.check();
}

#[test]
fn tiled_matmul_option() {
    let mut b = Bench::new("tiled_matmul_option");
    for dataflow in [Dataflow::Os, Dataflow::Ws] {
        for activation in [Activation::None, Activation::Relu] {
            for (a_transpose, b_transpose) in [(false, false), (true, false)] {
                let options = |m| Matmul { activation, a_transpose, b_transpose, scale: 0.02, ..m };
                default_schedule(&mut b, [33, 32, 28], dataflow, options);
            }
        }
    }
    b.check();
}

#[test]
fn tiled_matmul_ws_at() {
    let mut b = Bench::new("tiled_matmul_ws_At");
    for sizes in [[60, 30, 50], [19, 17, 18]] {
        default_schedule(&mut b, sizes, Dataflow::Ws, |m| Matmul { a_transpose: true, scale: 0.02, ..m });
    }
    b.check();
}

#[test]
fn tiled_matmul_ws_bt() {
    let mut b = Bench::new("tiled_matmul_ws_Bt");
    for sizes in [[60, 30, 50], [19, 17, 18]] {
        default_schedule(&mut b, sizes, Dataflow::Ws, |m| Matmul { b_transpose: true, scale: 0.02, ..m });
    }
    b.check();
}

/// int32 sums of a product, with the given bias.
fn product_i32(b: &mut Bench, [i, j, k]: [usize; 3], magnitude: i32, bias: Bias, d: &Dense<i32>) -> (View, Dense<i32>) {
    let ((a, a_data), (w, w_data)) = (b.small("a", i, k, magnitude), b.small("b", k, j, magnitude));
    let c = b.out_i32(i, j);
    Matmul { bias, ..Matmul::new(a, w, c) }.lower_auto(&mut b.builder).unwrap();
    let sums = product(&a_data, &w_data, |row, col| if d.rows == 0 { 0 } else { d.at(row % d.rows, col) });
    b.expect(c, &sums);
    b.fence();
    (c, sums)
}

#[test]
fn tiled_matmul_ws_full_c() {
    let mut b = Bench::new("tiled_matmul_ws_full_C");
    product_i32(&mut b, [60, 30, 40], 127, Bias::None, &Dense::new(0, 0, vec![]));
    b.check();
}

#[test]
fn tiled_matmul_ws_low_d() {
    let mut b = Bench::new("tiled_matmul_ws_low_D");
    let (d, data) = b.i8("d", 60, 30);
    let data = Dense::new(60, 30, data.data.into_iter().map(i32::from).collect());
    product_i32(&mut b, [60, 30, 40], 127, Bias::Matrix(d), &data);
    b.check();
}

#[test]
fn tiled_matmul_ws_igelu() {
    let mut b = Bench::new("tiled_matmul_ws_igelu");
    let activation = Activation::Gelu(gelu_constants(0.8));
    default_schedule(&mut b, [30; 3], Dataflow::Ws, |m| Matmul { activation, scale: -0.01, ..m });
    b.check();
}

/// An int32 product, then the norm as an operation of its own. Operands and bias are -1, 0 or 1.
#[test]
fn tiled_matmul_ws_layernorm() {
    let mut b = Bench::new("tiled_matmul_ws_layernorm");
    let (d, data) = b.i32("d", 31, 66, 1);
    let (sums, values) = product_i32(&mut b, [31, 66, 30], 1, Bias::Matrix(d), &data);
    let out = b.out(31, 66);
    Norm { input: sums, out, scale: 12.0, activation: Activation::LayerNorm }.lower(&mut b.builder).unwrap();
    b.expect(out, &read_out_all(&values, &Activation::LayerNorm, 12.0));
    b.check();
}

/// On the configuration whose exponential works; `default16` has the snapshot's defect.
#[test]
fn tiled_matmul_ws_softmax() {
    let mut b = Bench::on(GemminiConfig::norm16(), "tiled_matmul_ws_softmax");
    let activation = Activation::Softmax(softmax_constants(0.05));
    default_schedule(&mut b, [31, 66, 30], Dataflow::Ws, |m| Matmul { activation, ..m });
    b.check();
}

/// 128 x 256 x 256 with a repeating bias: the array is busy most of the time.
#[test]
fn tiled_matmul_ws_perf() {
    let mut b = Bench::new("tiled_matmul_ws_perf");
    let [i, j, k] = [128, 256, 256];
    let (d, d_data) = b.i32("d", 1, j, 5000);
    let ((a, a_data), (w, w_data)) = (b.i8("a", i, k), b.i8("b", k, j));
    let c = b.out(i, j);
    Matmul { bias: Bias::Row(d), scale: 0.001, ..Matmul::new(a, w, c) }.lower_auto(&mut b.builder).unwrap();
    let sums = product(&a_data, &w_data, |_, col| d_data.at(0, col));
    b.expect(c, &read_out_all(&sums, &Activation::None, 0.001));
    let cycles = b.check();
    let ideal = (i * j * k / (DIM * DIM)) as u64;
    assert!(cycles >= ideal && cycles < 2 * ideal, "{cycles} cycles, {ideal} at full use of the array");
}

#[test]
fn resadd() {
    let mut b = Bench::new("resadd");
    let ((x, x_data), (y, y_data)) = (b.i8("a", 35, 27), b.i8("b", 35, 27));
    let c = b.out(35, 27);
    ResidualAdd { a_scale: 2.0, relu: true, ..ResidualAdd::new(x, y, c) }.lower_auto(&mut b.builder).unwrap();
    b.expect(c, &sum(&x_data, &y_data, [2.0, 1.0, 1.0], true));
    b.check();
}

#[test]
fn resadd_stride() {
    let mut b = Bench::new("resadd_stride");
    let ((x, x_data), (y, y_data)) = (b.i8("a", 54, 32), b.i8("b", 54, 32));
    let c = b.out(54, 32).columns(0..27).unwrap();
    let (x, y) = (x.columns(0..27).unwrap(), y.columns(0..27).unwrap());
    ResidualAdd { a_scale: 2.0, relu: true, ..ResidualAdd::new(x, y, c) }.lower_auto(&mut b.builder).unwrap();
    b.expect(c, &sum(&x_data.columns(0..27), &y_data.columns(0..27), [2.0, 1.0, 1.0], true));
    b.check();
}

#[test]
fn global_average() {
    let mut b = Bench::new("global_average");
    let (input, data) = b.i8("in", 2 * 3 * 3, 47);
    let out = b.out(2, 47);
    GlobalAverage { batch: 2, pixels: 9, input, out }.lower(&mut b.builder).unwrap();
    let mean = |i: usize| {
        let total: i32 = (0..9).map(|p| i32::from(data.at(i / 47 * 9 + p, i % 47))).sum();
        to_i8(total, 1.0 / 9.0)
    };
    b.expect(out, &Dense::new(2, 47, (0..2 * 47).map(mean).collect()));
    b.check();
}

/// Counter 0 counts main memory reads in flight while eight tiles move; configuring and reading it disturbs nothing.
#[test]
fn gemmini_counter() {
    let counter = |configure, snapshot, event| {
        Command::Counter(Counter {
            reset: false,
            snapshot_reset: false,
            snapshot,
            configure,
            index: 0,
            event,
            external: false,
        })
    };
    let mut b = Bench::new("gemmini_counter");
    b.builder.emit(counter(true, false, 9)).unwrap();
    b.builder.emit(counter(false, false, 0)).unwrap();
    for tile in 0..8 {
        let (input, data) = b.i8("in", DIM, DIM);
        let out = b.out(DIM, DIM);
        b.load(&input, 1.0);
        b.store(&out, 1.0, Activation::None);
        b.builder.mvin(0, &input, [0, 0], [DIM, DIM], spad(tile * DIM)).unwrap();
        b.builder.mvout(&out, [0, 0], [DIM, DIM], spad(tile * DIM)).unwrap();
        b.expect(out, &data);
    }
    b.builder.emit(counter(false, true, 0)).unwrap();
    b.builder.emit(counter(false, false, 0)).unwrap();
    b.check();
}

/// A chain of products with ReLU, no bias; `layers` are J of each product.
fn mlp(name: &str, rows: usize, inputs: usize, layers: &[usize]) {
    let mut b = Bench::new(name);
    let (mut x, mut x_data) = b.small("in", rows, inputs, 64);
    for &outputs in layers {
        let (w, w_data) = b.small("weights", x.cols, outputs, 64);
        let out = b.out(rows, outputs);
        let scale = 1.0 / (30.0 * (x.cols as f32).sqrt());
        let matmul = Matmul { activation: Activation::Relu, scale, ..Matmul::new(x, w, out) };
        matmul.lower_auto(&mut b.builder).unwrap();
        b.fence();
        x_data = read_out_all(&product(&x_data, &w_data, |_, _| 0), &Activation::Relu, scale);
        assert!(x_data.data.iter().any(|&x| x > 0 && x < 127), "a chain that saturates tests nothing");
        b.expect(out, &x_data);
        x = out;
    }
    b.check();
}

#[test]
fn mlps_test() {
    mlp("mlps_test", 16, 144, &[112]);
    mlp("mlps_test", 16, 32, &[144]);
    mlp("mlps_test", 16, 64, &[32, 16]);
}

/// All widths of the program divided by 8, so that the naive reference stays fast.
#[test]
fn mlps_1_to_4() {
    mlp("mlp1", 64, 104, &[320, 256, 192, 128, 64, 8]);
    mlp("mlp2", 64, 104, &[104, 8]);
    mlp("mlp3", 64, 56, &[64, 56]);
    mlp("mlp4", 64, 384, &[576, 384]);
}

/// A convolution of random data against the reference; small channels keep it fast.
fn convolution(b: &mut Bench, shape: ConvShape, relu: bool) {
    let [input, weights, output] = shape.views();
    let (input, x) = b.small("in", input.0, input.1, 30);
    let (weights, w) = b.small("weights", weights.0, weights.1, 30);
    let (bias, d) = b.i32("bias", 1, shape.out_channels, 500);
    let output = b.out(output.0, output.1);
    let conv = Conv { shape, input, weights, bias: Some(bias), output, scale: 0.01, relu };
    conv.lower_auto(&mut b.builder).unwrap();
    b.fence();
    let [rows, cols] = shape.out_pixels();
    let pixel = |image: usize, row: isize, col: isize, channel: usize| {
        let inside = row >= 0 && col >= 0 && row < shape.in_rows as isize && col < shape.in_cols as isize;
        let at = (image * shape.in_rows) as isize + row;
        if inside { i32::from(x.at((at * shape.in_cols as isize + col) as usize, channel)) } else { 0 }
    };
    let value = |image: usize, row: usize, col: usize, och: usize| {
        let mut sum = d.at(0, och);
        for k in 0..shape.kernel * shape.kernel {
            let at = |o: usize, k: usize| (o * shape.stride + k) as isize - shape.padding;
            let (irow, icol) = (at(row, k / shape.kernel), at(col, k % shape.kernel));
            sum += match shape.depthwise {
                true => pixel(image, irow, icol, och) * i32::from(w.at(och, k)),
                false => (0..shape.in_channels)
                    .map(|ich| pixel(image, irow, icol, ich) * i32::from(w.at(k * shape.in_channels + ich, och)))
                    .sum(),
            };
        }
        let out = to_i8(sum, 0.01);
        if relu { out.max(0) } else { out }
    };
    let pool = shape.pool.unwrap_or(Pool { size: 1, stride: 1, padding: 0 });
    let [pooled_rows, pooled_cols] = shape.pooled_pixels();
    let mut out = Vec::new();
    for pixel in 0..shape.batch * pooled_rows * pooled_cols {
        let (image, prow, pcol) =
            (pixel / (pooled_rows * pooled_cols), pixel / pooled_cols % pooled_rows, pixel % pooled_cols);
        for och in 0..shape.out_channels {
            let window = |w: usize| {
                let row = (prow * pool.stride + w / pool.size).checked_sub(pool.padding).filter(|&row| row < rows);
                let col = (pcol * pool.stride + w % pool.size).checked_sub(pool.padding).filter(|&col| col < cols);
                row.zip(col).map_or(0, |(row, col)| value(image, row, col, och))
            };
            out.push((0..pool.size * pool.size).map(window).max().expect("a window has pixels"));
        }
    }
    b.expect(output, &Dense::new(shape.batch * pooled_rows * pooled_cols, shape.out_channels, out));
}

#[test]
fn conv_rect_pool() {
    let mut b = Bench::new("conv_rect_pool");
    let pool = Some(Pool { size: 3, stride: 2, padding: 1 });
    let shape = ConvShape { padding: 1, pool, ..ConvShape::new(1, [9, 11, 17], 12, 3) };
    convolution(&mut b, shape, false);
    b.check();
}

/// The first layer of the program in small: three channels, 224 x 224 cut to 56 x 56.
#[test]
fn conv_perf() {
    let mut b = Bench::new("conv_perf");
    convolution(&mut b, ConvShape { stride: 2, padding: 1, ..ConvShape::new(1, [56, 56, 3], 32, 3) }, false);
    b.check();
}

/// 17 channels, 112 x 112 cut to 28 x 28.
#[test]
fn conv_dw_perf() {
    let mut b = Bench::new("conv_dw_perf");
    let shape = ConvShape { stride: 2, padding: 1, depthwise: true, ..ConvShape::new(1, [28, 28, 17], 17, 3) };
    convolution(&mut b, shape, false);
    b.check();
}

/// ResNet-50: the first layer with its pooling (cut to 32 x 32), a bottleneck of the last stage with a quarter of its
/// channels, global average and classifier.
#[test]
fn resnet50() {
    let mut b = Bench::new("resnet50");
    let pool = Some(Pool { size: 3, stride: 2, padding: 1 });
    convolution(&mut b, ConvShape { stride: 2, padding: 3, pool, ..ConvShape::new(1, [32, 32, 3], 64, 7) }, true);
    // 1x1 as a product, 3x3, 1x1 without ReLU, and the stride-2 projection.
    default_schedule(&mut b, [49, 128, 512], Dataflow::Ws, |m| Matmul {
        activation: Activation::Relu,
        scale: 0.01,
        ..m
    });
    convolution(&mut b, ConvShape { padding: 1, ..ConvShape::new(1, [7, 7, 128], 128, 3) }, true);
    default_schedule(&mut b, [49, 512, 128], Dataflow::Ws, |m| Matmul { scale: 0.01, ..m });
    convolution(&mut b, ConvShape { stride: 2, ..ConvShape::new(1, [14, 14, 256], 512, 1) }, false);
    let ((x, x_data), (y, y_data)) = (b.i8("a", 49, 512), b.i8("b", 49, 512));
    let c = b.out(49, 512);
    ResidualAdd { scale: 0.5, relu: true, ..ResidualAdd::new(x, y, c) }.lower_auto(&mut b.builder).unwrap();
    let added = sum(&x_data, &y_data, [1.0, 1.0, 0.5], true);
    b.expect(c, &added);
    b.fence();
    let average = b.out(1, 512);
    GlobalAverage { batch: 1, pixels: 49, input: c, out: average }.lower(&mut b.builder).unwrap();
    let mean = |ch: usize| to_i8((0..49).map(|p| i32::from(added.at(p, ch))).sum(), 1.0 / 49.0);
    b.expect(average, &Dense::new(1, 512, (0..512).map(mean).collect()));
    b.fence();
    default_schedule(&mut b, [1, 1000, 512], Dataflow::Ws, |m| Matmul { scale: 0.01, ..m });
    b.check();
}

/// MobileNetV2: the first layer, an inverted residual block with stride 1 (expand, depthwise, project, add) and the
/// depthwise layer of one with stride 2, cut to 14 x 14.
#[test]
fn mobilenet() {
    let mut b = Bench::new("mobilenet");
    convolution(&mut b, ConvShape { stride: 2, padding: 1, ..ConvShape::new(1, [28, 28, 3], 32, 3) }, true);
    default_schedule(&mut b, [196, 96, 16], Dataflow::Ws, |m| Matmul {
        activation: Activation::Relu,
        scale: 0.05,
        ..m
    });
    let depthwise = ConvShape { padding: 1, depthwise: true, ..ConvShape::new(1, [14, 14, 24], 24, 3) };
    convolution(&mut b, depthwise, true);
    convolution(&mut b, ConvShape { stride: 2, ..depthwise }, true);
    default_schedule(&mut b, [196, 24, 96], Dataflow::Ws, |m| Matmul { scale: 0.05, ..m });
    let ((x, x_data), (y, y_data)) = (b.i8("a", 196, 24), b.i8("b", 196, 24));
    let c = b.out(196, 24);
    ResidualAdd::new(x, y, c).lower_auto(&mut b.builder).unwrap();
    b.expect(c, &sum(&x_data, &y_data, [1.0; 3], false));
    b.check();
}

/// One block as the program orders it: the norm before the residual addition, int32 results of the output projection and
/// of the second feed-forward product, GELU fused. Sizes in small.
#[test]
fn transformer() {
    let (tokens, hidden, heads, ffn) = (32, 64, 4, 96);
    let mut b = Bench::on(GemminiConfig::norm16(), "transformer");
    let (input, input_data) = b.i8("in", tokens, hidden);
    let dense =
        |b: &mut Bench, x: View, x_data: &Dense<i8>, outputs: usize, full: bool, activation: Activation, scale: f32| {
            let ((w, w_data), (d, d_data)) = (b.small("w", x.cols, outputs, 30), b.i32("d", 1, outputs, 900));
            let c = if full { b.out_i32(tokens, outputs) } else { b.out(tokens, outputs) };
            let matmul = Matmul { bias: Bias::Row(d), activation, scale, ..Matmul::new(x, w, c) };
            matmul.lower_auto(&mut b.builder).unwrap();
            let sums = product(x_data, &w_data, |_, col| d_data.at(0, col));
            match full {
                true => b.expect(c, &sums),
                false => b.expect(c, &read_out_all(&sums, &activation, scale)),
            }
            b.fence();
            (c, sums)
        };
    let none = Activation::None;
    let qkv = [0; 3].map(|_: u8| {
        let (view, sums) = dense(&mut b, input, &input_data, hidden, false, none, 0.005);
        (view, read_out_all(&sums, &none, 0.005))
    });
    let [(q, q_data), (k, k_data), (v, v_data)] = qkv;
    let context = b.out(tokens, hidden);
    let softmax = Activation::Softmax(softmax_constants(0.01));
    let mut context_data = vec![0; tokens * hidden];
    for head in 0..heads {
        let columns = head * hidden / heads..(head + 1) * hidden / heads;
        let part = |view: &View| view.columns(columns.clone()).unwrap();
        let probabilities = b.out(tokens, tokens);
        let scores =
            Matmul { b_transpose: true, activation: softmax, ..Matmul::new(part(&q), part(&k), probabilities) };
        scores.lower_auto(&mut b.builder).unwrap();
        b.fence();
        let sums = product(&q_data.columns(columns.clone()), &k_data.columns(columns.clone()).transposed(), |_, _| 0);
        let p = read_out_all(&sums, &softmax, 1.0);
        b.expect(probabilities, &p);
        let matmul = Matmul { scale: 1.0 / 127.0, ..Matmul::new(probabilities, part(&v), part(&context)) };
        matmul.lower_auto(&mut b.builder).unwrap();
        let out = read_out_all(&product(&p, &v_data.columns(columns.clone()), |_, _| 0), &none, 1.0 / 127.0);
        for row in 0..tokens {
            context_data[row * hidden..][columns.clone()].copy_from_slice(out.row(row));
        }
    }
    b.fence();
    let context_data = Dense::new(tokens, hidden, context_data);
    b.expect(context, &context_data);
    let normalize_and_add = |b: &mut Bench, sums: (View, Dense<i32>), residual: (View, &Dense<i8>)| {
        let (normalized, out) = (b.out(tokens, hidden), b.out(tokens, hidden));
        Norm { input: sums.0, out: normalized, scale: 30.0, activation: Activation::LayerNorm }
            .lower(&mut b.builder)
            .unwrap();
        b.fence();
        let normal = read_out_all(&sums.1, &Activation::LayerNorm, 30.0);
        b.expect(normalized, &normal);
        ResidualAdd::new(residual.0, normalized, out).lower_auto(&mut b.builder).unwrap();
        b.fence();
        let added = sum(residual.1, &normal, [1.0; 3], false);
        b.expect(out, &added);
        (out, added)
    };
    let projected = dense(&mut b, context, &context_data, hidden, true, none, 1.0);
    let (attended, attended_data) = normalize_and_add(&mut b, projected, (input, &input_data));
    let gelu = Activation::Gelu(gelu_constants(0.02));
    let scale = -1.0 / (1 << 21) as f32;
    let (inner, sums) = dense(&mut b, attended, &attended_data, ffn, false, gelu, scale);
    let inner_data = read_out_all(&sums, &gelu, scale);
    let second = dense(&mut b, inner, &inner_data, hidden, true, none, 1.0);
    normalize_and_add(&mut b, second, (attended, &attended_data));
    b.check();
}
