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

use pollux_isa::config::Opcode;
use pollux_isa::{RoccCommand, RoccInstruction, ValidConfig};
use pollux_memory::Memory;
use pollux_riscv::{AccessFault, Bus, Elf, ElfError, Hart, HostWords, Htif, NoAccelerator, RamPort};
use pollux_sim::clocked::ClockedMachine;
use pollux_sim::machine::Translation;
use pollux_sim::memory::MemorySystem;

use crate::rocc::CommandRouter;
use crate::rocket::environment::Environment;
use crate::rocket::{CoreError, Rocket};
use crate::tile::TileBus;
use pollux_sim::uncore::hierarchy::Uncore;
use pollux_sim::uncore::l2::InclusiveCacheParameters;

/// How a system is set up.
#[derive(Debug, Clone)]
pub struct SocSetup {
    /// Gemmini's configuration.
    pub config: ValidConfig,
    /// The L2.
    pub l2: InclusiveCacheParameters,
    /// Addresses with memory.
    pub ram: Range<u64>,
    /// Cycles until the host answers.
    pub host_latency: u64,
}

impl SocSetup {
    /// A system with this accelerator and L2, whose host answers after 20 cycles, as the one did that recordings were made with.
    pub fn new(config: ValidConfig, ram: Range<u64>, l2: InclusiveCacheParameters) -> Self {
        Self { config, l2, ram, host_latency: 20 }
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

/// What a run has seen.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// Commands, if they are recorded.
    pub commands: Vec<SentCommand>,
    /// Stretches [start, end) in which Gemmini is busy.
    pub busy: Vec<(u64, u64)>,
    /// Cycles in which it is.
    pub busy_cycles: u64,
    /// What the program has written.
    pub console: Vec<u8>,
    /// Cycle of the first instruction's commit.
    pub entry: Option<u64>,
    /// Cycle of the last one's.
    pub end: u64,
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The program has ended with this code.
    Exit(u64),
    /// The limit of cycles.
    Limit,
    /// The core cannot go on.
    Core(CoreError),
    /// The host does not know a request.
    Host(String),
}

/// What the core is connected to besides its port.
#[derive(Debug, Clone)]
struct Board {
    ram: RamPort,
    htif: Htif,
    host_words: Option<HostWords>,
    opcode: Opcode,
    router: CommandRouter,
    /// What the core sends in this cycle.
    command: Option<(RoccCommand, Option<u8>)>,
    result_taken: bool,
    gemmini_busy: bool,
    cycle: u64,
    /// The host looks at its words in this cycle.
    host_at: Option<u64>,
    host_called: bool,
}

/// The system. A clone is a snapshot.
#[derive(Debug, Clone)]
pub struct Soc<M> {
    core: Rocket,
    tile_bus: TileBus,
    uncore: Uncore<M>,
    gemmini: ClockedMachine,
    board: Board,
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
    /// The program does not fit the memory.
    pub fn new(setup: SocSetup, elf: &Elf, start: u64, memory: impl FnOnce(Memory) -> M) -> Result<Self, ElfError> {
        let mut bytes = Memory::new();
        elf.load(&setup.ram, &mut bytes)?;
        bytes.map(setup.ram.clone());
        let beat_bytes = setup.config.beat_bytes();
        let uncore = Uncore::new(setup.l2, beat_bytes, memory(bytes));
        let line_beats = uncore.l2().geometry().line_beats();
        let board = Board {
            ram: RamPort::new(setup.ram),
            htif: Htif::new(elf.host),
            host_words: elf.host,
            opcode: setup.config.opcodes,
            router: CommandRouter::default(),
            command: None,
            result_taken: false,
            gemmini_busy: false,
            cycle: 0,
            host_at: None,
            host_called: false,
        };
        Ok(Self {
            core: Rocket::new(Hart::new(elf.entry, 0), line_beats),
            tile_bus: TileBus::default(),
            uncore,
            gemmini: ClockedMachine::new(&setup.config, Translation::Bare),
            board,
            host_latency: setup.host_latency,
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

    /// The memory side.
    pub fn uncore(&self) -> &Uncore<M> {
        &self.uncore
    }

    /// The cycle that comes next.
    pub fn cycle(&self) -> u64 {
        self.cycle
    }

    /// Runs to the program's end, or to a cycle.
    pub fn run(&mut self, limit: u64) -> Ending {
        while self.cycle < limit {
            if let Some(ending) = self.step() {
                return ending;
            }
        }
        Ending::Limit
    }

    /// One clock cycle.
    pub fn step(&mut self) -> Option<Ending> {
        let cycle = self.cycle;
        self.uncore.advance(cycle);
        let command = self.board.router.front();
        let response = self.gemmini.response();
        let step = self.gemmini.step(cycle, command, &mut self.uncore);
        if let Some(command) = command.filter(|_| step.accepted) {
            self.observations.commands.push(SentCommand { accepted: cycle, command });
        }
        self.observe(cycle, step.busy);
        self.board.gemmini_busy = step.busy;
        if let Err(error) = self.step_core(cycle) {
            return Some(Ending::Core(error));
        }
        let command = self.board.command.take();
        let taken = std::mem::take(&mut self.board.result_taken);
        self.board.router.tick(command, step.accepted, response, taken);
        self.cycle += 1;
        self.serve_host(cycle)
    }

    fn step_core(&mut self, cycle: u64) -> Result<(), CoreError> {
        let port = self.uncore.tile();
        let quiet = port.b.is_empty() && port.d.is_empty();
        let (dcache, icache) = self.core.requests();
        let inputs = self.tile_bus.inputs(port, dcache, icache);
        let before = self.core.counters.instret;
        let mut env = Env { memory: self.uncore.memory_mut(), board: &mut self.board };
        if !self.plain && self.core.sleep(cycle, quiet, &env) {
            return Ok(());
        }
        let outputs = self.core.step(cycle, &inputs, &mut env)?;
        if self.core.counters.instret != before {
            self.observations.entry.get_or_insert(cycle);
            self.observations.end = cycle;
        }
        let tile = self.tile_bus.tick(&inputs, &outputs);
        self.uncore.drive_tile(tile);
        Ok(())
    }

    fn observe(&mut self, cycle: u64, busy: bool) {
        let seen = &mut self.observations;
        seen.busy_cycles += u64::from(busy);
        if busy && !self.was_busy {
            seen.busy.push((cycle, cycle + 1));
        } else if busy && let Some(stretch) = seen.busy.last_mut() {
            stretch.1 = cycle + 1;
        }
        self.was_busy = busy;
    }

    /// The host sees the program's end at once; its answers come over the bus, some cycles after it was called.
    fn serve_host(&mut self, cycle: u64) -> Option<Ending> {
        let board = &mut self.board;
        if std::mem::take(&mut board.host_called) {
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
            return Some(Ending::Host(error.to_string()));
        }
        self.observations.console.extend(board.htif.take_console());
        board.htif.exit_code().map(Ending::Exit)
    }
}

/// The core's surroundings while it is stepped.
struct Env<'a> {
    memory: &'a mut Memory,
    board: &'a mut Board,
}

impl Bus for Env<'_> {
    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, AccessFault> {
        self.board.ram.load(self.memory, address, bytes)
    }

    fn store(&mut self, address: u64, bytes: u64, value: u64) -> Result<(), AccessFault> {
        self.board.ram.store(self.memory, address, bytes, value)?;
        self.board.host_called |= self.board.htif.concerns(address, bytes);
        Ok(())
    }

    fn rocc(&mut self, instruction: RoccInstruction, command: RoccCommand) -> Result<Option<u64>, NoAccelerator> {
        if instruction.opcode != self.board.opcode {
            return Err(NoAccelerator);
        }
        self.board.command = Some((command, instruction.xd.then_some(instruction.rd)));
        Ok(None)
    }

    fn fence(&mut self) {}

    /// The counter is three cycles behind: it starts at reset's end.
    fn cycle(&self, _: u64) -> u64 {
        self.board.cycle.wrapping_sub(3)
    }
}

impl Environment for Env<'_> {
    fn fetch_word(&mut self, address: u64) -> u32 {
        self.board.ram.load(self.memory, address, 4).unwrap_or(0) as u32
    }

    fn rocc_ready(&self) -> bool {
        self.board.router.ready()
    }

    fn rocc_busy(&self) -> bool {
        self.board.gemmini_busy || self.board.router.busy()
    }

    fn has_rocc_result(&self) -> bool {
        self.board.router.result().is_some()
    }

    fn rocc_result(&mut self) -> Option<(u8, u64)> {
        let result = self.board.router.result()?;
        self.board.result_taken = true;
        Some(result)
    }

    fn is_host_word(&self, address: u64, bytes: u64) -> bool {
        self.board.htif.concerns(address, bytes)
    }

    fn set_cycle(&mut self, cycle: u64) {
        self.board.cycle = cycle;
    }
}
