//! Small ELF files made word by word.
#![allow(dead_code)] // every test file uses its part

use pollux_isa::ValidConfig;
use pollux_riscv::{Elf, Machine, Setup};

/// First address of memory.
pub const BASE: u64 = 0x8000_0000;

/// The bytes of an ELF file with one segment at [`BASE`], where it starts, and the host's words at these addresses.
pub fn elf_bytes(code: &[u8], host: Option<(u64, u64)>) -> Vec<u8> {
    const EHDR: u64 = 64;
    const PHDR: u64 = 56;
    const SHDR: u64 = 64;
    let strings = b"\0tohost\0fromhost\0.symtab\0.strtab\0";
    let code_at = EHDR + PHDR;
    let symbols_at = code_at + code.len() as u64;
    let mut symbols = vec![0; 24];
    if let Some((tohost, fromhost)) = host {
        for (name, value) in [(1u32, tohost), (8, fromhost)] {
            symbols.extend(name.to_le_bytes());
            // Global, absolute.
            symbols.extend([0x10, 0, 0xf1, 0xff]);
            symbols.extend(value.to_le_bytes());
            symbols.extend([0; 8]);
        }
    }
    let strings_at = symbols_at + symbols.len() as u64;
    let sections_at = strings_at + strings.len() as u64;
    let mut out = Vec::new();
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend([2, 0, 243, 0, 1, 0, 0, 0]);
    [BASE, EHDR, sections_at].iter().for_each(|word| out.extend(word.to_le_bytes()));
    out.extend([0; 4]);
    [64u16, 56, 1, 64, 3, 2].iter().for_each(|half| out.extend(half.to_le_bytes()));
    // PT_LOAD, readable, writable, executable.
    out.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    let length = code.len() as u64;
    [code_at, BASE, BASE, length, length.max(0x1000), 1].iter().for_each(|word| out.extend(word.to_le_bytes()));
    out.extend(code);
    out.extend(&symbols);
    out.extend(strings);
    out.extend([0; SHDR as usize]);
    let mut section = |name: u32, kind: u32, at: u64, length: u64, link: u32, info: u32, entry: u64| {
        [name, kind].iter().for_each(|word| out.extend(word.to_le_bytes()));
        [0, 0, at, length].iter().for_each(|word: &u64| out.extend(word.to_le_bytes()));
        [link, info].iter().for_each(|word| out.extend(word.to_le_bytes()));
        [1, entry].iter().for_each(|word| out.extend(word.to_le_bytes()));
    };
    section(17, 2, symbols_at, symbols.len() as u64, 2, 1, 24);
    section(25, 3, strings_at, strings.len() as u64, 0, 0, 0);
    out
}

/// Where programs of these tests have the host's words.
pub const HOST: (u64, u64) = (BASE + 0x800, BASE + 0x840);

/// A machine about to execute these words.
pub fn machine(words: &[u32]) -> Machine {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let elf = Elf::parse(&elf_bytes(&code, Some(HOST))).expect("an ELF file");
    Machine::new(Setup::new(ValidConfig::default()), &elf).expect("it fits")
}
