//! The iterative multiplier and divider (`Multiplier.scala`): 8 bits of a product or one of a quotient a cycle, and fewer cycles for
//! small operands.

use pollux_riscv::Op;

/// `mulUnroll`.
const MUL_UNROLL: u32 = 8;

/// The unit: idle, or busy with a result to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MulDiv {
    /// It takes an operation.
    #[default]
    Ready,
    /// It has taken one whose operands are not known to the model yet; for a register.
    Started {
        /// Destination.
        destination: u8,
        /// Cycle of the request.
        at: u64,
    },
    /// The result is there from `done` on.
    Busy {
        /// Destination.
        destination: u8,
        /// First cycle in which the result is offered.
        done: u64,
    },
}

impl MulDiv {
    /// It takes an operation.
    pub fn ready(&self) -> bool {
        *self == Self::Ready
    }

    /// The destination of the result that it offers.
    pub fn result(&self, cycle: u64) -> Option<u8> {
        match *self {
            Self::Busy { destination, done } if done <= cycle => Some(destination),
            _ => None,
        }
    }

    /// The operands of what was started are known.
    pub fn set_operands(&mut self, op: Op, a: u64, b: u64) {
        if let Self::Started { destination, at } = *self {
            *self = Self::Busy { destination, done: at + latency(op, a, b) };
        }
    }
}

/// Cycles from the request to the result.
pub fn latency(op: Op, a: u64, b: u64) -> u64 {
    match op {
        Op::Mul => multiply(a, 0),
        // Half as wide: the first four steps are left out.
        Op::Mulw => multiply(a, 64 / MUL_UNROLL / 2),
        Op::Mulh | Op::Mulhu | Op::Mulhsu => 1 + u64::from(64 / MUL_UNROLL),
        Op::Div | Op::Rem => divide(a as i64 as i128, b as i64 as i128, op == Op::Rem),
        Op::Divu | Op::Remu => divide(i128::from(a), i128::from(b), op == Op::Remu),
        Op::Divw | Op::Remw => divide(i128::from(a as i32), i128::from(b as i32), op == Op::Remw),
        Op::Divuw | Op::Remuw => divide(i128::from(a as u32), i128::from(b as u32), op == Op::Remuw),
        _ => 1,
    }
}

/// Steps end as soon as what is left of the multiplier is zero, but not with the first and not instead of the last.
fn multiply(multiplier: u64, first: u32) -> u64 {
    let last = 64 / MUL_UNROLL - 1;
    let mut count = first;
    let mut left = if first == 0 { multiplier } else { multiplier & 0xffff_ffff };
    loop {
        let early = count != last && count != 0 && left == 0;
        if early || count == last {
            return u64::from(count - first) + 2;
        }
        left >>= MUL_UNROLL;
        count += 1;
    }
}

/// Leading zeros of the quotient are skipped at once; signs cost a cycle before and after.
fn divide(dividend: i128, divisor: i128, remainder: bool) -> u64 {
    let negative_inputs = dividend < 0 || divisor < 0;
    let by_zero = divisor == 0;
    let negative = if remainder { dividend < 0 } else { (dividend < 0) != (divisor < 0) && !by_zero };
    let magnitude = |value: i128| value.unsigned_abs() as u64;
    let log2 = |value: u64| value.checked_ilog2().unwrap_or(0);
    let skipped = if by_zero { 0 } else { !(log2(magnitude(dividend)).wrapping_sub(log2(magnitude(divisor)))) & 63 };
    // The step that finds the zeros, then one for each bit, and the last.
    let steps = if skipped >= 1 { 1 + 65 - u64::from(skipped) } else { 65 };
    1 + u64::from(negative_inputs) + steps + u64::from(negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_operands_take_fewer_cycles() {
        // As measured from the issue of the operation to that of an instruction that needs its result, one cycle less.
        assert_eq!(latency(Op::Mul, 7, 9), 3);
        assert_eq!(latency(Op::Mulw, 7, 9), 3);
        assert_eq!(latency(Op::Mulw, u64::MAX, 9), 5);
        assert_eq!(latency(Op::Mul, u64::MAX, 9), 9);
        assert_eq!(latency(Op::Remuw, 7, 5), 4);
        assert_eq!(latency(Op::Divu, 1 << 63, 1), 66);
        assert_eq!(latency(Op::Divu, 5, 0), 66);
    }
}
