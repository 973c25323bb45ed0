//! A mapping as loops over seven dimensions at four levels: what Timeloop, CoSA and DOSA write.

use std::fmt;

use pollux_isa::ValidConfig;
use pollux_kernels::{Axis, ConvAxis, ConvSchedule, Dataflow, Emission, Keep, Normalization, Schedule, Tile};

use super::FormatError;
use crate::mapping::Mapping;
use crate::problem::Problem;

/// A dimension, by Timeloop's names: K are output channels (a product's columns), C input channels (what a product sums over),
/// P output columns (a product's rows), Q output rows, R kernel columns, S kernel rows, N images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Dim {
    R,
    S,
    P,
    Q,
    C,
    K,
    N,
}

impl Dim {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::R, Self::S, Self::P, Self::Q, Self::C, Self::K, Self::N];

    /// The dimension of this letter.
    pub fn of(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|dim| dim.letter() == letter)
    }

    /// Its letter.
    pub fn letter(self) -> char {
        match self {
            Self::R => 'R',
            Self::S => 'S',
            Self::P => 'P',
            Self::Q => 'Q',
            Self::C => 'C',
            Self::K => 'K',
            Self::N => 'N',
        }
    }

    fn conv_axis(self) -> ConvAxis {
        match self {
            Self::N => ConvAxis::Batch,
            Self::Q => ConvAxis::Rows,
            Self::P => ConvAxis::Cols,
            Self::K => ConvAxis::OutChannels,
            Self::S => ConvAxis::KernelRows,
            Self::R => ConvAxis::KernelCols,
            Self::C => ConvAxis::InChannels,
        }
    }

    fn of_conv_axis(axis: ConvAxis) -> Self {
        Self::ALL.into_iter().find(|dim| dim.conv_axis() == axis).unwrap_or(Self::N)
    }

    fn of_axis(axis: Axis) -> Self {
        match axis {
            Axis::I => Self::P,
            Axis::J => Self::K,
            Axis::K => Self::C,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// Where the instances of a spatial loop lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpatialAxis {
    /// Along a row.
    X,
    /// Along a column.
    Y,
}

/// A loop: iterations, the last of which of the loop around it has `residual` if that is not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Dimension.
    pub dim: Dim,
    /// Iterations.
    pub size: usize,
    /// Iterations of the last time.
    pub residual: usize,
    /// Instances side by side, if it is no loop in time.
    pub spatial: Option<SpatialAxis>,
}

/// The levels, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelName {
    /// Main memory: the loops over tiles.
    Dram,
    /// Scratchpad: no loops in time; columns of the array in space.
    Scratchpad,
    /// Accumulator: blocks of a tile; rows of the array in space.
    Accumulator,
    /// Registers of the array: rows of a pass.
    Registers,
}

impl LevelName {
    /// Outermost first.
    pub const ALL: [Self; 4] = [Self::Dram, Self::Scratchpad, Self::Accumulator, Self::Registers];

    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dram => "DRAM",
            Self::Scratchpad => "Scratchpad",
            Self::Accumulator => "Accumulator",
            Self::Registers => "Registers",
        }
    }

    /// The level of this name.
    pub fn of(name: &str) -> Option<Self> {
        let bare = name.rsplit('.').next().unwrap_or(name);
        let bare = bare.split('[').next().unwrap_or(bare);
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(bare))
    }

    /// Tensors that it keeps.
    pub fn keeps(self) -> &'static [&'static str] {
        match self {
            Self::Dram => &["Weights", "Inputs", "Outputs"],
            Self::Scratchpad => &["Weights", "Inputs"],
            Self::Accumulator => &["Outputs"],
            Self::Registers => &["Weights"],
        }
    }
}

/// Loops of a level, outermost first, those in space behind those in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The loops.
    pub factors: Vec<Factor>,
}

/// Four levels, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nest {
    /// In the order of [`LevelName::ALL`].
    pub levels: [Level; 4],
}

impl Nest {
    /// Iterations of a dimension at a level, in time or in space.
    pub fn factor(&self, level: LevelName, dim: Dim, spatial: bool) -> usize {
        let factors = self.levels[level as usize].factors.iter();
        factors.filter(|f| f.dim == dim && f.spatial.is_some() == spatial).map(|f| f.size).product()
    }

    /// Adds a loop, unless it has one iteration.
    pub fn push(&mut self, level: LevelName, dim: Dim, size: usize, residual: usize, spatial: Option<SpatialAxis>) {
        if size > 1 {
            let residual = if residual == 0 { size } else { residual };
            self.levels[level as usize].factors.push(Factor { dim, size, residual, spatial });
        }
    }

    /// The mapping that the nest describes, and what of it has no meaning on Gemmini.
    ///
    /// # Errors
    /// Loops that the hardware does not have, or a mapping that it cannot do.
    pub fn mapping(&self, config: &ValidConfig, problem: &Problem) -> Result<(Mapping, Vec<String>), FormatError> {
        self.check_space(config)?;
        let mut remarks = Vec::new();
        if self.levels[LevelName::Scratchpad as usize].factors.iter().any(|f| f.spatial.is_none()) {
            let what = "loops in time at Scratchpad: the hardware has none between the tile and its blocks";
            return Err(FormatError::new(format!("{what}; move them to DRAM or Accumulator")));
        }
        let order = self.tile_loops(problem)?;
        let mapping = match problem {
            Problem::Matmul(matmul) => {
                let dim = config.dim() as usize;
                let blocks = [matmul.m, matmul.n, matmul.k].map(|extent| extent.div_ceil(dim));
                let tile = [Dim::P, Dim::K, Dim::C].map(|dim| self.tile(dim));
                let tile: Vec<usize> =
                    tile.iter().zip(blocks).map(|(size, most)| size.div_ceil(dim).clamp(1, most)).collect();
                Mapping::Matmul(Schedule {
                    dataflow: Dataflow::Ws,
                    tile: Tile { i: tile[0], j: tile[1], k: tile[2] },
                    order: product_order(&order),
                    double_buffer: true,
                    emission: Emission::Unroller,
                    normalization: Normalization::Fused,
                    keep: Keep::Gemmini,
                })
            }
            Problem::Conv(conv) => {
                let extents = ConvSchedule::extents(&conv.shape);
                let size = |axis: ConvAxis| self.tile(Dim::of_conv_axis(axis)).clamp(1, extents[axis as usize]);
                Mapping::Conv(ConvSchedule {
                    batch: size(ConvAxis::Batch),
                    rows: size(ConvAxis::Rows),
                    cols: size(ConvAxis::Cols),
                    out_channels: if conv.shape.depthwise { 1 } else { size(ConvAxis::OutChannels) },
                    kernel_rows: size(ConvAxis::KernelRows),
                    kernel_cols: size(ConvAxis::KernelCols),
                    in_channels: size(ConvAxis::InChannels),
                    emission: Emission::Unroller,
                    order: conv_order(&order),
                    keep: Keep::Gemmini,
                    double_buffer: true,
                })
            }
        };
        if self.levels[LevelName::Accumulator as usize].factors.iter().filter(|f| f.spatial.is_none()).count() > 1 {
            remarks.push("the order of the loops at Accumulator has no effect: the unroller's is fixed".to_owned());
        }
        let covered = self.covers(problem);
        if let Some((dim, has, needs)) = covered.into_iter().find(|(_, has, needs)| has < needs) {
            remarks.push(format!("the loops over {dim} cover {has} of {needs}: the rest is done by more tiles"));
        }
        mapping.check(config, problem).map_err(|error| FormatError::new(error.to_string()))?;
        Ok((mapping, remarks))
    }

    /// Elements of a dimension in a tile.
    fn tile(&self, dim: Dim) -> usize {
        let inner = [LevelName::Scratchpad, LevelName::Accumulator, LevelName::Registers];
        inner.iter().flat_map(|level| [self.factor(*level, dim, false), self.factor(*level, dim, true)]).product()
    }

    /// What the loops cover of each dimension, and what there is.
    fn covers(&self, problem: &Problem) -> Vec<(Dim, usize, usize)> {
        let extents = extents(problem);
        Dim::ALL
            .iter()
            .map(|dim| (*dim, self.tile(*dim) * self.factor(LevelName::Dram, *dim, false), extents(*dim)))
            .collect()
    }

    fn check_space(&self, config: &ValidConfig) -> Result<(), FormatError> {
        let dim = config.dim() as usize;
        for (level, name) in self.levels.iter().zip(LevelName::ALL) {
            for factor in level.factors.iter().filter(|f| f.spatial.is_some()) {
                let allowed = match name {
                    LevelName::Scratchpad => Dim::K,
                    LevelName::Accumulator => Dim::C,
                    _ => return Err(FormatError::new(format!("{}: nothing lies side by side below it", name.name()))),
                };
                let Factor { dim: own, size, .. } = factor;
                if *own != allowed {
                    return Err(FormatError::new(format!(
                        "{}: {own} side by side, but the array has only {allowed} there",
                        name.name()
                    )));
                }
                if *size > dim {
                    return Err(FormatError::new(format!(
                        "{}: {own}={size} side by side, but the array has {dim}: at most {dim}",
                        name.name()
                    )));
                }
            }
        }
        let registers = &self.levels[LevelName::Registers as usize];
        match registers.factors.iter().find(|f| !matches!(f.dim, Dim::P | Dim::Q | Dim::N)) {
            Some(f) => Err(FormatError::new(format!(
                "Registers: {}={}: while weights stay in the array only P, Q and N can change",
                f.dim, f.size
            ))),
            None => Ok(()),
        }
    }

    /// The loops over tiles with more than one iteration, outermost first.
    fn tile_loops(&self, problem: &Problem) -> Result<Vec<Dim>, FormatError> {
        let loops: Vec<Dim> =
            self.levels[0].factors.iter().filter(|f| f.spatial.is_none() && f.size > 1).map(|f| f.dim).collect();
        let sums = |dim: &Dim| matches!(dim, Dim::C | Dim::R | Dim::S);
        if let Some(at) = loops.iter().position(sums)
            && let Some(inside) = loops[at..].iter().find(|dim| !sums(dim))
        {
            return Err(FormatError::new(format!(
                "DRAM: the loop over {} stands outside the one over {inside}: sums of different outputs would meet in the \
                 accumulator; what is summed over (C, R, S) must be innermost",
                loops[at]
            )));
        }
        let extents = extents(problem);
        match loops.iter().find(|dim| extents(**dim) == 1) {
            Some(dim) => Err(FormatError::new(format!("DRAM: a loop over {dim}, which the problem has only one of"))),
            None => Ok(loops),
        }
    }

    /// The nest of a mapping of the unroller.
    pub fn of(config: &ValidConfig, problem: &Problem, mapping: &Mapping) -> Self {
        let array = config.dim() as usize;
        let (mut nest, extents) = (Self::default(), extents(problem));
        let sizes: Vec<(Dim, usize)> = match mapping {
            Mapping::Matmul(s) => s
                .order
                .iter()
                .map(|axis| {
                    let blocks = match axis {
                        Axis::I => s.tile.i,
                        Axis::J => s.tile.j,
                        Axis::K => s.tile.k,
                    };
                    let dim = Dim::of_axis(*axis);
                    (dim, (blocks * array).min(extents(dim)))
                })
                .collect(),
            Mapping::Conv(s) => s.order.iter().map(|axis| (Dim::of_conv_axis(*axis), s.get(*axis))).collect(),
        };
        for (dim, size) in &sizes {
            nest.push(LevelName::Dram, *dim, extents(*dim).div_ceil(*size), 0, None);
        }
        // Inside a tile, outermost first as the unrollers have it.
        let inside = match mapping {
            Mapping::Matmul(_) => vec![Dim::C, Dim::K, Dim::P],
            Mapping::Conv(_) => vec![Dim::K, Dim::S, Dim::R, Dim::C, Dim::N, Dim::Q, Dim::P],
        };
        let cut = |dim: Dim| {
            let size = sizes.iter().find(|(other, _)| *other == dim).map_or(1, |(_, size)| *size);
            let last = extents(dim) - (extents(dim) - 1) / size * size;
            (size, last)
        };
        // A tile that does not end with a block of the array, unless the problem ends there as well, has its rows as single loops.
        let whole = |dim: Dim| {
            let (size, _) = cut(dim);
            size <= array || size.is_multiple_of(array) || size == extents(dim)
        };
        for dim in inside {
            let (size, last) = cut(dim);
            let (count, rest) = match in_array(dim) && whole(dim) {
                true => (size.div_ceil(array), last.div_ceil(array)),
                false => (size, last),
            };
            nest.push(LevelName::Accumulator, dim, count, rest, None);
        }
        let mut innermost = |level, dim: Dim, spatial| {
            let (size, last) = cut(dim);
            let width = size.min(array);
            let rest = last - (last - 1) / array * array;
            if whole(dim) {
                nest.push(level, dim, width, rest.min(width), spatial);
            }
        };
        innermost(LevelName::Scratchpad, Dim::K, Some(SpatialAxis::X));
        innermost(LevelName::Accumulator, Dim::C, Some(SpatialAxis::Y));
        innermost(LevelName::Registers, Dim::P, None);
        nest
    }
}

/// Dimensions that the array has a block of.
fn in_array(dim: Dim) -> bool {
    matches!(dim, Dim::K | Dim::C | Dim::P)
}

/// What a problem has of each dimension.
pub fn extents(problem: &Problem) -> impl Fn(Dim) -> usize {
    let problem = *problem;
    move |dim| match &problem {
        Problem::Matmul(matmul) => match dim {
            Dim::P => matmul.m,
            Dim::K => matmul.n,
            Dim::C => matmul.k,
            _ => 1,
        },
        Problem::Conv(conv) => ConvSchedule::extents(&conv.shape)[dim.conv_axis() as usize],
    }
}

/// The loops that are there, then those that are missing; what is summed over last.
fn product_order(loops: &[Dim]) -> [Axis; 3] {
    let first = loops.iter().find(|dim| matches!(dim, Dim::P | Dim::K));
    match first {
        Some(Dim::K) => [Axis::J, Axis::I, Axis::K],
        _ => [Axis::I, Axis::J, Axis::K],
    }
}

fn conv_order(loops: &[Dim]) -> [ConvAxis; 7] {
    let axes: Vec<ConvAxis> = loops.iter().map(|dim| dim.conv_axis()).collect();
    let part = |sums: bool| {
        let missing = ConvAxis::ALL.into_iter().filter(|axis| !axes.contains(axis));
        let all = missing.chain(axes.iter().copied());
        all.filter(|axis| axis.is_reduction() == sums).collect::<Vec<_>>()
    };
    let all = [part(false), part(true)].concat();
    std::array::from_fn(|at| all[at])
}
