//! Gemmini: commands come when they came there, memory takes and answers its beats when the L2 did, and it has to be busy in the same
//! cycles.

use std::collections::{BTreeMap, VecDeque};

use pollux_isa::config::{CommandLayout, Revision};
use pollux_isa::{GemminiConfig, RoccCommand, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::clocked::ClockedMachine;
use pollux_sim::machine::Translation;
use pollux_sim::memory::{ABeat, Cycle, DBeat, MAX_BEAT_BYTES, MemorySystem, ReqKind};

use super::{BEAT_BYTES, PROGRAMS, decimal, hex, rows};

/// A request as it was recorded: when its last beat was accepted, and how many cycles later each beat of its answer came.
struct Request {
    accepted: Cycle,
    answers: Vec<Cycle>,
}

/// The L2's side of Gemmini's port, as it was recorded.
struct RecordedPort {
    /// Stretches [start, end) in which the beat on channel A was refused.
    refused: VecDeque<(Cycle, Cycle)>,
    requests: VecDeque<Request>,
    /// Beats on channel D by the cycle from which they are offered, and their order.
    answers: BTreeMap<(Cycle, u64), DBeat>,
    sent: u64,
    memory: Memory,
}

impl RecordedPort {
    fn new(program: &str) -> Self {
        let (mut refused, mut requests): (VecDeque<(Cycle, Cycle)>, Vec<Request>) = Default::default();
        // Of each source: beats of a Put that are still to come, and the request whose answer comes next.
        let mut beats_left: BTreeMap<u64, u32> = BTreeMap::new();
        let mut open: BTreeMap<u64, usize> = BTreeMap::new();
        for row in rows(program, "tl.csv.gz") {
            let (cycle, source) = (decimal(&row[0]), decimal(&row[4]));
            if row[1] == "D" {
                let request = &mut requests[open[&source]];
                request.answers.push(cycle - request.accepted);
                continue;
            }
            let wait = decimal(&row[6]);
            if wait > 0 {
                refused.push_back((cycle - wait, cycle));
            }
            let beats = if row[2] == "4" { 1 } else { ((1u32 << decimal(&row[3])) / BEAT_BYTES).max(1) };
            let left = beats_left.entry(source).or_insert(beats);
            *left -= 1;
            if *left == 0 {
                beats_left.remove(&source);
                open.insert(source, requests.len());
                requests.push(Request { accepted: cycle, answers: Vec::new() });
            }
        }
        Self { refused, requests: requests.into(), answers: BTreeMap::new(), sent: 0, memory: Memory::new() }
    }
}

impl MemorySystem for RecordedPort {
    fn advance(&mut self, cycle: Cycle) {
        while self.refused.front().is_some_and(|(_, end)| *end <= cycle) {
            self.refused.pop_front();
        }
    }

    fn a_ready(&self, cycle: Cycle) -> bool {
        self.refused.front().is_none_or(|(start, _)| *start > cycle)
    }

    fn accept(&mut self, cycle: Cycle, beat: &ABeat) {
        if !beat.last {
            return;
        }
        // Requests beyond those of the recording are answered in some way.
        let recorded = self.requests.pop_front().unwrap_or(Request { accepted: 0, answers: vec![6] });
        let ack = beat.kind != ReqKind::Get;
        let beats = if ack { 1 } else { (beat.size / BEAT_BYTES).max(1) };
        let mut after = 0;
        for number in 0..beats {
            after = recorded.answers.get(number as usize).copied().unwrap_or(after + 1);
            let (source, size, last) = (beat.source, beat.size, number + 1 == beats);
            let answer = DBeat { source, size, beat: number, ack, last, data: [0; MAX_BEAT_BYTES] };
            self.answers.insert((cycle + after, self.sent), answer);
            self.sent += 1;
        }
    }

    fn d_front(&self, cycle: Cycle) -> Option<DBeat> {
        let (&(offered, _), beat) = self.answers.first_key_value()?;
        (offered <= cycle).then_some(*beat)
    }

    fn take_d(&mut self, _: Cycle) {
        self.answers.pop_first();
    }

    fn next_event(&self, cycle: Cycle, _: bool) -> Option<Cycle> {
        Some(cycle + 1)
    }

    fn busy(&self) -> bool {
        !self.answers.is_empty()
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn into_memory(self) -> Memory {
        self.memory
    }
}

/// Gemmini as it was recorded: the generator's default configuration, which has no normalization units, in spring 2023.
fn config() -> ValidConfig {
    let config = GemminiConfig {
        has_normalizations: false,
        command_layout: CommandLayout::March2023,
        revision: Revision::March2023,
        ..GemminiConfig::default16()
    };
    config.validated().expect("a valid configuration")
}

/// Stretches [start, end) in which Gemmini is busy before a cycle.
fn busy(program: &str, until: Cycle) -> Vec<(Cycle, Cycle)> {
    let mut commands: VecDeque<(Cycle, RoccCommand)> = rows(program, "roccstream.csv.gz")
        .iter()
        .map(|row| {
            let command = RoccCommand { funct: decimal(&row[1]) as u8, rs1: hex(&row[2]), rs2: hex(&row[3]) };
            (decimal(&row[9]), command)
        })
        .collect();
    let mut port = RecordedPort::new(program);
    let mut gemmini = ClockedMachine::new(&config(), Translation::Bare);
    let mut stretches: Vec<(Cycle, Cycle)> = Vec::new();
    let mut was_busy = false;
    for cycle in 0..until {
        port.advance(cycle);
        let command = commands.front().filter(|(presented, _)| *presented <= cycle).map(|(_, command)| *command);
        let step = gemmini.step(cycle, command, &mut port);
        if step.accepted {
            commands.pop_front();
        }
        match stretches.last_mut().filter(|_| was_busy) {
            Some(stretch) if step.busy => stretch.1 = cycle + 1,
            _ if step.busy => stretches.push((cycle, cycle + 1)),
            _ => {}
        }
        was_busy = step.busy;
    }
    stretches
}

/// All stretches of all programs, to the cycle.
#[test]
fn gemmini_is_busy_when_it_was() {
    for program in PROGRAMS {
        let recorded = rows(program, "busy.csv.gz");
        let recorded: Vec<(Cycle, Cycle)> = recorded.iter().map(|row| (decimal(&row[0]), decimal(&row[1]))).collect();
        let until = recorded.last().map_or(0, |(_, end)| end + 1000);
        assert_eq!(busy(program, until), recorded, "{program}");
    }
}
