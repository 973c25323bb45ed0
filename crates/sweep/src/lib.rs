//! Sweeps: thousands of design points, from a manifest to one table.
//!
//! | step | module |
//! |---|---|
//! | the manifest (TOML): axes, exclusions, what is measured | [`Manifest`] |
//! | a point: work, configuration, memory, mapping; its id | [`Point`] |
//! | a point's row: cycles, traffic, causes, energy | [`evaluate`] |
//! | shards in a folder: written whole or not at all, never twice | [`Folder`] |
//! | one table of all shards, without gaps, duplicates or a mix of versions | [`Folder::merge`] |
//!
//! A shard is pure: the same manifest gives the same bytes, on every machine, however often it was interrupted. So any queue will do:
//! threads, Slurm arrays, Kubernetes jobs, Ray tasks.

mod configs;
mod error;
mod evaluate;
mod exclude;
mod folder;
mod format;
mod manifest;
mod mappings;
mod point;
mod results;
mod source;
mod table;
mod work;

pub use configs::configuration;
pub use error::SweepError;
pub use evaluate::evaluate;
pub use folder::{Folder, Identity, Merged, ShardState, write_file};
pub use format::{Format, read, write};
pub use manifest::{Manifest, Measure};
pub use point::Point;
pub use pollux_shards::Shards;
pub use results::Outcome;
pub use table::{Column, Kind, Row, Schema, Table, Value};

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
