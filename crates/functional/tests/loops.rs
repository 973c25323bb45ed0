//! LOOP_WS and LOOP_CONV_WS against matrix products and convolutions written out.

mod support;

use pollux_functional::unroll::{Accepted, LoopUnit, Unrolled, Unroller};
use pollux_isa::fields::{
    ConfigLd, ConfigSt, LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4, LoopConvConfig5,
    LoopConvConfig6, LoopConvWs, LoopWs, LoopWsBounds,
};
use pollux_isa::values::{Activation, DataflowMode, Scale};
use pollux_isa::{Command, GemminiConfig};
use pollux_memory::Memory;
use proptest::prelude::*;
use support::*;

const A: u64 = 0x1_0000;
const B: u64 = 0x2_0000;
const D: u64 = 0x3_0000;
const C: u64 = 0x4_0000;

/// A product of a random shape by one LOOP_WS.
#[derive(Clone, Debug)]
struct Product {
    shape: [usize; 3],
    a_transpose: bool,
    b_transpose: bool,
    bias: bool,
    low_d: bool,
    full_c: bool,
    relu: bool,
    seed: u64,
}

fn product_case() -> impl Strategy<Value = Product> {
    let transposes = prop::sample::select(vec![(false, false), (true, false), (false, true)]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    ([1..30usize, 1..30usize, 1..30usize], transposes, flags, any::<u64>()).prop_map(
        |(shape, (a_transpose, b_transpose), (bias, low_d, full_c, relu), seed)| Product {
            shape,
            a_transpose,
            b_transpose,
            bias,
            low_d,
            full_c,
            relu,
            seed,
        },
    )
}

fn bounds(config: &GemminiConfig, [i, j, k]: [usize; 3]) -> LoopWsBounds {
    let dim = config.dim() as usize;
    let blocks = |n: usize| n.div_ceil(dim) as u16;
    let pad = |n: usize| (n.next_multiple_of(dim) - n) as u16;
    LoopWsBounds { pad_i: pad(i), pad_j: pad(j), pad_k: pad(k), i: blocks(i), j: blocks(j), k: blocks(k) }
}

impl Product {
    fn configuration(&self, config: &GemminiConfig) -> Vec<Command> {
        let [_, j, _] = self.shape;
        let (a_cols, b_cols) = self.stored_columns();
        let d_bytes = if self.low_d { 1 } else { 4 };
        let c_bytes = if self.full_c { 4 } else { 1 };
        let ld = |state_id, stride: usize| ConfigLd { state_id, ..config_ld(config, stride as u64) };
        let ex = pollux_isa::fields::ConfigEx {
            a_transpose: self.a_transpose,
            b_transpose: self.b_transpose,
            ..config_ex(DataflowMode::Ws)
        };
        let activation = if self.relu { Activation::Relu } else { Activation::None };
        vec![
            Command::ConfigEx(ex),
            Command::ConfigLd(ld(0, a_cols)),
            Command::ConfigLd(ld(1, b_cols)),
            Command::ConfigLd(ConfigLd { shrink: self.low_d, ..ld(2, j * d_bytes) }),
            Command::ConfigSt(ConfigSt {
                activation,
                acc_scale: Scale::from(1.0 / 64.0),
                ..config_st((j * c_bytes) as u32)
            }),
        ]
    }

    /// Columns of A and of B as they lie in memory.
    fn stored_columns(&self) -> (usize, usize) {
        let [i, j, k] = self.shape;
        (if self.a_transpose { i } else { k }, if self.b_transpose { k } else { j })
    }

    fn run(&self) -> LoopWs {
        LoopWs {
            a_transpose: self.a_transpose,
            b_transpose: self.b_transpose,
            low_d: self.low_d,
            full_c: self.full_c,
            // The bias is in the accumulator already.
            ex_accumulate: self.bias,
            ..loop_ws()
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn loop_ws_computes_a_matrix_product_of_any_shape(case in product_case()) {
        let config = GemminiConfig::small4();
        let [i, j, k] = case.shape;
        let (a, b) = (matrix_i8(case.seed, i, k), matrix_i8(case.seed ^ 1, k, j));
        let d = matrix_i8(case.seed ^ 2, i, j);
        let wide: Vec<Vec<i32>> = d.iter().map(|row| row.iter().map(|&x| i32::from(x) * 300).collect()).collect();
        let mut memory = Memory::new();
        let (a_cols, b_cols) = case.stored_columns();
        write_i8(&mut memory, A, a_cols, &if case.a_transpose { transpose(&a) } else { a.clone() });
        write_i8(&mut memory, B, b_cols, &if case.b_transpose { transpose(&b) } else { b.clone() });
        if case.low_d { write_i8(&mut memory, D, j, &d) } else { write_i32(&mut memory, D, 4 * j, &wide) }
        let mut model = model(&config, memory);
        let addresses = [A, B, if case.bias { D } else { 0 }, C];
        let strides = [a_cols, b_cols, j, j].map(|stride| stride as u64);
        let mut commands = case.configuration(&config);
        commands.extend(loop_ws_commands(bounds(&config, case.shape), addresses, strides, case.run()));
        execute(&mut model, &commands).unwrap();
        let bias = |r: usize, c: usize| match (case.bias, case.low_d) {
            (false, _) => 0,
            (true, true) => i64::from(d[r][c]),
            (true, false) => i64::from(wide[r][c]),
        };
        let sums = product(&a, &b, bias);
        if case.full_c {
            let expected: Vec<Vec<i32>> = sums.iter().map(|row| row.iter().map(|&x| x as i32).collect()).collect();
            prop_assert_eq!(read_i32(model.memory(), C, 4 * j, [i, j]), expected);
        } else {
            let small = |x: i64| divide_by_power(if case.relu { x.max(0) } else { x }, 6).clamp(-128, 127) as i8;
            let expected: Vec<Vec<i8>> = sums.iter().map(|row| row.iter().map(|&x| small(x)).collect()).collect();
            prop_assert_eq!(read_i8(model.memory(), C, j, [i, j]), expected);
        }
        prop_assert_eq!(model.counts().macs, (i * j * k) as u64);
    }

    #[test]
    fn loop_ws_adds_two_matrices(i in 1..30usize, j in 1..30usize, seed: u64) {
        let config = GemminiConfig::small4();
        let (a, b) = (matrix_i8(seed, i, j), matrix_i8(seed ^ 1, i, j));
        let mut memory = Memory::new();
        write_i8(&mut memory, A, j, &a);
        write_i8(&mut memory, B, j, &b);
        let mut model = model(&config, memory);
        let ld = |state_id| Command::ConfigLd(ConfigLd { state_id, shrink: true, ..config_ld(&config, j as u64) });
        let mut commands = vec![Command::ConfigEx(config_ex(DataflowMode::Ws)), ld(0), ld(1), Command::ConfigSt(config_st(j as u32))];
        let run = LoopWs { is_resadd: true, ..loop_ws() };
        let stride = j as u64;
        commands.extend(loop_ws_commands(bounds(&config, [i, j, 1]), [A, B, 0, C], [stride, stride, 0, stride], run));
        execute(&mut model, &commands).unwrap();
        let sum = |(&x, &y): (&i8, &i8)| (i32::from(x) + i32::from(y)).clamp(-128, 127) as i8;
        let expected: Vec<Vec<i8>> = a.iter().zip(&b).map(|(a, b)| a.iter().zip(b).map(sum).collect()).collect();
        prop_assert_eq!(read_i8(model.memory(), C, j, [i, j]), expected);
    }
}

/// A convolution layer of a random shape by one LOOP_CONV_WS, square images and kernels.
#[derive(Clone, Debug)]
struct Conv {
    batches: u16,
    in_dim: u16,
    in_channels: u16,
    out_channels: u16,
    kernel: u16,
    stride: u8,
    padding: u16,
    dilation: u16,
    bias: bool,
    pool: Option<(u16, u8, u16)>,
    seed: u64,
}

impl Conv {
    fn out_dim(&self) -> u16 {
        let kernel = self.kernel + (self.dilation - 1) * (self.kernel - 1);
        (self.in_dim + 2 * self.padding - kernel) / u16::from(self.stride) + 1
    }

    /// Edge of the stored image.
    fn stored_dim(&self) -> u16 {
        match self.pool {
            None => self.out_dim(),
            Some((size, stride, padding)) => (self.out_dim() + 2 * padding - size) / u16::from(stride) + 1,
        }
    }

    fn commands(&self) -> Vec<Command> {
        let out_dim = self.out_dim();
        let (pool_size, pool_stride, pool_padding) = self.pool.unwrap_or((1, 1, 0));
        let stored = self.stored_dim();
        // Pixels that the loop's extent leaves out are not loaded.
        let kernel = self.kernel + (self.dilation - 1) * (self.kernel - 1);
        let extent = out_dim * u16::from(self.stride) + kernel - 1;
        let far_pad = extent.saturating_sub(self.padding + self.in_dim);
        let ex = pollux_isa::fields::ConfigEx { a_stride: self.stride.into(), ..config_ex(DataflowMode::Ws) };
        let st = ConfigSt { acc_scale: Scale::from(1.0 / 32.0), ..config_st(self.out_channels.into()) };
        vec![
            Command::ConfigEx(ex),
            Command::ConfigSt(st),
            Command::LoopConvConfig1(LoopConvConfig1 {
                batch_size: self.batches,
                in_row_dim: self.in_dim,
                in_channels: self.in_channels,
                out_channels: self.out_channels,
                out_row_dim: out_dim,
                pool_out_row_dim: stored,
                out_col_dim: out_dim,
                stride: self.stride,
                padding: 0,
            }),
            Command::LoopConvConfig2(LoopConvConfig2 {
                pool_padding: 0,
                pool_stride,
                pool_size,
                pool_out_col_dim: stored,
                kernel_dim: self.kernel,
                pochs: self.out_channels,
                pocols: stored,
                porows: stored,
                batches: self.batches,
            }),
            Command::LoopConvConfig3(LoopConvConfig3 {
                lpad: self.padding,
                kchs: self.in_channels,
                kcols: self.kernel,
                krows: self.kernel,
                in_col_dim: self.in_dim,
                plpad: pool_padding as u8,
                dpad: far_pad as u8,
                upad: self.padding,
                rpad: far_pad,
            }),
            Command::LoopConvConfig4(LoopConvConfig4 {
                kernel_dilation: self.dilation,
                pdpad: 0,
                pupad: pool_padding,
                prad: 0,
                orows: out_dim,
                ocols: out_dim,
                out_stride: self.out_channels,
                weight_stride: self.out_channels,
                in_stride: self.in_channels,
            }),
            Command::LoopConvConfig5(LoopConvConfig5 { weights: B, output: C }),
            Command::LoopConvConfig6(LoopConvConfig6 { bias: D, input: A }),
            Command::LoopConvWs(LoopConvWs {
                no_bias: !self.bias,
                wrot180: false,
                trans_output_1203: false,
                trans_weight_1203: false,
                trans_weight_0132: false,
                trans_input_3120: false,
                dw: false,
                max_pixels_per_row: 1,
                b_spad_id: 0,
                a_spad_id: 0,
                no_pool: self.pool.is_none(),
                downsample: false,
                input_dilated: false,
                activation: Activation::None,
            }),
        ]
    }

    /// The layer's pixels before pooling, scaled.
    fn pixel(
        &self,
        input: &[Vec<i8>],
        weights: &[Vec<i8>],
        bias: &[i32],
        [b, row, col]: [u16; 3],
        channel: usize,
    ) -> i8 {
        let mut sum = if self.bias { i64::from(bias[channel]) } else { 0 };
        for (krow, kcol) in (0..self.kernel).flat_map(|r| (0..self.kernel).map(move |c| (r, c))) {
            let at =
                |o: u16, k: u16| i32::from(o * u16::from(self.stride) + k * self.dilation) - i32::from(self.padding);
            let (irow, icol) = (at(row, krow), at(col, kcol));
            let inside = 0..i32::from(self.in_dim);
            if !(inside.contains(&irow) && inside.contains(&icol)) {
                continue;
            }
            let pixel = (i32::from(b * self.in_dim) + irow) * i32::from(self.in_dim) + icol;
            let first = usize::from(krow * self.kernel + kcol) * usize::from(self.in_channels);
            for (&x, weights) in input[pixel as usize].iter().zip(&weights[first..]) {
                sum += i64::from(x) * i64::from(weights[channel]);
            }
        }
        divide_by_power(sum, 5).clamp(-128, 127) as i8
    }

    /// The layer's stored pixels: the largest of each window, with zeros outside the image.
    fn stored_pixel(&self, image: &dyn Fn(u16, u16) -> i8, row: u16, col: u16) -> i8 {
        let Some((size, stride, padding)) = self.pool else { return image(row, col) };
        let windows = (0..size).flat_map(|r| (0..size).map(move |c| (r, c)));
        let element = |(wrow, wcol): (u16, u16)| {
            let at = |p: u16, w: u16| (p * u16::from(stride) + w).checked_sub(padding).filter(|&x| x < self.out_dim());
            match (at(row, wrow), at(col, wcol)) {
                (Some(row), Some(col)) => image(row, col),
                _ => 0,
            }
        };
        windows.map(element).max().expect("a window has pixels")
    }
}

fn conv_case() -> impl Strategy<Value = Conv> {
    let pool = prop::option::of(prop::sample::select(vec![(2u16, 2u8, 0u16), (3, 2, 1), (2, 1, 1)]));
    let channels = (1..3u16, 1..10u16, 1..10u16);
    (channels, 3..8u16, 1..4u16, 1..3u8, 0..2u16, 1..3u16, any::<bool>(), pool, any::<u64>()).prop_map(
        |((batches, in_channels, out_channels), in_dim, kernel, stride, padding, dilation, bias, pool, seed)| {
            let conv = Conv {
                batches,
                in_dim: in_dim.max(kernel + (dilation - 1) * (kernel - 1)),
                in_channels,
                out_channels,
                kernel,
                stride,
                padding: padding.min(kernel - 1),
                dilation,
                bias,
                pool,
                seed,
            };
            let pool = conv.pool.filter(|&(size, ..)| conv.out_dim() >= size);
            Conv { pool, ..conv }
        },
    )
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn loop_conv_ws_computes_a_convolution_of_any_shape(conv in conv_case()) {
        let config = GemminiConfig::small4();
        let pixels = usize::from(conv.batches * conv.in_dim * conv.in_dim);
        let taps = usize::from(conv.kernel * conv.kernel * conv.in_channels);
        let (in_channels, channels) = (usize::from(conv.in_channels), usize::from(conv.out_channels));
        let input = matrix_i8(conv.seed, pixels, in_channels);
        let weights = matrix_i8(conv.seed ^ 1, taps, channels);
        let bias: Vec<i32> = matrix_i8(conv.seed ^ 2, 1, channels)[0].iter().map(|&x| i32::from(x) * 20).collect();
        let mut memory = Memory::new();
        write_i8(&mut memory, A, in_channels, &input);
        write_i8(&mut memory, B, channels, &weights);
        write_i32(&mut memory, D, 4 * channels, std::slice::from_ref(&bias));
        let mut model = model(&config, memory);
        execute(&mut model, &conv.commands()).unwrap();
        let stored = conv.stored_dim();
        for b in 0..conv.batches {
            for channel in 0..channels {
                let image = |row, col| conv.pixel(&input, &weights, &bias, [b, row, col], channel);
                for (row, col) in (0..stored).flat_map(|r| (0..stored).map(move |c| (r, c))) {
                    let at = (usize::from(b) * usize::from(stored) + usize::from(row)) * usize::from(stored) + usize::from(col);
                    let actual = model.memory().read_array::<1>(C + (at * channels + channel) as u64)[0] as i8;
                    prop_assert_eq!(actual, conv.stored_pixel(&image, row, col), "image {} pixel {},{}", b, row, col);
                }
            }
        }
    }
}

/// One letter a command, with the block's place for loads: the notation of the snapshots below.
fn emission(config: &GemminiConfig, commands: &[Command]) -> String {
    let mut unroller = Unroller::new(config);
    let mut lines = String::new();
    for command in commands {
        if let Accepted::Loop(unrolled) = unroller.accept(command) {
            lines.extend(unrolled.map(|unrolled| line(config, &unrolled)));
        }
    }
    lines
}

fn line(config: &GemminiConfig, Unrolled { unit, command }: &Unrolled) -> String {
    let layout = config.layout();
    let at = |local: pollux_isa::LocalAddr| match local.is_garbage(layout) {
        true => "garbage".to_owned(),
        false => format!("{}{}", if local.is_acc() { "acc " } else { "" }, local.memory_row(layout)),
    };
    let operands = match command {
        Command::Mvin(f) | Command::Mvin2(f) | Command::Mvin3(f) | Command::Mvout(f) => {
            format!("dram={:#x} local={} {}x{}", f.dram, at(f.local), f.rows, f.cols)
        }
        Command::Preload(f) => {
            let accumulate = if f.c.accumulate() { " accumulate" } else { "" };
            format!("d={} c={}{accumulate} {}x{}", at(f.d), at(f.c), f.c_rows, f.c_cols)
        }
        Command::ComputePreloaded(f) | Command::ComputeAccumulated(f) => format!("a={}", at(f.a)),
        other => format!("{other:?}"),
    };
    format!("{unit:?}: {} {operands}\n", command.mnemonic())
}

#[test]
fn loop_ws_emits_as_the_hardware_does_when_nothing_holds_it_back() {
    let config = GemminiConfig::default16();
    let case = |i, j, k, addresses| {
        let bounds = LoopWsBounds { pad_i: 0, pad_j: 0, pad_k: 0, i, j, k };
        emission(&config, &loop_ws_commands(bounds, addresses, [32; 4], loop_ws()))
    };
    insta::assert_snapshot!("loop_ws_2x2x2", case(2, 2, 2, [A, B, 0, C]));
    insta::assert_snapshot!("loop_ws_2x1x1_with_d", case(2, 1, 1, [A, B, D, C]));
}

#[test]
fn a_skipped_product_stores_before_it_loads() {
    let config = GemminiConfig::default16();
    let bounds = LoopWsBounds { pad_i: 0, pad_j: 0, pad_k: 0, i: 1, j: 1, k: 1 };
    let run = LoopWs { skip_ex: true, ..loop_ws() };
    let mut unroller = Unroller::new(&config);
    let mut units = Vec::new();
    for command in loop_ws_commands(bounds, [A, B, D, C], [16; 4], run) {
        if let Accepted::Loop(unrolled) = unroller.accept(&command) {
            units.extend(unrolled.map(|unrolled| unrolled.unit));
        }
    }
    assert_eq!(units, [LoopUnit::Store, LoopUnit::LoadD, LoopUnit::LoadB, LoopUnit::LoadA]);
}

#[test]
fn consecutive_loops_alternate_between_the_halves_of_the_memories() {
    let config = GemminiConfig::default16();
    let bounds = LoopWsBounds { pad_i: 0, pad_j: 0, pad_k: 0, i: 1, j: 1, k: 1 };
    let one = loop_ws_commands(bounds, [A, B, 0, C], [16; 4], loop_ws());
    let three: Vec<Command> = [&one[..], &one, &one].concat();
    let text = emission(&config, &three);
    let loads: Vec<&str> = text.lines().filter(|line| line.starts_with("LoadA")).collect();
    assert_eq!(loads.iter().map(|line| line.contains("local=0 ")).collect::<Vec<_>>(), [true, false, true]);
    assert!(loads[1].contains("local=8192 "));
    let stores: Vec<bool> =
        text.lines().filter(|l| l.starts_with("Store")).map(|l| l.contains("local=acc 512 ")).collect();
    assert_eq!(stores, [false, true, false]);
}

#[test]
fn a_loop_counts_as_itself_and_as_what_it_makes() {
    let config = GemminiConfig::small4();
    let case = Product {
        shape: [8, 12, 4],
        a_transpose: false,
        b_transpose: false,
        bias: false,
        low_d: false,
        full_c: false,
        relu: false,
        seed: 0,
    };
    let mut model = model(&config, Memory::new());
    let mut commands = case.configuration(&config);
    commands.extend(loop_ws_commands(bounds(&config, case.shape), [A, B, 0, C], [4, 12, 0, 12], case.run()));
    execute(&mut model, &commands).unwrap();
    let counts = model.counts();
    assert_eq!((counts.host_commands, counts.commands.loop_config, counts.commands.loop_ws), (11, 5, 1));
    // Two block rows of A; three blocks of B in one command; 2 x 3 products, of which each block of B is preloaded once.
    assert_eq!((counts.commands.mvin, counts.commands.preload, counts.commands.mvout), (3, 6, 2));
    assert_eq!((counts.commands.compute_preloaded, counts.commands.compute_accumulated), (3, 3));
    assert_eq!((counts.bytes_in, counts.bytes_out), (8 * 4 + 4 * 12, 8 * 12));
}

#[test]
fn a_loop_that_skips_everything_never_completes() {
    let mut unroller = Unroller::new(&GemminiConfig::default16());
    let run = LoopWs { skip_lda: true, skip_ldb: true, skip_ldd: true, skip_ex: true, skip_stc: true, ..loop_ws() };
    assert!(matches!(unroller.accept(&Command::LoopWs(run)), Accepted::NeverCompletes));
}
