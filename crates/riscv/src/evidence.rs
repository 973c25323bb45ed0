//! What a program's commands say about the Gemmini that it was compiled for.

use pollux_isa::Command;
use pollux_isa::config::GemminiConfig;

/// Gemmini's own software says DIM in two places: as block stride of every load configuration, and as extents of operands
/// that do not exist (garbage addresses). Programs for an older layout leave the strides of convolutions at 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evidence {
    /// The block stride of all load configurations.
    block_stride: Option<u16>,
    /// Largest extent of an operand of the array.
    extent: u16,
    /// Two of them differ.
    is_mixed: bool,
    is_older: bool,
}

impl Evidence {
    /// Looks at a command.
    pub fn note(&mut self, command: &Command) {
        match command {
            Command::ConfigLd(f) => {
                self.is_mixed |= self.block_stride.is_some_and(|stride| stride != f.block_stride);
                self.block_stride = Some(f.block_stride);
            }
            Command::Preload(f) => self.extents([f.d_rows, f.d_cols, f.c_rows, f.c_cols]),
            Command::ComputePreloaded(f) | Command::ComputeAccumulated(f) => {
                self.extents([f.a_rows, f.a_cols, f.bd_rows, f.bd_cols]);
            }
            Command::LoopConvConfig4(f) => self.is_older |= f.in_stride == 0 && f.weight_stride == 0,
            _ => {}
        }
    }

    /// Whether a convolution has the layout of an older revision, seen in the present one: strides of 0 mean nothing.
    pub fn is_older(&self) -> bool {
        self.is_older
    }

    fn extents(&mut self, extents: [u16; 4]) {
        self.extent = extents.into_iter().fold(self.extent, u16::max);
    }

    /// Why the program seems to be for a smaller array.
    pub fn hint(&self, config: &GemminiConfig) -> Option<String> {
        let stride = self.block_stride.filter(|_| !self.is_mixed)?;
        let dim = config.dim();
        let is_smaller = stride > 1 && u32::from(stride) < dim && self.extent <= stride;
        is_smaller.then(|| {
            format!(
                "every config_ld says block_stride = {stride}, and no operand of the array is larger, but the configuration \
                 `{}` has DIM = {dim}: if the program was compiled for DIM = {stride}, its results are wrong here; give its \
                 configuration with --config, or its gemmini_params.h with --params",
                config.name
            )
        })
    }
}
