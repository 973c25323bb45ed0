//! What must stand in a result: the integer arithmetic of the task, as Gemmini's accumulator does it.

use pollux_numerics::acc_scale;

use crate::lab::Expected;

/// Contents of the buffers of a case.
pub(crate) trait Values {
    /// Extents of a buffer.
    fn shape(&self, name: &str) -> Vec<usize>;
    /// Its elements.
    fn elements(&self, name: &str) -> Vec<i32>;
}

/// The elements of the result.
pub(crate) fn product([a, b]: &[String; 2], expected: &Expected, values: &impl Values) -> Vec<i32> {
    let (m, k) = (values.shape(a)[0], values.shape(a)[1]);
    let n = values.shape(b)[1];
    let (a, b) = (values.elements(a), values.elements(b));
    let bias = expected.bias.as_ref().map_or(vec![0; n], |bias| values.elements(bias));
    let mut result = Vec::with_capacity(m * n);
    for row in a.chunks(k) {
        for column in 0..n {
            let terms = row.iter().zip(b.chunks(n)).map(|(x, row)| x * row[column]);
            let sum = terms.fold(bias[column], |sum: i32, term| sum.wrapping_add(term));
            result.push(read_out(sum, expected));
        }
    }
    result
}

/// The accumulator's way out: ReLU, scale, saturation. A result of 32 bits is as it is.
fn read_out(sum: i32, expected: &Expected) -> i32 {
    let Some(scale) = expected.scale else { return sum };
    let sum = if expected.relu { sum.max(0) } else { sum };
    acc_scale(sum, scale.to_bits()).clamp(i8::MIN.into(), i8::MAX.into())
}
