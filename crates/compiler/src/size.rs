//! How much memory an operation would take, found out before it is taken.

use crate::error::CompileError;

/// Most bytes for the operands, results, expected results and commands of one program: more than that is a slip of the
/// pen, and would end the process.
pub const MOST_BYTES: u128 = 4 << 30;

/// Bytes of a command in a program under construction, with its place in the stream.
const COMMAND_BYTES: u128 = 40;

/// Refuses what would take more than [`MOST_BYTES`]. `what` names it with its sizes.
///
/// # Errors
/// It would; the message says how much.
pub fn check(what: &str, bytes: u128) -> Result<(), CompileError> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(CompileError::TooLarge { what: what.to_owned(), needed: binary_units(bytes), most: binary_units(MOST_BYTES) })
}

/// Bytes of a product of M x K by K x N with int8 operands: A, B, the int32 sums of the reference, the result and what it
/// must be, and, `by_commands`, two commands for each block of DIM x DIM x DIM.
pub fn product_bytes([m, n, k]: [usize; 3], by_commands: bool, dim: usize) -> u128 {
    let [m, n, k] = [m, n, k].map(|extent| extent as u128);
    let blocks: u128 = [m, n, k].map(|extent| extent.div_ceil(dim.max(1) as u128)).into_iter().product();
    m * k + k * n + 6 * m * n + if by_commands { 2 * COMMAND_BYTES * blocks } else { 0 }
}

/// `3.5 GiB`
fn binary_units(bytes: u128) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (0..UNITS.len() - 1).find(|unit| bytes >> (10 * (unit + 1)) == 0).unwrap_or(UNITS.len() - 1);
    format!("{:.1} {}", bytes as f64 / (1u128 << (10 * unit)) as f64, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_sizes_are_refused_with_the_memory_they_would_need() {
        let million = 1 << 20;
        let message = check("a product", product_bytes([million; 3], false, 16)).unwrap_err().to_string();
        assert_eq!(message, "a product would need 8.0 TiB of memory, more than 4.0 GiB: choose smaller sizes");
        check("a product", product_bytes([1 << 13; 3], false, 16)).unwrap();
        assert!(check("a product", product_bytes([1 << 14; 3], true, 16)).is_err());
    }

    #[test]
    fn sizes_are_given_in_units_that_people_read() {
        assert_eq!([100, 1536, 1 << 62].map(binary_units), ["100.0 bytes", "1.5 KiB", "4.0 EiB"]);
    }
}
