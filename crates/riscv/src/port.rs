//! [`CommandPort`]: the way of commands from the core to the accelerator, as far as it does not depend on the model behind it.

use pollux_functional::{ExecError, Issue};
use pollux_isa::config::Opcode;
use pollux_isa::legality::Illegality;
use pollux_isa::{Command, DecodeError, GemminiConfig, LayoutTranslator, RoccCommand, RoccInstruction};
use thiserror::Error;

use crate::bus::NoAccelerator;
use crate::evidence::Evidence;
use crate::htif::HostError;

/// Why the core cannot go on behind an instruction that it has executed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BoardError {
    /// Gemmini does not define the command.
    #[error(transparent)]
    Gemmini(#[from] ExecError),
    /// The program is for an older Gemmini.
    #[error(
        "loop_conv_ws_config_4 has input and weight strides of 0, as programs for a Gemmini before June 2023 send it: their loop commands have another layout; set command_layout = \"march_2023\" in the configuration (a TOML file with base = \"default16\")"
    )]
    Older,
    /// The core waits for what never comes.
    #[error(
        "the instruction asks for a result of function {0} (xd is set), which has none: the core would wait for ever; only the counter (126) has one"
    )]
    NoResult(u8),
    /// The host does not know the request.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl BoardError {
    /// What the error says about the program and the configuration, besides its message.
    pub(crate) fn hint(&self, config: &GemminiConfig) -> Option<String> {
        match self {
            Self::Gemmini(error) => dim_hint(config, &error.0.issue),
            Self::Older | Self::NoResult(_) | Self::Host(_) => None,
        }
    }

    /// The error with its place in the program, and what is probably behind it.
    pub fn explain(&self, place: &str, config: &GemminiConfig) -> String {
        format!("pc {place}: {self}{}", self.hint(config).unwrap_or_default())
    }
}

/// If a command's extents do not fit DIM, the program was probably compiled for another one.
fn dim_hint(config: &GemminiConfig, issue: &Issue) -> Option<String> {
    let Issue::Illegal(Illegality::Undecodable(DecodeError::Field(error))) = issue else { return None };
    let is_extent = ["rows", "cols"].iter().any(|suffix| error.field.ends_with(suffix));
    let is_padding = error.field.starts_with("pad_");
    (is_extent || is_padding).then(|| {
        format!(
            "\nthe configuration `{}` has DIM = {}; the program was probably compiled for a larger array: give its \
             configuration with --config, or its header with --params gemmini_params.h",
            config.name,
            config.dim()
        )
    })
}

/// A command that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// In the present layout.
    pub command: RoccCommand,
    /// What it means, if its function exists.
    pub decoded: Option<Command>,
}

/// The port: opcode, layout of the commands, and what they say about the program.
#[derive(Debug, Clone)]
pub struct CommandPort {
    config: GemminiConfig,
    layout: LayoutTranslator,
    evidence: Evidence,
    /// Illegal commands are errors.
    is_strict: bool,
    last: Option<RoccCommand>,
}

impl CommandPort {
    /// The port of an accelerator after reset; whether illegal commands are errors.
    pub fn new(config: &GemminiConfig, is_strict: bool) -> Self {
        Self {
            layout: LayoutTranslator::new(config),
            evidence: Evidence::default(),
            is_strict,
            last: None,
            config: config.clone(),
        }
    }

    /// The accelerator's opcode.
    pub fn opcode(&self) -> Opcode {
        self.config.opcodes
    }

    /// Sends a command.
    ///
    /// # Errors
    /// No accelerator has the instruction's opcode.
    pub fn send(&mut self, instruction: RoccInstruction, command: RoccCommand) -> Result<Sent, NoAccelerator> {
        if instruction.opcode != self.config.opcodes {
            return Err(NoAccelerator);
        }
        let command = self.layout.translate(command);
        self.last = Some(command);
        let decoded = Command::from_rocc(&self.config, command);
        decoded.iter().for_each(|command| self.evidence.note(command));
        Ok(Sent { command, decoded })
    }

    /// Checks what the port itself can know of a command that was sent.
    ///
    /// # Errors
    /// The program is for an older Gemmini, or waits for a result that never comes.
    pub fn check(&self, instruction: RoccInstruction, sent: &Sent) -> Result<(), BoardError> {
        if self.evidence.is_older() && self.is_strict {
            return Err(BoardError::Older);
        }
        if instruction.xd && !matches!(sent.decoded, Some(Command::Counter(_))) {
            return Err(BoardError::NoResult(sent.command.funct));
        }
        Ok(())
    }

    /// The last command.
    pub fn last(&self) -> Option<RoccCommand> {
        self.last
    }

    /// Why the program seems to be compiled for a smaller array than the configuration has.
    pub fn size_hint(&self) -> Option<String> {
        self.evidence.hint(&self.config)
    }
}
