//! Blocks that stay what they are: their last clock edge changed nothing, and their inputs are the same.

use crate::front_end::reservation_station::Departures;
use crate::front_end::{FrontEnd, FrontInputs};
use crate::observation::event::EventBuffer;
use crate::parts::wires::{PerUnit, UNITS};
use crate::port::frontend_tlb::{CLIENTS, FrontendTlb, TlbRequest, TlbWires};

/// What is known about the translation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SettledTlb {
    /// The wires are those of the cycle before, and stay so as long as the requests do and nothing is flushed.
    pub settled: bool,
    /// The last clock edge changed nothing of the client's registers, and none of the TLB proper's.
    unchanged: [bool; CLIENTS],
}

impl SettledTlb {
    /// [`FrontendTlb::tick`].
    #[inline]
    pub fn tick(
        &mut self,
        tlb: &mut FrontendTlb,
        wires: &TlbWires,
        requests: &[TlbRequest; CLIENTS],
        flush: bool,
        read: impl Fn(u64) -> u64,
    ) -> bool {
        self.settled = false;
        if wires.access.is_some() || flush {
            self.unchanged = [false; CLIENTS];
            return tlb.tick(wires, requests, flush, read);
        }
        // The same request as before on registers that did not change then changes nothing now.
        self.settled = true;
        let mut changed = false;
        for (i, request) in requests.iter().enumerate() {
            if !self.unchanged[i] || tlb.request(i) != request {
                self.settled = false;
                self.unchanged[i] = !tlb.tick_client(i, request, None, false);
                changed |= !self.unchanged[i];
            }
        }
        changed
    }
}

/// What is known about the front end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SettledFrontEnd {
    /// The last clock edge changed nothing, so neither does the next unless an input does.
    settled: bool,
    /// Nothing moved in front of the dispatch at the last clock edge, when the unrolled queue was ready or not: so nothing will, as long
    /// as it is the same, no command is accepted and none departs from the station.
    stream_rests: Option<bool>,
}

impl SettledFrontEnd {
    /// Nothing moves, and will not unless a controller that is not `ready` now becomes so, a command completes, or a command is
    /// presented and accepted; and nobody looks at the counters' lines.
    #[inline]
    pub fn rests(&self, front: &FrontEnd, ready: PerUnit<bool>) -> bool {
        let issues = UNITS.into_iter().any(|unit| ready[unit as usize] && front.issue_valid(unit));
        self.settled && !front.reads_counters() && !issues
    }

    /// [`FrontEnd::tick`].
    #[inline]
    pub fn tick(&mut self, front: &mut FrontEnd, inputs: &FrontInputs<'_>, events: &mut EventBuffer) -> bool {
        let (issued, accepted) = (front.issued(inputs), front.accepted(inputs));
        if self.settled && accepted.is_none() && inputs.completed.is_none() && issued == [false; 3] {
            front.skip(1, inputs.counters);
            return false;
        }
        let out_ready = front.unrolled.enq_ready(false);
        let (mut progress, departures) = front.tick_station(issued, inputs, events);
        let disturbed = accepted.is_some() || departures != Departures::default();
        if disturbed || self.stream_rests != Some(out_ready) {
            let moved = front.tick_stream(accepted, out_ready, &departures);
            self.stream_rests = if moved { None } else { Some(out_ready) };
            progress |= moved;
        }
        self.settled = !progress;
        progress
    }
}
