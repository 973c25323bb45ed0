//! The same program behind several memory systems: `cargo run -p pollux --example memories`.

use pollux::{Config, MemoryModel, Program};

/// The example.
pub fn main() -> Result<(), pollux::Error> {
    let size = 64;
    let data = vec![1; size * size];
    let program = Program::matmul(&Config::default(), [size; 3], &data, &data)?;
    let mut fastest = None;
    for memory in ["bench:latency=10", "bench:latency=200", "bandwidth:bytes=4", "dram", "dram:type=lpddr3,l2_kib=128"]
    {
        let memory: MemoryModel = memory.parse()?;
        let cycles = program.run().memory(memory).cycles()?.cycles();
        let fastest = *fastest.get_or_insert(cycles);
        println!(
            "{:<28} {cycles:>7} cycles, {:.2} times the first",
            memory.to_string(),
            cycles as f64 / fastest as f64
        );
    }
    Ok(())
}
