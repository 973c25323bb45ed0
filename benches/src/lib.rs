//! Command streams that the benches run.

use pollux_isa::fields::{
    Compute, ConfigEx, ConfigLd, ConfigSt, LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsStridesAb,
    LoopWsStridesDc, MoveOperands, Preload,
};
use pollux_isa::values::{Activation, DataflowMode, Scale};
use pollux_isa::{Command, EncodeError, GemminiConfig, LocalAddr, RoccCommand, StreamItem};

/// A command stream and the multiply-accumulates that it does.
pub struct Workload {
    /// The commands.
    pub commands: Vec<RoccCommand>,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// DRAM address of the first operand; operands are a megabyte apart.
const A: u64 = 0x8000_0000;
const B: u64 = 0x8010_0000;
const C: u64 = 0x8020_0000;

fn config_ex(dataflow: DataflowMode) -> Command {
    Command::ConfigEx(ConfigEx {
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
    })
}

fn config_ld(config: &GemminiConfig, state_id: u8, stride: u64) -> Command {
    let block_stride = config.dim() as u16;
    Command::ConfigLd(ConfigLd {
        shrink: false,
        state_id,
        pixel_repeats: 1,
        block_stride,
        scale: Scale::IDENTITY,
        stride,
    })
}

fn config_st(stride: u32, acc_scale: f32) -> Command {
    Command::ConfigSt(ConfigSt {
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
        acc_scale: acc_scale.into(),
    })
}

/// `products` products of DIM x DIM matrices that lie in the scratchpad, each with new stationary values.
///
/// # Errors
/// The configuration is too small for the operands.
pub fn tiles(config: &GemminiConfig, dataflow: DataflowMode, products: u32) -> Result<Workload, EncodeError> {
    let dim = config.dim();
    let extent = dim as u16;
    let mvin = |local, dram| {
        Command::Mvin(MoveOperands { dram, local: LocalAddr::scratchpad(local), cols: extent, rows: extent })
    };
    let mut commands = vec![config_ex(dataflow), config_ld(config, 0, dim.into()), mvin(0, A), mvin(dim, B)];
    for product in 0..products {
        let row = product * dim % config.acc_rows();
        commands.push(Command::Preload(Preload {
            d: LocalAddr::scratchpad(dim),
            d_cols: extent,
            d_rows: extent,
            c: LocalAddr::accumulator(row),
            c_cols: extent,
            c_rows: extent,
        }));
        let bd = match dataflow {
            DataflowMode::Os => LocalAddr::scratchpad(dim),
            DataflowMode::Ws => LocalAddr::GARBAGE,
        };
        let a = LocalAddr::scratchpad(0);
        let (a_cols, a_rows, bd_cols, bd_rows) = (extent, extent, extent, extent);
        commands.push(Command::ComputePreloaded(Compute { a, a_cols, a_rows, bd, bd_cols, bd_rows }));
    }
    let commands = commands.iter().map(|command| command.encode(config)).collect::<Result<_, _>>()?;
    Ok(Workload { commands, macs: u64::from(products) * u64::from(dim).pow(3) })
}

/// A product of two square matrices of `size` x `size` elements in main memory by LOOP_WS, in tiles of `blocks` blocks.
///
/// # Errors
/// The configuration is too small for the tiles.
pub fn loop_ws_matmul(config: &GemminiConfig, size: u64, blocks: [u16; 3]) -> Result<Workload, EncodeError> {
    let dim = u64::from(config.dim());
    let mut commands = vec![
        config_ex(DataflowMode::Ws),
        config_ld(config, 0, size),
        config_ld(config, 1, size),
        config_ld(config, 2, 0),
        config_st(size as u32, 0.02),
    ];
    let [step_i, step_j, step_k] = blocks.map(|n| usize::from(n) * dim as usize);
    for i in (0..size).step_by(step_i) {
        for j in (0..size).step_by(step_j) {
            for k in (0..size).step_by(step_k) {
                let last = k + step_k as u64 >= size;
                commands.extend(loop_ws(size, blocks, [i, j, k], last));
            }
        }
    }
    let commands = commands.iter().map(|command| command.encode(config)).collect::<Result<_, _>>()?;
    Ok(Workload { commands, macs: size.pow(3) })
}

fn loop_ws(size: u64, [i, j, k]: [u16; 3], [row, col, inner]: [u64; 3], last: bool) -> [Command; 6] {
    let c = if last { C + row * size + col } else { 0 };
    [
        Command::LoopWsBounds(LoopWsBounds { pad_i: 0, pad_j: 0, pad_k: 0, i, j, k }),
        Command::LoopWsAddrsAb(LoopWsAddrsAb { a: A + row * size + inner, b: B + inner * size + col }),
        Command::LoopWsAddrsDc(LoopWsAddrsDc { d: 0, c }),
        Command::LoopWsStridesAb(LoopWsStridesAb { a_stride: size, b_stride: size }),
        Command::LoopWsStridesDc(LoopWsStridesDc { d_stride: 0, c_stride: size }),
        Command::LoopWs(LoopWs {
            ex_accumulate: inner != 0,
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
        }),
    ]
}

/// `loads` loads of a DIM x DIM tile each, with a fence behind each of them: almost all the time is spent waiting for memory.
///
/// # Errors
/// The configuration is too small for a tile.
pub fn separate_loads(config: &GemminiConfig, loads: u64) -> Result<Vec<StreamItem>, EncodeError> {
    let dim = u64::from(config.dim());
    let extent = dim as u16;
    let mut items = vec![StreamItem::Command(config_ld(config, 0, dim).encode(config)?)];
    for load in 0..loads {
        let dram = A + load * dim * dim;
        let tile = Command::Mvin(MoveOperands { dram, local: LocalAddr::scratchpad(0), cols: extent, rows: extent });
        items.extend([StreamItem::Command(tile.encode(config)?), StreamItem::Fence]);
    }
    Ok(items)
}
