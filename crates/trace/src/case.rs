//! Golden cases: a folder with a command stream, the memory it starts from, and what Gemmini's RTL did with it.
//!
//! | file | contents |
//! | --- | --- |
//! | `program.txt` | command stream, bench directives, regions to compare |
//! | `memory_in.txt` | initial memory: `ADDRESS HEXBYTES` a line, everything else 0 |
//! | `trace.csv` | all events in time order (optional) |
//! | `commands.csv` | a line for each command of the reservation station (optional) |
//! | `memory_out.txt` | the dumped regions after the run (optional) |
//! | `summary.json` | totals and configuration name |
//! | `config.toml` | the configuration, if it is none of the built-in ones |
//!
//! Any file may be gzip-compressed, with `.gz` added to its name.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use pollux_isa::{GemminiConfig, RoccCommand, StreamItem, ValidConfig};
use pollux_sim::observer::{Cycle, Event};
use serde::Deserialize;
use thiserror::Error;

use crate::event_csv;

/// Why a case folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaseError {
    /// A file is missing or unreadable.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line does not have the documented form.
    #[error("{path}:{line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The case names a configuration that is not built in.
    #[error(transparent)]
    Config(#[from] pollux_isa::ConfigError),
    /// `summary.json` does not have the documented form.
    #[error("{path}: {source}")]
    Summary {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// Bytes at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte's address.
    pub address: u64,
    /// Contents in ascending address order.
    pub bytes: Vec<u8>,
}

/// Totals of the recorded run (`summary.json`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)] // named and explained as in the case format's README
pub struct Summary {
    pub name: String,
    pub config: String,
    #[serde(default)]
    pub description: String,
    pub commands: u64,
    pub station_commands: u64,
    pub busy_falls: Cycle,
    pub busy_cycles: u64,
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    #[serde(default)]
    pub program_order_memory: Option<bool>,
}

/// A line of `commands.csv`: a command of the reservation station and its cycles.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the columns of the file
pub struct CommandRecord {
    pub seq: u64,
    pub origin: String,
    pub queue: String,
    pub entry: u8,
    pub funct: u8,
    pub rs1: u64,
    pub rs2: u64,
    pub alloc: Cycle,
    pub issue: Cycle,
    pub complete: Cycle,
}

/// One golden case, read completely.
#[derive(Clone, Debug)]
pub struct GoldenCase {
    /// Name of the folder.
    pub name: String,
    /// Totals and configuration name.
    pub summary: Summary,
    /// The configuration, if the case has its own.
    pub config: Option<ValidConfig>,
    /// Memory latency in cycles.
    pub latency: u64,
    /// The request port is ready in multiples of this cycle number.
    pub a_period: u64,
    /// A response beat is first offered in multiples of this cycle number.
    pub d_period: u64,
    /// The trace holds the events of banks and mesh.
    pub detail: bool,
    /// The command stream.
    pub items: Vec<StreamItem>,
    /// Initial memory.
    pub memory_in: Vec<Region>,
    /// Regions compared after the run: address and length.
    pub dumps: Vec<(u64, u64)>,
    /// Expected contents of the dumped regions, if recorded.
    pub memory_out: Option<Vec<Region>>,
    /// Expected events, if recorded.
    pub trace: Option<Vec<(Cycle, Event)>>,
    /// Expected commands of the reservation station, if recorded.
    pub commands: Option<Vec<CommandRecord>>,
}

impl GoldenCase {
    /// Reads a case folder.
    ///
    /// # Errors
    /// A missing `program.txt`, `memory_in.txt` or `summary.json`, a line that does not have the documented form, or a
    /// configuration that cannot be read.
    pub fn read(dir: &Path) -> Result<Self, CaseError> {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (path, text) = required(dir, "summary.json")?;
        let summary = serde_json::from_str(&text).map_err(|source| CaseError::Summary { path, source })?;
        let config = match optional(dir, "config.toml")? {
            Some((_, text)) => Some(GemminiConfig::from_toml_str(&text)?),
            None => None,
        };
        let (path, text) = required(dir, "memory_in.txt")?;
        let memory_in = parse_lines(&path, &text, parse_region)?;
        let memory_out = match optional(dir, "memory_out.txt")? {
            Some((path, text)) => Some(parse_lines(&path, &text, parse_region)?),
            None => None,
        };
        let trace = match optional(dir, "trace.csv")? {
            Some((path, text)) => Some(parse_table(&path, &text, event_csv::parse)?),
            None => None,
        };
        let commands = match optional(dir, "commands.csv")? {
            Some((path, text)) => Some(parse_table(&path, &text, parse_command_record)?),
            None => None,
        };
        let mut case = Self {
            name,
            summary,
            config,
            latency: 0,
            a_period: 1,
            d_period: 1,
            detail: false,
            items: Vec::new(),
            memory_in,
            dumps: Vec::new(),
            memory_out,
            trace,
            commands,
        };
        let (path, text) = required(dir, "program.txt")?;
        parse_lines(&path, &text, |line| case.program_line(line))?;
        Ok(case)
    }

    /// All case folders at or below `dir`, sorted by path. A case folder holds a `program.txt`, plain or compressed.
    ///
    /// # Errors
    /// An unreadable folder.
    pub fn find(dir: &Path) -> Result<Vec<PathBuf>, CaseError> {
        let mut found = Vec::new();
        let mut pending = vec![dir.to_path_buf()];
        while let Some(dir) = pending.pop() {
            let io = |source| CaseError::Io { path: dir.clone(), source };
            for entry in std::fs::read_dir(&dir).map_err(io)? {
                let entry = entry.map_err(io)?;
                let path = entry.path();
                if path.is_dir() {
                    pending.push(path);
                } else if matches!(entry.file_name().to_str(), Some("program.txt" | "program.txt.gz")) {
                    found.push(dir.clone());
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The commands in program order.
    pub fn commands_in_order(&self) -> impl Iterator<Item = &RoccCommand> {
        self.items.iter().filter_map(StreamItem::command)
    }

    fn program_line(&mut self, line: &str) -> Result<(), String> {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["latency", n] => self.latency = decimal(n)?,
            ["a_period", n] => self.a_period = positive(n)?,
            ["d_period", n] => self.d_period = positive(n)?,
            ["detail"] => self.detail = true,
            ["cmd", funct, rs1, rs2] => {
                let funct = decimal(funct)?;
                let funct = u8::try_from(funct)
                    .ok()
                    .filter(|f| *f < 128)
                    .ok_or_else(|| format!("funct {funct} does not fit 7 bits"))?;
                self.items.push(StreamItem::Command(RoccCommand { funct, rs1: hex(rs1)?, rs2: hex(rs2)? }));
            }
            ["fence"] => self.items.push(StreamItem::Fence),
            ["wait", n] => self.items.push(StreamItem::Wait(decimal(n)?)),
            ["write", address, bytes] => {
                self.items.push(StreamItem::Write { address: hex(address)?, bytes: hex_bytes(bytes)? });
            }
            ["dump", address, length] => self.dumps.push((hex(address)?, decimal(length)?)),
            [other, ..] => {
                return Err(format!(
                    "unknown item '{other}'; known are latency, a_period, d_period, detail, cmd FUNCT RS1 RS2, \
                     fence, wait N, write ADDRESS HEXBYTES and dump ADDRESS LENGTH"
                ));
            }
        }
        Ok(())
    }
}

fn optional(dir: &Path, name: &str) -> Result<Option<(PathBuf, String)>, CaseError> {
    let plain = dir.join(name);
    let packed = dir.join(format!("{name}.gz"));
    let (path, compressed) = if plain.is_file() {
        (plain, false)
    } else if packed.is_file() {
        (packed, true)
    } else {
        return Ok(None);
    };
    let read = || {
        let mut text = String::new();
        let mut file = std::fs::File::open(&path)?;
        if compressed {
            GzDecoder::new(file).read_to_string(&mut text)?;
        } else {
            file.read_to_string(&mut text)?;
        }
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some((path, text))),
        Err(source) => Err(CaseError::Io { path, source }),
    }
}

fn required(dir: &Path, name: &str) -> Result<(PathBuf, String), CaseError> {
    optional(dir, name)?.ok_or_else(|| CaseError::Io {
        path: dir.join(name),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "a case folder needs this file (plain or .gz)"),
    })
}

fn parse_lines<T>(
    path: &Path,
    text: &str,
    mut parse: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<T>, CaseError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| {
            parse(line).map_err(|message| CaseError::Line { path: path.to_path_buf(), line: i + 1, message })
        })
        .collect()
}

/// As [`parse_lines`], behind a header line.
fn parse_table<T>(path: &Path, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, CaseError> {
    let mut header = true;
    let rows =
        parse_lines(path, text, |line| if std::mem::take(&mut header) { Ok(None) } else { parse(line).map(Some) })?;
    Ok(rows.into_iter().flatten().collect())
}

fn parse_region(line: &str) -> Result<Region, String> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [address, bytes] => Ok(Region { address: hex(address)?, bytes: hex_bytes(bytes)? }),
        _ => Err("expected 'ADDRESS HEXBYTES'".into()),
    }
}

fn parse_command_record(line: &str) -> Result<CommandRecord, String> {
    match line.split(',').collect::<Vec<_>>()[..] {
        [seq, origin, queue, entry, funct, rs1, rs2, alloc, issue, complete] => Ok(CommandRecord {
            seq: decimal(seq)?,
            origin: origin.into(),
            queue: queue.into(),
            entry: narrow(entry)?,
            funct: narrow(funct)?,
            rs1: hex(rs1)?,
            rs2: hex(rs2)?,
            alloc: decimal(alloc)?,
            issue: decimal(issue)?,
            complete: decimal(complete)?,
        }),
        _ => Err("expected 'seq,origin,queue,entry,funct,rs1,rs2,alloc,issue,complete'".into()),
    }
}

fn decimal(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("'{word}' is not a decimal number"))
}

fn narrow(word: &str) -> Result<u8, String> {
    word.parse().map_err(|_| format!("'{word}' is not a number from 0 to 255"))
}

fn positive(word: &str) -> Result<u64, String> {
    match decimal(word)? {
        0 => Err("a period is at least 1".into()),
        n => Ok(n),
    }
}

fn hex(word: &str) -> Result<u64, String> {
    u64::from_str_radix(word, 16).map_err(|_| format!("'{word}' is not a hexadecimal number of at most 64 bits"))
}

fn hex_bytes(word: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = word.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()),
        _ => {
            Err(format!("'{}' is not an even number of hexadecimal digits", word.chars().take(40).collect::<String>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(program: &str) -> Result<GoldenCase, CaseError> {
        let dir = tempfile::tempdir().unwrap();
        let summary = r#"{"name":"t","config":"default16","commands":0,"station_commands":0,"busy_falls":0,
            "busy_cycles":0,"reads":0,"read_bytes":0,"writes":0,"written_bytes":0}"#;
        std::fs::write(dir.path().join("summary.json"), summary).unwrap();
        std::fs::write(dir.path().join("memory_in.txt"), "80000000 01ff\n").unwrap();
        std::fs::write(dir.path().join("program.txt"), program).unwrap();
        GoldenCase::read(dir.path())
    }

    #[test]
    fn a_program_is_read_item_by_item() {
        let case =
            case("# t\nlatency 7\nd_period 2\ncmd 2 80000000 10  # mvin\nfence\nwait 3\nwrite 10 0aff\ndump 80 4\n");
        let case = case.unwrap();
        assert_eq!((case.latency, case.a_period, case.d_period, case.detail), (7, 1, 2, false));
        assert_eq!(case.memory_in, [Region { address: 0x8000_0000, bytes: vec![1, 255] }]);
        assert_eq!(case.dumps, [(0x80, 4)]);
        assert_eq!(case.items.len(), 4);
        assert_eq!(case.items[3], StreamItem::Write { address: 16, bytes: vec![10, 255] });
    }

    #[test]
    fn an_unknown_item_is_named_with_its_line() {
        let message = case("latency 7\nfrob 1\n").unwrap_err().to_string();
        assert!(message.contains("program.txt:2: unknown item 'frob'"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = GoldenCase::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("summary.json"), "{message}");
    }
}
