//! Reading a table: TOML, with errors that name the line and the whole key.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::EnergyError;
use crate::figure::{FIGURES, Figure, Node, Quantity};
use crate::memory::{Capacity, Memory, MemoryLaw, Point};
use crate::table::EnergyTable;

type Result<T> = std::result::Result<T, EnergyError>;

/// A file's name and text, to tell lines.
#[derive(Clone, Copy)]
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn error(&self, at: usize, message: impl Into<String>) -> EnergyError {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        EnergyError::File { file: self.name.to_owned(), line, message: message.into() }
    }
}

/// A value with its key.
#[derive(Clone)]
struct Entry<'a> {
    file: File<'a>,
    /// Keys from the top, joined by dots.
    key: String,
    /// Where the value begins.
    at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    fn error(&self, message: &str) -> EnergyError {
        self.file.error(self.at, format!("`{}` {message}", self.key))
    }

    fn text(&self) -> Result<&'a str> {
        match self.value.as_str() {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(self.error("is empty")),
            None => Err(self.error(&format!("is a {}; it must be a text", self.value.type_str()))),
        }
    }

    /// A number that is not negative, infinite or NaN.
    fn number(&self) -> Result<f64> {
        let digits = match self.value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            other => return Err(self.error(&format!("is a {}; it must be a number", other.type_str()))),
        };
        match digits.replace('_', "").parse::<f64>() {
            Ok(number) if number.is_nan() => Err(self.error("is not a number (nan)")),
            Ok(number) if number.is_infinite() => Err(self.error("is infinite")),
            Ok(number) if number.is_sign_negative() && number != 0.0 => {
                Err(self.error(&format!("is negative: {number}")))
            }
            Ok(number) => Ok(number.abs()),
            Err(_) => Err(self.error(&format!("is no number: {digits}"))),
        }
    }

    fn positive(&self) -> Result<f64> {
        let number = self.number()?;
        if number > 0.0 { Ok(number) } else { Err(self.error("is 0; it must be above 0")) }
    }

    /// A number of bits.
    fn bits(&self) -> Result<u32> {
        let bits = self.number()?;
        if bits.fract() == 0.0 && (1.0..=65536.0).contains(&bits) {
            return Ok(bits as u32);
        }
        Err(self.error("must be a whole number of bits, 1 to 65536"))
    }

    fn node(&self) -> Result<Node> {
        let text = self.text()?;
        Node::parse(text).ok_or_else(|| {
            self.error(&format!("is `{text}`; it must be nanometres, such as \"45nm\", or \"off-chip\""))
        })
    }

    fn table(&self) -> Result<Section<'a>> {
        match self.value.as_table() {
            Some(table) => Ok(Section::new(self.file, self.key.clone(), self.at, table)),
            None => Err(self.error(&format!("is a {}; it must be a table", self.value.type_str()))),
        }
    }

    /// Scale of one of a quantity's units.
    fn unit(&self, quantity: Quantity) -> Result<f64> {
        let text = self.text()?;
        let found = quantity.units().iter().find(|(unit, _)| *unit == text);
        found
            .map(|(_, scale)| *scale)
            .ok_or_else(|| self.error(&format!("is `{text}`; it must be {}", names(quantity))))
    }
}

fn names(quantity: Quantity) -> String {
    quantity.units().iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ")
}

/// A table of the file, whose keys are taken one by one.
struct Section<'a> {
    file: File<'a>,
    key: String,
    at: usize,
    /// The entries, each with where its key stands.
    entries: BTreeMap<&'a str, (usize, Entry<'a>)>,
    /// Keys that were asked for.
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    fn new(file: File<'a>, key: String, at: usize, table: &'a DeTable<'a>) -> Self {
        let entry = |(name, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: (&'a std::borrow::Cow<'a, str>, usize) = (name.get_ref(), name.span().start);
            let full = if key.is_empty() { name.0.to_string() } else { format!("{key}.{}", name.0) };
            let entry = Entry { file, key: full, at: value.span().start, value: value.get_ref() };
            (name.0.as_ref(), (name.1, entry))
        };
        let entries = table.iter().map(entry).collect();
        Self { file, key, at, entries, known: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Option<Entry<'a>> {
        self.known.push(name);
        self.entries.remove(name).map(|(_, entry)| entry)
    }

    fn require(&mut self, name: &'static str, why: &str) -> Result<Entry<'a>> {
        let found = self.take(name);
        found.ok_or_else(|| {
            let full = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
            self.file.error(self.at, format!("`{full}` is missing: {why}"))
        })
    }

    /// Nothing is left that was not asked for.
    fn finish(self) -> Result<()> {
        let Some((_, (at, entry))) = self.entries.first_key_value() else { return Ok(()) };
        Err(self.file.error(*at, format!("unknown key `{}`; known here: {}", entry.key, self.known.join(", "))))
    }
}

/// What all figures of a file are held against.
struct Context {
    node: Node,
    mixed: bool,
    sources: BTreeMap<String, String>,
}

impl Context {
    /// Node and source of a figure.
    fn origin(&self, section: &mut Section<'_>) -> Result<(Node, String)> {
        let entry = section.require("node", "the technology node of the figure, such as \"45nm\", or \"off-chip\"")?;
        let node = entry.node()?;
        if node != self.node && node != Node::OffChip && !self.mixed {
            return Err(entry.error(&format!(
                "is {node}, but the table's node is {}: give figures of one node, or say in `mixed_nodes` why they are mixed",
                self.node
            )));
        }
        let entry = section.require("source", "the key of the figure's source in `sources`")?;
        let source = entry.text()?;
        if !self.sources.contains_key(source) {
            let known = self.sources.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(entry.error(&format!("is `{source}`, which `sources` does not have; it has {known}")));
        }
        Ok((node, source.to_owned()))
    }

    fn figure(&self, entry: &Entry<'_>, quantity: Quantity) -> Result<Figure> {
        let mut section = entry.table()?;
        let value = section.require("value", "the figure itself")?.number()?;
        let scale = section.require("unit", &format!("one of {}", names(quantity)))?.unit(quantity)?;
        let (node, source) = self.origin(&mut section)?;
        let derivation = section.take("derivation").map(|entry| entry.text().map(str::to_owned)).transpose()?;
        section.finish()?;
        Ok(Figure { value: value * scale, node, source, derivation })
    }

    fn points(&self, entry: &Entry<'_>) -> Result<Memory> {
        let mut section = entry.table()?;
        let (node, source) = self.origin(&mut section)?;
        let mut scale = |name, quantity| -> Result<f64> {
            section.require(name, &format!("one of {}", names(quantity)))?.unit(quantity)
        };
        let energy = scale("energy_unit", Quantity::Energy)?;
        let (area, leakage) = (scale("area_unit", Quantity::Area)?, scale("leakage_unit", Quantity::Power)?);
        let list = section.require("points", "a list of { width, kib, read, write, area, leakage }")?;
        section.finish()?;
        let Some(array) = list.value.as_array().filter(|array| !array.is_empty()) else {
            return Err(list.error("must be a list of points, one at least"));
        };
        let mut points: Vec<Point> = Vec::new();
        for (index, value) in array.iter().enumerate() {
            let key = format!("{}[{index}]", list.key);
            let entry = Entry { file: list.file, key, at: value.span().start, value: value.get_ref() };
            let mut section = entry.table()?;
            let point = Point {
                width: section.require("width", "bits of an access")?.bits()?,
                kib: section.require("kib", "KiB of the bank")?.positive()?,
                read: section.require("read", "energy of a read")?.number()? * energy,
                write: section.require("write", "energy of a write")?.number()? * energy,
                area: section.require("area", "area of the bank")?.number()? * area,
                leakage: section.require("leakage", "leakage of the bank")?.number()? * leakage,
            };
            section.finish()?;
            if points.iter().any(|other| (other.width, other.kib) == (point.width, point.kib)) {
                return Err(entry.error("has the width and the size of a point before it"));
            }
            points.push(point);
        }
        Ok(Memory { law: MemoryLaw::Points(points), node, source })
    }

    fn law(&self, entry: &Entry<'_>) -> Result<Memory> {
        let mut section = entry.table()?;
        let (node, source) = self.origin(&mut section)?;
        let scale = section.require("unit", "one of pJ, fJ, nJ")?.unit(Quantity::Energy)?;
        let word = section.require("word", "bits of a word")?.bits()?;
        let base = section.require("base", "energy of an access of a word of the smallest memory")?.number()? * scale;
        let per_kib = section.require("per_kib", "what each KiB adds to it")?.number()? * scale;
        let entry = section.require("capacity", "\"memory\", or \"column\" for the part of a column of the array")?;
        let capacity = match entry.text()? {
            "memory" => Capacity::Memory,
            "column" => Capacity::Column,
            other => return Err(entry.error(&format!("is `{other}`; it must be memory or column"))),
        };
        section.finish()?;
        Ok(Memory { law: MemoryLaw::Word { word, base, per_kib, capacity }, node, source })
    }

    fn access(&self, entry: &Entry<'_>) -> Result<Memory> {
        let mut section = entry.table()?;
        let (node, source) = self.origin(&mut section)?;
        let scale = section.require("unit", "one of pJ, fJ, nJ")?.unit(Quantity::Energy)?;
        let width = section.require("width", "bits of an access")?.bits()?;
        let read = section.require("read", "energy of a read")?.number()? * scale;
        let write = section.require("write", "energy of a write")?.number()? * scale;
        let mut optional = |name| section.take(name).map(|entry| entry.number()).transpose();
        let (area, leakage) = (optional("area_um2")?, optional("leakage_mw")?);
        section.finish()?;
        Ok(Memory { law: MemoryLaw::Access { width, read, write, area, leakage }, node, source })
    }
}

/// A memory's section: a law or a figure of its own, or the points for both memories.
fn memory(top: &mut Section<'_>, name: &'static str, context: &Context, shared: Option<&Memory>) -> Result<Memory> {
    let Some(entry) = top.take(name) else {
        return shared.cloned().ok_or_else(|| {
            top.file.error(
                0,
                format!("`{name}` is missing: give `sram` for both memories, `{name}.law` or `{name}.access`"),
            )
        });
    };
    let mut section = entry.table()?;
    let memory = match (section.take("law"), section.take("access")) {
        (Some(law), None) => context.law(&law)?,
        (None, Some(access)) => context.access(&access)?,
        (Some(_), Some(access)) => return Err(access.error("stands beside a law: give one of them")),
        (None, None) => {
            section.finish()?;
            return Err(entry.error("has neither `law` nor `access`"));
        }
    };
    section.finish()?;
    Ok(memory)
}

/// The figures of all sections.
fn figures(top: &mut Section<'_>, context: &Context) -> Result<BTreeMap<&'static str, Figure>> {
    let mut sections: BTreeMap<&str, Section<'_>> = BTreeMap::new();
    let mut figures = BTreeMap::new();
    for (key, quantity) in FIGURES {
        let Some((section, name)) = key.split_once('.') else { continue };
        if let Some(entry) = top.take(section) {
            sections.insert(section, entry.table()?);
        }
        let Some(entry) = sections.get_mut(section).and_then(|section| section.take(name)) else { continue };
        figures.insert(*key, context.figure(&entry, *quantity)?);
    }
    sections.into_values().try_for_each(Section::finish)?;
    Ok(figures)
}

fn sources(top: &mut Section<'_>) -> Result<BTreeMap<String, String>> {
    let entry = top.require("sources", "a table of the sources that the figures name")?;
    let section = entry.table()?;
    section
        .entries
        .values()
        .map(|(_, entry)| {
            let key = entry.key.trim_start_matches("sources.").to_owned();
            Ok((key, entry.text()?.to_owned()))
        })
        .collect()
}

impl EnergyTable {
    /// Reads a table; `file` is its name in messages.
    ///
    /// # Errors
    /// [`EnergyError::File`] names line and key.
    pub fn parse(file: &str, text: &str) -> std::result::Result<Self, EnergyError> {
        parse(file, text)
    }
}

fn parse(name: &str, text: &str) -> Result<EnergyTable> {
    let file = File { name, text };
    let document =
        DeTable::parse(text).map_err(|error| file.error(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut top = Section::new(file, String::new(), 0, document.get_ref());
    let table_name = top.require("name", "the table's name")?.text()?.to_owned();
    let title = top.require("title", "what the table is")?.text()?.to_owned();
    let entry = top.require("node", "the technology node of the logic, such as \"45nm\"")?;
    let node = entry.node()?;
    if node == Node::OffChip {
        return Err(entry.error("is off-chip; a table's node is that of its logic, such as \"45nm\""));
    }
    let mixed_nodes = top.take("mixed_nodes").map(|entry| entry.text().map(str::to_owned)).transpose()?;
    let sources = sources(&mut top)?;
    let context = Context { node, mixed: mixed_nodes.is_some(), sources };
    let points = top.take("sram").map(|entry| Ok((entry.clone(), context.points(&entry)?))).transpose()?;
    let sram = points.as_ref().map(|(_, memory)| memory.clone());
    let both = ["scratchpad", "accumulator"].iter().all(|name| top.entries.contains_key(name));
    if let Some((entry, _)) = points.filter(|_| both) {
        return Err(entry.error("has no effect: both memories have figures of their own"));
    }
    let scratchpad = memory(&mut top, "scratchpad", &context, sram.as_ref())?;
    let accumulator = memory(&mut top, "accumulator", &context, sram.as_ref())?;
    let figures = figures(&mut top, &context)?;
    for required in ["dram.read", "dram.write", "array.mac"] {
        if !figures.contains_key(required) {
            return Err(file.error(0, format!("`{required}` is missing: no energy means anything without it")));
        }
    }
    top.finish()?;
    Ok(EnergyTable {
        name: table_name,
        title,
        node,
        mixed_nodes,
        sources: context.sources,
        figures,
        scratchpad,
        accumulator,
    })
}
