//! The DMA side alone (load and store controller, engines, translation, TileLink, bench memory) against the requests
//! and responses of recorded RTL traces. Commands are issued in the cycles that the trace gives; between the engines
//! stands the simplest scratchpad with the hardware's latencies: no bank conflicts, no scaling.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;

use crate::dma::dma_parameters::DmaParameters;
use crate::dma::load_controller::{LoadController, ScratchpadReadRequest, ScratchpadReadResponse};
use crate::dma::store_controller::{ScratchpadWriteRequest, StoreController};
use crate::dma::stream_reader::{StreamReadRequest, StreamReadResponse, StreamReader};
use crate::dma::stream_writer::{MAX_WRITE_BYTES, StreamWriteRequest, StreamWriter};
use crate::memory::{BenchMemory, BenchParameters, MemoryPort, MemorySystem};
use crate::observation::event::{Event, EventBuffer, Unit};
use crate::parts::queue::Queue;
use crate::parts::wires::{IssuedCmd, RobId};
use crate::port::frontend_tlb::{FrontendTlb, Translation};
use crate::port::tilelink::{DmaClient, SourceRanges, TileLink, TileLinkInputs};
use flate2::read::GzDecoder;
use pollux_isa::{GemminiConfig, LocalAddr, RoccCommand};
use pollux_memory::Memory;

/// Cycles from the merger's output to the bank write of an unscaled row: scaling queue of two, scaling unit, repeater.
const MERGER_TO_BANK: u64 = 4;

/// A case: what the bench did and what the RTL answered.
struct Case {
    config: GemminiConfig,
    bench: BenchParameters,
    memory: Memory,
    /// (cycle, unit, command) of the issue events.
    issues: VecDeque<(u64, Unit, IssuedCmd)>,
    /// The `req` and `rsp` lines and the completions of loads.
    expected: Vec<String>,
    memory_out: String,
    dumps: Vec<(u64, u64)>,
}

fn text(dir: &Path, name: &str) -> String {
    let mut out = String::new();
    if let Ok(file) = std::fs::File::open(dir.join(format!("{name}.gz"))) {
        GzDecoder::new(file).read_to_string(&mut out).expect("a gzip file");
    } else {
        out = std::fs::read_to_string(dir.join(name)).expect("a case file");
    }
    out
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a hexadecimal number")
}

fn case(name: &str) -> Case {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/directed").join(name);
    let mut case = Case {
        config: if name.starts_with("d4_") { GemminiConfig::small4() } else { GemminiConfig::default16() },
        bench: BenchParameters::default(),
        memory: Memory::new(),
        issues: VecDeque::new(),
        expected: Vec::new(),
        memory_out: text(&dir, "memory_out.txt"),
        dumps: Vec::new(),
    };
    for line in text(&dir, "program.txt").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["latency", n] => case.bench.latency = n.parse().unwrap(),
            ["a_period", n] => case.bench.a_period = n.parse().unwrap(),
            ["d_period", n] => case.bench.d_period = n.parse().unwrap(),
            ["dump", address, length] => case.dumps.push((hex(address), length.parse().unwrap())),
            _ => {}
        }
    }
    for line in text(&dir, "memory_in.txt").lines() {
        let (address, bytes) = line.split_once(' ').unwrap();
        case.memory.write(hex(address), &decode(bytes));
    }
    read_trace(&mut case, &text(&dir, "trace.csv"));
    case
}

fn decode(bytes: &str) -> Vec<u8> {
    (0..bytes.len()).step_by(2).map(|i| hex(&bytes[i..i + 2]) as u8).collect()
}

fn read_trace(case: &mut Case, trace: &str) {
    let mut commands = Vec::new();
    for line in trace.lines().skip(1) {
        let f: Vec<&str> = line.split(',').collect();
        let cycle: u64 = f[0].parse().unwrap();
        let unit = |name| if name == "ld" { Unit::Ld } else { Unit::St };
        match f[1] {
            "alloc" => {
                let (index, rs1, rs2) = (f[4].parse().unwrap(), hex(f[6]), hex(f[7]));
                let cmd = RoccCommand { funct: f[5].parse().unwrap(), rs1, rs2 };
                commands.push((unit(f[3]), cmd, RobId { unit: unit(f[3]), index }));
            }
            "issue" => {
                let (unit, cmd, rob_id) = commands[f[2].parse::<usize>().unwrap()];
                case.issues.push_back((cycle, unit, IssuedCmd { cmd, rob_id: Some(rob_id) }));
            }
            "complete" if f[3] == "ld" && commands[f[2].parse::<usize>().unwrap()].1.funct != 0 => {
                case.expected.push(format!("{cycle},load complete"));
            }
            "req" | "rsp" => case.expected.push(line.to_owned()),
            _ => {}
        }
    }
}

fn show(cycle: u64, event: &Event) -> String {
    match *event {
        Event::Req { request, kind, source, address, size, beat, mask } => {
            let kind = format!("{kind:?}").to_lowercase();
            format!("{cycle},req,{request},{kind},{source},{address:x},{size},{beat},{mask:04x}")
        }
        Event::Rsp { request, ack, source, beat } => {
            format!("{cycle},rsp,{request},{},{source},{beat}", if ack { "ack" } else { "data" })
        }
        _ => unreachable!("only the port makes events here"),
    }
}

/// The DMA side with its test scratchpad.
struct Bench {
    config: GemminiConfig,
    load: LoadController,
    store: StoreController,
    reader: StreamReader,
    writer: StreamWriter,
    tilelink: TileLink,
    tlb: FrontendTlb,
    port: MemoryPort,
    memory: BenchMemory,
    read_issue: Queue<ScratchpadReadRequest>,
    /// Rows on their way to the bank.
    scaling: VecDeque<(u64, StreamReadResponse, [i8; 64])>,
    dispatch: Queue<ScratchpadWriteRequest>,
    norm: Queue<(ScratchpadWriteRequest, Vec<i8>)>,
    scale: Queue<(ScratchpadWriteRequest, Vec<i8>)>,
    issue: Queue<(ScratchpadWriteRequest, Vec<i8>)>,
    scratchpad: Vec<Vec<i8>>,
}

impl Bench {
    fn new(case: &Case) -> Self {
        let (config, parameters) = (&case.config, DmaParameters::new(&case.config));
        let sources = SourceRanges::new(parameters.xacts).len();
        Self {
            load: LoadController::new(config),
            store: StoreController::new(config),
            reader: StreamReader::new(parameters),
            writer: StreamWriter::new(parameters),
            tilelink: TileLink::new(parameters.xacts, parameters.beat_bytes),
            tlb: FrontendTlb::new(config, Translation::Bare),
            port: MemoryPort::new(sources),
            memory: BenchMemory::new(case.bench, parameters.beat_bytes, case.memory.clone()),
            read_issue: Queue::pipe(5),
            scaling: VecDeque::new(),
            dispatch: Queue::plain(2),
            norm: Queue::plain(6),
            scale: Queue::plain(6),
            issue: Queue::pipe(5),
            scratchpad: vec![vec![0; parameters.dim]; config.sp_rows() as usize],
            config: config.clone(),
        }
    }

    fn row(&self, laddr: LocalAddr) -> usize {
        laddr.full_sp_addr(self.config.layout()) as usize
    }

    /// One cycle; returns what it did.
    fn step(&mut self, cycle: u64, ld: Option<IssuedCmd>, st: Option<IssuedCmd>) -> Vec<String> {
        let mut events = EventBuffer::new(true);
        // Wires.
        let tlb = self.tlb.wires();
        let d = [DmaClient::Reader, DmaClient::Writer].map(|c| self.tilelink.d(c).copied());
        let a_ready = [DmaClient::Reader, DmaClient::Writer].map(|c| self.tilelink.a_ready(c));
        let reader = self.reader.wires(tlb.responses[1], a_ready[0], d[0].as_ref(), true);
        let writer = self.writer.wires(tlb.responses[0], a_ready[1], d[1].is_some());
        let port_a = self.tilelink.port_a().copied();
        let port = self.port.wires(cycle, &self.memory, port_a.as_ref(), self.tilelink.port_d_ready());
        let merged = self.reader.resp().map(|resp| (cycle + MERGER_TO_BANK, resp, self.reader.resp_spad_row().0));
        let (read, write) = (self.load.request(), self.store.request());
        let stream_read = self.read_issue.front().map(|request| self.stream_read(request));
        let stream_write = self.issue.front().map(|(request, data)| stream_write(request, data));
        let read_fires = read.is_some() && self.read_issue.enq_ready(reader.req_ready);
        let write_fires = write.is_some() && self.dispatch.enq_ready(false);
        let read_row = !self.dispatch.is_empty() && self.norm.enq_ready(false);
        let to_scale = !self.norm.is_empty() && self.scale.enq_ready(false);
        let to_issue = !self.scale.is_empty() && self.issue.enq_ready(writer.req_ready);
        let load_completes = self.load.completed().is_some();
        // Clock edge.
        let written = self.scaling.pop_front_if(|row| row.0 == cycle);
        let response = written.and_then(|row| self.write_row(&row.1, &row.2));
        let stored = self.dispatch.front().filter(|_| read_row).map(|request| request.cmd_id);
        let _ = self.load.tick(ld, read_fires, response, true, &mut EventBuffer::default());
        let _ = self.store.tick(st, write_fires, stored, true, &mut EventBuffer::default());
        self.scaling.extend(merged);
        if reader.req_ready {
            self.read_issue.pop();
        }
        if let Some(request) = read.filter(|_| read_fires) {
            self.read_issue.push(request);
        }
        let reader_a = reader.a_fires.then(|| self.reader.a_beat(&reader));
        let writer_a = self.writer.a_beat(&writer).filter(|_| writer.a_fires);
        let _ = self.reader.tick(&reader, stream_read.as_ref(), d[0].as_ref());
        let _ = self.writer.tick(&writer, stream_write.as_ref(), d[1].as_ref());
        self.tick_store_queues(writer.req_ready, to_issue, to_scale, read_row);
        if let Some(request) = write.filter(|_| write_fires) {
            self.dispatch.push(request);
        }
        let _ = self.tilelink.tick(&TileLinkInputs {
            a: [reader_a.as_ref(), writer_a.as_ref()],
            d_taken: [reader.d_taken, writer.d_taken],
            port_a_taken: port.a_taken,
            port_d: port.d.as_ref(),
        });
        let _ = self.port.tick(cycle, &port, &mut self.memory, port_a.as_ref(), &mut events);
        self.tlb.tick(&tlb, &[writer.tlb_request, reader.tlb_request], false, |_| 0);
        let mut lines = if load_completes { vec![format!("{cycle},load complete")] } else { Vec::new() };
        events.drain_sorted(|event| lines.push(show(cycle, event)));
        lines
    }

    fn tick_store_queues(&mut self, taken: bool, to_issue: bool, to_scale: bool, read_row: bool) {
        if taken {
            self.issue.pop();
        }
        if to_issue && let Some(row) = self.scale.pop() {
            self.issue.push(row);
        }
        if to_scale && let Some(row) = self.norm.pop() {
            self.scale.push(row);
        }
        if read_row && let Some(request) = self.dispatch.pop() {
            let data = self.scratchpad[self.row(request.laddr)].clone();
            self.norm.push((request, data));
        }
    }

    fn stream_read(&self, request: &ScratchpadReadRequest) -> StreamReadRequest {
        StreamReadRequest {
            vaddr: request.vaddr,
            row: request.laddr.full_sp_addr(self.config.layout()),
            scale: request.scale,
            len: request.cols,
            repeats: request.repeats,
            pixel_repeats: request.pixel_repeats,
            block_stride: request.block_stride,
            cmd_id: request.cmd_id,
            ..StreamReadRequest::default()
        }
    }

    fn write_row(&mut self, row: &StreamReadResponse, data: &[i8; 64]) -> Option<ScratchpadReadResponse> {
        let to = &mut self.scratchpad[row.row as usize];
        for (i, lane) in to.iter_mut().enumerate() {
            if (row.mask_start..row.mask_end).contains(&i) {
                *lane = data[i];
            }
        }
        row.last.then_some(ScratchpadReadResponse { bytes_read: row.bytes_read, cmd_id: row.cmd_id })
    }

    fn dump(&self, dumps: &[(u64, u64)]) -> String {
        let bytes = dumps.iter().flat_map(|&(address, n)| self.memory.memory().read_vec(address, n as usize));
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

fn stream_write(request: &ScratchpadWriteRequest, data: &[i8]) -> StreamWriteRequest {
    let mut bytes = [0; MAX_WRITE_BYTES];
    for (byte, lane) in bytes.iter_mut().zip(data) {
        *byte = *lane as u8;
    }
    StreamWriteRequest {
        vaddr: request.vaddr,
        physical: false,
        data: bytes,
        len: request.len,
        block: request.block,
        pool_en: request.pool_en,
        store_en: request.store_en,
    }
}

fn run(name: &str) {
    let mut case = case(name);
    let mut bench = Bench::new(&case);
    let mut actual = Vec::new();
    for cycle in 0..3000 {
        let mut issued = [None, None];
        while let Some((_, unit, cmd)) = case.issues.pop_front_if(|issue| issue.0 == cycle) {
            issued[usize::from(unit == Unit::St)] = Some(cmd);
        }
        actual.extend(bench.step(cycle, issued[0], issued[1]));
    }
    for (i, (actual, expected)) in actual.iter().zip(&case.expected).enumerate() {
        assert_eq!(actual, expected, "{name}: event {i}");
    }
    assert!(actual.len() > 2 && actual.len() == case.expected.len(), "{name}: {} events", actual.len());
    let expected: String = case.memory_out.lines().filter_map(|line| line.split_once(' ')).map(|(_, b)| b).collect();
    assert_eq!(bench.dump(&case.dumps), expected, "{name}: memory");
}

#[test]
fn loads_reach_the_port_and_complete_in_the_recorded_cycles() {
    for name in ["1row", "4rows", "16rows", "16x64", "lat1", "lat200", "cross_bank", "stride100", "unaligned"] {
        run(&format!("mv_in_{name}"));
    }
}

#[test]
fn stores_reach_the_port_in_the_recorded_cycles() {
    for name in ["16", "16x64", "three", "unaligned", "wide_unaligned"] {
        run(&format!("mv_out_{name}"));
    }
}

#[test]
fn throttled_ports_delay_requests_and_responses_as_recorded() {
    for name in ["slow_mv_in", "slow_mv_out", "slow_mv_out_unaligned"] {
        run(name);
    }
}

#[test]
fn a_row_narrower_than_a_beat_is_split_as_recorded() {
    for name in ["d4_mv_in_4rows", "d4_mv_in_wide", "d4_mv_out_unaligned"] {
        run(name);
    }
}
