//! Resize and Upsample: slices that are taken or interpolated, one axis after the other.

use super::error::OnnxError;
use super::importer::Importer;
use super::op::Op;
use super::value::Value;
use crate::graph::operator::{MAX_WINDOW, Operator};

/// How sizes and places follow from each other along one axis.
#[derive(Clone, Copy)]
struct Axis<'a> {
    old: usize,
    new: usize,
    scale: f64,
    /// `coordinate_transformation_mode`.
    mode: &'a str,
}

impl Axis<'_> {
    /// The place in the old axis of a slice of the new one; none for modes that are not known.
    fn place(&self, i: usize) -> Option<f64> {
        let x = i as f64;
        Some(match self.mode {
            "half_pixel" => (x + 0.5) / self.scale - 0.5,
            "pytorch_half_pixel" if self.new > 1 => (x + 0.5) / self.scale - 0.5,
            "align_corners" if self.new > 1 => x * (self.old - 1) as f64 / (self.new - 1) as f64,
            "pytorch_half_pixel" | "align_corners" => 0.0,
            "asymmetric" => x / self.scale,
            _ => return None,
        })
    }

    fn inside(&self, place: f64) -> usize {
        place.clamp(0.0, (self.old - 1) as f64) as usize
    }

    fn nearest(&self, rounding: &str) -> Option<Vec<usize>> {
        let row = |i| {
            let place = self.place(i)?;
            Some(self.inside(match rounding {
                "" | "round_prefer_floor" => (place - 0.5).ceil(),
                "round_prefer_ceil" => (place + 0.5).floor(),
                "floor" => place.floor(),
                "ceil" => place.ceil(),
                _ => return None,
            }))
        };
        (0..self.new).map(row).collect()
    }

    /// Two neighbours and their weights, or four with a cubic kernel of parameter `a`.
    fn taps(&self, cubic: Option<f64>) -> Option<Vec<Vec<(usize, f32)>>> {
        let taps = |i| {
            let place = self.place(i)?;
            let (first, t) = (place.floor(), place - place.floor());
            let weights = match cubic {
                None => vec![(0.0, 1.0 - t), (1.0, t)],
                Some(a) => {
                    let near = |t: f64| ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
                    let far = |t: f64| ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a;
                    vec![(-1.0, far(1.0 + t)), (0.0, near(t)), (1.0, near(1.0 - t)), (2.0, far(2.0 - t))]
                }
            };
            Some(weights.into_iter().map(|(at, weight)| (self.inside(first + at), weight as f32)).collect())
        };
        (0..self.new).map(taps).collect()
    }
}

/// Largest size to which an axis is resized: each has a list of weights for each element.
const MAX_RESIZED: usize = MAX_WINDOW << 4;

impl Importer<'_> {
    /// Resize, and its predecessor Upsample.
    pub(super) fn resize(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let old = self.value(op, 0)?.shape().to_vec();
        let axes = self.resized_axes(op, &old)?;
        let mode = match op.text("mode") {
            "" => "nearest",
            mode => mode,
        };
        let mut along = self.along(op, 0)?;
        let unknown = || op.refuse("this mode of resizing", "use nearest, linear or cubic with the usual coordinates");
        for (axis, resized) in axes.iter().enumerate() {
            if (resized.new, resized.scale) == (resized.old, 1.0) {
                continue;
            }
            let own = along.axis(axis);
            let operator = match mode {
                "nearest" => {
                    let rounding = if self.version < 11 { "floor" } else { op.text("nearest_mode") };
                    Operator::Take { axis: own, indices: resized.nearest(rounding).ok_or_else(unknown)? }
                }
                "linear" | "bilinear" => {
                    Operator::Resample { axis: own, taps: resized.taps(None).ok_or_else(unknown)? }
                }
                "cubic" if op.int("exclude_outside", 0) == 0 => {
                    let a = f64::from(op.float("cubic_coeff_a", -0.75));
                    Operator::Resample { axis: own, taps: resized.taps(Some(a)).ok_or_else(unknown)? }
                }
                _ => return Err(unknown()),
            };
            along.edge = self.node(op.output(), operator, &[along.edge])?;
        }
        Ok(Value::View(along.view(along.edge, axes.iter().map(|axis| axis.new).collect())))
    }

    /// Old and new sizes of all axes, from scales or sizes.
    fn resized_axes<'o>(&self, op: Op<'o>, old: &[usize]) -> Result<Vec<Axis<'o>>, OnnxError> {
        let first = self.version < 11;
        // Resize of version 10 and Upsample give X and scales, later ones X, region, scales, sizes.
        let scales = if first { 1 } else { 2 };
        let given = |index: usize, what: &str| match op.has(index) {
            true => self.required_constant(op, index, what).map(|c| c.data.clone()),
            false => Ok(Vec::new()),
        };
        let mut scales = given(scales, "scales")?;
        if scales.is_empty() {
            scales = op.floats("scales").map(|s| s.iter().map(|&s| s.into()).collect()).unwrap_or_default();
        }
        let sizes = if first { Vec::new() } else { given(3, "sizes")? };
        let mode = match op.text("coordinate_transformation_mode") {
            _ if first => "asymmetric",
            "" => "half_pixel",
            mode => mode,
        };
        if op.node.attribute.iter().any(|a| a.name == "axes") || ![scales.len(), sizes.len()].contains(&old.len()) {
            return Err(op.refuse("sizes of some axes only", "give a scale or size for each axis"));
        }
        let axis = |(i, &old): (usize, &usize)| {
            let (new, scale) = match sizes.get(i) {
                Some(&size) => (size, size / old as f64),
                None => ((old as f64 * scales[i]).floor(), scales[i]),
            };
            let legal = scale.is_finite() && new >= 1.0 && new <= MAX_RESIZED as f64;
            let axis = Axis { old, new: new as usize, scale, mode };
            if legal { Ok(axis) } else { Err(op.refuse(format!("{old} resized to {new}"), "give sizes of at least 1")) }
        };
        old.iter().enumerate().map(axis).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_modes() {
        let axis = |mode| Axis { old: 2, new: 4, scale: 2.0, mode };
        let places = |mode| (0..4).map(|i| axis(mode).place(i).unwrap()).collect::<Vec<_>>();
        assert_eq!(places("half_pixel"), [-0.25, 0.25, 0.75, 1.25]);
        assert_eq!(places("asymmetric"), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(places("align_corners"), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
        assert_eq!(axis("half_pixel").nearest("").unwrap(), [0, 0, 1, 1]);
        assert_eq!(axis("asymmetric").nearest("ceil").unwrap(), [0, 1, 1, 1]);
        assert_eq!(axis("half_pixel").taps(None).unwrap()[1], [(0, 0.75), (1, 0.25)]);
        let sum = |taps: &Vec<(usize, f32)>| taps.iter().map(|tap| tap.1).sum::<f32>();
        assert!(axis("half_pixel").taps(Some(-0.75)).unwrap().iter().all(|taps| (sum(taps) - 1.0).abs() < 1e-6));
        assert_eq!(axis("tf_crop_and_resize").taps(None), None);
    }
}
