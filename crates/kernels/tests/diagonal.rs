//! Sums of diagonal products against the naive reference.

mod common;

use common::{
    Dense, Random, any_memory, assert_same_buffers, configs, gelu_constants, read_i8, read_out, run, run_cycles_on,
};
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::{Activation, ColumnGroup, DiagonalSum, DiagonalTerm, ProgramBuilder};
use proptest::prelude::*;

struct Case {
    config: GemminiConfig,
    rows: usize,
    cols: usize,
    /// Last columns of the groups but the last one.
    splits: Vec<usize>,
    /// Whether each term takes the residual.
    terms: Vec<bool>,
    activation: Activation,
    seed: u64,
}

fn check(case: &Case, cycles: bool) {
    let (rows, cols) = (case.rows, case.cols);
    let r = &mut Random::new(case.seed);
    let mut splits: Vec<usize> = case.splits.iter().map(|split| split % cols).filter(|&split| split > 0).collect();
    splits.sort_unstable();
    splits.dedup();
    let bounds = [vec![0], splits, vec![cols]].concat();
    let scales = match case.activation {
        Activation::LayerNorm => [30.0, 55.0, 30.0],
        Activation::Gelu(_) => [-3e-7, -1e-7, -2e-7],
        _ => [0.01, 0.02, 0.004],
    };
    let group = |(i, bounds): (usize, &[usize])| ColumnGroup { columns: bounds[0]..bounds[1], scale: scales[i % 3] };
    let sum = DiagonalSum {
        terms: case
            .terms
            .iter()
            .map(|&residual| DiagonalTerm {
                operand: if residual { DiagonalOperand::Residual } else { DiagonalOperand::Branch },
                diagonal: r.i8s(cols),
            })
            .collect(),
        bias: r.i32s(cols, 2000),
        activation: case.activation,
        groups: bounds.windows(2).enumerate().map(group).collect(),
    };
    let mut builder = ProgramBuilder::new(case.config.clone()).unwrap();
    let (branch, residual) = (Dense::new(rows, cols, r.i8s(rows * cols)), Dense::new(rows, cols, r.i8s(rows * cols)));
    let branch_view = builder.buffer_i8("branch", rows, cols, &branch.data).unwrap();
    // Another stride than the branch's.
    let gaps: Vec<i8> = (0..rows).flat_map(|i| [residual.row(i), &[0; 3]].concat()).collect();
    let residual_view = builder.buffer_i8("residual", rows, cols + 3, &gaps).unwrap().columns(0..cols).unwrap();
    let out = builder.buffer("out", rows, cols, ElementType::I8).unwrap();
    let placed = sum.place(&mut builder, "sum").unwrap();
    builder.begin("sum");
    placed.lower(&mut builder, &branch_view, &residual_view, &out).unwrap();
    let statistics = builder.statistics().total();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    assert_eq!(statistics.macs, counts.macs);
    assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));

    let mut expected = Vec::new();
    for row in 0..rows {
        let value = |col: usize| {
            let term = |t: &DiagonalTerm| {
                let operand = if t.operand == DiagonalOperand::Branch { &branch } else { &residual };
                i32::from(operand.at(row, col)) * i32::from(t.diagonal[col])
            };
            sum.bias[col] + sum.terms.iter().map(term).sum::<i32>()
        };
        let sums: Vec<i32> = (0..cols).map(value).collect();
        for group in &sum.groups {
            expected.extend_from_slice(&read_out(&sums, &sum.activation, group.scale)[group.columns.clone()]);
        }
    }
    assert!(read_i8(&memory, &out).data == expected, "{rows}x{cols}");
    if cycles {
        assert_same_buffers(&program, &memory, &run_cycles_on(&program, any_memory(case.seed)).0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_sum_equals_the_reference(
        config in 0usize..4, rows in 1usize..80, cols in 1usize..300,
        splits in prop::collection::vec(any::<usize>(), 0..4), terms in prop::collection::vec(any::<bool>(), 1..5),
        act in 0usize..4, seed in any::<u64>(),
    ) {
        let config = configs()[config].clone();
        let gelu = Activation::Gelu(gelu_constants(0.02));
        let activation = [Activation::LayerNorm, gelu, Activation::None, Activation::Relu][act];
        check(&Case { config, rows, cols, splits, terms, activation, seed }, seed % 4 == 0);
    }
}

#[test]
fn rows_wider_than_the_accumulator_at_full_height_are_summed_in_lower_blocks() {
    // 375 blocks of 4 columns: the accumulator of 1024 rows holds two rows of them. Neither do the diagonals fit.
    let case = Case {
        config: GemminiConfig::small4(),
        rows: 7,
        cols: 1500,
        splits: vec![1484],
        terms: vec![false; 14],
        activation: Activation::LayerNorm,
        seed: 1,
    };
    check(&case, true);
}

#[test]
fn parameters_that_do_not_fit_together_are_named() {
    let mut builder = ProgramBuilder::new(GemminiConfig::norm16()).unwrap();
    let term = DiagonalTerm { operand: DiagonalOperand::Branch, diagonal: vec![1; 10] };
    let group = ColumnGroup { columns: 0..10, scale: 1.0 };
    let good = DiagonalSum {
        terms: vec![term.clone()],
        bias: vec![0; 10],
        activation: Activation::None,
        groups: vec![group.clone()],
    };
    let mut message = |sum: DiagonalSum, name: &str| sum.place(&mut builder, name).unwrap_err().to_string();
    let uncovered = DiagonalSum { groups: vec![ColumnGroup { columns: 0..9, ..group }], ..good.clone() };
    let short = DiagonalSum { terms: vec![DiagonalTerm { diagonal: vec![1; 9], ..term }], ..good };
    assert_eq!(
        message(uncovered, "norm"),
        "operation `norm`: it needs column groups that cover the 10 columns in order"
    );
    assert_eq!(message(short, "norm"), "`norm.diagonals` has 9 elements, expected 10");
}
