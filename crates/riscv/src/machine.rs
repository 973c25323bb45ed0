//! [`Machine`]: a core on a board, running a program file.

use std::fmt;
use std::ops::Range;

use pollux_asm::Program;
use pollux_functional::Policy;
use pollux_isa::ValidConfig;
use pollux_memory::Memory;

use crate::board::{Board, DEFAULT_RAM};
use crate::bus::Bus as _;
use crate::elf::{Elf, ElfError, Symbols};
use crate::hart::{Hart, Misaligned, Retired};
use crate::htif::Htif;
use crate::port::BoardError;
use crate::recording::Recorder;
use crate::trap::Trap;

/// How a machine is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Gemmini's configuration.
    pub config: ValidConfig,
    /// What to do about commands that the hardware does not define.
    pub policy: Policy,
    /// Addresses with memory.
    pub ram: Range<u64>,
    /// What misaligned accesses do.
    pub misaligned: Misaligned,
    /// Arguments of the program, its name first.
    pub arguments: Vec<String>,
}

impl Setup {
    /// A machine with this accelerator, and otherwise as nothing else is said.
    pub fn new(config: ValidConfig) -> Self {
        Self {
            config,
            policy: Policy::default(),
            ram: DEFAULT_RAM,
            misaligned: Misaligned::default(),
            arguments: Vec::new(),
        }
    }
}

/// A core with memory, Gemmini's functional model and host, running a program. There is no time: an instruction takes a
/// cycle, and Gemmini's commands none.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The core.
    pub hart: Hart,
    /// What it is connected to.
    pub board: Board,
    symbols: Symbols,
    traps: u64,
    /// The last exception for which the program's own handler was entered.
    last_trap: Option<Trap>,
}

/// Why a run stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The program has ended with this code.
    Exit(u64),
    /// The instructions allowed were executed.
    Limit,
    /// An exception, and the program has no handler, or the handler itself raises it.
    Trap(Trap),
    /// An instruction jumps to itself, and nothing interrupts.
    Endless,
    /// A command that Gemmini does not define, or a request that the host does not know; the message.
    Error(String),
}

impl Machine {
    /// A machine with the program loaded, at its first instruction.
    ///
    /// # Errors
    /// The program does not fit the memory, or is for another array.
    pub fn new(setup: Setup, elf: &Elf) -> Result<Self, ElfError> {
        elf.check_dim(&setup.config)?;
        let mut memory = Memory::new();
        elf.load(&setup.ram, &mut memory)?;
        let mut htif = Htif::new(elf.host);
        htif.arguments = setup.arguments;
        let mut hart = Hart::new(elf.entry, 0);
        hart.misaligned = setup.misaligned;
        let board = Board::new(setup.config, setup.policy, setup.ram, memory, htif);
        Ok(Self { hart, board, symbols: elf.symbols().clone(), traps: 0, last_trap: None })
    }

    /// Records the command stream from here on.
    pub fn record(&mut self) {
        self.board.recorder = Some(Recorder::default());
    }

    /// The command stream recorded so far.
    pub fn take_recording(&mut self) -> Option<Program> {
        let recorder = self.board.recorder.take()?;
        Some(recorder.finish(self.board.gemmini().config()))
    }

    /// Instructions executed.
    pub fn instructions(&self) -> u64 {
        self.hart.csrs.instret
    }

    /// Exceptions that the program's handler has taken, and the last of them.
    pub fn traps(&self) -> (u64, Option<Trap>) {
        (self.traps, self.last_trap)
    }

    /// Why the program seems to be compiled for a smaller array than the configuration has.
    pub fn size_hint(&self) -> Option<String> {
        self.board.port.size_hint()
    }

    /// Names of addresses.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Executes up to `limit` instructions; why it stands still.
    pub fn run(&mut self, limit: u64) -> Stop {
        let mut left = limit;
        while left > 0 {
            if self.board.recorder.is_some() {
                // The recorder counts instructions, so each is a step.
                if let (_, Some(stop)) = self.step() {
                    return stop;
                }
                left -= 1;
                continue;
            }
            let before = self.instructions();
            let result = self.hart.run(&mut self.board, left);
            // An exception uses up the budget of an instruction, so that endless ones end.
            left = left.saturating_sub(self.instructions() - before + u64::from(result.is_err()));
            if let Err(stop) = result.or_else(|trap| self.trap(trap).map(|()| 0)).and_then(|_| self.look()) {
                return stop;
            }
        }
        if self.jumps_to_itself() { Stop::Endless } else { Stop::Limit }
    }

    /// Executes one instruction: what it did, unless it raised an exception, and why the machine stands still behind it,
    /// if it does.
    pub fn step(&mut self) -> (Option<Retired>, Option<Stop>) {
        if let Some(recorder) = &mut self.board.recorder {
            recorder.instret = self.hart.csrs.instret + 1;
        }
        match self.hart.step(&mut self.board) {
            Ok(retired) => (Some(retired), self.look().err()),
            Err(trap) => (None, self.trap(trap).err()),
        }
    }

    /// Whether the program has ended or the board has an error.
    fn look(&mut self) -> Result<(), Stop> {
        if !self.board.wants_stop() {
            return Ok(());
        }
        if let Some(error) = self.board.error.take() {
            return Err(Stop::Error(self.explain(&error)));
        }
        self.board.htif.exit_code().map_or(Ok(()), |code| Err(Stop::Exit(code)))
    }

    /// Enters the program's handler, if there is one.
    fn trap(&mut self, trap: Trap) -> Result<(), Stop> {
        if !self.hart.handles(&trap) {
            return Err(Stop::Trap(trap));
        }
        self.traps += 1;
        self.last_trap = Some(trap);
        self.hart.enter(trap);
        Ok(())
    }

    fn jumps_to_itself(&mut self) -> bool {
        self.hart.jumps_to_itself(&mut self.board)
    }

    /// The board's error with its place: the instruction before `pc`, which neither jumps nor is compressed.
    fn explain(&self, error: &BoardError) -> String {
        error.explain(&self.symbols.place(self.hart.pc.wrapping_sub(4)), self.board.gemmini().config())
    }

    /// What a stop means, with its place in the program.
    pub fn describe(&self, stop: &Stop) -> String {
        let pc = self.symbols.place(self.hart.pc);
        let instructions = self.instructions();
        match stop {
            Stop::Exit(code) => format!("exit code {code}"),
            Stop::Error(message) => message.clone(),
            Stop::Trap(trap) => unhandled_text(trap, self.hart.csrs.mtvec != 0, &self.symbols),
            Stop::Endless => format!(
                "the program jumps to itself for ever at pc {pc}, after {instructions} instructions{}",
                self.standing()
            ),
            Stop::Limit => format!(
                "stopped at the limit after {instructions} instructions, at pc {pc}{}; raise the limit if the program is \
                 meant to be longer",
                self.standing()
            ),
        }
    }

    /// What Gemmini has done when a program does not end.
    fn standing(&self) -> String {
        let commands = self.board.gemmini().counts().host_commands;
        let trap = self.last_trap.map(|trap| {
            let what = trap_text(&trap, &self.symbols);
            format!("; its trap handler was entered {} times, last for: {what}", self.traps)
        });
        let gemmini = match self.board.port.last() {
            None => "; Gemmini has had no command and waits for none".to_owned(),
            Some(command) => {
                let name = pollux_isa::table::lookup(command).map_or("unknown", |spec| spec.mnemonic);
                format!("; Gemmini has done all its {commands} commands (the last is {name}) and waits for the core")
            }
        };
        trap.unwrap_or_default() + &gemmini
    }

    /// The last exception that the program handled, for people.
    pub fn trap_text(&self, trap: &Trap) -> String {
        trap_text(trap, &self.symbols)
    }
}

/// An exception that ended a run, for people; whether the program has a handler.
pub fn unhandled_text(trap: &Trap, has_handler: bool, symbols: &Symbols) -> String {
    let what = trap_text(trap, symbols);
    if has_handler {
        format!("{what}, in the program's own trap handler")
    } else {
        format!("{what}; the program has no trap handler (mtvec is 0)")
    }
}

/// An exception with its place and what is usually behind it, for people.
pub fn trap_text(trap: &Trap, symbols: &Symbols) -> String {
    TrapText { trap, symbols }.to_string()
}

/// A trap with its place and what is usually behind it.
struct TrapText<'a> {
    trap: &'a Trap,
    symbols: &'a Symbols,
}

impl fmt::Display for TrapText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trap { pc, cause, value } = *self.trap;
        write!(f, "{cause} at pc {}", self.symbols.place(pc))?;
        use crate::trap::Cause;
        match cause {
            Cause::Illegal => write!(f, ": {}", illegal_text(value as u32)),
            Cause::FetchAccess | Cause::LoadAccess | Cause::StoreAccess => {
                write!(f, ": address {value:#x} is in no memory")
            }
            Cause::LoadMisaligned | Cause::StoreMisaligned => {
                write!(f, ": address {value:#x} is no multiple of the size, and Rocket traps there")
            }
            Cause::Breakpoint | Cause::Call => Ok(()),
        }
    }
}

/// Why a word is illegal.
fn illegal_text(word: u32) -> String {
    use crate::instruction::Instruction;
    use crate::table::Class;
    match Instruction::decode(word) {
        None => format!("the word {word:#010x} is no instruction of RV64IMAFDC"),
        Some(instruction) => {
            let reason = match instruction.class() {
                Class::Rocc => "no accelerator has this opcode, or mstatus.XS is off: the start code must set it",
                Class::Float | Class::FloatDivide | Class::Load | Class::Store => {
                    "mstatus.FS is off (the start code must set it), or the rounding mode is a reserved one"
                }
                Class::Csr => "the register does not exist in machine mode of this core, or is for reading only",
                _ => "it is not allowed here",
            };
            format!("`{}`: {reason}", instruction.text(0))
        }
    }
}
