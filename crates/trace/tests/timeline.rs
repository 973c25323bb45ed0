//! Files for viewers: read back by others' readers where they are libraries, held against the run's own events, and never larger than
//! their budgets.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_sim::observer::{Cycle, Event, Observer, Unit};
use pollux_sim::report::{Block, Profiler, RunReport};
use pollux_sim::runner::Runner;
use pollux_sim::simulation::Moment;
use pollux_testkit::{Gene, Random, RandomProgram};
use pollux_trace::timeline::kanata::Kanata;
use pollux_trace::timeline::perfetto::{Level, Perfetto};
use pollux_trace::timeline::{Describe, scratch, waves};

const LARGE: u64 = 64 << 20;

fn config() -> ValidConfig {
    GemminiConfig::norm16().validated().expect("valid")
}

fn program(config: &ValidConfig, genes: usize) -> RandomProgram {
    let mut random = Random::new(11);
    let genes: Vec<Gene> = (0..genes).map(|_| std::array::from_fn(|_| random.bits() as u32)).collect();
    pollux_testkit::program(config, false, &genes)
}

fn run(program: &RandomProgram, observer: &mut impl Observer) -> pollux_sim::simulation::RunSummary {
    let config = config();
    let outcome = Runner::new(&config).run(program.items.clone(), program.memory.clone(), observer);
    outcome.expect("it ends").summary
}

fn describe() -> Describe<'static> {
    Box::new(|command| format!("funct {}", command.funct))
}

/// Commands by class, as the events have them.
#[derive(Default)]
struct Commands(BTreeMap<Unit, u64>);

impl Observer for Commands {
    fn event(&mut self, _: Cycle, event: &Event) {
        if let Event::Complete { unit, .. } = event {
            *self.0.entry(*unit).or_default() += 1;
        }
    }
}

fn report(program: &RandomProgram) -> RunReport {
    let mut profiler = Profiler::new(&config(), &program.items);
    let summary = run(program, &mut profiler);
    profiler.finish(&summary)
}

/// Checks a Kanata file by the rules of its format; the commands in it, by thread.
fn read_kanata(text: &str) -> BTreeMap<u64, u64> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Kanata\t0004"));
    let mut commands = BTreeMap::new();
    // By id: the stage that is open in each lane.
    let mut open: HashMap<u64, BTreeMap<u64, String>> = HashMap::new();
    let mut next = 0;
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |i: usize| -> u64 { fields[i].parse().unwrap_or_else(|_| panic!("{line}")) };
        match fields[0] {
            "C=" => {}
            "C" => assert!(number(1) > 0, "{line}"),
            "I" => {
                assert_eq!(number(1), next, "ids ascend from 0");
                next += 1;
                open.insert(number(1), BTreeMap::new());
                *commands.entry(number(3)).or_default() += 1;
            }
            "L" => assert!(open.contains_key(&number(1)) && fields.len() == 4, "{line}"),
            "S" => {
                let lanes = open.get_mut(&number(1)).unwrap_or_else(|| panic!("{line}"));
                lanes.insert(number(2), fields[3].to_owned());
            }
            "E" => {
                let lanes = open.get_mut(&number(1)).unwrap_or_else(|| panic!("{line}"));
                assert_eq!(lanes.remove(&number(2)).as_deref(), Some(fields[3]), "{line}");
            }
            "W" => assert!(number(1) > number(2), "{line}"),
            "R" => drop(open.remove(&number(1)).unwrap_or_else(|| panic!("{line}"))),
            _ => panic!("{line}"),
        }
    }
    assert!(open.is_empty(), "every command has its end: {open:?}");
    commands
}

#[test]
fn kanata_has_a_line_for_every_command() {
    let program = program(&config(), 60);
    let mut observer = (Commands::default(), Kanata::new(Vec::new(), describe(), LARGE));
    run(&program, &mut observer);
    let (commands, kanata) = observer;
    let (bytes, left_out) = kanata.finish().expect("memory");
    assert_eq!(left_out, None);
    let seen = read_kanata(&String::from_utf8(bytes).expect("text"));
    let expected: BTreeMap<u64, u64> = commands.0.into_iter().map(|(unit, count)| (unit as u64, count)).collect();
    assert!(expected.values().sum::<u64>() > 100, "{expected:?}");
    assert_eq!(seen, expected);
}

/// A field of a protobuf message: its number, and a number or bytes.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    unreachable!()
}

fn fields(bytes: &[u8]) -> Vec<(u64, Value)> {
    let (mut at, mut fields) = (0, Vec::new());
    while at < bytes.len() {
        let key = varint(bytes, &mut at);
        let value = match key & 7 {
            0 => Value::Number(varint(bytes, &mut at)),
            1 => {
                at += 8;
                Value::Number(u64::from_le_bytes(bytes[at - 8..at].try_into().expect("eight bytes")))
            }
            2 => {
                let len = varint(bytes, &mut at) as usize;
                at += len;
                Value::Bytes(bytes[at - len..at].to_vec())
            }
            wire => panic!("wire type {wire}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn number(of: &[(u64, Value)], field: u64) -> Option<u64> {
    of.iter().find_map(
        |(number, value)| if let (true, Value::Number(n)) = (*number == field, value) { Some(*n) } else { None },
    )
}

fn message(of: &[(u64, Value)], field: u64) -> Option<Vec<(u64, Value)>> {
    of.iter().find_map(
        |(number, value)| if let (true, Value::Bytes(b)) = (*number == field, value) { Some(fields(b)) } else { None },
    )
}

fn text(of: &[(u64, Value)], field: u64) -> Option<String> {
    of.iter().find_map(|(number, value)| match value {
        Value::Bytes(bytes) if *number == field => Some(String::from_utf8(bytes.clone()).expect("text")),
        _ => None,
    })
}

/// What a Perfetto file holds: cycles by track and name of the outermost slices, and the flows that begin and end.
#[derive(Default)]
struct Timeline {
    cycles: BTreeMap<(String, String), u64>,
    slices: BTreeMap<String, u64>,
    flows: [Vec<u64>; 2],
    notes: Vec<String>,
}

fn read_perfetto(bytes: &[u8]) -> Timeline {
    let mut timeline = Timeline::default();
    let mut tracks: HashMap<u64, String> = HashMap::new();
    let mut names: HashMap<u64, String> = HashMap::new();
    let mut open: HashMap<u64, Vec<(u64, String)>> = HashMap::new();
    for (field, packet) in fields(bytes) {
        let Value::Bytes(packet) = packet else { panic!("a packet is a message") };
        assert_eq!(field, 1);
        let packet = fields(&packet);
        if let Some(track) = message(&packet, 60) {
            let process = message(&track, 3).and_then(|process| text(&process, 6));
            let name = text(&track, 2).or(process).expect("a track has a name");
            assert!(tracks.insert(number(&track, 1).expect("a number"), name).is_none(), "a track is described once");
            continue;
        }
        if let Some(interned) = message(&packet, 12).and_then(|interned| message(&interned, 2)) {
            names.insert(number(&interned, 1).expect("a number"), text(&interned, 2).expect("a name"));
        }
        let (time, event) = (number(&packet, 8).expect("a time"), message(&packet, 11).expect("an event"));
        let track = number(&event, 11).expect("a track");
        let track_name = tracks.get(&track).expect("a track is described before its events").clone();
        match number(&event, 9) {
            Some(1) => {
                let name = names.get(&number(&event, 10).expect("a name")).expect("a name that is known").clone();
                let stack = open.entry(track).or_default();
                assert!(stack.last().is_none_or(|(start, _)| *start <= time), "slices nest");
                stack.push((time, name));
                for (flows, field) in timeline.flows.iter_mut().zip([47, 48]) {
                    let ids = event.iter().filter(|(number, _)| *number == field);
                    flows.extend(ids.map(|(_, id)| if let Value::Number(id) = id { *id } else { panic!("a number") }));
                }
            }
            Some(2) => {
                let stack = open.get_mut(&track).expect("a slice is open");
                let (start, name) = stack.pop().expect("a slice is open");
                assert!(start <= time);
                if stack.is_empty() {
                    *timeline.cycles.entry((track_name.clone(), name)).or_default() += time - start;
                    *timeline.slices.entry(track_name).or_default() += 1;
                }
            }
            Some(3) => timeline.notes.extend(text(&event, 23)),
            Some(4) => {}
            kind => panic!("{kind:?}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "every slice ends");
    timeline
}

#[test]
fn perfetto_slices_nest_and_their_sums_are_the_reports() {
    let program = program(&config(), 60);
    let mut perfetto = Perfetto::new(Vec::new(), Level::All, describe(), Vec::new(), LARGE);
    run(&program, &mut perfetto);
    let (bytes, left_out) = perfetto.finish().expect("memory");
    assert_eq!(left_out, None);
    let timeline = read_perfetto(&bytes);
    let report = report(&program);
    for block in &report.blocks {
        let of =
            |name: &str| timeline.cycles.get(&(block.block.name().to_owned(), name.to_owned())).copied().unwrap_or(0);
        assert_eq!((of("busy"), of("draining")), (block.busy, block.draining), "{}", block.block.name());
        for cause in &block.causes {
            assert_eq!(of(cause.cause.name()), cause.cycles, "{} {}", block.block.name(), cause.cause.name());
        }
    }
    let commands: u64 = timeline.slices.iter().filter(|(track, _)| track.contains(" entry ")).map(|(_, n)| n).sum();
    assert_eq!(commands, report.totals.station_commands);
    assert_eq!(timeline.slices["commands of the host"], report.totals.commands);
    let [mut begun, mut ended] = timeline.flows;
    begun.sort_unstable();
    ended.sort_unstable();
    assert!(!begun.is_empty());
    assert_eq!(begun, ended, "every arrow has both ends");
}

#[test]
fn files_are_never_larger_than_their_budget_and_say_what_is_missing() {
    let program = program(&config(), 60);
    for budget in [40 << 10, 100 << 10, 300 << 10] {
        let mut kanata = Kanata::new(Vec::new(), describe(), budget);
        run(&program, &mut kanata);
        let (bytes, left_out) = kanata.finish().expect("memory");
        assert!(bytes.len() as u64 <= budget, "{} of {budget}", bytes.len());
        let text = String::from_utf8(bytes).expect("text");
        read_kanata(&text);
        assert_eq!(left_out.is_some(), text.contains("are left out"));
        let mut perfetto = Perfetto::new(Vec::new(), Level::All, describe(), Vec::new(), budget);
        run(&program, &mut perfetto);
        let (bytes, left_out) = perfetto.finish().expect("memory");
        assert!(bytes.len() as u64 <= budget, "{} of {budget}", bytes.len());
        assert_eq!(left_out.is_some(), read_perfetto(&bytes).notes.len() == 1, "{budget}: {left_out:?}");
        let mut vcd = waves::vcd(Vec::new(), &config(), budget);
        run(&program, &mut vcd);
        let (bytes, left_out) = vcd.finish().expect("memory");
        assert!(bytes.len() as u64 <= budget, "{} of {budget}", bytes.len());
        assert_eq!(left_out.is_some(), changes(bytes)["pollux.left_out"].len() > 1, "{budget}");
        let mut fst = waves::fst(Vec::new(), scratch::in_memory(), &config(), 0, budget).expect("it has room");
        run(&program, &mut fst);
        let (bytes, left_out) = fst.finish().expect("memory");
        assert!(bytes.len() as u64 <= budget, "{} of {budget}", bytes.len());
        assert_eq!(left_out.is_some(), changes(bytes)["pollux.left_out"].len() > 1, "{budget}");
    }
    assert!(waves::fst(Vec::new(), scratch::in_memory(), &config(), 0, 100).is_err());
    assert!(waves::vcd(Vec::new(), &config(), 100).finish().is_err());
}

/// All changes of a wave file, by signal, as wellen reads them: times and values.
fn changes(file: Vec<u8>) -> BTreeMap<String, Vec<(u64, String)>> {
    let mut waves = wellen::simple::read_from_reader(Cursor::new(file)).expect("wellen reads it");
    let times = waves.time_table().to_vec();
    let names: Vec<(String, wellen::SignalRef)> = waves
        .hierarchy()
        .all_vars()
        .map(|var| &waves.hierarchy()[var])
        .map(|var| (var.full_name(waves.hierarchy()), var.signal_ref()))
        .collect();
    let refs: Vec<wellen::SignalRef> = names.iter().map(|(_, signal)| *signal).collect();
    waves.load_signals(&refs);
    let of = |(name, signal): (String, wellen::SignalRef)| {
        let signal = waves.get_signal(signal).expect("it is loaded");
        let changes = signal.iter_changes().map(|(time, value)| (times[time as usize], value.to_string()));
        let mut changes: Vec<(u64, String)> = changes.collect();
        changes.dedup_by(|later, earlier| later.1 == earlier.1);
        (name, changes)
    };
    names.into_iter().map(of).collect()
}

#[test]
fn wellen_reads_the_same_changes_from_both_wave_formats() {
    let program = program(&config(), 60);
    let mut observer = (
        waves::vcd(Vec::new(), &config(), LARGE),
        waves::fst(Vec::new(), scratch::in_memory(), &config(), 0, LARGE).expect("it has room"),
    );
    run(&program, &mut observer);
    let (vcd, left_out) = observer.0.finish().expect("memory");
    assert_eq!(left_out, None);
    let (fst, left_out) = observer.1.finish().expect("memory");
    assert_eq!(left_out, None);
    assert!(fst.len() * 5 < vcd.len(), "{} and {}", fst.len(), vcd.len());
    let (vcd, fst) = (changes(vcd), changes(fst));
    assert!(vcd["gemmini.load_controller.control_state"].len() > 20);
    assert_eq!(vcd.len(), fst.len());
    for (name, changes) in &vcd {
        assert_eq!(changes, &fst[name], "{name}");
    }
    // A block is busy for as many cycles as the report says.
    let report = report(&program);
    let changes = &vcd[&format!("pollux.blocks.{}", Block::LoadController.name())];
    let ends = changes.iter().skip(1).map(|(time, _)| *time).chain([report.totals.cycles]);
    let busy =
        changes.iter().zip(ends).filter(|((_, value), _)| value == "000001").map(|((start, _), end)| end - start);
    assert_eq!(busy.sum::<u64>(), report.blocks[Block::LoadController as usize].busy);
}

#[test]
fn a_window_shows_its_cycles_alone_and_changes_nothing() {
    let program = program(&config(), 60);
    let whole = run(&program, &mut pollux_sim::observer::NoObserver);
    let (start, end) = (whole.cycles / 3, whole.cycles / 2);
    let mut seen = Seen::default();
    let config = config();
    let window = Moment::Cycle(start)..Moment::Cycle(end);
    let mut runner = Runner::new(&config).window(Some(window));
    let outcome = runner.run(program.items.clone(), program.memory.clone(), &mut seen).expect("it ends");
    assert_eq!((outcome.summary.cycles, outcome.summary.traffic), (whole.cycles, whole.traffic));
    let mut all = Seen::default();
    run(&program, &mut all);
    let inside: Vec<(Cycle, Event)> = all.0.into_iter().filter(|(cycle, _)| (start..end).contains(cycle)).collect();
    assert!(!inside.is_empty() && seen.0 == inside);
}

#[derive(Default)]
struct Seen(Vec<(Cycle, Event)>);

impl Observer for Seen {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        self.0.push((cycle, *event));
    }
}
