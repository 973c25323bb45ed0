//! The commit log: what each command of the host has written, in program order.
//!
//! Both models can tell it, in the same form, so that `diff` of two logs shows the first command at which they part:
//!
//! ```text
//! cmd 3 mvin dram=A local=spad[0] cols=16 rows=16
//!   spad 0x0000 <- 16 rows crc32=1f4a30b2
//! cmd 5 mvout dram=C local=acc[0] cols=16 rows=16
//!   mem 0x80002000 <- 256 bytes crc32=8f11aa02
//! ```
//!
//! A loop command stands for everything that it unrolls to. Contents are those after the command's own last write. Results of the array
//! belong to the PRELOAD that says where they go, as in hardware.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Write};

use pollux_isa::{AddressLayout, RoccCommand};
use pollux_memory::Memory;
use pollux_sim::machine::{AccRow, Machine, SpadRow};
use pollux_sim::memory::ReqKind;
use pollux_sim::observer::{Cycle, Event, Links, Observer};

use crate::timeline::Describe;

/// A log that is being written.
pub struct CommitLog<'p, W: Write> {
    out: W,
    describe: Describe<'p>,
    /// Commands that have not been written yet, by number.
    open: BTreeMap<u64, Entry>,
    /// Why nothing more is written.
    error: Option<io::Error>,
}

/// A command and what it wrote.
#[derive(Debug, Default)]
struct Entry {
    command: Option<RoccCommand>,
    spad: BTreeMap<u32, Vec<u8>>,
    acc: BTreeMap<u32, Vec<u8>>,
    memory: BTreeMap<u64, u8>,
}

impl<'p, W: Write> CommitLog<'p, W> {
    /// A log whose commands are described in these words.
    pub fn new(out: W, describe: Describe<'p>) -> Self {
        Self { out, describe, open: BTreeMap::new(), error: None }
    }

    /// The host's command of this number, counted from 0.
    pub fn command(&mut self, number: u64, command: RoccCommand) {
        self.open.entry(number).or_default().command = Some(command);
    }

    /// What a row of the scratchpad holds after a write of this command.
    pub fn scratchpad(&mut self, number: u64, row: u32, elements: &[i8]) {
        let bytes = elements.iter().map(|element| element.cast_unsigned()).collect();
        self.open.entry(number).or_default().spad.insert(row, bytes);
    }

    /// The same of the accumulator.
    pub fn accumulator(&mut self, number: u64, row: u32, elements: &[i32]) {
        let bytes = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        self.open.entry(number).or_default().acc.insert(row, bytes);
    }

    /// Bytes that this command wrote into main memory.
    pub fn memory(&mut self, number: u64, address: u64, bytes: &[u8]) {
        let places = (0..).map(|i| address.wrapping_add(i));
        self.open.entry(number).or_default().memory.extend(places.zip(bytes.iter().copied()));
    }

    /// All commands so far have come to their end.
    pub fn flush(&mut self) {
        for (number, entry) in std::mem::take(&mut self.open) {
            if self.error.is_none() {
                self.error = self.write(number, &entry).err();
            }
        }
    }

    fn write(&mut self, number: u64, entry: &Entry) -> io::Result<()> {
        let text = entry.command.map_or_else(String::new, |command| (self.describe)(command));
        writeln!(self.out, "cmd {number} {text}")?;
        for (memory, rows) in [("spad", &entry.spad), ("acc", &entry.acc)] {
            for (first, contents) in stretches(rows.iter().map(|(&row, bytes)| (u64::from(row), bytes.as_slice()))) {
                let count = contents.len();
                let crc = crc(contents.iter().flat_map(|row| row.iter().copied()));
                writeln!(self.out, "  {memory} {first:#06x} <- {count} {} crc32={crc:08x}", plural(count, "row"))?;
            }
        }
        let bytes = entry.memory.iter().map(|(&address, byte)| (address, byte));
        for (first, contents) in stretches(bytes) {
            let count = contents.len();
            let crc = crc(contents.iter().map(|byte| **byte));
            writeln!(self.out, "  mem {first:#x} <- {count} {} crc32={crc:08x}", plural(count, "byte"))?;
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush();
        self.error.map_or(Ok(self.out), Err)
    }
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { what.to_owned() } else { format!("{what}s") }
}

fn crc(bytes: impl Iterator<Item = u8>) -> u32 {
    let bytes: Vec<u8> = bytes.collect();
    crc32fast::hash(&bytes)
}

/// Places that follow each other, together.
fn stretches<T>(places: impl Iterator<Item = (u64, T)>) -> Vec<(u64, Vec<T>)> {
    let mut stretches: Vec<(u64, Vec<T>)> = Vec::new();
    for (place, contents) in places {
        match stretches.last_mut() {
            Some((first, stretch)) if *first + stretch.len() as u64 == place => stretch.push(contents),
            _ => stretches.push((place, vec![contents])),
        }
    }
    stretches
}

/// The log of the cycle-level emulator. It has to see what is held behind every cycle.
pub struct CommitObserver<'p, W: Write> {
    log: CommitLog<'p, W>,
    layout: AddressLayout,
    beat_bytes: u64,
    /// Numbers of the host's commands, by sequence number in the reservation station.
    parents: HashMap<u64, u64>,
    /// Rows and bytes written in this cycle.
    written: Vec<(u64, Place)>,
    /// Writes that a bank of the accumulator has accepted and that are on their way, by row, the oldest first.
    accepted: BTreeMap<u32, VecDeque<u64>>,
    busy: bool,
}

/// Where something was written.
#[derive(Clone, Copy, Debug)]
enum Place {
    Scratchpad(u32),
    Memory(u64, u64),
}

impl<'p, W: Write> CommitObserver<'p, W> {
    /// An observer of a run of a program for this configuration.
    pub fn new(log: CommitLog<'p, W>, config: &pollux_isa::ValidConfig) -> Self {
        Self {
            log,
            layout: config.layout(),
            beat_bytes: config.beat_bytes().into(),
            parents: HashMap::new(),
            written: Vec::new(),
            accepted: BTreeMap::new(),
            busy: false,
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> io::Result<W> {
        self.log.finish()
    }
}

impl<W: Write> Observer for CommitObserver<'_, W> {
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, _: Cycle, event: &Event, links: &Links) {
        let number = links.command.and_then(|seq| self.parents.get(&seq).copied());
        match (*event, number) {
            (Event::Busy { value }, _) => self.busy = value,
            (Event::Accept { number, funct, rs1, rs2 }, _) => {
                // The output may follow a cycle later.
                self.busy = true;
                self.log.command(number, RoccCommand { funct, rs1, rs2 });
            }
            (Event::Alloc { seq, .. }, _) => {
                self.parents.extend(links.parent.map(|parent| (seq, parent)));
            }
            (Event::SpadWrite { bank, row, .. }, Some(number)) => {
                let row = u32::from(bank) << self.layout.sp_bank_row_bits | row;
                self.written.push((number, Place::Scratchpad(row)));
            }
            (Event::AccWrite { bank, row, .. }, Some(number)) => {
                let row = u32::from(bank) << self.layout.acc_bank_row_bits | row;
                self.accepted.entry(row).or_default().push_back(number);
            }
            (Event::Req { kind, address, beat, mask, .. }, Some(number)) if kind != ReqKind::Get => {
                let address = address + u64::from(beat) * self.beat_bytes;
                self.written.push((number, Place::Memory(address, mask)));
            }
            _ => {}
        }
    }

    fn wants_cycle_ends(&self) -> bool {
        true
    }

    fn cycle_end(&mut self, machine: &Machine, memory: &Memory) {
        for (number, place) in self.written.drain(..) {
            match place {
                Place::Scratchpad(row) => {
                    self.log.scratchpad(number, row, machine.spad_row(SpadRow(row)).unwrap_or_default());
                }
                Place::Memory(address, mask) => {
                    for byte in (0..self.beat_bytes).filter(|byte| mask >> byte & 1 != 0) {
                        let mut contents = [0];
                        memory.read(address + byte, &mut contents);
                        self.log.memory(number, address + byte, &contents);
                    }
                }
            }
        }
        let log = &mut self.log;
        self.accepted.retain(|&row, writers| {
            let under_way = machine.acc_writes_under_way(AccRow(row));
            while writers.len() > under_way {
                if let Some(number) = writers.pop_front() {
                    log.accumulator(number, row, machine.acc_row(AccRow(row)).unwrap_or_default());
                }
            }
            !writers.is_empty()
        });
        if !self.busy && self.accepted.is_empty() && machine.in_flight() == 0 {
            self.log.flush();
            self.parents.clear();
        }
    }
}
