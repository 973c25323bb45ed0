//! What the loop unrollers need of the configuration: sizes, the addresses they compute, the operand words they build
//! (`LocalAddr.scala`, `GemminiISA.scala`).
//!
//! The hardware computes on wires of fixed width and cuts every field to its width; so do the functions here.

use pollux_isa::config::CORE_MAX_ADDR_BITS;
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr};

/// Function numbers of the commands that the front end tells apart or makes (`GemminiISA.scala`).
pub(crate) mod funct {
    pub const CONFIG: u8 = 0;
    pub const MVIN2: u8 = 1;
    pub const MVIN: u8 = 2;
    pub const MVOUT: u8 = 3;
    pub const COMPUTE_AND_FLIP: u8 = 4;
    pub const COMPUTE_AND_STAY: u8 = 5;
    pub const PRELOAD: u8 = 6;
    pub const FLUSH: u8 = 7;
    pub const LOOP_WS: u8 = 8;
    pub const LOOP_WS_CONFIG_BOUNDS: u8 = 9;
    pub const LOOP_WS_CONFIG_ADDRS_AB: u8 = 10;
    pub const LOOP_WS_CONFIG_ADDRS_DC: u8 = 11;
    pub const LOOP_WS_CONFIG_STRIDES_AB: u8 = 12;
    pub const LOOP_WS_CONFIG_STRIDES_DC: u8 = 13;
    pub const MVIN3: u8 = 14;
    pub const LOOP_CONV_WS: u8 = 15;
    pub const LOOP_CONV_WS_CONFIG_1: u8 = 16;
    pub const LOOP_CONV_WS_CONFIG_2: u8 = 17;
    pub const LOOP_CONV_WS_CONFIG_3: u8 = 18;
    pub const LOOP_CONV_WS_CONFIG_4: u8 = 19;
    pub const LOOP_CONV_WS_CONFIG_5: u8 = 20;
    pub const LOOP_CONV_WS_CONFIG_6: u8 = 21;
    pub const CLKGATE_EN: u8 = 22;
    pub const MVOUT_SPAD: u8 = 23;
    pub const LOOP_WS_CONFIG_SPAD_AB: u8 = 24;
    pub const LOOP_WS_CONFIG_SPAD_C: u8 = 25;
    pub const COUNTER: u8 = 126;
}

/// Values of `rs1[1:0]` of a CONFIG (`GemminiISA.scala`).
pub(crate) mod config_kind {
    pub const EX: u64 = 0;
    pub const LD: u64 = 1;
    pub const ST: u64 = 2;
    pub const NORM: u64 = 3;
}

/// The low `bits` bits.
pub(crate) const fn mask(bits: u32) -> u64 {
    if bits >= u64::BITS { u64::MAX } else { (1 << bits) - 1 }
}

/// Bits `low..low + width` of `value`.
pub(crate) const fn field(value: u64, low: u32, width: u32) -> u32 {
    (value >> low & mask(width)) as u32
}

/// Bit `index` of `value`.
pub(crate) const fn bit(value: u64, index: u32) -> bool {
    value >> index & 1 != 0
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
        const NORM_CMD: u32 = 7 << 26;
        address & (NORM_CMD | mask(self.layout.max_addr_bits + 1) as u32)
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

    /// Operand word of a move, PRELOAD or COMPUTE, each count cut to its width (`MvinRs2`, `MvoutRs2`, `PreloadRs`,
    /// `ComputeRs`: the unrollers build all four with the widths of a move).
    pub fn operand(&self, rows: u32, cols: u32, local: u32) -> u64 {
        (u64::from(rows) & mask(self.rows_bits)) << 48
            | (u64::from(cols) & mask(self.cols_bits)) << 32
            | u64::from(local)
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
    use pollux_isa::table;

    #[test]
    fn the_function_numbers_are_those_of_the_instruction_table() {
        let numbers = [
            ("config_ex", funct::CONFIG),
            ("mvin2", funct::MVIN2),
            ("mvin", funct::MVIN),
            ("mvout", funct::MVOUT),
            ("compute_preloaded", funct::COMPUTE_AND_FLIP),
            ("compute_accumulated", funct::COMPUTE_AND_STAY),
            ("preload", funct::PRELOAD),
            ("flush", funct::FLUSH),
            ("loop_ws", funct::LOOP_WS),
            ("loop_ws_config_bounds", funct::LOOP_WS_CONFIG_BOUNDS),
            ("loop_ws_config_addrs_ab", funct::LOOP_WS_CONFIG_ADDRS_AB),
            ("loop_ws_config_addrs_dc", funct::LOOP_WS_CONFIG_ADDRS_DC),
            ("loop_ws_config_strides_ab", funct::LOOP_WS_CONFIG_STRIDES_AB),
            ("loop_ws_config_strides_dc", funct::LOOP_WS_CONFIG_STRIDES_DC),
            ("mvin3", funct::MVIN3),
            ("loop_conv_ws", funct::LOOP_CONV_WS),
            ("loop_conv_ws_config_1", funct::LOOP_CONV_WS_CONFIG_1),
            ("loop_conv_ws_config_2", funct::LOOP_CONV_WS_CONFIG_2),
            ("loop_conv_ws_config_3", funct::LOOP_CONV_WS_CONFIG_3),
            ("loop_conv_ws_config_4", funct::LOOP_CONV_WS_CONFIG_4),
            ("loop_conv_ws_config_5", funct::LOOP_CONV_WS_CONFIG_5),
            ("loop_conv_ws_config_6", funct::LOOP_CONV_WS_CONFIG_6),
            ("clkgate_en", funct::CLKGATE_EN),
            ("mvout_spad", funct::MVOUT_SPAD),
            ("loop_ws_config_spad_ab", funct::LOOP_WS_CONFIG_SPAD_AB),
            ("loop_ws_config_spad_c", funct::LOOP_WS_CONFIG_SPAD_C),
            ("counter", funct::COUNTER),
        ];
        for (mnemonic, number) in numbers {
            assert_eq!(table::by_mnemonic(mnemonic).map(|spec| spec.funct), Some(number), "{mnemonic}");
        }
    }

    #[test]
    fn the_garbage_address_of_the_unrollers_is_garbage_in_every_configuration() {
        for config in [GemminiConfig::default16(), GemminiConfig::small4(), GemminiConfig::norm16()] {
            let geometry = Geometry::new(&config);
            assert!(LocalAddr(geometry.garbage()).is_garbage(config.layout()));
        }
        assert_eq!(Geometry::new(&GemminiConfig::default16()).garbage(), 0xe000_7fff);
    }

    #[test]
    fn fields_of_an_operand_word_are_cut_to_their_width() {
        let geometry = Geometry::new(&GemminiConfig::default16());
        assert_eq!(geometry.operand(16, 64, 5), 16 << 48 | 64 << 32 | 5);
        assert_eq!(geometry.operand(33, 130, 5), 1 << 48 | 2 << 32 | 5);
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
