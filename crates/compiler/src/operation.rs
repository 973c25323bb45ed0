//! What a compiled model consists of: a program, and what each of its operations is.

use std::fmt;

use pollux_asm::Program;
use pollux_kernels::{ConvSchedule, ConvShape, MatmulShape, OperationStatistics, Schedule, Statistics, View};
use serde::{Deserialize, Serialize};

use crate::host::HostStep;

/// What an operation spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationClass {
    /// A product whose result is only scaled.
    Matmul,
    /// Softmax, LayerNorm or GELU, with the product in front of it where the two are fused.
    Nonlinear,
    /// Residual additions and moves.
    DataMovement,
}

impl OperationClass {
    /// All classes.
    pub const ALL: [Self; 3] = [Self::Matmul, Self::Nonlinear, Self::DataMovement];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matmul => "matmul",
            Self::Nonlinear => "nonlinear",
            Self::DataMovement => "data movement",
        }
    }
}

impl fmt::Display for OperationClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A product and how it was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScheduledMatmul {
    /// Size.
    pub shape: MatmulShape,
    /// Tiles, loops, emission.
    pub schedule: Schedule,
}

/// A convolution and how it was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScheduledConv {
    /// Size.
    pub shape: ConvShape,
    /// Tiles, loops, emission.
    pub schedule: ConvSchedule,
}

/// One operation: the commands behind a mark of the program, or a step of the host.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Name: `layerN.PART`.
    pub name: String,
    /// Layer it belongs to.
    pub layer: Option<usize>,
    /// Class.
    pub class: OperationClass,
    /// The products that were lowered by a schedule, each different one once.
    pub matmuls: Vec<ScheduledMatmul>,
    /// The same of convolutions.
    pub convolutions: Vec<ScheduledConv>,
    /// The input, if the operation is one plain product: those that follow each other with the same input may be done
    /// [together](crate::Plan::together).
    pub shares: Option<View>,
    /// Where it normalizes may be chosen.
    pub normalizes: bool,
    /// It pools, in its stores.
    pub pools: bool,
    /// What the host does here; such an operation has no commands.
    pub host: Option<HostStep>,
    /// Commands, multiply-accumulates and bytes.
    pub work: OperationStatistics,
}

/// A model as commands and host steps.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Buffers and command stream. A mark begins each operation, in their order.
    pub program: Program,
    /// The operations.
    pub operations: Vec<Operation>,
}

impl Compiled {
    /// Whether the host takes part; only then does the program alone not give the result.
    pub fn needs_host(&self) -> bool {
        self.operations.iter().any(|operation| operation.host.is_some())
    }

    /// Commands, multiply-accumulates and bytes by operation.
    pub fn statistics(&self) -> Statistics {
        Statistics { operations: self.operations.iter().map(|operation| operation.work.clone()).collect() }
    }

    /// Name of an operation, for messages.
    pub(crate) fn operation_name(&self, index: Option<usize>) -> String {
        index.and_then(|index| self.operations.get(index)).map_or_else(String::new, |o| o.name.clone())
    }
}
