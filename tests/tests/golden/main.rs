//! What is true of every golden case: recordings of Gemmini's RTL.

mod event_counts;
mod functional;
mod idle_skipping;
mod reports;
mod verify;
mod without_values;
