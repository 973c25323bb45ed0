//! How the DMA engines cut a row into requests (`StreamReader`, `StreamWriter`; `DMA.scala`).

use pollux_isa::GemminiConfig;

/// What one row of a load or store makes at the memory port and in the local memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTraffic {
    /// Requests.
    pub requests: u64,
    /// Beats of data.
    pub beats: u64,
    /// Bytes of the requests (read), or of the row (written).
    pub bytes: u64,
    /// Writes of the local memory's rows, whole or in parts.
    pub local_writes: u64,
}

/// Sizes of requests: powers of two from a beat to the largest.
fn sizes(config: &GemminiConfig) -> impl Iterator<Item = u64> {
    let smallest = u64::from(config.aligned_to.max(config.beat_bytes()));
    let largest = u64::from(config.dma_maxbytes);
    std::iter::successors(Some(smallest), |size| Some(2 * size)).take_while(move |size| *size <= largest)
}

/// The smallest request that carries the most of `left` bytes from `address` on: its size and what it carries.
fn best(config: &GemminiConfig, address: u64, left: u64) -> (u64, u64) {
    let mut best = (0, 0);
    for size in sizes(config) {
        let bytes = (size - address % size).min(left);
        if bytes > best.1 {
            best = (size, bytes);
        }
    }
    best
}

/// A row of `bytes` bytes at `address`, for local rows of `row_bytes` bytes.
pub fn read_row(config: &GemminiConfig, address: u64, bytes: u64, row_bytes: u64) -> RowTraffic {
    let (mut traffic, mut done) = (RowTraffic::default(), 0);
    while done < bytes {
        let (size, useful) = best(config, address + done, bytes - done);
        traffic.requests += 1;
        traffic.beats += size / u64::from(config.beat_bytes());
        traffic.bytes += size;
        // A request that begins inside a local row writes a part of it.
        traffic.local_writes += (done % row_bytes + useful).div_ceil(row_bytes);
        done += useful;
    }
    traffic
}

/// A row of `bytes` bytes to `address`.
pub fn write_row(config: &GemminiConfig, address: u64, bytes: u64) -> RowTraffic {
    let (mut traffic, mut done) = (RowTraffic::default(), 0);
    while done < bytes {
        let (size, useful) = best(config, address + done, bytes - done);
        traffic.requests += 1;
        traffic.beats += size / u64::from(config.beat_bytes());
        traffic.bytes += useful;
        done += useful;
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_cut_at_the_largest_request() {
        let config = GemminiConfig::default16();
        let read = |address, bytes| {
            let row = read_row(&config, address, bytes, 16);
            (row.requests, row.beats, row.bytes, row.local_writes)
        };
        assert_eq!(read(0, 64), (1, 4, 64, 4));
        assert_eq!(read(16, 64), (2, 5, 80, 4));
        assert_eq!(read(8, 16), (1, 2, 32, 1));
        assert_eq!(read(56, 16), (2, 2, 32, 2));
        assert_eq!(read(3, 1), (1, 1, 16, 1));
        let write = write_row(&config, 8, 16);
        assert_eq!((write.requests, write.beats, write.bytes), (1, 2, 16));
    }
}
