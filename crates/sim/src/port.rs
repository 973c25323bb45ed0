//! The memory port: TileLink and translation.

pub mod frontend_tlb;
pub(crate) mod operand_space;
pub mod tilelink;
