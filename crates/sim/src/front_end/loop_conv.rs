//! The convolution unroller (`LoopConv.scala`): turns one LOOP_CONV_WS into the moves, preloads, computes and stores of a
//! convolution, with its pooling if asked for.
//!
//! Two loops can be configured; the second is filled while the first runs. Each loop is worked on by five parts: the loads
//! of bias, input and weights, the execute part and the store part. The execute part starts when its loads have all been
//! emitted, the store part when the execute part's commands have been. Each part feeds a pipeline of two registers; one
//! command leaves in each cycle.
//!
//! | port | direction | valid | accepted |
//! |---|---|---|---|
//! | in | in | head of the raw queue | input queue of 2, registered both ways |
//! | out | out | from registers: an unrolled command while a loop is configured, else the head of the input queue if it is no loop command | when the matmul unroller's queue is not full |
//! | completed | in | departures of this unroller's commands from the reservation station | always |
//!
//! A loop command needs one cycle at the head of the input queue; its effect is visible in the next. A part accepts its
//! request when it is idle and its pipeline empty; its first item enters the pipeline one cycle later and is offered to the
//! arbiter two cycles after that.

mod settings;
mod request;
mod loop_state;
mod load;
mod load_bias;
mod load_input;
mod load_weights;
mod execute;
mod store;

#[cfg(test)]
mod tests;

use pollux_isa::table::Class;
use pollux_isa::{GemminiConfig, RoccCommand, funct};

use crate::front_end::geometry::{Geometry, mask};
use crate::front_end::loop_conv::execute::{Execute, ExecuteState};
use crate::front_end::loop_conv::load::LoadState;
use crate::front_end::loop_conv::load_bias::LoadBias;
use crate::front_end::loop_conv::load_input::LoadInput;
use crate::front_end::loop_conv::load_weights::LoadWeights;
use crate::front_end::loop_conv::loop_state::{LOADS, LoopState, PARTS, PRIORITIES, Part};
use crate::front_end::loop_conv::request::{KernelPosition, OutputPosition, Request};
use crate::front_end::loop_conv::store::{Store, StoreState};
use crate::front_end::unroller::{InFlight, LOOPS, LoopFlags, LoopId, UnrollerActivity, UnrollerStall};
use crate::observation::event::Origin;
use crate::observation::view::{LoopView, UnrollerView};
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::pipeline::Pipeline;
use crate::parts::queue::Queue;
use crate::parts::wires::{GemminiCmd, PerUnit};

/// Registers between a part and the arbiter (`latency`).
const LATENCY: u32 = 2;

/// What moves through the unroller in this cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoopConvTransfer {
    /// The command handed to the matmul unroller.
    pub out: Option<GemminiCmd>,
    /// The head of the input queue leaves (to the output, or into a loop's configuration).
    pop: bool,
    /// The part whose pipeline output leaves.
    granted: Option<Part>,
    /// The parts whose pipeline output would be taken if it were valid (`out.ready` of each pipeline).
    ready: [bool; 5],
}

/// The unroller; see the module.
#[derive(Clone, Debug)]
pub struct LoopConv {
    config: GemminiConfig,
    geometry: Geometry,
    input: Queue<GemminiCmd>,
    loops: [LoopState; LOOPS],
    head: LoopId,
    ld_bias: LoadBias,
    ld_input: LoadInput,
    ld_weights: LoadWeights,
    ex: Execute,
    st: Store,
    pipelines: [Pipeline<RoccCommand>; 5],
    in_flight: InFlight,
    /// Accumulator half that the next bias, execute and store part uses.
    acc_starts: [u32; 5],
}

fn is_loop_cmd(cmd: &RoccCommand) -> bool {
    cmd.class() == Some(Class::LoopConv)
}

fn is_of_loops(funct: u8) -> bool {
    is_loop_cmd(&RoccCommand { funct, rs1: 0, rs2: 0 })
}

/// As that of [`super::loop_matmul::LoopMatmul`].
impl Canonical for LoopConv {
    fn canonical(&self, canon: &mut Canon) {
        let Self { config: _, geometry: _, input, loops, head, ld_bias, ld_input, ld_weights, ex, st, .. } = self;
        let Self { pipelines, in_flight, acc_starts, .. } = self;
        input.canonical(canon);
        let rests = self.rests() && !canon.loops_ahead().queued.iter().any(|&funct| is_of_loops(funct));
        canon.set_aside(1, rests, |canon| {
            for (id, slot) in loops.iter().enumerate() {
                let overwritten = match slot.flags.configured {
                    true => 0,
                    false => canon.loops_ahead().overwrites(funct::LOOP_CONV_WS, id == self.being_configured()),
                };
                slot.canonical_but(overwritten, canon);
            }
            head.canonical(canon);
            ld_bias.canonical(canon);
            ld_input.canonical(canon);
            ld_weights.canonical(canon);
            ex.canonical(canon);
            st.canonical(canon);
            pipelines.canonical(canon);
            in_flight.canonical(canon);
            acc_starts.canonical(canon);
        });
    }
}

impl LoopConv {
    /// The block of weights that the execute part stands at.
    #[inline]
    pub(crate) fn weight_block(&self) -> [u16; 4] {
        let KernelPosition { krow, kcol, kch, och } = self.ex.kernel;
        [krow, kcol, kch, och]
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
        let part = |(part, name): (Part, &'static str)| {
            let works = !self.state_idle(part) && self.loop_id(part) == id;
            flags.part(part as usize, name, if works { self.counters(part) } else { Vec::new() })
        };
        let names = ["load bias", "load input", "load weights", "execute", "store"];
        LoopView { parent: flags.number, parts: PARTS.into_iter().zip(names).map(part).collect() }
    }

    fn counters(&self, part: Part) -> Vec<(&'static str, i32)> {
        let output = |at: &OutputPosition| {
            vec![("b", at.b.into()), ("orow", at.orow.into()), ("ocol", at.ocol.into()), ("och", at.och.into())]
        };
        let kernel = |at: &KernelPosition| {
            vec![("krow", at.krow.into()), ("kcol", at.kcol.into()), ("kch", at.kch.into()), ("och", at.och.into())]
        };
        match part {
            Part::Bias => output(&self.ld_bias.at),
            Part::St => output(&self.st.at),
            Part::Weights => kernel(&self.ld_weights.at),
            Part::Input => {
                let LoadInput { b, irow, icol, ich, .. } = self.ld_input;
                vec![("b", b.into()), ("irow", irow.into()), ("icol", icol.into()), ("ich", ich.into())]
            }
            Part::Ex => {
                let Execute { b, orow, ocol, kernel: at, .. } = &self.ex;
                let mut counters = vec![("b", (*b).into()), ("orow", (*orow).into()), ("ocol", (*ocol).into())];
                counters.extend(kernel(at));
                counters
            }
        }
    }

    /// The unroller after reset.
    pub fn new(config: &GemminiConfig) -> Self {
        let geometry = Geometry::new(config);
        let req = Request::new(config, geometry.dim);
        let (state, at) = (LoadState::Idle, OutputPosition::default());
        let kernel = KernelPosition::default();
        Self {
            loops: std::array::from_fn(|id| LoopState::new(id, config, &geometry)),
            input: Queue::plain(2),
            head: 0,
            ld_bias: LoadBias { state, req, at },
            ld_input: LoadInput { state, req, b: 0, irow: 0, icol: 0, ich: 0 },
            ld_weights: LoadWeights { state, req, at: kernel },
            ex: Execute { state: ExecuteState::Idle, req, kernel, b: 0, orow: 0, ocol: 0, new_weights: false },
            st: Store { state: StoreState::Idle, req, at },
            pipelines: std::array::from_fn(|_| Pipeline::new(LATENCY)),
            in_flight: InFlight::new(config),
            acc_starts: [0; 5],
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

    fn state_idle(&self, part: Part) -> bool {
        match part {
            Part::Bias => self.ld_bias.state == LoadState::Idle,
            Part::Input => self.ld_input.state == LoadState::Idle,
            Part::Weights => self.ld_weights.state == LoadState::Idle,
            Part::Ex => self.ex.state == ExecuteState::Idle,
            Part::St => self.st.state == StoreState::Idle,
        }
    }

    /// `io.idle` of a part.
    fn idle(&self, part: Part) -> bool {
        self.state_idle(part) && self.pipelines[part as usize].is_empty()
    }

    fn req(&self, part: Part) -> &Request {
        match part {
            Part::Bias => &self.ld_bias.req,
            Part::Input => &self.ld_input.req,
            Part::Weights => &self.ld_weights.req,
            Part::Ex => &self.ex.req,
            Part::St => &self.st.req,
        }
    }

    fn loop_id(&self, part: Part) -> LoopId {
        self.req(part).loop_id
    }

    /// What moves in this cycle, given `out.ready`.
    pub(crate) fn transfer(&self, out_ready: bool) -> LoopConvTransfer {
        let head = self.input.front();
        let loop_cmd = head.is_some_and(|cmd| is_loop_cmd(&cmd.cmd));
        let mut transfer = LoopConvTransfer {
            pop: loop_cmd && !self.loops[self.being_configured()].flags.configured,
            ..LoopConvTransfer::default()
        };
        if self.loop_configured() {
            self.arbitrate(out_ready, &mut transfer);
            transfer.out = transfer.granted.and_then(|part| {
                let cmd = *self.pipelines[part as usize].out()?;
                // A part takes no other loop before its pipeline is empty.
                let number = self.loops[self.loop_id(part)].flags.number;
                Some(GemminiCmd { cmd, rd: 0, origin: Origin::Conv, number })
            });
        } else if out_ready && !loop_cmd {
            transfer.out = head.copied();
            transfer.pop = head.is_some();
        }
        transfer
    }

    fn arbitrate(&self, out_ready: bool, transfer: &mut LoopConvTransfer) {
        let mut free = out_ready;
        for part in PRIORITIES {
            let has_room = self.in_flight.has_room(part.unit());
            transfer.ready[part as usize] = free && has_room;
            if free && has_room && self.pipelines[part as usize].out().is_some() {
                transfer.granted = Some(part);
                free = false;
            }
        }
    }

    /// The execute part has accepted a loop whose loads are not all emitted: loads of the other loop wait.
    fn ex_is_waiting_for_loads(&self) -> bool {
        let slot = &self.loops[self.loop_id(Part::Ex)].flags;
        let loads_completed = LOADS.iter().all(|&part| slot.completed.has(part as usize));
        slot.started.has(Part::Ex as usize) && !slot.completed.has(Part::Ex as usize) && !loads_completed
    }

    /// A zero address leaves the part out: it falls back to idle.
    fn suppressed(&self, part: Part) -> bool {
        part != Part::Ex && self.req(part).dram_addr == 0
    }

    /// Whether the part offers an item to its pipeline (`command_p.in.valid`).
    fn offers(&self, part: Part) -> bool {
        let done = |other: Part| self.loop_id(other) != self.loop_id(part) || self.idle(other);
        let may_start = match part {
            Part::Bias | Part::Input | Part::Weights => {
                self.loop_id(part) == self.loop_id(Part::Ex) || !self.ex_is_waiting_for_loads()
            }
            Part::Ex => !self.ex.skips_iteration() && LOADS.into_iter().all(done),
            Part::St => done(Part::Ex),
        };
        !self.state_idle(part) && !self.suppressed(part) && may_start
    }

    /// The loop whose request the part accepts in this cycle.
    fn accepts(&self, part: Part) -> Option<LoopId> {
        let id = if self.loops[self.head].flags.started.has(part as usize) { self.tail() } else { self.head };
        let slot = &self.loops[id].flags;
        let started = |part: &Part| slot.started.has(*part as usize);
        let in_turn = match part {
            Part::Bias | Part::Input | Part::Weights => true,
            Part::Ex => LOADS.iter().all(started),
            Part::St => started(&Part::Ex),
        };
        (slot.configured && !started(&part) && in_turn && self.idle(part)).then_some(id)
    }

    fn request(&self, part: Part, loop_id: LoopId) -> Request {
        let slot = &self.loops[loop_id];
        let row_bits = self.geometry.layout.sp_addr_bits;
        let run = &slot.settings.run;
        Request {
            settings: slot.settings,
            derived: slot.settings.derive(self.geometry.dim),
            dram_addr: slot.dram_addr(part),
            acc_start: self.acc_starts[part as usize],
            a_start: match run.a_spad_id {
                0 => slot.a_addr_start,
                id => self.geometry.spad_half(u32::from(id) - 1) & mask(row_bits) as u32,
            },
            b_end: match run.b_spad_id {
                0 => slot.b_addr_end,
                id => self.geometry.spad_half(id.into()) & mask(row_bits + 1) as u32,
            },
            loop_id,
        }
    }

    /// Clock edge. `input` is a command accepted at the input, `transfer` what [`Self::transfer`] gave for this cycle,
    /// `departed` the departures of this unroller's commands from the station.
    pub(crate) fn tick(
        &mut self,
        input: Option<GemminiCmd>,
        transfer: &LoopConvTransfer,
        departed: PerUnit<u8>,
    ) -> bool {
        let mut progress = transfer.pop || input.is_some() || departed != [0; 3];
        let slot = self.being_configured();
        if self.loop_configured() {
            progress |= self.tick_loops(transfer);
        }
        if transfer.pop {
            self.take_command(slot);
        }
        if let Some(cmd) = input {
            self.input.push(cmd);
        }
        self.in_flight.tick(transfer.granted.map(Part::unit), departed);
        progress
    }

    fn take_command(&mut self, slot: LoopId) {
        if let Some(GemminiCmd { cmd, number, .. }) = self.input.pop()
            && is_loop_cmd(&cmd)
        {
            self.loops[slot].configure(cmd, &self.config);
            self.loops[slot].flags.number = number;
        }
    }

    fn tick_loops(&mut self, transfer: &LoopConvTransfer) -> bool {
        // Worked out from the registers as they are at the start of the cycle.
        let accepting = PARTS.map(|part| self.accepts(part));
        let finished = PARTS.map(|part| self.idle(part));
        let items = PARTS.map(|part| self.item(part, transfer.ready[part as usize]));
        let skips_iteration = self.ex.skips_iteration();
        let release = self.loops[self.head].flags.all_completed();

        let mut progress = transfer.granted.is_some() || skips_iteration || release;
        for part in PARTS {
            let (item, ready) = (items[part as usize], transfer.ready[part as usize]);
            let pipeline = &mut self.pipelines[part as usize];
            progress |= item.is_some() || pipeline.moves(ready);
            pipeline.tick(item, ready);
            progress |= self.advance(part, item.is_some(), skips_iteration);
        }
        for part in PARTS {
            if finished[part as usize] {
                let id = self.loop_id(part);
                progress |= self.loops[id].flags.finish(part as usize);
            }
        }
        for (part, id) in PARTS.into_iter().zip(accepting) {
            if let Some(id) = id {
                progress = true;
                self.accept(part, self.request(part, id));
            }
        }
        if release {
            self.loops[self.head].flags = LoopFlags::default();
            self.head = self.tail();
        }
        progress
    }

    /// The command that enters the part's pipeline in this cycle.
    fn item(&self, part: Part, out_ready: bool) -> Option<RoccCommand> {
        if !self.offers(part) || !self.pipelines[part as usize].in_ready(out_ready) {
            return None;
        }
        Some(match part {
            Part::Bias => self.ld_bias.command(&self.geometry),
            Part::Input => self.ld_input.command(&self.geometry),
            Part::Weights => self.ld_weights.command(&self.geometry),
            Part::Ex => self.ex.command(&self.geometry),
            Part::St => self.st.command(&self.geometry),
        })
    }

    /// Clocks a part's state; true if a suppressed part falls back to idle.
    fn advance(&mut self, part: Part, fire: bool, skips_iteration: bool) -> bool {
        let geometry = &self.geometry;
        let falls_idle = self.suppressed(part) && !self.state_idle(part);
        match part {
            Part::Bias if falls_idle => self.ld_bias.state = LoadState::Idle,
            Part::Input if falls_idle => self.ld_input.state = LoadState::Idle,
            Part::Weights if falls_idle => self.ld_weights.state = LoadState::Idle,
            Part::St if falls_idle => self.st.state = StoreState::Idle,
            Part::Bias if fire => self.ld_bias.advance(geometry),
            Part::Input if fire => self.ld_input.advance(geometry),
            Part::Weights if fire => self.ld_weights.advance(geometry),
            Part::Ex if fire || skips_iteration => self.ex.advance(geometry, skips_iteration),
            Part::St if fire => self.st.advance(geometry),
            _ => {}
        }
        falls_idle
    }

    fn accept(&mut self, part: Part, req: Request) {
        let slot = &mut self.loops[req.loop_id];
        slot.flags.start(part as usize);
        // Bias, execute and store part move from one accumulator half to the other, each for itself.
        if slot.c5.output != 0 {
            let start = &mut self.acc_starts[part as usize];
            *start = self.geometry.toggle_acc_half(*start);
        }
        let (state, at) = (LoadState::Config, OutputPosition::default());
        let run = req.settings.run;
        match part {
            Part::Bias => self.ld_bias = LoadBias { state, req, at },
            Part::Input => {
                let start = |pad: u16| (req.settings.undilated(pad.into()) as i32).wrapping_neg() as i16;
                let (irow, icol) = (start(req.settings.c3.upad), start(req.settings.c3.lpad));
                self.ld_input = LoadInput { state, req, b: 0, irow, icol, ich: 0 };
            }
            Part::Weights => self.ld_weights = LoadWeights { state, req, at: KernelPosition::default() },
            Part::Ex => {
                let state = if run.trans_input_3120 { ExecuteState::Config } else { ExecuteState::Preload };
                let kernel = KernelPosition::default();
                self.ex = Execute { state, req, kernel, b: 0, orow: 0, ocol: 0, new_weights: true };
            }
            Part::St => {
                let state = if run.no_pool { StoreState::Store } else { StoreState::PrePoolConfig };
                self.st = Store { state, req, at };
            }
        }
    }

    /// What the unroller waits for, if it is not idle.
    pub fn waiting_for(&self) -> Option<String> {
        if !self.busy() {
            return None;
        }
        if !self.loop_configured() {
            return Some("room in the matmul unroller's queue".to_owned());
        }
        let slot = &self.loops[self.head];
        let missing = |part: &Part| !slot.flags.completed.has(*part as usize);
        let parts: Vec<_> = PARTS.iter().filter(|part| missing(part)).map(|part| format!("{part:?}")).collect();
        Some(format!("the loop's parts {} to be emitted; {}", parts.join(", "), self.in_flight.describe()))
    }

    /// What this cycle is spent on, given `out.ready`.
    pub fn activity(&self, out_ready: bool) -> UnrollerActivity {
        use UnrollerActivity::{Busy, Idle, Stalled};
        let transfer = self.transfer(out_ready);
        if !self.busy() {
            Idle
        } else if transfer.pop || transfer.out.is_some() {
            Busy
        } else if !self.loop_configured() || self.transfer(true).out.is_some() {
            Stalled(UnrollerStall::Output)
        } else {
            Stalled(self.stall())
        }
    }

    fn stall(&self) -> UnrollerStall {
        let mut active = PRIORITIES.into_iter().filter(|&part| !self.idle(part)).peekable();
        if active.peek().is_none() {
            return UnrollerStall::Turnover;
        }
        match active.find(|part| !self.in_flight.has_room(part.unit())) {
            Some(part) => UnrollerStall::InFlight(part.unit()),
            None => UnrollerStall::OtherPart,
        }
    }
}
