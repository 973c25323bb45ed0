//! Source text: the files that an assembly reads, and positions in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// A range of bytes in one of the sources of an assembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    /// Index into [`Sources`].
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// From the start of this span to the end of the other.
    pub fn to(self, other: Span) -> Span {
        Span { end: other.end.max(self.end), ..self }
    }
}

/// A file of assembly text.
#[derive(Debug)]
pub struct SourceFile {
    /// Path as shown to the user.
    pub name: String,
    /// Contents.
    pub text: Arc<str>,
}

/// The files that an assembly has read, in order.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Arc<SourceFile>>);

impl Sources {
    /// Adds a file; its index.
    pub fn add(&mut self, name: String, text: Arc<str>) -> u32 {
        self.0.push(Arc::new(SourceFile { name, text }));
        (self.0.len() - 1) as u32
    }

    /// The file with this index.
    pub fn get(&self, source: u32) -> &Arc<SourceFile> {
        &self.0[source as usize]
    }
}

/// Where included text, configurations and data come from.
pub trait Files {
    /// The contents of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// The file cannot be read or is longer.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut contents = Vec::new();
        File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut contents)?;
        within(contents, limit)
    }
}

/// Files in memory, by path.
impl Files for BTreeMap<PathBuf, Vec<u8>> {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let contents =
            self.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))?;
        within(contents, limit)
    }
}

/// Why the contents of a file are not text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotText {
    /// Another encoding, as its byte order mark says.
    #[error("it is {0} text: save it as UTF-8")]
    Encoding(&'static str),
    /// A byte that no UTF-8 text has there.
    #[error("byte {offset} is {byte:#04x}, which is not UTF-8")]
    NotUtf8 {
        /// Position in the file, from 0.
        offset: usize,
        /// The byte.
        byte: u8,
    },
    /// A control character other than tabulator and line ends.
    #[error("byte {offset} is {byte:#04x}, a control character")]
    Control {
        /// Position in the file, from 0.
        offset: usize,
        /// The byte.
        byte: u8,
    },
}

/// The text that the contents of a file are: UTF-8 without control characters. A byte order mark is left out.
///
/// # Errors
/// The contents are something else: the first reason only, however long they are.
pub fn text(mut contents: Vec<u8>) -> Result<String, NotText> {
    const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
    // UTF-32's little-endian mark begins with UTF-16's.
    let marks: [(&[u8], &str); 4] =
        [(b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")];
    if let Some((_, encoding)) = marks.into_iter().find(|(mark, _)| contents.starts_with(mark)) {
        return Err(NotText::Encoding(encoding));
    }
    let marked = contents.starts_with(UTF8_MARK);
    let control = without_control(&contents);
    // Letters, each with a zero byte before or behind it, are UTF-16 without a mark.
    let letters = |pair: &[u8]| matches!(pair, [0, letter] | [letter, 0] if letter.is_ascii_graphic() || letter.is_ascii_whitespace());
    if control.is_err() && contents.len() > 1 && contents.chunks_exact(2).take(4).all(letters) {
        return Err(NotText::Encoding("UTF-16"));
    }
    if let Err(error) = str::from_utf8(&contents) {
        let offset = error.valid_up_to();
        return control.and(Err(NotText::NotUtf8 { offset, byte: contents[offset] }));
    }
    control?;
    if marked {
        contents.drain(..UTF8_MARK.len());
    }
    // It has been checked.
    Ok(String::from_utf8(contents).unwrap_or_default())
}

/// Refuses control characters, which no text has: a file with one is something else.
pub(crate) fn without_control(contents: &[u8]) -> Result<(), NotText> {
    let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r');
    match contents.iter().position(control) {
        Some(offset) => Err(NotText::Control { offset, byte: contents[offset] }),
        None => Ok(()),
    }
}

fn within(contents: Vec<u8>, limit: u64) -> io::Result<Vec<u8>> {
    if contents.len() as u64 <= limit {
        Ok(contents)
    } else {
        Err(io::Error::other(format!("the file is longer than {limit} bytes")))
    }
}

/// The path of a file that `from` names, relative to `from`'s own folder, with `.` and `dir/..` removed.
pub(crate) fn resolve(from: &str, path: &str) -> PathBuf {
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let mut resolved = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(resolved.components().next_back(), Some(Component::Normal(_))) => {
                resolved.pop();
            }
            other => resolved.push(other),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        assert_eq!(resolve("a/b/main.pasm", "lib/x.pasm"), Path::new("a/b/lib/x.pasm"));
        assert_eq!(resolve("a/b/main.pasm", ".././x.pasm"), Path::new("a/x.pasm"));
        assert_eq!(resolve("main.pasm", "../../x.pasm"), Path::new("../../x.pasm"));
        assert_eq!(resolve("a/main.pasm", "/x.pasm"), Path::new("/x.pasm"));
    }

    #[test]
    fn text_is_utf8_with_or_without_a_mark() {
        assert_eq!(text("\u{feff}fence\r\n".into()).as_deref(), Ok("fence\r\n"));
        assert_eq!(text("# \u{e4}\t\n".into()).as_deref(), Ok("# \u{e4}\t\n"));
        assert_eq!(text(Vec::new()).as_deref(), Ok(""));
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for (contents, reason) in [
            (utf16("\u{feff}fence"), "it is UTF-16 text: save it as UTF-8"),
            (utf16("fence"), "it is UTF-16 text: save it as UTF-8"),
            (b"\xfe\xff\0f".to_vec(), "it is UTF-16 text: save it as UTF-8"),
            (b"\xff\xfe\0\0f\0\0\0".to_vec(), "it is UTF-32 text: save it as UTF-8"),
            (vec![0; 100], "byte 0 is 0x00, a control character"),
            (b"fence\n\x7fELF".to_vec(), "byte 6 is 0x7f, a control character"),
            (b"caf\xe9\n".to_vec(), "byte 3 is 0xe9, which is not UTF-8"),
            (b"\xff\x01".to_vec(), "byte 1 is 0x01, a control character"),
        ] {
            assert_eq!(text(contents).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn a_file_longer_than_the_limit_is_refused() {
        let files = BTreeMap::from([(PathBuf::from("x"), vec![0; 5])]);
        assert!(files.read(Path::new("x"), 5).is_ok());
        assert_eq!(files.read(Path::new("x"), 4).unwrap_err().to_string(), "the file is longer than 4 bytes");
    }
}
