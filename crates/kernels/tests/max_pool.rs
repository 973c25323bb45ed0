//! Max pooling alone: functional model == naive reference == cycle-level model.

mod common;

use common::{Random, any_memory, assert_same_buffers, read_i8, run, run_cycles_on};
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{MaxPoolShape, ProgramBuilder};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn naive(s: &MaxPoolShape, at: impl Fn(usize, usize, usize, usize) -> i8) -> Vec<i8> {
    let [rows, cols] = s.out_pixels();
    let mut out = Vec::new();
    for pixel in 0..s.batch * rows * cols {
        let (image, row, col) = (pixel / (rows * cols), pixel / cols % rows, pixel % cols);
        for channel in 0..s.channels {
            let inside = (0..s.size * s.size).filter_map(|w| {
                let row = (row * s.stride + w / s.size).checked_sub(s.padding[0]).filter(|&r| r < s.in_rows)?;
                let col = (col * s.stride + w % s.size).checked_sub(s.padding[1]).filter(|&c| c < s.in_cols)?;
                Some(at(image, row, col, channel))
            });
            out.push(inside.max().expect("a window has pixels"));
        }
    }
    out
}

/// `gap` elements lie behind each pixel of input and output.
fn check(config: GemminiConfig, shape: MaxPoolShape, gap: usize, cycles: bool, seed: u64) {
    let mut builder = ProgramBuilder::new(config).unwrap();
    builder.begin("max pool");
    let (pixels, width) = (shape.batch * shape.in_rows * shape.in_cols, shape.channels + gap);
    let data = Random::new(seed).i8s(pixels * width);
    let input = builder.buffer_i8("input", pixels, width, &data).unwrap().columns(0..shape.channels).unwrap();
    let [rows, cols] = shape.out_pixels();
    let out = builder.buffer("out", shape.batch * rows * cols, width, ElementType::I8).unwrap();
    let out = out.columns(0..shape.channels).unwrap();
    shape.lower(&mut builder, &input, &out).unwrap();
    let statistics = builder.statistics().total();
    builder.fence();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));
    let at = |image: usize, row: usize, col: usize, channel: usize| {
        data[((image * shape.in_rows + row) * shape.in_cols + col) * width + channel]
    };
    assert!(read_i8(&memory, &out).data == naive(&shape, at), "{shape:?}");
    if cycles {
        assert_same_buffers(&program, &memory, &run_cycles_on(&program, any_memory(seed)).0);
    }
}

fn square(in_rows: usize, in_cols: usize, channels: usize, size: usize, stride: usize, padding: usize) -> MaxPoolShape {
    MaxPoolShape { batch: 1, in_rows, in_cols, channels, size, stride, padding: [padding; 4] }
}

#[test]
fn the_poolings_of_common_networks_equal_the_reference() {
    // ResNet, VGG, GoogLeNet (two kinds), with ragged channels.
    for shape in [square(28, 28, 64, 3, 2, 1), square(14, 18, 70, 2, 2, 0), square(9, 9, 19, 3, 1, 1)] {
        check(GemminiConfig::default16(), shape, 0, true, 1);
        check(GemminiConfig::small4(), MaxPoolShape { batch: 2, ..shape }, 3, true, 2);
    }
}

/// Rows of more than 255 pixels are cut, and so are images of more.
#[test]
fn images_beyond_eight_bits_are_cut() {
    check(GemminiConfig::default16(), square(5, 600, 5, 2, 2, 0), 0, true, 3);
    check(GemminiConfig::default16(), square(700, 4, 20, 3, 2, 1), 0, false, 4);
    check(GemminiConfig::default16(), square(4, 300, 5, 3, 1, 1), 0, false, 5);
}

#[test]
fn what_the_hardware_does_not_have_is_refused_with_a_reason() {
    let message = |config: GemminiConfig, shape: MaxPoolShape| {
        let mut builder = ProgramBuilder::new(config).unwrap();
        builder.begin("pool");
        let input = builder.buffer("input", 81, 4, ElementType::I8).unwrap();
        shape.lower(&mut builder, &input, &input).unwrap_err().to_string()
    };
    let shape = square(9, 9, 4, 3, 2, 1);
    let messages = [
        message(GemminiConfig::norm16(), shape),
        message(GemminiConfig::default16(), MaxPoolShape { size: 5, ..shape }),
        message(GemminiConfig::default16(), MaxPoolShape { stride: 0, ..shape }),
        message(GemminiConfig::default16(), MaxPoolShape { padding: [0, 0, 3, 0], ..shape }),
        message(GemminiConfig::default16(), MaxPoolShape { in_rows: 8, ..shape }),
    ];
    insta::assert_snapshot!(messages.join("\n"), @r"
    operation `pool`: this build has no pooling: it needs has_max_pool
    operation `pool`: a window of 5 and a stride of 2: config_st's 2 bits hold 1 to 3
    operation `pool`: a window of 3 and a stride of 0: config_st's 2 bits hold 1 to 3
    operation `pool`: a padding of 3 needs a larger window than 3
    operation `pool`: the int8 input is 81x4, expected 72x4
    ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_pooling_equals_the_reference(
        (batch, in_rows, in_cols, channels) in (1usize..3, 3usize..20, 3usize..24, 1usize..80),
        (size, stride) in (1usize..4, 1usize..4),
        padding in [0usize..3, 0..3, 0..3, 0..3],
        small in any::<bool>(),
        gap in prop::sample::select(vec![0usize, 5]),
        seed in any::<u64>(),
    ) {
        let config = if small { GemminiConfig::small4() } else { GemminiConfig::default16() };
        let padding = padding.map(|p| p.min(size - 1));
        let shape = MaxPoolShape { batch, in_rows, in_cols, channels, size, stride, padding };
        check(config, shape, gap, seed % 4 == 0, seed);
    }
}
