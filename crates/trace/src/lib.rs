//! pollux-trace
