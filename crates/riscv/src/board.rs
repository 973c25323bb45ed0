//! [`Board`]: what the core is connected to in a model without time: memory, Gemmini's functional model, the host.

use std::ops::Range;

use pollux_functional::{Action, ExecError, FunctionalModel, Policy};
use pollux_isa::config::Opcode;
use pollux_isa::{Command, LayoutTranslator, RoccCommand, RoccInstruction, ValidConfig};
use pollux_memory::Memory;
use thiserror::Error;

use crate::bus::{AccessFault, Bus, NoAccelerator};
use crate::counters::Counters;
use crate::evidence::Evidence;
use crate::htif::{HostError, Htif};
use crate::ram::RamPort;
use crate::recording::Recorder;

/// Memory of a machine that nothing else is said about: 2 GiB from 0x8000_0000 on, as in riscv-isa-sim.
pub const DEFAULT_RAM: Range<u64> = 0x8000_0000..0x1_0000_0000;

/// Why the board stops the core.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BoardError {
    /// Gemmini does not define the command.
    #[error(transparent)]
    Gemmini(#[from] ExecError),
    /// The program is for an older Gemmini.
    #[error(
        "loop_conv_ws_config_4 has input and weight strides of 0, as programs for a Gemmini before June 2023 send it: their loop commands have another layout; set command_layout = \"march_2023\" in the configuration (a TOML file with base = \"default16\")"
    )]
    Older,
    /// The core waits for what never comes.
    #[error(
        "the instruction asks for a result of function {0} (xd is set), which has none: the core would wait for ever; only the counter (126) has one"
    )]
    NoResult(u8),
    /// The host does not know the request.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Memory, accelerator and host around a core. A command is done when the core has sent it.
#[derive(Debug, Clone)]
pub struct Board {
    ram: RamPort,
    gemmini: FunctionalModel,
    opcode: Opcode,
    counters: Counters,
    /// Behind it commands have the present layout.
    layout: LayoutTranslator,
    /// The host's side of the program.
    pub htif: Htif,
    /// The command stream so far, if it is recorded.
    pub(crate) recorder: Option<Recorder>,
    /// The last command.
    pub(crate) last_command: Option<RoccCommand>,
    pub(crate) evidence: Evidence,
    /// Whether illegal commands are errors.
    is_strict: bool,
    pub(crate) error: Option<BoardError>,
    /// The core is to stop: the program has ended, or there is an error.
    stops: bool,
}

impl Board {
    /// A board with this memory, of which `ram` are the addresses that exist.
    pub fn new(config: ValidConfig, policy: Policy, ram: Range<u64>, mut memory: Memory, htif: Htif) -> Self {
        memory.map(ram.clone());
        Self {
            ram: RamPort::new(ram),
            opcode: config.opcodes,
            counters: Counters::new(&config),
            layout: LayoutTranslator::new(&config),
            gemmini: FunctionalModel::with_policy(config, memory, policy),
            htif,
            recorder: None,
            last_command: None,
            evidence: Evidence::default(),
            is_strict: policy.illegal == Action::Error,
            error: None,
            stops: false,
        }
    }

    /// The accelerator, with main memory.
    pub fn gemmini(&self) -> &FunctionalModel {
        &self.gemmini
    }

    /// Main memory.
    pub fn memory(&self) -> &Memory {
        self.gemmini.memory()
    }

    #[cold]
    fn serve_host(&mut self) {
        if let Err(error) = self.htif.serve(self.gemmini.memory_mut()) {
            self.stop(error.into());
        }
        self.stops |= self.htif.exit_code().is_some();
    }

    fn stop(&mut self, error: BoardError) {
        self.error = Some(error);
        self.stops = true;
    }
}

impl Bus for Board {
    #[inline(always)] // the size is known where it is called
    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, AccessFault> {
        self.ram.load(self.gemmini.memory(), address, bytes)
    }

    #[inline(always)] // the size is known where it is called
    fn store(&mut self, address: u64, bytes: u64, value: u64) -> Result<(), AccessFault> {
        self.ram.store(self.gemmini.memory_mut(), address, bytes, value)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.store(address, bytes);
        }
        if self.htif.concerns(address, bytes) {
            self.serve_host();
        }
        Ok(())
    }

    fn rocc(&mut self, instruction: RoccInstruction, command: RoccCommand) -> Result<Option<u64>, NoAccelerator> {
        if instruction.opcode != self.opcode {
            return Err(NoAccelerator);
        }
        let command = self.layout.translate(command);
        self.last_command = Some(command);
        if let Some(recorder) = &mut self.recorder {
            recorder.command(command, self.gemmini.memory());
        }
        let decoded = Command::from_rocc(self.gemmini.config(), command);
        decoded.iter().for_each(|command| self.evidence.note(command));
        if self.evidence.is_older() && self.is_strict {
            self.stop(BoardError::Older);
        } else if let Err(error) = self.gemmini.execute(&command) {
            self.stop(error.into());
        }
        Ok(match decoded {
            Some(Command::Counter(access)) => Some(self.counters.access(access, self.gemmini.counts())),
            _ if instruction.xd => {
                self.stop(BoardError::NoResult(command.funct));
                None
            }
            _ => None,
        })
    }

    fn fence(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.fence(self.gemmini.memory());
        }
    }

    #[inline]
    fn wants_stop(&self) -> bool {
        self.stops
    }
}
