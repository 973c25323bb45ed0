//! What the core is connected to besides its port to the L2: memory's bytes, the way of commands, the host.

use pollux_functional::CommandMonitor;
use pollux_isa::{RoccCommand, RoccInstruction};
use pollux_memory::Memory;
use pollux_riscv::{AccessFault, BoardError, Bus, CommandPort, HostWords, Htif, NoAccelerator, RamPort};

use crate::rocc::CommandRouter;
use crate::rocket::environment::Environment;

/// The board.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    pub ram: RamPort,
    pub htif: Htif,
    pub host_words: Option<HostWords>,
    pub port: CommandPort,
    pub monitor: CommandMonitor,
    pub router: CommandRouter,
    /// What the core sends in this cycle.
    pub command: Option<(RoccCommand, Option<u8>)>,
    pub result_taken: bool,
    pub gemmini_busy: bool,
    pub cycle: u64,
    /// The host looks at its words in this cycle.
    pub host_at: Option<u64>,
    pub host_called: bool,
    /// Address of the instruction that called it last.
    pub host_called_at: u64,
    /// Why the program cannot go on, if it cannot.
    pub error: Option<BoardError>,
}

impl Board {
    /// Nothing that the core waits for is on its way here.
    pub fn stands(&self) -> bool {
        self.host_at.is_none() && !self.host_called && self.router.result().is_none()
    }
}

/// The core's surroundings while it is stepped.
pub(crate) struct Env<'a> {
    pub memory: &'a mut Memory,
    pub board: &'a mut Board,
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
        let Board { port, monitor, error, .. } = &mut *self.board;
        let sent = port.send(instruction, command)?;
        let checked = port.check(instruction, &sent);
        *error = checked.and_then(|()| Ok(monitor.check(&sent.command)?)).err();
        self.board.command = Some((sent.command, instruction.xd.then_some(instruction.rd)));
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
