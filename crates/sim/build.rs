//! A hash of the sources: what a run leaves on disk for others is only good for the same emulator.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the emulator is made of. Of a published package only its own sources are there; the others have a version.
const FOLDERS: [&str; 5] = ["src", "../../isa/src", "../memory/src", "../numerics/src", "../canonical-derive/src"];

fn main() -> io::Result<()> {
    let mut hasher = DefaultHasher::new();
    for folder in FOLDERS.map(Path::new).into_iter().filter(|folder| folder.is_dir()) {
        println!("cargo::rerun-if-changed={}", folder.display());
        hash(folder, &mut hasher)?;
    }
    println!("cargo::rustc-env=POLLUX_SIM_SOURCES={:016x}", hasher.finish());
    Ok(())
}

fn hash(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if path.is_file() {
        hasher.write(path.to_string_lossy().as_bytes());
        hasher.write(&fs::read(path)?);
    } else if path.is_dir() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        entries.sort();
        for entry in entries {
            hash(&entry, hasher)?;
        }
    }
    Ok(())
}
