//! PRELOAD and COMPUTE against products computed element by element in exact arithmetic.

mod support;

use pollux_isa::values::{Activation, DataflowMode};
use pollux_isa::{Command, GemminiConfig, LocalAddr};
use pollux_memory::Memory;
use proptest::prelude::*;
use support::*;

/// One product of a random shape.
#[derive(Clone, Debug)]
struct Case {
    dim: u32,
    dataflow: DataflowMode,
    i: usize,
    j: usize,
    k: usize,
    a_transpose: bool,
    b_transpose: bool,
    bias: bool,
    shift: u32,
    relu: bool,
    to_accumulator: bool,
    a_stride: u16,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let dim = prop::sample::select(vec![4u32, 8, 16, 32]);
    let shape = dim.prop_flat_map(|dim| {
        let extent = 1..=dim as usize;
        (Just(dim), extent.clone(), extent.clone(), extent)
    });
    let transposes = prop::sample::select(vec![(false, false), (true, false), (false, true), (true, true)]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (shape, transposes, flags, 0..12u32, 1..4u16, any::<u64>()).prop_map(
        |((dim, i, j, k), (a, b), (os, bias, relu, to_accumulator), shift, a_stride, seed)| {
            let dataflow = if os { DataflowMode::Os } else { DataflowMode::Ws };
            // The array has one transposer. OS uses it for an A that is not transposed.
            let (a_transpose, b_transpose) = match dataflow {
                DataflowMode::Os => (a || b, b),
                DataflowMode::Ws => (a, b && !a),
            };
            let (shift, dim) = (if os { shift } else { 0 }, dim);
            Case { dim, dataflow, i, j, k, a_transpose, b_transpose, bias, shift, relu, to_accumulator, a_stride, seed }
        },
    )
}

/// Scratchpad rows of A, B, D and C.
const A: u32 = 0;
const B: u32 = 1000;
const D: u32 = 2000;
const C: u32 = 3000;

impl Case {
    /// Stores a matrix at scratchpad row `row`, its rows `stride` rows apart, as it lies when transposed or not.
    fn place(
        &self,
        model: &mut pollux_functional::FunctionalModel,
        row: u32,
        stride: u16,
        transposed: bool,
        m: &[Vec<i8>],
    ) {
        let stored = if transposed { transpose(m) } else { m.to_vec() };
        for (i, elements) in stored.iter().enumerate() {
            let row = row as usize + i * usize::from(stride);
            model.scratchpad_mut().row_mut(row)[..elements.len()].copy_from_slice(elements);
        }
    }

    fn commands(&self) -> Vec<Command> {
        let sp = LocalAddr::scratchpad;
        let c = if self.to_accumulator { LocalAddr::accumulator(0) } else { sp(C) };
        let activation = if self.relu { Activation::Relu } else { Activation::None };
        let config = Command::ConfigEx(pollux_isa::fields::ConfigEx {
            activation,
            a_transpose: self.a_transpose,
            b_transpose: self.b_transpose,
            a_stride: self.a_stride,
            in_shift: self.shift,
            ..config_ex(self.dataflow)
        });
        let bias = operand(if self.bias { sp(D) } else { LocalAddr::GARBAGE }, self.i, self.j);
        let (a, b) = (operand(sp(A), self.i, self.k), operand(sp(B), self.k, self.j));
        let (preloaded, bd) = match self.dataflow {
            DataflowMode::Os => (bias, b),
            DataflowMode::Ws => (b, bias),
        };
        vec![config, preload(preloaded, operand(c, self.i, self.j)), compute_preloaded(a, bd)]
    }
}

/// The sum after the array: 20 bits, wrapped on the way in, shifted and clipped on the way out (OS).
fn array_result(sum: i64, case: &Case) -> i64 {
    let wrapped = (sum + (1 << 19)).rem_euclid(1 << 20) - (1 << 19);
    divide_by_power(wrapped, case.shift).clamp(-(1 << 19), (1 << 19) - 1)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_product_equals_the_exact_one_in_both_dataflows(case in case()) {
        let config = GemminiConfig::with_dim(case.dim).unwrap();
        let mut model = model(&config, Memory::new());
        let a = matrix_i8(case.seed, case.i, case.k);
        let b = matrix_i8(case.seed ^ 1, case.k, case.j);
        let d = matrix_i8(case.seed ^ 2, case.i, case.j);
        case.place(&mut model, A, case.a_stride, case.a_transpose, &a);
        case.place(&mut model, B, 1, case.b_transpose, &b);
        case.place(&mut model, D, 1, false, &d);
        execute(&mut model, &case.commands()).unwrap();
        let sums = product(&a, &b, |i, j| if case.bias { d[i][j].into() } else { 0 });
        for (i, row) in sums.iter().enumerate() {
            let expected: Vec<i64> = row.iter().map(|&sum| array_result(sum, &case)).collect();
            let actual: Vec<i64> = if case.to_accumulator {
                model.accumulator().row(i)[..case.j].iter().map(|&x| x.into()).collect()
            } else {
                model.scratchpad().row(C as usize + i)[..case.j].iter().map(|&x| x.into()).collect()
            };
            let stored = |x: i64| match case.to_accumulator {
                true => x,
                false => x.clamp(if case.relu { 0 } else { -128 }, 127),
            };
            prop_assert_eq!(actual, expected.into_iter().map(stored).collect::<Vec<_>>());
        }
        prop_assert_eq!(model.counts().macs, (case.i * case.j * case.k) as u64);
    }
}

fn square(config: &GemminiConfig, seed: u64) -> Vec<Vec<i8>> {
    matrix_i8(seed, config.dim() as usize, config.dim() as usize)
}

/// A model whose scratchpad holds these DIM x DIM matrices one behind the other.
fn model_with(config: &GemminiConfig, matrices: &[&[Vec<i8>]]) -> pollux_functional::FunctionalModel {
    let mut model = model(config, Memory::new());
    for (i, row) in matrices.iter().flat_map(|m| m.iter()).enumerate() {
        model.scratchpad_mut().row_mut(i).copy_from_slice(row);
    }
    model
}

fn accumulated(model: &pollux_functional::FunctionalModel, first: usize) -> Vec<Vec<i64>> {
    let dim = model.accumulator().width();
    (first..first + dim).map(|row| model.accumulator().row(row).iter().map(|&x| x.into()).collect()).collect()
}

#[test]
fn weights_stay_in_use_until_the_next_flip() {
    let config = GemminiConfig::small4();
    let (w1, w2, a) = (square(&config, 1), square(&config, 2), square(&config, 3));
    let mut model = model_with(&config, &[&w1, &w2, &a]);
    let at = |row| operand(row, 4, 4);
    let (sp, acc, none) = (LocalAddr::scratchpad, LocalAddr::accumulator, LocalAddr::GARBAGE);
    let commands = [
        Command::ConfigEx(config_ex(DataflowMode::Ws)),
        preload(at(sp(0)), at(acc(0))),
        compute_preloaded(at(sp(8)), at(none)),
        // New weights are preloaded, but the old ones stay in use.
        preload(at(sp(4)), at(acc(4))),
        compute_accumulated(at(sp(8)), at(none)),
        preload(at(sp(4)), at(acc(8))),
        compute_preloaded(at(sp(8)), at(none)),
        preload(at(none), at(acc(8).with_accumulate())),
        compute_accumulated(at(sp(8)), at(none)),
    ];
    execute(&mut model, &commands).unwrap();
    let (old, new) = (product(&a, &w1, |_, _| 0), product(&a, &w2, |_, _| 0));
    assert_eq!(accumulated(&model, 0), old);
    assert_eq!(accumulated(&model, 4), old);
    assert_eq!(accumulated(&model, 8), product(&a, &w2, |i, j| new[i][j]));
}

#[test]
fn output_stationary_sums_stay_in_the_array_over_several_computes() {
    let config = GemminiConfig::small4();
    let (a, b, d) = (square(&config, 1), square(&config, 2), square(&config, 3));
    let mut model = model_with(&config, &[&a, &b, &d]);
    let at = |row| operand(row, 4, 4);
    let (sp, none) = (LocalAddr::scratchpad, LocalAddr::GARBAGE);
    let commands = [
        Command::ConfigEx(config_ex(DataflowMode::Os)),
        preload(at(sp(8)), at(none)),
        compute_preloaded(at(sp(0)), at(sp(4))),
        preload(at(none), at(LocalAddr::accumulator(0))),
        compute_accumulated(at(sp(0)), at(sp(4))),
    ];
    execute(&mut model, &commands).unwrap();
    let once = product(&a, &b, |i, j| d[i][j].into());
    assert_eq!(accumulated(&model, 0), product(&a, &b, |i, j| once[i][j]));
}

#[test]
fn output_stationary_sums_wrap_at_20_bits() {
    let config = GemminiConfig::default16();
    let full = vec![vec![-128i8; 16]; 16];
    let mut model = model_with(&config, &[&full]);
    let at = |row| operand(row, 16, 16);
    let (sp, none) = (LocalAddr::scratchpad, LocalAddr::GARBAGE);
    let mut commands = vec![Command::ConfigEx(config_ex(DataflowMode::Os))];
    // Each product adds 2^18 to every element; the third sum, 2^19 + 2^18, does not fit.
    for (c, first) in [(none, true), (none, false), (LocalAddr::accumulator(0), false)] {
        commands.push(preload(at(none), at(c)));
        let compute = if first { compute_preloaded } else { compute_accumulated };
        commands.push(compute(at(sp(0)), at(sp(0))));
    }
    execute(&mut model, &commands).unwrap();
    assert_eq!(model.accumulator().row(0), [-(1 << 18); 16]);
}

#[test]
fn a_result_never_feeds_its_own_operands() {
    let config = GemminiConfig::small4();
    let (a, w) = (square(&config, 7), square(&config, 8));
    let small = |m: &[Vec<i8>]| -> Vec<Vec<i8>> { m.iter().map(|r| r.iter().map(|x| x >> 5).collect()).collect() };
    let (a, w) = (small(&a), small(&w));
    let mut model = model_with(&config, &[&a, &w]);
    let at = |row| operand(LocalAddr::scratchpad(row), 4, 4);
    let commands = [
        Command::ConfigEx(config_ex(DataflowMode::Ws)),
        // C overlaps A, one row further down.
        preload(at(4), at(1)),
        compute_preloaded(at(0), operand(LocalAddr::GARBAGE, 4, 4)),
    ];
    execute(&mut model, &commands).unwrap();
    for (i, row) in product(&a, &w, |_, _| 0).iter().enumerate() {
        let actual: Vec<i64> = model.scratchpad().row(1 + i).iter().map(|&x| x.into()).collect();
        assert_eq!(&actual, row);
    }
}

#[test]
fn c_rows_are_written_with_their_stride() {
    let config = GemminiConfig::small4();
    let (a, w) = (square(&config, 9), square(&config, 10));
    let mut model = model_with(&config, &[&a, &w]);
    let at = |row| operand(LocalAddr::scratchpad(row), 4, 4);
    let commands = [
        Command::ConfigEx(pollux_isa::fields::ConfigEx { c_stride: 3, ..config_ex(DataflowMode::Ws) }),
        preload(at(4), operand(LocalAddr::accumulator(5), 4, 4)),
        compute_preloaded(at(0), operand(LocalAddr::GARBAGE, 4, 4)),
    ];
    execute(&mut model, &commands).unwrap();
    for (i, row) in product(&a, &w, |_, _| 0).iter().enumerate() {
        let actual: Vec<i64> = model.accumulator().row(5 + 3 * i).iter().map(|&x| x.into()).collect();
        assert_eq!(&actual, row);
    }
}
