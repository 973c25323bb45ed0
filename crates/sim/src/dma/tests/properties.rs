//! What the DMA engines must keep whatever the sizes: every byte of a load arrives once and in its place, every byte
//! of a store is written once and no other byte is, for all bus widths, request sizes, alignments and memory speeds.

use std::collections::BTreeMap;

use crate::dma::dma_parameters::DmaParameters;
use crate::dma::stream_reader::{StreamReadRequest, StreamReader};
use crate::dma::stream_writer::{MAX_WRITE_BYTES, StreamWriteRequest, StreamWriter};
use crate::memory::{
    BandwidthMemory, BandwidthParameters, BenchMemory, BenchParameters, CacheParameters, DramL2Memory,
    DramL2Parameters, MemoryPort, MemorySystem,
};
use crate::observation::event::{Event, EventBuffer, ReqKind};
use crate::port::frontend_tlb::{FrontendTlb, PageTables, Translation};
use crate::port::tilelink::{DmaClient, SourceRanges, TileLink, TileLinkInputs};
use pollux_isa::GemminiConfig;
use pollux_memory::Memory;
use proptest::prelude::*;

const BASE: u64 = 0x8000_0000;
const REGION: u64 = 0x6000;

/// Engines, translation, TileLink and port; everything downstream of the reader is always ready.
struct Engines<M> {
    reader: StreamReader,
    writer: StreamWriter,
    tilelink: TileLink,
    tlb: FrontendTlb,
    port: MemoryPort,
    memory: M,
    /// Bytes delivered by the reader: (row, byte of the row) to value.
    loaded: BTreeMap<(u32, usize), u8>,
    responses: u32,
    beat_bytes: u64,
    /// Bytes written at the port, by address.
    written: BTreeMap<u64, u32>,
}

impl<M: MemorySystem> Engines<M> {
    fn new(config: &GemminiConfig, translation: Translation, memory: M) -> Self {
        let parameters = DmaParameters::new(config);
        Self {
            reader: StreamReader::new(parameters),
            writer: StreamWriter::new(parameters),
            tilelink: TileLink::new(parameters.xacts, parameters.beat_bytes),
            tlb: FrontendTlb::new(config, translation),
            port: MemoryPort::new(SourceRanges::new(parameters.xacts).len()),
            memory,
            loaded: BTreeMap::new(),
            responses: 0,
            beat_bytes: parameters.beat_bytes as u64,
            written: BTreeMap::new(),
        }
    }

    /// Returns whether the requests were accepted and whether any block reports progress.
    fn step(&mut self, cycle: u64, load: Option<&StreamReadRequest>, store: Option<&StreamWriteRequest>) -> [bool; 3] {
        let mut events = EventBuffer::new(true);
        let tlb = self.tlb.wires();
        let d = [DmaClient::Reader, DmaClient::Writer].map(|c| self.tilelink.d(c).copied());
        let a_ready = [DmaClient::Reader, DmaClient::Writer].map(|c| self.tilelink.a_ready(c));
        let reader = self.reader.wires(tlb.responses[1], a_ready[0], d[0].as_ref(), true);
        let writer = self.writer.wires(tlb.responses[0], a_ready[1], d[1].is_some());
        let port_a = self.tilelink.port_a().copied();
        let port = self.port.wires(cycle, &self.memory, port_a.as_ref(), self.tilelink.port_d_ready());
        self.collect();
        let reader_a = reader.a_fires.then(|| self.reader.a_beat(&reader));
        let writer_a = self.writer.a_beat(&writer).filter(|_| writer.a_fires);
        let mut progress = self.reader.tick(&reader, load, d[0].as_ref());
        progress |= self.writer.tick(&writer, store, d[1].as_ref());
        progress |= self.tilelink.tick(&TileLinkInputs {
            a: [reader_a.as_ref(), writer_a.as_ref()],
            d_taken: [reader.d_taken, writer.d_taken],
            port_a_taken: port.a_taken,
            port_d: port.d.as_ref(),
        });
        progress |= self.port.tick(cycle, &port, &mut self.memory, port_a.as_ref(), &mut events);
        let memory = self.memory.memory();
        let read = |address| u64::from_le_bytes(memory.read_array(address));
        progress |= self.tlb.tick(&tlb, &[writer.tlb_request, reader.tlb_request], false, read);
        let beat_bytes = self.beat_bytes;
        events.drain_sorted(|event| {
            if let Event::Req { kind: ReqKind::PutFull | ReqKind::PutPartial, address, beat, mask, .. } = *event {
                for byte in (0..64).filter(|i| mask >> i & 1 == 1) {
                    *self.written.entry(address + u64::from(beat) * beat_bytes + byte).or_default() += 1;
                }
            }
        });
        [reader.req_ready, writer.req_ready, progress]
    }

    fn collect(&mut self) {
        let Some(resp) = self.reader.resp() else { return };
        let bytes: Vec<u8> = if resp.has_acc_bitwidth {
            self.reader.resp_acc_row().0.iter().flat_map(|word| word.to_le_bytes()).collect()
        } else {
            self.reader.resp_spad_row().0.iter().map(|lane| *lane as u8).collect()
        };
        for (i, byte) in bytes.iter().enumerate().take(resp.mask_end).skip(resp.mask_start) {
            assert_eq!(self.loaded.insert((resp.row, i), *byte), None, "row {} byte {i} written twice", resp.row);
        }
        self.responses += if resp.last { resp.bytes_read } else { 0 };
    }

    /// Feeds the requests as fast as they are taken and runs until everything is quiet; returns the cycles.
    fn run(&mut self, loads: &[StreamReadRequest], stores: &[StreamWriteRequest]) -> u64 {
        let (mut load, mut store) = (0, 0);
        for cycle in 0..100_000 {
            let (request, row) = (loads.get(load), stores.get(store));
            let pending = request.is_some() || row.is_some();
            let [load_taken, store_taken, progress] = self.step(cycle, request, row);
            load += usize::from(load_taken && request.is_some());
            store += usize::from(store_taken && row.is_some());
            let quiet =
                !self.reader.busy() && !self.reader.active() && !self.writer.busy() && self.reader.resp().is_none();
            if !pending && quiet && !progress {
                return cycle;
            }
            let external = self.memory.next_event(cycle, true).is_some();
            assert!(progress || external, "cycle {cycle}: stuck without progress");
        }
        panic!("not finished");
    }
}

/// Memory with a recognisable byte everywhere in the region.
fn filled() -> Memory {
    let mut memory = Memory::new();
    let bytes: Vec<u8> = (0..REGION).map(byte_at).collect();
    memory.write(BASE, &bytes);
    memory
}

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

fn config(dim: u32, bus: u32, max_bytes: u32, xacts: u32) -> GemminiConfig {
    GemminiConfig {
        mesh_rows: dim,
        mesh_columns: dim,
        dma_buswidth: bus,
        dma_maxbytes: max_bytes.max(bus / 8),
        max_in_flight_mem_reqs: xacts,
        ..GemminiConfig::default16()
    }
}

fn configs() -> impl Strategy<Value = GemminiConfig> {
    let dims = prop::sample::select(vec![4u32, 8, 16, 32, 64]);
    let buses = prop::sample::select(vec![64u32, 128, 256, 512]);
    let sizes = prop::sample::select(vec![64u32, 128]);
    (dims, buses, sizes, prop::sample::select(vec![2u32, 4, 16, 64])).prop_map(|(d, b, s, x)| config(d, b, s, x))
}

/// Offset in the region, columns (reduced to what the row takes), wide elements.
type Row = (u64, u32, bool);

fn loads(config: &GemminiConfig, rows: &[Row]) -> Vec<StreamReadRequest> {
    let blocks = config.max_block_len();
    let request = |(i, &(offset, cols, wide)): (usize, &Row)| {
        let most = if wide { config.dim() } else { config.dim() * blocks };
        StreamReadRequest {
            vaddr: BASE + offset,
            row: (i as u32) * 64,
            is_acc: wide,
            has_acc_bitwidth: wide,
            len: (cols % most + 1) as u16,
            block_stride: 1,
            ..StreamReadRequest::default()
        }
    };
    rows.iter().enumerate().map(request).collect()
}

fn expected_bytes(config: &GemminiConfig, requests: &[StreamReadRequest]) -> BTreeMap<(u32, usize), u8> {
    let mut expected = BTreeMap::new();
    for request in requests {
        let (element, row) =
            if request.has_acc_bitwidth { (4, config.acc_row_bytes()) } else { (1, config.sp_row_bytes()) };
        for i in 0..u32::from(request.len) * element {
            let byte = byte_at(request.vaddr - BASE + u64::from(i));
            expected.insert((request.row + i / row, (i % row) as usize), byte);
        }
    }
    expected
}

fn check_loads<M: MemorySystem>(config: &GemminiConfig, translation: Translation, memory: M, rows: &[Row]) -> u64 {
    let requests = loads(config, rows);
    let mut engines = Engines::new(config, translation, memory);
    let cycles = engines.run(&requests, &[]);
    let expected = expected_bytes(config, &requests);
    assert_eq!(engines.responses as usize, expected.len(), "bytes reported to the load controller");
    assert_eq!(engines.loaded, expected);
    cycles
}

fn bandwidth(latency: u64, outstanding: u64, beat_bytes: usize) -> BandwidthMemory {
    let parameters = BandwidthParameters { latency, bytes: 24, cycles: 2, outstanding };
    BandwidthMemory::new(parameters, beat_bytes, filled())
}

fn dram(beat_bytes: usize) -> DramL2Memory {
    let cache = CacheParameters { kib: 4, ways: 4, hit_cycles: 20 };
    DramL2Memory::new(DramL2Parameters { cache, outstanding: 12, ..DramL2Parameters::default() }, beat_bytes, filled())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0..0x4000u64, 0..256u32, any::<bool>()), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_of_a_load_arrives_once_in_its_place(config in configs(), rows in rows(), latency in 1..60u64, n in 1..20u64) {
        check_loads(&config, Translation::Bare, bandwidth(latency, n, config.beat_bytes() as usize), &rows);
    }

    #[test]
    fn loads_survive_page_walks_and_responses_out_of_order(config in configs(), rows in rows(), walk_latency in 1..80u32) {
        let paged = Translation::Paged { tables: PageTables::Identity, walk_latency };
        check_loads(&config, paged, dram(config.beat_bytes() as usize), &rows);
    }

    #[test]
    fn every_byte_of_a_store_is_written_once_and_no_other(
        config in configs(),
        rows in prop::collection::vec((0..0x1000u64, 1..256u32, any::<bool>()), 1..12),
        paged in prop::option::of(1..80u32),
        periods in (1..4u64, 1..4u64),
    ) {
        let translation = paged.map_or(Translation::Bare, |walk_latency| Translation::Paged { tables: PageTables::Identity, walk_latency });
        let bench = BenchParameters { latency: 20, a_period: periods.0, d_period: periods.1 };
        let memory = BenchMemory::new(bench, config.beat_bytes() as usize, filled());
        let mut expected = filled();
        let mut stores = Vec::new();
        let mut count = BTreeMap::new();
        for (i, &(offset, cols, wide)) in rows.iter().enumerate() {
            // Rows apart from each other: stores to the same bytes would have to be counted together.
            let vaddr = BASE + (i as u64) * 0x800 + offset % 0x400;
            store_row(&config, vaddr, cols, wide, &mut stores, &mut expected, &mut count);
        }
        let mut engines = Engines::new(&config, translation, memory);
        engines.run(&[], &stores);
        prop_assert_eq!(&engines.written, &count);
        prop_assert_eq!(engines.memory.memory().first_difference_anywhere(&expected), None);
    }
}

/// Adds the requests of one row: a full-width row, or blocks of DIM bytes of which the last one sends.
fn store_row(
    config: &GemminiConfig,
    vaddr: u64,
    cols: u32,
    wide: bool,
    stores: &mut Vec<StreamWriteRequest>,
    expected: &mut Memory,
    count: &mut BTreeMap<u64, u32>,
) {
    let dim = config.dim();
    let total = if wide { (cols % dim + 1) * 4 } else { cols % (dim * config.max_block_len()) + 1 };
    let bytes: Vec<u8> = (0..u64::from(total)).map(|i| byte_at(vaddr ^ i << 3)).collect();
    let block_bytes = if wide { total } else { dim } as usize;
    let blocks = bytes.chunks(block_bytes).count();
    for (block, chunk) in bytes.chunks(block_bytes).enumerate() {
        let mut data = [0; MAX_WRITE_BYTES];
        data[..chunk.len()].copy_from_slice(chunk);
        stores.push(StreamWriteRequest {
            vaddr,
            physical: false,
            data,
            len: chunk.len() as u16,
            block: block as u8,
            pool_en: false,
            store_en: block + 1 == blocks,
        });
    }
    expected.write(vaddr, &bytes);
    for i in 0..u64::from(total) {
        *count.entry(vaddr + i).or_default() += 1;
    }
}

#[test]
fn loads_and_stores_at_once_share_the_tlb_and_the_crossbar_without_loss() {
    let config = GemminiConfig::default16();
    let rows: Vec<Row> = (0..40).map(|i| (0x1000 * (i % 3) + 0x40 * i, 63, false)).collect();
    let requests = loads(&config, &rows);
    let (mut stores, mut count) = (Vec::new(), BTreeMap::new());
    let mut expected = filled();
    for i in 0..40 {
        store_row(&config, BASE + 0x4000 + 0x80 * i + i % 7, 63, false, &mut stores, &mut expected, &mut count);
    }
    for translation in [Translation::Bare, Translation::Paged { tables: PageTables::Identity, walk_latency: 30 }] {
        let mut engines = Engines::new(&config, translation, dram(16));
        engines.run(&requests, &stores);
        assert_eq!(engines.loaded, expected_bytes(&config, &requests));
        assert_eq!(engines.memory.memory().first_difference_anywhere(&expected), None);
    }
}

#[test]
fn pooled_rows_send_the_lanewise_signed_maximum() {
    let config = GemminiConfig::default16();
    let bench = BenchMemory::new(BenchParameters::default(), 16, Memory::new());
    let mut engines = Engines::new(&config, Translation::Bare, bench);
    let row = |values: [i8; 4], pool_en, store_en| {
        let mut data = [0; MAX_WRITE_BYTES];
        data[..4].copy_from_slice(&values.map(|v| v as u8));
        StreamWriteRequest { vaddr: BASE, physical: false, data, len: 4, block: 0, pool_en, store_en }
    };
    let rows = [row([-5, 7, 0, -128], false, false), row([-6, 8, 1, 127], true, false), row([-4, 0, 0, 0], true, true)];
    engines.run(&[], &rows);
    assert_eq!(engines.memory.memory().read_array(BASE), [-4i8, 8, 1, 127].map(|v| v as u8));
}

#[test]
fn a_walk_delays_the_first_access_to_a_page_by_its_latency() {
    let config = GemminiConfig::default16();
    let cycles = |walk_latency| {
        let paged = Translation::Paged { tables: PageTables::Identity, walk_latency };
        check_loads(&config, paged, bandwidth(10, 16, 16), &[(0, 15, false)])
    };
    // The packet circulates and is tried every second cycle.
    assert_eq!(cycles(42) - cycles(2), 40);
}

/// A later beat of a burst also needs a free transaction (`untranslated_a.valid`, `DMA.scala`), so the burst that takes
/// the last one waits for an earlier burst's answer; with a single transaction there is none.
#[test]
fn with_one_transaction_a_burst_never_ends() {
    let config = config(16, 128, 64, 1);
    let bench = BenchMemory::new(BenchParameters::default(), 16, Memory::new());
    let mut engines = Engines::new(&config, Translation::Bare, bench);
    let row = StreamWriteRequest {
        vaddr: BASE,
        physical: false,
        data: [0; MAX_WRITE_BYTES],
        len: 64,
        block: 0,
        pool_en: false,
        store_en: true,
    };
    let idle = (0..100).filter(|&cycle| !engines.step(cycle, None, (cycle == 0).then_some(&row))[2]).count();
    assert!(idle > 90);
    assert_eq!(engines.writer.waiting_for().as_deref(), Some("StreamWriter: row at 0x80000040 not sent"));
}
