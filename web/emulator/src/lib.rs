//! Pollux in the browser.
//!
//! An [`Emulator`] holds what a page is about: a program and the files that it reads, its configuration, how it runs, and the
//! [`Session`](pollux_session::Session) in which one moves. Everything is asked for by one function, [`Emulator::request`], whose argument
//! and result are JSON ([`Request`] lists what there is), so that the other side needs no knowledge of Rust's types. The lines of
//! `pollux debug --script` are understood as they are.

mod files;
mod program;
mod request;

pub use request::{Emulator, Request};
