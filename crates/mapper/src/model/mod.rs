//! Performance models, side by side.

mod analytical;
pub mod conv;
pub mod machine;
pub mod product;
mod tile;

pub use conv::ConvCosts;
pub use machine::Machine;
pub use product::ProductCosts;
