//! pollux-isa
