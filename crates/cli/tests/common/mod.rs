//! Running `pollux` as a user does, in a folder of its own from which the project's files are seen.
#![allow(dead_code)] // every test file uses its part

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The JSON document that it printed.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A temporary folder in which `programs`, `crates` and `tests` are the project's.
pub struct Workspace(TempDir);

impl Workspace {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["programs", "crates", "tests"] {
            symlink(root().join(name), folder.path().join(name)).expect("a link");
        }
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).expect("a writable folder");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names of the files in the folder, except the links.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("a readable folder").flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let mut names: Vec<String> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs `pollux` with the words of a command line.
    pub fn pollux(&self, line: &str) -> Run {
        self.run(&words(line), "")
    }

    /// Runs `pollux` with arguments and standard input.
    pub fn run(&self, arguments: &[String], stdin: &str) -> Run {
        let mut command = Command::cargo_bin("pollux").expect("the binary is built");
        let output = command.current_dir(self.0.path()).args(arguments).write_stdin(stdin).output();
        let output = output.expect("the binary runs");
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// The words of a command line; single and double quotes keep blanks together.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut quote = None;
    let mut begun = false;
    for character in line.chars() {
        match (character, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                if !begun {
                    words.push(String::new());
                    begun = true;
                }
            }
            (' ', None) => begun = false,
            (c, _) => {
                if !begun {
                    words.push(String::new());
                    begun = true;
                }
                words.last_mut().into_iter().for_each(|word| word.push(c));
            }
        }
    }
    words
}
