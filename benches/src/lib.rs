//! pollux-benches
