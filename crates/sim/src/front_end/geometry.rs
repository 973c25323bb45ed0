//! What the loop unrollers need of the configuration: sizes, the addresses they compute, the operands they build
//! (`LocalAddr.scala`, `GemminiISA.scala`).
//!
//! The hardware computes on wires of fixed width and cuts every field to its width; so do the functions here.

use pollux_isa::config::CORE_MAX_ADDR_BITS;
use pollux_isa::fields::{Compute, MoveOperands, Preload};
use pollux_isa::values::NormCmd;
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr};

/// The low `bits` bits.
pub(crate) const fn mask(bits: u32) -> u64 {
    if bits >= u64::BITS { u64::MAX } else { (1 << bits) - 1 }
}

/// `u + n`, or 0 if that exceeds `max_plus_one - 1`; `u` if not `enabled` (`Util.floorAdd` on 16 bits).
pub(crate) fn floor_add(u: u16, n: u16, max_plus_one: u16, enabled: bool) -> u16 {
    if !enabled {
        u
    } else if u32::from(u) + u32::from(n) > u32::from(max_plus_one.wrapping_sub(1)) {
        0
    } else {
        u.wrapping_add(n)
    }
}

/// Sizes and widths; see the module.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// Rows and columns of the array.
    pub dim: u32,
    /// Bytes of an input element.
    pub input_bytes: u32,
    /// Bytes of an accumulator element.
    pub acc_bytes: u32,
    /// Shape of a local address.
    pub layout: AddressLayout,
    rows_bits: u32,
    cols_bits: u32,
    /// Width of a block stride in CONFIG_LD.
    pub block_stride_bits: u32,
    /// Width of the pixel repeats in CONFIG_LD.
    pub pixel_repeats_bits: u32,
    /// Blocks in one move of input elements.
    pub max_block_len: u16,
    /// Blocks in one move of accumulator elements.
    pub max_block_len_acc: u16,
}

impl Geometry {
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            dim: config.dim(),
            input_bytes: config.input_type.bytes(),
            acc_bytes: config.acc_type.bytes(),
            layout: config.layout(),
            rows_bits: config.mvin_rows_bits(),
            cols_bits: config.mvin_cols_bits(),
            block_stride_bits: config.block_stride_bits(),
            pixel_repeats_bits: config.pixel_repeats_bits(),
            max_block_len: config.max_block_len() as u16,
            max_block_len_acc: config.max_block_len_acc() as u16,
        }
    }

    /// The garbage address as the unrollers write it: undriven bits are 0 (`LocalAddr.garbage_addr`).
    pub fn garbage(&self) -> u32 {
        LocalAddr::accumulator(mask(self.layout.max_addr_bits + 1) as u32).with_accumulate().with_full().0
    }

    /// A computed scratchpad address (`cast_to_sp_addr`: fillers and control bits 0, the normalization command's bits kept).
    pub fn spad_addr(&self, address: u32) -> u32 {
        let kept = LocalAddr::scratchpad(mask(self.layout.max_addr_bits + 1) as u32).with_norm_cmd(NormCmd::InvSumExp);
        address & kept.0
    }

    /// A computed accumulator address (`cast_to_acc_addr`).
    pub fn acc_addr(&self, address: u32, accumulate: bool, read_full: bool) -> u32 {
        let mut local = LocalAddr::accumulator(self.spad_addr(address));
        if accumulate {
            local = local.with_accumulate();
        }
        if read_full {
            local = local.with_full();
        }
        local.0
    }

    /// Rows and columns of a move, PRELOAD or COMPUTE, each count cut to its width (`MvinRs2`, `MvoutRs2`, `PreloadRs`,
    /// `ComputeRs`: the unrollers build all four with the widths of a move).
    fn extents(&self, rows: u32, cols: u32) -> (u16, u16) {
        ((rows & mask(self.rows_bits) as u32) as u16, (cols & mask(self.cols_bits) as u32) as u16)
    }

    /// Operands of a move.
    pub fn moved(&self, dram: u64, rows: u32, cols: u32, local: u32) -> MoveOperands {
        let (rows, cols) = self.extents(rows, cols);
        MoveOperands { dram, local: LocalAddr(local), cols, rows }
    }

    /// Operands of a PRELOAD, each as rows, columns, local address.
    pub fn preload(&self, d: (u32, u32, u32), c: (u32, u32, u32)) -> Preload {
        let ((d_rows, d_cols), (c_rows, c_cols)) = (self.extents(d.0, d.1), self.extents(c.0, c.1));
        Preload { d: LocalAddr(d.2), d_cols, d_rows, c: LocalAddr(c.2), c_cols, c_rows }
    }

    /// Operands of a COMPUTE, each as rows, columns, local address.
    pub fn compute(&self, a: (u32, u32, u32), bd: (u32, u32, u32)) -> Compute {
        let ((a_rows, a_cols), (bd_rows, bd_cols)) = (self.extents(a.0, a.1), self.extents(bd.0, bd.1));
        Compute { a: LocalAddr(a.2), a_cols, a_rows, bd: LocalAddr(bd.2), bd_cols, bd_rows }
    }

    /// First row of half `n` of the scratchpad.
    pub fn spad_half(&self, n: u32) -> u32 {
        n * (self.layout.sp_rows / 2)
    }

    /// First row of half `n` of the accumulator.
    pub fn acc_half(&self, n: u32) -> u32 {
        n * (self.layout.acc_rows / 2)
    }

    /// The other half's first row: how the unrollers alternate between accumulator halves.
    pub fn toggle_acc_half(&self, start: u32) -> u32 {
        if start == 0 { self.acc_half(1) } else { 0 }
    }
}

/// A memory address as the core carries it (`coreMaxAddrBits`).
pub(crate) fn dram_addr(address: u64) -> u64 {
    address & mask(CORE_MAX_ADDR_BITS)
}

/// `base + offset`, the offset cut to 32 bits (`castDramOffset`).
pub(crate) fn dram_at(base: u64, offset: u32) -> u64 {
    dram_addr(base + u64::from(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_garbage_address_of_the_unrollers_is_garbage_in_every_configuration() {
        for config in [GemminiConfig::default16(), GemminiConfig::small4(), GemminiConfig::norm16()] {
            let geometry = Geometry::new(&config);
            assert!(LocalAddr(geometry.garbage()).is_garbage(config.layout()));
        }
        assert_eq!(Geometry::new(&GemminiConfig::default16()).garbage(), 0xe000_7fff);
    }

    #[test]
    fn extents_of_an_operand_are_cut_to_their_width() {
        let geometry = Geometry::new(&GemminiConfig::default16());
        assert_eq!(geometry.extents(16, 64), (16, 64));
        assert_eq!(geometry.extents(33, 130), (1, 2));
    }

    #[test]
    fn floor_add_wraps_to_zero_at_the_last_value() {
        assert_eq!(floor_add(0, 1, 2, true), 1);
        assert_eq!(floor_add(1, 1, 2, true), 0);
        assert_eq!(floor_add(4, 4, 10, true), 8);
        assert_eq!(floor_add(8, 4, 10, true), 0);
        assert_eq!(floor_add(1, 1, 2, false), 1);
        assert_eq!(floor_add(7, 1, 0, true), 8, "a bound of 0 counts as 65536");
    }
}
