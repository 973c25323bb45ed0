//! Kanata 0004, the format of Konata (`docs/kanata-log-format.md` there): a line of the picture for each command of the station.
//!
//! | stage | the command |
//! |---|---|
//! | `Q` | waits in the station |
//! | `I` | is issued, and waits in its controller's queue |
//! | `X` | its rows move |
//! | `W` | waits for the last of them |
//!
//! The second lane has the cause for which the oldest command of a class waits in the station. A window begins at 0 in the viewer; the
//! labels have the true cycles.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write};

use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, Span, Unit};
use pollux_sim::report::{Block, Cause, Spent};

use super::Describe;
use super::budget::{Budget, LeftOut};
use super::lives::{Life, Lives};

/// Bytes that are kept for the end of each command that is open, its stages and their times, and for the note on what was left out.
const END: u64 = 256;
const NOTE: u64 = 256;
/// Bytes of a line that lets time pass.
const TIME: usize = 24;

/// Writes the format.
pub struct Kanata<'p, W: Write> {
    out: Budget<W>,
    describe: Describe<'p>,
    lives: Lives,
    /// Lines that are known, by cycle; those of a cycle are written when no earlier one can come.
    lines: BTreeMap<Cycle, String>,
    /// Bytes of them, with the lines that let time pass.
    pending: usize,
    /// Where the file's time stands.
    now: Option<Cycle>,
    /// Number in the file of the commands that are in it.
    ids: HashMap<u64, u64>,
    next_id: u64,
    retired: u64,
    /// The stalls that stand in the second lane, by class: command and cause.
    stalls: [Option<(u64, Cause)>; 3],
}

impl<'p, W: Write> Kanata<'p, W> {
    /// A file of at most so many bytes.
    pub fn new(out: W, describe: Describe<'p>, budget: u64) -> Self {
        let mut out = Budget::new(out, budget, NOTE);
        if out.has_room(16, 0) {
            out.write(b"Kanata\t0004\n");
        }
        Self {
            out,
            describe,
            lives: Lives::default(),
            lines: BTreeMap::new(),
            pending: 0,
            now: None,
            ids: HashMap::new(),
            next_id: 0,
            retired: 0,
            stalls: [None; 3],
        }
    }

    /// Ends the file. What did not fit.
    ///
    /// # Errors
    /// The first error of the writer.
    pub fn finish(mut self) -> io::Result<(W, Option<LeftOut>)> {
        let end = self.now.unwrap_or(0).max(self.lines.keys().next_back().copied().unwrap_or(0));
        let open: Vec<Life> = self.lives.open().cloned().collect();
        open.iter().for_each(|life| self.end(life, end));
        self.flush_before(Cycle::MAX);
        if let Some(left_out) = self.out.left_out() {
            let id = self.next_id;
            let note =
                format!("I\t{id}\t{id}\t0\nL\t{id}\t0\t{left_out}\nS\t{id}\t0\tQ\nR\t{id}\t{}\t1\n", self.retired);
            self.out.reserved = 0;
            if self.out.has_room(note.len(), 0) {
                self.out.write(note.as_bytes());
            }
        }
        self.out.finish()
    }

    fn add(&mut self, cycle: Cycle, text: &str) {
        let lines = self.lines.entry(cycle).or_insert_with(|| {
            self.pending += TIME;
            String::new()
        });
        lines.push_str(text);
        self.pending += text.len();
    }

    /// There is room for so many bytes beside the lines that wait, and for the ends of `open` commands.
    fn has_room(&self, bytes: usize, open: usize) -> bool {
        self.out.has_room(bytes + TIME + self.pending, END * open as u64)
    }

    /// Begins a command if there is room for all of it.
    fn begin(&mut self, life: &Life) {
        let text = (self.describe)(life.command);
        let Life { seq, unit, allocated, .. } = *life;
        let parent = life.parent.map_or_else(String::new, |parent| format!(" of {parent}"));
        let id = self.next_id;
        let mut lines = format!(
            "I\t{id}\t{seq}\t{}\nL\t{id}\t0\t{seq}{parent}: {text}\nL\t{id}\t1\tenters the station in cycle {allocated}\nS\t{id}\t0\tQ\n",
            unit as usize
        );
        for producer in life.dependencies.iter().filter_map(|on| self.ids.get(on)) {
            let _ = writeln!(lines, "W\t{id}\t{producer}\t0");
        }
        if !self.has_room(lines.len(), self.ids.len() + 1) {
            self.out.leave_out(allocated);
            return;
        }
        self.ids.insert(seq, id);
        self.next_id += 1;
        self.add(allocated, &lines);
    }

    /// Its stages, and its end.
    fn end(&mut self, life: &Life, now: Cycle) {
        let Some(id) = self.ids.remove(&life.seq) else { return };
        let end = life.completed.map_or(now, |completed| completed + 1).max(life.allocated);
        for stage in life.stages(now).into_iter().filter(|stage| stage.letter != 'Q') {
            let line = format!("S\t{id}\t0\t{}\n", stage.letter);
            self.add(stage.start, &line);
        }
        let retire = if life.completed.is_some() { 0 } else { 1 };
        let line = format!("R\t{id}\t{}\t{retire}\n", self.retired);
        self.retired += 1;
        self.add(end, &line);
        for stall in self.stalls.iter_mut().filter(|stall| stall.is_some_and(|(seq, _)| seq == life.seq)) {
            *stall = None;
        }
    }

    /// Writes the lines of the cycles before this one.
    fn flush_before(&mut self, cycle: Cycle) {
        while let Some(entry) = self.lines.first_entry().filter(|entry| *entry.key() < cycle) {
            let (at, lines) = entry.remove_entry();
            let time = match self.now.replace(at) {
                None => format!("C=\t{at}\n"),
                Some(before) if before < at => format!("C\t{}\n", at - before),
                Some(_) => String::new(),
            };
            self.pending -= TIME + lines.len();
            let text = time + &lines;
            // What begins is only begun if there is room for it; what ends has its bytes reserved.
            self.out.write(text.as_bytes());
        }
    }

    /// The stages of an open command are not known before it is complete.
    fn settled(&self, cycle: Cycle) -> Cycle {
        self.lives
            .open()
            .filter(|life| self.ids.contains_key(&life.seq))
            .filter_map(|life| life.issued)
            .fold(cycle, Cycle::min)
    }

    /// The oldest command of a class that waits in the station, and why.
    fn stall(&mut self, cycle: Cycle, unit: Unit, spent: Spent) {
        let waits = |life: &&Life| life.unit == unit && life.issued.is_none();
        let now = match spent {
            Spent::Stalled(cause) => self.lives.open().find(waits).map(|life| (life.seq, cause)),
            _ => None,
        };
        let before = self.stalls[unit as usize];
        if now == before {
            return;
        }
        let mut lines = String::new();
        if let Some((id, cause)) = before.and_then(|(seq, cause)| Some((*self.ids.get(&seq)?, cause))) {
            let _ = writeln!(lines, "E\t{id}\t1\t{}", cause.name());
        }
        self.stalls[unit as usize] = None;
        if let Some((id, seq, cause)) = now.and_then(|(seq, cause)| Some((*self.ids.get(&seq)?, seq, cause))) {
            let _ = write!(lines, "S\t{id}\t1\t{}\nL\t{id}\t2\t{}\n", cause.name(), cause.description());
            self.stalls[unit as usize] = Some((seq, cause));
        }
        if !lines.is_empty() && self.has_room(lines.len(), self.ids.len()) {
            self.add(cycle, &lines);
        }
    }
}

impl<W: Write> Observer for Kanata<'_, W> {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        if let Some(life) = self.lives.event(cycle, event, links) {
            self.end(&life, cycle);
            let settled = self.settled(cycle);
            self.flush_before(settled);
        } else if let Event::Alloc { seq, .. } = *event {
            let life = self.lives.open().find(|life| life.seq == seq).cloned();
            life.iter().for_each(|life| self.begin(life));
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        let issues = [(Unit::Ld, Block::IssueLoads), (Unit::Ex, Block::IssueExecutes), (Unit::St, Block::IssueStores)];
        for (unit, block) in issues {
            self.stall(span.first, unit, activity.of(block));
        }
    }
}
