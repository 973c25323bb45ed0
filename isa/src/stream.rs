//! A command stream: what a host presents to the accelerator, in order.

use crate::RoccCommand;

/// One item of a command stream.
///
/// Models without time only see the commands and the writes; the cycle-level emulator's host also keeps fences and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// A RoCC command of opcode custom-3.
    Command(RoccCommand),
    /// Hold back everything behind until the accelerator is idle.
    Fence,
    /// Present no command for this many cycles.
    Wait(u64),
    /// The processor writes these bytes to memory; takes no cycle.
    Write {
        /// First byte's address.
        address: u64,
        /// Contents in ascending address order.
        bytes: Vec<u8>,
    },
    /// An operation begins here; names a row of per-operation reports and has no effect.
    Mark(String),
}

impl StreamItem {
    /// The command, if the item is one.
    pub fn command(&self) -> Option<&RoccCommand> {
        match self {
            StreamItem::Command(cmd) => Some(cmd),
            _ => None,
        }
    }
}
