//! What a run shows: events, what its cycles are spent on, and reports made of both.

pub mod activity;
pub mod counting;
pub mod counts;
pub mod dma_activity;
pub mod event;
pub mod observer;
pub(crate) mod profile;
pub mod report;
pub mod view;
pub mod violation;
