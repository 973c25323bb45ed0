//! Decoded instructions, page by page.
//!
//! An instruction is decoded when it is executed first; `fence.i` forgets them all, as the manual demands of programs that
//! change their own code.

use std::collections::HashMap;

use crate::bus::Bus;
use crate::instruction::{Instruction, is_full};
use crate::trap::{Cause, Exception};

const PAGE_BITS: u32 = 12;
/// Instructions begin at even addresses.
const SLOTS: usize = 1 << (PAGE_BITS - 1);
/// Pages that are found without hashing.
const RECENT: usize = 64;

/// Decoded instructions.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    slots: Vec<Option<Instruction>>,
    /// Number of a page in memory, and where its slots begin.
    pages: HashMap<u64, usize>,
    /// The same for recent pages, by the low bits of the number; empty until there is one.
    recent: Vec<(u64, usize)>,
    current: (u64, usize),
}

/// No page has this number, since addresses have fewer pages.
const NONE: (u64, usize) = (u64::MAX, 0);

impl Default for Code {
    fn default() -> Self {
        Self { slots: Vec::new(), pages: HashMap::new(), recent: Vec::new(), current: NONE }
    }
}

impl Code {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The instruction at `pc`.
    #[inline(always)] // of the loop over instructions: its fields are read where they are
    pub fn fetch<B: Bus>(&mut self, pc: u64, bus: &mut B) -> Result<&Instruction, Exception> {
        let page = pc >> PAGE_BITS;
        if page != self.current.0 {
            self.turn(page);
        }
        let slot = &mut self.slots[self.current.1 + (pc as usize >> 1 & (SLOTS - 1))];
        match slot {
            Some(instruction) => Ok(instruction),
            None => decode(slot, pc, bus),
        }
    }

    /// Makes a page the current one.
    #[inline(never)]
    fn turn(&mut self, page: u64) {
        if self.recent.is_empty() {
            self.recent.resize(RECENT, NONE);
        }
        let recent = &mut self.recent[page as usize & (RECENT - 1)];
        if recent.0 != page {
            let next = self.slots.len();
            let first = *self.pages.entry(page).or_insert(next);
            if first == next {
                self.slots.resize(next + SLOTS, None);
            }
            *recent = (page, first);
        }
        self.current = *recent;
    }
}

#[cold]
#[inline(never)]
fn decode<'s, B: Bus>(slot: &'s mut Option<Instruction>, pc: u64, bus: &mut B) -> Result<&'s Instruction, Exception> {
    Ok(slot.insert(decode_at(pc, bus)?))
}

fn decode_at<B: Bus>(pc: u64, bus: &mut B) -> Result<Instruction, Exception> {
    let mut half = |address: u64| {
        let half = bus.fetch(address).map_err(|_| Exception::new(Cause::FetchAccess, address));
        half.map(u32::from)
    };
    let low = half(pc)?;
    let word = if is_full(low as u16) { low | half(pc.wrapping_add(2))? << 16 } else { low };
    Instruction::decode(word).ok_or(Exception::new(Cause::Illegal, word.into()))
}
