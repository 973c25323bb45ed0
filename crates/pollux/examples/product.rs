//! Runs a product of two matrices and prints its cycles: `cargo run -p pollux --example product`.

use pollux::{Config, Program};

/// The example.
pub fn main() -> Result<(), pollux::Error> {
    let (m, k, n) = (64, 48, 32);
    let a: Vec<i8> = (0..m * k).map(|i| (i % 7) as i8 - 3).collect();
    let b: Vec<i8> = (0..k * n).map(|i| (i % 5) as i8 - 2).collect();
    let program = Program::matmul(&Config::default(), [m, k, n], &a, &b)?;
    let (outcome, report) = program.run().report()?;
    let c = outcome.tensor("C")?;
    let expected =
        |row: usize, col: usize| (0..k).map(|i| i64::from(a[row * k + i]) * i64::from(b[i * n + col])).sum::<i64>();
    assert_eq!(c.values[n + 1], expected(1, 1));
    println!("{} commands, {} cycles", program.commands().count(), outcome.cycles());
    println!("array used in {:.0} % of the cycles", 100.0 * report.mesh.utilisation);
    Ok(())
}
