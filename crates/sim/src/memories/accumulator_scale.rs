//! Activation, scaling and clipping of accumulator rows on their way out (`AccumulatorScale.scala`).
//!
//! | build                      | row accepted in t is at the output in           | rows inside           |
//! |----------------------------|-------------------------------------------------|-----------------------|
//! | one unit a column          | t + latency: arithmetic in front of a pipeline   | latency               |
//! | U units (four of them norm)| t + lanes a unit + latency + 2, alone            | 3                     |
//!
//! The raw row passes beside the arithmetic, and both forms are at the output. Which one goes to main memory is not the row's
//! choice but that of the store that it leaves for, which may be another one than it was read for (`normalizer`).
//!
//! | port | dir | shape | valid when | back pressure |
//! |---|---|---|---|---|
//! | `in` | in | DIM x 32 bit, statistics, function | a row leaves the normalizer | [`AccumulatorScale::in_ready`] |
//! | `out` | out | DIM x 8 bit, and the row itself | [`AccumulatorScale::out`] | the queue in front of the writer |

use pollux_isa::GemminiConfig;
use pollux_isa::config::ScaleUnits as UnitCount;
use pollux_isa::values::Activation;
use pollux_numerics::hardfloat::ONE;
use pollux_numerics::{IexpVariant, Readout, Statistics, read_row};

use crate::memories::accumulator_mem::{AccumulatorReadResp, ReadoutRequest, iexp_variant};
use crate::memories::normalizer::NormalizedOutput;
use crate::memories::scale_units::{ENTRIES, ScaleUnits};
use crate::observation::event::Port;
use crate::parts::canonical::{Canon, Canonical};
use crate::parts::pipeline::Pipeline;
use crate::parts::row::{AccLanes, SpadLanes};
use crate::parts::values::{Full, Values};

/// Units with norm functions in a build with fewer units than columns (`num_units_with_norm`).
const NORM_UNITS: usize = 4;

/// A row at the output (`AccumulatorScaleResp`), with [`AccumulatorScale::data`] and [`AccumulatorScale::full_data`].
#[derive(Clone, Copy, Debug, Canonical)]
pub struct AccumulatorScaleResp<V: Values = Full> {
    #[canon(skip = "values")]
    row: AccLanes<V>,
    /// The row's own function. It is applied as the row leaves, and only if its small form is asked for.
    #[canon(skip = "values")]
    function: V::Of<Readout>,
    /// Who read it (`fromDMA`).
    pub port: Port,
}

#[derive(Clone, Debug, Canonical)]
enum Units<V: Values> {
    PerColumn(Pipeline<AccumulatorScaleResp<V>>),
    Shared(Box<SharedUnits<V>>),
}

/// A build with fewer units than columns.
#[derive(Clone, Debug)]
struct SharedUnits<V: Values> {
    units: ScaleUnits,
    /// Row of each entry, and whether its activation needs a norm unit.
    rows: [Option<(AccumulatorScaleResp<V>, bool)>; ENTRIES],
    policy: [u8; 1 << ENTRIES],
}

impl<V: Values> Canonical for SharedUnits<V> {
    fn canonical(&self, canon: &mut Canon) {
        let Self { units, rows, policy: _ } = self;
        units.canonical_with(rows, canon);
    }
}

/// The unit.
#[derive(Clone, Debug, Canonical)]
pub struct AccumulatorScale<V: Values = Full> {
    units: Units<V>,
    #[canon(skip = "constant")]
    dim: usize,
    #[canon(skip = "constant")]
    arithmetic: ReadoutArithmetic,
    #[canon(skip = "constant")]
    has_small_width: bool,
    #[canon(skip = "constant")]
    has_full_width: bool,
}

/// Which functions the build has.
#[derive(Clone, Copy, Debug)]
struct ReadoutArithmetic {
    has_scale: bool,
    has_nonlinear_activations: bool,
    has_normalizations: bool,
    variant: IexpVariant,
}

impl<V: Values> AccumulatorScale<V> {
    /// The unit of a configuration, empty. Without `acc_scale_args` there is no multiplier and one register.
    pub fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        let latency = config.acc_scale_args.map_or(1, |args| args.latency);
        let units = match config.acc_scale_args.map(|args| args.units) {
            Some(UnitCount::Count(count)) => {
                let others = (count as usize).saturating_sub(NORM_UNITS);
                let policy = assignment_policy(count);
                let units = ScaleUnits::grouped(NORM_UNITS, others, dim, latency as usize, &policy);
                Units::Shared(Box::new(SharedUnits { units, rows: [None; ENTRIES], policy }))
            }
            Some(UnitCount::PerColumn) | None => Units::PerColumn(Pipeline::new(latency)),
        };
        let arithmetic = ReadoutArithmetic {
            has_scale: config.acc_scale_args.is_some(),
            has_nonlinear_activations: config.has_nonlinear_activations,
            has_normalizations: config.has_normalizations && config.has_nonlinear_activations,
            variant: iexp_variant(config),
        };
        Self {
            units,
            dim,
            arithmetic,
            has_small_width: config.acc_read_small_width,
            has_full_width: config.acc_read_full_width,
        }
    }

    /// True if no row is inside.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.units {
            Units::PerColumn(pipeline) => pipeline.is_empty(),
            Units::Shared(shared) => shared.units.is_empty(),
        }
    }

    /// The row at the output.
    #[inline]
    pub fn out(&self) -> Option<&AccumulatorScaleResp<V>> {
        match &self.units {
            Units::PerColumn(pipeline) => pipeline.out(),
            Units::Shared(shared) => shared.rows[shared.units.done()?].as_ref().map(|(resp, _)| resp),
        }
    }

    /// A row in its scaled and clipped form (`data`); the wires of a build without it are tied to 0.
    pub fn data(&self, resp: &AccumulatorScaleResp<V>) -> SpadLanes<V> {
        let mut data = SpadLanes::default();
        if self.has_small_width {
            let row = &resp.row.0[..self.dim];
            V::update(&mut data.0[..self.dim], |data, sight| {
                read_row(V::see(row, sight), &V::get(&resp.function, sight), data);
            });
        }
        data
    }

    /// A row as it was read (`full_data`); the wires of a build without it are tied to 0.
    pub fn full_data(&self, resp: &AccumulatorScaleResp<V>) -> AccLanes<V> {
        if self.has_full_width { resp.row } else { AccLanes::default() }
    }

    /// `in.ready`, given whether the output is taken.
    #[inline]
    pub fn in_ready(&self, out_taken: bool) -> bool {
        match &self.units {
            Units::PerColumn(pipeline) => pipeline.in_ready(out_taken),
            Units::Shared(shared) => {
                let units = &shared.units;
                !units.is_valid(units.tail()) || (units.tail_is_head() && out_taken)
            }
        }
    }

    /// Clock edge: `input` was accepted, the output leaves iff `out_taken`. Returns true if anything changed.
    #[must_use]
    pub fn tick(&mut self, input: Option<NormalizedOutput<'_, V>>, out_taken: bool) -> bool {
        if input.is_none() && self.is_empty() {
            return false;
        }
        let accepted = input.is_some();
        let row = input.as_ref().map(|input| {
            let &AccumulatorReadResp { data: row, readout } = input.resp;
            let arithmetic = self.arithmetic;
            let function = V::of(|sight| arithmetic.readout(&readout, &V::get(&input.statistics, sight)));
            AccumulatorScaleResp { row, function, port: readout.port }
        });
        match &mut self.units {
            Units::PerColumn(pipeline) => {
                let moved = pipeline.moves(out_taken);
                pipeline.tick(row, out_taken);
                moved || accepted
            }
            Units::Shared(shared) => {
                let SharedUnits { units, rows, policy } = &mut **shared;
                let norm = (0..ENTRIES).filter(|&e| units.is_valid(e) && rows[e].is_some_and(|(_, norm)| norm));
                let assigned = policy[norm.fold(0, |mask, e| mask | 1 << e)];
                if let (Some(row), Some(input)) = (row, &input) {
                    rows[units.tail()] = Some((row, input.resp.readout.activation.needs_normalizations()));
                }
                units.tick(out_taken, accepted.then_some(false), assigned)
            }
        }
    }
}

impl ReadoutArithmetic {
    /// The function of a row. Activations that the build lacks pass the value on.
    fn readout(&self, request: &ReadoutRequest, statistics: &Statistics) -> Readout {
        let factor = |scale| if self.has_scale { scale } else { ONE };
        let scale = factor(request.scale);
        let constants = request.constants;
        match request.activation {
            Activation::Relu if self.has_nonlinear_activations => Readout::Relu { scale },
            Activation::Layernorm if self.has_normalizations => {
                Readout::LayerNorm { mean: statistics.mean, inv_stddev: factor(statistics.inv_stddev) }
            }
            Activation::Igelu if self.has_normalizations => {
                Readout::Igelu { scale, qb: constants.qb, qc: constants.qc }
            }
            Activation::Softmax if self.has_normalizations => Readout::Softmax {
                max: statistics.max,
                inv_sum_exp: factor(statistics.inv_sum_exp),
                constants,
                variant: self.variant,
            },
            _ => Readout::None { scale },
        }
    }
}

/// Which entries the norm units serve, for each mask of entries that need them (`static_assignment_policy`).
///
/// If the entries that need them are at least as large a part of all entries as the norm units are of all units, those entries;
/// else also others, from the highest entry down, until the parts are equal (rounded).
fn assignment_policy(units: u32) -> [u8; 1 << ENTRIES] {
    let unit_ratio = NORM_UNITS as f32 / units as f32;
    std::array::from_fn(|norm| {
        let count = norm.count_ones();
        if count as f32 / ENTRIES as f32 >= unit_ratio {
            return norm as u8;
        }
        // `Math.round` rounds halves up.
        let wanted = (unit_ratio * ENTRIES as f32 + 0.5).floor() as u32;
        let mut assigned = norm as u8;
        for entry in (0..ENTRIES).rev() {
            if assigned.count_ones() < wanted {
                assigned |= 1 << entry;
            }
        }
        assigned
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resp(value: i32, activation: Activation) -> AccumulatorReadResp {
        let readout = ReadoutRequest { activation, scale: ONE, constants: Default::default(), port: Port::Dma };
        AccumulatorReadResp { data: AccLanes([value; 64]), readout }
    }

    fn output(resp: &AccumulatorReadResp) -> NormalizedOutput<'_> {
        NormalizedOutput { resp, statistics: Statistics::default() }
    }

    fn with_units(units: u32) -> AccumulatorScale {
        let mut config = GemminiConfig::default16();
        config.acc_scale_args = config.acc_scale_args.map(|mut args| {
            args.units = UnitCount::Count(units);
            args
        });
        AccumulatorScale::new(&config)
    }

    /// Cycle in which a row accepted in cycle 0 is at the output.
    fn latency(unit: &mut AccumulatorScale, row: &AccumulatorReadResp) -> u32 {
        let _ = unit.tick(Some(output(row)), false);
        (1..100).find(|_| unit.out().is_some() || !unit.tick(None, false)).unwrap_or(0)
    }

    #[test]
    fn a_row_takes_the_latency_of_its_registers_and_has_both_forms_at_the_output() {
        let mut unit = AccumulatorScale::new(&GemminiConfig::default16());
        assert_eq!(latency(&mut unit, &resp(-300, Activation::Relu)), 8);
        let out = unit.out().expect("a row");
        assert_eq!(unit.data(out), SpadLanes::default());
        assert_eq!(unit.full_data(out), AccLanes([-300; 64]));
        let mut unit = AccumulatorScale::new(&GemminiConfig::default16());
        latency(&mut unit, &resp(300, Activation::None));
        let row = unit.data(unit.out().expect("a row"));
        assert_eq!((row.0[0], row.0[15], row.0[16]), (127, 127, 0));
    }

    #[test]
    fn the_wires_of_a_form_that_is_not_built_are_zero() {
        let small = GemminiConfig { acc_read_full_width: false, ..GemminiConfig::default16() };
        let full = GemminiConfig { acc_read_small_width: false, ..GemminiConfig::default16() };
        let outputs = [small, full].map(|config| {
            let mut unit = AccumulatorScale::new(&config);
            latency(&mut unit, &resp(9, Activation::None));
            let out = unit.out().expect("a row");
            (unit.data(out).0[0], unit.full_data(out).0[0])
        });
        assert_eq!(outputs, [(9, 0), (0, 9)]);
    }

    #[test]
    fn eight_units_serve_a_row_in_four_cycles_and_ten_for_their_registers() {
        assert_eq!(latency(&mut with_units(8), &resp(1, Activation::None)), 4 + 8 + 2);
        assert_eq!(latency(&mut with_units(8), &resp(1, Activation::Igelu)), 4 + 8 + 2);
    }

    #[test]
    fn norm_units_also_take_other_entries_to_share_the_load() {
        // 4 of 8 units are norm units: round(1.5) = 2 of the 3 entries.
        assert_eq!(assignment_policy(8), [0b110, 0b101, 0b110, 0b011, 0b110, 0b101, 0b110, 0b111]);
        // 4 of 16: round(0.75) = 1 entry.
        assert_eq!(assignment_policy(16), [0b100, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(assignment_policy(4), [0b111; 8]);
    }
}
