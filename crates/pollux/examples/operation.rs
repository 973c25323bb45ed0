//! Lowers an operation with a bias and an activation, and reads the tensor it leaves:
//! `cargo run -p pollux --example operation`.

use pollux::asm::ElementType;
use pollux::kernels::{Activation, Bias, Matmul, ProgramBuilder};
use pollux::{Config, Program};

/// The example.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = ProgramBuilder::new(Config::default())?;
    let a = builder.buffer_i8("a", 2, 3, &[1, 2, 3, -4, -5, -6])?;
    let b = builder.buffer_i8("b", 3, 2, &[1, 0, 0, 1, 1, 1])?;
    let bias = builder.buffer_i32("bias", 1, 2, &[10, 20])?;
    let c = builder.buffer("c", 2, 2, ElementType::I8)?;
    builder.begin("layer");
    let product = Matmul { bias: Bias::Row(bias), activation: Activation::Relu, ..Matmul::new(a, b, c) };
    product.lower_auto(&mut builder)?;
    let program = Program::from(builder.finish()?);

    let outcome = program.run().cycles()?;
    let c = outcome.tensor("c")?;
    println!("{:?} {:?} in {} cycles", c.shape, c.values, outcome.cycles());
    assert_eq!(c.values, [14, 25, 0, 9]);
    assert_eq!(program.run().functional()?.tensor("c")?, c);
    Ok(())
}
