//! Tiles of a convolution, and Gemmini's search for them (`tiled_conv_stride_auto`, `tiled_conv_dw_auto`).

use std::fmt;

use pollux_isa::GemminiConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::shape::{ConvShape, WeightLayout};
use crate::schedule::{Emission, Keep};

/// Largest value of the pooled store's fields for window, step and pads (2 bits) and for rows and columns (8 bits).
const MAX_POOL_WINDOW: usize = 3;
const MAX_POOL_EXTENT: usize = 255;
/// Tiles up to which an operand is kept in the scratchpad over the whole convolution: one for each half.
const RESIDENT_TILES: usize = 2;
/// Largest extent that the unroller's registers hold.
const MAX_EXTENT: usize = u16::MAX as usize;

/// A loop over tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvAxis {
    /// Images.
    Batch,
    /// Rows of the (pooled) output.
    Rows,
    /// Columns of the (pooled) output.
    Cols,
    /// Output channels.
    OutChannels,
    /// Kernel rows.
    KernelRows,
    /// Kernel columns.
    KernelCols,
    /// Input channels.
    InChannels,
}

impl ConvAxis {
    /// All of them, in the order of Gemmini's software.
    pub const ALL: [Self; 7] =
        [Self::Batch, Self::Rows, Self::Cols, Self::OutChannels, Self::KernelRows, Self::KernelCols, Self::InChannels];

    /// Whether it is summed over.
    pub fn is_reduction(self) -> bool {
        matches!(self, Self::KernelRows | Self::KernelCols | Self::InChannels)
    }

    /// The field of [`ConvSchedule`] that has the tile's size.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Rows => "rows",
            Self::Cols => "cols",
            Self::OutChannels => "out_channels",
            Self::KernelRows => "kernel_rows",
            Self::KernelCols => "kernel_cols",
            Self::InChannels => "in_channels",
        }
    }
}

fn default_order() -> [ConvAxis; 7] {
    ConvAxis::ALL
}

fn is_default_order(order: &[ConvAxis; 7]) -> bool {
    *order == ConvAxis::ALL
}

fn default_true() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Size of a tile, and the loops over tiles; each tile is one LOOP_CONV_WS, or many single commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSchedule {
    /// Images.
    pub batch: usize,
    /// Rows of the (pooled) output.
    pub rows: usize,
    /// Columns of the (pooled) output.
    pub cols: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Kernel rows.
    pub kernel_rows: usize,
    /// Kernel columns.
    pub kernel_cols: usize,
    /// Input channels.
    pub in_channels: usize,
    /// How a tile becomes commands. Single commands can do plain convolutions only: no pooling, no dilated input, not
    /// depthwise, the usual layouts.
    pub emission: Emission,
    /// Loops over tiles, outermost first: those that are summed over are the last three. The default is the order of
    /// Gemmini's software, that of [`ConvAxis::ALL`].
    #[serde(default = "default_order", skip_serializing_if = "is_default_order")]
    pub order: [ConvAxis; 7],
    /// What stays in the scratchpad from tile to tile.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
    /// Whether each tile uses only half of the local memories, so that the next one is loaded meanwhile.
    #[serde(default = "default_true", skip_serializing_if = "is_true")]
    pub double_buffer: bool,
}

/// Positions in the search's list of sizes.
const ROWS: usize = 1;
const COLS: usize = 2;
const OUT_CHANNELS: usize = 3;
const IN_CHANNELS: usize = 6;

impl ConvSchedule {
    /// What Gemmini's software does: shrink the largest size until half the memories suffice, then grow the columns, then
    /// whatever still fits.
    pub fn gemmini_default(config: &GemminiConfig, shape: &ConvShape) -> Self {
        let dim = config.dim() as usize;
        let whole = Self::whole(shape).sizes();
        let fits = |sizes: [usize; 7]| Self::of(sizes).rows_needed(config, shape).fit(config);
        let mut sizes = whole;
        // See `ConvScheduleError::TransposedBatch`.
        let held = |index: usize| index == ConvAxis::Batch as usize && shape.options.input_chwn;
        while !fits(sizes) && (0..).zip(sizes).any(|(index, size)| size > 1 && !held(index)) {
            let keeps_array_full = |index: usize, size: usize| index == COLS && size <= dim && sizes[ROWS] > 1;
            let mut largest = ROWS;
            let mut most = 0;
            for (index, &size) in sizes.iter().enumerate() {
                if !held(index) && !keeps_array_full(index, size) && size > most {
                    (largest, most) = (index, size);
                }
            }
            sizes[largest] = match largest {
                OUT_CHANNELS | IN_CHANNELS => ((most - 1) / dim * dim).max(1),
                _ => most - 1,
            };
        }
        let grow = |sizes: &mut [usize; 7], index: usize| {
            let mut larger = *sizes;
            larger[index] += 1;
            let grows = larger[index] <= whole[index] && fits(larger);
            if grows {
                *sizes = larger;
            }
            grows
        };
        while grow(&mut sizes, COLS) {}
        loop {
            let before = sizes;
            for index in 0..sizes.len() {
                grow(&mut sizes, index);
            }
            if sizes == before {
                break;
            }
        }
        Self::of(sizes)
    }

    /// One tile for everything; a depthwise convolution takes one channel at a time.
    fn whole(shape: &ConvShape) -> Self {
        let [rows, cols] = shape.pooled_pixels();
        let (out_channels, in_channels) =
            if shape.depthwise { (1, 1) } else { (shape.out_channels, shape.in_channels) };
        let kernel = shape.kernel;
        Self::of([shape.batch, rows, cols, out_channels, kernel, kernel, in_channels])
    }

    fn sizes(&self) -> [usize; 7] {
        let Self { batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels, .. } = *self;
        [batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels]
    }

    fn of([batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels]: [usize; 7]) -> Self {
        Self {
            batch,
            rows,
            cols,
            out_channels,
            kernel_rows,
            kernel_cols,
            in_channels,
            emission: Emission::Unroller,
            order: ConvAxis::ALL,
            keep: Keep::Gemmini,
            double_buffer: true,
        }
    }

    /// Size of the tile along an axis.
    pub fn get(&self, axis: ConvAxis) -> usize {
        self.sizes()[axis as usize]
    }

    /// Extent of the whole convolution along each axis of [`ConvAxis::ALL`]; a depthwise one has one channel a tile.
    pub fn extents(shape: &ConvShape) -> [usize; 7] {
        let mut extents = Self::whole(shape).sizes();
        if shape.depthwise {
            extents[OUT_CHANNELS] = shape.out_channels;
        }
        extents
    }

    /// Tiles along each axis of [`ConvAxis::ALL`].
    pub fn tiles(&self, shape: &ConvShape) -> [usize; 7] {
        let (extents, sizes) = (Self::extents(shape), self.sizes());
        std::array::from_fn(|axis| extents[axis].div_ceil(sizes[axis].max(1)))
    }

    /// Whether the unroller keeps tiles of the input, and whether it keeps those of the weights, in the scratchpad.
    pub(crate) fn reuse(&self, shape: &ConvShape) -> [bool; 2] {
        if shape.depthwise {
            return [false, false];
        }
        let [batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels] = self.tiles(shape);
        let inner = kernel_rows * kernel_cols * in_channels;
        match self.keep {
            Keep::Gemmini => [batch * rows * cols, out_channels].map(|outer| outer * inner <= RESIDENT_TILES),
            Keep::Nothing => [false, false],
            Keep::Recent => [true, true],
        }
    }

    /// Rows of the local memories that a tile takes (`tiled_conv_total_spad_rows`).
    pub(crate) fn rows_needed(&self, config: &GemminiConfig, shape: &ConvShape) -> LocalRows {
        let blocks = |channels: usize| channels.div_ceil(config.dim() as usize);
        let pool = shape.pooling();
        let dilation = shape.kernel_dilation;
        let outputs = |pooled: usize| pooled * pool.stride + pool.size - 1;
        let inputs = |pooled: usize, kernel: usize| {
            let dilated_kernel = kernel + (dilation - 1) * (kernel - 1);
            let extent = outputs(pooled) * shape.stride + dilated_kernel - 1;
            extent.div_ceil(shape.input_dilation) >> usize::from(shape.downsamples())
        };
        let image = inputs(self.rows, self.kernel_rows) * inputs(self.cols, self.kernel_cols);
        let kernel = self.kernel_rows * self.kernel_cols;
        let input = match shape.options.input_chwn {
            true => blocks(self.batch) * self.in_channels * image,
            false => blocks(self.in_channels) * self.batch * image,
        };
        let weights = match shape.options.weights {
            WeightLayout::Hwoi => blocks(self.in_channels) * kernel * self.out_channels,
            _ => blocks(self.out_channels) * kernel * self.in_channels,
        };
        LocalRows {
            input,
            weights,
            accumulator: blocks(self.out_channels) * self.batch * outputs(self.rows) * outputs(self.cols),
        }
    }

    /// Whether the hardware can do it.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self, config: &GemminiConfig, shape: &ConvShape) -> Result<(), ConvScheduleError> {
        check_shape(config, shape, self.emission)?;
        self.check_order()?;
        if self.emission == Emission::Unroller && !self.double_buffer {
            return Err(ConvScheduleError::UnrollerNeedsHalves);
        }
        for ((name, size), limit) in
            ConvAxis::ALL.map(ConvAxis::name).into_iter().zip(self.sizes()).zip(Self::whole(shape).sizes())
        {
            if limit == 0 || limit > MAX_EXTENT {
                return Err(ConvScheduleError::Extent { name, extent: limit });
            }
            if size == 0 || size > limit {
                return Err(ConvScheduleError::TileSize { name, size, limit });
            }
        }
        if shape.options.input_chwn && self.batch != shape.batch {
            return Err(ConvScheduleError::TransposedBatch { size: self.batch, batch: shape.batch });
        }
        let rows = self.rows_needed(config, shape);
        let parts = if self.double_buffer { 2 } else { 1 };
        let [scratchpad, accumulator] = [config.sp_rows(), config.acc_rows()].map(|rows| rows as usize / parts);
        if rows.scratchpad() > scratchpad {
            return Err(ConvScheduleError::Scratchpad { needed: rows.scratchpad(), available: scratchpad });
        }
        if rows.accumulator > accumulator {
            return Err(ConvScheduleError::Accumulator { needed: rows.accumulator, available: accumulator });
        }
        if shape.pool.is_some() {
            let pool = shape.pooling();
            let image = [self.rows, self.cols].map(|pooled| pooled * pool.stride + pool.size - 1);
            let pooled = shape.pooled_pixels()[1];
            if let Some(&extent) = image.iter().chain([&pooled]).find(|extent| **extent > MAX_POOL_EXTENT) {
                return Err(ConvScheduleError::PoolExtent { extent });
            }
        }
        Ok(())
    }

    fn check_order(&self) -> Result<(), ConvScheduleError> {
        if ConvAxis::ALL.iter().any(|axis| !self.order.contains(axis)) {
            return Err(ConvScheduleError::Order);
        }
        match self.order[..4].iter().find(|axis| axis.is_reduction()) {
            Some(axis) => Err(ConvScheduleError::SumsInnermost { axis: axis.name() }),
            None => Ok(()),
        }
    }
}

/// What does not depend on the tile.
fn check_shape(config: &GemminiConfig, shape: &ConvShape, emission: Emission) -> Result<(), ConvScheduleError> {
    use ConvScheduleError as E;
    let options = &shape.options;
    let training = *options != super::TrainingOptions::default() || shape.input_dilation != 1;
    let pool = shape.pooling();
    if emission == Emission::Commands && (training || shape.depthwise || shape.pool.is_some()) {
        return Err(E::NotPlain);
    }
    if emission == Emission::Unroller && !config.has_loop_conv {
        return Err(E::NotBuilt { what: "convolutions", requires: "has_loop_conv" });
    }
    if training && !config.has_training_convs {
        return Err(E::NotBuilt { what: "dilated input and the layouts of training", requires: "has_training_convs" });
    }
    if shape.depthwise && !config.has_dw_convs {
        return Err(E::NotBuilt { what: "depthwise convolutions", requires: "has_dw_convs" });
    }
    if shape.pool.is_some() && !config.has_max_pool {
        return Err(E::NotBuilt { what: "pooling", requires: "has_max_pool" });
    }
    if shape.stride == 0 || shape.kernel_dilation == 0 || shape.kernel == 0 || pool.stride == 0 || pool.size == 0 {
        return Err(E::Zero);
    }
    if shape.kernel as isize <= shape.padding {
        return Err(E::Padding { kernel: shape.kernel, padding: shape.padding });
    }
    if shape.input_dilation == 0 || shape.input_dilation > 2 || (shape.input_dilation == 2 && shape.stride != 1) {
        return Err(E::InputDilation { dilation: shape.input_dilation, stride: shape.stride });
    }
    if options.output_hwnc && shape.pool.is_some() {
        return Err(E::PooledTranspose);
    }
    if options.input_chwn && options.weights == WeightLayout::Hwoi {
        return Err(E::BothTransposed);
    }
    if shape.depthwise && (training || shape.kernel_dilation != 1 || shape.in_channels != shape.out_channels) {
        return Err(E::Depthwise);
    }
    if pool.padding >= pool.size {
        return Err(E::PoolPadding { size: pool.size, padding: pool.padding });
    }
    if let Some(value) = [pool.size, pool.stride, pool.padding].into_iter().find(|value| *value > MAX_POOL_WINDOW) {
        return Err(E::PoolWindow { value });
    }
    Ok(())
}

/// Rows of the local memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalRows {
    pub input: usize,
    pub weights: usize,
    pub accumulator: usize,
}

impl LocalRows {
    /// Whether half of each memory suffices: two tiles are in flight.
    fn fit(self, config: &GemminiConfig) -> bool {
        self.scratchpad() <= config.sp_rows() as usize / 2 && self.accumulator <= config.acc_rows() as usize / 2
    }

    fn scratchpad(self) -> usize {
        self.input + self.weights
    }
}

/// The loops of [`ConvAxis::ALL`] as text.
const LOOPS: [&str; 7] = ["b0", "row0", "col0", "och0", "krow0", "kcol0", "ich0"];

impl fmt::Display for ConvSchedule {
    /// The loop nest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = |axis: &ConvAxis| format!("{} step {}", LOOPS[*axis as usize], self.get(*axis));
        let steps = |axes: &[ConvAxis]| axes.iter().map(step).collect::<Vec<_>>().join(", ");
        writeln!(f, "for {}:", steps(&self.order[..4]))?;
        writeln!(f, "  for {}:", steps(&self.order[4..]))?;
        match self.keep {
            Keep::Gemmini => {}
            Keep::Nothing => writeln!(f, "    # nothing kept")?,
            Keep::Recent => writeln!(f, "    # the last tiles kept")?,
        }
        match self.emission {
            Emission::Unroller => writeln!(f, "    loop_conv_ws"),
            Emission::Commands => {
                writeln!(f, "    for och, krow, kcol, ich:  preload")?;
                writeln!(f, "      for b, row, col:  compute")
            }
        }
    }
}

/// Why a convolution or its schedule is illegal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConvScheduleError {
    /// The build lacks something.
    #[error("this build has no {what}: it needs {requires}")]
    NotBuilt {
        /// Feature.
        what: &'static str,
        /// Setting.
        requires: &'static str,
    },
    /// Single commands for something that only the unroller does.
    #[error(
        "single commands can only do a plain convolution: choose emission unroller for pooling, dilated input, \
             depthwise kernels and the layouts of training"
    )]
    NotPlain,
    /// A loop is missing.
    #[error(
        "the loop order must name each of batch, rows, cols, out_channels, kernel_rows, kernel_cols and in_channels once"
    )]
    Order,
    /// A tile's sums are finished before those of the next.
    #[error(
        "the loop over {axis} is summed over: kernel_rows, kernel_cols and in_channels must be the three innermost loops"
    )]
    SumsInnermost {
        /// Loop too far outside.
        axis: &'static str,
    },
    /// With the input as channel, row, column and image the unroller takes a tile's images for those of the whole input when it reckons
    /// its addresses (`LoopConv.scala`, `LoopConvLdInput`).
    #[error(
        "the tile has {size} of {batch} images: with the input laid out by channel, row, column and image it must have all"
    )]
    TransposedBatch {
        /// Images of the tile.
        size: usize,
        /// Images in all.
        batch: usize,
    },
    /// The unroller alternates between halves of the memories.
    #[error(
        "the unroller alternates between the halves of the local memories: choose double buffering, or emission commands"
    )]
    UnrollerNeedsHalves,
    /// A size that must not be zero is.
    #[error("kernel, stride, dilation, pool size and pool stride must be at least 1")]
    Zero,
    /// An extent that does not exist or does not fit the registers.
    #[error("{name} is {extent}: it must be 1 to 65535")]
    Extent {
        /// Dimension.
        name: &'static str,
        /// Its extent.
        extent: usize,
    },
    /// A tile of an impossible size.
    #[error("the tile's {name} is {size}: it must be 1 to {limit}")]
    TileSize {
        /// Dimension.
        name: &'static str,
        /// Size in the tile.
        size: usize,
        /// Largest size.
        limit: usize,
    },
    /// Input and weights do not fit.
    #[error(
        "the tile's input and weights need {needed} scratchpad rows, but {available} are available: make it smaller"
    )]
    Scratchpad {
        /// Rows needed.
        needed: usize,
        /// Rows available, half of the memory with double buffering.
        available: usize,
    },
    /// The output does not fit.
    #[error("the tile's output needs {needed} accumulator rows, but {available} are available: make it smaller")]
    Accumulator {
        /// Rows needed.
        needed: usize,
        /// Rows available, half of the memory with double buffering.
        available: usize,
    },
    /// More padding than kernel.
    #[error("a padding of {padding} needs a larger kernel than {kernel}")]
    Padding {
        /// Edge of the kernel.
        kernel: usize,
        /// Padding.
        padding: isize,
    },
    /// Dilations that the unroller does not have.
    #[error("an input dilation of {dilation} with stride {stride}: it must be 1, or 2 with stride 1")]
    InputDilation {
        /// Dilation.
        dilation: usize,
        /// Stride.
        stride: usize,
    },
    /// Pooling cannot transpose.
    #[error("a pooled output cannot have the layout row, column, image, channel")]
    PooledTranspose,
    /// Two operands would need the one transposer.
    #[error("input and weights are both transposed: only one operand can pass the transposer")]
    BothTransposed,
    /// Depthwise convolutions have fewer options.
    #[error("a depthwise convolution has as many output as input channels, no dilation and the usual layouts")]
    Depthwise,
    /// A window that may lie in the padding entirely.
    #[error("a pool padding of {padding} needs a larger window than {size}")]
    PoolPadding {
        /// Edge of the window.
        size: usize,
        /// Padding.
        padding: usize,
    },
    /// A pooling window that does not fit CONFIG_ST.
    #[error("a pool size, stride or padding of {value} does not fit config_st's 2 bits: it must be at most 3")]
    PoolWindow {
        /// The value.
        value: usize,
    },
    /// A pooled image that does not fit CONFIG_ST.
    #[error(
        "{extent} rows or columns of a pooled image do not fit config_st's 8 bits: at most 255, so choose smaller tiles"
    )]
    PoolExtent {
        /// The extent.
        extent: usize,
    },
}
