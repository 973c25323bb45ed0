//! A program: the command stream, the configuration it was made for, and the memory it starts from.
//!
//! This is what the assembler, the kernels and the importer produce, what the binary format stores,
//! and what the functional model and the cycle-level emulator run.

use std::ops::Range;

use pollux_isa::{GemminiConfig, RoccCommand, StreamItem};
use pollux_memory::Memory;

/// Element type of a DRAM buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// Signed byte (`inputType` of the integer builds).
    I8,
    /// Signed 32-bit word, little endian (`accType`).
    I32,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            ElementType::I8 => 1,
            ElementType::I32 => 4,
        }
    }

    /// Name in assembly text.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::I8 => "i8",
            ElementType::I32 => "i32",
        }
    }
}

/// A named region of DRAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Name, unique in the program.
    pub name: String,
    /// First byte's address.
    pub address: u64,
    /// Element type.
    pub element: ElementType,
    /// Extent of each dimension in elements, outermost first; rows are dense.
    pub shape: Vec<u64>,
    /// Initial contents (little endian); a buffer without any starts as zeros.
    pub data: Option<Vec<u8>>,
    /// Contents that a correct run leaves, if known.
    pub expected: Option<Vec<u8>>,
}

impl Buffer {
    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.shape.iter().product::<u64>() * self.element.size()
    }

    /// True if some extent is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Addresses of the buffer.
    pub fn range(&self) -> Range<u64> {
        self.address..self.address + self.len()
    }
}

/// A named range of scratchpad or accumulator rows; documentation for readers of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRegion {
    /// Name, unique in the program.
    pub name: String,
    /// Rows of the accumulator instead of the scratchpad.
    pub accumulator: bool,
    /// First row.
    pub row: u32,
    /// Number of rows.
    pub rows: u32,
}

/// A command stream with everything it needs to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The configuration that the commands are encoded for.
    pub config: GemminiConfig,
    /// DRAM buffers.
    pub buffers: Vec<Buffer>,
    /// Named local memory.
    pub regions: Vec<LocalRegion>,
    /// The stream.
    pub items: Vec<StreamItem>,
}

impl Program {
    /// An empty program for a configuration.
    pub fn new(config: GemminiConfig) -> Self {
        Self { config, buffers: Vec::new(), regions: Vec::new(), items: Vec::new() }
    }

    /// The commands in program order.
    pub fn commands(&self) -> impl Iterator<Item = &RoccCommand> {
        self.items.iter().filter_map(StreamItem::command)
    }

    /// The buffer of that name.
    pub fn buffer(&self, name: &str) -> Option<&Buffer> {
        self.buffers.iter().find(|b| b.name == name)
    }

    /// The memory that the program starts from: every buffer mapped and filled.
    pub fn initial_memory(&self) -> Memory {
        let mut memory = Memory::new();
        for buffer in &self.buffers {
            memory.map(buffer.range());
            if let Some(data) = &buffer.data {
                memory.write(buffer.address, data);
            }
        }
        memory
    }
}
