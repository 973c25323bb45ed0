//! Labs: tasks for people who learn how Gemmini works, graded by running what they hand in.
//!
//! A lab is a TOML file ([`Lab`]) with a task, a starter, the buffers that a solution declares, what must stand in the result, and
//! limits. Its cases are hidden: buffers are filled from seeds as a solution is graded ([`check`]), and what is expected is
//! computed by the integer reference, so that no solution can know its data. Every lab has a reference solution, and wrong
//! ones whose verdicts are known: they are the labs' tests.

mod grade;
mod lab;
mod reference;

pub use grade::{Grade, Verdict, check};
pub use lab::{BufferSpec, CauseLimit, Expected, Lab, Limits, all, lab};
