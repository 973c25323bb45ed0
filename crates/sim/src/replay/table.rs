//! The table: states that a boundary was at, and the segments that lead from one to the next.
//!
//! Segments that start in one state form a tree over the items of the script. A node of it has as its name the hash of the state and of
//! the items up to it, so that the tree is two hash tables: names that a longer path leads through, and segments by the name of their
//! last node. Where operands share pages or do not, there may be several segments with one name.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use pollux_isa::RoccCommand;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::front_end::loop_conv::LoopConv;
use crate::front_end::loop_matmul::LoopMatmul;
use crate::host::ScriptItem;
use crate::machine::Machine;
use crate::observation::event::{Counting, Cycle};
use crate::observation::observer::CountedOperation;
use crate::observation::profile::{Pending, ProfileSums};
use crate::parts::canonical::ASIDE;
use crate::parts::values::Timing;
use crate::port::operand_space::{self, MAIN_MEMORY_BASE, OperandTag, Source};
use crate::port::pages::{PageRegisters, PageRules, PageStep};
use crate::replay::aside::{After, Aside, AsideName, looked_at};
use crate::replay::field_survey::FieldSurvey;
use crate::replay::names::{Names, without_places};
use crate::simulation::Passed;

/// How a run is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplayOptions {
    /// Bytes that a table may take before it is emptied.
    pub table_bytes: usize,
    /// Share of the known segments that are simulated again and compared, chosen by a fixed seed: 0 for none, 1 for all.
    pub check: f64,
    /// Every acceptance of a command is a boundary, whatever it costs. For tests.
    pub every_command: bool,
    /// This field of the canonical form, `Type.field`, is left out, which must be found out if it matters; the empty name leaves out
    /// none and only surveys the fields ([`FieldFindings`](super::FieldFindings)). For tests.
    pub drop_field: Option<&'static str>,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { table_bytes: 200 << 20, check: 0.0, every_command: false, drop_field: None }
    }
}

/// What replay did in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ReplayTotals {
    /// Cycles taken from the table.
    pub replayed: u64,
    /// Known segments that were passed.
    pub hops: u64,
    /// Segments that were simulated and recorded.
    pub recorded: u64,
    /// Known segments that were simulated again and found to be as recorded.
    pub checked: u64,
    /// States in the table at the end.
    pub states: u64,
    /// Bytes of the table at the end.
    pub bytes: u64,
}

/// Number of a state in the table.
pub(super) type NodeId = u32;

/// Main memory itself.
pub(super) const MAIN_MEMORY: Source = Source::MAX;

/// What follows from a state and some items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// Items of the script that the host passes.
    pub items: usize,
    pub passed: Passed,
    /// Marks that the host comes to: cycle from the start, and how many marks stand before it in the segment.
    pub marks: Box<[(Cycle, usize)]>,
    /// What is counted between them, if it is: `start` from the start of the segment, and as `mark` how many marks stand before it there.
    pub counted: Box<[CountedOperation]>,
    /// What its cycles were spent on, if it is profiled.
    pub profile: Option<Box<ProfileSums>>,
    /// What the page registers were asked, and the answers that must be the same.
    pub pages: Box<[PageStep]>,
    pub end: End,
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum End {
    /// In this state, before a command is accepted. Its operands are these ones, and that is what becomes of the parts set aside.
    State(NodeId, Box<[Source]>, Box<[After; ASIDE]>),
    /// The script is used up and everything is idle.
    Finished,
}

impl Segment {
    /// The page registers at the end, if the answers that time depends on are those of the recording.
    fn applies(&self, pages: &PageRegisters, rules: PageRules, operands: &[u64]) -> Option<PageRegisters> {
        let base = |source: Source| operands.get(usize::from(source)).copied().unwrap_or(MAIN_MEMORY_BASE);
        pages.replay(rules, &self.pages, base)
    }

    /// Two recordings of one segment. What the page registers were asked follows from the rest.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let Self { items: _, passed, marks, counted, profile, pages: _, end } = self;
        let told = *marks == other.marks && *counted == other.counted && *profile == other.profile;
        told && *passed == other.passed && *end == other.end
    }

    fn bytes(&self) -> usize {
        let profile = self.profile.as_ref().map_or(0, |sums| sums.bytes());
        size_of::<Self>()
            + size_of_val(&*self.pages)
            + size_of_val(&*self.marks)
            + size_of_val(&*self.counted)
            + profile
            + 256
    }
}

/// A state.
#[derive(Debug)]
pub(super) struct Node<M> {
    pub key: u128,
    /// The canonical form, if it is to be compared and not only its hash.
    form: Option<Box<[u8]>>,
    /// A machine in this state; none if only the facts about the state were kept, on disk, and no run has come to it yet.
    pub kept: Option<Box<Kept<M>>>,
}

/// A machine in a state.
#[derive(Debug)]
pub(super) struct Kept<M> {
    /// The machine and the memory behind it, and the cycle in which they were.
    pub machine: Machine<Timing>,
    pub memory: M,
    pub cycle: Cycle,
    /// The numbers that the machine has for its operands, in their order.
    pub operands: Box<[OperandTag]>,
    /// What the counting of its next events depends on, if they are counted.
    pub counting: Option<Counting>,
    /// The same for a profiler.
    pub profile: Option<Box<Pending>>,
}

/// What is known, without machines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    keys: Vec<u128>,
    inner: Vec<u128>,
    segments: Vec<(u128, Vec<Segment>)>,
}

/// Where a run stands between segments: what decides how it goes on.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub node: NodeId,
    /// What the unrollers hold of which nothing is under way, and the turns of scale units that nothing needs: their next loop, or the next
    /// scaled load, looks at it, and nothing before.
    pub aside: [AsideName; ASIDE],
    /// Where the state's operands lie.
    pub operands: Vec<u64>,
    /// What the page registers hold.
    pub pages: PageRegisters,
}

/// States and segments of one configuration behind one memory.
#[derive(Debug)]
pub(crate) struct Table<M> {
    nodes: Vec<Node<M>>,
    by_key: HashMap<u128, NodeId>,
    aside: HashMap<u128, Aside>,
    inner: HashSet<u128>,
    segments: HashMap<u128, Vec<Segment>>,
    bytes: usize,
    limit: usize,
    /// Something was learnt that is not in the [`Facts`] it was made of.
    pub learnt: bool,
    /// What was noted of the fields of the canonical form, if they were surveyed.
    pub(super) fields: FieldSurvey,
}

/// A known segment where it applies: with the operands that it may name and the page registers at its end.
pub(super) struct Known<'t> {
    pub segment: &'t Segment,
    /// Items of this script up to its end: others may have more or fewer that take no time.
    pub items: usize,
    pub operands: Vec<u64>,
    pub pages: PageRegisters,
}

/// Two states with one key have different forms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Collision;

/// What replaying depends on that is the same throughout a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    pub rules: PageRules,
    pub names: Names,
}

/// A name with another item behind it.
fn extend(name: u128, item: u128) -> u128 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&name.to_le_bytes());
    bytes[16..].copy_from_slice(&item.to_le_bytes());
    xxh3_128(&bytes)
}

/// The name of an item and its operands, if it matters to time.
fn item_name(item: &ScriptItem, names: Names, operands: &mut Vec<u64>) -> Option<u128> {
    let (kind, number) = match *item {
        ScriptItem::Nothing => return None,
        ScriptItem::Mark => (0, 0),
        ScriptItem::Fence => (1, 0),
        ScriptItem::Wait(cycles) => (2, cycles),
        ScriptItem::Work(cycles) => (3, cycles),
        ScriptItem::Command(cmd) => {
            let registers = cmd.dram_registers().into_iter().zip([cmd.rs1, cmd.rs2]);
            let addresses = registers.filter(|&(is, address)| is && address != 0);
            operands.extend(addresses.map(|(_, address)| operand_space::base(address, names.request)));
            return Some(command_name(&cmd, names));
        }
    };
    Some(u128::from(kind + 1u8) << 64 | u128::from(number))
}

/// The path from a state over some items, by name.
struct Path {
    name: u128,
    operands: Vec<u64>,
    /// What is held aside, until a command comes that looks at it.
    aside: [AsideName; ASIDE],
}

impl Path {
    fn of(key: u128, place: &Place) -> Self {
        Self { name: key, operands: place.operands.clone(), aside: place.aside }
    }

    /// Goes on over an item. False if it does not matter to time.
    fn pass(&mut self, item: &ScriptItem, names: Names) -> bool {
        let Some(item_name) = item_name(item, names, &mut self.operands) else { return false };
        for part in looked_at(item, names) {
            let held = std::mem::take(&mut self.aside[*part]);
            if held != AsideName::IN_FORM {
                self.name = extend(self.name, held.number());
            }
        }
        self.name = extend(self.name, item_name);
        true
    }
}

/// The hash of a command as it matters to time, wherever its operands lie.
pub(super) fn command_name(cmd: &RoccCommand, names: Names) -> u128 {
    let cmd = without_places(cmd, names, |address| operand_space::place(1, address, names.request));
    let mut bytes = [0; 17];
    bytes[0] = cmd.funct;
    bytes[1..9].copy_from_slice(&cmd.rs1.to_le_bytes());
    bytes[9..].copy_from_slice(&cmd.rs2.to_le_bytes());
    xxh3_128(&bytes)
}

/// Behind the last item.
const END: u128 = u128::MAX;

/// The name of a segment of this path at whose end the host stands at this item; none if no segment ends there.
fn segment_name(path: u128, items: usize, next: Option<&ScriptItem>) -> Option<u128> {
    match next? {
        ScriptItem::Command(_) if items > 0 => Some(path),
        // The host waits with the command, or until the accelerator is idle.
        ScriptItem::Command(_) => Some(extend(path, END - 1)),
        ScriptItem::Fence | ScriptItem::Work(_) => Some(extend(path, END - 2)),
        ScriptItem::Wait(_) | ScriptItem::Mark | ScriptItem::Nothing => None,
    }
}

/// The commands of a segment, whatever state it starts from.
pub(super) fn commands_name(script: &[ScriptItem], names: Names) -> u128 {
    let mut path = Path { name: 0, operands: Vec::new(), aside: [AsideName::IN_FORM; ASIDE] };
    script.iter().for_each(|item| _ = path.pass(item, names));
    path.name
}

impl<M> Table<M> {
    pub fn new(limit: usize) -> Self {
        Self {
            nodes: Vec::new(),
            by_key: HashMap::new(),
            aside: HashMap::new(),
            inner: HashSet::new(),
            segments: HashMap::new(),
            bytes: 0,
            limit,
            learnt: false,
            fields: FieldSurvey::default(),
        }
    }

    /// A table that knows this. States that segments lead to must be among the keys.
    pub(super) fn of_facts(facts: Facts, limit: usize) -> Option<Self> {
        let Facts { keys, inner, segments } = facts;
        let leads_on = |segment: &Segment| match &segment.end {
            End::State(node, ..) => (*node as usize) < keys.len(),
            End::Finished => true,
        };
        if !segments.iter().flat_map(|(_, known)| known).all(leads_on) {
            return None;
        }
        let mut table = Self::new(limit);
        table.bytes = keys.len() * size_of::<Node<M>>()
            + inner.len() * 2 * size_of::<u128>()
            + segments.iter().flat_map(|(_, known)| known).map(Segment::bytes).sum::<usize>();
        table.by_key = keys.iter().zip(0..).map(|(&key, id)| (key, id)).collect();
        table.nodes = keys.into_iter().map(|key| Node { key, form: None, kept: None }).collect();
        table.inner = inner.into_iter().collect();
        table.segments = segments.into_iter().collect();
        (table.by_key.len() == table.nodes.len()).then_some(table)
    }

    /// What is known, in an order that depends on nothing else.
    pub(super) fn facts(&self) -> Facts {
        let mut inner: Vec<u128> = self.inner.iter().copied().collect();
        inner.sort_unstable();
        let mut segments: Vec<_> = self.segments.iter().map(|(&name, known)| (name, known.clone())).collect();
        segments.sort_unstable_by_key(|(name, _)| *name);
        Facts { keys: self.nodes.iter().map(|node| node.key).collect(), inner, segments }
    }

    pub fn states(&self) -> usize {
        self.nodes.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The machine in a state, if there is one.
    pub(super) fn kept(&self, id: NodeId) -> Option<&Kept<M>> {
        self.nodes[id as usize].kept.as_deref()
    }

    /// Whether there is a machine in the state of a place.
    pub(super) fn is_kept(&self, place: &Place) -> bool {
        let is_known = |aside: &AsideName| *aside == AsideName::IN_FORM || self.aside.contains_key(&aside.held);
        self.kept(place.node).is_some() && place.aside.iter().all(is_known)
    }

    /// What is held aside under a name.
    pub(super) fn aside(&self, name: AsideName) -> Option<&Aside> {
        self.aside.get(&name.held)
    }

    /// Keeps what is held aside under its name.
    pub(super) fn set_aside(&mut self, held: u128, aside: impl FnOnce() -> Option<Aside>) {
        if let Entry::Vacant(entry) = self.aside.entry(held)
            && let Some(aside) = aside()
        {
            entry.insert(aside);
            self.bytes += size_of::<LoopMatmul>().max(size_of::<LoopConv>());
        }
    }

    /// Bytes that it may take from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Empties the table if it has grown beyond its limit. What was a state before is none then.
    pub fn keep_within_limit(&mut self) -> bool {
        let full = self.bytes > self.limit;
        if full {
            *self = Self { learnt: true, ..Self::new(self.limit) };
        }
        full
    }

    /// The state with this key; `make` is asked for it if it is a new one. `form` is kept and compared if `compares`.
    pub(super) fn intern(
        &mut self,
        key: u128,
        form: &[u8],
        compares: bool,
        make: impl FnOnce() -> Kept<M>,
    ) -> Result<NodeId, Collision> {
        // A machine without values is about as large as its form, several times over: queues are allocated for their capacity.
        let kept_bytes = size_of::<Kept<M>>() + 4 * form.len();
        if let Some(&id) = self.by_key.get(&key) {
            let node = &mut self.nodes[id as usize];
            if node.form.as_ref().is_some_and(|known| **known != *form) {
                return Err(Collision);
            }
            if node.kept.is_none() {
                node.kept = Some(Box::new(make()));
                self.bytes += kept_bytes;
            }
            return Ok(id);
        }
        let id = self.nodes.len() as NodeId;
        self.bytes += size_of::<Node<M>>() + kept_bytes;
        let form = compares.then(|| form.into());
        self.nodes.push(Node { key, form, kept: Some(Box::new(make())) });
        self.by_key.insert(key, id);
        self.learnt = true;
        Ok(id)
    }

    /// The segment that starts at a place with these items, and its operands.
    pub(super) fn find(&self, place: &Place, at: &Surroundings, script: &[ScriptItem]) -> Option<Known<'_>> {
        let fits = |known: &'_ [Segment], operands: &[u64]| {
            known.iter().enumerate().find_map(|(i, s)| Some((i, s.applies(&place.pages, at.rules, operands)?)))
        };
        let mut path = Path::of(self.nodes[place.node as usize].key, place);
        for (i, item) in script.iter().enumerate() {
            if let Some(name) = segment_name(path.name, i, Some(item))
                && let Some(known) = self.segments.get(&name)
                && let Some((fit, pages)) = fits(known, &path.operands)
            {
                return Some(Known { segment: &known[fit], items: i, operands: path.operands, pages });
            }
            if path.pass(item, at.names) && !self.inner.contains(&path.name) {
                return None;
            }
        }
        let known = self.segments.get(&extend(path.name, END))?;
        let (fit, pages) = fits(known, &path.operands)?;
        Some(Known { segment: &known[fit], items: script.len(), operands: path.operands, pages })
    }

    /// Adds what follows from a place and these items. `None` if it is known already; the segment that contradicts it, if there is one.
    pub(super) fn insert(
        &mut self,
        place: &Place,
        at: &Surroundings,
        script: &[ScriptItem],
        segment: Segment,
    ) -> Result<(), Box<Segment>> {
        let mut path = Path::of(self.nodes[place.node as usize].key, place);
        for item in &script[..segment.items] {
            if path.pass(item, at.names) && self.inner.insert(path.name) {
                self.bytes += 2 * size_of::<u128>();
            }
        }
        let mut name = path.name;
        if segment.end == End::Finished {
            name = extend(name, END);
        } else if let Some(ending) = segment_name(name, segment.items, script.get(segment.items)) {
            name = ending;
        }
        let known = self.segments.entry(name).or_default();
        match known.iter().find(|s| s.applies(&place.pages, at.rules, &path.operands).is_some()) {
            Some(same) if same.agrees(&segment) => {}
            Some(other) => return Err(Box::new(other.clone())),
            None => {
                self.bytes += segment.bytes();
                self.learnt = true;
                known.push(segment);
            }
        }
        Ok(())
    }
}
