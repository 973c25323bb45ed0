use pollux_isa::{RoccCommand, StreamItem, ValidConfig};
use pollux_memory::Memory;

use super::*;
use crate::observation::counts::CommandCounts;
use crate::runner::Runner;

#[test]
fn sums_and_differences_are_made_field_by_field() {
    let mut a = EventCounts::default();
    (a.memory.reads, a.mesh.macs, a.tlb.walks) = (3, 40, 5);
    let mut b = a;
    b += a;
    assert_eq!((b.memory.reads, b.mesh.macs, b.tlb.walks), (6, 80, 10));
    assert_eq!(b - a, a);
}

#[test]
fn each_operation_gets_what_happens_in_its_cycles() {
    let config = ValidConfig::default();
    let flush = StreamItem::Command(RoccCommand { funct: 7, rs1: 0, rs2: 0 });
    let mark = |name: &str| StreamItem::Mark(name.into());
    let items = vec![flush.clone(), mark("a"), flush.clone(), flush.clone(), mark("b"), mark("c"), flush];
    assert_eq!(mark_names(&items), ["a", "b", "c"]);
    let mut counted = CountingObserver::default();
    let outcome = Runner::new(&config).run(items, Memory::new(), &mut counted).expect("flushes end");
    let found = |operation: &CountedOperation| (operation.mark, operation.counts.commands.host);
    // Marks without a cycle between them are one.
    assert_eq!(counted.operations().iter().map(found).collect::<Vec<_>>(), [(None, 1), (Some(0), 2), (Some(2), 1)]);
    assert_eq!(counted.operations().iter().map(|operation| operation.cycles).sum::<u64>(), outcome.summary.cycles);
    assert_eq!(counted.total().commands.host, outcome.summary.commands);
}

#[test]
fn a_run_that_goes_on_tells_the_rest_of_its_operation() {
    let part = |start, cycles, host| {
        let counts = EventCounts { commands: CommandCounts { host, ..Default::default() }, ..Default::default() };
        CountedOperation { mark: Some(0), start, cycles, counts }
    };
    let mut counted = CountingObserver::default();
    counted.counted(&part(0, 5, 1));
    counted.counted(&part(5, 3, 2));
    assert_eq!(counted.operations(), [part(0, 8, 3)]);
}
