//! Main memory addresses as seen by a machine that is to meet the same situation at other addresses.
//!
//! Cycles depend on where an operand lies in two ways only: on its position within a page, and on whether two operands share a page when
//! one follows the other at a page register (`FrontendTLB.scala`). [`Operand::place`] therefore gives every operand of the host's
//! commands an address space of its own: the address that the machine works with is the operand's number in the upper bits, and in the
//! lower ones a distance that keeps the position within the page.
//!
//! ```text
//!    39        31 30                              12 11        0
//!   | operand    | pages from the middle of the space | in page |
//! ```
//!
//! [`OperandSpace`] knows where each operand really lies. It is asked when addresses of two operands are compared, and notes the
//! answers: they are what a situation depends on besides its state.
//! Operand 0 is main memory itself, and all that a machine knows whose addresses are what they are.

/// Number of an operand.
pub(crate) type OperandTag = u16;

/// The operand that is main memory itself.
pub(crate) const MAIN_MEMORY: OperandTag = 0;

/// Bits of a distance.
const DISTANCE_BITS: u32 = 31;
/// Operands that can be told apart: an address has 40 bits (`CORE_MAX_ADDR_BITS`).
pub(crate) const OPERANDS: usize = 1 << (40 - DISTANCE_BITS);
/// Distance of the page in which an operand begins.
const MIDDLE: u64 = 1 << (DISTANCE_BITS - 1);
/// Bytes that may lie between an operand's first byte and any byte that a command reaches from it.
pub(crate) const REACH: u64 = MIDDLE - 2 * PAGE;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 12;

/// The operand and the distance within it.
pub(crate) fn split(address: u64) -> (OperandTag, u64) {
    ((address >> DISTANCE_BITS) as OperandTag, address & ((1 << DISTANCE_BITS) - 1))
}

/// The page of a distance, seen from the one in which the operand begins.
pub(crate) fn page_within(distance: u64) -> i32 {
    (distance >> PAGE_BITS) as i32 - (MIDDLE >> PAGE_BITS) as i32
}

/// The address at which a machine sees operand `tag`, whose first byte is at `address`.
pub(crate) fn place(tag: OperandTag, address: u64) -> u64 {
    u64::from(tag) << DISTANCE_BITS | MIDDLE | address % PAGE
}

/// What was found out about the pages of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coincidence {
    /// Operand and page within it, twice.
    pub pages: [(OperandTag, i32); 2],
    /// They are one page.
    pub same: bool,
}

/// Where operands lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperandSpace {
    /// By operand: its first byte's page minus the page at which the machine sees it. Empty if addresses are what they are.
    offsets: Vec<i64>,
    coincidences: Vec<Coincidence>,
}

impl OperandSpace {
    /// A space in which operands can be placed.
    pub fn with_operands() -> Self {
        Self { offsets: vec![0; OPERANDS], coincidences: Vec::new() }
    }

    /// Operand `tag` begins at `address`.
    pub fn set(&mut self, tag: OperandTag, address: u64) {
        if let Some(offset) = self.offsets.get_mut(usize::from(tag)) {
            *offset = page_offset(address);
        }
    }

    /// The page in which operand `tag` begins.
    pub fn base(&self, tag: OperandTag) -> u64 {
        let offset = self.offsets.get(usize::from(tag)).copied().unwrap_or(0);
        ((offset + (MIDDLE >> PAGE_BITS) as i64) as u64) << PAGE_BITS
    }

    /// Whether two addresses lie in the same page.
    #[inline]
    pub fn same_page(&mut self, a: u64, b: u64) -> bool {
        if (a ^ b) >> DISTANCE_BITS == 0 || self.offsets.is_empty() {
            return (a ^ b) >> PAGE_BITS == 0;
        }
        self.compare(a, b)
    }

    #[cold]
    fn compare(&mut self, a: u64, b: u64) -> bool {
        let pages = [a, b].map(|address| {
            let (tag, distance) = split(address);
            (tag, (distance >> PAGE_BITS) as i32)
        });
        let [first, second] = pages.map(|(tag, page)| i64::from(page) + self.offsets[usize::from(tag)]);
        let found = Coincidence { pages, same: first == second };
        if self.coincidences.last() != Some(&found) {
            self.coincidences.push(found);
        }
        found.same
    }

    /// What was found out since the last call, each thing once.
    pub fn take_coincidences(&mut self) -> Vec<Coincidence> {
        let mut found = std::mem::take(&mut self.coincidences);
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The page in which an operand begins minus the page at which a machine sees it.
pub(crate) fn page_offset(address: u64) -> i64 {
    (address >> PAGE_BITS) as i64 - (MIDDLE >> PAGE_BITS) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_operand_and_its_place_in_the_page() {
        let seen = place(5, 0x1234_5678);
        assert_eq!(split(seen).0, 5);
        assert_eq!(seen % PAGE, 0x678);
        assert_eq!(split(seen + 3 * PAGE).1 - split(seen).1, 3 * PAGE);
    }

    #[test]
    fn operands_share_a_page_only_if_they_really_do_and_it_is_noted() {
        let mut space = OperandSpace::with_operands();
        space.set(1, 0x8000_0100);
        space.set(2, 0x8000_2f00);
        let (a, b) = (place(1, 0x8000_0100), place(2, 0x8000_2f00));
        assert!(!space.same_page(a, b));
        assert!(space.same_page(a + 2 * PAGE, b));
        assert!(space.same_page(a, a + 0x100) && !space.same_page(a, a + PAGE));
        let found = space.take_coincidences();
        assert_eq!(found.iter().filter(|c| c.same).count(), 1);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn without_operands_addresses_are_what_they_are() {
        let mut space = OperandSpace::default();
        assert!(space.same_page(0x80_0000_0100, 0x80_0000_0fff));
        assert!(!space.same_page(0x80_0000_0100, 0x0100));
        assert!(space.take_coincidences().is_empty());
    }
}
