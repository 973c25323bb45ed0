//! The panes of `pollux debug`.
use pollux_session::{Condition, Session};
use std::io;
/// Runs.
pub fn run(_: Session, _: Vec<Condition>) -> io::Result<()> {
    Ok(())
}
