//! Accelergy's energy and area reference tables (ERT, ART), in and out.
//!
//! A component's name ends in one of the names below, with its instances behind it: `system.chip.Scratchpad[1..4]`. Energies are
//! in pJ an action of one instance, areas in um2 of one instance.
//!
//! | component | actions |
//! |---|---|
//! | `DRAM` | `read`, `write` |
//! | `Scratchpad`, `Accumulator` | `read`, `write`, `leak` (a cycle) |
//! | `MACC` (or `mac`, `intmac`) | `compute` (or `mac`, `mac_random`), `gated` (or `mac_gated`), `leak` |
//! | `Registers` | `read`, `write`: of a weight |
//! | `RowRegisters` | `move`: all registers of the array, for a row |
//! | `AccumulatorAdder` | `add` |
//! | `FloatMultiplier` | none: area only |
//! | `MvinScaler`, `Normalizer`, `Readout`, `Control` | the actions of [`Prices`] |
//!
//! `update`, which Timeloop charges for accumulating writes, must cost what `write` does: Pollux counts the read and the write of an
//! accumulating write apart. The bits of an access stand in the argument `width`, as Pollux writes it, or are given: Accelergy's
//! own tables do not have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use pollux_isa::GemminiConfig;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::error::EnergyError;
use crate::figure::Node;
use crate::prices::{Component, Prices, multipliers};
use crate::table::EnergyTable;

/// Version of the tables that are written.
const VERSION: &str = "0.4";

/// Seconds of a cycle for `leak`, if the table's arguments do not say.
const CYCLE_SECONDS: f64 = 1e-9;

/// Last name of a component, its action, its component and action among the prices, and the key of the figure.
type Known = (&'static str, &'static str, Option<(Component, &'static str)>, &'static str);

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    ("MACC", "compute", Some((Component::Array, "mac")), "array.mac"),
    ("MACC", "gated", Some((Component::Array, "zero_mac")), "array.zero_mac"),
    ("Registers", "read", Some((Component::Array, "weight_read")), "array.weight_read"),
    ("Registers", "write", Some((Component::Array, "weight_write")), "array.weight_write"),
    ("RowRegisters", "move", Some((Component::Array, "register")), "array.register_row"),
    ("AccumulatorAdder", "add", Some((Component::Accumulator, "add")), "units.accumulator_add"),
    ("MvinScaler", "scale", Some((Component::Mvin, "scale")), "units.mvin_scale"),
    ("Normalizer", "sum", Some((Component::Normalizer, "sum")), "units.normalizer_sum"),
    ("Normalizer", "variance", Some((Component::Normalizer, "variance")), "units.normalizer_variance"),
    ("Normalizer", "max", Some((Component::Normalizer, "max")), "units.normalizer_max"),
    ("Normalizer", "exp", Some((Component::Normalizer, "exp")), "units.normalizer_exp"),
    ("Readout", "none", Some((Component::Readout, "none")), "units.readout_none"),
    ("Readout", "relu", Some((Component::Readout, "relu")), "units.readout_relu"),
    ("Readout", "layernorm", Some((Component::Readout, "layernorm")), "units.readout_layernorm"),
    ("Readout", "igelu", Some((Component::Readout, "igelu")), "units.readout_igelu"),
    ("Readout", "softmax", Some((Component::Readout, "softmax")), "units.readout_softmax"),
    ("Control", "command", Some((Component::Control, "command")), "control.command"),
    ("Control", "host_command", Some((Component::Control, "host_command")), "control.host_command"),
    ("Control", "tlb_lookup", Some((Component::Control, "tlb_lookup")), "control.tlb_lookup"),
    ("Control", "tlb_walk", Some((Component::Control, "tlb_walk")), "control.tlb_walk"),
];

/// Memories: their figures need the bits of an access.
const MEMORIES: [&str; 3] = ["DRAM", "Scratchpad", "Accumulator"];

/// Other names of components.
const COMPONENT_ALIASES: [(&str, &str); 2] = [("mac", "MACC"), ("intmac", "MACC")];

/// Other names of actions.
const ACTION_ALIASES: [(&str, &str); 4] =
    [("mac", "compute"), ("mac_random", "compute"), ("mac_compute", "compute"), ("mac_gated", "gated")];

#[derive(Serialize)]
struct ErtOut {
    #[serde(rename = "ERT")]
    ert: TablesOut<EnergyOut>,
}

#[derive(Serialize)]
struct ArtOut {
    #[serde(rename = "ART")]
    art: TablesOut<AreaOut>,
}

#[derive(Serialize)]
struct TablesOut<T> {
    version: &'static str,
    tables: Vec<T>,
}

#[derive(Serialize)]
struct EnergyOut {
    name: String,
    actions: Vec<ActionOut>,
}

#[derive(Clone, Serialize)]
struct ActionOut {
    name: String,
    arguments: BTreeMap<&'static str, u32>,
    energy: f64,
}

#[derive(Serialize)]
struct AreaOut {
    name: String,
    area: f64,
}

fn instances(name: &str, count: u32) -> String {
    let path = if name == "DRAM" { "system" } else { "system.chip" };
    format!("{path}.{name}[1..{count}]")
}

fn yaml(document: &impl Serialize) -> Result<String, EnergyError> {
    serde_saphyr::to_string(document).map_err(|error| EnergyError::Reference(format!("cannot write YAML: {error}")))
}

impl EnergyTable {
    /// The table's energies for a configuration as an energy reference table.
    ///
    /// # Errors
    /// Those of [`EnergyTable::prices`].
    pub fn ert(&self, config: &GemminiConfig) -> Result<String, EnergyError> {
        let prices = self.prices(config)?;
        let mut tables = memories(&prices, config);
        for &(name, action, price, _) in KNOWN {
            let Some(energy) = price.and_then(|(component, action)| prices.of(component, action)) else { continue };
            let action = ActionOut { name: action.to_owned(), arguments: BTreeMap::new(), energy };
            let name = instances(name, count_of(name, config));
            match tables.last_mut().filter(|table| table.name == name) {
                Some(table) => table.actions.push(action),
                None => tables.push(EnergyOut { name, actions: vec![action] }),
            }
        }
        if let Some(mw) = self.value("leakage.mac") {
            let leak = leak(mw);
            tables.iter_mut().filter(|table| table.name.contains(".MACC[")).for_each(|t| t.actions.push(leak.clone()));
        }
        yaml(&ErtOut { ert: TablesOut { version: VERSION, tables } })
    }

    /// The table's areas for a configuration as an area reference table. What it has no figure for is left out.
    ///
    /// # Errors
    /// Those of [`EnergyTable::prices`].
    pub fn art(&self, config: &GemminiConfig) -> Result<String, EnergyError> {
        let prices = self.prices(config)?;
        let banks = |component| prices.areas.iter().find(|a| a.component == component && a.what == "banks")?.um2;
        let memory = |component, name, count: u32| Some((name, count, banks(component)? / f64::from(count)));
        let unit = |key, name| Some((name, count_of(name, config), self.value(key)?));
        let areas = [
            memory(Component::Scratchpad, "Scratchpad", config.sp_banks),
            memory(Component::Accumulator, "Accumulator", config.acc_banks),
            unit("area.mac", "MACC"),
            self.registers_area(config).map(|area| ("RowRegisters", 1, area)),
            unit("area.add32", "AccumulatorAdder"),
            unit("area.multiply_float32", "FloatMultiplier"),
        ];
        let tables = areas.into_iter().flatten().filter(|(_, count, _)| *count > 0);
        let tables = tables.map(|(name, count, area)| AreaOut { name: instances(name, count), area }).collect();
        yaml(&ArtOut { art: TablesOut { version: VERSION, tables } })
    }
}

fn count_of(name: &str, config: &GemminiConfig) -> u32 {
    match name {
        "MACC" | "Registers" => config.dim() * config.dim(),
        "AccumulatorAdder" => config.dim(),
        "FloatMultiplier" => multipliers(config.mvin_scale_args, config) + multipliers(config.acc_scale_args, config),
        _ => 1,
    }
}

/// pJ a cycle of a static power in mW.
fn leak(mw: f64) -> ActionOut {
    // 1 mW is 1 pJ a nanosecond.
    ActionOut { name: "leak".to_owned(), arguments: BTreeMap::new(), energy: mw * CYCLE_SECONDS * 1e9 }
}

fn memories(prices: &Prices, config: &GemminiConfig) -> Vec<EnergyOut> {
    let of = |component, action, scale: f64| prices.of(component, action).unwrap_or(0.0) * scale;
    let bus = config.dma_buswidth;
    let parts = [
        (Component::Dram, "DRAM", 1, bus, f64::from(bus) / 8.0),
        (Component::Scratchpad, "Scratchpad", config.sp_banks, 8 * config.sp_row_bytes(), 1.0),
        (Component::Accumulator, "Accumulator", config.acc_banks, 8 * config.acc_row_bytes(), 1.0),
    ];
    let table = |(component, name, count, width, scale)| {
        let arguments = BTreeMap::from([("width", width)]);
        let action = |name: &str, energy| ActionOut { name: name.to_owned(), arguments: arguments.clone(), energy };
        let write = of(component, "write", scale);
        let mut actions =
            vec![action("read", of(component, "read", scale)), action("write", write), action("update", write)];
        let leakage = prices.leakage_mw.iter().find(|(of, _)| *of == component);
        actions.extend(leakage.map(|(_, mw)| leak(mw / f64::from(count))));
        EnergyOut { name: instances(name, count), actions }
    };
    parts.map(table).into()
}

/// What an imported table is called, and what the reference tables do not say.
#[derive(Clone, Debug)]
pub struct Import {
    /// Name of the table.
    pub name: String,
    /// Technology node.
    pub node: Node,
    /// Bits of an access of a memory (`DRAM`, `Scratchpad`, `Accumulator`) that has no argument `width`.
    pub widths: BTreeMap<String, u32>,
    /// Last names of components to leave out.
    pub ignore: Vec<String>,
}

/// A reference table: its name for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Contents.
    pub text: &'a str,
}

#[derive(Deserialize)]
struct ErtIn {
    #[serde(rename = "ERT")]
    ert: TablesIn<EnergyIn>,
}

#[derive(Deserialize)]
struct ArtIn {
    #[serde(rename = "ART")]
    art: TablesIn<AreaIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TablesIn<T> {
    version: Spanned<Scalar>,
    tables: Vec<T>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnergyIn {
    name: Spanned<String>,
    actions: Vec<ActionIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionIn {
    name: Spanned<String>,
    arguments: Option<BTreeMap<String, Scalar>>,
    energy: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AreaIn {
    name: Spanned<String>,
    area: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(f64),
    Text(String),
}

impl Scalar {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Reference<'_> {
    fn error(&self, line: u64, message: impl Into<String>) -> EnergyError {
        EnergyError::File { file: self.file.to_owned(), line: line as usize, message: message.into() }
    }

    fn at<T>(&self, place: &Spanned<T>, message: impl Into<String>) -> EnergyError {
        self.error(place.referenced.line(), message)
    }

    fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, EnergyError> {
        serde_saphyr::from_str(self.text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            self.error(line, bare(&error.to_string()))
        })
    }

    fn check_version(&self, version: &Spanned<Scalar>) -> Result<(), EnergyError> {
        match version.value.number() {
            Some(number) if [0.3, 0.4].contains(&number) => Ok(()),
            _ => Err(self.at(version, "`version` must be 0.3 or 0.4")),
        }
    }

    /// A figure that is not negative, infinite or NaN.
    fn figure(&self, key: &str, value: &Spanned<f64>) -> Result<f64, EnergyError> {
        let number = value.value;
        if number.is_finite() && number >= 0.0 {
            return Ok(number);
        }
        Err(self.at(value, format!("`{key}` is {number}; it must be a number that is not negative")))
    }

    /// Last name and number of instances of `system.chip.PE[0..167].mac`.
    fn component(&self, name: &Spanned<String>) -> Result<(String, u32), EnergyError> {
        let (mut last, mut count, mut inside) = (String::new(), 1u32, None::<String>);
        for c in name.value.chars() {
            match (c, &mut inside) {
                ('[', None) => inside = Some(String::new()),
                (']', Some(range)) => {
                    let bounds = range.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                    let many =
                        bounds.and_then(|(a, b): (u32, u32)| b.checked_sub(a)?.checked_add(1)?.checked_mul(count));
                    count =
                        many.ok_or_else(|| self.at(name, format!("`{}` has no range `[first..last]`", name.value)))?;
                    inside = None;
                }
                (c, Some(range)) => range.push(c),
                ('.', None) => last.clear(),
                (c, None) => last.push(c),
            }
        }
        let alias = COMPONENT_ALIASES.iter().find(|(other, _)| other.eq_ignore_ascii_case(&last));
        let known = MEMORIES.iter().chain(KNOWN.iter().map(|(name, ..)| name)).find(|k| k.eq_ignore_ascii_case(&last));
        Ok((alias.map(|(_, name)| *name).or(known.copied()).map_or(last, str::to_owned), count))
    }
}

/// A message of the YAML reader without its place, which is told apart, and its excerpt.
fn bare(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let message =
        line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")).map_or(line, |(_, message)| message);
    message.to_owned()
}

/// A memory as read.
#[derive(Default)]
struct MemoryIn {
    width: Option<u32>,
    count: u32,
    read: Option<f64>,
    write: Option<f64>,
    /// mW of all instances.
    leakage: Option<f64>,
    /// um2 of all instances.
    area: Option<f64>,
}

/// Everything as read.
#[derive(Default)]
struct Collected {
    memories: BTreeMap<String, MemoryIn>,
    figures: BTreeMap<&'static str, (f64, &'static str)>,
}

/// Reads an energy reference table and perhaps an area reference table into the text of a table of Pollux.
///
/// # Errors
/// A component or an action that is not known, a figure that is none, the same action twice, or a width that is missing: each
/// with its line.
pub fn import(ert: Reference<'_>, art: Option<Reference<'_>>, options: &Import) -> Result<String, EnergyError> {
    let document: ErtIn = ert.read()?;
    ert.check_version(&document.ert.version)?;
    let mut collected = Collected::default();
    let mut ignored = BTreeSet::new();
    for table in &document.ert.tables {
        let (name, count) = ert.component(&table.name)?;
        if options.ignore.contains(&name) {
            ignored.insert(name);
            continue;
        }
        collected.add_energies(ert, &name, count, table, options)?;
    }
    if let Some(art) = art {
        let document: ArtIn = art.read()?;
        art.check_version(&document.art.version)?;
        for table in &document.art.tables {
            let (name, count) = art.component(&table.name)?;
            if options.ignore.contains(&name) {
                ignored.insert(name);
            } else {
                collected.add_area(art, &name, count, table)?;
            }
        }
    }
    if let Some(name) = options.ignore.iter().find(|name| !ignored.contains(*name)) {
        return Err(EnergyError::Reference(format!("{}: no component `{name}` is there to be left out", ert.file)));
    }
    let text = collected.toml(ert, art, options)?;
    EnergyTable::parse(&options.name, &text)?;
    Ok(text)
}

impl Collected {
    fn add_energies(
        &mut self,
        file: Reference<'_>,
        name: &str,
        count: u32,
        table: &EnergyIn,
        options: &Import,
    ) -> Result<(), EnergyError> {
        let full = &table.name.value;
        if MEMORIES.contains(&name) {
            if self.memories.contains_key(name) {
                return Err(
                    file.at(&table.name, format!("`{full}` is a second {name}: leave one out with its own table"))
                );
            }
            let memory = memory(file, name, count, table, options)?;
            self.memories.insert(name.to_owned(), memory);
            return Ok(());
        }
        if !KNOWN.iter().any(|(known, ..)| *known == name) {
            return Err(file.at(
                &table.name,
                format!(
                    "component `{full}` is not known: rename it to one of {}, or leave it out with --ignore {name}",
                    known_names()
                ),
            ));
        }
        for action in &table.actions {
            let energy = file.figure(&format!("{full}.{}.energy", action.name.value), &action.energy)?;
            let alias = ACTION_ALIASES.iter().find(|(other, _)| *other == action.name.value).map(|(_, action)| *action);
            let wanted = alias.unwrap_or(&action.name.value);
            let key = match KNOWN.iter().find(|(known, known_action, ..)| *known == name && *known_action == wanted) {
                Some((.., key)) => *key,
                None if wanted == "leak" && name == "MACC" => {
                    self.insert(file, action, "leakage.mac", energy / cycle_seconds(action) * 1e-9, "mW")?;
                    continue;
                }
                // What other tools need there, and costs nothing.
                None if energy == 0.0 => continue,
                None => return Err(unknown_action(file, full, action)),
            };
            self.insert(file, action, key, energy, "pJ")?;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        file: Reference<'_>,
        action: &ActionIn,
        key: &'static str,
        value: f64,
        unit: &'static str,
    ) -> Result<(), EnergyError> {
        match self.figures.insert(key, (value, unit)) {
            None => Ok(()),
            Some(_) => Err(twice(file, action)),
        }
    }

    fn add_area(&mut self, file: Reference<'_>, name: &str, count: u32, table: &AreaIn) -> Result<(), EnergyError> {
        let area = file.figure(&format!("{}.area", table.name.value), &table.area)?;
        if let Some(memory) = self.memories.get_mut(name) {
            memory.area = Some(area * f64::from(count));
            return Ok(());
        }
        let key = match name {
            "MACC" => "area.mac",
            "AccumulatorAdder" => "area.add32",
            "FloatMultiplier" => "area.multiply_float32",
            "RowRegisters" => "area.registers",
            _ if area == 0.0 => return Ok(()),
            _ => {
                return Err(file.at(
                    &table.name,
                    format!(
                        "the area of `{}` has no place in a table: leave it out with --ignore {name}",
                        table.name.value
                    ),
                ));
            }
        };
        self.figures.insert(key, (area, "um2"));
        Ok(())
    }

    /// The table as text.
    fn toml(&self, ert: Reference<'_>, art: Option<Reference<'_>>, options: &Import) -> Result<String, EnergyError> {
        let Import { name, node, .. } = options;
        let from = art.map_or_else(|| ert.file.to_owned(), |art| format!("{} and {}", ert.file, art.file));
        let mut out = format!(
            "name = {}\ntitle = {}\nnode = \"{node}\"\n\n[sources]\naccelergy = {}\n",
            quoted(name),
            quoted(&format!("imported from {from}")),
            quoted(&format!("Accelergy's reference tables in {from}"))
        );
        for memory in MEMORIES {
            let Some(found) = self.memories.get(memory) else {
                return Err(ert.error(1, format!("component `{memory}` is missing")));
            };
            let missing = |action| ert.error(1, format!("`{memory}` has no action `{action}`"));
            let (read, write) =
                (found.read.ok_or_else(|| missing("read"))?, found.write.ok_or_else(|| missing("write"))?);
            let width = found.width.unwrap_or(1);
            if memory == "DRAM" {
                for (action, energy) in [("read", read), ("write", write)] {
                    let bit = energy / f64::from(width);
                    let _ = write!(
                        out,
                        "\n[dram.{action}]\nvalue = {bit:?}\nunit = \"pJ/bit\"\nnode = \"off-chip\"\nsource = \"accelergy\"\n"
                    );
                }
                continue;
            }
            let section = memory.to_lowercase();
            let _ = write!(out, "\n[{section}.access]\nwidth = {width}\nread = {read:?}\nwrite = {write:?}\n");
            let optional = [("area_um2", found.area), ("leakage_mw", found.leakage)];
            for (key, value) in optional.into_iter().filter_map(|(key, value)| Some((key, value?))) {
                let _ = writeln!(out, "{key} = {value:?}");
            }
            let _ = write!(out, "unit = \"pJ\"\nnode = \"{node}\"\nsource = \"accelergy\"\n");
        }
        for (key, (value, unit)) in &self.figures {
            let _ = write!(
                out,
                "\n[{key}]\nvalue = {value:?}\nunit = \"{unit}\"\nnode = \"{node}\"\nsource = \"accelergy\"\n"
            );
        }
        Ok(out)
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn known_names() -> String {
    let mut names: Vec<&str> = MEMORIES.iter().copied().chain(KNOWN.iter().map(|(name, ..)| *name)).collect();
    names.dedup();
    names.join(", ")
}

fn unknown_action(file: Reference<'_>, component: &str, action: &ActionIn) -> EnergyError {
    file.at(&action.name, format!("action `{}` of `{component}` is not known", action.name.value))
}

fn twice(file: Reference<'_>, action: &ActionIn) -> EnergyError {
    let name = &action.name.value;
    file.at(&action.name, format!("action `{name}` stands twice, with other arguments: keep the one that applies"))
}

/// Seconds of a cycle of `leak`.
fn cycle_seconds(action: &ActionIn) -> f64 {
    let given = action.arguments.as_ref().and_then(|arguments| arguments.get("global_cycle_seconds")?.number());
    given.filter(|seconds| *seconds > 0.0).unwrap_or(CYCLE_SECONDS)
}

fn memory(
    file: Reference<'_>,
    name: &str,
    count: u32,
    table: &EnergyIn,
    options: &Import,
) -> Result<MemoryIn, EnergyError> {
    let full = &table.name.value;
    let mut memory = MemoryIn { width: options.widths.get(name).copied(), count, ..MemoryIn::default() };
    let mut update = None;
    for action in &table.actions {
        let energy = file.figure(&format!("{full}.{}.energy", action.name.value), &action.energy)?;
        let width = action.arguments.as_ref().and_then(|arguments| arguments.get("width")?.number());
        memory.width = memory.width.or(width.filter(|width| *width >= 1.0).map(|width| width as u32));
        let place = match action.name.value.as_str() {
            "read" => &mut memory.read,
            "write" => &mut memory.write,
            "update" => &mut update,
            "leak" => {
                let all = energy / cycle_seconds(action) * 1e-9 * f64::from(memory.count);
                if name == "DRAM" && energy > 0.0 {
                    return Err(
                        file.at(&action.energy, format!("`{full}.leak` is not 0: a table has no static power of DRAM"))
                    );
                }
                memory.leakage = Some(all).filter(|_| name != "DRAM");
                continue;
            }
            _ if energy == 0.0 => continue,
            _ => return Err(unknown_action(file, full, action)),
        };
        if place.replace(energy).is_some() {
            return Err(twice(file, action));
        }
    }
    if let (Some(update), Some(write)) = (update, memory.write)
        && update != write
    {
        return Err(file.at(
            &table.name,
            format!("`{full}.update` costs {update} and `{full}.write` {write}: an accumulating write is a read and a write here"),
        ));
    }
    match memory.width {
        Some(_) => Ok(memory),
        None => Err(file.at(
            &table.name,
            format!("the bits of an access of `{full}` are not in the file: give them with --width {name}=BITS"),
        )),
    }
}
