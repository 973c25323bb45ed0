//! The way from Gemmini and the core to memory: system bus, L2, memory (of a Chipyard system).
//!
//! | module | what it is |
//! |---|---|
//! | [`tilelink`] | messages and buffers |
//! | [`system_bus`] | the crossbar |
//! | [`l2`] | SiFive's inclusive cache |
//! | [`cache_cork`] | what stands between the L2 and memory |
//! | [`hierarchy`] | all of them, as a memory system behind Gemmini's port and with a port for a core |

pub mod cache_cork;
pub mod hierarchy;
pub mod l2;
pub mod system_bus;
pub mod tilelink;
