//! A loop's slot (`LoopMatmulState` in `LoopMatmul.scala`): what the configuration commands wrote, and how far the loop is.

use pollux_isa::fields::{
    LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsSpadAb, LoopWsStridesAb, LoopWsStridesDc,
};
use pollux_isa::{Command, GemminiConfig, RoccCommand, funct};

use crate::front_end::geometry::{Geometry, mask};
use crate::front_end::unroller::{LoopFlags, LoopId, PartSet};
use crate::parts::canonical::{Canon, Canonical};

/// Configuration and progress of a loop (`LoopMatmulState`): what each configuration command wrote last, and flags.
#[derive(Clone, Debug)]
pub(super) struct LoopState {
    pub bounds: LoopWsBounds,
    pub addrs_ab: LoopWsAddrsAb,
    pub addrs_dc: LoopWsAddrsDc,
    pub strides_ab: LoopWsStridesAb,
    pub strides_dc: LoopWsStridesDc,
    pub spad_ab: LoopWsSpadAb,
    pub run: LoopWs,
    /// Set by LOOP_WS, cleared by new addresses and with the slot.
    pub spad_only: bool,
    pub flags: LoopFlags,
    /// First accumulator row of a residual addition.
    pub resadd_addr_start: u32,
}

impl LoopState {
    /// The canonical form without the registers that are written by the functions in `overwritten` before they are looked at.
    pub(super) fn canonical_but(&self, overwritten: u32, canon: &mut Canon) {
        let Self { bounds, addrs_ab, addrs_dc, strides_ab, strides_dc, spad_ab, run, spad_only, .. } = self;
        let registers: [(u8, &dyn Canonical); 6] = [
            (funct::LOOP_WS_CONFIG_BOUNDS, bounds),
            (funct::LOOP_WS_CONFIG_ADDRS_AB, addrs_ab),
            (funct::LOOP_WS_CONFIG_ADDRS_DC, addrs_dc),
            (funct::LOOP_WS_CONFIG_STRIDES_AB, strides_ab),
            (funct::LOOP_WS_CONFIG_STRIDES_DC, strides_dc),
            (funct::LOOP_WS, run),
        ];
        for (funct, register) in registers {
            if overwritten >> funct & 1 == 0 {
                register.canonical(canon);
            }
        }
        let Self { flags, resadd_addr_start, .. } = self;
        spad_ab.canonical(canon);
        spad_only.canonical(canon);
        flags.canonical(canon);
        resadd_addr_start.canonical(canon);
    }

    pub(super) fn new(id: LoopId, config: &GemminiConfig, geometry: &Geometry) -> Self {
        let id = id as u32;
        Self {
            bounds: LoopWsBounds::from_regs(config, 0, 0),
            addrs_ab: LoopWsAddrsAb::from_regs(config, 0, 0),
            addrs_dc: LoopWsAddrsDc::from_regs(config, 0, 0),
            strides_ab: LoopWsStridesAb::from_regs(config, 0, 0),
            strides_dc: LoopWsStridesDc::from_regs(config, 0, 0),
            spad_ab: LoopWsSpadAb { a_start: geometry.spad_half(id), b_end: geometry.spad_half(id + 1) },
            run: LoopWs::from_regs(config, 0, 0),
            spad_only: false,
            flags: LoopFlags::default(),
            resadd_addr_start: geometry.acc_half(id),
        }
    }

    /// Frees the slot; what the configuration commands wrote stays.
    pub(super) fn reset(&mut self) {
        self.flags = LoopFlags::default();
        self.spad_only = false;
    }

    /// Takes a command of the unroller.
    pub(super) fn configure(&mut self, cmd: RoccCommand, config: &GemminiConfig) {
        match Command::from_rocc(config, cmd) {
            Some(Command::LoopWsBounds(bounds)) => self.bounds = bounds,
            Some(Command::LoopWsAddrsAb(addrs)) => {
                self.spad_only = false;
                self.addrs_ab = addrs;
            }
            Some(Command::LoopWsAddrsDc(addrs)) => {
                self.spad_only = false;
                self.addrs_dc = addrs;
            }
            Some(Command::LoopWsStridesAb(strides)) => self.strides_ab = strides,
            Some(Command::LoopWsStridesDc(strides)) => self.strides_dc = strides,
            Some(Command::LoopWsSpadAb(spad)) => self.spad_ab = spad,
            Some(Command::LoopWs(run)) => self.launch(run),
            _ => {}
        }
    }

    fn launch(&mut self, run: LoopWs) {
        self.run = run;
        self.spad_only = run.spad_only;
        // A part that is skipped counts as started and completed.
        let skipped = PartSet::from([run.skip_lda, run.skip_ldb, run.skip_ldd, run.skip_ex, run.skip_stc]);
        let flags = self.flags;
        self.flags = LoopFlags { configured: true, started: skipped, completed: skipped, ..flags };
    }

    /// First scratchpad row of A, in a register of `bits` bits.
    pub(super) fn a_start(&self, geometry: &Geometry, bits: u32) -> u32 {
        match self.run.a_spad_id {
            0 => self.spad_ab.a_start,
            id => geometry.spad_half(u32::from(id) - 1) & mask(bits) as u32,
        }
    }

    /// Scratchpad row after the last of B, in a register of `bits` bits.
    pub(super) fn b_end(&self, geometry: &Geometry, bits: u32) -> u32 {
        match self.run.b_spad_id {
            0 => self.spad_ab.b_end,
            id => geometry.spad_half(id.into()) & mask(bits) as u32,
        }
    }

    /// Whether the part that uses the accumulator half moves on to the other half (`ex`, `st`).
    pub(super) fn advances_acc(&self) -> bool {
        if self.spad_only { self.run.inc_acc_addr } else { self.addrs_dc.c != 0 }
    }

    /// The paddings, as wide as a block's row index.
    pub(super) fn pads(&self, geometry: &Geometry) -> Pads {
        let cut = |pad: u16| pad & (geometry.dim as u16 - 1);
        Pads { i: cut(self.bounds.pad_i), j: cut(self.bounds.pad_j), k: cut(self.bounds.pad_k) }
    }
}

/// Elements missing in the last block of each dimension.
pub(super) struct Pads {
    pub i: u16,
    pub j: u16,
    pub k: u16,
}
