//! A program: the command stream, the configuration it was made for, and the memory it starts from.
//!
//! This is what the assembler, the kernels and the importer produce, what the binary format stores,
//! and what the functional model and the cycle-level emulator run.

use std::collections::HashSet;
use std::ops::Range;

use pollux_isa::{RoccCommand, StreamItem, ValidConfig};
use pollux_memory::{Memory, RangeSet};
use thiserror::Error;

/// Largest function number that a RoCC instruction word can carry (7 bits).
const MAX_FUNCT: u8 = 127;

/// Most dimensions of a buffer.
pub const MAX_RANK: usize = 32;

/// Element type of a DRAM buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// Signed byte (`inputType` of the integer builds).
    I8,
    /// Signed 32-bit word, little endian (`accType`).
    I32,
}

impl ElementType {
    /// Every element type.
    pub const ALL: [ElementType; 2] = [ElementType::I8, ElementType::I32];

    /// The type of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.name() == name)
    }

    /// Smallest and largest value.
    pub fn limits(self) -> (i64, i64) {
        match self {
            ElementType::I8 => (i8::MIN.into(), i8::MAX.into()),
            ElementType::I32 => (i32::MIN.into(), i32::MAX.into()),
        }
    }

    /// Appends a value within [`ElementType::limits`] to little-endian data; higher bits of other values are lost.
    pub fn append(self, data: &mut Vec<u8>, value: i64) {
        data.extend_from_slice(&value.to_le_bytes()[..self.size() as usize]);
    }

    /// The elements of little-endian data; bytes beyond the last whole element are left out.
    pub fn elements(self, data: &[u8]) -> impl Iterator<Item = i64> {
        data.chunks_exact(self.size() as usize).map(move |bytes| match self {
            ElementType::I8 => i64::from(bytes[0] as i8),
            ElementType::I32 => i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        })
    }

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
    /// Size in bytes, if it and the end address fit 64 bits.
    pub fn checked_len(&self) -> Option<u64> {
        let len = self.shape.iter().try_fold(self.element.size(), |len, extent| len.checked_mul(*extent))?;
        self.address.checked_add(len).map(|_| len)
    }

    /// Size in bytes of a checked buffer ([`Program::check`]).
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
    pub config: ValidConfig,
    /// DRAM buffers.
    pub buffers: Vec<Buffer>,
    /// Named local memory.
    pub regions: Vec<LocalRegion>,
    /// The stream.
    pub items: Vec<StreamItem>,
}

impl Program {
    /// An empty program for a configuration.
    pub fn new(config: ValidConfig) -> Self {
        Self { config, buffers: Vec::new(), regions: Vec::new(), items: Vec::new() }
    }

    /// The commands in program order.
    pub fn commands(&self) -> impl Iterator<Item = &RoccCommand> {
        self.items.iter().filter_map(StreamItem::command)
    }

    /// Checks what the type cannot express; everything that this crate returns has passed it.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ProgramError> {
        let mut names = HashSet::new();
        let symbols = self.buffers.iter().map(|b| &b.name).chain(self.regions.iter().map(|r| &r.name));
        for name in symbols {
            if name.is_empty() || name.contains(|c: char| c == '`' || c.is_control()) {
                return Err(ProgramError::Name(name.clone()));
            }
            if !names.insert(name) {
                return Err(ProgramError::DuplicateName(name.clone()));
            }
        }
        self.buffers.iter().try_for_each(check_buffer)?;
        self.regions.iter().try_for_each(|region| self.check_region(region))?;
        self.items.iter().enumerate().try_for_each(|(item, content)| check_item(item, content))
    }

    fn check_region(&self, region: &LocalRegion) -> Result<(), ProgramError> {
        let memory_rows = if region.accumulator { self.config.acc_rows() } else { self.config.sp_rows() };
        let end = u64::from(region.row) + u64::from(region.rows);
        if end <= u64::from(memory_rows) {
            return Ok(());
        }
        let memory = if region.accumulator { "accumulator" } else { "scratchpad" };
        Err(ProgramError::RegionOutside { region: region.name.clone(), memory, end, memory_rows })
    }

    /// The buffer of that name.
    pub fn buffer(&self, name: &str) -> Option<&Buffer> {
        self.buffers.iter().find(|b| b.name == name)
    }

    /// The addresses of all buffers: what the program owns.
    pub fn owned(&self) -> RangeSet {
        let mut owned = RangeSet::default();
        self.buffers.iter().for_each(|buffer| owned.add(buffer.range()));
        owned
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

fn check_buffer(buffer: &Buffer) -> Result<(), ProgramError> {
    let name = || buffer.name.clone();
    if buffer.shape.len() > MAX_RANK {
        return Err(ProgramError::Rank { buffer: name(), rank: buffer.shape.len() });
    }
    let expected = buffer.checked_len().ok_or_else(|| ProgramError::BufferTooLarge { buffer: name() })?;
    for (data, what) in [(&buffer.data, "initial"), (&buffer.expected, "expected")] {
        match data {
            Some(data) if data.len() as u64 != expected => {
                let actual = data.len() as u64;
                return Err(ProgramError::DataLength { buffer: name(), what, actual, expected });
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_item(item: usize, content: &StreamItem) -> Result<(), ProgramError> {
    match content {
        StreamItem::Command(command) if command.funct > MAX_FUNCT => {
            Err(ProgramError::Funct { item, funct: command.funct })
        }
        StreamItem::Write { address, bytes } if address.checked_add(bytes.len() as u64).is_none() => {
            Err(ProgramError::WriteTooLarge { item, address: *address })
        }
        _ => Ok(()),
    }
}

/// A rule of well-formed programs that is broken.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Two buffers or regions have one name.
    #[error("two buffers or regions are called `{0}`: rename one")]
    DuplicateName(String),
    /// A name that assembly text cannot express.
    #[error("{0:?} is not a name: it must not be empty, nor contain a backquote or control characters")]
    Name(String),
    /// A buffer has too many dimensions.
    #[error("buffer `{buffer}` has {rank} dimensions: it may have {MAX_RANK}")]
    Rank {
        /// Buffer.
        buffer: String,
        /// Its dimensions.
        rank: usize,
    },
    /// A buffer does not fit the address space.
    #[error("buffer `{buffer}` reaches beyond the 64-bit address space: make its shape or address smaller")]
    BufferTooLarge {
        /// Buffer.
        buffer: String,
    },
    /// Data do not fill the buffer.
    #[error("the {what} data of buffer `{buffer}` have {actual} bytes, but its shape needs {expected}")]
    DataLength {
        /// Buffer.
        buffer: String,
        /// `initial` or `expected`.
        what: &'static str,
        /// Bytes given.
        actual: u64,
        /// Bytes of the shape.
        expected: u64,
    },
    /// A region reaches beyond its memory.
    #[error("region `{region}` ends at row {end}, but the {memory} has {memory_rows} rows")]
    RegionOutside {
        /// Region.
        region: String,
        /// `scratchpad` or `accumulator`.
        memory: &'static str,
        /// One past its last row.
        end: u64,
        /// Rows of the memory.
        memory_rows: u32,
    },
    /// The function number does not fit the instruction word.
    #[error("item {item}: function {funct} does not fit the instruction word's 7 bits")]
    Funct {
        /// Index into [`Program::items`].
        item: usize,
        /// The number.
        funct: u8,
    },
    /// A write of the processor reaches beyond the address space.
    #[error("item {item}: the write to {address:#x} reaches beyond the 64-bit address space")]
    WriteTooLarge {
        /// Index into [`Program::items`].
        item: usize,
        /// First byte's address.
        address: u64,
    },
}
