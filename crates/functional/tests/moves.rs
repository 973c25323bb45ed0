//! MVIN and MVOUT against what they mean, element by element.

mod support;

use pollux_functional::FunctionalModel;
use pollux_isa::fields::{ConfigLd, ConfigSt};
use pollux_isa::values::{Activation, NormCmd, Scale};
use pollux_isa::{Command, GemminiConfig, LocalAddr};
use pollux_memory::Memory;
use proptest::prelude::*;
use support::*;

fn small4(memory: Memory) -> FunctionalModel {
    model(&GemminiConfig::small4(), memory)
}

/// Scaling in exact arithmetic: the factors here have few bits, so the only rounding is the last one, to nearest, ties to even.
fn scaled(x: i64, numerator: i64, log2_denominator: u32, [min, max]: [i64; 2]) -> i64 {
    divide_by_power(x * numerator, log2_denominator).clamp(min, max)
}

const I8: [i64; 2] = [-128, 127];

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_load_of_several_blocks_puts_them_block_stride_rows_apart(
        (rows, cols, block_stride) in (1..=4usize).prop_flat_map(|r| (Just(r), 1..=64usize, r..9)),
        pad in 0..20usize,
        numerator in -9..9i64,
        seed: u64,
    ) {
        let matrix = matrix_i8(seed, rows, cols);
        let (mut memory, stride) = (Memory::new(), cols + pad);
        write_i8(&mut memory, DRAM + 3, stride, &matrix);
        let mut model = small4(memory);
        let scale = Scale::from(numerator as f32 / 4.0);
        let config = config_ld(model.config(), stride as u64);
        let config = ConfigLd { block_stride: block_stride as u16, scale, ..config };
        let mvin = moved(DRAM + 3, LocalAddr::scratchpad(8), rows, cols);
        execute(&mut model, &[Command::ConfigLd(config), Command::Mvin(mvin)]).unwrap();
        for (i, row) in matrix.iter().enumerate() {
            for (j, &x) in row.iter().enumerate() {
                let local = model.scratchpad().row(8 + i + j / 4 * block_stride)[j % 4];
                prop_assert_eq!(i64::from(local), scaled(x.into(), numerator, 2, I8), "row {} column {}", i, j);
            }
        }
        prop_assert_eq!(model.counts().bytes_in, (rows * cols) as u64);
    }

    #[test]
    fn accumulator_rows_come_out_activated_scaled_and_saturated(
        (rows, cols) in (1..=4usize, 1..=16usize),
        elements in prop::collection::vec(-100_000..100_000i32, 64),
        numerator in -20..20i64,
        relu: bool,
    ) {
        let matrix: Vec<Vec<i32>> = elements.chunks(16).map(<[i32]>::to_vec).collect();
        let mut model = small4(Memory::new());
        for (i, row) in matrix.iter().enumerate() {
            for (block, elements) in row.chunks(4).enumerate() {
                model.accumulator_mut().row_mut(4 * block + i).copy_from_slice(elements);
            }
        }
        let activation = if relu { Activation::Relu } else { Activation::None };
        let config = ConfigSt { activation, acc_scale: Scale::from(numerator as f32 / 1024.0), ..config_st(20) };
        let mvout = moved(DRAM, LocalAddr::accumulator(0), rows, cols);
        execute(&mut model, &[Command::ConfigSt(config), Command::Mvout(mvout)]).unwrap();
        let stored = read_i8(model.memory(), DRAM, 20, [rows, cols]);
        for (row, stored) in matrix.iter().zip(stored) {
            for (&x, y) in row.iter().zip(stored) {
                let x = if relu { x.max(0) } else { x };
                prop_assert_eq!(i64::from(y), scaled(x.into(), numerator, 10, I8));
            }
        }
        prop_assert_eq!(model.counts().bytes_out, (rows * cols) as u64);
    }

    #[test]
    fn pooling_takes_the_largest_element_of_each_window_and_zero_outside_the_image(
        (orows, ocols, size, stride, upad, lpad) in (1..9u8, 1..9u8, 1..4u8, 1..4u8, 0..3u8, 0..3u8),
        (porows, pocols, channels) in (1..6u8, 1..6u8, 1..=4usize),
        seed: u64,
    ) {
        let image = matrix_i8(seed, usize::from(orows) * usize::from(ocols), 4);
        let mut model = small4(Memory::new());
        for (i, pixel) in image.iter().enumerate() {
            model.scratchpad_mut().row_mut(100 + i).copy_from_slice(pixel);
        }
        let config = ConfigSt {
            pool_stride: stride, pool_size: size, upad, lpad, pool_out_dim: pocols + 1, porows, pocols, orows, ocols,
            ..config_st(5)
        };
        let mvout = moved(DRAM, LocalAddr::scratchpad(100), 0, channels);
        execute(&mut model, &[Command::ConfigSt(config), Command::Mvout(mvout)]).unwrap();
        let pixel = |row: i32, col: i32, channel: usize| {
            let inside = (0..orows.into()).contains(&row) && (0..ocols.into()).contains(&col);
            if inside { image[(row * i32::from(ocols) + col) as usize][channel] } else { 0 }
        };
        for (por, poc) in (0..porows).flat_map(|r| (0..pocols).map(move |c| (r, c))) {
            let at = DRAM + (u64::from(por) * u64::from(pocols + 1) + u64::from(poc)) * 5;
            for channel in 0..channels {
                let window = (0..size).flat_map(|r| (0..size).map(move |c| (r, c)));
                let expected = window.map(|(wr, wc)| {
                    let row = i32::from(por) * i32::from(stride) + i32::from(wr) - i32::from(upad);
                    let col = i32::from(poc) * i32::from(stride) + i32::from(wc) - i32::from(lpad);
                    pixel(row, col, channel)
                });
                let stored = model.memory().read_array::<1>(at + channel as u64)[0] as i8;
                prop_assert_eq!(Some(stored), expected.max());
            }
        }
    }
}

#[test]
fn a_load_with_stride_0_repeats_one_row() {
    let mut memory = Memory::new();
    memory.write(DRAM, &[1, 2, 3, 4]);
    memory.write(DRAM + 4, &[9; 16]);
    let mut model = small4(memory);
    let config = Command::ConfigLd(config_ld(model.config(), 0));
    execute(&mut model, &[config, Command::Mvin(moved(DRAM, LocalAddr::scratchpad(0), 3, 4))]).unwrap();
    for row in 0..3 {
        assert_eq!(model.scratchpad().row(row), [1, 2, 3, 4]);
    }
    assert_eq!(model.counts().bytes_in, 4, "the row is fetched once");
}

#[test]
fn a_load_from_address_0_writes_zeros_and_touches_no_memory() {
    let mut memory = Memory::new();
    memory.write(0, &[9; 64]);
    let mut model = small4(memory);
    for row in 0..2 {
        model.scratchpad_mut().row_mut(row).fill(7);
    }
    let config = Command::ConfigLd(config_ld(model.config(), 4));
    execute(&mut model, &[config, Command::Mvin(moved(0, LocalAddr::scratchpad(0), 2, 3))]).unwrap();
    assert_eq!(model.scratchpad().row(1), [0, 0, 0, 7], "elements behind the columns keep their value");
    assert_eq!(model.counts().bytes_in, 0);
}

#[test]
fn loads_into_the_accumulator_add_when_the_address_says_so() {
    let mut memory = Memory::new();
    write_i32(&mut memory, DRAM, 16, &[vec![1, -2, i32::MAX, 4]]);
    write_i8(&mut memory, DRAM + 100, 4, &[vec![10, -20, 1, 127]]);
    let mut model = small4(memory);
    let wide = config_ld(model.config(), 16);
    let shrunk = ConfigLd { shrink: true, state_id: 1, scale: Scale::from(2.0), ..wide };
    let acc = LocalAddr::accumulator(3);
    let commands = [
        Command::ConfigLd(wide),
        Command::ConfigLd(shrunk),
        Command::Mvin(moved(DRAM, acc, 1, 4)),
        Command::Mvin2(moved(DRAM + 100, acc.with_accumulate(), 1, 4)),
    ];
    execute(&mut model, &commands).unwrap();
    // 127 * 2 saturates to 8 bits before it is widened; the sum wraps at 32 bits.
    assert_eq!(model.accumulator().row(3), [21, -42, i32::MIN + 1, 131]);
}

#[test]
fn repeated_pixels_go_down_a_row_and_right_by_the_columns() {
    let mut memory = Memory::new();
    write_i8(&mut memory, DRAM, 1, &[vec![1], vec![2], vec![3]]);
    let mut model = small4(memory);
    let config = ConfigLd { pixel_repeats: 3, ..config_ld(model.config(), 1) };
    execute(&mut model, &[Command::ConfigLd(config), Command::Mvin(moved(DRAM, LocalAddr::scratchpad(1), 3, 1))])
        .unwrap();
    assert_eq!(model.scratchpad().row(0)[..3], [0, 1, 2]);
    assert_eq!(model.scratchpad().row(1)[..3], [1, 2, 3]);
    assert_eq!(model.scratchpad().row(2)[..3], [2, 3, 0]);
    assert_eq!(model.scratchpad().row(3)[..3], [3, 0, 0]);
}

#[test]
fn full_width_stores_are_raw() {
    let mut model = small4(Memory::new());
    model.accumulator_mut().row_mut(9).copy_from_slice(&[1, -70_000, i32::MIN, 5]);
    let config = ConfigSt { activation: Activation::Relu, acc_scale: Scale::from(0.5), ..config_st(16) };
    let mvout = moved(DRAM, LocalAddr::accumulator(9).with_full(), 1, 3);
    execute(&mut model, &[Command::ConfigSt(config), Command::Mvout(mvout)]).unwrap();
    assert_eq!(read_i32(model.memory(), DRAM, 16, [1, 4]), [[1, -70_000, i32::MIN, 0]]);
}

#[test]
fn a_1d_store_places_packed_rows_in_a_wider_image() {
    let mut model = small4(Memory::new());
    for i in 0..6 {
        model.scratchpad_mut().row_mut(i).fill(i as i8 + 1);
    }
    let config = ConfigSt { pool_size: 1, orows: 2, ocols: 3, pool_out_dim: 5, ..config_st(2) };
    let mvout = moved(DRAM, LocalAddr::scratchpad(0), 0, 1);
    execute(&mut model, &[Command::ConfigSt(config), Command::Mvout(mvout)]).unwrap();
    let expected = [1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 4, 0, 5, 0, 6, 0];
    assert_eq!(model.memory().read_array::<16>(DRAM), expected);
}

#[test]
fn the_scale_of_all_ones_keeps_the_old_one() {
    let mut model = small4(Memory::new());
    model.accumulator_mut().row_mut(0).fill(40);
    let halve = ConfigSt { acc_scale: Scale::from(0.5), ..config_st(4) };
    let keep = ConfigSt { acc_scale: Scale::KEEP, ..config_st(4) };
    let mvout = Command::Mvout(moved(DRAM, LocalAddr::accumulator(0), 1, 4));
    execute(&mut model, &[Command::ConfigSt(halve), Command::ConfigSt(keep), mvout]).unwrap();
    assert_eq!(model.memory().read_array(DRAM), [20; 4]);
}

/// Moves the two rows of two blocks through the normalizer with one command.
fn normalize(model: &mut FunctionalModel, cmd: NormCmd) {
    let local = LocalAddr::accumulator(0).with_norm_cmd(cmd);
    execute(model, &[Command::Mvout(moved(DRAM, local, 1, 8))]).unwrap();
}

fn with_row(row: [i32; 8]) -> FunctionalModel {
    let mut model = small4(Memory::new());
    model.accumulator_mut().row_mut(0).copy_from_slice(&row[..4]);
    model.accumulator_mut().row_mut(4).copy_from_slice(&row[4..]);
    model
}

#[test]
fn layernorm_subtracts_the_mean_and_divides_by_the_deviation() {
    let row = [10, 20, 30, 40, 50, 60, 70, 80];
    let mut model = with_row(row);
    // CONFIG_ST selects the activation, CONFIG_NORM would clear nothing of it.
    let config = ConfigSt { activation: Activation::Layernorm, acc_scale: Scale::from(32.0), ..config_st(8) };
    execute(&mut model, &[Command::ConfigSt(config)]).unwrap();
    for cmd in [NormCmd::Mean, NormCmd::InvStddev] {
        normalize(&mut model, cmd);
    }
    assert_eq!(model.counts().bytes_out, 0, "statistics write nothing");
    normalize(&mut model, NormCmd::Reset);
    // Mean 45, variance 525, deviation floor(sqrt(525)) = 22.
    let expected = row.map(|x| (f64::from(x - 45) / 22.0 * 32.0).round_ties_even() as i8 as u8);
    assert_eq!(model.memory().read_array(DRAM), expected);
}

/// `acc_scale_func` is then the identity (`GemminiConfigs.scala:148`), for the factors of the statistics as well.
#[test]
fn without_a_scaler_layernorm_only_subtracts_the_mean() {
    let config = GemminiConfig { acc_scale_args: None, ..GemminiConfig::norm16() };
    let mut model = model(&config, Memory::new());
    let row: [i32; 16] = std::array::from_fn(|i| 10 * i as i32 - 40);
    model.accumulator_mut().row_mut(0).copy_from_slice(&row);
    let setup = ConfigSt { activation: Activation::Layernorm, ..config_st(16) };
    execute(&mut model, &[Command::ConfigSt(setup)]).unwrap();
    for cmd in [NormCmd::Mean, NormCmd::InvStddev, NormCmd::Reset] {
        let local = LocalAddr::accumulator(0).with_norm_cmd(cmd);
        execute(&mut model, &[Command::Mvout(moved(DRAM, local, 1, 16))]).unwrap();
    }
    assert_eq!(model.memory().read_array::<16>(DRAM), row.map(|x| (x - 35) as i8 as u8));
}

#[test]
fn statistics_registers_are_independent() {
    let mut model = with_row([100; 8]);
    let config = ConfigSt { activation: Activation::Layernorm, ..config_st(8) };
    let id = |id| {
        Command::ConfigNorm(pollux_isa::fields::ConfigNorm { set_stats_id_only: true, ..config_norm(id, false, 0, 0) })
    };
    execute(&mut model, &[Command::ConfigSt(config), id(1)]).unwrap();
    normalize(&mut model, NormCmd::Mean);
    normalize(&mut model, NormCmd::InvStddev);
    execute(&mut model, &[id(0)]).unwrap();
    normalize(&mut model, NormCmd::Reset);
    // Register 0 still holds mean 0 and an inverse deviation of 0.
    assert_eq!(model.memory().read_array(DRAM), [0; 8]);
    model.accumulator_mut().row_mut(0).fill(103);
    execute(&mut model, &[id(1)]).unwrap();
    normalize(&mut model, NormCmd::Reset);
    // Deviation 0 counts as 1.
    assert_eq!(model.memory().read_array(DRAM), [3, 3, 3, 3, 0, 0, 0, 0]);
}

#[test]
fn softmax_of_the_released_exponential_shares_127_by_weight() {
    let mut model = model(&GemminiConfig::norm16(), Memory::new());
    // Scale 0.05: ln 2 is 14 units, b = 1.353 / 0.05, c = 0.344 / (0.3585 * 0.05^2).
    let (qln2, qb, qc) = (14, 27, 384);
    let row: [i32; 16] = std::array::from_fn(|i| -14 * i as i32);
    model.accumulator_mut().row_mut(0).copy_from_slice(&row);
    let constant = |softmax, q_const_type, q_const| {
        Command::ConfigNorm(pollux_isa::fields::ConfigNorm { q_const_type, q_const, ..config_norm(0, softmax, qb, qc) })
    };
    let setup = [Command::ConfigSt(config_st(16)), constant(true, false, qln2), constant(true, true, (1 << 16) / qln2)];
    execute(&mut model, &setup).unwrap();
    for cmd in [NormCmd::Max, NormCmd::InvSumExp, NormCmd::Reset] {
        let local = LocalAddr::accumulator(0).with_norm_cmd(cmd);
        execute(&mut model, &[Command::Mvout(moved(DRAM, local, 1, 16))]).unwrap();
    }
    let stored = model.memory().read_array::<16>(DRAM);
    // Each element is half the one before; the exact shares are 63.5, 31.8, 15.9, ...
    for (i, &x) in stored.iter().enumerate() {
        let share = 127.0 / 2f64.powi(i as i32 + 1);
        assert!((f64::from(x) - share).abs() <= 1.5, "{stored:?}");
    }
}
