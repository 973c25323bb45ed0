//! Exceptions of the core.

use std::fmt;

use thiserror::Error;

/// Why an instruction could not be executed (`mcause` of volume II, table of exceptions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The instruction is in no memory.
    FetchAccess = 1,
    /// The word is no instruction, or one that this core does not allow here.
    Illegal = 2,
    /// `ebreak`.
    Breakpoint = 3,
    /// A load from an address that is no multiple of its size.
    LoadMisaligned = 4,
    /// A load from where no memory is.
    LoadAccess = 5,
    /// A store or atomic access to an address that is no multiple of its size.
    StoreMisaligned = 6,
    /// A store or atomic access to where no memory is.
    StoreAccess = 7,
    /// `ecall` in machine mode.
    Call = 11,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::FetchAccess => "instruction access fault",
            Cause::Illegal => "illegal instruction",
            Cause::Breakpoint => "breakpoint",
            Cause::LoadMisaligned => "misaligned load",
            Cause::LoadAccess => "load access fault",
            Cause::StoreMisaligned => "misaligned store",
            Cause::StoreAccess => "store access fault",
            Cause::Call => "environment call",
        })
    }
}

/// An exception: what an instruction raised instead of being executed. Registers are as before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{cause} at pc {pc:#x} ({what} {value:#x})", what = .cause.value_name())]
pub struct Trap {
    /// Address of the instruction.
    pub pc: u64,
    /// Cause.
    pub cause: Cause,
    /// `mtval`: the address of an access, the word of an illegal instruction, otherwise 0.
    pub value: u64,
}

impl Cause {
    /// What `mtval` holds.
    const fn value_name(self) -> &'static str {
        match self {
            Cause::Illegal => "word",
            Cause::Call | Cause::Breakpoint => "value",
            _ => "address",
        }
    }
}

/// An exception before the core has added where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exception {
    pub cause: Cause,
    pub value: u64,
}

impl Exception {
    pub const fn new(cause: Cause, value: u64) -> Self {
        Self { cause, value }
    }
}
