//! The int32 residual stream with its LayerNorm against the naive reference.

mod common;

use common::{
    Dense, Random, any_memory, assert_same_buffers, configs, read_i8, read_i32, read_out, run, run_cycles_on,
};
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{Activation, ColumnGroup, ProgramBuilder, ResidualNorm, ResidualNormViews, View};
use proptest::prelude::*;

/// Where the sums go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sums {
    Dropped,
    Separate,
    InPlace,
}

#[derive(Debug)]
struct Case {
    config: GemminiConfig,
    rows: usize,
    cols: usize,
    /// First columns of the groups but the first one.
    splits: Vec<usize>,
    terms: usize,
    sums: Sums,
    seed: u64,
}

impl Case {
    fn groups(&self) -> Vec<ColumnGroup> {
        let mut splits: Vec<usize> = self.splits.iter().map(|split| split % self.cols).filter(|&s| s > 0).collect();
        splits.sort_unstable();
        splits.dedup();
        let bounds = [vec![0], splits, vec![self.cols]].concat();
        let scale = |i: usize| [30.0, 55.0, 30.0][i % 3];
        bounds.windows(2).enumerate().map(|(i, b)| ColumnGroup { columns: b[0]..b[1], scale: scale(i) }).collect()
    }
}

fn check(case: &Case, cycles: bool) {
    let (rows, cols) = (case.rows, case.cols);
    let r = &mut Random::new(case.seed);
    // As large as LayerNorm's sum of squares allows.
    let stream = Dense::new(rows, cols, r.i32s(rows * cols, (46340.0 / (cols as f64).sqrt() / 2.0) as i32));
    let branch = Dense::new(rows, cols, r.i8s(rows * cols));
    let op =
        ResidualNorm { columns: cols, terms: (0..case.terms).map(|_| r.i8s(cols)).collect(), groups: case.groups() };

    let mut builder = ProgramBuilder::new(case.config.clone()).unwrap();
    let stream_view = builder.buffer_i32("stream", rows, cols, &stream.data).unwrap();
    // Another stride than the result's.
    let gaps: Vec<i8> = (0..rows).flat_map(|i| [branch.row(i), &[0; 5]].concat()).collect();
    let branch_view = builder.buffer_i8("branch", rows, cols + 5, &gaps).unwrap().columns(0..cols).unwrap();
    let sums: Option<View> = match case.sums {
        Sums::Dropped => None,
        Sums::InPlace => Some(stream_view),
        Sums::Separate => Some(builder.buffer("sums", rows, cols, ElementType::I32).unwrap()),
    };
    let out = builder.buffer("out", rows, cols, ElementType::I8).unwrap();
    let placed = op.place(&mut builder, "norm").unwrap();
    builder.begin("norm");
    let branch_view = (case.terms > 0).then_some(branch_view);
    placed.lower(&mut builder, &ResidualNormViews { stream: stream_view, branch: branch_view, sums, out }).unwrap();
    let statistics = builder.statistics().total();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    assert_eq!(statistics.macs, counts.macs);
    assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));

    let sum = |row: usize, col: usize| {
        let terms = op.terms.iter().map(|diagonal| i32::from(branch.at(row, col)) * i32::from(diagonal[col]));
        stream.at(row, col) + terms.sum::<i32>()
    };
    let expected: Vec<i32> = (0..rows * cols).map(|i| sum(i / cols, i % cols)).collect();
    let mut normalised = Vec::new();
    for row in expected.chunks(cols) {
        for group in &op.groups {
            normalised.extend_from_slice(&read_out(row, &Activation::LayerNorm, group.scale)[group.columns.clone()]);
        }
    }
    assert!(read_i8(&memory, &out).data == normalised, "LayerNorm of {rows}x{cols}");
    if let Some(sums) = sums {
        assert!(read_i32(&memory, &sums).data == expected, "sums of {rows}x{cols}");
    }
    if cycles {
        assert_same_buffers(&program, &memory, &run_cycles_on(&program, any_memory(case.seed)).0);
    }
}

/// Arrays of 4, 8 and 16, and one with little scratchpad beside a large accumulator.
fn config(index: usize) -> GemminiConfig {
    match index {
        0 => GemminiConfig::with_dim(8).unwrap().into_inner(),
        i => configs()[i].clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn stream_and_norm_equal_the_reference_on_both_models(
        index in 0usize..4, rows in 1usize..80, cols in 1usize..300,
        splits in prop::collection::vec(any::<usize>(), 0..4), terms in 0usize..5,
        sums in prop::sample::select(vec![Sums::Dropped, Sums::Separate, Sums::InPlace]), seed in any::<u64>(),
    ) {
        let cycles = seed % 3 == 0;
        check(&Case { config: config(index), rows, cols, splits, terms, sums, seed }, cycles);
    }
}

#[test]
fn rows_wider_than_the_accumulator_at_full_height_are_summed_in_lower_blocks() {
    // 375 blocks of 4 columns: the accumulator of 1024 rows holds two rows of them.
    let case = Case {
        config: GemminiConfig::small4(),
        rows: 7,
        cols: 1500,
        splits: vec![1484],
        terms: 3,
        sums: Sums::InPlace,
        seed: 1,
    };
    check(&case, true);
}

#[test]
fn wrong_operands_and_builds_are_named() {
    let message = |config: GemminiConfig, terms: usize, stream: ElementType, with_branch: bool| {
        let mut builder = ProgramBuilder::new(config).unwrap();
        let mut buffer = |name, element| builder.buffer(name, 3, 10, element).unwrap();
        let (stream, branch) = (buffer("stream", stream), buffer("branch", ElementType::I8));
        let (sums, out) = (Some(buffer("sums", ElementType::I32)), buffer("out", ElementType::I8));
        let groups = vec![ColumnGroup { columns: 0..10, scale: 1.0 }];
        let placed = ResidualNorm { columns: 10, terms: vec![vec![1; 10]; terms], groups }.place(&mut builder, "norm");
        builder.begin("norm");
        let views = ResidualNormViews { stream, branch: with_branch.then_some(branch), sums, out };
        placed.unwrap().lower(&mut builder, &views).unwrap_err().to_string()
    };
    let norm16 = GemminiConfig::norm16;
    assert_eq!(
        message(norm16(), 1, ElementType::I32, false),
        "operation `norm`: it has diagonals, so it needs a branch"
    );
    assert!(message(norm16(), 0, ElementType::I8, false).contains("the stream"));
    let narrow = GemminiConfig { acc_read_full_width: false, ..norm16() };
    assert_eq!(
        message(narrow, 1, ElementType::I32, true),
        "operation `norm`: int32 sums need a build with `acc_read_full_width`"
    );
}
