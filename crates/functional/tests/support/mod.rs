//! Builds command streams for the tests.

#![allow(dead_code)] // each test binary uses its own part

use pollux_functional::{Action, ExecError, FunctionalModel, Policy};
use pollux_isa::fields::{
    Compute, ConfigEx, ConfigLd, ConfigNorm, ConfigSt, ExecOperand, LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds,
    LoopWsStridesAb, LoopWsStridesDc, MoveOperands, Preload,
};
use pollux_isa::values::{Activation, DataflowMode, Scale};
use pollux_isa::{Command, GemminiConfig, LocalAddr, RoccCommand};
use pollux_memory::Memory;
use pollux_testkit::Random;
use proptest::test_runner::Config as ProptestConfig;

pub const DRAM: u64 = 0x8000_0000;

/// This many random cases; a failing one is printed with its smallest input, not kept in a file.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// `config_ex` with strides of one row and nothing else set.
pub fn config_ex(dataflow: DataflowMode) -> ConfigEx {
    ConfigEx {
        dataflow,
        activation: Activation::None,
        set_only_strides: false,
        a_transpose: false,
        b_transpose: false,
        a_stride: 1,
        acc_scale: Scale::IDENTITY,
        in_shift: 0,
        relu6_shift: 0,
        c_stride: 1,
    }
}

/// `config_ld` of channel 0 for packed blocks, scale 1.
pub fn config_ld(config: &GemminiConfig, stride: u64) -> ConfigLd {
    let block_stride = config.dim() as u16;
    ConfigLd { shrink: false, state_id: 0, pixel_repeats: 1, block_stride, scale: Scale::IDENTITY, stride }
}

/// `config_st` without pooling and activation, scale 1.
pub fn config_st(stride: u32) -> ConfigSt {
    ConfigSt {
        activation: Activation::None,
        pool_stride: 0,
        pool_size: 0,
        upad: 0,
        lpad: 0,
        pool_out_dim: 0,
        porows: 0,
        pocols: 0,
        orows: 0,
        ocols: 0,
        stride,
        acc_scale: Scale::IDENTITY,
    }
}

/// `config_norm` of statistics register `id` with the constants of the integer functions.
pub fn config_norm(norm_stats_id: u8, softmax: bool, qb: i32, qc: i32) -> ConfigNorm {
    ConfigNorm { norm_stats_id, act_msb: softmax, set_stats_id_only: false, q_const_type: false, q_const: 0, qb, qc }
}

/// An operand of a move.
pub fn moved(dram: u64, local: LocalAddr, rows: usize, cols: usize) -> MoveOperands {
    MoveOperands { dram, local, cols: cols as u16, rows: rows as u16 }
}

pub fn preload(d: ExecOperand, c: ExecOperand) -> Command {
    Command::Preload(Preload { d: d.local, d_cols: d.cols, d_rows: d.rows, c: c.local, c_cols: c.cols, c_rows: c.rows })
}

fn compute(a: ExecOperand, bd: ExecOperand) -> Compute {
    Compute { a: a.local, a_cols: a.cols, a_rows: a.rows, bd: bd.local, bd_cols: bd.cols, bd_rows: bd.rows }
}

pub fn compute_preloaded(a: ExecOperand, bd: ExecOperand) -> Command {
    Command::ComputePreloaded(compute(a, bd))
}

pub fn compute_accumulated(a: ExecOperand, bd: ExecOperand) -> Command {
    Command::ComputeAccumulated(compute(a, bd))
}

pub fn operand(local: LocalAddr, rows: usize, cols: usize) -> ExecOperand {
    ExecOperand { local, cols: cols as u16, rows: rows as u16 }
}

/// A LOOP_WS that does everything and changes nothing.
pub fn loop_ws() -> LoopWs {
    LoopWs {
        ex_accumulate: false,
        full_c: false,
        low_d: false,
        act: Activation::None,
        b_spad_id: 0,
        a_spad_id: 0,
        a_transpose: false,
        b_transpose: false,
        is_resadd: false,
        skip_lda: false,
        skip_ldb: false,
        skip_ldd: false,
        skip_ex: false,
        skip_stc: false,
        inc_acc_addr: false,
        spad_only: false,
        c_spad: 0,
    }
}

/// The commands of a LOOP_WS over matrices in memory: addresses and strides of A, B, D, C.
pub fn loop_ws_commands(bounds: LoopWsBounds, addresses: [u64; 4], strides: [u64; 4], run: LoopWs) -> Vec<Command> {
    let [a, b, d, c] = addresses;
    let [a_stride, b_stride, d_stride, c_stride] = strides;
    vec![
        Command::LoopWsBounds(bounds),
        Command::LoopWsAddrsAb(LoopWsAddrsAb { a, b }),
        Command::LoopWsAddrsDc(LoopWsAddrsDc { d, c }),
        Command::LoopWsStridesAb(LoopWsStridesAb { a_stride, b_stride }),
        Command::LoopWsStridesDc(LoopWsStridesDc { d_stride, c_stride }),
        Command::LoopWs(run),
    ]
}

/// A model that reports every kind of undefined behaviour as an error but reads of rows never written.
pub fn model(config: &GemminiConfig, memory: Memory) -> FunctionalModel {
    let policy = Policy { unwritten_row: Action::Ignore, ..Policy::default() };
    let config = config.clone().validated().expect("a valid configuration");
    FunctionalModel::with_policy(config, memory, policy)
}

/// Encodes and executes.
pub fn execute(model: &mut FunctionalModel, commands: &[Command]) -> Result<(), ExecError> {
    let config = model.config().clone();
    let encode = |command: &Command| -> RoccCommand { command.encode(&config).expect("legal operands") };
    commands.iter().try_for_each(|command| model.execute(&encode(command)))
}

/// Writes a matrix of `i8` with this many bytes between rows.
pub fn write_i8(memory: &mut Memory, address: u64, stride: usize, matrix: &[Vec<i8>]) {
    for (i, row) in matrix.iter().enumerate() {
        let bytes: Vec<u8> = row.iter().map(|&x| x as u8).collect();
        memory.write(address + (i * stride) as u64, &bytes);
    }
}

/// Writes a matrix of `i32` with this many bytes between rows.
pub fn write_i32(memory: &mut Memory, address: u64, stride: usize, matrix: &[Vec<i32>]) {
    for (i, row) in matrix.iter().enumerate() {
        let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
        memory.write(address + (i * stride) as u64, &bytes);
    }
}

pub fn read_i8(memory: &Memory, address: u64, stride: usize, [rows, cols]: [usize; 2]) -> Vec<Vec<i8>> {
    let row = |i: usize| memory.read_vec(address + (i * stride) as u64, cols);
    (0..rows).map(|i| row(i).into_iter().map(|x| x as i8).collect()).collect()
}

pub fn read_i32(memory: &Memory, address: u64, stride: usize, [rows, cols]: [usize; 2]) -> Vec<Vec<i32>> {
    let element = |i: usize, j: usize| i32::from_le_bytes(memory.read_array(address + (i * stride + 4 * j) as u64));
    (0..rows).map(|i| (0..cols).map(|j| element(i, j)).collect()).collect()
}

/// A random matrix that a seed determines; elements over the whole range of `i8`.
pub fn matrix_i8(seed: u64, rows: usize, cols: usize) -> Vec<Vec<i8>> {
    let mut random = Random::new(seed);
    (0..rows).map(|_| random.i8s(cols)).collect()
}

pub fn transpose<T: Copy>(matrix: &[Vec<T>]) -> Vec<Vec<T>> {
    (0..matrix[0].len()).map(|j| matrix.iter().map(|row| row[j]).collect()).collect()
}

/// `bias + a * b` in exact arithmetic.
pub fn product(a: &[Vec<i8>], b: &[Vec<i8>], bias: impl Fn(usize, usize) -> i64) -> Vec<Vec<i64>> {
    let dot = |row: &[i8], j: usize| row.iter().zip(b).map(|(&x, b)| i64::from(x) * i64::from(b[j])).sum::<i64>();
    a.iter().enumerate().map(|(i, row)| (0..b[0].len()).map(|j| bias(i, j) + dot(row, j)).collect()).collect()
}

/// Division by `2^n` to the nearest, ties to even, by remainders.
pub fn divide_by_power(x: i64, n: u32) -> i64 {
    let divisor = 1i64 << n;
    let (quotient, remainder) = (x.div_euclid(divisor), x.rem_euclid(divisor));
    match (2 * remainder).cmp(&divisor) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}
