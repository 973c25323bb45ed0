//! [`Soc`]: core, caches, L2, memory and Gemmini, clocked together.
//!
//! ```text
//!            commands, results
//!  Rocket <--------------------> Gemmini
//!   | I$, D$                        | DMA
//!   |  tile bus                     |
//!   +-----------> system bus <------+
//!                     |
//!                 InclusiveCache
//!                     |
//!                   memory
//! ```

use std::ops::Range;

use pollux_functional::{Action, CommandMonitor, Diagnostic, Policy};
use pollux_isa::{RoccCommand, ValidConfig};
use pollux_memory::Memory;
use pollux_riscv::{BoardError, CommandPort, Elf, ElfError, Hart, Htif, RamPort, Symbols};
use pollux_sim::clocked::ClockedMachine;
use pollux_sim::machine::Translation;
use pollux_sim::memory::MemorySystem;

use crate::board::{Board, Env};
use crate::ending::Ending;
use crate::rocc::CommandRouter;
use crate::rocket::{Rocket, Unhandled};
use crate::tile::TileBus;
use pollux_sim::uncore::hierarchy::Uncore;
use pollux_sim::uncore::l2::InclusiveCacheParameters;

/// Cycles between two looks whether the program jumps to itself.
const ENDLESS_INTERVAL: u64 = 1 << 16;

/// How a system is set up.
#[derive(Debug, Clone)]
pub struct SocSetup {
    /// Gemmini's configuration.
    pub config: ValidConfig,
    /// The L2.
    pub l2: InclusiveCacheParameters,
    /// The program is in the L2 before the first cycle, as far as it fits.
    pub warm: bool,
    /// Addresses with memory.
    pub ram: Range<u64>,
    /// Cycles until the host answers.
    pub host_latency: u64,
    /// What to do about commands that the hardware does not define.
    pub policy: Policy,
    /// Arguments of the program, its name first.
    pub arguments: Vec<String>,
}

impl SocSetup {
    /// A system with this accelerator and L2, whose host answers after 20 cycles, as the one did that recordings were made with.
    pub fn new(config: ValidConfig, ram: Range<u64>, l2: InclusiveCacheParameters) -> Self {
        let (policy, arguments) = (Policy::default(), Vec::new());
        Self { config, l2, warm: false, ram, host_latency: 20, policy, arguments }
    }
}

/// A command as it went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentCommand {
    /// Cycle in which Gemmini accepted it.
    pub accepted: u64,
    /// The command.
    pub command: RoccCommand,
}

/// An instruction that left the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftPipeline {
    /// When.
    pub cycle: u64,
    /// Its address.
    pub pc: u64,
    /// It sent a command to Gemmini.
    pub is_command: bool,
}

/// What a run has seen.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// Commands, if they are to be recorded.
    pub commands: Option<Vec<SentCommand>>,
    /// Stretches [start, end) in which Gemmini is busy, if they are to be recorded.
    pub busy: Option<Vec<(u64, u64)>>,
    /// Cycles in which it is.
    pub busy_cycles: u64,
    /// What the program has written and nobody has taken.
    pub console: Vec<u8>,
    /// Cycle of the first instruction's commit.
    pub entry: Option<u64>,
    /// Cycle of the last one's.
    pub end: u64,
}

/// The system. A clone is a snapshot.
#[derive(Debug, Clone)]
pub struct Soc<M> {
    pub(crate) core: Rocket,
    tile_bus: TileBus,
    pub(crate) uncore: Uncore<M>,
    pub(crate) gemmini: ClockedMachine,
    pub(crate) board: Board,
    config: ValidConfig,
    symbols: Symbols,
    host_latency: u64,
    cycle: u64,
    was_busy: bool,
    /// The core is stepped in every cycle, even if nothing in it can change.
    pub plain: bool,
    /// What was seen.
    pub observations: Observations,
}

impl<M: MemorySystem> Soc<M> {
    /// A system with the program loaded, whose core asks for its first instruction in cycle `start`. `memory` makes the memory behind the
    /// L2 from its bytes.
    ///
    /// # Errors
    /// The program does not fit the memory, or is for another array.
    pub fn new(setup: SocSetup, elf: &Elf, start: u64, memory: impl FnOnce(Memory) -> M) -> Result<Self, ElfError> {
        elf.check_dim(&setup.config)?;
        let mut bytes = Memory::new();
        elf.load(&setup.ram, &mut bytes)?;
        bytes.map(setup.ram.clone());
        let SocSetup { config, l2, warm, ram, host_latency, policy, arguments } = setup;
        let monitor = CommandMonitor::new(config.clone(), bytes.mapped().clone(), policy);
        let mut uncore = Uncore::new(l2, config.beat_bytes(), memory(bytes));
        if warm {
            uncore.warm();
        }
        let line_beats = uncore.l2().geometry().line_beats();
        let mut htif = Htif::new(elf.host);
        htif.arguments = arguments;
        let board = Board {
            ram: RamPort::new(ram),
            htif,
            host_words: elf.host,
            port: CommandPort::new(&config, policy.illegal == Action::Error),
            monitor,
            router: CommandRouter::default(),
            command: None,
            result_taken: false,
            gemmini_busy: false,
            cycle: 0,
            host_at: None,
            host_called: false,
            host_called_at: 0,
            error: None,
        };
        Ok(Self {
            core: Rocket::new(Hart::new(elf.entry, 0), line_beats),
            tile_bus: TileBus::default(),
            uncore,
            gemmini: ClockedMachine::new(&config, Translation::Bare),
            board,
            config,
            symbols: elf.symbols().clone(),
            host_latency,
            cycle: start,
            was_busy: false,
            plain: false,
            observations: Observations::default(),
        })
    }

    /// The core.
    pub fn core(&self) -> &Rocket {
        &self.core
    }

    /// The core's registers, to be changed before the first cycle.
    pub fn hart_mut(&mut self) -> &mut Hart {
        &mut self.core.hart
    }

    /// The memory side.
    pub fn uncore(&self) -> &Uncore<M> {
        &self.uncore
    }

    /// Gemmini.
    pub fn gemmini(&self) -> &ClockedMachine {
        &self.gemmini
    }

    /// Gemmini's configuration.
    pub fn config(&self) -> &ValidConfig {
        &self.config
    }

    /// Names of addresses.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// What the policy made warnings of: the first of them, and the number of all.
    pub fn warnings(&self) -> (&[Diagnostic], u64) {
        (self.board.monitor.warnings(), self.board.monitor.warning_count())
    }

    /// Why the program seems to be compiled for a smaller array than the configuration has.
    pub fn size_hint(&self) -> Option<String> {
        self.board.port.size_hint()
    }

    /// Cycles from the first instruction to the last one.
    pub fn program_cycles(&self) -> u64 {
        self.observations.entry.map_or(0, |entry| self.observations.end - entry)
    }

    /// The cycle that comes next.
    pub fn cycle(&self) -> u64 {
        self.cycle
    }

    /// Runs to the program's end, or to a cycle.
    pub fn run(&mut self, limit: u64) -> Ending {
        while self.cycle < limit {
            if let Some(ending) = self.step().or_else(|| self.endless()) {
                return ending;
            }
        }
        Ending::Limit
    }

    /// Like [`Soc::run`]; `watch` is told of each instruction that leaves the pipeline.
    pub fn run_watched(&mut self, limit: u64, watch: &mut dyn FnMut(LeftPipeline)) -> Ending {
        while self.cycle < limit {
            let (cycle, before) = (self.cycle, self.core.counters);
            let ending = self.step();
            let after = &self.core.counters;
            if after.instret != before.instret {
                watch(LeftPipeline {
                    cycle,
                    pc: self.core.last_retired(),
                    is_command: after.commands != before.commands,
                });
            }
            if let Some(ending) = ending.or_else(|| self.endless()) {
                return ending;
            }
        }
        Ending::Limit
    }

    /// Now and then: the program jumps to itself.
    fn endless(&mut self) -> Option<Ending> {
        (self.cycle.is_multiple_of(ENDLESS_INTERVAL) && self.jumps_to_itself()).then_some(Ending::Endless)
    }

    fn jumps_to_itself(&mut self) -> bool {
        let mut env = Env { memory: self.uncore.memory_mut(), board: &mut self.board };
        self.core.hart.jumps_to_itself(&mut env)
    }

    /// One clock cycle.
    pub fn step(&mut self) -> Option<Ending> {
        let cycle = self.cycle;
        self.uncore.advance(cycle);
        let command = self.board.router.front();
        let response = self.gemmini.response();
        let step = self.gemmini.step(cycle, command, &mut self.uncore);
        if let Some(command) = command.filter(|_| step.accepted) {
            let sent = SentCommand { accepted: cycle, command };
            self.observations.commands.iter_mut().for_each(|commands| commands.push(sent));
        }
        self.observe(cycle, step.busy);
        self.board.gemmini_busy = step.busy;
        match self.step_core(cycle) {
            Ok(true) => {}
            Ok(false) if !step.progress && self.stands() => return Some(Ending::Deadlock),
            Ok(false) => {}
            Err(Unhandled(trap)) => return Some(Ending::Trap(trap)),
        }
        if let Some(error) = self.board.error.take() {
            return Some(Ending::Board(error));
        }
        let command = self.board.command.take();
        let taken = std::mem::take(&mut self.board.result_taken);
        self.board.router.tick(command, step.accepted, response, taken);
        self.cycle += 1;
        self.serve_host(cycle)
    }

    /// Core, buses and host wait for Gemmini alone.
    fn stands(&self) -> bool {
        self.core.waits_for_outside() && self.uncore.idle() && self.board.stands()
    }

    /// Steps the core; false if it sleeps.
    fn step_core(&mut self, cycle: u64) -> Result<bool, Unhandled> {
        let port = self.uncore.tile();
        let quiet = port.b.is_empty() && port.d.is_empty();
        let (dcache, icache) = self.core.requests();
        let inputs = self.tile_bus.inputs(port, dcache, icache);
        let before = self.core.counters.instret;
        let mut env = Env { memory: self.uncore.memory_mut(), board: &mut self.board };
        if !self.plain && self.core.sleep(cycle, quiet, &env) {
            return Ok(false);
        }
        let outputs = self.core.step(cycle, &inputs, &mut env)?;
        if self.core.counters.instret != before {
            self.observations.entry.get_or_insert(cycle);
            self.observations.end = cycle;
        }
        let tile = self.tile_bus.tick(&inputs, &outputs);
        self.uncore.drive_tile(tile);
        Ok(true)
    }

    fn observe(&mut self, cycle: u64, busy: bool) {
        let seen = &mut self.observations;
        seen.busy_cycles += u64::from(busy);
        if let Some(stretches) = seen.busy.as_mut().filter(|_| busy) {
            match stretches.last_mut().filter(|_| self.was_busy) {
                Some(stretch) => stretch.1 = cycle + 1,
                None => stretches.push((cycle, cycle + 1)),
            }
        }
        self.was_busy = busy;
    }

    /// The host sees the program's end at once; its answers come over the bus, some cycles after it was called.
    fn serve_host(&mut self, cycle: u64) -> Option<Ending> {
        let board = &mut self.board;
        if std::mem::take(&mut board.host_called) {
            board.host_called_at = self.core.last_retired();
            let words = board.host_words?;
            let request = u64::from_le_bytes(self.uncore.memory().read_array(words.tohost));
            // Device 0 with an odd payload ends the program.
            if request >> 56 == 0 && request & 1 == 1 {
                return self.answer_host();
            }
            if request != 0 {
                board.host_at = Some(cycle + self.host_latency);
            }
        }
        if board.host_at == Some(cycle) {
            board.host_at = None;
            self.uncore.host_writes(board.host_words?.fromhost);
        }
        if self.uncore.take_host_done() { self.answer_host() } else { None }
    }

    fn answer_host(&mut self) -> Option<Ending> {
        let board = &mut self.board;
        if let Err(error) = board.htif.serve(self.uncore.memory_mut()) {
            return Some(Ending::Board(BoardError::Host(error)));
        }
        self.observations.console.extend(board.htif.take_console());
        board.htif.exit_code().map(Ending::Exit)
    }
}
