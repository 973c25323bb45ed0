//! The user's files: which a command reads and writes, and that nothing of the user's is lost or half-written.
//!
//! A regular file is written under a temporary name in its own folder and then renamed, so that it is complete or as it
//! was before. What is not a regular file (a device, a FIFO, the standard output) is written to directly and never
//! replaced. Symbolic links are followed; permissions stay.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::builder::{MapValueParser, PathBufValueParser, TryMapValueParser, TypedValueParser, ValueParserFactory};
use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

use crate::failure::Failure;

/// Name that stands for the standard input or output.
pub const STANDARD_STREAM: &str = "-";
/// Other names of the standard output.
const STDOUT_NAMES: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
/// Symbolic links that are followed before they count as a circle, as in Linux.
const MAX_LINKS: usize = 40;

macro_rules! path_argument {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub PathBuf);

        impl Deref for $name {
            type Target = Path;

            fn deref(&self) -> &Path {
                &self.0
            }
        }

        impl AsRef<Path> for $name {
            fn as_ref(&self) -> &Path {
                &self.0
            }
        }

        impl ValueParserFactory for $name {
            type Parser = MapValueParser<PathBufValueParser, fn(PathBuf) -> Self>;

            fn value_parser() -> Self::Parser {
                PathBufValueParser::new().map($name)
            }
        }
    };
}

path_argument! {
    /// A file or folder that a command reads; `-` is the standard input. [`crate::options`] finds these arguments by
    /// their type.
    InputPath
}

/// A folder, or a file that is opened by its name: never the standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath(pub PathBuf);

impl Deref for NamedPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl ValueParserFactory for NamedPath {
    type Parser = TryMapValueParser<PathBufValueParser, fn(PathBuf) -> Result<Self, &'static str>>;

    fn value_parser() -> Self::Parser {
        PathBufValueParser::new().try_map(|path| match path.as_os_str() == STANDARD_STREAM {
            true => Err("a folder or a file with a name is needed, which the standard input is not"),
            false => Ok(Self(path)),
        })
    }
}

path_argument! {
    /// A file that a command writes; `-` is the standard output. [`crate::options`] finds these arguments by their type.
    OutputPath
}

/// The temporary files of this run, which an interruption removes.
#[derive(Clone, Debug, Default)]
pub struct Temporaries(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Temporaries {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // A set of names is good whatever panicked while it was locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A temporary file beside the target, with its owner and permissions.
    fn create(&self, target: &Path) -> io::Result<NamedTempFile> {
        let mut prefix = OsString::from(".");
        prefix.push(target.file_name().unwrap_or_default());
        prefix.push(".");
        // An interruption finds either no file or one that is listed.
        let mut names = self.lock();
        let file = builder(&prefix).tempfile_in(folder(target))?;
        names.insert(file.path().to_path_buf());
        drop(names);
        if let Ok(metadata) = fs::metadata(target) {
            keep_owner(&metadata, file.path());
            file.as_file().set_permissions(metadata.permissions())?;
        }
        Ok(file)
    }

    /// Removes all of them, and keeps others from being made until the process ends.
    pub fn remove_for_good(&self) -> impl Sized + use<'_> {
        let names = self.lock();
        for name in &*names {
            // Those that have their final name are not there any more.
            let _ = fs::remove_file(name);
        }
        names
    }
}

/// New files get the permissions that the user's mask leaves, as those of any other program.
#[cfg(unix)]
fn builder(prefix: &OsString) -> Builder<'_, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = Builder::new();
    builder.permissions(Permissions::from_mode(0o666)).prefix(prefix).suffix(".tmp");
    builder
}

#[cfg(not(unix))]
fn builder(prefix: &OsString) -> Builder<'_, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix).suffix(".tmp");
    builder
}

/// Gives the file the owner that the old one has, as far as the user may do that.
#[cfg(unix)]
fn keep_owner(old: &fs::Metadata, path: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    let _ = chown(path, Some(old.uid()), Some(old.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_: &fs::Metadata, _: &Path) {}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The standard output.
    Stdout,
    /// A device, a FIFO or another thing that must stay what it is.
    Special(PathBuf),
    /// A regular file, or one that does not exist yet; links are resolved.
    Regular(PathBuf),
}

impl Target {
    /// What the path means.
    ///
    /// # Errors
    /// A folder, or a circle of links.
    pub fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == STANDARD_STREAM || STDOUT_NAMES.iter().any(|name| path == Path::new(name)) {
            return Ok(Self::Stdout);
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => return Ok(Self::Special(path.to_path_buf())),
            Ok(_) if is_stdout(path) => return Ok(Self::Stdout),
            _ => {}
        }
        if path.file_name().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file"));
        }
        let mut target = path.to_path_buf();
        for _ in 0..MAX_LINKS {
            // Names of open files (/dev/fd/3): a new file in the old one's place would not be what is open.
            if fs::canonicalize(folder(&target)).is_ok_and(|folder| folder.starts_with("/proc")) {
                return Ok(Self::Special(path.to_path_buf()));
            }
            match fs::read_link(&target) {
                Ok(link) => target = folder(&target).join(link),
                Err(_) => return Ok(Self::Regular(target)),
            }
        }
        Err(io::Error::other("too many symbolic links"))
    }

    /// Finds out whether it can be written, so that a long run does not end with an error. Nothing is changed.
    ///
    /// # Errors
    /// Those of writing.
    pub fn probe(&self, temporaries: &Temporaries) -> io::Result<()> {
        let Self::Regular(path) = self else { return Ok(()) };
        let folder = folder(path);
        if !folder.exists() {
            let reason = format!("the folder `{}` does not exist", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        if path.exists() {
            File::options().write(true).open(path)?;
        }
        temporaries.create(path).map(drop)
    }

    /// Whether writing both would mix or lose one. A device without contents takes anything.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Regular(a), Self::Regular(b)) => is_same(a, b) || place(a) == place(b),
            (Self::Special(a), Self::Special(b)) => !is_device(a) && is_same(a, b),
            (Self::Stdout, Self::Stdout) => true,
            _ => false,
        }
    }
}

/// The folder of a file.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Folder and name of a file that may not exist.
fn place(path: &Path) -> (Option<PathBuf>, Option<&std::ffi::OsStr>) {
    (fs::canonicalize(folder(path)).ok(), path.file_name())
}

/// Device and number of a file. It is not opened: that would wait for the other end of a FIFO.
#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// Whether two paths lead to the same file or folder.
pub fn is_same(a: &Path, b: &Path) -> bool {
    let canonical = || matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b);
    let of = |path| fs::metadata(path).ok().and_then(|metadata| identity(&metadata));
    of(a).is_some_and(|a| of(b) == Some(a)) || canonical()
}

/// Whether a path leads to the file that is one of the standard streams.
#[cfg(unix)]
fn is_stream(path: &Path, stream: impl std::os::fd::AsFd) -> bool {
    let of_stream = stream.as_fd().try_clone_to_owned().and_then(|file| File::from(file).metadata());
    let of_stream = of_stream.ok().and_then(|metadata| identity(&metadata));
    of_stream.is_some_and(|stream| fs::metadata(path).ok().and_then(|metadata| identity(&metadata)) == Some(stream))
}

/// Whether a path leads to the file that the standard input is.
#[cfg(unix)]
pub fn is_stdin(path: &Path) -> bool {
    is_stream(path, io::stdin())
}

#[cfg(unix)]
fn is_stdout(path: &Path) -> bool {
    is_stream(path, io::stdout())
}

/// Not known on this system.
#[cfg(not(unix))]
pub fn is_stdin(_: &Path) -> bool {
    false
}

#[cfg(not(unix))]
fn is_stdout(_: &Path) -> bool {
    false
}

#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device(_: &Path) -> bool {
    false
}

/// A file without a name that is gone when it is closed: beside the target, where there is room for a copy of it, or, if that is no
/// regular file, where the system has its temporary files.
///
/// # Errors
/// A folder that cannot be written.
pub fn scratch(target: &Path) -> io::Result<File> {
    match Target::of(target)? {
        Target::Regular(target) => tempfile::tempfile_in(folder(&target)),
        Target::Stdout | Target::Special(_) => tempfile::tempfile(),
    }
}

/// A file that is being written. A regular one appears under its name when it is finished, and is gone if it never is.
pub struct OutputFile {
    path: PathBuf,
    sink: Sink,
}

enum Sink {
    Direct(BufWriter<Box<dyn Write + Send>>),
    Renamed { file: BufWriter<NamedTempFile>, target: PathBuf, temporaries: Temporaries },
}

impl OutputFile {
    /// Begins the file.
    ///
    /// # Errors
    /// A path that cannot be written.
    pub fn create(path: &Path, temporaries: &Temporaries) -> Result<Self, Failure> {
        let sink = Sink::create(path, temporaries).map_err(Failure::writing(path))?;
        Ok(Self { path: path.to_path_buf(), sink })
    }

    /// Writes what is left, and gives a regular file its name.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> Result<(), Failure> {
        self.sink.finish().map_err(Failure::writing(&self.path))
    }
}

impl Sink {
    fn create(path: &Path, temporaries: &Temporaries) -> io::Result<Self> {
        let direct = |file: Box<dyn Write + Send>| Self::Direct(BufWriter::new(file));
        Ok(match Target::of(path)? {
            Target::Stdout => direct(Box::new(io::stdout())),
            Target::Special(path) => direct(Box::new(File::options().write(true).truncate(true).open(path)?)),
            Target::Regular(target) => {
                let file = BufWriter::new(temporaries.create(&target)?);
                Self::Renamed { file, target, temporaries: temporaries.clone() }
            }
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Direct(mut file) => file.flush(),
            Self::Renamed { file, target, temporaries } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                let mut names = temporaries.lock();
                names.remove(file.path());
                file.persist(target).map(drop).map_err(|error| error.error)
            }
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Direct(file) => file.write(buffer),
            Sink::Renamed { file, .. } => file.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Direct(file) => file.flush(),
            Sink::Renamed { file, .. } => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
        let mut file = OutputFile::create(path, &Temporaries::default())?;
        file.write_all(contents).map_err(Failure::writing(path))?;
        file.finish()
    }

    #[test]
    fn a_file_is_complete_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write(&path, b"old").unwrap();
        let mut file = OutputFile::create(&path, &Temporaries::default()).unwrap();
        file.write_all(b"half of the ne").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(file);
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["out".to_owned()], b"old".to_vec()));
        write(&path, b"new").unwrap();
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (vec!["out".to_owned()], b"new".to_vec()));
    }

    #[test]
    fn interrupted_files_are_removed_and_finished_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let temporaries = Temporaries::default();
        let create = |name| OutputFile::create(&folder.path().join(name), &temporaries).unwrap();
        create("finished").finish().unwrap();
        let half = create("half");
        drop(temporaries.remove_for_good());
        assert_eq!(names(folder.path()), ["finished"]);
        assert!(half.finish().is_err());
        assert_eq!(names(folder.path()), ["finished"]);
    }

    #[test]
    fn outputs_are_the_same_if_they_are_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = |name: &str| Target::of(&folder.path().join(name)).unwrap();
        assert!(target("new").is_same(&target("./new")));
        assert!(!target("new").is_same(&target("other")));
        fs::write(folder.path().join("old"), "").unwrap();
        fs::hard_link(folder.path().join("old"), folder.path().join("link")).unwrap();
        assert!(target("old").is_same(&target("link")));
        assert!(Target::of(Path::new("-")).unwrap().is_same(&Target::of(Path::new("/dev/stdout")).unwrap()));
        assert!(Target::of(folder.path()).is_err());
    }
}
