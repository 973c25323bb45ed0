//! The pipeline (`RocketCore.scala`): decode, execute, memory, writeback. Hazards hold an instruction in decode; what goes wrong behind
//! decode is repeated from writeback.
//!
//! What instructions do is worked out by [`Hart`], each when it is in the memory stage and nothing before it can be repeated any
//! more; commands, accesses to control registers and requests to the host wait for writeback.

use pollux_riscv::{Hart, Instruction, MemoryAccess, Register, Retired, Trap};

use super::btb::{BhtUpdate, BtbResp, BtbUpdate, Cfi};
use super::dcache::{Access, DCache, DCacheInputs, DCacheWires};
use super::decode::{Decoded, Flow, NOP, Unit};
use super::environment::Environment;
use super::fpu::Fpu;
use super::frontend::{Frontend, FrontendInputs, Packet};
use super::ibuf::{Fetched, IBuf};
use super::mul_div::MulDiv;
use pollux_sim::uncore::tilelink::{BeatA, BeatB, BeatC, BeatD};

/// Instructions whose signals are at hand.
const DECODED: usize = 1 << 12;

/// An instruction in a stage.
#[derive(Clone, Copy, Debug)]
struct Slot {
    pc: u64,
    decoded: Decoded,
    btb: BtbResp,
    /// It came while a load that it needs was in the memory stage.
    load_use: bool,
    /// It is valid; otherwise it is only to be fetched again.
    valid: bool,
    /// It is to be repeated.
    replay: bool,
}

impl Slot {
    fn is(&self, unit: Unit) -> bool {
        self.valid && self.decoded.unit == unit
    }

    fn memory(&self) -> bool {
        self.valid && self.decoded.is_memory()
    }
}

/// The core's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreCounters {
    /// Instructions that left the pipeline.
    pub instret: u64,
    /// Lines that the instruction cache asked for.
    pub icache_misses: u64,
    /// Lines that the data cache asked for.
    pub dcache_acquires: u64,
    /// Cycles in which a command was refused.
    pub rocc_blocked: u64,
    /// Cycles that fences waited.
    pub fence_wait: u64,
    /// Commands sent.
    pub commands: u64,
    /// Jumps and branches that went another way than predicted.
    pub mispredicts: u64,
    /// Exceptions that the program's handler has taken.
    pub traps: u64,
}

/// Signals between the core and its port to the L2.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortInputs {
    /// A request of the data cache would be taken.
    pub dcache_a_ready: bool,
    /// A request of the instruction cache would be taken, if the data cache has none.
    pub icache_a_ready: bool,
    /// A line given up is taken.
    pub c_ready: bool,
    /// The probe in front.
    pub b: Option<BeatB>,
    /// The answer in front, for the data cache.
    pub dcache_d: Option<BeatD>,
    /// The answer in front, for the instruction cache.
    pub icache_d: Option<BeatD>,
}

/// What the core sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortOutputs {
    /// Request of the data cache.
    pub dcache_a: Option<BeatA>,
    /// Line asked for by the instruction cache.
    pub icache_a: Option<u64>,
    /// Line given up.
    pub c: Option<BeatC>,
    /// The probe is taken.
    pub b_taken: bool,
    /// The answer is taken.
    pub d_taken: bool,
    /// The Grant's sink.
    pub e: Option<u8>,
}

/// The core.
#[derive(Clone, Debug)]
pub struct Rocket {
    /// Registers, and what instructions do.
    pub hart: Hart,
    frontend: Frontend,
    ibuf: IBuf,
    dcache: DCache,
    ex: Option<Slot>,
    mem: Option<Slot>,
    wb: Option<Slot>,
    /// The access that the instruction in writeback has made, and what it was, in case it has to be repeated.
    repeated: Option<Retired>,
    wb_retired: Option<Retired>,
    /// The register that the last access wrote, and what was in it before.
    overwritten: Option<(Register, u64)>,
    mul_div: MulDiv,
    fpu: Fpu,
    /// Integer registers whose results are long in coming.
    scoreboard: u32,
    /// Nothing changes until something from outside does, or the divider is through: what is known about the next cycles.
    asleep: Option<Sleep>,
    /// The last exception for which the program's handler was entered.
    last_trap: Option<Trap>,
    /// Address of the instruction that left the pipeline last.
    last_retired: u64,
    reg_fence: bool,
    dcache_blocked: bool,
    rocc_blocked: bool,
    decoded: Vec<Option<(u32, Decoded)>>,
    /// Counters.
    pub counters: CoreCounters,
}

/// An exception for which the program has no handler, or which its handler itself raises: the core cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unhandled(pub Trap);

/// What a core sleeps on.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    /// As in the cycle before.
    rocc_busy: bool,
    /// As in the cycle before.
    rocc_ready: bool,
    /// A fence waits.
    fence: bool,
}

/// What leaves the pipeline.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    /// An instruction.
    valid: bool,
    /// An exception.
    traps: bool,
    /// What is behind it has to be fetched anew.
    turns: bool,
}

/// Writeback in a cycle.
#[derive(Clone, Copy, Debug)]
struct Writeback {
    /// An instruction leaves the pipeline.
    valid: bool,
    /// Everything behind it is killed, and fetching goes on at `redirect`.
    take_pc: bool,
    redirect: u64,
    /// Its access has no answer.
    misses: bool,
    /// Its access has to be repeated.
    nack: bool,
    /// It uses the write port of the integer file.
    wxd: bool,
    rocc_offered: bool,
    rocc_ready: bool,
    /// The register of a result from outside the pipeline.
    result: Option<u8>,
    flush_icache: bool,
}

/// The memory stage in a cycle.
#[derive(Clone, Copy, Debug)]
struct MemoryStage {
    /// Its instruction goes on to writeback.
    lives: bool,
    /// There is none, or it is killed.
    killed: bool,
    /// It goes on to be repeated.
    replay: bool,
    retired: Option<Retired>,
    /// It has raised an exception, which is taken in writeback.
    traps: bool,
    /// What should follow it.
    next: u64,
    /// What follows is killed, as it is something else.
    turns: bool,
}

/// The execute stage in a cycle.
#[derive(Clone, Copy, Debug)]
struct ExecuteStage {
    inputs: DCacheInputs,
    wires: DCacheWires,
    dcache_a: Option<BeatA>,
    c: Option<BeatC>,
    /// The multiplier and divider takes an operation.
    starts: bool,
    /// Its instruction goes on.
    lives: bool,
    /// It goes on to be repeated.
    replay: bool,
}

/// Decode in a cycle.
#[derive(Clone, Copy, Debug)]
struct DecodeStage {
    fetched: Fetched,
    decoded: Option<Decoded>,
    stalls: bool,
    load_use: bool,
    /// Its instruction goes on.
    issues: bool,
    /// It goes on to be fetched again.
    refetches: bool,
    /// The packet in front is used up.
    takes: bool,
}

impl Rocket {
    /// A core that fetches from `hart.pc` on.
    pub fn new(hart: Hart, line_beats: u32) -> Self {
        Self {
            frontend: Frontend::new(hart.pc),
            hart,
            ibuf: IBuf::default(),
            dcache: DCache::new(line_beats),
            ex: None,
            mem: None,
            wb: None,
            repeated: None,
            wb_retired: None,
            overwritten: None,
            mul_div: MulDiv::Ready,
            fpu: Fpu::default(),
            scoreboard: 0,
            asleep: None,
            last_trap: None,
            last_retired: 0,
            reg_fence: false,
            dcache_blocked: false,
            rocc_blocked: false,
            decoded: vec![None; DECODED],
            counters: CoreCounters::default(),
        }
    }

    /// The data cache.
    pub fn dcache(&self) -> &DCache {
        &self.dcache
    }

    /// Whether the data cache and the instruction cache ask for a line in this cycle.
    pub fn requests(&self) -> (bool, bool) {
        (self.dcache.a().is_some(), self.frontend.a().is_some())
    }

    /// Addresses of the instructions in execute, memory and writeback, for messages.
    pub fn stages(&self) -> String {
        let show = |slot: &Option<Slot>| {
            slot.as_ref().map_or("-".into(), |slot| format!("{:x}{}", slot.pc, if slot.valid { "" } else { "!" }))
        };
        format!("{} {} {} | {}", show(&self.ex), show(&self.mem), show(&self.wb), self.frontend.state())
    }

    /// Address of the instruction that will be executed next.
    pub fn pc(&self) -> u64 {
        self.hart.pc
    }

    /// Exceptions for which the program's handler was entered: the last one.
    pub fn last_trap(&self) -> Option<Trap> {
        self.last_trap
    }

    /// Address of the instruction that left the pipeline last.
    pub fn last_retired(&self) -> u64 {
        self.last_retired
    }

    fn decode(&mut self, pc: u64, word: u32) -> Decoded {
        let word = if word & 3 == 3 { word } else { word & 0xffff };
        let slot = &mut self.decoded[(pc >> 1) as usize & (DECODED - 1)];
        match slot {
            Some((known, decoded)) if *known == word => *decoded,
            _ => {
                let decoded = Instruction::decode(word).map_or_else(Decoded::illegal, Decoded::new);
                *slot = Some((word, decoded));
                decoded
            }
        }
    }

    /// Lets a cycle pass in which nothing changes; false if there is none. `quiet`: nothing comes from the L2.
    #[inline]
    pub fn sleep<E: Environment>(&mut self, cycle: u64, quiet: bool, env: &E) -> bool {
        let Some(sleep) = self.asleep.filter(|_| quiet) else {
            return false;
        };
        let same = sleep.rocc_busy == env.rocc_busy() && sleep.rocc_ready == env.rocc_ready() && !env.has_rocc_result();
        if !same || self.mul_div.result(cycle).is_some() {
            return false;
        }
        self.counters.fence_wait += u64::from(sleep.fence);
        true
    }

    /// It sleeps, and only something from outside can wake it.
    pub fn waits_for_outside(&self) -> bool {
        self.asleep.is_some() && self.mul_div.ready()
    }

    /// Registers that hold instructions in decode.
    fn held_by(&self) -> (bool, bool, bool, u32, u32, bool) {
        let Self { dcache_blocked, rocc_blocked, reg_fence, scoreboard, fpu, .. } = self;
        (*dcache_blocked, *rocc_blocked, *reg_fence, *scoreboard, fpu.scoreboard, fpu.flags_ready())
    }

    /// Looks whether the core stands still behind this cycle.
    fn fall_asleep<E: Environment>(&mut self, stalls: bool, fence: bool, env: &E) {
        let empty = stalls && self.ex.is_none() && self.mem.is_none() && self.wb.is_none();
        let stands =
            empty && self.frontend.stands() && self.dcache.stands() && self.fpu.idle() && self.fpu.scoreboard == 0;
        let (rocc_busy, rocc_ready) = (env.rocc_busy(), env.rocc_ready());
        // What holds decode up is still so in the next cycle.
        let holds = self.dcache_blocked == self.dcache.waits() && !(self.rocc_blocked && rocc_ready);
        let stands = stands && holds && (!self.reg_fence || self.dcache.waits());
        self.asleep = stands.then_some(Sleep { rocc_busy, rocc_ready, fence });
    }

    /// One clock cycle: the stages from the last to the first, then the clock edge.
    ///
    /// # Errors
    /// An exception that the program does not handle.
    pub fn step<E: Environment>(
        &mut self,
        cycle: u64,
        port: &PortInputs,
        env: &mut E,
    ) -> Result<PortOutputs, Unhandled> {
        let (empty, held_by) = (self.is_empty(), self.held_by());
        let wb = self.writeback(cycle, env)?;
        let mut mem = self.memory(&wb, env);
        let word = self.frontend.word_address().map_or(0, |address| env.fetch_word(address));
        let front = self.frontend.front(word);
        let fetched = self.ibuf.fetched(front.as_ref());
        mem.turns = mem.lives && self.wrong_next(mem.next, &fetched);
        self.counters.mispredicts += u64::from(mem.turns);
        let take_pc = wb.take_pc || mem.turns;
        let ex = self.execute_stage(port, &wb, &mem, take_pc);
        let id = self.decode_stage(cycle, port, fetched, &wb, &ex, take_pc, env);
        let outputs = self.outputs(port, &ex);
        self.tick_frontend(port, &wb, &mem, &id, take_pc, front.as_ref(), word);
        self.tick_units(cycle, port, &wb, &mem, &ex, &id);
        self.tick_stages(&wb, &mem, &ex, &id, take_pc);
        let stalls = empty && id.fetched.word.is_some() && id.stalls && held_by == self.held_by();
        self.fall_asleep(stalls, id.decoded.is_some_and(|decoded| decoded.unit == Unit::Fence), env);
        Ok(outputs)
    }

    /// Nothing is between decode and the end.
    fn is_empty(&self) -> bool {
        self.ex.is_none() && self.mem.is_none() && self.wb.is_none()
    }

    /// Writeback: what leaves the pipeline, and what has to be repeated (lines 595 to 650).
    fn writeback<E: Environment>(&mut self, cycle: u64, env: &mut E) -> Result<Writeback, Unhandled> {
        let response = self.dcache.response();
        let slot = self.wb;
        let is = |unit| slot.is_some_and(|slot: Slot| slot.is(unit));
        let replay_common = response.nack || slot.is_some_and(|slot| slot.replay);
        let rocc_offered = is(Unit::Rocc) && !replay_common;
        let rocc_ready = env.rocc_ready();
        let replay = replay_common || rocc_offered && !rocc_ready;
        self.counters.rocc_blocked += u64::from(rocc_offered && !rocc_ready);
        let mut left = Left::default();
        if replay {
            if let Some(retired) = self.wb_retired.take() {
                self.repeat(retired);
            }
        } else if let Some(slot) = slot.filter(|slot| slot.valid) {
            left = self.commit(&slot, cycle, env)?;
        }
        let misses = slot.is_some_and(|slot| slot.memory()) && !response.valid && !left.traps;
        let wxd = slot.is_some_and(|slot| slot.valid && slot.decoded.wxd) && !left.traps;
        let result = self.long_latency_result(cycle, wxd, env);
        let flush_icache = left.valid && is(Unit::FenceI);
        let nack = response.nack;
        // A flush goes on where the program does.
        let redirect = slot.map_or(0, |slot| if replay { slot.pc } else { self.hart.pc });
        let take_pc = replay || left.turns;
        let valid = left.valid;
        Ok(Writeback { valid, take_pc, redirect, misses, nack, wxd, rocc_offered, rocc_ready, result, flush_icache })
    }

    /// The memory stage: the instruction in it is executed, unless it is killed or has to be repeated.
    fn memory<E: Environment>(&mut self, wb: &Writeback, env: &mut E) -> MemoryStage {
        let valid = self.mem.is_some_and(|slot| slot.valid);
        let nack = self.mem.is_some_and(|slot| slot.valid && slot.decoded.fp) && self.fpu.nack_mem();
        let killed = wb.take_pc || !valid;
        let lives = !killed && !nack;
        let executed = if lives { self.execute(env) } else { Ok(None) };
        let (traps, retired) = (executed.is_err(), executed.unwrap_or(None));
        let sequential = self.mem.map_or(0, |slot| slot.pc.wrapping_add(slot.decoded.bytes()));
        let next = retired.map_or(sequential, |retired| retired.next_pc);
        let replay = !wb.take_pc && (self.mem.is_some_and(|slot| slot.replay) || valid && nack);
        MemoryStage { lives, killed, replay, retired, traps, next, turns: false }
    }

    /// What follows the instruction in the memory stage is not what should (`mem_wrong_npc`).
    fn wrong_next(&self, next: u64, fetched: &Fetched) -> bool {
        match &self.ex {
            Some(ex) => next != ex.pc,
            None if fetched.some => next != fetched.pc,
            None => true,
        }
    }

    /// The execute stage, and the data cache's handshakes.
    fn execute_stage(&self, port: &PortInputs, wb: &Writeback, mem: &MemoryStage, take_pc: bool) -> ExecuteStage {
        let request = self.ex.filter(Slot::memory).map(|slot| slot.decoded.reads());
        let in_memory = self.mem.filter(|slot| slot.memory() && !wb.take_pc);
        let dcache_a = self.dcache.a();
        let c = self.dcache.c();
        let inputs = DCacheInputs {
            request,
            s1: in_memory.and_then(|slot| self.access(&slot, mem.retired.as_ref())),
            s1_kill: !mem.lives || mem.traps,
            a_fire: dcache_a.is_some() && port.dcache_a_ready,
            c_fire: c.is_some() && port.c_ready,
            b: port.b,
            d: port.dcache_d,
        };
        let wires = self.dcache.wires(&inputs);
        let operates = self.ex.is_some_and(|slot| slot.is(Unit::MulDiv));
        let starts = operates && self.mul_div.ready();
        let structural = request.is_some() && !wires.ready || operates && !starts;
        let replay =
            self.ex.is_some_and(|slot| slot.replay || slot.valid && (structural || wb.misses && slot.load_use));
        let lives = !take_pc && !replay && self.ex.is_some_and(|slot| slot.valid);
        ExecuteStage { inputs, wires, dcache_a, c, starts, lives, replay: replay && !take_pc }
    }

    /// Decode: whether its instruction goes on.
    #[allow(clippy::too_many_arguments)]
    fn decode_stage<E: Environment>(
        &mut self,
        cycle: u64,
        port: &PortInputs,
        fetched: Fetched,
        wb: &Writeback,
        ex: &ExecuteStage,
        take_pc: bool,
        env: &E,
    ) -> DecodeStage {
        let seen = fetched.word.map(|word| if fetched.replay { NOP } else { word }).or(fetched.partial);
        let decoded = seen.map(|word| self.decode(fetched.pc, word));
        let grant = port.dcache_d.is_some_and(|beat| beat.last);
        let (mut stalls, mut load_use) = (false, false);
        if let Some(decoded) = &decoded {
            (stalls, load_use) = self.hazards(decoded, wb.misses, wb.result);
            let requests = ex.inputs.request.is_some();
            stalls |= self.unit_stalls(cycle, decoded, grant, wb.wxd, requests, env.rocc_busy());
        }
        let free = fetched.word.is_some() && !take_pc;
        let issues = free && !fetched.replay && !stalls;
        let takes = self.ibuf.takes(&fetched, !stalls) && !take_pc;
        DecodeStage { fetched, decoded, stalls, load_use, issues, refetches: free && fetched.replay, takes }
    }

    fn outputs(&mut self, port: &PortInputs, ex: &ExecuteStage) -> PortOutputs {
        let icache_a = self.frontend.a();
        self.counters.icache_misses += u64::from(icache_a.is_some() && port.icache_a_ready);
        self.counters.dcache_acquires += u64::from(ex.inputs.a_fire);
        PortOutputs {
            dcache_a: ex.dcache_a,
            icache_a,
            c: ex.c,
            b_taken: ex.wires.b_taken,
            d_taken: port.icache_d.is_some() || ex.wires.d_taken,
            e: ex.wires.e,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn tick_frontend(
        &mut self,
        port: &PortInputs,
        wb: &Writeback,
        mem: &MemoryStage,
        id: &DecodeStage,
        take_pc: bool,
        front: Option<&Packet>,
        word: u32,
    ) {
        let wrong_next = mem.lives && self.wrong_next(mem.next, &id.fetched);
        let (btb_update, bht_update) = self.predictor_updates(mem.lives, wrong_next, mem.retired.as_ref());
        let a_fire = self.frontend.a().is_some() && port.icache_a_ready;
        let inputs = FrontendInputs {
            redirect: take_pc.then_some(if wb.take_pc { wb.redirect } else { mem.next }),
            speculative: !wb.take_pc,
            taken: id.takes,
            btb_update,
            bht_update,
            flush_icache: wb.flush_icache,
            a_fire,
            d: port.icache_d.map(|beat| beat.last),
        };
        self.frontend.tick(&inputs, word);
        self.ibuf.tick(&id.fetched, front, !id.stalls, take_pc);
    }

    fn tick_units(
        &mut self,
        cycle: u64,
        port: &PortInputs,
        wb: &Writeback,
        mem: &MemoryStage,
        ex: &ExecuteStage,
        id: &DecodeStage,
    ) {
        let requests = ex.inputs.request.is_some();
        let mem_busy = !self.dcache.ordered() || requests;
        self.dcache.tick(&ex.inputs, &ex.wires);
        let grant = port.dcache_d.is_some_and(|beat| beat.last);
        self.dcache_blocked = !ex.wires.ready && !grant && (self.dcache_blocked || requests || wb.nack);
        self.rocc_blocked = !wb.rocc_ready && (wb.rocc_offered || self.rocc_blocked);
        self.tick_mul_div(cycle, ex.starts, ex.lives, mem.killed);
        let pipe = id.decoded.filter(|decoded| id.issues && decoded.fp);
        let pipe = pipe.map(|decoded| (decoded.fp_pipe, decoded.f_destination));
        self.fpu.tick(cycle, pipe, !ex.lives, mem.killed || mem.traps, wb.valid);
        self.tick_scoreboards(wb.valid, wb.misses, wb.result);
        self.reg_fence &= mem_busy;
        self.reg_fence |= id.issues && id.decoded.is_some_and(|decoded| decoded.unit == Unit::Fence);
    }

    fn tick_stages(&mut self, wb: &Writeback, mem: &MemoryStage, ex: &ExecuteStage, id: &DecodeStage, take_pc: bool) {
        debug_assert!(!wb.take_pc || take_pc);
        self.wb_retired = mem.retired;
        let pass = |slot: Option<Slot>, valid: bool, replay: bool| {
            slot.filter(|_| valid || replay).map(|slot| Slot { valid, replay, ..slot })
        };
        self.wb = pass(self.mem, mem.lives, mem.replay);
        self.mem = pass(self.ex, ex.lives, ex.replay);
        let decoded = id.decoded.filter(|_| id.issues || id.refetches);
        self.ex = decoded.map(|decoded| Slot {
            pc: id.fetched.pc,
            decoded,
            btb: id.fetched.btb,
            load_use: id.load_use,
            valid: id.issues,
            replay: id.fetched.replay,
        });
    }

    /// Executes the instruction in the memory stage, unless it waits for writeback.
    ///
    /// # Errors
    /// What it raises; nothing has changed, and it will raise the same in writeback.
    fn execute<E: Environment>(&mut self, env: &mut E) -> Result<Option<Retired>, Trap> {
        let Some(slot) = self.mem else {
            return Ok(None);
        };
        if matches!(slot.decoded.unit, Unit::Rocc | Unit::Csr | Unit::Fence | Unit::FenceI | Unit::Illegal) {
            return Ok(None);
        }
        if let Some(retired) = self.repeated.take() {
            debug_assert_eq!(retired.pc, slot.pc, "the access to be repeated comes first");
            return Ok(Some(retired));
        }
        if slot.memory() {
            let (address, bytes) = self.address(&slot);
            if env.is_host_word(address, bytes) {
                return Ok(None);
            }
        }
        if slot.memory() {
            let destination = slot.decoded.instruction.registers().destination;
            self.overwritten = destination.map(|register| (register, self.hart.register(register)));
        }
        debug_assert_eq!(self.hart.pc, slot.pc, "the pipeline is on the program's way");
        let retired = self.hart.step_fetched(slot.decoded.instruction, env)?;
        if slot.decoded.unit == Unit::MulDiv {
            self.mul_div.set_operands(slot.decoded.instruction.op, retired.operands[0], retired.operands[1]);
        }
        Ok(Some(retired))
    }

    /// The access in writeback has to be made again. A load reads what is there then.
    fn repeat(&mut self, retired: Retired) {
        let is_load = retired.access.is_some_and(|access| access.written.is_none());
        let Some((register, before)) = self.overwritten.filter(|_| is_load) else {
            self.repeated = Some(retired);
            return;
        };
        match register {
            Register::X(number) => self.hart.set_x(number, before),
            Register::F(number) => self.hart.set_f(number, before),
        }
        self.hart.pc = retired.pc;
        self.hart.csrs.instret -= 1;
    }

    /// The instruction in writeback leaves the pipeline, or raises its exception.
    fn commit<E: Environment>(&mut self, slot: &Slot, cycle: u64, env: &mut E) -> Result<Left, Unhandled> {
        if self.wb_retired.take().is_none() {
            env.set_cycle(cycle);
            let executed = match slot.decoded.unit {
                // Raises what is wrong with the word, or with its address.
                Unit::Illegal => self.hart.step(env),
                _ => self.hart.step_fetched(slot.decoded.instruction, env),
            };
            match executed {
                Ok(retired) => self.counters.commands += u64::from(retired.rocc.is_some()),
                Err(trap) => return self.trap(trap).map(|()| Left { valid: false, traps: true, turns: true }),
            }
        }
        self.counters.instret += 1;
        self.last_retired = slot.pc;
        Ok(Left { valid: true, traps: false, turns: slot.decoded.flush || slot.decoded.unit == Unit::Illegal })
    }

    /// Enters the program's handler, if there is one.
    fn trap(&mut self, trap: Trap) -> Result<(), Unhandled> {
        if !self.hart.handles(&trap) {
            return Err(Unhandled(trap));
        }
        self.counters.traps += 1;
        self.last_trap = Some(trap);
        self.hart.enter(trap);
        Ok(())
    }

    /// Address and bytes of the access in the memory stage.
    fn address(&self, slot: &Slot) -> (u64, u64) {
        let instruction = &slot.decoded.instruction;
        let Unit::Memory { size, .. } = slot.decoded.unit else {
            return (0, 0);
        };
        (self.hart.x(instruction.rs1).wrapping_add(instruction.imm as u64), 1 << size)
    }

    fn access(&self, slot: &Slot, retired: Option<&Retired>) -> Option<Access> {
        let Unit::Memory { read, write, .. } = slot.decoded.unit else {
            return None;
        };
        let known = retired.and_then(|retired| retired.access);
        let (address, bytes) = match known {
            Some(MemoryAccess { address, bytes, .. }) => (address, bytes),
            None => self.address(slot),
        };
        let mask = ((1u32 << bytes) - 1) << (address & 7);
        Some(Access { address, mask: mask as u8, read, write })
    }

    /// The register of a result that comes from outside the pipeline in this cycle.
    fn long_latency_result<E: Environment>(&mut self, cycle: u64, wb_wxd: bool, env: &mut E) -> Option<u8> {
        if wb_wxd {
            return None;
        }
        if let Some((register, value)) = env.rocc_result() {
            self.hart.set_x(register, value);
            return Some(register);
        }
        let register = self.mul_div.result(cycle)?;
        self.mul_div = MulDiv::Ready;
        Some(register)
    }

    /// Hazards with instructions ahead: whether they hold the instruction up, and whether it waits for a load (lines 780 to 840).
    fn hazards(&self, decoded: &Decoded, wb_dcache_miss: bool, ll_result: Option<u8>) -> (bool, bool) {
        let [a, b] = decoded.x_sources;
        let targets = (1u32 << a | 1 << b | 1 << decoded.x_destination) & !1;
        let f_targets = decoded.f_sources | decoded.f_destination;
        let x_hazard = |slot: &Slot| slot.decoded.wxd && targets >> slot.decoded.x_destination & 1 == 1;
        let f_hazard = |slot: &Slot| decoded.fp && slot.decoded.f_destination & f_targets != 0;
        let (mut stall, mut load_use) = (false, false);
        if let Some(ex) = self.ex.filter(|slot| slot.valid) {
            stall |= x_hazard(&ex) && ex.decoded.slow_ex || f_hazard(&ex);
        }
        if let Some(mem) = self.mem.filter(|slot| slot.valid) {
            stall |= x_hazard(&mem) && mem.decoded.slow_mem || f_hazard(&mem);
            load_use = x_hazard(&mem) && mem.decoded.is_memory();
        }
        if let Some(wb) = self.wb.filter(|slot| slot.valid) {
            let sets = wb_dcache_miss || matches!(wb.decoded.unit, Unit::MulDiv | Unit::Rocc);
            stall |= x_hazard(&wb) && sets || f_hazard(&wb);
        }
        let cleared = ll_result.map_or(0, |register| 1u32 << register);
        stall |= targets & self.scoreboard & !cleared != 0;
        stall |= decoded.fp && f_targets & self.fpu.scoreboard != 0;
        (stall, load_use)
    }

    /// Units that hold an instruction in decode (`ctrl_stalld`, `id_do_fence`).
    fn unit_stalls(
        &mut self,
        cycle: u64,
        decoded: &Decoded,
        grant: bool,
        wb_wxd: bool,
        requests: bool,
        rocc_busy: bool,
    ) -> bool {
        let stage_has =
            |unit| [&self.ex, &self.mem, &self.wb].iter().any(|slot| slot.is_some_and(|slot| slot.is(unit)));
        let mem_busy = !self.dcache.ordered() || requests;
        let fenced = self.reg_fence && mem_busy;
        match decoded.unit {
            Unit::Memory { .. } => self.dcache_blocked && !grant || fenced,
            Unit::Rocc => self.rocc_blocked || fenced,
            Unit::MulDiv => {
                let free = self.mul_div.ready() || self.mul_div.result(cycle).is_some() && !wb_wxd;
                !free || self.ex.is_some_and(|slot| slot.is(Unit::MulDiv))
            }
            Unit::Fence => {
                let waits = rocc_busy || stage_has(Unit::Rocc);
                self.counters.fence_wait += u64::from(waits);
                waits
            }
            Unit::FenceI => mem_busy,
            Unit::Csr => {
                let number = decoded.instruction.imm as u32 & 0xfff;
                (1..=3).contains(&number) && !self.fpu.flags_ready()
            }
            Unit::None | Unit::Illegal => false,
        }
    }

    fn predictor_updates(
        &self,
        lives: bool,
        wrong_next: bool,
        retired: Option<&Retired>,
    ) -> (Option<BtbUpdate>, Option<BhtUpdate>) {
        let Some(slot) = self.mem.filter(|_| lives) else {
            return (None, None);
        };
        let Decoded { flow, instruction, .. } = slot.decoded;
        let taken = retired.is_some_and(Retired::is_taken);
        let (is_cfi, is_branch) = (flow != Flow::Next, flow == Flow::Branch);
        let cfi_taken = is_cfi && (!is_branch || taken);
        let br_pc = slot.pc.wrapping_add(if slot.decoded.rvc() { 0 } else { 2 });
        let pc = br_pc & !3;
        let jumps = is_cfi && !is_branch;
        let cfi = if jumps && instruction.rd & 1 == 1 {
            Cfi::Call
        } else if flow == Flow::Jalr && matches!(instruction.rs1, 1 | 5) {
            Cfi::Ret
        } else if jumps {
            Cfi::Jump
        } else {
            Cfi::Branch
        };
        let update = BtbUpdate { pc, br_pc, entry: slot.btb.entry, is_valid: is_cfi, cfi };
        let bht = BhtUpdate { pc, prediction: slot.btb.bht, branch: is_branch, taken, mispredict: wrong_next };
        ((wrong_next && (!is_cfi || cfi_taken)).then_some(update), Some(bht))
    }

    fn tick_mul_div(&mut self, cycle: u64, starts: bool, ex_lives: bool, killm: bool) {
        // An operation that was started and is killed in the memory stage.
        if matches!(self.mul_div, MulDiv::Started { .. }) && killm {
            self.mul_div = MulDiv::Ready;
        }
        if starts {
            let destination = self.ex.map_or(0, |slot| slot.decoded.x_destination);
            if ex_lives {
                self.mul_div = MulDiv::Started { destination, at: cycle };
            }
        }
    }

    fn tick_scoreboards(&mut self, wb_valid: bool, wb_dcache_miss: bool, ll_result: Option<u8>) {
        if let Some(register) = ll_result {
            self.scoreboard &= !(1 << register);
        }
        let Some(wb) = self.wb.filter(|_| wb_valid) else {
            return;
        };
        let long = wb_dcache_miss || matches!(wb.decoded.unit, Unit::MulDiv | Unit::Rocc);
        if long && wb.decoded.wxd && wb.decoded.x_destination != 0 {
            self.scoreboard |= 1 << wb.decoded.x_destination;
        }
    }
}
