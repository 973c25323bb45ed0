//! What the unrollers' slots hold, and whether a loop's operands fit into the local memories
//! (`LoopMatmul.scala`, `LoopConv.scala`).

use super::{Illegality, LocalMemory};
use crate::command::Command;
use crate::config::{CONCURRENT_LOOPS, GemminiConfig};
use crate::fields::{
    LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4, LoopConvConfig5, LoopConvConfig6, LoopConvWs,
    LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsSpadAb,
};

/// The registers of one loop slot.
pub(super) trait Slot: Copy {
    /// At reset, in slot `index`.
    fn at_reset(cfg: &GemminiConfig, index: u32) -> Self;
    /// Takes a configuration command, if it is one of this unroller's.
    fn configure(&mut self, command: &Command);
}

/// The two slots of an unroller. Consecutive loops alternate between them.
#[derive(Debug, Clone)]
pub(super) struct Loops<S> {
    slots: [S; CONCURRENT_LOOPS as usize],
    next: usize,
}

impl<S: Slot> Loops<S> {
    pub(super) fn new(cfg: &GemminiConfig) -> Self {
        Self { slots: [S::at_reset(cfg, 0), S::at_reset(cfg, 1)], next: 0 }
    }

    pub(super) fn configure(&mut self, command: &Command) {
        self.slots[self.next].configure(command);
    }

    /// The slot of the loop that runs now; the next configuration goes to the other one.
    pub(super) fn run(&mut self) -> S {
        let slot = self.slots[self.next];
        self.next ^= 1;
        slot
    }
}

/// First row of A and the row after the last one of B in the scratchpad.
#[derive(Debug, Clone, Copy)]
struct Placement {
    a_start: u64,
    b_end: u64,
}

impl Placement {
    fn at_reset(cfg: &GemminiConfig, index: u32) -> Self {
        let half = u64::from(cfg.sp_rows() / CONCURRENT_LOOPS);
        Self { a_start: half * u64::from(index), b_end: half * u64::from(index + 1) }
    }

    /// The places after a loop's spad ids are applied: 0 keeps the slot's, n is half n.
    fn overridden(self, cfg: &GemminiConfig, a_spad_id: u8, b_spad_id: u8) -> Self {
        let half = u64::from(cfg.sp_rows() / CONCURRENT_LOOPS);
        let a_start = match a_spad_id {
            0 => self.a_start,
            id => u64::from(id - 1) * half,
        };
        let b_end = match b_spad_id {
            0 => self.b_end,
            id => u64::from(id) * half,
        };
        Self { a_start, b_end }
    }

    /// Checks that A and B lie in the scratchpad and do not overlap. One that is not used has no rows.
    fn check(self, cfg: &GemminiConfig, mnemonic: &'static str, a_rows: u64, b_rows: u64, found: &mut Vec<Illegality>) {
        let sp_rows = u64::from(cfg.sp_rows());
        let memory = LocalMemory::Scratchpad;
        let mut require = |operand, needed, available| {
            if needed > available {
                found.push(Illegality::LoopRegion { mnemonic, operand, memory, needed, available });
            }
        };
        if a_rows > 0 && b_rows > 0 && self.a_start < self.b_end {
            // A grows up and B grows down towards each other.
            require("A and B together", a_rows.saturating_add(b_rows), self.b_end - self.a_start);
        } else {
            require("A", a_rows, sp_rows - self.a_start.min(sp_rows));
            require("B", b_rows, self.b_end);
        }
    }
}

/// Checks that C fits into the accumulator. More than half of it overlaps with the next loop's half only, which is
/// legal for a loop that runs alone.
fn check_accumulator(cfg: &GemminiConfig, mnemonic: &'static str, needed: u64, found: &mut Vec<Illegality>) {
    let available = u64::from(cfg.acc_rows());
    if needed > available {
        let memory = LocalMemory::Accumulator;
        found.push(Illegality::LoopRegion { mnemonic, operand: "C", memory, needed, available });
    }
}

fn check_bounds(mnemonic: &'static str, bounds: &[(&'static str, u16)], found: &mut Vec<Illegality>) -> bool {
    let zero = bounds.iter().filter(|(_, bound)| *bound == 0);
    let before = found.len();
    found.extend(zero.map(|(field, _)| Illegality::ZeroLoopBound { mnemonic, field }));
    found.len() == before
}

/// A slot of `LoopMatmul`.
#[derive(Debug, Clone, Copy)]
pub(super) struct MatmulLoop {
    bounds: LoopWsBounds,
    ab: LoopWsAddrsAb,
    dc: LoopWsAddrsDc,
    place: Placement,
}

impl Slot for MatmulLoop {
    fn at_reset(cfg: &GemminiConfig, index: u32) -> Self {
        Self {
            bounds: LoopWsBounds::from_regs(cfg, 0, 0),
            ab: LoopWsAddrsAb::from_regs(cfg, 0, 0),
            dc: LoopWsAddrsDc::from_regs(cfg, 0, 0),
            place: Placement::at_reset(cfg, index),
        }
    }

    fn configure(&mut self, command: &Command) {
        match command {
            Command::LoopWsBounds(bounds) => self.bounds = *bounds,
            Command::LoopWsAddrsAb(ab) => self.ab = *ab,
            Command::LoopWsAddrsDc(dc) => self.dc = *dc,
            Command::LoopWsSpadAb(LoopWsSpadAb { a_start, b_end }) => {
                self.place = Placement { a_start: (*a_start).into(), b_end: (*b_end).into() };
            }
            _ => {}
        }
    }
}

/// The parts of a matmul loop that do anything; the others skip their bounds.
#[derive(Debug, Clone, Copy)]
struct Parts {
    a: bool,
    b: bool,
    d: bool,
    execute: bool,
    store: bool,
}

impl MatmulLoop {
    /// A part without a main memory address does nothing (`dram_addr === 0.U` in `LoopMatmul.scala`).
    fn parts(&self, run: &LoopWs) -> Parts {
        Parts {
            a: !run.skip_lda && self.ab.a != 0,
            b: !run.skip_ldb && self.ab.b != 0,
            d: !run.skip_ldd && self.dc.d != 0,
            execute: !run.skip_ex && !run.is_resadd,
            store: !run.skip_stc && self.dc.c != 0,
        }
    }

    /// The load channels that the loop uses, with the command that must have configured each.
    pub(super) fn channels_used(&self, run: &LoopWs) -> impl Iterator<Item = (usize, &'static str)> {
        let Parts { a, b, d, .. } = self.parts(run);
        let channels =
            [(a, "config_ld state_id=0"), (b, "config_ld state_id=1"), (d && !run.is_resadd, "config_ld state_id=2")];
        channels.into_iter().enumerate().filter(|(_, (used, _))| *used).map(|(channel, (_, needs))| (channel, needs))
    }

    pub(super) fn check(&self, cfg: &GemminiConfig, run: &LoopWs, found: &mut Vec<Illegality>) {
        let LoopWsBounds { i, j, k, .. } = self.bounds;
        let Parts { a, b, d, execute, store } = self.parts(run);
        // A residual addition has no K: A and B are I x J.
        let (uses_a, uses_b, uses_c) = match run.is_resadd {
            true => (false, false, a || b || d || store),
            false => (a || execute, b || execute, d || execute || store),
        };
        let bounds = [("i", i, uses_a || uses_c), ("j", j, uses_b || uses_c), ("k", k, uses_a || uses_b)];
        let used = bounds.into_iter().filter(|(.., used)| *used).map(|(name, bound, _)| (name, bound));
        if !check_bounds("loop_ws", &used.collect::<Vec<_>>(), found) {
            return;
        }
        let dim = u64::from(cfg.dim());
        let rows = |used: bool, x: u16, y: u16| if used { u64::from(x) * u64::from(y) * dim } else { 0 };
        let place = self.place.overridden(cfg, run.a_spad_id, run.b_spad_id);
        place.check(cfg, "loop_ws", rows(uses_a, i, k), rows(uses_b, k, j), found);
        check_accumulator(cfg, "loop_ws", rows(uses_c, i, j), found);
    }
}

/// A slot of `LoopConv`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvLoop {
    config1: LoopConvConfig1,
    config2: LoopConvConfig2,
    config3: LoopConvConfig3,
    config4: LoopConvConfig4,
    config5: LoopConvConfig5,
    config6: LoopConvConfig6,
    place: Placement,
}

impl Slot for ConvLoop {
    fn at_reset(cfg: &GemminiConfig, index: u32) -> Self {
        Self {
            config1: LoopConvConfig1::from_regs(cfg, 0, 0),
            config2: LoopConvConfig2::from_regs(cfg, 0, 0),
            config3: LoopConvConfig3::from_regs(cfg, 0, 0),
            config4: LoopConvConfig4::from_regs(cfg, 0, 0),
            config5: LoopConvConfig5::from_regs(cfg, 0, 0),
            config6: LoopConvConfig6::from_regs(cfg, 0, 0),
            place: Placement::at_reset(cfg, index),
        }
    }

    fn configure(&mut self, command: &Command) {
        match command {
            Command::LoopConvConfig1(config) => self.config1 = *config,
            Command::LoopConvConfig2(config) => self.config2 = *config,
            Command::LoopConvConfig3(config) => self.config3 = *config,
            Command::LoopConvConfig4(config) => self.config4 = *config,
            Command::LoopConvConfig5(config) => self.config5 = *config,
            Command::LoopConvConfig6(config) => self.config6 = *config,
            _ => {}
        }
    }
}

impl ConvLoop {
    pub(super) fn check(&self, cfg: &GemminiConfig, run: &LoopConvWs, found: &mut Vec<Illegality>) {
        let mnemonic = "loop_conv_ws";
        let run = run.gated(cfg);
        let LoopConvConfig2 { batches, porows, pocols, pochs, .. } = self.config2;
        let LoopConvConfig3 { krows, kcols, kchs, .. } = self.config3;
        let LoopConvConfig4 { orows, ocols, .. } = self.config4;
        let mut bounds = vec![("batches", batches), ("pochs", pochs), ("krows", krows), ("kcols", kcols)];
        bounds.extend([("kchs", kchs), ("orows", orows), ("ocols", ocols)]);
        if !run.no_pool {
            bounds.extend([("porows", porows), ("pocols", pocols)]);
        }
        if !check_bounds(mnemonic, &bounds, found) {
            return;
        }
        let place = self.place.overridden(cfg, run.a_spad_id, run.b_spad_id);
        place.check(cfg, mnemonic, self.input_rows(cfg, &run), self.weight_rows(cfg, &run), found);
        let pixels = u64::from(batches) * u64::from(orows) * u64::from(ocols);
        check_accumulator(cfg, mnemonic, banks(cfg, pochs) * pixels, found);
    }

    /// Input pixels of the loop along one axis, padding included (`irows`, `icols` of `derived_params`).
    fn input_extent(&self, run: &LoopConvWs, outputs: u16, kernel: u16, pads: [u64; 2]) -> u64 {
        let dilation = u64::from(self.config4.kernel_dilation);
        let kernel = u64::from(kernel);
        let dilated_kernel = kernel + dilation.saturating_sub(1) * (kernel - 1);
        let extent = u64::from(outputs) * u64::from(self.config1.stride) + dilated_kernel - 1;
        if !run.input_dilated {
            return extent;
        }
        let undilated = |pixels: u64| pixels.div_ceil(2);
        undilated(extent.saturating_sub(pads[0] + pads[1])) + undilated(pads[0]) + undilated(pads[1])
    }

    fn input_rows(&self, cfg: &GemminiConfig, run: &LoopConvWs) -> u64 {
        let LoopConvConfig3 { krows, kcols, kchs, upad, dpad, lpad, rpad, .. } = self.config3;
        let LoopConvConfig4 { orows, ocols, .. } = self.config4;
        let rows = self.input_extent(run, orows, krows, [upad.into(), dpad.into()]);
        let columns = self.input_extent(run, ocols, kcols, [lpad.into(), rpad.into()]);
        let image = (rows >> u32::from(run.downsample)) * (columns >> u32::from(run.downsample));
        let batches = self.config2.batches;
        match run.trans_input_3120 {
            true => image.saturating_mul(banks(cfg, batches) * u64::from(kchs)),
            false => image.saturating_mul(banks(cfg, kchs) * u64::from(batches)),
        }
    }

    fn weight_rows(&self, cfg: &GemminiConfig, run: &LoopConvWs) -> u64 {
        let LoopConvConfig3 { krows, kcols, kchs, .. } = self.config3;
        let pochs = self.config2.pochs;
        let kernel = u64::from(krows) * u64::from(kcols);
        match run.trans_weight_0132 {
            true => kernel.saturating_mul(banks(cfg, kchs) * u64::from(pochs)),
            false => kernel.saturating_mul(banks(cfg, pochs) * u64::from(kchs)),
        }
    }
}

/// Blocks of DIM that hold `n` channels.
fn banks(cfg: &GemminiConfig, n: u16) -> u64 {
    u64::from(n).div_ceil(cfg.dim().into())
}
