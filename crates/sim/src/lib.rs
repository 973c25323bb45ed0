//! The cycle-level emulator: every block of Gemmini as registers and queues, clocked together.
//!
//! One file and one struct a hardware block, with the hardware's own name. Read in the order in
//! which a command and its data flow.

pub mod accumulator_mem;
pub mod accumulator_scale;
pub mod beat_merger;
pub mod counter_file;
pub mod dma_activity;
pub mod dma_command_tracker;
pub mod dma_parameters;
pub mod event;
pub mod execute_controller;
pub mod front_end;
pub mod frontend_tlb;
mod geometry;
pub mod host;
pub mod load_controller;
pub mod loop_conv;
pub mod loop_matmul;
pub mod machine;
pub mod memory;
pub mod mesh;
pub mod mesh_pe;
pub mod mesh_with_delays;
pub mod multi_headed_queue;
pub mod mvin_path;
pub mod mvout_path;
pub mod normalizer;
pub mod operand_set;
pub mod pipeline;
pub mod pixel_repeater;
pub mod queue;
pub mod report;
pub mod reservation_station;
pub mod row;
pub mod scale_units;
pub mod scratchpad;
pub mod scratchpad_bank;
pub mod setup;
pub mod simulation;
pub mod store_controller;
pub mod stream_reader;
pub mod stream_writer;
pub mod tag_queue;
pub mod tilelink;
pub mod transpose_preload_unroller;
pub mod transposer;
pub mod unroller;
pub mod vector_scalar_multiplier;
pub mod wires;
pub mod xact_tracker;
pub mod zero_writer;
