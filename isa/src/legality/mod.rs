//! Command streams that the hardware does not define, and what it does with them.
//!
//! [`check_command`] needs one command only; a [`Checker`] follows a whole stream, because most rules depend on earlier
//! configuration commands. The functional model and the cycle model give every host command to a checker, so that both
//! say the same about a program. Commands that an unroller makes are covered by the checks of its run command.
//! Accesses to main memory and reads of rows never written need the models' memories and are found there.
//!
//! A stream is illegal for what the hardware does with it ([`Illegality::effect`]), not for an assertion that only a
//! simulation of the RTL makes: fields that mean nothing where they stand may have any value.
//!
//! Sources: the named Gemmini files, and the golden cases' "Things to know".

mod loops;

use thiserror::Error;

use crate::command::{Command, DecodeError};
use crate::config::{Dataflow, GemminiConfig};
use crate::fields::{Compute, ConfigEx, ConfigLd, ConfigSt, ExecOperand, LoopConvWs, LoopWs, MoveOperands, Preload};
use crate::local_addr::{AddressLayout, LocalAddr};
use crate::rocc::RoccCommand;
use crate::stream::StreamItem;
use crate::values::{Activation, DataflowMode};
use loops::{ConvLoop, Loops, MatmulLoop};

/// One of the two local memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalMemory {
    /// Rows of input elements.
    Scratchpad,
    /// Rows of accumulator elements.
    Accumulator,
}

impl LocalMemory {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            LocalMemory::Scratchpad => "scratchpad",
            LocalMemory::Accumulator => "accumulator",
        }
    }
}

/// A way in which a command is illegal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Illegality {
    /// No such instruction in this build, or a field with an illegal value.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// A move of nothing.
    #[error("{mnemonic}: {field} is 0: a move has at least one row and one column")]
    ZeroExtent {
        /// Instruction.
        mnemonic: &'static str,
        /// `rows` or `cols`.
        field: &'static str,
    },
    /// More blocks of DIM columns than the store can do.
    #[error("mvout: {cols} columns in a {store} store: it can move one block of DIM = {dim} columns")]
    MultipleBlocks {
        /// `full-width`, `pooled` or `1-D`.
        store: &'static str,
        /// Columns of the command.
        cols: u16,
        /// Columns of a block.
        dim: u32,
    },
    /// A pooled or 1-D store of nothing.
    #[error("mvout: the store is {store}, but config_st set {field} to 0")]
    PoolGeometry {
        /// `pooled` or `1-D`.
        store: &'static str,
        /// Field of CONFIG_ST.
        field: &'static str,
    },
    /// The blocks of a load overlap.
    #[error(
        "{mnemonic}: {blocks} blocks of {rows} rows with block_stride {block_stride}: the block stride must be at least \
         the rows"
    )]
    BlockStride {
        /// Instruction.
        mnemonic: &'static str,
        /// Blocks of DIM columns of the command.
        blocks: u32,
        /// Rows of the command.
        rows: u16,
        /// The channel's block stride.
        block_stride: u16,
    },
    /// An execute operand of rows without columns.
    #[error(
        "{mnemonic}: {operand} has rows but no columns: the rows are read and never taken \
         (ExecuteController.scala, unpadded_cols); for zeros, give it no rows or the garbage address"
    )]
    UntakenRows {
        /// Instruction.
        mnemonic: &'static str,
        /// Operand.
        operand: &'static str,
    },
    /// Pixels repeated into the accumulator.
    #[error(
        "{mnemonic}: pixel_repeats is {repeats}, but the destination is the accumulator: repeats need the scratchpad"
    )]
    RepeatsIntoAccumulator {
        /// Instruction.
        mnemonic: &'static str,
        /// The channel's repeats.
        repeats: u8,
    },
    /// Zeros (main memory address 0) into the accumulator on a channel whose memory holds input elements.
    #[error(
        "{mnemonic}: zeros into the accumulator on a channel with shrink=1: more bytes are reported than were asked \
         for (LoadController.scala, Scratchpad.scala); use a channel with shrink=0"
    )]
    ShrunkZeros {
        /// Instruction.
        mnemonic: &'static str,
    },
    /// A register without reset value is used before it is written.
    #[error("{mnemonic}: there was no {needs} before: its registers have no defined value")]
    Unconfigured {
        /// Instruction.
        mnemonic: &'static str,
        /// The missing command.
        needs: &'static str,
    },
    /// Rows outside the memory.
    #[error("{mnemonic}: {operand} uses {} rows {first} to {last}: the last one is {}", memory.name(), rows - 1)]
    OutOfRange {
        /// Instruction.
        mnemonic: &'static str,
        /// Operand.
        operand: &'static str,
        /// Memory that it points into.
        memory: LocalMemory,
        /// First row.
        first: u64,
        /// Last row.
        last: u64,
        /// Rows of the memory.
        rows: u32,
    },
    /// Two operands would need the one transposer.
    #[error("config_ex: {}: only one operand can pass the transposer", transposer_text(*dataflow))]
    Transposer {
        /// Dataflow in effect.
        dataflow: DataflowMode,
    },
    /// An execute operand in the accumulator.
    #[error("{mnemonic}: {operand} is in the accumulator: the execute controller's reads from it are never answered")]
    AccumulatorOperand {
        /// Instruction.
        mnemonic: &'static str,
        /// Operand.
        operand: &'static str,
    },
    /// Something that this build lacks.
    #[error("{mnemonic}: {what} does not exist in this configuration: it needs {requires}")]
    NotBuilt {
        /// Instruction.
        mnemonic: &'static str,
        /// Feature.
        what: &'static str,
        /// Condition on the configuration.
        requires: &'static str,
    },
    /// A compute has no preload of its own.
    #[error("{mnemonic}: there was no preload since the last compute, so it has no destination")]
    ComputeWithoutPreload {
        /// Instruction.
        mnemonic: &'static str,
    },
    /// No A.
    #[error(
        "{mnemonic}: a is at the garbage address: only d and bd are zeros then; for A the array takes what happens to \
         stand at a memory's output (ExecuteController.scala, dataA_unpadded); give it rows of zeros"
    )]
    GarbageA {
        /// Instruction.
        mnemonic: &'static str,
    },
    /// Weights at the garbage address are put to use.
    #[error(
        "compute_preloaded: the weights of its preload are at the garbage address: in ws such a preload does not push \
         DIM rows into the array (ExecuteController.scala, total_rows), so that parts of older weights stay; keep the \
         weights with compute_accumulated, or preload rows of zeros"
    )]
    GarbageWeights,
    /// A compute goes on from nothing.
    #[error("compute_accumulated: {}; begin with compute_preloaded", missing_text(*dataflow))]
    NothingToAccumulate {
        /// Dataflow in effect.
        dataflow: DataflowMode,
    },
    /// A result of more rows than its product pushes through the array.
    #[error(
        "{mnemonic}: the result has {rows} rows, but a and bd make only {pass} (ExecuteController.scala, total_rows): the \
         rows behind are written only if the next preload comes in time; give a, bd or the result as many rows"
    )]
    ResultRows {
        /// Instruction.
        mnemonic: &'static str,
        /// Rows of the result.
        rows: u16,
        /// Rows that are pushed at least.
        pass: u16,
    },
    /// A preload is followed by another one.
    #[error("preload: there was no compute since the last preload")]
    PreloadWithoutCompute,
    /// The dataflow changes while an output-stationary result is in the array.
    #[error(
        "config_ex: the dataflow changes, but the last output-stationary result was preloaded with a garbage destination \
         and is still in the array: preload a real destination first"
    )]
    ResultInArray,
    /// An unroller runs in output-stationary mode.
    #[error("{mnemonic}: the dataflow is os: the unroller's commands need config_ex dataflow=ws")]
    LoopNeedsWs {
        /// Instruction.
        mnemonic: &'static str,
    },
    /// A loop with both operands transposed.
    #[error("loop_ws: a_transpose and b_transpose are both set: only one operand can pass the transposer")]
    LoopTransposes,
    /// A loop with nothing to do.
    #[error("loop_ws: all five parts are skipped: the loop would never finish")]
    LoopSkipsAll,
    /// A loop bound is zero.
    #[error("{mnemonic}: the loop bound {field} is 0: it must be at least 1")]
    ZeroLoopBound {
        /// Instruction.
        mnemonic: &'static str,
        /// Bound.
        field: &'static str,
    },
    /// A loop's operands do not fit.
    #[error("{mnemonic}: {operand} needs {needed} {} rows, but {available} are free for it", memory.name())]
    LoopRegion {
        /// Instruction.
        mnemonic: &'static str,
        /// Operands.
        operand: &'static str,
        /// Memory.
        memory: LocalMemory,
        /// Rows needed.
        needed: u64,
        /// Rows available.
        available: u64,
    },
    /// A scratchpad store into the accumulator.
    #[error("mvout_spad: the destination is in the accumulator: it must be in the scratchpad")]
    StoreIntoAccumulator,
}

fn transposer_text(dataflow: DataflowMode) -> &'static str {
    match dataflow {
        DataflowMode::Os => "os with b_transpose and without a_transpose",
        DataflowMode::Ws => "ws with a_transpose and b_transpose",
    }
}

fn missing_text(dataflow: DataflowMode) -> &'static str {
    match dataflow {
        DataflowMode::Os => {
            "there are no sums in the array, as there was no compute before in os, or its preload had a destination"
        }
        DataflowMode::Ws => "there are no weights in use, as there was no compute_preloaded before in ws",
    }
}

impl Illegality {
    /// What the hardware then does, as far as known.
    pub fn effect(&self) -> &'static str {
        match self {
            Illegality::Undecodable(DecodeError::UnknownFunct(_)) => "runs as a load with channel 0",
            Illegality::Undecodable(DecodeError::NotInBuild { .. }) => {
                "undefined: the command is taken for another one or never leaves its queue"
            }
            Illegality::Undecodable(_) => "drops the bits that do not fit, or uses a register that does not exist",
            Illegality::ZeroExtent { .. } | Illegality::PoolGeometry { .. } => "counters wrap around; may never finish",
            Illegality::MultipleBlocks { .. } => "stores wrong data",
            Illegality::BlockStride { .. } => "blocks overwrite each other",
            Illegality::UntakenRows { .. } => "takes these rows for later operands, or stops",
            Illegality::RepeatsIntoAccumulator { .. } => "writes wrong rows",
            Illegality::Unconfigured { .. } => "uses whatever the registers hold",
            Illegality::OutOfRange { .. } => "addresses wrap around",
            Illegality::Transposer { .. } | Illegality::LoopTransposes => "multiplies wrong operands",
            Illegality::AccumulatorOperand { .. } | Illegality::ResultInArray | Illegality::LoopSkipsAll => {
                "the accelerator stops"
            }
            Illegality::ShrunkZeros { .. } => "reports the load before it is complete, or never",
            Illegality::NotBuilt { .. } => "behaves as if the feature were not used, or drops the data",
            Illegality::ComputeWithoutPreload { .. } => "uses the destination of a later preload, or stops",
            Illegality::GarbageA { .. } => "multiplies with whatever is being read",
            Illegality::GarbageWeights => "multiplies with a mixture of zeros and older weights",
            Illegality::NothingToAccumulate { .. } => "goes on from whatever the array's registers hold",
            Illegality::ResultRows { .. } => {
                "leaves the rows behind as they were, or writes them, depending on the time"
            }
            Illegality::PreloadWithoutCompute => "the first preload's destination is lost",
            Illegality::LoopNeedsWs { .. } => "multiplies in the wrong dataflow",
            Illegality::ZeroLoopBound { .. } => "runs 65536 iterations",
            Illegality::LoopRegion { .. } => "regions overlap or wrap around",
            Illegality::StoreIntoAccumulator => "writes the scratchpad row of the same number",
        }
    }

    /// Whether the hardware defines the stream but for when its commands come: then both models may run it, and may differ.
    pub fn depends_on_time(&self) -> bool {
        matches!(self, Illegality::ResultRows { .. })
    }
}

/// The dataflow that CONFIG_EX selects in this build.
fn selected_dataflow(cfg: &GemminiConfig, config: &ConfigEx) -> DataflowMode {
    match cfg.dataflow {
        Dataflow::Os => DataflowMode::Os,
        Dataflow::Ws => DataflowMode::Ws,
        Dataflow::Both => config.dataflow,
    }
}

/// The illegalities that a command has by itself.
pub fn check_command(cfg: &GemminiConfig, command: &Command) -> Vec<Illegality> {
    let mut found = Vec::new();
    let mnemonic = command.mnemonic();
    match command {
        Command::ConfigEx(config) => check_config_ex(cfg, config, &mut found),
        Command::ConfigSt(config) => {
            check_activation(cfg, mnemonic, config.activation, &mut found);
            if config.pool_stride != 0 && !cfg.has_max_pool {
                found.push(Illegality::NotBuilt { mnemonic, what: "pooling", requires: "has_max_pool = true" });
            }
        }
        Command::Mvin(operands) | Command::Mvin2(operands) | Command::Mvin3(operands) => {
            let extents = [("rows", operands.rows), ("cols", operands.cols)];
            let zero = extents.into_iter().filter(|(_, extent)| *extent == 0);
            found.extend(zero.map(|(field, _)| Illegality::ZeroExtent { mnemonic, field }));
        }
        Command::Mvout(operands) => check_mvout(cfg, operands, &mut found),
        Command::MvoutSpad(operands) => {
            found.push(NO_SCRATCHPAD_STORES.at(mnemonic));
            if operands.dst.is_acc() {
                found.push(Illegality::StoreIntoAccumulator);
            }
        }
        Command::Preload(operands) => check_preload(cfg, operands, &mut found),
        Command::ComputePreloaded(operands) | Command::ComputeAccumulated(operands) => {
            check_compute(cfg, mnemonic, operands, &mut found);
        }
        Command::LoopWs(run) => check_loop_ws(cfg, run, &mut found),
        Command::LoopConvWs(run) => check_loop_conv(cfg, run, &mut found),
        _ => {}
    }
    found
}

/// A feature and what it needs.
#[derive(Clone, Copy)]
struct Feature {
    what: &'static str,
    requires: &'static str,
}

impl Feature {
    fn at(self, mnemonic: &'static str) -> Illegality {
        Illegality::NotBuilt { mnemonic, what: self.what, requires: self.requires }
    }
}

const NO_SCRATCHPAD_STORES: Feature = Feature {
    what: "a store into the scratchpad",
    requires: "an external scratchpad (use_tl_ext_mem), which is not modelled",
};
const FULL_READ: Feature = Feature { what: "a full-width accumulator store", requires: "acc_read_full_width = true" };
const SMALL_READ: Feature = Feature { what: "a scaled accumulator store", requires: "acc_read_small_width = true" };

fn check_activation(cfg: &GemminiConfig, mnemonic: &'static str, activation: Activation, found: &mut Vec<Illegality>) {
    let needs_units = activation.needs_normalizations();
    if activation != Activation::None && !cfg.has_nonlinear_activations {
        let feature = Feature { what: "an activation function", requires: "has_nonlinear_activations = true" };
        found.push(feature.at(mnemonic));
    } else if needs_units && !cfg.has_normalizations {
        let feature = Feature { what: "this activation function", requires: "has_normalizations = true" };
        found.push(feature.at(mnemonic));
    }
}

fn check_config_ex(cfg: &GemminiConfig, config: &ConfigEx, found: &mut Vec<Illegality>) {
    if config.set_only_strides {
        return;
    }
    let dataflow = selected_dataflow(cfg, config);
    let a_transposed = match dataflow {
        DataflowMode::Os => !config.a_transpose,
        DataflowMode::Ws => config.a_transpose,
    };
    if a_transposed && config.b_transpose {
        found.push(Illegality::Transposer { dataflow });
    }
}

fn check_mvout(cfg: &GemminiConfig, operands: &MoveOperands, found: &mut Vec<Illegality>) {
    if operands.cols == 0 {
        found.push(Illegality::ZeroExtent { mnemonic: "mvout", field: "cols" });
    }
    // Garbage is stored as zeros, which nothing reads.
    if operands.local.is_acc() && !operands.local.is_garbage(cfg.layout()) {
        let full = operands.local.read_full();
        if full && operands.blocks(cfg) > 1 {
            found.push(Illegality::MultipleBlocks { store: "full-width", cols: operands.cols, dim: cfg.dim() });
        }
        if full && !cfg.acc_read_full_width {
            found.push(FULL_READ.at("mvout"));
        } else if !full && !cfg.acc_read_small_width {
            found.push(SMALL_READ.at("mvout"));
        }
    }
}

fn check_source(
    cfg: &GemminiConfig,
    mnemonic: &'static str,
    operand: &'static str,
    local: LocalAddr,
    found: &mut Vec<Illegality>,
) {
    if local.is_garbage(cfg.layout()) {
        return;
    }
    if local.is_acc() {
        found.push(Illegality::AccumulatorOperand { mnemonic, operand });
    } else if !cfg.ex_read_from_spad {
        found.push(Feature { what: "an operand in the scratchpad", requires: "ex_read_from_spad = true" }.at(mnemonic));
    }
}

fn check_preload(cfg: &GemminiConfig, operands: &Preload, found: &mut Vec<Illegality>) {
    let d_is_never_read = cfg.hardcode_d_to_garbage_addr && cfg.dataflow == Dataflow::Os;
    if !d_is_never_read {
        check_source(cfg, "preload", "d", operands.d, found);
    }
    if operands.c.is_garbage(cfg.layout()) {
        return;
    }
    if operands.c.is_acc() && !cfg.ex_write_to_acc {
        found.push(Feature { what: "a result in the accumulator", requires: "ex_write_to_acc = true" }.at("preload"));
    } else if !operands.c.is_acc() && !cfg.ex_write_to_spad {
        found.push(Feature { what: "a result in the scratchpad", requires: "ex_write_to_spad = true" }.at("preload"));
    }
}

fn check_compute(cfg: &GemminiConfig, mnemonic: &'static str, operands: &Compute, found: &mut Vec<Illegality>) {
    check_source(cfg, mnemonic, "a", operands.a, found);
    // Columns beyond the operand's are zeros whatever is read.
    if operands.a.is_garbage(cfg.layout()) && operands.a_rows > 0 && operands.a_cols > 0 {
        found.push(Illegality::GarbageA { mnemonic });
    }
    let d_is_never_read = cfg.hardcode_d_to_garbage_addr && cfg.dataflow == Dataflow::Ws;
    if !d_is_never_read {
        check_source(cfg, mnemonic, "bd", operands.bd, found);
    }
}

fn check_loop_ws(cfg: &GemminiConfig, run: &LoopWs, found: &mut Vec<Illegality>) {
    if run.a_transpose && run.b_transpose {
        found.push(Illegality::LoopTransposes);
    }
    if run.skip_lda && run.skip_ldb && run.skip_ldd && run.skip_ex && run.skip_stc {
        found.push(Illegality::LoopSkipsAll);
    }
    // The unroller looks at no other activation, and only when it stores; config_st sets the one that counts.
    if matches!(run.act, Activation::Layernorm | Activation::Softmax) && !run.skip_stc {
        check_activation(cfg, "loop_ws", run.act, found);
    }
    if run.full_c && !cfg.acc_read_full_width && !run.skip_stc {
        found.push(FULL_READ.at("loop_ws"));
    }
    if !run.full_c && !cfg.acc_read_small_width && !run.skip_stc {
        found.push(SMALL_READ.at("loop_ws"));
    }
    if run.spad_only && !run.skip_stc {
        found.push(NO_SCRATCHPAD_STORES.at("loop_ws"));
    }
}

fn check_loop_conv(cfg: &GemminiConfig, run: &LoopConvWs, found: &mut Vec<Illegality>) {
    let mnemonic = "loop_conv_ws";
    check_activation(cfg, mnemonic, run.activation, found);
    let training = [
        (run.wrot180, "wrot180"),
        (run.trans_output_1203, "trans_output_1203"),
        (run.trans_weight_1203, "trans_weight_1203"),
        (run.trans_weight_0132, "trans_weight_0132"),
        (run.trans_input_3120, "trans_input_3120"),
        (run.input_dilated, "input_dilated"),
    ];
    let features = training.map(|(on, what)| (on && !cfg.has_training_convs, what, "has_training_convs = true"));
    let pixels = run.max_pixels_per_row > 1 && !cfg.has_first_layer_optimizations;
    let others = [
        (run.dw && !cfg.has_dw_convs, "dw", "has_dw_convs = true"),
        (pixels, "max_pixels_per_row above 1", "has_first_layer_optimizations = true"),
        (!run.no_pool && !cfg.has_max_pool, "pooling", "has_max_pool = true"),
    ];
    let missing = features.into_iter().chain(others).filter(|(missing, ..)| *missing);
    found.extend(missing.map(|(_, what, requires)| Feature { what, requires }.at(mnemonic)));
}

/// What is known about a load channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// No CONFIG_LD yet.
    Unset,
    /// By this command.
    Set(ConfigLd),
    /// By the convolution unroller.
    SetByLoop,
}

/// Follows a stream of host commands and says what is illegal in it.
///
/// ```
/// use pollux_isa::{GemminiConfig, RoccCommand, legality::Checker};
///
/// let mut checker = Checker::new(&GemminiConfig::default16());
/// let compute = RoccCommand { funct: 4, rs1: 0x0010_0010_0000_0000, rs2: 0x0010_0010_ffff_ffff };
/// let illegal = checker.check(compute);
/// assert_eq!(illegal[0].to_string(), "compute_preloaded: there was no config_ex before: its registers have no defined value");
/// ```
#[derive(Debug, Clone)]
pub struct Checker {
    cfg: GemminiConfig,
    layout: AddressLayout,
    execute: Option<ConfigEx>,
    channels: [Channel; 3],
    store: ConfigSt,
    /// A preload waits for its compute.
    preloaded: bool,
    /// The destination that the last preload named.
    result: ExecOperand,
    /// The last preload in weight-stationary mode left parts of older weights in the array.
    garbage_weights: bool,
    /// The last preload in output-stationary mode had a garbage destination.
    result_in_array: bool,
    /// The array holds what a compute can go on from: weights in use, or sums without destination.
    accumulable: bool,
    matmul: Loops<MatmulLoop>,
    conv: Loops<ConvLoop>,
}

/// What is illegal in a whole stream: the number of the command among the commands, from 0, and the reason. Both models
/// say the same about the same stream.
pub fn check_program<'a>(
    cfg: &GemminiConfig,
    items: impl IntoIterator<Item = &'a StreamItem>,
) -> Vec<(usize, Illegality)> {
    let mut checker = Checker::new(cfg);
    let commands = items.into_iter().filter_map(StreamItem::command);
    let mut found = Vec::new();
    for (number, command) in commands.enumerate() {
        found.extend(checker.check(*command).into_iter().map(|illegality| (number, illegality)));
    }
    found
}

/// Rows of the shortest pass through the array (`total_rows` of `ExecuteController.scala`).
const MIN_PASS_ROWS: u32 = 4;

/// A kind of store, as CONFIG_ST selects it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreMode {
    Plain,
    Pooled,
    OneDimensional,
}

impl Checker {
    /// A checker for a stream that starts at reset.
    pub fn new(cfg: &GemminiConfig) -> Self {
        Self {
            cfg: cfg.clone(),
            layout: cfg.layout(),
            execute: None,
            channels: [Channel::Unset; 3],
            store: ConfigSt::from_regs(cfg, 0, 0),
            preloaded: false,
            result: ExecOperand { local: LocalAddr::GARBAGE, cols: 0, rows: 0 },
            garbage_weights: false,
            result_in_array: false,
            accumulable: false,
            matmul: Loops::new(cfg),
            conv: Loops::new(cfg),
        }
    }

    /// What is illegal in the next command of the stream; usually nothing. The command then counts as executed,
    /// unless its function does not exist.
    pub fn check(&mut self, command: RoccCommand) -> Vec<Illegality> {
        let command = match Command::decode(&self.cfg, command) {
            Ok(command) => command,
            Err(error) => {
                // The hardware goes on with the bits that it keeps, and what follows should not be blamed for this.
                if let (DecodeError::Field(_), Some(command)) = (&error, Command::from_rocc(&self.cfg, command)) {
                    self.follow(&command, &mut Vec::new());
                }
                return vec![error.into()];
            }
        };
        let mut found = check_command(&self.cfg, &command);
        self.follow(&command, &mut found);
        found
    }

    fn follow(&mut self, command: &Command, found: &mut Vec<Illegality>) {
        let mnemonic = command.mnemonic();
        match command {
            Command::ConfigEx(config) => self.config_ex(config, found),
            Command::ConfigLd(config) => {
                if let Some(channel) = self.channels.get_mut(usize::from(config.state_id)) {
                    *channel = Channel::Set(*config);
                }
            }
            Command::ConfigSt(config) => self.config_st(config),
            Command::Mvin(operands) => self.mvin(mnemonic, operands, 0, found),
            Command::Mvin2(operands) => self.mvin(mnemonic, operands, 1, found),
            Command::Mvin3(operands) => self.mvin(mnemonic, operands, 2, found),
            Command::Mvout(operands) => self.mvout(operands, found),
            Command::Preload(operands) => self.preload(operands, found),
            Command::ComputePreloaded(operands) => {
                self.compute(mnemonic, operands, found);
                if self.garbage_weights {
                    found.push(Illegality::GarbageWeights);
                }
                self.accumulable = self.dataflow() == DataflowMode::Ws || self.result_in_array;
            }
            Command::ComputeAccumulated(operands) => {
                self.compute(mnemonic, operands, found);
                if self.execute.is_some() && !self.accumulable {
                    found.push(Illegality::NothingToAccumulate { dataflow: self.dataflow() });
                }
                self.accumulable &= self.dataflow() == DataflowMode::Ws || self.result_in_array;
            }
            Command::LoopWs(run) => self.loop_ws(run, found),
            Command::LoopConvWs(run) => self.loop_conv_ws(run, found),
            other => {
                self.matmul.configure(other);
                self.conv.configure(other);
            }
        }
    }

    fn dataflow(&self) -> DataflowMode {
        self.execute.map_or(DataflowMode::Os, |config| selected_dataflow(&self.cfg, &config))
    }

    fn config_ex(&mut self, config: &ConfigEx, found: &mut Vec<Illegality>) {
        let before = self.dataflow();
        self.execute = match self.execute {
            Some(old) if config.set_only_strides => {
                Some(ConfigEx { a_stride: config.a_stride, c_stride: config.c_stride, ..old })
            }
            _ => Some(*config),
        };
        if self.dataflow() != before && self.result_in_array {
            found.push(Illegality::ResultInArray);
        }
        self.result_in_array &= self.dataflow() == DataflowMode::Os;
        self.accumulable &= self.dataflow() == before;
    }

    fn config_st(&mut self, config: &ConfigSt) {
        let old = self.store;
        self.store = *config;
        // The geometry keeps its value when it is not needed (`StoreController.scala`).
        if config.pool_stride == 0 {
            let ConfigSt { porows, pocols, upad, lpad, .. } = old;
            self.store = ConfigSt { porows, pocols, upad, lpad, ..self.store };
            if config.pool_size == 0 {
                let ConfigSt { orows, ocols, pool_out_dim, .. } = old;
                self.store = ConfigSt { orows, ocols, pool_out_dim, ..self.store };
            }
        }
    }

    fn mvin(&self, mnemonic: &'static str, operands: &MoveOperands, channel: usize, found: &mut Vec<Illegality>) {
        let MoveOperands { rows, local, .. } = *operands;
        let config = match self.channels[channel] {
            Channel::Set(config) => config,
            Channel::SetByLoop => return,
            Channel::Unset => {
                let needs = ["config_ld state_id=0", "config_ld state_id=1", "config_ld state_id=2"][channel];
                found.push(Illegality::Unconfigured { mnemonic, needs });
                return;
            }
        };
        let (blocks, block_stride) = (operands.blocks(&self.cfg), config.block_stride);
        // One block has no distance to another.
        if blocks > 1 && block_stride < rows {
            found.push(Illegality::BlockStride { mnemonic, blocks, rows, block_stride });
        }
        // Elements of full width do not pass the repeater (`mvin_scale_acc_in.bits.pixel_repeats`), and a build without it
        // passes everything.
        let repeats = operands.dram == 0 || config.shrink || self.cfg.mvin_scale_shared;
        if config.repeats() > 1 && local.is_acc() && repeats && self.cfg.has_first_layer_optimizations {
            found.push(Illegality::RepeatsIntoAccumulator { mnemonic, repeats: config.repeats() });
        }
        if operands.dram == 0 && local.is_acc() && config.shrink {
            found.push(Illegality::ShrunkZeros { mnemonic });
        }
        let span = u64::from(blocks.saturating_sub(1)) * u64::from(block_stride) + u64::from(rows);
        self.check_range(mnemonic, "local", local, span, found);
    }

    fn store_mode(&self) -> StoreMode {
        match (self.store.pool_stride, self.store.pool_size) {
            (stride, _) if stride != 0 && self.cfg.has_max_pool => StoreMode::Pooled,
            (_, size) if size != 0 => StoreMode::OneDimensional,
            _ => StoreMode::Plain,
        }
    }

    fn mvout(&self, operands: &MoveOperands, found: &mut Vec<Illegality>) {
        let ConfigSt { pool_size, porows, pocols, orows, ocols, .. } = self.store;
        let (store, geometry, span) = match self.store_mode() {
            StoreMode::Plain => {
                if operands.rows == 0 {
                    found.push(Illegality::ZeroExtent { mnemonic: "mvout", field: "rows" });
                }
                let blocks = u64::from(operands.blocks(&self.cfg));
                let span = blocks.saturating_sub(1) * u64::from(self.cfg.dim()) + u64::from(operands.rows);
                // A row at the garbage address is a row of zeros; the row behind it is the memory's first.
                if span == 1 && operands.local.is_garbage(self.layout) {
                    return;
                }
                self.check_range("mvout", "local", operands.local, span, found);
                return;
            }
            // The image may be empty: what is outside of it is zero.
            StoreMode::Pooled => {
                let geometry = vec![("pool_size", pool_size), ("porows", porows), ("pocols", pocols)];
                ("pooled", geometry, self.pooled_rows())
            }
            StoreMode::OneDimensional => {
                ("1-D", vec![("orows", orows), ("ocols", ocols)], u64::from(orows) * u64::from(ocols))
            }
        };
        if operands.blocks(&self.cfg) > 1 {
            found.push(Illegality::MultipleBlocks { store, cols: operands.cols, dim: self.cfg.dim() });
        }
        let zero = geometry.into_iter().filter(|(_, value)| *value == 0);
        found.extend(zero.map(|(field, _)| Illegality::PoolGeometry { store, field }));
        if span > 0 {
            self.check_range("mvout", "local", operands.local, span, found);
        }
    }

    /// Rows up to the last one that a window of a pooled store reads; positions outside of the image are zeros.
    fn pooled_rows(&self) -> u64 {
        let ConfigSt { pool_size, pool_stride, porows, pocols, orows, ocols, upad, lpad, .. } = self.store;
        let inside = |windows: u8, pad: u8, image: u8| {
            let padded = u64::from(windows).saturating_sub(1) * u64::from(pool_stride) + u64::from(pool_size);
            padded.saturating_sub(pad.into()).min(image.into())
        };
        match (inside(porows, upad, orows), inside(pocols, lpad, ocols)) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * u64::from(ocols) + cols,
        }
    }

    fn check_range(
        &self,
        mnemonic: &'static str,
        operand: &'static str,
        local: LocalAddr,
        span: u64,
        found: &mut Vec<Illegality>,
    ) {
        let (memory, rows) = self.memory_of(local);
        let first = u64::from(local.data(self.layout));
        let last = first + span.saturating_sub(1);
        if last >= rows.into() {
            found.push(Illegality::OutOfRange { mnemonic, operand, memory, first, last, rows });
        }
    }

    /// Checks the rows of an execute operand: `rows` of them, `stride` apart.
    fn check_operand(
        &self,
        mnemonic: &'static str,
        (name, operand): (&'static str, ExecOperand),
        transposed: bool,
        stride: u16,
        found: &mut Vec<Illegality>,
    ) {
        let (rows, cols) = if transposed { (operand.cols, operand.rows) } else { (operand.rows, operand.cols) };
        // What has no rows is not read: it is zeros.
        if operand.local.is_garbage(self.layout) || rows == 0 {
            return;
        }
        if cols == 0 {
            found.push(Illegality::UntakenRows { mnemonic, operand: name });
        }
        self.check_range(mnemonic, name, operand.local, u64::from(rows - 1) * u64::from(stride) + 1, found);
    }

    /// Checks the rows that a result is written to, `stride` apart. In OS the last row of the array comes out first, and
    /// the others lie so far before it.
    fn check_result(&self, result: ExecOperand, stride: u16, found: &mut Vec<Illegality>) {
        if result.local.is_garbage(self.layout) || result.rows == 0 || result.cols == 0 {
            return;
        }
        let rows = u64::from(result.rows);
        let (before, span) = match self.dataflow() {
            DataflowMode::Ws => (0, (rows - 1) * u64::from(stride) + 1),
            DataflowMode::Os => {
                let last = u64::from(self.cfg.dim()) - 1;
                let back = |row: u64| last.saturating_sub(row) * u64::from(stride);
                (back(0).saturating_sub(last), (last + 1).saturating_sub(back(rows - 1)).max(1))
            }
        };
        if u64::from(result.local.data(self.layout)) < before {
            let first = u64::from(result.local.add(self.layout, (before as u32).wrapping_neg()).data(self.layout));
            let (memory, rows) = self.memory_of(result.local);
            let last = first + before + span - 1;
            found.push(Illegality::OutOfRange { mnemonic: "preload", operand: "c", memory, first, last, rows });
            return;
        }
        self.check_range("preload", "c", result.local, span, found);
    }

    fn memory_of(&self, local: LocalAddr) -> (LocalMemory, u32) {
        match local.is_acc() {
            true => (LocalMemory::Accumulator, self.layout.acc_rows),
            false => (LocalMemory::Scratchpad, self.layout.sp_rows),
        }
    }

    fn preload(&mut self, operands: &Preload, found: &mut Vec<Illegality>) {
        if self.preloaded {
            found.push(Illegality::PreloadWithoutCompute);
        }
        self.preloaded = true;
        let Some(config) = self.execute else {
            found.push(Illegality::Unconfigured { mnemonic: "preload", needs: "config_ex" });
            return;
        };
        let ws = self.dataflow() == DataflowMode::Ws;
        self.check_operand("preload", ("d", operands.d()), ws && config.b_transpose, 1, found);
        self.check_result(operands.c(), config.c_stride, found);
        self.result = operands.c();
        // With a transposed operand every pass has DIM rows, and no pass has fewer than 4.
        let whole = config.a_transpose || config.b_transpose || self.cfg.dim() == MIN_PASS_ROWS;
        self.garbage_weights = ws && operands.d.is_garbage(self.layout) && !whole;
        self.result_in_array = !ws && operands.c.is_garbage(self.layout);
    }

    fn compute(&mut self, mnemonic: &'static str, operands: &Compute, found: &mut Vec<Illegality>) {
        let Some(config) = self.execute else {
            found.push(Illegality::Unconfigured { mnemonic, needs: "config_ex" });
            return;
        };
        if self.preloaded {
            self.check_pass(mnemonic, operands, &config, found);
        } else {
            found.push(Illegality::ComputeWithoutPreload { mnemonic });
        }
        self.preloaded = false;
        let os = self.dataflow() == DataflowMode::Os;
        self.check_operand(mnemonic, ("a", operands.a()), config.a_transpose, config.a_stride, found);
        self.check_operand(mnemonic, ("bd", operands.bd()), os && config.b_transpose, 1, found);
    }

    /// Checks that a product pushes all rows of its result through the array. Only a pass in WS with nothing to transpose
    /// and no weights to push behind it is shortened.
    fn check_pass(&self, mnemonic: &'static str, operands: &Compute, config: &ConfigEx, found: &mut Vec<Illegality>) {
        if self.dataflow() == DataflowMode::Os || config.a_transpose || config.b_transpose {
            return;
        }
        let never_read = self.cfg.hardcode_d_to_garbage_addr && self.cfg.dataflow == Dataflow::Ws;
        let rows = |operand: ExecOperand| if operand.local.is_garbage(self.layout) { 1 } else { operand.rows };
        let bd_rows = if never_read { 1 } else { rows(operands.bd()) };
        let pass = rows(operands.a()).max(bd_rows).max(MIN_PASS_ROWS as u16);
        let result = self.result;
        if result.rows > pass && result.cols > 0 && !result.local.is_garbage(self.layout) {
            found.push(Illegality::ResultRows { mnemonic, rows: result.rows, pass });
        }
    }

    /// Checks that an unroller's execute part finds the array configured.
    fn check_loop_dataflow(&self, mnemonic: &'static str, found: &mut Vec<Illegality>) {
        match self.execute {
            None => found.push(Illegality::Unconfigured { mnemonic, needs: "config_ex" }),
            Some(_) if self.dataflow() == DataflowMode::Os => found.push(Illegality::LoopNeedsWs { mnemonic }),
            Some(_) => {}
        }
    }

    fn loop_ws(&mut self, run: &LoopWs, found: &mut Vec<Illegality>) {
        let slot = self.matmul.run();
        let computes = !run.skip_ex && !run.is_resadd;
        if computes {
            self.check_loop_dataflow("loop_ws", found);
            self.accumulable = true;
        }
        for (channel, needs) in slot.channels_used(run) {
            if self.channels[channel] == Channel::Unset {
                found.push(Illegality::Unconfigured { mnemonic: "loop_ws", needs });
            }
        }
        slot.check(&self.cfg, run, found);
    }

    fn loop_conv_ws(&mut self, run: &LoopConvWs, found: &mut Vec<Illegality>) {
        let slot = self.conv.run();
        self.check_loop_dataflow("loop_conv_ws", found);
        self.accumulable = true;
        slot.check(&self.cfg, run, found);
        // The unroller configures the load channels, and after a pooled store plain stores.
        self.channels = [Channel::SetByLoop; 3];
        if !run.gated(&self.cfg).no_pool {
            self.store = ConfigSt { pool_stride: 0, pool_size: 0, ..self.store };
        }
    }
}

#[cfg(test)]
mod tests;
