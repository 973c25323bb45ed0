//! Which kernel does a convolution: a product over pixels, the depthwise unroller, or a dense convolution for each group
//! of channels. Kernels that are not square get zeros; paddings that the kernels do not have are copied in before. Of strides that
//! differ the kernel takes their common one, and the pixels that are wanted are copied out of the result.

use pollux_asm::program::ElementType;
use pollux_kernels::{Activation, Conv, ConvSchedule, ConvShape, Emission, Norm, Pool, View};
use pollux_model::graph::operator::{Conv2d, ConvKind, Window};
use pollux_model::graph::{IntegerOperation, Step, Weights};
use pollux_model::matrix::Matrix;

use super::{Network, PooledStore, not_lowerable};
use crate::error::CompileError;
use crate::operation::OperationClass;

/// A window with one extent, step and distance for both axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct SquareWindow {
    pub size: usize,
    pub stride: usize,
    pub dilation: usize,
}

impl SquareWindow {
    /// The smallest one that holds `window`.
    ///
    /// # Errors
    /// What stands in the way, and what would help.
    pub fn around(window: &Window) -> Result<Self, String> {
        // A single element has no distance to the next.
        let dilations: Vec<usize> =
            (0..2).filter(|&axis| window.kernel[axis] > 1).map(|axis| window.dilation[axis]).collect();
        if dilations.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("dilations {:?} differ; use one for rows and columns", window.dilation));
        }
        if window.stride[0] != window.stride[1] {
            return Err(format!("strides {:?} differ; use one for rows and columns", window.stride));
        }
        let size = window.kernel[0].max(window.kernel[1]);
        Ok(Self { size, stride: window.stride[0], dilation: dilations.first().copied().unwrap_or(1) })
    }

    /// Rows or columns of an image that has `outputs` windows and nothing more.
    pub fn extent(&self, outputs: usize) -> usize {
        (outputs - 1) * self.stride + self.dilation * (self.size - 1) + 1
    }
}

/// A convolution with its operands in memory.
struct Placed<'a> {
    shape: ConvShape,
    input: View,
    weights: &'a Weights,
    weight_view: View,
    bias: View,
    out: View,
}

impl Network<'_> {
    /// The max pooling behind a convolution that can be part of its stores. The hardware counts padding as 0 there, which
    /// ReLU makes harmless.
    pub(super) fn pooling_behind(&mut self, step: &Step, next: Option<&Step>) -> Option<PooledStore> {
        let config = self.lowering.config();
        let (IntegerOperation::Conv2d { conv, weights }, Some(next)) = (&step.operation, next) else { return None };
        let IntegerOperation::MaxPool(window) = &next.operation else { return None };
        let readers = self.graph.steps.iter().filter(|other| other.inputs.contains(&step.output)).count();
        let wanted = config.has_max_pool && config.has_loop_conv && weights.relu;
        let only_reader = next.inputs == [step.output] && readers == 1;
        if !wanted || !only_reader || self.graph.graph.outputs.contains(&step.output) || conv.groups != 1 {
            return None;
        }
        let square = SquareWindow::around(window).ok().filter(|square| window.kernel == [square.size; 2])?;
        let padding = Some(window.padding[0]).filter(|&padding| padding == window.padding[1])?;
        let pool = Pool { size: square.size, stride: square.stride, padding };
        let shape = ConvShape { pool: Some(pool), ..self.plain_shape(step, conv)? };
        let [_, rows, cols, _] = self.image(next.output);
        let legal = ConvSchedule::gemmini_default(config, &shape).check(config, &shape).is_ok();
        let possible = square.dilation == 1 && shape.pooled_pixels() == [rows, cols] && legal;
        (possible && !self.lowering.separate_pooling(&step.name)).then_some(PooledStore { pool, output: next.output })
    }

    /// The kernel's shape, if it has this padding itself.
    fn plain_shape(&self, step: &Step, conv: &Conv2d) -> Option<ConvShape> {
        let square = SquareWindow::around(&conv.window).ok()?;
        let [batch, in_rows, in_cols, channels] = self.image(step.inputs[0]);
        let [_, rows, cols, outputs] = self.image(step.output);
        let [above, left, ..] = conv.window.padding;
        let shape = ConvShape {
            stride: square.stride,
            padding: above as isize,
            kernel_dilation: square.dilation,
            ..ConvShape::new(batch, [in_rows, in_cols, channels / conv.groups], outputs / conv.groups, square.size)
        };
        // Padding below and right that no window reaches does not matter.
        let plain = conv.window.kernel == [square.size; 2] && above == left && above < square.size;
        (plain && shape.out_pixels() == [rows, cols]).then_some(shape)
    }

    pub(super) fn convolution(
        &mut self,
        step: &Step,
        conv: &Conv2d,
        weights: &Weights,
        pooled: Option<&PooledStore>,
        out: View,
    ) -> Result<(), CompileError> {
        let mut input = self.tensors[&step.inputs[0]];
        let [batch, _, _, channels] = self.image(step.inputs[0]);
        if conv.kind(channels) == ConvKind::Pointwise && pooled.is_none() {
            self.lowering.begin(&step.name, OperationClass::Matmul);
            return self.product(&step.name, weights, input, out);
        }
        if conv.window.stride[0] != conv.window.stride[1] {
            return self.strided(step, conv, weights, out);
        }
        let square = SquareWindow::around(&conv.window).map_err(|what| not_lowerable(step, what))?;
        let shape = match self.plain_shape(step, conv) {
            Some(shape) => ConvShape { pool: pooled.map(|pooled| pooled.pool), ..shape },
            None => {
                let [_, rows, cols, outputs] = self.image(step.output);
                let extent = [rows, cols].map(|outputs| square.extent(outputs));
                input = self.padded(step, [conv.window.padding[0], conv.window.padding[1]], extent)?;
                ConvShape {
                    stride: square.stride,
                    kernel_dilation: square.dilation,
                    ..ConvShape::new(
                        batch,
                        [extent[0], extent[1], channels / conv.groups],
                        outputs / conv.groups,
                        square.size,
                    )
                }
            }
        };
        self.convolved(&step.name, conv, weights, shape, square, input, out)
    }

    /// A convolution whose strides differ: with the largest common one, and a copy of every so many rows and columns.
    fn strided(&mut self, step: &Step, conv: &Conv2d, weights: &Weights, out: View) -> Result<(), CompileError> {
        let square = SquareWindow::around(&common(&conv.window)).map_err(|what| not_lowerable(step, what))?;
        let [row_step, col_step] = conv.window.stride.map(|stride| stride / square.stride);
        let [batch, rows, cols, outputs] = self.image(step.output);
        let channels = self.image(step.inputs[0])[3];
        let inner = [(rows - 1) * row_step + 1, (cols - 1) * col_step + 1];
        let extent = inner.map(|outputs| square.extent(outputs));
        let input = self.padded(step, [conv.window.padding[0], conv.window.padding[1]], extent)?;
        let image = [extent[0], extent[1], channels / conv.groups];
        let shape = ConvShape {
            stride: square.stride,
            kernel_dilation: square.dilation,
            ..ConvShape::new(batch, image, outputs / conv.groups, square.size)
        };
        let name = format!("{}.dense", step.name);
        let dense = self.lowering.builder.buffer(&name, batch * inner[0] * inner[1], outputs, ElementType::I8)?;
        self.convolved(&name, conv, weights, shape, square, input, dense)?;
        self.lowering.begin(&step.name, OperationClass::DataMovement);
        for (image, row) in (0..batch).flat_map(|image| (0..rows).map(move |row| (image, row))) {
            let first = (image * inner[0] + row * row_step) * inner[1];
            let (address, stride) = (dense.at(first, 0), dense.stride * col_step);
            let to = (image * rows + row) * cols;
            let copy = Norm {
                input: View { address, rows: cols, stride, ..dense },
                out: out.rows(to..to + cols)?,
                scale: 1.0,
                activation: Activation::None,
            };
            copy.lower(&mut self.lowering.builder)?;
        }
        Ok(())
    }

    /// The kernel of a convolution as the operation `NAME`; its weights are the step's.
    #[expect(clippy::too_many_arguments, reason = "all of a convolution's operands")]
    fn convolved(
        &mut self,
        name: &str,
        conv: &Conv2d,
        weights: &Weights,
        shape: ConvShape,
        square: SquareWindow,
        input: View,
        out: View,
    ) -> Result<(), CompileError> {
        let channels = input.cols;
        let weights = Weights { values: squared(&weights.values, conv.window.kernel, square.size), ..weights.clone() };
        self.lowering.begin(name, OperationClass::Matmul);
        if self.depthwise(conv, channels, &weights, &square) {
            return self.depthwise_convolution(name, shape, &weights, input, out);
        }
        let (weight_view, bias) = self.place(name, &weights)?;
        let placed = Placed { shape, input, weights: &weights, weight_view, bias, out };
        (0..conv.groups).try_for_each(|group| self.group(&placed, group))
    }

    /// Whether the unroller's depthwise loops do it.
    fn depthwise(&self, conv: &Conv2d, channels: usize, weights: &Weights, square: &SquareWindow) -> bool {
        let config = self.lowering.config();
        let built = config.has_dw_convs && config.has_loop_conv;
        let plain = square.dilation == 1 && weights.values.cols == channels && weights.groups.len() == 1;
        built && plain && conv.groups > 1 && conv.groups == channels
    }

    fn depthwise_convolution(
        &mut self,
        name: &str,
        shape: ConvShape,
        weights: &Weights,
        input: View,
        output: View,
    ) -> Result<(), CompileError> {
        let channels = weights.values.cols;
        let shape = ConvShape { depthwise: true, in_channels: channels, out_channels: channels, ..shape };
        // One channel after the other, each with its kernel.
        let turned = Weights { values: weights.values.transposed(), ..weights.clone() };
        let (view, bias) = self.place(name, &turned)?;
        let scale = weights.groups[0].scale;
        self.emit(Conv { shape, input, weights: view, bias: Some(bias), output, scale, relu: weights.relu })
    }

    /// One group of channels; each scale is a read-out of its own.
    fn group(&mut self, placed: &Placed<'_>, group: usize) -> Result<(), CompileError> {
        let ConvShape { in_channels, out_channels, .. } = placed.shape;
        let input = placed.input.columns(group * in_channels..(group + 1) * in_channels)?;
        let outputs = group * out_channels..(group + 1) * out_channels;
        for scale in &placed.weights.groups {
            let columns = outputs.start.max(scale.columns.start)..outputs.end.min(scale.columns.end);
            if columns.is_empty() {
                continue;
            }
            let conv = Conv {
                shape: ConvShape { out_channels: columns.len(), ..placed.shape },
                input,
                weights: placed.weight_view.columns(columns.clone())?,
                bias: Some(placed.bias.columns(columns.clone())?),
                output: placed.out.columns(columns)?,
                scale: scale.scale,
                relu: placed.weights.relu,
            };
            self.emit(conv)?;
        }
        Ok(())
    }

    /// By the plan's tiles or Gemmini's own; by single commands if the build has no unroller.
    fn emit(&mut self, conv: Conv) -> Result<(), CompileError> {
        let planned = self.lowering.planned_convolution();
        let config = self.lowering.config();
        let schedule = planned.unwrap_or_else(|| {
            let emission = if config.has_loop_conv { Emission::Unroller } else { Emission::Commands };
            ConvSchedule { emission, ..ConvSchedule::gemmini_default(config, &conv.shape) }
        });
        conv.lower(&mut self.lowering.builder, &schedule)?;
        self.lowering.note_convolution(&conv, schedule);
        Ok(())
    }
}

/// The window with the largest stride that both axes have.
pub(super) fn common(window: &Window) -> Window {
    let [mut a, mut b] = window.stride;
    while b > 0 {
        (a, b) = (b, a % b);
    }
    Window { stride: [a; 2], ..*window }
}

/// The weights of a square kernel: zeros behind the last row or column.
fn squared(values: &Matrix<i8>, [rows, cols]: [usize; 2], size: usize) -> Matrix<i8> {
    if [rows, cols] == [size; 2] {
        return values.clone();
    }
    let channels = values.rows / (rows * cols);
    Matrix::from_fn(size * size * channels, values.cols, |term, output| {
        let (row, col, channel) = (term / channels / size, term / channels % size, term % channels);
        if row < rows && col < cols { values.at((row * cols + col) * channels + channel, output) } else { 0 }
    })
}
