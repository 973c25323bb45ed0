//! Counts of events, made without recording them on the fast path, against the recorded events of the plain steps, the port's own
//! traffic and the functional model, on every golden case.

use std::collections::BTreeMap;
use std::path::Path;

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::ValidConfig;
use pollux_sim::counts::{CountingObserver, EventCounts};
use pollux_sim::observer::{Cycle, Event, Observer, Origin, Port, ReqKind, Unit};
use pollux_sim::simulation::RunSummary;
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench, config_of, initial_memory};

/// Recorded events by name, and the bytes of the memory's.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn add(&mut self, name: &'static str, times: u64) {
        *self.0.entry(name).or_default() += times;
    }
}

fn access(port: Port, ex: &'static str, dma: &'static str) -> &'static str {
    if port == Port::Ex { ex } else { dma }
}

impl Observer for Tally {
    fn event(&mut self, _: Cycle, event: &Event) {
        match *event {
            Event::Accept { .. } => self.add("accept", 1),
            Event::Alloc { unit, origin, .. } => {
                self.add("unrolled", u64::from(origin != Origin::Host));
                self.add(["load", "execute", "store"][unit as usize], 1);
                assert_eq!([Unit::Ld, Unit::Ex, Unit::St][unit as usize], unit);
            }
            Event::Req { kind: ReqKind::Get, size, .. } => {
                self.add("get", 1);
                self.add("read bytes", size.into());
            }
            Event::Req { beat, mask, .. } => {
                self.add("put", u64::from(beat == 0));
                self.add("put beats", 1);
                self.add("written bytes", mask.count_ones().into());
            }
            Event::Rsp { ack, .. } => self.add("data", u64::from(!ack)),
            Event::SpadRead { port, .. } => self.add(access(port, "spad ex read", "spad dma read"), 1),
            Event::SpadWrite { port, .. } => self.add(access(port, "spad ex write", "spad dma write"), 1),
            Event::AccRead { port, .. } => self.add(access(port, "acc ex read", "acc dma read"), 1),
            Event::AccWrite { port, accumulate: false, .. } => {
                self.add(access(port, "acc ex write", "acc dma write"), 1)
            }
            Event::AccWrite { port, accumulate: true, .. } => self.add(access(port, "acc ex add", "acc dma add"), 1),
            Event::MeshReq { .. } => self.add("mesh request", 1),
            Event::MeshA => self.add("mesh a", 1),
            Event::MeshOut { .. } => self.add("mesh out", 1),
            _ => {}
        }
    }
}

/// The tally of these counts.
fn tally(counts: &EventCounts) -> BTreeMap<&'static str, u64> {
    let EventCounts { memory, scratchpad, accumulator, mesh, commands, .. } = *counts;
    let tally = BTreeMap::from([
        ("accept", commands.host),
        ("load", commands.load),
        ("execute", commands.execute),
        ("store", commands.store),
        ("unrolled", commands.unrolled),
        ("get", memory.reads),
        ("read bytes", memory.read_bytes),
        ("data", memory.read_beats),
        ("put", memory.writes),
        ("written bytes", memory.written_bytes),
        ("put beats", memory.write_beats),
        ("spad ex read", scratchpad.ex_reads),
        ("spad dma read", scratchpad.dma_reads),
        ("spad ex write", scratchpad.ex_writes),
        ("spad dma write", scratchpad.dma_writes),
        ("acc ex read", accumulator.ex_reads),
        ("acc dma read", accumulator.dma_reads),
        ("acc ex write", accumulator.ex_writes),
        ("acc dma write", accumulator.dma_writes),
        ("acc ex add", accumulator.ex_accumulates),
        ("acc dma add", accumulator.dma_accumulates),
        ("mesh request", mesh.requests),
        ("mesh a", mesh.operand_rows),
        ("mesh out", mesh.rows),
    ]);
    tally.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn run(case: &GoldenCase, config: &ValidConfig, plain: bool, observer: &mut impl Observer) -> RunSummary {
    let mut runner = bench(case, config).plain(plain);
    runner.run(case.items.clone(), initial_memory(case), observer).expect("a golden case ends").summary
}

fn functional_macs(case: &GoldenCase, config: ValidConfig) -> u64 {
    let mut model = FunctionalModel::with_policy(config, initial_memory(case), Policy::all(Action::Ignore));
    model.run(&case.items).expect("nothing is an error");
    model.counts().macs
}

fn check(case: &GoldenCase) {
    let name = &case.name;
    let config = config_of(case).expect("a named configuration");
    let mut fast = CountingObserver::default();
    let summary = run(case, &config, false, &mut fast);
    let mut plain = (CountingObserver::default(), Tally::default());
    run(case, &config, true, &mut plain);
    let (plain, events) = plain;
    assert_eq!(fast.operations(), plain.operations(), "{name}: by operation");

    let counts = fast.total();
    let recorded: BTreeMap<_, _> = events.0.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(tally(&counts), recorded, "{name}: counted and recorded");
    assert_eq!(counts.memory, summary.traffic, "{name}: traffic");
    let cycles: u64 = fast.operations().iter().map(|operation| operation.cycles).sum();
    assert_eq!(cycles, summary.cycles, "{name}: cycles");
    assert_eq!(counts.normalizer.rows(), counts.accumulator.dma_reads, "{name}: rows that are read are normalized");
    assert_eq!(counts.readout.rows(), counts.normalizer.reset, "{name}: rows that pass are read out");
    assert_eq!(counts.mesh.macs, functional_macs(case, config), "{name}: multiply-accumulates");
}

fn check_group(group: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let folders = GoldenCase::find(&dir).expect("the cases are part of the project");
    assert!(!folders.is_empty());
    for folder in folders {
        check(&GoldenCase::read(&folder).expect("a golden case"));
    }
}

#[test]
fn counts_are_those_of_the_recorded_events_in_the_directed_cases() {
    check_group("directed");
}

#[test]
fn counts_are_those_of_the_recorded_events_in_the_random_cases() {
    check_group("random");
}

#[test]
fn counts_are_those_of_the_recorded_events_in_the_software_cases() {
    check_group("software");
}
