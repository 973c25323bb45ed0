//! What a core is connected to: memory, the accelerator's command port, and time.

use pollux_isa::{RoccCommand, RoccInstruction};

/// No memory is at an address, or it does not allow the access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessFault;

/// No accelerator takes commands of this opcode: the instruction is illegal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAccelerator;

/// What a core is connected to.
///
/// The core calls these functions while it executes an instruction. Accesses have 1, 2, 4 or 8 bytes, are little-endian,
/// and are aligned unless the core allows others.
pub trait Bus {
    /// The bytes from `address` on, zero-extended.
    ///
    /// # Errors
    /// No memory is there.
    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, AccessFault>;

    /// Writes the low bytes of `value`.
    ///
    /// # Errors
    /// No memory is there; nothing is written.
    fn store(&mut self, address: u64, bytes: u64, value: u64) -> Result<(), AccessFault>;

    /// Half an instruction word.
    ///
    /// # Errors
    /// No memory is there.
    fn fetch(&mut self, address: u64) -> Result<u16, AccessFault> {
        self.load(address, 2).map(|half| half as u16)
    }

    /// A command with the values of its registers. The result for `rd` if the command has one (`xd`) and it is known now;
    /// one that comes later is written with [`crate::Hart::set_x`].
    ///
    /// # Errors
    /// Nothing is at the port of this opcode.
    fn rocc(&mut self, instruction: RoccInstruction, command: RoccCommand) -> Result<Option<u64>, NoAccelerator>;

    /// `fence`: everything before it, the accelerator's commands included, is done before what follows.
    fn fence(&mut self);

    /// The clock, for the counters `cycle` and `mcycle`. Without time an instruction takes a cycle.
    fn cycle(&self, instret: u64) -> u64 {
        instret
    }

    /// Whether the core should stop behind this instruction, e.g. because the program has ended.
    #[inline]
    fn wants_stop(&self) -> bool {
        false
    }
}
