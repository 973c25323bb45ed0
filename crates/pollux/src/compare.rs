//! What a run left in memory, held against what the program expects.

use pollux_asm::{ElementType, Program};
use pollux_memory::Memory;
use serde::Serialize;

/// A buffer with expected contents, compared with memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Buffer.
    pub buffer: String,
    /// Elements compared.
    pub elements: u64,
    /// Elements that differ.
    pub mismatches: u64,
    /// The first of them.
    pub first: Option<Mismatch>,
}

/// An element that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Index in each dimension.
    pub index: Vec<u64>,
    /// Expected value.
    pub expected: i64,
    /// Value in memory.
    pub actual: i64,
}

/// Compares every buffer that has expected contents.
pub fn compare(program: &Program, memory: &Memory) -> Vec<Comparison> {
    let expected = program.buffers.iter().filter_map(|buffer| Some((buffer, buffer.expected.as_ref()?)));
    expected
        .map(|(buffer, expected)| {
            let actual = memory.read_vec(buffer.address, expected.len());
            compare_elements(&buffer.name, buffer.element, &buffer.shape, expected, &actual)
        })
        .collect()
}

fn compare_elements(name: &str, element: ElementType, shape: &[u64], expected: &[u8], actual: &[u8]) -> Comparison {
    let mut comparison = Comparison { buffer: name.to_owned(), elements: 0, mismatches: 0, first: None };
    for (position, (expected, actual)) in (0..).zip(element.elements(expected).zip(element.elements(actual))) {
        comparison.elements += 1;
        if expected != actual {
            comparison.mismatches += 1;
            comparison.first.get_or_insert_with(|| Mismatch { index: index(position, shape), expected, actual });
        }
    }
    comparison
}

/// The index in each dimension of an element's position.
fn index(mut position: u64, shape: &[u64]) -> Vec<u64> {
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|extent| {
            let here = position % extent;
            position /= extent;
            here
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mismatch_is_named_by_its_index() {
        let comparison = compare_elements("c", ElementType::I8, &[2, 3], &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 9, 255]);
        let first = Mismatch { index: vec![1, 1], expected: 5, actual: 9 };
        assert_eq!(comparison, Comparison { buffer: "c".into(), elements: 6, mismatches: 2, first: Some(first) });
    }
}
