//! The sizes of the L2 (`Parameters.scala`, `Configs.scala` of rocket-chip-inclusive-cache).

use crate::uncore::tilelink::LINE_BYTES;

/// Bytes that one bank of the store holds of a line (`writeBytes`, `Configs.scala` line 57), and of a beat to memory.
pub const WORD_BYTES: u64 = 8;
/// Words of a line: also the beats of a line to and from memory.
pub const LINE_WORDS: u32 = (LINE_BYTES / WORD_BYTES) as u32;
/// `portFactor`: how many of the widest port the banks side by side serve (`Configs.scala` line 53).
const PORT_FACTOR: u32 = 4;
/// `memCycles`: the round trip to memory for which resources are provided (`Configs.scala` line 52).
const MEM_CYCLES: usize = 40;
/// Lists of the put buffer of channel C (`Parameters.scala` line 165).
pub const REL_LISTS: usize = 2;

/// What can be chosen about the L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InclusiveCacheParameters {
    /// Capacity in units of 1024 bytes.
    pub kib: u64,
    /// Lines of a set.
    pub ways: u64,
}

/// 512 KiB in 8 ways (`WithInclusiveCache`).
impl Default for InclusiveCacheParameters {
    fn default() -> Self {
        Self { kib: 512, ways: 8 }
    }
}

/// The sizes that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Lines of a set.
    pub ways: usize,
    /// Sets, a power of two.
    pub sets: u64,
    /// Bytes of a beat on the system bus.
    pub beat_bytes: u32,
    /// All MSHRs; the last two serve channels B and C, and C alone.
    pub mshrs: usize,
    /// Requests that wait for an MSHR of their set.
    pub secondary: usize,
    /// Banks of the store.
    pub banks: u32,
}

impl Geometry {
    /// The sizes for a system bus of `beat_bytes`.
    pub fn new(parameters: InclusiveCacheParameters, beat_bytes: u32) -> Self {
        let ways = parameters.ways.max(2);
        let sets = (parameters.kib * 1024 / LINE_BYTES / ways).max(2);
        let sets = if sets.is_power_of_two() { sets } else { sets.next_power_of_two() / 2 };
        // `out_mshrs` (line 294): enough to cover the round trip, and at least two for the directory's latency.
        let blocks = (LINE_BYTES as u32 / beat_bytes).max(1) as usize;
        let mshrs = 2 + MEM_CYCLES.div_ceil(blocks).max(2);
        Self {
            ways: ways as usize,
            sets,
            beat_bytes,
            mshrs,
            secondary: mshrs.max(MEM_CYCLES - mshrs.min(MEM_CYCLES)),
            banks: PORT_FACTOR * beat_bytes.max(WORD_BYTES as u32) / WORD_BYTES as u32,
        }
    }

    /// Beats of a line on the system bus.
    pub fn line_beats(&self) -> u32 {
        (LINE_BYTES as u32 / self.beat_bytes).max(1)
    }

    /// Lists, and beats, of the put buffer of channel A (lines 163 and 164).
    pub fn put_beats(&self) -> usize {
        (2 * self.line_beats() as usize).max(MEM_CYCLES)
    }

    /// Lists of the put buffer of channel A.
    pub fn put_lists(&self) -> usize {
        MEM_CYCLES
    }

    /// Set and tag of a line.
    pub fn split(&self, address: u64) -> (u64, u64) {
        let line = address / LINE_BYTES;
        (line % self.sets, line / self.sets)
    }

    /// The line's address.
    pub fn join(&self, set: u64, tag: u64) -> u64 {
        (tag * self.sets + set) * LINE_BYTES
    }

    /// Banks of `words` (one bit each) of a beat of `words_per_beat` words.
    pub fn bank_mask(&self, set: u64, beat: u32, words_per_beat: u32, words: u8) -> u32 {
        let first = (set as u32).wrapping_mul(LINE_WORDS).wrapping_add(beat * words_per_beat) % self.banks;
        u32::from(words) << first
    }

    /// Words of an inner beat.
    pub fn words(&self) -> u32 {
        (self.beat_bytes / WORD_BYTES as u32).max(1)
    }

    /// `MaskGen` with the granularity of the store: the words of a beat that a transfer touches.
    pub fn touched(&self, offset: u32, size: u32) -> u8 {
        let words = self.words();
        if size >= self.beat_bytes {
            return ((1u16 << words) - 1) as u8;
        }
        let first = offset % self.beat_bytes / WORD_BYTES as u32;
        let count = size.div_ceil(WORD_BYTES as u32);
        (((1u16 << count) - 1) << first) as u8
    }
}
