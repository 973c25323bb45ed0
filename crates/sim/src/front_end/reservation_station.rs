//! The reservation station (`ReservationStation.scala`): decides when a command may go to its controller.
//!
//! Three tables, one for each controller. A command waits in its table until the dependency bits that were set when it
//! entered are cleared; it then goes to its controller, and stays until the controller completes it. Within a class
//! commands issue in order of entry.
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | alloc | in | head of the unrolled queue, except FLUSH, COUNTER and CLKGATE_EN | if the table had a free entry at the start of the cycle; the entry is visible in the next one |
//! | issue ld, ex, st | out | from registers: an unissued entry without dependencies | when the controller's queue takes it |
//! | completed | in | at most one in a cycle | always; the entry is free in the next cycle |
//!
//! Configurations of the load and store controllers complete as they issue. A store waits for the completion, not for the
//! issue, of all older stores.

mod operands;
mod table;
mod shadow_config;

#[cfg(test)]
mod tests;

use pollux_isa::config::Revision;
use pollux_isa::table::Class;
use pollux_isa::{GemminiConfig, RoccCommand, funct};

use crate::front_end::reservation_station::operands::{Operand, Operands};
use crate::front_end::reservation_station::shadow_config::ShadowConfig;
use crate::front_end::reservation_station::table::{Entry, Table, ones};
use crate::observation::event::{Event, EventBuffer, Origin, Unit};
use crate::observation::view::{EntryView, StationView};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::wires::{GemminiCmd, IssuedCmd, PerUnit, RobId, UNITS};

/// Commands that left the station in this cycle, counted for the unroller that made them (0..=2 in a class: one may
/// complete as it issues while another is reported by its controller).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    /// Made by `LoopConv`.
    pub conv: PerUnit<u8>,
    /// Made by `LoopMatmul`.
    pub matmul: PerUnit<u8>,
}

impl Departures {
    fn count(&mut self, origin: Origin, unit: Unit) {
        match origin {
            Origin::Host => {}
            Origin::Conv => self.conv[unit as usize] += 1,
            Origin::Matmul => self.matmul[unit as usize] += 1,
        }
    }
}

/// What the issue of a class's commands is doing in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StationActivity {
    /// No command of the class.
    Idle,
    /// All commands of the class are with their controller.
    Running,
    /// A command goes to its controller.
    Issues,
    /// A command could go, but its controller's queue is full.
    QueueFull,
    /// The oldest command depends on one of this class: another class if there is one, else its own.
    WaitsFor(Unit),
}

/// The class of a command. Whatever is neither executed nor stored goes to the table of loads.
fn unit(cmd: &RoccCommand) -> Unit {
    match cmd.class() {
        Some(Class::Execute) => Unit::Ex,
        Some(Class::Store) => Unit::St,
        _ => Unit::Ld,
    }
}

/// The reservation station; see the module.
#[derive(Clone, Debug)]
pub struct ReservationStation {
    tables: PerUnit<Table>,
    shadow: ShadowConfig,
    /// A PRELOAD was allocated and no COMPUTE since.
    solitary_preload: bool,
    /// A store waits for the issue of those before it, as in an older revision, not for their completion.
    stores_overlap: bool,
    allocated: u64,
}

/// The ages of the entries, by which everybody names them, and then the tables.
impl Canonical for ReservationStation {
    fn canonical(&self, canon: &mut Canon) {
        // `allocated` numbers the commands, and only their order counts.
        let Self { tables, shadow, solitary_preload, stores_overlap: _, allocated: _ } = self;
        for (unit, table) in UNITS.into_iter().zip(tables) {
            canon.set_ages(unit, table.by_age().into_iter());
        }
        tables.canonical(canon);
        shadow.canonical(canon);
        solitary_preload.canonical(canon);
    }
}

impl ReservationStation {
    /// An empty station.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            tables: [
                Table::new(config.reservation_station_entries_ld),
                Table::new(config.reservation_station_entries_ex),
                Table::new(config.reservation_station_entries_st),
            ],
            shadow: ShadowConfig::new(config),
            solitary_preload: false,
            stores_overlap: config.revision == Revision::March2023,
            allocated: 0,
        }
    }

    /// The class of a command.
    pub fn unit(cmd: &RoccCommand) -> Unit {
        unit(cmd)
    }

    /// What the issue of a class's commands is doing in this cycle, given whether its controller's queue accepts.
    pub fn activity(&self, unit: Unit, ready: bool) -> StationActivity {
        let table = &self.tables[unit as usize];
        match (table.candidate, table.oldest(table.unissued)) {
            (Some(_), _) if ready => StationActivity::Issues,
            (Some(_), _) => StationActivity::QueueFull,
            (None, Some((index, _))) => {
                let deps = table.deps(index);
                let blocking = UNITS.into_iter().find(|&other| other != unit && deps[other as usize] != 0);
                StationActivity::WaitsFor(blocking.unwrap_or(unit))
            }
            (None, None) if table.valid != 0 => StationActivity::Running,
            (None, None) => StationActivity::Idle,
        }
    }

    /// `alloc.ready` for this command.
    #[inline]
    pub fn alloc_ready(&self, cmd: &RoccCommand) -> bool {
        self.tables[unit(cmd) as usize].free_entry().is_some()
    }

    /// The command offered to a controller (`issue.valid` and bits).
    #[inline]
    pub fn issue(&self, unit: Unit) -> Option<IssuedCmd> {
        let table = &self.tables[unit as usize];
        let index = table.candidate?;
        let entry = table.entry(index)?;
        Some(IssuedCmd { cmd: entry.cmd.cmd, rob_id: Some(RobId { unit, index }) })
    }

    /// True if a command is offered to this controller.
    #[inline]
    pub fn issue_valid(&self, unit: Unit) -> bool {
        self.tables[unit as usize].candidate.is_some()
    }

    /// Commands held, by class.
    pub fn utilization(&self) -> PerUnit<u32> {
        self.tables.each_ref().map(|table| table.valid.count_ones())
    }

    /// `io.busy`: a PRELOAD that is alone and waits for its COMPUTE does not count.
    #[inline]
    pub fn busy(&self) -> bool {
        let [ld, ex, st] = [self.tables[0].valid, self.tables[1].valid, self.tables[2].valid];
        let any = ld | ex | st;
        if !self.solitary_preload || any & any.wrapping_sub(1) != 0 {
            return any != 0;
        }
        u32::from(ld != 0) + u32::from(ex != 0) + u32::from(st != 0) > 1
    }

    /// Sequence number of the command in an entry.
    /// Commands that have entered so far.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// As if so many commands had entered so far.
    pub(crate) fn renumber(&mut self, allocated: u64) {
        let by = allocated.wrapping_sub(std::mem::replace(&mut self.allocated, allocated));
        self.tables.iter_mut().for_each(|table| table.renumber(by));
    }

    pub(crate) fn seq(&self, RobId { unit, index }: RobId) -> Option<u64> {
        self.tables[unit as usize].entry(index).map(|entry| entry.seq)
    }

    /// Of a command: the number of the host's command that it is or comes from, and what it waits for, oldest first.
    pub(crate) fn lineage(&self, RobId { unit, index }: RobId) -> (Option<u64>, Vec<u64>) {
        let table = &self.tables[unit as usize];
        let Some(entry) = table.entry(index) else { return (None, Vec::new()) };
        let deps = table.deps(index);
        let of = |unit: Unit| ones(deps[unit as usize]).filter_map(move |index| self.seq(RobId { unit, index }));
        let mut seqs: Vec<u64> = UNITS.into_iter().flat_map(of).collect();
        seqs.sort_unstable();
        (Some(entry.cmd.number), seqs)
    }

    /// All that it holds.
    pub(crate) fn view(&self) -> StationView {
        let [load, execute, store] = UNITS.map(|unit| self.table_view(unit));
        StationView { load, execute, store }
    }

    fn table_view(&self, unit: Unit) -> Vec<EntryView> {
        let table = &self.tables[unit as usize];
        let entry = |index: u8| {
            let entry = table.entry(index)?;
            let mut command = entry.cmd.view();
            command.seq = Some(entry.seq);
            let issued = table.unissued >> index & 1 == 0;
            let offered = table.candidate == Some(index);
            let (_, waits_for) = self.lineage(RobId { unit, index });
            Some(EntryView { unit, entry: index, command, issued, offered, waits_for })
        };
        table.by_age().into_iter().filter_map(entry).collect()
    }

    /// What the oldest command of each class waits for.
    pub fn waiting_for(&self) -> Option<String> {
        let reasons: Vec<_> = UNITS.into_iter().filter_map(|unit| self.oldest(unit)).collect();
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }

    fn oldest(&self, unit: Unit) -> Option<String> {
        let table = &self.tables[unit as usize];
        let (index, entry) = table.oldest(table.valid)?;
        let funct = entry.cmd.cmd.funct;
        let state = if table.unissued >> index & 1 == 0 {
            "was issued and has not completed".to_owned()
        } else if table.is_ready(index) {
            "waits for room in its controller's queue".to_owned()
        } else {
            let deps = table.deps(index);
            let blockers =
                |unit: Unit| ones(deps[unit as usize]).filter_map(move |index| self.tables[unit as usize].entry(index));
            let seqs: Vec<_> = UNITS.into_iter().flat_map(blockers).map(|entry| entry.seq.to_string()).collect();
            format!("waits for the commands {}", seqs.join(", "))
        };
        Some(format!("{unit:?} command {} (funct {funct}) {state}", entry.seq))
    }

    /// Clock edge. `alloc` is a command that was accepted, `issued` says which controllers took their command. Where a
    /// dependency is set and cleared in the same cycle, clearing wins.
    pub fn tick(
        &mut self,
        alloc: Option<GemminiCmd>,
        issued: PerUnit<bool>,
        completed: Option<RobId>,
        events: &mut EventBuffer,
    ) -> Departures {
        let mut departures = Departures::default();
        if alloc.is_none() && completed.is_none() && issued == [false; 3] {
            return departures;
        }
        if let Some(cmd) = alloc {
            self.allocate(cmd, events);
        }
        for unit in UNITS {
            if let (true, Some(index)) = (issued[unit as usize], self.tables[unit as usize].candidate) {
                self.issue_entry(RobId { unit, index }, &mut departures, events);
            }
        }
        if let Some(id) = completed {
            self.complete(id, &mut departures, events);
        }
        self.tables.iter_mut().for_each(Table::find_candidate);
        departures
    }

    fn allocate(&mut self, cmd: GemminiCmd, events: &mut EventBuffer) {
        let is_config = cmd.cmd.funct == funct::CONFIG_CMD;
        let operands = if is_config { Operands::default() } else { self.shadow.operands(cmd.cmd) };
        let deps = self.dependencies(&cmd.cmd, &operands);
        self.shadow.require_legal(cmd.cmd, events);
        let unit = unit(&cmd.cmd);
        let seq = self.allocated;
        let table = &mut self.tables[unit as usize];
        let Some(index) = table.free_entry() else {
            debug_assert!(false, "allocation into a full table: alloc_ready was not honoured");
            return;
        };
        let mut stored = operands;
        if unit != Unit::Ex {
            // The tables of loads and stores have no second operand (forced invalid every cycle, its bits undriven).
            (stored.opb, stored.opb_valid) = (Operand::default(), false);
        }
        let complete_on_issue = is_config && unit != Unit::Ex;
        table.put(index, Entry { cmd, seq, operands: stored, complete_on_issue }, deps);
        self.allocated += 1;

        let RoccCommand { funct, rs1, rs2 } = cmd.cmd;
        match funct {
            funct::CONFIG_CMD => self.shadow.update(cmd.cmd),
            funct::PRELOAD_CMD => self.solitary_preload = true,
            funct::COMPUTE_AND_FLIP_CMD | funct::COMPUTE_AND_STAY_CMD => self.solitary_preload = false,
            _ => {}
        }
        events.push(Event::Alloc { seq, unit, entry: index, funct, rs1, rs2, origin: cmd.origin });
    }

    /// The entries that a new command has to wait for, from the tables at the start of the cycle.
    fn dependencies(&self, cmd: &RoccCommand, new: &Operands) -> PerUnit<u64> {
        let [ld, ex, st] = &self.tables;
        let a_meets = |e: &Operand| new.opa.overlaps(e);
        let b_meets = |e: &Operand| new.opb.overlaps(e);
        let not_config = cmd.funct != funct::CONFIG_CMD;
        let unless_config =
            |table: &Table, select: &dyn Fn(&Operands) -> bool| if not_config { table.matching(select) } else { 0 };
        match unit(cmd) {
            Unit::Ld => [
                ld.unissued,
                unless_config(ex, &|e| (e.opa_valid && a_meets(&e.opa)) || (e.opb_valid && a_meets(&e.opb))),
                unless_config(st, &|e| e.opa_valid && a_meets(&e.opa)),
            ],
            Unit::Ex => [
                unless_config(ld, &|e| e.opa_valid && (a_meets(&e.opa) || b_meets(&e.opa))),
                ex.unissued,
                unless_config(st, &|e| {
                    let writes_met = if e.opa_is_dst {
                        a_meets(&e.opa) || b_meets(&e.opa) || (new.opa_is_dst && a_meets(&e.opb))
                    } else {
                        new.opa_is_dst && a_meets(&e.opa)
                    };
                    e.opa_valid && writes_met
                }),
            ],
            Unit::St => {
                let moves_to_spad = cmd.funct == funct::STORE_SPAD_CMD;
                [
                    unless_config(ld, &|e| e.opa_valid && (a_meets(&e.opa) || (new.opb_valid && b_meets(&e.opa)))),
                    unless_config(ex, &|e| {
                        let writes = e.opa_valid && e.opa_is_dst;
                        if moves_to_spad {
                            (e.opa_valid && a_meets(&e.opa))
                                || (e.opb_valid && a_meets(&e.opb))
                                || (writes && b_meets(&e.opa))
                        } else {
                            writes && a_meets(&e.opa)
                        }
                    }),
                    if self.stores_overlap { st.unissued } else { st.valid },
                ]
            }
        }
    }

    fn issue_entry(&mut self, id: RobId, departures: &mut Departures, events: &mut EventBuffer) {
        let RobId { unit, index } = id;
        let table = &mut self.tables[unit as usize];
        table.unissued &= !(1 << index);
        let Some(&Entry { seq, complete_on_issue, .. }) = table.entry(index) else { return };
        events.push(Event::Issue { seq, unit, entry: index });
        if complete_on_issue {
            self.complete(id, departures, events);
        } else if unit != Unit::St || self.stores_overlap {
            // The same class waits for the issue, the others for the completion; stores wait for the completion too.
            table.clear_deps(unit, index);
        }
    }

    fn complete(&mut self, id: RobId, departures: &mut Departures, events: &mut EventBuffer) {
        let RobId { unit, index } = id;
        let table = &mut self.tables[unit as usize];
        // Nothing is there if an illegal command is reported twice: CONFIG_NORM in a build without normalizations completes
        // as it issues, and runs as an MVOUT.
        let Some(&Entry { seq, cmd, .. }) = table.entry(index) else { return };
        table.free(index);
        self.tables.iter_mut().for_each(|table| table.clear_deps(unit, index));
        departures.count(cmd.origin, unit);
        events.push(Event::Complete { seq, unit, entry: index });
    }
}
