//! The timing tables of the book's chapter on the microarchitecture, held against the emulator.
//!
//! A table begins with the remark `<!-- timing NAME -->` and ends with `<!-- end NAME -->`. In between stand the program,
//! in assembly without its `config` line, and the table: a column `event`, one column a configuration (a name, or a field of
//! `default16` with another value), and remarks. An event
//! is the beginning of a trace line behind its cycle; a cell holds all cycles in which such an event happens, counted
//! from the cycle in which the first command behind the last `fence` is accepted.

use pollux_asm::Program;
use pollux_isa::StreamItem;
use pollux_sim::observer::{Cycle, Event};
use pollux_sim::runner::Runner;
use pollux_trace::event_csv;

const CHAPTER: &str = include_str!("../../docs/src/microarchitecture.md");
/// The tables that the chapter is to have.
const TABLES: [&str; 11] = [
    "front-end",
    "mvin-int8",
    "mvin-wide",
    "mvin-int32",
    "mvin-zeros",
    "mvout-scratchpad",
    "mvout-accumulator-int8",
    "mvout-accumulator-int32",
    "ws-pair",
    "os-pair",
    "ws-stream",
];
/// The programs of the chapter end long before.
const LIMIT: Cycle = 100_000;

/// A line of a table: the event, and the cell of each configuration.
struct Row<'a> {
    event: &'a str,
    cells: Vec<&'a str>,
}

/// A timing table with its program.
struct Table<'a> {
    program: &'a str,
    configs: Vec<&'a str>,
    rows: Vec<Row<'a>>,
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()
}

fn table(name: &str) -> Table<'static> {
    let section = between(CHAPTER, &format!("<!-- timing {name} -->"), &format!("<!-- end {name} -->"))
        .unwrap_or_else(|| panic!("the chapter has no table '{name}'"));
    let program = between(section, "```pasm\n", "```").expect("a program stands in front of the table");
    let mut lines = section.lines().filter(|line| line.starts_with('|')).map(cells);
    let head = lines.next().expect("the table has a head");
    let columns = head.len() - 1;
    assert_eq!(head[0], "event", "{name}: first column");
    let rows = lines.skip(1).map(|row| Row { event: row[0], cells: row[1..columns].to_vec() }).collect();
    Table { program, configs: head[1..columns].to_vec(), rows }
}

/// The events of a program on the golden bench, as trace lines without the cycle, and the cycle that the table calls 0.
fn run(config: &str, text: &str) -> (Vec<(Cycle, String)>, Cycle) {
    let source = match config.contains('=') {
        true => format!("config toml \"\"\"\nbase = \"default16\"\nname = \"varied\"\n{config}\n\"\"\"\n{text}"),
        false => format!("config {config}\n{text}"),
    };
    let program = pollux_asm::assemble("table", &source).expect("the chapter's programs are legal");
    let (mut events, mut zero) = (Vec::new(), None);
    let first = first_measured(&program);
    let mut record = |cycle: Cycle, event: &Event| {
        if matches!(event, Event::Accept { number, .. } if *number == first) {
            zero = Some(cycle);
        }
        let line = event_csv::line(cycle, event);
        let (_, event) = line.split_once(',').expect("a line begins with the cycle");
        events.push((cycle, event.to_owned()));
    };
    let mut runner = Runner::new(&program.config).limit(LIMIT);
    runner.run(program.items.clone(), program.initial_memory(), &mut record).expect("the chapter's programs end");
    (events, zero.expect("a command stands behind the fence"))
}

/// Number of the first command behind the last fence.
fn first_measured(program: &Program) -> u64 {
    let fence = program.items.iter().rposition(|item| matches!(item, StreamItem::Fence)).unwrap_or(0);
    program.items[..fence].iter().filter(|item| matches!(item, StreamItem::Command(_))).count() as u64
}

fn is_a(event: &str, pattern: &str) -> bool {
    event.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
}

/// A cell's cycles: single ones, `a..b` for all from a to b, and `a..b by s` for every s-th.
fn parse(cell: &str) -> Option<Vec<Cycle>> {
    let mut cycles = Vec::new();
    for part in cell.split(", ") {
        let (range, step) = part.split_once(" by ").unwrap_or((part, "1"));
        let (first, last) = range.split_once("..").unwrap_or((range, range));
        let (first, last): (Cycle, Cycle) = (first.parse().ok()?, last.parse().ok()?);
        cycles.extend((first..=last).step_by(step.parse().ok()?));
    }
    Some(cycles)
}

/// The cycles in the notation of [`parse`].
fn render(cycles: &[Cycle]) -> String {
    let (mut parts, mut rest) = (Vec::new(), cycles);
    while let [first, tail @ ..] = rest {
        let step = tail.first().map_or(1, |next| next - first).max(1);
        let run = rest.windows(2).take_while(|pair| pair[1] == pair[0] + step).count();
        let taken = if run >= 2 { run + 1 } else { 1 };
        parts.push(match (taken, step) {
            (1, _) => first.to_string(),
            (_, 1) => format!("{first}..{}", rest[taken - 1]),
            _ => format!("{first}..{} by {step}", rest[taken - 1]),
        });
        rest = &rest[taken..];
    }
    parts.join(", ")
}

/// What is wrong with a table, one item a cell or event.
fn faults(name: &str) -> Vec<String> {
    let table = table(name);
    let mut faults = Vec::new();
    for (column, config) in table.configs.iter().enumerate() {
        let (events, zero) = run(config, table.program);
        let measured: Vec<_> = events.iter().filter(|(cycle, _)| *cycle >= zero).collect();
        for row in &table.rows {
            let matching = measured.iter().filter(|(_, event)| is_a(event, row.event));
            let cycles: Vec<_> = matching.map(|(cycle, _)| cycle - zero).collect();
            if cycles.is_empty() || parse(row.cells[column]).as_ref() != Some(&cycles) {
                let (event, cell, cycles) = (row.event, row.cells[column], render(&cycles));
                faults.push(format!("{name} | {config} | {event} | chapter: {cell} | emulator: {cycles}"));
            }
        }
        for (cycle, event) in measured {
            if table.rows.iter().filter(|row| is_a(event, row.event)).count() != 1 {
                faults.push(format!("{name} | {config} | not in exactly one row: {event} in cycle {}", cycle - zero));
            }
        }
    }
    faults
}

#[test]
fn every_cycle_in_the_timing_tables_is_that_of_the_emulator() {
    let faults: Vec<_> = TABLES.iter().flat_map(|name| faults(name)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_chapter_has_no_table_that_is_not_checked() {
    let marks: Vec<_> = CHAPTER.lines().filter_map(|line| between(line, "<!-- timing ", " -->")).collect();
    assert_eq!(marks.len(), TABLES.len(), "{marks:?}");
    for name in TABLES {
        let table = table(name);
        assert!(table.configs.len() >= 2 && !table.rows.is_empty(), "{name}");
    }
}

#[test]
fn cells_are_read_as_they_are_written() {
    for cycles in [vec![7], vec![4, 5], vec![1, 2, 3, 9], vec![4, 8, 12, 13, 14, 20], vec![3, 3]] {
        assert_eq!(parse(&render(&cycles)), Some(cycles));
    }
    assert_eq!(parse("soon"), None);
}
