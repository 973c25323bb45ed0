//! The mapspace: every mapping of a problem that the hardware can do, as data that is counted, enumerated and sampled.
//!
//! A mapping is a tile (3 factors of a product, 7 of a convolution) and a *form*: dataflow, unroller or single commands, loop order,
//! double buffering, what is kept, where rows are normalized. Factors are counted in blocks of DIM where the hardware works in
//! blocks (all three of a product, channels of a convolution); the last tile of a dimension may be ragged.
//!
//! Different points may be the same mapping: the place of a loop with one iteration makes no difference, nor does keeping
//! what is never needed again. [`Mapspace::canonical`] gives one point for each mapping; uniform over *factorisations* means
//! over the points, uniform over *distinct mappings* over the canonical ones.

use std::collections::HashMap;
use std::ops::ControlFlow;

use pollux_isa::ValidConfig;
use pollux_kernels::{
    Axis, ConvAxis, ConvSchedule, ConvScheduleError, Dataflow, Emission, Keep, Normalization, Schedule, ScheduleError,
    Tile,
};
use serde::{Deserialize, Serialize};

use crate::mapping::{Illegal, Mapping};
use crate::problem::{ConvProblem, MatmulProblem, Problem, ReadOut};
use crate::random::Random;
use crate::reuse;

/// Which sizes a tile may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factors {
    /// Any: the last tile may be smaller.
    #[default]
    Ragged,
    /// Divisors of the dimension, as Timeloop, CoSA and DOSA take them.
    Divisors,
}

/// Which part of the space is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sizes of tiles.
    pub factors: Factors,
    /// Only the unrollers, or only single commands.
    pub emission: Option<Emission>,
    /// Only this dataflow.
    pub dataflow: Option<Dataflow>,
}

/// The mapspace of a problem.
#[derive(Clone, Debug)]
pub struct Mapspace {
    config: ValidConfig,
    problem: Problem,
    /// Each with a tile of the smallest size.
    forms: Vec<Mapping>,
    /// Sizes along each axis, ascending.
    sizes: Vec<Vec<usize>>,
}

/// How large a space is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Points: a tile and a form.
    pub points: u128,
    /// Distinct mappings.
    pub mappings: u128,
}

/// Draws until a sampler gives up.
const MOST_DRAWS: u64 = 20_000_000;

impl Mapspace {
    /// The space of a problem on a build.
    pub fn new(config: &ValidConfig, problem: &Problem, limits: &Limits) -> Self {
        let (forms, extents) = match problem {
            Problem::Matmul(matmul) => (product_forms(matmul, limits), product_sizes(config, matmul, limits)),
            Problem::Conv(conv) => (conv_forms(conv, limits), conv_sizes(config, conv, limits)),
        };
        let mut space = Self { config: config.clone(), problem: *problem, forms, sizes: extents };
        // A form that the build does not have at all.
        let possible = |form: &Mapping| !matches!(form.check(config, problem), Err(error) if is_of_form(&error));
        space.forms.retain(possible);
        space.cut_sizes();
        space
    }

    /// The problem.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The build.
    pub fn config(&self) -> &ValidConfig {
        &self.config
    }

    /// Forms, each with the smallest tile.
    pub fn forms(&self) -> &[Mapping] {
        &self.forms
    }

    /// Sizes of the tile along each axis, in elements for a convolution, in blocks for a product.
    pub fn sizes(&self) -> &[Vec<usize>] {
        &self.sizes
    }

    /// Leaves out sizes that do not fit even with all others at their smallest.
    fn cut_sizes(&mut self) {
        let smallest: Vec<usize> = self.sizes.iter().map(|sizes| sizes[0]).collect();
        for axis in 0..self.sizes.len() {
            let fits = |size: &usize| {
                let mut tile = smallest.clone();
                tile[axis] = *size;
                self.forms.iter().any(|form| self.may_fit(&with_tile(form, &tile)))
            };
            let kept: Vec<usize> = self.sizes[axis].iter().copied().filter(fits).collect();
            if !kept.is_empty() {
                self.sizes[axis] = kept;
            }
        }
    }

    /// Whether a tile, or one that is larger along other axes, may be legal.
    fn may_fit(&self, mapping: &Mapping) -> bool {
        match mapping.check(&self.config, &self.problem) {
            Err(Illegal::Matmul(ScheduleError::Scratchpad { .. })) => false,
            // With K not innermost larger tiles may need less: there are fewer of them.
            Err(Illegal::Matmul(ScheduleError::Accumulator { .. })) => {
                matches!(mapping, Mapping::Matmul(schedule) if schedule.order[2] != Axis::K)
            }
            Err(Illegal::Conv(ConvScheduleError::Scratchpad { .. } | ConvScheduleError::Accumulator { .. })) => false,
            _ => true,
        }
    }

    /// Calls `visit` with every legal tile of a form.
    pub fn tiles_of(&self, form: &Mapping, mut visit: impl FnMut(Mapping) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut tile: Vec<usize> = self.sizes.iter().map(|sizes| sizes[0]).collect();
        self.descend(form, 0, &mut tile, &mut visit)
    }

    fn descend(
        &self,
        form: &Mapping,
        axis: usize,
        tile: &mut Vec<usize>,
        visit: &mut impl FnMut(Mapping) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if axis == tile.len() {
            let mapping = with_tile(form, tile);
            return match mapping.check(&self.config, &self.problem) {
                Ok(()) => visit(mapping),
                Err(_) => ControlFlow::Continue(()),
            };
        }
        for index in 0..self.sizes[axis].len() {
            tile[axis] = self.sizes[axis][index];
            // Sizes ascend: what does not fit now does not fit later.
            if !self.may_fit(&with_tile(form, tile)) {
                break;
            }
            self.descend(form, axis + 1, tile, visit)?;
        }
        tile[axis] = self.sizes[axis][0];
        ControlFlow::Continue(())
    }

    /// Calls `visit` with every distinct mapping, until it breaks.
    pub fn for_each(&self, mut visit: impl FnMut(Mapping) -> ControlFlow<()>) -> ControlFlow<()> {
        for form in &self.forms {
            self.tiles_of(form, |mapping| match self.is_canonical(&mapping) {
                true => visit(mapping),
                false => ControlFlow::Continue(()),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// How large the space is.
    pub fn size(&self) -> Size {
        match self.problem {
            Problem::Matmul(_) => self.product_size(),
            Problem::Conv(conv) => self.conv_size(&conv),
        }
    }

    fn product_size(&self) -> Size {
        let mut size = Size::default();
        for form in &self.forms {
            let _ = self.tiles_of(form, |mapping| {
                size.points += 1;
                size.mappings += u128::from(self.is_canonical(&mapping));
                ControlFlow::Continue(())
            });
        }
        size
    }

    /// Which tiles are legal depends on neither order nor what is kept; which points are the same mapping depends only on
    /// whether there are one, two or more tiles along each axis.
    fn conv_size(&self, conv: &ConvProblem) -> Size {
        let mut size = Size::default();
        let mut of_pattern: HashMap<(Emission, bool, [usize; 7]), (u128, u128)> = HashMap::new();
        let mut seen: Vec<(Emission, bool)> = Vec::new();
        for form in &self.forms {
            let Mapping::Conv(schedule) = form else { continue };
            let hardware = (schedule.emission, schedule.double_buffer);
            if seen.contains(&hardware) {
                continue;
            }
            seen.push(hardware);
            let _ = self.tiles_of(form, |mapping| {
                let Mapping::Conv(tile) = mapping else { return ControlFlow::Continue(()) };
                let pattern = tile.tiles(&conv.shape).map(|tiles| tiles.min(3));
                let (points, mappings) =
                    of_pattern.entry((hardware.0, hardware.1, pattern)).or_insert_with(|| self.forms_of(&tile));
                size.points += *points;
                size.mappings += *mappings;
                ControlFlow::Continue(())
            });
        }
        size
    }

    /// Points and distinct mappings with this tile.
    fn forms_of(&self, tile: &ConvSchedule) -> (u128, u128) {
        let same = |form: &&Mapping| matches!(form, Mapping::Conv(f) if f.emission == tile.emission && f.double_buffer == tile.double_buffer);
        let points: Vec<Mapping> =
            self.forms.iter().filter(same).map(|form| with_tile(form, &tile_of(&Mapping::Conv(*tile)))).collect();
        (points.len() as u128, points.iter().filter(|point| self.is_canonical(point)).count() as u128)
    }

    /// Whether a point is the one that stands for its mapping.
    pub fn is_canonical(&self, mapping: &Mapping) -> bool {
        self.canonical(mapping) == *mapping
    }

    /// The point that stands for a mapping: loops of one iteration stand as far outside as their rules let them, in the
    /// default order, and `keep` is the first rule under which the same tiles are loaded.
    pub fn canonical(&self, mapping: &Mapping) -> Mapping {
        match (mapping, &self.problem) {
            (Mapping::Matmul(schedule), Problem::Matmul(matmul)) => {
                Mapping::Matmul(canonical_product(&self.config, matmul, schedule))
            }
            (Mapping::Conv(schedule), Problem::Conv(conv)) => Mapping::Conv(canonical_conv(conv, schedule)),
            _ => *mapping,
        }
    }

    /// A legal point, uniformly over all factorisations. `None` if the space is empty, or so thin that none was found in many draws.
    pub fn sample_point(&self, random: &mut Random) -> Option<Mapping> {
        self.draw(random, |_| true)
    }

    /// A mapping, uniformly over the distinct ones.
    pub fn sample_mapping(&self, random: &mut Random) -> Option<Mapping> {
        self.draw(random, |mapping| self.is_canonical(mapping))
    }

    /// Draws from all combinations of form and sizes until one is legal and wanted: uniform over those.
    fn draw(&self, random: &mut Random, wanted: impl Fn(&Mapping) -> bool) -> Option<Mapping> {
        if self.forms.is_empty() {
            return None;
        }
        let mut tile = vec![0; self.sizes.len()];
        for _ in 0..MOST_DRAWS {
            let form = &self.forms[random.below(self.forms.len())];
            for (size, sizes) in tile.iter_mut().zip(&self.sizes) {
                *size = sizes[random.below(sizes.len())];
            }
            let mapping = with_tile(form, &tile);
            if mapping.check(&self.config, &self.problem).is_ok() && wanted(&mapping) {
                return Some(mapping);
            }
        }
        None
    }
}

/// The tile of a mapping: i, j, k, or the seven sizes of a convolution in the order of [`ConvAxis::ALL`].
pub fn tile_of(mapping: &Mapping) -> Vec<usize> {
    match mapping {
        Mapping::Matmul(schedule) => vec![schedule.tile.i, schedule.tile.j, schedule.tile.k],
        Mapping::Conv(schedule) => ConvAxis::ALL.map(|axis| schedule.get(axis)).to_vec(),
    }
}

/// A form with a tile.
pub fn with_tile(form: &Mapping, tile: &[usize]) -> Mapping {
    match (form, tile) {
        (Mapping::Matmul(schedule), &[i, j, k]) => Mapping::Matmul(Schedule { tile: Tile { i, j, k }, ..*schedule }),
        (Mapping::Conv(schedule), &[batch, rows, cols, out_channels, kernel_rows, kernel_cols, in_channels]) => {
            Mapping::Conv(ConvSchedule {
                batch,
                rows,
                cols,
                out_channels,
                kernel_rows,
                kernel_cols,
                in_channels,
                ..*schedule
            })
        }
        _ => *form,
    }
}

/// Whether a rule is broken whatever the tile.
fn is_of_form(error: &Illegal) -> bool {
    match error {
        Illegal::Matmul(error) => !matches!(
            error,
            ScheduleError::Scratchpad { .. }
                | ScheduleError::Accumulator { .. }
                | ScheduleError::PartialRows { .. }
                | ScheduleError::TileSize { .. }
        ),
        Illegal::Conv(error) => !matches!(
            error,
            ConvScheduleError::Scratchpad { .. }
                | ConvScheduleError::Accumulator { .. }
                | ConvScheduleError::PoolExtent { .. }
                | ConvScheduleError::TileSize { .. }
        ),
        _ => true,
    }
}

const KEEPS: [Keep; 3] = [Keep::Gemmini, Keep::Nothing, Keep::Recent];

fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let rest: Vec<T> = items.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, item)| *item).collect();
        all.extend(permutations(&rest).into_iter().map(|mut tail| {
            tail.insert(0, *item);
            tail
        }));
    }
    all
}

fn product_forms(problem: &MatmulProblem, limits: &Limits) -> Vec<Mapping> {
    let mut forms = Vec::new();
    let normalizations = match problem.read_out {
        ReadOut::LayerNorm => vec![Normalization::Fused, Normalization::Separate],
        _ => vec![Normalization::Fused],
    };
    let both = [Dataflow::Ws, Dataflow::Os].into_iter().filter(|d| limits.dataflow.is_none_or(|only| only == *d));
    for dataflow in both {
        for emission in [Emission::Unroller, Emission::Commands] {
            if limits.emission.is_some_and(|only| only != emission) {
                continue;
            }
            for order in PRODUCT_ORDERS {
                for double_buffer in [true, false] {
                    for keep in KEEPS {
                        for normalization in normalizations.iter().copied() {
                            let tile = Tile { i: 1, j: 1, k: 1 };
                            let form = Schedule { dataflow, tile, order, double_buffer, emission, normalization, keep };
                            forms.push(Mapping::Matmul(form));
                        }
                    }
                }
            }
        }
    }
    forms
}

fn sizes_up_to(extent: usize, factors: Factors) -> Vec<usize> {
    (1..=extent.max(1)).filter(|size| factors == Factors::Ragged || extent.is_multiple_of(*size)).collect()
}

fn product_sizes(config: &ValidConfig, problem: &MatmulProblem, limits: &Limits) -> Vec<Vec<usize>> {
    let dim = config.dim() as usize;
    [problem.m, problem.n, problem.k].map(|extent| sizes_up_to(extent.div_ceil(dim), limits.factors)).to_vec()
}

fn conv_forms(problem: &ConvProblem, limits: &Limits) -> Vec<Mapping> {
    let base = ConvSchedule {
        batch: 1,
        rows: 1,
        cols: 1,
        out_channels: 1,
        kernel_rows: 1,
        kernel_cols: 1,
        in_channels: 1,
        emission: Emission::Unroller,
        order: ConvAxis::ALL,
        keep: Keep::Gemmini,
        double_buffer: true,
    };
    let mut forms = Vec::new();
    let keeps = if problem.shape.depthwise { &KEEPS[..1] } else { &KEEPS[..] };
    for (emission, double_buffer) in
        [(Emission::Unroller, true), (Emission::Commands, true), (Emission::Commands, false)]
    {
        let other = limits.emission.is_some_and(|only| only != emission) || limits.dataflow == Some(Dataflow::Os);
        if other {
            continue;
        }
        for outer in permutations(&ConvAxis::ALL[..4]) {
            for sums in permutations(&ConvAxis::ALL[4..]) {
                let order = std::array::from_fn(|i| if i < 4 { outer[i] } else { sums[i - 4] });
                for keep in keeps.iter().copied() {
                    forms.push(Mapping::Conv(ConvSchedule { emission, order, keep, double_buffer, ..base }));
                }
            }
        }
    }
    forms
}

fn conv_sizes(config: &ValidConfig, problem: &ConvProblem, limits: &Limits) -> Vec<Vec<usize>> {
    let dim = config.dim() as usize;
    let extents = ConvSchedule::extents(&problem.shape);
    ConvAxis::ALL
        .iter()
        .map(|&axis| {
            let extent = extents[axis as usize];
            match axis {
                ConvAxis::OutChannels if problem.shape.depthwise => vec![1],
                // Channels go in blocks.
                ConvAxis::OutChannels | ConvAxis::InChannels => sizes_up_to(extent.div_ceil(dim), limits.factors)
                    .into_iter()
                    .map(|blocks| (blocks * dim).min(extent))
                    .collect(),
                _ => sizes_up_to(extent, limits.factors),
            }
        })
        .collect()
}

/// The first of the legal orders in which the loops with several iterations stand as in this one.
fn canonical_order<T: Copy + PartialEq>(order: &[T], several: impl Fn(T) -> bool, all: &[Vec<T>]) -> Vec<T> {
    let loops = |order: &[T]| order.iter().copied().filter(|axis| several(*axis)).collect::<Vec<_>>();
    let own = loops(order);
    all.iter().find(|other| loops(other) == own).cloned().unwrap_or_else(|| order.to_vec())
}

/// Loop orders of a product, those with K innermost first: that is what the unroller and normalized rows need.
const PRODUCT_ORDERS: [[Axis; 3]; 6] = {
    use Axis::{I, J, K};
    [[I, J, K], [J, I, K], [I, K, J], [J, K, I], [K, I, J], [K, J, I]]
};

fn canonical_product(config: &ValidConfig, problem: &MatmulProblem, schedule: &Schedule) -> Schedule {
    let tiles = schedule.tiles(config, &problem.shape());
    let several = |axis: Axis| match axis {
        Axis::I => tiles.i > 1,
        Axis::J => tiles.j > 1,
        Axis::K => tiles.k > 1,
    };
    let order = canonical_order(&schedule.order, several, &PRODUCT_ORDERS.map(|order| order.to_vec()));
    let mut canonical = Schedule { order: [order[0], order[1], order[2]], ..*schedule };
    let loads = reuse::of_product(schedule, &tiles);
    let same = |keep: &Keep| reuse::of_product(&Schedule { keep: *keep, ..canonical }, &tiles) == loads;
    canonical.keep = KEEPS.into_iter().find(same).unwrap_or(schedule.keep);
    canonical
}

fn canonical_conv(problem: &ConvProblem, schedule: &ConvSchedule) -> ConvSchedule {
    let tiles = schedule.tiles(&problem.shape);
    // A stable sort: what has one tile goes outside, in the default order; the rest stays as it is.
    let part = |axes: &[ConvAxis]| {
        let (several, mut single): (Vec<ConvAxis>, Vec<_>) = axes.iter().partition(|axis| tiles[**axis as usize] > 1);
        single.sort();
        single.into_iter().chain(several).collect::<Vec<_>>()
    };
    let (outer, sums) = (part(&schedule.order[..4]), part(&schedule.order[4..]));
    let order = std::array::from_fn(|i| if i < 4 { outer[i] } else { sums[i - 4] });
    let mut canonical = ConvSchedule { order, ..*schedule };
    let loads = reuse::of_convolution(schedule, &problem.shape);
    let same = |keep: &Keep| reuse::of_convolution(&ConvSchedule { keep: *keep, ..canonical }, &problem.shape) == loads;
    canonical.keep = KEEPS.into_iter().find(same).unwrap_or(schedule.keep);
    canonical
}
