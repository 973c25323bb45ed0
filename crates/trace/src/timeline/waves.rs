//! Waves: VCD and FST, with the same signals and the same changes. A cycle is a nanosecond.
//!
//! | scope | signals |
//! |---|---|
//! | `gemmini` and below | registers under the RTL's instance and signal names: `load_controller.control_state` and so on |
//! | `gemmini.counters` | Gemmini's 44 event lines, by their names |
//! | `pollux.blocks` | what each block does: 0 idle, 1 busy, 2 draining, and from 3 on the causes for which it is stalled, in the order of [`Cause::ALL`] |
//! | `pollux.banks` | banks read, written and refused, a bit each |
//! | `pollux` | `left_out`: 1 from where on changes are missing |

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fst_writer::{
    FstBodyWriter, FstFileType, FstHeaderWriter, FstInfo, FstScopeType, FstSignalId, FstSignalType, FstVarDirection,
    FstVarType,
};
use pollux_isa::GemminiConfig;
use pollux_sim::observer::{Activity, Cycle, Event, Observer, Span};
use pollux_sim::report::{Block, Cause, REGISTERS, Spent, event_names};

use super::budget::{Budget, LeftOut};
use super::scratch::{Scratch, ScratchFile};

/// A signal: its scopes from the top, its name, its bits.
struct Signal {
    scopes: Vec<&'static str>,
    name: String,
    bits: u32,
}

fn state(spent: Spent) -> u64 {
    match spent {
        Spent::Idle => 0,
        Spent::Busy => 1,
        Spent::Draining => 2,
        Spent::Stalled(cause) => 3 + cause as u64,
    }
}

/// Bits of the number of a block's state.
const STATE_BITS: u32 = 6;
const _: () = assert!(Cause::ALL.len() + 3 <= 1 << STATE_BITS);

/// The signals, in the order of [`values`].
fn signals(config: &GemminiConfig) -> Vec<Signal> {
    let registers = REGISTERS.iter().map(|register| {
        let mut path: Vec<&str> = register.path.split('.').collect();
        let name = path.pop().unwrap_or("").to_owned();
        Signal { scopes: [vec!["gemmini"], path].concat(), name, bits: register.bits }
    });
    let line = |name: &&str| Signal { scopes: vec!["gemmini", "counters"], name: (*name).to_owned(), bits: 1 };
    let block =
        |block: Block| Signal { scopes: vec!["pollux", "blocks"], name: block.name().to_owned(), bits: STATE_BITS };
    let bank = |(name, bits): (&str, u32)| Signal { scopes: vec!["pollux", "banks"], name: name.to_owned(), bits };
    let (spad, acc) = (config.sp_banks, config.acc_banks);
    let banks = [
        ("spad_read", spad),
        ("spad_written", spad),
        ("spad_stalled", spad),
        ("acc_read", acc),
        ("acc_written", acc),
        ("acc_stalled", acc),
    ];
    registers
        .chain(event_names().iter().skip(1).map(line))
        .chain(Block::ALL.into_iter().map(block))
        .chain(banks.into_iter().map(bank))
        .collect()
}

/// The values of the signals in a cycle.
fn values(activity: &Activity) -> Vec<u64> {
    let registers = activity.registers.iter().map(|value| u64::from(*value));
    let lines = (1..event_names().len()).map(|code| activity.counters.lines >> code & 1);
    let blocks = activity.blocks.iter().map(|spent| state(*spent));
    let banks = [&activity.spad, &activity.acc].into_iter().flat_map(|used| [used.read, used.written, used.stalled()]);
    registers.chain(lines).chain(blocks).chain(banks.map(u64::from)).collect()
}

/// A format.
pub trait Sink {
    /// So many changes at one time may be written.
    fn has_room(&mut self, changes: usize) -> bool;

    /// The changes at a time: numbers of signals and their values.
    ///
    /// # Errors
    /// The writer's.
    fn change(&mut self, time: Cycle, changes: &[(usize, u64)]) -> io::Result<()>;
}

/// Writes waves.
pub struct Waves<S> {
    sink: S,
    last: Vec<Option<u64>>,
    /// The time behind the last cycle.
    end: Cycle,
    budget: u64,
    left_out: Option<LeftOut>,
    error: Option<io::Error>,
    /// Number of the signal that says that something is missing.
    flag: usize,
}

impl<S: Sink> Waves<S> {
    fn new(sink: S, signals: usize, budget: u64) -> Self {
        Self { sink, last: vec![None; signals], end: 0, budget, left_out: None, error: None, flag: signals }
    }

    fn take(&mut self, time: Cycle, values: &[u64]) {
        let changed = |(i, (last, new)): (usize, (&Option<u64>, &u64))| (*last != Some(*new)).then_some((i, *new));
        let mut changes: Vec<(usize, u64)> = self.last.iter().zip(values).enumerate().filter_map(changed).collect();
        if changes.is_empty() {
            return;
        }
        if let Some(left_out) = &mut self.left_out {
            left_out.count += changes.len() as u64;
            return;
        }
        if !self.sink.has_room(changes.len() + 1) {
            self.left_out = Some(LeftOut { from: time, count: changes.len() as u64, budget: self.budget });
            changes = vec![(self.flag, 1)];
        } else {
            if self.last.iter().all(Option::is_none) {
                changes.push((self.flag, 0));
            }
            for (i, value) in changes.iter().filter(|(i, _)| *i != self.flag) {
                self.last[*i] = Some(*value);
            }
        }
        if self.error.is_none() {
            self.error = self.sink.change(time, &changes).err();
        }
    }

    fn end(mut self) -> io::Result<(S, Option<LeftOut>)> {
        // The last values hold until the end.
        if self.error.is_none() && self.end > 0 && self.left_out.is_none() && self.sink.has_room(1) {
            self.error = self.sink.change(self.end, &[(self.flag, 0)]).err();
        }
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.sink, self.left_out)),
        }
    }
}

impl<S: Sink> Observer for Waves<S> {
    const ACTIVITY: bool = true;

    fn wants_events(&self) -> bool {
        false
    }

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.end = span.first + span.cycles;
        self.take(span.first, &values(activity));
    }
}

/// The text form of a value.
fn binary(value: u64, bits: u32) -> String {
    let width = bits as usize;
    // A wider one would be no value of the signal.
    let value = value & (u64::MAX >> (u64::BITS - bits.max(1)));
    format!("{value:0width$b}")
}

/// VCD (IEEE 1364), a text.
pub struct Vcd<W: Write> {
    out: Budget<W>,
    bits: Vec<u32>,
    begun: bool,
}

/// The short name of a signal: printable characters from `!` on, the last one first.
fn code(mut number: usize) -> String {
    let mut code = String::new();
    loop {
        code.push(char::from(b'!' + (number % 94) as u8));
        number /= 94;
        if number == 0 {
            return code;
        }
    }
}

/// A VCD file of at most so many bytes.
pub fn vcd<W: Write>(out: W, config: &GemminiConfig, budget: u64) -> Waves<Vcd<W>> {
    let signals = with_flag(config);
    let mut header = String::from("$version Pollux $end\n$comment a cycle is a nanosecond $end\n$timescale 1ns $end\n");
    let mut open: Vec<&str> = Vec::new();
    for (number, signal) in signals.iter().enumerate() {
        move_scope(&mut open, &signal.scopes, &mut |step| {
            header.push_str(&match step {
                Some(name) => format!("$scope module {name} $end\n"),
                None => "$upscope $end\n".to_owned(),
            });
        });
        header.push_str(&format!("$var wire {} {} {} $end\n", signal.bits, code(number), signal.name));
    }
    open.iter().for_each(|_| header.push_str("$upscope $end\n"));
    header.push_str("$enddefinitions $end\n");
    let mut budgeted = Budget::new(out, budget, 64);
    let fits = budgeted.has_room(header.len(), 0);
    if fits {
        budgeted.write(header.as_bytes());
    }
    let bits: Vec<u32> = signals.iter().map(|signal| signal.bits).collect();
    let mut waves = Waves::new(Vcd { out: budgeted, bits, begun: false }, signals.len() - 1, budget);
    if !fits {
        waves.error = Some(too_small(header.len() as u64 + 64));
    }
    waves
}

fn too_small(bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("its header alone has {bytes} bytes: allow more"))
}

/// The signals, and the flag behind them.
fn with_flag(config: &GemminiConfig) -> Vec<Signal> {
    let mut signals = signals(config);
    signals.push(Signal { scopes: vec!["pollux"], name: "left_out".to_owned(), bits: 1 });
    signals
}

/// Leaves and enters scopes; `None` leaves one.
fn move_scope<'s>(open: &mut Vec<&'s str>, to: &[&'s str], step: &mut impl FnMut(Option<&'s str>)) {
    let common = open.iter().zip(to).take_while(|(a, b)| a == b).count();
    while open.len() > common {
        open.pop();
        step(None);
    }
    for scope in &to[common..] {
        open.push(scope);
        step(Some(scope));
    }
}

impl<W: Write> Sink for Vcd<W> {
    fn has_room(&mut self, changes: usize) -> bool {
        // The longest vector has 32 bits.
        self.out.has_room(changes * 40 + 32, 0)
    }

    fn change(&mut self, time: Cycle, changes: &[(usize, u64)]) -> io::Result<()> {
        let mut text = format!("#{time}\n");
        if !self.begun {
            text.push_str("$dumpvars\n");
        }
        for &(signal, value) in changes {
            let code = code(signal);
            text.push_str(&match self.bits[signal] {
                1 => format!("{value}{code}\n"),
                bits => format!("b{} {code}\n", binary(value, bits)),
            });
        }
        if !self.begun {
            text.push_str("$end\n");
            self.begun = true;
        }
        self.out.reserved = 0;
        self.out.write(text.as_bytes());
        self.out.reserved = 64;
        Ok(())
    }
}

impl<W: Write> Waves<Vcd<W>> {
    /// Ends the file. What did not fit.
    ///
    /// # Errors
    /// The first error of the writer.
    pub fn finish(self) -> io::Result<(W, Option<LeftOut>)> {
        let (sink, left_out) = self.end()?;
        let (out, _) = sink.out.finish()?;
        Ok((out, left_out))
    }
}

/// FST, GTKWave's compressed format. It is made in a scratch file, as its header is written last.
pub struct Fst<W: Write> {
    out: W,
    body: FstBodyWriter<Counted>,
    ids: Vec<FstSignalId>,
    bits: Vec<u32>,
    budget: u64,
    /// Bytes of the file so far.
    written: Arc<AtomicU64>,
    time: Option<Cycle>,
}

/// A file that tells its length to somebody who does not have it.
struct Counted {
    file: ScratchFile,
    position: u64,
    length: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.position += written as u64;
        self.length.fetch_max(self.position, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(to)?;
        Ok(self.position)
    }
}

/// Bytes of changes that are compressed together.
pub const CHUNK: usize = 1 << 20;

/// An FST file of at most so many bytes, which is copied to `out` when it is complete.
///
/// # Errors
/// The budget is too small for the header.
pub fn fst<W: Write>(
    out: W,
    scratch: Box<dyn Scratch>,
    config: &GemminiConfig,
    start: Cycle,
    budget: u64,
) -> io::Result<Waves<Fst<W>>> {
    let signals = with_flag(config);
    let info = FstInfo {
        start_time: start,
        timescale_exponent: -9,
        version: "Pollux".to_owned(),
        date: String::new(),
        file_type: FstFileType::Verilog,
    };
    let written = Arc::new(AtomicU64::new(0));
    let counted = Counted { file: ScratchFile::new(scratch), position: 0, length: Arc::clone(&written) };
    let mut header = FstHeaderWriter::new(counted, &info).map_err(io::Error::other)?;
    let mut ids = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut steps = Vec::new();
    for signal in &signals {
        move_scope(&mut open, &signal.scopes, &mut |step| steps.push(step));
        for step in steps.drain(..) {
            match step {
                Some(name) => header.scope(name, "", FstScopeType::Module),
                None => header.up_scope(),
            }
            .map_err(io::Error::other)?;
        }
        let id = header.var(
            &signal.name,
            FstSignalType::bit_vec(signal.bits),
            FstVarType::Wire,
            FstVarDirection::Implicit,
            None,
        );
        ids.push(id.map_err(io::Error::other)?);
    }
    for _ in &open {
        header.up_scope().map_err(io::Error::other)?;
    }
    let body = header.finish().map_err(io::Error::other)?;
    let bits: Vec<u32> = signals.iter().map(|signal| signal.bits).collect();
    let smallest = written.load(Ordering::Relaxed) + 2 * SECTION;
    if smallest > budget {
        return Err(too_small(smallest));
    }
    let sink = Fst { out, body, ids, bits, budget, written, time: None };
    Ok(Waves::new(sink, signals.len() - 1, budget))
}

/// Bytes that a section takes beside its changes, at most: the frame, positions, lengths.
const SECTION: u64 = 8192;

impl<W: Write> Sink for Fst<W> {
    fn has_room(&mut self, changes: usize) -> bool {
        // Compression never makes more of them, but for a few bytes a signal, which a section counts.
        let bytes = (self.body.size() + changes * 48) as u64;
        self.written.load(Ordering::Relaxed) + bytes + 2 * SECTION <= self.budget
    }

    fn change(&mut self, time: Cycle, changes: &[(usize, u64)]) -> io::Result<()> {
        // A section may only end right before a time.
        if self.time.is_some() && self.body.size() > CHUNK {
            self.body.flush().map_err(io::Error::other)?;
        }
        self.body.time_change(time).map_err(io::Error::other)?;
        self.time = Some(time);
        for &(signal, value) in changes {
            let text = binary(value, self.bits[signal]);
            self.body.signal_change(self.ids[signal], text.as_bytes()).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl<W: Write> Waves<Fst<W>> {
    /// Ends the file. What did not fit.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> io::Result<(W, Option<LeftOut>)> {
        let (sink, left_out) = self.end()?;
        let Fst { mut out, body, .. } = sink;
        body.finish().map_err(io::Error::other)?.file.copy_to(&mut out)?;
        Ok((out, left_out))
    }
}
