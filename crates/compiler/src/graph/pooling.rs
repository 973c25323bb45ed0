//! Poolings of maps in main memory.

use pollux_asm::program::ElementType;
use pollux_kernels::{AveragePoolShape, MaxPoolShape, View};
use pollux_model::graph::Step;
use pollux_model::graph::operator::Window;

use super::convolution::SquareWindow;
use super::{Network, not_lowerable};
use crate::error::CompileError;
use crate::operation::OperationClass;

/// Largest window of the hardware.
const MAX_WINDOW: usize = 3;

impl Network<'_> {
    /// Max pooling; a window of more than 3 is one of 3 over the result of smaller ones, with stride 1 between them.
    pub(super) fn max_pool(&mut self, step: &Step, window: &Window, out: View) -> Result<(), CompileError> {
        let square = square(step, window)?;
        let [batch, mut in_rows, mut in_cols, channels] = self.image(step.inputs[0]);
        let mut input = self.tensors[&step.inputs[0]];
        let (mut size, mut padding, mut part) = (square.size, window.padding, 0);
        if let Some(padding) = padding.iter().find(|padding| **padding >= size) {
            return Err(not_lowerable(step, format!("a padding of {padding} needs a larger window than {size}")));
        }
        while size > MAX_WINDOW {
            let now = padding.map(|padding| padding.min(MAX_WINDOW - 1));
            let shape = MaxPoolShape { batch, in_rows, in_cols, channels, size: MAX_WINDOW, stride: 1, padding: now };
            [in_rows, in_cols] = shape.out_pixels();
            let name = format!("{}.part{part}", step.name);
            self.lowering.begin(&name, OperationClass::DataMovement);
            let builder = &mut self.lowering.builder;
            let smaller = builder.buffer(&name, batch * in_rows * in_cols, channels, ElementType::I8)?;
            shape.lower(builder, &input, &smaller)?;
            input = smaller;
            size -= MAX_WINDOW - 1;
            (0..4).for_each(|side| padding[side] -= now[side]);
            part += 1;
        }
        self.lowering.begin(&step.name, OperationClass::DataMovement);
        let shape = MaxPoolShape { batch, in_rows, in_cols, channels, size, stride: square.stride, padding };
        Ok(shape.lower(&mut self.lowering.builder, &input, &out)?)
    }

    /// Average pooling; padding is copied in before, as zeros.
    pub(super) fn average_pool(&mut self, step: &Step, window: &Window, out: View) -> Result<(), CompileError> {
        let square = square(step, window)?;
        let [batch, mut in_rows, mut in_cols, channels] = self.image(step.inputs[0]);
        let mut input = self.tensors[&step.inputs[0]];
        if window.padding != [0; 4] {
            let [_, rows, cols, _] = self.image(step.output);
            let extent = [rows, cols].map(|outputs| square.extent(outputs));
            input = self.padded(step, [window.padding[0], window.padding[1]], extent)?;
            [in_rows, in_cols] = extent;
        }
        self.lowering.begin(&step.name, OperationClass::DataMovement);
        let shape = AveragePoolShape { batch, in_rows, in_cols, channels, size: square.size, stride: square.stride };
        Ok(shape.lower(&mut self.lowering.builder, &input, &out)?)
    }
}

/// The window, if it is square and without gaps.
fn square(step: &Step, window: &Window) -> Result<SquareWindow, CompileError> {
    let square = SquareWindow::around(window).map_err(|what| not_lowerable(step, what))?;
    if window.kernel != [square.size; 2] || square.dilation != 1 {
        let what =
            format!("a window of {:?}, dilated {:?}; use a square one without gaps", window.kernel, window.dilation);
        return Err(not_lowerable(step, what));
    }
    Ok(square)
}
