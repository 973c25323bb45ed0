//! The page registers along a replayed run.
//!
//! Without page tables an access that misses its page register is answered as soon as one that hits, unless both engines miss in one
//! cycle: then the arbiter in front of the TLB grants the one that it did not grant last, and the other has to ask again. So the
//! registers and the arbiter's last grant decide little, but they depend on where every operand really lies. They are not part of a
//! state; a segment holds the questions to the registers instead, and whoever replays it asks them again, with the operands of his own.
//! If an answer that matters is another one, the segment does not apply. If events are counted, each answer does.

use crate::port::operand_space::{self, PageEvent, PageQuestion, Source};

/// The TLB's clients.
const CLIENTS: usize = 2;
const TLB_WRITER: usize = 0;
const TLB_READER: usize = 1;

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
    Flush([bool; CLIENTS]),
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
        (self, steps.into())
    }

    /// What is in the registers after a segment, if its questions have the answers that they had then.
    pub fn replay(mut self, rules: PageRules, steps: &[PageStep], base: impl Fn(Source) -> u64) -> Option<Self> {
        for step in steps {
            match step {
                PageStep::Flush(asks) => self.flush(*asks),
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
        self.coming[client] = Some(page);
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

    fn flush(&mut self, asks: [bool; CLIENTS]) {
        self.last = [None; CLIENTS];
        self.writer_missed = false;
        for (coming, asks) in self.coming.iter_mut().zip(asks) {
            // The access of this very cycle is answered in the next.
            *coming = coming.filter(|_| asks);
        }
    }
}
