//! [`EnergyReport`]: the energy of a run, by component and by operation.

use pollux_sim::counts::EventCounts;
use serde::Serialize;

use crate::figure::Node;
use crate::prices::{Area, Component, Prices, leakage_pj};

/// An operation with its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Name.
    pub name: String,
    /// Cycles.
    pub cycles: u64,
    /// Counts.
    pub counts: EventCounts,
}

/// The energy of a run. All figures are those of one table at one clock; both are named in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnergyReport {
    /// Name of the table.
    pub table: String,
    /// What the table is.
    pub title: String,
    /// Technology node of its logic.
    pub node: Node,
    /// Why figures of another node stand in it, if some do.
    pub mixed_nodes: Option<String>,
    /// Configuration.
    pub config: String,
    /// Clock in Hz.
    pub clock_hz: f64,
    /// The whole run.
    pub total: EnergyFigures,
    /// By operation, in the run's order. They add up to the total.
    pub operations: Vec<EnergyFigures>,
    /// What occurred and has no figure in the table.
    pub not_included: Vec<Unpriced>,
    /// What no table has a figure for.
    pub never_included: &'static str,
    /// Areas by component.
    pub areas: Vec<Area>,
    /// Static power in mW that is included, 0 if the table has none.
    pub leakage_mw: f64,
}

/// What is never counted.
const NEVER: &str =
    "caches in front of main memory (each byte at the port is one of DRAM), wires, clock tree, the host processor";

/// The energy of an operation, or of all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EnergyFigures {
    /// Operation.
    pub name: String,
    /// Cycles.
    pub cycles: u64,
    /// The same in seconds.
    pub seconds: f64,
    /// Multiply-accumulates of elements that take part.
    pub macs: u64,
    /// Energy in pJ.
    pub energy_pj: f64,
    /// Energy a multiply-accumulate in pJ; none if there are none.
    pub energy_per_mac_pj: Option<f64>,
    /// Energy-delay product in J s.
    pub edp_js: f64,
    /// Energy-delay product in mJ cycles.
    pub edp_mj_cycles: f64,
    /// By component, those that used some.
    pub components: Vec<ComponentEnergy>,
    /// How often each part was used.
    pub counts: EventCounts,
}

/// The energy of a component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentEnergy {
    /// Component.
    pub component: Component,
    /// Energy in pJ.
    pub energy_pj: f64,
    /// Part of the whole, 0 to 1.
    pub share: f64,
    /// By action.
    pub actions: Vec<ActionEnergy>,
}

/// The energy of an action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActionEnergy {
    /// Action.
    pub action: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many.
    pub count: u64,
    /// pJ each.
    pub pj: f64,
    /// Energy in pJ.
    pub energy_pj: f64,
}

/// Something that occurred and has no figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpriced {
    /// Component.
    pub component: Component,
    /// Action.
    pub action: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many.
    pub count: u64,
}

impl EnergyReport {
    /// The energy of these operations, which follow each other.
    pub fn new(prices: &Prices, clock_hz: f64, operations: &[Counted]) -> Self {
        let counts = operations.iter().fold(EventCounts::default(), |sum, operation| sum + operation.counts);
        let cycles = operations.iter().map(|operation| operation.cycles).sum();
        let total = Counted { name: "total".to_owned(), cycles, counts };
        let figures = |operation: &Counted| EnergyFigures::new(prices, clock_hz, operation);
        Self {
            table: prices.table.clone(),
            title: prices.title.clone(),
            node: prices.node,
            mixed_nodes: prices.mixed_nodes.clone(),
            config: prices.config.clone(),
            clock_hz,
            total: figures(&total),
            operations: operations.iter().map(figures).collect(),
            not_included: not_included(prices, &counts),
            never_included: NEVER,
            areas: prices.areas.clone(),
            leakage_mw: prices.leakage(),
        }
    }
}

/// What occurred and has no figure in the table. A table has figures for the weights in the array, as Timeloop counts them, or
/// for all of its registers: one of the two is enough.
fn not_included(prices: &Prices, counts: &EventCounts) -> Vec<Unpriced> {
    const STORAGE: [&str; 3] = ["register", "weight_read", "weight_write"];
    let dim = u64::from(prices.dim);
    let stored = STORAGE.into_iter().any(|name| prices.of(Component::Array, name).is_some());
    let unpriced = prices.prices.iter().filter(|price| price.pj.is_none());
    let unpriced = unpriced.map(|price| Unpriced {
        component: price.action.component,
        action: price.action.name,
        unit: price.action.unit,
        count: (price.action.count)(counts, dim),
    });
    let told = |unpriced: &Unpriced| {
        let array = unpriced.component == Component::Array;
        let weights = array && unpriced.action.starts_with("weight");
        unpriced.count > 0 && !weights && !(array && stored && unpriced.action == "register")
    };
    unpriced.filter(told).collect()
}

impl EnergyFigures {
    /// The energy of an operation.
    pub fn new(prices: &Prices, clock_hz: f64, operation: &Counted) -> Self {
        let Counted { ref name, cycles, counts } = *operation;
        let mut components = dynamic(prices, &counts);
        components.extend(leakage(prices, cycles, clock_hz));
        let energy_pj = components.iter().map(|component| component.energy_pj).sum::<f64>();
        for component in &mut components {
            component.share = if energy_pj > 0.0 { component.energy_pj / energy_pj } else { 0.0 };
        }
        let (seconds, macs) = (cycles as f64 / clock_hz, counts.mesh.macs);
        Self {
            name: name.clone(),
            cycles,
            seconds,
            macs,
            energy_pj,
            energy_per_mac_pj: (macs > 0).then(|| energy_pj / macs as f64),
            edp_js: energy_pj * 1e-12 * seconds,
            edp_mj_cycles: energy_pj * 1e-9 * cycles as f64,
            components,
            counts,
        }
    }

    /// pJ of a component.
    pub fn of(&self, component: Component) -> f64 {
        self.components.iter().find(|c| c.component == component).map_or(0.0, |c| c.energy_pj)
    }
}

/// Energy that events take.
fn dynamic(prices: &Prices, counts: &EventCounts) -> Vec<ComponentEnergy> {
    let mut components: Vec<ComponentEnergy> = Vec::new();
    for price in &prices.prices {
        let (action, count) = (price.action, (price.action.count)(counts, u64::from(prices.dim)));
        let Some(pj) = price.pj.filter(|_| count > 0) else { continue };
        let energy_pj = pj * count as f64;
        let part = ActionEnergy { action: action.name, unit: action.unit, count, pj, energy_pj };
        match components.last_mut().filter(|last| last.component == action.component) {
            Some(component) => {
                component.energy_pj += energy_pj;
                component.actions.push(part);
            }
            None => {
                components.push(ComponentEnergy {
                    component: action.component,
                    energy_pj,
                    share: 0.0,
                    actions: vec![part],
                });
            }
        }
    }
    components
}

/// Energy that time takes.
fn leakage(prices: &Prices, cycles: u64, clock_hz: f64) -> Option<ComponentEnergy> {
    let of = |&(component, mw): &(Component, f64)| ActionEnergy {
        action: component.name(),
        unit: "cycle",
        count: cycles,
        pj: leakage_pj(mw, 1, clock_hz),
        energy_pj: leakage_pj(mw, cycles, clock_hz),
    };
    let actions: Vec<_> = prices.leakage_mw.iter().map(of).collect();
    let energy_pj = actions.iter().map(|action| action.energy_pj).sum();
    (!actions.is_empty() && cycles > 0).then_some(ComponentEnergy {
        component: Component::Leakage,
        energy_pj,
        share: 0.0,
        actions,
    })
}
