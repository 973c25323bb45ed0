//! Arithmetic between constants: what exporters leave of shape computations and masks.

use std::rc::Rc;

use super::constant::{Constant, constant_elements};
use super::error::OnnxError;
use super::op::Op;

/// The result of a node whose operands are all constant; nothing if the operator is not one of these.
pub(super) fn fold(op: Op<'_>, inputs: &[Rc<Constant>]) -> Result<Option<Constant>, OnnxError> {
    let refuse = |what: String| op.refuse(what, "export with constant folding, or simplify the model first");
    let both = |f: fn(f64, f64) -> f64| -> Result<Option<Constant>, OnnxError> {
        let [a, b] = inputs else { return Err(refuse(format!("{} constant operands", inputs.len()))) };
        let result = a.zip(b, f);
        result.map(Some).ok_or_else(|| refuse(format!("constants of shapes {:?} and {:?} together", a.shape, b.shape)))
    };
    let integer = inputs.iter().all(|c| c.integer);
    let truth = |b: bool| f64::from(u8::from(b));
    let Some(first) = inputs.first() else { return Ok(None) };
    Ok(match op.kind() {
        "Add" => both(|a, b| a + b)?,
        "Sub" => both(|a, b| a - b)?,
        "Mul" => both(|a, b| a * b)?,
        "Div" if integer => both(|a, b| (a / b).trunc())?,
        "Div" => both(|a, b| a / b)?,
        "Pow" => both(f64::powf)?,
        "Equal" => both(|a, b| f64::from(u8::from(a == b)))?,
        "Less" => both(|a, b| f64::from(u8::from(a < b)))?,
        "LessOrEqual" => both(|a, b| f64::from(u8::from(a <= b)))?,
        "Greater" => both(|a, b| f64::from(u8::from(a > b)))?,
        "GreaterOrEqual" => both(|a, b| f64::from(u8::from(a >= b)))?,
        "And" => both(|a, b| a * b)?,
        "Sqrt" => Some(mapped(first, f64::sqrt)),
        "Neg" => Some(mapped(first, |v| -v)),
        "Not" => Some(mapped(first, |v| if v == 0.0 { 1.0 } else { 0.0 })),
        "Cast" => Some(cast(op, first)),
        "GatherND" => {
            let rows = inputs.get(1).ok_or_else(|| refuse("no indices".into()))?;
            Some(first.gather_nd(rows).ok_or_else(|| refuse("an index outside the constant".into()))?)
        }
        "CumSum" => {
            let axis = inputs.get(1).and_then(|c| c.scalar()).unwrap_or(0.0) as i64;
            let axis = op.axis(axis, first.shape.len())?;
            if op.int("exclusive", 0) != 0 || op.int("reverse", 0) != 0 {
                return Err(refuse("an exclusive or reversed CumSum".into()));
            }
            Some(first.cumulated(axis))
        }
        "Trilu" => {
            let k = inputs.get(1).and_then(|c| c.scalar()).unwrap_or(0.0) as i64;
            Some(first.triangle(op.int("upper", 1) != 0, k))
        }
        "Where" => {
            let [condition, yes, no] = inputs else { return Err(refuse("Where without three operands".into())) };
            let ones = condition.zip(yes, |c, y| if c != 0.0 { y } else { 0.0 });
            let zeros = condition.zip(no, |c, n| if c != 0.0 { 0.0 } else { n });
            // Zero times infinity never occurs: the unchosen branch is replaced before the addition.
            ones.zip(zeros).and_then(|(a, b)| a.zip(&b, |a, b| a + b))
        }
        "Gather" | "GatherElements" => {
            let axis = op.axis(op.int("axis", 0), first.shape.len())?;
            let rows = inputs.get(1).ok_or_else(|| refuse("no indices".into()))?;
            let result =
                if op.kind() == "Gather" { first.gather(rows, axis) } else { first.gather_elements(rows, axis) };
            Some(result.ok_or_else(|| refuse("an index outside the constant".into()))?)
        }
        "Concat" => Some(concat(op, inputs)?),
        "Transpose" => Some(first.transposed(&order(op, first.shape.len())?)),
        "Expand" => {
            let wanted = inputs.get(1).map_or_else(Vec::new, |c| sizes(c));
            let count = constant_elements(&wanted).ok_or_else(|| refuse(format!("expanding to {wanted:?}")))?;
            let ones = Constant::new(wanted.clone(), vec![1.0; count], true);
            Some(
                first
                    .zip(&ones, |a, _| a)
                    .ok_or_else(|| refuse(format!("expanding {:?} to {wanted:?}", first.shape)))?,
            )
        }
        "ConstantOfShape" => None,
        "Range" => {
            let [start, limit, step] = inputs else { return Err(refuse("Range without three operands".into())) };
            let (start, limit, step) = (start.scalar(), limit.scalar(), step.scalar());
            let (Some(start), Some(limit), Some(step)) = (start, limit, step.filter(|&s| s != 0.0)) else {
                return Err(refuse("a Range that is not given by numbers".into()));
            };
            let count = ((limit - start) / step).ceil().max(0.0) as usize;
            constant_elements(&[count]).ok_or_else(|| refuse(format!("a Range of {count} numbers")))?;
            let data = (0..count).map(|i| start + step * i as f64).collect();
            Some(Constant::new(vec![count], data, integer))
        }
        "IsNaN" => Some(mapped(first, |v| f64::from(u8::from(v.is_nan())))),
        _ => None,
    }
    .map(|mut c| {
        if matches!(op.kind(), "Equal" | "Not" | "And") {
            c.data.iter_mut().for_each(|v| *v = truth(*v != 0.0));
        }
        c
    }))
}

fn mapped(c: &Constant, f: fn(f64) -> f64) -> Constant {
    Constant { data: c.data.iter().map(|&v| f(v)).collect(), scales: None, ..c.clone() }
}

/// Element types of Cast: FLOAT, FLOAT16, DOUBLE, BFLOAT16 keep the value, BOOL asks for not 0, the rest truncate.
fn cast(op: Op<'_>, c: &Constant) -> Constant {
    match op.int("to", 1) {
        1 | 10 | 11 | 16 => Constant { integer: false, ..c.clone() },
        9 => Constant { integer: true, ..mapped(c, |v| f64::from(u8::from(v != 0.0))) },
        _ => Constant { integer: true, ..mapped(c, f64::trunc) },
    }
}

/// The permutation of a Transpose; reversal if none is given.
pub(super) fn order(op: Op<'_>, rank: usize) -> Result<Vec<usize>, OnnxError> {
    let order = match op.ints("perm") {
        Some(perm) => perm.iter().map(|&a| op.axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.into_iter().eq(0..rank) {
        Ok(order)
    } else {
        Err(op.refuse(format!("perm {order:?} of {rank} dimensions"), "export the model again"))
    }
}

/// The values as sizes; negative ones become 0.
fn sizes(c: &Constant) -> Vec<usize> {
    c.integers().into_iter().map(|v| v.max(0) as usize).collect()
}

fn concat(op: Op<'_>, inputs: &[Rc<Constant>]) -> Result<Constant, OnnxError> {
    let first = &inputs[0];
    let axis = op.axis(op.int("axis", 0), first.shape.len())?;
    let same = |c: &Constant| {
        c.shape.len() == first.shape.len() && (0..first.shape.len()).all(|a| a == axis || c.shape[a] == first.shape[a])
    };
    if !inputs.iter().all(|c| same(c)) {
        return Err(op.refuse("constants of different shapes", "export the model again"));
    }
    let outer: usize = first.shape[..axis].iter().product();
    let mut data = Vec::new();
    for o in 0..outer {
        for c in inputs {
            let run = c.data.len() / outer;
            data.extend_from_slice(&c.data[o * run..(o + 1) * run]);
        }
    }
    let mut shape = first.shape.clone();
    shape[axis] = inputs.iter().map(|c| c.shape[axis]).sum();
    Ok(Constant::new(shape, data, inputs.iter().all(|c| c.integer)))
}
