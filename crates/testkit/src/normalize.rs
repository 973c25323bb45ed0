//! Normalizations through the accumulator's read-out.

use pollux_isa::LocalAddr;
use pollux_isa::values::NormCmd;

use crate::builder::{Builder, scale};
use crate::hazards::Rows;
use crate::moves::prepare_store;
use crate::words::Words;

/// Requests that pass the store path before the constants of the last CONFIG_NORM are sure to be at the normalizer's input:
/// while no row enters, the input shows a slot of the queue in front of it, which holds two.
const WARM_UP: u32 = 2;

/// One row of the accumulator, of a few blocks, and where it goes.
struct NormRow {
    local: LocalAddr,
    cols: u32,
    address: u64,
}

fn choose(builder: &Builder<'_>, words: &mut Words<'_>) -> Option<NormRow> {
    let dim = builder.dim;
    let widest = builder.config.dma_maxbytes.max(dim);
    let cols = builder.fitting_cols(words.up_to(widest), 1, dim, true);
    let span = (cols.div_ceil(dim) - 1) * dim + 1;
    let local = builder.accumulator_place(words, span);
    Some(NormRow { local, cols, address: builder.move_place(words, cols.into(), 1)? })
}

/// Passes the row through the normalizer, or stores it (RESET).
fn pass(builder: &mut Builder<'_>, row: &NormRow, cmd: NormCmd) {
    let dim = builder.dim;
    let span = (row.cols.div_ceil(dim) - 1) * dim + 1;
    let memory = row.address..row.address + u64::from(row.cols);
    let stored = cmd == NormCmd::Reset;
    prepare_store(builder, &Rows::consecutive(row.local, span), if stored { memory } else { 0..0 });
    let local = row.local.with_norm_cmd(cmd);
    let operands = [("dram", row.address), ("local", local.0.into()), ("cols", row.cols.into()), ("rows", 1)];
    builder.push("mvout", &operands);
}

/// The constants of GELU and of the exponential. They go with each row of the read-out, but the normalizer's sum of
/// exponentials takes them from its input: a fence keeps sums before apart.
fn constants(builder: &mut Builder<'_>, words: &mut Words<'_>, softmax: bool) {
    builder.fence();
    let small = |words: &mut Words<'_>, n: u32| u64::from((words.below(n) as i32 - (n / 2) as i32) as u32);
    let (qb, qc, msb) = (small(words, 2000), small(words, 4000), u64::from(softmax));
    let (qln2, qln2_inv) = (u64::from(words.up_to(200)), u64::from(words.up_to(2000)));
    for (kind, constant) in [(0, qln2), (1, qln2_inv)] {
        let operands = [("act_msb", msb), ("q_const_type", kind), ("q_const", constant), ("qb", qb), ("qc", qc)];
        builder.push("config_norm", &operands);
    }
}

/// Back to plain stores.
fn restore(builder: &mut Builder<'_>) {
    let dim = u64::from(builder.dim);
    builder.config_st(&[("stride", 4 * dim)]);
}

/// New constants for GELU.
pub fn gelu_constants(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    if builder.normalizes() {
        constants(builder, words, false);
        restore(builder);
    }
}

/// LayerNorm of some rows.
pub fn layer_norm(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    if !builder.normalizes() {
        return;
    }
    let dim = u64::from(builder.dim);
    builder.config_st(&[("activation", 2), ("stride", 4 * dim), ("acc_scale", scale(words))]);
    for _ in 0..words.up_to(2) {
        let Some(row) = choose(builder, words) else { break };
        for cmd in [NormCmd::Mean, NormCmd::InvStddev, NormCmd::Reset] {
            pass(builder, &row, cmd);
        }
    }
    restore(builder);
}

/// Softmax of some rows.
pub fn softmax(builder: &mut Builder<'_>, words: &mut Words<'_>) {
    if !builder.normalizes() {
        return;
    }
    let dim = u64::from(builder.dim);
    builder.config_st(&[("stride", 4 * dim), ("acc_scale", scale(words))]);
    constants(builder, words, true);
    for _ in 0..words.up_to(2) {
        let Some(row) = choose(builder, words) else { break };
        for _ in 0..WARM_UP {
            pass(builder, &row, NormCmd::Max);
        }
        for cmd in [NormCmd::InvSumExp, NormCmd::Reset] {
            pass(builder, &row, cmd);
        }
    }
    restore(builder);
}
