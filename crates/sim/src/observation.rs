//! What a run shows: events, and reports made of them.

pub mod dma_activity;
pub mod event;
pub mod report;
