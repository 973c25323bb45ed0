//! Time travel: a program in which one command writes at the wrong time. Which one, where, and in which cycle?
//!
//! The program is a product C = A B, tile by tile. The tiles take turns in few rows of the accumulator, and between the commands of the
//! product stand *strangers*: commands that use as scratch space what the product does not need at that time, rows that wait for
//! their next tile, or elements of C whose tile is not stored yet. One stranger, chosen by the seed, comes at the wrong time, so that
//! the text alone does not show it, but the run does. The answer is computed: the program runs, and the events of that command say
//! where it writes, and when.

use std::collections::BTreeSet;

use pollux::sim::observer::{Event, Links, ReqKind};
use pollux::{Config, Cycle, Observer, Program};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Deserialize;

use crate::grade::{Accepted, Refused, Seed, Verdict, read};
use crate::lab::FaultWork;

/// Tiles that have rows in the accumulator: two are unfinished or not yet stored at most, so that one place is always free.
const PLACES: u32 = 3;

/// Numbers that strangers load.
const NUMBERS: u32 = 8;

/// What is handed in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Seed of the program.
    seed: Option<u64>,
    command: u64,
    /// Row of the accumulator, or
    row: Option<u32>,
    /// address in main memory.
    address: Option<u64>,
    cycle: Cycle,
}

/// An answer with gaps.
pub(crate) fn answer(seed: u64) -> String {
    format!(
        "seed = {seed}\ncommand = 0 # number of the command that spoiled C\nrow = 0 # of the accumulator, or address = 0x80000000\ncycle = 0\n"
    )
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Culprit {
    /// Number of the host's command.
    pub command: u64,
    /// Where it writes.
    pub place: Place,
    /// In which cycle.
    pub cycle: Cycle,
}

/// Where a command writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A row of the accumulator, counted through all banks.
    Row(u32),
    /// A byte of main memory.
    Address(u64),
}

/// The program of a seed.
pub(crate) struct Case {
    pub text: String,
    pub program: Program,
    pub culprit: Culprit,
}

/// Grades an answer; the seed is the one that was asked for, or the answer's own.
pub(crate) fn check(
    work: &FaultWork,
    head: &str,
    solution: (&str, &[u8]),
    asked: Seed,
    (cases, seed): (&mut usize, &mut u64),
) -> Result<Accepted, Refused> {
    let answer: Answer = read(solution)?;
    *seed = match (asked, answer.seed) {
        (Seed::Given(asked), Some(own)) if asked != own => {
            let message = format!("the answer is for the program of seed {own}, not for that of seed {asked}");
            return Err((Verdict::OtherTask, message));
        }
        (Seed::Given(seed), _) | (Seed::New(_), Some(seed)) => seed,
        (Seed::New(_), None) => {
            let remedy = "write the program's seed, such as `seed = 7`, or give it with --seed";
            return Err((Verdict::NotRead, format!("{}: the answer names no seed: {remedy}", solution.0)));
        }
    };
    let place = match (answer.row, answer.address) {
        (Some(row), None) => Place::Row(row),
        (None, Some(address)) => Place::Address(address),
        _ => {
            let remedy = "write either `row = ...` (of the accumulator) or `address = ...` (in main memory)";
            return Err((Verdict::NotRead, format!("{}: the answer names not one place: {remedy}", solution.0)));
        }
    };
    *cases += 1;
    let case = Case::new(work, head, *seed);
    compare(&case, Culprit { command: answer.command, place, cycle: answer.cycle }, *seed)?;
    Ok(Accepted { message: format!("command {} it is, in cycle {}", answer.command, answer.cycle), score: None })
}

/// Says what is wrong of an answer, but not what is right.
fn compare(case: &Case, answer: Culprit, seed: u64) -> Result<(), Refused> {
    let last = case.program.commands().count() as u64 - 1;
    if answer.command > last {
        let message = format!(
            "there is no command {}: the program of seed {seed} has 0 to {last}; `pollux lab show` writes it with --seed {seed}",
            answer.command
        );
        return Err((Verdict::OtherTask, message));
    }
    let wrong = |message: String| Err((Verdict::WrongResult, message));
    if answer.command != case.culprit.command {
        return wrong(format!(
            "`command`: without command {} the element is as wrong: who writes its place last before it is read or the run ends?",
            answer.command
        ));
    }
    match (answer.place, case.culprit.place) {
        (Place::Row(_), Place::Address(_)) => {
            wrong("`row`: that command writes to main memory: give the address".into())
        }
        (Place::Address(_), Place::Row(_)) => {
            wrong("`address`: that command writes to the accumulator: give the row".into())
        }
        (Place::Row(row), right) if answer.place != right => {
            wrong(format!("`row`: the command is right, but does not write row {row} of the accumulator"))
        }
        (Place::Address(address), right) if answer.place != right => {
            wrong(format!("`address`: the command is right, but its first byte is not written at {address:#x}"))
        }
        _ if answer.cycle != case.culprit.cycle => wrong(format!(
            "`cycle`: command and place are right, but it is not written in cycle {}: `reverse-until` stops in the cycle",
            answer.cycle
        )),
        _ => Ok(()),
    }
}

impl Case {
    /// The program of a seed: exactly one element of C is wrong.
    pub fn new(work: &FaultWork, head: &str, seed: u64) -> Self {
        let config = pollux::config(&work.config).expect("the labs' configurations are tested");
        let mut random = SplitMix64::seed_from_u64(seed);
        loop {
            // What is written at the wrong time may by chance be what is right.
            let draft = Draft::new(work, &config, &mut random);
            let text = format!("# The program of seed {seed}.\n{head}{}", draft.text);
            let program = Program::from_text(&text).expect("the text is made to be right");
            if let Some(culprit) = draft.culprit.and_then(|command| spoiled(&program, command)) {
                return Self { text, program, culprit };
            }
        }
    }
}

/// Where and when a command writes, if the run ends with one wrong element.
fn spoiled(program: &Program, command: u64) -> Option<Culprit> {
    let bank_bits = program.config.layout().acc_bank_row_bits;
    let mut writes = Writes { command, bank_bits, seq: None, first: None };
    let outcome = program.run().observed(&mut writes).expect("the program is made to be legal");
    let wrong: u64 = outcome.comparisons().iter().map(|comparison| comparison.mismatches).sum();
    let (place, cycle) = writes.first.filter(|_| wrong == 1)?;
    Some(Culprit { command, place, cycle })
}

/// The first write of a command of the host.
struct Writes {
    command: u64,
    bank_bits: u32,
    /// Its number in the reservation station.
    seq: Option<u64>,
    first: Option<(Place, Cycle)>,
}

impl Observer for Writes {
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        let place = match *event {
            Event::Alloc { seq, .. } if links.parent == Some(self.command) => {
                self.seq = Some(seq);
                return;
            }
            Event::AccWrite { bank, row, .. } => Place::Row(u32::from(bank) << self.bank_bits | row),
            Event::Req { kind: ReqKind::PutFull | ReqKind::PutPartial, address, mask, .. } => {
                Place::Address(address + u64::from(mask.trailing_zeros() % u64::BITS))
            }
            _ => return,
        };
        if self.seq.is_some() && links.command == self.seq {
            self.first.get_or_insert((place, cycle));
        }
    }
}

/// A text in the making.
struct Draft<'a> {
    random: &'a mut SplitMix64,
    text: String,
    dim: u32,
    /// Tiles: rows and columns of C, and those that are summed over.
    tiles: [u32; 3],
    /// Commands so far.
    commands: u64,
    /// Tiles of C that have been begun, and stored.
    begun: u32,
    stored: u32,
    /// Rows of the accumulator whose first element has been written.
    written: BTreeSet<u32>,
    /// The fault's command.
    culprit: Option<u64>,
}

/// What a stranger does.
#[derive(Clone, Copy)]
enum Stranger {
    /// Loads a number into the accumulator.
    Load,
    /// Writes an element of a product there.
    Compute,
    /// Stores an element of the accumulator.
    Store,
}

impl<'a> Draft<'a> {
    fn new(work: &FaultWork, config: &Config, random: &'a mut SplitMix64) -> Self {
        let mut draft = Self {
            random,
            text: String::new(),
            dim: config.dim(),
            tiles: work.tiles,
            commands: 0,
            begun: 0,
            stored: 0,
            written: BTreeSet::new(),
            culprit: None,
        };
        draft.data();
        draft.loads();
        draft.product(work.strangers);
        draft.line("fence");
        draft
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.random.next_u64() % u64::from(end.max(1))) as u32
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn command(&mut self, line: &str) {
        self.line(line);
        self.commands += 1;
    }

    /// The buffers, and what C must become.
    fn data(&mut self) {
        let [m, n, k] = self.tiles.map(|tiles| (tiles * self.dim) as usize);
        let mut matrix = |rows: usize, cols: usize, most: u32| -> Vec<Vec<i64>> {
            let mut number = || i64::from(self.below(2 * most)) - i64::from(most);
            (0..rows).map(|_| (0..cols).map(|_| number()).collect()).collect()
        };
        let (a, b, numbers) = (matrix(m, k, 100), matrix(k, n, 100), matrix(1, NUMBERS as usize, 50_000));
        let dot = |row: &Vec<i64>, j: usize| row.iter().zip(&b).map(|(x, y)| x * y[j]).sum();
        let c: Vec<Vec<i64>> = a.iter().map(|row| (0..n).map(|j| dot(row, j)).collect()).collect();
        self.line(&format!("buffer A: i8[{m}, {k}] = {}", list(&a)));
        self.line(&format!("buffer B: i8[{k}, {n}] = {}", list(&b)));
        self.line(&format!("buffer numbers: i32[1, {NUMBERS}] = {}", list(&numbers)));
        self.line(&format!("buffer C: i32[{m}, {n}]\nexpect C = {}\n", list(&c)));
    }

    /// First row of a tile in the scratchpad: those of A by rows, then those of B.
    fn a(&self, i: u32, k: u32) -> u32 {
        (i * self.tiles[2] + k) * self.dim
    }

    fn b(&self, k: u32, j: u32) -> u32 {
        (self.tiles[0] * self.tiles[2] + k * self.tiles[1] + j) * self.dim
    }

    /// First row of a tile of C in the accumulator.
    fn c(&self, tile: u32) -> u32 {
        tile % PLACES * self.dim
    }

    fn loads(&mut self) {
        let [rows, cols, sums] = self.tiles;
        self.command("config_ex dataflow=ws");
        self.command("config_ld stride=A.stride");
        for i in 0..rows {
            let (from, to) = (i * self.dim, self.a(i, 0));
            self.command(&format!("mvin dram=A[{from}, 0] local=spad({to}) cols={} rows=DIM", sums * self.dim));
        }
        self.command("config_ld stride=B.stride");
        for k in 0..sums {
            let (from, to) = (k * self.dim, self.b(k, 0));
            self.command(&format!("mvin dram=B[{from}, 0] local=spad({to}) cols={} rows=DIM", cols * self.dim));
        }
        self.command("config_ld state_id=1 stride=numbers.stride");
        self.command("config_st stride=C.stride");
    }

    /// The tiles, each stored while the next one is computed, and the strangers among them.
    fn product(&mut self, strangers: usize) {
        let tiles = self.tiles[0] * self.tiles[1];
        // A step is a product of two tiles, or a store. Strangers stand behind any but the last.
        let steps = tiles * (self.tiles[2] + 1);
        let mut places: Vec<u32> = (0..strangers).map(|_| self.below(steps - 1)).collect();
        places.sort_unstable();
        // Not among the first, before which nothing is stored.
        let culprit = strangers / 3 + self.below((strangers - strangers / 3) as u32) as usize;
        let mut step = 0;
        let mut done = |draft: &mut Self| {
            for (index, _) in places.iter().enumerate().filter(|(_, place)| **place == step) {
                draft.stranger(index == culprit);
            }
            step += 1;
        };
        for tile in 0..tiles {
            for k in 0..self.tiles[2] {
                self.multiply(tile, k);
                done(self);
            }
            if tile > 0 {
                self.store(tile - 1);
                done(self);
            }
        }
        self.store(tiles - 1);
    }

    fn multiply(&mut self, tile: u32, k: u32) {
        let (i, j) = (tile / self.tiles[1], tile % self.tiles[1]);
        self.command(&format!(
            "preload d=spad({}) c=accumulate(acc({}), {})",
            self.b(k, j),
            self.c(tile),
            u32::from(k > 0)
        ));
        self.command(&format!("compute_preloaded a=spad({})", self.a(i, k)));
        self.begun = tile + 1;
        self.written.extend(self.c(tile)..self.c(tile) + self.dim);
    }

    fn store(&mut self, tile: u32) {
        let [i, j] = self.first_element(tile);
        self.command(&format!("mvout dram=C[{i}, {j}] local=full(acc({})) cols=DIM rows=DIM", self.c(tile)));
        self.stored = tile + 1;
    }

    fn first_element(&self, tile: u32) -> [u32; 2] {
        [tile / self.tiles[1] * self.dim, tile % self.tiles[1] * self.dim]
    }

    /// A stranger; the culprit takes what the product still needs.
    fn stranger(&mut self, culprit: bool) {
        let kinds = [Stranger::Load, Stranger::Compute, Stranger::Store];
        let kind = kinds[self.below(if culprit && self.stored == 0 { 2 } else { 3 }) as usize];
        if culprit {
            self.culprit = Some(self.commands);
        }
        match kind {
            Stranger::Load => {
                let (number, row) = (self.below(NUMBERS), self.row(culprit));
                self.command(&format!("mvin2 dram=numbers[0, {number}] local=acc({row}) cols=1 rows=1"));
            }
            Stranger::Compute => {
                let [i, j, k] = self.tiles.map(|tiles| self.below(tiles));
                let (b, a, row) = (self.b(k, j), self.a(i, k) + self.below(self.dim), self.row(culprit));
                self.command(&format!("preload d=spad({b}) c=acc({row}) c_cols=1 c_rows=1"));
                self.command(&format!("compute_preloaded a=spad({a}) a_rows=1"));
            }
            Stranger::Store => {
                let tiles = self.tiles[0] * self.tiles[1];
                let tile =
                    if culprit { self.below(self.stored) } else { self.stored + self.below(tiles - self.stored) };
                let [i, j] = self.first_element(tile).map(|first| first + self.below(self.dim));
                let rows: Vec<u32> = self.written.iter().copied().collect();
                let row = rows[self.below(rows.len() as u32) as usize];
                self.command(&format!("mvout dram=C[{i}, {j}] local=full(acc({row})) cols=1 rows=1"));
            }
        }
    }

    /// A row of the accumulator that is free, or, for the culprit, one that holds sums which are still to be stored.
    fn row(&mut self, needed: bool) -> u32 {
        let live: BTreeSet<u32> = (self.stored..self.begun).map(|tile| tile % PLACES).collect();
        let places: Vec<u32> = (0..PLACES).filter(|place| live.contains(place) == needed).collect();
        let row = places[self.below(places.len() as u32) as usize] * self.dim + self.below(self.dim);
        self.written.insert(row);
        row
    }
}

/// A matrix as a list of the assembler.
fn list(matrix: &[Vec<i64>]) -> String {
    let row = |row: &Vec<i64>| {
        let numbers: Vec<String> = row.iter().map(i64::to_string).collect();
        format!("    [{}],\n", numbers.join(", "))
    };
    format!("[\n{}]", matrix.iter().map(row).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lab, Work};

    #[test]
    fn an_answer_with_gaps_is_read_and_wrong() {
        let lab = crate::lab(3).expect("it is there");
        let answer = lab.answer(7).expect("an answer in TOML");
        let grade = crate::check(&lab, "answer.toml", answer.as_bytes(), Seed::New(1), 1);
        assert_eq!((grade.verdict, grade.seed), (Verdict::WrongResult, 7), "{}", grade.message);
    }
    use pollux::session::{Found, Options, Session};

    const SEEDS: std::ops::Range<u64> = 0..24;

    fn work(lab: &Lab) -> &FaultWork {
        match &lab.work {
            Work::Fault(work) => work,
            _ => panic!("lab 3 is about a fault"),
        }
    }

    fn wrong(program: &Program) -> u64 {
        let outcome = program.run().cycles().expect("a legal program");
        outcome.comparisons().iter().map(|comparison| comparison.mismatches).sum()
    }

    #[test]
    fn one_element_is_wrong_and_without_the_culprit_none() {
        let lab = crate::lab(3).expect("it is there");
        let mut kinds = BTreeSet::new();
        for seed in SEEDS {
            let case = Case::new(work(&lab), lab.head, seed);
            assert_eq!(wrong(&case.program), 1, "seed {seed}");
            let mut lines: Vec<&str> = case.text.lines().collect();
            let is_command =
                |line: &&str| line.contains('=') && !line.starts_with(['#', 'b']) && !line.starts_with("expect");
            let at = (0..lines.len()).filter(|at| is_command(&lines[*at])).nth(case.culprit.command as usize);
            let at = at.expect("a line");
            let kind = lines[at].split(' ').next().expect("a word").to_owned();
            lines.drain(at..=at + usize::from(kind == "preload"));
            assert_eq!(wrong(&Program::from_text(&lines.join("\n")).expect("a text")), 0, "seed {seed}");
            kinds.insert(kind);
        }
        assert!(kinds.iter().eq(["mvin2", "mvout", "preload"]), "{kinds:?}");
    }

    #[test]
    fn the_debugger_stops_in_the_cycle_that_is_asked_for() {
        let lab = crate::lab(3).expect("it is there");
        for seed in SEEDS {
            let Case { program, culprit, .. } = Case::new(work(&lab), lab.head, seed);
            let mut session = Session::new(program.into_inner(), Options::default()).expect("a session");
            let place = match culprit.place {
                Place::Row(row) => format!("acc[{row}] written"),
                Place::Address(address) => format!("mem[{address:#x}] written"),
            };
            let condition = session.condition(&place).expect("a condition");
            session.goto_end().expect("the end");
            let mut hits = Vec::new();
            while let Found::Hit(cycle) = session.reverse_until(&condition).expect("a search") {
                hits.push(cycle);
            }
            assert!(hits.contains(&culprit.cycle), "seed {seed}: {culprit:?}, hits {hits:?}");
            // Its number is the one that the debugger shows.
            let completed = session.condition(&format!("completed {}", culprit.command)).expect("a condition");
            let found = session.run_until(&completed).expect("a search");
            assert!(matches!(found, Found::Hit(_)), "seed {seed}: {culprit:?}");
        }
    }

    #[test]
    fn the_seed_is_the_one_that_is_asked_for_or_the_answers_own() {
        let lab = crate::lab(3).expect("it is there");
        let Culprit { command, place, cycle } = Case::new(work(&lab), lab.head, 5).culprit;
        let place = match place {
            Place::Row(row) => format!("row = {row}"),
            Place::Address(address) => format!("address = {address:#x}"),
        };
        let answer = format!("command = {command}\n{place}\ncycle = {cycle}\n");
        let check = |text: &str, seed| {
            let grade = crate::check(&lab, "answer.toml", text.as_bytes(), seed, 1);
            (grade.verdict, grade.seed)
        };
        let named = format!("seed = 5\n{answer}");
        assert_eq!(check(&answer, Seed::Given(5)), (Verdict::Accepted, 5));
        assert_eq!(check(&named, Seed::Given(5)), (Verdict::Accepted, 5));
        assert_eq!(check(&named, Seed::New(9)), (Verdict::Accepted, 5));
        assert_eq!(check(&named, Seed::Given(9)).0, Verdict::OtherTask);
        assert_eq!(check(&answer, Seed::New(9)).0, Verdict::NotRead);
        assert_ne!(check(&answer, Seed::Given(9)).0, Verdict::Accepted);
        let both = "seed = 5\ncommand = 1\nrow = 1\naddress = 2\ncycle = 3\n";
        assert_eq!(check(both, Seed::New(9)).0, Verdict::NotRead);
    }
}
