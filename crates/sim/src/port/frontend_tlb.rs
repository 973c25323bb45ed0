//! Address translation in front of the DMA engines: one page register per engine and the TLB behind
//! a round-robin arbiter (`FrontendTLB.scala`; rocket-chip `rocket/TLB.scala`).
//!
//! A client that asks in cycle x has its answer in x+1. If its page register held the page in x, the
//! answer is the register's; else the request stands in a register in x+1, competes for the TLB, and
//! the TLB answers in the same cycle. Losing the arbiter shows as a miss, after which the engine
//! asks again. Untranslated operation therefore costs no more than a hit in the page register.
//!
//! The TLB holds `tlb_size / 4` entries of four neighbouring pages and four superpages. On a miss
//! (cycle y) it is in state `Request` in y+1, the page-table walker answers `walk_latency` cycles
//! later, and in that refill cycle everything misses. Other pages are answered meanwhile; a second
//! miss waits. The walker is not part of Gemmini: Pollux walks an Sv39 table, or maps every page to
//! itself, and takes the time that the configuration says.
//!
//! | name | direction | valid when | latency |
//! |---|---|---|---|
//! | `TlbRequest` | in | `valid` | - |
//! | `TlbResponse` | out | always; meaningful one cycle after a request | 1 |
//! | `flush` | in | FLUSH at the head of the command queue | page registers and TLB empty in the next cycle |

mod place;
mod view;

use pollux_isa::GemminiConfig;

use crate::front_end::counter_file::{CounterEvent, CounterEvents};
use crate::observation::activity::{Cause, Spent};
use crate::observation::counts::TlbCounts;
use crate::parts::canonical::Canonical;
use crate::port::operand_space::OperandSpace;
pub use crate::port::operand_space::{TLB_READER, TLB_WRITER};

/// Bits of a byte offset in a page.
const PAGE_BITS: u32 = 12;
/// Mask of a byte offset in a page.
const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;
/// Pages of one TLB entry (`nSectors`).
const SECTORS: usize = 4;
/// Superpage entries of the TLB (`nSuperpageEntries`).
const SUPERPAGES: usize = 4;
/// Levels of an Sv39 page table.
const LEVELS: u32 = 3;
/// Bits of a page number that one level translates.
const LEVEL_BITS: u32 = 9;
/// Clients of the shared TLB: writer, reader.
pub(crate) const CLIENTS: usize = 2;

/// A translation request of an engine (`FrontendTLBIO.req`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
pub struct TlbRequest {
    /// The request counts; the address is compared with the page register even if not.
    pub valid: bool,
    /// Virtual address.
    #[canon(address)]
    pub vaddr: u64,
    /// The address is physical already (`passthrough`).
    pub physical: bool,
    /// Stores need the page's write permission.
    pub write: bool,
}

/// The answer, one cycle after the request (`FrontendTLBIO.resp`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlbResponse {
    /// No translation yet: ask again. High as well while nothing is asked and the page register misses.
    pub miss: bool,
    /// Physical address.
    pub paddr: u64,
}

/// How virtual addresses become physical ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Translation {
    /// Off: every address is physical, nothing ever waits for a walk (the golden bench).
    #[default]
    Bare,
    /// Pages, with walks of `walk_latency` cycles (at least 1) between the TLB's request and its answer.
    Paged {
        /// Where the translations come from.
        tables: PageTables,
        /// Cycles of a walk.
        walk_latency: u32,
    },
}

/// Source of the translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageTables {
    /// 4 KiB pages, each mapped to itself.
    Identity,
    /// An Sv39 table in memory, its root page at this physical address (RISC-V privileged architecture, 12.4).
    Sv39 {
        /// Physical address of the root page.
        root: u64,
    },
}

/// An access that the page table does not allow; Gemmini raises its interrupt and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// Virtual address.
    pub vaddr: u64,
    /// The access is a store.
    pub write: bool,
}

/// A leaf of the page table as the TLB keeps it (`TLBEntryData`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Page {
    ppn: u64,
    user: bool,
    read: bool,
    write: bool,
    fault: bool,
}

impl Page {
    /// Accesses are made as user (the request's privilege is left unconnected in `DMA.scala`).
    fn allows(&self, write: bool) -> bool {
        !self.fault && self.user && if write { self.write } else { self.read }
    }
}

/// Tree pseudo-LRU over a power of two of ways (rocket-chip `util/Replacement.scala`), at most 32.
///
/// Node 1 is the root, nodes 2n and 2n+1 its halves; a set bit says that the upper half is older.
#[derive(Clone, Copy, Debug, Default)]
struct PseudoLru {
    older: u32,
}

impl PseudoLru {
    fn access(&mut self, way: usize, ways: usize) {
        let mut node = 1;
        let mut half = ways / 2;
        while half > 0 {
            let upper = way & half != 0;
            self.older = if upper { self.older & !(1 << node) } else { self.older | 1 << node };
            node = 2 * node + usize::from(upper);
            half /= 2;
        }
    }

    fn oldest(&self, ways: usize) -> usize {
        let (mut node, mut way, mut half) = (1, 0, ways / 2);
        while half > 0 {
            let upper = self.older >> node & 1 == 1;
            way |= if upper { half } else { 0 };
            node = 2 * node + usize::from(upper);
            half /= 2;
        }
        way
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct SectoredEntry {
    tag: u64,
    valid: [bool; SECTORS],
    pages: [Page; SECTORS],
}

impl SectoredEntry {
    fn tag_hit(&self, vpn: u64) -> bool {
        self.valid.contains(&true) && (self.tag ^ vpn) / SECTORS as u64 == 0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct SuperpageEntry {
    valid: bool,
    tag: u64,
    /// 0 for 1 GiB, 1 for 2 MiB.
    level: u32,
    page: Page,
}

impl SuperpageEntry {
    /// Bits of the page number that the entry does not translate.
    fn free_bits(&self) -> u32 {
        (LEVELS - 1 - self.level) * LEVEL_BITS
    }

    fn hit(&self, vpn: u64) -> bool {
        self.valid && (self.tag ^ vpn) >> self.free_bits() == 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WalkState {
    #[default]
    Ready,
    /// The walker is asked.
    Request,
    /// The answer comes in so many cycles; `invalidate`: a flush came in between.
    Wait { cycles: u32, invalidate: bool },
}

/// What a walk delivers.
#[derive(Clone, Copy, Debug)]
struct Walk {
    level: u32,
    page: Page,
}

/// Answer of the TLB proper, in the cycle of the request.
#[derive(Clone, Copy, Debug, Default)]
struct Lookup {
    miss: bool,
    paddr: u64,
    fault: bool,
    /// Starts a walk if the TLB is ready.
    walk: bool,
    multiple: bool,
}

/// The TLB (`TLB` inside `DecoupledTLB`).
#[derive(Clone, Debug)]
struct Tlb {
    translation: Translation,
    /// Bits of a physical address (`paddrBits`): `ppn` has no more.
    paddr_mask: u64,
    sectored: Vec<SectoredEntry>,
    superpages: [SuperpageEntry; SUPERPAGES],
    sectored_plru: PseudoLru,
    superpage_plru: PseudoLru,
    state: WalkState,
    refill_tag: u64,
    sectored_way: usize,
    sectored_hit: Option<usize>,
    superpage_way: usize,
    /// Walks so far.
    walks: u64,
}

impl Tlb {
    fn new(entries: usize, paddr_bits: u32, translation: Translation) -> Self {
        Self {
            translation,
            paddr_mask: (1 << paddr_bits) - 1,
            sectored: vec![SectoredEntry::default(); (entries / SECTORS).max(1)],
            superpages: Default::default(),
            sectored_plru: PseudoLru::default(),
            superpage_plru: PseudoLru::default(),
            state: WalkState::Ready,
            refill_tag: 0,
            sectored_way: 0,
            sectored_hit: None,
            superpage_way: 0,
            walks: 0,
        }
    }

    fn refills(&self) -> bool {
        matches!(self.state, WalkState::Wait { cycles: 0, .. })
    }

    fn lookup(&self, request: &TlbRequest) -> Lookup {
        if self.translation == Translation::Bare || request.physical {
            let paddr = request.vaddr & self.paddr_mask;
            return Lookup { miss: self.refills(), paddr, ..Lookup::default() };
        }
        let vpn = request.vaddr >> PAGE_BITS;
        let sector = vpn as usize % SECTORS;
        let sectored = self.sectored.iter().filter(|e| e.valid[sector] && e.tag_hit(vpn));
        let sectored = sectored.map(|e| (e.pages[sector], e.pages[sector].ppn));
        let superpages = self.superpages.iter().filter(|e| e.hit(vpn)).map(|e| {
            let low = (1u64 << e.free_bits()) - 1;
            (e.page, e.page.ppn & !low | vpn & low)
        });
        let mut hits = sectored.chain(superpages);
        let (first, multiple) = (hits.next(), hits.next().is_some());
        let offset = request.vaddr & PAGE_MASK;
        Lookup {
            miss: self.refills() || first.is_none() || multiple,
            paddr: (first.map_or(0, |(_, ppn)| ppn) << PAGE_BITS | offset) & self.paddr_mask,
            fault: first.is_some_and(|(page, _)| !page.allows(request.write)),
            walk: first.is_none(),
            multiple,
        }
    }

    /// Clock edge. `read` delivers eight bytes of physical memory.
    fn tick(&mut self, request: &TlbRequest, lookup: &Lookup, flush: bool, read: impl Fn(u64) -> u64) -> bool {
        let Translation::Paged { tables, walk_latency } = self.translation else {
            return false;
        };
        let vpn = request.vaddr >> PAGE_BITS;
        let translated = request.valid && !request.physical;
        if translated {
            self.touch(vpn);
        }
        let before = self.state;
        if self.refills() {
            let walk = walk(tables, self.refill_tag, read);
            self.refill(&walk);
        }
        self.state = match before {
            WalkState::Ready if translated && lookup.walk => {
                self.start_walk(vpn);
                WalkState::Request
            }
            WalkState::Ready | WalkState::Wait { cycles: 0, .. } => WalkState::Ready,
            WalkState::Request => WalkState::Wait { cycles: walk_latency.max(1) - 1, invalidate: flush },
            WalkState::Wait { cycles, invalidate } => {
                WalkState::Wait { cycles: cycles - 1, invalidate: invalidate || flush }
            }
        };
        let stale = matches!(before, WalkState::Wait { cycles: 0, invalidate: true });
        if flush || stale || lookup.multiple {
            self.invalidate(flush || lookup.multiple);
        }
        before != WalkState::Ready || self.state != WalkState::Ready || flush || lookup.multiple
    }

    fn touch(&mut self, vpn: u64) {
        let ways = self.sectored.len();
        if let Some(way) = self.sectored.iter().position(|e| e.tag_hit(vpn)) {
            self.sectored_plru.access(way, ways);
        }
        if let Some(way) = self.superpages.iter().position(|e| e.hit(vpn)) {
            self.superpage_plru.access(way, SUPERPAGES);
        }
    }

    /// Notes which entries the refill will replace: an invalid one, else the oldest.
    fn start_walk(&mut self, vpn: u64) {
        let ways = self.sectored.len();
        self.walks += 1;
        self.refill_tag = vpn;
        self.sectored_hit = self.sectored.iter().position(|e| e.tag_hit(vpn));
        let free = self.sectored.iter().position(|e| !e.valid.contains(&true));
        self.sectored_way = free.unwrap_or_else(|| self.sectored_plru.oldest(ways));
        let free = self.superpages.iter().position(|e| !e.valid);
        self.superpage_way = free.unwrap_or_else(|| self.superpage_plru.oldest(SUPERPAGES));
    }

    fn refill(&mut self, walk: &Walk) {
        let vpn = self.refill_tag;
        if walk.level < LEVELS - 1 {
            let entry = SuperpageEntry { valid: true, tag: vpn, level: walk.level, page: walk.page };
            self.superpages[self.superpage_way] = entry;
            return;
        }
        let entry = &mut self.sectored[self.sectored_hit.unwrap_or(self.sectored_way)];
        if self.sectored_hit.is_none() {
            entry.valid = [false; SECTORS];
        }
        let sector = vpn as usize % SECTORS;
        entry.tag = vpn;
        entry.valid[sector] = true;
        entry.pages[sector] = walk.page;
    }

    /// Empties the TLB, or only the entries that a refill overtaken by a flush just wrote.
    fn invalidate(&mut self, all: bool) {
        let vpn = self.refill_tag;
        for entry in self.sectored.iter_mut().filter(|e| all || e.tag_hit(vpn)) {
            entry.valid = [false; SECTORS];
        }
        for entry in self.superpages.iter_mut().filter(|e| all || e.hit(vpn)) {
            entry.valid = false;
        }
    }
}

/// Walks the tables for page number `vpn`.
fn walk(tables: PageTables, vpn: u64, read: impl Fn(u64) -> u64) -> Walk {
    let PageTables::Sv39 { root } = tables else {
        let page = Page { ppn: vpn, user: true, read: true, write: true, fault: false };
        return Walk { level: LEVELS - 1, page };
    };
    let mut table = root;
    for level in 0..LEVELS {
        let below = (LEVELS - 1 - level) * LEVEL_BITS;
        let pte = read(table + (vpn >> below & 0x1ff) * 8);
        let (ppn, bit) = (pte >> 10 & ((1 << 44) - 1), |n: u32| pte >> n & 1 == 1);
        let (valid, readable, writable, executable) = (bit(0), bit(1), bit(2), bit(3));
        if valid && !readable && !writable && !executable && level < LEVELS - 1 {
            table = ppn << PAGE_BITS;
            continue;
        }
        // Accessed, and dirty for stores, must be set: the walker does not set them.
        let aligned = ppn & ((1 << below) - 1) == 0;
        let page = Page {
            ppn,
            user: bit(4),
            read: readable && bit(6),
            write: writable && bit(6) && bit(7),
            fault: !valid || !aligned || (!readable && (writable || !executable)),
        };
        return Walk { level, page };
    }
    Walk { level: LEVELS - 1, page: Page { fault: true, ..Page::default() } }
}

/// The page translated last, per client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PageRegister {
    valid: bool,
    vaddr: u64,
    paddr: u64,
}

/// Registers of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Client {
    /// The request of the last cycle, and whether it needs the TLB.
    request: TlbRequest,
    needs_tlb: bool,
    last: PageRegister,
    /// The page register's answer to the last cycle's address.
    hit: bool,
    paddr: u64,
}

impl Client {
    /// The page register's answer to the last cycle's address.
    #[inline]
    fn page_answer(&self) -> TlbResponse {
        TlbResponse { miss: !self.hit, paddr: self.paddr }
    }

    fn page_hit(&self, vaddr: u64, operands: &OperandSpace) -> bool {
        self.last.valid && operands.same_page(self.last.vaddr, vaddr)
    }
}

/// Wires of one cycle, all from registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlbWires {
    /// Answers by client ([`TLB_WRITER`], [`TLB_READER`]).
    pub responses: [TlbResponse; CLIENTS],
    /// What the TLB does, if it is asked or walks.
    pub(crate) access: Option<TlbAccess>,
}

/// The wires of the TLB proper.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlbAccess {
    lookups: [Lookup; CLIENTS],
    fires: [bool; CLIENTS],
    /// Client at the shared TLB's input, whether its request is valid or not.
    chosen: usize,
    fault: Option<PageFault>,
}

/// The block (`FrontendTLB`).
#[derive(Clone, Debug)]
pub struct FrontendTlb {
    tlbs: Vec<Tlb>,
    clients: [Client; CLIENTS],
    page_registers: bool,
    /// Round-robin state of the arbiter in front of a shared TLB.
    last_grant: usize,
    interrupt: bool,
    faults: Faults,
    /// Requests at the TLB proper so far.
    lookups: u64,
    /// Where the operands lie that addresses belong to.
    pub(crate) operands: OperandSpace,
}

/// Accesses that the page table did not allow, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// The first one.
    pub first: Option<PageFault>,
}

impl FrontendTlb {
    /// Empty page registers and TLB.
    pub fn new(config: &GemminiConfig, translation: Translation) -> Self {
        let tlbs = if config.use_shared_tlb { 1 } else { CLIENTS };
        Self {
            tlbs: vec![Tlb::new(config.tlb_size as usize, config.paddr_bits, translation); tlbs],
            clients: Default::default(),
            page_registers: config.use_tlb_register_filter,
            last_grant: 0,
            interrupt: false,
            faults: Faults::default(),
            lookups: 0,
            operands: OperandSpace::default(),
        }
    }

    /// A page-table walk is under way.
    #[inline]
    pub fn walks(&self) -> bool {
        self.tlbs.iter().any(|tlb| tlb.state != WalkState::Ready)
    }

    /// Requests behind the page registers, and walks, so far.
    pub fn counts(&self) -> TlbCounts {
        TlbCounts { lookups: self.lookups, walks: self.tlbs.iter().map(|tlb| tlb.walks).sum() }
    }

    /// The interrupt line: a page fault since the last flush.
    pub fn interrupt(&self) -> bool {
        self.interrupt
    }

    /// Page faults so far.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// What a cycle is spent on.
    pub fn activity(&self, wires: &TlbWires) -> Spent {
        match wires.access {
            Some(access) if access.fires.contains(&true) => Spent::Busy,
            Some(_) => Spent::Stalled(Cause::PageWalk),
            None => Spent::Idle,
        }
    }

    /// A client's request of the last cycle, which stands in its registers.
    #[inline]
    pub(crate) fn request(&self, i: usize) -> &TlbRequest {
        &self.clients[i].request
    }

    fn shared(&self) -> bool {
        self.tlbs.len() == 1
    }

    /// Client that the arbiter chooses: after the last one granted first, the last one by default.
    fn arbitrate(&self) -> usize {
        let wants = |i: usize| self.clients[i].needs_tlb;
        let after = (self.last_grant + 1..CLIENTS).find(|&i| wants(i));
        after.or_else(|| (0..CLIENTS).find(|&i| wants(i))).unwrap_or(CLIENTS - 1)
    }

    /// Answers of this cycle.
    #[inline]
    pub fn wires(&self) -> TlbWires {
        let responses = self.clients.each_ref().map(Client::page_answer);
        let mut wires = TlbWires { responses, access: None };
        if self.clients.iter().any(|c| c.needs_tlb) || self.tlbs.iter().any(|t| t.state != WalkState::Ready) {
            self.look_up(&mut wires);
        }
        wires
    }

    fn look_up(&self, wires: &mut TlbWires) {
        let mut access = TlbAccess { chosen: self.arbitrate(), ..TlbAccess::default() };
        for (i, client) in self.clients.iter().enumerate() {
            if self.shared() && i != access.chosen {
                continue;
            }
            let lookup = self.tlbs[if self.shared() { 0 } else { i }].lookup(&client.request);
            access.lookups[i] = lookup;
            access.fires[i] = client.needs_tlb;
            if client.needs_tlb {
                wires.responses[i] = TlbResponse { miss: lookup.miss, paddr: lookup.paddr };
                let fault = PageFault { vaddr: client.request.vaddr, write: client.request.write };
                access.fault = access.fault.or((lookup.fault && !lookup.miss).then_some(fault));
            }
        }
        wires.access = Some(access);
    }

    /// Clock edge. `flush` is high in the cycle in which FLUSH is at the head of the command queue;
    /// `read` delivers eight bytes of physical memory to the walker. Returns true if a register changed.
    #[inline]
    pub fn tick(
        &mut self,
        wires: &TlbWires,
        requests: &[TlbRequest; CLIENTS],
        flush: bool,
        read: impl Fn(u64) -> u64,
    ) -> bool {
        let mut changed = false;
        let mut loaded = [None; CLIENTS];
        // A TLB that is not asked and does not walk changes only if it is flushed.
        if wires.access.is_some() || flush {
            let access = wires.access.unwrap_or_default();
            changed = self.tick_tlbs(&access, flush, read);
            let answer = |i: usize| (access.fires[i] && !access.lookups[i].miss).then_some(access.lookups[i].paddr);
            loaded = std::array::from_fn(answer);
        }
        for (i, request) in requests.iter().enumerate() {
            changed |= self.tick_client(i, request, loaded[i], flush);
        }
        if flush {
            self.operands.note_flush(requests.each_ref().map(|request| request.valid));
        }
        changed
    }

    fn tick_tlbs(&mut self, access: &TlbAccess, flush: bool, read: impl Fn(u64) -> u64) -> bool {
        let mut changed = false;
        let shared = self.shared();
        for (t, tlb) in self.tlbs.iter_mut().enumerate() {
            let i = if shared { access.chosen } else { t };
            let request = TlbRequest { valid: access.fires[i], ..self.clients[i].request };
            changed |= tlb.tick(&request, &access.lookups[i], flush, &read);
        }
        self.lookups += access.fires.iter().filter(|fires| **fires).count() as u64;
        if access.fires.contains(&true) {
            self.last_grant = access.chosen;
        }
        if access.fault.is_some() {
            self.faults.count += 1;
            self.faults.first = self.faults.first.or(access.fault);
        }
        self.interrupt = (self.interrupt || access.fault.is_some()) && !(self.interrupt && flush);
        changed
    }

    /// Clock edge of a client's registers; `loaded` is the physical address that the TLB just answered.
    pub(crate) fn tick_client(&mut self, i: usize, request: &TlbRequest, loaded: Option<u64>, flush: bool) -> bool {
        let before = self.clients[i];
        let hit = before.page_hit(request.vaddr, &self.operands);
        let (follows, together) = (before.request.valid, i > 0 && self.clients[i - 1].request.valid && request.valid);
        let repeats = !follows && before.request.vaddr == request.vaddr;
        self.operands.note(i, request.vaddr, request.valid, follows, together, repeats);
        let mut client = Client {
            last: before.last,
            request: *request,
            needs_tlb: request.valid && !hit,
            hit,
            paddr: before.last.paddr & !PAGE_MASK | request.vaddr & PAGE_MASK,
        };
        if let Some(paddr) = loaded {
            client.last = PageRegister { valid: true, vaddr: before.request.vaddr, paddr };
            self.operands.note_written(i);
        }
        client.last.valid &= !flush && self.page_registers;
        self.clients[i] = client;
        client != before
    }

    /// Drives the counter lines of the first TLB. Its miss line follows the request at its input even if that is not valid.
    pub fn counter_events(&self, wires: &TlbWires, events: &mut CounterEvents) {
        let i = if self.shared() { self.arbitrate() } else { 0 };
        let asked = wires.access.is_some_and(|access| access.fires[i]);
        let miss = self.tlbs[0].lookup(&self.clients[i].request).miss;
        events.set(CounterEvent::DmaTlbMissCycle, miss);
        events.set(CounterEvent::DmaTlbHitReq, asked && !miss);
        events.set(CounterEvent::DmaTlbTotalReq, asked);
    }

    /// What the block waits for, for the explanation of a deadlock.
    pub fn waiting_for(&self) -> Option<String> {
        let walking = self.tlbs.iter().find(|t| t.state != WalkState::Ready)?;
        Some(format!("FrontendTlb: page-table walk for {:#x}", walking.refill_tag << PAGE_BITS))
    }
}

#[cfg(test)]
mod tests;
