//! Source text: the files that an assembly reads, and positions in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

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
    fn a_file_longer_than_the_limit_is_refused() {
        let files = BTreeMap::from([(PathBuf::from("x"), vec![0; 5])]);
        assert!(files.read(Path::new("x"), 5).is_ok());
        assert_eq!(files.read(Path::new("x"), 4).unwrap_err().to_string(), "the file is longer than 4 bytes");
    }
}
