//! ConvTranspose as a convolution: with a stride of s the result's pixels fall into s x s classes, each of which is a
//! convolution of stride 1 with every s-th kernel element. All classes are computed at once, as more output channels, and
//! interleaved. So no zeros are multiplied, and the accelerator does all of the work but the interleaving.

use super::error::OnnxError;
use super::importer::Importer;
use super::op::Op;
use super::value::{Layout, Value, View};
use crate::graph::network::EdgeId;
use crate::graph::operator::{Conv2d, MAX_WINDOW, Operator, Window};

/// Sizes of a transposed convolution along both axes.
struct Sizes {
    stride: [usize; 2],
    /// Kernel elements of a class.
    taps: [usize; 2],
    /// Rows and columns that are left out at the beginning.
    cut: [usize; 2],
    output: [usize; 2],
}

impl Importer<'_> {
    /// ConvTranspose with constant weights.
    pub(super) fn conv_transpose(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let (x, [n, channels, h, w]) = self.image(op)?;
        let weights = self.required_weights(op, 1, "the weights")?;
        let [inputs, per_group, rows, cols] = weights.shape[..] else {
            return Err(op.refuse(format!("weights of shape {:?}", weights.shape), "only images are translated"));
        };
        let groups = usize::try_from(op.int("group", 1)).unwrap_or(0);
        if inputs != channels || groups == 0 || !inputs.is_multiple_of(groups) {
            return Err(op.refuse(
                format!("{groups} groups and weights of {inputs} channels for {channels} channels"),
                "check the model",
            ));
        }
        let sizes = self.transposed_sizes(op, [h, w], [rows, cols])?;
        let [[sr, sc], [tr, tc]] = [sizes.stride, sizes.taps];
        let classes = sr * sc;
        // Rows, columns, input of the group, and outputs by group, class and channel.
        let outputs = groups * classes * per_group;
        let (data, each) = (weights.floats(), inputs / groups);
        let mut kernel = vec![0.0; tr * tc * each * outputs];
        for (i, value) in data.iter().enumerate() {
            let (input, output, row, col) =
                (i / (per_group * rows * cols), i / (rows * cols) % per_group, i / cols % rows, i % cols);
            let (group, class) = (input / each, row % sr * sc + col % sc);
            let (krow, kcol) = (tr - 1 - row / sr, tc - 1 - col / sc);
            let column = (group * classes + class) * per_group + output;
            kernel[((krow * tc + kcol) * each + input % each) * outputs + column] = *value;
        }
        let name = op.output();
        let kernel = self.weight(&format!("{name}.weight"), &[tr, tc, each, outputs], kernel, None)?;
        let mut operands = vec![x, kernel];
        if op.has(2) {
            let bias = self.required_weights(op, 2, "the bias")?.floats();
            if bias.len() != groups * per_group {
                return Err(op.refuse(format!("a bias of {} values", bias.len()), "give one value an output"));
            }
            let all = bias.chunks(per_group).flat_map(|group| std::iter::repeat_n(group, classes).flatten().copied());
            let all: Vec<f32> = all.collect();
            operands.push(self.weight(&format!("{name}.bias"), &[outputs], all, None)?);
        }
        let padding = [tr - 1, tc - 1, tr - 1, tc - 1];
        let window = Window { kernel: [tr, tc], stride: [1; 2], padding, dilation: [1; 2] };
        let conv = Operator::Conv2d(Conv2d { window, groups, bias: operands.len() == 3 });
        let edge = self.node(name, conv, &operands)?;
        let edge = self.interleaved(op, edge, groups, &sizes)?;
        let shape = vec![n, groups * per_group, sizes.output[0], sizes.output[1]];
        Ok(Value::View(View { edge, shape, layout: Layout::ChannelsFirst }))
    }

    fn transposed_sizes(&self, op: Op<'_>, image: [usize; 2], kernel: [usize; 2]) -> Result<Sizes, OnnxError> {
        let window = self.window(op, kernel, [MAX_WINDOW; 2])?;
        let automatic = !["", "NOTSET", "VALID"].contains(&op.text("auto_pad"));
        if automatic || window.dilation != [1; 2] || op.ints("output_shape").is_some() {
            return Err(op.refuse("dilations, auto_pad or output_shape", "export with pads and output_padding"));
        }
        let extra = op.ints("output_padding").unwrap_or(&[0, 0]);
        let (mut taps, mut output) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let (stride, extra) = (window.stride[axis], extra.get(axis).copied().unwrap_or(0));
            let fits = kernel[axis] > 0 && stride > 0 && (0..=MAX_WINDOW as i64).contains(&extra);
            let pads = window.padding[axis] + window.padding[axis + 2];
            let all = (image[axis] - 1) * stride + kernel[axis] + extra.max(0) as usize;
            let size = all.checked_sub(pads).filter(|&size| size > 0 && fits);
            output[axis] = size.ok_or_else(|| op.refuse("paddings larger than the result", "check the model"))?;
            taps[axis] = kernel[axis].div_ceil(stride);
        }
        Ok(Sizes { stride: window.stride, taps, cut: [window.padding[0], window.padding[1]], output })
    }

    /// The classes as pixels between each other, cut to the result.
    fn interleaved(&mut self, op: Op<'_>, edge: EdgeId, groups: usize, sizes: &Sizes) -> Result<EdgeId, OnnxError> {
        let [n, h, w, all] = self.builder.shape(edge)[..] else { unreachable!("a convolution gives an image") };
        let [sr, sc] = sizes.stride;
        let name = op.output();
        let mut edge = edge;
        if sr * sc > 1 {
            edge = self.shaped(name, edge, &[n, h, w, groups, sr, sc, all / (groups * sr * sc)])?;
            let order = vec![0, 1, 4, 2, 5, 3, 6];
            edge = self.node(&format!("{name}.pixels"), Operator::Transpose { order }, &[edge])?;
            edge = self.shaped(name, edge, &[n, h * sr, w * sc, all / (sr * sc)])?;
        }
        for axis in 0..2 {
            let (have, cut, output) = (self.builder.shape(edge)[axis + 1], sizes.cut[axis], sizes.output[axis]);
            let rows: Vec<usize> = (cut..(cut + output).min(have)).collect();
            let missing = output - rows.len();
            if rows.len() < have {
                let take = Operator::Take { axis: axis + 1, indices: rows };
                edge = self.node(&format!("{name}.cut"), take, &[edge])?;
            }
            if missing > 0 {
                return Err(op.refuse("an output_padding beyond the kernel", "pad the result instead"));
            }
        }
        Ok(edge)
    }
}
