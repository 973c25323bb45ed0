//! [`Hart`]: the architectural state of a core, and its steps.

use pollux_isa::{RoccCommand, RoccInstruction};

use crate::bus::{AccessFault, Bus, NoAccelerator};
use crate::code::Code;
use crate::csr::Csrs;
use crate::execute::Next;
use crate::instruction::{Instruction, Register};
use crate::table::Op;
use crate::trap::{Exception, Trap};

/// What a load or store does with an address that is no multiple of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misaligned {
    /// It traps, as in Rocket.
    #[default]
    Trap,
    /// It is executed. Atomic accesses trap all the same.
    Allow,
}

/// A hardware thread: registers, control and status registers, and the instructions decoded so far.
///
/// A clone is a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Hart {
    pub(crate) x: [u64; 32],
    pub(crate) f: [u64; 32],
    /// Address of the next instruction.
    pub pc: u64,
    /// Control and status registers.
    pub csrs: Csrs,
    /// What misaligned accesses do.
    pub misaligned: Misaligned,
    /// Address of the line that `lr` has reserved.
    pub(crate) reservation: Option<u64>,
    code: Code,
}

/// What an instruction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Its address.
    pub pc: u64,
    /// Address of the next instruction.
    pub next_pc: u64,
    /// The instruction.
    pub instruction: Instruction,
    /// Values of its sources before it, in the order of [`crate::Registers::sources`]; 0 for those that it lacks.
    pub operands: [u64; 3],
    /// Its destination with the value written. The result of a RoCC command that comes later is not here.
    pub destination: Option<(Register, u64)>,
    /// Its access to memory.
    pub access: Option<MemoryAccess>,
    /// The command that it sent.
    pub rocc: Option<Rocc>,
}

impl Retired {
    /// Whether it was a jump or a branch that is taken, or returned from a handler.
    pub const fn is_taken(&self) -> bool {
        self.next_pc != self.pc.wrapping_add(self.instruction.bytes())
    }
}

/// An access to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAccess {
    /// First byte.
    pub address: u64,
    /// 1, 2, 4 or 8.
    pub bytes: u64,
    /// What was read, zero-extended.
    pub read: Option<u64>,
    /// What was written.
    pub written: Option<u64>,
}

/// A command sent to an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rocc {
    /// Instruction word, with opcode and destination.
    pub instruction: RoccInstruction,
    /// Function and values of the registers.
    pub command: RoccCommand,
}

/// State.
impl Hart {
    /// A core after reset, about to execute the instruction at `pc`, with its number in `a0` and `mhartid`, as boot code
    /// leaves it.
    pub fn new(pc: u64, hartid: u64) -> Self {
        let mut hart = Self { pc, ..Self::default() };
        hart.csrs.mhartid = hartid;
        hart.set_x(A0, hartid);
        hart
    }

    /// An integer register.
    #[inline]
    pub const fn x(&self, number: u8) -> u64 {
        self.x[(number & 31) as usize]
    }

    /// Writes an integer register; writing `x0` does nothing.
    #[inline]
    pub const fn set_x(&mut self, number: u8, value: u64) {
        self.x[(number & 31) as usize] = value;
        self.x[0] = 0;
    }

    /// A float register: 64 bits, single precision in the low half below ones.
    #[inline]
    pub const fn f(&self, number: u8) -> u64 {
        self.f[(number & 31) as usize]
    }

    /// Writes a float register.
    #[inline]
    pub const fn set_f(&mut self, number: u8, value: u64) {
        self.f[(number & 31) as usize] = value;
    }

    /// A register of either file.
    pub const fn register(&self, register: Register) -> u64 {
        match register {
            Register::X(number) => self.x(number),
            Register::F(number) => self.f(number),
        }
    }
}

/// Number of `a0`.
const A0: u8 = 10;

/// Execution.
impl Hart {
    /// The instruction at `pc`, which [`Hart::step`] would execute.
    ///
    /// # Errors
    /// No memory is there, or no instruction.
    pub fn fetch(&mut self, bus: &mut impl Bus) -> Result<Instruction, Trap> {
        self.code.fetch(self.pc, bus).copied().map_err(|exception| trap(self.pc, exception))
    }

    /// The next instruction is a jump to itself: the program never goes on, as nothing interrupts.
    pub fn jumps_to_itself(&mut self, bus: &mut impl Bus) -> bool {
        self.fetch(bus).is_ok_and(|instruction| instruction.op == Op::Jal && instruction.imm == 0)
    }

    /// Executes one instruction and says what it did.
    ///
    /// # Errors
    /// What the instruction raised; nothing has changed. [`Hart::enter`] goes to the program's handler.
    pub fn step(&mut self, bus: &mut impl Bus) -> Result<Retired, Trap> {
        let instruction = self.fetch(bus)?;
        self.step_fetched(instruction, bus)
    }

    /// The same with an instruction that was fetched from `pc` before: a pipeline executes what it has fetched, whatever
    /// is there now.
    ///
    /// # Errors
    /// What the instruction raised; nothing has changed.
    pub fn step_fetched(&mut self, instruction: Instruction, bus: &mut impl Bus) -> Result<Retired, Trap> {
        let pc = self.pc;
        let registers = instruction.registers();
        let operands = registers.sources.map(|source| source.map_or(0, |register| self.register(register)));
        let mut observed = Observed { bus, access: None, rocc: None, is_answered: false };
        if self.perform(&instruction, &mut observed)? == Decoded::Stale {
            self.code.clear();
        }
        let Observed { access, rocc, is_answered, .. } = observed;
        let written = registers.destination.filter(|_| rocc.is_none() || is_answered);
        let destination = written.map(|register| (register, self.register(register)));
        Ok(Retired { pc, next_pc: self.pc, instruction, operands, destination, access, rocc })
    }

    /// Executes up to `limit` instructions without looking at each; how many were executed. Ends early where the bus
    /// wants it.
    ///
    /// # Errors
    /// What an instruction raised. The others are counted in `instret`.
    pub fn run(&mut self, bus: &mut impl Bus, limit: u64) -> Result<u64, Trap> {
        // Out of the core, so that it can be read while the core changes.
        let mut code = std::mem::take(&mut self.code);
        let result = self.run_code(&mut code, bus, limit);
        self.code = code;
        result
    }

    fn run_code<B: Bus>(&mut self, code: &mut Code, bus: &mut B, limit: u64) -> Result<u64, Trap> {
        for executed in 0..limit {
            let pc = self.pc;
            let instruction = code.fetch(pc, bus).map_err(|exception| trap(pc, exception))?;
            if self.perform(instruction, bus)? == Decoded::Stale {
                code.clear();
            }
            if bus.wants_stop() {
                return Ok(executed + 1);
            }
        }
        Ok(limit)
    }

    /// The program has a handler for an exception, and it is not the handler that raises it.
    pub fn handles(&self, trap: &Trap) -> bool {
        let handler = self.csrs.mtvec & !3;
        handler != 0 && trap.pc != handler
    }

    /// Goes to the handler that `mtvec` names.
    pub fn enter(&mut self, trap: Trap) {
        self.reservation = None;
        self.pc = self.csrs.enter(trap.pc, trap.cause as u64, trap.value);
    }

    #[inline(always)] // see `Code::fetch`
    fn perform<B: Bus>(&mut self, instruction: &Instruction, bus: &mut B) -> Result<Decoded, Trap> {
        let decoded = match self.execute(instruction, bus) {
            Ok(Next::Pc(next)) => {
                self.pc = next;
                Decoded::Valid
            }
            Ok(Next::ForgetCode(next)) => {
                self.pc = next;
                Decoded::Stale
            }
            Err(exception) => return Err(trap(self.pc, exception)),
        };
        self.csrs.instret += 1;
        Ok(decoded)
    }
}

/// Whether decoded instructions are still those in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoded {
    Valid,
    Stale,
}

#[cold]
fn trap(pc: u64, Exception { cause, value }: Exception) -> Trap {
    Trap { pc, cause, value }
}

/// A bus that remembers what an instruction did on it.
struct Observed<'b, B> {
    bus: &'b mut B,
    access: Option<MemoryAccess>,
    rocc: Option<Rocc>,
    /// Whether the command's result is known.
    is_answered: bool,
}

impl<B: Bus> Bus for Observed<'_, B> {
    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, AccessFault> {
        let value = self.bus.load(address, bytes)?;
        self.access = Some(MemoryAccess { address, bytes, read: Some(value), written: None });
        Ok(value)
    }

    fn store(&mut self, address: u64, bytes: u64, value: u64) -> Result<(), AccessFault> {
        self.bus.store(address, bytes, value)?;
        let read = self.access.and_then(|access| access.read);
        self.access = Some(MemoryAccess { address, bytes, read, written: Some(value) });
        Ok(())
    }

    fn fetch(&mut self, address: u64) -> Result<u16, AccessFault> {
        self.bus.fetch(address)
    }

    fn rocc(&mut self, instruction: RoccInstruction, command: RoccCommand) -> Result<Option<u64>, NoAccelerator> {
        let result = self.bus.rocc(instruction, command)?;
        self.rocc = Some(Rocc { instruction, command });
        self.is_answered = result.is_some();
        Ok(result)
    }

    fn fence(&mut self) {
        self.bus.fence();
    }

    fn cycle(&self, instret: u64) -> u64 {
        self.bus.cycle(instret)
    }

    fn wants_stop(&self) -> bool {
        self.bus.wants_stop()
    }
}
