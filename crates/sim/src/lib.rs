//! The cycle-level emulator: every block of Gemmini as registers and queues, clocked together.
//!
//! One file and one struct a hardware block, with the hardware's own name. Read in the order in
//! which a command and its data flow.

pub mod event;
pub mod queue;
pub mod row;
pub mod wires;
