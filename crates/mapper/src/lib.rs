//! The mapper: what is the best way to run a product or a convolution on a Gemmini?
//!
//! Read the modules in this order:
//!
//! * [`problem`]: what is to be run; [`mapping`]: how, and the program that this makes;
//! * [`space`]: all mappings of a problem, counted, enumerated, sampled; [`reuse`]: what stays in the scratchpad;
//! * [`counts`]: what a mapping makes the hardware do, predicted from its commands;
//! * [`emulate`]: the same, and the cycles, from the emulator;
//! * [`model`]: cycles without a run: three models, and a bound from below;
//! * [`search`]: the best mapping by an objective: exhaustive, random, evolutionary, guided by what the emulator answers, and as an
//!   integer program; the finalists always run on the emulator;
//! * [`network`]: whole layers and networks: a plan for all operations, and which of them are done together.

pub mod counts;
pub mod emulate;
pub mod evaluate;
pub mod formats;
pub mod mapping;
pub mod model;
pub mod network;
pub mod problem;
pub mod random;
pub mod reuse;
pub mod search;
pub mod space;
pub mod timeline;
pub mod whole;

pub use counts::Predicted;
pub use emulate::Surroundings;
pub use mapping::{Illegal, Mapping, Operands};
pub use problem::{ConvProblem, MatmulProblem, Problem, ReadOut};
pub use space::{Factors, Limits, Mapspace};

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
