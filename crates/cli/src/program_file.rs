//! Programs and other files of the user.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use pollux_asm::{Program, binary, disassemble};
use pollux_isa::ValidConfig;

use crate::failure::Failure;
use crate::files::STANDARD_STREAM;
use crate::output::Output;

/// The contents of a file, or of the standard input if it is called `-`.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == STANDARD_STREAM {
        let mut contents = Vec::new();
        io::stdin().lock().read_to_end(&mut contents).map_err(Failure::reading(path))?;
        return Ok(contents);
    }
    fs::read(path).map_err(Failure::reading(path))
}

/// The contents of a file if its beginning is of a kind. The standard input and folders are of none.
pub fn read_if(path: &Path, is_kind: fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>, Failure> {
    const BEGINNING: usize = 16;
    if path.as_os_str() == STANDARD_STREAM || !path.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(Failure::reading(path))?;
    let mut contents = Vec::new();
    file.by_ref().take(BEGINNING as u64).read_to_end(&mut contents).map_err(Failure::reading(path))?;
    if !is_kind(&contents) {
        return Ok(None);
    }
    file.read_to_end(&mut contents).map_err(Failure::reading(path))?;
    Ok(Some(contents))
}

/// The contents of a file, or of the standard input, as text.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    pollux_asm::text(read(path)?)
        .map_err(|reason| Failure::Input(format!("`{}` is not text: {reason}", path.display())))
}

/// A program, binary or assembly text, which the contents tell. `config` is the default of a text without a
/// configuration, and what every other program must be made for.
pub fn load(path: &Path, config: Option<&ValidConfig>) -> Result<Program, Failure> {
    let program = pollux::Program::from_bytes(&path.display().to_string(), read_program(path)?, config)?;
    Ok(program.into_inner())
}

/// The contents of a file that should be a program. Of one that can be none, only the beginning is read: it could be a
/// device without end.
pub fn read_program(path: &Path) -> Result<Vec<u8>, Failure> {
    const BEGINNING: u64 = 1 << 16;
    let mut file: Box<dyn Read> = match path.as_os_str() == STANDARD_STREAM {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(Failure::reading(path))?),
    };
    let mut contents = Vec::new();
    file.by_ref().take(BEGINNING).read_to_end(&mut contents).map_err(Failure::reading(path))?;
    if pollux::Program::is_binary(&contents)
        || contents.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace())
    {
        file.read_to_end(&mut contents).map_err(Failure::reading(path))?;
    }
    Ok(contents)
}

/// Writes a program: text to files called `*.pasm`, binary to others. The bytes written.
pub fn save(path: &Path, program: &Program, out: &Output) -> Result<usize, Failure> {
    let contents = if path.extension().is_some_and(|extension| extension == "pasm") {
        disassemble(program).into_bytes()
    } else {
        binary::write(program).map_err(Failure::input)?
    };
    out.write(path, &contents)?;
    Ok(contents.len())
}
