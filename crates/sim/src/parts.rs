//! What several blocks are made of.

pub mod banks;
pub mod multi_headed_queue;
pub mod pipeline;
pub mod queue;
pub mod row;
pub mod wires;
