//! The matrix-multiply unroller (`LoopMatmul.scala`, `WeightedArbiter.scala`): turns one LOOP_WS into the moves, preloads,
//! computes and stores of a tiled `C = A B + D`.
//!
//! Two loops can be configured; the second is filled while the first runs. Each loop is worked on by five parts: the loads
//! of A, B and D, the execute part and the store part. A part runs ahead of the others as far as the blocks it needs have
//! been emitted; one command leaves in each cycle.
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | in | in | head of the conv unroller's output | input queue of 2, registered both ways |
//! | out | out | from registers: an unrolled command while a loop is configured, else the head of the input queue if it is no loop command | when the unrolled queue is not full |
//! | completed | in | departures of this unroller's commands from the reservation station | always |
//!
//! A loop command needs one cycle at the head of the input queue; its effect is visible in the next. A part accepts its
//! request in the cycle after it became idle, emits from the cycle after that, and its loop's `completed` flag follows its
//! idle state by one cycle.

mod loop_state;
mod block;
mod load;
mod execute;
mod store;

#[cfg(test)]
mod tests;

use pollux_isa::table::Class;
use pollux_isa::{GemminiConfig, RoccCommand, funct};

use crate::front_end::geometry::Geometry;
use crate::front_end::loop_matmul::execute::{ExecuteReq, ExecuteUnit};
use crate::front_end::loop_matmul::load::{Channel, LoadReq, LoadUnit};
use crate::front_end::loop_matmul::loop_state::LoopState;
use crate::front_end::loop_matmul::store::{Producer, StoreReq, StoreTarget, StoreUnit};
use crate::front_end::unroller::{InFlight, LOOPS, LoopId, PartSet, UnrollerActivity, UnrollerStall};
use crate::observation::event::{Origin, Unit};
use crate::observation::view::{LoopView, UnrollerView};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::queue::Queue;
use crate::parts::wires::{GemminiCmd, PerUnit};

/// The five parts of a loop, as its flags count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    A,
    B,
    D,
    Ex,
    St,
}

const PARTS: [Part; 5] = [Part::A, Part::B, Part::D, Part::Ex, Part::St];

/// A sub-unit whose command leaves in this cycle, in the order of the arbiter's priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Store,
    Execute,
    LoadD,
    LoadA,
    LoadB,
    StoreSpad,
}

impl Source {
    fn unit(self) -> Unit {
        match self {
            Source::Store | Source::StoreSpad => Unit::St,
            Source::Execute => Unit::Ex,
            Source::LoadA | Source::LoadB | Source::LoadD => Unit::Ld,
        }
    }
}

/// What moves through the unroller's output in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopMatmulTransfer {
    /// The command handed to the unrolled queue.
    pub out: Option<GemminiCmd>,
    /// The head of the input queue leaves (to the output, or into a loop's configuration).
    pop: bool,
    source: Option<Source>,
}

/// The unroller; see the module.
#[derive(Clone, Debug)]
pub struct LoopMatmul {
    config: GemminiConfig,
    geometry: Geometry,
    input: Queue<GemminiCmd>,
    loops: [LoopState; LOOPS],
    head: LoopId,
    is_resadd: bool,
    ld_a: LoadUnit,
    ld_b: LoadUnit,
    ld_d: LoadUnit,
    ex: ExecuteUnit,
    st: StoreUnit,
    st_spad: StoreUnit,
    in_flight: InFlight,
    ld_d_addr_start: u32,
    ex_c_addr_start: u32,
    st_c_addr_start: u32,
    /// The last cycle changed nothing, so neither does the next unless something comes in or goes out.
    settled: bool,
}

fn is_loop_cmd(cmd: &RoccCommand) -> bool {
    cmd.class() == Some(Class::LoopWs)
}

fn is_of_loops(funct: u8) -> bool {
    is_loop_cmd(&RoccCommand { funct, rs1: 0, rs2: 0 })
}

/// The loops as far as anything will look at them: of a slot that is not configured only what is not written before its loop starts, of
/// an idle part only the loop that it worked for.
impl Canonical for LoopMatmul {
    fn canonical(&self, canon: &mut Canon) {
        let Self { config: _, geometry: _, input, loops, head, is_resadd, ld_a, ld_b, ld_d, ex, st, st_spad, .. } =
            self;
        let Self { in_flight, ld_d_addr_start, ex_c_addr_start, st_c_addr_start, settled: _, .. } = self;
        input.canonical(canon);
        let rests = self.rests() && !canon.loops_ahead().queued.iter().any(|&funct| is_of_loops(funct));
        canon.set_aside(0, rests, |canon| {
            for (id, slot) in loops.iter().enumerate() {
                let overwritten = match slot.flags.configured {
                    true => 0,
                    false => canon.loops_ahead().overwrites(funct::LOOP_WS, id == self.being_configured()),
                };
                slot.canonical_but(overwritten, canon);
            }
            head.canonical(canon);
            is_resadd.canonical(canon);
            ld_a.canonical(canon);
            ld_b.canonical(canon);
            ld_d.canonical(canon);
            ex.canonical(canon);
            st.canonical(canon);
            st_spad.canonical(canon);
            let loop_ids = [ld_a.req.loop_id, ld_b.req.loop_id, ld_d.req.loop_id, ex.req.loop_id];
            loop_ids.canonical(canon);
            [st.req.loop_id, st_spad.req.loop_id].canonical(canon);
            in_flight.canonical(canon);
            [*ld_d_addr_start, *ex_c_addr_start, *st_c_addr_start].canonical(canon);
        });
    }
}

impl LoopMatmul {
    /// The block of weights that the execute part stands at.
    #[inline]
    pub(crate) fn weight_block(&self) -> [u16; 4] {
        let ExecuteUnit { j, k, .. } = self.ex;
        [j, k, 0, 0]
    }

    /// Commands that wait at the input, oldest first.
    pub(crate) fn queued(&self) -> impl Iterator<Item = &GemminiCmd> {
        self.input.iter()
    }

    /// Queue and loops under way.
    pub(crate) fn view(&self) -> UnrollerView {
        let configured = [self.head, self.tail()].into_iter().filter(|&id| self.loops[id].flags.configured);
        UnrollerView {
            queue: self.input.iter().map(GemminiCmd::view).collect(),
            loops: configured.map(|id| self.loop_view(id)).collect(),
            in_flight: self.in_flight.counts(),
        }
    }

    fn loop_view(&self, id: LoopId) -> LoopView {
        let flags = &self.loops[id].flags;
        let (a, b, d, ex) = (&self.ld_a, &self.ld_b, &self.ld_d, &self.ex);
        let st = if self.loops[id].spad_only { &self.st_spad } else { &self.st };
        let counters = |works: bool, counters: &[(&'static str, u16)]| {
            let counters = counters.iter().map(|&(name, count)| (name, count.into()));
            if works { counters.collect() } else { Vec::new() }
        };
        let load = |unit: &LoadUnit, fast, slow| {
            counters(!unit.idle() && unit.req.loop_id == id, &[(slow, unit.slow), (fast, unit.fast)])
        };
        LoopView {
            parent: flags.number,
            parts: vec![
                flags.part(Part::A as usize, "load A", load(a, "i", "k")),
                flags.part(Part::B as usize, "load B", load(b, "j", "k")),
                flags.part(Part::D as usize, "load D", load(d, "i", "j")),
                flags.part(
                    Part::Ex as usize,
                    "execute",
                    counters(!ex.idle() && ex.req.loop_id == id, &[("k", ex.k), ("j", ex.j), ("i", ex.i)]),
                ),
                flags.part(
                    Part::St as usize,
                    "store",
                    counters(!st.idle() && st.req.loop_id == id, &[("j", st.j), ("i", st.i)]),
                ),
            ],
        }
    }

    /// The unroller after reset.
    ///
    /// `head_loop_id` has no reset value in the hardware; like every such register it starts at 0 here.
    pub fn new(config: &GemminiConfig) -> Self {
        let geometry = Geometry::new(config);
        Self {
            loops: std::array::from_fn(|id| LoopState::new(id, config, &geometry)),
            input: Queue::plain(2),
            head: 0,
            is_resadd: false,
            ld_a: LoadUnit::new(Channel::A),
            ld_b: LoadUnit::new(Channel::B),
            ld_d: LoadUnit::new(Channel::D),
            ex: ExecuteUnit::default(),
            st: StoreUnit::new(StoreTarget::Dram),
            st_spad: StoreUnit::new(StoreTarget::Scratchpad),
            in_flight: InFlight::new(config),
            ld_d_addr_start: 0,
            ex_c_addr_start: 0,
            st_c_addr_start: 0,
            settled: false,
            config: config.clone(),
            geometry,
        }
    }

    /// `in.ready`.
    pub fn in_ready(&self) -> bool {
        self.input.enq_ready(false)
    }

    /// `io.busy`: a command in the input queue, or a loop configured.
    pub fn busy(&self) -> bool {
        !self.input.is_empty() || self.loop_configured()
    }

    /// Holds what another one holds, but for the input queue.
    pub(crate) fn hold(&mut self, other: &Self) {
        let mut held = other.clone();
        std::mem::swap(&mut held.input, &mut self.input);
        *self = held;
    }

    /// No loop is under way: nothing but the input queue changes before the next loop command comes.
    fn rests(&self) -> bool {
        !self.loop_configured() && self.in_flight.counts() == [0; 3]
    }

    fn loop_configured(&self) -> bool {
        self.loops.iter().any(|l| l.flags.configured)
    }

    fn tail(&self) -> LoopId {
        1 - self.head
    }

    /// The slot that configuration commands write.
    fn being_configured(&self) -> LoopId {
        if self.loops[self.head].flags.configured { self.tail() } else { self.head }
    }

    /// What moves in this cycle, given `out.ready`.
    pub(crate) fn transfer(&self, out_ready: bool) -> LoopMatmulTransfer {
        let head = self.input.front();
        let loop_cmd = head.is_some_and(|cmd| is_loop_cmd(&cmd.cmd));
        let mut transfer = LoopMatmulTransfer {
            pop: loop_cmd && !self.loops[self.being_configured()].flags.configured,
            source: if out_ready { self.grant() } else { None },
            out: None,
        };
        if self.loop_configured() {
            transfer.out = transfer.source.map(|source| {
                let number = self.loops[self.loop_id(source)].flags.number;
                GemminiCmd { cmd: self.command(source), rd: 0, origin: Origin::Matmul, number }
            });
        } else if out_ready && !loop_cmd {
            transfer.out = head.copied();
            transfer.pop = head.is_some();
        }
        transfer
    }

    /// The loop that a sub-unit works on.
    fn loop_id(&self, source: Source) -> LoopId {
        match source {
            Source::Store => self.st.req.loop_id,
            Source::Execute => self.ex.req.loop_id,
            Source::LoadD => self.ld_d.req.loop_id,
            Source::LoadA => self.ld_a.req.loop_id,
            Source::LoadB => self.ld_b.req.loop_id,
            Source::StoreSpad => self.st_spad.req.loop_id,
        }
    }

    /// The sub-unit that the arbiters choose.
    fn grant(&self) -> Option<Source> {
        let may_store = self.in_flight.has_room(Unit::St);
        let may_load = self.in_flight.has_room(Unit::Ld);
        if may_store && self.st.valid(&self.geometry, self.store_producer()) {
            Some(Source::Store)
        } else if self.in_flight.has_room(Unit::Ex) && self.execute_valid() {
            Some(Source::Execute)
        } else if may_load && self.ld_d.valid() {
            Some(Source::LoadD)
        } else if may_load && self.a_is_picked() && self.ld_a.valid() {
            Some(Source::LoadA)
        } else if may_load && !self.a_is_picked() && self.ld_b.valid() {
            Some(Source::LoadB)
        } else if may_store && self.st_spad.valid(&self.geometry, self.execute_as_producer(self.st_spad.req.loop_id)) {
            Some(Source::StoreSpad)
        } else {
            None
        }
    }

    /// `WeightedArbiter` with its static weight: which of A and B may load. It does not ask whether the chosen one is ready.
    fn a_is_picked(&self) -> bool {
        let (a, b) = (&self.ld_a, &self.ld_b);
        let same_loop = a.req.loop_id == b.req.loop_id;
        let a_on_head = !same_loop && a.req.loop_id == self.head;
        let b_on_head = !same_loop && b.req.loop_id == self.head;
        let (force_a, force_b) =
            if self.is_resadd { (same_loop && !a.idle(), b_on_head || a.idle()) } else { (a_on_head, b_on_head) };
        let (a_k, b_k, b_j) = (a.slow, b.slow, b.fast);
        if force_a {
            true
        } else if force_b || a.idle() {
            false
        } else {
            b.idle() || !(a_k > b_k || (b_k == 0 && b_j == 0))
        }
    }

    fn execute_valid(&self) -> bool {
        let ex = &self.ex;
        if ex.idle() || ex.req.skip {
            return false;
        }
        let done = |load: &LoadUnit| load.req.loop_id != ex.req.loop_id || load.idle();
        let (a_k, a_i, b_k, b_j) = (self.ld_a.slow, self.ld_a.fast, self.ld_b.slow, self.ld_b.fast);
        let a_ahead = done(&self.ld_a) || a_k > ex.k || (a_k == ex.k && a_i > ex.i);
        // The hardware compares with the k of A here, too.
        let b_ahead = done(&self.ld_b) || b_k > ex.k || (a_k == ex.k && b_j > ex.j);
        a_ahead && b_ahead && done(&self.ld_d)
    }

    fn execute_as_producer(&self, loop_id: LoopId) -> Producer {
        let ex = &self.ex;
        Producer { completed: ex.req.loop_id != loop_id || ex.idle(), i: ex.i, j: ex.j, k: ex.k }
    }

    /// In a residual addition the stores follow the loads of B instead of the execute part.
    fn store_producer(&self) -> Producer {
        let loop_id = self.st.req.loop_id;
        if !self.is_resadd {
            return self.execute_as_producer(loop_id);
        }
        let done = |load: &LoadUnit| load.req.loop_id != loop_id || load.idle();
        let completed = done(&self.ld_a) && done(&self.ld_b);
        Producer { completed, i: self.ld_b.slow, j: self.ld_b.fast, k: 0 }
    }

    fn command(&self, source: Source) -> RoccCommand {
        match source {
            Source::Store => self.st.command(&self.geometry),
            Source::Execute => self.ex.command(&self.geometry),
            Source::LoadD => self.ld_d.command(&self.geometry),
            Source::LoadA => self.ld_a.command(&self.geometry),
            Source::LoadB => self.ld_b.command(&self.geometry),
            Source::StoreSpad => self.st_spad.command(&self.geometry),
        }
    }

    /// Clock edge. `input` is a command accepted at the input, `transfer` what [`Self::transfer`] gave for this cycle,
    /// `departed` the departures of this unroller's commands from the station.
    pub(crate) fn tick(
        &mut self,
        input: Option<GemminiCmd>,
        transfer: &LoopMatmulTransfer,
        departed: PerUnit<u8>,
    ) -> bool {
        let moves = transfer.pop || transfer.source.is_some() || input.is_some();
        let driven = moves || departed != [0; 3];
        if self.settled && !moves {
            if driven {
                self.in_flight.tick(None, departed);
            }
            return driven;
        }
        // Worked out from the registers as they are at the start of the cycle.
        let slot = self.being_configured();
        let accepting = self.accepting();
        let release = self.loops[self.head].flags.all_completed();

        let mut progress = driven || release;
        progress |= self.mark_finished();
        progress |= self.tick_units(transfer.source, &accepting);
        if transfer.pop {
            self.take_command(slot);
        }
        if let Some(cmd) = input {
            self.input.push(cmd);
        }
        if release {
            self.loops[self.head].reset();
            self.head = self.tail();
        }
        self.in_flight.tick(transfer.source.map(Source::unit), departed);
        self.settled = !progress;
        progress
    }

    fn take_command(&mut self, slot: LoopId) {
        let Some(GemminiCmd { cmd, number, .. }) = self.input.pop() else { return };
        if is_loop_cmd(&cmd) {
            self.loops[slot].configure(cmd, &self.config);
        }
        if cmd.funct == funct::LOOP_WS {
            self.loops[slot].flags.number = number;
            // One register for both slots: it changes a loop that is already running, too.
            self.is_resadd = self.loops[slot].run.is_resadd;
        }
    }

    /// Flags the parts that are idle as completed in the loop that each worked on. True if a flag is new.
    fn mark_finished(&mut self) -> bool {
        let unfinished = |slot: &LoopState| slot.flags.running && slot.flags.started != slot.flags.completed;
        if !self.loops.iter().any(unfinished) {
            return false;
        }
        let spad_only = |unit: &StoreUnit| self.loops[unit.req.loop_id].spad_only;
        let idle = [
            (Part::A, self.ld_a.idle(), self.ld_a.req.loop_id),
            (Part::B, self.ld_b.idle(), self.ld_b.req.loop_id),
            (Part::D, self.ld_d.idle(), self.ld_d.req.loop_id),
            (Part::Ex, self.ex.idle(), self.ex.req.loop_id),
            (Part::St, self.st.idle() && !spad_only(&self.st), self.st.req.loop_id),
            (Part::St, self.st_spad.idle() && spad_only(&self.st_spad), self.st_spad.req.loop_id),
        ];
        let mut any = false;
        for (part, is_idle, id) in idle {
            any |= is_idle && self.loops[id].flags.finish(part as usize);
        }
        any
    }

    /// The loops whose requests idle parts accept in this cycle.
    fn accepting(&self) -> Accepting {
        let all_started = |slot: &LoopState| !slot.flags.configured || slot.flags.started == PartSet::ALL;
        if self.loops.iter().all(all_started) {
            return Accepting::default();
        }
        let candidate = |part: Part, idle: bool| {
            let id = if self.loops[self.head].flags.started.has(part as usize) { self.tail() } else { self.head };
            let flags = &self.loops[id].flags;
            (idle && flags.configured && !flags.started.has(part as usize)).then_some(id)
        };
        let started = |id: LoopId, part: Part| self.loops[id].flags.started.has(part as usize);
        let spad_only = |id: LoopId| self.loops[id].spad_only;
        let loads_started = |&id: &LoopId| [Part::A, Part::B, Part::D].iter().all(|&part| started(id, part));
        Accepting {
            a: candidate(Part::A, self.ld_a.idle()),
            b: candidate(Part::B, self.ld_b.idle()),
            d: candidate(Part::D, self.ld_d.idle()),
            ex: candidate(Part::Ex, self.ex.idle()).filter(loads_started),
            st: candidate(Part::St, self.st.idle())
                .filter(|&id| self.is_resadd || (started(id, Part::Ex) && !spad_only(id))),
            st_spad: candidate(Part::St, self.st_spad.idle()).filter(|&id| started(id, Part::Ex) && spad_only(id)),
        }
    }

    /// Clocks the parts; true if one of them starts or gets idle.
    fn tick_units(&mut self, source: Option<Source>, accepting: &Accepting) -> bool {
        let idle_before = self.units_idle_bits();
        self.ld_a.edge(source == Some(Source::LoadA));
        self.ld_b.edge(source == Some(Source::LoadB));
        self.ld_d.edge(source == Some(Source::LoadD));
        self.ex.edge(source == Some(Source::Execute));
        self.st.edge(source == Some(Source::Store), &self.geometry);
        self.st_spad.edge(source == Some(Source::StoreSpad), &self.geometry);
        if !accepting.is_empty() {
            self.accept(accepting);
        }
        self.units_idle_bits() != idle_before
    }

    /// Idle parts accept their requests. These depend on no other part.
    fn accept(&mut self, accepting: &Accepting) {
        let (geometry, is_resadd) = (&self.geometry, self.is_resadd);
        if let Some(id) = accepting.a {
            self.ld_a.accept(LoadReq::a(&self.loops[id], geometry, is_resadd, id));
        }
        if let Some(id) = accepting.b {
            self.ld_b.accept(LoadReq::b(&self.loops[id], geometry, is_resadd, id));
        }
        if let Some(id) = accepting.d {
            self.ld_d.accept(LoadReq::d(&self.loops[id], geometry, self.ld_d_addr_start, id));
        }
        if let Some(id) = accepting.ex {
            self.ex.accept(ExecuteReq::new(&self.loops[id], geometry, is_resadd, self.ex_c_addr_start, id));
        }
        if let Some(id) = accepting.st {
            let slot = &self.loops[id];
            let start = if is_resadd { slot.resadd_addr_start } else { self.st_c_addr_start };
            self.st.accept(StoreReq::new(slot, geometry, is_resadd, start, id));
        }
        if let Some(id) = accepting.st_spad {
            self.st_spad.accept(StoreReq::new(&self.loops[id], geometry, is_resadd, self.st_c_addr_start, id));
        }
        self.mark_started(accepting);
    }

    /// Flags the parts that accept a request, and moves their accumulator halves on.
    fn mark_started(&mut self, accepting: &Accepting) {
        let (loops, geometry) = (&mut self.loops, &self.geometry);
        let toggle = |start: &mut u32| *start = geometry.toggle_acc_half(*start);
        if accepting.d.is_some_and(|id| loops[id].addrs_dc.c != 0) {
            toggle(&mut self.ld_d_addr_start);
        }
        if accepting.ex.is_some_and(|id| loops[id].advances_acc()) {
            toggle(&mut self.ex_c_addr_start);
        }
        let st = accepting.st.or(accepting.st_spad);
        if st.is_some_and(|id| loops[id].advances_acc()) {
            toggle(&mut self.st_c_addr_start);
        }
        for (part, id) in PARTS.into_iter().zip([accepting.a, accepting.b, accepting.d, accepting.ex, st]) {
            if let Some(id) = id {
                loops[id].flags.start(part as usize);
            }
        }
    }

    /// The parts that are idle, one bit each.
    fn units_idle_bits(&self) -> u32 {
        let loads = [self.ld_a.idle(), self.ld_b.idle(), self.ld_d.idle()];
        let others = [self.ex.idle(), self.st.idle(), self.st_spad.idle()];
        loads.into_iter().chain(others).fold(0, |bits, idle| bits << 1 | u32::from(idle))
    }

    /// What this cycle is spent on, given `out.ready`.
    pub fn activity(&self, out_ready: bool) -> UnrollerActivity {
        use UnrollerActivity::{Busy, Idle, Stalled};
        let transfer = self.transfer(out_ready);
        if !self.busy() {
            Idle
        } else if transfer.pop || transfer.out.is_some() {
            Busy
        } else if !self.loop_configured() || self.grant().is_some() {
            Stalled(UnrollerStall::Output)
        } else {
            Stalled(self.stall())
        }
    }

    fn stall(&self) -> UnrollerStall {
        let active = [
            (Unit::St, self.st.idle() && self.st_spad.idle()),
            (Unit::Ex, self.ex.idle()),
            (Unit::Ld, self.ld_a.idle() && self.ld_b.idle() && self.ld_d.idle()),
        ];
        let mut active = active.into_iter().filter(|(_, idle)| !idle).map(|(unit, _)| unit).peekable();
        if active.peek().is_none() {
            return UnrollerStall::Turnover;
        }
        match active.find(|&unit| !self.in_flight.has_room(unit)) {
            Some(unit) => UnrollerStall::InFlight(unit),
            None => UnrollerStall::OtherPart,
        }
    }

    /// What the unroller waits for, if it is not idle.
    pub fn waiting_for(&self) -> Option<String> {
        if !self.busy() {
            return None;
        }
        if !self.loop_configured() {
            return Some("room in the unrolled command queue".to_owned());
        }
        let slot = &self.loops[self.head];
        if !slot.flags.running {
            return Some("a part of the loop that is not skipped: all five skip bits are set".to_owned());
        }
        let missing = |part: &Part| !slot.flags.completed.has(*part as usize);
        let parts: Vec<_> = PARTS.iter().filter(|part| missing(part)).map(|part| format!("{part:?}")).collect();
        Some(format!("the loop's parts {} to be emitted; {}", parts.join(", "), self.in_flight.describe()))
    }
}

/// The loops whose requests the parts accept in one cycle.
#[derive(Clone, Copy, Debug, Default)]
struct Accepting {
    a: Option<LoopId>,
    b: Option<LoopId>,
    d: Option<LoopId>,
    ex: Option<LoopId>,
    st: Option<LoopId>,
    st_spad: Option<LoopId>,
}

impl Accepting {
    /// No part accepts one.
    #[inline]
    fn is_empty(&self) -> bool {
        let Self { a, b, d, ex, st, st_spad } = self;
        [a, b, d, ex, st, st_spad].iter().all(|id| id.is_none())
    }
}
