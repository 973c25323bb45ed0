//! Reports: [`Profiler`] adds up what a run's cycles are spent on, for the whole run and by operation; [`RunReport`] is the
//! result, ready to be rendered.

mod convert;
pub(crate) mod macs;
mod profiler;
mod run;

pub use macs::MacCounter;
pub use profiler::Profiler;
pub use run::{
    BankReport, BlockReport, ConflictReport, CounterReport, DmaReport, MeshReport, OperationReport, RunReport, Totals,
};

pub use crate::observation::activity::{Activity, BankUse, Block, Cause, Conflict, REGISTERS, Register, Span, Spent};

/// Gemmini's names of its event lines, by code; code 0 stands for none.
pub fn event_names() -> &'static [&'static str] {
    &crate::front_end::counter_file::EVENT_NAMES
}
