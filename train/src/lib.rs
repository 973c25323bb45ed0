//! Trains the small language models of the survey's architecture search, and searches among them.

pub mod corpus;
pub mod error;
pub mod export;
pub mod judge;
pub mod network;
pub mod recipe;
pub mod search;
pub mod text;
pub mod training;
