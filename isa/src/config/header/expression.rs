//! Integer expressions of C: numbers, macros, parentheses and operators by precedence.

/// Macros that stand for macros, at most so deep.
const MAX_DEPTH: u32 = 64;

/// Binary operators from the weakest to the strongest (C11, 6.5); longer ones before their beginnings.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// The value of an expression; `definition` gives the text of a macro.
///
/// # Errors
/// What is wrong, in words.
pub fn evaluate<'a>(text: &'a str, definition: &dyn Fn(&str) -> Option<&'a str>) -> Result<i128, String> {
    evaluate_at(text, definition, 0)
}

fn evaluate_at<'a>(text: &'a str, definition: &dyn Fn(&str) -> Option<&'a str>, depth: u32) -> Result<i128, String> {
    if depth == MAX_DEPTH {
        return Err("macros refer to each other in a circle, or too deeply".to_owned());
    }
    let mut parser = Parser { rest: text.trim_start(), definition, depth };
    let value = parser.binary(0)?;
    match parser.rest.chars().next() {
        None => Ok(value),
        Some(_) => Err(format!("`{}` is not part of an expression", parser.rest.trim_end())),
    }
}

struct Parser<'a, 'd> {
    rest: &'a str,
    definition: &'d dyn Fn(&str) -> Option<&'a str>,
    /// Macros and parentheses around this text.
    depth: u32,
}

impl<'a> Parser<'a, '_> {
    fn binary(&mut self, level: usize) -> Result<i128, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.at(operator)) {
            self.skip(operator.len());
            let right = self.binary(level + 1)?;
            left = apply(operator, left, right)?;
        }
        Ok(left)
    }

    /// Whether an operator stands here, and no longer one that begins alike.
    fn at(&self, operator: &str) -> bool {
        let longer = ["||", "&&", "<<", ">>", "<=", ">="];
        let is_longer = |long: &&&str| long.len() > operator.len() && self.rest.starts_with(**long);
        self.rest.starts_with(operator) && !longer.iter().any(|long| is_longer(&long))
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest[len..].trim_start();
    }

    fn unary(&mut self) -> Result<i128, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested too deeply".to_owned());
        }
        let value = match self.rest.chars().next() {
            Some(sign @ ('-' | '+' | '~' | '!')) => {
                self.skip(1);
                let value = self.unary()?;
                match sign {
                    '-' => -value,
                    '~' => !value,
                    '!' => i128::from(value == 0),
                    _ => value,
                }
            }
            Some('(') => {
                self.skip(1);
                let value = self.binary(0)?;
                self.rest = self.rest.strip_prefix(')').ok_or("a `)` is missing")?.trim_start();
                value
            }
            Some(c) if c.is_ascii_alphanumeric() || c == '_' => self.word()?,
            Some(c) => return Err(format!("`{c}` is not part of an expression")),
            None => return Err("a value is missing".to_owned()),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self) -> Result<i128, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.skip(end);
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return number(word);
        }
        let text = (self.definition)(word).ok_or_else(|| format!("`{word}` is not defined"))?;
        evaluate_at(text, self.definition, self.depth)
    }
}

/// A decimal, hexadecimal, octal or binary number with or without the suffixes U and L.
fn number(word: &str) -> Result<i128, String> {
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match (lower.strip_prefix("0x"), lower.strip_prefix("0b"), lower.strip_prefix('0')) {
        (Some(digits), _, _) => (16, digits),
        (_, Some(digits), _) => (2, digits),
        (_, _, Some(digits)) if !digits.is_empty() => (8, digits),
        _ => (10, lower.as_str()),
    };
    u64::from_str_radix(digits, radix).map(i128::from).map_err(|_| format!("`{word}` is not a number"))
}

/// Values stay below 2^64 in size, so that nothing overflows.
fn apply(operator: &str, left: i128, right: i128) -> Result<i128, String> {
    let shift = || u32::try_from(right).ok().filter(|n| *n < 64).ok_or_else(|| format!("a shift by {right}"));
    let value = match operator {
        "||" => i128::from(left != 0 || right != 0),
        "&&" => i128::from(left != 0 && right != 0),
        "|" => left | right,
        "^" => left ^ right,
        "&" => left & right,
        "==" => i128::from(left == right),
        "!=" => i128::from(left != right),
        "<" => i128::from(left < right),
        ">" => i128::from(left > right),
        "<=" => i128::from(left <= right),
        ">=" => i128::from(left >= right),
        "<<" => left.checked_shl(shift()?).unwrap_or(i128::MAX),
        ">>" => left >> shift()?,
        "+" => left + right,
        "-" => left - right,
        "*" => left.checked_mul(right).unwrap_or(i128::MAX),
        "/" | "%" if right == 0 => return Err("it divides by zero".to_owned()),
        "/" => left / right,
        _ => left % right,
    };
    if value.unsigned_abs() < 1 << 64 { Ok(value) } else { Err("it is larger than 64 bits".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::evaluate;

    fn value(text: &str) -> Result<i128, String> {
        let definition = |name: &str| match name {
            "DIM" => Some("(1 << 4)"),
            "ROWS" => Some("4096UL * DIM"),
            "LOOP" => Some("LOOP + 1"),
            _ => None,
        };
        evaluate(text, &definition)
    }

    #[test]
    fn expressions_have_the_values_that_c_gives_them() {
        let cases = [
            ("4096*4", 16384),
            ("0x1000", 4096),
            ("010 + 0b11", 11),
            ("(64/(DIM*1))", 4),
            ("ROWS / 2u", 32768),
            ("1 + 2 * 3 - 4", 3),
            ("1 << 2 + 1", 8),
            ("6 & 3 | 8 ^ 1", 11),
            ("~0 & 0xff", 255),
            ("-(-5) % 3", 2),
            ("2 <= 2 && 3 != 3 || !0", 1),
            ("1 << 3 >> 1 < 5", 1),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        let cases = [
            ("", "a value is missing"),
            ("(1", "a `)` is missing"),
            ("1 2", "`2` is not part of an expression"),
            ("NONE", "`NONE` is not defined"),
            ("LOOP", "macros refer to each other in a circle, or too deeply"),
            ("1/0", "it divides by zero"),
            ("1 << 64", "a shift by 64"),
            ("0xffffffffffffffff * 2", "it is larger than 64 bits"),
            ("0x", "`0x` is not a number"),
            ("09", "`09` is not a number"),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), Err(expected.to_owned()), "{text}");
        }
        assert_eq!(value(&"(".repeat(100_000)), Err("it is nested too deeply".to_owned()));
    }
}
