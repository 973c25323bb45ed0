//! Matrix products, attention and convolutions.

use super::channelwise::Channelwise;
use super::constant::Constant;
use super::error::OnnxError;
use super::importer::{Importer, canonical};
use super::layouts::full;
use super::op::Op;
use super::proto::NodeProto;
use super::value::{Convolution, Layout, Pending, Product, Scores, Value, View};
use crate::graph::expression::Meaning;
use crate::graph::network::EdgeId;
use crate::graph::operator::{Conv2d, MAX_WINDOW, Operator, Window, channels_last};
use crate::matrix::Matrix;

impl Importer<'_> {
    /// MatMul: with constant weights, of attention, or of two tensors.
    pub(super) fn matmul(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        if let Some(b) = self.constant(op, 1)? {
            let b = match b.scales {
                // Dequantised integers are finite, as their scales are.
                Some(_) => b,
                None => self.required_weights(op, 1, "the right operand")?,
            };
            let left = self.value(op, 0)?.shape().len();
            let (k, j) = match b.shape[..] {
                [.., k, j] if b.data.len() == k * j && left >= b.shape.len().max(2) => (k, j),
                _ => return self.general_product(op),
            };
            let scales = b.scales.clone();
            return self.dense(op, Matrix::from_vec(k, j, b.floats()), None, scales);
        }
        if let Value::Pending(p, shape) = self.value(op, 0)?
            && let Pending::Scores(scores) = &*p
            && scores.probabilities
            && let value @ View { layout: Layout::Heads { transposed: false }, .. } = self.view(op, 1)?
            && self.builder.shape(value.edge) == self.builder.shape(scores.key)
        {
            return self.context(op, scores, &value, &shape);
        }
        let (a, b) = (self.factor(op, 0)?, self.factor(op, 1)?);
        match (a.0.layout, b.0.layout) {
            (Layout::Heads { transposed: false }, Layout::Heads { transposed: true }) if fit(&a.0, &b.0) => {
                self.scores(op, a, b)
            }
            _ => self.general_product(op),
        }
    }

    /// A product of two tensors; leading sizes of 1 stretch.
    fn general_product(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let mut a = self.tensor(op, 0)?;
        let (mut b, transpose_b) = self.right_operand(op)?;
        let shapes = [a, b].map(|edge| self.builder.shape(edge).to_vec());
        let vectors = [&shapes[0], &shapes[1]].map(|shape| shape.len() == 1);
        if vectors[0] {
            a = self.shaped(op.output(), a, &[1, shapes[0][0]])?;
        }
        if vectors[1] {
            b = self.shaped(op.output(), b, &[shapes[1][0], 1])?;
        }
        let batch = |edge: EdgeId, importer: &Self| {
            let shape = importer.builder.shape(edge);
            shape[..shape.len() - 2].to_vec()
        };
        let (batch_a, batch_b) = (batch(a, self), batch(b, self));
        if batch_a != batch_b && !batch_b.is_empty() {
            let rank = batch_a.len().max(batch_b.len());
            let size = |batch: &[usize], axis: usize| (axis + batch.len()).checked_sub(rank).map_or(1, |i| batch[i]);
            let wanted: Vec<usize> = (0..rank).map(|axis| size(&batch_a, axis).max(size(&batch_b, axis))).collect();
            (a, b) = (self.stretched_batch(op, a, &wanted)?, self.stretched_batch(op, b, &wanted)?);
        }
        let product = Operator::MatMul { transpose_b, bias: false };
        let shape = product.output_shape(&[self.builder.shape(a), self.builder.shape(b)]);
        let mut shape = shape.map_err(|reason| op.refuse(reason, "check the model"))?;
        let edge = self.node(op.output(), product, &[a, b])?;
        let rank = shape.len();
        if vectors[1] {
            shape.remove(rank - 1);
        }
        if vectors[0] {
            shape.remove(rank - 2);
        }
        let edge = self.shaped(op.output(), edge, &full(&shape))?;
        Ok(Value::View(View { edge, shape, layout: Layout::Plain }))
    }

    /// Operand 1 of a product, as it lies if that is transposed.
    fn right_operand(&mut self, op: Op<'_>) -> Result<(EdgeId, bool), OnnxError> {
        if self.constant(op, 1)?.is_none() {
            let view = self.view(op, 1)?;
            match (view.layout, &view.shape[..]) {
                (Layout::ChannelsFirst, [_, _, _]) => return Ok((self.channels_last(op.output(), &view)?, true)),
                (Layout::Heads { transposed: true }, [batch @ .., size, tokens]) => {
                    let shape = [batch, &[*tokens, *size]].concat();
                    let layout = Layout::Heads { transposed: false };
                    return Ok((self.in_order(op.output(), &View { edge: view.edge, shape, layout })?, true));
                }
                _ => {}
            }
        }
        Ok((self.tensor(op, 1)?, false))
    }

    /// Matrices for these leading sizes: those of size 1 repeat.
    fn stretched_batch(&mut self, op: Op<'_>, edge: EdgeId, wanted: &[usize]) -> Result<EdgeId, OnnxError> {
        let shape = self.builder.shape(edge).to_vec();
        let shape = [vec![1; (wanted.len() + 2).saturating_sub(shape.len())], shape].concat();
        let mut edge = self.shaped(op.output(), edge, &shape)?;
        for (axis, &size) in wanted.iter().enumerate() {
            if size != shape[axis] {
                if shape[axis] != 1 {
                    return Err(op.refuse(format!("leading sizes {shape:?} and {wanted:?}"), "they must agree or be 1"));
                }
                edge = self.node(op.output(), Operator::Take { axis, indices: vec![0; size] }, &[edge])?;
            }
        }
        Ok(edge)
    }

    /// Operand `index` as an edge and a factor.
    fn factor(&mut self, op: Op<'_>, index: usize) -> Result<(View, f32), OnnxError> {
        if let Value::Pending(p, shape) = self.value(op, index)?
            && let Pending::Elementwise(x, expression) = &*p
            && let Some(Meaning::Affine(factor, 0.0)) = expression.meaning()
        {
            return Ok((View { shape, ..x.clone() }, factor as f32));
        }
        Ok((self.view(op, index)?, 1.0))
    }

    /// A product with constant weights `[K, J]`.
    fn dense(
        &mut self,
        op: Op<'_>,
        weight: Matrix<f32>,
        bias: Option<Vec<f32>>,
        scales: Option<Vec<f32>>,
    ) -> Result<Value, OnnxError> {
        let view = self.view(op, 0)?;
        if view.shape.last() != Some(&weight.rows) || view.shape.len() < 2 {
            return Err(op.refuse(
                format!("operands {:?} and [{}, {}]", view.shape, weight.rows, weight.cols),
                "the inner sizes must agree",
            ));
        }
        let (a, weight) = match view.layout {
            Layout::FlatImage { pixels } => {
                let shape = canonical(&view.shape).to_vec();
                let edge = self.node(&format!("{}.flat", op.output()), Operator::Reshape { shape }, &[view.edge])?;
                (View { edge, layout: Layout::Plain, ..view }, rows_channels_last(&weight, pixels))
            }
            _ => (self.reshaped(op, view)?, weight),
        };
        let mut shape = a.shape;
        *shape.last_mut().expect("two dimensions at least") = weight.cols;
        Ok(Value::pending(Pending::Product(Product { a: a.edge, weight, bias, scales }), shape))
    }

    /// Gemm with constant B and C.
    pub(super) fn gemm(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        if op.int("transA", 0) != 0 {
            return Err(op.refuse("transA = 1", "transpose the left operand before exporting"));
        }
        let b = self.required_weights(op, 1, "the right operand")?;
        let (alpha, beta) = (op.float("alpha", 1.0), op.float("beta", 1.0));
        let [rows, cols] = b.shape[..] else {
            return Err(op.refuse(format!("weights of shape {:?}", b.shape), "give the weights two dimensions"));
        };
        let mut weight = Matrix::from_vec(rows, cols, b.floats());
        weight.data.iter_mut().for_each(|w| *w *= alpha);
        if op.int("transB", 0) != 0 {
            weight = weight.transposed();
        }
        let outputs = weight.cols;
        let bias = if op.has(2) {
            let c = self.required_weights(op, 2, "the bias")?;
            let c = c.broadcast(&[1, outputs]).ok_or_else(|| {
                op.refuse(format!("a bias of shape {:?} for {outputs} outputs", c.shape), "give one value an output")
            })?;
            Some(c.into_iter().map(|v| v as f32 * beta).collect())
        } else {
            None
        };
        self.dense(op, weight, bias, b.scales.clone())
    }

    /// Query times key transposed.
    fn scores(&mut self, op: Op<'_>, query: (View, f32), key: (View, f32)) -> Result<Value, OnnxError> {
        let ([.., heads, tokens, _], [.., keys]) = (&query.0.shape[..], &key.0.shape[..]) else {
            return Err(op.refuse("heads without tokens", "export the model again"));
        };
        let mut shape = query.0.shape.clone();
        let rank = shape.len();
        shape[rank - 2..].copy_from_slice(&[*tokens, *keys]);
        let scores = Scores {
            query: query.0.edge,
            key: key.0.edge,
            heads: *heads,
            scale: query.1 * key.1,
            causal: false,
            probabilities: false,
        };
        Ok(Value::pending(Pending::Scores(scores), shape))
    }

    /// Probabilities times value: the attention is complete.
    fn context(&mut self, op: Op<'_>, scores: &Scores, value: &View, shape: &[usize]) -> Result<Value, OnnxError> {
        let attention =
            Operator::Attention { heads: scores.heads, scale: scores.scale, causal: scores.causal, cached: false };
        let operands: [EdgeId; 3] = [scores.query, scores.key, value.edge];
        let edge = self.node(op.output(), attention, &operands)?;
        let mut shape = shape.to_vec();
        *shape.last_mut().expect("scores have dimensions") = value.shape.last().copied().unwrap_or(1);
        Ok(Value::View(View { edge, shape, layout: Layout::Heads { transposed: false } }))
    }

    /// Split of a product into products of some of its columns.
    pub(super) fn split(&mut self, op: Op<'_>) -> Result<Vec<Value>, OnnxError> {
        let value = self.value(op, 0)?;
        let rank = value.shape().len();
        let axis = op.axis(op.int("axis", 0), rank)?;
        let product = match &value {
            Value::Pending(p, _) if axis + 1 == rank => match &**p {
                Pending::Product(product) => Some(product.clone()),
                _ => None,
            },
            _ => None,
        };
        let (width, parts) = (value.shape()[axis], op.node.output.len());
        let sizes: Vec<usize> = if op.has(1) {
            let sizes = self.required_constant(op, 1, "sizes")?;
            sizes.integers().into_iter().map(|s| s.max(0) as usize).collect()
        } else {
            match op.ints("split") {
                Some(sizes) => sizes.iter().map(|&s| s.max(0) as usize).collect(),
                None => (0..parts)
                    .map(|i| (width.div_ceil(parts)).min(width - (i * width.div_ceil(parts)).min(width)))
                    .collect(),
            }
        };
        let sum = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if sizes.len() != parts || sum != Some(width) || sizes.contains(&0) {
            return Err(op.refuse(format!("{width} columns in parts of {sizes:?}"), "export the model again"));
        }
        let Some(product) = product else { return self.split_parts(op, axis, &sizes) };
        let mut start = 0;
        let part = |size: usize| {
            let columns = start..start + size;
            start += size;
            let mut shape = value.shape().to_vec();
            shape[axis] = size;
            let part = Product {
                a: product.a,
                weight: product.weight.columns(columns.clone()),
                bias: product.bias.as_ref().map(|b| b[columns.clone()].to_vec()),
                scales: product.scales.as_ref().map(|s| if s.len() == width { s[columns].to_vec() } else { s.clone() }),
            };
            Value::pending(Pending::Product(part), shape)
        };
        Ok(sizes.into_iter().map(part).collect())
    }

    /// Conv with constant weights.
    pub(super) fn conv(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let weights = self.required_weights(op, 1, "the weights")?;
        if weights.shape.len() != 3 {
            return self.conv_image(op, &weights);
        }
        let node = in_a_row(op.node);
        let Value::Pending(pending, shape) = self.conv_image(Op { node: &node }, &weights)? else {
            unreachable!("a convolution is pending")
        };
        Ok(Value::Pending(pending, vec![shape[0], shape[1], shape[3]]))
    }

    fn conv_image(&mut self, op: Op<'_>, weights: &Constant) -> Result<Value, OnnxError> {
        let (x, [n, channels, h, w]) = self.image(op)?;
        let flat = |shape: &[usize]| match *shape {
            [outputs, inputs, cols] => Some([outputs, inputs, 1, cols]),
            [outputs, inputs, rows, cols] => Some([outputs, inputs, rows, cols]),
            _ => None,
        };
        let Some([outputs, per_group, rows, cols]) = flat(&weights.shape) else {
            return Err(op.refuse(
                format!("weights of shape {:?}", weights.shape),
                "only convolutions of one or two dimensions are translated",
            ));
        };
        if let Some(kernel) = op.ints("kernel_shape")
            && !kernel.iter().copied().eq([rows as i64, cols as i64])
        {
            return Err(op.refuse(
                format!("kernel_shape {kernel:?}, but its weights have the shape {:?}", weights.shape),
                "the last sizes of the weights are the kernel: export the model again",
            ));
        }
        let window = self.window(op, [rows, cols], [h, w])?;
        let groups = usize::try_from(op.int("group", 1)).unwrap_or(0);
        let bias = if op.has(2) { Some(self.required_weights(op, 2, "the bias")?.floats()) } else { None };
        let shape = [rows, cols, per_group, outputs];
        let conv = Conv2d { window, groups, bias: bias.is_some() };
        let kernel = channels_last(&weights.floats(), &shape, |_| 1.0);
        let operator = Operator::Conv2d(Conv2d { bias: false, ..conv });
        let result = operator
            .output_shape(&[&[n, h, w, channels], &shape])
            .map_err(|reason| op.refuse(reason, "check the model"))?;
        let [n, h, w, c] = result[..] else { unreachable!("a convolution gives an image") };
        if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != outputs) {
            return Err(
                op.refuse(format!("a bias of {} for {outputs} outputs", bias.len()), "give one value an output")
            );
        }
        let scales = weights.scales.clone();
        let pending = Convolution { x, conv, weight: kernel, weight_shape: shape, bias, scales, rows: None };
        Ok(Value::pending(Pending::Convolution(pending), vec![n, c, h, w]))
    }

    /// BatchNormalization: part of the product or convolution before it, or a depthwise convolution.
    pub(super) fn batch_norm(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let part = |i: usize, what: &str| self.required_weights(op, i, what);
        let (gamma, beta) = (part(1, "the gamma")?, part(2, "the beta")?);
        let (mean, variance) = (part(3, "the mean")?, part(4, "the variance")?);
        let value = self.value(op, 0)?;
        let shape = value.shape();
        let channels = shape.get(1).copied().unwrap_or(0);
        let lengths = [&gamma, &beta, &mean, &variance].map(|c| c.data.len());
        if lengths != [channels; 4] || !(2..=4).contains(&shape.len()) {
            return Err(op.refuse(
                format!("{lengths:?} parameters for an operand of shape {shape:?}"),
                "give one of each a channel of an image, or of rows",
            ));
        }
        let epsilon = f64::from(op.float("epsilon", 1e-5));
        let own = Channelwise::normalisation(&gamma.data, &beta.data, &mean.data, &variance.data, epsilon);
        // The channels are axis 1: the last one of rows only, and of an image as it lies in memory.
        let image = match &value {
            Value::Pending(pending, _) => matches!(&**pending, Pending::Convolution(Convolution { rows: None, .. })),
            _ => false,
        };
        let rows = shape.len() == 2;
        if (rows || image)
            && let Some(folded) = self.fold_channelwise(op, 0, &value, &own)
        {
            return Ok(folded);
        }
        let mut x = self.view(op, 0)?;
        if !rows && x.layout != Layout::ChannelsFirst {
            x = View { edge: self.image(op)?.0, layout: Layout::ChannelsFirst, ..x };
        }
        self.channelwise(op, op.output(), &x, &own)
    }

    /// Operand 0 as an image: its edge and `[n, c, h, w]`; a row of pixels is one of height 1.
    pub(super) fn image(&mut self, op: Op<'_>) -> Result<(EdgeId, [usize; 4]), OnnxError> {
        let view = self.view(op, 0)?;
        let shape = match view.shape[..] {
            [n, c, h, w] => [n, c, h, w],
            [n, c, w] => [n, c, 1, w],
            _ => {
                return Err(op.refuse(
                    format!("an operand of shape {:?} that is not an image", view.shape),
                    "convolutions and poolings take [images, channels, rows, columns] or [images, channels, columns]",
                ));
            }
        };
        let [n, c, h, w] = shape;
        if view.layout != Layout::ChannelsFirst && c > 1 && h * w > 1 {
            let edge = self.in_order(op.output(), &view)?;
            let edge = self.shaped(op.output(), edge, &shape)?;
            let order = vec![0, 2, 3, 1];
            let edge = self.node(&format!("{}.ordered", op.output()), Operator::Transpose { order }, &[edge])?;
            return Ok((edge, shape));
        }
        let edge = if view.layout == Layout::ChannelsFirst { view.edge } else { self.in_order(op.output(), &view)? };
        Ok((self.shaped(op.output(), edge, &[n, h, w, c])?, shape))
    }

    /// The window of a convolution or pooling.
    pub(super) fn window(&self, op: Op<'_>, kernel: [usize; 2], image: [usize; 2]) -> Result<Window, OnnxError> {
        // Larger ones are no network's, and would not fit the arithmetic below.
        let size = |&v: &i64| usize::try_from(v).ok().filter(|&v| v <= MAX_WINDOW);
        let sizes = |name: &str, default: &[i64], rule: &str| -> Result<Vec<usize>, OnnxError> {
            let values = op.ints(name).unwrap_or(default);
            let sizes: Option<Vec<usize>> = values.iter().map(size).collect();
            let sizes = sizes.filter(|sizes| sizes.len() == default.len());
            sizes.ok_or_else(|| op.refuse(format!("{name} {values:?}"), format!("give {rule}, at most {MAX_WINDOW}")))
        };
        let pair = |name: &str| sizes(name, &[1, 1], "two sizes").map(|sizes| [sizes[0], sizes[1]]);
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        if let Some(size) = kernel.iter().find(|&&size| size > MAX_WINDOW) {
            return Err(op.refuse(format!("a kernel of {size}"), format!("use at most {MAX_WINDOW}")));
        }
        let pads = sizes("pads", &[0; 4], "four sizes of at least 0")?;
        let pads = [pads[0], pads[1], pads[2], pads[3]];
        let padding = match op.text("auto_pad") {
            "" | "NOTSET" => pads,
            other if pads != [0; 4] => {
                return Err(op.refuse(format!("auto_pad {other} and pads {pads:?}"), "give one of them"));
            }
            "VALID" => [0; 4],
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                let mut padding = [0; 4];
                for axis in 0..2 {
                    let span = dilation[axis] * kernel[axis].saturating_sub(1) + 1;
                    let outputs = image[axis].div_ceil(stride[axis].max(1));
                    let total = (outputs.saturating_sub(1) * stride[axis] + span).saturating_sub(image[axis]);
                    let (small, large) = (total / 2, total - total / 2);
                    let (first, last) = if same == "SAME_LOWER" { (large, small) } else { (small, large) };
                    (padding[axis], padding[axis + 2]) = (first, last);
                }
                padding
            }
            other => {
                return Err(op.refuse(format!("auto_pad {other}"), "use NOTSET, VALID, SAME_UPPER or SAME_LOWER"));
            }
        };
        let mut window = Window { kernel, stride, padding, dilation };
        if op.int("ceil_mode", 0) != 0 {
            for axis in 0..2 {
                let padded = image[axis] + padding[axis] + padding[axis + 2];
                let span = dilation[axis] * kernel[axis].saturating_sub(1) + 1;
                let rest = padded.checked_sub(span).and_then(|room| room.checked_rem(stride[axis])).unwrap_or(0);
                // A further window, if it begins inside the image.
                if rest > 0 && padded - span - rest + stride[axis] < image[axis] + padding[axis] {
                    window.padding[axis + 2] += stride[axis] - rest;
                }
            }
            if window.padding != padding && op.int("count_include_pad", 0) != 0 {
                return Err(op.refuse("ceil_mode = 1 with count_include_pad = 1", "pad the image explicitly"));
            }
        }
        Ok(window)
    }
}

/// Whether query and transposed key have the same heads.
fn fit(query: &View, key: &View) -> bool {
    match (&query.shape[..], &key.shape[..]) {
        ([batch @ .., heads, _, size], [key_batch @ .., key_heads, key_size, _]) => {
            (batch, heads, size) == (key_batch, key_heads, key_size)
        }
        _ => false,
    }
}

/// A convolution or pooling of one dimension as one of two, on an image of height 1.
pub(super) fn in_a_row(node: &NodeProto) -> NodeProto {
    let mut node = node.clone();
    for attribute in &mut node.attribute {
        let first = match attribute.name.as_str() {
            "strides" | "dilations" | "kernel_shape" => 1,
            "pads" | "output_padding" => 0,
            _ => continue,
        };
        attribute.ints = attribute.ints.iter().flat_map(|&size| [first, size]).collect();
    }
    node
}

/// Rows of weights that read a flattened image, from channels first to channels last.
fn rows_channels_last(weight: &Matrix<f32>, pixels: usize) -> Matrix<f32> {
    let channels = weight.rows / pixels;
    Matrix::from_fn(weight.rows, weight.cols, |r, c| weight.at(r % channels * pixels + r / channels, c))
}

impl Importer<'_> {
    /// QuantizeLinear and DequantizeLinear of a tensor: the number format of its edge.
    pub(super) fn quantise(&mut self, op: Op<'_>) -> Result<Value, OnnxError> {
        let scale = self.required_constant(op, 1, "a scale")?;
        check_scales(op, &scale)?;
        let (zeros, unsigned) = self.zero_points(op)?;
        if unsigned || zeros.iter().any(|&zero| zero != 0.0) {
            if self.requantise {
                return self.value(op, 0);
            }
            return Err(op.refuse(
                format!("{} with a zero point of {:?}", if unsigned { "uint8" } else { "int8" }, zeros.first().unwrap_or(&0.0)),
                "the accelerator has int8 without zero points: quantise activations symmetrically to int8, or measure their ranges \
                 anew (--requantise)",
            ));
        }
        let Some(step) = scale.scalar() else {
            return Err(op.refuse("a tensor with several scales", "quantise activations per tensor"));
        };
        let view = self.view(op, 0)?;
        let encoding = crate::files::encoding::Encoding::scaled(vec![step as f32]);
        let old = self.builder.graph().edge(view.edge).quantisation.clone();
        if old.as_ref().is_some_and(|q| q.encoding != encoding) {
            return Err(op.refuse("a second scale for one tensor", "quantise each tensor once"));
        }
        self.builder.quantise(view.edge, crate::graph::network::Quantisation::int8(encoding))?;
        Ok(Value::View(view))
    }

    /// DequantizeLinear of constant integers.
    pub(super) fn dequantised(&self, op: Op<'_>, q: &Constant) -> Result<Value, OnnxError> {
        let scale = self.required_constant(op, 1, "a scale")?;
        check_scales(op, &scale)?;
        let (zeros, _) = self.zero_points(op)?;
        let rank = q.shape.len();
        let along = |count: usize| -> Result<Vec<usize>, OnnxError> {
            let mut shape = vec![1; rank];
            if count != 1 {
                shape[op.axis(op.int("axis", 1), rank)?] = count;
            }
            Ok(shape)
        };
        let scales = Constant::new(along(scale.data.len())?, scale.data.clone(), false);
        let zero = Constant::new(along(zeros.len())?, zeros, false);
        let values = q.zip(&zero, |q, zero| q - zero).and_then(|centred| centred.zip(&scales, |q, s| q * s));
        let mut values = values.ok_or_else(|| {
            op.refuse(
                format!("{} scales for a tensor of shape {:?}", scale.data.len(), q.shape),
                "export the model again",
            )
        })?;
        values.scales = Some(scale.floats());
        values.integer = false;
        Ok(Value::constant(values))
    }

    /// Zero points (one of 0 if there is none), and whether the integers have no sign.
    fn zero_points(&self, op: Op<'_>) -> Result<(Vec<f64>, bool), OnnxError> {
        /// `TensorProto.DataType.UINT8`.
        const UINT8: i32 = 2;
        let quantises = op.kind() == "QuantizeLinear";
        if !op.has(2) {
            // Without a zero point QuantizeLinear gives uint8; what DequantizeLinear reads is told by what it reads.
            return Ok((vec![0.0], quantises));
        }
        let zeros = self.required_constant(op, 2, "a zero point")?;
        let unsigned = self.element_type(&op.node.input[2]) == Some(UINT8);
        Ok((zeros.data.clone(), unsigned))
    }
}

/// Every scale is a number that float32 can hold and divide by.
fn check_scales(op: Op<'_>, scales: &Constant) -> Result<(), OnnxError> {
    scales.check_finite(&op.node.input[1])?;
    match scales.data.iter().find(|&&scale| scale as f32 <= 0.0) {
        Some(scale) => Err(op.refuse(format!("a scale of {scale}"), "give scales above 0")),
        None => Ok(()),
    }
}
