//! The floating-point unit's pipes and their one write port (`FPU.scala`).

use super::decode::FpPipe;

/// Pipes, write port, divider, and the registers whose results are long in coming.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fpu {
    ex: Option<Stage>,
    mem: Option<Stage>,
    wb: Option<Stage>,
    /// Cycles in which the write port will be used, the next one first.
    wen: u8,
    /// Registers of the results in those cycles, if the scoreboard waits for them.
    slow: [u32; 8],
    write_port_busy: bool,
    /// The divider's register, and the cycle of its result.
    divider: Option<(u32, u64)>,
    /// Registers that wait.
    pub scoreboard: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stage {
    pipe: FpPipe,
    register: u32,
    sets_flags: bool,
}

impl Stage {
    /// `latencyMask`.
    fn mask(&self, offset: u32) -> u8 {
        match self.pipe {
            FpPipe::Latency(latency) => 1 << (u32::from(latency) - offset),
            _ => 0,
        }
    }

    /// A pipe longer than the core's has its register on the scoreboard.
    fn on_scoreboard(&self) -> bool {
        matches!(self.pipe, FpPipe::Latency(latency) if latency > 3) || matches!(self.pipe, FpPipe::DivSqrt(_))
    }
}

impl Fpu {
    /// The instruction in the core's memory stage has to be replayed (`nack_mem`).
    pub fn nack_mem(&self) -> bool {
        let divides = self.mem.is_some_and(|stage| matches!(stage.pipe, FpPipe::DivSqrt(_)));
        self.write_port_busy || divides && self.wen != 0 || self.divider.is_some()
    }

    /// The flags are complete (`fcsr_rdy`).
    pub fn flags_ready(&self) -> bool {
        let sets = |stage: &Option<Stage>| stage.is_some_and(|stage| stage.sets_flags);
        !(sets(&self.ex) || sets(&self.mem) || sets(&self.wb)) && self.wen == 0 && self.divider.is_none()
    }

    /// Nothing is under way.
    pub fn idle(&self) -> bool {
        self.ex.is_none() && self.mem.is_none() && self.wb.is_none() && self.wen == 0 && self.divider.is_none()
    }

    /// Clock edge: an instruction from decode with its register, whether those in execute and memory are killed, and whether the one in
    /// writeback is valid. Registers whose results are long in coming are put on and off the scoreboard.
    pub fn tick(&mut self, cycle: u64, issued: Option<(FpPipe, u32)>, killx: bool, killm: bool, wb_valid: bool) {
        if issued.is_none() && self.idle() {
            self.write_port_busy = false;
            return;
        }
        let nack = self.nack_mem();
        let killm = killm || nack;
        let mut cleared = 0;
        if self.wen & 1 != 0 {
            cleared |= self.slow[0];
        }
        if let Some((register, done)) = self.divider
            && done <= cycle
        {
            cleared |= register;
            self.divider = None;
        }
        let mut set = 0;
        if let Some(stage) = self.wb.filter(|stage| wb_valid && stage.on_scoreboard()) {
            set = stage.register;
        }
        self.scoreboard = self.scoreboard & !cleared | set;

        if let Some(stage) = &self.ex {
            let with_mem = self.mem.is_some_and(|mem| mem.mask(2) & stage.mask(1) != 0);
            self.write_port_busy = with_mem || self.wen & stage.mask(0) != 0;
        }
        self.wen >>= 1;
        self.slow.rotate_left(1);
        self.slow[7] = 0;
        if let Some(stage) = self.mem.filter(|_| !killm) {
            let mask = stage.mask(2);
            self.wen |= mask;
            if mask != 0 && stage.on_scoreboard() {
                self.slow[mask.trailing_zeros() as usize] = stage.register;
            }
            if let FpPipe::DivSqrt(cycles) = stage.pipe {
                self.divider = Some((stage.register, cycle + u64::from(cycles)));
            }
        }
        self.wb = self.mem.filter(|_| !killm);
        self.mem = self.ex.filter(|_| !(killx || self.mem.is_some() && killm));
        self.ex = issued.map(|(pipe, register)| Stage { pipe, register, sets_flags: true });
    }
}
