//! Values of expressions and the operators on them.

use pollux_isa::{AddressLayout, LocalAddr};

/// The value of an expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// A whole number; wide enough for both signs of 64-bit registers. Truth is 1, falsehood 0.
    Int(i128),
    /// A number with a fraction, for scales.
    Float(f64),
    /// The bits of a float32 as they stand.
    Float32Bits(u32),
    /// A row of the scratchpad or the accumulator.
    Local(LocalAddr),
}

impl Value {
    /// The kind of value, for messages.
    pub fn kind(self) -> &'static str {
        match self {
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Float32Bits(_) => "the bits of a float32",
            Value::Local(_) => "a local address",
        }
    }

    fn truth(condition: bool) -> Value {
        Value::Int(condition.into())
    }

    fn as_f64(self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        }
    }
}

/// `-x`, `~x` or `!x`; what is wrong otherwise.
pub(crate) fn unary(sign: &str, value: Value) -> Result<Value, String> {
    let overflow = || "the number is too large".to_owned();
    match (sign, value) {
        ("-", Value::Int(value)) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        ("-", Value::Float(value)) => Ok(Value::Float(-value)),
        ("~", Value::Int(value)) => Ok(Value::Int(!value)),
        ("!", Value::Int(value)) => Ok(Value::truth(value == 0)),
        _ => Err(format!("`{sign}` does not work on {}", value.kind())),
    }
}

/// `left sign right`, but for `&&` and `||`; what is wrong otherwise.
pub(crate) fn binary(layout: AddressLayout, sign: &str, left: Value, right: Value) -> Result<Value, String> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => int(sign, left, right),
        (Value::Local(address), Value::Int(rows)) if sign == "+" => offset(layout, address, rows),
        (Value::Int(rows), Value::Local(address)) if sign == "+" => offset(layout, address, rows),
        (Value::Local(address), Value::Int(rows)) if sign == "-" => match rows.checked_neg() {
            Some(rows) => offset(layout, address, rows),
            None => Err("the number is too large".to_owned()),
        },
        (Value::Local(left), Value::Local(right)) if sign == "==" => Ok(Value::truth(left == right)),
        (Value::Local(left), Value::Local(right)) if sign == "!=" => Ok(Value::truth(left != right)),
        _ => float(sign, left, right)
            .ok_or_else(|| format!("`{sign}` does not work on {} and {}", left.kind(), right.kind())),
    }
}

/// `left sign right` of whole numbers, but for `&&` and `||`; what is wrong otherwise.
pub(crate) fn int(sign: &str, left: i128, right: i128) -> Result<Value, String> {
    if matches!(sign, "/" | "%") && right == 0 {
        return Err("division by zero".to_owned());
    }
    let shift = u32::try_from(right).ok().filter(|shift| *shift < i128::BITS);
    let value = match sign {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        "%" => left.checked_rem(right),
        "&" => Some(left & right),
        "|" => Some(left | right),
        "^" => Some(left ^ right),
        "<<" => shift.and_then(|shift| left.checked_mul(1i128.checked_shl(shift)?)),
        ">>" => shift.map(|shift| left >> shift),
        "==" => return Ok(Value::truth(left == right)),
        "!=" => return Ok(Value::truth(left != right)),
        "<" => return Ok(Value::truth(left < right)),
        "<=" => return Ok(Value::truth(left <= right)),
        ">" => return Ok(Value::truth(left > right)),
        ">=" => return Ok(Value::truth(left >= right)),
        _ => None,
    };
    value.map(Value::Int).ok_or_else(|| format!("{left} {sign} {right} has no representable result"))
}

/// Whether `left < right`, if both are numbers.
pub(crate) fn less(left: Value, right: Value) -> Option<bool> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left < right),
        _ => Some(left.as_f64()? < right.as_f64()?),
    }
}

fn float(sign: &str, left: Value, right: Value) -> Option<Value> {
    let (left, right) = (left.as_f64()?, right.as_f64()?);
    Some(match sign {
        "+" => Value::Float(left + right),
        "-" => Value::Float(left - right),
        "*" => Value::Float(left * right),
        "/" => Value::Float(left / right),
        "==" => Value::truth(left == right),
        "!=" => Value::truth(left != right),
        "<" => Value::truth(left < right),
        "<=" => Value::truth(left <= right),
        ">" => Value::truth(left > right),
        ">=" => Value::truth(left >= right),
        _ => return None,
    })
}

/// The address some rows further on, still in its memory.
fn offset(layout: AddressLayout, address: LocalAddr, rows: i128) -> Result<Value, String> {
    if address.is_garbage(layout) {
        return Err("the garbage address has no rows".to_owned());
    }
    let (memory, memory_rows) = memory_of(layout, address.is_acc());
    let row = i128::from(address.data(layout)).checked_add(rows).unwrap_or(-1);
    if (0..i128::from(memory_rows)).contains(&row) {
        Ok(Value::Local(address.with_data(layout, row as u32)))
    } else {
        Err(format!("row {row} is outside of the {memory}, which has {memory_rows} rows"))
    }
}

/// A local memory's name and number of rows.
pub(crate) fn memory_of(layout: AddressLayout, accumulator: bool) -> (&'static str, u32) {
    if accumulator { ("accumulator", layout.acc_rows) } else { ("scratchpad", layout.sp_rows) }
}

#[cfg(test)]
mod tests {
    use pollux_isa::GemminiConfig;

    use super::*;

    fn eval(left: Value, sign: &str, right: Value) -> Result<Value, String> {
        binary(GemminiConfig::small4().layout(), sign, left, right)
    }

    #[test]
    fn whole_numbers_divide_toward_zero_and_mix_with_fractions() {
        assert_eq!(eval(Value::Int(-7), "/", Value::Int(2)), Ok(Value::Int(-3)));
        assert_eq!(eval(Value::Int(-7), "%", Value::Int(2)), Ok(Value::Int(-1)));
        assert_eq!(eval(Value::Int(1), "/", Value::Float(4.0)), Ok(Value::Float(0.25)));
    }

    #[test]
    fn results_that_do_not_exist_are_errors() {
        for (sign, right) in [("/", 0), ("%", 0), ("<<", -1), ("<<", 127), ("<<", 128), (">>", 200), ("*", i128::MAX)] {
            assert!(eval(Value::Int(2), sign, Value::Int(right)).is_err(), "{sign} {right}");
        }
        assert!(unary("-", Value::Int(i128::MIN)).is_err());
        assert!(unary("~", Value::Float(1.0)).is_err());
        assert!(eval(Value::Float(1.0), "&", Value::Int(1)).is_err());
    }

    #[test]
    fn a_local_address_moves_by_rows_inside_its_memory() {
        let address = LocalAddr::accumulator(3).with_accumulate();
        assert_eq!(
            eval(Value::Local(address), "+", Value::Int(4)),
            Ok(Value::Local(LocalAddr::accumulator(7).with_accumulate()))
        );
        let rows = i128::from(GemminiConfig::small4().acc_rows());
        for rows in [-4, rows - 3, i128::MAX, i128::MIN] {
            assert!(eval(Value::Local(address), "+", Value::Int(rows)).is_err());
            assert!(eval(Value::Local(address), "-", Value::Int(rows.saturating_neg())).is_err());
        }
        assert!(eval(Value::Local(LocalAddr::GARBAGE), "+", Value::Int(0)).is_err());
    }
}
