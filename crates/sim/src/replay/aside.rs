//! What a state is told apart by only later: parts that nothing looks at until a certain command comes are set aside
//! ([`Canon::set_aside`]), and go along with a run under a name until then.

use pollux_isa::table::Class;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::names::Names;
use crate::front_end::Unroller;
use crate::host::ScriptItem;
use crate::machine::Machine;
use crate::memories::scale_units::{ENTRIES, ScaleUnits, Turns};
use crate::parts::canonical::{ASIDE, Canon, Canonical, NARROW, WIDE};
use crate::parts::values::Timing;

/// The name of what a part that was set aside holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AsideName {
    /// Its hash; 0 if it is in the state's form.
    pub held: u128,
    /// Entries by which the turns of units are later than those with this hash.
    pub later: u8,
}

impl AsideName {
    /// Nothing is held aside.
    pub const IN_FORM: Self = Self { held: 0, later: 0 };

    /// What a part of a machine holds whose form was just made; `keep` is given it, if it was not in the form.
    pub fn of(
        part: usize,
        canon: &Canon,
        machine: &Machine<Timing>,
        keep: impl FnOnce(u128, &dyn Fn() -> Option<Aside>),
    ) -> Self {
        let bytes = canon.aside(part);
        if bytes.is_empty() {
            return Self::IN_FORM;
        }
        let Some(units) = machine.scratchpad.mvin.units(part) else {
            let held = xxh3_128(bytes).max(1);
            keep(held, &|| machine.front.unroller(part).map(Aside::Unroller));
            return Self { held, later: 0 };
        };
        let (first, later) = units.turns().apart();
        let mut form = Canon::default();
        first.canonical(&mut form);
        let held = xxh3_128(form.bytes()).max(1);
        keep(held, &|| Some(Aside::Turns(first.clone())));
        Self { held, later }
    }

    /// The same when the head has moved.
    fn moved(self, entries: u8) -> Self {
        let count = ENTRIES as u8;
        Self { later: (self.later + count - entries % count) % count, ..self }
    }

    pub fn number(self) -> u128 {
        self.held.wrapping_add(self.later.into())
    }
}

/// What becomes of a part that was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum After {
    /// It holds this.
    Holds(AsideName),
    /// It holds what it did; units have been passed by so many rows (modulo their entries) that they did not serve.
    Passed(u8),
}

impl After {
    /// What it holds, if it held this before.
    pub fn of(self, before: AsideName) -> AsideName {
        match self {
            Self::Holds(name) => name,
            Self::Passed(_) if before == AsideName::IN_FORM => before,
            Self::Passed(entries) => before.moved(entries),
        }
    }
}

/// What a part holds that was set aside.
#[derive(Debug)]
pub(super) enum Aside {
    Unroller(Unroller),
    Turns(Turns),
}

impl Aside {
    /// Lets a machine hold it.
    pub fn install(&self, part: usize, name: AsideName, machine: &mut Machine<Timing>) {
        match self {
            Self::Unroller(unroller) => machine.front.hold(unroller),
            Self::Turns(turns) => {
                if let Some(units) = machine.scratchpad.mvin.units_mut(part) {
                    units.set_turns(&turns.later(name.later));
                }
            }
        }
    }
}

/// By part: the entry at which its scale units' head is.
pub(super) fn heads(machine: &Machine<Timing>) -> [usize; ASIDE] {
    std::array::from_fn(|part| machine.scratchpad.mvin.units(part).map_or(0, ScaleUnits::head))
}

/// The parts that an item's command may look at.
pub(super) fn looked_at(item: &ScriptItem, names: Names) -> &'static [usize] {
    let ScriptItem::Command(cmd) = item else { return &[] };
    match cmd.class() {
        Some(Class::LoopWs) => &[0],
        Some(Class::LoopConv) => &[1],
        _ if cmd.load_scale().is_some_and(|scale| names.identity != Some(scale)) => &[NARROW, WIDE],
        _ => &[],
    }
}
