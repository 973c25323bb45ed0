//! Parts of the system against recordings of its RTL (`tests/golden/soc`), each with the other side as it was recorded.

mod gemmini;
mod l2;

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// Programs of which there are recordings.
const PROGRAMS: [&str; 18] = [
    "aligned",
    "gemmini_counter",
    "matrix_add",
    "mlp3",
    "mvin_mvout",
    "mvin_mvout_acc",
    "mvin_mvout_acc_zero_stride",
    "mvin_mvout_stride",
    "mvin_mvout_zeros",
    "mvin_scale",
    "raw_hazard",
    "resadd",
    "template",
    "test",
    "tiled_matmul_ws",
    "tiled_matmul_ws_At",
    "tiled_matmul_ws_full_C",
    "tiled_matmul_ws_perf",
];

/// Bytes of a beat at Gemmini's port.
const BEAT_BYTES: u32 = 16;

/// The fields of each line of a recording's file.
fn rows(program: &str, file: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/soc").join(program).join(file);
    let bytes = std::fs::read(&path).unwrap();
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn decimal(text: &str) -> u64 {
    text.parse().unwrap()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}
