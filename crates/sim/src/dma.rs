//! The DMA: controllers, the paths between the local memories and the port, and the two engines.

pub mod beat_merger;
pub mod dma_command_tracker;
pub mod dma_parameters;
pub mod load_controller;
pub mod mvin_path;
pub mod mvout_path;
pub mod pixel_repeater;
pub mod store_controller;
pub mod stream_reader;
pub mod stream_writer;
pub mod xact_tracker;
pub mod zero_writer;

#[cfg(test)]
mod tests;
