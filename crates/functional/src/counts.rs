//! What a run did: multiply-accumulates, bytes, commands.

use pollux_isa::values::Activation;
use pollux_isa::{Command, GemminiConfig, StreamItem};

/// Totals since the model was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Multiply-accumulates of elements that take part: for each COMPUTE rows of A times columns of A times columns of C
    /// (padding and garbage operands count nothing).
    pub macs: u64,
    /// Bytes read from main memory by loads.
    pub bytes_in: u64,
    /// Bytes written to main memory by stores.
    pub bytes_out: u64,
    /// Commands given to [`crate::FunctionalModel::execute`].
    pub host_commands: u64,
    /// Commands by kind, those made by loops included.
    pub commands: CommandCounts,
}

/// The divisions that the normalizer has made: one for each row with command MEAN, INV_STDDEV or INV_SUM_EXP, in the order of the rows.
///
/// Its dividers answer at once if an operand is zero. That is the only thing about values that the accelerator's timing depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divisions {
    count: u64,
    zero: Vec<u64>,
}

impl Divisions {
    /// Whether a program can make any: it has an MVOUT with such a command, or a LOOP_WS that normalizes.
    pub fn possible(config: &GemminiConfig, items: &[StreamItem]) -> bool {
        let divides = |command: Command| match command {
            Command::Mvout(fields) => fields.local.is_acc() && fields.local.norm_cmd().divides(),
            Command::LoopWs(fields) => matches!(fields.act, Activation::Layernorm | Activation::Softmax),
            _ => false,
        };
        let commands = items.iter().filter_map(StreamItem::command);
        config.has_normalizations && commands.filter_map(|cmd| Command::from_rocc(config, *cmd)).any(divides)
    }

    /// Number of divisions.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those with a zero operand, counted from 0, ascending.
    pub fn zero(&self) -> &[u64] {
        &self.zero
    }

    /// The next division is made.
    pub(crate) fn push(&mut self, zero: bool) {
        if zero {
            self.zero.push(self.count);
        }
        self.count += 1;
    }
}

/// Executed commands by kind. Commands that a loop makes count as well as the loop itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCounts {
    /// CONFIG_EX.
    pub config_ex: u64,
    /// CONFIG_LD.
    pub config_ld: u64,
    /// CONFIG_ST.
    pub config_st: u64,
    /// CONFIG_NORM.
    pub config_norm: u64,
    /// MVIN, MVIN2 and MVIN3.
    pub mvin: u64,
    /// MVOUT.
    pub mvout: u64,
    /// MVOUT_SPAD.
    pub mvout_spad: u64,
    /// PRELOAD.
    pub preload: u64,
    /// COMPUTE_PRELOADED.
    pub compute_preloaded: u64,
    /// COMPUTE_ACCUMULATED.
    pub compute_accumulated: u64,
    /// FLUSH, CLKGATE_EN and COUNTER.
    pub front_end: u64,
    /// Configuration commands of both unrollers.
    pub loop_config: u64,
    /// LOOP_WS.
    pub loop_ws: u64,
    /// LOOP_CONV_WS.
    pub loop_conv_ws: u64,
    /// Functions that do not exist.
    pub unknown: u64,
}

impl CommandCounts {
    /// Counts a command.
    pub(crate) fn add(&mut self, command: &Command) {
        let count = match command {
            Command::ConfigEx(_) => &mut self.config_ex,
            Command::ConfigLd(_) => &mut self.config_ld,
            Command::ConfigSt(_) => &mut self.config_st,
            Command::ConfigNorm(_) => &mut self.config_norm,
            Command::Mvin(_) | Command::Mvin2(_) | Command::Mvin3(_) => &mut self.mvin,
            Command::Mvout(_) => &mut self.mvout,
            Command::MvoutSpad(_) => &mut self.mvout_spad,
            Command::Preload(_) => &mut self.preload,
            Command::ComputePreloaded(_) => &mut self.compute_preloaded,
            Command::ComputeAccumulated(_) => &mut self.compute_accumulated,
            Command::Flush(_) | Command::ClockGate(_) | Command::Counter(_) => &mut self.front_end,
            Command::LoopWs(_) => &mut self.loop_ws,
            Command::LoopConvWs(_) => &mut self.loop_conv_ws,
            _ => &mut self.loop_config,
        };
        *count += 1;
    }

    /// Kind and count, in the order of the fields.
    pub fn by_kind(&self) -> [(&'static str, u64); 15] {
        [
            ("config_ex", self.config_ex),
            ("config_ld", self.config_ld),
            ("config_st", self.config_st),
            ("config_norm", self.config_norm),
            ("mvin", self.mvin),
            ("mvout", self.mvout),
            ("mvout_spad", self.mvout_spad),
            ("preload", self.preload),
            ("compute_preloaded", self.compute_preloaded),
            ("compute_accumulated", self.compute_accumulated),
            ("front_end", self.front_end),
            ("loop_config", self.loop_config),
            ("loop_ws", self.loop_ws),
            ("loop_conv_ws", self.loop_conv_ws),
            ("unknown", self.unknown),
        ]
    }
}
