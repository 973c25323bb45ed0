//! Programs.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use pollux_asm::{Assembler, ElementType, binary, disassemble};
use pollux_kernels::{Matmul, ProgramBuilder};

use crate::{Config, Error, Run};

/// A stream of commands, the configuration they are encoded for, and the buffers in main memory. Reads like the assembler's
/// [`pollux_asm::Program`].
#[derive(Clone, Debug, PartialEq)]
pub struct Program(pollux_asm::Program);

impl Program {
    /// From assembly text.
    ///
    /// # Errors
    /// The text has faults.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Ok(Self(pollux_asm::assemble("text", text)?))
    }

    /// From a file, which is assembly text or a binary.
    ///
    /// # Errors
    /// The file cannot be read, or is no program.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let contents = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&path.display().to_string(), contents, None)
    }

    /// From the contents of a file, which is assembly text or a binary. `config` is the default of a text that names none, and what
    /// every other program must be made for.
    ///
    /// # Errors
    /// The contents are no program, or one for another configuration.
    pub fn from_bytes(name: &str, contents: Vec<u8>, config: Option<&Config>) -> Result<Self, Error> {
        let binary_error = |source| Error::Binary { name: name.to_owned(), source };
        let program = if Self::is_binary(&contents) {
            binary::read(&contents).map_err(binary_error)?
        } else {
            let assembler = config
                .map_or_else(Assembler::default, |config| Assembler::default().with_default_config(config.clone()));
            assembler.assemble_contents(name, contents)?
        };
        if let Some(config) = config {
            binary::check_configuration(&program, config).map_err(binary_error)?;
        }
        Ok(Self(program))
    }

    /// Whether the contents of a file, or its beginning, want to be a binary.
    pub fn is_binary(contents: &[u8]) -> bool {
        !contents.is_empty() && contents.iter().zip(&binary::MAGIC).all(|(byte, magic)| byte == magic)
    }

    /// The product `C = A * B` of int8 matrices as exact int32 sums: A is M x K, B is K x N and C is M x N, rows after each other.
    /// `shape` is M, K, N. Buffers are called A, B and C. For anything beyond that, see [`pollux_kernels`].
    ///
    /// # Errors
    /// Operands that do not have the shape, or a configuration in which the product has no room.
    pub fn matmul(config: &Config, shape: [usize; 3], a: &[i8], b: &[i8]) -> Result<Self, Error> {
        let [m, k, n] = shape;
        for (name, shape, values) in [("A", [m, k], a.len()), ("B", [k, n], b.len())] {
            let expected = shape[0].saturating_mul(shape[1]);
            if values != expected {
                return Err(Error::Shape { name, shape, expected, values });
            }
        }
        let mut builder = ProgramBuilder::new(config.clone())?;
        let a = builder.buffer_i8("A", m, k, a)?;
        let b = builder.buffer_i8("B", k, n, b)?;
        let c = builder.buffer("C", m, n, ElementType::I32)?;
        builder.begin("matmul");
        Matmul::new(a, b, c).lower_auto(&mut builder)?;
        Ok(Self(builder.finish()?))
    }

    /// As assembly text.
    pub fn to_text(&self) -> String {
        disassemble(&self.0)
    }

    /// As a binary.
    ///
    /// # Errors
    /// The program breaks a rule of the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        binary::write(&self.0).map_err(|source| Error::Binary { name: "program".into(), source })
    }

    /// How the program is to run; nothing runs yet.
    pub fn run(&self) -> Run<'_> {
        Run::new(&self.0)
    }

    /// The assembler's program.
    pub fn into_inner(self) -> pollux_asm::Program {
        self.0
    }
}

impl From<pollux_asm::Program> for Program {
    fn from(program: pollux_asm::Program) -> Self {
        Self(program)
    }
}

impl Deref for Program {
    type Target = pollux_asm::Program;

    fn deref(&self) -> &pollux_asm::Program {
        &self.0
    }
}
