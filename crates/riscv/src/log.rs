//! What a core did, a line an instruction, in the forms of riscv-isa-sim (Spike), so that its logs can be compared.

use std::fmt::Write as _;

use crate::hart::{MemoryAccess, Retired};
use crate::instruction::Register;

/// The word as Spike writes it: as many digits as it has.
fn word(retired: &Retired) -> String {
    let digits = 2 * retired.instruction.bytes() as usize;
    format!("0x{:0digits$x}", retired.instruction.word)
}

/// A line of `spike -l --log-commits`: address, word, and the changes of registers and memory. Changes of control and
/// status registers are not among them.
pub fn commit_line(hart: u64, retired: &Retired) -> String {
    let Retired { pc, .. } = retired;
    let mut line = format!("core {hart:3}: 3 {pc:#018x} ({})", word(retired));
    // Writing to a string does not fail.
    let _ = match retired.destination {
        Some((Register::X(number), value)) => write!(line, " x{number:<2} {value:#018x}"),
        Some((Register::F(number), value)) => write!(line, " f{number:<2} {value:#018x}"),
        None => Ok(()),
    };
    if let Some(MemoryAccess { address, bytes, read, written }) = retired.access {
        if read.is_some() {
            let _ = write!(line, " mem {address:#018x}");
        }
        if let Some(value) = written {
            let kept = if bytes == 8 { value } else { value & ((1 << (8 * bytes)) - 1) };
            let _ = write!(line, " mem {address:#018x} 0x{kept:0digits$x}", digits = 2 * bytes as usize);
        }
    }
    line
}

/// A line of `spike -l`: address, word and text.
pub fn execution_line(hart: u64, retired: &Retired) -> String {
    let Retired { pc, instruction, .. } = retired;
    format!("core {hart:3}: {pc:#018x} ({}) {}", word(retired), instruction.text(*pc))
}
