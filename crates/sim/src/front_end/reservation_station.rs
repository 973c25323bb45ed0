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

use pollux_isa::config::LOAD_STATES;
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr, RoccCommand};

use crate::front_end::geometry::{bit, config_kind, field, funct, mask};
use crate::observation::event::{Event, EventBuffer, Origin, Unit};
use crate::parts::wires::{GemminiCmd, IssuedCmd, RobId};

/// One value for each class, indexed by [`Unit`].
pub type PerUnit<T> = [T; 3];

const UNITS: PerUnit<Unit> = [Unit::Ld, Unit::Ex, Unit::St];

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

/// A local row in the order of `LocalAddr`: memory in the top bit, row below. Rows of different memories have no order.
#[derive(Clone, Copy, Debug, Default)]
struct Row(u32);

impl Row {
    const IS_ACC: u32 = 1 << 31;

    fn of(layout: AddressLayout, address: LocalAddr) -> Self {
        Self(if address.is_acc() { Self::IS_ACC } else { 0 } | address.memory_row(layout))
    }

    fn same_memory(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::IS_ACC == 0
    }

    fn le(self, other: Self) -> bool {
        self.same_memory(other) && self.0 <= other.0
    }

    fn lt(self, other: Self) -> bool {
        self.same_memory(other) && self.0 < other.0
    }
}

/// The local rows that an operand covers (`OpT`).
#[derive(Clone, Copy, Debug, Default)]
struct Operand {
    start: Row,
    end: Row,
    wraps_around: bool,
    is_garbage: bool,
}

impl Operand {
    fn new(layout: AddressLayout, start: LocalAddr, end: LocalAddr, wraps_around: bool) -> Self {
        let is_garbage = start.is_garbage(layout);
        Self { start: Row::of(layout, start), end: Row::of(layout, end), wraps_around, is_garbage }
    }

    fn rows(layout: AddressLayout, start: LocalAddr, rows: u32) -> Self {
        let (end, wraps_around) = start.add_with_overflow(layout, rows);
        Self::new(layout, start, end, wraps_around)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let starts_in = |a: &Self, b: &Self| b.start.le(a.start) && (a.start.lt(b.end) || b.wraps_around);
        !self.is_garbage && !other.is_garbage && (starts_in(self, other) || starts_in(other, self))
    }
}

/// The operands of a command as its table keeps them. Their ranges take part in comparisons even where the hardware does
/// not look at the valid bit.
#[derive(Clone, Copy, Debug, Default)]
struct Operands {
    opa: Operand,
    opa_valid: bool,
    opa_is_dst: bool,
    opb: Operand,
    opb_valid: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    cmd: GemminiCmd,
    seq: u64,
    operands: Operands,
    complete_on_issue: bool,
}

/// Positions of the set bits, lowest first.
fn ones(mut set: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let index = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (index < u64::BITS).then_some(index as u8)
    })
}

/// One table.
#[derive(Clone, Debug)]
struct Table {
    /// What each entry holds or held last.
    entries: Vec<Option<Entry>>,
    /// By table: the entries of it that each entry waits for, one bit each.
    deps: PerUnit<Vec<u64>>,
    /// Entries that hold a command, one bit each.
    valid: u64,
    /// Entries that hold a command not yet issued.
    unissued: u64,
    /// The entry offered to the controller.
    candidate: Option<u8>,
}

impl Table {
    fn new(entries: u32) -> Self {
        let entries = entries as usize;
        Self {
            entries: vec![None; entries],
            deps: std::array::from_fn(|_| vec![0; entries]),
            valid: 0,
            unissued: 0,
            candidate: None,
        }
    }

    fn free_entry(&self) -> Option<u8> {
        let index = (!self.valid).trailing_zeros();
        ((index as usize) < self.entries.len()).then_some(index as u8)
    }

    /// The command in a valid entry.
    fn entry(&self, index: u8) -> Option<&Entry> {
        let valid = self.valid >> index & 1 == 1;
        self.entries.get(usize::from(index)).filter(|_| valid)?.as_ref()
    }

    fn put(&mut self, index: u8, entry: Entry, deps: PerUnit<u64>) {
        self.entries[usize::from(index)] = Some(entry);
        for (table, deps) in self.deps.iter_mut().zip(deps) {
            table[usize::from(index)] = deps;
        }
        self.valid |= 1 << index;
        self.unissued |= 1 << index;
    }

    fn free(&mut self, index: u8) {
        self.valid &= !(1 << index);
        self.unissued &= !(1 << index);
    }

    fn is_ready(&self, index: u8) -> bool {
        let [ld, ex, st] = &self.deps;
        let index = usize::from(index);
        ld[index] | ex[index] | st[index] == 0
    }

    /// The entries that an entry waits for.
    fn deps(&self, index: u8) -> PerUnit<u64> {
        self.deps.each_ref().map(|table| table[usize::from(index)])
    }

    /// Nothing in this table waits any longer for an entry of `unit`.
    fn clear_deps(&mut self, unit: Unit, index: u8) {
        for deps in &mut self.deps[unit as usize] {
            *deps &= !(1 << index);
        }
    }

    /// The valid entries whose operands `select` names, one bit each.
    fn matching(&self, select: impl Fn(&Operands) -> bool) -> u64 {
        let selected = |&index: &u8| self.entry(index).is_some_and(|entry| select(&entry.operands));
        ones(self.valid).filter(selected).fold(0, |set, index| set | 1 << index)
    }

    fn find_candidate(&mut self) {
        // Entries are seldom many, and mostly in their order.
        let mut left = self.unissued;
        self.candidate = None;
        while left != 0 {
            let index = left.trailing_zeros() as u8;
            if self.is_ready(index) {
                self.candidate = Some(index);
                return;
            }
            left &= left - 1;
        }
    }

    fn oldest(&self, among: u64) -> Option<(u8, &Entry)> {
        ones(among).filter_map(|index| Some((index, self.entry(index)?))).min_by_key(|(_, entry)| entry.seq)
    }
}

/// Class and configuration kind of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    unit: Unit,
    /// `rs1[1:0]` if it is a CONFIG.
    config: Option<u64>,
}

impl Class {
    fn of(cmd: &RoccCommand) -> Self {
        let config = (cmd.funct == funct::CONFIG).then_some(cmd.rs1 & 3);
        let unit = match (cmd.funct, config) {
            (_, Some(config_kind::EX)) => Unit::Ex,
            (_, Some(config_kind::ST | config_kind::NORM)) => Unit::St,
            (funct::PRELOAD | funct::COMPUTE_AND_FLIP | funct::COMPUTE_AND_STAY, _) => Unit::Ex,
            (funct::MVOUT | funct::MVOUT_SPAD, _) => Unit::St,
            _ => Unit::Ld,
        };
        Self { unit, config }
    }
}

/// The station's copy of what the configuration commands set, kept at allocation for the ranges of later commands.
#[derive(Clone, Debug)]
struct ShadowConfig {
    layout: AddressLayout,
    dim: u32,
    operand_bits: u32,
    mvin_bits: [u32; 2],
    mvout_bits: [u32; 2],
    a_stride_bits: u32,
    c_stride_bits: u32,
    block_stride_bits: u32,
    pixel_repeats_bits: u32,
    has_first_layer_optimizations: bool,
    a_stride: u32,
    c_stride: u32,
    a_transpose: bool,
    block_strides: [u32; LOAD_STATES],
    /// Pixel repeats minus one.
    pixel_repeats: [u32; LOAD_STATES],
    pooling_is_enabled: bool,
}

const COLS: u32 = 32;
const ROWS: u32 = 48;

impl ShadowConfig {
    fn new(config: &GemminiConfig) -> Self {
        Self {
            layout: config.layout(),
            dim: config.dim(),
            operand_bits: config.dim_count_bits(),
            mvin_bits: [config.mvin_rows_bits(), config.mvin_cols_bits()],
            mvout_bits: [config.mvout_rows_bits(), config.mvout_cols_bits()],
            a_stride_bits: config.a_stride_bits(),
            c_stride_bits: config.c_stride_bits(),
            block_stride_bits: config.block_stride_bits(),
            pixel_repeats_bits: config.pixel_repeats_bits(),
            has_first_layer_optimizations: config.has_first_layer_optimizations,
            a_stride: 0,
            c_stride: 0,
            a_transpose: false,
            block_strides: [0; LOAD_STATES],
            pixel_repeats: [0; LOAD_STATES],
            pooling_is_enabled: false,
        }
    }

    fn update(&mut self, cmd: &RoccCommand, config: u64) {
        match config {
            config_kind::EX => {
                const SET_ONLY_STRIDES: u32 = 7;
                const A_TRANSPOSE: u32 = 8;
                self.a_stride = field(cmd.rs1, 16, self.a_stride_bits);
                self.c_stride = field(cmd.rs2, 48, self.c_stride_bits);
                if !bit(cmd.rs1, SET_ONLY_STRIDES) {
                    self.a_transpose = bit(cmd.rs1, A_TRANSPOSE);
                }
            }
            config_kind::LD => {
                let channel = field(cmd.rs1, 3, 2) as usize;
                if channel < LOAD_STATES {
                    self.block_strides[channel] = field(cmd.rs1, 16, self.block_stride_bits);
                    self.pixel_repeats[channel] = field(cmd.rs1, 8, self.pixel_repeats_bits).max(1) - 1;
                }
            }
            config_kind::ST => self.pooling_is_enabled = field(cmd.rs1, 4, 2) != 0,
            _ => {}
        }
    }

    /// The ranges of a command that is no configuration.
    fn operands(&self, cmd: &RoccCommand) -> Operands {
        let dst = |opa, opb: Option<Operand>| Operands {
            opa,
            opa_valid: true,
            opa_is_dst: true,
            opb: opb.unwrap_or_default(),
            opb_valid: opb.is_some(),
        };
        let sources = |opa, opb| Operands { opa, opa_valid: true, opa_is_dst: false, opb, opb_valid: true };
        match cmd.funct {
            funct::PRELOAD => dst(self.preload_destination(cmd), Some(self.plain_source(cmd.rs1))),
            funct::COMPUTE_AND_FLIP | funct::COMPUTE_AND_STAY => {
                sources(self.compute_a(cmd), self.plain_source(cmd.rs2))
            }
            funct::MVOUT => sources(self.mvout_source(cmd), self.mvout_source(cmd)),
            funct::MVOUT_SPAD => dst(self.mvout_spad_destination(cmd), Some(self.mvout_source(cmd))),
            _ => dst(self.mvin_destination(cmd), None),
        }
    }

    fn preload_destination(&self, cmd: &RoccCommand) -> Operand {
        let rows = field(cmd.rs2, ROWS, self.operand_bits) * self.c_stride;
        Operand::rows(self.layout, LocalAddr(cmd.rs2 as u32), rows)
    }

    fn plain_source(&self, word: u64) -> Operand {
        Operand::rows(self.layout, LocalAddr(word as u32), field(word, ROWS, self.operand_bits))
    }

    fn compute_a(&self, cmd: &RoccCommand) -> Operand {
        let from = if self.a_transpose { COLS } else { ROWS };
        let rows = field(cmd.rs1, from, self.operand_bits) * self.a_stride;
        Operand::rows(self.layout, LocalAddr(cmd.rs1 as u32), rows)
    }

    fn mvout_spad_destination(&self, cmd: &RoccCommand) -> Operand {
        Operand::rows(self.layout, LocalAddr(cmd.rs1 as u32), field(cmd.rs2, ROWS, self.mvout_bits[0]))
    }

    fn mvout_source(&self, cmd: &RoccCommand) -> Operand {
        let start = LocalAddr(cmd.rs2 as u32);
        if self.pooling_is_enabled {
            return self.rest_of_bank(start);
        }
        Operand::rows(self.layout, start, self.moved_rows(cmd.rs2, self.mvout_bits, self.dim))
    }

    /// A pooled MVOUT is taken to read everything up to the next accumulator bank.
    fn rest_of_bank(&self, start: LocalAddr) -> Operand {
        let bank_bits = (self.layout.acc_addr_bits - self.layout.acc_bank_row_bits).max(1);
        let next_bank = (start.acc_bank(self.layout) + 1) & mask(bank_bits) as u32;
        let end = LocalAddr::accumulator(0).with_data(self.layout, next_bank << self.layout.acc_bank_row_bits);
        Operand::new(self.layout, start, end, end.acc_bank(self.layout) == 0)
    }

    fn mvin_destination(&self, cmd: &RoccCommand) -> Operand {
        let channel = match cmd.funct {
            funct::MVIN2 => 1,
            funct::MVIN3 => 2,
            _ => 0,
        };
        let mut start = LocalAddr(cmd.rs2 as u32);
        if self.has_first_layer_optimizations && !start.is_acc() {
            let middle = self.layout.sp_rows / 2;
            let floor = if start.full_sp_addr(self.layout) > middle { middle } else { 0 };
            start = start.floor_sub(self.layout, self.pixel_repeats[channel], floor).0;
        }
        let rows = self.moved_rows(cmd.rs2, self.mvin_bits, self.block_strides[channel]);
        Operand::rows(self.layout, start, rows)
    }

    /// Local rows from the first to the last that a move touches.
    fn moved_rows(&self, word: u64, [rows_bits, cols_bits]: [u32; 2], block_stride: u32) -> u32 {
        let blocks = field(word, COLS, cols_bits).div_ceil(self.dim);
        let blocks_before_last = blocks.wrapping_sub(1) & mask(cols_bits) as u32;
        blocks_before_last * block_stride + field(word, ROWS, rows_bits)
    }
}

/// The reservation station; see the module.
#[derive(Clone, Debug)]
pub struct ReservationStation {
    tables: PerUnit<Table>,
    shadow: ShadowConfig,
    /// A PRELOAD was allocated and no COMPUTE since.
    solitary_preload: bool,
    allocated: u64,
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
            allocated: 0,
        }
    }

    /// The class of a command.
    pub fn unit(cmd: &RoccCommand) -> Unit {
        Class::of(cmd).unit
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
    pub fn alloc_ready(&self, cmd: &RoccCommand) -> bool {
        self.tables[Class::of(cmd).unit as usize].free_entry().is_some()
    }

    /// The command offered to a controller (`issue.valid` and bits).
    pub fn issue(&self, unit: Unit) -> Option<IssuedCmd> {
        let table = &self.tables[unit as usize];
        let index = table.candidate?;
        let entry = table.entry(index)?;
        Some(IssuedCmd { cmd: entry.cmd.cmd, rob_id: Some(RobId { unit, index }) })
    }

    /// True if a command is offered to this controller.
    pub fn issue_valid(&self, unit: Unit) -> bool {
        self.tables[unit as usize].candidate.is_some()
    }

    /// Commands held, by class.
    pub fn utilization(&self) -> PerUnit<u32> {
        self.tables.each_ref().map(|table| table.valid.count_ones())
    }

    /// `io.busy`: a PRELOAD that is alone and waits for its COMPUTE does not count.
    pub fn busy(&self) -> bool {
        let [ld, ex, st] = [self.tables[0].valid, self.tables[1].valid, self.tables[2].valid];
        let any = ld | ex | st;
        if !self.solitary_preload || any & any.wrapping_sub(1) != 0 {
            return any != 0;
        }
        u32::from(ld != 0) + u32::from(ex != 0) + u32::from(st != 0) > 1
    }

    /// Number of commands allocated so far.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The station's commands as `(unit, entry, sequence number, issued)`, for reports.
    pub fn contents(&self) -> impl Iterator<Item = (RobId, u64, GemminiCmd, bool)> {
        UNITS.into_iter().zip(&self.tables).flat_map(|(unit, table)| {
            ones(table.valid).filter_map(move |index| {
                let entry = table.entry(index)?;
                Some((RobId { unit, index }, entry.seq, entry.cmd, table.unissued >> index & 1 == 0))
            })
        })
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
        let class = Class::of(&cmd.cmd);
        let operands = match class.config {
            Some(_) => Operands::default(),
            None => self.shadow.operands(&cmd.cmd),
        };
        let deps = self.dependencies(class, cmd.cmd.funct, &operands);
        let unit = class.unit;
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
        let complete_on_issue = class.config.is_some() && unit != Unit::Ex;
        table.put(index, Entry { cmd, seq, operands: stored, complete_on_issue }, deps);
        self.allocated += 1;

        let RoccCommand { funct, rs1, rs2 } = cmd.cmd;
        match funct {
            funct::CONFIG => self.shadow.update(&cmd.cmd, rs1 & 3),
            funct::PRELOAD => self.solitary_preload = true,
            funct::COMPUTE_AND_FLIP | funct::COMPUTE_AND_STAY => self.solitary_preload = false,
            _ => {}
        }
        events.push(Event::Alloc { seq, unit, entry: index, funct, rs1, rs2, origin: cmd.origin });
    }

    /// The entries that a new command has to wait for, from the tables at the start of the cycle.
    fn dependencies(&self, class: Class, funct: u8, new: &Operands) -> PerUnit<u64> {
        let [ld, ex, st] = &self.tables;
        let a_meets = |e: &Operand| new.opa.overlaps(e);
        let b_meets = |e: &Operand| new.opb.overlaps(e);
        let not_config = class.config.is_none();
        let unless_config =
            |table: &Table, select: &dyn Fn(&Operands) -> bool| if not_config { table.matching(select) } else { 0 };
        match class.unit {
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
                let moves_to_spad = funct == funct::MVOUT_SPAD;
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
                    st.valid,
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
        } else if unit != Unit::St {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: u64 = 0x3f80_0000 << 32;

    fn cmd(funct: u8, rs1: u64, rs2: u64) -> GemminiCmd {
        GemminiCmd { cmd: RoccCommand { funct, rs1, rs2 }, rd: 0, origin: Origin::Host }
    }

    fn word(rows: u64, cols: u64, address: u64) -> u64 {
        rows << ROWS | cols << COLS | address
    }

    const ACC: u64 = 1 << 31;
    const GARBAGE: u64 = 0xffff_ffff;

    fn config_ld(block_stride: u64) -> GemminiCmd {
        cmd(funct::CONFIG, IDENTITY | block_stride << 16 | 1 << 8 | config_kind::LD, 64)
    }

    fn config_st(pool_stride: u64) -> GemminiCmd {
        cmd(funct::CONFIG, pool_stride << 4 | config_kind::ST, 64)
    }

    fn config_ex() -> GemminiCmd {
        cmd(funct::CONFIG, 1 << 16 | config_kind::EX, 1 << 48)
    }

    fn mvin(row: u64) -> GemminiCmd {
        cmd(funct::MVIN, 0x8000_0000, word(16, 16, row))
    }

    fn mvout(address: u64) -> GemminiCmd {
        cmd(funct::MVOUT, 0x8000_0000, word(16, 16, address))
    }

    fn preload(b: u64, c: u64) -> GemminiCmd {
        cmd(funct::PRELOAD, word(16, 16, b), word(16, 16, c))
    }

    fn compute(a: u64) -> GemminiCmd {
        cmd(funct::COMPUTE_AND_FLIP, word(16, 16, a), word(16, 16, GARBAGE))
    }

    /// A station whose controllers take every command at once. `commands` are offered in order from cycle 0 on, one a
    /// cycle; `completions` are `(cycle, sequence number)`. Gives the cycles of allocation and issue of each command.
    fn run(commands: &[GemminiCmd], completions: &[(u64, u64)]) -> Vec<(u64, Option<u64>)> {
        let mut station = ReservationStation::new(&GemminiConfig::default16());
        let mut buffer = EventBuffer::new(true);
        let mut times: Vec<(u64, Option<u64>)> = Vec::new();
        let mut ids = std::collections::HashMap::new();
        for cycle in 0..100 {
            let alloc = commands.get(times.len()).copied().filter(|cmd| station.alloc_ready(&cmd.cmd));
            let issued = UNITS.map(|unit| station.issue_valid(unit));
            let completed = completions.iter().find(|(at, _)| *at == cycle).map(|(_, seq)| ids[seq]);
            station.tick(alloc, issued, completed, &mut buffer);
            buffer.drain_sorted(|event| match *event {
                Event::Alloc { seq, unit, entry, .. } => {
                    ids.insert(seq, RobId { unit, index: entry });
                    times.push((cycle, None));
                }
                Event::Issue { seq, .. } => times[seq as usize].1 = Some(cycle),
                _ => {}
            });
        }
        times
    }

    #[test]
    fn independent_commands_issue_in_the_cycle_after_their_allocation() {
        assert_eq!(run(&[mvin(0), mvin(16), mvin(32)], &[]), [(0, Some(1)), (1, Some(2)), (2, Some(3))]);
    }

    #[test]
    fn a_load_configuration_completes_as_it_issues() {
        let times = run(&[config_ld(16), mvin(0), config_ld(16)], &[]);
        assert_eq!(times, [(0, Some(1)), (1, Some(2)), (2, Some(3))]);
    }

    #[test]
    fn a_preload_issues_in_the_cycle_after_the_load_it_reads_completes() {
        assert_eq!(run(&[mvin(0), preload(0, ACC)], &[(20, 0)]), [(0, Some(1)), (1, Some(21))]);
        assert_eq!(run(&[mvin(0), preload(16, ACC)], &[(20, 0)]), [(0, Some(1)), (1, Some(2))]);
    }

    #[test]
    fn a_command_allocated_as_its_blocker_completes_does_not_wait() {
        assert_eq!(run(&[mvin(0), preload(0, ACC)], &[(1, 0)]), [(0, Some(1)), (1, Some(2))]);
    }

    #[test]
    fn a_store_waits_until_the_store_before_it_has_completed() {
        let times = run(&[mvout(ACC), mvout(ACC | 64), config_st(0), mvout(ACC)], &[(20, 0), (30, 1)]);
        assert_eq!(times, [(0, Some(1)), (1, Some(21)), (2, Some(31)), (3, Some(32))]);
    }

    #[test]
    fn a_full_table_takes_a_command_in_the_cycle_after_an_entry_is_freed() {
        let loads: Vec<_> = (0..9).map(|i| mvin(16 * i)).collect();
        assert_eq!(run(&loads, &[(20, 3)])[8], (21, Some(22)));
    }

    #[test]
    fn an_execute_configuration_waits_for_nothing_but_the_issue_of_older_execute_commands() {
        let times = run(&[mvin(0), preload(0, ACC), compute(0), config_ex()], &[(20, 0)]);
        assert_eq!(times.iter().map(|t| t.1).collect::<Vec<_>>(), [Some(1), Some(21), Some(22), Some(23)]);
    }

    #[test]
    fn the_garbage_address_and_the_other_memory_never_depend() {
        assert_eq!(run(&[mvin(0), preload(GARBAGE, ACC)], &[])[1].1, Some(2));
        assert_eq!(run(&[mvin(0), mvout(ACC)], &[])[1].1, Some(2));
        assert_eq!(run(&[mvin(0), mvout(0)], &[])[1].1, None);
    }

    #[test]
    fn a_pooled_store_reads_up_to_the_next_accumulator_bank() {
        let last_row_of_bank_0 = ACC | 511;
        let load = |address: u64| cmd(funct::MVIN, 0x8000_0000, word(1, 16, address));
        let issue = |pool, address| run(&[config_st(pool), load(address), mvout(ACC | 8)], &[])[2].1;
        assert_eq!(issue(0, last_row_of_bank_0), Some(3));
        assert_eq!(issue(2, last_row_of_bank_0), None);
        assert_eq!(issue(2, ACC | 512), Some(3));
    }

    #[test]
    fn a_wide_load_covers_its_blocks_at_their_stride() {
        let wide = cmd(funct::MVIN, 0x8000_0000, word(16, 64, 0));
        let issue = |stride, b| run(&[config_ld(stride), wide, preload(b, ACC)], &[])[2].1;
        assert_eq!(issue(16, 63), None);
        assert_eq!(issue(16, 64), Some(3));
        assert_eq!(issue(100, 315), None);
        assert_eq!(issue(100, 316), Some(3));
    }

    #[test]
    fn a_lone_preload_does_not_keep_the_station_busy() {
        let mut station = ReservationStation::new(&GemminiConfig::default16());
        let mut buffer = EventBuffer::default();
        station.tick(Some(preload(0, ACC)), [false; 3], None, &mut buffer);
        assert!(!station.busy());
        station.tick(Some(compute(16)), [false; 3], None, &mut buffer);
        assert!(station.busy());
    }

    fn any_command() -> impl Strategy<Value = GemminiCmd> {
        let local = prop_oneof![0..64u64, (0..64u64).prop_map(|row| ACC | row), Just(GARBAGE)];
        (0..8u8, local.clone(), local).prop_map(|(kind, x, y)| match kind {
            0 => config_ld(16),
            1 => config_st(x & 3),
            2 => config_ex(),
            3 => mvout(x),
            4 => preload(x, y),
            5 => compute(x),
            _ => mvin(x),
        })
    }

    proptest! {
        /// Whatever depends on what: no command is lost, and each class issues in order of entry.
        #[test]
        fn every_command_issues_once_in_order_of_its_class(
            commands in proptest::collection::vec(any_command(), 1..60),
            latencies in proptest::collection::vec(1..30u64, 60),
        ) {
            let mut station = ReservationStation::new(&GemminiConfig::default16());
            let mut buffer = EventBuffer::new(true);
            let (mut next, mut issued_seqs) = (0, [const { Vec::new() }; 3]);
            let mut running: Vec<(u64, RobId)> = Vec::new();
            for cycle in 0..4000 {
                let alloc = commands.get(next).copied().filter(|cmd| station.alloc_ready(&cmd.cmd));
                next += usize::from(alloc.is_some());
                let due = running.iter().position(|(at, _)| *at <= cycle).map(|i| running.remove(i).1);
                let issued = UNITS.map(|unit| station.issue_valid(unit));
                for id in UNITS.into_iter().filter_map(|unit| station.issue(unit)?.rob_id) {
                    running.push((cycle + latencies[next % latencies.len()], id));
                }
                station.tick(alloc, issued, due, &mut buffer);
                buffer.drain_sorted(|event| match *event {
                    Event::Issue { seq, unit, .. } => issued_seqs[unit as usize].push(seq),
                    // A configuration of loads or stores has completed already.
                    Event::Complete { unit, entry, .. } => running.retain(|(_, id)| *id != RobId { unit, index: entry }),
                    _ => {}
                });
            }
            prop_assert!(!station.busy() || station.utilization() == [0, 1, 0]);
            for seqs in &issued_seqs {
                prop_assert!(seqs.is_sorted());
            }
            prop_assert_eq!(issued_seqs.iter().map(Vec::len).sum::<usize>(), commands.len());
        }
    }
}
