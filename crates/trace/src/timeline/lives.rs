//! The lives of commands in the reservation station, put together from events.

use std::collections::BTreeMap;

use pollux_isa::RoccCommand;
use pollux_sim::observer::{Cycle, Event, Links, Origin, Port, Unit};

/// What is known of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Sequence number in the station.
    pub seq: u64,
    /// Its class.
    pub unit: Unit,
    /// Entry of the station.
    pub entry: u8,
    /// The command.
    pub command: RoccCommand,
    /// Who made it.
    pub origin: Origin,
    /// Number of the host's command that it is, or from whose loop it was unrolled.
    pub parent: Option<u64>,
    /// Commands that it waited for when it entered.
    pub dependencies: Vec<u64>,
    /// It enters the station.
    pub allocated: Cycle,
    /// It goes to its controller.
    pub issued: Option<Cycle>,
    /// Its rows move, from the first to the last: requests of a load, rows of operands, rows that a store reads.
    pub moves: Option<(Cycle, Cycle)>,
    /// It is complete.
    pub completed: Option<Cycle>,
}

/// A stage of a command's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its letter: `Q` in the station, `I` issued, `X` rows move, `W` waits for the last of them.
    pub letter: char,
    /// First cycle.
    pub start: Cycle,
    /// The cycle after the last one.
    pub end: Cycle,
}

impl Life {
    /// The stages up to a cycle, which a command that is not complete has come to. Those without a cycle are left out.
    pub fn stages(&self, now: Cycle) -> Vec<Stage> {
        let end = self.completed.map_or(now, |completed| completed + 1).max(self.allocated);
        let issued = self.issued.unwrap_or(end);
        let moves = self.moves.unwrap_or((end, end.saturating_sub(1)));
        let stages = [
            ('Q', self.allocated, issued),
            ('I', issued, moves.0),
            ('X', moves.0, moves.1 + 1),
            ('W', (moves.1 + 1).max(issued), end),
        ];
        let stages = stages.into_iter().map(|(letter, start, to)| Stage { letter, start, end: to.min(end) });
        stages.filter(|stage| stage.start < stage.end).collect()
    }
}

/// The commands in the station. As many as that holds, so that memory does not grow with the run.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    open: BTreeMap<u64, Life>,
}

impl Lives {
    /// The commands that are not complete, oldest first.
    pub fn open(&self) -> impl Iterator<Item = &Life> {
        self.open.values()
    }

    /// Takes an event. The command that it completes, if it completes one.
    pub fn event(&mut self, cycle: Cycle, event: &Event, links: &Links) -> Option<Life> {
        match *event {
            Event::Alloc { seq, unit, entry, funct, rs1, rs2, origin } => {
                let life = Life {
                    seq,
                    unit,
                    entry,
                    command: RoccCommand { funct, rs1, rs2 },
                    origin,
                    parent: links.parent,
                    dependencies: links.dependencies.clone(),
                    allocated: cycle,
                    issued: None,
                    moves: None,
                    completed: None,
                };
                self.open.insert(seq, life);
            }
            Event::Issue { seq, .. } => {
                if let Some(life) = self.open.get_mut(&seq) {
                    life.issued = Some(cycle);
                }
            }
            Event::Complete { seq, .. } => {
                let life = self.open.remove(&seq)?;
                return Some(Life { completed: Some(cycle), ..life });
            }
            _ => self.moved(cycle, event, links),
        }
        None
    }

    fn moved(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        let Some(life) = links.command.and_then(|seq| self.open.get_mut(&seq)) else { return };
        let is_its = match (life.unit, event) {
            (Unit::Ld, Event::Req { .. }) => true,
            // A row of zeros has no request.
            (Unit::Ld, Event::SpadWrite { .. } | Event::AccWrite { .. }) => life.moves.is_none(),
            (Unit::Ex, Event::SpadRead { .. } | Event::AccRead { .. } | Event::MeshA) => true,
            (Unit::St, Event::SpadRead { port: Port::Dma, .. } | Event::AccRead { port: Port::Dma, .. }) => true,
            _ => false,
        };
        if is_its {
            let first = life.moves.map_or(cycle, |(first, _)| first);
            life.moves = Some((first, cycle));
        }
    }
}
