//! How a matrix product is cut into tiles and emitted: a value that can be checked, printed, saved and loaded.

use std::fmt;

use pollux_isa::GemminiConfig;
use pollux_isa::config;
use pollux_isa::values::DataflowMode;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::activation::Activation;

/// Largest bound of a loop of the unroller: its fields have 16 bits.
const MAX_LOOP_BOUND: usize = u16::MAX as usize;

/// Tiles up to which an operand is kept in the scratchpad over the whole product: one for each half.
const RESIDENT_TILES: usize = 2;

/// What stays in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dataflow {
    /// Weight-stationary: B.
    Ws,
    /// Output-stationary: C.
    Os,
}

impl Dataflow {
    /// The value that CONFIG_EX takes.
    pub fn mode(self) -> DataflowMode {
        match self {
            Self::Ws => DataflowMode::Ws,
            Self::Os => DataflowMode::Os,
        }
    }

    fn is_built(self, config: &GemminiConfig) -> bool {
        match config.dataflow {
            config::Dataflow::Both => true,
            config::Dataflow::Ws => self == Self::Ws,
            config::Dataflow::Os => self == Self::Os,
        }
    }
}

/// How the tile's work becomes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emission {
    /// One LOOP_WS for each tile.
    Unroller,
    /// Every load, preload, compute and store by itself.
    Commands,
}

/// Where an activation that needs whole rows is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// On the way out of the accumulator, in the product itself.
    #[default]
    Fused,
    /// By a separate pass over the int32 result in main memory.
    Separate,
}

/// What stays in the scratchpad from one tile to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// As Gemmini's software: with the unroller an operand of at most two tiles, in single commands the tile used last.
    #[default]
    Gemmini,
    /// Nothing: each tile loads its operands.
    Nothing,
    /// The tiles of each operand that were used last, one for each half of the scratchpad (one without double buffering).
    /// The unroller is told the halves (`a_spad_id`, `b_spad_id`) and has no address for what is there already.
    Recent,
}

impl Keep {
    /// Whether it is Gemmini's own rule.
    pub fn is_default(&self) -> bool {
        *self == Self::Gemmini
    }
}

/// A loop over tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Rows of A and C.
    I,
    /// Columns of B and C.
    J,
    /// The dimension that is summed over.
    K,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::I => "i",
            Self::J => "j",
            Self::K => "k",
        }
    }
}

/// Sizes of a tile in blocks of DIM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Rows of A and C.
    pub i: usize,
    /// Columns of B and C.
    pub j: usize,
    /// Columns of A, rows of B.
    pub k: usize,
}

impl Tile {
    pub(crate) fn get(&self, axis: Axis) -> usize {
        match axis {
            Axis::I => self.i,
            Axis::J => self.j,
            Axis::K => self.k,
        }
    }
}

/// What a schedule is for: C (i x j) = A (i x k) * B (k x j), sizes in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatmulShape {
    /// Rows of A and C.
    pub i: usize,
    /// Columns of B and C.
    pub j: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Whether memory holds A transposed.
    pub a_transpose: bool,
    /// Whether memory holds B transposed.
    pub b_transpose: bool,
    /// Whether C is int32.
    pub full_c: bool,
    /// Whether the activation needs whole rows in the accumulator.
    pub whole_rows: bool,
}

impl MatmulShape {
    /// A plain product.
    pub fn new(i: usize, j: usize, k: usize) -> Self {
        Self { i, j, k, a_transpose: false, b_transpose: false, full_c: false, whole_rows: false }
    }

    /// The same with whole rows kept if the activation normalizes.
    pub fn with_activation(self, activation: &Activation) -> Self {
        Self { whole_rows: activation.normalizes(), ..self }
    }

    /// Extent in blocks of `dim`.
    pub(crate) fn blocks(&self, dim: usize) -> Tile {
        Tile { i: self.i.div_ceil(dim), j: self.j.div_ceil(dim), k: self.k.div_ceil(dim) }
    }
}

/// How a matrix product is cut into tiles and emitted.
///
/// ```
/// use pollux_isa::GemminiConfig;
/// use pollux_kernels::{Dataflow, MatmulShape, Schedule};
///
/// let config = GemminiConfig::default16();
/// let shape = MatmulShape::new(128, 768, 768);
/// let schedule = Schedule::gemmini_default(&config, &shape, Dataflow::Ws);
/// assert_eq!((schedule.tile.i, schedule.tile.j, schedule.tile.k), (5, 5, 48));
/// schedule.check(&config, &shape)?;
/// # Ok::<(), pollux_kernels::ScheduleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What stays in the array.
    pub dataflow: Dataflow,
    /// Size of a tile in scratchpad and accumulator.
    pub tile: Tile,
    /// Loops over tiles, outermost first.
    pub order: [Axis; 3],
    /// Whether each tile uses only half of the local memories, so that the next one is loaded meanwhile.
    pub double_buffer: bool,
    /// How a tile becomes commands.
    pub emission: Emission,
    /// Where an activation that needs whole rows is computed.
    #[serde(default)]
    pub normalization: Normalization,
    /// What stays in the scratchpad from tile to tile.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
}

impl Schedule {
    /// The order of Gemmini's software.
    pub const DEFAULT_ORDER: [Axis; 3] = [Axis::I, Axis::J, Axis::K];

    /// What Gemmini's software does (`tiled_matmul_auto`): the tile grows greedily, WS runs in the unroller with double
    /// buffering, OS as single commands with whole memories. The result need not be legal: the software refuses it then too.
    pub fn gemmini_default(config: &GemminiConfig, shape: &MatmulShape, dataflow: Dataflow) -> Self {
        let double_buffer = dataflow == Dataflow::Ws;
        let emission = if double_buffer { Emission::Unroller } else { Emission::Commands };
        let budget = Budget::new(config, double_buffer);
        Self {
            dataflow,
            tile: budget.greedy_tile(shape),
            order: Self::DEFAULT_ORDER,
            double_buffer,
            emission,
            normalization: Normalization::Fused,
            keep: Keep::Gemmini,
        }
    }

    /// The first legal one of: Gemmini's default in this dataflow, single commands with double buffering, and single
    /// commands with whole memories.
    ///
    /// # Errors
    /// None is legal; the last one's reason.
    pub fn auto(config: &GemminiConfig, shape: &MatmulShape, dataflow: Dataflow) -> Result<Self, ScheduleError> {
        let default = Self::gemmini_default(config, shape, dataflow);
        if default.check(config, shape).is_ok() {
            return Ok(default);
        }
        let commands = |double_buffer| Self {
            double_buffer,
            emission: Emission::Commands,
            tile: Budget::new(config, double_buffer).greedy_tile(shape),
            ..default
        };
        let candidate = commands(true);
        if candidate.check(config, shape).is_ok() {
            return Ok(candidate);
        }
        let candidate = commands(false);
        candidate.check(config, shape).map(|()| candidate)
    }

    /// Whether the hardware can do it.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self, config: &GemminiConfig, shape: &MatmulShape) -> Result<(), ScheduleError> {
        self.check_build(config, shape)?;
        self.check_order(shape)?;
        let blocks = shape.blocks(config.dim() as usize);
        for axis in Self::DEFAULT_ORDER {
            let (tile, limit) = (self.tile.get(axis), blocks.get(axis));
            if limit == 0 {
                return Err(ScheduleError::Empty { axis: axis.name() });
            }
            if tile == 0 || tile > limit {
                return Err(ScheduleError::TileSize { axis: axis.name(), tile, limit });
            }
            if self.emission == Emission::Unroller && tile > MAX_LOOP_BOUND {
                return Err(ScheduleError::TileSize { axis: axis.name(), tile, limit: MAX_LOOP_BOUND });
            }
        }
        if shape.whole_rows && self.normalization == Normalization::Fused && self.tile.j < blocks.j {
            return Err(ScheduleError::PartialRows { tile: self.tile.j, needed: blocks.j });
        }
        self.check_space(config, &blocks)
    }

    fn check_build(&self, config: &GemminiConfig, shape: &MatmulShape) -> Result<(), ScheduleError> {
        if !self.dataflow.is_built(config) {
            return Err(ScheduleError::NotBuilt { what: "this dataflow", requires: "another `dataflow`" });
        }
        if shape.full_c && !config.acc_read_full_width {
            return Err(ScheduleError::NotBuilt { what: "an int32 result", requires: "`acc_read_full_width`" });
        }
        if shape.whole_rows && !config.has_normalizations {
            return Err(ScheduleError::NotBuilt { what: "this activation", requires: "`has_normalizations`" });
        }
        let both = match self.dataflow {
            Dataflow::Ws => shape.a_transpose && shape.b_transpose,
            Dataflow::Os => !shape.a_transpose && shape.b_transpose,
        };
        if both {
            return Err(ScheduleError::Transposer(self.dataflow));
        }
        if self.emission == Emission::Unroller && self.dataflow == Dataflow::Os {
            return Err(ScheduleError::UnrollerNeedsWs);
        }
        if self.emission == Emission::Unroller && !self.double_buffer {
            return Err(ScheduleError::UnrollerNeedsHalves);
        }
        Ok(())
    }

    fn check_order(&self, shape: &MatmulShape) -> Result<(), ScheduleError> {
        if Self::DEFAULT_ORDER.iter().any(|axis| !self.order.contains(axis)) {
            return Err(ScheduleError::Order);
        }
        let innermost_k = self.order[2] == Axis::K;
        if self.emission == Emission::Unroller && !innermost_k {
            return Err(ScheduleError::UnrollerSumsInnermost);
        }
        if shape.whole_rows && self.normalization == Normalization::Fused && !innermost_k {
            return Err(ScheduleError::NormalizedSumsInnermost);
        }
        Ok(())
    }

    fn check_space(&self, config: &GemminiConfig, blocks: &Tile) -> Result<(), ScheduleError> {
        let dim = config.dim() as usize;
        let budget = Budget::new(config, self.double_buffer);
        let needed = self.tile.operand_blocks() * dim;
        if needed > budget.scratchpad {
            return Err(ScheduleError::Scratchpad { needed, available: budget.scratchpad });
        }
        let (needed, available) = match self.resident_results(blocks) {
            0 | 1 => (self.tile.result_blocks() * dim, budget.accumulator),
            tiles => (tiles * self.tile.result_blocks() * dim, config.acc_rows() as usize),
        };
        if needed > available {
            return Err(ScheduleError::Accumulator { needed, available });
        }
        Ok(())
    }

    /// Tiles of C that are unfinished at the same time: those of the loops inside the loop over K.
    pub(crate) fn resident_results(&self, blocks: &Tile) -> usize {
        let inside = self.order.iter().skip_while(|axis| **axis != Axis::K).skip(1);
        inside.map(|&axis| blocks.get(axis).div_ceil(self.tile.get(axis).max(1))).product()
    }

    /// Tiles in each dimension.
    pub fn tiles(&self, config: &GemminiConfig, shape: &MatmulShape) -> Tile {
        let blocks = shape.blocks(config.dim() as usize);
        let count = |axis| blocks.get(axis).div_ceil(self.tile.get(axis).max(1));
        Tile { i: count(Axis::I), j: count(Axis::J), k: count(Axis::K) }
    }

    /// Whether the unroller keeps tiles of A, and whether it keeps those of B, in the scratchpad.
    pub(crate) fn reuse(&self, tiles: &Tile) -> [bool; 2] {
        match self.keep {
            Keep::Gemmini => [tiles.i, tiles.j].map(|outer| outer * tiles.k <= RESIDENT_TILES),
            Keep::Nothing => [false, false],
            Keep::Recent => [true, true],
        }
    }

    /// The loop nest for a shape, as text.
    pub fn loop_nest<'a>(&'a self, config: &'a GemminiConfig, shape: &'a MatmulShape) -> LoopNest<'a> {
        LoopNest { schedule: self, config, shape }
    }
}

impl Tile {
    /// Blocks of A and B.
    fn operand_blocks(&self) -> usize {
        self.i * self.k + self.k * self.j
    }

    /// Blocks of C.
    fn result_blocks(&self) -> usize {
        self.i * self.j
    }
}

/// Rows that a tile may use.
struct Budget {
    scratchpad: usize,
    accumulator: usize,
    dim: usize,
}

impl Budget {
    fn new(config: &GemminiConfig, double_buffer: bool) -> Self {
        let parts = if double_buffer { 2 } else { 1 };
        Self {
            scratchpad: config.sp_rows() as usize / parts,
            accumulator: config.acc_rows() as usize / parts,
            dim: config.dim() as usize,
        }
    }

    fn fits(&self, tile: &Tile) -> bool {
        tile.operand_blocks() * self.dim <= self.scratchpad && tile.result_blocks() * self.dim <= self.accumulator
    }

    /// `tiled_matmul_auto`: starts from a square tile and grows J, I and K in turn while everything fits.
    fn greedy_tile(&self, shape: &MatmulShape) -> Tile {
        let blocks = shape.blocks(self.dim);
        let mut tile = self.first_tile(shape, &blocks);
        loop {
            let before = tile;
            let grown = [
                |t: Tile| Tile { j: t.j + 1, ..t },
                |t: Tile| Tile { i: t.i + 1, ..t },
                |t: Tile| Tile { k: t.k + 1, ..t },
            ];
            for grow in grown {
                let larger = grow(tile);
                let inside = larger.i <= blocks.i && larger.j <= blocks.j && larger.k <= blocks.k;
                // K does not change C: the software does not look at the accumulator then.
                let fits = match larger.k > tile.k {
                    true => larger.operand_blocks() * self.dim <= self.scratchpad,
                    false => self.fits(&larger),
                };
                if inside && fits {
                    tile = larger;
                }
            }
            if tile == before {
                return tile;
            }
        }
    }

    fn first_tile(&self, shape: &MatmulShape, blocks: &Tile) -> Tile {
        if shape.whole_rows {
            return Tile { i: 1, j: blocks.j, k: 1 };
        }
        let square = (self.accumulator / self.dim).isqrt().max(1);
        let deep = (self.scratchpad / 2 / self.dim / square).max(1);
        Tile { i: blocks.i.min(square), j: blocks.j.min(square), k: blocks.k.min(deep) }
    }
}

/// A schedule printed as a loop nest.
#[derive(Clone, Copy, Debug)]
pub struct LoopNest<'a> {
    schedule: &'a Schedule,
    config: &'a GemminiConfig,
    shape: &'a MatmulShape,
}

impl fmt::Display for LoopNest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedule, config, shape } = self;
        let dim = config.dim() as usize;
        let (tiles, blocks) = (schedule.tiles(config, shape), shape.blocks(dim));
        let dataflow = match schedule.dataflow {
            Dataflow::Ws => "weight-stationary",
            Dataflow::Os => "output-stationary",
        };
        let buffers = if schedule.double_buffer { "double-buffered" } else { "single-buffered" };
        writeln!(f, "# C[{}, {}] = A * B over {}, {dataflow}, {buffers}, DIM {dim}", shape.i, shape.j, shape.k)?;
        for (depth, &axis) in schedule.order.iter().enumerate() {
            let name = axis.name();
            writeln!(f, "{:indent$}for {name}0 in 0..{}:", "", tiles.get(axis), indent = 2 * depth)?;
        }
        let Tile { i, j, k } = schedule.tile;
        let Tile { i: last_i, j: last_j, k: last_k } =
            Tile { i: blocks.i - (tiles.i - 1) * i, j: blocks.j - (tiles.j - 1) * j, k: blocks.k - (tiles.k - 1) * k };
        let rows = (schedule.tile.operand_blocks() * dim, schedule.tile.result_blocks() * dim);
        let kept = match schedule.keep {
            Keep::Gemmini => "",
            Keep::Nothing => ", nothing kept",
            Keep::Recent => ", the last tiles kept",
        };
        writeln!(f, "      # {} scratchpad rows, {} accumulator rows{kept}", rows.0, rows.1)?;
        match (schedule.emission, schedule.dataflow) {
            (Emission::Unroller, _) => {
                writeln!(f, "      loop_ws i={i} j={j} k={k}  # last: {last_i} {last_j} {last_k}")
            }
            (Emission::Commands, Dataflow::Ws) => {
                writeln!(f, "      for k in 0..{k}, j in 0..{j}:  # last: {last_k}, {last_j}")?;
                writeln!(f, "        preload B[k, j]")?;
                writeln!(f, "        for i in 0..{i}: C[i, j] += A[i, k] * B[k, j]  # last: {last_i}")
            }
            (Emission::Commands, Dataflow::Os) => {
                writeln!(f, "      for i in 0..{i}, j in 0..{j}:  # last: {last_i}, {last_j}")?;
                writeln!(f, "        for k in 0..{k}: C += A[i, k] * B[k, j]  # last: {last_k}")
            }
        }
    }
}

/// Why a schedule is illegal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A dimension without elements.
    #[error("dimension {axis} is empty: every dimension needs at least one element")]
    Empty {
        /// Dimension.
        axis: &'static str,
    },
    /// A tile of an impossible size.
    #[error("the tile has {tile} blocks in {axis}: it must have 1 to {limit}")]
    TileSize {
        /// Dimension.
        axis: &'static str,
        /// Blocks of DIM.
        tile: usize,
        /// Most blocks.
        limit: usize,
    },
    /// A and B do not fit.
    #[error(
        "the tile's A and B need {needed} scratchpad rows, but {available} are available to a tile: make it smaller"
    )]
    Scratchpad {
        /// Rows needed.
        needed: usize,
        /// Rows available, half of the memory with double buffering.
        available: usize,
    },
    /// C does not fit.
    #[error(
        "the unfinished tiles of C need {needed} accumulator rows, but {available} are available: make the tile smaller"
    )]
    Accumulator {
        /// Rows needed.
        needed: usize,
        /// Rows available, half of the memory with double buffering.
        available: usize,
    },
    /// A normalized row is cut.
    #[error(
        "the activation needs whole rows, but the tile has {tile} of {needed} blocks of a row: make j {needed}, or \
         choose the separate normalization"
    )]
    PartialRows {
        /// Blocks in the tile.
        tile: usize,
        /// Blocks of a row.
        needed: usize,
    },
    /// Two operands would need the one transposer.
    #[error("{}: only one operand can pass the transposer", match .0 {
        Dataflow::Ws => "A and B are both transposed in the weight-stationary dataflow",
        Dataflow::Os => "B is transposed and A is not in the output-stationary dataflow",
    })]
    Transposer(Dataflow),
    /// A loop is missing.
    #[error("the loop order must name each of i, j and k once")]
    Order,
    /// The unroller computes weight-stationary only.
    #[error("the unroller is weight-stationary: choose dataflow ws, or emission commands")]
    UnrollerNeedsWs,
    /// The unroller alternates between halves of the memories.
    #[error(
        "the unroller alternates between the halves of the local memories: choose double buffering, or emission commands"
    )]
    UnrollerNeedsHalves,
    /// The unroller finishes one tile of C before the next.
    #[error(
        "the unroller finishes a tile of C before the next one: make k the innermost loop, or choose emission commands"
    )]
    UnrollerSumsInnermost,
    /// Normalization needs finished rows.
    #[error("rows are normalized when their sums are complete: make k the innermost loop")]
    NormalizedSumsInnermost,
    /// The build lacks something.
    #[error("this build has not {what}: it needs {requires}")]
    NotBuilt {
        /// Feature.
        what: &'static str,
        /// Setting.
        requires: &'static str,
    },
}
