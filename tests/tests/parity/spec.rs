//! The index of `programs/parity`.

use serde::Deserialize;

/// `index.toml`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    pub program: Vec<Entry>,
}

/// One of Gemmini's test programs and ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub gemmini: String,
    pub ours: String,
    pub checks: String,
    pub recorded: Option<Recorded>,
    #[serde(default = "yes")]
    pub cycles: bool,
}

/// How our command stream compares with the recorded one.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    Equal,
    Differs(String),
}

fn yes() -> bool {
    true
}
