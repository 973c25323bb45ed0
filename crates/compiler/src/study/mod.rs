//! What models are studied with: Transformers of given shapes with pseudo-random weights, and techniques that leave work out.

pub mod synthetic;
pub mod techniques;
