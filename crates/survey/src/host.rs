//! What the host does in the baseline accelerator: normalizations, activations, additions and conversions, as instructions an element.
//!
//! The paper says "floating point on the CPU" and no more. Three programs span what it may have been:
//!
//! | program | what it is |
//! |---|---|
//! | [`Code::Integer`] | integer arithmetic as the accelerator's own (I-BERT), nothing is converted; GELU stays on the accelerator |
//! | [`Code::Polynomial`] | float32, exponential and tanh by inlined polynomials; every operand converted from int8 and back |
//! | [`Code::Library`] | float32 with calls of `expf`, `erff` and `lroundf` |
//!
//! Cycles of an instruction are those of [`HostModel`]: Rocket's parameters, or four times as fast.

use pollux_compiler::host::{HostModel, HostWork};
use serde::Serialize;

use crate::layer::Layer;

/// How the host's program is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Integers.
    Integer,
    /// Float32, inlined polynomials.
    Polynomial,
    /// Float32, library calls.
    Library,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Integer, Self::Polynomial, Self::Library];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Polynomial => "float, polynomials",
            Self::Library => "float, library",
        }
    }
}

/// What the host does with elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Softmax of the scores.
    Softmax,
    /// LayerNorm.
    LayerNorm,
    /// GELU.
    Gelu,
    /// Residual additions.
    Residual,
    /// From int8 or int32 to float32.
    Dequantise,
    /// From float32 to int8.
    Quantise,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Softmax, Self::LayerNorm, Self::Gelu, Self::Residual, Self::Dequantise, Self::Quantise];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::LayerNorm => "LayerNorm",
            Self::Gelu => "GELU",
            Self::Residual => "residual",
            Self::Dequantise => "dequantise",
            Self::Quantise => "quantise",
        }
    }

    /// Elements of a layer.
    pub fn elements(self, layer: &Layer, code: Code) -> u64 {
        let (l, d, f, h) = (layer.tokens as u64, layer.hidden as u64, layer.ffn as u64, layer.heads.len() as u64);
        let (scores, stream, inner) = (h * l * l, l * d, l * f);
        match (self, code) {
            (Self::Softmax, _) => scores,
            // Two of each in a layer.
            (Self::LayerNorm | Self::Residual, _) => 2 * stream,
            // Integers stay integers, and GELU stays on the accelerator.
            (_, Code::Integer) => 0,
            (Self::Gelu, _) => inner,
            // Scores, the branch and the stream of each addition, and what goes into GELU.
            (Self::Dequantise, _) => scores + 2 * 2 * stream + inner,
            // Probabilities, what each LayerNorm yields, what GELU yields.
            (Self::Quantise, _) => scores + 2 * stream + inner,
        }
    }

    /// Instructions an element; loops have an increment and a branch a pass.
    pub fn instructions(self, code: Code) -> HostWork {
        let none = HostWork::default();
        match (self, code) {
            // Maximum; exponential: two shifts, five additions, range check, three products; sum; read-out: two conversions, clamp.
            (Self::Softmax, Code::Integer) => {
                HostWork { integer: 12 + 6, multiply: 3, float: 3, memory: 5, bytes: 9, ..none }
            }
            // Maximum, difference, reduction by log2 e (a product, two conversions, a difference), four terms, scale, sum, factor.
            (Self::Softmax, Code::Polynomial) => HostWork { integer: 3 + 6, float: 13, memory: 5, bytes: 16, ..none },
            // Maximum, difference, sum, factor; a call of expf: frame, checks, table, ten operations of double precision.
            (Self::Softmax, Code::Library) => {
                HostWork { integer: 25 + 6, float: 4 + 10, memory: 5 + 4, bytes: 16, ..none }
            }
            // Sum, difference and square, difference; read-out: two conversions, clamp.
            (Self::LayerNorm, Code::Integer) => {
                HostWork { integer: 6 + 6, multiply: 1, float: 3, memory: 5, bytes: 9, ..none }
            }
            // Sum; difference, square; difference, factor, gamma, beta.
            (Self::LayerNorm, _) => HostWork { integer: 6, float: 7, memory: 6, bytes: 16, ..none },
            // tanh's argument (four), its exponential (ten), a division, four more.
            (Self::Gelu, Code::Polynomial) => {
                HostWork { integer: 3 + 2, float: 18, float_divide: 1, memory: 2, bytes: 8, ..none }
            }
            // A call of erff: frame, intervals, two polynomials and an exponential, a division.
            (Self::Gelu, Code::Library) => {
                HostWork { integer: 30 + 2, float: 4 + 40, float_divide: 1, memory: 2 + 8, bytes: 8, ..none }
            }
            (Self::Residual, Code::Integer) => HostWork { integer: 3 + 2, memory: 3, bytes: 3, ..none },
            (Self::Residual, _) => HostWork { integer: 2, float: 1, memory: 3, bytes: 12, ..none },
            // Conversion, factor.
            (Self::Dequantise, _) => HostWork { integer: 2, float: 2, memory: 2, bytes: 5, ..none },
            // Factor, conversion, two comparisons with their branches.
            (Self::Quantise, Code::Polynomial) => HostWork { integer: 4 + 2, float: 2, memory: 2, bytes: 5, ..none },
            // The same with a call of lroundf.
            (Self::Quantise, _) => HostWork { integer: 15 + 4 + 2, float: 2, memory: 2, bytes: 5, ..none },
            (Self::Gelu, Code::Integer) => none,
        }
    }

    /// Cycles of a layer on Rocket.
    pub fn cycles(self, layer: &Layer, code: Code) -> u64 {
        let (n, one) = (self.elements(layer, code), self.instructions(code));
        let work = HostWork {
            integer: n * one.integer,
            multiply: n * one.multiply,
            divide: n * one.divide,
            float: n * one.float,
            float_divide: n * one.float_divide,
            memory: n * one.memory,
            bytes: n * one.bytes,
        };
        HostModel::default().cycles(&work)
    }
}

/// Cycles of a layer on Rocket, all tasks.
pub fn cycles(layer: &Layer, code: Code) -> u64 {
    Task::ALL.iter().map(|task| task.cycles(layer, code)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_convert_nothing_and_libraries_take_longer_than_polynomials() {
        let layer = Layer::bert_base(128);
        assert_eq!(Task::Dequantise.elements(&layer, Code::Integer), 0);
        assert_eq!(Task::Softmax.elements(&layer, Code::Integer), 12 * 128 * 128);
        let [_, polynomial, library] = Code::ALL.map(|code| cycles(&layer, code));
        assert!(polynomial < library, "{polynomial} {library}");
    }
}
