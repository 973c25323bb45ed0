//! [`Explanation`]: why something waits, with the chain of causes, and until when, which a copy that runs on finds out.

use std::fmt;

use pollux_sim::observer::Cycle;
use pollux_sim::report::{Block, Cause, Spent};
use pollux_sim::view::{EntryView, MoveView};
use serde::Serialize;

use crate::condition::{block, block_names};
use crate::error::SessionError;
use crate::places::{ParseError, Words};
use crate::scan::{BlockChange, CommandSteps};
use crate::session::Session;
use crate::view::{BlockView, HISTORY, View, state};

/// Links of a chain at most.
const LONGEST: usize = 12;
/// Cycles that are looked back and ahead at most.
const FAR: u64 = 1 << 17;

/// What an explanation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A block.
    Block(Block),
    /// The command with this sequence number in the reservation station.
    Command(u64),
    /// The host.
    Host,
}

impl Subject {
    /// Reads `host`, a block's name, or the sequence number of a command in the station, with or without `command`.
    ///
    /// # Errors
    /// The text is none of them.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(text);
        words.take("command");
        let subject = match (words.optional_number(), block(words.peek())) {
            (Some(seq), _) => Self::Command(seq),
            (None, Some(of)) => {
                words.next();
                Self::Block(of)
            }
            (None, None) if words.take("host") => Self::Host,
            _ => {
                let blocks = block_names();
                return Err(words.error(format!("write host, command SEQ, or a block: {blocks}")));
            }
        };
        words.end("the subject")?;
        Ok(subject)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => f.write_str(block.name()),
            Self::Command(seq) => write!(f, "command {seq}"),
            Self::Host => f.write_str("host"),
        }
    }
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What it is about.
    pub subject: String,
    /// The cycle.
    pub cycle: Cycle,
    /// All of it in words.
    pub sentence: String,
    /// From the subject to the last cause that is known, each the reason of the one before.
    pub chain: Vec<Reason>,
    /// Until when it is so; none if it stays so for longer than was looked ahead, or to the end of the run.
    pub until: Option<Until>,
    /// What would help, if that is known.
    pub advice: Option<&'static str>,
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A block, a command, or the host.
    pub subject: String,
    /// `idle`, `busy`, `draining`, `stalled`; of a command `waits` or `runs`.
    pub state: &'static str,
    /// Why it is stalled.
    pub cause: Option<Cause>,
    /// In words.
    pub text: String,
    /// The first cycle of it; none if that is longer ago than was looked back.
    pub since: Option<Cycle>,
    /// The paragraph of the book about the cause.
    pub page: Option<String>,
}

/// The end of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Until {
    /// The first cycle in which it is no longer so.
    pub cycle: Cycle,
    /// What is then.
    pub text: String,
}

impl Session {
    /// Why the subject is in the state in which it is, and until when.
    ///
    /// # Errors
    /// There is no such command in the station, or whoever watches ended the replay.
    pub fn why(&mut self, subject: Subject) -> Result<Explanation, SessionError> {
        let view = self.view()?;
        let mut chain = Vec::new();
        let (mut seen, mut next) = (Vec::new(), Some(subject));
        while let Some(subject) = next.filter(|subject| !seen.contains(subject) && chain.len() < LONGEST) {
            seen.push(subject);
            let (reason, following) = link(&view, subject)?;
            chain.push(reason);
            next = following;
        }
        if let (Subject::Block(of), Some(first)) = (subject, chain.first_mut()) {
            first.since = self.since(&view, of)?;
        }
        let until = match subject {
            Subject::Block(of) => self.until_block(&view, of)?,
            Subject::Command(seq) => self.until_command(&view, seq)?,
            Subject::Host => None,
        };
        let advice = chain.iter().rev().find_map(|reason| reason.cause).and_then(advice);
        let sentence = sentence(&view, &chain, until.as_ref(), advice);
        Ok(Explanation { subject: subject.to_string(), cycle: self.cycle(), sentence, chain, until, advice })
    }

    /// The first cycle of a block's present state, by looking back further and further.
    fn since(&mut self, view: &View, of: Block) -> Result<Option<Cycle>, SessionError> {
        let (cycle, seen) = (self.cycle(), view.block(of).cycles);
        if seen < HISTORY {
            return Ok(Some(cycle + 1 - seen));
        }
        let from = spent(view.block(of));
        let mut far = HISTORY;
        loop {
            let start = cycle.saturating_sub(far);
            let mut follow = BlockChange { block: of, from, change: None, last_other: None };
            self.look(&mut follow, start, cycle)?;
            if let Some(last) = follow.last_other {
                return Ok(Some(last + 1));
            }
            if start == 0 || far >= FAR {
                return Ok((start == 0).then_some(0));
            }
            far *= 8;
        }
    }

    fn until_block(&mut self, view: &View, of: Block) -> Result<Option<Until>, SessionError> {
        let cycle = self.cycle();
        let mut follow = BlockChange { block: of, from: spent(view.block(of)), change: None, last_other: None };
        let mut ahead = HISTORY;
        while !view.ended && follow.change.is_none() && ahead <= FAR {
            self.look(&mut follow, cycle, cycle + ahead)?;
            ahead *= 8;
        }
        Ok(follow.change.map(|(cycle, spent)| {
            let text = match state(spent) {
                (_, Some(cause)) => format!("it waits for another reason: {}", cause.description()),
                ("busy", _) => "it works".to_owned(),
                (name, _) => format!("it is {name}"),
            };
            Until { cycle, text }
        }))
    }

    fn until_command(&mut self, view: &View, seq: u64) -> Result<Option<Until>, SessionError> {
        let issued = view.machine.station.command(seq).is_some_and(|entry| entry.issued);
        let cycle = self.cycle();
        let mut steps = CommandSteps { seq, ..CommandSteps::default() };
        let mut ahead = HISTORY;
        let happens = |steps: &CommandSteps| if issued { steps.completed } else { steps.issued };
        while !view.ended && happens(&steps).is_none() && ahead <= FAR {
            self.look(&mut steps, cycle, cycle + ahead)?;
            ahead *= 8;
        }
        let text = if issued { "it is complete" } else { "it goes to its controller" };
        Ok(happens(&steps).map(|cycle| Until { cycle, text: text.to_owned() }))
    }
}

fn spent(view: &BlockView) -> Spent {
    match (view.state, view.cause) {
        (_, Some(cause)) => Spent::Stalled(cause),
        ("busy", _) => Spent::Busy,
        ("draining", _) => Spent::Draining,
        _ => Spent::Idle,
    }
}

/// The paragraph of the book about a cause.
fn page(cause: Cause) -> String {
    format!("causes.md#{}", cause.name())
}

/// A link of the chain, and what it leads to.
fn link(view: &View, subject: Subject) -> Result<(Reason, Option<Subject>), SessionError> {
    let (state, cause, text, next) = match subject {
        Subject::Host => {
            let waits = view.block(Block::CommandPort).state == "stalled";
            let next = waits.then_some(Subject::Block(Block::CommandPort));
            ("waits", None, format!("the host is at {}", view.host.position), next)
        }
        Subject::Block(of) => {
            let seen = view.block(of);
            let (text, next) = match seen.cause {
                Some(cause) => stalled(view, of, cause),
                None => moving(view, of, seen.state),
            };
            (seen.state, seen.cause, text, next)
        }
        Subject::Command(seq) => {
            let Some(entry) = view.machine.station.command(seq) else {
                let there: Vec<String> = view
                    .machine
                    .station
                    .iter()
                    .filter_map(|entry| entry.command.seq)
                    .map(|seq| seq.to_string())
                    .collect();
                let remedy = if there.is_empty() {
                    "the station is empty: go to a cycle in which the command is in it, such as by `until allocated SEQ`".to_owned()
                } else {
                    format!("there are {}", there.join(", "))
                };
                return Err(SessionError::Nothing { what: format!("no command {seq} is in the station now"), remedy });
            };
            let (text, next) = command(view, entry);
            (if entry.issued { "runs" } else { "waits" }, None, text, next)
        }
    };
    let since = match subject {
        Subject::Block(of) => {
            let cycles = view.block(of).cycles;
            (cycles < HISTORY).then(|| view.machine.cycle + 1 - cycles)
        }
        _ => None,
    };
    let reason = Reason { subject: subject.to_string(), state, cause, text, since, page: cause.map(page) };
    Ok((reason, next))
}

/// A command of the station, for people.
fn named(entry: &EntryView) -> String {
    let class = match entry.unit {
        pollux_sim::observer::Unit::Ld => "load",
        pollux_sim::observer::Unit::Ex => "execute",
        pollux_sim::observer::Unit::St => "store",
    };
    format!("{class} {} ({})", entry.command.seq.unwrap_or(0), entry.command.text)
}

fn by_seq(view: &View, seq: Option<u64>) -> Option<String> {
    Some(named(view.machine.station.command(seq?)?))
}

fn issue_block(unit: pollux_sim::observer::Unit) -> (Block, Block) {
    match unit {
        pollux_sim::observer::Unit::Ld => (Block::IssueLoads, Block::LoadController),
        pollux_sim::observer::Unit::Ex => (Block::IssueExecutes, Block::ExecuteController),
        pollux_sim::observer::Unit::St => (Block::IssueStores, Block::StoreController),
    }
}

fn command(view: &View, entry: &EntryView) -> (String, Option<Subject>) {
    let (_, controller) = issue_block(entry.unit);
    let name = named(entry);
    if let Some(first) = blocker(view, entry) {
        let others = entry.waits_for.len() - 1;
        let more = match others {
            0 => String::new(),
            1 => " and one more command".to_owned(),
            _ => format!(" and {others} more commands"),
        };
        let on = by_seq(view, Some(first)).unwrap_or_else(|| format!("command {first}"));
        return (format!("{name} waits in the station for {on}{more}"), Some(Subject::Command(first)));
    }
    if !entry.issued {
        return (format!("{name} is ready, and goes when its controller takes it"), Some(Subject::Block(controller)));
    }
    let tracked = |of: &MoveView| of.tracker.iter().find(|tracked| tracked.seq == entry.command.seq).map(|t| t.left);
    let text = match controller {
        Block::LoadController => tracked(&view.machine.load).map(|left| match left {
            0 => format!("{name} has all its bytes, and waits for the report of its completion"),
            _ => format!("{name} is under way: {left} of its bytes are still to be written"),
        }),
        Block::StoreController => tracked(&view.machine.store)
            .map(|left| format!("{name} is under way: {left} of its rows are still to be read")),
        _ => Some(format!("{name} is with the execute controller")),
    };
    (text.unwrap_or_else(|| format!("{name} is in its controller's queue")), Some(Subject::Block(controller)))
}

/// The command that an entry waits for: the oldest of another class, else of its own.
fn blocker(view: &View, entry: &EntryView) -> Option<u64> {
    let other = |seq: &&u64| view.machine.station.command(**seq).is_some_and(|of| of.unit != entry.unit);
    entry.waits_for.iter().find(other).or(entry.waits_for.first()).copied()
}

/// A block that is not stalled.
fn moving(view: &View, of: Block, state: &str) -> (String, Option<Subject>) {
    let name = of.name();
    let machine = &view.machine;
    let row = |controller: &MoveView| match controller.queue.first() {
        Some((_, seq)) => {
            let command = by_seq(view, *seq).unwrap_or_else(|| "a configuration".to_owned());
            format!("row {} of {} of {command}", controller.row + 1, controller.rows.max(1))
        }
        None => "no command".to_owned(),
    };
    match (state, of) {
        ("idle", _) => (format!("{name} has no work"), None),
        ("busy", Block::LoadController) => (format!("{name} works: {}", row(&machine.load)), None),
        ("busy", Block::StoreController) => (format!("{name} works: {}", row(&machine.store)), None),
        ("busy", _) => (format!("{name} works"), None),
        (_, Block::LoadController) => {
            let bytes: u32 = machine.load.tracker.iter().map(|tracked| tracked.left).sum();
            let text = format!("{name} has made all its requests, and waits for {bytes} bytes to be written");
            (text, Some(Subject::Block(Block::StreamReader)))
        }
        (_, Block::StoreController) => {
            let text = format!("{name} has made all its requests, and waits for the rows to be read");
            (text, Some(Subject::Block(Block::MvoutPath)))
        }
        _ => (format!("{name} has passed all its work on; {} rows are in the array", machine.execute.in_array), None),
    }
}

/// A block that waits: in words, and what holds it up.
fn stalled(view: &View, of: Block, cause: Cause) -> (String, Option<Subject>) {
    use Cause::*;
    let machine = &view.machine;
    let block = |next: Block| Some(Subject::Block(next));
    // What stands further down the command path, the first that waits.
    let first_stalled = |blocks: &[Block]| {
        let waits = blocks.iter().find(|next| view.block(**next).state == "stalled");
        waits.or(blocks.last()).map(|next| Subject::Block(*next))
    };
    let oldest = |unit| {
        let entries = match unit {
            Block::IssueLoads => &machine.station.load,
            Block::IssueExecutes => &machine.station.execute,
            _ => &machine.station.store,
        };
        entries.iter().find(|entry| !entry.issued)
    };
    let behind_station = |issue: Block, controller: Block| first_stalled(&[issue, controller]);
    let (fact, next) = match cause {
        FrontEndFull => (None, first_stalled(&[Block::LoopConv, Block::LoopMatmul, Block::Dispatch])),
        OutputFull if of == Block::LoopConv => (None, first_stalled(&[Block::LoopMatmul, Block::Dispatch])),
        OutputFull => (None, block(Block::Dispatch)),
        LoadsInFlight | StationFullOfLoads => (None, behind_station(Block::IssueLoads, Block::LoadController)),
        ExecutesInFlight | StationFullOfExecutes => {
            (None, behind_station(Block::IssueExecutes, Block::ExecuteController))
        }
        StoresInFlight | StationFullOfStores => (None, behind_station(Block::IssueStores, Block::StoreController)),
        OtherPart | Turnover => (None, first_stalled(&[Block::Dispatch])),
        CounterResponse => (None, None),
        ControllerFull => {
            let controller = match of {
                Block::IssueLoads => Block::LoadController,
                Block::IssueExecutes => Block::ExecuteController,
                _ => Block::StoreController,
            };
            (None, block(controller))
        }
        AfterLoad | AfterExecute | AfterStore => {
            let entry = oldest(of);
            let next = entry.and_then(|entry| entry.command.seq).map(Subject::Command);
            (entry.map(|entry| format!("the oldest is {}", named(entry))), next)
        }
        CommandTracker | RowRequest if of == Block::StoreController => (None, block(Block::MvoutPath)),
        CommandTracker => (None, block(Block::StreamReader)),
        RowRequest => (None, first_stalled(&[Block::MvinPath, Block::StreamReader])),
        NextCommand => (None, first_stalled(&[Block::IssueExecutes, Block::Dispatch])),
        Hazard | Flush | Report | MeshFull => {
            let rows = format!(
                "{} rows and {} results are in the array",
                machine.execute.in_array,
                machine.execute.tags.len()
            );
            (Some(rows), None)
        }
        BankConflict | BankBusy | AccumulatorOperand => (None, None),
        OperandRow => {
            let waiting = machine.execute.control_queue.len();
            (Some(format!("{waiting} rows have been asked for")), None)
        }
        MvinBank | MvinScaler | BankOutput => (None, None),
        ReaderRequest => (None, block(Block::StreamReader)),
        Writer => (None, block(Block::StreamWriter)),
        ScaleUnit => (None, None),
        NormalizerBusy => (
            None,
            first_stalled(&[Block::Normalizer, Block::AccumulatorScale]).filter(|next| *next != Subject::Block(of)),
        ),
        BankRead => (None, block(Block::ExecuteController)),
        Translation => (None, block(Block::Tlb)),
        PageWalk => {
            let left = machine.tlb.walks.first().map(|(page, cycles)| format!("page {page:#x}, {cycles} more cycles"));
            (left, None)
        }
        MemoryPort => (None, block(Block::RequestPort)),
        Transactions | Memory => {
            let engine = if of == Block::StreamWriter { &machine.writer } else { &machine.reader };
            (Some(format!("{} transactions are under way", engine.transactions.len())), None)
        }
        ScratchpadSide => (None, block(if of == Block::StreamWriter { Block::MvoutPath } else { Block::MvinPath })),
        MemoryBusy => (Some(format!("{} requests are under way", machine.port.in_flight)), None),
        EngineBusy => (None, block(Block::StreamReader)),
    };
    let fact = fact.map(|fact| format!(" ({fact})")).unwrap_or_default();
    (format!("{} waits: {}{fact}", of.name(), cause.description()), next)
}

/// What helps against a cause, where something does.
fn advice(cause: Cause) -> Option<&'static str> {
    use Cause::*;
    Some(match cause {
        Memory | Transactions => "issue the loads earlier, so that other work hides their latency, or move less",
        MemoryBusy | MemoryPort => "the memory is the bottleneck: use data again before it is replaced",
        Translation | PageWalk => "keep accesses within few pages at a time: each new one is walked",
        BankConflict => "put the operands into different banks",
        BankBusy | MvinBank | BankRead => "let loads and stores use other banks than the products do at the same time",
        AccumulatorOperand => "copy the operand to the scratchpad first: this revision never answers such a read",
        NextCommand => "keep commands coming: a PRELOAD starts only with the command behind it",
        Hazard | Flush | Report => "put other products between a result and its use, or a change of configuration",
        AfterLoad | AfterExecute | AfterStore => {
            "let the command before it come earlier, or, if only the rows are the same and not the data, use other rows"
        }
        ScaleUnit | NormalizerBusy => {
            "the way out of the accumulator is the bottleneck: store fewer rows, or overlap stores with products"
        }
        _ => return None,
    })
}

/// All of it in a few sentences.
fn sentence(view: &View, chain: &[Reason], until: Option<&Until>, advice: Option<&str>) -> String {
    let mut texts = chain.iter().map(|reason| reason.text.as_str());
    let mut out = texts.next().unwrap_or("nothing").to_owned();
    if let Some(Some(since)) = chain.first().map(|reason| reason.since) {
        let cycles = view.machine.cycle + 1 - since;
        out.push_str(&format!(", for {cycles} cycle{}", if cycles == 1 { "" } else { "s" }));
    }
    for text in texts {
        out.push_str("; ");
        out.push_str(text);
    }
    out.push('.');
    if let Some(Until { cycle, text }) = until {
        out.push_str(&format!(" From cycle {cycle} on {text}."));
    }
    if let Some((earlier, true)) = until
        .zip(chain.first())
        .and_then(|(until, first)| Some((until.cycle - first.since?, first.cause == Some(Cause::AfterLoad))))
    {
        out.push_str(&format!(" A load issued {earlier} cycles earlier would hide this."));
    }
    if let Some(advice) = advice {
        out.push_str(&format!(" To change it: {advice}."));
    }
    out
}
