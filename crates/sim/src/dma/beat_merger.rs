//! Turns the beats of one read transaction into rows of the local memories (`BeatMerger.scala`).
//!
//! Registers: the transaction's table entry, a byte buffer as long as the largest request or row,
//! the bytes received and the bytes sent. The first beat of a response, taken in cycle r, makes its
//! first row visible at the output in r+1; beats and rows then move at one per cycle each. A
//! transaction ends when all its rows are out and all its beats are in; if its last row leaves in
//! the very cycle in which a last, useless beat arrives, one cycle is lost.
//!
//! | name | direction | valid when | back pressure |
//! |---|---|---|---|
//! | `BeatMergerWires::in_fire` | beat in | a D beat waits | `in_ready` needs a row in progress or a free register |
//! | `row()` | out | `out_valid()` | `out_ready` of the scaling queue |

use crate::dma::dma_parameters::DmaParameters;
use crate::dma::xact_tracker::XactTrackerEntry;
use crate::parts::canonical::Canonical;
use crate::parts::row::{AccLanes, MAX_DIM, SpadLanes};
use crate::parts::values::{Full, Values};

/// Bytes of the longest row: 64 lanes of 32 bits.
const MAX_BUFFER_BYTES: usize = 256;

/// Handshakes of one cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeatMergerWires {
    /// The row at the output is taken.
    pub out_fire: bool,
    /// The waiting beat starts a new transaction.
    pub req_fire: bool,
    /// The waiting beat is taken.
    pub in_fire: bool,
}

/// One row, or part of a row, for the local memories (without its data).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedRow {
    /// Row, counted through all banks.
    pub row: u32,
    /// First enabled byte of the row.
    pub mask_start: usize,
    /// Byte behind the last enabled one.
    pub mask_end: usize,
    /// Last row of the transaction.
    pub last: bool,
}

/// The merger (`BeatMerger`).
#[derive(Clone, Debug, Canonical)]
pub struct BeatMerger<V: Values = Full> {
    #[canon(skip = "constant")]
    beat_bytes: u32,
    #[canon(skip = "constant")]
    spad_row_bytes: u32,
    #[canon(skip = "constant")]
    acc_row_bytes: u32,
    #[canon(skip = "constant")]
    aligned_to: usize,
    #[canon(skip = "constant")]
    row_mask: u32,
    #[canon(skip = "constant")]
    buffer_bytes: usize,
    valid: bool,
    #[canon(valid_if = busy)]
    entry: XactTrackerEntry,
    /// Bytes of the whole response (`1 << lg_len_req`).
    #[canon(valid_if = busy)]
    len: u32,
    #[canon(valid_if = busy)]
    bytes_read: u32,
    #[canon(valid_if = busy)]
    bytes_sent: u32,
    #[canon(skip = "values")]
    buffer: [V::Of<u8>; MAX_BUFFER_BYTES],
}

impl<V: Values> BeatMerger<V> {
    /// An idle merger.
    pub fn new(parameters: &DmaParameters) -> Self {
        Self {
            beat_bytes: parameters.beat_bytes as u32,
            spad_row_bytes: parameters.spad_row_bytes as u32,
            acc_row_bytes: parameters.acc_row_bytes as u32,
            aligned_to: parameters.aligned_to,
            row_mask: parameters.row_mask,
            buffer_bytes: parameters.max_bytes.max(parameters.spad_row_bytes).max(parameters.acc_row_bytes),
            valid: false,
            entry: XactTrackerEntry::default(),
            len: 0,
            bytes_read: 0,
            bytes_sent: 0,
            buffer: [V::Of::default(); MAX_BUFFER_BYTES],
        }
    }

    /// True if a transaction is being merged.
    #[inline]
    pub fn busy(&self) -> bool {
        self.valid
    }

    /// Table entry of the transaction that the output belongs to.
    #[inline]
    pub fn entry(&self) -> &XactTrackerEntry {
        &self.entry
    }

    #[inline]
    fn row_bytes(&self) -> u32 {
        if self.entry.has_acc_bitwidth { self.acc_row_bytes } else { self.spad_row_bytes }
    }

    /// Bytes received, leading ones dropped, up to the useful ones.
    #[inline]
    fn useful_bytes(&self) -> u32 {
        self.bytes_read.saturating_sub(self.entry.shift).min(self.entry.bytes_to_read)
    }

    /// Offset of the next row's first byte: only the first row of a transaction may start inside a row.
    #[inline]
    fn row_offset(&self) -> u32 {
        if self.bytes_sent == 0 { self.entry.row_offset } else { 0 }
    }

    #[inline]
    fn bytes_sent_next(&self) -> u32 {
        (self.bytes_sent + self.row_bytes() - self.row_offset()).min(self.entry.bytes_to_read)
    }

    /// True if a row is offered.
    #[inline]
    pub fn out_valid(&self) -> bool {
        let useful = self.useful_bytes();
        self.valid
            && useful > self.bytes_sent
            && (useful - self.bytes_sent >= self.row_bytes() || useful == self.entry.bytes_to_read)
    }

    /// The row offered.
    pub fn row(&self) -> MergedRow {
        let offset = self.row_offset();
        let step = (self.entry.row_offset + self.bytes_sent) / self.row_bytes();
        // The hardware's mask is as long as the longer of the two rows; nothing looks beyond the row itself.
        let end = (offset + self.entry.bytes_to_read - self.bytes_sent).min(self.row_bytes());
        MergedRow {
            row: self.entry.row.wrapping_add(u32::from(self.entry.block_stride) * step) & self.row_mask,
            mask_start: (offset as usize).next_multiple_of(self.aligned_to),
            mask_end: (end as usize).next_multiple_of(self.aligned_to),
            last: self.bytes_sent_next() == self.entry.bytes_to_read,
        }
    }

    /// Byte `i` of the offered row, as the shifted buffer shows it.
    #[inline]
    fn copy_row(&self, out: &mut [V::Of<u8>]) {
        let (offset, sent) = (self.row_offset() as usize, self.bytes_sent as usize);
        let n = out.len().saturating_sub(offset).min(self.buffer_bytes.saturating_sub(sent));
        out[offset..offset + n].copy_from_slice(&self.buffer[sent..sent + n]);
    }

    /// Data of the offered row as scratchpad elements.
    pub fn spad_row(&self) -> SpadLanes<V> {
        let mut bytes = [V::Of::default(); MAX_DIM];
        self.copy_row(&mut bytes[..self.spad_row_bytes as usize]);
        let mut row = SpadLanes::default();
        V::update(&mut row.0, |row, sight| {
            for (element, &byte) in row.iter_mut().zip(V::see(&bytes, sight)) {
                *element = byte.cast_signed();
            }
        });
        row
    }

    /// Data of the offered row as accumulator elements.
    pub fn acc_row(&self) -> AccLanes<V> {
        let mut bytes = [V::Of::default(); MAX_BUFFER_BYTES];
        self.copy_row(&mut bytes[..self.acc_row_bytes as usize]);
        let mut row = AccLanes::default();
        V::update(&mut row.0[..self.acc_row_bytes as usize / 4], |row, sight| {
            for (word, bytes) in row.iter_mut().zip(V::see(&bytes, sight).as_chunks().0) {
                *word = i32::from_le_bytes(*bytes);
            }
        });
        row
    }

    /// Handshakes, given whether the row is taken (`out_ready`) and a beat waits.
    #[inline]
    pub fn wires(&self, beat_valid: bool, out_ready: bool) -> BeatMergerWires {
        let out_fire = out_ready && self.out_valid();
        let all_read = self.bytes_read == self.len;
        let ends = out_fire && all_read && self.bytes_sent_next() == self.entry.bytes_to_read;
        let req_fire = beat_valid && (!self.valid || ends);
        let in_fire = req_fire || (beat_valid && self.valid && !all_read);
        BeatMergerWires { out_fire, req_fire, in_fire }
    }

    /// Clock edge. `entry` is the table entry of the waiting beat and `len` its response's bytes
    /// (used if `req_fire`); `beat` is the beat's data (used if `in_fire`).
    #[must_use]
    pub fn tick(&mut self, wires: &BeatMergerWires, entry: &XactTrackerEntry, len: u32, beat: &[V::Of<u8>]) -> bool {
        let all_read = self.bytes_read == self.len;
        let all_sent = self.bytes_sent == self.entry.bytes_to_read;
        let ended = self.valid
            && ((all_read && all_sent)
                || (wires.out_fire && all_read && self.bytes_sent_next() == self.entry.bytes_to_read)
                || (wires.in_fire && !wires.req_fire && all_sent && self.beat_bytes >= self.len - self.bytes_read));
        if wires.out_fire {
            self.bytes_sent = self.bytes_sent_next();
        }
        if ended {
            self.valid = false;
        }
        if wires.req_fire {
            self.valid = true;
            self.entry = *entry;
            self.len = len;
            self.bytes_read = 0;
            self.bytes_sent = 0;
        }
        if wires.in_fire {
            self.insert(beat);
        }
        ended || wires.out_fire || wires.in_fire
    }

    /// Appends a beat behind the useful bytes, without the bytes still to be dropped.
    fn insert(&mut self, beat: &[V::Of<u8>]) {
        let discarded = self.bytes_read.min(self.entry.shift);
        let drop = self.entry.shift - discarded;
        if drop <= self.beat_bytes {
            let at = self.useful_bytes() as usize;
            let bytes = &beat[drop as usize..self.beat_bytes as usize];
            let n = bytes.len().min(self.buffer_bytes - at);
            self.buffer[at..at + n].copy_from_slice(&bytes[..n]);
        }
        self.bytes_read = (self.bytes_read + self.beat_bytes).min(self.len);
    }
}
