//! The shared L2: SiFive's inclusive cache, block by block (rocket-chip-inclusive-cache, commit 85420cf; file and line numbers in
//! the comments are of that commit, `design/craft/inclusivecache/src`).

mod banked_store;
mod directory;
mod inclusive_cache;
mod list_buffer;
mod mshr;
mod parameters;
mod sink_a;
mod sink_c;
mod sink_d;
mod source_b;
mod source_c;
mod source_d;

pub use directory::{Entry, State};
pub use inclusive_cache::{CacheInputs, InclusiveCache, OuterA};
pub use parameters::{Geometry, InclusiveCacheParameters, LINE_WORDS, WORD_BYTES};
pub use sink_d::{OuterD, OuterDOp};
pub use source_c::OuterC;
