//! What the cycle emulator did, as data: recorded traces (reading golden cases, writing traces, comparing the emulator with
//! them), files for the viewers of other people, and reports.

pub mod case;
pub mod commit_log;
pub mod compare;
pub mod event_csv;
pub mod report;
pub mod timeline;
pub mod verify;

pub use case::{CaseError, GoldenCase, Region};
