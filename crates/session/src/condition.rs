//! [`Condition`]: what a search looks for, cycle by cycle.

use std::fmt;
use std::ops::Range;

use pollux_asm::Program;
use pollux_isa::table::{INSTRUCTIONS, lookup};
use pollux_isa::{RoccCommand, StreamItem};
use pollux_sim::observer::{Cycle, Event, Links, Port, ReqKind, Unit};
use pollux_sim::report::{Block, Cause, Spent};

use crate::places::{Local, ParseError, Places, Words};

/// What happens in the cycles that are looked for. The text is kept, and is what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    text: String,
    pub(crate) any: Vec<Wanted>,
    /// Bytes of a beat at the memory port.
    beat_bytes: u64,
}

/// One kind of happening.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// The cycle itself.
    Cycle(Cycle),
    /// The busy output changes to this.
    Busy(bool),
    /// The host comes to an operation: its number, from 0.
    Mark(usize),
    /// A command is accepted at the port.
    Accept {
        /// Its number.
        number: Option<u64>,
        /// Its mnemonic.
        mnemonic: Option<&'static str>,
    },
    /// A command does a step in the reservation station.
    Command {
        /// The step.
        step: Step,
        /// Its class.
        unit: Option<Unit>,
        /// Its sequence number.
        seq: Option<u64>,
        /// Number of the host's command that it is or comes from; known when it is allocated.
        parent: Option<u64>,
    },
    /// A beat passes the memory port.
    Beat {
        /// A request, or a response.
        request: bool,
        /// Of a read, or of a write.
        read: Option<bool>,
    },
    /// Rows of a local memory are accessed.
    Rows {
        /// Which memory.
        local: Local,
        /// Rows, counted through all banks.
        rows: Range<u32>,
        /// Read or written; both if not said.
        written: Option<bool>,
        /// By whom.
        port: Option<Port>,
        /// Bits of a row within its bank.
        bank_bits: u32,
    },
    /// Bytes of main memory are read or written by the accelerator.
    Bytes {
        /// Addresses.
        bytes: Range<u64>,
        /// Read or written; both if not said.
        written: Option<bool>,
    },
    /// A block waits, in exactly its n-th cycle of the same cause.
    Stall {
        /// The block.
        block: Block,
        /// Why.
        cause: Option<Cause>,
        /// In the how many-th cycle, from 1.
        cycles: u64,
    },
    /// The array takes a request: another matrix begins.
    Matrix,
    /// The array takes a row of operands.
    OperandRow,
    /// A result row leaves the array.
    ResultRow,
    /// A COUNTER answers.
    Response,
}

/// A step of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It enters the station.
    Allocated,
    /// It goes to its controller.
    Issued,
    /// It is complete.
    Completed,
}

const KINDS: &str = "write one of cycle, busy, mark, accepted, allocated, issued, completed, request, response, spad[..], acc[..], \
                     mem[..], stall, matrix, operand_row, result_row, counter";

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// Reads a condition. Several are joined by `or`.
    ///
    /// | text | what happens |
    /// |---|---|
    /// | `cycle N` | the cycle is N |
    /// | `busy rises`, `busy falls` | the busy output changes |
    /// | `mark NAME` | the host comes to the operation of this name or number |
    /// | `accepted [N] [MNEMONIC]` | a command of the host is accepted |
    /// | `allocated`, `issued`, `completed`, each with `[load\|execute\|store] [SEQ]` | a command enters the station, goes to its controller, leaves |
    /// | `allocated of N` | a command enters the station that is the host's command N, or unrolled from it |
    /// | `request [read\|write]`, `response [read\|write]` | a beat passes the memory port |
    /// | `spad[ROWS]`, `acc[ROWS]`, each with `[read\|written] [by execute\|by dma]` | rows of a local memory are accessed |
    /// | `mem[BYTES] [read\|written]` | the accelerator accesses main memory |
    /// | `stall BLOCK [CAUSE] [for N]` | a block waits in its N-th cycle |
    /// | `matrix`, `operand_row`, `result_row` | the array begins a matrix, takes a row, gives a row |
    /// | `counter` | a COUNTER answers |
    ///
    /// # Errors
    /// The word that means nothing, and what could stand there.
    pub fn parse(text: &str, program: &Program) -> Result<Self, ParseError> {
        let mut words = Words::new(text);
        let mut any = vec![wanted(&mut words, program)?];
        while words.take("or") {
            any.push(wanted(&mut words, program)?);
        }
        words.end("a condition but `or` and another one")?;
        Ok(Self { text: text.trim().to_owned(), any, beat_bytes: program.config.beat_bytes().into() })
    }

    /// Activities, or what events belong to, must be known.
    pub(crate) fn needs_everything(&self) -> bool {
        self.any.iter().any(|wanted| matches!(wanted, Wanted::Stall { .. } | Wanted::Command { parent: Some(_), .. }))
    }

    /// Cycles before a hit that must be seen for it to be one.
    pub(crate) fn lead(&self) -> u64 {
        let cycles = |wanted: &Wanted| match wanted {
            Wanted::Stall { cycles, .. } => *cycles,
            // It is told at the end of the cycle before.
            Wanted::Mark(_) => 1,
            _ => 0,
        };
        self.any.iter().map(cycles).max().unwrap_or(0)
    }

    pub(crate) fn matches_event(&self, event: &Event, links: &Links) -> bool {
        self.any.iter().any(|wanted| matches_event(wanted, event, links, self.beat_bytes))
    }

    pub(crate) fn matches_mark(&self, mark: usize) -> bool {
        self.any.contains(&Wanted::Mark(mark))
    }

    /// The cycles that are named outright.
    pub(crate) fn cycles(&self) -> impl Iterator<Item = Cycle> {
        self.any.iter().filter_map(|wanted| if let Wanted::Cycle(cycle) = wanted { Some(*cycle) } else { None })
    }
}

/// A block is in a state for the n-th cycle.
pub(crate) fn matches_stall(wanted: &Wanted, block: Block, spent: Spent) -> Option<u64> {
    match (wanted, spent) {
        (Wanted::Stall { block: of, cause, cycles }, Spent::Stalled(why)) if *of == block => {
            cause.is_none_or(|cause| cause == why).then_some(*cycles)
        }
        _ => None,
    }
}

fn matches_event(wanted: &Wanted, event: &Event, links: &Links, beat_bytes: u64) -> bool {
    match (wanted, *event) {
        (Wanted::Busy(wanted), Event::Busy { value }) => *wanted == value,
        (Wanted::Accept { number, mnemonic }, Event::Accept { number: n, funct, rs1, rs2 }) => {
            let is_called =
                |name: &str| lookup(RoccCommand { funct, rs1, rs2 }).is_some_and(|spec| spec.mnemonic == name);
            number.is_none_or(|number| number == n) && mnemonic.is_none_or(is_called)
        }
        (Wanted::Command { step, unit, seq, parent }, _) => {
            let (happens, u, s) = match *event {
                Event::Alloc { unit, seq, .. } => (Step::Allocated, unit, seq),
                Event::Issue { unit, seq, .. } => (Step::Issued, unit, seq),
                Event::Complete { unit, seq, .. } => (Step::Completed, unit, seq),
                _ => return false,
            };
            let is_its = parent.is_none_or(|parent| links.parent == Some(parent));
            *step == happens && unit.is_none_or(|unit| unit == u) && seq.is_none_or(|seq| seq == s) && is_its
        }
        (Wanted::Beat { request: true, read }, Event::Req { kind, .. }) => {
            read.is_none_or(|read| read == (kind == ReqKind::Get))
        }
        (Wanted::Beat { request: false, read }, Event::Rsp { ack, .. }) => read.is_none_or(|read| read != ack),
        (Wanted::Rows { .. }, _) => matches_row(wanted, event),
        (Wanted::Bytes { bytes, written }, Event::Req { kind, address, size, beat, mask, .. }) => {
            let write = kind != ReqKind::Get;
            let touched = match write {
                false => address..address + u64::from(size),
                true => enabled(address + u64::from(beat) * beat_bytes, mask),
            };
            written.is_none_or(|written| written == write) && touched.start < bytes.end && bytes.start < touched.end
        }
        (Wanted::Matrix, Event::MeshReq { .. })
        | (Wanted::OperandRow, Event::MeshA)
        | (Wanted::ResultRow, Event::MeshOut { .. })
        | (Wanted::Response, Event::Resp { .. }) => true,
        _ => false,
    }
}

/// From the first enabled byte of a beat to the last one.
fn enabled(start: u64, mask: u64) -> Range<u64> {
    let first = start + u64::from(mask.trailing_zeros() % u64::BITS);
    first..start + u64::from(u64::BITS - mask.leading_zeros())
}

fn matches_row(wanted: &Wanted, event: &Event) -> bool {
    let Wanted::Rows { local, rows, written, port, bank_bits } = wanted else { return false };
    let (of, write, bank, row, by) = match *event {
        Event::SpadRead { bank, row, port } => (Local::Scratchpad, false, bank, row, port),
        Event::SpadWrite { bank, row, port } => (Local::Scratchpad, true, bank, row, port),
        Event::AccRead { bank, row, port } => (Local::Accumulator, false, bank, row, port),
        Event::AccWrite { bank, row, port, .. } => (Local::Accumulator, true, bank, row, port),
        _ => return false,
    };
    let row = u32::from(bank) << bank_bits | row;
    let is_it = written.is_none_or(|written| written == write) && port.is_none_or(|port| port == by);
    *local == of && rows.contains(&row) && is_it
}

fn wanted(words: &mut Words<'_>, program: &Program) -> Result<Wanted, ParseError> {
    if let Some(places) = Places::parse(words.peek(), program) {
        let places = places.map_err(|problem| words.error(problem))?;
        words.next();
        return access(places, words, program);
    }
    let at_kind = words.clone();
    Ok(match words.next() {
        "cycle" => Wanted::Cycle(words.number("the cycle")?),
        "busy" => match words.peek() {
            "rises" | "falls" => Wanted::Busy(words.next() == "rises"),
            _ => return Err(words.error("write `busy rises` or `busy falls`")),
        },
        "mark" => mark(words, program)?,
        "accepted" => accept(words)?,
        "allocated" => command(Step::Allocated, words)?,
        "issued" => command(Step::Issued, words)?,
        "completed" => command(Step::Completed, words)?,
        "request" => Wanted::Beat { request: true, read: direction(words) },
        "response" => Wanted::Beat { request: false, read: direction(words) },
        "stall" => stall(words)?,
        "matrix" => Wanted::Matrix,
        "operand_row" => Wanted::OperandRow,
        "result_row" => Wanted::ResultRow,
        "counter" => Wanted::Response,
        _ => return Err(at_kind.error(format!("this is no condition: {KINDS}"))),
    })
}

fn direction(words: &mut Words<'_>) -> Option<bool> {
    let read = words.take("read");
    (read || words.take("write")).then_some(read)
}

fn access(places: Places, words: &mut Words<'_>, program: &Program) -> Result<Wanted, ParseError> {
    let written = words.take("written");
    let written = (written || words.take("read")).then_some(written);
    let (local, rows) = match places {
        Places::Bytes(bytes) => return Ok(Wanted::Bytes { bytes, written }),
        Places::Rows(local, rows) => (local, rows),
    };
    let mut port = None;
    if words.take("by") {
        port = Some(match words.peek() {
            "execute" => Port::Ex,
            "dma" => Port::Dma,
            _ => return Err(words.error("write `by execute` or `by dma`")),
        });
        words.next();
    }
    let layout = program.config.layout();
    let bank_bits = match local {
        Local::Scratchpad => layout.sp_bank_row_bits,
        Local::Accumulator => layout.acc_bank_row_bits,
    };
    Ok(Wanted::Rows { local, rows, written, port, bank_bits })
}

/// The names of a program's operations.
pub(crate) fn marks(program: &Program) -> impl Iterator<Item = &str> {
    program.items.iter().filter_map(|item| if let StreamItem::Mark(name) = item { Some(name.as_str()) } else { None })
}

fn mark(words: &mut Words<'_>, program: &Program) -> Result<Wanted, ParseError> {
    let word = words.peek();
    let count = marks(program).count();
    let by_number = crate::places::number(word).map(|number| number as usize).filter(|number| *number < count);
    let Some(mark) = marks(program).position(|name| name == word).or(by_number) else {
        let names: Vec<&str> = marks(program).take(8).collect();
        let names = if names.is_empty() {
            "the program has none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        return Err(words.error(format!("no operation has this name: {names}")));
    };
    words.next();
    Ok(Wanted::Mark(mark))
}

fn accept(words: &mut Words<'_>) -> Result<Wanted, ParseError> {
    let number = words.optional_number();
    let word = words.peek();
    if word.is_empty() || word == "or" {
        return Ok(Wanted::Accept { number, mnemonic: None });
    }
    let Some(spec) = INSTRUCTIONS.iter().find(|spec| spec.mnemonic == word) else {
        return Err(words.error("no instruction has this mnemonic: `pollux isa` lists them"));
    };
    words.next();
    Ok(Wanted::Accept { number, mnemonic: Some(spec.mnemonic) })
}

fn command(step: Step, words: &mut Words<'_>) -> Result<Wanted, ParseError> {
    let unit = match words.peek() {
        "load" | "ld" => Some(Unit::Ld),
        "execute" | "ex" => Some(Unit::Ex),
        "store" | "st" => Some(Unit::St),
        _ => None,
    };
    if unit.is_some() {
        words.next();
    }
    let seq = words.optional_number();
    let mut parent = None;
    if words.peek() == "of" {
        if step != Step::Allocated {
            return Err(words.error("only `allocated` knows the host's command: write `allocated of N`"));
        }
        words.next();
        parent = Some(words.number("of the host's command")?);
    }
    Ok(Wanted::Command { step, unit, seq, parent })
}

/// The block of this name.
pub(crate) fn block(word: &str) -> Option<Block> {
    Block::ALL.into_iter().find(|block| block.name() == word)
}

/// All names of blocks.
pub(crate) fn block_names() -> String {
    Block::ALL.map(Block::name).join(", ")
}

fn stall(words: &mut Words<'_>) -> Result<Wanted, ParseError> {
    let Some(block) = block(words.peek()) else {
        return Err(words.error(format!("no block has this name: write one of {}", block_names())));
    };
    words.next();
    let word = words.peek();
    let cause = Cause::ALL.into_iter().find(|cause| cause.name() == word);
    if cause.is_some() {
        words.next();
    } else if !matches!(word, "" | "for" | "or") {
        let causes = Cause::ALL.map(Cause::name).join(", ");
        return Err(words.error(format!("no cause has this name: write one of {causes}")));
    }
    let mut cycles = 1;
    if words.take("for") {
        let at_number = words.clone();
        cycles = words.number("of cycles")?;
        if cycles == 0 {
            return Err(at_number.error("a stall is counted from its first cycle: write 1 or more"));
        }
    }
    Ok(Wanted::Stall { block, cause, cycles })
}
