//! The block behind a driven load or store side and in front of the golden bench's memory port. Cycle 0 is the cycle in
//! which the first request is offered.

use pollux_isa::LocalAddr;
use pollux_memory::Memory;

use super::*;
use crate::dma::mvin_path::{MvinActivity, MvinStall};
use crate::dma::mvout_path::{MvoutActivity, MvoutStall};
use crate::memory::{BenchMemory, BenchParameters, MemorySystem};
use crate::observation::activity::Conflict;
use crate::observation::event::{Cycle, Event};
use crate::parts::banks::{AccRow, BankId, BankRow, BankSet, SpadRow};
use crate::parts::row::MAX_DIM;
use crate::parts::wires::ExTarget;
use crate::port::frontend_tlb::{FrontendTlb, Translation};

const LATENCY: u64 = 20;
const ROWS: u64 = 16;

struct Bench {
    scratchpad: Scratchpad,
    tlb: FrontendTlb,
    memory: BenchMemory,
    events: EventBuffer,
    cycle: Cycle,
    /// Requests still to be offered, in order.
    loads: Vec<ScratchpadReadRequest>,
    stores: Vec<ScratchpadWriteRequest>,
    ex_writes: Vec<(Cycle, ExWrite)>,
    /// Cycle and event of everything that the banks and the port did.
    log: Vec<(Cycle, Event)>,
    load_responses: Vec<(Cycle, u32)>,
    store_responses: Vec<Cycle>,
    conflicts: Vec<(Cycle, Conflict, u32)>,
    mvout: Vec<MvoutActivity>,
    mvin: Vec<MvinActivity>,
}

impl Bench {
    fn new(config: &GemminiConfig) -> Self {
        let mut memory = Memory::new();
        let bytes: Vec<u8> = (0..4096u32).map(|i| (i % 251) as u8).collect();
        memory.write(0x1000, &bytes);
        let parameters = BenchParameters { latency: LATENCY, a_period: 1, d_period: 1 };
        Self {
            scratchpad: Scratchpad::new(config),
            tlb: FrontendTlb::new(config, Translation::Bare),
            memory: BenchMemory::new(parameters, config.beat_bytes() as usize, memory),
            events: EventBuffer::new(true),
            cycle: 0,
            loads: Vec::new(),
            stores: Vec::new(),
            ex_writes: Vec::new(),
            log: Vec::new(),
            load_responses: Vec::new(),
            store_responses: Vec::new(),
            conflicts: Vec::new(),
            mvout: Vec::new(),
            mvin: Vec::new(),
        }
    }

    fn step(&mut self) {
        let cycle = self.cycle;
        let tlb = self.tlb.wires();
        let at = self.ex_writes.iter().position(|(at, _)| *at == cycle);
        let ex_write = at.map(|i| self.ex_writes.remove(i).1).unwrap_or_default();
        let mut wires = self.scratchpad.wires(&ex_write, BankSet::EMPTY, &tlb.responses);
        let reads = ExReads::default();
        self.scratchpad.dispatch(&reads, &mut wires);
        let load = self.loads.first().copied().filter(|load| self.scratchpad.load_ready(load, &wires));
        let store = self.stores.first().copied().filter(|_| wires.store_ready);
        self.load_responses.extend(wires.load_response.map(|response| (cycle, response.bytes_read)));
        self.store_responses.extend(wires.store_response.map(|_| cycle));

        let (spad, _) = self.scratchpad.bank_use(&wires, &reads);
        let refused = Conflict::ALL.into_iter().zip(spad.refused).filter(|(_, banks)| *banks != 0);
        self.conflicts.extend(refused.map(|(conflict, banks)| (cycle, conflict, banks)));
        self.mvout.push(self.scratchpad.mvout_activity(&wires));
        self.mvin.push(self.scratchpad.mvin_activity(&wires));

        let a = self.scratchpad.port_a().copied().filter(|_| self.memory.a_ready(cycle));
        let d = self.memory.d_front(cycle).filter(|_| self.scratchpad.port_d_ready());
        let inputs = ScratchpadInputs {
            ex_write: &ex_write,
            pops: BankSet::EMPTY,
            reads: &reads,
            load: load.as_ref(),
            store: store.as_ref(),
            port_a_taken: a.is_some(),
            port_d: d.as_ref(),
        };
        let _ = self.scratchpad.tick(&wires, &inputs, &mut self.events);
        self.tlb.tick(&tlb, &wires.tlb_requests, false, |_| 0);
        if let Some(beat) = a {
            self.memory.accept(cycle, &beat);
            let ABeat { kind, source, address, size, beat, mask, .. } = beat;
            self.log.push((cycle, Event::Req { request: 0, kind, source, address, size, beat, mask }));
        }
        if d.is_some() {
            self.memory.take_d(cycle);
        }
        self.loads.drain(..usize::from(load.is_some()));
        self.stores.drain(..usize::from(store.is_some()));
        self.events.drain_sorted(|event| self.log.push((cycle, *event)));
        self.cycle += 1;
    }

    fn run(&mut self, cycles: u64) {
        for _ in 0..cycles {
            self.step();
        }
        assert!(!self.scratchpad.busy() && self.loads.is_empty() && self.stores.is_empty(), "still busy");
    }

    fn cycles(&self, of: impl Fn(&Event) -> bool) -> Vec<Cycle> {
        self.log.iter().filter(|(_, event)| of(event)).map(|(cycle, _)| *cycle).collect()
    }
}

fn is_req(event: &Event) -> bool {
    matches!(event, Event::Req { .. })
}

fn is_spad_write(event: &Event) -> bool {
    matches!(event, Event::SpadWrite { .. })
}

fn is_acc_write(event: &Event) -> bool {
    matches!(event, Event::AccWrite { .. })
}

fn load(laddr: LocalAddr, row: u64, row_bytes: u64) -> ScratchpadReadRequest {
    ScratchpadReadRequest {
        vaddr: 0x1000 + row * row_bytes,
        laddr,
        cols: 16,
        repeats: 0,
        scale: 1.0f32.to_bits(),
        has_acc_bitwidth: laddr.is_acc(),
        all_zeros: false,
        block_stride: 16,
        pixel_repeats: 1,
        cmd_id: 0,
    }
}

fn loads(laddr: fn(u32) -> LocalAddr, row_bytes: u64) -> Vec<ScratchpadReadRequest> {
    (0..ROWS).map(|k| load(laddr(k as u32), k, row_bytes)).collect()
}

fn store(laddr: LocalAddr, row: u64) -> ScratchpadWriteRequest {
    ScratchpadWriteRequest {
        vaddr: 0x8000 + 64 * row,
        laddr,
        to_spad: false,
        acc_act: 0,
        acc_scale: 1.0f32.to_bits(),
        acc_igelu_qb: 0,
        acc_igelu_qc: 0,
        acc_iexp_qln2: 0,
        acc_iexp_qln2_inv: 0,
        acc_norm_stats_id: 0,
        len: 16,
        block: 0,
        cmd_id: 0,
        pool_en: false,
        store_en: true,
    }
}

fn stores(laddr: fn(u32) -> LocalAddr) -> Vec<ScratchpadWriteRequest> {
    (0..ROWS).map(|k| store(laddr(k as u32), k)).collect()
}

fn from(first: u64, step: u64) -> Vec<Cycle> {
    (0..ROWS).map(|k| first + step * k).collect()
}

/// `default16` without normalizations, in which a queue stands in place of the normalizer: both take a cycle.
fn with_scale_latency(latency: u32) -> GemminiConfig {
    let mut config = GemminiConfig::default16();
    config.has_normalizations = false;
    config.acc_scale_args = config.acc_scale_args.map(|args| pollux_isa::config::ScaleArgs { latency, ..args });
    config
}

#[test]
fn loaded_bytes_are_written_13_cycles_and_the_memory_latency_after_their_request() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.loads = loads(LocalAddr::scratchpad, 16);
    bench.run(80);
    assert_eq!(bench.cycles(is_req), from(6, 1));
    assert_eq!(bench.cycles(is_spad_write), from(13 + LATENCY, 1));
    assert_eq!(bench.load_responses, from(13 + LATENCY, 1).into_iter().map(|cycle| (cycle, 16)).collect::<Vec<_>>());
    assert_eq!(bench.scratchpad.spad_row(SpadRow(1)).map(|row| row[0]), Some(16));
}

#[test]
fn a_row_of_64_columns_is_one_request_and_four_rows_of_the_scratchpad() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.loads = vec![ScratchpadReadRequest { cols: 64, ..load(LocalAddr::scratchpad(3), 0, 64) }];
    bench.run(60);
    let first = 13 + LATENCY;
    assert_eq!(bench.cycles(is_spad_write), [first, first + 1, first + 2, first + 3]);
    assert_eq!(bench.load_responses, [(first + 3, 64)]);
    assert_eq!(bench.scratchpad.spad_row(SpadRow(3 + 48)).map(|row| row[0]), Some(48));
}

#[test]
fn words_for_the_accumulator_are_accepted_every_four_cycles() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.loads = loads(LocalAddr::accumulator, 64);
    bench.run(140);
    assert_eq!(bench.cycles(is_acc_write), from(14 + LATENCY, 4));
    assert_eq!(bench.load_responses.last(), Some(&(74 + LATENCY, 64)));
    assert_eq!(bench.scratchpad.acc_row(AccRow(1)).map(|row| row[0]), Some(i32::from_le_bytes([64, 65, 66, 67])));
}

#[test]
fn a_scaled_row_alone_is_written_nine_cycles_later_and_a_stream_runs_at_three_rows_in_nineteen() {
    let scaled = |count| {
        let mut bench = Bench::new(&GemminiConfig::default16());
        bench.loads = loads(LocalAddr::scratchpad, 16);
        bench.loads.truncate(count);
        for load in &mut bench.loads {
            load.scale = 0.5f32.to_bits();
        }
        bench.run(200);
        bench
    };
    assert_eq!(scaled(1).cycles(is_spad_write), [22 + LATENCY]);
    let bench = scaled(16);
    let written = bench.cycles(is_spad_write);
    // The last rows have no others behind them to wait for.
    assert_eq!((written[9] - written[6], written[12] - written[9]), (19, 19));
    assert_eq!(bench.scratchpad.spad_row(SpadRow(1)).map(|row| row[1]), Some(8));
}

#[test]
fn zeros_are_written_two_cycles_after_their_request() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.loads = loads(LocalAddr::scratchpad, 16);
    for load in &mut bench.loads {
        load.all_zeros = true;
    }
    bench.run(40);
    assert_eq!(bench.cycles(is_spad_write), from(2, 1));
    assert_eq!(bench.load_responses.last(), Some(&(17, 16)));
}

#[test]
fn a_scratchpad_row_is_read_at_once_and_at_the_port_nine_cycles_after_its_request() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.stores = stores(LocalAddr::scratchpad);
    bench.run(80);
    assert_eq!(bench.store_responses, from(1, 1));
    assert_eq!(bench.cycles(is_req), from(9, 1));
}

#[test]
fn a_scaled_accumulator_read_runs_at_five_rows_in_eight_cycles() {
    let mut bench = Bench::new(&with_scale_latency(8));
    bench.stores = stores(LocalAddr::accumulator);
    bench.run(100);
    assert_eq!(bench.store_responses, [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 20, 21, 22]);
    let accepted = [11, 12, 13, 14, 15, 19, 20, 21, 22, 23, 27, 28, 29, 30, 31, 35];
    assert_eq!(bench.cycles(is_req), accepted.map(|cycle| cycle + 5));
    let in_scale_unit = |activity: &&MvoutActivity| **activity == MvoutActivity::Stalled(MvoutStall::ScaleUnit);
    // Nothing moves in cycles 9 and 10, 17 and 18, 24 to 26 and 32 to 34: five rows are in the unit, or the last one.
    assert_eq!(bench.mvout.iter().filter(in_scale_unit).count(), 10);
}

#[test]
fn a_scale_latency_of_four_runs_at_one_row_a_cycle() {
    let mut bench = Bench::new(&with_scale_latency(4));
    bench.stores = stores(LocalAddr::accumulator);
    bench.run(100);
    assert_eq!(bench.store_responses, from(1, 1));
    assert_eq!(bench.cycles(is_req), from(12, 1));
}

#[test]
fn a_full_width_read_writes_four_beats_a_row() {
    let mut bench = Bench::new(&with_scale_latency(8));
    bench.stores = stores(|row| LocalAddr::accumulator(row).with_full());
    bench.run(160);
    assert_eq!(bench.store_responses, [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
    assert_eq!(bench.cycles(is_req), (16..80).collect::<Vec<_>>());
}

#[test]
fn the_execute_controllers_write_wins_over_a_loaded_row_of_the_same_bank() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.loads = vec![load(LocalAddr::scratchpad(3), 0, 16)];
    let at = 13 + LATENCY;
    bench.ex_writes = vec![(
        at,
        ExWrite {
            target: Some(ExTarget::Spad { bank: BankId(0), row: BankRow(7), cols: 2 }),
            spad_row: SpadLanes([1; MAX_DIM]),
            ..ExWrite::default()
        },
    )];
    bench.run(60);
    let writes: Vec<_> = bench.log.iter().filter(|(_, event)| is_spad_write(event)).copied().collect();
    let (ex, dma) = (Port::Ex, Port::Dma);
    assert_eq!(
        writes,
        [
            (at, Event::SpadWrite { bank: 0, row: 7, port: ex }),
            (at + 1, Event::SpadWrite { bank: 0, row: 3, port: dma }),
        ]
    );
    assert_eq!(bench.scratchpad.spad_row(SpadRow(7)).map(|row| (row[1], row[2])), Some((1, 0)));
    assert_eq!(bench.conflicts, [(at, Conflict::MvinWrite, 1)]);
    assert_eq!(bench.mvin[at as usize], MvinActivity::Stalled(MvinStall::Bank));
}

#[test]
fn a_padding_row_is_stored_as_zeros_without_reading_a_bank() {
    let mut bench = Bench::new(&GemminiConfig::default16());
    bench.memory.memory_mut().write(0x8000, &[9; 16]);
    bench.stores = vec![store(LocalAddr::GARBAGE, 0)];
    bench.run(60);
    assert_eq!(bench.store_responses, [1]);
    assert_eq!(bench.memory.memory().read_vec(0x8000, 16), [0; 16]);
}

#[test]
fn zeros_for_one_accumulator_bank_go_to_the_row_that_a_loaded_row_of_the_other_bank_shows() {
    let config = GemminiConfig::default16();
    let mut bench = Bench::new(&config);
    // A stride-0 load shows all its rows but the last without the end of its packet.
    let bank_rows = config.acc_bank_entries();
    let repeated = load(LocalAddr::accumulator(5), 0, 64);
    bench.loads = vec![ScratchpadReadRequest { repeats: 7, ..repeated }];
    for _ in 0..LATENCY + 13 {
        bench.step();
    }
    let zeros = load(LocalAddr::accumulator(bank_rows + 40), 0, 64);
    bench.loads = vec![ScratchpadReadRequest { all_zeros: true, ..zeros }];
    bench.run(60);
    let rows = bench.log.iter().filter_map(|(_, event)| match event {
        Event::AccWrite { bank: 1, row, .. } => Some(*row),
        _ => None,
    });
    let rows: Vec<u32> = rows.collect();
    assert_eq!(rows.len(), 1);
    assert!((5..13).contains(&rows[0]), "{rows:?}");
}
