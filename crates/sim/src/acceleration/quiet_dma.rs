//! The DMA side of the local memories (all but banks and their outputs) while nothing is inside it.
//!
//! When its last clock edge changed nothing, and translation gives the same answers, its wires are those of the cycle before; only
//! the execute controller's bank writes and the banks' outputs are driven. The same for its way to main memory alone.

use crate::memories::scratchpad::Scratchpad;
use crate::memories::scratchpad::wires::{ScratchpadInputs, ScratchpadWires};
use crate::observation::event::EventBuffer;
use crate::parts::banks::BankSet;
use crate::parts::values::Values;
use crate::parts::wires::{ExReads, ExWrite};
use crate::port::frontend_tlb::{TLB_READER, TLB_WRITER, TlbResponse};
use crate::port::tilelink::DmaClient;

/// What is known about the DMA side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QuietDma {
    /// Its wires in this cycle are those of the cycle before: nothing is inside.
    pub rests: bool,
    /// It is empty, and its last clock edge changed nothing.
    quiet: bool,
    /// So is its way to main memory.
    writes_quiet: bool,
    /// Its wires have been driven since it is quiet.
    driven: bool,
    /// So have those of its way to main memory.
    writes_driven: bool,
}

impl QuietDma {
    /// Nothing is inside the DMA side.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// [`Scratchpad::wires`], driven where they may change. `deferred` are the banks whose clock edges for the execute controller are
    /// left for later; `tlb_settled` says that the translation answers are those of the cycle before and will not change by
    /// themselves.
    #[allow(clippy::too_many_arguments)] // the inputs of the block's wires, and what is known about them
    #[inline(always)] // has one caller, once a cycle
    pub fn sinks<V: Values>(
        &mut self,
        scratchpad: &Scratchpad<V>,
        ex_write: &ExWrite<V>,
        pops: BankSet,
        deferred: BankSet,
        tlb: &[TlbResponse; 2],
        tlb_settled: bool,
        wires: &mut ScratchpadWires,
    ) {
        let quiet = self.quiet && tlb_settled;
        self.rests = quiet && self.driven;
        self.driven = quiet;
        if self.rests {
            scratchpad.drive_ex_write(ex_write, &mut wires.writes);
        } else {
            if self.writes_quiet && self.writes_driven {
                wires.writer.stay_idle(tlb[TLB_WRITER]);
                wires.tlb_requests[TLB_WRITER] = wires.writer.tlb_request;
            } else {
                scratchpad.drive_writer(tlb[TLB_WRITER], wires);
                self.writes_driven = self.writes_quiet;
            }
            scratchpad.drive_reader(ex_write, tlb[TLB_READER], wires);
        }
        scratchpad.drive_banks(pops, wires);
        wires.outputs.spad &= !deferred;
    }

    /// [`Scratchpad::dispatch`], unless nothing waits for it.
    #[inline]
    pub fn dispatch<V: Values>(&self, scratchpad: &Scratchpad<V>, reads: &ExReads, wires: &mut ScratchpadWires) {
        if !self.writes_driven {
            scratchpad.dispatch(reads, wires);
        }
    }

    /// [`Scratchpad::tick`]. If the execute controller's work is `deferred`, it is not in the inputs, and the accumulator's
    /// clock edge for writes, which nobody else makes, is left with it.
    #[inline]
    #[must_use]
    pub fn tick<V: Values>(
        &mut self,
        scratchpad: &mut Scratchpad<V>,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<'_, V>,
        deferred: bool,
        events: &mut EventBuffer,
    ) -> bool {
        let enters = inputs.load.is_some() || inputs.store.is_some() || inputs.port_d.is_some();
        if !self.rests || enters {
            return self.tick_all(scratchpad, wires, inputs, deferred, events);
        }
        if deferred {
            return false;
        }
        let changed = scratchpad.tick_acc_reads(wires, inputs.reads, None, events)
            | scratchpad.tick_acc_writes(wires, inputs.ex_write, events);
        scratchpad.tick_spad_banks(wires, inputs, events) || changed
    }

    #[inline]
    fn tick_all<V: Values>(
        &mut self,
        scratchpad: &mut Scratchpad<V>,
        wires: &ScratchpadWires,
        inputs: &ScratchpadInputs<'_, V>,
        deferred: bool,
        events: &mut EventBuffer,
    ) -> bool {
        let (read, write);
        let mut beats = [None; 2];
        if wires.reader.a_fires {
            read = scratchpad.reader.a_beat(&wires.reader);
            beats[DmaClient::Reader as usize] = Some(&read);
        }
        let (mut dma_changed, mut mvout_read) = (false, None);
        if !self.writes_driven || inputs.store.is_some() {
            if wires.writer.a_fires {
                write = scratchpad.writer.a_beat(&wires.writer);
                beats[DmaClient::Writer as usize] = write.as_ref();
            }
            (dma_changed, mvout_read) = scratchpad.tick_writes(wires, inputs.store, events);
            self.writes_quiet = !dma_changed && scratchpad.mvout.is_idle() && scratchpad.writer.is_quiet();
        }
        let mut changed = scratchpad.tick_acc_reads(wires, inputs.reads, mvout_read, events);
        if !deferred {
            changed |= scratchpad.tick_acc_writes(wires, inputs.ex_write, events);
        }
        changed |= scratchpad.tick_spad_banks(wires, inputs, events);
        dma_changed |= scratchpad.tick_mvin(wires, inputs.load);
        dma_changed |= scratchpad.tick_tilelink(wires, inputs, beats);
        self.quiet = !dma_changed && self.writes_quiet && scratchpad.dma_is_empty();
        changed | dma_changed
    }
}
