//! All arithmetic of the Gemmini accelerator, bit-exact, in one place.
//!
//! The functional model and the cycle simulator call the same functions, so a number can only be
//! right in both or wrong in both. Everything here is a pure function of integers and of IEEE-754
//! single-precision bit patterns (`u32`), or a register file with no notion of time
//! ([`normalizer::Statistics`]).
//!
//! In the order in which data meets them:
//!
//! | module | hardware | what it holds |
//! |---|---|---|
//! | [`arithmetic`] | `Arithmetic.scala` (`SIntArithmetic`) | wrap and saturate to any width, rounding right shift, ReLU |
//! | [`mesh`] | `PE.scala`, `Mesh.scala` | multiply-accumulate with the array's narrow output, row and tile kernels |
//! | [`hardfloat`] | berkeley-hardfloat | integer/float conversion, multiply, divide, unit latencies |
//! | [`scale`] | `Configs.scala`, `VectorScalarMultiplier.scala` | the load scale and the accumulator scale |
//! | [`accumulator_scale`] | `AccumulatorScale.scala` | integer GELU and exponential, the read-out of an accumulator row |
//! | [`normalizer`] | `Normalizer.scala` | sum, mean, variance, maximum, inverse deviation, sum of exponentials |
//!
//! Rounding and wrap rules, with worked examples, are in the book's chapter *Numerics*
//! (`docs/src/numerics.md`).
//!
//! # Native floating point
//!
//! Float operations use the host's `f32`. Rust's `+ - * /` and `i32 as f32` on `f32` are the correctly rounded
//! (nearest-even, subnormals kept) IEEE-754 operations, which is what hardfloat computes with
//! `round_near_even`. The places where hardfloat defines more than IEEE-754 does (the bit pattern of a NaN,
//! conversion of NaN and out-of-range values to integers, rounding toward zero) are written out explicitly.

pub mod accumulator_scale;
pub mod arithmetic;
pub mod hardfloat;
pub mod mesh;
pub mod normalizer;
pub mod scale;

pub use accumulator_scale::{IexpConstants, IexpVariant, Readout, iexp, igelu, read_row};
pub use arithmetic::{relu, rounding_shift, saturate, saturate_i8, wrap};
pub use mesh::{MeshWidth, mac, mac_row, matmul_tile};
pub use normalizer::Statistics;
pub use scale::{acc_scale, acc_scale_i8, acc_scale_row, mvin_scale_i8, mvin_scale_row};
