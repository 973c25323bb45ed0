//! What is true of random programs.

mod configurations;
mod illegal;
mod programs;
