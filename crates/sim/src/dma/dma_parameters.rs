//! What the DMA engines need of the configuration (`Scratchpad.scala`, where they are instantiated).

use pollux_isa::GemminiConfig;
use pollux_isa::config::CORE_MAX_ADDR_BITS;

/// Sizes of the DMA, all in bytes unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaParameters {
    /// Width of a TileLink beat.
    pub beat_bytes: usize,
    /// Largest TileLink request.
    pub max_bytes: usize,
    /// Alignment of the byte masks.
    pub aligned_to: usize,
    /// Transactions in flight, for each engine.
    pub xacts: usize,
    /// Elements of a row.
    pub dim: usize,
    /// Scratchpad element.
    pub input_bytes: usize,
    /// Accumulator element.
    pub acc_bytes: usize,
    /// Scratchpad row.
    pub spad_row_bytes: usize,
    /// Accumulator row.
    pub acc_row_bytes: usize,
    /// Data register of the writer.
    pub write_data_bytes: usize,
    /// Mask of a row number, wide enough for either memory.
    pub row_mask: u32,
}

impl DmaParameters {
    /// The sizes of a configuration.
    pub fn new(config: &GemminiConfig) -> Self {
        let (spad_row_bytes, acc_row_bytes) = (config.sp_row_bytes() as usize, config.acc_row_bytes() as usize);
        Self {
            beat_bytes: config.beat_bytes() as usize,
            max_bytes: config.dma_maxbytes as usize,
            aligned_to: config.aligned_to as usize,
            xacts: config.max_in_flight_mem_reqs as usize,
            dim: config.dim() as usize,
            input_bytes: config.input_type.bytes() as usize,
            acc_bytes: config.acc_type.bytes() as usize,
            spad_row_bytes,
            acc_row_bytes,
            write_data_bytes: if config.acc_read_full_width { acc_row_bytes } else { spad_row_bytes },
            row_mask: ((1u64 << config.layout().max_addr_bits) - 1) as u32,
        }
    }

    /// Sizes of a TileLink request, ascending: powers of two from the smallest to the largest
    /// (`read_sizes` and `write_sizes`, `DMA.scala`).
    pub fn request_sizes(&self) -> impl Iterator<Item = u32> + use<> {
        let (smallest, largest) = (self.aligned_to.max(self.beat_bytes), self.max_bytes);
        std::iter::successors(Some(smallest as u32), |s| Some(2 * s)).take_while(move |s| *s as usize <= largest)
    }
}

/// Cuts an address to the width that the command path keeps (`coreMaxAddrBits`).
#[inline]
pub fn core_address(address: u64) -> u64 {
    address & ((1 << CORE_MAX_ADDR_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_sizes_are_the_powers_of_two_from_a_beat_to_the_largest_request() {
        let sizes = |config: &GemminiConfig| DmaParameters::new(config).request_sizes().collect::<Vec<_>>();
        assert_eq!(sizes(&GemminiConfig::default16()), [16, 32, 64]);
        let wide = GemminiConfig { dma_buswidth: 512, dma_maxbytes: 128, ..GemminiConfig::default16() };
        assert_eq!(sizes(&wide), [64, 128]);
    }
}
