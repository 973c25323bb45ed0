//! The canonical form of a run's state: of the machine, of the memory behind it, and of what is counted.

use super::script::LoopGroups;
use super::symbolic::SymbolicHost;
use crate::host::Host;
use crate::memory::ReplayableMemory;
use crate::observation::report::macs::Issued;
use crate::parts::canonical::{Canon, Canonical, Survey};
use crate::parts::values::Timing;
use crate::simulation::Simulation;

/// Writes the canonical form of a simulation's state, whose registers are up to date.
pub(super) fn write_form<H: Host, M: ReplayableMemory>(
    sim: &Simulation<SymbolicHost<H>, M, Timing>,
    groups: &LoopGroups,
    dropped: Option<&'static str>,
    canon: &mut Canon,
) {
    canon.begin(sim.cycle());
    canon.scaled_loads().canonical(canon);
    if dropped.is_some() {
        canon.survey(Survey { dropped, ..Survey::default() });
    }
    canon.set_pending(groups.pending(sim.host.at()), groups.always);
    sim.machine.canonical(canon);
    sim.memory.canonical(canon);
    if let Some(counting) = sim.counting() {
        write_issued(&counting.issued, canon);
    }
}

/// Writes what the execute commands issued so far mean for what is counted of the next one.
pub(super) fn write_issued(issued: &Issued, canon: &mut Canon) {
    let Issued { dataflow, c_cols } = *issued;
    (dataflow, c_cols).canonical(canon);
}
