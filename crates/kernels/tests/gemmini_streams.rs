//! The kernels emit, command by command, what Gemmini's own test programs sent when they were recorded.

use std::path::PathBuf;

use pollux_asm::program::ElementType;
use pollux_isa::{GemminiConfig, RoccCommand};
use pollux_kernels::{
    Activation, Bias, Conv, ConvShape, Dataflow, GlobalAverage, Matmul, Pool, ProgramBuilder, ResidualAdd,
    ResidualAddSchedule, Schedule, SoftmaxConstants, TrainingOptions, View, WeightLayout,
};
use pollux_trace::case::GoldenCase;

/// Function number of FLUSH, with which the test programs begin.
const FLUSH: u8 = 7;

fn recorded(name: &str) -> Vec<RoccCommand> {
    let case = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/software").join(name);
    let case = GoldenCase::read(&case).unwrap();
    assert_eq!(case.summary.config, "default16");
    case.items.iter().filter_map(|item| item.command()).filter(|command| command.funct != FLUSH).copied().collect()
}

fn view(address: u64, rows: usize, cols: usize, stride: usize, element: ElementType) -> View {
    View { address, rows, cols, stride, element }
}

fn dense(address: u64, rows: usize, cols: usize) -> View {
    view(address, rows, cols, cols, ElementType::I8)
}

fn assert_emits(name: &str, lower: impl FnOnce(&mut ProgramBuilder)) {
    let mut builder = ProgramBuilder::new(GemminiConfig::default16()).unwrap();
    builder.begin(name);
    lower(&mut builder);
    let emitted: Vec<RoccCommand> = builder.finish().unwrap().commands().copied().collect();
    let recorded = recorded(name);
    for (index, (emitted, recorded)) in emitted.iter().zip(&recorded).enumerate() {
        assert_eq!(emitted, recorded, "command {index} of {name}");
    }
    assert_eq!(emitted.len(), recorded.len(), "{name}");
}

fn assert_matmul(name: &str, matmul: Matmul) {
    assert_emits(name, |builder| {
        let schedule = Schedule::gemmini_default(builder.config(), &matmul.shape(), Dataflow::Ws);
        matmul.lower(builder, &schedule).unwrap();
    });
}

#[test]
fn products_are_those_of_tiled_matmul_auto() {
    let product = Matmul::new(dense(0x4cc440, 64, 64), dense(0x4cb440, 64, 64), dense(0x4c6440, 64, 64));
    assert_matmul("tiled_matmul_ws", product);
    let (a, b, c) = (dense(0x4c3cc0, 50, 60), dense(0x4c36e0, 50, 30), dense(0x4bd440, 60, 30));
    assert_matmul("tiled_matmul_ws_At", Matmul { a_transpose: true, ..Matmul::new(a, b, c) });
    let (a, b, c) = (dense(0x4c2680, 60, 40), dense(0x4c21d0, 40, 30), dense(0x4bd440, 60, 30));
    let bias = Bias::Matrix(dense(0x4c1ac0, 60, 30));
    assert_matmul("tiled_matmul_ws_low_D", Matmul { bias, ..Matmul::new(a, b, c) });
    let (a, b, c) = (dense(0x4bfc00, 31, 30), dense(0x4bf440, 30, 66), dense(0x4be440, 31, 66));
    let activation = Activation::Softmax(SoftmaxConstants { qln2: 13, qln2_inv: 5041, qb: 27, qc: 383 });
    assert_matmul("tiled_matmul_ws_softmax", Matmul { activation, ..Matmul::new(a, b, c) });
}

#[test]
fn residual_additions_are_those_of_tiled_resadd_auto() {
    assert_emits("resadd", |builder| {
        let [a, b, c] = [0x4bcbb0, 0x4bc7f0, 0x4bc430].map(|address| dense(address, 35, 27));
        let schedule = ResidualAddSchedule::gemmini_default(builder.config(), 35, 27);
        ResidualAdd { a_scale: 2.0, relu: true, ..ResidualAdd::new(a, b, c) }.lower(builder, &schedule).unwrap();
    });
}

#[test]
fn averages_are_those_of_tiled_global_average_auto() {
    assert_emits("global_average", |builder| {
        let (input, out) = (dense(0x4bc500, 18, 47), dense(0x4bc440, 2, 47));
        GlobalAverage { batch: 2, pixels: 9, input, out }.lower_like_gemmini(builder).unwrap();
    });
}

struct Addresses {
    input: u64,
    weights: u64,
    bias: u64,
    output: u64,
}

fn assert_conv(name: &str, shape: ConvShape, at: Addresses, strides: Option<[usize; 3]>) {
    let views = shape.views();
    let strides = strides.unwrap_or(views.map(|(_, cols)| cols));
    let [input, weights, output] = [at.input, at.weights, at.output];
    let place = |index: usize, address| view(address, views[index].0, views[index].1, strides[index], ElementType::I8);
    let conv = Conv {
        shape,
        input: place(0, input),
        weights: place(1, weights),
        bias: Some(view(at.bias, 1, shape.out_channels, shape.out_channels, ElementType::I32)),
        output: place(2, output),
        scale: 1.0,
        relu: false,
    };
    assert_emits(name, |builder| {
        conv.lower_auto(builder).unwrap();
    });
}

#[test]
fn convolutions_are_those_of_tiled_conv_auto() {
    let one = ConvShape { padding: 1, ..ConvShape::new(2, [17, 17, 18], 19, 3) };
    let two = ConvShape { stride: 2, ..one };
    assert_conv(
        "conv_rect",
        ConvShape { in_rows: 7, in_cols: 11, in_channels: 17, out_channels: 18, ..two },
        Addresses { input: 0x4c1140, weights: 0x4bf7c0, bias: 0x4c0600, output: 0x4bf460 },
        None,
    );
    assert_conv(
        "conv_stride",
        ConvShape { batch: 1, in_rows: 7, in_cols: 7, in_channels: 13, out_channels: 17, ..one },
        Addresses { input: 0x4c0dc0, weights: 0x4bf820, bias: 0x4c0580, output: 0x4bf460 },
        Some([16, 21, 19]),
    );
    assert_conv(
        "conv_trans_weight_1203",
        ConvShape { options: TrainingOptions { weights: WeightLayout::Ihwo, ..TrainingOptions::default() }, ..two },
        Addresses { input: 0x4c3540, weights: 0x4c1ca0, bias: 0x4c28c0, output: 0x4c0460 },
        None,
    );
    assert_conv(
        "conv_with_kernel_dilation",
        ConvShape { kernel_dilation: 2, ..one },
        Addresses { input: 0x4c5000, weights: 0x4c15e0, bias: 0x4c4380, output: 0x4bf460 },
        None,
    );
    assert_conv(
        "conv_with_pool",
        ConvShape { pool: Some(Pool { size: 3, stride: 2, padding: 1 }), ..two },
        Addresses { input: 0x4c20a0, weights: 0x4bf820, bias: 0x4c1420, output: 0x4bf460 },
        None,
    );
}
