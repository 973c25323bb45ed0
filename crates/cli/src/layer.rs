//! Quantised encoder layers as programs.

use std::path::Path;

use pollux_asm::Program;
use pollux_compiler::{Plan, compile};
use pollux_isa::ValidConfig;
use pollux_isa::config::ExpVariant;
use pollux_kernels::{Mask, Statistics, View};
use pollux_model::{AttentionMask, LayerFile, embedded_default, layer_reference};

use crate::failure::Failure;
use crate::program_file;

/// Name of the buffer with the layer's result.
pub const OUTPUT: &str = "layer0.output";

/// An encoder layer with its sample input, as commands.
pub struct LoweredLayer {
    /// The program; every result's buffer has what the reference makes of it as its expected contents.
    pub program: Program,
    /// Work by operation.
    pub statistics: Statistics,
    /// The layer's result in main memory.
    pub output: View,
}

/// The layer in a file, by default the embedded one.
///
/// # Errors
/// A file that cannot be read or is damaged.
pub fn load(path: Option<&Path>) -> Result<LayerFile, Failure> {
    match path {
        None => Ok(embedded_default()),
        Some(path) => {
            LayerFile::from_bytes(&program_file::read(path)?, &path.display().to_string()).map_err(Failure::input)
        }
    }
}

/// Lowers a layer with its sample input.
///
/// # Errors
/// A configuration that cannot run it, or a layer whose parts do not fit together.
pub fn lower(file: &LayerFile, config: ValidConfig) -> Result<LoweredLayer, Failure> {
    if config.softmax_exp != ExpVariant::Released {
        return Err(Failure::Input(format!(
            "configuration `{}` has the polynomial of GELU in the place of the exponential, so its softmax is useless: \
             choose one with softmax_exp = \"released\", such as norm16",
            config.name
        )));
    }
    let reference = layer_reference(&file.layer, &file.input, AttentionMask::Full).map_err(Failure::input)?;
    let layers = std::slice::from_ref(&file.layer);
    let mut encoder =
        compile(config.into_inner(), &Plan::default(), layers, &file.input, Mask::Full).map_err(Failure::input)?;
    if let Some(step) = encoder.compiled.operations.iter().find(|operation| operation.host.is_some()) {
        return Err(Failure::Input(format!(
            "operation `{}` is done by the host in configuration `{}`, which a program alone does not have: choose one with \
             has_normalizations, such as norm16",
            step.name, encoder.compiled.program.config.name
        )));
    }
    encoder.expect(std::slice::from_ref(&reference)).map_err(Failure::input)?;
    let output = encoder.layers[0].output;
    let operations = encoder.compiled.operations.into_iter().map(|operation| operation.work).collect();
    Ok(LoweredLayer { program: encoder.compiled.program, statistics: Statistics { operations }, output })
}
