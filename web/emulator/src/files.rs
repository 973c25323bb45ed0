//! [`PageFiles`]: the files that a program reads, as the page has brought them along.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use pollux_asm::Files;

/// Files by the paths under which the program asks for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageFiles(pub BTreeMap<PathBuf, Vec<u8>>);

impl Files for PageFiles {
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        if self.0.contains_key(path) {
            return self.0.read(path, limit);
        }
        let known: Vec<String> = self.0.keys().map(|path| path.display().to_string()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("a page reads no files but those that it was made with: {known}");
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}
