//! A C header with a typed function for every instruction, made from the table.
//!
//! Operands are written by name, as in assembly, and those with a default may be left out:
//! `gemmini_mvin(.dram = a, .local = gemmini_spad(0), .cols = 16, .rows = 16);`.

use std::fmt::Write as _;

use crate::config::Opcode;
use crate::local_addr::LocalAddr;
use crate::table::{FieldKind, FieldSpec, INSTRUCTIONS, InstructionSpec, Quantity, Register};

/// Symbol-free section in which every object file says the DIM that it was compiled for.
pub const DIM_SECTION: &str = ".gemmini.dim";

const HEADING: &str = "\
/* Gemmini's instructions as C functions. Made by `pollux isa --header`: do not edit.
 *
 * Operands are written by name, as in Pollux's assembly; those with a default may be left out:
 *
 *     gemmini_config_ld(.stride = 16);
 *     gemmini_mvin(.dram = a, .local = gemmini_spad(0), .cols = 16, .rows = 16);
 *
 * Operands without a default are 0 if they are left out. C99 or later, not C++.
 * Define GEMMINI_DIM before the header for an array that is not 16 x 16.
 */
#ifndef GEMMINI_H
#define GEMMINI_H

#include <stdbool.h>
#include <stdint.h>

#ifndef GEMMINI_DIM
#define GEMMINI_DIM 16
#endif
";

const HELPERS: &str = "\
#define GEMMINI_STRING_(text) #text
#define GEMMINI_STRING(text) GEMMINI_STRING_(text)

/* The array's size, for whoever loads the program. */
__asm__(\".pushsection .gemmini.dim,\\\"\\\",@progbits\\n\\t.2byte \" GEMMINI_STRING(GEMMINI_DIM) \"\\n\\t.popsection\");

/* A row of the scratchpad or of the accumulator. */
typedef uint32_t gemmini_local_t;

/* Row of the scratchpad. */
static inline gemmini_local_t gemmini_spad(uint32_t row) { return row; }

/* Row of the accumulator: written over, and read as input elements. */
static inline gemmini_local_t gemmini_acc(uint32_t row) { return GEMMINI_ACC | row; }

/* Row of the accumulator: added to. */
static inline gemmini_local_t gemmini_acc_add(uint32_t row) { return GEMMINI_ACC | GEMMINI_ACCUMULATE | row; }

/* Row of the accumulator: read in full width. */
static inline gemmini_local_t gemmini_acc_full(uint32_t row) { return GEMMINI_ACC | GEMMINI_FULL | row; }

/* Waits until Gemmini is idle and its stores are visible. */
static inline void gemmini_fence(void) { __asm__ volatile(\"fence\" ::: \"memory\"); }

static inline uint64_t gemmini_float_bits(float value) {
  union { float value; uint32_t bits; } u = { .value = value };
  return u.bits;
}
";

/// The header.
pub fn header() -> String {
    let mut out = HEADING.to_owned();
    // Writing to a string does not fail.
    let _ = write!(out, "\n/* Parts of a local address. */\n");
    for (name, bits) in [
        ("GEMMINI_ACC", LocalAddr::accumulator(0).0),
        ("GEMMINI_ACCUMULATE", LocalAddr(0).with_accumulate().0),
        ("GEMMINI_FULL", LocalAddr(0).with_full().0),
        ("GEMMINI_GARBAGE", LocalAddr::GARBAGE.0),
    ] {
        let _ = writeln!(out, "#define {name} UINT32_C({bits:#010x})");
    }
    out.push_str("\n/* Values of operands. */\n");
    names(&mut out);
    let _ = write!(out, "\n{HELPERS}");
    INSTRUCTIONS.iter().for_each(|spec| instruction(&mut out, spec));
    out.push_str("\n#endif\n");
    out
}

/// A macro for each named value, once.
fn names(out: &mut String) {
    let mut known = Vec::new();
    for field in INSTRUCTIONS.iter().flat_map(|spec| spec.fields) {
        let FieldKind::Named(names) = field.kind else { continue };
        for (name, value) in names {
            let line = format!("#define {} {value}", value_name(field, name));
            if !known.contains(&line) {
                let _ = writeln!(out, "{line}");
                known.push(line);
            }
        }
    }
}

fn value_name(field: &FieldSpec, name: &str) -> String {
    format!("GEMMINI_{}_{}", field.name, name).to_uppercase()
}

fn c_type(field: &FieldSpec) -> &'static str {
    match field.kind {
        FieldKind::Flag => "bool",
        FieldKind::Signed => "int32_t",
        FieldKind::Float32 => "float",
        FieldKind::LocalAddress => "gemmini_local_t",
        FieldKind::DramAddress => "const volatile void *",
        FieldKind::Unsigned | FieldKind::Named(_) => match field.width {
            0..=8 => "uint8_t",
            9..=16 => "uint16_t",
            17..=32 => "uint32_t",
            _ => "uint64_t",
        },
    }
}

/// The default as an initialiser, if it is not 0.
fn initialiser(field: &FieldSpec) -> Option<String> {
    let value = match (field.default?, field.kind) {
        (Quantity::Dim, _) => "GEMMINI_DIM".to_owned(),
        (Quantity::Fixed(0), _) => return None,
        (Quantity::Fixed(bits), FieldKind::Float32) => format!("{:?}f", f32::from_bits(bits as u32)),
        (Quantity::Fixed(bits), FieldKind::LocalAddress) if bits as u32 == LocalAddr::GARBAGE.0 => {
            "GEMMINI_GARBAGE".to_owned()
        }
        (Quantity::Fixed(bits), _) => bits.to_string(),
        // No default depends on anything else.
        (_, _) => return None,
    };
    Some(format!(".{} = {value}", field.name))
}

/// The operand as bits of its register.
fn encoding(field: &FieldSpec) -> String {
    let name = field.name;
    let value = match field.kind {
        FieldKind::Float32 => format!("gemmini_float_bits(o.{name})"),
        FieldKind::DramAddress => format!("(uint64_t)(uintptr_t)o.{name}"),
        FieldKind::Signed => format!("(uint64_t)(uint32_t)o.{name}"),
        _ => format!("(uint64_t)o.{name}"),
    };
    // The type may have more bits than the field.
    let type_bits = match c_type(field) {
        "bool" => 1,
        "uint8_t" => 8,
        "uint16_t" => 16,
        "uint64_t" | "const volatile void *" => 64,
        _ => 32,
    };
    let value = if type_bits > field.width { format!("({value} & {:#x})", (1u64 << field.width) - 1) } else { value };
    if field.lsb == 0 { value } else { format!("{value} << {}", field.lsb) }
}

fn instruction(out: &mut String, spec: &InstructionSpec) {
    let mnemonic = spec.mnemonic;
    let _ = write!(out, "\n/* {} */\nstruct gemmini_{mnemonic} {{\n", spec.meaning);
    for field in spec.fields {
        let separator = if c_type(field).ends_with('*') { "" } else { " " };
        let _ = writeln!(out, "  {}{separator}{}; /* {} */", c_type(field), field.name, field.meaning);
    }
    let result = if spec.has_response() { "uint64_t" } else { "void" };
    let _ = writeln!(out, "}};\n\nstatic inline {result} gemmini_{mnemonic}_(struct gemmini_{mnemonic} o) {{");
    for register in [Register::Rs1, Register::Rs2] {
        let subtype = spec.subtype.filter(|subtype| register == Register::Rs1 && *subtype != 0);
        let fields = spec.fields.iter().filter(|field| field.register == register).map(encoding);
        let parts: Vec<String> = subtype.iter().map(|subtype| format!("UINT64_C({subtype})")).chain(fields).collect();
        let value = if parts.is_empty() { "0".to_owned() } else { parts.join(" | ") };
        let _ = writeln!(out, "  uint64_t {} = {value};", register.name());
    }
    let (opcode, funct) = (Opcode::Custom3.bits(), spec.funct);
    if spec.has_response() {
        let asm = format!(".insn r {opcode:#x}, 7, {funct}, %0, %1, %2");
        let _ = writeln!(out, "  uint64_t rd;");
        let _ = writeln!(out, "  __asm__ volatile(\"{asm}\" : \"=r\"(rd) : \"r\"(rs1), \"r\"(rs2) : \"memory\");");
        let _ = writeln!(out, "  return rd;\n}}");
    } else {
        let asm = format!(".insn r {opcode:#x}, 3, {funct}, x0, %0, %1");
        let _ = writeln!(out, "  __asm__ volatile(\"{asm}\" : : \"r\"(rs1), \"r\"(rs2) : \"memory\");\n}}");
    }
    let defaults: String = spec.fields.iter().filter_map(initialiser).map(|text| format!("{text}, ")).collect();
    let _ = writeln!(
        out,
        "#define gemmini_{mnemonic}(...) gemmini_{mnemonic}_((struct gemmini_{mnemonic}){{ {defaults}__VA_ARGS__ }})"
    );
}
