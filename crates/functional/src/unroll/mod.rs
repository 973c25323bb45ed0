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
mod emitted;
mod matmul;

use pollux_isa::{Command, GemminiConfig};

pub use conv::ConvCommands;
pub use emitted::{Accepted, LoopUnit, Unrolled};
pub use matmul::MatmulCommands;

use conv::LoopConv;
use matmul::LoopMatmul;

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
    pub fn accept(&mut self, command: &Command) -> Accepted<LoopCommands> {
        if let Some(conv) = &mut self.conv {
            match conv.accept(command) {
                Accepted::PassedThrough => {}
                taken => return taken.map(|commands| LoopCommands::Conv(Box::new(commands))),
            }
        }
        self.matmul.accept(command).map(|commands| LoopCommands::Matmul(Box::new(commands)))
    }
}
