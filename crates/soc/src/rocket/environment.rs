//! What the core is connected to besides its port to the L2.

use pollux_riscv::Bus;

/// Memory's bytes, the accelerator's command queue, the host.
pub trait Environment: Bus {
    /// The word at an address from which instructions are fetched.
    fn fetch_word(&mut self, address: u64) -> u32;

    /// The command queue has room.
    fn rocc_ready(&self) -> bool;

    /// The accelerator, or the way to it, is busy.
    fn rocc_busy(&self) -> bool;

    /// A result of the accelerator waits.
    fn has_rocc_result(&self) -> bool;

    /// A result of the accelerator for a register, taken now.
    fn rocc_result(&mut self) -> Option<(u8, u64)>;

    /// An access touches the words by which the program talks to the host.
    fn is_host_word(&self, address: u64, bytes: u64) -> bool;

    /// The cycle of what is executed next.
    fn set_cycle(&mut self, cycle: u64);
}
