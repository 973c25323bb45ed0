//! What several blocks are made of.
//!
//! A block is a struct of registers and queues. Its outputs are functions of `&self`, named as the hardware's ports, or together a struct of
//! wires (`wires`); its one clock edge is `tick`, which takes the wires of the cycle and tells whether a register changed that may matter
//! to the next one. Ports between blocks are ready/valid ([`decoupled::Decoupled`]) unless the head of the file says otherwise.

pub mod banks;
pub(crate) mod canonical;
pub mod decoupled;
pub mod multi_headed_queue;
pub mod pipeline;
pub mod queue;
pub mod row;
pub mod values;
pub mod wires;
