//! Branch prediction: target buffer, history table and return stack (`BTB.scala`).

/// `BTBParams`: entries, bits of the address that an entry matches, pages for the other bits, return addresses.
const ENTRIES: usize = 28;
const MATCH_BITS: u32 = 14;
const PAGES: usize = 6;
const RAS: usize = 6;
/// `BHTParams`: one-bit counters, 8 bits of history of which 3 are hashed in.
const BHT_ENTRIES: u64 = 512;
const HISTORY_LENGTH: u32 = 8;
const HISTORY_BITS: u32 = 3;

/// Kind of an instruction that changes the program counter (`CFIType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cfi {
    /// Conditional branch.
    #[default]
    Branch,
    /// Jump.
    Jump,
    /// Call.
    Call,
    /// Return.
    Ret,
}

/// What the history table says (`BHTResp`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BhtResp {
    /// History at the time.
    pub history: u8,
    /// The counter.
    pub taken: bool,
}

/// A prediction (`BTBResp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtbResp {
    /// An entry matches.
    pub valid: bool,
    /// More than one does.
    pub several: bool,
    /// The packet ends with a taken jump.
    pub taken: bool,
    /// The half word of the packet in which that ends.
    pub bridx: u8,
    /// Where it goes.
    pub target: u64,
    /// The entry; `ENTRIES` if there is none.
    pub entry: usize,
    /// History table.
    pub bht: BhtResp,
}

/// No prediction.
impl Default for BtbResp {
    fn default() -> Self {
        Self {
            valid: false,
            several: false,
            taken: false,
            bridx: 0,
            target: 0,
            entry: ENTRIES,
            bht: BhtResp::default(),
        }
    }
}

/// A change of the target buffer (`BTBUpdate`). Its target is what is fetched in the next cycle.
#[derive(Clone, Copy, Debug)]
pub struct BtbUpdate {
    /// Address of the packet.
    pub pc: u64,
    /// Address of the instruction's last half word.
    pub br_pc: u64,
    /// The entry that was used, or `ENTRIES`.
    pub entry: usize,
    /// The entry is to be valid.
    pub is_valid: bool,
    /// Kind of instruction.
    pub cfi: Cfi,
}

impl BtbUpdate {
    /// Number that names no entry.
    pub const NO_ENTRY: usize = ENTRIES;
}

/// A branch that is known (`BHTUpdate`).
#[derive(Clone, Copy, Debug)]
pub struct BhtUpdate {
    /// Address of the packet.
    pub pc: u64,
    /// The prediction.
    pub prediction: BhtResp,
    /// It is a conditional branch.
    pub branch: bool,
    /// It is taken.
    pub taken: bool,
    /// What followed was wrong.
    pub mispredict: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    valid: bool,
    index: u32,
    page: usize,
    target: u32,
    target_page: usize,
    cfi: Cfi,
    bridx: u8,
}

/// The return stack.
#[derive(Clone, Copy, Debug, Default)]
struct ReturnStack {
    count: usize,
    position: usize,
    stack: [u64; RAS],
}

impl ReturnStack {
    fn push(&mut self, address: u64) {
        self.count = (self.count + 1).min(RAS);
        self.position = (self.position + 1) % RAS;
        self.stack[self.position] = address;
    }

    fn pop(&mut self) {
        if self.count > 0 {
            self.count -= 1;
            self.position = (self.position + RAS - 1) % RAS;
        }
    }

    fn head(&self) -> Option<u64> {
        (self.count > 0).then(|| self.stack[self.position])
    }
}

/// The predictor.
#[derive(Clone, Debug)]
pub struct Btb {
    entries: [Entry; ENTRIES],
    /// Entries by the low bits of what they match, so that most lookups need not search.
    filter: [bool; 64],
    pages: [Option<u64>; PAGES],
    next_page: usize,
    plru: u32,
    update: Option<BtbUpdate>,
    touched: Option<usize>,
    bht: Vec<bool>,
    history: u8,
    ras: ReturnStack,
}

impl Default for Btb {
    fn default() -> Self {
        Self {
            entries: [Entry::default(); ENTRIES],
            filter: [false; 64],
            pages: [None; PAGES],
            next_page: 0,
            plru: 0,
            update: None,
            touched: None,
            bht: vec![false; BHT_ENTRIES as usize],
            history: 0,
            ras: ReturnStack::default(),
        }
    }
}

/// What happens to the predictor at a clock edge.
#[derive(Clone, Copy, Debug, Default)]
pub struct BtbInputs {
    /// The packet that is looked up in this cycle.
    pub pc: u64,
    /// The answer that was given.
    pub resp: BtbResp,
    /// A change of the target buffer.
    pub btb_update: Option<BtbUpdate>,
    /// A branch that is known.
    pub bht_update: Option<BhtUpdate>,
    /// A branch has been fetched, predicted like this.
    pub bht_advance: Option<bool>,
    /// A call, with the address behind it, or a return.
    pub ras_update: Option<Option<u64>>,
    /// All entries become invalid.
    pub flush: bool,
}

impl Btb {
    fn page(address: u64) -> u64 {
        address >> MATCH_BITS
    }

    fn index(address: u64) -> u32 {
        (address & ((1 << MATCH_BITS) - 1)) as u32 >> 1
    }

    /// `hashAddr` and `hashHistory`.
    fn bht_index(address: u64, history: u8) -> usize {
        let high = address >> 2;
        let hashed = (high & (BHT_ENTRIES - 1)) ^ (high >> BHT_ENTRIES.trailing_zeros() & 3);
        // sqrt(3) / 2 of 2^8.
        let history = ((221 * u32::from(history)) & 0xff) >> (HISTORY_LENGTH - HISTORY_BITS);
        (hashed ^ u64::from(history) << (BHT_ENTRIES.trailing_zeros() - HISTORY_BITS)) as usize
    }

    /// The prediction for the packet at an address.
    pub fn lookup(&self, address: u64) -> BtbResp {
        let history = self.history;
        let bht = BhtResp { history, taken: self.bht[Self::bht_index(address, history)] };
        let index = Self::index(address);
        let mut resp = BtbResp { bht, ..BtbResp::default() };
        if !self.filter[Self::filter_of(index)] {
            return resp;
        }
        // Two entries may match one packet. The selectors are of the one-hot kind, so what both say is combined by OR.
        let (mut page, mut target, mut target_page, mut number) = (0, 0, 0, 0);
        let (mut matches, mut branch, mut ret) = (0, false, false);
        for (n, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.valid && entry.index == index) {
            matches += 1;
            number |= n;
            page |= entry.page + 1;
            target |= entry.target;
            target_page |= entry.target_page;
            resp.bridx |= entry.bridx;
            branch |= entry.cfi == Cfi::Branch;
            ret |= entry.cfi == Cfi::Ret;
        }
        let page_of = |number: usize| self.pages.get(number).copied().flatten();
        resp.several = matches > 1;
        resp.valid = matches > 0 && page_of(page - 1) == Some(Self::page(address));
        resp.taken = !branch || bht.taken;
        resp.entry = number;
        resp.target = page_of(target_page).unwrap_or(0) << MATCH_BITS | u64::from(target) << 1;
        if let Some(head) = self.ras.head().filter(|_| ret) {
            resp.target = head;
        }
        resp
    }

    /// The address on the return stack.
    pub fn ras_head(&self) -> Option<u64> {
        self.ras.head()
    }

    /// Looking up the same packet again and again changes nothing any more.
    pub fn settled(&self, address: u64) -> bool {
        let resp = self.lookup(address);
        let touches = (resp.valid && resp.taken).then_some(resp.entry);
        let used = touches.is_none_or(|entry| plru_next(self.plru, entry, ENTRIES) == self.plru);
        self.update.is_none() && !resp.several && self.touched == touches && used
    }

    /// Clock edge.
    pub fn tick(&mut self, inputs: &BtbInputs) {
        if let Some(update) = self.update.take() {
            self.write(&update, inputs.pc);
        } else if let Some(entry) = self.touched {
            self.plru = plru_next(self.plru, entry, ENTRIES);
        }
        self.touched = (inputs.resp.valid && inputs.resp.taken).then_some(inputs.resp.entry);
        self.update = inputs.btb_update;
        if inputs.resp.several {
            // Two entries for one packet: both go.
            let index = Self::index(inputs.pc);
            self.entries.iter_mut().filter(|entry| entry.index == index).for_each(|entry| entry.valid = false);
            self.refilter();
        }
        if inputs.flush {
            self.entries.iter_mut().for_each(|entry| entry.valid = false);
            self.filter = [false; 64];
        }
        if let Some(taken) = inputs.bht_advance {
            self.history = u8::from(taken) << (HISTORY_LENGTH - 1) | self.history >> 1;
        }
        if let Some(update) = &inputs.bht_update {
            let BhtUpdate { pc, prediction, branch, taken, mispredict } = *update;
            if branch {
                self.bht[Self::bht_index(pc, prediction.history)] = taken;
                if mispredict {
                    self.history = u8::from(taken) << (HISTORY_LENGTH - 1) | prediction.history >> 1;
                }
            } else if mispredict {
                self.history = prediction.history;
            }
        }
        match inputs.ras_update {
            Some(Some(address)) => self.ras.push(address),
            Some(None) => self.ras.pop(),
            None => {}
        }
    }

    /// Writes an entry; `target` is what is fetched now (lines 245 to 290).
    fn write(&mut self, update: &BtbUpdate, target: u64) {
        let find = |page: u64| self.pages.iter().position(|p| *p == Some(page));
        let (page, target_page) = (Self::page(update.pc), Self::page(target));
        let (update_hit, target_hit) = (find(page), find(target_page));
        let same = page == target_page;
        // The target's page, rotated by one, or the next one in turn.
        let index_replaced = target_hit.map_or(self.next_page, |hit| (hit + 1) % PAGES);
        let index_page = update_hit.unwrap_or(index_replaced);
        let target_replaced = if same { index_page } else { (index_page + 1) % PAGES };
        let target_slot = target_hit.unwrap_or(target_replaced);
        let (replaces_index, replaces_target) = (update_hit.is_none(), !same && target_hit.is_none());
        if replaces_index {
            self.pages[index_page] = Some(page);
        }
        if replaces_target {
            self.pages[target_replaced] = Some(target_page);
        }
        if replaces_index || replaces_target {
            let next = self.next_page + if replaces_index && replaces_target { 2 } else { 1 };
            self.next_page = if next >= PAGES { next & 1 } else { next };
        }
        let number = if update.entry < ENTRIES { update.entry } else { plru_way(self.plru, ENTRIES).min(ENTRIES - 1) };
        self.plru = plru_next(self.plru, number, ENTRIES);
        self.entries[number] = Entry {
            valid: update.is_valid,
            index: Self::index(update.pc),
            page: index_page,
            target: Self::index(target),
            target_page: target_slot,
            cfi: update.cfi,
            bridx: (update.br_pc >> 1 & 1) as u8,
        };
        self.refilter();
    }

    fn filter_of(index: u32) -> usize {
        index as usize >> 1 & 63
    }

    fn refilter(&mut self) {
        self.filter = [false; 64];
        for entry in self.entries.iter().filter(|entry| entry.valid) {
            self.filter[Self::filter_of(entry.index)] = true;
        }
    }
}

/// Ways of the right half of a tree (`PseudoLRU`, `util/Replacement.scala`).
fn right_ways(ways: usize) -> usize {
    ways.next_power_of_two() / 2
}

/// The state of a tree after a way is used.
fn plru_next(state: u32, way: usize, ways: usize) -> u32 {
    if ways <= 1 {
        return 0;
    }
    if ways == 2 {
        return u32::from(way & 1 == 0);
    }
    let right = right_ways(ways);
    let left = ways - right;
    let left_older = way & right == 0;
    let mask = |bits: usize| (1u32 << bits) - 1;
    let mut left_state = if left > 1 { state >> (right - 1) & mask(left - 1) } else { 0 };
    let mut right_state = state & mask(right - 1);
    if left_older {
        right_state = plru_next(right_state, way & (right - 1), right);
    } else if left > 1 {
        left_state = plru_next(left_state, way & (left.next_power_of_two() - 1), left);
    }
    u32::from(left_older) << (ways - 2) | left_state << (right - 1) | right_state
}

/// The way that a tree replaces.
fn plru_way(state: u32, ways: usize) -> usize {
    if ways <= 1 {
        return 0;
    }
    if ways == 2 {
        return (state & 1) as usize;
    }
    let right = right_ways(ways);
    let left = ways - right;
    let mask = |bits: usize| (1u32 << bits) - 1;
    if state >> (ways - 2) & 1 == 1 {
        right | if left > 1 { plru_way(state >> (right - 1) & mask(left - 1), left) } else { 0 }
    } else {
        plru_way(state & mask(right - 1), right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_replaces_every_way_in_turn() {
        let (mut state, mut seen) = (0, Vec::new());
        for _ in 0..ENTRIES {
            let way = plru_way(state, ENTRIES);
            seen.push(way);
            state = plru_next(state, way, ENTRIES);
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > ENTRIES / 2 && seen.iter().all(|way| *way < ENTRIES), "{seen:?}");
    }

    #[test]
    fn a_jump_is_predicted_once_it_is_known() {
        let mut btb = Btb::default();
        let update = BtbUpdate { pc: 0x8000_0100, br_pc: 0x8000_0102, entry: ENTRIES, is_valid: true, cfi: Cfi::Jump };
        btb.tick(&BtbInputs { btb_update: Some(update), ..BtbInputs::default() });
        btb.tick(&BtbInputs { pc: 0x8000_4000, ..BtbInputs::default() });
        let resp = btb.lookup(0x8000_0100);
        assert!(resp.valid && resp.taken && resp.bridx == 1);
        assert_eq!(resp.target, 0x8000_4000);
        assert!(!btb.lookup(0x8000_0104).valid);
    }
}
