//! What the pipeline has to know of an instruction (`IDecode.scala`, `FPU.scala`).

use pollux_riscv::{Class, Instruction, Op, Register};

/// `addi x0, x0, 0`: what stands for an instruction that has to be fetched again, or is none.
pub const NOP: u32 = 0x13;

/// Which unit an instruction occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing but the pipeline.
    None,
    /// Load, store or atomic access.
    Memory {
        /// It reads.
        read: bool,
        /// It writes.
        write: bool,
        /// Logarithm of its bytes.
        size: u8,
    },
    /// Multiplier and divider.
    MulDiv,
    /// A control and status register.
    Csr,
    /// A command to Gemmini.
    Rocc,
    /// `fence`.
    Fence,
    /// `fence.i`.
    FenceI,
    /// None, as the word is no instruction: it raises an exception.
    Illegal,
}

/// The floating-point pipe of an instruction (`FPU.scala`), with its latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FpPipe {
    /// No pipe with a result in the float file.
    None,
    /// A pipe of so many cycles.
    Latency(u8),
    /// Divider and square root, with the cycles of its iterations.
    DivSqrt(u8),
}

/// Changes of the program counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// None.
    Next,
    /// Conditional branch.
    Branch,
    /// `jal`.
    Jal,
    /// `jalr`.
    Jalr,
}

/// Control signals.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    /// The instruction.
    pub instruction: Instruction,
    /// Integer sources, 0 if there is none.
    pub x_sources: [u8; 2],
    /// Integer destination, 0 if there is none.
    pub x_destination: u8,
    /// It uses the integer file's write port (`wxd`), `x0` included.
    pub wxd: bool,
    /// Float registers read, a bit each.
    pub f_sources: u32,
    /// Float register written, a bit.
    pub f_destination: u32,
    /// It belongs to the FPU too (`fp`).
    pub fp: bool,
    /// Pipe of the FPU.
    pub fp_pipe: FpPipe,
    /// Unit.
    pub unit: Unit,
    /// Change of the program counter.
    pub flow: Flow,
    /// The pipeline is emptied behind it.
    pub flush: bool,
    /// Its result cannot be had from the execute stage (`ex_cannot_bypass`).
    pub slow_ex: bool,
    /// Its result cannot be had from the memory stage (`mem_cannot_bypass`).
    pub slow_mem: bool,
}

impl Decoded {
    /// The signals of an instruction.
    pub fn new(instruction: Instruction) -> Self {
        let registers = instruction.registers();
        let class = instruction.class();
        let x = |register: Option<Register>| match register {
            Some(Register::X(number)) => number,
            _ => 0,
        };
        let f = |register: Option<Register>| match register {
            Some(Register::F(number)) => 1u32 << number,
            _ => 0,
        };
        let [a, b, c] = registers.sources;
        let x_sources = [x(a), x(b)];
        let f_sources = f(a) | f(b) | f(c);
        let f_destination = f(registers.destination);
        let unit = unit(&instruction);
        let flow = match (class, instruction.op) {
            (Class::Branch, _) => Flow::Branch,
            (Class::Jump, Op::Jal) => Flow::Jal,
            (Class::Jump, _) => Flow::Jalr,
            _ => Flow::Next,
        };
        let fp = f_sources != 0 || f_destination != 0;
        let wxd = match class {
            Class::Alu | Class::Jump | Class::Multiply | Class::Divide | Class::Csr | Class::Atomic => true,
            Class::Load => f_destination == 0,
            Class::Float | Class::FloatDivide => f_destination == 0,
            Class::Rocc => instruction.rm & 4 != 0,
            _ => false,
        };
        let is_memory = matches!(unit, Unit::Memory { .. });
        let late = matches!(unit, Unit::MulDiv | Unit::Csr | Unit::Rocc) || fp;
        // Words and double words are there in time for the bypass; bytes and halves are not (`ex_slow_bypass`).
        let slow_load = matches!(unit, Unit::Memory { size, .. } if size < 2)
            || instruction.op == Op::ScW
            || instruction.op == Op::ScD;
        Self {
            instruction,
            x_sources,
            x_destination: x(registers.destination),
            wxd,
            f_sources,
            f_destination,
            fp,
            fp_pipe: fp_pipe(&instruction, f_destination != 0),
            unit,
            flow,
            flush: flushes(&instruction),
            slow_ex: late || is_memory || flow == Flow::Jalr,
            slow_mem: late || slow_load,
        }
    }

    /// The signals of a word that is no instruction.
    pub fn illegal() -> Self {
        let nop = Instruction::decode(NOP).expect("an instruction");
        Self { unit: Unit::Illegal, wxd: false, ..Self::new(nop) }
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        self.instruction.bytes()
    }

    /// It is compressed.
    pub fn rvc(&self) -> bool {
        self.instruction.bytes() == 2
    }

    /// It reads or writes memory.
    pub fn is_memory(&self) -> bool {
        matches!(self.unit, Unit::Memory { .. })
    }

    /// It reads memory.
    pub fn reads(&self) -> bool {
        matches!(self.unit, Unit::Memory { read: true, .. })
    }
}

fn unit(instruction: &Instruction) -> Unit {
    let size = |op: Op| match op {
        Op::Lb | Op::Lbu | Op::Sb => 0,
        Op::Lh | Op::Lhu | Op::Sh => 1,
        Op::Lw | Op::Lwu | Op::Sw | Op::Flw | Op::Fsw => 2,
        _ => 3,
    };
    let op = instruction.op;
    match instruction.class() {
        Class::Load => Unit::Memory { read: true, write: false, size: size(op) },
        Class::Store => Unit::Memory { read: false, write: true, size: size(op) },
        Class::Atomic => {
            let size = if instruction.word >> 12 & 7 == 2 { 2 } else { 3 };
            let (lr, sc) = (matches!(op, Op::LrW | Op::LrD), matches!(op, Op::ScW | Op::ScD));
            Unit::Memory { read: !sc, write: !lr, size }
        }
        Class::Multiply | Class::Divide => Unit::MulDiv,
        Class::Csr | Class::System => Unit::Csr,
        Class::Rocc => Unit::Rocc,
        Class::Fence if op == Op::FenceI => Unit::FenceI,
        Class::Fence => Unit::Fence,
        _ => Unit::None,
    }
}

/// Latencies of the pipes (`sfmaLatency` 3, `dfmaLatency` 4, `FPToFP` and `IntToFP` 2).
fn fp_pipe(instruction: &Instruction, writes_f: bool) -> FpPipe {
    let double = instruction.row().mnemonic.contains(".d");
    match instruction.class() {
        // `DivSqrtRecFN_small`: a bit of the quotient a cycle, and what is around it.
        Class::FloatDivide => FpPipe::DivSqrt(if double { 55 } else { 26 }),
        Class::Float if writes_f => {
            let name = instruction.row().mnemonic;
            let fused = ["fadd", "fsub", "fmul", "fmadd", "fmsub", "fnmadd", "fnmsub"]
                .iter()
                .any(|stem| name.starts_with(stem));
            FpPipe::Latency(match (fused, double) {
                (true, false) => 3,
                (true, true) => 4,
                (false, _) => 2,
            })
        }
        _ => FpPipe::None,
    }
}

/// `fence.i`, and writes of registers that change how instructions are executed (`write_flush`, `CSR.scala`).
fn flushes(instruction: &Instruction) -> bool {
    match instruction.class() {
        Class::System => true,
        Class::Fence => instruction.op == Op::FenceI,
        Class::Csr => {
            let only_reads = !matches!(instruction.op, Op::Csrrw | Op::Csrrwi) && instruction.rs1 == 0;
            let number = instruction.imm as u32 & 0xfff;
            // All but `mscratch` to `mtval`, whatever the privilege in the number.
            let plain = (0x340..=0x343).contains(&(number | 0x300));
            !only_reads && !plain
        }
        _ => false,
    }
}
