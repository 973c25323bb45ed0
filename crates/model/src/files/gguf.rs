//! GGUF files: metadata and tensors in one file, as ggml's programs write them (ggml `docs/gguf.md`, versions 2 and 3).
//!
//! The header is read first, and everything it says is held against the file's length before anything is allocated; tensors
//! are read one by one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::gguf_blocks::{BLOCK_TYPES, BlockType};
use crate::error::ModelError;
use crate::graph::operator::elements;

/// The first four bytes.
const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of the tensors if the file gives none.
const ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;
/// Least bytes of an entry of the metadata: a name's length, a type, a value.
const LEAST_ENTRY: u64 = 13;
/// Least bytes of a tensor's description: a name's length, dimensions, type, place.
const LEAST_TENSOR: u64 = 24;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Metadata {
    /// Any number or truth value.
    Number(f64),
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Several numbers.
    Numbers(Vec<f64>),
}

/// A tensor's place.
#[derive(Clone, Debug)]
struct Entry {
    /// Outermost first; the file has the other order.
    shape: Vec<usize>,
    /// Number of its type.
    kind: u32,
    /// From the beginning of the data.
    offset: u64,
}

/// What can be read and sought.
trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// An open file.
pub(crate) struct Gguf {
    path: PathBuf,
    source: Box<dyn Source>,
    metadata: BTreeMap<String, Metadata>,
    tensors: BTreeMap<String, Entry>,
    /// Where the data begin.
    data: u64,
    /// Length of the file.
    length: u64,
}

impl Gguf {
    /// Opens a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::io(path))?;
        Self::new(path, Box::new(BufReader::new(file)))
    }

    /// The same of bytes in memory; the path is their name in messages.
    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ModelError> {
        Self::new(path, Box::new(std::io::Cursor::new(bytes)))
    }

    fn new(path: &Path, mut source: Box<dyn Source>) -> Result<Self, ModelError> {
        let length = source.seek(SeekFrom::End(0)).map_err(ModelError::io(path))?;
        source.rewind().map_err(ModelError::io(path))?;
        let header = Header { source: &mut source, at: 0, length }.read();
        let (metadata, tensors, end) = header.map_err(|reason| damaged(path, reason))?;
        let alignment = match metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(Metadata::Number(n)) if (*n as u64).is_power_of_two() && *n <= 65536.0 => *n as u64,
            Some(other) => {
                return Err(damaged(path, format!("general.alignment {other:?} is no power of two to 65536")));
            }
        };
        let file = Self { path: path.into(), source, metadata, tensors, data: end.next_multiple_of(alignment), length };
        file.check_places(alignment).map_err(|reason| damaged(path, reason))?;
        Ok(file)
    }

    /// Tensors lie inside the file, and none in another.
    fn check_places(&self, alignment: u64) -> Result<(), String> {
        let mut places: Vec<(u64, u64, &str)> = Vec::new();
        for (name, entry) in &self.tensors {
            let bytes = self.block_type(name).ok().and_then(|block| bytes(entry, block));
            // Types that cannot be read are an error when they are asked for.
            let Some(bytes) = bytes else { continue };
            if entry.offset % alignment != 0 {
                return Err(format!("tensor `{name}` begins at {}, no multiple of {alignment}", entry.offset));
            }
            let end = self.data.checked_add(entry.offset).and_then(|start| start.checked_add(bytes));
            if end.is_none_or(|end| end > self.length) {
                let has = self.length.saturating_sub(self.data);
                return Err(format!(
                    "tensor `{name}` of shape {:?} has {bytes} bytes at {}, but only {has} bytes of data are there",
                    entry.shape, entry.offset
                ));
            }
            places.push((entry.offset, entry.offset + bytes, name));
        }
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            Some(pair) => Err(format!("tensors `{}` and `{}` lie in each other", pair[0].2, pair[1].2)),
            None => Ok(()),
        }
    }

    fn block_type(&self, name: &str) -> Result<&'static BlockType, ModelError> {
        let entry = self.entry(name)?;
        BLOCK_TYPES.iter().find(|block| block.id == entry.kind).ok_or_else(|| ModelError::WrongType {
            path: self.path.clone(),
            tensor: name.into(),
            found: format!("{} of ggml", entry.kind),
            expected: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K",
        })
    }

    fn entry(&self, name: &str) -> Result<&Entry, ModelError> {
        self.tensors.get(name).ok_or_else(|| ModelError::MissingTensor {
            path: self.path.clone(),
            tensor: name.into(),
            present: self.tensors.len(),
        })
    }

    /// Whether the file has a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A value of the metadata.
    pub(crate) fn get(&self, key: &str) -> Option<&Metadata> {
        self.metadata.get(key)
    }

    /// A whole number of the metadata.
    ///
    /// # Errors
    /// If it is there and is none.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            // Far above every size of a network; counts beyond it are no numbers of float64.
            Some(Metadata::Number(n)) if n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(n) => {
                Ok(Some(*n as usize))
            }
            Some(other) => Err(damaged(&self.path, format!("{key} is {other:?}, no whole number to 2^32"))),
        }
    }

    /// A tensor's shape, outermost dimension first.
    ///
    /// # Errors
    /// If there is none of that name.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        self.entry(name).map(|entry| &entry.shape[..])
    }

    /// Checks that a tensor is there, has this shape and can be read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        let found = self.shape(name)?;
        if found != shape {
            let (path, tensor) = (self.path.clone(), name.into());
            return Err(ModelError::WrongShape { path, tensor, expected: shape.to_vec(), found: found.to_vec() });
        }
        let block = self.block_type(name)?;
        match bytes(self.entry(name)?, block) {
            Some(_) => Ok(()),
            None => {
                let what = format!("tensor `{name}`: rows of {found:?} are no whole blocks of {}", block.name);
                Err(damaged(&self.path, what))
            }
        }
    }

    /// The real values of a tensor of that shape, row-major.
    ///
    /// # Errors
    /// A tensor that is missing, damaged or of another shape, and numbers that are not finite.
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.expect(name, shape)?;
        let (block, entry) = (self.block_type(name)?, self.entry(name)?.clone());
        let mut raw = vec![0; bytes(&entry, block).unwrap_or_default() as usize];
        let place = SeekFrom::Start(self.data + entry.offset);
        let read = self.source.seek(place).and_then(|_| self.source.read_exact(&mut raw));
        read.map_err(ModelError::io(&self.path))?;
        let mut values = Vec::with_capacity(raw.len() / block.bytes * block.elements);
        raw.chunks_exact(block.bytes).for_each(|bytes| (block.values)(bytes, &mut values));
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(ModelError::NotFinite { path: self.path.clone(), tensor: name.into(), index }),
            None => Ok(values),
        }
    }
}

/// Bytes of a tensor; nothing if its rows are no whole blocks.
fn bytes(entry: &Entry, block: &BlockType) -> Option<u64> {
    let whole = entry.shape.last().is_none_or(|cols| cols.is_multiple_of(block.elements));
    let count = elements(&entry.shape).filter(|_| whole)?;
    Some((count / block.elements) as u64 * block.bytes as u64)
}

/// The error of a damaged file.
pub(crate) fn damaged(path: &Path, reason: String) -> ModelError {
    ModelError::Gguf { path: path.into(), reason }
}

/// The header while it is read.
struct Header<'a> {
    source: &'a mut Box<dyn Source>,
    at: u64,
    length: u64,
}

type Contents = (BTreeMap<String, Metadata>, BTreeMap<String, Entry>, u64);

impl Header<'_> {
    fn read(mut self) -> Result<Contents, String> {
        if self.bytes::<4>()? != MAGIC {
            return Err("it does not begin with `GGUF`".into());
        }
        match self.u32()? {
            2 | 3 => {}
            version if version.swap_bytes() <= 3 => return Err("it is big-endian; little-endian can be read".into()),
            version => return Err(format!("version {version}; 2 and 3 can be read")),
        }
        let (tensors, entries) = (self.count("tensors", LEAST_TENSOR)?, self.count("entries", LEAST_ENTRY)?);
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(kind).map_err(|reason| format!("{key}: {reason}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("the entry `{key}` is there twice"));
            }
        }
        let mut places = BTreeMap::new();
        for _ in 0..tensors {
            let name = self.text()?;
            let entry = self.entry().map_err(|reason| format!("tensor `{name}`: {reason}"))?;
            if places.insert(name.clone(), entry).is_some() {
                return Err(format!("the tensor `{name}` is there twice"));
            }
        }
        Ok((metadata, places, self.at))
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let rank = self.u32()?;
        if rank > MAX_DIMENSIONS {
            return Err(format!("{rank} dimensions; at most {MAX_DIMENSIONS} are allowed"));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            let size = self.u64()?;
            shape.push(usize::try_from(size).map_err(|_| format!("a size of {size}"))?);
        }
        shape.reverse();
        if elements(&shape).is_none() {
            return Err(format!("shape {shape:?} is too large"));
        }
        Ok(Entry { shape, kind: self.u32()?, offset: self.u64()? })
    }

    fn value(&mut self, kind: u32) -> Result<Metadata, String> {
        const TEXT: u32 = 8;
        const ARRAY: u32 = 9;
        match kind {
            TEXT => self.text().map(Metadata::Text),
            ARRAY => {
                let kind = self.u32()?;
                let least = match kind {
                    TEXT => 8,
                    ARRAY => return Err("arrays of arrays cannot be read".into()),
                    _ => 1,
                };
                let count = self.count("elements", least)?;
                match kind {
                    TEXT => (0..count).map(|_| self.text()).collect::<Result<_, _>>().map(Metadata::Texts),
                    _ => (0..count).map(|_| self.number(kind)).collect::<Result<_, _>>().map(Metadata::Numbers),
                }
            }
            _ => self.number(kind).map(Metadata::Number),
        }
    }

    fn number(&mut self, kind: u32) -> Result<f64, String> {
        Ok(match kind {
            0 => f64::from(self.bytes::<1>()?[0]),
            1 => f64::from(self.bytes::<1>()?[0] as i8),
            2 => f64::from(u16::from_le_bytes(self.bytes()?)),
            3 => f64::from(i16::from_le_bytes(self.bytes()?)),
            4 => f64::from(self.u32()?),
            5 => f64::from(i32::from_le_bytes(self.bytes()?)),
            6 => f64::from(f32::from_le_bytes(self.bytes()?)),
            7 => f64::from(self.bytes::<1>()?[0]),
            10 => self.u64()? as f64,
            11 => i64::from_le_bytes(self.bytes()?) as f64,
            12 => f64::from_le_bytes(self.bytes()?),
            other => return Err(format!("{other} is no type of a value")),
        })
    }

    /// A number of things, each of which has at least so many bytes.
    fn count(&mut self, what: &str, least: u64) -> Result<u64, String> {
        let count = self.u64()?;
        let most = (self.length - self.at) / least;
        if count > most { Err(format!("{count} {what} in {} bytes", self.length - self.at)) } else { Ok(count) }
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.count("bytes of a text", 1)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|error| format!("a text is no UTF-8: {error}"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        let read = self.source.read_exact(bytes);
        read.map_err(|error| format!("it ends at byte {}: {error}", self.length))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
