//! [`Overview`]: some cycles of a run at a glance, in as many pieces as there is room to draw.

use std::ops::Range;

use pollux_asm::Disassembler;
use pollux_sim::observer::{Activity, Cycle, Event, Links, Span, Unit};
use pollux_sim::report::{Block, Spent};
use pollux_trace::timeline::{Life, Lives};
use serde::Serialize;

use crate::engine::Watch;
use crate::error::SessionError;
use crate::session::Session;

/// Cycles before the first one that are looked at for commands that were in the station already.
const LEAD: u64 = 1 << 14;

/// What the blocks did in some cycles, and the commands that were in the station.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The first cycle.
    pub from: Cycle,
    /// The cycle after the last one.
    pub to: Cycle,
    /// The blocks, in the order of [`Block::ALL`].
    pub blocks: Vec<BlockSpan>,
    /// Commands, the one that entered the station first before the others.
    pub commands: Vec<CommandSpan>,
    /// Commands that are left out, as there are more than was asked for.
    pub left_out: usize,
}

/// What a block did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockSpan {
    /// The block.
    pub block: Block,
    /// The pieces, of equal length but for rounding.
    pub buckets: Vec<Bucket>,
}

/// Cycles of a piece, by what they were spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Without work.
    pub idle: u64,
    /// At work.
    pub busy: u64,
    /// All work passed on, and not yet complete.
    pub draining: u64,
    /// Waiting.
    pub stalled: u64,
}

/// A command's way through the station.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandSpan {
    /// Sequence number in the station.
    pub seq: u64,
    /// Its class.
    pub unit: Unit,
    /// As assembly text.
    pub text: String,
    /// Number of the host's command that it is, or from whose loop it was unrolled.
    pub parent: Option<u64>,
    /// Commands that it waited for when it entered.
    pub dependencies: Vec<u64>,
    /// The cycle in which it was complete.
    pub completed: Option<Cycle>,
    /// Its stages.
    pub stages: Vec<StageSpan>,
}

/// A stage of a command's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageSpan {
    /// `Q` in the station, `I` issued, `X` rows move, `W` waits for the last of them.
    pub stage: char,
    /// First cycle.
    pub start: Cycle,
    /// The cycle after the last one.
    pub end: Cycle,
}

/// Collects an overview.
struct Collect {
    cycles: Range<Cycle>,
    buckets: Vec<[Bucket; Block::ALL.len()]>,
    lives: Lives,
    completed: Vec<Life>,
    most: usize,
    left_out: usize,
}

impl Collect {
    fn new(cycles: Range<Cycle>, buckets: usize, most: usize) -> Self {
        let buckets = vec![Default::default(); buckets];
        Self { cycles, buckets, lives: Lives::default(), completed: Vec::new(), most, left_out: 0 }
    }

    /// First cycle of a piece.
    fn start(&self, bucket: usize) -> Cycle {
        let length = u128::from(self.cycles.end - self.cycles.start);
        self.cycles.start + (length * bucket as u128 / self.buckets.len() as u128) as u64
    }

    /// The piece of a cycle.
    fn bucket(&self, cycle: Cycle) -> usize {
        let length = u128::from(self.cycles.end - self.cycles.start);
        // Pieces begin at rounded-down cycles, so that the first guess may be one too early.
        let guess = (u128::from(cycle - self.cycles.start) * self.buckets.len() as u128 / length) as usize;
        if guess + 1 < self.buckets.len() && self.start(guess + 1) <= cycle { guess + 1 } else { guess }
    }

    fn keep(&mut self, life: Life) {
        if life.completed.is_some_and(|completed| completed < self.cycles.start) || life.allocated >= self.cycles.end {
            return;
        }
        match self.completed.len() < self.most {
            true => self.completed.push(life),
            false => self.left_out += 1,
        }
    }
}

impl Watch for Collect {
    fn event(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        if let Some(life) = self.lives.event(cycle, event, links) {
            self.keep(life);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        let end = (span.first + span.cycles).min(self.cycles.end);
        let mut cycle = span.first.max(self.cycles.start);
        while cycle < end {
            let bucket = self.bucket(cycle);
            let next = if bucket + 1 < self.buckets.len() { self.start(bucket + 1).min(end) } else { end };
            for (bucket, spent) in self.buckets[bucket].iter_mut().zip(activity.blocks) {
                *match spent {
                    Spent::Idle => &mut bucket.idle,
                    Spent::Busy => &mut bucket.busy,
                    Spent::Draining => &mut bucket.draining,
                    Spent::Stalled(_) => &mut bucket.stalled,
                } += next - cycle;
            }
            cycle = next;
        }
    }
}

impl Session {
    /// Some cycles at a glance, in so many pieces at most, with so many commands at most. Cycles behind the end of the run are left out.
    ///
    /// # Errors
    /// There is no cycle among them, or whoever watches ended the replay.
    pub fn overview(
        &mut self,
        cycles: Range<Cycle>,
        buckets: usize,
        commands: usize,
    ) -> Result<Overview, SessionError> {
        let nothing = |what: String| SessionError::Nothing {
            what,
            remedy: "ask for cycles whose end is behind their start, before the end of the run".to_owned(),
        };
        let from = cycles.start.saturating_sub(LEAD);
        // Whether the run ends before is known once it was there.
        let to = self.end_before(cycles.end)?;
        if cycles.start >= to || buckets == 0 {
            return Err(nothing(format!("no cycle is in {}..{}", cycles.start, cycles.end)));
        }
        let pieces = usize::try_from(to - cycles.start).map_or(buckets, |length| length.min(buckets));
        let mut collect = Collect::new(cycles.start..to, pieces, commands);
        self.look(&mut collect, from, to)?;
        let open: Vec<Life> = collect.lives.open().cloned().collect();
        open.into_iter().for_each(|life| collect.keep(life));
        collect.completed.sort_by_key(|life| life.seq);
        let disassembler = Disassembler::new(self.program());
        let commands = collect.completed.iter().map(|life| command(life, to, &disassembler)).collect();
        let blocks = Block::ALL.into_iter().map(|block| {
            let buckets = collect.buckets.iter().map(|buckets| buckets[block as usize]).collect();
            BlockSpan { block, buckets }
        });
        Ok(Overview { from: cycles.start, to, blocks: blocks.collect(), commands, left_out: collect.left_out })
    }
}

fn command(life: &Life, now: Cycle, disassembler: &Disassembler<'_>) -> CommandSpan {
    let stages = life.stages(now).into_iter();
    CommandSpan {
        seq: life.seq,
        unit: life.unit,
        text: disassembler.command(life.command),
        parent: life.parent,
        dependencies: life.dependencies.clone(),
        completed: life.completed,
        stages: stages.map(|of| StageSpan { stage: of.letter, start: of.start, end: of.end }).collect(),
    }
}
