//! The memory port of the golden bench (`golden/README.md`, "The bench").

use pollux_memory::Memory;

use super::{MemorySystem, ReplayableMemory, ResponseQueue};
use crate::observation::event::Cycle;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::values::{Full, Timing, Values};
use crate::port::tilelink::{ABeat, DBeat};

/// Directives of a golden program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchParameters {
    /// Cycles from the last beat of a request to the first beat of its response (`latency`).
    pub latency: u64,
    /// Channel A is ready in every cycle that is a multiple of this (`a_period`).
    pub a_period: u64,
    /// A beat on channel D is first offered in a cycle that is a multiple of this (`d_period`).
    pub d_period: u64,
}

impl Default for BenchParameters {
    fn default() -> Self {
        Self { latency: 40, a_period: 1, d_period: 1 }
    }
}

/// Fixed latency, responses strictly in the order in which the requests were completed.
#[derive(Clone, Debug, Canonical)]
pub struct BenchMemory<V: Values = Full> {
    #[canon(skip = "constant")]
    latency: u64,
    #[canon(via = Canon::period)]
    a_period: u64,
    queue: ResponseQueue<V>,
}

impl BenchMemory {
    /// A port of `beat_bytes` wide beats onto `memory`.
    pub fn new(parameters: BenchParameters, beat_bytes: usize, memory: Memory) -> Self {
        Self::with_values(parameters, beat_bytes, memory)
    }
}

impl<V: Values> BenchMemory<V> {
    /// [`BenchMemory::new`], for a machine with these values.
    pub fn with_values(parameters: BenchParameters, beat_bytes: usize, memory: Memory) -> Self {
        Self {
            latency: parameters.latency,
            a_period: parameters.a_period.max(1),
            queue: ResponseQueue::new(memory, beat_bytes, parameters.d_period),
        }
    }
}

impl ReplayableMemory for BenchMemory<Timing> {
    fn shift(&mut self, from: Cycle, to: Cycle) {
        self.queue.shift(from, to);
    }
}

impl<V: Values> MemorySystem<V> for BenchMemory<V> {
    fn a_ready(&self, cycle: Cycle) -> bool {
        self.a_period == 1 || cycle.is_multiple_of(self.a_period)
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat<V>) {
        if let Some(mut response) = self.queue.perform(beat) {
            response.ready = cycle.saturating_add(self.latency);
            self.queue.push(response);
        }
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat<V>> {
        self.queue.front(cycle)
    }

    fn take_d(&mut self, cycle: Cycle) {
        self.queue.take(cycle);
    }

    fn next_event(&self, cycle: Cycle, a_valid: bool) -> Option<Cycle> {
        let d = self.queue.next_event(cycle);
        let a = (a_valid && self.a_period != 1)
            .then(|| (cycle + 1).checked_next_multiple_of(self.a_period).unwrap_or(Cycle::MAX));
        d.into_iter().chain(a).min()
    }

    fn busy(&self) -> bool {
        !self.queue.responses.is_empty()
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

    fn get(source: u16, size: u32) -> ABeat {
        let data = [0; MAX_BEAT_BYTES];
        ABeat { kind: ReqKind::Get, source, address: 0x100, size, beat: 0, last: true, mask: 0xffff, data }
    }

    /// Cycles in which the beats of two 64-byte reads, accepted in cycles 0 and 1, are taken.
    fn taken_at(parameters: BenchParameters) -> Vec<Cycle> {
        let mut memory = BenchMemory::new(parameters, 16, Memory::new());
        memory.accept(0, &get(0, 64));
        memory.accept(1, &get(1, 64));
        let mut cycles = Vec::new();
        for cycle in 1..100 {
            if memory.d_front(cycle).is_some() {
                memory.take_d(cycle);
                cycles.push(cycle);
            }
        }
        assert!(!memory.busy());
        cycles
    }

    #[test]
    fn beats_follow_back_to_back_after_the_latency() {
        let parameters = BenchParameters { latency: 10, ..BenchParameters::default() };
        assert_eq!(taken_at(parameters), (10..18).collect::<Vec<_>>());
    }

    #[test]
    fn with_a_response_period_each_beat_waits_for_its_cycle() {
        let parameters = BenchParameters { latency: 10, d_period: 3, ..BenchParameters::default() };
        assert_eq!(taken_at(parameters), [12, 15, 18, 21, 24, 27, 30, 33]);
    }

    #[test]
    fn a_response_that_is_not_taken_stays_offered() {
        let parameters = BenchParameters { latency: 2, d_period: 5, ..BenchParameters::default() };
        let mut memory = BenchMemory::new(parameters, 16, Memory::new());
        memory.accept(0, &get(7, 16));
        assert_eq!(memory.next_event(0, true), Some(5));
        assert!(memory.d_front(4).is_none());
        assert!(memory.d_front(5).is_some() && memory.d_front(6).is_some_and(|d| d.source == 7 && d.last));
    }

    #[test]
    fn a_masked_write_is_read_back_by_a_later_request_only() {
        let mut memory = BenchMemory::new(BenchParameters::default(), 16, Memory::new());
        memory.accept(0, &get(1, 16));
        let put = ABeat { kind: ReqKind::PutPartial, mask: 0b110, data: [9; MAX_BEAT_BYTES], ..get(0, 16) };
        memory.accept(1, &put);
        memory.accept(2, &get(2, 16));
        let beats: Vec<DBeat> = (0..3)
            .filter_map(|i| {
                let beat = memory.d_front(50 + i);
                memory.take_d(50 + i);
                beat
            })
            .collect();
        assert_eq!(beats[0].data[..4], [0, 0, 0, 0]);
        assert!(beats[1].ack);
        assert_eq!(beats[2].data[..4], [0, 9, 9, 0]);
    }
}
