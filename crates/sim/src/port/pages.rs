//! The page registers along a replayed run.
//!
//! Without page tables an access that misses its page register is answered as soon as one that hits, unless both engines miss in one
//! cycle: then the arbiter in front of the TLB grants the one that it did not grant last, and the other has to ask again. So the
//! registers and the arbiter's last grant decide little, but they depend on where every operand really lies. They are not part of a
//! state; a segment holds the questions to the registers instead, and whoever replays it asks them again, with the operands of his own.
//! If an answer that matters is another one, the segment does not apply. If events are counted, each answer does.

use crate::port::operand_space::{self, PageEvent, PageQuestion, Source, TLB_READER, TLB_WRITER};

/// The TLB's clients.
const CLIENTS: usize = 2;

/// The page registers of the TLB's clients, and the arbiter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageRegisters {
    /// The page in each register.
    pub last: [Option<u64>; CLIENTS],
    /// The page that the TLB will write into it: that of the last access, if it missed.
    pub coming: [Option<u64>; CLIENTS],
    /// The answer to the last question.
    pub hit: [bool; CLIENTS],
    /// The client that was granted last.
    pub last_grant: usize,
    /// The same before the writer's last question, which may turn out to be one of two in its cycle.
    pub grant_before: usize,
    /// The writer's question was the last event and missed.
    writer_missed: bool,
}

/// How the page registers of a configuration work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageRules {
    /// There are page registers (`use_tlb_register_filter`).
    pub registers: bool,
    /// The clients share a TLB, with an arbiter in front of it.
    pub shared: bool,
    /// Requests at the TLB are counted: each answer matters, not only to time.
    pub counted: bool,
}

/// An answer that time depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Answer {
    /// None does.
    Indifferent,
    /// Whether the register holds the page: a client looks that does not ask, or it is counted.
    Looked(bool),
    /// Both ask; not both have to go to the TLB.
    Passed,
    /// Both ask and have to go to the TLB: this one is granted.
    Granted(u8),
}

/// An event in a segment, and the answer that was given.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum PageStep {
    Question { question: PageQuestion, source: Source, answer: Answer },
    Run(PageRun),
    Flush([bool; CLIENTS]),
}

/// Questions about one operand, one after the other, by a client that asks alone and never in two cycles in a row. No answer matters to
/// time. After each of them the page in the client's register, or on its way there, is the one that it asked for. So what they
/// leave behind follows from the first, the last two, and whether any between them missed: if not all of them are in one page.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PageRun {
    client: u8,
    source: Source,
    /// Distances within the operand: of the first question, and of the last two.
    first: u32,
    ends: [u32; 2],
    /// The least and the greatest of all but the last.
    range: [u32; 2],
}

/// Questions that are worth a [`PageRun`].
const SHORTEST_RUN: usize = 4;

/// Puts runs of questions together.
fn in_runs(steps: &[PageStep]) -> Box<[PageStep]> {
    let asker = |step: &PageStep| match step {
        PageStep::Question { question, source, answer: Answer::Indifferent }
            if question.asks && !question.follows && !question.together =>
        {
            Some((question.client, *source))
        }
        _ => None,
    };
    let runs = steps.chunk_by(|a, b| asker(a).is_some_and(|asks| asker(b) == Some(asks)));
    runs.flat_map(|run| {
        let put_together = PageRun::of(run).map(|run| [PageStep::Run(run)]);
        let alone = if put_together.is_some() { &[] } else { run };
        put_together.into_iter().flatten().chain(alone.iter().copied())
    })
    .collect()
}

impl PageRun {
    /// The run of these steps, which are questions of one client about one operand, if they are enough.
    fn of(steps: &[PageStep]) -> Option<Self> {
        let distance = |step: &PageStep| match step {
            PageStep::Question { question, .. } => Some(question.distance),
            _ => None,
        };
        let (PageStep::Question { question, source, .. }, true) = (steps.first()?, steps.len() >= SHORTEST_RUN) else {
            return None;
        };
        let (last, before) = steps.split_last()?;
        let distances = || before.iter().filter_map(distance);
        Some(Self {
            client: question.client,
            source: *source,
            first: question.distance,
            ends: [distance(before.last()?)?, distance(last)?],
            range: [distances().min()?, distances().max()?],
        })
    }

    fn question(&self, distance: u32) -> PageQuestion {
        let (asks, follows, together) = (true, false, false);
        PageQuestion { client: self.client, asks, follows, together, tag: 0, distance }
    }
}

impl PageRegisters {
    /// The page in a client's register: one on its way has arrived, unless the client asked for it in the last cycle.
    pub(crate) fn register(&self, client: usize, asked: bool) -> Option<u64> {
        if asked { self.last[client] } else { self.coming[client].or(self.last[client]) }
    }

    /// What is in the registers after the events of a segment, and the steps with the answers as they are now. `source` tells where the
    /// operand of a question comes from and where it lies; questions about operands that nobody needs any more are left out.
    pub fn record(
        mut self,
        rules: PageRules,
        events: &[PageEvent],
        source: impl Fn(&PageQuestion) -> Option<(Source, u64)>,
    ) -> (Self, Box<[PageStep]>) {
        let mut steps = Vec::with_capacity(events.len());
        for event in events {
            match event {
                PageEvent::Flush(asks) => {
                    self.flush(*asks);
                    steps.push(PageStep::Flush(*asks));
                }
                PageEvent::Question(question) => {
                    let Some((source, base)) = source(question) else { continue };
                    let answer = self.ask(rules, question, operand_space::page(base, question.distance));
                    steps.push(PageStep::Question { question: *question, source, answer });
                }
            }
        }
        (self, in_runs(&steps))
    }

    /// What is in the registers after a segment, if its questions have the answers that they had then.
    pub fn replay(mut self, rules: PageRules, steps: &[PageStep], base: impl Fn(Source) -> u64) -> Option<Self> {
        for step in steps {
            match step {
                PageStep::Flush(asks) => self.flush(*asks),
                PageStep::Run(run) => self.ask_all(rules, run, base(run.source)),
                PageStep::Question { question, source, answer } => {
                    let page = operand_space::page(base(*source), question.distance);
                    if self.ask(rules, question, page) != *answer {
                        return None;
                    }
                }
            }
        }
        Some(self)
    }

    fn ask(&mut self, rules: PageRules, question: &PageQuestion, page: u64) -> Answer {
        let client = usize::from(question.client);
        let arrived = self.coming[client].take();
        let before = self.last[client];
        if rules.registers {
            self.last[client] = arrived.or(before);
        }
        // A page on its way is in the register one cycle after its access.
        let register = if question.follows { before } else { self.last[client] };
        let hit = rules.registers && register == Some(page);
        let writer_missed = std::mem::take(&mut self.writer_missed);
        self.hit[client] = hit;
        if !question.asks {
            return Answer::Looked(hit);
        }
        let answer = match question.together {
            _ if rules.counted => Answer::Looked(hit),
            true => Answer::Passed,
            false => Answer::Indifferent,
        };
        if hit {
            return answer;
        }
        self.coming[client] = rules.registers.then_some(page);
        if question.together && writer_missed && rules.shared {
            self.last_grant = if self.grant_before == TLB_WRITER { TLB_READER } else { TLB_WRITER };
            self.coming[CLIENTS - 1 - self.last_grant] = None;
            return Answer::Granted(self.last_grant as u8);
        }
        if client == TLB_WRITER {
            (self.writer_missed, self.grant_before) = (true, self.last_grant);
        }
        self.last_grant = client;
        answer
    }

    /// All questions of a run, about an operand that lies here.
    fn ask_all(&mut self, rules: PageRules, run: &PageRun, base: u64) {
        let page = |distance: u32| operand_space::page(base, distance);
        let client = usize::from(run.client);
        self.ask(rules, &run.question(run.first), page(run.first));
        if page(run.range[0]) != page(run.range[1]) {
            self.last_grant = client;
        }
        let [before, last] = run.ends;
        if rules.registers {
            (self.last[client], self.coming[client]) = (Some(page(before)), None);
        }
        self.ask(rules, &run.question(last), page(last));
    }

    fn flush(&mut self, asks: [bool; CLIENTS]) {
        self.last = [None; CLIENTS];
        self.writer_missed = false;
        for (coming, asks) in self.coming.iter_mut().zip(asks) {
            // The access of this very cycle is answered in the next.
            *coming = coming.filter(|_| asks);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::port::operand_space::{OperandTag, PAGE, base};

    /// What a client asks for in a cycle, if it does: operand and distance.
    type Asked = Option<(u8, u16)>;

    /// A question of a client in each cycle, or none, and a flush now and then, as the machine notes them.
    fn events(cycles: &[([Asked; CLIENTS], u8)]) -> Vec<PageEvent> {
        let (mut asked, mut events) = ([false; CLIENTS], Vec::new());
        for (clients, flush) in cycles {
            let before = std::mem::replace(&mut asked, clients.map(|asks| asks.is_some()));
            for (client, asks) in clients.iter().enumerate() {
                let Some((tag, distance)) = *asks else { continue };
                let (follows, together) = (before[client], client > 0 && asked[client - 1]);
                let (tag, distance) = (OperandTag::from(tag % 2), u32::from(distance));
                let question = PageQuestion { client: client as u8, asks: true, follows, together, tag, distance };
                events.push(PageEvent::Question(question));
            }
            if *flush == 0 {
                events.push(PageEvent::Flush(asked));
            }
        }
        events
    }

    /// Mostly one client, every other cycle, and near to where it was.
    fn cycle() -> impl Strategy<Value = ([Asked; CLIENTS], u8)> {
        let asks = |share| prop::option::weighted(share, (prop_oneof![9 => Just(0u8), 1 => Just(1)], 0..0x3000u16));
        (asks(0.1), asks(0.45), any::<u8>()).prop_map(|(writer, reader, flush)| ([writer, reader], flush))
    }

    proptest! {
        #[test]
        fn runs_leave_behind_what_their_questions_leave_behind(
            cycles in prop::collection::vec(cycle(), 1..120),
            before in prop::collection::vec(cycle(), 0..4),
            registers: bool,
            shared: bool,
            places in any::<[u16; 4]>(),
        ) {
            let rules = PageRules { registers, shared, counted: false };
            let [first, second, there, elsewhere] = places.map(|at| base(u64::from(at) * 8, 8));
            let source = |bases: [u64; 2]| move |question: &PageQuestion| {
                Some((question.tag as Source, bases[question.tag as usize]))
            };
            let (start, _) = PageRegisters::default().record(rules, &events(&before), source([first, second]));
            let events = events(&cycles);
            let (end, steps) = start.record(rules, &events, source([first, second]));
            prop_assert_eq!(start.replay(rules, &steps, |source| [first, second][usize::from(source)]), Some(end));
            // Elsewhere it applies if every answer that matters is the same, and then leaves behind what a recording does.
            let bases = [there, elsewhere];
            let (end, others) = start.record(rules, &events, source(bases));
            let answers = |steps: &[PageStep]| -> Vec<Answer> {
                let matters = |step: &PageStep| match step {
                    PageStep::Question { answer, .. } if *answer != Answer::Indifferent => Some(*answer),
                    _ => None,
                };
                steps.iter().filter_map(matters).collect()
            };
            let same = answers(&steps) == answers(&others);
            prop_assert_eq!(start.replay(rules, &steps, |source| bases[usize::from(source)]), same.then_some(end));
        }
    }

    #[test]
    fn rows_that_a_client_asks_for_alone_are_one_step() {
        let rules = PageRules { registers: true, shared: true, counted: false };
        let row = |row: u16| [([None, Some((0, row * 768))], 1), ([None; CLIENTS], 1)];
        let events = events(&(0..16).flat_map(row).collect::<Vec<_>>());
        let (_, steps) = PageRegisters::default().record(rules, &events, |_| Some((0, base(5 * PAGE, 64))));
        assert!(matches!(
            steps[..],
            [PageStep::Run(PageRun { first: 0, ends: [10752, 11520], range: [0, 10752], .. })]
        ));
    }
}
