//! Multiply-accumulates of the commands that the execute controller receives.

use pollux_isa::config::Dataflow;
use pollux_isa::values::DataflowMode;
use pollux_isa::{AddressLayout, Command, GemminiConfig, RoccCommand};

/// Follows the execute commands in the order in which they are issued, which is program order.
#[derive(Clone, Debug)]
pub struct MacCounter {
    config: GemminiConfig,
    layout: AddressLayout,
    issued: Issued,
}

/// What the execute commands issued so far mean for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub dataflow: DataflowMode,
    /// Columns of the destination of the preload before.
    pub c_cols: u16,
}

impl MacCounter {
    /// A counter after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        let dataflow = if config.dataflow == Dataflow::Ws { DataflowMode::Ws } else { DataflowMode::Os };
        Self { layout: config.layout(), config: config.clone(), issued: Issued { dataflow, c_cols: 0 } }
    }

    pub(crate) fn issued(&self) -> Issued {
        self.issued
    }

    /// Goes on behind other commands.
    pub(crate) fn resume(&mut self, issued: Issued) {
        self.issued = issued;
    }

    /// Multiply-accumulates of the next execute command: for a compute rows of A times columns of A times columns of the
    /// product. Padding and operands at the garbage address count nothing.
    pub fn issue(&mut self, command: RoccCommand) -> u64 {
        match Command::from_rocc(&self.config, command) {
            Some(Command::ConfigEx(f)) if !f.set_only_strides && self.config.dataflow == Dataflow::Both => {
                self.issued.dataflow = f.dataflow;
            }
            Some(Command::Preload(f)) => self.issued.c_cols = f.c_cols,
            Some(Command::ComputePreloaded(f) | Command::ComputeAccumulated(f)) => {
                let columns = match self.issued.dataflow {
                    DataflowMode::Ws => self.issued.c_cols,
                    DataflowMode::Os if f.bd.is_garbage(self.layout) => 0,
                    DataflowMode::Os => f.bd_cols,
                };
                if !f.a.is_garbage(self.layout) {
                    return u64::from(f.a_rows) * u64::from(f.a_cols) * u64::from(columns);
                }
            }
            _ => {}
        }
        0
    }
}
