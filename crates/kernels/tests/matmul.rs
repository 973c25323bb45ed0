//! Products against the naive reference: both dataflows, both command forms, every option, ragged shapes.

mod common;

use common::{
    Dense, Random, any_memory, assert_same_buffers, configs, gelu_constants, product, read_i8, read_i32, read_out_all,
    run, run_cycles_on, softmax_constants, to_i8,
};
use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_isa::config::ExpVariant;
use pollux_kernels::{Activation, Axis, Bias, Dataflow, Emission, Keep, Matmul, ProgramBuilder, Schedule, Tile, View};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Addend {
    None,
    Matrix,
    Row,
    LowMatrix,
    LowRow,
}

#[derive(Clone, Debug)]
struct Case {
    config: GemminiConfig,
    sizes: [usize; 3],
    dataflow: Dataflow,
    emission: Emission,
    order: [Axis; 3],
    /// Tile sizes; reduced to the shape.
    tile: [usize; 3],
    double_buffer: bool,
    keep: Keep,
    addend: Addend,
    transposes: [bool; 2],
    full: bool,
    activation: usize,
    /// Elements between the end of a row and the next.
    gap: usize,
    seed: u64,
}

impl Case {
    fn activation(&self) -> Activation {
        match self.activation {
            _ if self.full => Activation::None,
            1 => Activation::Relu,
            2 => Activation::Gelu(gelu_constants(0.02)),
            3 => Activation::LayerNorm,
            4 if self.config.softmax_exp == ExpVariant::Released => Activation::Softmax(softmax_constants(0.002)),
            _ => Activation::None,
        }
    }

    fn scale(&self) -> f32 {
        match self.activation() {
            Activation::None | Activation::Relu => 1.0 / 600.0,
            Activation::Gelu(_) => -1.0 / (1 << 20) as f32,
            Activation::LayerNorm => 40.0,
            Activation::Softmax(_) => 0.75,
        }
    }

    fn schedule(&self, matmul: &Matmul) -> Schedule {
        let dim = self.config.dim() as usize;
        let shape = matmul.shape();
        let clamp = |axis: usize, extent: usize| self.tile[axis].clamp(1, extent.div_ceil(dim));
        let whole = self.activation().normalizes();
        let tile = Tile {
            i: clamp(0, shape.i),
            j: if whole { shape.j.div_ceil(dim) } else { clamp(1, shape.j) },
            k: clamp(2, shape.k),
        };
        let inner_k = whole || self.emission == Emission::Unroller;
        let order = if inner_k { [self.order[0], self.order[1], self.order[2]] } else { self.order };
        let order = if inner_k && order[2] != Axis::K { Schedule::DEFAULT_ORDER } else { order };
        let double_buffer = self.double_buffer || self.emission == Emission::Unroller;
        Schedule {
            dataflow: self.dataflow,
            tile,
            order,
            double_buffer,
            emission: self.emission,
            normalization: Default::default(),
            keep: self.keep,
        }
    }
}

/// A buffer with gaps between its rows: the data of `dense`, and the view of them.
fn strided(builder: &mut ProgramBuilder, name: &str, dense: &Dense<i8>, gap: usize) -> View {
    let width = dense.cols + gap;
    let mut data = vec![0; dense.rows * width];
    for r in 0..dense.rows {
        data[r * width..][..dense.cols].copy_from_slice(dense.row(r));
    }
    let view = builder.buffer_i8(name, dense.rows, width, &data).unwrap();
    view.columns(0..dense.cols).unwrap()
}

fn random(random: &mut Random, rows: usize, cols: usize) -> Dense<i8> {
    Dense::new(rows, cols, random.i8s(rows * cols))
}

/// Where the addend is, and its value at each place.
fn addend(case: &Case, builder: &mut ProgramBuilder, r: &mut Random) -> (Bias, Dense<i32>) {
    let [i, j, _] = case.sizes;
    let rows = if matches!(case.addend, Addend::Row | Addend::LowRow) { 1 } else { i };
    let low = matches!(case.addend, Addend::LowMatrix | Addend::LowRow);
    let values = if low { r.i8s(rows * j).into_iter().map(i32::from).collect() } else { r.i32s(rows * j, 50_000) };
    let values = if case.addend == Addend::None { vec![0; rows * j] } else { values };
    let view = if low {
        builder.buffer_i8("d", rows, j, &values.iter().map(|&x| x as i8).collect::<Vec<_>>())
    } else {
        builder.buffer_i32("d", rows, j, &values)
    }
    .unwrap();
    let bias = match case.addend {
        Addend::None => Bias::None,
        Addend::Matrix | Addend::LowMatrix => Bias::Matrix(view),
        Addend::Row | Addend::LowRow => Bias::Row(view),
    };
    (bias, Dense::new(i, j, (0..i * j).map(|at| values[at % values.len()]).collect()))
}

/// Whether the case is legal; if it is, it has been checked.
fn check(case: &Case, cycles: bool) -> bool {
    let [i, j, k] = case.sizes;
    let r = &mut Random::new(case.seed);
    let mut builder = ProgramBuilder::new(case.config.clone()).unwrap();
    builder.begin("matmul");
    let (a, b) = (random(r, i, k), random(r, k, j));
    let [at, bt] = case.transposes;
    let a_view = strided(&mut builder, "a", &if at { a.transposed() } else { a.clone() }, case.gap);
    let b_view = strided(&mut builder, "b", &if bt { b.transposed() } else { b.clone() }, case.gap);
    let (bias, d) = addend(case, &mut builder, r);
    let element = if case.full { ElementType::I32 } else { ElementType::I8 };
    let c = builder.buffer("c", i, j + case.gap, element).unwrap().columns(0..j).unwrap();
    let matmul = Matmul {
        bias,
        a_transpose: at,
        b_transpose: bt,
        scale: case.scale(),
        activation: case.activation(),
        ..Matmul::new(a_view, b_view, c)
    };
    let schedule = case.schedule(&matmul);
    if schedule.check(builder.config(), &matmul.shape()).is_err() {
        return false;
    }
    matmul.lower(&mut builder, &schedule).unwrap();
    let statistics = builder.statistics().total();
    let program = builder.finish().unwrap();
    let (memory, counts) = run(&program);
    let emitted = (statistics.commands, statistics.macs, statistics.bytes_in, statistics.bytes_out);
    assert_eq!(emitted, (counts.host_commands, counts.macs, counts.bytes_in, counts.bytes_out));

    let sums = product(&a, &b, |row, col| d.at(row, col));
    match case.full {
        true => assert!(read_i32(&memory, &c) == sums, "int32 result differs"),
        false => {
            assert!(read_i8(&memory, &c) == read_out_all(&sums, &matmul.activation, matmul.scale), "result differs")
        }
    }
    if cycles {
        assert_same_buffers(&program, &memory, &run_cycles_on(&program, any_memory(case.seed)).0);
    }
    true
}

fn orders() -> impl Strategy<Value = [Axis; 3]> {
    use Axis::{I, J, K};
    prop::sample::select(vec![[I, J, K], [J, I, K], [I, K, J], [K, I, J], [J, K, I], [K, J, I]])
}

fn cases() -> impl Strategy<Value = Case> {
    let addends = [Addend::None, Addend::Matrix, Addend::Row, Addend::LowMatrix, Addend::LowRow];
    let how = (
        prop::sample::select(vec![
            (Dataflow::Ws, Emission::Unroller),
            (Dataflow::Ws, Emission::Commands),
            (Dataflow::Os, Emission::Commands),
        ]),
        orders(),
        prop::array::uniform3(1usize..6),
        any::<bool>(),
        prop::sample::select(vec![Keep::Gemmini, Keep::Gemmini, Keep::Nothing, Keep::Recent]),
    );
    let what = (
        prop::sample::select(addends.to_vec()),
        prop::sample::select(vec![[false, false], [true, false], [false, true], [true, true]]),
        prop::bool::weighted(0.15),
        0usize..5,
        prop::sample::select(vec![0usize, 0, 3]),
        any::<u64>(),
    );
    (0..configs().len(), prop::array::uniform3(1usize..=5), prop::array::uniform3(0usize..16), how, what).prop_map(
        |(config, blocks, ragged, (form, order, tile, double_buffer, keep), what)| {
            let config = configs()[config].clone();
            let dim = config.dim() as usize;
            let (addend, transposes, full, activation, gap, seed) = what;
            let size = |axis: usize| (blocks[axis] * dim - ragged[axis] % dim).max(1);
            Case {
                sizes: [size(0), size(1), size(2)],
                dataflow: form.0,
                emission: form.1,
                config,
                order,
                tile,
                double_buffer,
                keep,
                addend,
                transposes,
                full,
                activation,
                gap,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_gives_the_reference_result(case in cases()) {
        prop_assume!(check(&case, false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_cycle_model_leaves_the_same_memory(case in cases()) {
        prop_assume!(check(&case, true));
    }
}

#[test]
fn an_output_stationary_product_that_waits_is_not_disturbed_by_a_flush() {
    // The last row of tiles waits for a store and then for a load, in the middle of its products.
    let case = Case {
        config: GemminiConfig::norm16(),
        sizes: [80, 32, 32],
        dataflow: Dataflow::Os,
        emission: Emission::Commands,
        order: Schedule::DEFAULT_ORDER,
        tile: [2, 2, 2],
        double_buffer: false,
        keep: Keep::Gemmini,
        addend: Addend::None,
        transposes: [true, false],
        full: false,
        activation: 0,
        gap: 0,
        seed: 0,
    };
    assert!(check(&case, true));
}

#[test]
fn output_stationary_sums_beyond_the_width_of_the_array_are_exact() {
    // 2048 products of 127 * 127 need 25 bits; the array hands out 20.
    let mut builder = ProgramBuilder::new(GemminiConfig::default16()).unwrap();
    builder.begin("matmul");
    let a = builder.buffer_i8("a", 16, 2048, &[127; 16 * 2048]).unwrap();
    let b = builder.buffer_i8("b", 2048, 16, &[127; 16 * 2048]).unwrap();
    let c = builder.buffer("c", 16, 16, ElementType::I32).unwrap();
    let matmul = Matmul::new(a, b, c);
    let schedule = Schedule::gemmini_default(builder.config(), &matmul.shape(), Dataflow::Os);
    matmul.lower(&mut builder, &schedule).unwrap();
    let (memory, _) = run(&builder.finish().unwrap());
    assert_eq!(read_i32(&memory, &c).data, [2048 * 127 * 127; 256]);
}

#[test]
fn the_automatic_schedule_handles_sizes_from_one_element_to_many_tiles() {
    for config in configs() {
        for [i, j, k] in [[1, 1, 1], [1, 200, 70], [130, 1, 33], [17, 47, 300]] {
            let r = &mut Random::new(7);
            let (a, b) = (random(r, i, k), random(r, k, j));
            let mut builder = ProgramBuilder::new(config.clone()).unwrap();
            builder.begin("matmul");
            let a_view = builder.buffer_i8("a", i, k, &a.data).unwrap();
            let b_view = builder.buffer_i8("b", k, j, &b.data).unwrap();
            let c = builder.buffer("c", i, j, ElementType::I8).unwrap();
            let matmul = Matmul { scale: 0.002, ..Matmul::new(a_view, b_view, c) };
            matmul.lower_auto(&mut builder).unwrap();
            let (memory, _) = run(&builder.finish().unwrap());
            assert!(read_i8(&memory, &c) == read_out_all(&product(&a, &b, |_, _| 0), &Activation::None, 0.002));
        }
    }
}

#[test]
fn operands_are_scaled_as_they_are_loaded() {
    let r = &mut Random::new(3);
    let (a, b, d) = (random(r, 20, 18), random(r, 18, 33), random(r, 1, 33));
    for dataflow in [Dataflow::Ws, Dataflow::Os] {
        let mut builder = ProgramBuilder::new(GemminiConfig::default16()).unwrap();
        builder.begin("matmul");
        let a_view = builder.buffer_i8("a", 20, 18, &a.data).unwrap();
        let b_view = builder.buffer_i8("b", 18, 33, &b.data).unwrap();
        let d_view = builder.buffer_i8("d", 1, 33, &d.data).unwrap();
        let c = builder.buffer("c", 20, 33, ElementType::I32).unwrap();
        let (a_scale, b_scale, bias_scale) = (0.5, 0.3, 1.7);
        let matmul = Matmul { a_scale, b_scale, bias_scale, bias: Bias::Row(d_view), ..Matmul::new(a_view, b_view, c) };
        let schedule = Schedule::gemmini_default(builder.config(), &matmul.shape(), dataflow);
        matmul.lower(&mut builder, &schedule).unwrap();
        let (memory, _) = run(&builder.finish().unwrap());
        let scaled =
            |m: &Dense<i8>, s| Dense::new(m.rows, m.cols, m.data.iter().map(|&x| to_i8(x.into(), s)).collect());
        let d = scaled(&d, bias_scale);
        let expected = product(&scaled(&a, a_scale), &scaled(&b, b_scale), |_, col| d.at(0, col).into());
        assert!(read_i32(&memory, &c) == expected);
    }
}

#[test]
fn operands_that_do_not_fit_together_are_named() {
    let mut builder = ProgramBuilder::new(GemminiConfig::default16()).unwrap();
    builder.begin("layer.query");
    let a = builder.buffer("a", 20, 18, ElementType::I8).unwrap();
    let b = builder.buffer("b", 17, 33, ElementType::I8).unwrap();
    let c = builder.buffer("c", 20, 33, ElementType::I8).unwrap();
    let full = builder.buffer("full", 20, 17, ElementType::I32).unwrap();
    let row = builder.buffer("row", 2, 17, ElementType::I32).unwrap();
    let mut message = |matmul: Matmul| matmul.lower_auto(&mut builder).unwrap_err().to_string();
    let transposed = Matmul { b_transpose: true, ..Matmul::new(a.columns(0..17).unwrap(), c, full) };
    let messages = [
        message(Matmul::new(a, b, c)),
        message(transposed),
        message(Matmul {
            activation: Activation::Relu,
            ..Matmul::new(a, a.rows(0..18).unwrap().columns(0..17).unwrap(), full)
        }),
        message(Matmul {
            bias: Bias::Row(row),
            ..Matmul::new(a, a.rows(0..18).unwrap().columns(0..17).unwrap(), full)
        }),
        message(Matmul::new(full, a.rows(0..17).unwrap(), a)),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}
