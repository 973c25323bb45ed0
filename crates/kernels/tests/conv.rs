//! Convolutions and pooling against naive references.

mod common;
#[path = "common/conv.rs"]
mod naive;

use common::{Dense, Random, assert_same_buffers, read_i8, run, run_cycles, to_i8};
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_kernels::{
    AveragePoolShape, Conv, ConvAxis, ConvSchedule, ConvShape, Emission, GlobalAverage, Keep, Pool, ProgramBuilder,
    TrainingOptions, WeightLayout,
};
use proptest::prelude::*;

struct Case {
    config: GemminiConfig,
    shape: ConvShape,
    schedule: Option<ConvSchedule>,
    bias: bool,
    relu: bool,
    /// Elements behind each row of input, weights and output.
    gap: usize,
    cycles: bool,
    seed: u64,
}

/// Whether the unroller can do the case; if it can, it has been checked.
fn check(case: &Case) -> bool {
    let r = &mut Random::new(case.seed);
    let mut builder = ProgramBuilder::new(case.config.clone()).unwrap();
    builder.begin("conv");
    let [input, weights, output] = case.shape.views();
    let mut place = |name: &str, (rows, cols): (usize, usize)| {
        let width = cols + case.gap;
        let data = r.i8s(rows * width);
        let view = builder.buffer_i8(name, rows, width, &data).unwrap().columns(0..cols).unwrap();
        (view, Dense::new(rows, width, data).columns(0..cols))
    };
    let (input, input_data) = place("input", input);
    let (weights, weight_data) = place("weights", weights);
    let bias = if case.bias { r.i32s(case.shape.out_channels, 20_000) } else { vec![0; case.shape.out_channels] };
    let bias_view = builder.buffer_i32("bias", 1, bias.len(), &bias).unwrap();
    let width = output.1 + case.gap;
    let output = builder.buffer("output", output.0, width, ElementType::I8).unwrap().columns(0..output.1).unwrap();
    let terms = case.shape.kernel * case.shape.kernel * if case.shape.depthwise { 1 } else { case.shape.in_channels };
    let conv = Conv {
        shape: case.shape,
        input,
        weights,
        bias: case.bias.then_some(bias_view),
        output,
        scale: 1.0 / (terms as f32).sqrt() / 100.0,
        relu: case.relu,
    };
    let lowered = match &case.schedule {
        Some(schedule) => conv.lower(&mut builder, schedule),
        None => conv.lower_auto(&mut builder).map(|_| ()),
    };
    match lowered {
        Err(error) if error.to_string().ends_with("choose larger tiles") => return false,
        other => other.unwrap(),
    }
    let program = builder.finish().unwrap();
    let (memory, _) = run(&program);
    let expected = naive::conv(&conv, &input_data, &weight_data, &bias);
    let found = read_i8(&memory, &output);
    assert_eq!(found.data.iter().zip(&expected.data).filter(|(a, b)| a != b).count(), 0, "{:?}", case.shape);
    if case.cycles {
        assert_same_buffers(&program, &memory, &run_cycles(&program).0);
    }
    true
}

fn checked(config: GemminiConfig, shape: ConvShape) {
    assert!(check(&Case { config, shape, schedule: None, bias: true, relu: true, gap: 0, cycles: true, seed: 1 }));
}

/// The shapes of Gemmini's own tests, on the configuration with every feature.
#[test]
fn convolutions_of_gemminis_own_tests_equal_the_reference() {
    let config = GemminiConfig::default16();
    let base = ConvShape { stride: 2, padding: 1, ..ConvShape::new(2, [17, 17, 18], 19, 3) };
    let one = ConvShape { stride: 1, ..base };
    let options = |options| ConvShape { options, ..one };
    let plain = TrainingOptions::default();
    for shape in [
        base,
        ConvShape { in_rows: 7, in_cols: 11, ..base },
        ConvShape { pool: Some(Pool { size: 3, stride: 2, padding: 1 }), ..base },
        ConvShape { in_channels: 3, ..base },
        ConvShape { kernel_dilation: 2, ..one },
        ConvShape { input_dilation: 2, ..one },
        ConvShape { input_dilation: 2, padding: -1, in_cols: 23, ..one },
        options(TrainingOptions { rotate_kernel: true, ..plain }),
        options(TrainingOptions { output_hwnc: true, ..plain }),
        options(TrainingOptions { weights: WeightLayout::Ihwo, ..plain }),
        options(TrainingOptions { weights: WeightLayout::Hwoi, ..plain }),
        options(TrainingOptions { input_chwn: true, ..plain }),
        ConvShape { kernel_dilation: 2, ..options(TrainingOptions { input_chwn: true, ..plain }) },
        ConvShape { input_dilation: 2, ..options(TrainingOptions { rotate_kernel: true, ..plain }) },
        ConvShape { depthwise: true, in_channels: 15, out_channels: 15, batch: 3, ..base },
        // The downsampling loads of a 1x1 kernel.
        ConvShape { stride: 2, ..ConvShape::new(2, [8, 12, 20], 33, 1) },
    ] {
        checked(config.clone(), shape);
    }
}

#[test]
fn convolutions_run_on_the_small_array_too() {
    let config = GemminiConfig::small4();
    let base = ConvShape { padding: 1, ..ConvShape::new(1, [9, 7, 6], 10, 3) };
    checked(config.clone(), base);
    checked(config.clone(), ConvShape { pool: Some(Pool { size: 2, stride: 2, padding: 0 }), ..base });
    checked(config, ConvShape { depthwise: true, in_channels: 5, out_channels: 5, ..base });
}

#[test]
fn an_inference_build_refuses_the_layouts_of_training() {
    let shape = ConvShape { input_dilation: 2, ..ConvShape::new(1, [5, 5, 4], 4, 3) };
    let config = GemminiConfig::norm16();
    let error = ConvSchedule::gemmini_default(&config, &shape).check(&config, &shape).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this build has no dilated input and the layouts of training: it needs has_training_convs"
    );
    let pooled = ConvShape { pool: Some(Pool { size: 2, stride: 2, padding: 0 }), input_dilation: 1, ..shape };
    let error = ConvSchedule::gemmini_default(&config, &pooled).check(&config, &pooled).unwrap_err();
    assert_eq!(error.to_string(), "this build has no pooling: it needs has_max_pool");
}

#[test]
fn a_tile_without_products_is_refused() {
    // The third row of the output sees only a row of zeros between two rows of the dilated input.
    let shape = ConvShape { padding: -1, input_dilation: 2, ..ConvShape::new(1, [3, 3, 13], 1, 1) };
    let mut builder = ProgramBuilder::new(GemminiConfig::default16()).unwrap();
    builder.begin("conv");
    let [input, weights, output] = shape.views();
    let mut buffer = |name, (rows, cols)| builder.buffer(name, rows, cols, ElementType::I8).unwrap();
    let (input, weights, output) = (buffer("input", input), buffer("weights", weights), buffer("output", output));
    let conv = Conv { shape, input, weights, bias: None, output, scale: 1.0, relu: false };
    let schedule = ConvSchedule { rows: 2, ..ConvSchedule::gemmini_default(builder.config(), &shape) };
    let message = conv.lower(&mut builder, &schedule).unwrap_err().to_string();
    assert_eq!(
        message,
        "operation `conv`: a tile's input is all padding, or zeros between dilated pixels: choose larger tiles"
    );
    let message = Conv { weights: input, ..conv }.lower_auto(&mut builder).unwrap_err().to_string();
    assert_eq!(message, "operation `conv`: the int8 weights is 9x13, expected 13x1");
}

#[test]
fn the_default_tiles_are_those_of_gemminis_search() {
    let tile = |shape: &ConvShape, config: &GemminiConfig| {
        let s = ConvSchedule::gemmini_default(config, shape);
        [s.batch, s.rows, s.cols, s.out_channels, s.kernel_rows, s.kernel_cols, s.in_channels]
    };
    let config = GemminiConfig::default16();
    let conv = |edge, channels: [usize; 2], kernel, stride, padding| ConvShape {
        stride,
        padding,
        ..ConvShape::new(4, [edge, edge, channels[0]], channels[1], kernel)
    };
    let test = ConvShape { padding: 1, ..ConvShape::new(2, [17, 17, 18], 19, 3) };
    let pool = Some(Pool { size: 3, stride: 2, padding: 1 });
    let depthwise = |batch, edge, channels, stride| ConvShape {
        batch,
        depthwise: true,
        ..conv(edge, [channels, channels], 3, stride, 1)
    };
    // What the functions of Gemmini's header (gemmini-rocc-tests, commit 180c468) print with PRINT_TILE for its
    // default parameters. ResNet-50 by number of the layer, then conv_perf, Gemmini's tests, MobileNet.
    for (name, shape, expected) in [
        ("layer 1", ConvShape { pool, ..conv(224, [3, 64], 7, 2, 3) }, [2, 2, 20, 16, 7, 7, 3]),
        ("layer 3", conv(56, [64, 64], 3, 1, 1), [4, 8, 16, 16, 3, 3, 64]),
        ("layer 13", conv(56, [128, 128], 3, 2, 1), [4, 8, 16, 16, 3, 3, 48]),
        ("layer 17", conv(28, [128, 128], 3, 1, 1), [4, 8, 16, 16, 3, 3, 128]),
        ("layer 26", conv(28, [256, 256], 3, 2, 1), [4, 9, 14, 16, 3, 3, 48]),
        ("layer 30", conv(14, [256, 256], 3, 1, 1), [4, 9, 14, 16, 3, 3, 144]),
        ("layer 45", conv(14, [512, 512], 3, 2, 1), [4, 7, 7, 32, 3, 3, 96]),
        ("layer 49", conv(7, [512, 512], 3, 1, 1), [4, 7, 7, 32, 3, 3, 208]),
        ("layer 47", conv(14, [1024, 2048], 1, 2, 0), [4, 7, 7, 32, 1, 1, 568]),
        ("layer 15", conv(56, [256, 512], 1, 2, 0), [4, 8, 16, 16, 1, 1, 240]),
        ("layer 4", conv(56, [64, 256], 1, 1, 0), [4, 8, 16, 16, 1, 1, 64]),
        ("conv_perf", conv(224, [3, 32], 3, 2, 1), [4, 8, 16, 16, 3, 3, 3]),
        ("conv", ConvShape { stride: 2, ..test }, [2, 9, 9, 19, 3, 3, 18]),
        ("conv_with_pool", ConvShape { stride: 2, pool, ..test }, [2, 5, 5, 16, 3, 3, 18]),
        ("conv_with_kernel_dilation", ConvShape { kernel_dilation: 2, ..test }, [2, 15, 15, 16, 3, 3, 18]),
        ("conv_with_input_dilation", ConvShape { input_dilation: 2, ..test }, [2, 16, 16, 16, 3, 3, 18]),
        ("conv_dw_perf", depthwise(3, 112, 17, 2), [3, 10, 17, 1, 3, 3, 1]),
        ("depthwise layer 2", depthwise(4, 112, 32, 1), [4, 8, 16, 1, 3, 3, 1]),
        ("depthwise layer 51", depthwise(4, 7, 960, 1), [4, 7, 7, 1, 3, 3, 1]),
    ] {
        assert_eq!(tile(&shape, &config), expected, "{name}");
        assert_eq!(ConvSchedule::gemmini_default(&config, &shape).check(&config, &shape), Ok(()), "{name}");
    }
}

#[test]
fn single_commands_do_plain_convolutions_only() {
    let config = GemminiConfig::default16();
    let plain = ConvShape { padding: 1, ..ConvShape::new(1, [9, 9, 4], 4, 3) };
    let check = |shape: &ConvShape| {
        let schedule = ConvSchedule::gemmini_default(&config, shape);
        ConvSchedule { emission: Emission::Commands, ..schedule }.check(&config, shape)
    };
    assert_eq!(check(&plain), Ok(()));
    for shape in [
        ConvShape { input_dilation: 2, ..plain },
        ConvShape { depthwise: true, ..plain },
        ConvShape { pool: Some(Pool { size: 2, stride: 2, padding: 0 }), ..plain },
        ConvShape { options: TrainingOptions { rotate_kernel: true, ..TrainingOptions::default() }, ..plain },
    ] {
        let message = check(&shape).unwrap_err().to_string();
        assert!(message.starts_with("single commands can only do a plain convolution"), "{message}");
    }
}

#[test]
fn single_commands_need_no_unroller() {
    let config = GemminiConfig { has_loop_conv: false, ..GemminiConfig::small4() };
    for shape in [
        ConvShape { padding: 1, ..ConvShape::new(2, [9, 7, 6], 10, 3) },
        ConvShape { stride: 2, ..ConvShape::new(1, [8, 6, 9], 5, 1) },
        ConvShape { stride: 2, padding: 2, kernel_dilation: 2, ..ConvShape::new(1, [11, 9, 3], 20, 3) },
    ] {
        let schedule = ConvSchedule { emission: Emission::Commands, ..ConvSchedule::gemmini_default(&config, &shape) };
        let case = Case {
            config: config.clone(),
            shape,
            schedule: Some(schedule),
            bias: true,
            relu: true,
            gap: 3,
            cycles: true,
            seed: 1,
        };
        assert!(check(&case));
    }
}

fn shapes() -> impl Strategy<Value = ConvShape> {
    let sizes = (1usize..3, 3usize..12, 3usize..12, 1usize..24, 1usize..24);
    let kernel = (1usize..4, 1usize..3, -1isize..3, 1usize..3, 1usize..3);
    let pool = prop::option::weighted(0.3, (1usize..4, 1usize..3, 0usize..2));
    let weights = prop::sample::select(vec![WeightLayout::Hwio, WeightLayout::Ihwo, WeightLayout::Hwoi]);
    let options = prop::option::weighted(0.4, (any::<bool>(), any::<bool>(), any::<bool>(), weights));
    (sizes, kernel, pool, options, prop::bool::weighted(0.2)).prop_map(|(sizes, kernel, pool, options, depthwise)| {
        let (batch, in_rows, in_cols, in_channels, out_channels) = sizes;
        let (kernel, stride, padding, kernel_dilation, input_dilation) = kernel;
        ConvShape {
            batch,
            in_rows,
            in_cols,
            in_channels,
            out_channels: if depthwise { in_channels } else { out_channels },
            kernel,
            stride,
            padding,
            kernel_dilation,
            input_dilation,
            pool: pool.map(|(size, stride, padding)| Pool { size, stride, padding }),
            depthwise,
            options: options.map_or(TrainingOptions::default(), |(rotate_kernel, output_hwnc, input_chwn, weights)| {
                TrainingOptions { rotate_kernel, output_hwnc, input_chwn, weights }
            }),
        }
    })
}

/// The unroller reckons the addresses of an input laid out by channel with the tile's images for all.
#[test]
fn a_part_of_the_images_of_an_input_by_channels_is_refused() {
    let config = GemminiConfig::default16();
    let options = TrainingOptions { input_chwn: true, ..TrainingOptions::default() };
    let shape = ConvShape { options, ..ConvShape::new(2, [3, 3, 2], 2, 2) };
    let whole = ConvSchedule::gemmini_default(&config, &shape);
    assert_eq!(whole.check(&config, &shape), Ok(()));
    let error = ConvSchedule { batch: 1, ..whole }.check(&config, &shape).unwrap_err();
    assert!(error.to_string().contains("1 of 2 images"), "{error}");
    // However large the images are.
    let large = ConvShape { options, ..ConvShape::new(40, [60, 60, 64], 64, 3) };
    assert_eq!(ConvSchedule::gemmini_default(&config, &large).batch, 40);
}

fn orders() -> impl Strategy<Value = [ConvAxis; 7]> {
    let outer = Just(ConvAxis::ALL[..4].to_vec()).prop_shuffle();
    let sums = Just(ConvAxis::ALL[4..].to_vec()).prop_shuffle();
    (outer, sums).prop_map(|(outer, sums)| std::array::from_fn(|i| if i < 4 { outer[i] } else { sums[i - 4] }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_global_rejects: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn any_legal_convolution_equals_the_reference(
        shape in shapes(),
        small in any::<bool>(),
        bias in any::<bool>(),
        relu in any::<bool>(),
        gap in prop::sample::select(vec![0usize, 0, 5]),
        split in 0usize..4,
        tile in prop::option::weighted(0.5, (prop::array::uniform7(1usize..24), orders())),
        keep in prop::sample::select(vec![Keep::Gemmini, Keep::Nothing, Keep::Recent]),
        single in any::<bool>(),
        by_commands in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let config = if small { GemminiConfig::small4() } else { GemminiConfig::default16() };
        let mut schedule = ConvSchedule::gemmini_default(&config, &shape);
        // Smaller tiles than necessary.
        match split {
            1 => schedule.rows = schedule.rows.div_ceil(2),
            2 => schedule.in_channels = schedule.in_channels.min(config.dim() as usize),
            3 => schedule.out_channels = schedule.out_channels.min(config.dim() as usize),
            _ => {}
        }
        if let Some((sizes, order)) = tile {
            let whole = ConvSchedule::extents(&shape);
            let [batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels] =
                std::array::from_fn(|axis| sizes[axis].clamp(1, whole[axis].max(1)));
            let out_channels = if shape.depthwise { 1 } else { out_channels };
            let ConvSchedule { emission, double_buffer, .. } = schedule;
            schedule = ConvSchedule {
                batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels, emission, order, keep, double_buffer,
            };
        }
        let commands = ConvSchedule { emission: Emission::Commands, double_buffer: !single, ..schedule };
        if by_commands && commands.check(&config, &shape).is_ok() {
            schedule = commands;
        }
        prop_assume!(schedule.check(&config, &shape).is_ok());
        let dense = shape.depthwise || shape.options != TrainingOptions::default();
        let gap = if dense { 0 } else { gap };
        let case = Case { config, shape, schedule: Some(schedule), bias, relu, gap, cycles: seed % 8 == 0, seed };
        prop_assume!(check(&case));
    }
}

#[test]
fn the_average_over_an_image_is_scaled_and_rounded() {
    for (config, batch, pixels, channels) in [
        (GemminiConfig::default16(), 2, 9, 47),
        (GemminiConfig::norm16(), 3, 49, 70),
        (GemminiConfig::small4(), 1, 16, 4100),
    ] {
        let data = Random::new(5).i8s(batch * pixels * channels);
        let mut builder = ProgramBuilder::new(config).unwrap();
        builder.begin("average");
        let input = builder.buffer_i8("input", batch * pixels, channels, &data).unwrap();
        let out = builder.buffer("out", batch, channels, ElementType::I8).unwrap();
        GlobalAverage { batch, pixels, input, out }.lower(&mut builder).unwrap();
        let (program, statistics) = {
            let statistics = builder.statistics().total();
            (builder.finish().unwrap(), statistics)
        };
        let (memory, counts) = run(&program);
        assert_eq!((statistics.bytes_in, statistics.bytes_out), (counts.bytes_in, counts.bytes_out));
        let sum = |b: usize, c: usize| (0..pixels).map(|p| i32::from(data[(b * pixels + p) * channels + c])).sum();
        let expected = (0..batch * channels).map(|i| to_i8(sum(i / channels, i % channels), 1.0 / pixels as f32));
        assert!(read_i8(&memory, &out).data == expected.collect::<Vec<_>>());
        assert_same_buffers(&program, &memory, &run_cycles(&program).0);
    }
}

#[test]
fn average_pooling_by_windows_equals_the_reference() {
    for (config, size, stride) in [(GemminiConfig::default16(), 3, 2), (GemminiConfig::small4(), 2, 2)] {
        let shape = AveragePoolShape { batch: 2, in_rows: 9, in_cols: 41, channels: 70, size, stride };
        let data = Random::new(6).i8s(2 * 9 * 41 * 70);
        let mut builder = ProgramBuilder::new(config).unwrap();
        builder.begin("average");
        let input = builder.buffer_i8("input", 2 * 9 * 41, 70, &data).unwrap();
        let [rows, cols] = shape.out_pixels();
        let out = builder.buffer("out", 2 * rows * cols, 70, ElementType::I8).unwrap();
        shape.lower(&mut builder, &input, &out).unwrap();
        let program = builder.finish().unwrap();
        let (memory, _) = run(&program);
        let mut expected = Vec::new();
        for pixel in 0..2 * rows * cols {
            let (b, row, col) = (pixel / (rows * cols), pixel / cols % rows, pixel % cols);
            for c in 0..70 {
                let at = |w: usize| ((b * 9 + row * stride + w / size) * 41 + col * stride + w % size) * 70 + c;
                let sum = (0..size * size).map(|w| i32::from(data[at(w)])).sum();
                expected.push(to_i8(sum, 1.0 / (size * size) as f32));
            }
        }
        assert!(read_i8(&memory, &out).data == expected);
        assert_same_buffers(&program, &memory, &run_cycles(&program).0);
    }
}
