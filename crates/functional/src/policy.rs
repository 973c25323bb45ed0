//! What the hardware leaves undefined, and what the model makes of it.

use std::fmt;

use pollux_isa::legality::{Illegality, LocalMemory as MemoryKind};
use pollux_isa::{Command, RoccCommand};
use thiserror::Error;

/// What to do about one kind of undefined behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Stop with an [`ExecError`].
    Error,
    /// Record a [`Diagnostic`] and go on as the hardware does, as far as that is known.
    Warn,
    /// Go on silently.
    Ignore,
}

/// The action for each kind of undefined behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Local rows outside the scratchpad or the accumulator. The hardware wraps around.
    pub out_of_range: Action,
    /// Bytes of main memory outside every range declared with [`pollux_memory::Memory::map`] (not looked at if none is
    /// declared), or beyond the addresses that the memory port has.
    pub unmapped_dram: Action,
    /// Reads of local rows that were never written. Real memories hold anything; the model reads 0, as the golden bench does.
    pub unwritten_row: Action,
    /// Writes of the processor to bytes that the accelerator may still have to read or write
    /// ([`crate::check_accesses`] finds them), and other streams whose outcome depends on the time
    /// ([`Illegality::depends_on_time`]). A model without time takes one after the other.
    pub race: Action,
    /// Every other illegality of [`pollux_isa::legality`].
    pub illegal: Action,
    /// Warnings that are kept; later ones are only counted.
    pub max_warnings: usize,
    /// Primitive commands that one loop may make; more are an error whatever the actions. Operands that fit into the local memories
    /// never need that many, but a bound of zero counts 65536.
    pub max_loop_commands: u64,
}

impl Policy {
    /// The same action for everything.
    pub const fn all(action: Action) -> Self {
        Self {
            out_of_range: action,
            unmapped_dram: action,
            unwritten_row: action,
            race: action,
            illegal: action,
            max_warnings: 1000,
            max_loop_commands: 1 << 24,
        }
    }

    fn action(&self, issue: &Issue) -> Action {
        match issue {
            Issue::Illegal(Illegality::OutOfRange { .. }) => self.out_of_range,
            Issue::Illegal(illegality) if illegality.depends_on_time() => self.race,
            Issue::Illegal(_) => self.illegal,
            Issue::UnmappedDram { .. } | Issue::AddressCut { .. } => self.unmapped_dram,
            Issue::UnwrittenRow { .. } => self.unwritten_row,
            Issue::Race { .. } => self.race,
            Issue::EndlessLoop { .. } => Action::Error,
        }
    }
}

impl Default for Policy {
    /// Errors, except for warnings of reads of rows never written, since a ragged tile may legally read such rows and then
    /// discard the result, and of the processor's races, which the time between two commands may rule out.
    fn default() -> Self {
        Self { unwritten_row: Action::Warn, race: Action::Warn, ..Self::all(Action::Error) }
    }
}

/// Whether main memory is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// By a load.
    Read,
    /// By a store.
    Write,
}

/// Undefined behaviour.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Issue {
    /// The command is illegal where it stands.
    #[error("{0} (the hardware: {effect})", effect = .0.effect())]
    Illegal(Illegality),
    /// A transfer touches memory that the program does not own.
    #[error(
        "{verb} {bytes} bytes at {address:#x}, but {first_unmapped:#x} is in no declared memory range: \
         check address, stride and shape, or declare the range",
        verb = match access { Access::Read => "reads", Access::Write => "writes" }
    )]
    UnmappedDram {
        /// Direction.
        access: Access,
        /// First byte of the transfer (one row).
        address: u64,
        /// Bytes of the transfer.
        bytes: u64,
        /// Lowest address of the transfer in no range.
        first_unmapped: u64,
    },
    /// A transfer reaches beyond the addresses that the memory port has.
    #[error(
        "{verb} {bytes} bytes at {address:#x}, but the memory port has {bits} address bits (paddr_bits): the hardware \
         cuts the address to {physical:#x}; check address and stride",
        verb = match access { Access::Read => "reads", Access::Write => "writes" }
    )]
    AddressCut {
        /// Direction.
        access: Access,
        /// First byte of the transfer (one row).
        address: u64,
        /// Bytes of the transfer.
        bytes: u64,
        /// Address bits of the port.
        bits: u32,
        /// The address behind the port.
        physical: u64,
    },
    /// A local row is read that nothing has written.
    #[error(
        "reads {} row {row}, which was never written: the hardware reads whatever it holds; load it, or load zeros, first",
        memory.name()
    )]
    UnwrittenRow {
        /// Memory.
        memory: MemoryKind,
        /// Row.
        row: u32,
    },
    /// The processor writes bytes of a transfer without a fence after its command.
    #[error(
        "{verb} bytes at {address:#x} that the processor writes behind command {last} without a fence in between: the \
         transfer may come before that write or after it; put a fence before the write",
        verb = match access { Access::Read => "reads", Access::Write => "writes" },
        last = after - 1
    )]
    Race {
        /// Direction of the transfer.
        access: Access,
        /// First byte of the transfer's row that the processor writes.
        address: u64,
        /// Commands before the processor's write.
        after: u64,
    },
    /// A loop makes more commands than any legal one.
    #[error("the loop makes more than {limit} commands: check its bounds; one of zero counts 65536")]
    EndlessLoop {
        /// [`Policy::max_loop_commands`].
        limit: u64,
    },
}

/// A place in a command stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the host's command, from 0.
    pub index: u64,
    /// The host's command.
    pub command: RoccCommand,
    /// In a loop: number of the primitive command that it made, from 0, and that command's mnemonic.
    pub step: Option<(u64, &'static str)>,
}

/// An issue and its place in the command stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// What is undefined.
    pub issue: Issue,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { index, command: RoccCommand { funct, rs1, rs2 }, step } = self.place;
        write!(f, "command {index} (funct {funct}, rs1 {rs1:#x}, rs2 {rs2:#x})")?;
        if let Some((step, mnemonic)) = step {
            write!(f, ", step {step} of the loop ({mnemonic})")?;
        }
        write!(f, ": {}", self.issue)
    }
}

/// Undefined behaviour that the policy makes an error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ExecError(pub Box<Diagnostic>);

/// Applies the policy and keeps the warnings.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    policy: Policy,
    index: u64,
    command: RoccCommand,
    step: Option<(u64, Command)>,
    warnings: Vec<Diagnostic>,
    warning_count: u64,
}

impl Monitor {
    pub fn new(policy: Policy) -> Self {
        Self { policy, index: 0, command: RoccCommand::default(), step: None, warnings: Vec::new(), warning_count: 0 }
    }

    /// The host's command number `index` begins.
    pub fn begin_command(&mut self, index: u64, command: RoccCommand) {
        (self.index, self.command, self.step) = (index, command, None);
    }

    /// Step `step` of the current loop begins.
    pub fn begin_step(&mut self, step: u64, command: Command) {
        self.step = Some((step, command));
    }

    pub fn max_loop_commands(&self) -> u64 {
        self.policy.max_loop_commands
    }

    /// Whether [`Monitor::report`] does anything about illegal commands.
    pub fn checks_legality(&self) -> bool {
        (self.policy.illegal, self.policy.out_of_range) != (Action::Ignore, Action::Ignore)
    }

    #[cold]
    pub fn report(&mut self, issue: Issue) -> Result<(), ExecError> {
        self.report_at(self.place(), issue)
    }

    /// The current place.
    pub fn place(&self) -> Place {
        let step = self.step.as_ref().map(|(step, command)| (*step, command.mnemonic()));
        Place { index: self.index, command: self.command, step }
    }

    /// Reports an issue of an earlier place.
    pub fn report_at(&mut self, place: Place, issue: Issue) -> Result<(), ExecError> {
        let action = self.policy.action(&issue);
        if action == Action::Ignore {
            return Ok(());
        }
        let diagnostic = Diagnostic { place, issue };
        if action == Action::Error {
            return Err(ExecError(Box::new(diagnostic)));
        }
        self.warning_count += 1;
        if self.warnings.len() < self.policy.max_warnings {
            self.warnings.push(diagnostic);
        }
        Ok(())
    }

    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    pub fn warning_count(&self) -> u64 {
        self.warning_count
    }

    /// Whether so many warnings have been kept that more are only counted.
    pub fn only_counts(&self) -> bool {
        self.policy.race == Action::Warn && self.warnings.len() >= self.policy.max_warnings
    }

    /// The warnings that were kept, and the number of all.
    pub fn into_warnings(self) -> (Vec<Diagnostic>, u64) {
        (self.warnings, self.warning_count)
    }
}
