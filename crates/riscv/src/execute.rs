//! What each instruction does.

use pollux_isa::{RoccCommand, RoccInstruction};

use crate::bus::Bus;
use crate::float::{self, Arithmetic, Double, Flags, Rounding, Single, Width};
use crate::hart::{Hart, Misaligned};
use crate::instruction::Instruction;
use crate::table::Op;
use crate::trap::{Cause, Exception};

/// Where the core goes on.
pub(crate) enum Next {
    /// At this address.
    Pc(u64),
    /// The same, with instructions decoded again.
    ForgetCode(u64),
}

/// Bytes that a reservation covers: a cache line.
const RESERVATION: u64 = 64;

/// The upper half of a float register that holds single precision.
const BOX: u64 = 0xffff_ffff_0000_0000;

const fn sext32(value: u64) -> u64 {
    value as i32 as u64
}

type Outcome<T> = Result<T, Exception>;

impl Hart {
    #[inline]
    fn r(&self, number: u8) -> u64 {
        self.x[usize::from(number & 31)]
    }

    /// Executes an instruction: everything but `pc` and `instret`.
    #[inline(always)] // see `Code::fetch`
    pub(crate) fn execute<B: Bus>(&mut self, i: &Instruction, bus: &mut B) -> Outcome<Next> {
        let next = self.pc.wrapping_add(i.bytes());
        let (a, b) = (self.r(i.rs1), self.r(i.rs2));
        let imm = i.imm as u64;
        let branch = |taken: bool| if taken { self.pc.wrapping_add(imm) } else { next };
        let address = a.wrapping_add(imm);
        let value = match i.op {
            Op::Beq => return Ok(Next::Pc(branch(a == b))),
            Op::Bne => return Ok(Next::Pc(branch(a != b))),
            Op::Blt => return Ok(Next::Pc(branch((a as i64) < b as i64))),
            Op::Bge => return Ok(Next::Pc(branch(a as i64 >= b as i64))),
            Op::Bltu => return Ok(Next::Pc(branch(a < b))),
            Op::Bgeu => return Ok(Next::Pc(branch(a >= b))),
            Op::Jal => {
                let target = self.pc.wrapping_add(imm);
                self.set_x(i.rd, next);
                return Ok(Next::Pc(target));
            }
            Op::Jalr => {
                self.set_x(i.rd, next);
                return Ok(Next::Pc(address & !1));
            }
            Op::Sb => return self.store(bus, address, 1, b, next),
            Op::Sh => return self.store(bus, address, 2, b, next),
            Op::Sw => return self.store(bus, address, 4, b, next),
            Op::Sd => return self.store(bus, address, 8, b, next),
            Op::Lb => self.load(bus, address, 1)? as i8 as u64,
            Op::Lh => self.load(bus, address, 2)? as i16 as u64,
            Op::Lw => sext32(self.load(bus, address, 4)?),
            Op::Ld => self.load(bus, address, 8)?,
            Op::Lbu => self.load(bus, address, 1)?,
            Op::Lhu => self.load(bus, address, 2)?,
            Op::Lwu => self.load(bus, address, 4)?,
            Op::Lui => imm,
            Op::Auipc => self.pc.wrapping_add(imm),
            Op::Addi => address,
            Op::Slti => u64::from((a as i64) < imm as i64),
            Op::Sltiu => u64::from(a < imm),
            Op::Xori => a ^ imm,
            Op::Ori => a | imm,
            Op::Andi => a & imm,
            Op::Slli => a << (imm & 63),
            Op::Srli => a >> (imm & 63),
            Op::Srai => (a as i64 >> (imm & 63)) as u64,
            Op::Add => a.wrapping_add(b),
            Op::Sub => a.wrapping_sub(b),
            Op::Sll => a << (b & 63),
            Op::Slt => u64::from((a as i64) < b as i64),
            Op::Sltu => u64::from(a < b),
            Op::Xor => a ^ b,
            Op::Srl => a >> (b & 63),
            Op::Sra => (a as i64 >> (b & 63)) as u64,
            Op::Or => a | b,
            Op::And => a & b,
            Op::Addiw => sext32(address),
            Op::Slliw => sext32(a << (imm & 31)),
            Op::Srliw => sext32((a as u32 >> (imm & 31)).into()),
            Op::Sraiw => (a as i32 >> (imm & 31)) as u64,
            Op::Addw => sext32(a.wrapping_add(b)),
            Op::Subw => sext32(a.wrapping_sub(b)),
            Op::Sllw => sext32(a << (b & 31)),
            Op::Srlw => sext32((a as u32 >> (b & 31)).into()),
            Op::Sraw => (a as i32 >> (b & 31)) as u64,
            Op::Mul => a.wrapping_mul(b),
            Op::Mulw => sext32(a.wrapping_mul(b)),
            Op::Mulh => ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64,
            Op::Mulhsu => (i128::from(a as i64).wrapping_mul(i128::from(b)) >> 64) as u64,
            Op::Mulhu => ((u128::from(a) * u128::from(b)) >> 64) as u64,
            Op::Div | Op::Divu | Op::Rem | Op::Remu | Op::Divw | Op::Divuw | Op::Remw | Op::Remuw => divide(i.op, a, b),
            _ => return self.execute_rare(i, bus, next),
        };
        self.set_x(i.rd, value);
        Ok(Next::Pc(next))
    }

    /// Everything but plain integer instructions.
    #[inline(never)]
    fn execute_rare<B: Bus>(&mut self, i: &Instruction, bus: &mut B, next: u64) -> Outcome<Next> {
        match i.op {
            Op::Fence => bus.fence(),
            Op::FenceI => return Ok(Next::ForgetCode(next)),
            Op::Ecall => return Err(Exception::new(Cause::Call, 0)),
            Op::Ebreak => return Err(Exception::new(Cause::Breakpoint, self.pc)),
            Op::Mret => return Ok(Next::Pc(self.csrs.leave())),
            // Nothing interrupts, and waiting may end at any time.
            Op::Wfi => {}
            Op::Csrrw | Op::Csrrs | Op::Csrrc | Op::Csrrwi | Op::Csrrsi | Op::Csrrci => self.csr(i, bus)?,
            Op::Custom0 | Op::Custom1 | Op::Custom2 | Op::Custom3 => self.rocc(i, bus)?,
            _ if i.class() == crate::table::Class::Atomic => self.atomic(i, bus)?,
            _ if !self.csrs.float_is_on() => return Err(illegal(i)),
            Op::Flw => {
                let value = self.load(bus, self.r(i.rs1).wrapping_add(i.imm as u64), 4)?;
                self.write_f(i.rd, value | BOX);
            }
            Op::Fld => {
                let value = self.load(bus, self.r(i.rs1).wrapping_add(i.imm as u64), 8)?;
                self.write_f(i.rd, value);
            }
            Op::Fsw | Op::Fsd => {
                let bytes = if i.op == Op::Fsw { 4 } else { 8 };
                return self.store(bus, self.r(i.rs1).wrapping_add(i.imm as u64), bytes, self.f(i.rs2), next);
            }
            _ => self.float(i)?,
        }
        Ok(Next::Pc(next))
    }

    #[inline(always)] // the size is known where it is called
    fn load<B: Bus>(&mut self, bus: &mut B, address: u64, bytes: u64) -> Outcome<u64> {
        if address & (bytes - 1) != 0 && self.misaligned == Misaligned::Trap {
            return Err(Exception::new(Cause::LoadMisaligned, address));
        }
        bus.load(address, bytes).map_err(|_| Exception::new(Cause::LoadAccess, address))
    }

    #[inline(always)] // the size is known where it is called
    fn store<B: Bus>(&mut self, bus: &mut B, address: u64, bytes: u64, value: u64, next: u64) -> Outcome<Next> {
        if address & (bytes - 1) != 0 && self.misaligned == Misaligned::Trap {
            return Err(Exception::new(Cause::StoreMisaligned, address));
        }
        bus.store(address, bytes, value).map_err(|_| Exception::new(Cause::StoreAccess, address))?;
        Ok(Next::Pc(next))
    }

    fn csr<B: Bus>(&mut self, i: &Instruction, bus: &B) -> Outcome<()> {
        let number = i.imm as u16;
        let cycle = bus.cycle(self.csrs.instret);
        let is_immediate = matches!(i.op, Op::Csrrwi | Op::Csrrsi | Op::Csrrci);
        let operand = if is_immediate { i.rs1.into() } else { self.r(i.rs1) };
        let old = self.csrs.read(number, cycle).map_err(|_| illegal(i))?;
        let new = match i.op {
            Op::Csrrw | Op::Csrrwi => Some(operand),
            // Setting or clearing by x0 or 0 only reads.
            _ if i.rs1 == 0 => None,
            Op::Csrrs | Op::Csrrsi => Some(old | operand),
            _ => Some(old & !operand),
        };
        if let Some(new) = new {
            self.csrs.write(number, new, cycle).map_err(|_| illegal(i))?;
        }
        self.set_x(i.rd, old);
        Ok(())
    }

    fn rocc<B: Bus>(&mut self, i: &Instruction, bus: &mut B) -> Outcome<()> {
        if !self.csrs.accelerator_is_on() {
            return Err(illegal(i));
        }
        let instruction = RoccInstruction::decode(i.word).map_err(|_| illegal(i))?;
        let rs1 = if instruction.xs1 { self.r(i.rs1) } else { 0 };
        let rs2 = if instruction.xs2 { self.r(i.rs2) } else { 0 };
        let command = RoccCommand { funct: instruction.funct, rs1, rs2 };
        let result = bus.rocc(instruction, command).map_err(|_| illegal(i))?;
        if let Some(result) = result.filter(|_| instruction.xd) {
            self.set_x(i.rd, result);
        }
        Ok(())
    }

    fn atomic<B: Bus>(&mut self, i: &Instruction, bus: &mut B) -> Outcome<()> {
        let (address, operand) = (self.r(i.rs1), self.r(i.rs2));
        let is_word = i.word >> 12 & 7 == 2;
        let bytes = if is_word { 4 } else { 8 };
        let is_load = matches!(i.op, Op::LrW | Op::LrD);
        if address & (bytes - 1) != 0 {
            let cause = if is_load { Cause::LoadMisaligned } else { Cause::StoreMisaligned };
            return Err(Exception::new(cause, address));
        }
        let line = address & !(RESERVATION - 1);
        if matches!(i.op, Op::ScW | Op::ScD) {
            let is_reserved = self.reservation.take() == Some(line);
            if is_reserved {
                bus.store(address, bytes, operand).map_err(|_| Exception::new(Cause::StoreAccess, address))?;
            }
            self.set_x(i.rd, u64::from(!is_reserved));
            return Ok(());
        }
        let cause = if is_load { Cause::LoadAccess } else { Cause::StoreAccess };
        let old = bus.load(address, bytes).map_err(|_| Exception::new(cause, address))?;
        let old = if is_word { sext32(old) } else { old };
        if is_load {
            self.reservation = Some(line);
        } else {
            let operand = if is_word { sext32(operand) } else { operand };
            let new = combine(i.op, old, operand);
            bus.store(address, bytes, new).map_err(|_| Exception::new(Cause::StoreAccess, address))?;
        }
        self.set_x(i.rd, old);
        Ok(())
    }
}

#[cold]
fn illegal(i: &Instruction) -> Exception {
    Exception::new(Cause::Illegal, i.word.into())
}

/// Division does not trap: by zero it gives all ones and the dividend, and it wraps around on overflow.
fn divide(op: Op, a: u64, b: u64) -> u64 {
    let (sa, sb) = (a as i64, b as i64);
    let (wa, wb) = (a as i32, b as i32);
    match op {
        Op::Div => {
            if b == 0 {
                u64::MAX
            } else {
                sa.wrapping_div(sb) as u64
            }
        }
        Op::Divu => a.checked_div(b).unwrap_or(u64::MAX),
        Op::Rem => {
            if b == 0 {
                a
            } else {
                sa.wrapping_rem(sb) as u64
            }
        }
        Op::Remu => a.checked_rem(b).unwrap_or(a),
        Op::Divw => {
            if wb == 0 {
                u64::MAX
            } else {
                wa.wrapping_div(wb) as u64
            }
        }
        Op::Divuw => (wa as u32).checked_div(wb as u32).map_or(u64::MAX, |q| sext32(q.into())),
        Op::Remw => {
            if wb == 0 {
                wa as u64
            } else {
                wa.wrapping_rem(wb) as u64
            }
        }
        _ => sext32((wa as u32).checked_rem(wb as u32).unwrap_or(wa as u32).into()),
    }
}

/// What an atomic access leaves in memory. Words are sign-extended, which keeps the order of unsigned ones too.
fn combine(op: Op, old: u64, operand: u64) -> u64 {
    match op {
        Op::AmoswapW | Op::AmoswapD => operand,
        Op::AmoaddW | Op::AmoaddD => old.wrapping_add(operand),
        Op::AmoxorW | Op::AmoxorD => old ^ operand,
        Op::AmoandW | Op::AmoandD => old & operand,
        Op::AmoorW | Op::AmoorD => old | operand,
        Op::AmominW | Op::AmominD => (old as i64).min(operand as i64) as u64,
        Op::AmomaxW | Op::AmomaxD => (old as i64).max(operand as i64) as u64,
        Op::AmominuW | Op::AmominuD => old.min(operand),
        _ => old.max(operand),
    }
}

/// A float register's single precision; a register that does not hold it counts as NaN.
fn unboxed(value: u64) -> u64 {
    if value & BOX == BOX { value & !BOX } else { Single::NAN }
}

/// Floats.
impl Hart {
    fn write_f(&mut self, number: u8, value: u64) {
        self.csrs.dirty_float();
        self.set_f(number, value);
    }

    fn float(&mut self, i: &Instruction) -> Outcome<()> {
        // Bit 25 tells the format of everything but the conversions between the two.
        match i.op {
            Op::FcvtSD => {
                let (value, flags) = float::narrow(self.f(i.rs1), self.rounding(i)?);
                self.finish_f(i.rd, value | BOX, flags);
                Ok(())
            }
            Op::FcvtDS => {
                self.rounding(i)?;
                let (value, flags) = float::extend(unboxed(self.f(i.rs1)));
                self.finish_f(i.rd, value, flags);
                Ok(())
            }
            _ if i.word >> 25 & 3 == 0 => {
                let operands = [i.rs1, i.rs2, i.rs3].map(|number| unboxed(self.f(number)));
                self.float_of::<Single>(i, operands, BOX)
            }
            _ => {
                let operands = [i.rs1, i.rs2, i.rs3].map(|number| self.f(number));
                self.float_of::<Double>(i, operands, 0)
            }
        }
    }

    fn rounding(&self, i: &Instruction) -> Outcome<Rounding> {
        self.csrs.rounding(i.rm).ok_or_else(|| illegal(i))
    }

    fn finish_f(&mut self, rd: u8, value: u64, flags: Flags) {
        self.csrs.raise(flags);
        self.write_f(rd, value);
    }

    fn finish_x(&mut self, rd: u8, value: u64, flags: Flags) {
        if flags != 0 {
            self.csrs.dirty_float();
            self.csrs.raise(flags);
        }
        self.set_x(rd, value);
    }

    /// An instruction of one format; `filler` are the ones above single precision.
    fn float_of<W: Width>(&mut self, i: &Instruction, [a, b, c]: [u64; 3], filler: u64) -> Outcome<()> {
        use Op::*;
        let sign = W::SIGN;
        let raised = self.csrs.raised();
        let (value, flags) = match i.op {
            FaddS | FaddD => float::arithmetic::<W>(Arithmetic::Add, [a, b, 0], self.rounding(i)?, raised),
            FsubS | FsubD => float::arithmetic::<W>(Arithmetic::Sub, [a, b, 0], self.rounding(i)?, raised),
            FmulS | FmulD => float::arithmetic::<W>(Arithmetic::Mul, [a, b, 0], self.rounding(i)?, raised),
            FdivS | FdivD => float::arithmetic::<W>(Arithmetic::Div, [a, b, 0], self.rounding(i)?, raised),
            FmaddS | FmaddD => float::arithmetic::<W>(Arithmetic::Fma, [a, b, c], self.rounding(i)?, raised),
            FmsubS | FmsubD => float::arithmetic::<W>(Arithmetic::Fma, [a, b, c ^ sign], self.rounding(i)?, raised),
            FnmsubS | FnmsubD => float::arithmetic::<W>(Arithmetic::Fma, [a ^ sign, b, c], self.rounding(i)?, raised),
            FnmaddS | FnmaddD => {
                float::arithmetic::<W>(Arithmetic::Fma, [a ^ sign, b, c ^ sign], self.rounding(i)?, raised)
            }
            FsqrtS | FsqrtD => float::sqrt::<W>(a, self.rounding(i)?, raised),
            FsgnjS | FsgnjD => (a & !sign | b & sign, 0),
            FsgnjnS | FsgnjnD => (a & !sign | !b & sign, 0),
            FsgnjxS | FsgnjxD => (a ^ b & sign, 0),
            FminS | FminD => float::min_max::<W>(a, b, false),
            FmaxS | FmaxD => float::min_max::<W>(a, b, true),
            FmvWX | FmvDX => (if filler == 0 { self.r(i.rs1) } else { self.r(i.rs1) & !BOX }, 0),
            FcvtSW | FcvtDW => float::from_integer::<W>((self.r(i.rs1) as i32).into(), self.rounding(i)?),
            FcvtSWu | FcvtDWu => float::from_integer::<W>((self.r(i.rs1) as u32).into(), self.rounding(i)?),
            FcvtSL | FcvtDL => float::from_integer::<W>((self.r(i.rs1) as i64).into(), self.rounding(i)?),
            FcvtSLu | FcvtDLu => float::from_integer::<W>(self.r(i.rs1).into(), self.rounding(i)?),
            _ => return self.float_to_x::<W>(i, a, b),
        };
        self.finish_f(i.rd, value | filler, flags);
        Ok(())
    }

    /// Instructions that write an integer register.
    fn float_to_x<W: Width>(&mut self, i: &Instruction, a: u64, b: u64) -> Outcome<()> {
        use Op::*;
        let integer = |min: i128, max: i128| {
            let (value, flags) = float::to_integer::<W>(a, self.rounding(i)?, min, max);
            Ok((value as u64, flags))
        };
        let truth = |(is_true, flags): (bool, Flags)| (u64::from(is_true), flags);
        let (value, flags) = match i.op {
            FcvtWS | FcvtWD => integer(i32::MIN.into(), i32::MAX.into())?,
            FcvtWuS | FcvtWuD => {
                let (value, flags) = integer(0, u32::MAX.into())?;
                (sext32(value), flags)
            }
            FcvtLS | FcvtLD => integer(i64::MIN.into(), i64::MAX.into())?,
            FcvtLuS | FcvtLuD => integer(0, u64::MAX.into())?,
            FeqS | FeqD => truth(float::equal::<W>(a, b)),
            FltS | FltD => truth(float::less::<W>(a, b, false)),
            FleS | FleD => truth(float::less::<W>(a, b, true)),
            FclassS | FclassD => (float::class::<W>(a), 0),
            // Moves copy the bits, boxed or not.
            FmvXW => (sext32(self.f(i.rs1)), 0),
            FmvXD => (self.f(i.rs1), 0),
            _ => return Err(illegal(i)),
        };
        self.finish_x(i.rd, value, flags);
        Ok(())
    }
}
