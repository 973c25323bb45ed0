//! The integer units of the reference against rows recorded from Gemmini's RTL.
//!
//! `golden/*.in.bin` (int32) and `*.out.bin` (int8), little endian, are the input and output regions of the golden
//! cases of the same names (configuration `norm16`); equality is exact.

use pollux_model::layer::{GeluConstants, SoftmaxConstants};
use pollux_model::layer_reference::{gelu, layer_norm_row, scale_to_int8, softmax_row};

/// Scale for which the cases' programs derive their constants.
const CASE_SCALE: f64 = 0.05;

fn int32(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn check(input: &[u8], output: &[u8], columns: usize, unit: impl Fn(&[i32]) -> Vec<i8>) {
    let expected: Vec<i8> = output.iter().map(|&b| b as i8).collect();
    for (r, (row, expected)) in int32(input).chunks(columns).zip(expected.chunks(columns)).enumerate() {
        assert_eq!(unit(row), expected, "row {r}");
    }
}

#[test]
fn softmax_equals_the_rtl() {
    let constants = SoftmaxConstants::for_scale(CASE_SCALE).unwrap();
    let softmax = |row: &[i32]| softmax_row(row, constants, 1.0);
    check(
        include_bytes!("golden/ib_softmax_16x32.in.bin"),
        include_bytes!("golden/ib_softmax_16x32.out.bin"),
        32,
        softmax,
    );
    check(
        include_bytes!("golden/ib_softmax_16x256.in.bin"),
        include_bytes!("golden/ib_softmax_16x256.out.bin"),
        256,
        softmax,
    );
}

#[test]
fn layer_norm_equals_the_rtl() {
    let norm = |row: &[i32]| layer_norm_row(row, |_| 20.0);
    check(
        include_bytes!("golden/ib_layernorm_8x384.in.bin"),
        include_bytes!("golden/ib_layernorm_8x384.out.bin"),
        384,
        norm,
    );
}

#[test]
fn gelu_equals_the_rtl() {
    let constants = GeluConstants::for_scale(CASE_SCALE);
    let unit = |row: &[i32]| row.iter().map(|&q| scale_to_int8(gelu(q, constants), -4e-4)).collect();
    check(include_bytes!("golden/ib_gelu_32x64.in.bin"), include_bytes!("golden/ib_gelu_32x64.out.bin"), 64, unit);
}
