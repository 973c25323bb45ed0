//! What a convolution is: its shape, its layouts and its operands.

use serde::{Deserialize, Serialize};

use crate::view::View;

/// Max pooling of the result. Pixels outside the image count as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pool {
    /// Edge of the window.
    pub size: usize,
    /// Steps of the window.
    pub stride: usize,
    /// Pixels around the image.
    pub padding: usize,
}

/// How memory holds the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightLayout {
    /// Kernel row, kernel column, input channel, output channel.
    #[default]
    Hwio,
    /// Input channel, kernel row, kernel column, output channel (`trans_weight_1203`).
    Ihwo,
    /// Kernel row, kernel column, output channel, input channel (`trans_weight_0132`).
    Hwoi,
}

/// Layouts that only builds for training have; the default is the usual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TrainingOptions {
    /// Turn the kernel by 180 degrees (`wrot180`).
    pub rotate_kernel: bool,
    /// Output as row, column, image, channel (`trans_output_1203`).
    pub output_hwnc: bool,
    /// Input as channel, row, column, image (`trans_input_3120`).
    pub input_chwn: bool,
    /// Layout of the weights.
    pub weights: WeightLayout,
}

/// Shape of a convolution. Memory holds input and output by image, row, column and channel unless
/// [`TrainingOptions`] say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Rows of an input image.
    pub in_rows: usize,
    /// Columns of an input image.
    pub in_cols: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output; of a depthwise convolution those of the input.
    pub out_channels: usize,
    /// Edge of the kernel.
    pub kernel: usize,
    /// Steps of the kernel.
    pub stride: usize,
    /// Zeros around the (dilated) input; negative cuts pixels off.
    pub padding: isize,
    /// Pixels from one kernel element to the next.
    pub kernel_dilation: usize,
    /// 2 puts a zero between neighbouring input pixels, as the transposed convolution of a stride of 2 does; otherwise 1.
    pub input_dilation: usize,
    /// Max pooling of the result.
    pub pool: Option<Pool>,
    /// Whether each output channel has one input channel, the same.
    pub depthwise: bool,
    /// Layouts of training.
    pub options: TrainingOptions,
}

impl ConvShape {
    /// A plain convolution: stride 1, no padding, no dilation, no pooling.
    pub fn new(batch: usize, [in_rows, in_cols, in_channels]: [usize; 3], out_channels: usize, kernel: usize) -> Self {
        Self {
            batch,
            in_rows,
            in_cols,
            in_channels,
            out_channels,
            kernel,
            stride: 1,
            padding: 0,
            kernel_dilation: 1,
            input_dilation: 1,
            pool: None,
            depthwise: false,
            options: TrainingOptions::default(),
        }
    }

    /// Rows and columns of the output before pooling; 0 if the kernel does not fit.
    pub fn out_pixels(&self) -> [usize; 2] {
        [self.in_rows, self.in_cols].map(|extent| {
            let dilated = (extent + (self.input_dilation - 1) * extent.saturating_sub(1)) as isize;
            let kernel = (self.kernel + (self.kernel_dilation - 1) * self.kernel.saturating_sub(1)) as isize;
            let room = dilated + 2 * self.padding - kernel;
            if room < 0 { 0 } else { room as usize / self.stride + 1 }
        })
    }

    /// Rows and columns of the output, pooled.
    pub fn pooled_pixels(&self) -> [usize; 2] {
        let pool = self.pooling();
        self.out_pixels().map(|extent| match (extent + 2 * pool.padding).checked_sub(pool.size) {
            Some(room) if extent > 0 => room / pool.stride + 1,
            _ => 0,
        })
    }

    /// The pooling, or the window of one pixel that does nothing.
    pub(crate) fn pooling(&self) -> Pool {
        self.pool.unwrap_or(Pool { size: 1, stride: 1, padding: 0 })
    }

    /// Whether a 1x1 kernel of stride 2 lets the loads skip every other pixel.
    pub(crate) fn downsamples(&self) -> bool {
        self.stride == 2
            && self.kernel == 1
            && self.padding == 0
            && self.pool.is_none()
            && self.in_rows.is_multiple_of(2)
            && self.in_cols.is_multiple_of(2)
    }

    /// Multiply-accumulates of the convolution, products with padding included.
    pub fn macs(&self) -> u64 {
        let [rows, cols] = self.out_pixels();
        let inputs = if self.depthwise { 1 } else { self.in_channels };
        (self.batch * rows * cols * self.out_channels * self.kernel * self.kernel * inputs) as u64
    }

    /// Rows and columns of the views that hold input, weights and output.
    pub fn views(&self) -> [(usize, usize); 3] {
        let [rows, cols] = self.pooled_pixels();
        let (ic, oc, kernel) = (self.in_channels, self.out_channels, self.kernel * self.kernel);
        let input = match self.options.input_chwn {
            true => (ic * self.in_rows * self.in_cols, self.batch),
            false => (self.batch * self.in_rows * self.in_cols, ic),
        };
        let weights = match self.options.weights {
            _ if self.depthwise => (ic, kernel),
            WeightLayout::Hwio | WeightLayout::Ihwo => (kernel * ic, oc),
            WeightLayout::Hwoi => (kernel * oc, ic),
        };
        [input, weights, (self.batch * rows * cols, oc)]
    }
}

/// A convolution: `C = pool(sat8(round(relu(sum + bias) * scale)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv {
    /// Shape.
    pub shape: ConvShape,
    /// Input, int8; see [`ConvShape::views`].
    pub input: View,
    /// Weights, int8; see [`ConvShape::views`]. Of a depthwise convolution: channel, kernel row and column.
    pub weights: View,
    /// One int32 for each output channel.
    pub bias: Option<View>,
    /// Result, int8; see [`ConvShape::views`].
    pub output: View,
    /// Factor of the read-out.
    pub scale: f32,
    /// Whether negative results become 0.
    pub relu: bool,
}
