//! Commands of older revisions as those of this one.
//!
//! Programs of an older Gemmini send the loops' operands in other bits. A translator at the core's port gives them the
//! present layout, one command for one, so that everything behind it knows only that.
//!
//! Source: `LoopConv.scala` and `LoopMatmul.scala` at commit d48db37 (the configuration commands' cases) against 8c3f992.

use crate::command::{Command, funct};
use crate::config::{CommandLayout, GemminiConfig};
use crate::fields::{LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4};
use crate::rocc::RoccCommand;

/// Gives commands the present layout.
///
/// ```
/// use pollux_isa::config::CommandLayout;
/// use pollux_isa::{Command, GemminiConfig, LayoutTranslator, RoccCommand};
///
/// let config = GemminiConfig { command_layout: CommandLayout::March2023, ..GemminiConfig::default16() };
/// let mut translator = LayoutTranslator::new(&config);
/// // LOOP_CONV_WS_CONFIG_1 of 2 images, padding 1, stride 2, 9 x 9 outputs
/// let old = RoccCommand { funct: 16, rs1: 2, rs2: 1 << 48 | 2 << 32 | 9 << 16 | 9 };
/// let Some(Command::LoopConvConfig1(f)) = Command::from_rocc(&config, translator.translate(old)) else { panic!() };
/// assert_eq!((f.stride, f.out_row_dim, f.out_col_dim, f.pool_out_row_dim), (2, 9, 9, 9));
/// ```
#[derive(Debug, Clone)]
pub struct LayoutTranslator {
    layout: CommandLayout,
    /// What a convolution's first command says, and later ones need in the present layout.
    conv: Convolution,
}

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy, Default)]
struct Convolution {
    in_dim: u16,
    in_channels: u16,
    out_channels: u16,
    pool_out_dim: u16,
}

/// Bits `high` to `low`, of which a field of the present layout may keep fewer.
const fn bits(register: u64, high: u32, low: u32) -> u16 {
    (register >> low & ((1 << (high - low + 1)) - 1)) as u16
}

impl LayoutTranslator {
    /// A translator for the programs of a configuration.
    pub fn new(config: &GemminiConfig) -> Self {
        Self { layout: config.command_layout, conv: Convolution::default() }
    }

    /// The command in the present layout.
    pub fn translate(&mut self, command: RoccCommand) -> RoccCommand {
        match self.layout {
            CommandLayout::Current => command,
            CommandLayout::March2023 => self.march_2023(command),
        }
    }

    fn march_2023(&mut self, command: RoccCommand) -> RoccCommand {
        /// Operand reuse (`a_spad_id`, `b_spad_id`).
        const SPAD_IDS: u64 = 0xf << 16;
        /// Transposes; residual addition and skipped units came later.
        const TRANSPOSES: u64 = 3;
        let RoccCommand { rs1, rs2, .. } = command;
        match command.funct {
            funct::LOOP_WS => RoccCommand { rs1: rs1 & !SPAD_IDS, rs2: rs2 & TRANSPOSES, ..command },
            funct::LOOP_CONV_WS => RoccCommand { rs1: rs1 & !SPAD_IDS, ..command },
            funct::LOOP_CONV_WS_CONFIG_1 => self.conv_1(rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_2 => self.conv_2(rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_3 => self.conv_3(rs1, rs2),
            funct::LOOP_CONV_WS_CONFIG_4 => self.conv_4(rs1, rs2),
            _ => command,
        }
    }

    fn conv_1(&mut self, rs1: u64, rs2: u64) -> RoccCommand {
        let (in_dim, out_dim, pool_out_dim) = (bits(rs1, 31, 16), bits(rs2, 15, 0), bits(rs2, 31, 16));
        let (in_channels, out_channels) = (bits(rs1, 47, 32), bits(rs1, 63, 48));
        self.conv = Convolution { in_dim, in_channels, out_channels, pool_out_dim };
        Command::LoopConvConfig1(LoopConvConfig1 {
            batch_size: bits(rs1, 15, 0),
            in_row_dim: in_dim,
            in_channels,
            out_channels,
            out_row_dim: out_dim,
            pool_out_row_dim: pool_out_dim,
            out_col_dim: out_dim,
            stride: bits(rs2, 47, 32) as u8,
            padding: bits(rs2, 63, 48) as u8,
        })
        .to_rocc()
    }

    fn conv_2(&self, rs1: u64, rs2: u64) -> RoccCommand {
        Command::LoopConvConfig2(LoopConvConfig2 {
            pool_padding: bits(rs1, 15, 0) as u8,
            pool_stride: bits(rs1, 31, 16) as u8,
            pool_size: bits(rs1, 47, 32),
            pool_out_col_dim: self.conv.pool_out_dim,
            kernel_dim: bits(rs1, 63, 48),
            pochs: bits(rs2, 15, 0),
            pocols: bits(rs2, 31, 16),
            porows: bits(rs2, 47, 32),
            batches: bits(rs2, 63, 48),
        })
        .to_rocc()
    }

    fn conv_3(&self, rs1: u64, rs2: u64) -> RoccCommand {
        Command::LoopConvConfig3(LoopConvConfig3 {
            lpad: bits(rs1, 15, 0),
            kchs: bits(rs1, 31, 16),
            kcols: bits(rs1, 47, 32),
            krows: bits(rs1, 63, 48),
            in_col_dim: self.conv.in_dim,
            plpad: bits(rs2, 15, 0) as u8,
            dpad: bits(rs2, 31, 16) as u8,
            upad: bits(rs2, 47, 32),
            rpad: bits(rs2, 63, 48),
        })
        .to_rocc()
    }

    fn conv_4(&self, rs1: u64, rs2: u64) -> RoccCommand {
        Command::LoopConvConfig4(LoopConvConfig4 {
            kernel_dilation: bits(rs2, 31, 16),
            pdpad: bits(rs1, 15, 0),
            pupad: bits(rs1, 31, 16),
            prad: bits(rs1, 47, 32),
            orows: bits(rs1, 63, 48),
            ocols: bits(rs2, 15, 0),
            // Rows of pixels and of weights follow each other without gaps.
            in_stride: self.conv.in_channels,
            weight_stride: self.conv.out_channels,
            out_stride: self.conv.out_channels,
        })
        .to_rocc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(command_layout: CommandLayout) -> GemminiConfig {
        GemminiConfig { command_layout, ..GemminiConfig::default16() }
    }

    /// One convolution: 2 images of 17 x 17 x 18, 19 kernels of 3 x 3, stride 2, padding 1, pooled 3 / 2 / 1, dilation 4.
    #[test]
    fn a_convolution_of_2023_is_the_one_of_today() {
        let word = |parts: &[(u64, u32)]| parts.iter().fold(0, |word, (value, lsb)| word | value << lsb);
        let shared = word(&[(19, 48), (18, 32), (17, 16), (2, 0)]);
        let pooled = word(&[(2, 48), (5, 32), (4, 16), (16, 0)]);
        let kernel = word(&[(3, 48), (3, 32), (18, 16), (1, 0)]);
        let old = [
            (16, shared, word(&[(1, 48), (2, 32), (5, 16), (9, 0)])),
            (17, word(&[(3, 48), (3, 32), (2, 16), (1, 0)]), pooled),
            (18, kernel, word(&[(1, 48), (1, 32), (6, 16), (7, 0)])),
            (19, word(&[(9, 48), (8, 32), (10, 16), (11, 0)]), word(&[(4, 16), (9, 0)])),
            (20, 0x8000_1000, 0x8000_2000),
            (15, word(&[(0xf, 16), (1, 8)]), 0),
            (8, word(&[(0xf, 16), (1, 0)]), 0b111),
        ];
        let new = [
            (16, shared, word(&[(1, 56), (2, 48), (9, 32), (5, 16), (9, 0)])),
            (17, word(&[(3, 48), (5, 32), (3, 16), (2, 8), (1, 0)]), pooled),
            (18, kernel, word(&[(1, 48), (1, 32), (6, 24), (7, 16), (17, 0)])),
            (19, word(&[(9, 48), (8, 32), (10, 21), (11, 10), (4, 0)]), word(&[(18, 48), (19, 32), (19, 16), (9, 0)])),
            (20, 0x8000_1000, 0x8000_2000),
            (15, word(&[(1, 8)]), 0),
            (8, 1, 0b11),
        ];
        let mut translator = LayoutTranslator::new(&config(CommandLayout::March2023));
        let mut present = LayoutTranslator::new(&config(CommandLayout::Current));
        for ((funct, rs1, rs2), expected) in old.into_iter().zip(new) {
            let command = RoccCommand { funct, rs1, rs2 };
            assert_eq!(present.translate(command), command);
            let RoccCommand { funct, rs1, rs2 } = translator.translate(command);
            assert_eq!((funct, rs1, rs2), expected, "{funct}: {rs1:#x} {rs2:#x}");
        }
    }
}
