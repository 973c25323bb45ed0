//! The canonical form of control state: what decides all later cycles, and nothing else.
//!
//! Two machines with the same form behave in the same way from then on, if the same commands follow. What differs between them without
//! consequence is left out or brought to one form:
//!
//! | what | form |
//! |---|---|
//! | payloads, totals, caches of what other registers say | left out (`#[canon(skip = "reason")]`) |
//! | entries of the reservation station | by their age within the class |
//! | main memory addresses | operand by order of appearance, and the distance within it (`port/operand_space.rs`) |
//! | matrix numbers, ring positions | relative to the current one |
//! | cycles | relative to now |
//!
//! [`Canonical`] is derived (`pollux-canonical-derive`), so that no register can be forgotten. [`Canon`] collects the bytes of the form;
//! their 128-bit hash is the key of a state.

use std::collections::{BTreeMap, VecDeque};

use pollux_isa::fields::{
    ConfigLd, ConfigNorm, ConfigSt, LoopConvConfig1, LoopConvConfig2, LoopConvConfig3, LoopConvConfig4,
    LoopConvConfig5, LoopConvConfig6, LoopConvWs, LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsSpadAb,
    LoopWsStridesAb, LoopWsStridesDc, MoveOperands,
};
use pollux_isa::values::{Activation, DataflowMode, NormCmd};
use pollux_isa::{LocalAddr, RoccCommand};

pub use pollux_canonical_derive::Canonical;
use xxhash_rust::xxh3::Xxh3;

use crate::observation::event::{Cycle, Origin, Port, ReqKind, Unit};
use crate::port::operand_space::{self, MAIN_MEMORY, OperandTag};

/// State that has a canonical form.
pub(crate) trait Canonical {
    /// Appends the form.
    fn canonical(&self, canon: &mut Canon);
}

/// A field that holds main memory addresses.
pub(crate) trait Addresses {
    /// Appends the canonical form of the addresses.
    fn addresses(&self, canon: &mut Canon);
}

/// Most entries of a table of the reservation station.
const ENTRIES: usize = 64;

/// The bytes of a canonical form while it is made.
#[derive(Clone, Debug)]
pub(crate) struct Canon {
    bytes: Vec<u8>,
    now: Cycle,
    /// Age of each entry of the station within its class, from 1; 0 for entries that hold nothing.
    ages: [[u8; ENTRIES]; 3],
    /// The operands met so far.
    operands: Vec<OperandTag>,
    /// Clients of the TLB that look at the answer, whether they have asked or not.
    looks: [bool; 2],
    /// What is being written stands in a register whose contents are over: it is still seen, but reports to nobody.
    over: bool,
    /// The slots of pass requests that entries of the control queue name, and whether the entries are valid.
    requests: Vec<(u8, bool)>,
    /// Number of the newest matrix product and how many there are.
    matrix: (u8, u8),
    /// The loop commands that are on their way to the unrollers.
    ahead: LoopsAhead,
    /// Loads may have a scale other than the identity.
    scaled_loads: bool,
    /// Bits of the identity scale, if loads of another one can be told from the state and the commands to come.
    identity: Option<u32>,
    /// A load under way, or one that needs no further configuration, may have another scale.
    scales: bool,
    /// Main memory addresses of operands that were written.
    named: usize,
    /// What was set aside.
    aside: [Vec<u8>; ASIDE],
    survey: Option<Box<Survey>>,
}

/// Parts that can be set aside: the unrollers of matrix products and of convolutions, and whose turn it is at the shared units that scale
/// the narrow rows of loads, and the wide ones.
pub(crate) const ASIDE: usize = 4;
/// The part of the units for narrow rows.
pub(crate) const NARROW: usize = 2;
/// The part of the units for wide rows.
pub(crate) const WIDE: usize = 3;

/// What is known of the loop commands that will reach the unrollers, as a set of function numbers.
///
/// What a program configures anew for every loop overwrites whatever a free slot of an unroller still holds of an earlier one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoopsAhead {
    /// Functions of the commands in the queues in front of the unrollers, oldest first.
    pub queued: Vec<u8>,
    /// Functions that are still to be accepted before the next loop is started.
    pub pending: u32,
    /// Functions that are presented anew for every loop of their unroller.
    pub always: u32,
}

impl LoopsAhead {
    /// The functions that come before the next `run`.
    fn before(&self, run: u8) -> u32 {
        let queued = self.queued.iter().take_while(|funct| **funct != run);
        let functions = queued.fold(0, |set, &funct| set | 1u32.checked_shl(funct.into()).unwrap_or(0));
        if self.queued.contains(&run) { functions } else { functions | self.pending & self.always }
    }

    /// The functions that write a free slot before its loop is started by `run`: the one that is configured next, or the other.
    pub fn overwrites(&self, run: u8, is_next: bool) -> u32 {
        1 << run | if is_next { self.before(run) } else { self.always }
    }
}

/// What tests ask of the fields: which there are, and what happens without one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// The fields (`Type.field`) in the order in which they were met, and where.
    pub order: Vec<(usize, &'static str)>,
    /// The field that is left out.
    pub dropped: Option<&'static str>,
}

impl Default for Canon {
    fn default() -> Self {
        Self {
            bytes: Vec::with_capacity(1 << 13),
            now: 0,
            ages: [[0; ENTRIES]; 3],
            operands: Vec::new(),
            looks: [true; 2],
            over: false,
            requests: Vec::new(),
            matrix: (0, 1),
            ahead: LoopsAhead::default(),
            scaled_loads: true,
            identity: None,
            scales: false,
            named: 0,
            aside: Default::default(),
            survey: None,
        }
    }
}

/// Making.
impl Canon {
    /// An empty form of a state in cycle `now`.
    pub fn begin(&mut self, now: Cycle) {
        self.bytes.clear();
        self.operands.clear();
        self.aside.iter_mut().for_each(Vec::clear);
        self.scales = false;
        self.now = now;
        self.ages = [[0; ENTRIES]; 3];
    }

    /// Loop commands that the host is still to present before the next loop, and those that it presents anew for every loop.
    pub fn set_pending(&mut self, pending: u32, always: u32) {
        self.ahead = LoopsAhead { queued: Vec::new(), pending, always };
        self.word(u64::from(pending) << 32 | u64::from(always));
    }

    /// Loop commands in the queues of the front end.
    pub fn loops_ahead(&mut self) -> &mut LoopsAhead {
        &mut self.ahead
    }

    /// The cycle of the state.
    pub fn now(&self) -> Cycle {
        self.now
    }

    /// Whether any load of the program, before or after this state, may have a scale other than the identity, whose bits these are.
    pub fn set_scaled_loads(&mut self, scaled: bool, identity: Option<u32>) {
        (self.scaled_loads, self.identity) = (scaled, identity);
    }

    /// The scale of a load under way, or of the loads of a channel.
    pub fn load_scale(&mut self, scale: u32) {
        self.word(scale.into());
        self.note_load_scale(scale);
    }

    /// The same of a scale that the form holds already.
    fn note_load_scale(&mut self, scale: u32) {
        self.scales |= self.identity != Some(scale);
    }

    /// Whether, up to the next command that configures loads, all of them have this scale. All parts that hold loads must be written by now.
    pub fn loads_have(&self, scale: u32) -> bool {
        self.identity == Some(scale) && !self.scales
    }

    /// Whether any load may have a scale other than the identity.
    pub fn scaled_loads(&self) -> bool {
        self.scaled_loads
    }

    /// By field: the hash of its bytes, up to those of the next field.
    pub fn field_hashes(&self) -> BTreeMap<&'static str, u64> {
        let order = self.survey.as_deref().map_or(&[][..], |survey| &survey.order);
        let ends = order.iter().skip(1).map(|(start, _)| *start).chain([self.bytes.len()]);
        let mut hashers = BTreeMap::new();
        for (&(start, field), end) in order.iter().zip(ends) {
            let hasher: &mut Xxh3 = hashers.entry(field).or_default();
            hasher.update(&(end - start).to_le_bytes());
            hasher.update(&self.bytes[start..end]);
        }
        hashers.into_iter().map(|(field, hasher)| (field, hasher.digest())).collect()
    }

    /// Watches the fields from now on.
    pub fn survey(&mut self, survey: Survey) {
        self.survey = Some(Box::new(survey));
    }

    /// What was watched; nothing is from now on.
    pub fn surveyed(&mut self) -> Option<Survey> {
        self.survey.take().map(|survey| *survey)
    }

    /// The field in which two forms differ first, of which this one is watched.
    pub fn first_difference(&self, other: &[u8]) -> Option<&'static str> {
        let at = self.bytes.iter().zip(other).position(|(a, b)| a != b)?;
        let survey = self.survey.as_deref()?;
        survey.order.iter().rev().find(|(start, _)| *start <= at).map(|(_, field)| *field)
    }

    /// Whether a field takes part; all do, but in tests.
    #[inline]
    pub fn keeps(&mut self, field: &'static str) -> bool {
        self.survey.is_none() || self.keeps_surveyed(field)
    }

    #[cold]
    fn keeps_surveyed(&mut self, field: &'static str) -> bool {
        let Some(survey) = &mut self.survey else { return true };
        survey.order.push((self.bytes.len(), field));
        survey.dropped != Some(field)
    }

    /// Writes what only later commands for this part can look at; it is none of the form if it can be set aside, because nothing is
    /// under way there (`rests`) and because it names no operands.
    pub fn set_aside(&mut self, part: usize, rests: bool, write: impl FnOnce(&mut Self)) {
        let (start, named) = (self.bytes.len(), self.named);
        write(self);
        // Who watches the fields sees all of them.
        let is_aside = rests && self.named == named && self.survey.is_none();
        if is_aside {
            self.aside[part].extend_from_slice(&self.bytes[start..]);
            self.bytes.truncate(start);
        }
        self.byte(u8::from(is_aside));
    }

    /// What was set aside of a part; nothing if it is in the form.
    pub fn aside(&self, part: usize) -> &[u8] {
        &self.aside[part]
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key of the state: the hash of its bytes.
    pub fn key(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&self.bytes)
    }

    /// The operands that the state's addresses belong to, in the order in which they appear in it.
    pub fn operands(&self) -> &[OperandTag] {
        &self.operands
    }

    /// The entries of a class from the oldest to the newest.
    pub fn set_ages(&mut self, unit: Unit, oldest_first: impl Iterator<Item = u8>) {
        for (age, entry) in oldest_first.enumerate() {
            self.ages[unit as usize][usize::from(entry)] = age as u8 + 1;
        }
    }

    /// Matrix products are numbered modulo `count` and `newest` is the last one.
    pub fn set_matrix(&mut self, newest: u8, count: u8) {
        self.matrix = (newest, count);
    }

    /// What is written from now on stands in registers whose contents are over, or are not.
    pub fn set_over(&mut self, over: bool) {
        self.over = over;
    }

    /// The slots of pass requests that were named, and whether by valid entries.
    pub fn take_requests(&mut self) -> Vec<(u8, bool)> {
        std::mem::take(&mut self.requests)
    }
}

/// Writing.
impl Canon {
    /// A byte.
    #[inline]
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A number.
    #[inline]
    pub fn word(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Which of the TLB's clients look at the answer without having asked.
    pub fn set_looking(&mut self, looks: [bool; 2]) {
        self.looks = looks;
    }

    /// Whether a client of the TLB looks at the answer without having asked.
    pub fn looks(&self, client: usize) -> bool {
        self.looks[client]
    }

    /// A cycle, by its distance from now; all that are over are the same.
    #[inline]
    pub fn time(&mut self, cycle: Cycle) {
        self.word(cycle.saturating_sub(self.now));
    }

    /// Where now stands in a period.
    #[inline]
    pub fn phase(&mut self, period: u64) {
        self.word(self.now % period.max(1));
    }

    /// A main memory address.
    pub fn address(&mut self, address: u64) {
        let (tag, distance) = operand_space::split(address);
        if tag == MAIN_MEMORY {
            self.byte(u8::MAX);
            return self.word(distance);
        }
        self.named += 1;
        let known = self.operands.iter().position(|&operand| operand == tag);
        let order = known.unwrap_or_else(|| {
            self.operands.push(tag);
            self.operands.len() - 1
        });
        self.byte(order as u8);
        self.word(distance);
    }

    /// An entry of the reservation station.
    #[inline]
    pub fn entry(&mut self, unit: Unit, index: u8) {
        self.byte(unit as u8);
        // An entry that is over may have been given to another command.
        let age = if self.over { 0 } else { self.ages[unit as usize][usize::from(index)] };
        self.byte(age);
    }

    /// A set of entries of the reservation station, one bit each.
    pub fn entries(&mut self, unit: Unit, mut set: u64) {
        let mut by_age = 0u64;
        while set != 0 {
            by_age |= 1 << self.ages[unit as usize][set.trailing_zeros() as usize].saturating_sub(1);
            set &= set - 1;
        }
        self.word(by_age);
    }

    /// The number of a matrix product.
    pub fn matrix(id: &u8, canon: &mut Self) {
        let (newest, count) = canon.matrix;
        canon.byte((newest + count - id) % count);
    }

    /// [`Self::time`], of a field.
    pub fn cycle(cycle: &Cycle, canon: &mut Self) {
        canon.time(*cycle);
    }

    /// [`Self::phase`], of a field.
    pub fn period(period: &u64, canon: &mut Self) {
        canon.phase(*period);
    }

    /// The slot of a pass request, which is written with the requests.
    pub fn request(slot: &u8, canon: &mut Self) {
        canon.requests.push((*slot, !canon.over));
    }
}

macro_rules! numbers {
    ($($ty:ty)*) => { $(
        impl Canonical for $ty {
            #[inline]
            fn canonical(&self, canon: &mut Canon) {
                canon.bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}

numbers!(u8 u16 u32 u64 i8 i16 i32 i64);

impl Canonical for usize {
    #[inline]
    fn canonical(&self, canon: &mut Canon) {
        (*self as u32).canonical(canon);
    }
}

impl Canonical for bool {
    #[inline]
    fn canonical(&self, canon: &mut Canon) {
        canon.byte(u8::from(*self));
    }
}

impl Canonical for () {
    fn canonical(&self, _: &mut Canon) {}
}

impl<T: Canonical> Canonical for Option<T> {
    fn canonical(&self, canon: &mut Canon) {
        canon.byte(u8::from(self.is_some()));
        if let Some(value) = self {
            value.canonical(canon);
        }
    }
}

impl<T: Canonical> Canonical for Box<T> {
    fn canonical(&self, canon: &mut Canon) {
        (**self).canonical(canon);
    }
}

impl<T: Canonical, const N: usize> Canonical for [T; N] {
    fn canonical(&self, canon: &mut Canon) {
        self.iter().for_each(|value| value.canonical(canon));
    }
}

impl<T: Canonical> Canonical for Vec<T> {
    fn canonical(&self, canon: &mut Canon) {
        (self.len() as u32).canonical(canon);
        self.iter().for_each(|value| value.canonical(canon));
    }
}

impl<T: Canonical> Canonical for VecDeque<T> {
    fn canonical(&self, canon: &mut Canon) {
        (self.len() as u32).canonical(canon);
        self.iter().for_each(|value| value.canonical(canon));
    }
}

impl<A: Canonical, B: Canonical> Canonical for (A, B) {
    fn canonical(&self, canon: &mut Canon) {
        self.0.canonical(canon);
        self.1.canonical(canon);
    }
}

impl Addresses for u64 {
    fn addresses(&self, canon: &mut Canon) {
        canon.address(*self);
    }
}

impl Canonical for LocalAddr {
    #[inline]
    fn canonical(&self, canon: &mut Canon) {
        self.0.canonical(canon);
    }
}

/// A command with its registers, of which those that hold main memory addresses count as such.
impl Canonical for RoccCommand {
    fn canonical(&self, canon: &mut Canon) {
        canon.byte(self.funct);
        if let Some(scale) = self.load_scale() {
            canon.note_load_scale(scale);
        }
        let addresses = self.dram_registers();
        for (register, is_address) in [self.rs1, self.rs2].into_iter().zip(addresses) {
            if is_address { canon.address(register) } else { canon.word(register) }
        }
    }
}

macro_rules! formats {
    ($($format:ident)*) => { $(
        impl Canonical for $format {
            fn canonical(&self, canon: &mut Canon) {
                let (rs1, rs2) = self.to_regs();
                canon.word(rs1);
                canon.word(rs2);
            }
        }
    )* };
}

// The operand formats without a main memory address.
formats!(ConfigSt ConfigNorm LoopWs LoopWsBounds LoopWsStridesAb LoopWsStridesDc LoopWsSpadAb);
formats!(LoopConvConfig1 LoopConvConfig2 LoopConvConfig3 LoopConvConfig4 LoopConvWs);

impl Canonical for ConfigLd {
    fn canonical(&self, canon: &mut Canon) {
        let (rs1, rs2) = self.to_regs();
        canon.word(rs1);
        canon.word(rs2);
        canon.note_load_scale(self.scale.0);
    }
}

macro_rules! formats_with_addresses {
    ($($format:ident { $($field:ident)* })*) => { $(
        impl Canonical for $format {
            fn canonical(&self, canon: &mut Canon) {
                $(canon.address(self.$field);)*
            }
        }
    )* };
}

formats_with_addresses! {
    LoopWsAddrsAb { a b }
    LoopWsAddrsDc { d c }
    LoopConvConfig5 { weights output }
    LoopConvConfig6 { bias input }
}

impl Canonical for MoveOperands {
    fn canonical(&self, canon: &mut Canon) {
        let (_, rs2) = self.to_regs();
        canon.address(self.dram);
        canon.word(rs2);
    }
}

macro_rules! small_enums {
    ($($ty:ty)*) => { $(
        impl Canonical for $ty {
            #[inline]
            fn canonical(&self, canon: &mut Canon) {
                canon.byte(*self as u8);
            }
        }
    )* };
}

small_enums!(Unit Origin Port ReqKind);
small_enums!(DataflowMode Activation NormCmd);
