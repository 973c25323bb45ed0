//! The disassembler: a program as text that assembles to the same program.

use std::fmt::Write as _;

use pollux_isa::table::{FieldKind, FieldSpec};
use pollux_isa::values::{Bits, NormCmd};
use pollux_isa::{Command, GemminiConfig, LocalAddr, RoccCommand, StreamItem};
use pollux_memory::RangeSet;

use crate::assembler::region_address;
use crate::expression::BUILTINS;
use crate::program::{Buffer, ElementType, LocalRegion, Program};
use crate::token::{is_plain_name, quote};
use crate::value::memory_of;

/// Elements on a line of data.
const LINE_ELEMENTS: usize = 32;

/// The program as text. Assembling the text gives the same program; addresses are written by the names of buffers
/// and regions where they can be.
///
/// A command that no instruction encodes exactly is written as `raw`, with the reason as a remark.
pub fn disassemble(program: &Program) -> String {
    let mut out = String::new();
    config(&mut out, &program.config);
    let mut used = RangeSet::default();
    for buffer in &program.buffers {
        buffer_lines(&mut out, buffer, used.overlaps(&buffer.range()));
        used.add(buffer.range());
    }
    for region in &program.regions {
        let memory = if region.accumulator { "acc" } else { "spad" };
        let _ = writeln!(out, "{memory} {}[{}] at {}", symbol(&region.name), region.rows, region.row);
    }
    let disassembler = Disassembler::new(program);
    for item in &program.items {
        out.push_str(&disassembler.item(item));
        out.push('\n');
    }
    out
}

/// A symbol as text: in backquotes if it could be taken for something else.
fn symbol(name: &str) -> String {
    let plain = is_plain_name(name) && !BUILTINS.iter().any(|builtin| builtin.name == name);
    if plain { name.to_owned() } else { format!("`{name}`") }
}

fn config(out: &mut String, config: &GemminiConfig) {
    if GemminiConfig::by_name(&config.name).is_ok_and(|named| named == *config) && is_plain_name(&config.name) {
        let _ = writeln!(out, "config {}", config.name);
        return;
    }
    // No type in a configuration can fail to serialise.
    let toml = config.to_toml_string().unwrap_or_default();
    if toml.contains("\"\"\"") || toml.contains('\r') {
        let _ = writeln!(out, "config toml {}", quote(&toml));
    } else {
        let _ = writeln!(out, "config toml \"\"\"\n{toml}\"\"\"");
    }
}

/// `overlays`: an earlier buffer has some of the addresses.
fn buffer_lines(out: &mut String, buffer: &Buffer, overlays: bool) {
    let Buffer { name, address, element, shape, data, expected } = buffer;
    let (name, extents) = (symbol(name), extents(shape));
    let overlay = if overlays { " overlay" } else { "" };
    let _ = write!(out, "buffer {name}: {}[{extents}] at {address:#x}{overlay}", element.name());
    if let Some(data) = data {
        let _ = write!(out, " = {}", data_text(*element, shape, data));
    }
    out.push('\n');
    if let Some(expected) = expected {
        let _ = writeln!(out, "expect {name} = {}", data_text(*element, shape, expected));
    }
}

fn extents(shape: &[u64]) -> String {
    let extents: Vec<String> = shape.iter().map(u64::to_string).collect();
    extents.join(", ")
}

/// Elements as a list with a line for each row, or as `fill` if all are equal.
fn data_text(element: ElementType, shape: &[u64], data: &[u8]) -> String {
    let mut elements = element.elements(data);
    let Some(first) = elements.next() else { return "[]".to_owned() };
    let size = element.size() as usize;
    if data.len() > size && elements.all(|element| element == first) {
        return format!("fill {first}");
    }
    let row = shape.last().map_or(1, |extent| *extent as usize).max(1).saturating_mul(size);
    let mut out = String::from("[\n");
    for line in data.chunks(row).flat_map(|row| row.chunks(LINE_ELEMENTS * size)) {
        let line: Vec<String> = element.elements(line).map(|element| element.to_string()).collect();
        let _ = writeln!(out, "    {},", line.join(", "));
    }
    out.push(']');
    out
}

/// A two's complement number of so many bits.
fn signed(bits: u64, width: u32) -> i64 {
    let unused = u64::BITS - width;
    (bits << unused) as i64 >> unused
}

/// A scale: as a number if reading the number gives the same bits.
fn float32(bits: u32) -> String {
    let value = f32::from_bits(bits);
    let text = format!("{value:?}");
    // As the assembler reads it: through float64.
    let read = text.parse().map(|read: f64| (read as f32).to_bits());
    if value.is_finite() && read == Ok(bits) { text } else { format!("f32bits({bits:#x})") }
}

/// Writes single items of a program as text, with the program's symbols.
#[derive(Debug, Clone)]
pub struct Disassembler<'p> {
    program: &'p Program,
    /// Buffers with at least one byte, by address; of equal ones the first declared.
    buffers: Vec<&'p Buffer>,
    /// The first declared region of each row of the scratchpad and of the accumulator.
    regions: [Vec<Option<&'p LocalRegion>>; 2],
}

impl<'p> Disassembler<'p> {
    /// With the symbols of this program, which is well formed ([`Program::check`]).
    pub fn new(program: &'p Program) -> Self {
        let mut buffers: Vec<&Buffer> = program.buffers.iter().filter(|buffer| !buffer.is_empty()).collect();
        buffers.sort_by_key(|buffer| buffer.address);
        buffers.dedup_by_key(|buffer| buffer.address);
        let regions = [false, true].map(|accumulator| regions_by_row(&program.regions, accumulator));
        Self { program, buffers, regions }
    }

    /// A line of text for an item, without the line's end.
    pub fn item(&self, item: &StreamItem) -> String {
        match item {
            StreamItem::Command(command) => self.command(*command),
            StreamItem::Fence => "fence".to_owned(),
            StreamItem::Wait(cycles) => format!("wait {cycles}"),
            StreamItem::Mark(name) => format!("mark {}", quote(name)),
            StreamItem::Write { address, bytes } => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("write {}: i8[{}] = hex \"{digits}\"", self.dram(*address), bytes.len())
            }
        }
    }

    /// A line of text for a command, without the line's end.
    pub fn command(&self, command: RoccCommand) -> String {
        let config = &self.program.config;
        match Command::decode_exact(config, command) {
            Ok(decoded) => {
                let mut out = decoded.mnemonic().to_owned();
                for (field, value) in decoded.operands() {
                    if field.default_value(config) != Some(value) {
                        out.push(' ');
                        out.push_str(&self.operand(field, value));
                    }
                }
                out
            }
            Err(reason) => {
                let RoccCommand { funct, rs1, rs2 } = command;
                format!("raw funct={funct} rs1={rs1:#x} rs2={rs2:#x} # {reason}")
            }
        }
    }

    fn operand(&self, field: &FieldSpec, bits: u64) -> String {
        let value = match field.kind {
            FieldKind::Flag if bits == 1 => return field.name.to_owned(),
            FieldKind::Flag | FieldKind::Unsigned => bits.to_string(),
            FieldKind::Signed => signed(bits, field.kept_bits(&self.program.config)).to_string(),
            FieldKind::Float32 => float32(bits as u32),
            FieldKind::Named(_) => field.name_of(bits).map_or_else(|| bits.to_string(), str::to_owned),
            FieldKind::LocalAddress => self.local(LocalAddr(bits as u32)),
            FieldKind::DramAddress => self.dram(bits),
        };
        format!("{}={value}", field.name)
    }

    /// A main memory address: an element of a buffer, an offset into one, or a number.
    fn dram(&self, address: u64) -> String {
        let behind = self.buffers.partition_point(|buffer| buffer.address <= address);
        let buffer = behind.checked_sub(1).map(|index| self.buffers[index]);
        let Some(buffer) = buffer.filter(|buffer| buffer.range().contains(&address)) else {
            return if address == 0 { "0".to_owned() } else { format!("{address:#x}") };
        };
        let (name, offset) = (symbol(&buffer.name), address - buffer.address);
        if offset == 0 {
            return name;
        }
        if offset % buffer.element.size() != 0 {
            return format!("{name} + {offset}");
        }
        let mut rest = offset / buffer.element.size();
        let mut indices: Vec<u64> = Vec::new();
        for extent in buffer.shape.iter().rev() {
            indices.push(rest % extent);
            rest /= extent;
        }
        indices.reverse();
        format!("{name}[{}]", extents(&indices))
    }

    /// A local address, by its region if it is in one; by its bits if it is not of the usual form.
    fn local(&self, address: LocalAddr) -> String {
        let layout = self.program.config.layout();
        if address == LocalAddr::GARBAGE {
            return "garbage".to_owned();
        }
        let row = address.data(layout);
        let plain = if address.is_acc() { LocalAddr::accumulator(row) } else { LocalAddr::scratchpad(row) };
        let mut usual = plain;
        let mut text = self.row(plain, row);
        if address.is_acc() && address.norm_cmd() != NormCmd::Reset {
            usual = usual.with_norm_cmd(address.norm_cmd());
            let code = address.norm_cmd().to_bits();
            let name = NormCmd::NAMES.iter().find(|(_, value)| *value == code).map_or("", |(name, _)| name);
            text = format!("norm({text}, {name})");
        }
        if address.is_acc() && address.accumulate() {
            usual = usual.with_accumulate();
            text = format!("accumulate({text})");
        }
        if address.is_acc() && address.read_full() {
            usual = usual.with_full();
            text = format!("full({text})");
        }
        let (_, rows) = memory_of(layout, address.is_acc());
        if usual == address && row < rows { text } else { format!("local({:#010x})", address.0) }
    }

    fn row(&self, address: LocalAddr, row: u32) -> String {
        match self.regions[usize::from(address.is_acc())].get(row as usize).copied().flatten() {
            Some(region) if region_address(region) == address => symbol(&region.name),
            Some(region) => format!("{}[{}]", symbol(&region.name), row - region.row),
            None if address.is_acc() => format!("acc({row})"),
            None => format!("spad({row})"),
        }
    }
}

/// The first declared region of each row of a memory, up to the last row of a region.
fn regions_by_row(regions: &[LocalRegion], accumulator: bool) -> Vec<Option<&LocalRegion>> {
    let regions = regions.iter().filter(|region| region.accumulator == accumulator);
    let range = |region: &LocalRegion| region.row as usize..region.row as usize + region.rows as usize;
    let end = regions.clone().map(|region| range(region).end).max().unwrap_or(0);
    let mut owners = vec![None; end];
    // From each row to one not before it that has no owner, as far as known: no row is looked at again and again.
    let mut free: Vec<usize> = (0..=end).collect();
    for region in regions {
        let mut row = range(region).start;
        while row < range(region).end {
            let mut next = row;
            while free[next] != next {
                free[next] = free[free[next]];
                next = free[next];
            }
            free[row] = next;
            if next < range(region).end {
                owners[next] = Some(region);
                free[next] = next + 1;
            }
            row = next + 1;
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_that_prints_exactly_is_a_number_and_others_are_bits() {
        for (bits, text) in [
            (0x3f80_0000, "1.0"),
            (0x8000_0000, "-0.0"),
            (0x0000_0001, "1e-45"),
            (0x3dcc_cccd, "0.1"),
            (0x7f80_0000, "f32bits(0x7f800000)"),
            (0x7fa0_0001, "f32bits(0x7fa00001)"),
        ] {
            assert_eq!(float32(bits), text);
        }
    }

    #[test]
    fn narrow_numbers_are_sign_extended() {
        assert_eq!(signed(0xffff, 16), -1);
        assert_eq!(signed(0x7fff, 16), 32767);
        assert_eq!(signed(0x8000_0000, 32), i64::from(i32::MIN));
    }
}
