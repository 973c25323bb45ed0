//! A host whose commands name operands instead of places in main memory, and leave out what only changes values.

use std::sync::Arc;

use pollux_isa::RoccCommand;
use pollux_memory::Memory;

use super::names::{Names, without_places};
use crate::host::{Host, ScriptItem};
use crate::port::operand_space::{self, OPERANDS, OperandTag, PAGE_REGISTERS};

/// The numbers of operands that are not in use.
#[derive(Clone, Debug)]
struct FreeTags {
    /// One bit a number; a set bit is in use. Number 0 is main memory itself, and two are set aside for the page registers.
    used: [u64; OPERANDS / 64],
}

impl FreeTags {
    fn all_but(used: impl IntoIterator<Item = OperandTag>) -> Self {
        let mut tags = Self { used: [0; OPERANDS / 64] };
        tags.used[0] = 1 | PAGE_REGISTERS.iter().fold(0, |set, tag| set | 1 << tag);
        used.into_iter().for_each(|tag| tags.take(tag));
        tags
    }

    fn take(&mut self, tag: OperandTag) {
        self.used[usize::from(tag) / 64] |= 1 << (tag % 64);
    }

    /// The lowest free number. The state and the commands of a segment name fewer operands than there are numbers: see [`MOST_NEW`].
    fn next(&mut self) -> OperandTag {
        let word = self.used.iter().position(|word| *word != u64::MAX).unwrap_or(0);
        let tag = (word as u32 * 64 + self.used[word].trailing_ones() % 64) as OperandTag;
        self.take(tag);
        tag
    }
}

/// Operands that the commands of one segment may add. A machine holds at most one for each of the three times 64 entries of the
/// station and a few in its queues, so that all together they can be told apart.
pub(super) const MOST_NEW: usize = OPERANDS / 4;

/// The host.
#[derive(Clone, Debug)]
pub(crate) struct SymbolicHost<H> {
    pub(super) inner: H,
    script: Arc<[ScriptItem]>,
    names: Names,
    free: FreeTags,
    /// The operands of the commands since the last [`Self::begin`], in their order: number and place.
    pub(super) operands: Vec<(OperandTag, u64)>,
    /// Those of them that the machine has been told of.
    pub(super) told: usize,
    /// Item that the host stood at last, and its command.
    at: usize,
    command: Option<RoccCommand>,
    /// Where the host's writes go: they are values, which nobody looks at.
    writes: Memory,
}

impl<H: Host> SymbolicHost<H> {
    pub(super) fn new(inner: H, script: Arc<[ScriptItem]>, names: Names) -> Self {
        let free = FreeTags::all_but([]);
        let mut host = Self {
            inner,
            script,
            names,
            free,
            operands: Vec::new(),
            told: 0,
            at: usize::MAX,
            command: None,
            writes: Memory::new(),
        };
        host.look();
        host
    }

    /// A segment begins, at which `used` are the operands of the state.
    pub(super) fn begin(&mut self, used: impl Iterator<Item = OperandTag>) {
        self.free = FreeTags::all_but(used);
        self.operands.clear();
        self.told = 0;
        self.at = usize::MAX;
        self.look();
    }

    /// Item of the script that the host stands at.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Stands at an item that has just been reached.
    pub(super) fn jump(&mut self, item: usize) {
        self.inner.jump(item, &mut self.writes);
        self.look();
    }

    /// Makes the command of the item that the host has come to.
    #[inline]
    fn look(&mut self) {
        let at = self.inner.place();
        if at != self.at {
            self.at = at;
            self.translate();
        }
    }

    fn translate(&mut self) {
        let Self { script, names, free, operands, at, command, .. } = self;
        *command = match script.get(*at) {
            Some(ScriptItem::Command(cmd)) => Some(without_places(cmd, *names, |address| {
                let tag = free.next();
                operands.push((tag, operand_space::base(address, names.request)));
                operand_space::place(tag, address, names.request)
            })),
            _ => None,
        };
    }
}

impl<H: Host> Host for SymbolicHost<H> {
    #[inline]
    fn present(&self) -> Option<RoccCommand> {
        self.inner.present().and(self.command)
    }

    #[inline]
    fn edge(&mut self, accepted: bool, busy: bool, _: &mut Memory) -> bool {
        let changed = self.inner.edge(accepted, busy, &mut self.writes);
        if changed {
            self.look();
        }
        changed
    }

    fn idle_cycles(&self) -> Option<u64> {
        self.inner.idle_cycles()
    }

    fn skip(&mut self, cycles: u64) {
        self.inner.skip(cycles);
    }

    fn done(&self) -> bool {
        self.inner.done()
    }

    fn position(&self) -> String {
        self.inner.position()
    }

    fn mark(&self) -> Option<usize> {
        self.inner.mark()
    }
}
