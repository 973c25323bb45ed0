//! Dense products with their parameters.

use serde::{Deserialize, Serialize};

use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::matmul::{Bias, Matmul};
use crate::view::View;

/// A dense product: `out = sat8(round((in * weights + bias) * scale))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// K.
    pub inputs: usize,
    /// J.
    pub outputs: usize,
    /// Inputs x outputs, row-major.
    pub weights: Vec<i8>,
    /// One int32 an output.
    pub bias: Vec<i32>,
    /// Factor of the read-out.
    pub scale: f32,
}

/// A [`Linear`] whose parameters are in main memory.
#[derive(Clone, Copy, Debug)]
pub struct PlacedLinear {
    weights: View,
    bias: View,
    scale: f32,
}

impl Linear {
    /// Puts weights and bias into main memory, as buffers `NAME.weights` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn place(&self, builder: &mut ProgramBuilder, name: &str) -> Result<PlacedLinear, KernelError> {
        let weights = builder.buffer_i8(&format!("{name}.weights"), self.inputs, self.outputs, &self.weights)?;
        let bias = builder.buffer_i32(&format!("{name}.bias"), 1, self.outputs, &self.bias)?;
        Ok(PlacedLinear { weights, bias, scale: self.scale })
    }
}

impl PlacedLinear {
    /// The product of an input, to be lowered with a schedule of choice.
    pub fn matmul(&self, input: View, out: View) -> Matmul {
        Matmul { bias: Bias::Row(self.bias), scale: self.scale, ..Matmul::new(input, self.weights, out) }
    }
}
