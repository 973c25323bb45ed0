//! The way of commands from the core to Gemmini and of results back (`LazyRoCC.scala`).

use std::collections::VecDeque;

use pollux_isa::RoccCommand;

use pollux_sim::uncore::tilelink::Buffer;

/// The command router's queue of two, and the queue of results.
#[derive(Clone, Debug, Default)]
pub struct CommandRouter {
    queue: Buffer<(RoccCommand, Option<u8>)>,
    /// Registers whose commands are in Gemmini and will have a result.
    awaited: VecDeque<u8>,
    results: Buffer<(u8, u64)>,
}

impl CommandRouter {
    /// A command of the core is taken.
    pub fn ready(&self) -> bool {
        self.queue.ready()
    }

    /// A command waits here.
    pub fn busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The command that is presented to Gemmini.
    pub fn front(&self) -> Option<RoccCommand> {
        self.queue.front().map(|(command, _)| *command)
    }

    /// A command whose result the core waits for has been sent.
    pub fn owes_result(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// The result for the core.
    pub fn result(&self) -> Option<(u8, u64)> {
        self.results.front().copied()
    }

    /// Clock edge: a command from the core with the register of its result, whether Gemmini took the one in front, the result that
    /// Gemmini gives, and whether the core took one.
    pub fn tick(
        &mut self,
        command: Option<(RoccCommand, Option<u8>)>,
        accepted: bool,
        response: Option<u64>,
        result_taken: bool,
    ) {
        let given = response.and_then(|value| Some((self.awaited.pop_front()?, value)));
        if accepted {
            self.awaited.extend(self.queue.front().and_then(|(_, register)| *register));
        }
        self.queue.tick(accepted, command);
        self.results.tick(result_taken, given);
    }
}
