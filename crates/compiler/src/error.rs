//! Everything that can go wrong between a quantised model and its result.

use pollux_functional::ExecError;
use pollux_kernels::KernelError;
use pollux_model::graph::{RefusedNode, refused_text};
use pollux_model::{GraphError, ModelError};
use pollux_sim::simulation::RunError;
use pollux_sim::violation::Violated;
use thiserror::Error;

/// Operations of the host: one as a sentence, several as a list.
fn host_text(nodes: &[RefusedNode]) -> String {
    const LEFT: &str = "left to the host, where only the accelerator is wanted";
    match nodes {
        [_] => format!("{LEFT}: {}", refused_text(nodes)),
        _ => refused_text(nodes).replacen("not supported", LEFT, 1),
    }
}

/// An error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The model cannot be read or quantised.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A graph is malformed, or its inputs do not fit.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An operation cannot be lowered.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The plan names an operation that the model does not have.
    #[error("the plan names the operation `{name}`, which the model does not have; it has {known}")]
    UnknownOperation {
        /// Name in the plan.
        name: String,
        /// Names that would do.
        known: String,
    },
    /// The plan asks for something that an operation cannot do.
    #[error("operation `{operation}`: {what}")]
    Plan {
        /// Operation.
        operation: String,
        /// What is wrong and what would be right.
        what: String,
    },
    /// An operation of a graph has no kernel that does it.
    #[error("node `{node}` ({operator}): {what}")]
    NotLowerable {
        /// Name of the node.
        node: String,
        /// Its operator.
        operator: &'static str,
        /// What is not supported, and what would help.
        what: String,
    },
    /// Operations that are left to the host, where only the accelerator is wanted.
    #[error("{}", host_text(nodes))]
    Host {
        /// The operations, with the reasons.
        nodes: Vec<RefusedNode>,
    },
    /// A plan file is damaged.
    #[error("the plan cannot be read: {0}")]
    PlanFile(#[from] toml::de::Error),
    /// More memory than a run can have.
    #[error("{what} would need {needed} of memory, more than {most}: choose smaller sizes")]
    TooLarge {
        /// What would need it.
        what: String,
        /// Memory.
        needed: String,
        /// The most that is taken.
        most: String,
    },
    /// A list of operations that cannot be read, or has impossible sizes.
    #[error("list of operations: {0}")]
    List(String),
    /// A technique's parameter is outside its legal values.
    #[error("{technique}: {what}")]
    Technique {
        /// Technique.
        technique: &'static str,
        /// What is wrong and what would be right.
        what: String,
    },
    /// The functional model stopped.
    #[error("operation `{operation}`: {source}")]
    Functional {
        /// Operation being executed.
        operation: String,
        /// Why.
        source: ExecError,
    },
    /// The cycle-level emulator stopped.
    #[error("operation `{operation}`: {source}")]
    Cycles {
        /// Operation that was current.
        operation: String,
        /// Why.
        source: RunError,
    },
    /// The program breaks a rule of the hardware at run time.
    #[error("the RTL asserts otherwise: {0}; the result is not the program's")]
    Violation(Violated),
    /// A plot cannot be drawn.
    #[error("a plot cannot be drawn: {0}")]
    Plot(String),
}
