//! The controller alone, with a scratchpad that only has the read latency of the real one: the timing tables and the
//! arithmetic of each way to multiply.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::report::{ExecuteActivity, ExecuteStall};
use super::*;
use crate::acceleration::row_streak::RowStreaks;
use crate::observation::event::Unit;
use crate::parts::banks::{BankId, BankSet};
use crate::parts::row::{AccLanes, SpadLanes};
use crate::parts::wires::ExTarget;

/// Cycles in which things happened.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    /// Scratchpad reads: cycle, bank, row.
    reads: Vec<(i64, usize, u32)>,
    /// Requests taken by the mesh, with the flush count.
    requests: Vec<(i64, u8)>,
    /// Rows entering the array.
    presented: Vec<i64>,
    /// Rows written: cycle, row within bank 0.
    writes: Vec<(i64, u32)>,
    /// Reports: cycle, command.
    reports: Vec<(i64, u8)>,
    /// What each cycle was spent on.
    activities: Vec<ExecuteActivity>,
}

/// Execute controller, four scratchpad banks with a latency of two cycles, one accumulator bank.
struct Bench {
    dim: usize,
    ex: ExecuteController,
    /// `[bank][row][lane]`.
    spad: Vec<Vec<SpadLanes>>,
    acc: Vec<AccLanes>,
    /// Row at the bank's output.
    output: Vec<Option<SpadLanes>>,
    /// Execute response queue of the bank.
    responses: Vec<VecDeque<SpadLanes>>,
    commands: VecDeque<IssuedCmd>,
    issue: RowIssueWires,
    issued: u8,
    cycle: i64,
    /// Banks that are not ready, cycle by cycle, over and over.
    refused: Vec<u32>,
    /// Rows that repeat the one before are issued as such, by the fast path.
    streaks: Option<RowStreaks>,
    events: EventBuffer,
    log: Log,
}

const BANKS: usize = 4;
const ROWS: usize = 256;

impl Bench {
    fn new(dim: u32) -> Self {
        Self::with(&GemminiConfig::with_dim(dim).expect("a power of two"))
    }

    fn with(config: &GemminiConfig) -> Self {
        Self {
            dim: config.dim() as usize,
            ex: ExecuteController::new(config),
            spad: vec![vec![SpadLanes::default(); ROWS]; BANKS],
            acc: vec![AccLanes::default(); ROWS],
            output: vec![None; BANKS],
            responses: vec![VecDeque::new(); BANKS],
            commands: VecDeque::new(),
            issue: RowIssueWires::default(),
            issued: 0,
            cycle: 0,
            refused: vec![0],
            streaks: Some(RowStreaks::default()),
            events: EventBuffer::new(false),
            log: Log::default(),
        }
    }

    /// Appends a command; its number is its report's.
    fn command(&mut self, funct: u8, rs1: u64, rs2: u64) {
        let rob_id = Some(RobId { unit: Unit::Ex, index: self.issued });
        self.issued += 1;
        self.commands.push_back(IssuedCmd { cmd: pollux_isa::RoccCommand { funct, rs1, rs2 }, rob_id });
    }

    fn config(&mut self, ws: bool, a_transpose: bool, bd_transpose: bool, shift: u64) {
        let flags = u64::from(ws) << 2 | u64::from(a_transpose) << 8 | u64::from(bd_transpose) << 9;
        self.command(0, flags | 1 << 16, shift | 1 << 48);
    }

    /// A whole matrix at scratchpad bank and row.
    fn spad(&self, bank: u64, row: u64) -> u64 {
        self.extent(self.dim as u64, (bank << self.ex.parameters.layout.sp_bank_row_bits) + row)
    }

    fn acc(&self, row: u64) -> u64 {
        self.extent(self.dim as u64, 1 << 31 | row)
    }

    fn extent(&self, rows: u64, addr: u64) -> u64 {
        rows << 48 | (self.dim as u64) << 32 | addr
    }

    fn garbage(&self) -> u64 {
        self.extent(self.dim as u64, u32::MAX.into())
    }

    fn cycle(&mut self) -> bool {
        const NO_ROW: SpadLanes = SpadLanes([0; crate::parts::row::MAX_DIM]);
        let results = self.ex.results();
        let responses = self.responses.clone();
        let control = self.ex.control(|bank| match responses[bank.index()].front() {
            Some(row) => (true, row),
            None => (false, &NO_ROW),
        });
        let written = self.write(&results);
        let moves: Vec<bool> = (0..BANKS).map(|b| self.response_ready(b, control.pops)).collect();
        let ready = (0..BANKS).filter(|&b| (self.output[b].is_none() || moves[b]) && written != Some(b));
        let refused = self.refused[self.cycle as usize % self.refused.len()];
        let ready = BankSet::from_bits(ready.fold(0, |mask, b| mask | 1 << b) & !refused);
        match &mut self.streaks {
            Some(streaks) => streaks.row_issue(&self.ex, &control, ready, BankSet::ALL, &mut self.issue),
            None => self.issue = self.ex.row_issue(&control, ready, BankSet::ALL),
        }
        let issue = self.issue;
        self.record(&control, &issue);
        let cmd = if self.ex.cmd_ready() { self.commands.pop_front() } else { None };
        let (ex, events) = (&mut self.ex, &mut self.events);
        let progress = match &mut self.streaks {
            Some(streaks) => streaks.tick(ex, cmd, &results, &control, &issue, events),
            None => ex.tick(cmd, &results, &control, &issue, events),
        };
        for (b, moves) in moves.into_iter().enumerate() {
            if control.pops.has(BankId(b as u8)) {
                self.responses[b].pop_front();
            }
            if moves {
                let row = self.output[b].take();
                self.responses[b].extend(row);
            }
            let bank = BankId(b as u8);
            if (issue.reads.spad_valid & ready).has(bank) {
                self.output[b] = Some(self.spad[b][issue.reads.spad_row[bank].0 as usize % ROWS]);
            }
        }
        self.cycle += 1;
        progress
    }

    fn response_ready(&self, bank: usize, pops: BankSet) -> bool {
        self.responses[bank].len() < 4 || pops.has(BankId(bank as u8))
    }

    /// Performs the result write; returns the scratchpad bank that is busy with it.
    fn write(&mut self, results: &ExResults) -> Option<usize> {
        match results.write.target? {
            ExTarget::Spad { bank, row, cols } => {
                self.log.writes.push((self.cycle, row.0));
                let data = &results.write.spad_row.0;
                self.spad[bank.index()][row.0 as usize].0[..cols].copy_from_slice(&data[..cols]);
                Some(bank.index())
            }
            ExTarget::Acc { row, cols, .. } => {
                self.log.writes.push((self.cycle, row.0));
                self.acc[row.0 as usize % ROWS].0[..cols].copy_from_slice(&results.write.acc_row.0[..cols]);
                None
            }
        }
    }

    fn record(&mut self, control: &ControlWires<'_>, issue: &RowIssueWires) {
        let cycle = self.cycle;
        let reads = issue.reads.spad_valid.into_iter();
        self.log.reads.extend(reads.map(|bank| (cycle, bank.index(), issue.reads.spad_row[bank].0)));
        self.log.requests.extend(control.request.map(|(request, _)| (cycle, request.flush)));
        self.log.presented.extend(control.mesh.advance.then_some(cycle));
        self.log.reports.extend(issue.completed.map(|id| (cycle, id.index)));
        self.log.activities.push(self.ex.activity(control, issue));
    }

    /// Executes the configuration, then the other commands; cycle 0 of the log is the first scratchpad read.
    fn run(&mut self) -> &Log {
        let rest = self.commands.split_off(1);
        for _ in 0..8 {
            self.cycle();
        }
        self.log = Log::default();
        self.commands = rest;
        self.finish();
        let start = self.log.reads.first().map_or(0, |read| read.0);
        self.log.reads.iter_mut().for_each(|x| x.0 -= start);
        self.log.requests.iter_mut().for_each(|x| x.0 -= start);
        self.log.presented.iter_mut().for_each(|x| *x -= start);
        self.log.writes.iter_mut().for_each(|x| x.0 -= start);
        self.log.reports.iter_mut().for_each(|x| x.0 -= start);
        &self.log
    }

    /// Runs until nothing moves.
    fn finish(&mut self) {
        let deadline = self.cycle + 100_000;
        while self.cycle() || !self.commands.is_empty() {
            assert!(self.cycle < deadline, "no end");
        }
    }

    fn latency(&self) -> i64 {
        self.ex.mesh.mesh().latency() as i64
    }
}

fn from_to(first: i64, last: i64) -> Vec<i64> {
    (first..=last).collect()
}

fn cycles_of(log: &[(i64, u32)]) -> Vec<i64> {
    log.iter().map(|write| write.0).collect()
}

/// Dimensions of the tables, as cycle numbers.
const DIMS: [(u32, i64); 3] = [(4, 4), (8, 8), (16, 16)];

#[test]
fn a_ws_pair_takes_two_passes_and_the_latency_of_the_array() {
    for (dim, n) in DIMS {
        let mut bench = Bench::new(dim);
        let (d, c, a, none) = (bench.spad(1, 0), bench.acc(0), bench.spad(0, 0), bench.garbage());
        bench.config(true, false, false, 0);
        bench.command(6, d, c);
        bench.command(4, a, none);
        let lm = bench.latency();
        let log = bench.run();
        let rows_of_d: Vec<_> = (0..dim).map(|k| (i64::from(k), 1, dim - 1 - k)).collect();
        let rows_of_a: Vec<_> = (0..dim).map(|k| (i64::from(k) + n, 0, k)).collect();
        assert_eq!(log.reads, [rows_of_d, rows_of_a].concat());
        assert_eq!(log.requests, [(2, 0), (n + 2, 0)]);
        assert_eq!(log.presented, from_to(3, 2 * n + 2));
        assert_eq!(cycles_of(&log.writes), from_to(n + 3 + lm, 2 * n + 2 + lm));
        assert_eq!(log.reports, [(2 * n, 2), (2 * n + 2 + lm, 1)]);
    }
}

#[test]
fn a_compute_of_fewer_rows_is_shorter_but_never_shorter_than_four_rows() {
    for rows in 1..=16 {
        let mut bench = Bench::new(16);
        let (d, c, a, none) = (bench.spad(1, 0), bench.extent(rows, 1 << 31), bench.extent(rows, 0), bench.garbage());
        bench.config(true, false, false, 0);
        bench.command(6, d, c);
        bench.command(4, a, none);
        let (lm, rows) = (bench.latency(), rows as i64);
        let log = bench.run();
        let pass = rows.max(4);
        assert_eq!(log.presented, from_to(3, 16 + pass + 2), "{rows} rows");
        assert_eq!(cycles_of(&log.writes), from_to(16 + 3 + lm, 16 + rows + 2 + lm), "{rows} rows");
        assert_eq!(log.reports, [(16 + pass, 2), (16 + pass + 2 + lm, 1)], "{rows} rows");
    }
}

#[test]
fn a_stream_of_ws_pairs_multiplies_a_block_every_dim_cycles() {
    for (dim, n) in DIMS {
        let mut bench = Bench::new(dim);
        let (d, a, none) = (bench.spad(1, 0), bench.spad(0, 0), bench.garbage());
        bench.config(true, false, false, 0);
        for _ in 0..6 {
            let c = bench.acc(0);
            bench.command(6, d, c);
            bench.command(4, a, none);
        }
        let lm = bench.latency();
        let log = bench.run();
        assert_eq!(cycles_of(&log.writes), from_to(n + 3 + lm, 7 * n + 2 + lm));
        let computes = (1..=6).map(|k| ((k + 1) * n, 2 * k as u8));
        let preloads = (1..=6).map(|k| ((k + 1) * n + 2 + lm, 2 * k as u8 - 1));
        let mut reports: Vec<_> = computes.chain(preloads).collect();
        reports.sort_unstable();
        // Of two reports in one cycle, that of a result's last row goes first.
        let mut seen = log.reports.clone();
        seen.sort_unstable();
        assert_eq!(seen.len(), reports.len());
        assert!(seen.iter().zip(&reports).all(|(seen, expected)| (0..=1).contains(&(seen.0 - expected.0))));
    }
}

#[test]
fn operands_in_one_bank_take_turns() {
    let mut bench = Bench::new(4);
    let (d, a, none) = (bench.spad(0, 8), bench.spad(0, 0), bench.garbage());
    let (first, c) = (bench.spad(1, 0), bench.acc(0));
    bench.config(true, false, false, 0);
    bench.command(6, first, c);
    bench.command(4, a, none);
    bench.command(6, d, c);
    bench.command(4, a, none);
    let log = bench.run();
    let overlapped = [(4, 0), (5, 11), (6, 1), (7, 10), (8, 2), (9, 9), (10, 3), (11, 8)];
    let reads: Vec<_> = log.reads[4..12].iter().map(|&(cycle, _, row)| (cycle, row)).collect();
    assert_eq!(reads, overlapped);
    assert_eq!(log.requests, [(2, 0), (6, 0), (14, 0)]);
    assert_eq!(log.presented[..8], [3, 4, 5, 6, 8, 10, 12, 14]);
    assert_eq!(cycles_of(&log.writes)[..4], [16, 18, 20, 22]);
}

#[test]
fn three_operands_in_one_bank_take_three_cycles_a_row() {
    let mut bench = Bench::new(4);
    let (d, a, b) = (bench.spad(0, 8), bench.spad(0, 0), bench.spad(0, 16));
    let (first, c) = (bench.spad(1, 0), bench.acc(0));
    bench.config(true, false, false, 0);
    bench.command(6, first, c);
    bench.command(4, a, b);
    bench.command(6, d, c);
    bench.command(4, a, b);
    let rows: Vec<_> = bench.run().reads[4..16].iter().map(|&(cycle, _, row)| (cycle, row)).collect();
    let expected = [0, 16, 11, 1, 17, 10, 2, 18, 9, 3, 19, 8];
    assert_eq!(rows, (4..).zip(expected).collect::<Vec<_>>());
}

#[test]
fn an_os_result_is_flushed_out_when_nothing_follows() {
    for (dim, n) in DIMS {
        let mut bench = Bench::new(dim);
        let (d, c, a, b) = (bench.spad(2, 0), bench.acc(0), bench.spad(0, 0), bench.spad(1, 0));
        bench.config(false, false, false, 0);
        bench.command(6, d, c);
        bench.command(4, a, b);
        let lm = bench.latency();
        let log = bench.run();
        assert_eq!(log.requests[..3], [(2, 0), (n + 2, 0), (2 * n + 2, 1)]);
        assert_eq!(log.requests[3..], [(3 * n + 4, 1), (4 * n + 6, 1)]);
        assert_eq!(log.presented[..3 * n as usize], from_to(3, 3 * n + 2));
        assert_eq!(cycles_of(&log.writes), from_to(2 * n + 3 + lm, 3 * n + 2 + lm));
        let rows: Vec<_> = log.writes.iter().map(|write| write.1).collect();
        assert_eq!(rows, (0..dim).rev().collect::<Vec<_>>(), "bottom row first");
        assert_eq!(log.reports, [(2 * n, 2), (3 * n + 2 + lm, 1)]);
    }
}

#[test]
fn a_configuration_flushes_a_ws_result_out_first() {
    for (dim, n) in [(4, 4), (16, 16)] {
        let mut bench = Bench::new(dim);
        let (d, c, a, none) = (bench.spad(1, 0), bench.acc(0), bench.spad(0, 0), bench.garbage());
        bench.config(true, false, false, 0);
        bench.command(6, d, c);
        bench.command(4, a, none);
        bench.config(true, false, false, 0);
        let log = bench.run();
        assert_eq!(log.requests[2..], [(2 * n + 2, 1), (3 * n + 4, 1)]);
        assert_eq!(log.reports.last(), Some(&(4 * n + 5, 3)));
    }
}

#[test]
fn a_preload_waits_for_the_result_that_it_reads() {
    for (dim, n) in DIMS {
        let mut bench = Bench::new(dim);
        let (d, c, a, none) = (bench.spad(1, 0), bench.spad(2, 0), bench.spad(0, 0), bench.garbage());
        bench.config(true, false, false, 0);
        bench.command(6, d, c);
        bench.command(4, a, none);
        bench.command(6, c, none);
        bench.command(4, a, none);
        let lm = bench.latency();
        let reads = &bench.run().reads;
        assert_eq!(reads[2 * n as usize].0, 2 * n + 3 + lm);
    }
}

#[test]
fn every_cycle_is_spent_on_a_row_or_has_a_cause() {
    use ExecuteActivity::{Busy, Draining, Idle, Stalled};
    let mut bench = Bench::new(4);
    let (d, a, none, c) = (bench.spad(0, 8), bench.spad(0, 0), bench.garbage(), bench.acc(0));
    bench.config(true, false, false, 0);
    for _ in 0..2 {
        bench.command(6, d, c);
        bench.command(4, a, none);
    }
    let log = bench.run();
    let spent = |activity| log.activities.iter().filter(|&&x| x == activity).count();
    // Three passes of four rows; A and D of the second one share a bank.
    assert_eq!(spent(Busy), 12);
    assert_eq!(spent(Stalled(ExecuteStall::BankConflict)), 4);
    // The first preload is at the head a cycle before its compute.
    assert_eq!(spent(Stalled(ExecuteStall::NextCommand)), 1);
    assert_eq!(spent(Busy) + spent(Draining) + spent(Idle) + 4 + 1, log.activities.len());
}

#[test]
fn an_operand_in_the_accumulator_is_never_answered() {
    let mut bench = Bench::new(4);
    let (d, c, a, none) = (bench.spad(1, 0), bench.acc(0), bench.acc(8), bench.garbage());
    bench.config(true, false, false, 0);
    bench.command(6, d, c);
    bench.command(4, a, none);
    let reports: Vec<_> = bench.run().reports.iter().map(|report| report.1).collect();
    assert_eq!(reports, [2], "the compute is reported when its rows are requested, the preload never");
    assert!(bench.ex.busy());
    let waiting = bench.ex.waiting_for().expect("it waits");
    assert!(waiting.starts_with("operand A from accumulator bank 0"), "{waiting}");
}

/// Straightforward products, as the tables of the array's arithmetic state them.
mod reference {
    pub type Matrix = Vec<Vec<i64>>;

    pub fn transpose(m: &Matrix) -> Matrix {
        (0..m.len()).map(|j| m.iter().map(|row| row[j]).collect()).collect()
    }

    pub fn product(a: &Matrix, b: &Matrix, bias: &Matrix) -> Matrix {
        let cell = |i: usize, j: usize| bias[i][j] + (0..a.len()).map(|k| a[i][k] * b[k][j]).sum::<i64>();
        (0..a.len()).map(|i| (0..a.len()).map(|j| cell(i, j)).collect()).collect()
    }

    /// Right shift, nearest, ties to even.
    pub fn shift(x: i64, n: u64) -> i64 {
        let (floor, rest, half) = (x >> n, x & ((1 << n) - 1), (1 << n) >> 1);
        if n == 0 || rest < half || (rest == half && floor & 1 == 0) { floor } else { floor + 1 }
    }
}

use reference::Matrix;

fn matrix(dim: usize) -> impl Strategy<Value = Matrix> {
    let element = prop_oneof![4 => any::<i8>(), 1 => Just(i8::MIN), 1 => Just(i8::MAX)].prop_map(i64::from);
    prop::collection::vec(prop::collection::vec(element, dim), dim)
}

/// Matrices of 2 products: A, B (or weights) and bias of each.
fn products() -> impl Strategy<Value = (u32, Vec<[Matrix; 3]>)> {
    prop::sample::select(vec![4u32, 8, 16]).prop_flat_map(|dim| {
        let n = dim as usize;
        let product = (matrix(n), matrix(n), matrix(n)).prop_map(|(a, b, bias)| [a, b, bias]);
        (Just(dim), prop::collection::vec(product, 1..4))
    })
}

impl Bench {
    fn store(&mut self, bank: usize, row: usize, m: &Matrix) {
        for (i, lanes) in m.iter().enumerate() {
            for (lane, &x) in self.spad[bank][row + i].0.iter_mut().zip(lanes) {
                *lane = x as i8;
            }
        }
    }

    fn result(&self, row: usize) -> Matrix {
        let lanes = |i: usize| self.acc[row + i].0[..self.dim].iter().map(|&x| x.into()).collect();
        (0..self.dim).map(lanes).collect()
    }

    /// A, B and bias of product k go to banks 0, 1 and 2, transposed as the hardware is asked to undo it. Returns their registers.
    fn place(&mut self, k: usize, [a, b, bias]: &[Matrix; 3], a_transpose: bool, b_transpose: bool) -> [u64; 4] {
        let row = k * self.dim;
        let stored = |m: &Matrix, transposed| if transposed { reference::transpose(m) } else { m.clone() };
        self.store(0, row, &stored(a, a_transpose));
        self.store(1, row, &stored(b, b_transpose));
        self.store(2, row, bias);
        let row = row as u64;
        [self.spad(0, row), self.spad(1, row), self.spad(2, row), self.acc(row)]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ws_pairs_give_the_products((dim, products) in products(), transposes in 0..3) {
        let (a_transpose, b_transpose) = (transposes == 1, transposes == 2);
        let mut bench = Bench::new(dim);
        bench.config(true, a_transpose, b_transpose, 0);
        for (k, product) in products.iter().enumerate() {
            let [a, b, bias, c] = bench.place(k, product, a_transpose, b_transpose);
            bench.command(6, b, c);
            bench.command(4, a, bias);
        }
        bench.finish();
        for (k, [a, b, bias]) in products.iter().enumerate() {
            prop_assert_eq!(bench.result(k * dim as usize), reference::product(a, b, bias), "product {}", k);
        }
    }

    /// The hardware needs more entries than the three that it asserts (`cmd_q_heads`): the weights come out of the transposer with the
    /// discarded compute, and the preload that takes them must share its pass.
    #[test]
    fn transposed_weights_are_lost_if_the_queue_is_too_short_for_the_second_preload(
        (dim, products) in products(),
        ex_queue_length in 3u32..8,
        hazards in any::<bool>(),
        gaps in prop::collection::vec(0..40, 4),
    ) {
        let (ex_read_from_acc, ex_write_to_spad) = (false, hazards);
        let config = GemminiConfig::with_dim(dim).expect("a power of two");
        let config = GemminiConfig { ex_queue_length, ex_read_from_acc, ex_write_to_spad, ..config.into_inner() };
        let config = config.validated().expect("a valid configuration");
        let mut bench = Bench::with(&config);
        bench.config(true, false, true, 0);
        for (k, (product, gap)) in products.iter().zip(gaps).enumerate() {
            let [a, b, bias, c] = bench.place(k, product, false, true);
            bench.command(6, b, c);
            bench.command(4, a, bias);
            (0..gap).for_each(|_| _ = bench.cycle());
        }
        bench.finish();
        let lost = bench.events.violations().iter().find(|violated| violated.violation == Violation::WeightsLost);
        let lost = lost.map_or(0, |lost| lost.count as usize);
        let right = |(k, [a, b, bias]): (usize, &[Matrix; 3])| {
            bench.result(k * dim as usize) == reference::product(a, b, bias)
        };
        prop_assert!(lost == 0 || !config.warnings().is_empty());
        // A product with a matrix of zeros may be right all the same.
        prop_assert!(products.iter().enumerate().filter(|product| !right(*product)).count() <= lost);
        if hazards && ex_queue_length == 3 {
            prop_assert_eq!(lost, products.len());
        }
    }

    #[test]
    fn os_pairs_give_the_shifted_products((dim, products) in products(), transposes in 0..3, shift in 0u64..12) {
        // Both transposes at once would need the transposer twice: A's is off when the bit is set.
        let (a_transpose, b_transpose) = (transposes > 0, transposes == 2);
        let mut bench = Bench::new(dim);
        bench.config(false, a_transpose, b_transpose, shift);
        for (k, product) in products.iter().enumerate() {
            let [a, b, bias, c] = bench.place(k, product, a_transpose, b_transpose);
            bench.command(6, bias, c);
            bench.command(4, a, b);
        }
        bench.finish();
        for (k, [a, b, bias]) in products.iter().enumerate() {
            let mut expected = reference::product(a, b, bias);
            expected.iter_mut().flatten().for_each(|x| *x = reference::shift(*x, shift));
            prop_assert_eq!(bench.result(k * dim as usize), expected, "product {}", k);
        }
    }

    #[test]
    fn os_computes_accumulate_until_a_preload_with_a_destination((dim, products) in products()) {
        let mut bench = Bench::new(dim);
        bench.config(false, false, false, 0);
        let n = dim as usize;
        let mut expected = products[0][2].clone();
        for (k, product) in products.iter().enumerate() {
            let [a, b, bias, _] = bench.place(k, product, false, false);
            let (none, c) = (bench.garbage(), bench.acc(0));
            let last = k + 1 == products.len();
            bench.command(6, if k == 0 { bias } else { none }, if last { c } else { none });
            bench.command(if k == 0 { 4 } else { 5 }, a, b);
            expected = reference::product(&product[0], &product[1], &expected);
        }
        bench.finish();
        // The array's 20 bits are enough for three products of up to 16 x 16.
        prop_assume!(expected.iter().flatten().all(|x| x.abs() < 1 << 19));
        prop_assert_eq!(bench.result(0), expected);
        prop_assert_eq!(bench.log.writes.len(), n);
    }
}

/// A PRELOAD and its COMPUTE: rows and addresses of D, C, A and B; none for the garbage address.
type Pair = [Option<(u64, u64)>; 4];

fn pairs(dim: u32) -> impl Strategy<Value = Vec<Pair>> {
    // Banks of 4096 rows: operands begin near the start of a bank, or run over its end.
    let row = prop_oneof![0u64..40, 4080u64..4100, 8180u64..8200, 12280u64..12290];
    let operand = proptest::option::weighted(0.7, (1..=u64::from(dim), row));
    proptest::collection::vec(proptest::array::uniform4(operand), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the operands, and however the banks refuse them.
    #[test]
    fn rows_issued_as_a_streak_are_those_that_are_worked_out_one_by_one(
        pairs in pairs(16),
        ws in any::<bool>(),
        transposes in 0u64..4,
        a_stride in 0u64..3,
        refused in proptest::collection::vec(prop_oneof![4 => Just(0u32), 1 => 0u32..16], 1..24),
    ) {
        let run = |streaks| {
            let mut bench = Bench::new(16);
            (bench.streaks, bench.refused) = (streaks, refused.clone());
            bench.command(0, u64::from(ws) << 2 | transposes << 8 | a_stride << 16, 1 << 48);
            for pair in &pairs {
                let operand = |x: usize, base: u64| match pair[x] {
                    Some((rows, row)) => bench.extent(rows, base | row),
                    None => bench.garbage(),
                };
                let [d, c, a, b] = [operand(0, 0), operand(1, 1 << 31), operand(2, 0), operand(3, 0)];
                bench.command(6, d, c);
                bench.command(4, a, b);
            }
            // Banks that refuse every row let no pass come to its end.
            (0..500).for_each(|_| _ = bench.cycle());
            (bench.log, bench.acc)
        };
        prop_assert!(run(Some(RowStreaks::default())) == run(None));
    }
}
