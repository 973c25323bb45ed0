//! Splits a preload of transposed weights in two (`TransposePreloadUnroller.scala`).
//!
//! The transposer delivers a matrix one pass late. So with transposed weights in WS, a pair PRELOAD, COMPUTE_PRELOADED
//! becomes four commands: the preload without a destination (weights enter the transposer), a compute whose
//! result is thrown away, the preload without weights (they leave the transposer for the array), and the compute itself.
//!
//! | port | dir | back pressure |
//! |---|---|---|
//! | `in` | in | [`TransposePreloadUnroller::in_ready`]: fewer than two commands stored |
//! | `out` | out | taken when the command queue behind has room |
//!
//! A command accepted in cycle c can leave in c + 1.

use pollux_isa::config::Dataflow;
use pollux_isa::fields::{ConfigEx, Preload};
use pollux_isa::values::DataflowMode;
use pollux_isa::{Command, GemminiConfig, LocalAddr, RoccCommand, funct};

use crate::execute::command_kind::Kind;
use crate::parts::canonical::Canonical;
use crate::parts::multi_headed_queue::MultiHeadedQueue;
use crate::parts::wires::IssuedCmd;

/// Which of the four commands of a split pair is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Canonical)]
enum State {
    #[default]
    Idle,
    FirstCompute,
    SecondPreload,
}

/// The two-entry queue and the state of the splitting.
#[derive(Clone, Debug, Canonical)]
pub struct TransposePreloadUnroller {
    queue: MultiHeadedQueue<IssuedCmd>,
    state: State,
    /// `b_transposed_and_ws`: weights are transposed by hardware.
    #[canon(skip = "constant")]
    transposed_weights: bool,
    #[canon(skip = "constant")]
    config: GemminiConfig,
}

impl TransposePreloadUnroller {
    /// An empty unroller.
    pub fn new(config: &GemminiConfig) -> Self {
        Self {
            queue: MultiHeadedQueue::new(2, NO_COMMAND),
            state: State::Idle,
            transposed_weights: false,
            config: config.clone(),
        }
    }

    /// `in.ready`.
    #[inline]
    pub fn in_ready(&self) -> bool {
        self.queue.enq_ready()
    }

    /// `out`.
    #[inline]
    pub fn output(&self) -> Option<IssuedCmd> {
        if !self.queue.valid(0) || (self.first_preload() && self.transposed_weights && !self.queue.valid(1)) {
            return None;
        }
        let (first, second) = (*self.queue.bits(0), *self.queue.bits(1));
        Some(match self.state {
            State::Idle if self.first_preload() && self.splits() => without_destination(&self.config, first),
            State::Idle => first,
            State::FirstCompute => discarded_compute(second),
            State::SecondPreload => without_weights(&self.config, first),
        })
    }

    /// What stands in its queue, oldest first.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &IssuedCmd> {
        (0..self.queue.len()).map(|i| self.queue.bits(i))
    }

    /// True if it holds a command.
    pub fn holds_command(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Clock edge: `fire` if the output was taken; `input`, accepted in this cycle, enters. True if a register changed.
    #[must_use]
    pub fn tick(&mut self, fire: bool, input: Option<IssuedCmd>) -> bool {
        if !fire && input.is_none() {
            return false;
        }
        let split = self.first_preload() && self.splits();
        let pop = fire && !split && self.state != State::FirstCompute;
        if fire {
            let RoccCommand { funct, rs1, rs2 } = self.queue.bits(0).cmd;
            if Kind::of(funct) == Kind::Config {
                let fields = ConfigEx::from_regs(&self.config, rs1, rs2);
                if !fields.set_only_strides {
                    let ws = self.config.dataflow == Dataflow::Ws || fields.dataflow == DataflowMode::Ws;
                    self.transposed_weights = ws && fields.b_transpose;
                }
            } else {
                self.state = match self.state {
                    State::Idle if split => State::FirstCompute,
                    State::Idle | State::SecondPreload => State::Idle,
                    State::FirstCompute => State::SecondPreload,
                };
            }
        }
        self.queue.tick(pop.into(), input.as_ref());
        true
    }

    fn kind(&self, head: usize) -> Kind {
        Kind::of(self.queue.bits(head).cmd.funct)
    }

    fn first_preload(&self) -> bool {
        self.state == State::Idle && self.queue.valid(0) && self.kind(0) == Kind::Preload
    }

    fn splits(&self) -> bool {
        self.transposed_weights && self.queue.valid(1) && self.kind(1) == Kind::ComputeFlip
    }
}

/// What a command register holds after reset.
pub(crate) const NO_COMMAND: IssuedCmd = IssuedCmd { cmd: RoccCommand { funct: 0, rs1: 0, rs2: 0 }, rob_id: None };

fn without_destination(config: &GemminiConfig, issued: IssuedCmd) -> IssuedCmd {
    IssuedCmd { rob_id: None, ..preload(config, issued, |operands| operands.c = LocalAddr::GARBAGE) }
}

/// The hardware means to give it garbage operands, but overwrites the register numbers of the instruction instead of
/// the registers' values: it reads A and B, and only its result is discarded.
fn discarded_compute(mut compute: IssuedCmd) -> IssuedCmd {
    compute.cmd.funct = funct::COMPUTE_AND_STAY_CMD;
    compute.rob_id = None;
    compute
}

fn without_weights(config: &GemminiConfig, issued: IssuedCmd) -> IssuedCmd {
    preload(config, issued, |operands| operands.d = LocalAddr::GARBAGE)
}

/// A PRELOAD with other operands.
fn preload(config: &GemminiConfig, issued: IssuedCmd, change: impl FnOnce(&mut Preload)) -> IssuedCmd {
    let mut operands = Preload::from_regs(config, issued.cmd.rs1, issued.cmd.rs2);
    change(&mut operands);
    IssuedCmd { cmd: Command::Preload(operands).to_rocc(), ..issued }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONFIG_EX: weight-stationary, B transposed.
    const CONFIG_TRANSPOSED_WEIGHTS: u64 = 1 << 2 | 1 << 9;

    fn command(funct: u8, rs1: u64, rs2: u64) -> IssuedCmd {
        IssuedCmd { cmd: RoccCommand { funct, rs1, rs2 }, rob_id: None }
    }

    /// Everything that comes out, one command a cycle.
    fn unroll(commands: &[IssuedCmd]) -> Vec<RoccCommand> {
        let mut unroller = TransposePreloadUnroller::new(&GemminiConfig::default16());
        let mut input = commands.iter().copied().peekable();
        let mut output = Vec::new();
        for _ in 0..4 * commands.len() + 4 {
            let out = unroller.output();
            output.extend(out.map(|issued| issued.cmd));
            let accepted = if unroller.in_ready() { input.next() } else { None };
            let _ = unroller.tick(out.is_some(), accepted);
        }
        output
    }

    #[test]
    fn a_pair_with_transposed_weights_becomes_four_commands() {
        let config = command(0, CONFIG_TRANSPOSED_WEIGHTS, 0);
        let pair = [command(6, 0x4_0010, 0x5_0020), command(4, 0x6_0030, 0x7_0040)];
        let garbage = u64::from(u32::MAX);
        let expected = [
            config.cmd,
            RoccCommand { funct: 6, rs1: 0x4_0010, rs2: 0x5_0020 | garbage },
            RoccCommand { funct: 5, rs1: 0x6_0030, rs2: 0x7_0040 },
            RoccCommand { funct: 6, rs1: 0x4_0010 | garbage, rs2: 0x5_0020 },
            RoccCommand { funct: 4, rs1: 0x6_0030, rs2: 0x7_0040 },
        ];
        assert_eq!(unroll(&[config, pair[0], pair[1]]), expected);
    }

    #[test]
    fn a_pair_that_reuses_its_weights_is_not_split() {
        let commands = [command(0, CONFIG_TRANSPOSED_WEIGHTS, 0), command(6, 1, 2), command(5, 3, 4)];
        assert_eq!(unroll(&commands), commands.map(|issued| issued.cmd));
    }

    #[test]
    fn a_preload_of_transposed_weights_waits_for_a_second_command() {
        let commands = [command(0, CONFIG_TRANSPOSED_WEIGHTS, 0), command(6, 1, 2)];
        assert_eq!(unroll(&commands), [commands[0].cmd]);
    }
}
