//! What unrollers emit.

use pollux_isa::{Command, RoccCommand};

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

/// What an unroller makes of a command; `C` are the commands of a loop.
#[derive(Clone, Debug)]
pub enum Accepted<C> {
    /// Not one of the unrollers' commands: it passes through.
    PassedThrough,
    /// Configuration of a later loop: taken.
    Configured,
    /// A loop; the iterator yields its commands.
    Loop(C),
    /// A LOOP_WS with all five skip bits set: no unit ever starts, so the loop never completes and everything behind it waits for ever.
    NeverCompletes,
}

impl<C> Accepted<C> {
    /// The same with the commands of a loop as another type.
    pub fn map<D>(self, commands: impl FnOnce(C) -> D) -> Accepted<D> {
        match self {
            Self::PassedThrough => Accepted::PassedThrough,
            Self::Configured => Accepted::Configured,
            Self::Loop(c) => Accepted::Loop(commands(c)),
            Self::NeverCompletes => Accepted::NeverCompletes,
        }
    }
}
