//! The `pollux` command.
fn main() {}
