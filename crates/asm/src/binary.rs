//! The binary format of programs, version 1. The book's chapter "Binary format" describes every field.
//!
//! A file is a header of fixed length, four sections in fixed order, and a CRC-32 of everything before it. All numbers
//! are little endian. The reader trusts nothing: every length is compared with the bytes that are there before
//! anything is allocated, and a file with a byte too few, too many or changed is refused.

use pollux_isa::{ConfigError, GemminiConfig, RoccCommand, StreamItem};
use thiserror::Error;

use crate::program::{Buffer, ElementType, LocalRegion, Program, ProgramError};

/// First bytes of a file. As in PNG, a byte above 127 and line ends show damage by text conversion.
pub const MAGIC: [u8; 8] = *b"\x89POLX\r\n\x1a";

/// The only version.
pub const VERSION: u16 = 1;

/// Bytes of the header.
pub const HEADER_LEN: usize = 32;

/// Bytes of the checksum at the end.
pub const CHECKSUM_LEN: usize = 4;

/// A field of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderField {
    /// Offset from the start of the file, in bytes.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
    /// Name.
    pub name: &'static str,
}

const fn field(offset: usize, len: usize, name: &'static str) -> HeaderField {
    HeaderField { offset, len, name }
}

const FIELD_VERSION: HeaderField = field(8, 2, "version");
const FIELD_RESERVED: HeaderField = field(10, 6, "reserved");
const FIELD_LENGTH: HeaderField = field(16, 8, "file length");
const FIELD_DIGEST: HeaderField = field(24, 8, "configuration digest");

/// The header's fields, in order.
pub const HEADER: [HeaderField; 5] = [field(0, 8, "magic"), FIELD_VERSION, FIELD_RESERVED, FIELD_LENGTH, FIELD_DIGEST];

/// Names of the sections, in order.
pub const SECTIONS: [&str; 4] = ["configuration", "buffers", "regions", "stream"];

/// First byte of a stream item of each kind, and the bytes that follow for the kinds of fixed length.
pub const ITEM_TAGS: [(u8, &str); 5] =
    [(ITEM_COMMAND, "command"), (ITEM_FENCE, "fence"), (ITEM_WAIT, "wait"), (ITEM_WRITE, "write"), (ITEM_MARK, "mark")];

const ITEM_COMMAND: u8 = 0;
const ITEM_FENCE: u8 = 1;
const ITEM_WAIT: u8 = 2;
const ITEM_WRITE: u8 = 3;
const ITEM_MARK: u8 = 4;

/// Bits of a buffer's flags byte.
const FLAG_DATA: u8 = 1;
const FLAG_EXPECTED: u8 = 2;

/// Shortest encodings, which bound how many things the rest of a file can hold.
const MIN_BUFFER_LEN: usize = 4 + 8 + 1 + 1 + 4;
const MIN_REGION_LEN: usize = 4 + 1 + 4 + 4;
const MIN_ITEM_LEN: usize = 1;

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// Another kind of file.
    #[error("not a Pollux program: the file does not begin with the magic bytes; programs are made by `pollux asm`")]
    NotAProgram,
    /// Made by another version.
    #[error("the file has format version {found}, this program reads version {VERSION}: assemble it again")]
    Version {
        /// The file's version.
        found: u16,
    },
    /// Bytes are missing at the end.
    #[error("the file is truncated: it has {actual} bytes and should have {expected}")]
    Truncated {
        /// Bytes there.
        actual: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    /// Bytes follow the end.
    #[error("{extra} bytes follow the end of the program: the file was changed after it was written")]
    Trailing {
        /// Their number.
        extra: u64,
    },
    /// The contents have changed.
    #[error(
        "the file is corrupted: its checksum is {stored:#010x}, its contents have {computed:#010x}: copy or assemble it again"
    )]
    Checksum {
        /// In the file.
        stored: u32,
        /// Of the contents.
        computed: u32,
    },
    /// A section does not make sense although the checksum is right.
    #[error("at byte {offset} ({section}): {problem}")]
    Malformed {
        /// Where the field begins.
        offset: usize,
        /// Section.
        section: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The configuration cannot be read or is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The digest is not that of the configuration in the file.
    #[error(
        "the header's configuration digest is {stored:#018x}, the configuration's is {computed:#018x}: \
         a version with other configuration fields made the file; assemble it again"
    )]
    Digest {
        /// In the header.
        stored: u64,
        /// Of the configuration section.
        computed: u64,
    },
    /// The program was made for another configuration than the one asked for.
    #[error(
        "the program is for configuration `{found}`, not `{expected}`; they differ in {differences}: \
         assemble it for `{expected}`, or run it with its own"
    )]
    WrongConfiguration {
        /// Name of the file's configuration.
        found: String,
        /// Name of the one asked for.
        expected: String,
        /// The fields that differ, with both values.
        differences: String,
    },
    /// The contents break a rule of programs.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// The bytes of a file with this program.
///
/// # Errors
/// The program breaks a rule ([`Program::check`]).
pub fn write(program: &Program) -> Result<Vec<u8>, BinaryError> {
    program.check()?;
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; FIELD_RESERVED.len]);
    out.extend_from_slice(&[0; FIELD_LENGTH.len]);
    out.extend_from_slice(&program.config.digest().to_le_bytes());

    put_bytes32(&mut out, program.config.to_toml_string()?.as_bytes());
    put_count32(&mut out, program.buffers.len());
    program.buffers.iter().for_each(|buffer| put_buffer(&mut out, buffer));
    put_count32(&mut out, program.regions.len());
    program.regions.iter().for_each(|region| put_region(&mut out, region));
    out.extend_from_slice(&(program.items.len() as u64).to_le_bytes());
    program.items.iter().for_each(|item| put_item(&mut out, item));

    out.extend_from_slice(&[0; CHECKSUM_LEN]);
    seal(&mut out);
    Ok(out)
}

/// Sets the length and the checksum of a file to those of its contents.
pub(crate) fn seal(file: &mut [u8]) {
    let len = file.len();
    if len < HEADER_LEN + CHECKSUM_LEN {
        return;
    }
    file[FIELD_LENGTH.offset..][..FIELD_LENGTH.len].copy_from_slice(&(len as u64).to_le_bytes());
    let (contents, checksum) = file.split_at_mut(len - CHECKSUM_LEN);
    checksum.copy_from_slice(&crc32fast::hash(contents).to_le_bytes());
}

fn put_count32(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn put_bytes32(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_buffer(out: &mut Vec<u8>, buffer: &Buffer) {
    put_bytes32(out, buffer.name.as_bytes());
    out.extend_from_slice(&buffer.address.to_le_bytes());
    out.push(element_code(buffer.element));
    let flag = |present: bool, flag: u8| if present { flag } else { 0 };
    out.push(flag(buffer.data.is_some(), FLAG_DATA) | flag(buffer.expected.is_some(), FLAG_EXPECTED));
    put_count32(out, buffer.shape.len());
    buffer.shape.iter().for_each(|extent| out.extend_from_slice(&extent.to_le_bytes()));
    // Their lengths follow from the shape.
    [&buffer.data, &buffer.expected].into_iter().flatten().for_each(|data| out.extend_from_slice(data));
}

fn put_region(out: &mut Vec<u8>, region: &LocalRegion) {
    put_bytes32(out, region.name.as_bytes());
    out.push(region.accumulator.into());
    out.extend_from_slice(&region.row.to_le_bytes());
    out.extend_from_slice(&region.rows.to_le_bytes());
}

fn put_item(out: &mut Vec<u8>, item: &StreamItem) {
    match item {
        StreamItem::Command(RoccCommand { funct, rs1, rs2 }) => {
            out.extend_from_slice(&[ITEM_COMMAND, *funct]);
            out.extend_from_slice(&rs1.to_le_bytes());
            out.extend_from_slice(&rs2.to_le_bytes());
        }
        StreamItem::Fence => out.push(ITEM_FENCE),
        StreamItem::Wait(cycles) => {
            out.push(ITEM_WAIT);
            out.extend_from_slice(&cycles.to_le_bytes());
        }
        StreamItem::Write { address, bytes } => {
            out.push(ITEM_WRITE);
            out.extend_from_slice(&address.to_le_bytes());
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        StreamItem::Mark(name) => {
            out.push(ITEM_MARK);
            put_bytes32(out, name.as_bytes());
        }
    }
}

fn element_code(element: ElementType) -> u8 {
    match element {
        ElementType::I8 => 0,
        ElementType::I32 => 1,
    }
}

/// The program in a file's contents.
///
/// # Errors
/// The contents are not exactly what [`write()`] makes of a program.
pub fn read(file: &[u8]) -> Result<Program, BinaryError> {
    if !file.starts_with(&MAGIC) {
        // A beginning of the magic bytes is a program cut short.
        let truncated = Err(BinaryError::Truncated { actual: file.len() as u64, expected: HEADER_LEN as u64 });
        return if MAGIC.starts_with(file) && !file.is_empty() { truncated } else { Err(BinaryError::NotAProgram) };
    }
    let mut reader = Reader { file, position: MAGIC.len(), section: "header" };
    let version = u16::from_le_bytes(reader.array()?);
    if version != VERSION {
        return Err(BinaryError::Version { found: version });
    }
    let reserved: [u8; FIELD_RESERVED.len] = reader.array()?;
    let expected = reader.u64()?;
    let stored = reader.u64()?;
    let contents = check_frame(file, expected)?;
    if reserved.iter().any(|byte| *byte != 0) {
        return Err(reader.malformed(FIELD_RESERVED.offset, "the reserved bytes are not zero".to_owned()));
    }
    reader.file = contents;
    let program = reader.program()?;
    let computed = program.config.digest();
    if stored != computed {
        return Err(BinaryError::Digest { stored, computed });
    }
    program.check()?;
    Ok(program)
}

/// The program in a file's contents, which must be for this configuration (whatever its name).
///
/// # Errors
/// Those of [`read`], or another configuration.
pub fn read_for(file: &[u8], config: &GemminiConfig) -> Result<Program, BinaryError> {
    let program = read(file)?;
    check_configuration(&program, config)?;
    Ok(program)
}

/// Checks that a program, from wherever it comes, is for this configuration (whatever its name).
///
/// # Errors
/// Another configuration.
pub fn check_configuration(program: &Program, config: &GemminiConfig) -> Result<(), BinaryError> {
    if program.config.digest() == config.digest() {
        return Ok(());
    }
    let pairs = program.config.settings().into_iter().zip(config.settings());
    let differences: Vec<String> = pairs
        .filter(|((_, found), (_, expected))| found != expected)
        .map(|((field, found), (_, expected))| format!("{field} ({found}, not {expected})"))
        .collect();
    Err(BinaryError::WrongConfiguration {
        found: program.config.name.clone(),
        expected: config.name.clone(),
        differences: differences.join(", "),
    })
}

/// The contents before the checksum, if length and checksum are right.
fn check_frame(file: &[u8], expected: u64) -> Result<&[u8], BinaryError> {
    let actual = file.len() as u64;
    let expected = expected.max((HEADER_LEN + CHECKSUM_LEN) as u64);
    if actual < expected {
        return Err(BinaryError::Truncated { actual, expected });
    }
    if actual > expected {
        return Err(BinaryError::Trailing { extra: actual - expected });
    }
    let (contents, checksum) = file.split_at(file.len() - CHECKSUM_LEN);
    let stored = checksum.try_into().map_or(0, u32::from_le_bytes);
    let computed = crc32fast::hash(contents);
    if stored == computed { Ok(contents) } else { Err(BinaryError::Checksum { stored, computed }) }
}

/// A position in a file. Nothing is read or allocated beyond its end.
struct Reader<'f> {
    file: &'f [u8],
    position: usize,
    section: &'static str,
}

impl<'f> Reader<'f> {
    fn malformed(&self, offset: usize, problem: String) -> BinaryError {
        BinaryError::Malformed { offset, section: self.section, problem }
    }

    fn remaining(&self) -> usize {
        self.file.len() - self.position
    }

    fn bytes(&mut self, len: u64) -> Result<&'f [u8], BinaryError> {
        let remaining = self.remaining();
        if len > remaining as u64 {
            if self.section == "header" {
                return Err(BinaryError::Truncated { actual: self.file.len() as u64, expected: HEADER_LEN as u64 });
            }
            return Err(self.malformed(self.position, format!("{len} bytes are needed, {remaining} are left")));
        }
        let bytes = &self.file[self.position..][..len as usize];
        self.position += len as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BinaryError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N as u64)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, BinaryError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, BinaryError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, BinaryError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'f str, BinaryError> {
        let len = self.u32()?;
        let start = self.position;
        let bytes = self.bytes(len.into())?;
        str::from_utf8(bytes).map_err(|_| self.malformed(start, "the text is not UTF-8".to_owned()))
    }

    /// Things of at least `min_len` bytes each: as many as counted, if the rest of the file can hold them.
    fn several<T>(
        &mut self,
        count: u64,
        min_len: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, BinaryError>,
    ) -> Result<Vec<T>, BinaryError> {
        let possible = (self.remaining() / min_len) as u64;
        if count > possible {
            return Err(self.malformed(self.position, format!("{count} entries cannot be in the rest of the file")));
        }
        let mut things = Vec::new();
        for _ in 0..count {
            things.push(read(self)?);
        }
        Ok(things)
    }

    /// The sections.
    fn program(&mut self) -> Result<Program, BinaryError> {
        self.section = SECTIONS[0];
        let config = GemminiConfig::from_toml_str(self.text()?)?;
        self.section = SECTIONS[1];
        let count = self.u32()?;
        let buffers = self.several(count.into(), MIN_BUFFER_LEN, Self::buffer)?;
        self.section = SECTIONS[2];
        let count = self.u32()?;
        let regions = self.several(count.into(), MIN_REGION_LEN, Self::region)?;
        self.section = SECTIONS[3];
        let count = self.u64()?;
        let items = self.several(count, MIN_ITEM_LEN, Self::item)?;
        match self.remaining() {
            0 => Ok(Program { config, buffers, regions, items }),
            rest => Err(self.malformed(self.position, format!("{rest} bytes follow the last item"))),
        }
    }

    fn buffer(&mut self) -> Result<Buffer, BinaryError> {
        let name = self.text()?.to_owned();
        let address = self.u64()?;
        let start = self.position;
        let code = self.u8()?;
        let element = ElementType::ALL.into_iter().find(|element| element_code(*element) == code);
        let element = element.ok_or_else(|| self.malformed(start, format!("{code} is not an element type")))?;
        let flags = self.u8()?;
        if flags & !(FLAG_DATA | FLAG_EXPECTED) != 0 {
            return Err(self.malformed(start + 1, format!("the flags are {flags:#04x}, with unknown bits")));
        }
        let rank = self.u32()?;
        let shape = self.several(rank.into(), size_of::<u64>(), Self::u64)?;
        let mut buffer = Buffer { name, address, element, shape, data: None, expected: None };
        let too_large = || ProgramError::BufferTooLarge { buffer: buffer.name.clone() };
        let len = buffer.checked_len().ok_or_else(too_large)?;
        if flags & FLAG_DATA != 0 {
            buffer.data = Some(self.bytes(len)?.to_vec());
        }
        if flags & FLAG_EXPECTED != 0 {
            buffer.expected = Some(self.bytes(len)?.to_vec());
        }
        Ok(buffer)
    }

    fn region(&mut self) -> Result<LocalRegion, BinaryError> {
        let name = self.text()?.to_owned();
        let start = self.position;
        let accumulator = match self.u8()? {
            0 => false,
            1 => true,
            code => return Err(self.malformed(start, format!("{code} is neither 0 (scratchpad) nor 1 (accumulator)"))),
        };
        Ok(LocalRegion { name, accumulator, row: self.u32()?, rows: self.u32()? })
    }

    fn item(&mut self) -> Result<StreamItem, BinaryError> {
        let start = self.position;
        Ok(match self.u8()? {
            ITEM_COMMAND => StreamItem::Command(RoccCommand { funct: self.u8()?, rs1: self.u64()?, rs2: self.u64()? }),
            ITEM_FENCE => StreamItem::Fence,
            ITEM_WAIT => StreamItem::Wait(self.u64()?),
            ITEM_WRITE => {
                let (address, len) = (self.u64()?, self.u64()?);
                StreamItem::Write { address, bytes: self.bytes(len)?.to_vec() }
            }
            ITEM_MARK => StreamItem::Mark(self.text()?.to_owned()),
            tag => return Err(self.malformed(start, format!("{tag} is not a kind of item"))),
        })
    }
}
