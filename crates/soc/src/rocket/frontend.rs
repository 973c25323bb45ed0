//! Fetching ahead along the predicted way (`Frontend.scala`): two stages, and a queue of five packets of four bytes.

use std::collections::VecDeque;

use super::btb::{BhtUpdate, Btb, BtbInputs, BtbResp, BtbUpdate, Cfi};
use super::icache::{ICache, ICacheInputs};

/// Entries of the queue.
const QUEUE: usize = 5;

/// A packet of two half words (`FrontendResp`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet {
    /// Address of the first half word wanted.
    pub pc: u64,
    /// The aligned word.
    pub data: u32,
    /// Prediction.
    pub btb: BtbResp,
    /// It has to be fetched again.
    pub replay: bool,
}

/// What the core does in a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrontendInputs {
    /// Fetching goes on here.
    pub redirect: Option<u64>,
    /// It is not known for sure that it does.
    pub speculative: bool,
    /// The packet in front is taken.
    pub taken: bool,
    /// A change of the target buffer.
    pub btb_update: Option<BtbUpdate>,
    /// A branch that is known.
    pub bht_update: Option<BhtUpdate>,
    /// `fence.i`.
    pub flush_icache: bool,
    /// The line that the cache asks for was accepted.
    pub a_fire: bool,
    /// A beat of a line arrives; true with the last.
    pub d: Option<bool>,
}

/// The frontend.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// The cache.
    pub icache: ICache,
    btb: Btb,
    queue: VecDeque<Packet>,
    s1_valid: bool,
    s1_pc: u64,
    /// `s1_valid` in the cycle before.
    s1_was_valid: bool,
    s1_speculative: bool,
    s2_valid: bool,
    s2_pc: u64,
    s2_speculative: bool,
    s2_btb: BtbResp,
    /// Stage 2 had to wait, and nothing was fetched instead.
    replay_held: bool,
    /// First half of an instruction that goes on in the next packet.
    partial: Option<u16>,
    wrong_path: bool,
}

/// What stage 2 finds in its packet.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// A jump that is taken, as far as is known.
    taken: bool,
    taken_idx: u8,
    /// Where it goes.
    target: Option<u64>,
    /// It is taken, but nobody knows where to.
    unknown: bool,
    /// A call (the address behind it) or a return.
    ras: Option<Option<u64>>,
    cfi: Cfi,
    /// A conditional branch was seen.
    branch: bool,
    /// The target buffer should know it.
    updates_btb: bool,
    /// The target buffer has predicted a branch in the middle of an instruction.
    flush: bool,
    /// First half of an instruction at the end.
    partial: Option<u16>,
}

impl Frontend {
    /// Fetching from `pc` on, in the next cycle.
    pub fn new(pc: u64) -> Self {
        Self {
            icache: ICache::default(),
            btb: Btb::default(),
            queue: VecDeque::with_capacity(QUEUE),
            s1_valid: false,
            s1_pc: pc,
            s1_was_valid: false,
            s1_speculative: false,
            s2_valid: false,
            s2_pc: pc,
            s2_speculative: false,
            s2_btb: BtbResp::default(),
            replay_held: true,
            partial: None,
            wrong_path: false,
        }
    }

    /// The queue is full and nothing is on its way: it stays like this until decode takes something.
    pub fn stands(&self) -> bool {
        let idle = !self.s1_valid && !self.s1_was_valid && !self.s2_valid && self.replay_held;
        self.queue.len() == QUEUE && idle && self.btb.settled(self.s1_pc)
    }

    /// Its stages, for messages.
    pub fn state(&self) -> String {
        let show = |valid: bool, pc: u64| if valid { format!("{pc:x}") } else { "-".into() };
        let btb = self.btb.lookup(self.s1_pc);
        format!(
            "s1 {} s2 {} queue {} btb {:?} s2btb {:?}",
            show(self.s1_valid, self.s1_pc),
            show(self.s2_valid, self.s2_pc),
            self.queue.len(),
            (btb.valid, btb.taken, btb.entry, btb.bht.history, btb.bht.taken),
            (self.s2_btb.valid, self.s2_btb.taken, self.s2_btb.entry)
        )
    }

    /// A packet leaves stage 2, if the queue has room.
    fn arrives(&self) -> bool {
        self.s1_was_valid && self.s2_valid && (self.icache.responds() || self.s2_kill())
    }

    /// Lines are only fetched where the program goes for sure: the custom register that forbids anything else is set at reset
    /// (`disableSpeculativeICacheRefill`, `RocketCore.scala`).
    fn s2_kill(&self) -> bool {
        self.s2_speculative
    }

    /// The line that the cache asks for.
    pub fn a(&self) -> Option<u64> {
        self.icache.a(self.s2_kill())
    }

    /// The address of the word that stage 2 needs, if it needs one in this cycle.
    pub fn word_address(&self) -> Option<u64> {
        (self.s2_valid && self.icache.responds()).then_some(self.s2_pc & !3)
    }

    /// The packet in front; `word` is what stands at [`Self::word_address`]. What arrives in an empty queue is there at once.
    pub fn front(&self, word: u32) -> Option<Packet> {
        if let Some(packet) = self.queue.front() {
            return Some(*packet);
        }
        self.arrives().then(|| self.packet(word, &self.scanned(word)))
    }

    fn packet(&self, word: u32, scan: &Scan) -> Packet {
        let mut btb = self.s2_btb;
        btb.taken = btb.valid && btb.taken;
        if !btb.taken && scan.taken {
            btb = BtbResp { taken: true, bridx: scan.taken_idx, entry: BtbUpdate::NO_ENTRY, ..btb };
        }
        // A line that may not be fetched yet: asked for again once it is known to be needed.
        let missing = !self.icache.responds();
        Packet { pc: self.s2_pc, data: if missing { 0 } else { word }, btb, replay: scan.flush || missing }
    }

    fn scanned(&self, word: u32) -> Scan {
        if self.s2_valid && self.icache.responds() { self.scan(word) } else { Scan::default() }
    }

    /// Looks for jumps in the packet (`scanInsns`).
    fn scan(&self, word: u32) -> Scan {
        let mut scan = Scan::default();
        let base = self.s2_pc & !3;
        let first = (self.s2_pc >> 1 & 1) as u8;
        let (mut previous, mut done) = (self.partial, false);
        for idx in 0..2u8 {
            let half = (word >> (16 * idx)) as u16;
            let valid_half = idx >= first || previous.is_some();
            let second = previous.is_some();
            let valid = idx >= first && !second;
            if !valid_half {
                continue;
            }
            let rvc = half & 3 != 3;
            if valid && !rvc && self.s2_valid && self.s2_btb.valid && self.s2_btb.bridx == idx {
                scan.flush = true;
            }
            let begins = valid && !rvc;
            if let Some(low) = previous.take().filter(|_| second) {
                if !done {
                    done = self.jump(&mut scan, base, idx, u32::from(half) << 16 | u32::from(low), false);
                }
            } else if valid && rvc && !done {
                done = self.jump(&mut scan, base, idx, u32::from(half), true);
            }
            previous = begins.then_some(half);
            if idx == 1 && begins && !done {
                scan.partial = Some(half);
            }
        }
        scan.taken = done;
        scan
    }

    /// An instruction that ends in half word `idx`; true if it is taken.
    fn jump(&self, scan: &mut Scan, base: u64, idx: u8, bits: u32, rvc: bool) -> bool {
        let kind = Kind::of(bits, rvc);
        let (Kind::Branch(offset) | Kind::Jump(offset)) = kind else {
            return self.indirect(scan, base, idx, kind);
        };
        let start = base.wrapping_add(2 * u64::from(idx)).wrapping_sub(if rvc { 0 } else { 2 });
        let is_branch = matches!(kind, Kind::Branch(_));
        let predicted = !is_branch || self.s2_btb.bht.taken;
        scan.branch |= is_branch;
        if !is_branch && !rvc && bits >> 7 & 1 == 1 {
            scan.ras = Some(Some(base.wrapping_add(2 * u64::from(idx) + 2)));
            scan.cfi = Cfi::Call;
        } else {
            scan.cfi = if is_branch { Cfi::Branch } else { Cfi::Jump };
        }
        if predicted {
            scan.taken_idx = idx;
            scan.target = Some(start.wrapping_add(offset as u64));
            scan.updates_btb |= !self.s2_btb.valid;
        }
        predicted
    }

    fn indirect(&self, scan: &mut Scan, base: u64, idx: u8, kind: Kind) -> bool {
        let Kind::Indirect { call, ret } = kind else {
            return false;
        };
        scan.taken_idx = idx;
        scan.cfi = if ret {
            Cfi::Ret
        } else if call {
            Cfi::Call
        } else {
            Cfi::Jump
        };
        if ret {
            scan.ras = Some(None);
        } else if call {
            scan.ras = Some(Some(base.wrapping_add(2 * u64::from(idx) + 2)));
        }
        match self.btb.ras_head().filter(|_| ret) {
            Some(head) => {
                scan.target = Some(head);
                scan.updates_btb |= !self.s2_btb.valid;
            }
            None => scan.unknown = true,
        }
        true
    }

    /// Clock edge; `word` as for [`Self::front`].
    pub fn tick(&mut self, inputs: &FrontendInputs, word: u32) {
        let arrives = self.arrives();
        let full = self.queue.len() == QUEUE;
        let enters = arrives && !full;
        let scan = self.scanned(word);
        let s2_btb_taken = self.s2_btb.valid && self.s2_btb.taken;
        let replay = self.s2_valid && !enters || self.replay_held;
        let s1_btb = self.btb.lookup(self.s1_pc);

        // What is fetched next: lines 84 to 90, 200 and 240.
        let mut next = (self.s1_pc & !3).wrapping_add(4);
        if s1_btb.valid && s1_btb.taken {
            next = s1_btb.target;
        }
        if self.s2_valid
            && !s2_btb_taken
            && let Some(target) = scan.target
        {
            next = target;
        }
        if replay {
            next = self.s2_pc;
        }
        let fetched = inputs.redirect.unwrap_or(next) & !1;
        let count = self.queue.len();
        let stages = usize::from(self.s1_valid) + usize::from(self.s2_valid);
        let has_space = count <= 2 || count == 3 && stages < 2 || count == 4 && stages == 0;
        let s0_valid = inputs.redirect.is_some() || has_space;
        let turns = enters && !s2_btb_taken && scan.taken;
        let redirected = inputs.redirect.is_some() || turns;

        self.tick_btb(inputs, &scan, enters, &s1_btb);
        self.tick_scan(inputs, &scan, enters, s2_btb_taken);
        let packet = self.packet(word, &scan);
        self.tick_queue(inputs, enters.then_some(packet));
        self.icache.tick(&ICacheInputs {
            request: s0_valid.then_some(fetched),
            s1_kill: redirected || replay,
            s2_kill: self.s2_kill(),
            a_fire: inputs.a_fire,
            d: inputs.d,
            invalidate: inputs.flush_icache,
        });
        let predicted_taken = s1_btb.valid && s1_btb.taken;
        let speculative = self.s1_speculative || self.s2_valid && !self.s2_speculative || predicted_taken;
        let speculative = match inputs.redirect {
            Some(_) => inputs.speculative,
            None if replay => self.s2_speculative,
            None => speculative,
        };
        self.replay_held = replay && !s0_valid;
        self.s1_was_valid = self.s1_valid;
        self.s2_valid = !replay && !redirected;
        if !replay {
            self.s2_pc = self.s1_pc;
            self.s2_speculative = self.s1_speculative;
            self.s2_btb = s1_btb;
        }
        self.s1_valid = s0_valid;
        self.s1_pc = fetched;
        self.s1_speculative = speculative;
    }

    fn tick_queue(&mut self, inputs: &FrontendInputs, packet: Option<Packet>) {
        // What passes the empty queue is not stored.
        let passes = inputs.taken && self.queue.is_empty();
        if inputs.taken {
            self.queue.pop_front();
        }
        if let Some(packet) = packet.filter(|_| !passes) {
            self.queue.push_back(packet);
        }
        if inputs.redirect.is_some() {
            self.queue.clear();
        }
    }

    fn tick_scan(&mut self, inputs: &FrontendInputs, scan: &Scan, enters: bool, s2_btb_taken: bool) {
        let redirects = inputs.redirect.is_some();
        if enters {
            self.partial = scan.partial;
            if s2_btb_taken || scan.taken {
                self.partial = None;
            }
            // Nobody knows where this jump goes, so what follows is most likely wrong.
            self.wrong_path |= !s2_btb_taken && scan.unknown;
        }
        self.wrong_path |= scan.flush;
        if redirects {
            self.partial = None;
            self.wrong_path = false;
        }
    }

    fn tick_btb(&mut self, inputs: &FrontendInputs, scan: &Scan, enters: bool, s1_btb: &BtbResp) {
        let known = enters && !self.wrong_path;
        let base = self.s2_pc & !3;
        let bubble_likely = self.queue.len() < 2;
        let own = BtbUpdate {
            pc: base,
            br_pc: base | u64::from(scan.taken_idx) << 1,
            entry: BtbUpdate::NO_ENTRY,
            is_valid: true,
            cfi: scan.cfi,
        };
        let own = (known && bubble_likely && scan.updates_btb && self.worth_an_entry(scan)).then_some(own);
        self.btb.tick(&BtbInputs {
            pc: self.s1_pc,
            resp: *s1_btb,
            btb_update: inputs.btb_update.or(own),
            bht_update: inputs.bht_update,
            bht_advance: (known && scan.branch).then_some(self.s2_btb.bht.taken),
            ras_update: scan.ras.filter(|_| known),
            flush: scan.flush,
        });
    }

    /// A conditional branch only if it is predicted as taken; a counter has one bit.
    fn worth_an_entry(&self, scan: &Scan) -> bool {
        scan.cfi != Cfi::Branch || self.s2_btb.bht.taken
    }
}

/// What an instruction does to the program counter.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Other,
    Branch(i64),
    Jump(i64),
    Indirect { call: bool, ret: bool },
}

impl Kind {
    fn of(bits: u32, rvc: bool) -> Self {
        if rvc { Self::compressed(bits) } else { Self::full(bits) }
    }

    fn full(bits: u32) -> Self {
        let sign = i64::from(bits as i32 >> 31);
        let field = |from: u32, count: u32| i64::from(bits >> from & ((1 << count) - 1));
        match bits & 0x7f {
            0x63 => Self::Branch(sign << 12 | field(7, 1) << 11 | field(25, 6) << 5 | field(8, 4) << 1),
            0x6f => Self::Jump(sign << 20 | field(12, 8) << 12 | field(20, 1) << 11 | field(21, 10) << 1),
            0x67 => {
                let call = bits >> 7 & 1 == 1;
                Self::Indirect { call, ret: !call && is_link(bits >> 15) }
            }
            _ => Self::Other,
        }
    }

    fn compressed(bits: u32) -> Self {
        let field = |from: u32, count: u32| i64::from(bits >> from & ((1 << count) - 1));
        let sign = -field(12, 1);
        match bits & 0xe003 {
            0xc001 | 0xe001 => {
                Self::Branch(sign << 8 | field(5, 2) << 6 | field(2, 1) << 5 | field(10, 2) << 3 | field(3, 2) << 1)
            }
            0xa001 => Self::Jump(
                sign << 11
                    | field(8, 1) << 10
                    | field(9, 2) << 8
                    | field(6, 1) << 7
                    | field(7, 1) << 6
                    | field(2, 1) << 5
                    | field(11, 1) << 4
                    | field(3, 3) << 1,
            ),
            0x8002 if bits & 0x7c == 0 && bits & 0xf80 != 0 => {
                let call = bits >> 12 & 1 == 1;
                Self::Indirect { call, ret: !call && is_link(bits >> 7) }
            }
            _ => Self::Other,
        }
    }
}

/// `x1` or `x5`: `b00?01`.
fn is_link(register: u32) -> bool {
    register & 0b11011 == 1
}
