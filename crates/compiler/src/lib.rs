//! Whole quantised models as Gemmini command streams: lowered, executed, measured.
//!
//! | module | role |
//! |---|---|
//! | [`plan`] | choices for each operation as data: schedule, where rows are normalized |
//! | [`parameters`] | quantised layers as the kernels take them |
//! | [`lowering`] | a program builder that follows a plan and keeps what each operation is |
//! | [`encoder`] | BERT-family encoders |
//! | [`graph`] | convolutional networks: INT8 graphs, operation by operation |
//! | [`list`] | lists of single operations with random operands and expected results |
//! | [`decoder`] | GPT-2-family decoders: KV cache, generation, early exit, Big/Little decoding |
//! | [`blockwise`] | products that leave out blocks of zeros, and take columns of the input twice |
//! | [`host`] | what the host processor does between commands, and how long it takes |
//! | [`execute`] | functional and cycle-level runs |
//! | [`report`] | cycles, utilisation, bytes, intensity: table, JSON, page with plots |
//! | [`size`] | how much memory an operation would take |
//! | [`study`] | Transformers with pseudo-random weights; pruning of heads, columns, blocks, weights |
//! | [`pipeline`] | from a model of either family and a text to a result: what `pollux model` does |

pub mod blockwise;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod execute;
pub mod graph;
pub mod host;
pub mod list;
pub mod lowering;
pub mod operation;
pub mod parameters;
pub mod pipeline;
pub mod plan;
pub mod random;
pub mod report;
pub mod size;
pub mod study;
mod text_run;

pub use encoder::{CompiledEncoder, compile};
pub use error::CompileError;
pub use execute::{CycleRun, CycleSetup, Divisors, run_apart, run_cycles, run_functional, time_cycles};
pub use operation::{Compiled, Operation, OperationClass};
pub use plan::{Placement, Plan};
pub use study::{synthetic, techniques};
