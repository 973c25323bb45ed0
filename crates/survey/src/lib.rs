//! The case studies of "Full Stack Optimization of Transformer Inference: a Survey" (S. Kim et al., arXiv 2302.14017 v1), repeated on
//! exact cycles.
//!
//! | module | what it is |
//! |---|---|
//! | [`paper`], [`verdict`] | the paper's numbers, as data, and what is made of them and of a measured number |
//! | [`report`], [`figure`], [`html`], [`markdown`] | what a study yields: numbers, tables, figures; as JSON, SVG, a page, and the book's tables |
//! | [`mod@bench`], [`host`], [`layer`], [`best`] | operations on the emulator, on the host, those of a Transformer's layer, and the mapper's best way to run them |
//! | [`workload`], [`baseline`], [`mapspace`], [`fusion`], [`models`], [`nas`], [`chain`], [`techniques`] | a module a study |
//! | [`study`] | all of them by name, and how they are run |
//!
//! Nothing is concluded by hand: a study measures numbers by name, `data/paper.toml` says what the paper has under this name and what
//! counts as the same, and [`verdict`] compares the two.

pub mod baseline;
pub mod bench;
pub mod best;
pub mod chain;
pub mod figure;
pub mod found;
pub mod fusion;
pub mod host;
pub mod html;
pub mod layer;
pub mod mapspace;
pub mod markdown;
pub mod models;
pub mod nas;
pub mod paper;
pub mod report;
pub mod setting;
pub mod sqnr;
pub mod statistics;
pub mod study;
pub mod techniques;
pub mod verdict;
pub mod workload;

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
