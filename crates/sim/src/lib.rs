//! The cycle-level emulator: every block of Gemmini as registers and queues, clocked together.
//!
//! One file and one struct a hardware block, with the hardware's own name. Read in the order in
//! which a command and its data flow.

pub mod event;
pub mod memory;
pub mod store_controller;
pub mod load_controller;
pub mod frontend_tlb;
pub mod stream_writer;
pub mod stream_reader;
pub mod dma_parameters;
pub mod dma_activity;
pub mod dma_command_tracker;
pub mod beat_merger;
pub mod xact_tracker;
pub mod tilelink;
pub mod counter_file;
pub mod front_end;
pub mod loop_conv;
pub mod loop_matmul;
pub mod reservation_station;
mod geometry;
pub mod unroller;
pub mod queue;
pub mod row;
pub mod wires;
pub mod scratchpad;
pub mod mvout_path;
pub mod mvin_path;
pub mod zero_writer;
pub mod vector_scalar_multiplier;
pub mod scratchpad_bank;
pub mod scale_units;
pub mod pixel_repeater;
pub mod pipeline;
pub mod normalizer;
pub mod accumulator_scale;
pub mod accumulator_mem;
pub mod execute_controller;
pub mod mesh;
pub mod mesh_with_delays;
pub mod multi_headed_queue;
pub mod tag_queue;
pub mod transpose_preload_unroller;
pub mod transposer;
pub mod mesh_pe;
pub mod host;
pub mod machine;
pub mod setup;
pub mod simulation;
pub mod report;
pub mod operand_set;
