//! Commands in the form in which they matter to time.

use pollux_isa::{GemminiConfig, RoccCommand};

/// How commands are brought to the form in which they matter to time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// Bits of the identity scale of loads.
    pub identity: Option<u32>,
    /// Bytes of the largest request.
    pub request: u64,
}

impl Names {
    pub fn of(config: &GemminiConfig) -> Self {
        Self {
            identity: config.mvin_scale_args.as_ref().map(|args| args.identity.to_bits()),
            request: u64::from(config.dma_maxbytes.max(config.beat_bytes())).next_power_of_two(),
        }
    }
}

/// The command as it matters to time, with operands that `place` gives their addresses. A zero is no address.
pub(super) fn without_places(cmd: &RoccCommand, names: Names, mut place: impl FnMut(u64) -> u64) -> RoccCommand {
    let mut cmd = cmd.without_values(names.identity);
    let [first, second] = cmd.dram_registers();
    if first && cmd.rs1 != 0 {
        cmd.rs1 = place(cmd.rs1);
    }
    if second && cmd.rs2 != 0 {
        cmd.rs2 = place(cmd.rs2);
    }
    cmd
}
