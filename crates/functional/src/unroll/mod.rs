//! The two loop unrollers: LOOP_WS (`LoopMatmul.scala`) and LOOP_CONV_WS (`LoopConv.scala`) as sequences of primitive
//! commands.
//!
//! An [`Unroller`] holds what the hardware holds between commands: two slots of configuration values, which slot is next, and which
//! half of the accumulator each unit uses next. A loop command turns into an iterator over [`Unrolled`] commands in the order in
//! which the hardware emits them when nothing holds it back (reservation station never full, every command done at once). Under
//! back pressure the hardware interleaves its units differently, but each unit keeps its own order, and the reservation station
//! keeps the dependences between them; so a model without time ends with the same memory.
//!
//! One loop is emitted completely before the next begins. In hardware the loads of the next loop overlap, in the other halves of
//! the memories.

mod block_walk;
mod conv;
mod matmul;

use pollux_isa::{Command, GemminiConfig, RoccCommand};

pub use conv::ConvCommands;
pub use matmul::MatmulCommands;

use conv::LoopConv;
use matmul::LoopMatmul;

/// The sub-unroller that emitted a command; its names in `LoopMatmul.scala` and `LoopConv.scala` are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopUnit {
    /// `LoopMatmulLdA`, `LoopConvLdInput`.
    LoadA,
    /// `LoopMatmulLdB`, `LoopConvLdWeight`.
    LoadB,
    /// `LoopMatmulLdD`, `LoopConvLdBias`.
    LoadD,
    /// `LoopMatmulExecute`, `LoopConvExecute`.
    Execute,
    /// `LoopMatmulStC`, `LoopConvSt`.
    Store,
    /// `LoopMatmulStCSpad`.
    StoreSpad,
}

/// A primitive command made by a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrolled {
    /// The unit that emitted it.
    pub unit: LoopUnit,
    /// The command; its fields are cut to the bits that the hardware connects.
    pub command: Command,
}

impl Unrolled {
    /// The command's registers. Unused bits are 0, as they are in the recorded traces.
    pub fn rocc(&self) -> RoccCommand {
        self.command.to_rocc()
    }
}

/// What an [`Unroller`] makes of a command.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// Not one of the unrollers' commands: it passes through.
    PassedThrough,
    /// Configuration of a later loop: taken.
    Configured,
    /// A loop; the iterator yields its commands.
    Loop(LoopCommands),
    /// A LOOP_WS with all five skip bits set: no unit ever starts, so the loop never completes and everything behind it waits for ever.
    NeverCompletes,
}

/// The primitive commands of one loop, in emission order.
#[derive(Clone, Debug)]
pub enum LoopCommands {
    /// Of a LOOP_WS.
    Matmul(Box<MatmulCommands>),
    /// Of a LOOP_CONV_WS.
    Conv(Box<ConvCommands>),
}

impl Iterator for LoopCommands {
    type Item = Unrolled;

    fn next(&mut self) -> Option<Unrolled> {
        match self {
            LoopCommands::Matmul(commands) => commands.next(),
            LoopCommands::Conv(commands) => commands.next(),
        }
    }
}

/// Both unrollers with their registers.
#[derive(Clone, Debug)]
pub struct Unroller {
    matmul: LoopMatmul,
    conv: Option<LoopConv>,
}

impl Unroller {
    /// The unrollers after reset. The convolution unroller exists with `has_loop_conv`.
    pub fn new(config: &GemminiConfig) -> Self {
        Self { matmul: LoopMatmul::new(config), conv: config.has_loop_conv.then(|| LoopConv::new(config)) }
    }

    /// Takes a command of the host.
    ///
    /// The zero bounds that [`pollux_isa::legality`] forbids count 65536 iterations, as in hardware: the iterator is lazy, but long.
    pub fn accept(&mut self, command: &Command) -> Accepted {
        match &mut self.conv {
            Some(conv) => match conv.accept(command) {
                Accepted::PassedThrough => self.matmul.accept(command),
                taken => taken,
            },
            None => self.matmul.accept(command),
        }
    }
}
