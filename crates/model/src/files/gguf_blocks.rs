//! The element types of GGUF tensors: how many elements a block has, its bytes, and its real values.
//!
//! The layouts are those of ggml (`ggml-common.h`), the order of the float32 operations that of its
//! `dequantize_row_*`, so the values are the same to the last bit.

/// An element type that can be read.
pub(super) struct BlockType {
    /// Number in the file.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// Elements of a block.
    pub elements: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Appends the real values of one block.
    pub values: fn(&[u8], &mut Vec<f32>),
}

/// Elements of a block of the older types.
const SMALL: usize = 32;
/// Elements of a super-block of the K types.
const LARGE: usize = 256;

pub(super) const BLOCK_TYPES: &[BlockType] = &[
    BlockType { id: 0, name: "F32", elements: 1, bytes: 4, values: f32_values },
    BlockType { id: 1, name: "F16", elements: 1, bytes: 2, values: f16_values },
    BlockType { id: 2, name: "Q4_0", elements: SMALL, bytes: 18, values: q4_0 },
    BlockType { id: 3, name: "Q4_1", elements: SMALL, bytes: 20, values: q4_1 },
    BlockType { id: 6, name: "Q5_0", elements: SMALL, bytes: 22, values: q5_0 },
    BlockType { id: 7, name: "Q5_1", elements: SMALL, bytes: 24, values: q5_1 },
    BlockType { id: 8, name: "Q8_0", elements: SMALL, bytes: 34, values: q8_0 },
    BlockType { id: 10, name: "Q2_K", elements: LARGE, bytes: 84, values: q2_k },
    BlockType { id: 11, name: "Q3_K", elements: LARGE, bytes: 110, values: q3_k },
    BlockType { id: 12, name: "Q4_K", elements: LARGE, bytes: 144, values: q4_k },
    BlockType { id: 13, name: "Q5_K", elements: LARGE, bytes: 176, values: q5_k },
    BlockType { id: 14, name: "Q6_K", elements: LARGE, bytes: 210, values: q6_k },
    BlockType { id: 30, name: "BF16", elements: 1, bytes: 2, values: bf16_values },
];

fn half(bytes: &[u8]) -> f32 {
    half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn f32_values(b: &[u8], out: &mut Vec<f32>) {
    out.push(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
}

fn f16_values(b: &[u8], out: &mut Vec<f32>) {
    out.push(half(b));
}

fn bf16_values(b: &[u8], out: &mut Vec<f32>) {
    out.push(half::bf16::from_le_bytes([b[0], b[1]]).to_f32());
}

/// The low nibbles of all bytes, then the high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = i32> {
    let low = bytes.iter().map(|b| i32::from(b & 15));
    low.chain(bytes.iter().map(|b| i32::from(b >> 4)))
}

/// Nibbles with a fifth bit each from a word.
fn fives(high: &[u8], low: &[u8]) -> impl Iterator<Item = i32> {
    let word = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    nibbles(low).enumerate().map(move |(i, q)| q | ((word >> i & 1) as i32) << 4)
}

fn q4_0(b: &[u8], out: &mut Vec<f32>) {
    let d = half(b);
    out.extend(nibbles(&b[2..]).map(|q| (q - 8) as f32 * d));
}

fn q4_1(b: &[u8], out: &mut Vec<f32>) {
    let (d, m) = (half(b), half(&b[2..]));
    out.extend(nibbles(&b[4..]).map(|q| q as f32 * d + m));
}

fn q5_0(b: &[u8], out: &mut Vec<f32>) {
    let d = half(b);
    out.extend(fives(&b[2..], &b[6..]).map(|q| (q - 16) as f32 * d));
}

fn q5_1(b: &[u8], out: &mut Vec<f32>) {
    let (d, m) = (half(b), half(&b[2..]));
    out.extend(fives(&b[4..], &b[8..]).map(|q| q as f32 * d + m));
}

fn q8_0(b: &[u8], out: &mut Vec<f32>) {
    let d = half(b);
    out.extend(b[2..].iter().map(|&q| f32::from(q as i8) * d));
}

/// 64 bytes as 256 numbers of two bits: 128 from 32 bytes, 32 from each pair of bits.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes.chunks(32).flat_map(|bytes| {
        [0, 2, 4, 6].into_iter().flat_map(move |shift| bytes.iter().map(move |b| i32::from(b >> shift & 3)))
    })
}

fn q2_k(b: &[u8], out: &mut Vec<f32>) {
    let (scales, d, least) = (&b[..16], half(&b[80..]), half(&b[82..]));
    let value = |(i, q): (usize, i32)| {
        let scale = scales[i / 16];
        d * f32::from(scale & 15) * q as f32 - least * f32::from(scale >> 4)
    };
    out.extend(pairs(&b[16..80]).enumerate().map(value));
}

fn q3_k(b: &[u8], out: &mut Vec<f32>) {
    let (high, scales, d) = (&b[..32], &b[96..108], half(&b[108..]));
    let scale = |k: usize| {
        let low = if k < 8 { scales[k] & 15 } else { scales[k - 8] >> 4 };
        i32::from(low | (scales[8 + k % 4] >> (2 * (k / 4)) & 3) << 4) - 32
    };
    let value = |(i, q): (usize, i32)| {
        // A bit that is not set takes 4 off.
        let below = if high[i % 32] >> (i / 32) & 1 == 0 { 4 } else { 0 };
        d * scale(i / 16) as f32 * (q - below) as f32
    };
    out.extend(pairs(&b[32..96]).enumerate().map(value));
}

/// Scale and minimum of sub-block `j`, six bits each.
fn scale_and_minimum(scales: &[u8], j: usize) -> [f32; 2] {
    let pair = match j {
        0..4 => [scales[j] & 63, scales[j + 4] & 63],
        _ => [scales[j + 4] & 15 | (scales[j - 4] >> 6) << 4, scales[j + 4] >> 4 | (scales[j] >> 6) << 4],
    };
    pair.map(f32::from)
}

/// Sub-blocks of 32: the low nibbles of 32 bytes, then their high ones; `fifth` is a further bit.
fn k_values(b: &[u8], low: &[u8], fifth: impl Fn(usize) -> i32, out: &mut Vec<f32>) {
    let (d, least) = (half(b), half(&b[2..]));
    for (i, q) in low.chunks(32).flat_map(nibbles).enumerate() {
        let [scale, minimum] = scale_and_minimum(&b[4..16], i / 32);
        out.push(d * scale * (q + fifth(i)) as f32 - least * minimum);
    }
}

fn q4_k(b: &[u8], out: &mut Vec<f32>) {
    k_values(b, &b[16..], |_| 0, out);
}

fn q5_k(b: &[u8], out: &mut Vec<f32>) {
    let high = &b[16..48];
    k_values(b, &b[48..], |i| i32::from(high[i % 32] >> (i / 32) & 1) << 4, out);
}

fn q6_k(b: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales, d) = (&b[..128], &b[128..192], &b[192..208], half(&b[208..]));
    let high: Vec<i32> = pairs(high).collect();
    for (i, q) in low.chunks(64).flat_map(nibbles).enumerate() {
        let q = (q | high[i] << 4) - 32;
        out.push(d * f32::from(scales[i / 16] as i8) * q as f32);
    }
}
