//! pollux-numerics
