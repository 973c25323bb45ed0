//! Operators that move elements, stretch them or put some together: shape rules and meaning.

use super::evaluate::Array;
use super::operator::{Operator, Reduction, elements};

/// Row-major strides in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// The shape to which all of them stretch.
pub(crate) fn broadcast_shape(inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = inputs.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let shape: Vec<usize> =
        (0..rank).map(|axis| inputs.iter().map(|shape| size(shape, axis)).max().unwrap_or(1)).collect();
    let fits = |input: &&&[usize]| (0..rank).all(|axis| [1, shape[axis]].contains(&size(input, axis)));
    if !inputs.iter().all(|input| fits(&input)) {
        return Err(format!("operands {inputs:?} do not stretch to one shape"));
    }
    if elements(&shape).is_none() {
        return Err(format!("operands {inputs:?} stretch to {shape:?}, which is too large"));
    }
    Ok(shape)
}

/// Strides of an operand that stretches to `shape`: 0 along axes that it does not have.
fn stretched(operand: &[usize], shape: &[usize]) -> Vec<usize> {
    let (own, lead) = (strides(operand), shape.len() - operand.len());
    (0..shape.len()).map(|axis| axis.checked_sub(lead).filter(|&i| operand[i] != 1).map_or(0, |i| own[i])).collect()
}

/// Offsets of an operand's elements in the order of `shape`, whose axes it steps through by these strides.
fn offsets(shape: &[usize], steps: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let (shape, steps) = (shape.to_vec(), steps.to_vec());
    let (mut index, mut at) = (vec![0; shape.len()], 0);
    (0..shape.iter().product::<usize>()).map(move |_| {
        let now = at;
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
        now
    })
}

/// A function of operands that stretch to the result's shape.
pub(super) fn broadcast(x: &[&Array], shape: &[usize], f: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let mut offsets: Vec<_> = x.iter().map(|a| offsets(shape, &stretched(&a.shape, shape))).collect();
    let mut values = vec![0.0; x.len()];
    let mut element = |_| {
        for ((value, offsets), array) in values.iter_mut().zip(&mut offsets).zip(x) {
            *value = offsets.next().map_or(0.0, |at| array.data[at]);
        }
        f(&values)
    };
    (0..shape.iter().product::<usize>()).map(&mut element).collect()
}

fn axis_of(axis: usize, shape: &[usize]) -> Result<usize, String> {
    shape.get(axis).copied().ok_or_else(|| format!("axis {axis} of {shape:?}, which has {} axes", shape.len()))
}

/// The result's shape of an operator of this file.
pub(super) fn shape(operator: &Operator, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let x = inputs[0];
    let with = |axis: usize, size: usize| {
        let mut shape = x.to_vec();
        shape[axis] = size;
        if size == 0 || elements(&shape).is_none() { Err(format!("a result of shape {shape:?}")) } else { Ok(shape) }
    };
    match operator {
        Operator::Transpose { order } => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            match sorted.into_iter().eq(0..x.len()) {
                true => Ok(order.iter().map(|&axis| x[axis]).collect()),
                false => Err(format!("{order:?} is no order of the axes of {x:?}")),
            }
        }
        Operator::Take { axis, indices } => {
            let size = axis_of(*axis, x)?;
            match indices.iter().find(|&&index| index >= size) {
                Some(index) => Err(format!("index {index} along axis {axis} of {x:?}")),
                None => with(*axis, indices.len()),
            }
        }
        Operator::Resample { axis, taps } => {
            let size = axis_of(*axis, x)?;
            match taps.iter().flatten().find(|(index, weight)| *index >= size || !weight.is_finite()) {
                Some(tap) => Err(format!("index and weight {tap:?} along axis {axis} of {x:?}")),
                None => with(*axis, taps.len()),
            }
        }
        Operator::Pad { before, after, .. } => {
            if [before.len(), after.len()] != [x.len(); 2] {
                return Err(format!("padding {before:?} and {after:?} of {x:?}: give one size an axis"));
            }
            let padded = |axis: usize| before[axis].checked_add(after[axis])?.checked_add(x[axis]);
            let shape: Option<Vec<usize>> = (0..x.len()).map(padded).collect();
            shape
                .filter(|shape| elements(shape).is_some())
                .ok_or_else(|| format!("padding {before:?} and {after:?} of {x:?} is too large"))
        }
        Operator::Gather { axis } => {
            axis_of(*axis, x)?;
            let shape = [&x[..*axis], inputs[1], &x[axis + 1..]].concat();
            if elements(&shape).is_none() { Err(format!("a result of shape {shape:?}")) } else { Ok(shape) }
        }
        Operator::Reduce { function, axes, keep } => {
            let ascending = axes.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || axes.last().is_none_or(|&axis| axis >= x.len()) {
                return Err(format!("axes {axes:?} of {x:?}: give some of them in ascending order"));
            }
            if axes.len() > 1 && matches!(function, Reduction::ArgMax | Reduction::ArgMin) {
                return Err(format!("an index along axes {axes:?}: give one"));
            }
            let size = |axis: usize| if axes.contains(&axis) { keep.then_some(1) } else { Some(x[axis]) };
            let shape: Vec<usize> = (0..x.len()).filter_map(size).collect();
            Ok(if shape.is_empty() { vec![1] } else { shape })
        }
        _ => Err("it has no shape rule here".into()),
    }
}

/// For an operator that only moves elements: the operand's element behind each of the result's, or none where a number was
/// put; nothing for other operators. It is the whole meaning of these operators in any number format.
pub fn moved(operator: &Operator, input: &[usize], output: &[usize]) -> Option<Vec<Option<usize>>> {
    let own = strides(input);
    match operator {
        Operator::Transpose { order } => {
            let steps: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
            Some(offsets(output, &steps).map(Some).collect())
        }
        Operator::Take { axis, indices } => {
            let (outer, inner) = (input[..*axis].iter().product::<usize>(), own[*axis]);
            let slices = (0..outer).flat_map(|o| indices.iter().map(move |i| (o * input[*axis] + i) * inner));
            Some(slices.flat_map(|first| (first..first + inner).map(Some)).collect())
        }
        Operator::Pad { before, .. } => {
            let mut map = vec![None; output.iter().product()];
            let first: usize = strides(output).iter().zip(before).map(|(stride, before)| stride * before).sum();
            for (from, to) in offsets(input, &strides(output)).enumerate() {
                map[first + to] = Some(from);
            }
            Some(map)
        }
        _ => None,
    }
}

/// What stands where a movement puts a number.
pub fn filled(operator: &Operator) -> f32 {
    match operator {
        Operator::Pad { value, .. } => *value,
        _ => 0.0,
    }
}

/// The value of an operator of this file; nothing for a row that there is not.
pub(super) fn apply(operator: &Operator, x: &[&Array], shape: &[usize]) -> Result<Vec<f32>, i64> {
    if let Some(map) = moved(operator, &x[0].shape, shape) {
        let fill = filled(operator);
        return Ok(map.into_iter().map(|at| at.map_or(fill, |at| x[0].data[at])).collect());
    }
    match operator {
        Operator::Resample { axis, taps } => Ok(resample(x[0], *axis, taps)),
        Operator::Gather { axis } => gather(x, *axis),
        Operator::Reduce { function, axes, .. } => Ok(reduce(x[0], *function, axes)),
        _ => Ok(Vec::new()),
    }
}

fn resample(x: &Array, axis: usize, taps: &[Vec<(usize, f32)>]) -> Vec<f32> {
    let (inner, size) = (strides(&x.shape)[axis], x.shape[axis]);
    let mut out = Vec::with_capacity(x.data.len() / size * taps.len());
    for outer in x.data.chunks(size * inner) {
        for taps in taps {
            let sum = |i: usize| taps.iter().fold(0.0f32, |sum, &(at, weight)| sum + weight * outer[at * inner + i]);
            out.extend((0..inner).map(sum));
        }
    }
    out
}

fn gather(x: &[&Array], axis: usize) -> Result<Vec<f32>, i64> {
    let (inner, size) = (strides(&x[0].shape)[axis], x[0].shape[axis] as i64);
    let row = |&index: &f32| {
        let index = index as i64;
        let row = if index < 0 { index + size } else { index };
        if (0..size).contains(&row) { Ok(row as usize) } else { Err(index) }
    };
    let rows = x[1].data.iter().map(row).collect::<Result<Vec<usize>, i64>>()?;
    let mut out = Vec::with_capacity(x[0].data.len() / size as usize * rows.len());
    for outer in x[0].data.chunks(size as usize * inner) {
        rows.iter().for_each(|row| out.extend_from_slice(&outer[row * inner..][..inner]));
    }
    Ok(out)
}

fn reduce(x: &Array, function: Reduction, axes: &[usize]) -> Vec<f32> {
    let own = strides(&x.shape);
    let part = |reduced: bool| -> (Vec<usize>, Vec<usize>) {
        (0..x.shape.len()).filter(|axis| axes.contains(axis) == reduced).map(|axis| (x.shape[axis], own[axis])).unzip()
    };
    let ((outer, outer_steps), (inner, inner_steps)) = (part(false), part(true));
    let inner: Vec<usize> = offsets(&inner, &inner_steps).collect();
    let number = |first: usize| {
        let values = inner.iter().map(|at| x.data[first + at]);
        let sum = |f: fn(f64) -> f64| values.clone().map(|v| f(f64::from(v))).sum::<f64>();
        let first_of = |better: fn(f32, f32) -> bool| {
            let best = |best: (usize, f32), (i, v): (usize, f32)| if better(v, best.1) { (i, v) } else { best };
            values.clone().enumerate().reduce(best).map_or(0.0, |(index, _)| index as f32)
        };
        match function {
            Reduction::Sum => sum(|v| v) as f32,
            Reduction::Mean => (sum(|v| v) / inner.len() as f64) as f32,
            Reduction::Norm => sum(|v| v * v).sqrt() as f32,
            Reduction::Product => values.fold(1.0, |product, v| product * v),
            Reduction::Max => values.fold(f32::NEG_INFINITY, f32::max),
            Reduction::Min => values.fold(f32::INFINITY, f32::min),
            Reduction::ArgMax => first_of(|v, best| v > best),
            Reduction::ArgMin => first_of(|v, best| v < best),
        }
    };
    offsets(&outer, &outer_steps).map(number).collect()
}

/// Local response normalisation across the channels of an image.
pub(super) fn local_response_norm(x: &Array, size: usize, [alpha, beta, bias]: [f32; 3]) -> Vec<f32> {
    let channels = x.shape.last().copied().unwrap_or(1);
    let mut out = Vec::with_capacity(x.data.len());
    for pixel in x.data.chunks(channels) {
        for (c, v) in pixel.iter().enumerate() {
            // The larger half lies behind the channel (ONNX, LRN).
            let around = c.saturating_sub((size - 1) / 2)..(c + size / 2 + 1).min(channels);
            let squares: f64 = pixel[around].iter().map(|v| f64::from(*v).powi(2)).sum();
            let divisor = f64::from(bias) + f64::from(alpha) / size as f64 * squares;
            out.push((f64::from(*v) / libm::pow(divisor, f64::from(beta))) as f32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(shape: &[usize]) -> Array {
        Array::new(shape, (0..shape.iter().product::<usize>()).map(|i| i as f32).collect())
    }

    fn value(operator: &Operator, x: &[&Array]) -> (Vec<usize>, Vec<f32>) {
        let shape = operator.output_shape(&x.iter().map(|a| &a.shape[..]).collect::<Vec<_>>()).unwrap();
        let data = apply(operator, x, &shape).unwrap();
        (shape, data)
    }

    #[test]
    fn movements_take_elements_by_their_place() {
        let x = ramp(&[2, 3]);
        assert_eq!(
            value(&Operator::Transpose { order: vec![1, 0] }, &[&x]),
            (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
        );
        let take = Operator::Take { axis: 1, indices: vec![2, 2, 0] };
        assert_eq!(value(&take, &[&x]).1, [2.0, 2.0, 0.0, 5.0, 5.0, 3.0]);
        let pad = Operator::Pad { before: vec![1, 0], after: vec![0, 1], value: 9.0 };
        assert_eq!(
            value(&pad, &[&x]),
            (vec![3, 4], [vec![9.0; 4], vec![0.0, 1.0, 2.0, 9.0, 3.0, 4.0, 5.0, 9.0]].concat())
        );
    }

    #[test]
    fn sizes_of_one_stretch() {
        let (column, row) = (ramp(&[2, 1]), ramp(&[3]));
        let shape = broadcast_shape(&[&column.shape, &row.shape]).unwrap();
        assert_eq!(shape, [2, 3]);
        assert_eq!(broadcast(&[&column, &row], &shape, |v| 10.0 * v[0] + v[1]), [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert!(broadcast_shape(&[&[2], &[3]]).is_err());
    }

    #[test]
    fn reductions_and_gathers_are_along_their_axes() {
        let x = ramp(&[2, 3, 2]);
        let reduce =
            |function, axes: &[usize]| value(&Operator::Reduce { function, axes: axes.to_vec(), keep: false }, &[&x]);
        assert_eq!(reduce(Reduction::Sum, &[1]), (vec![2, 2], vec![6.0, 9.0, 24.0, 27.0]));
        assert_eq!(reduce(Reduction::Max, &[0, 2]), (vec![3], vec![7.0, 9.0, 11.0]));
        assert_eq!(reduce(Reduction::ArgMax, &[1]).1, [2.0; 4]);
        assert_eq!(reduce(Reduction::Mean, &[0, 1, 2]), (vec![1], vec![5.5]));
        let rows = Array::new(&[2], vec![-1.0, 0.0]);
        assert_eq!(value(&Operator::Gather { axis: 1 }, &[&x, &rows]).1, [4.0, 5.0, 0.0, 1.0, 10.0, 11.0, 6.0, 7.0]);
        assert_eq!(apply(&Operator::Gather { axis: 1 }, &[&x, &Array::new(&[1], vec![3.0])], &[2, 1, 2]), Err(3));
        let taps = vec![vec![(0, 0.5), (1, 0.5)], vec![(2, 1.0)]];
        assert_eq!(value(&Operator::Resample { axis: 1, taps }, &[&x]).1, [1.0, 2.0, 4.0, 5.0, 7.0, 8.0, 10.0, 11.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |operator: Operator| operator.output_shape(&[&[2, 3]]).unwrap_err();
        let messages = [
            refused(Operator::Transpose { order: vec![0, 0] }),
            refused(Operator::Take { axis: 1, indices: vec![3] }),
            refused(Operator::Take { axis: 2, indices: vec![0] }),
            refused(Operator::Pad { before: vec![1], after: vec![1], value: 0.0 }),
            refused(Operator::Pad { before: vec![usize::MAX; 2], after: vec![1; 2], value: 0.0 }),
            refused(Operator::Reduce { function: Reduction::Sum, axes: vec![1, 0], keep: true }),
            refused(Operator::Reduce { function: Reduction::ArgMax, axes: vec![0, 1], keep: true }),
            refused(Operator::Resample { axis: 0, taps: vec![vec![(0, f32::NAN)]] }),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r"
        [0, 0] is no order of the axes of [2, 3]
        index 3 along axis 1 of [2, 3]
        axis 2 of [2, 3], which has 2 axes
        padding [1] and [1] of [2, 3]: give one size an axis
        padding [18446744073709551615, 18446744073709551615] and [1, 1] of [2, 3] is too large
        axes [1, 0] of [2, 3]: give some of them in ascending order
        an index along axes [0, 1]: give one
        index and weight (0, NaN) along axis 0 of [2, 3]
        ");
    }

    #[test]
    fn a_local_response_is_the_sum_over_neighbouring_channels() {
        let x = Array::new(&[1, 1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
        let found = local_response_norm(&x, 3, [3.0, 1.0, 1.0]);
        let expected = [1.0 / 6.0, 2.0 / 15.0, 3.0 / 30.0, 4.0 / 26.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }
}
