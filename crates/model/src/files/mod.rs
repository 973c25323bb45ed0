//! What all other parts stand on: matrices, number formats, names of tensors, and reading files of weights.

pub(crate) mod container;
pub mod encoding;
pub(crate) mod gguf;
mod gguf_blocks;
pub mod matrix;
pub mod tensor;
pub(crate) mod text;
pub(crate) mod weights;
pub mod word_table;

/// The real values of one block of a GGUF element type, by its name (`Q4_K`); nothing if the type is not known or the block has
/// another size.
pub fn gguf_block_values(name: &str, block: &[u8]) -> Option<Vec<f32>> {
    let kind = gguf_blocks::BLOCK_TYPES.iter().find(|kind| kind.name == name && kind.bytes == block.len())?;
    let mut values = Vec::with_capacity(kind.elements);
    (kind.values)(block, &mut values);
    Some(values)
}
