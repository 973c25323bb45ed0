//! Recorded cycle traces: reading golden cases, writing traces, and comparing the emulator with them.

pub mod case;
pub mod compare;
pub mod event_csv;
pub mod verify;

pub use case::{CaseError, GoldenCase, Region};
