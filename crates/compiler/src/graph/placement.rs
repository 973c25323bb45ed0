//! What the accelerator of a build cannot do, and the host does instead: the same integers.

use pollux_model::graph::operator::{ConvKind, Window};
use pollux_model::graph::{IntegerOperation, Step};

use super::Network;
use super::convolution::{SquareWindow, common};

/// Largest stride of the pooling in the stores.
const MAX_STRIDE: usize = 3;

impl Network<'_> {
    /// Why the host does a step, if so.
    pub(super) fn host_reason(&self, step: &Step) -> Option<String> {
        let config = self.lowering.config();
        match &step.operation {
            IntegerOperation::Host { reason, .. } => Some(reason.clone()),
            IntegerOperation::Conv2d { conv, .. } => {
                let [_, _, _, channels] = self.image(step.inputs[0]);
                let pointwise = conv.kind(channels) == ConvKind::Pointwise;
                SquareWindow::around(&common(&conv.window)).err().filter(|_| !pointwise)
            }
            IntegerOperation::MaxPool(window) => {
                let padding = window.padding.iter().max().copied().unwrap_or(0);
                match pooling(window) {
                    Some(reason) => Some(reason),
                    None if window.stride[0] > MAX_STRIDE => {
                        Some(format!("a stride of {}: config_st's 2 bits hold 1 to {MAX_STRIDE}", window.stride[0]))
                    }
                    None if padding >= window.kernel[0] => Some("its padding is as large as its window".into()),
                    None if !config.has_max_pool => Some("this build has no pooling: it needs has_max_pool".into()),
                    None => None,
                }
            }
            IntegerOperation::AveragePool { window, .. } => pooling(window),
            IntegerOperation::Add { scales, .. } if *scales != [1.0; 2] && config.mvin_scale_args.is_none() => {
                Some("operands in different units need mvin_scale_args".into())
            }
            _ => None,
        }
    }
}

/// Why the hardware's pooling does not have the window.
fn pooling(window: &Window) -> Option<String> {
    let square = match SquareWindow::around(window) {
        Ok(square) => square,
        Err(reason) => return Some(reason),
    };
    let whole = window.kernel == [square.size; 2] && square.dilation == 1;
    (!whole).then(|| {
        format!("a window of {:?}, dilated {:?}: it is not square, or has gaps", window.kernel, window.dilation)
    })
}
