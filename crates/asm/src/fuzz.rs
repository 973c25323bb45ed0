//! What holds for every text and every file, however wrong: shared by the fuzz targets and the tests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::assembler::{Assembler, Limits};
use crate::binary;
use crate::disassembler::disassemble;
use crate::program::Program;

const LIMITS: Limits = Limits { steps: 100_000, items: 10_000, data: 1 << 20 };

/// Assembles any text, which may include itself and read itself as data. An accepted program survives the round trips;
/// the errors of any other can be drawn.
///
/// # Panics
/// One of these does not hold.
pub fn check_text(text: &str) {
    let name = "main.pasm";
    let files = BTreeMap::from([(PathBuf::from(name), text.as_bytes().to_vec())]);
    match Assembler::default().with_files(&files).with_limits(LIMITS).assemble(name, text) {
        Ok(program) => check_program(&program),
        Err(mut errors) => {
            assert!(!errors.0.is_empty(), "refused without an error");
            // Drawing is slow; a few are enough.
            errors.0.truncate(3);
            let _ = errors.render();
        }
    }
}

/// Reads any bytes as a binary file, as they are and with length and checksum corrected.
///
/// # Panics
/// An accepted file does not survive the round trips.
pub fn check_binary(file: &[u8]) {
    let mut sealed = file.to_vec();
    binary::seal(&mut sealed);
    for file in [file, &sealed] {
        if let Ok(program) = binary::read(file) {
            check_program(&program);
        }
    }
}

/// Writes and reads the program as bytes and as text. Bytes are compared: a configuration could hold a NaN.
///
/// # Panics
/// What is read is not what was written.
pub fn check_program(program: &Program) {
    let file = binary::write(program).expect("a program that was read or assembled is well formed");
    let read = binary::read(&file).expect("a written file is read");
    assert_eq!(binary::write(&read).as_ref(), Ok(&file), "another program is read");
    let text = disassemble(program);
    let assembled = match Assembler::default().assemble("disassembled.pasm", &text) {
        Ok(assembled) => assembled,
        Err(errors) => panic!("disassembly is refused:\n{}\n{text}", errors.render()),
    };
    assert_eq!(binary::write(&assembled).as_ref(), Ok(&file), "disassembly is another program:\n{text}");
}
