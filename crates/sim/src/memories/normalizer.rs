//! Row statistics for LayerNorm and softmax (`Normalizer.scala`), between the accumulator banks and the scale unit.
//!
//! A build without `has_normalizations` has a two-entry queue here instead. With them there are two statistics entries; each
//! holds the row accepted last, its running registers and a state. Rows with command RESET go on to the scale unit, all others end here.
//! If both entries hold such a row, that of entry 0 leaves first even if that of entry 1 came before (`out_stats_id`): it overtakes.
//!
//! Units, shared by the entries, the lowest entry first:
//!
//! | unit                        | cycles from start to result | register behind it                              |
//! |-----------------------------|-----------------------------|-------------------------------------------------|
//! | sum tree, maximum tree      | 4                           | four-stage pipelines                            |
//! | sum / count                 | 18, special operands 1      | `DivSqrtRecFN_small`, 32-bit significand, 2 bits a cycle |
//! | square root                 | 17                          | `IntSqrt`, 2 bits of the operand a cycle        |
//! | 1 / deviation, 127 / sum    | 14, special operands 1      | `DivSqrtRecFN_small`, 24-bit significand        |
//! | inverse * scale             | 2                           | two-stage pipelines                             |
//!
//! Commands, for a row accepted in t ("done" is the first cycle in which the entry accepts another row, nothing else active):
//!
//! | command                  | course                                                                                 |
//! |--------------------------|----------------------------------------------------------------------------------------|
//! | RESET                    | at the output in t+1; done when it leaves                                              |
//! | SUM, VARIANCE, SUM_EXP   | tree input t+1 (not while the maximum tree is busy); done in the same cycle            |
//! | MAX                      | tree input t+1; done in t+2                                                            |
//! | MEAN                     | tree input t+1, divider t+6, done t+24                                                 |
//! | INV_STDDEV               | tree t+1, divider t+6, root t+25, reciprocal t+43, scale t+58, done t+60               |
//! | INV_SUM_EXP              | tree t+1, divider t+6, scale t+21, done t+23                                           |
//!
//! | port | dir | shape | valid when | back pressure |
//! |---|---|---|---|---|
//! | `in` | in | DIM x 32 bit, command, statistics entry, length | a row leaves its accumulator bank | [`Normalizer::in_ready`]: the entry is done |
//! | `out` | out | the row and the entry's statistics | an entry holds a row with command RESET | the scale unit's `in_ready` |

use pollux_isa::GemminiConfig;
use pollux_isa::config::NORM_STAT_IDS;
use pollux_isa::values::{Activation, NormCmd};
use pollux_numerics::normalizer::{self, MUL_PIPE_CYCLES, STDDEV_CYCLES};
use pollux_numerics::{IexpConstants, IexpVariant, Statistics};

use crate::memories::accumulator_mem::{AccumulatorReadResp, ReadoutRequest, iexp_variant};
use crate::observation::event::Port;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::pipeline::Pipeline;
use crate::parts::queue::Queue;
use crate::parts::row::AccLanes;
use crate::parts::values::{Full, Values};

/// Depth of the queue that replaces the unit in builds without normalizations.
const PASSTHROUGH_DEPTH: usize = 2;

/// Stages of the sum tree and of the maximum tree (`latency` in `Scratchpad.scala`).
const LANE_STAGES: u32 = 4;

const STATS: usize = NORM_STAT_IDS as usize;

/// A row for the unit.
#[derive(Clone, Copy, Debug)]
pub struct NormalizedInput<'a, V: Values = Full> {
    /// The row and how to read it out.
    pub resp: &'a AccumulatorReadResp<V>,
    /// Valid elements.
    pub len: u32,
    /// Statistics entry.
    pub stats_id: usize,
    /// What to do with the row.
    pub cmd: NormCmd,
}

/// A row for the scale unit, with the statistics of its entry.
#[derive(Clone, Copy, Debug)]
pub struct NormalizedOutput<'a, V: Values = Full> {
    /// The row and how to read it out.
    pub resp: &'a AccumulatorReadResp<V>,
    /// The registers of its entry.
    pub statistics: V::Of<Statistics>,
}

/// State of a statistics entry, in the hardware's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Canonical)]
enum State {
    Idle,
    Output,
    GetSum,
    GetMean,
    WaitingForMean,
    GetVariance,
    WaitingForVariance,
    GetStddev,
    WaitingForStddev,
    GetInvStddev,
    WaitingForInvStddev,
    GetScaledInvStddev,
    WaitingForScaledInvStddev,
    GetMax,
    GetInvSumExp,
    WaitingForInvSumExp,
    GetScaledInvSumExp,
    WaitingForScaledInvSumExp,
}

/// One statistics entry.
#[derive(Clone, Debug, Canonical)]
struct Stats<V: Values> {
    /// The row accepted last.
    #[canon(valid_if = works)]
    resp: AccumulatorReadResp<V>,
    #[canon(valid_if = works)]
    cmd: NormCmd,
    state: State,
    #[canon(skip = "values")]
    registers: V::Of<Statistics>,
    #[canon(valid_if = works)]
    elems_left: u32,
    /// Ordinal of the division that the row makes, if it makes one.
    #[canon(skip = "a number for the oracle")]
    division: u64,
}

impl<V: Values> Stats<V> {
    fn works(&self) -> bool {
        self.state != State::Idle
    }

    fn new() -> Self {
        let constants = IexpConstants::default();
        let readout = ReadoutRequest { activation: Activation::None, scale: 0, constants, port: Port::Dma };
        Self {
            resp: AccumulatorReadResp { data: AccLanes::default(), readout },
            cmd: NormCmd::Reset,
            state: State::Idle,
            registers: V::Of::default(),
            elems_left: 0,
            division: 0,
        }
    }

    /// Takes a row. Its state is set with those of the other entries.
    fn accept(&mut self, input: &NormalizedInput<V>, division: u64) {
        let len = input.len;
        V::set(&mut self.registers, |registers, _| registers.count = registers.count.wrapping_add(len as u16));
        (self.elems_left, self.division) = (len, division);
        self.resp = *input.resp;
        self.cmd = input.cmd;
    }

    /// Clears the running registers, in the cycle in which a row of `entering` elements may be accepted.
    fn clear_running(&mut self, entering: Option<u32>) {
        V::set(&mut self.registers, |registers, _| {
            registers.sum = 0;
            registers.count = entering.unwrap_or(0) as u16;
            registers.running_max = i32::MIN;
        });
    }

    /// A result goes into a register.
    fn take(&mut self, result: Option<V::Of<u32>>, register: impl Fn(&mut Statistics, u32)) {
        if let Some(result) = result {
            V::set(&mut self.registers, |registers, sight| register(registers, V::get(&result, sight)));
        }
    }

    /// No row may enter: the trees must first be empty for this entry (`waiting_for_lanes_to_drain`).
    fn waits_for_lanes(&self) -> bool {
        match self.cmd {
            NormCmd::Mean => matches!(self.state, State::GetSum | State::GetMean),
            NormCmd::InvStddev => matches!(self.state, State::GetSum | State::GetVariance),
            NormCmd::Max => self.state == State::GetMax,
            NormCmd::InvSumExp => self.state == State::GetSum,
            _ => false,
        }
    }
}

/// An iterative unit: busy for a known number of cycles, then its result is valid.
#[derive(Clone, Copy, Debug, Default)]
struct Iterative<V: Values> {
    /// Result and cycles until it is valid; 0 means now.
    running: Option<(V::Of<u32>, u32)>,
}

/// How long the unit is still busy.
impl<V: Values> Canonical for Iterative<V> {
    fn canonical(&self, canon: &mut Canon) {
        self.running.map(|(_, left)| left).canonical(canon);
    }
}

impl<V: Values> Iterative<V> {
    fn result(&self) -> Option<V::Of<u32>> {
        self.running.and_then(|(result, left)| (left == 0).then_some(result))
    }

    fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// Clock edge: counts down, drops a result that was valid, starts.
    fn tick(&mut self, start: Option<(V::Of<u32>, u32)>) {
        self.running = match self.running {
            Some((result, left)) if left > 0 => Some((result, left - 1)),
            _ => None,
        };
        if let Some((result, cycles)) = start {
            debug_assert!(self.running.is_none() && cycles > 0, "a busy unit was started");
            self.running = Some((result, cycles - 1));
        }
    }
}

/// A multiplier and the pipeline behind it (`MulPipe`), whose registers keep what they hold after it has left: an entry that
/// waits copies the output register in every cycle, whether it is valid or not.
#[derive(Clone, Copy, Debug, Default, Canonical)]
struct MulPipe<V: Values> {
    #[canon(skip = "values")]
    stages: [V::Of<u32>; MUL_PIPE_CYCLES as usize],
    /// The stage holds a product that has not left; the last one is the output.
    valids: [bool; MUL_PIPE_CYCLES as usize],
}

impl<V: Values> MulPipe<V> {
    fn out_valid(&self) -> bool {
        self.valids[1]
    }

    fn out_bits(&self) -> V::Of<u32> {
        self.stages[1]
    }

    fn in_ready(&self, out_ready: bool) -> bool {
        out_ready || !(self.valids[0] && self.valids[1])
    }

    /// True if the next edge without an input changes a valid product's place.
    fn moves(&self, out_ready: bool) -> bool {
        self.valids.contains(&true) && (out_ready || !self.valids[1])
    }

    /// Clock edge: an accepted product enters; the output leaves iff `out_ready`.
    fn tick(&mut self, input: Option<V::Of<u32>>, out_ready: bool) {
        debug_assert!(input.is_none() || self.in_ready(out_ready), "input accepted by a stalled pipeline");
        if out_ready || !self.valids[1] {
            self.stages[1] = self.stages[0];
            self.valids = [false, self.valids[0]];
        }
        if let Some(product) = input {
            self.stages[0] = product;
            self.valids[0] = true;
        }
    }
}

/// Which entry uses which unit in this cycle.
#[derive(Clone, Copy, Debug, Default)]
struct UnitFires {
    sum: Option<usize>,
    max: Option<usize>,
    divide: Option<usize>,
    sqrt: Option<usize>,
    reciprocal: Option<usize>,
    scale_inv_stddev: Option<usize>,
    divide_sum_exp: Option<usize>,
    scale_inv_sum_exp: Option<usize>,
}

/// The entries that the elements of a pipeline belong to.
fn entries<T>(pipeline: &Pipeline<(T, usize)>, canon: &mut Canon) {
    pipeline.canonical_by(canon, |(_, entry), canon| entry.canonical(canon));
}

/// The unit proper, of a build with `has_normalizations`.
#[derive(Clone, Debug, Canonical)]
struct Unit<V: Values> {
    stats: [Stats<V>; STATS],
    /// Sum and entry.
    #[canon(via = entries)]
    lanes: Pipeline<(V::Of<i32>, usize)>,
    /// Maximum and entry.
    #[canon(via = entries)]
    max_lanes: Pipeline<(V::Of<i32>, usize)>,
    divider: Iterative<V>,
    sqrt: Iterative<V>,
    reciprocal: Iterative<V>,
    inv_stddev_mul: MulPipe<V>,
    exp_divider: Iterative<V>,
    inv_sum_exp_mul: MulPipe<V>,
    #[canon(skip = "constant")]
    variant: IexpVariant,
    /// Rows so far that make a division: ordinal of the next one.
    #[canon(skip = "a total")]
    divisions: u64,
    /// Which of the divisions have a zero operand, if there are no values that tell.
    #[canon(skip = "replay is left where there are any")]
    zero_divisors: V::Oracle,
}

/// The normalizer, or the queue in its place.
#[derive(Clone, Debug, Canonical)]
pub struct Normalizer<V: Values = Full> {
    inner: Inner<V>,
}

#[derive(Clone, Debug, Canonical)]
enum Inner<V: Values> {
    Passthrough(Queue<AccumulatorReadResp<V>>),
    Unit(Box<Unit<V>>),
}

impl<V: Values> Normalizer<V> {
    /// The unit of a configuration, idle.
    pub fn new(config: &GemminiConfig) -> Self {
        let inner = if config.has_normalizations {
            Inner::Unit(Box::new(Unit::new(iexp_variant(config))))
        } else {
            Inner::Passthrough(Queue::plain(PASSTHROUGH_DEPTH))
        };
        Self { inner }
    }

    /// The oracle for what timing has to know about values.
    pub fn set_oracle(&mut self, zero_divisors: V::Oracle) {
        if let Inner::Unit(unit) = &mut self.inner {
            unit.zero_divisors = zero_divisors;
        }
    }

    /// Divisions so far of the rows that were accepted.
    pub fn divisions(&self) -> u64 {
        match &self.inner {
            Inner::Passthrough(_) => 0,
            Inner::Unit(unit) => unit.divisions,
        }
    }

    /// Sets that number, after divisions that were made without it.
    pub(crate) fn set_divisions(&mut self, divisions: u64) {
        if let Inner::Unit(unit) = &mut self.inner {
            unit.divisions = divisions;
        }
    }

    /// True if nothing is inside or under way.
    #[inline]
    pub fn is_idle(&self) -> bool {
        match &self.inner {
            Inner::Passthrough(queue) => queue.is_empty(),
            Inner::Unit(unit) => unit.is_idle(),
        }
    }

    /// `in.ready` for entry `stats_id`, given whether the output is taken.
    #[inline]
    pub fn in_ready(&self, stats_id: usize, out_taken: bool) -> bool {
        match &self.inner {
            Inner::Passthrough(queue) => queue.enq_ready(false),
            Inner::Unit(unit) => unit.in_ready(stats_id % STATS, out_taken),
        }
    }

    /// The row at the output.
    #[inline]
    pub fn out(&self) -> Option<NormalizedOutput<'_, V>> {
        match &self.inner {
            Inner::Passthrough(queue) => {
                queue.front().map(|resp| NormalizedOutput { resp, statistics: V::Of::default() })
            }
            Inner::Unit(unit) => unit.out(),
        }
    }

    /// True if a row that is accepted will leave before one that is here and does not leave now.
    pub fn overtakes(&self, input: &NormalizedInput<V>, out_taken: bool) -> bool {
        let Inner::Unit(unit) = &self.inner else { return false };
        let stays = |id: usize| unit.stats[id].state == State::Output && !(out_taken && unit.out_entry() == Some(id));
        input.cmd == NormCmd::Reset && (input.stats_id % STATS + 1..STATS).any(stays)
    }

    /// Clock edge: `input` was accepted, the output leaves iff `out_taken`. `port_constants` are the constants of the exponential
    /// at the input port in this cycle, valid or not: the sum tree takes them from there and not from its row.
    /// Returns true if anything changed.
    #[must_use]
    pub fn tick(&mut self, input: Option<NormalizedInput<V>>, out_taken: bool, port_constants: &IexpConstants) -> bool {
        match &mut self.inner {
            Inner::Passthrough(queue) => {
                if out_taken {
                    queue.pop();
                }
                let accepted = input.is_some();
                if let Some(input) = input {
                    queue.push(*input.resp);
                }
                accepted || out_taken
            }
            Inner::Unit(unit) => {
                if input.is_none() && unit.is_idle() {
                    return false;
                }
                unit.tick(input, out_taken, port_constants)
            }
        }
    }

    /// What the unit waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        let what = match &self.inner {
            Inner::Passthrough(queue) => (!queue.is_empty()).then_some("the scale unit")?,
            Inner::Unit(unit) if unit.out_entry().is_some() => "the scale unit",
            Inner::Unit(_) => return None,
        };
        Some(format!("Normalizer: a row waits for {what}"))
    }
}

impl<V: Values> Unit<V> {
    fn new(variant: IexpVariant) -> Self {
        Self {
            stats: std::array::from_fn(|_| Stats::new()),
            lanes: Pipeline::new(LANE_STAGES),
            max_lanes: Pipeline::new(LANE_STAGES),
            divider: Iterative::default(),
            sqrt: Iterative::default(),
            reciprocal: Iterative::default(),
            inv_stddev_mul: MulPipe::default(),
            exp_divider: Iterative::default(),
            inv_sum_exp_mul: MulPipe::default(),
            variant,
            divisions: 0,
            zero_divisors: V::Oracle::default(),
        }
    }

    /// Every unit but the trees works for an entry that is not idle.
    fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.max_lanes.is_empty() && self.stats.iter().all(|stat| stat.state == State::Idle)
    }

    /// No unit works: rows at most wait at the output.
    fn is_quiet(&self) -> bool {
        let waiting = |stat: &Stats<V>| matches!(stat.state, State::Idle | State::Output);
        self.lanes.is_empty() && self.max_lanes.is_empty() && self.stats.iter().all(waiting)
    }

    /// Lowest entry in this state.
    fn entry_in(&self, state: State) -> Option<usize> {
        self.stats.iter().position(|stat| stat.state == state)
    }

    fn out_entry(&self) -> Option<usize> {
        self.entry_in(State::Output)
    }

    fn out(&self) -> Option<NormalizedOutput<'_, V>> {
        let Stats { resp, registers, .. } = &self.stats[self.out_entry()?];
        Some(NormalizedOutput { resp, statistics: *registers })
    }

    fn in_ready(&self, id: usize, out_taken: bool) -> bool {
        if self.is_quiet() {
            return self.stats[id].state == State::Idle || (out_taken && self.out_entry() == Some(id));
        }
        if self.stats.iter().any(Stats::waits_for_lanes) {
            return false;
        }
        self.stats[id].state == State::Idle || self.is_done(id, &self.unit_fires(), out_taken)
    }

    /// The units' `fire` signals.
    fn unit_fires(&self) -> UnitFires {
        let max = self.entry_in(State::GetMax).filter(|&id| self.stats[id].elems_left > 0);
        let max_busy = max.is_some() || !self.max_lanes.is_empty();
        let sum = self.entry_in(State::GetSum).filter(|&id| self.stats[id].elems_left > 0 && !max_busy);
        let lanes_busy = sum.is_some() || !self.lanes.is_empty();
        let dividing = |stat: &Stats<V>| matches!(stat.state, State::GetMean | State::GetVariance);
        let ready = |unit: &Iterative<V>| unit.is_idle() || unit.result().is_some();
        let waits = |state| self.entry_in(state).is_some();
        let mul_ready = |pipe: &MulPipe<V>, waiting| pipe.in_ready(waits(waiting));
        UnitFires {
            sum,
            max,
            divide: self.stats.iter().position(dividing).filter(|_| !lanes_busy && ready(&self.divider)),
            // Unlike the dividers, IntSqrt is busy while it shows its result.
            sqrt: self.entry_in(State::GetStddev).filter(|_| self.sqrt.is_idle()),
            reciprocal: self.entry_in(State::GetInvStddev).filter(|_| ready(&self.reciprocal)),
            scale_inv_stddev: self
                .entry_in(State::GetScaledInvStddev)
                .filter(|_| mul_ready(&self.inv_stddev_mul, State::WaitingForScaledInvStddev)),
            divide_sum_exp: self.entry_in(State::GetInvSumExp).filter(|_| !lanes_busy && ready(&self.exp_divider)),
            scale_inv_sum_exp: self
                .entry_in(State::GetScaledInvSumExp)
                .filter(|_| mul_ready(&self.inv_sum_exp_mul, State::WaitingForScaledInvSumExp)),
        }
    }

    /// The row's only group of lanes goes into its tree in this cycle, or there is none.
    fn is_last_lane_input(&self, id: usize, fire: Option<usize>) -> bool {
        self.stats[id].elems_left == 0 || fire == Some(id)
    }

    /// The entry finishes in this cycle, so that it can take another row (`done_with_functional_units`).
    fn is_done(&self, id: usize, fires: &UnitFires, out_taken: bool) -> bool {
        let stat = &self.stats[id];
        match stat.state {
            State::Output => out_taken && self.out_entry() == Some(id),
            State::GetMax => self.is_last_lane_input(id, fires.max) && stat.cmd == NormCmd::Max,
            State::GetSum => {
                let ends = matches!(stat.cmd, NormCmd::Sum | NormCmd::Variance | NormCmd::SumExp);
                self.is_last_lane_input(id, fires.sum) && ends
            }
            State::WaitingForMean => self.divider.result().is_some(),
            State::WaitingForScaledInvStddev => self.inv_stddev_mul.out_valid(),
            State::WaitingForScaledInvSumExp => self.inv_sum_exp_mul.out_valid(),
            _ => false,
        }
    }

    /// The state after this cycle, unless a row enters.
    fn next_state(&self, id: usize, fires: &UnitFires, out_taken: bool) -> State {
        let stat = &self.stats[id];
        let started = |fire: Option<usize>, next| if fire == Some(id) { next } else { stat.state };
        let finished = |result: bool, next| if result { next } else { stat.state };
        if self.is_done(id, fires, out_taken) {
            return State::Idle;
        }
        match stat.state {
            State::Idle => State::Idle,
            State::Output | State::GetMax | State::WaitingForMean => stat.state,
            State::GetSum if self.is_last_lane_input(id, fires.sum) => match stat.cmd {
                NormCmd::Mean => State::GetMean,
                NormCmd::InvStddev => State::GetVariance,
                _ => State::GetInvSumExp,
            },
            State::GetSum => State::GetSum,
            State::GetMean => started(fires.divide, State::WaitingForMean),
            State::GetVariance => started(fires.divide, State::WaitingForVariance),
            State::WaitingForVariance => finished(self.divider.result().is_some(), State::GetStddev),
            State::GetStddev => started(fires.sqrt, State::WaitingForStddev),
            State::WaitingForStddev => finished(self.sqrt.result().is_some(), State::GetInvStddev),
            State::GetInvStddev => started(fires.reciprocal, State::WaitingForInvStddev),
            State::WaitingForInvStddev => finished(self.reciprocal.result().is_some(), State::GetScaledInvStddev),
            State::GetScaledInvStddev => started(fires.scale_inv_stddev, State::WaitingForScaledInvStddev),
            State::GetInvSumExp => started(fires.divide_sum_exp, State::WaitingForInvSumExp),
            State::WaitingForInvSumExp => finished(self.exp_divider.result().is_some(), State::GetScaledInvSumExp),
            State::GetScaledInvSumExp => started(fires.scale_inv_sum_exp, State::WaitingForScaledInvSumExp),
            State::WaitingForScaledInvStddev | State::WaitingForScaledInvSumExp => stat.state,
        }
    }

    fn tick(&mut self, input: Option<NormalizedInput<V>>, out_taken: bool, port_constants: &IexpConstants) -> bool {
        if self.is_quiet() && input.as_ref().is_none_or(|input| input.cmd == NormCmd::Reset) {
            return self.tick_rows(input, out_taken);
        }
        let fires = self.unit_fires();
        let mut next: [State; STATS] = std::array::from_fn(|id| self.next_state(id, &fires, out_taken));
        if let Some(input) = &input {
            next[input.stats_id % STATS] = match input.cmd {
                NormCmd::Reset => State::Output,
                NormCmd::Max => State::GetMax,
                _ => State::GetSum,
            };
        }
        self.take_results();
        let moved = self.tick_units(&fires, port_constants);
        let changed = moved || input.is_some() || next != std::array::from_fn(|id| self.stats[id].state);
        if let Some(input) = &input {
            self.stats[input.stats_id % STATS].accept(input, self.divisions);
            self.divisions += u64::from(input.cmd.divides());
        }
        for (id, stat) in self.stats.iter_mut().enumerate() {
            let leaves = |state| stat.state == state && next[id] != state;
            if stat.state == State::Output || leaves(State::GetMean) || leaves(State::GetVariance) {
                let entering = input.as_ref().filter(|input| input.stats_id % STATS == id);
                stat.clear_running(entering.map(|input| input.len));
            }
            stat.state = next[id];
        }
        changed
    }

    /// [`Self::tick`] while no unit works and none starts.
    fn tick_rows(&mut self, input: Option<NormalizedInput<V>>, out_taken: bool) -> bool {
        let leaving = self.out_entry().filter(|_| out_taken);
        for stat in self.stats.iter_mut().filter(|stat| stat.state == State::Output) {
            stat.clear_running(None);
        }
        if let Some(id) = leaving {
            self.stats[id].state = State::Idle;
        }
        if let Some(input) = &input {
            let stat = &mut self.stats[input.stats_id % STATS];
            stat.accept(input, self.divisions);
            stat.state = State::Output;
        }
        out_taken || input.is_some()
    }

    /// Results that are valid in this cycle go into the registers of the entries that wait for them. The
    /// hardware copies the result wires in every waiting cycle; only the last copy is ever used, but for the products: two
    /// entries may wait for one, the lower one copies, and the first valid product ends the waiting of both.
    fn take_results(&mut self) {
        if let Some(&(sum, id)) = self.lanes.out() {
            V::set(&mut self.stats[id].registers, |registers, sight| {
                registers.sum = registers.sum.wrapping_add(V::get(&sum, sight));
            });
        }
        if let Some(&(max, id)) = self.max_lanes.out() {
            V::set(&mut self.stats[id].registers, |registers, sight| {
                registers.running_max = registers.running_max.max(V::get(&max, sight));
                registers.max = registers.running_max;
            });
        }
        for stat in &mut self.stats {
            match stat.state {
                State::WaitingForMean => stat.take(self.divider.result(), |r, mean| r.mean = mean as i32),
                State::WaitingForVariance => stat.take(self.divider.result(), |r, x| r.inv_stddev = x),
                State::WaitingForStddev => stat.take(self.sqrt.result(), |r, x| r.inv_stddev = x),
                State::WaitingForInvStddev => stat.take(self.reciprocal.result(), |r, x| r.inv_stddev = x),
                State::WaitingForInvSumExp => stat.take(self.exp_divider.result(), |r, x| r.inv_sum_exp = x),
                _ => {}
            }
        }
        if let Some(id) = self.entry_in(State::WaitingForScaledInvStddev) {
            self.stats[id].take(Some(self.inv_stddev_mul.out_bits()), |r, x| r.inv_stddev = x);
        }
        if let Some(id) = self.entry_in(State::WaitingForScaledInvSumExp) {
            self.stats[id].take(Some(self.inv_sum_exp_mul.out_bits()), |r, x| r.inv_sum_exp = x);
        }
    }

    /// Clocks the units; true if one of them moved. Operands are the registers before the edge.
    fn tick_units(&mut self, fires: &UnitFires, port_constants: &IexpConstants) -> bool {
        let registers = |id: usize, sight| V::get(&self.stats[id].registers, sight);
        let zero = |id: usize, operand: fn(&Statistics) -> bool| {
            V::ask(&self.zero_divisors, self.stats[id].division, |sight| operand(&registers(id, sight)))
        };
        let sum = fires.sum.map(|id| (V::of(|sight| self.row_sum(id, port_constants, sight)), id));
        let max = fires.max.map(|id| (V::of(|sight| normalizer::row_max(self.lane_inputs(id, sight))), id));
        let divide = fires.divide.map(|id| {
            let quotient = V::of(|sight| {
                let Statistics { sum, count, .. } = registers(id, sight);
                normalizer::divide(sum, count) as u32
            });
            (quotient, normalizer::divide_cycles(zero(id, |r| normalizer::divides_zero(r.sum, r.count))))
        });
        let sqrt = fires.sqrt.map(|id| {
            let root = V::of(|sight| normalizer::stddev(registers(id, sight).inv_stddev as i32) as u32);
            (root, STDDEV_CYCLES)
        });
        let reciprocal = fires.reciprocal.map(|id| {
            let inverse = V::of(|sight| normalizer::reciprocal(registers(id, sight).inv_stddev as i32));
            (inverse, normalizer::reciprocal_cycles())
        });
        let scaled = |inverse, id: usize| normalizer::scale_inverse(inverse, self.stats[id].resp.readout.scale);
        let inv_stddev = fires.scale_inv_stddev.map(|id| V::of(|sight| scaled(registers(id, sight).inv_stddev, id)));
        let divide_sum_exp = fires.divide_sum_exp.map(|id| {
            let inverse = V::of(|sight| normalizer::reciprocal_of_sum(registers(id, sight).sum));
            (inverse, normalizer::reciprocal_of_sum_cycles(zero(id, |r| r.sum == 0)))
        });
        let inv_sum_exp = fires.scale_inv_sum_exp.map(|id| V::of(|sight| scaled(registers(id, sight).inv_sum_exp, id)));
        let taken = |state| self.entry_in(state).is_some();
        let (take_stddev, take_exp) =
            (taken(State::WaitingForScaledInvStddev), taken(State::WaitingForScaledInvSumExp));

        let iterating =
            [&self.divider, &self.sqrt, &self.reciprocal, &self.exp_divider].iter().any(|unit| !unit.is_idle());
        let flowing = self.lanes.moves(true)
            || self.max_lanes.moves(true)
            || self.inv_stddev_mul.moves(take_stddev)
            || self.inv_sum_exp_mul.moves(take_exp);
        for id in [fires.sum, fires.max].into_iter().flatten() {
            self.stats[id].elems_left = 0;
        }
        self.lanes.tick(sum, true);
        self.max_lanes.tick(max, true);
        self.divider.tick(divide);
        self.sqrt.tick(sqrt);
        self.reciprocal.tick(reciprocal);
        self.inv_stddev_mul.tick(inv_stddev, take_stddev);
        self.exp_divider.tick(divide_sum_exp);
        self.inv_sum_exp_mul.tick(inv_sum_exp, take_exp);
        iterating || flowing
    }

    /// The valid elements of the entry's row.
    fn lane_inputs(&self, id: usize, sight: V::Sight) -> &[i32] {
        let stat = &self.stats[id];
        V::see(&stat.resp.data.0[..stat.elems_left as usize], sight)
    }

    fn row_sum(&self, id: usize, port_constants: &IexpConstants, sight: V::Sight) -> i32 {
        let (row, registers) = (self.lane_inputs(id, sight), V::get(&self.stats[id].registers, sight));
        match self.stats[id].cmd {
            NormCmd::Variance | NormCmd::InvStddev => normalizer::row_sum_of_squares(row, registers.mean),
            NormCmd::SumExp | NormCmd::InvSumExp => {
                normalizer::row_sum_of_exponentials(row, registers.max, port_constants, self.variant)
            }
            _ => normalizer::row_sum(row),
        }
    }
}

#[cfg(test)]
mod tests;
