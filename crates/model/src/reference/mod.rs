//! Integer references: what Gemmini's arithmetic makes of a quantised network, element by element. They share no code with
//! anything that lowers or runs one.

pub mod decoder;
mod encoder;
pub(crate) mod graph;
pub mod layer;
