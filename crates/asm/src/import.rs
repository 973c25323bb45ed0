//! Plain lists of commands, one `funct rs1 rs2` a line, as programs.

use pollux_isa::{RoccCommand, StreamItem, ValidConfig};
use thiserror::Error;

use crate::diagnostic::{MAX_FAULTS, short};
use crate::program::Program;

/// A line that is not a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "line {line}: {problem}; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`"
)]
pub struct ImportError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads a list of commands: `FUNCT RS1 RS2` on each line, the function in decimal, the registers in hexadecimal with
/// or without `0x`, as traces print them. `fence` and `wait CYCLES` are understood as well; text behind `#` is a remark.
///
/// The program has no buffers: the list does not say what memory holds.
///
/// # Errors
/// The lines that cannot be read, at most 50 of them.
pub fn import_commands(config: ValidConfig, text: &str) -> Result<Program, Vec<ImportError>> {
    let mut program = Program::new(config);
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        match item(&words) {
            Ok(Some(item)) => program.items.push(item),
            Ok(None) => {}
            Err(problem) => errors.push(ImportError { line: index + 1, problem: short(problem) }),
        }
        if errors.len() == MAX_FAULTS {
            break;
        }
    }
    if errors.is_empty() { Ok(program) } else { Err(errors) }
}

fn item(words: &[&str]) -> Result<Option<StreamItem>, String> {
    match *words {
        [] => Ok(None),
        ["fence"] => Ok(Some(StreamItem::Fence)),
        ["wait", cycles] => match cycles.parse() {
            Ok(cycles) => Ok(Some(StreamItem::Wait(cycles))),
            Err(_) => Err(format!("`{cycles}` is not a number of cycles")),
        },
        [funct, rs1, rs2] => {
            let number = funct.parse().ok().filter(|funct| *funct < 128u8);
            let funct = number.ok_or_else(|| format!("`{funct}` is not a function number from 0 to 127"))?;
            Ok(Some(StreamItem::Command(RoccCommand { funct, rs1: register(rs1)?, rs2: register(rs2)? })))
        }
        _ => Err(format!("{} words", words.len())),
    }
}

fn register(word: &str) -> Result<u64, String> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let value = if digits.starts_with('+') { None } else { u64::from_str_radix(digits, 16).ok() };
    value.ok_or_else(|| format!("`{word}` is not a hexadecimal number of 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small4() -> ValidConfig {
        pollux_isa::GemminiConfig::by_name("small4").expect("a known name")
    }

    #[test]
    fn commands_fences_and_waits_are_read() {
        let text = "# mvin\n2 80000000 0x4000400000000\n\nfence # now\nwait 10\n126 0 0\n";
        let program = import_commands(small4(), text).unwrap();
        let command = |funct, rs1, rs2| StreamItem::Command(RoccCommand { funct, rs1, rs2 });
        let expected =
            [command(2, 0x8000_0000, 0x4_0004_0000_0000), StreamItem::Fence, StreamItem::Wait(10), command(126, 0, 0)];
        assert_eq!(program.items, expected);
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = "2 0\n128 0 0\n1 0 0\n2 xyz 0\nwait -1\n2 0 +1\n2 0 10000000000000000";
        let errors = import_commands(small4(), text).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ImportError::to_string).collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        line 1: 2 words; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`
        line 2: `128` is not a function number from 0 to 127; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`
        line 4: `xyz` is not a hexadecimal number of 64 bits; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`
        line 5: `-1` is not a number of cycles; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`
        line 6: `+1` is not a hexadecimal number of 64 bits; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`
        line 7: `10000000000000000` is not a hexadecimal number of 64 bits; a line is `FUNCT RS1 RS2` (decimal, hexadecimal, hexadecimal), `fence` or `wait CYCLES`
        ");
    }
}
