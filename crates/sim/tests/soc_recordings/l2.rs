//! The L2: Gemmini's requests come when they came there, and every beat has to be
//! accepted and answered in the cycle in which it was.

use std::collections::{HashMap, VecDeque};

use pollux_memory::Memory;
use pollux_sim::memory::{ABeat, MAX_BEAT_BYTES, MemorySystem, OuterMemory, ReqKind};
use pollux_sim::uncore::hierarchy::{L2Parameters, TileInputs, Uncore};
use pollux_sim::uncore::tilelink::{AOp, BeatA, Client, LINE_BYTES, Source};

use super::{BEAT_BYTES, decimal, hex, rows};

/// A beat on channel A as it was recorded.
struct Sent {
    /// Accepted.
    cycle: u64,
    /// First offered.
    offered: u64,
    beat: ABeat,
}

/// A recording of the ports at both sides of the L2.
struct Recording {
    sent: VecDeque<Sent>,
    /// Cycles of the beats on channel D, by source.
    answers: HashMap<u16, VecDeque<u64>>,
    /// Reads of memory that the core caused: cycle and line.
    core: VecDeque<(u64, u64)>,
    /// All reads of memory.
    reads: Vec<(u64, u64)>,
}

impl Recording {
    fn new(program: &str, until: u64) -> Self {
        let mut recording =
            Self { sent: VecDeque::new(), answers: HashMap::new(), core: VecDeque::new(), reads: Vec::new() };
        let mut beats: HashMap<u16, u32> = HashMap::new();
        for row in rows(program, "tl.csv.gz") {
            let (cycle, source) = (decimal(&row[0]), row[4].parse().unwrap());
            if cycle >= until {
                continue;
            }
            if row[1] == "D" {
                recording.answers.entry(source).or_default().push_back(cycle);
                continue;
            }
            let kind = match row[2].as_str() {
                "4" => ReqKind::Get,
                "0" => ReqKind::PutFull,
                _ => ReqKind::PutPartial,
            };
            let size = 1u32 << row[3].parse::<u32>().unwrap();
            let all = if kind == ReqKind::Get { 1 } else { (size / BEAT_BYTES).max(1) };
            let next = beats.entry(source).or_default();
            let (beat, last) = (*next, *next + 1 == all);
            *next = if last { 0 } else { beat + 1 };
            let address = hex(&row[5]) & !(u64::from(size) - 1);
            let data = [0; MAX_BEAT_BYTES];
            let beat = ABeat { kind, source, address, size, beat, last, mask: 0xffff, data };
            recording.sent.push_back(Sent { cycle, offered: cycle - decimal(&row[6]), beat });
        }
        let read = |row: &Vec<String>| (row[1] == "R").then(|| (decimal(&row[0]), hex(&row[3])));
        recording.reads = rows(program, "axi.csv.gz").iter().filter_map(read).filter(|read| read.0 < until).collect();
        // What Gemmini has not asked for shortly before is the core's.
        let asked = |&(cycle, line): &(u64, u64)| {
            let of_line = |sent: &Sent| sent.beat.address & !(LINE_BYTES - 1) == line;
            recording.sent.iter().any(|sent| of_line(sent) && sent.cycle < cycle && sent.cycle + 800 > cycle)
        };
        recording.core = recording.reads.iter().filter(|read| !asked(read)).copied().collect();
        recording
    }
}

/// The core asks for a line four cycles before memory sees it: a buffer, the directory, the scheduler, a buffer.
const CORE_TO_MEMORY: u64 = 4;

/// Replays a recording; the beats whose cycle is another one, as text, and the reads of memory.
fn replay(recording: &mut Recording, until: u64) -> (Vec<String>, Vec<(u64, u64)>) {
    let mut uncore: Uncore<OuterMemory> = L2Parameters::default().build(BEAT_BYTES as usize, Memory::new());
    let (mut wrong, mut reads) = (Vec::new(), Vec::new());
    for now in 0..until {
        uncore.advance(now);
        reads.extend(uncore.l2().outer_a().map(|ask| (now, ask.address)));
        let mut tile = TileInputs { d_taken: uncore.tile().d.front().is_some(), ..TileInputs::default() };
        if let Some(&(cycle, address)) = recording.core.front()
            && cycle <= now + CORE_TO_MEMORY
        {
            recording.core.pop_front();
            let source = Source { client: Client::ICache, id: 0 };
            let size = LINE_BYTES as u32;
            tile.a = Some(BeatA { op: AOp::Get, source, address, size, first: true, last: true, words: 0 });
        }
        uncore.drive_tile(tile);
        let answer = uncore.d_front(now);
        if recording.sent.front().is_some_and(|sent| sent.offered <= now) && uncore.a_ready(now) {
            let sent = recording.sent.pop_front().unwrap();
            if sent.cycle != now {
                wrong.push(format!("A {:#x} in {now} instead of {}", sent.beat.address, sent.cycle));
            }
            uncore.accept(now, &sent.beat);
        }
        if let Some(beat) = answer {
            let expected = recording.answers.get_mut(&beat.source).and_then(VecDeque::pop_front);
            if expected != Some(now) {
                wrong.push(format!("D of source {} in {now} instead of {expected:?}", beat.source));
            }
            uncore.take_d(now);
        }
    }
    (wrong, reads)
}

/// Reads of weights and inputs from memory, thousands of them: MSHRs run out, channel A is refused, answers come out of order. It ends
/// before the first line that only the core has changed is evicted, as the core's writes are not in the recording.
#[test]
fn every_beat_of_a_layer_has_its_cycle() {
    let until = 9_000;
    let mut recording = Recording::new("mlp3", until);
    let beats = recording.sent.len() + recording.answers.values().map(VecDeque::len).sum::<usize>();
    assert!(beats > 1_500, "{beats} beats");
    let expected = recording.reads.clone();
    let (wrong, reads) = replay(&mut recording, until);
    assert_eq!(wrong, [""; 0]);
    assert_eq!(reads, expected);
    assert!(recording.sent.is_empty());
}
