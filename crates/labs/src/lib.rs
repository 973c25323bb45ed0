//! Labs: tasks for people who learn how Gemmini works, graded by running what they hand in.
//!
//! A lab is a TOML file ([`Lab`]) with a task and what is handed in ([`Work`]): a program, the place and the cycle of a fault, or a
//! design. Its cases are hidden: they are made from seeds as a solution is graded ([`check`]), and what is expected is computed by the
//! integer reference or the emulator, so that no solution can know its data. Every lab has a reference solution, and wrong
//! ones whose verdicts are known: they are the labs' tests.

mod design;
mod fault;
mod grade;
mod lab;
mod program;
mod reference;

pub use grade::{Grade, Seed, Verdict, check};
pub use lab::{
    Budget, BufferSpec, CauseLimit, DesignWork, Expected, FaultWork, Lab, Layer, Limits, ProgramWork, Work, all, lab,
};
