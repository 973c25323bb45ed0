//! One file a subcommand.

pub mod asm;
pub mod config;
pub mod demo;
pub mod dis;
pub mod import;
pub mod isa;
pub mod lower;
pub mod quantize;
pub mod run;
pub mod verify;
