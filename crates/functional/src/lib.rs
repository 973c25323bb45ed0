//! pollux-functional
