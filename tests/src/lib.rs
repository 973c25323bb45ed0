//! pollux-tests
