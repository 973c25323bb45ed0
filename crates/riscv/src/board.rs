//! [`Board`]: what the core is connected to in a model without time: memory, Gemmini's functional model, the host.

use std::ops::Range;

use pollux_functional::{Action, FunctionalModel, Policy};
use pollux_isa::{Command, RoccCommand, RoccInstruction, ValidConfig};
use pollux_memory::Memory;

use crate::bus::{AccessFault, Bus, NoAccelerator};
use crate::counters::Counters;
use crate::htif::Htif;
use crate::port::{BoardError, CommandPort};
use crate::ram::RamPort;
use crate::recording::Recorder;

/// Memory of a machine that nothing else is said about: 2 GiB from 0x8000_0000 on, as in riscv-isa-sim.
pub const DEFAULT_RAM: Range<u64> = 0x8000_0000..0x1_0000_0000;

/// Memory, accelerator and host around a core. A command is done when the core has sent it.
#[derive(Debug, Clone)]
pub struct Board {
    ram: RamPort,
    gemmini: FunctionalModel,
    counters: Counters,
    /// The way of commands to the accelerator.
    pub(crate) port: CommandPort,
    /// The host's side of the program.
    pub htif: Htif,
    /// The command stream so far, if it is recorded.
    pub(crate) recorder: Option<Recorder>,
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
            counters: Counters::new(&config),
            port: CommandPort::new(&config, policy.illegal == Action::Error),
            gemmini: FunctionalModel::with_policy(config, memory, policy),
            htif,
            recorder: None,
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
        let sent = self.port.send(instruction, command)?;
        let command = sent.command;
        if let Some(recorder) = &mut self.recorder {
            recorder.command(command, self.gemmini.memory());
        }
        let checked = self.port.check(instruction, &sent);
        // A program for an older Gemmini should not be blamed for what its commands mean in the present layout.
        let executed = match checked {
            Err(BoardError::Older) => Ok(()),
            _ => self.gemmini.execute(&command),
        };
        if let Err(error) = executed.map_err(BoardError::from).and(checked) {
            self.stop(error);
        }
        Ok(match sent.decoded {
            Some(Command::Counter(access)) => Some(self.counters.access(access, self.gemmini.counts())),
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
