//! Operations of Transformers and convolutional networks as Gemmini command streams.
//!
//! Read the modules in this order:
//!
//! * [`builder`]: [`ProgramBuilder`] collects buffers and typed commands into a `pollux_asm::Program`;
//! * [`allocator`], [`view`]: rows of the local memories, matrices in main memory;
//! * [`schedule`]: how a product is cut into tiles, as data;
//! * [`matmul`]: products in both dataflows, by single commands or the unroller, with everything fused that can be;
//! * [`activation`] and `normalize`: activations at read-out, and the passes that normalize rows;
//! * [`norm`]: activations of a matrix in main memory; [`resadd`]: residual addition;
//! * [`conv`], [`average`], [`max_pool`]: convolutions with max pooling, pooling alone;
//! * [`diagonal`]: sums of diagonal products: residual addition, gamma and beta, GELU and LayerNorm in one operation; and
//!   residual addition to an int32 stream;
//! * [`attention`], [`linear`]: the parts of an encoder layer: scores with softmax, context, products with their biases;
//! * [`statistics`]: multiply-accumulates and bytes by operation.

pub mod activation;
pub mod allocator;
pub mod attention;
pub mod average;
pub mod builder;
pub mod conv;
pub mod diagonal;
pub mod error;
pub mod linear;
pub mod matmul;
pub mod max_pool;
pub mod norm;
mod normalize;
pub mod resadd;
pub mod schedule;
pub mod statistics;
mod tiling;
pub mod view;

pub use activation::{Activation, GeluConstants, SoftmaxConstants};
pub use attention::{AttentionParams, Mask};
pub use average::{AveragePoolShape, GlobalAverage};
pub use builder::ProgramBuilder;
pub use conv::{Conv, ConvAxis, ConvSchedule, ConvScheduleError, ConvShape, Pool, TrainingOptions, WeightLayout};
pub use diagonal::{ColumnGroup, DiagonalSum, DiagonalTerm, ResidualNorm, ResidualNormViews};
pub use error::KernelError;
pub use linear::{Linear, PlacedLinear};
pub use matmul::{Bias, Matmul, Residents};
pub use max_pool::MaxPoolShape;
pub use norm::Norm;
pub use resadd::{ResidualAdd, ResidualAddSchedule};
pub use schedule::{Axis, Dataflow, Emission, Keep, MatmulShape, Normalization, Schedule, ScheduleError, Tile};
pub use statistics::{OperationStatistics, Statistics};
pub use view::View;
