//! The memory port: TileLink and translation.

pub mod frontend_tlb;
pub mod tilelink;
