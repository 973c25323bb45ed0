//! pollux-asm
