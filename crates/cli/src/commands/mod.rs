//! One file a subcommand.

pub mod asm;
pub mod completions;
pub mod config;
pub mod debug;
pub mod demo;
pub mod dis;
pub mod energy;
pub mod import;
pub mod isa;
pub mod lab;
pub mod lower;
pub mod man;
pub mod map;
pub mod model;
pub mod page;
pub mod quantize;
pub mod report;
pub mod run;
pub mod spike;
pub mod survey;
pub mod sweep;
pub mod verify;
