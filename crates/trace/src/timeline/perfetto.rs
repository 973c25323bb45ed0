//! Perfetto's protobuf format (`TrackEvent`), with a cycle as a nanosecond.
//!
//! The six messages are written by hand: the libraries that write them stamp them with the time of day. Field numbers are those of
//! Perfetto's `trace_packet.proto`, `track_descriptor.proto` and `track_event.proto`.
//!
//! | level | tracks |
//! |---|---|
//! | [`Level::Operations`] | the operations of the program, and counters in at most [`BUCKETS`] buckets |
//! | [`Level::Host`] | and the host's commands, each from its acceptance to that of the next |
//! | [`Level::Commands`] | and for each entry of the station the commands that it held, with their stages, and an arrow from the last command of another class that each waited for |
//! | [`Level::All`] | and for each block what it does, by cause |

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use pollux_isa::RoccCommand;
use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, ReqKind, Span};
use pollux_sim::report::{Block, Spent};

use super::Describe;
use super::budget::{Budget, LeftOut};
use super::lives::{Life, Lives};

/// How much a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Operations and counters.
    Operations,
    /// And the host's commands.
    Host,
    /// And commands in the station.
    Commands,
    /// And blocks.
    All,
}

/// Buckets of a counter at most: their cycles double when there are more.
pub const BUCKETS: usize = 4096;

/// One number for all packets of a file: the sequence in which names are interned.
const SEQUENCE: u64 = 1;
/// The tracks' numbers begin here: operations, the host, counters, blocks, entries of the station.
const ROOT: u64 = 1;
const OPERATIONS: u64 = 2;
const HOST: u64 = 3;
const COUNTERS: u64 = 16;
const BLOCKS: u64 = 64;
const ENTRIES: u64 = 256;

const BEGIN: u64 = 1;
const END: u64 = 2;
const COUNTER: u64 = 4;

const COUNTER_NAMES: [&str; 4] = ["bytes read", "bytes written", "rows into the array", "commands in the station"];

/// A protobuf message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.raw(field << 3);
        self.raw(value);
        self
    }

    fn fixed(mut self, field: u64, value: u64) -> Self {
        self.raw(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.raw(field << 3 | 2);
        self.raw(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }
}

/// The beginning of an annotation.
fn annotation(name: &str) -> Message {
    Message::default().text(10, name)
}

/// A counter's values, in buckets that get wider.
struct Buckets {
    width: u64,
    sums: Vec<u64>,
}

impl Buckets {
    fn add(&mut self, cycle: Cycle, value: u64) {
        while (cycle / self.width) as usize >= BUCKETS {
            self.width *= 2;
            self.sums = self.sums.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
        let bucket = (cycle / self.width) as usize;
        if self.sums.len() <= bucket {
            self.sums.resize(bucket + 1, 0);
        }
        self.sums[bucket] += value;
    }

    /// The first value, and every one that differs from the one before.
    fn changes(&self) -> impl Iterator<Item = (Cycle, u64)> {
        let before = |i: usize| i.checked_sub(1).map(|i| self.sums[i]);
        let changes = self.sums.iter().enumerate().filter(move |(i, sum)| before(*i) != Some(**sum));
        let end = (self.sums.len() as u64 * self.width, 0);
        changes.map(|(i, sum)| (i as u64 * self.width, *sum)).chain([end])
    }
}

/// Writes the format at one level.
pub struct Perfetto<'p, W: Write> {
    out: Budget<W>,
    level: Level,
    describe: Describe<'p>,
    /// Names of the operations, in order.
    marks: Vec<String>,
    /// Numbers of the names that are in the file.
    names: HashMap<String, u64>,
    /// Tracks that are in the file.
    tracks: HashSet<u64>,
    begun: bool,
    start: Cycle,
    end: Cycle,
    operation: Option<(Cycle, usize)>,
    /// The host's last command, its number and when it was accepted.
    accepted: Option<(Cycle, u64, RoccCommand)>,
    lives: Lives,
    /// By command, those to which an arrow goes from it.
    waiting: HashMap<u64, Vec<u64>>,
    /// Commands to which an arrow goes.
    arrows: HashSet<u64>,
    /// What each block does, and since when.
    blocks: [(Cycle, Spent); Block::ALL.len()],
    counters: [Buckets; COUNTER_NAMES.len()],
}

impl<'p, W: Write> Perfetto<'p, W> {
    /// A file of at most so many bytes; `marks` are the names of the program's operations.
    pub fn new(out: W, level: Level, describe: Describe<'p>, marks: Vec<String>, budget: u64) -> Self {
        // Counters come at the end, and so does the note.
        let reserved = (COUNTER_NAMES.len() * (BUCKETS * 24 + 64)) as u64 + 512;
        let counter = || Buckets { width: 1, sums: Vec::new() };
        Self {
            out: Budget::new(out, budget, reserved.min(budget / 4)),
            level,
            describe,
            marks,
            names: HashMap::new(),
            tracks: HashSet::new(),
            begun: false,
            start: 0,
            end: 0,
            operation: None,
            accepted: None,
            lives: Lives::default(),
            waiting: HashMap::new(),
            arrows: HashSet::new(),
            blocks: [(0, Spent::Idle); Block::ALL.len()],
            counters: [counter(), counter(), counter(), counter()],
        }
    }

    /// What has not fitted so far.
    pub fn left_out(&self) -> Option<LeftOut> {
        self.out.left_out()
    }

    /// Ends the file. What did not fit.
    ///
    /// # Errors
    /// The first error of the writer.
    pub fn finish(mut self) -> io::Result<(W, Option<LeftOut>)> {
        let end = self.end;
        self.end_operation(end);
        self.end_accepted(end);
        let open: Vec<Life> = self.lives.open().cloned().collect();
        open.iter().for_each(|life| self.life(life, end));
        for block in Block::ALL {
            self.end_block(block, end, Spent::Idle);
        }
        self.out.reserved = 512;
        self.write_counters();
        self.out.reserved = 0;
        if let Some(left_out) = self.out.left_out() {
            let event = Message::default().number(9, 3).number(11, OPERATIONS).text(23, &left_out.to_string());
            let packets = self.track(OPERATIONS, ROOT, "operations") + &self.packet(left_out.from, &event, None);
            if self.out.has_room(packets.len(), 0) {
                self.out.write(packets.as_bytes());
            }
        }
        self.out.finish()
    }
}

/// Packets that belong together.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Add<&Packets> for Packets {
    type Output = Self;

    fn add(mut self, more: &Packets) -> Self {
        self.0.extend_from_slice(&more.0);
        self
    }
}

/// Making packets.
impl<W: Write> Perfetto<'_, W> {
    fn wrap(packet: Message) -> Packets {
        Packets(Message::default().message(1, &packet).0)
    }

    /// The description of a track, unless it is in the file.
    fn track(&mut self, uuid: u64, parent: u64, name: &str) -> Packets {
        let mut packets = Packets::default();
        if uuid != ROOT {
            packets = packets + &self.track(ROOT, 0, "Gemmini, 1 ns = 1 cycle");
        }
        if !self.tracks.insert(uuid) {
            return packets;
        }
        let mut track = Message::default().number(1, uuid);
        if uuid == ROOT {
            track = track.message(3, &Message::default().number(1, 1).text(6, name)).number(11, 3);
        } else {
            track = track.text(2, name).number(5, parent).number(12, uuid).number(11, 3);
        }
        if (COUNTERS..COUNTERS + COUNTER_NAMES.len() as u64).contains(&uuid) {
            track = track.message(8, &Message::default());
        }
        let packet = Message::default().number(10, SEQUENCE).message(60, &track);
        packets + &Self::wrap(packet)
    }

    /// A packet with an event; `interned` is a name that the file does not have yet.
    fn packet(&mut self, cycle: Cycle, event: &Message, interned: Option<(u64, &str)>) -> Packets {
        let mut packet = Message::default().number(8, cycle).number(10, SEQUENCE);
        // The first packet begins the sequence; all need its names.
        packet = packet.number(13, if self.begun { 2 } else { 3 });
        self.begun = true;
        if let Some((iid, name)) = interned {
            let name = Message::default().number(1, iid).text(2, name);
            packet = packet.message(12, &Message::default().message(2, &name));
        }
        Self::wrap(packet.message(11, event))
    }

    /// A slice: its beginning with what belongs to it, and its end.
    fn slice(
        &mut self,
        track: u64,
        name: &str,
        cycles: std::ops::Range<Cycle>,
        more: impl Fn(Message) -> Message,
    ) -> Packets {
        let known = self.names.get(name).copied();
        let iid = known.unwrap_or(self.names.len() as u64 + 1);
        self.names.insert(name.to_owned(), iid);
        let begin = more(Message::default().number(9, BEGIN).number(11, track).number(10, iid));
        let interned = if known.is_none() { Some((iid, name)) } else { None };
        let begin = self.packet(cycles.start, &begin, interned);
        let end = Message::default().number(9, END).number(11, track);
        begin + &self.packet(cycles.end, &end, None)
    }

    /// Writes packets if there is room; if not, all that they have made known is forgotten again by the file's reader only if nothing of
    /// it was written, so that nothing more of their kind is written either.
    fn write(&mut self, from: Cycle, packets: &Packets) {
        if self.out.left_out().is_none() && self.out.has_room(packets.len(), 0) {
            self.out.write(packets.as_bytes());
        } else {
            self.out.leave_out(from);
        }
    }

    fn end_operation(&mut self, cycle: Cycle) {
        let Some((start, mark)) = self.operation.take().filter(|(start, _)| *start < cycle) else { return };
        let name = self.marks.get(mark).cloned().unwrap_or_else(|| format!("operation {mark}"));
        let packets = self.track(OPERATIONS, ROOT, "operations");
        let packets = packets + &self.slice(OPERATIONS, &name, start..cycle, |event| event);
        self.write(start, &packets);
    }

    /// The host's last command ends as the next one comes.
    fn end_accepted(&mut self, cycle: Cycle) {
        let Some((start, number, command)) = self.accepted.take().filter(|(start, ..)| *start < cycle) else { return };
        let text = (self.describe)(command);
        let mnemonic = text.split(' ').next().unwrap_or("");
        let annotations = [annotation("command").number(3, number), annotation("text").text(6, &text)];
        let packets = self.track(HOST, ROOT, "commands of the host");
        let slice = self.slice(HOST, mnemonic, start..cycle, |event| {
            annotations.iter().fold(event, |event, annotation| event.message(4, annotation))
        });
        self.write(start, &(packets + &slice));
    }

    fn life(&mut self, life: &Life, now: Cycle) {
        let end = life.completed.map_or(now, |completed| completed + 1).max(life.allocated + 1);
        let uuid = ENTRIES + 64 * life.unit as u64 + u64::from(life.entry);
        let unit = ["load", "execute", "store"][life.unit as usize];
        let mut packets = self.track(uuid, ROOT, &format!("{unit} entry {:02}", life.entry));
        let text = (self.describe)(life.command);
        let mnemonic = text.split(' ').next().unwrap_or("").to_owned();
        let consumers = self.waiting.remove(&life.seq).unwrap_or_default();
        let waits = self.arrows.remove(&life.seq);
        let parent = life.parent;
        let annotations: Vec<Message> = [
            Some(annotation("seq").number(3, life.seq)),
            parent.map(|parent| annotation("command").number(3, parent)),
            Some(annotation("text").text(6, &text)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let slice = self.slice(uuid, &mnemonic, life.allocated..end, |mut event| {
            for annotation in &annotations {
                event = event.message(4, annotation);
            }
            for consumer in &consumers {
                event = event.fixed(47, *consumer + 1);
            }
            if waits { event.fixed(48, life.seq + 1) } else { event }
        });
        // The stages stand inside of the command's slice: its end comes last.
        let end_packet = slice.0.len() - self.end_length(uuid, end);
        let (begin, rest) = slice.0.split_at(end_packet);
        packets.0.extend_from_slice(begin);
        for stage in life.stages(end) {
            let name = match stage.letter {
                'Q' => "waits in the station",
                'I' => "issued",
                'X' => "rows move",
                _ => "waits for the last row",
            };
            packets = packets + &self.slice(uuid, name, stage.start..stage.end.min(end), |event| event);
        }
        packets.0.extend_from_slice(rest);
        self.write(life.allocated, &packets);
    }

    /// Bytes of the packet that ends a slice.
    fn end_length(&mut self, track: u64, cycle: Cycle) -> usize {
        let end = Message::default().number(9, END).number(11, track);
        self.packet(cycle, &end, None).len()
    }

    /// The arrow to a command comes from the last one of another class that it waits for.
    fn draw_arrow(&mut self, seq: u64) {
        let of = |seq: u64| self.lives.open().find(|life| life.seq == seq);
        let Some(life) = of(seq) else { return };
        let other = |on: &&u64| of(**on).is_some_and(|of| of.unit != life.unit);
        if let Some(&producer) = life.dependencies.iter().rev().find(other) {
            self.waiting.entry(producer).or_default().push(seq);
            self.arrows.insert(seq);
        }
    }

    fn end_block(&mut self, block: Block, cycle: Cycle, next: Spent) {
        let (start, spent) = std::mem::replace(&mut self.blocks[block as usize], (cycle, next));
        if self.level != Level::All || start >= cycle || spent == Spent::Idle {
            return;
        }
        let name = match spent {
            Spent::Idle => "idle",
            Spent::Busy => "busy",
            Spent::Draining => "draining",
            Spent::Stalled(cause) => cause.name(),
        };
        let uuid = BLOCKS + block as u64;
        let packets = self.track(uuid, ROOT, block.name());
        let packets = packets + &self.slice(uuid, name, start..cycle, |event| event);
        self.write(start, &packets);
    }

    fn write_counters(&mut self) {
        for (i, name) in COUNTER_NAMES.into_iter().enumerate() {
            let uuid = COUNTERS + i as u64;
            let width = self.counters[i].width;
            let name = if width == 1 { name.to_owned() } else { format!("{name}, in {width} cycles") };
            let mut packets = self.track(uuid, ROOT, &name);
            let changes: Vec<(Cycle, u64)> = self.counters[i].changes().collect();
            for (cycle, value) in changes {
                let event = Message::default().number(9, COUNTER).number(11, uuid).number(30, value);
                packets = packets + &self.packet(self.start + cycle, &event, None);
            }
            if self.out.has_room(packets.len(), 0) {
                self.out.write(packets.as_bytes());
            } else {
                self.out.leave_out(self.start);
            }
        }
    }
}

impl<W: Write> Observer for Perfetto<'_, W> {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        let at = cycle - self.start.min(cycle);
        match *event {
            Event::Req { kind: ReqKind::Get, size, .. } => self.counters[0].add(at, size.into()),
            Event::Req { mask, .. } => self.counters[1].add(at, mask.count_ones().into()),
            Event::MeshA => self.counters[2].add(at, 1),
            Event::Alloc { .. } => self.counters[3].add(at, 1),
            _ => {}
        }
        if let (true, Event::Accept { number, funct, rs1, rs2 }) = (self.level >= Level::Host, *event) {
            self.end_accepted(cycle);
            self.accepted = Some((cycle, number, RoccCommand { funct, rs1, rs2 }));
        }
        if self.level < Level::Commands {
            return;
        }
        if let Some(life) = self.lives.event(cycle, event, links) {
            self.life(&life, cycle);
        } else if let Event::Alloc { seq, .. } = *event {
            self.draw_arrow(seq);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        if self.end == 0 && self.start == 0 {
            self.start = span.first;
            let packets = self.track(OPERATIONS, ROOT, "operations");
            self.write(span.first, &packets);
            self.blocks = [(span.first, Spent::Idle); Block::ALL.len()];
        }
        self.end = span.first + span.cycles;
        if self.operation.map(|(_, mark)| mark) != span.mark {
            self.end_operation(span.first);
            self.operation = span.mark.map(|mark| (span.first, mark));
        }
        for (block, spent) in Block::ALL.into_iter().zip(activity.blocks) {
            if self.blocks[block as usize].1 != spent {
                self.end_block(block, span.first, spent);
            }
        }
    }
}
