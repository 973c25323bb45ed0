//! Tensors: the contents of a program's buffers.

use pollux_asm::ElementType;
use pollux_memory::Memory;

use crate::Error;

/// The contents of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tensor {
    /// Type of the elements in memory.
    pub element: ElementType,
    /// Extent of each dimension, outermost first.
    pub shape: Vec<u64>,
    /// The elements, the last dimension fastest.
    pub values: Vec<i64>,
}

impl Tensor {
    /// The contents of a program's buffer in a memory.
    ///
    /// # Errors
    /// The program has no such buffer.
    pub fn read(program: &pollux_asm::Program, memory: &Memory, name: &str) -> Result<Self, Error> {
        let known = || program.buffers.iter().map(|buffer| buffer.name.clone()).collect();
        let buffer = program.buffer(name).ok_or_else(|| Error::NoBuffer { name: name.to_owned(), known: known() })?;
        let bytes = memory.read_vec(buffer.address, buffer.len() as usize);
        let (element, shape) = (buffer.element, buffer.shape.clone());
        Ok(Self { element, shape, values: element.elements(&bytes).collect() })
    }
}
