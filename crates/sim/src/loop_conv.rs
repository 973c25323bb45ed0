//! The convolution unroller (`LoopConv.scala`): for now its input queue and the path of ordinary commands.

use pollux_isa::GemminiConfig;

use crate::queue::Queue;
use crate::reservation_station::PerUnit;
use crate::wires::GemminiCmd;

/// What moves through the unroller's output in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopConvTransfer {
    /// The command handed to the matmul unroller.
    pub out: Option<GemminiCmd>,
}

/// The unroller; see the module.
#[derive(Clone, Debug)]
pub struct LoopConv {
    input: Queue<GemminiCmd>,
}

impl LoopConv {
    /// The unroller after reset.
    pub fn new(_config: &GemminiConfig) -> Self {
        Self { input: Queue::plain(2) }
    }

    /// `in.ready`.
    pub fn in_ready(&self) -> bool {
        self.input.enq_ready(false)
    }

    /// `io.busy`.
    pub fn busy(&self) -> bool {
        !self.input.is_empty()
    }

    pub(crate) fn transfer(&self, out_ready: bool) -> LoopConvTransfer {
        LoopConvTransfer { out: self.input.front().filter(|_| out_ready).copied() }
    }

    pub(crate) fn tick(
        &mut self,
        input: Option<GemminiCmd>,
        transfer: &LoopConvTransfer,
        _departed: PerUnit<u8>,
    ) -> bool {
        if transfer.out.is_some() {
            self.input.pop();
        }
        if let Some(cmd) = input {
            self.input.push(cmd);
        }
        transfer.out.is_some() || input.is_some()
    }

    /// What the unroller waits for, if it is not idle.
    pub fn waiting_for(&self) -> Option<String> {
        self.busy().then(|| "room in the matmul unroller's queue".to_owned())
    }
}
