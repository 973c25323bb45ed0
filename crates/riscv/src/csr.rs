//! Control and status registers of machine mode (volume II), as far as Rocket has them without virtual memory.

use std::borrow::Cow;

use crate::float::{Flags, Rounding};

/// `mstatus.MIE`.
const MIE: u64 = 1 << 3;
/// `mstatus.MPIE`.
const MPIE: u64 = 1 << 7;
/// `mstatus.MPP`: always machine mode.
const MPP: u64 = 3 << 11;
/// `mstatus.FS` and `XS`: state of the float unit and of the accelerator; 0 is off.
const FS: u64 = 3 << 13;
const XS: u64 = 3 << 15;
/// `mstatus.SD`: FS or XS is dirty.
const SD: u64 = 1 << 63;

/// Bits of `mstatus` that software can write.
const MSTATUS_WRITABLE: u64 = MIE | MPIE | FS | XS;

/// RV64 with the extensions A, C, D, F, I, M and non-standard ones (X: the accelerator).
const MISA: u64 = 2 << 62 | 1 << 23 | 1 << 12 | 1 << 8 | 1 << 5 | 1 << 3 | 1 << 2 | 1;

/// Numbers and names.
const NAMES: &[(u16, &str)] = &[
    (0x001, "fflags"),
    (0x002, "frm"),
    (0x003, "fcsr"),
    (0x300, "mstatus"),
    (0x301, "misa"),
    (0x304, "mie"),
    (0x305, "mtvec"),
    (0x306, "mcounteren"),
    (0x320, "mcountinhibit"),
    (0x340, "mscratch"),
    (0x341, "mepc"),
    (0x342, "mcause"),
    (0x343, "mtval"),
    (0x344, "mip"),
    (0xb00, "mcycle"),
    (0xb02, "minstret"),
    (0xc00, "cycle"),
    (0xc01, "time"),
    (0xc02, "instret"),
    (0xf11, "mvendorid"),
    (0xf12, "marchid"),
    (0xf13, "mimpid"),
    (0xf14, "mhartid"),
];

/// The register's name; registers that this core lacks are called by their number.
pub fn name(number: u16) -> Cow<'static, str> {
    let known = NAMES.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| Cow::Owned(format!("{number:#x}")), |(_, name)| Cow::Borrowed(*name))
}

/// The register does not exist, or must not be accessed so: the instruction is illegal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchRegister;

/// The control and status registers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Csrs {
    mstatus: u64,
    /// Where exceptions go; 0 if software has not set it.
    pub mtvec: u64,
    mscratch: u64,
    /// Address of the instruction that raised the last exception.
    pub mepc: u64,
    /// Cause of the last exception.
    pub mcause: u64,
    /// Address or word of the last exception.
    pub mtval: u64,
    mie: u64,
    mcounteren: u64,
    /// Rounding mode and flags of floats.
    frm: u8,
    fflags: Flags,
    /// Number of this core.
    pub mhartid: u64,
    /// Executed instructions.
    pub instret: u64,
    /// What software has added to the counters by writing them.
    cycle_offset: u64,
    instret_offset: u64,
    pmp: [u64; 16],
}

impl Csrs {
    /// Whether float instructions are allowed.
    #[inline]
    pub const fn float_is_on(&self) -> bool {
        self.mstatus & FS != 0
    }

    /// Whether commands to the accelerator are allowed.
    #[inline]
    pub const fn accelerator_is_on(&self) -> bool {
        self.mstatus & XS != 0
    }

    /// Float state changes.
    #[inline]
    pub(crate) const fn dirty_float(&mut self) {
        self.mstatus |= FS;
    }

    /// Raises float flags.
    #[inline]
    pub(crate) const fn raise(&mut self, flags: Flags) {
        self.fflags |= flags;
    }

    /// The float flags raised so far.
    #[inline]
    pub(crate) const fn raised(&self) -> Flags {
        self.fflags
    }

    /// The rounding mode of an instruction whose field says `rm`; nothing if that is reserved.
    #[inline]
    pub(crate) const fn rounding(&self, rm: u8) -> Option<Rounding> {
        Rounding::from_bits(if rm == DYNAMIC { self.frm } else { rm })
    }

    /// Enters an exception's handler; its address.
    pub(crate) fn enter(&mut self, pc: u64, cause: u64, value: u64) -> u64 {
        (self.mepc, self.mcause, self.mtval) = (pc, cause, value);
        let enabled = self.mstatus & MIE != 0;
        self.mstatus = self.mstatus & !(MIE | MPIE) | if enabled { MPIE } else { 0 };
        self.mtvec & !3
    }

    /// Returns from a handler; the address to go on at.
    pub(crate) fn leave(&mut self) -> u64 {
        let enabled = self.mstatus & MPIE != 0;
        self.mstatus = self.mstatus & !MIE | MPIE | if enabled { MIE } else { 0 };
        self.mepc
    }

    /// Reads a register; `cycle` is the clock.
    ///
    /// # Errors
    /// The register does not exist.
    pub fn read(&self, number: u16, cycle: u64) -> Result<u64, NoSuchRegister> {
        Ok(match number {
            0x001..=0x003 if !self.float_is_on() => return Err(NoSuchRegister),
            0x001 => self.fflags.into(),
            0x002 => self.frm.into(),
            0x003 => (self.frm << 5 | self.fflags).into(),
            0x300 => self.mstatus | MPP | if self.mstatus & FS == FS || self.mstatus & XS == XS { SD } else { 0 },
            0x301 => MISA,
            0x304 => self.mie,
            0x305 => self.mtvec,
            0x306 => self.mcounteren,
            0x340 => self.mscratch,
            0x341 => self.mepc,
            0x342 => self.mcause,
            0x343 => self.mtval,
            // Nothing interrupts; mcountinhibit and the event counters count nothing.
            0x344 | 0x320..=0x33f | 0xb03..=0xb1f | 0xc03..=0xc1f => 0,
            0x3a0 | 0x3a2 => 0,
            0x3b0..=0x3bf => self.pmp[usize::from(number - 0x3b0)],
            0xb00 | 0xc00 | 0xc01 => cycle.wrapping_add(self.cycle_offset),
            0xb02 | 0xc02 => self.instret.wrapping_add(self.instret_offset),
            0xf11..=0xf13 => 0,
            0xf14 => self.mhartid,
            _ => return Err(NoSuchRegister),
        })
    }

    /// Writes a register, as far as it can be written.
    ///
    /// # Errors
    /// The register does not exist or is for reading only.
    pub fn write(&mut self, number: u16, value: u64, cycle: u64) -> Result<(), NoSuchRegister> {
        match number {
            0x001..=0x003 if !self.float_is_on() => return Err(NoSuchRegister),
            0x001..=0x003 => self.write_float(number, value),
            0x300 => self.mstatus = value & MSTATUS_WRITABLE,
            0x304 => self.mie = value,
            // Vectored mode only matters to interrupts.
            0x305 => self.mtvec = value & !2,
            0x306 => self.mcounteren = value,
            0x340 => self.mscratch = value,
            0x341 => self.mepc = value & !1,
            0x342 => self.mcause = value,
            0x343 => self.mtval = value,
            0x301 | 0x344 | 0x320..=0x33f | 0xb03..=0xb1f | 0x3a0 | 0x3a2 => {}
            0x3b0..=0x3bf => self.pmp[usize::from(number - 0x3b0)] = value & ((1 << 54) - 1),
            0xb00 => self.cycle_offset = value.wrapping_sub(cycle),
            // The instruction that writes is not counted any more: the next one reads what was written.
            0xb02 => self.instret_offset = value.wrapping_sub(self.instret + 1),
            _ => return Err(NoSuchRegister),
        }
        Ok(())
    }

    fn write_float(&mut self, number: u16, value: u64) {
        self.dirty_float();
        let value = value as u8;
        if number != 0x002 {
            self.fflags = value & 0x1f;
        }
        match number {
            0x002 => self.frm = value & 7,
            0x003 => self.frm = value >> 5,
            _ => {}
        }
    }
}

/// The rounding mode field that stands for `frm`.
const DYNAMIC: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_cannot_be_written_keep_their_values() {
        let mut csrs = Csrs::default();
        csrs.write(0x300, u64::MAX, 0).expect("mstatus");
        assert_eq!(csrs.read(0x300, 0), Ok(MSTATUS_WRITABLE | MPP | SD));
        csrs.write(0x300, 0, 0).expect("mstatus");
        assert_eq!(csrs.read(0x300, 0), Ok(MPP));
        csrs.write(0x301, 0, 0).expect("misa");
        assert_eq!(csrs.read(0x301, 0), Ok(MISA));
        for read_only in [0xc00, 0xc02, 0xf14] {
            assert_eq!(csrs.write(read_only, 1, 0), Err(NoSuchRegister));
        }
        assert_eq!(csrs.read(0x180, 0), Err(NoSuchRegister), "satp: there is no supervisor mode");
    }

    #[test]
    fn counters_go_on_from_what_is_written() {
        let mut csrs = Csrs { instret: 100, ..Csrs::default() };
        csrs.write(0xb00, 7, 1000).expect("mcycle");
        csrs.write(0xb02, 7, 1000).expect("minstret");
        csrs.instret += 1;
        assert_eq!((csrs.read(0xc00, 1005), csrs.read(0xc02, 1005)), (Ok(12), Ok(7)));
    }

    #[test]
    fn floats_have_registers_only_while_they_are_on() {
        let mut csrs = Csrs::default();
        assert_eq!(csrs.write(0x003, 0xff, 0), Err(NoSuchRegister));
        csrs.write(0x300, 1 << 13, 0).expect("mstatus");
        csrs.write(0x003, 0xff, 0).expect("fcsr");
        assert_eq!((csrs.read(0x001, 0), csrs.read(0x002, 0), csrs.read(0x003, 0)), (Ok(0x1f), Ok(7), Ok(0xff)));
        assert_eq!(csrs.rounding(DYNAMIC), None, "7 is reserved");
        assert_eq!(csrs.read(0x300, 0).map(|mstatus| mstatus & (SD | FS)), Ok(SD | FS), "dirty");
    }

    #[test]
    fn a_handler_is_entered_and_left() {
        let mut csrs = Csrs::default();
        csrs.write(0x300, MIE, 0).expect("mstatus");
        csrs.write(0x305, 0x8000_0103, 0).expect("mtvec");
        assert_eq!(csrs.enter(0x1234, 2, 5), 0x8000_0100);
        assert_eq!((csrs.mepc, csrs.mcause, csrs.mtval), (0x1234, 2, 5));
        assert_eq!(csrs.read(0x300, 0), Ok(MPIE | MPP));
        assert_eq!(csrs.leave(), 0x1234);
        assert_eq!(csrs.read(0x300, 0), Ok(MIE | MPIE | MPP));
    }
}
