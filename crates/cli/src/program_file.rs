//! Programs and other files of the user.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use pollux_asm::{Assembler, Program, binary, disassemble, write_atomically};
use pollux_isa::ValidConfig;

use crate::failure::Failure;

/// File name that stands for the standard input.
const STDIN: &str = "-";

/// The contents of a file, or of the standard input if it is called `-`.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == STDIN {
        let mut contents = Vec::new();
        io::stdin().lock().read_to_end(&mut contents).map_err(Failure::reading(path))?;
        return Ok(contents);
    }
    fs::read(path).map_err(Failure::reading(path))
}

/// The same as text.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    pollux_asm::text(read(path)?)
        .map_err(|reason| Failure::Input(format!("`{}` is not text: {reason}", path.display())))
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    write_atomically(path, contents).map_err(Failure::writing(path))
}

/// A program, binary or assembly text, which the contents tell. `config` is the default of a text without a
/// configuration, and what every other program must be made for.
pub fn load(path: &Path, config: Option<&ValidConfig>) -> Result<Program, Failure> {
    let contents = read_program(path)?;
    if is_binary(&contents) {
        let program = match config {
            None => binary::read(&contents),
            Some(config) => binary::read_for(&contents, config),
        };
        return program.map_err(|error| Failure::Input(format!("{}: {error}", path.display())));
    }
    let assembler = config.map_or_else(Assembler::default, |c| Assembler::default().with_default_config(c.clone()));
    let program = assembler.assemble_contents(&path.display().to_string(), contents).map_err(Failure::Assembly)?;
    if let Some(config) = config {
        binary::check_configuration(&program, config)
            .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    }
    Ok(program)
}

/// The contents of a file that should be a program. Of one that can be none, only the beginning is read: it could be a
/// device without end.
fn read_program(path: &Path) -> Result<Vec<u8>, Failure> {
    const BEGINNING: u64 = 1 << 16;
    let mut file: Box<dyn Read> = match path.as_os_str() == STDIN {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(Failure::reading(path))?),
    };
    let mut contents = Vec::new();
    file.by_ref().take(BEGINNING).read_to_end(&mut contents).map_err(Failure::reading(path))?;
    if is_binary(&contents) || contents.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace()) {
        file.read_to_end(&mut contents).map_err(Failure::reading(path))?;
    }
    Ok(contents)
}

/// Whether a file wants to be a binary, even if it is cut short.
fn is_binary(contents: &[u8]) -> bool {
    !contents.is_empty() && contents.iter().zip(&binary::MAGIC).all(|(byte, magic)| byte == magic)
}

/// Writes a program: text to files called `*.pasm`, binary to others. The bytes written.
pub fn save(path: &Path, program: &Program) -> Result<usize, Failure> {
    let contents = if path.extension().is_some_and(|extension| extension == "pasm") {
        disassemble(program).into_bytes()
    } else {
        binary::write(program).map_err(Failure::input)?
    };
    write(path, &contents)?;
    Ok(contents.len())
}

/// A file that is written bit by bit, and appears under its name only when it is complete.
pub struct StreamedFile {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl StreamedFile {
    /// Begins the file under a temporary name in the same folder.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let file = File::create(&temporary).map_err(Failure::writing(path))?;
        Ok(Self { path: path.to_path_buf(), temporary, file: Some(BufWriter::new(file)) })
    }

    /// Gives the complete file its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = file.flush().and_then(|()| fs::rename(&self.temporary, &self.path));
        written.map_err(|error| {
            // The first error is the one to report.
            let _ = fs::remove_file(&self.temporary);
            Failure::writing(&self.path)(error)
        })
    }
}

impl Write for StreamedFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for StreamedFile {
    /// An unfinished file is removed.
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
