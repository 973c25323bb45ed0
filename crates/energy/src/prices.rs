//! [`Prices`]: what an event costs on a configuration.
//!
//! | action | events | price |
//! |---|---|---|
//! | `dram` read, write | bytes at the memory port | 8 x `dram.*` a bit |
//! | `scratchpad` read, write | rows | a bank access of DIM elements |
//! | `accumulator` read | rows read for stores, and by accumulating writes | a bank access of DIM elements |
//! | `accumulator` write | rows overwritten, and accumulating writes | a bank access of DIM elements |
//! | `accumulator` add | elements of accumulating writes | `units.accumulator_add`, or a 32-bit add |
//! | `array` mac | multiply-accumulates of elements that take part | `array.mac` |
//! | `array` zero_mac | the other DIM x DIM a row: padding, flushes, passes that only preload | `array.zero_mac` |
//! | `array` register | rows through the array | `array.register_row`, or bits of the mesh's registers x `array.register` |
//! | `array` weight_read | multiply-accumulates | `array.weight_read` |
//! | `array` weight_write | elements preloaded | `array.weight_write` |
//! | `mvin` scale | elements multiplied on their way in | a float32 multiply |
//! | `normalizer` sum, variance, max, exp | elements | see below |
//! | `readout` none ... softmax | elements | see below |
//! | `control` command, host_command, tlb_lookup, tlb_walk | commands in the reservation station, of the host; requests, walks | `control.*` |
//!
//! Elements of the normalizer and the scale unit cost the 32-bit operations of `Normalizer.scala` and `AccumulatorScale.scala`,
//! unless the table has a figure of its own for them (`units.*`): a sum an add; a variance two adds and a multiply; a maximum a
//! comparison; an exponential five adds and three multiplies (of revision 8c3f992, whose exponential is GELU's polynomial: five
//! adds, two multiplies, two comparisons) and an add for its sum; a read-out its float32 multiply, before that for ReLU a
//! comparison, for LayerNorm an add, for GELU four adds, two multiplies and two comparisons, for softmax the exponential.
//! Dividers and the square root, used once a row of statistics, are left out.

use pollux_isa::GemminiConfig;
use pollux_isa::config::{Dataflow, ExpVariant, ScaleArgs, ScaleUnits};
use pollux_sim::counts::EventCounts;
use serde::Serialize;

use crate::error::EnergyError;
use crate::figure::Node;
use crate::memory::{Memory, MemoryPrice, Size};
use crate::table::EnergyTable;

/// A part of the accelerator whose energy stands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Main memory.
    Dram,
    /// Scratchpad.
    Scratchpad,
    /// Accumulator with its adders.
    Accumulator,
    /// Systolic array.
    Array,
    /// Scaler of loaded rows.
    Mvin,
    /// Normalization unit.
    Normalizer,
    /// Scale and activation unit.
    Readout,
    /// Commands and translation.
    Control,
    /// Static power.
    Leakage,
}

impl Component {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Dram,
        Self::Scratchpad,
        Self::Accumulator,
        Self::Array,
        Self::Mvin,
        Self::Normalizer,
        Self::Readout,
        Self::Control,
        Self::Leakage,
    ];

    /// Name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dram => "dram",
            Self::Scratchpad => "scratchpad",
            Self::Accumulator => "accumulator",
            Self::Array => "array",
            Self::Mvin => "mvin",
            Self::Normalizer => "normalizer",
            Self::Readout => "readout",
            Self::Control => "control",
            Self::Leakage => "leakage",
        }
    }
}

/// Something that costs energy each time.
#[derive(Debug)]
pub struct Action {
    /// Whose action it is.
    pub component: Component,
    /// Name.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Key of the table's figure for one of it, if there is one figure.
    pub(crate) key: &'static str,
    /// How many, given DIM.
    pub(crate) count: fn(&EventCounts, u64) -> u64,
}

macro_rules! actions {
    ($($component:ident $name:ident $unit:literal $key:literal $count:expr;)*) => {
        /// All actions, by component.
        pub(crate) const ACTIONS: &[Action] = &[$(Action {
            component: Component::$component,
            name: stringify!($name),
            unit: $unit,
            key: $key,
            count: $count,
        }),*];
    };
}

#[rustfmt::skip]
actions! {
    Dram read "byte" "dram.read" |c, _| c.memory.read_bytes;
    Dram write "byte" "dram.write" |c, _| c.memory.written_bytes;
    Scratchpad read "row" "" |c, _| c.scratchpad.reads();
    Scratchpad write "row" "" |c, _| c.scratchpad.writes();
    Accumulator read "row" "" |c, _| c.accumulator.reads() + c.accumulator.accumulates();
    Accumulator write "row" "" |c, _| c.accumulator.writes() + c.accumulator.accumulates();
    Accumulator add "element" "units.accumulator_add" |c, dim| dim * c.accumulator.accumulates();
    Array mac "MAC" "array.mac" |c, _| c.mesh.macs;
    Array zero_mac "MAC" "array.zero_mac" |c, dim| (dim * dim * c.mesh.rows).saturating_sub(c.mesh.macs);
    Array register "row" "array.register_row" |c, _| c.mesh.rows;
    Array weight_read "element" "array.weight_read" |c, _| c.mesh.macs;
    Array weight_write "element" "array.weight_write" |c, _| c.mesh.preloaded;
    Mvin scale "element" "units.mvin_scale" |c, dim| dim * (c.mvin.narrow + c.mvin.wide);
    Normalizer sum "element" "units.normalizer_sum" |c, dim| dim * (c.normalizer.sum + c.normalizer.mean);
    Normalizer variance "element" "units.normalizer_variance" |c, dim| dim * (c.normalizer.variance + c.normalizer.inv_stddev);
    Normalizer max "element" "units.normalizer_max" |c, dim| dim * c.normalizer.max;
    Normalizer exp "element" "units.normalizer_exp" |c, dim| dim * (c.normalizer.sum_exp + c.normalizer.inv_sum_exp);
    Readout none "element" "units.readout_none" |c, dim| dim * c.readout.none;
    Readout relu "element" "units.readout_relu" |c, dim| dim * c.readout.relu;
    Readout layernorm "element" "units.readout_layernorm" |c, dim| dim * c.readout.layernorm;
    Readout igelu "element" "units.readout_igelu" |c, dim| dim * c.readout.igelu;
    Readout softmax "element" "units.readout_softmax" |c, dim| dim * c.readout.softmax;
    Control command "command" "control.command" |c, _| c.commands.load + c.commands.execute + c.commands.store;
    Control host_command "command" "control.host_command" |c, _| c.commands.host;
    Control tlb_lookup "request" "control.tlb_lookup" |c, _| c.tlb.lookups;
    Control tlb_walk "walk" "control.tlb_walk" |c, _| c.tlb.walks;
}

/// What an action costs.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// The action.
    pub action: &'static Action,
    /// pJ each; none if the table has no figure for it.
    pub pj: Option<f64>,
}

/// The area of a component.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Area {
    /// The component.
    pub component: Component,
    /// um2; none if the table has no figure for it.
    pub um2: Option<f64>,
    /// What is in it.
    pub what: &'static str,
}

/// What events cost on a configuration, with a table.
#[derive(Clone, Debug)]
pub struct Prices {
    /// Name of the table.
    pub table: String,
    /// What the table is.
    pub title: String,
    /// Technology node of its logic.
    pub node: Node,
    /// Why figures of another node stand in it, if some do.
    pub mixed_nodes: Option<String>,
    /// Name of the configuration.
    pub config: String,
    /// Rows and columns of the array.
    pub dim: u32,
    /// Price of each action, all actions in order.
    pub prices: Vec<Price>,
    /// Static power by component, mW; what the table has no figure for is left out.
    pub leakage_mw: Vec<(Component, f64)>,
    /// Areas.
    pub areas: Vec<Area>,
}

impl EnergyTable {
    /// What events cost on a configuration.
    ///
    /// # Errors
    /// [`EnergyError::Memory`]: the table has no figure for a memory of this size.
    pub fn prices(&self, config: &GemminiConfig) -> Result<Prices, EnergyError> {
        let memories = Memories::new(self, config)?;
        let prices = ACTIONS.iter().map(|action| Price { action, pj: self.price(action, config, &memories) }).collect();
        Ok(Prices {
            table: self.name.clone(),
            title: self.title.clone(),
            node: self.node,
            mixed_nodes: self.mixed_nodes.clone(),
            config: config.name.clone(),
            dim: config.dim(),
            prices,
            leakage_mw: self.leakage(config, &memories),
            areas: self.areas(config, &memories),
        })
    }

    fn price(&self, action: &Action, config: &GemminiConfig, memories: &Memories) -> Option<f64> {
        match (action.component, action.name) {
            (Component::Dram, _) => self.value(action.key).map(|bit| 8.0 * bit),
            (Component::Scratchpad, "read") => Some(memories.scratchpad.read),
            (Component::Scratchpad, _) => Some(memories.scratchpad.write),
            (Component::Accumulator, "read") => Some(memories.accumulator.read),
            (Component::Accumulator, "write") => Some(memories.accumulator.write),
            (Component::Array, "register") => {
                self.value(action.key).or_else(|| Some(self.value("array.register")? * register_bits(config)))
            }
            _ => self.value(action.key).or_else(|| self.composed(action, config)),
        }
    }

    /// The price of an element, of the operations that it takes.
    fn composed(&self, action: &Action, config: &GemminiConfig) -> Option<f64> {
        let [adds, multiplies, comparisons, scales] = operations(action, config)?;
        let parts = [
            (adds, "operations.add32"),
            (multiplies, "operations.multiply32"),
            (comparisons, "operations.compare32"),
            (scales, "operations.multiply_float32"),
        ];
        let used = parts.into_iter().filter(|(number, _)| *number > 0);
        used.map(|(number, key)| Some(f64::from(number) * self.value(key)?)).sum()
    }

    fn leakage(&self, config: &GemminiConfig, memories: &Memories) -> Vec<(Component, f64)> {
        let array = self.value("leakage.mac").map(|mw| mw * macs(config));
        let parts = [
            (Component::Scratchpad, memories.scratchpad.leakage),
            (Component::Accumulator, memories.accumulator.leakage),
            (Component::Array, array),
        ];
        parts.into_iter().filter_map(|(component, mw)| Some((component, mw?))).collect()
    }

    fn areas(&self, config: &GemminiConfig, memories: &Memories) -> Vec<Area> {
        let registers = self.registers_area(config);
        let array = self.value("area.mac").map(|mac| mac * macs(config) + registers.unwrap_or(0.0));
        let adders = self.value("area.add32").map(|add| add * f64::from(config.dim()));
        let multipliers = |args| match multipliers(args, config) {
            0 => Some(0.0),
            units => self.value("area.multiply_float32").map(|area| area * f64::from(units)),
        };
        let area = |component, um2, what| Area { component, um2, what };
        vec![
            area(Component::Scratchpad, memories.scratchpad.area, "banks"),
            area(Component::Accumulator, memories.accumulator.area, "banks"),
            area(Component::Accumulator, adders, "adders"),
            area(Component::Array, array, if registers.is_some() { "MAC units and registers" } else { "MAC units" }),
            area(Component::Mvin, multipliers(config.mvin_scale_args), "multipliers"),
            area(Component::Readout, multipliers(config.acc_scale_args), "multipliers"),
        ]
    }
}

impl EnergyTable {
    /// um2 of the array's registers.
    pub(crate) fn registers_area(&self, config: &GemminiConfig) -> Option<f64> {
        self.value("area.registers").or_else(|| Some(self.value("area.register")? * register_bits(config)))
    }
}

/// Multipliers of a scaler.
pub(crate) fn multipliers(args: Option<ScaleArgs>, config: &GemminiConfig) -> u32 {
    match args.map(|args| args.units) {
        None => 0,
        Some(ScaleUnits::Count(units)) => units,
        Some(ScaleUnits::PerColumn) => config.dim(),
    }
}

fn macs(config: &GemminiConfig) -> f64 {
    f64::from(config.dim()).powi(2)
}

/// Bits of the array's registers, each of which takes a new value with each row (`PE.scala`, `Mesh.scala`): between the tiles A,
/// B and C, in each processing element the one that propagates.
fn register_bits(config: &GemminiConfig) -> f64 {
    let stays = if config.dataflow == Dataflow::Ws { config.spatial_array_input_type } else { config.acc_type };
    let (dim, output) = (u64::from(config.dim()), u64::from(config.spatial_array_output_type.bits));
    let a = dim * u64::from(config.mesh_columns) * u64::from(config.spatial_array_input_type.bits);
    let b_and_c = 2 * dim * u64::from(config.mesh_rows) * output;
    (a + b_and_c + dim * dim * u64::from(stays.bits)) as f64
}

/// 32-bit adds, multiplies and comparisons, and float32 multiplies, of an element; none if the action is not made of these.
fn operations(action: &Action, config: &GemminiConfig) -> Option<[u32; 4]> {
    let scale = u32::from(config.acc_scale_args.is_some());
    let gelu = [4, 2, 2, 0];
    let exp = if config.softmax_exp == ExpVariant::Released { [4, 3, 0, 0] } else { gelu };
    let plus = |a: [u32; 4], b: [u32; 4]| std::array::from_fn(|i| a[i] + b[i]);
    // The maximum is subtracted first.
    let exp = plus(exp, [1, 0, 0, 0]);
    let activations = config.has_nonlinear_activations;
    let normalizations = activations && config.has_normalizations;
    let read_out = |built: bool, body: [u32; 4]| Some(plus(if built { body } else { [0; 4] }, [0, 0, 0, scale]));
    match (action.component, action.name) {
        (Component::Accumulator, "add") => Some([1, 0, 0, 0]),
        (Component::Mvin, _) => Some([0, 0, 0, 1]),
        // Without the unit rows pass by a queue.
        (Component::Normalizer, _) if !config.has_normalizations => Some([0; 4]),
        (Component::Normalizer, "sum") => Some([1, 0, 0, 0]),
        (Component::Normalizer, "variance") => Some([2, 1, 0, 0]),
        (Component::Normalizer, "max") => Some([0, 0, 1, 0]),
        (Component::Normalizer, "exp") => Some(plus(exp, [1, 0, 0, 0])),
        (Component::Readout, "none") => read_out(true, [0; 4]),
        (Component::Readout, "relu") => read_out(activations, [0, 0, 1, 0]),
        (Component::Readout, "layernorm") => read_out(normalizations, [1, 0, 0, 0]),
        (Component::Readout, "igelu") => read_out(normalizations, gelu),
        (Component::Readout, "softmax") => read_out(normalizations, exp),
        _ => None,
    }
}

/// Both local memories of a configuration.
pub(crate) struct Memories {
    pub(crate) scratchpad: MemoryPrice,
    pub(crate) accumulator: MemoryPrice,
}

impl Memories {
    fn new(table: &EnergyTable, config: &GemminiConfig) -> Result<Self, EnergyError> {
        let price = |name, memory: &Memory, row_bytes: u32, entries: u32, banks| {
            let bank_kib = f64::from(row_bytes) * f64::from(entries) / 1024.0;
            let size = Size { row_bits: 8 * row_bytes, bank_kib, banks, columns: config.dim() };
            memory.price(&size).map_err(|reason| EnergyError::Memory {
                table: table.name.clone(),
                memory: name,
                config: config.name.clone(),
                kib: bank_kib.to_string(),
                width: size.row_bits,
                reason,
            })
        };
        let (sp, acc) = (config.sp_bank_entries(), config.acc_bank_entries());
        Ok(Self {
            scratchpad: price("scratchpad", &table.scratchpad, config.sp_row_bytes(), sp, config.sp_banks)?,
            accumulator: price("accumulator", &table.accumulator, config.acc_row_bytes(), acc, config.acc_banks)?,
        })
    }
}

impl Prices {
    /// The price of an action, if there is one.
    pub fn of(&self, component: Component, name: &str) -> Option<f64> {
        let found = self.prices.iter().find(|price| (price.action.component, price.action.name) == (component, name));
        found.and_then(|price| price.pj)
    }

    /// Static power in mW, of what the table has figures for.
    pub fn leakage(&self) -> f64 {
        self.leakage_mw.iter().map(|(_, mw)| mw).sum()
    }

    /// pJ of these counts in so many cycles: what [`EnergyReport`](crate::EnergyReport) divides up.
    pub fn energy_pj(&self, counts: &EventCounts, cycles: u64, clock_hz: f64) -> f64 {
        let dim = u64::from(self.dim);
        let dynamic = self.prices.iter().filter_map(|price| Some(price.pj? * (price.action.count)(counts, dim) as f64));
        dynamic.sum::<f64>() + leakage_pj(self.leakage(), cycles, clock_hz)
    }
}

/// pJ of a static power in so many cycles.
pub(crate) fn leakage_pj(mw: f64, cycles: u64, clock_hz: f64) -> f64 {
    // 1 mW for 1 s is 10^9 pJ.
    mw * 1e9 * cycles as f64 / clock_hz
}
