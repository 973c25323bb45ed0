//! Whole quantised models as Gemmini command streams: lowered, executed, measured.
//!
//! | module | role |
//! |---|---|
//! | [`plan`] | choices for each operation as data: schedule, where rows are normalized |
//! | [`parameters`] | quantised layers as the kernels take them |
//! | [`lowering`] | a program builder that follows a plan and keeps what each operation is |
//! | [`encoder`] | BERT-family encoders |
//! | [`sparse`] | products that leave out blocks of zeros |
//! | [`host`] | what the host processor does between commands, and how long it takes |
//! | [`execute`] | functional and cycle-level runs |

pub mod encoder;
pub mod error;
pub mod execute;
pub mod host;
pub mod lowering;
pub mod operation;
pub mod parameters;
pub mod plan;
pub mod sparse;

pub use encoder::{CompiledEncoder, compile};
pub use error::CompileError;
pub use execute::{CycleRun, CycleSetup, run_cycles, run_functional};
pub use operation::{Compiled, Operation, OperationClass};
pub use plan::{Placement, Plan};
