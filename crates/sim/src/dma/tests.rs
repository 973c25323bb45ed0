//! The DMA side alone.

mod properties;
mod traces;
