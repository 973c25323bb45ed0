//! pollux-memory
