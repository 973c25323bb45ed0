//! Main memory addresses as seen by a machine that is to meet the same situation at other addresses.
//!
//! Cycles depend on where an operand lies in two ways only: on its position within the largest request, and on which accesses are in the
//! page of the one before, as far as both engines miss their page registers at once (`FrontendTLB.scala`). [`place`] therefore gives
//! every operand of the host's commands an address space of its own: the address that the machine works with is the operand's number in
//! the upper bits, and in the lower ones a distance that keeps the position within a request.
//!
//! ```text
//!    39        31 30                                6 5        0
//!   | operand    | requests from the middle of space | in request |
//! ```
//!
//! [`OperandSpace`] knows where each operand really lies, so that pages are compared as they are, and notes what the page registers are
//! asked: with other operands the same questions may have other answers.
//! Operand 0 is main memory itself, and all that a machine knows whose addresses are what they are.

/// Number of an operand.
pub(crate) type OperandTag = u16;

/// Where an operand comes from: the operands of a state in their order, then those of a segment's commands.
pub(crate) type Source = u16;

/// The operand that is main memory itself.
pub(crate) const MAIN_MEMORY: OperandTag = 0;
/// The operands that the page registers of the TLB's clients stand for, after a state has been brought to another place.
pub(crate) const PAGE_REGISTERS: [OperandTag; 2] = [1, 2];

/// Bits of a distance.
const DISTANCE_BITS: u32 = 31;
/// Operands that can be told apart: an address has 40 bits (`CORE_MAX_ADDR_BITS`).
pub(crate) const OPERANDS: usize = 1 << (40 - DISTANCE_BITS);
/// Distance of an operand's first byte, but for its position within a request.
const MIDDLE: u64 = 1 << (DISTANCE_BITS - 1);
/// Where main memory lies as an operand, so that its distances are addresses.
pub(crate) const MAIN_MEMORY_BASE: u64 = MIDDLE;
/// Bytes that may lie between an operand's first byte and any byte that a command reaches from it.
pub(crate) const REACH: u64 = MIDDLE - 2 * PAGE;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 12;

/// The operand and the distance within it.
pub(crate) fn split(address: u64) -> (OperandTag, u64) {
    ((address >> DISTANCE_BITS) as OperandTag, address & ((1 << DISTANCE_BITS) - 1))
}

/// The address at which a machine sees operand `tag`, whose first byte is at `address`. `request` is a power of two of bytes.
pub(crate) fn place(tag: OperandTag, address: u64, request: u64) -> u64 {
    (u64::from(tag) << DISTANCE_BITS) | MIDDLE | (address % request)
}

/// Where an operand lies whose first byte is at `address`: the beginning of its first request.
pub(crate) fn base(address: u64, request: u64) -> u64 {
    address - address % request
}

/// The page of a distance in an operand that lies at `base`.
pub(crate) fn page(base: u64, distance: u32) -> u64 {
    base.wrapping_add(u64::from(distance)).wrapping_sub(MIDDLE) >> PAGE_BITS
}

/// Number of the writer among the TLB's clients.
pub const TLB_WRITER: usize = 0;
/// Number of the reader among the TLB's clients.
pub const TLB_READER: usize = 1;

/// A question to the page register of a client of the TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PageQuestion {
    /// The client.
    pub client: u8,
    /// It asks, and looks for its page in the TLB if the register does not hold it; else it only looks at the register.
    pub asks: bool,
    /// It asked in the cycle before, too.
    pub follows: bool,
    /// The client before this one asks in the same cycle.
    pub together: bool,
    /// Operand.
    pub tag: OperandTag,
    /// Distance within it.
    pub distance: u32,
}

/// What happens to the page registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageEvent {
    /// A client has a question.
    Question(PageQuestion),
    /// They are emptied, in a cycle in which these clients ask.
    Flush([bool; 2]),
}

/// What of the page registers' answers is counted, whether time depends on it or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CountedAnswers {
    #[default]
    None,
    /// To clients that ask.
    Asked,
    /// All, whether they were asked for or not: by the profile of a run.
    All,
}

/// Where operands lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperandSpace {
    /// By operand. Empty if addresses are what they are.
    bases: Vec<u64>,
    events: Vec<PageEvent>,
    /// What of the answers is counted.
    counted: CountedAnswers,
    /// Clients whose page register was written since their last question.
    written: [bool; 2],
}

impl OperandSpace {
    /// A space in which operands can be placed.
    pub fn with_operands(counted: CountedAnswers) -> Self {
        // Operand 0 lies where its distances are addresses.
        let mut bases = vec![0; OPERANDS];
        bases[usize::from(MAIN_MEMORY)] = MAIN_MEMORY_BASE;
        Self { bases, events: Vec::new(), counted, written: [false; 2] }
    }

    /// Operand `tag` lies at `base`.
    pub fn set(&mut self, tag: OperandTag, base: u64) {
        if let Some(known) = self.bases.get_mut(usize::from(tag)) {
            *known = base;
        }
    }

    /// Where operand `tag` lies.
    pub fn base(&self, tag: OperandTag) -> u64 {
        self.bases.get(usize::from(tag)).copied().unwrap_or(MIDDLE)
    }

    /// Whether two addresses lie in the same page.
    #[inline]
    pub fn same_page(&self, a: u64, b: u64) -> bool {
        if self.bases.is_empty() { (a ^ b) >> PAGE_BITS == 0 } else { self.page(a) == self.page(b) }
    }

    /// The page of an address.
    pub fn page(&self, address: u64) -> u64 {
        let (tag, distance) = split(address);
        page(self.base(tag), distance as u32)
    }

    /// Notes a question to the page register of a client. One that was asked in the cycle before, by a client that only looks, is none;
    /// and the reader, in which no packet stalls behind the TLB (`StreamReader`), only sees answers that it has asked for: the others
    /// are only counted.
    #[inline]
    pub fn note(&mut self, client: usize, address: u64, asks: bool, follows: bool, together: bool, repeats: bool) {
        let unseen =
            !asks && (client == TLB_READER && self.counted < CountedAnswers::All || repeats && !self.written[client]);
        if self.bases.is_empty() || unseen {
            return;
        }
        self.written[client] = false;
        let (tag, distance) = split(address);
        let question = PageQuestion { client: client as u8, asks, follows, together, tag, distance: distance as u32 };
        self.events.push(PageEvent::Question(question));
    }

    /// What of the answers is counted.
    pub fn counted(&self) -> CountedAnswers {
        self.counted
    }

    /// Notes that the page register of a client is written.
    #[inline]
    pub fn note_written(&mut self, client: usize) {
        self.written[client] = true;
    }

    /// A segment begins: of these clients, the next question is noted even if it is the one before, as its answer may be another one
    /// where the segment is replayed.
    pub fn begin(&mut self, looking: [bool; 2]) {
        self.events.clear();
        self.written = looking.map(|looks| looks || self.counted == CountedAnswers::All);
    }

    /// Notes that the page registers are emptied.
    pub fn note_flush(&mut self, asks: [bool; 2]) {
        self.written = [true; 2];
        if !self.bases.is_empty() {
            self.events.push(PageEvent::Flush(asks));
        }
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<PageEvent> {
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_operand_and_its_place_in_the_request() {
        let seen = place(5, 0x1234_5678, 64);
        assert_eq!(split(seen).0, 5);
        assert_eq!(seen % 64, 0x38);
        assert_eq!(split(seen + 3 * PAGE).1 - split(seen).1, 3 * PAGE);
    }

    #[test]
    fn operands_share_a_page_only_if_they_really_do() {
        let mut space = OperandSpace::with_operands(CountedAnswers::None);
        let (first, second) = (0x8000_0140, 0x8000_2f00);
        space.set(3, base(first, 64));
        space.set(4, base(second, 64));
        let (a, b) = (place(3, first, 64), place(4, second, 64));
        assert!(!space.same_page(a, b));
        assert!(space.same_page(a + 2 * PAGE, b));
        assert!(space.same_page(a, a + 0x100) && !space.same_page(a, a + PAGE - 0x140));
        assert!(space.same_page(b, b + 0xff) && !space.same_page(b, b + 0x100));
        assert!(space.same_page(0x12_3456, 0x12_3fff) && !space.same_page(0x12_3456, 0x12_4000));
    }

    #[test]
    fn without_operands_addresses_are_what_they_are() {
        let mut space = OperandSpace::default();
        assert!(space.same_page(0x80_0000_0100, 0x80_0000_0fff));
        assert!(!space.same_page(0x80_0000_0100, 0x0100));
        space.note(0, 0x100, true, false, false, false);
        assert!(space.take_events().is_empty());
    }
}
