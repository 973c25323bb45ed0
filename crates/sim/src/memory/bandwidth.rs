//! A memory with latency, bandwidth and a bound on outstanding requests.

use pollux_memory::Memory;

use super::{MemorySystem, ReplayableMemory, ResponseQueue};
use crate::observation::event::Cycle;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::values::{Full, Timing, Values};
use crate::port::tilelink::{ABeat, DBeat};

/// Parameters of [`BandwidthMemory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandwidthParameters {
    /// Cycles from a request's last beat to its response, if nothing is in the way.
    pub latency: u64,
    /// Bandwidth of reads and writes together: so many bytes ...
    pub bytes: u64,
    /// ... in so many cycles.
    pub cycles: u64,
    /// Requests accepted before the first of them is answered.
    pub outstanding: u64,
}

/// 16 bytes a cycle behind a latency of 40 cycles.
impl Default for BandwidthParameters {
    fn default() -> Self {
        Self { latency: 40, bytes: 16, cycles: 1, outstanding: 16 }
    }
}

/// Requests are served in order. A transfer of n bytes occupies the memory for n / bandwidth cycles, and is answered
/// when it is over, but not before the latency has passed.
#[derive(Clone, Debug)]
pub struct BandwidthMemory<V: Values = Full> {
    parameters: BandwidthParameters,
    queue: ResponseQueue<V>,
    outstanding: u64,
    /// A burst of writes is being accepted.
    in_burst: bool,
    /// When the transfers accepted so far are over, in 1 / `bytes` cycles.
    busy_until: u128,
}

impl BandwidthMemory {
    /// A port of `beat_bytes` wide beats onto `memory`. Zero bandwidth or no outstanding request count as 1.
    pub fn new(parameters: BandwidthParameters, beat_bytes: usize, memory: Memory) -> Self {
        Self::with_values(parameters, beat_bytes, memory)
    }
}

/// The channel's time is counted in parts of a cycle.
impl<V: Values> Canonical for BandwidthMemory<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { parameters, queue, outstanding, in_burst, busy_until } = self;
        queue.canonical(canon);
        outstanding.canonical(canon);
        in_burst.canonical(canon);
        let now = u128::from(canon.now()) * u128::from(parameters.bytes);
        canon.word(u64::try_from(busy_until.saturating_sub(now)).unwrap_or(u64::MAX));
    }
}

impl ReplayableMemory for BandwidthMemory<Timing> {
    fn shift(&mut self, from: Cycle, to: Cycle) {
        self.queue.shift(from, to);
        let parts = |cycle: Cycle| u128::from(cycle) * u128::from(self.parameters.bytes);
        self.busy_until = self.busy_until.saturating_sub(parts(from)) + parts(to);
    }
}

impl<V: Values> BandwidthMemory<V> {
    /// [`BandwidthMemory::new`], for a machine with these values.
    pub fn with_values(parameters: BandwidthParameters, beat_bytes: usize, memory: Memory) -> Self {
        let parameters = BandwidthParameters {
            bytes: parameters.bytes.max(1),
            cycles: parameters.cycles.max(1),
            outstanding: parameters.outstanding.max(1),
            ..parameters
        };
        let queue = ResponseQueue::new(memory, beat_bytes, 1);
        Self { parameters, queue, outstanding: 0, in_burst: false, busy_until: 0 }
    }
}

impl<V: Values> MemorySystem<V> for BandwidthMemory<V> {
    fn a_ready(&self, _: Cycle) -> bool {
        self.in_burst || self.outstanding < self.parameters.outstanding
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        self.outstanding += u64::from(beat.beat == 0);
        self.in_burst = !beat.last;
        let Some(mut response) = self.queue.perform(beat) else {
            return;
        };
        let BandwidthParameters { latency, bytes, cycles, .. } = self.parameters;
        let (accepted, transfer) = (u128::from(cycle) * u128::from(bytes), u128::from(beat.size) * u128::from(cycles));
        self.busy_until = self.busy_until.max(accepted).saturating_add(transfer);
        let over = Cycle::try_from(self.busy_until.div_ceil(bytes.into())).unwrap_or(Cycle::MAX);
        response.ready = cycle.saturating_add(latency).max(over);
        self.queue.push(response);
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        self.queue.front(cycle)
    }

    fn take_d(&mut self, cycle: Cycle) {
        self.outstanding -= u64::from(self.queue.take(cycle));
    }

    fn next_event(&self, cycle: Cycle, _: bool) -> Option<Cycle> {
        self.queue.next_event(cycle)
    }

    fn busy(&self) -> bool {
        self.outstanding != 0
    }

    fn memory(&self) -> &Memory {
        &self.queue.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.queue.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::event::ReqKind;
    use crate::port::tilelink::MAX_BEAT_BYTES;

    fn get(source: u16) -> ABeat {
        let data = [0; MAX_BEAT_BYTES];
        ABeat { kind: ReqKind::Get, source, address: 0, size: 64, beat: 0, last: true, mask: 0xffff, data }
    }

    /// Cycles of the last beats of `n` reads of 64 bytes, sent as soon as they are accepted.
    fn finished_at(parameters: BandwidthParameters, n: u16) -> Vec<Cycle> {
        let mut memory = BandwidthMemory::new(parameters, 16, Memory::new());
        let (mut sent, mut finished) = (0, Vec::new());
        for cycle in 0..10_000 {
            let (ready, beat) = (memory.a_ready(cycle), memory.d_front(cycle));
            if ready && sent < n {
                memory.accept(cycle, &get(sent));
                sent += 1;
            }
            if let Some(beat) = beat {
                memory.take_d(cycle);
                finished.extend(beat.last.then_some(cycle));
            }
        }
        finished
    }

    #[test]
    fn bandwidth_spaces_the_responses() {
        let parameters = BandwidthParameters { latency: 20, bytes: 32, cycles: 5, outstanding: 16 };
        assert_eq!(finished_at(parameters, 4), [23, 27, 33, 43]);
    }

    #[test]
    fn one_outstanding_request_pays_the_latency_each_time() {
        let parameters = BandwidthParameters { latency: 20, bytes: 64, cycles: 1, outstanding: 1 };
        assert_eq!(finished_at(parameters, 3), [23, 47, 71]);
    }
}
