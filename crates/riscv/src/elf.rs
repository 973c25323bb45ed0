//! Program files: ELF for RV64, linked for bare metal.

use std::collections::BTreeMap;
use std::ops::Range;

use object::elf::{EM_RISCV, ET_EXEC, FileHeader32, FileHeader64, PT_INTERP, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SymbolKind};
use pollux_isa::GemminiConfig;
use pollux_memory::Memory;
use thiserror::Error;

/// A program file.
#[derive(Debug, Clone, Default)]
pub struct Elf {
    /// Address of the first instruction.
    pub entry: u64,
    segments: Vec<Segment>,
    /// Sections with instructions.
    pub code: Vec<Section>,
    symbols: Symbols,
    /// The words of the host interface, if the program has it.
    pub host: Option<HostWords>,
    /// DIM of the array that it was compiled for, if it says so: Pollux's own header makes it.
    pub dim: Option<u16>,
}

/// A part of the program that is loaded.
#[derive(Debug, Clone)]
struct Segment {
    address: u64,
    bytes: Vec<u8>,
    /// Bytes in memory; those behind `bytes` are zero.
    length: u64,
}

/// A section with instructions.
#[derive(Debug, Clone)]
pub struct Section {
    /// Name.
    pub name: String,
    /// First byte.
    pub address: u64,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Addresses of the host interface's two words (HTIF).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostWords {
    /// The program writes here.
    pub tohost: u64,
    /// The host answers here.
    pub fromhost: u64,
}

/// Why a file is no program for this core.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// Not ELF, or damaged.
    #[error("not a readable ELF file: {0}")]
    Damaged(String),
    /// An ELF file for 32 bits.
    #[error("an ELF file for 32 bits: the core is RV64; compile with -march=rv64gc -mabi=lp64d")]
    Bits32,
    /// An ELF file for another machine.
    #[error("an ELF file for another machine (e_machine {0}, RISC-V is 243): compile with riscv64-unknown-elf-gcc")]
    Machine(u16),
    /// Big-endian.
    #[error("a big-endian ELF file: the core is little-endian")]
    BigEndian,
    /// Not linked to fixed addresses.
    #[error("not an executable at fixed addresses (e_type {0}): link with -static -no-pie, without -c or -shared")]
    Type(u16),
    /// For an operating system.
    #[error(
        "linked for an operating system (it names a dynamic linker): link for bare metal, -static -nostartfiles with start code"
    )]
    Dynamic,
    /// A segment is where no memory is.
    #[error(
        "a segment of {length} bytes at {address:#x} is outside the memory {:#x} to {:#x}: link for these addresses (Linux and proxy kernel programs are not supported), or change the memory",
        memory.start, memory.end - 1
    )]
    Outside {
        /// First byte.
        address: u64,
        /// Bytes.
        length: u64,
        /// What there is.
        memory: Range<u64>,
    },
    /// Object files for different arrays.
    #[error("its object files were compiled for arrays of different size (GEMMINI_DIM is {0} in one, {1} in another)")]
    Dims(u16, u16),
    /// The program was compiled for another array.
    #[error(
        "compiled for DIM = {program} (GEMMINI_DIM), but the configuration `{config}` has DIM = {dim}: give another configuration with --config or --params, or compile with -DGEMMINI_DIM={dim}"
    )]
    Dim {
        /// What the program says.
        program: u16,
        /// Name of the configuration.
        config: String,
        /// What that has.
        dim: u32,
    },
    /// The program starts where no memory is.
    #[error("the entry point {0:#x} is in no loaded segment")]
    Entry(u64),
}

fn damaged(error: impl std::fmt::Display) -> ElfError {
    ElfError::Damaged(error.to_string())
}

impl Elf {
    /// Whether the contents begin as those of an ELF file do.
    pub fn is_elf(contents: &[u8]) -> bool {
        contents.starts_with(b"\x7fELF")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is damaged, or not for this core.
    pub fn parse(contents: &[u8]) -> Result<Self, ElfError> {
        check_kind(contents)?;
        let header = FileHeader64::<LittleEndian>::parse(contents).map_err(damaged)?;
        let (machine, kind) = (header.e_machine.get(LittleEndian), header.e_type.get(LittleEndian));
        if machine != EM_RISCV {
            return Err(ElfError::Machine(machine.0));
        }
        if kind != ET_EXEC {
            return Err(ElfError::Type(kind.0));
        }
        let mut elf = Self { entry: header.e_entry.get(LittleEndian), ..Self::default() };
        for segment in header.program_headers(LittleEndian, contents).map_err(damaged)? {
            match segment.p_type(LittleEndian) {
                PT_INTERP => return Err(ElfError::Dynamic),
                PT_LOAD => elf.segments.push(load(segment, contents)?),
                _ => {}
            }
        }
        elf.read_sections(contents)?;
        let holds_entry = |segment: &Segment| elf.entry.wrapping_sub(segment.address) < segment.length;
        if elf.segments.iter().any(holds_entry) { Ok(elf) } else { Err(ElfError::Entry(elf.entry)) }
    }

    fn read_sections(&mut self, contents: &[u8]) -> Result<(), ElfError> {
        let file = object::read::elf::ElfFile64::<LittleEndian>::parse(contents).map_err(damaged)?;
        for section in file.sections().filter(|section| section.kind() == object::SectionKind::Text) {
            let name = String::from_utf8_lossy(section.name_bytes().map_err(damaged)?).into_owned();
            let bytes = section.data().map_err(damaged)?.to_vec();
            self.code.push(Section { name, address: section.address(), bytes });
        }
        self.symbols = Symbols::read(&file);
        if let Some(section) = file.section_by_name(pollux_isa::c_header::DIM_SECTION) {
            self.dim = dim(section.data().map_err(damaged)?)?;
        }
        let host = file.section_by_name(".tohost").map(|section| section.address());
        // A stripped file has the section all the same; its two words have a cache line each.
        let tohost = self.symbols.address("tohost").or(host);
        self.host = tohost.map(|tohost| {
            let fromhost = self.symbols.address("fromhost").unwrap_or_else(|| tohost.wrapping_add(64));
            HostWords { tohost, fromhost }
        });
        Ok(())
    }

    /// Loads the segments into a memory, which has bytes at the addresses of `ram`.
    ///
    /// # Errors
    /// A segment is outside.
    pub fn load(&self, ram: &Range<u64>, memory: &mut Memory) -> Result<(), ElfError> {
        for Segment { address, bytes, length } in &self.segments {
            let end = address.checked_add(*length);
            if *address < ram.start || end.is_none_or(|end| end > ram.end) {
                return Err(ElfError::Outside { address: *address, length: *length, memory: ram.clone() });
            }
            memory.write(*address, bytes);
        }
        Ok(())
    }

    /// Checks that the program is for this array, if it says for which.
    ///
    /// # Errors
    /// It is for another one.
    pub fn check_dim(&self, config: &GemminiConfig) -> Result<(), ElfError> {
        match self.dim {
            Some(program) if u32::from(program) != config.dim() => {
                Err(ElfError::Dim { program, config: config.name.clone(), dim: config.dim() })
            }
            _ => Ok(()),
        }
    }

    /// Names of addresses.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }
}

/// The DIM that every object file has noted.
fn dim(notes: &[u8]) -> Result<Option<u16>, ElfError> {
    let mut dims = notes.chunks_exact(2).map(|note| u16::from_le_bytes([note[0], note[1]]));
    let Some(first) = dims.next() else { return Ok(None) };
    match dims.find(|dim| *dim != first) {
        Some(other) => Err(ElfError::Dims(first, other)),
        None => Ok(Some(first)),
    }
}

/// Refuses what is not ELF for 64 bits, little-endian, by the bytes that say so.
fn check_kind(contents: &[u8]) -> Result<(), ElfError> {
    const CLASS: usize = 4;
    const DATA: usize = 5;
    if !Elf::is_elf(contents) {
        return Err(ElfError::Damaged("it does not begin with 0x7f ELF".to_owned()));
    }
    match (contents.get(CLASS), contents.get(DATA)) {
        (Some(1), _) => match FileHeader32::<LittleEndian>::parse(contents) {
            Ok(header) if header.e_machine.get(LittleEndian) != EM_RISCV => {
                Err(ElfError::Machine(header.e_machine.get(LittleEndian).0))
            }
            _ => Err(ElfError::Bits32),
        },
        (_, Some(2)) => Err(ElfError::BigEndian),
        _ => Ok(()),
    }
}

fn load(segment: &object::elf::ProgramHeader64<LittleEndian>, contents: &[u8]) -> Result<Segment, ElfError> {
    let bytes =
        segment.data(LittleEndian, contents).map_err(|()| damaged("a segment reaches beyond the file's end"))?;
    let length = segment.p_memsz(LittleEndian);
    let file_length = segment.p_filesz(LittleEndian);
    if file_length > length {
        return Err(damaged(format!("a segment has {file_length} bytes in the file but {length} in memory")));
    }
    Ok(Segment { address: segment.p_paddr(LittleEndian), bytes: bytes.to_vec(), length })
}

/// The program's symbols.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    by_name: BTreeMap<String, u64>,
    /// Functions and labels in code, by address.
    code: BTreeMap<u64, String>,
}

impl Symbols {
    fn read<'d>(file: &impl Object<'d>) -> Self {
        let mut symbols = Self::default();
        for symbol in file.symbols().filter(|symbol| symbol.is_definition()) {
            let Ok(name) = symbol.name() else { continue };
            // Local labels and mapping symbols are not what a person calls a place.
            if name.is_empty() || name.starts_with(['$', '.']) {
                continue;
            }
            symbols.by_name.insert(name.to_owned(), symbol.address());
            let is_function = symbol.kind() == SymbolKind::Text;
            let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
            let is_code = section.is_some_and(|section| section.kind() == object::SectionKind::Text);
            if is_function || is_code && !symbols.code.contains_key(&symbol.address()) {
                symbols.code.insert(symbol.address(), name.to_owned());
            }
        }
        symbols
    }

    /// The address of a symbol.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// The function at an address, and how far behind its beginning that is.
    pub fn function(&self, address: u64) -> Option<(&str, u64)> {
        let (start, name) = self.code.range(..=address).next_back()?;
        Some((name, address - start))
    }

    /// An address with its function, as `main+0x12 (0x80000012)`.
    pub fn place(&self, address: u64) -> String {
        match self.function(address) {
            Some((name, 0)) => format!("{name} ({address:#x})"),
            Some((name, offset)) => format!("{name}+{offset:#x} ({address:#x})"),
            None => format!("{address:#x}"),
        }
    }

    /// All functions and labels in code with their addresses, in address order.
    pub fn code(&self) -> impl Iterator<Item = (u64, &str)> {
        self.code.iter().map(|(address, name)| (*address, name.as_str()))
    }
}
