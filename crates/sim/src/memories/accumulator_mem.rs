//! One bank of the accumulator (`AccumulatorMem.scala`) and the adders that all banks share (`AccPipeShared`).
//!
//! Writes go through a shift register `pipelined_writes` of `acc_latency` stages:
//!
//! | cycle | accepted write                                                              |
//! |-------|-----------------------------------------------------------------------------|
//! | w     | accepted; if it accumulates, its row is read (the read port is then taken)  |
//! | w+1   | stage 0: row read and data at the adder inputs                              |
//! | w+L   | last stage: the memory is written with the sum or the data, L = acc_latency |
//! | w+L+1 | readable                                                                    |
//!
//! The adder has L - 1 registers, so a sum travels beside its write. Here it is made as the write leaves the shift register: from
//! w on nothing else writes its row, since an accumulating write is refused while its row is in the shift register (or
//! in a write queue, below) and later writes stay behind it.
//!
//! A read accepted in cycle d is at the output in d+1. The output register is the hardware's one-entry queue (pipe
//! and flow) behind the memory.
//!
//! A single-ported bank is divided into sub-banks by the low address bits. Each has one access a cycle, in this order: read
//! for an accumulating write, write from a three-entry queue `w_q` that the shift register feeds, ordinary read.

use pollux_isa::GemminiConfig;
use pollux_isa::config::ExpVariant;
use pollux_isa::values::Activation;
use pollux_numerics::{IexpConstants, IexpVariant};

use crate::observation::event::Port;
use crate::observation::view::BankView;
use crate::parts::banks::{BankRow, BankSet};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::row::{AccLanes, ByteMask, add_row, copy_row};
use crate::parts::values::{Full, Values};

/// Entries of a sub-bank's write queue (`nEntries`).
const WRITE_QUEUE_ENTRIES: usize = 3;

/// Bytes of an accumulator element.
const ELEMENT_BYTES: usize = 4;

/// How a row is to be read out: what `AccumulatorReadReq` carries beside the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct ReadoutRequest {
    /// Activation.
    pub activation: Activation,
    /// Bit pattern of the scale factor.
    #[canon(skip = "values")]
    pub scale: u32,
    /// Constants of the GELU and of the exponential.
    #[canon(skip = "values")]
    pub constants: IexpConstants,
    /// Who reads (`fromDMA`).
    pub port: Port,
}

/// The body of the exponential that the configuration stands for.
pub fn iexp_variant(config: &GemminiConfig) -> IexpVariant {
    match config.softmax_exp {
        ExpVariant::Polynomial8c3f992 => IexpVariant::GeluPolynomial,
        ExpVariant::Released => IexpVariant::Exponential,
    }
}

/// A row read, with its request (`AccumulatorReadResp`).
#[derive(Clone, Copy, Debug, Canonical)]
pub struct AccumulatorReadResp<V: Values = Full> {
    /// The row.
    #[canon(skip = "values")]
    pub data: AccLanes<V>,
    /// What to do with it.
    pub readout: ReadoutRequest,
}

/// A write in this cycle (`AccumulatorWriteReq`).
#[derive(Clone, Copy, Debug)]
pub struct AccumulatorWrite<'a, V: Values = Full> {
    /// Row of the bank.
    pub row: BankRow,
    /// DIM elements.
    pub data: &'a [V::Of<i32>],
    /// Byte enables; none if all bytes are enabled.
    pub mask: Option<ByteMask>,
    /// Add to the row instead of overwriting it.
    pub accumulate: bool,
}

/// Valid write request of a bank in this cycle: what its ready signals depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
pub struct WriteAddress {
    /// Row of the bank.
    pub row: BankRow,
    /// The write accumulates.
    pub accumulate: bool,
}

/// A write in the shift register; its data stands beside it.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct PipelinedWrite {
    valid: bool,
    #[canon(valid_if = is_valid)]
    accumulate: bool,
    #[canon(valid_if = is_valid)]
    row: BankRow,
    /// Byte enables, if some byte of the row is not enabled.
    #[canon(valid_if = is_valid)]
    partial: Option<ByteMask>,
}

impl PipelinedWrite {
    fn is_valid(&self) -> bool {
        self.valid
    }
}

/// A finished write that waits for its sub-bank's port (`W_Q_Entry`).
#[derive(Clone, Debug, Canonical)]
struct QueuedWrite<V: Values> {
    valid: bool,
    #[canon(valid_if = is_valid)]
    row: BankRow,
    #[canon(skip = "values")]
    data: AccLanes<V>,
    #[canon(valid_if = is_valid)]
    partial: Option<ByteMask>,
}

impl<V: Values> QueuedWrite<V> {
    fn is_valid(&self) -> bool {
        self.valid
    }
}

/// Write queue of one sub-bank, a ring. A write that finds it full replaces the oldest one, which is then lost: the hardware
/// asserts that this does not happen.
#[derive(Clone, Debug)]
struct WriteQueue<V: Values> {
    writes: [QueuedWrite<V>; WRITE_QUEUE_ENTRIES],
    head: usize,
    tail: usize,
}

/// By age.
impl<V: Values> Canonical for WriteQueue<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { writes, head, tail } = self;
        ((tail + writes.len() - head) % writes.len()).canonical(canon);
        (0..writes.len()).for_each(|i| writes[(head + i) % writes.len()].canonical(canon));
    }
}

impl<V: Values> WriteQueue<V> {
    fn new() -> Self {
        let empty = QueuedWrite { valid: false, row: BankRow(0), data: AccLanes::default(), partial: None };
        Self { writes: std::array::from_fn(|_| empty.clone()), head: 0, tail: 0 }
    }

    fn is_empty(&self) -> bool {
        !self.writes[self.head].valid
    }

    fn holds(&self, row: BankRow) -> bool {
        self.writes.iter().any(|write| write.valid && write.row == row)
    }
}

/// Memory, shift register and output register of one bank.
#[derive(Clone, Debug)]
pub struct AccumulatorMem<V: Values = Full> {
    memory: Vec<V::Of<i32>>,
    dim: usize,
    /// `pipelined_writes` as a ring: stage k is slot (newest + k) mod L.
    pipelined: Vec<PipelinedWrite>,
    /// DIM elements a slot.
    pipelined_data: Vec<V::Of<i32>>,
    newest: usize,
    in_pipeline: u32,
    /// One queue a sub-bank; empty for a two-ported bank.
    sub_banks: Vec<WriteQueue<V>>,
    out: Option<AccumulatorReadResp<V>>,
}

/// Writes on their way by how far they are.
impl<V: Values> Canonical for AccumulatorMem<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { memory: _, dim: _, pipelined, pipelined_data: _, newest, in_pipeline, sub_banks, out } = self;
        in_pipeline.canonical(canon);
        if *in_pipeline != 0 {
            (0..pipelined.len()).for_each(|k| pipelined[(newest + k) % pipelined.len()].canonical(canon));
        }
        sub_banks.canonical(canon);
        out.canonical(canon);
    }
}

impl<V: Values> AccumulatorMem<V> {
    /// A bank of `rows` rows of `dim` elements, all 0, written `latency` cycles after acceptance. It is two-ported if
    /// `sub_banks` is 0, else single-ported with that power of two of sub-banks.
    pub fn new(rows: usize, dim: usize, latency: usize, sub_banks: usize) -> Self {
        Self {
            memory: vec![V::Of::default(); rows * dim],
            dim,
            pipelined: vec![PipelinedWrite::default(); latency],
            pipelined_data: vec![V::Of::default(); latency * dim],
            newest: 0,
            in_pipeline: 0,
            sub_banks: vec![WriteQueue::new(); sub_banks],
            out: None,
        }
    }

    /// The row at the output (`read.resp`).
    #[inline]
    pub fn out(&self) -> Option<&AccumulatorReadResp<V>> {
        self.out.as_ref()
    }

    /// Output, and rows on their way to the memory.
    pub(crate) fn view(&self) -> BankView {
        let stages = self.pipelined.len();
        let pipelined = (0..stages).rev().map(|k| &self.pipelined[(self.newest + k) % stages]);
        let queued = self
            .sub_banks
            .iter()
            .flat_map(|queue| (0..queue.writes.len()).map(|i| &queue.writes[(queue.head + i) % queue.writes.len()]));
        let queued = queued.filter(|write| write.valid).map(|write| write.row.0);
        let pipelined = pipelined.filter(|write| self.in_pipeline > 0 && write.valid).map(|write| write.row.0);
        BankView {
            output: self.out.as_ref().map(|out| out.readout.port.reader()),
            writing: queued.chain(pipelined).collect(),
            ..BankView::default()
        }
    }

    /// All elements in the memory, row by row.
    pub(crate) fn lanes_in_order(&self) -> &[V::Of<i32>] {
        &self.memory
    }

    /// The elements of a row in the memory, for views and end-state checks.
    pub fn row(&self, row: BankRow) -> &[V::Of<i32>] {
        &self.memory[self.lanes(row.0)]
    }

    /// Writes of a row that were accepted and have not reached the memory.
    pub(crate) fn writes_under_way(&self, row: BankRow) -> usize {
        let pipelined = self.pipelined.iter().filter(|_| self.in_pipeline > 0).map(|write| (write.valid, write.row));
        let queued = self.sub_banks.iter().flat_map(|queue| queue.writes.iter().map(|write| (write.valid, write.row)));
        pipelined.chain(queued).filter(|&(valid, of)| valid && of == row).count()
    }

    /// True if a write is on its way to the memory.
    #[inline]
    pub fn is_writing(&self) -> bool {
        self.in_pipeline > 0 || self.sub_banks.iter().any(|queue| !queue.is_empty())
    }

    /// `write.ready` for this write.
    #[inline]
    pub fn write_ready(&self, write: WriteAddress) -> bool {
        !write.accumulate || (!self.is_pipelined(write.row) && self.rmw_ready(write.row))
    }

    /// `read.req.ready` for a read of `row`, given whether the output is taken and the valid write request, accepted or not.
    #[inline]
    pub fn read_ready(&self, row: BankRow, out_taken: bool, write: Option<WriteAddress>) -> bool {
        let accumulating = write.is_some_and(|write| write.accumulate);
        (self.out.is_none() || out_taken) && !accumulating && !self.is_pipelined(row) && self.sub_bank_read_ready(row)
    }

    fn is_pipelined(&self, row: BankRow) -> bool {
        self.in_pipeline > 0 && self.pipelined.iter().any(|write| write.valid && write.row == row)
    }

    fn sub_bank(&self, row: BankRow) -> usize {
        row.0 as usize & (self.sub_banks.len() - 1)
    }

    /// `rmw_req.ready`: no queued write to this row.
    fn rmw_ready(&self, row: BankRow) -> bool {
        self.sub_banks.is_empty() || !self.sub_banks[self.sub_bank(row)].holds(row)
    }

    /// `only_read_req.ready`: the sub-bank's port is free and no queued write is to this row. Ordinary reads come after
    /// queued writes; reads for accumulating writes block all ordinary reads anyway.
    fn sub_bank_read_ready(&self, row: BankRow) -> bool {
        self.sub_banks.is_empty() || self.sub_banks[self.sub_bank(row)].is_empty()
    }

    /// Adder inputs of the write in stage 0: the row in the memory and the data (`adder.op1`, `adder.op2`).
    fn adder_operands(&self) -> [&[V::Of<i32>]; 2] {
        let lanes = self.lanes(self.pipelined[self.newest].row.0);
        let slot = self.lanes(self.newest as u32);
        [&self.memory[lanes], &self.pipelined_data[slot]]
    }

    /// Replaces the write in stage 0 by one of this sum.
    fn replace_sum(&mut self, sum: &AccLanes<V>) {
        let slot = self.lanes(self.newest as u32);
        self.pipelined_data[slot].copy_from_slice(&sum.0[..self.dim]);
        self.pipelined[self.newest].accumulate = false;
    }

    /// Elements of a row, in the memory or in the slots of the shift register.
    fn lanes(&self, row: u32) -> std::ops::Range<usize> {
        let start = row as usize * self.dim;
        start..start + self.dim
    }

    /// Clock edge, first: the row at the output leaves.
    #[inline]
    pub fn take(&mut self) {
        self.out = None;
    }

    /// Clock edge, second: an accepted read of `row`.
    pub fn read(&mut self, row: BankRow, readout: ReadoutRequest) {
        debug_assert!(self.out.is_none(), "read accepted while a row waits at the output");
        let mut data = AccLanes::default();
        copy_row(&mut data.0[..self.dim], self.row(row));
        self.out = Some(AccumulatorReadResp { data, readout });
    }

    /// Clock edge, last and after [`add_ored`], of a bank that [`Self::is_writing`] or accepts a write. `write` was accepted in
    /// this cycle; `requested` is the valid write request, accepted or not. False if a write queue overflows, which loses a write.
    #[inline]
    pub fn write(&mut self, write: Option<&AccumulatorWrite<V>>, requested: Option<WriteAddress>) -> bool {
        if !self.sub_banks.is_empty() {
            self.drain_sub_banks(requested);
        }
        self.shift(write)
    }

    /// Moves the shift register by one stage; the oldest write leaves it. False if the queue that it goes to overflows.
    #[inline(always)] // once for each row of results
    fn shift(&mut self, write: Option<&AccumulatorWrite<V>>) -> bool {
        let mut kept = true;
        let oldest = if self.newest == 0 { self.pipelined.len() - 1 } else { self.newest - 1 };
        self.newest = oldest;
        let slot = oldest * self.dim..(oldest + 1) * self.dim;
        let PipelinedWrite { valid, row, accumulate, .. } = self.pipelined[oldest];
        if valid {
            self.in_pipeline -= 1;
            let lanes = self.lanes(row.0);
            let (memory, data) = (&mut self.memory[lanes], &mut self.pipelined_data[slot.clone()]);
            if self.pipelined[oldest].partial.is_none() && self.sub_banks.is_empty() {
                if accumulate { add_row::<V>(memory, data) } else { copy_row(memory, data) }
            } else {
                if accumulate {
                    add_row::<V>(data, memory);
                }
                kept = self.leave(oldest);
            }
        }
        let Some(&AccumulatorWrite { row, data, mask, accumulate }) = write else {
            self.pipelined[oldest].valid = false;
            return kept;
        };
        let entry = &mut self.pipelined[oldest];
        (entry.valid, entry.accumulate, entry.row) = (true, accumulate, row);
        if mask.is_some() || entry.partial.is_some() {
            entry.partial = mask;
        }
        copy_row(&mut self.pipelined_data[slot], data);
        self.in_pipeline += 1;
        kept
    }

    /// A write leaves the shift register for the enabled bytes of its row, or for the queue of its sub-bank. False if that is full.
    #[inline(never)]
    fn leave(&mut self, index: usize) -> bool {
        let PipelinedWrite { row, partial, .. } = self.pipelined[index];
        let slot = self.lanes(index as u32);
        if self.sub_banks.is_empty() {
            let lanes = self.lanes(row.0);
            write_row::<V>(&mut self.memory[lanes], &self.pipelined_data[slot], &partial);
            true
        } else {
            self.queue_write(row, slot, partial)
        }
    }

    fn queue_write(&mut self, row: BankRow, slot: std::ops::Range<usize>, partial: Option<ByteMask>) -> bool {
        let sub_bank = self.sub_bank(row);
        let WriteQueue { writes, tail, .. } = &mut self.sub_banks[sub_bank];
        let write = &mut writes[*tail];
        let has_room = !write.valid;
        copy_row(&mut write.data.0[..self.dim], &self.pipelined_data[slot]);
        (write.valid, write.row, write.partial) = (true, row, partial);
        *tail = (*tail + 1) % WRITE_QUEUE_ENTRIES;
        has_room
    }

    /// Writes the head of each sub-bank's queue unless a read for an accumulating write takes the port. That read is made
    /// for every valid request that no queued write holds up, even if the shift register refuses it.
    fn drain_sub_banks(&mut self, requested: Option<WriteAddress>) {
        let rmw = requested.filter(|write| write.accumulate && self.rmw_ready(write.row));
        let reading = rmw.filter(|_| !self.sub_banks.is_empty()).map(|write| self.sub_bank(write.row));
        for sub_bank in 0..self.sub_banks.len() {
            let WriteQueue { writes, head, .. } = &mut self.sub_banks[sub_bank];
            let write = &mut writes[*head];
            if Some(sub_bank) != reading && write.valid {
                write.valid = false;
                *head = (*head + 1) % WRITE_QUEUE_ENTRIES;
                let start = write.row.0 as usize * self.dim;
                write_row::<V>(&mut self.memory[start..start + self.dim], &write.data.0[..self.dim], &write.partial);
            }
        }
    }
}

/// Writes the enabled bytes of a row.
fn write_row<V: Values>(row: &mut [V::Of<i32>], data: &[V::Of<i32>], partial: &Option<ByteMask>) {
    let Some(mask) = partial else { return copy_row(row, data) };
    V::update(row, |row, sight| {
        for (i, (element, new)) in row.iter_mut().zip(V::see(data, sight)).enumerate() {
            let bit = i * ELEMENT_BYTES;
            let enabled = (mask.0[bit / 64] >> (bit % 64)) as usize & 0xf;
            let bits = ELEMENT_ENABLES[enabled];
            *element = (*element & !bits) | (new & bits);
        }
    });
}

/// Bits of an element enabled by its four byte enables.
const ELEMENT_ENABLES: [i32; 16] = {
    let mut bits = [0; 16];
    let mut enables = 0;
    while enables < 16 {
        let mut byte = 0;
        while byte < 4 {
            if enables >> byte & 1 == 1 {
                bits[enables] |= 0xff << (8 * byte);
            }
            byte += 1;
        }
        enables += 1;
    }
    bits
};

/// Clock edge of the shared adders (`AccPipeShared`) if several banks, those in `adding`, use them in this cycle: have an
/// accumulating write in stage 0.
///
/// The operands pass an OR-type select over these banks, so that they are ORed together bit by bit and all banks
/// get the same wrong sum; nothing in the hardware prevents it.
pub fn add_ored<V: Values>(banks: &mut [AccumulatorMem<V>], adding: BankSet) {
    let (mut op1, mut op2) = (AccLanes::<V>::default(), AccLanes::<V>::default());
    for bank in adding {
        let [row, data] = banks[bank.index()].adder_operands();
        for (op, lanes) in [(&mut op1, row), (&mut op2, data)] {
            V::update(&mut op.0, |op, sight| op.iter_mut().zip(V::see(lanes, sight)).for_each(|(op, x)| *op |= x));
        }
    }
    let mut sum = op1;
    add_row::<V>(&mut sum.0, &op2.0);
    for bank in adding {
        banks[bank.index()].replace_sum(&sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READOUT: ReadoutRequest = ReadoutRequest {
        activation: Activation::None,
        scale: 0,
        constants: IexpConstants { qln2: 0, qln2_inv: 0, qb: 0, qc: 0 },
        port: Port::Dma,
    };

    fn write(row: u32, data: &[i32], accumulate: bool) -> AccumulatorWrite<'_> {
        AccumulatorWrite { row: BankRow(row), data, mask: None, accumulate }
    }

    fn address(write: &AccumulatorWrite) -> WriteAddress {
        WriteAddress { row: write.row, accumulate: write.accumulate }
    }

    fn edge(bank: &mut AccumulatorMem, accepted: Option<&AccumulatorWrite>, request: Option<&AccumulatorWrite>) {
        if bank.is_writing() || accepted.is_some() {
            bank.write(accepted, request.map(address));
        }
    }

    /// Clocks one cycle of a single bank with an optional write request; returns whether it was accepted.
    fn clock(bank: &mut AccumulatorMem, request: Option<&AccumulatorWrite>) -> bool {
        let accepted = request.filter(|write| bank.write_ready(address(write)));
        edge(bank, accepted, request);
        accepted.is_some()
    }

    #[test]
    fn a_second_accumulate_to_a_row_is_refused_for_two_cycles() {
        let mut bank = AccumulatorMem::new(4, 4, 2, 0);
        let request = write(1, &[5; 4], true);
        let accepted: Vec<_> = (0..7).map(|_| clock(&mut bank, Some(&request))).collect();
        assert_eq!(accepted, [true, false, false, true, false, false, true]);
        clock(&mut bank, None);
        clock(&mut bank, None);
        assert_eq!(bank.row(BankRow(1)), &[15; 4]);
    }

    #[test]
    fn a_row_is_readable_three_cycles_after_its_write_was_accepted() {
        let mut bank = AccumulatorMem::new(4, 4, 2, 0);
        clock(&mut bank, Some(&write(1, &[5; 4], false)));
        assert!(!bank.read_ready(BankRow(1), false, None));
        assert!(bank.read_ready(BankRow(2), false, None));
        clock(&mut bank, None);
        assert!(!bank.read_ready(BankRow(1), false, None));
        clock(&mut bank, None);
        assert!(bank.read_ready(BankRow(1), false, None));
        bank.read(BankRow(1), READOUT);
        assert_eq!(bank.out().map(|out| out.data.0[3]), Some(5));
        assert!(!bank.read_ready(BankRow(2), false, None) && bank.read_ready(BankRow(2), true, None));
    }

    #[test]
    fn a_valid_accumulating_write_blocks_reads_even_if_it_is_refused() {
        let bank: AccumulatorMem = AccumulatorMem::new(4, 4, 2, 0);
        assert!(!bank.read_ready(BankRow(2), false, Some(WriteAddress { row: BankRow(1), accumulate: true })));
        assert!(bank.read_ready(BankRow(2), false, Some(WriteAddress { row: BankRow(1), accumulate: false })));
    }

    #[test]
    fn plain_writes_are_never_refused() {
        let mut bank = AccumulatorMem::new(4, 4, 2, 0);
        for value in 0..5 {
            assert!(clock(&mut bank, Some(&write(0, &[value; 4], false))));
        }
    }

    #[test]
    fn only_enabled_bytes_are_written() {
        let mut bank = AccumulatorMem::new(2, 2, 2, 0);
        let mut request = write(0, &[-1; 2], false);
        request.mask = Some(ByteMask::range(2, 5));
        for request in [Some(&request), None, None] {
            clock(&mut bank, request);
        }
        assert_eq!(bank.row(BankRow(0)), &[0xffff_0000_u32 as i32, 0xff]);
    }

    #[test]
    fn two_banks_that_add_in_one_cycle_both_get_the_sum_of_their_ored_operands() {
        let mut banks = vec![AccumulatorMem::new(2, 2, 2, 0); 2];
        for (bank, value) in banks.iter_mut().zip([1, 2]) {
            for request in [Some(&write(0, &[value; 2], false)), None, None] {
                clock(bank, request);
            }
        }
        for (bank, value) in banks.iter_mut().zip([4, 8]) {
            let data = [value; 2];
            let request = write(0, &data, true);
            bank.write(Some(&request), Some(address(&request)));
        }
        add_ored(&mut banks, BankSet::from_bits(0b11));
        for _ in 0..2 {
            for bank in &mut banks {
                bank.write(None, None);
            }
        }
        assert_eq!((banks[0].row(BankRow(0))[0], banks[1].row(BankRow(0))[0]), (3 + 12, 3 + 12));
    }

    #[test]
    fn a_single_ported_write_is_readable_one_cycle_later_than_a_two_ported_one() {
        let mut bank = AccumulatorMem::new(8, 4, 2, 2);
        clock(&mut bank, Some(&write(3, &[7; 4], true)));
        for _ in 1..4 {
            assert!(!bank.read_ready(BankRow(3), false, None));
            clock(&mut bank, None);
        }
        assert!(bank.read_ready(BankRow(3), false, None));
        assert_eq!(bank.row(BankRow(3)), &[7; 4]);
    }

    #[test]
    fn an_accumulating_write_holds_up_queued_writes_of_its_sub_bank_only() {
        let mut bank = AccumulatorMem::new(8, 4, 2, 2);
        clock(&mut bank, Some(&write(0, &[7; 4], true)));
        clock(&mut bank, Some(&write(1, &[7; 4], true)));
        clock(&mut bank, None);
        // Row 0 is in the write queue of sub-bank 0 and row 1 enters that of sub-bank 1 at this edge.
        clock(&mut bank, Some(&write(2, &[1; 4], true)));
        assert!(!bank.write_ready(WriteAddress { row: BankRow(0), accumulate: true }));
        clock(&mut bank, Some(&write(4, &[1; 4], true)));
        assert_eq!((bank.row(BankRow(0))[0], bank.row(BankRow(1))[0]), (0, 7));
        clock(&mut bank, None);
        assert_eq!(bank.row(BankRow(0))[0], 7);
    }

    /// The shortest pass has four rows; a single-ported bank has the row a cycle later.
    #[test]
    fn sums_of_four_rows_follow_each_other_up_to_a_latency_of_three() {
        let all_taken = |latency, sub_banks| {
            let mut bank = AccumulatorMem::new(8, 4, latency, sub_banks);
            (0..12).all(|cycle| clock(&mut bank, Some(&write(cycle % 4, &[1; 4], true))))
        };
        assert_eq!([2, 3, 4, 5].map(|latency| all_taken(latency, 0)), [true, true, false, false]);
        assert_eq!([2, 3, 4].map(|latency| all_taken(latency, 2)), [true, false, false]);
    }

    /// Accumulating writes in every cycle read a row of the one sub-bank each, so that no write leaves its queue of three; the
    /// fourth replaces the oldest, and the ring's head and tail part: what comes next stays in the queue.
    #[test]
    fn one_sub_bank_loses_a_row_and_holds_up_the_next_one_forever() {
        let mut bank = AccumulatorMem::new(8, 4, 2, 1);
        let kept = [0, 1, 2, 3, 3, 3].map(|row| {
            let request = write(row, &[7; 4], true);
            let accepted = Some(&request).filter(|_| bank.write_ready(address(&request)));
            bank.write(accepted, Some(address(&request)))
        });
        assert_eq!(kept, [true, true, true, true, true, false]);
        for _ in 0..4 {
            clock(&mut bank, None);
        }
        assert_eq!([0, 1, 2, 3].map(|row| bank.row(BankRow(row))[0]), [0, 7, 7, 7]);
        assert!(clock(&mut bank, Some(&write(4, &[7; 4], true))));
        for _ in 0..100 {
            clock(&mut bank, None);
            assert!(!bank.write_ready(WriteAddress { row: BankRow(4), accumulate: true }));
        }
        assert_eq!(bank.row(BankRow(4))[0], 0);
    }

    proptest::proptest! {
        /// A single-ported bank gets accumulating writes only, by the rule of `consecutive_write_block` and never one that would be
        /// refused: other mixes overflow its write queues, because the read for a write, even a refused one, takes the sub-bank's
        /// port.
        #[test]
        fn accepted_writes_leave_the_memory_as_if_done_one_after_the_other(
            writes in proptest::collection::vec((0..8u32, -1000..1000i32, proptest::bool::ANY), 1..60),
            latency in 2..5usize,
            sub_banks in proptest::sample::select(vec![0, 1, 2, 4]),
        ) {
            let mut bank = AccumulatorMem::new(8, 2, latency, sub_banks);
            let mut expected = [0i32; 8];
            let (mut last, mut blocked) = (0, false);
            for (row, value, accumulate) in writes {
                let accumulate = accumulate || sub_banks > 0;
                let data = [value; 2];
                let request = write(row, &data, accumulate);
                for cycle in 0.. {
                    assert!(cycle < 20, "never accepted");
                    let offered = !blocked && bank.write_ready(address(&request));
                    let accepted = clock(&mut bank, Some(&request).filter(|_| offered));
                    let sub_bank = row as usize & sub_banks.saturating_sub(1);
                    let accumulates = accepted && accumulate && sub_banks > 0;
                    blocked = accumulates && sub_bank == last;
                    last = if accumulates { sub_bank } else { last };
                    if accepted {
                        break;
                    }
                }
                let element = &mut expected[row as usize];
                *element = if accumulate { element.wrapping_add(value) } else { value };
            }
            while bank.is_writing() {
                clock(&mut bank, None);
            }
            for (row, value) in expected.iter().enumerate() {
                proptest::prop_assert_eq!(bank.row(BankRow(row as u32)), &[*value; 2]);
            }
        }
    }
}
