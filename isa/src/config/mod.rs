//! The generator's configuration record (`GemminiConfigs.scala`), its named instances and the widths derived from it.

mod error;
mod file;
mod header;
mod rules;
mod types;
mod valid;
mod validate;

use serde::{Deserialize, Serialize};

use crate::local_addr::AddressLayout;
use types::Setting;

pub use error::{ConfigError, Reason, Source};
pub use file::ConfigFile;
pub use rules::limits;
pub use types::{
    Capacity, CommandLayout, Dataflow, ExpVariant, Multiplicand, Opcode, Revision, SInt, ScaleArgs, ScaleUnits,
};
pub use valid::ValidConfig;

/// Width of addresses and strides in the command path (`coreMaxAddrBits` of a Rocket core with Sv39 virtual memory).
pub const CORE_MAX_ADDR_BITS: u32 = 40;

/// Load channels: MVIN, MVIN2 and MVIN3 (`load_states`).
pub const LOAD_STATES: usize = 3;

/// Contexts in an unroller: two loops are in flight (`concurrent_loops`, `LoopMatmul.scala`, `LoopConv.scala`).
pub const CONCURRENT_LOOPS: u32 = 2;

/// Statistics registers of the normalizer (`num_stats`, `Normalizer.scala`).
pub const NORM_STAT_IDS: u32 = 2;

/// `log2Up` of Chisel: bits needed to count `n` things, at least one.
pub const fn log2_up(n: u64) -> u32 {
    let bits = log2_ceil(n);
    if bits == 0 { 1 } else { bits }
}

/// `log2Ceil` of Chisel: bits needed to count `n` things.
pub const fn log2_ceil(n: u64) -> u32 {
    if n <= 1 { 0 } else { u64::BITS - (n - 1).leading_zeros() }
}

pub(crate) const FLOAT32_SCALE: ScaleArgs =
    ScaleArgs { multiplicand: Multiplicand::Float32, latency: 4, units: ScaleUnits::Count(4), identity: 1.0 };

/// Defines the record, the default instance and the list of settings from one table: field, type, value of `default16`.
macro_rules! gemmini_config {
    ($($(#[$doc:meta])+ $field:ident: $ty:ty = $default:expr;)*) => {
        /// One Gemmini instance: every field of the generator's `GemminiArrayConfig`, under the generator's names in
        /// snake case, plus a name and the choice of the integer exponential.
        ///
        /// A value need not be consistent; [`GemminiConfig::validate`] says whether it is.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct GemminiConfig {
            /// Name for people; not part of the digest.
            #[serde(default)]
            pub name: String,
            $($(#[$doc])+ pub $field: $ty,)*
        }

        impl GemminiConfig {
            /// The generator's default configuration with normalization units: the golden cases' `default16`.
            pub fn default16() -> Self {
                Self { name: "default16".to_owned(), $($field: $default,)* }
            }

            /// Every field and its value as text, in the order of the generator's record.
            pub fn settings(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($field), self.$field.text()),)*]
            }
        }
    };
}

#[rustfmt::skip]
gemmini_config! {
    /// Custom opcode of the commands.
    opcodes: Opcode = Opcode::Custom3;
    /// Element of the scratchpad.
    input_type: SInt = SInt::new(8);
    /// Weight element; same width as `input_type`.
    weight_type: SInt = SInt::new(8);
    /// Element of the accumulator.
    acc_type: SInt = SInt::new(32);
    /// Element of A inside the array.
    spatial_array_input_type: SInt = SInt::new(8);
    /// Element of B inside the array.
    spatial_array_weight_type: SInt = SInt::new(8);
    /// Partial sum inside the array; sums wrap at this width.
    spatial_array_output_type: SInt = SInt::new(20);
    /// Dataflows that the processing elements support.
    dataflow: Dataflow = Dataflow::Both;
    /// Rows of processing elements in a tile (no registers inside a tile).
    tile_rows: u32 = 1;
    /// Columns of processing elements in a tile.
    tile_columns: u32 = 1;
    /// Rows of tiles in the mesh (registers between tiles).
    mesh_rows: u32 = 16;
    /// Columns of tiles in the mesh.
    mesh_columns: u32 = 16;
    /// Depth of the load controller's command queue.
    ld_queue_length: u32 = 8;
    /// Depth of the store controller's command queue.
    st_queue_length: u32 = 2;
    /// Depth of the execute controller's command queue.
    ex_queue_length: u32 = 8;
    /// Load entries of the reservation station.
    reservation_station_entries_ld: u32 = 8;
    /// Store entries of the reservation station.
    reservation_station_entries_st: u32 = 4;
    /// Execute entries of the reservation station.
    reservation_station_entries_ex: u32 = 16;
    /// Scratchpad banks.
    sp_banks: u32 = 4;
    /// Whether a scratchpad bank has one port for reads and writes.
    sp_singleported: bool = true;
    /// Scratchpad size.
    sp_capacity: Capacity = Capacity::Kilobytes(256);
    /// Cycles of a scratchpad read.
    spad_read_delay: u32 = 4;
    /// Accumulator banks.
    acc_banks: u32 = 2;
    /// Whether an accumulator bank has one port for reads and writes.
    acc_singleported: bool = false;
    /// Sub-banks of a single-ported accumulator bank; none is the generator's -1.
    acc_sub_banks: Option<u32> = None;
    /// Accumulator size.
    acc_capacity: Capacity = Capacity::Kilobytes(64);
    /// Cycles of an accumulator read-modify-write.
    acc_latency: u32 = 2;
    /// Largest DMA request, in bytes.
    dma_maxbytes: u32 = 64;
    /// Width of the memory port, in bits.
    dma_buswidth: u32 = 128;
    /// Banks of the shifter in front of the mesh.
    shifter_banks: u32 = 1;
    /// Alignment that the DMA may assume, in bytes.
    aligned_to: u32 = 1;
    /// Scaling of loads into the scratchpad, if built.
    mvin_scale_args: Option<ScaleArgs> = Some(FLOAT32_SCALE);
    /// Scaling of full-width loads into the accumulator, if built.
    mvin_scale_acc_args: Option<ScaleArgs> = None;
    /// Whether accumulator loads share the scratchpad's scaler.
    mvin_scale_shared: bool = false;
    /// Scaling of reads from the accumulator, if built.
    acc_scale_args: Option<ScaleArgs> = Some(ScaleArgs { latency: 8, units: ScaleUnits::PerColumn, ..FLOAT32_SCALE });
    /// Whether MVOUT can store full accumulator rows.
    acc_read_full_width: bool = true;
    /// Whether MVOUT can store scaled accumulator rows.
    acc_read_small_width: bool = true;
    /// Whether the DMA has a TileLink port of its own.
    use_dedicated_tl_port: bool = true;
    /// Entries of the translation buffer.
    tlb_size: u32 = 4;
    /// Whether each DMA engine remembers the page translated last.
    use_tlb_register_filter: bool = true;
    /// Requests that the reader and the writer may each have in flight.
    max_in_flight_mem_reqs: u32 = 16;
    /// Whether the execute controller reads operands from the scratchpad.
    ex_read_from_spad: bool = true;
    /// Whether the execute controller reads operands from the accumulator.
    ex_read_from_acc: bool = true;
    /// Whether the execute controller writes results to the scratchpad.
    ex_write_to_spad: bool = true;
    /// Whether the execute controller writes results to the accumulator.
    ex_write_to_acc: bool = true;
    /// Whether D is never read (the BD operand in a WS build, the preloaded one in an OS build).
    hardcode_d_to_garbage_addr: bool = false;
    /// Whether reader and writer share one translation buffer.
    use_shared_tlb: bool = true;
    /// Registers inside a tile.
    tile_latency: u32 = 0;
    /// Registers behind the mesh.
    mesh_output_delay: u32 = 1;
    /// Whether a WS tile of several rows adds in a tree.
    use_tree_reduction_if_possible: bool = true;
    /// Performance counters.
    num_counter: u32 = 8;
    /// Whether LOOP_CONV_WS has the layouts that training needs.
    has_training_convs: bool = true;
    /// Whether MVOUT can pool.
    has_max_pool: bool = true;
    /// Whether there are activation functions.
    has_nonlinear_activations: bool = true;
    /// Whether LOOP_CONV_WS does depthwise convolutions.
    has_dw_convs: bool = true;
    /// Whether there are normalization units (softmax, LayerNorm, GELU).
    has_normalizations: bool = true;
    /// Whether MVIN can repeat pixels.
    has_first_layer_optimizations: bool = true;
    /// Whether the convolution unroller is built.
    has_loop_conv: bool = true;
    /// Whether FireSim's counters are built.
    use_firesim_simulation_counters: bool = false;
    /// Whether the memories are outside and shared.
    use_shared_ext_mem: bool = false;
    /// Whether the outside memories are on TileLink.
    use_tl_ext_mem: bool = false;
    /// Base address of the outside memories.
    tl_ext_mem_base: u64 = 0;
    /// Whether the clock can be gated.
    clock_gate: bool = false;
    /// What the integer exponential computes; not a generator field but a difference between revisions.
    softmax_exp: ExpVariant = ExpVariant::Polynomial8c3f992;
    /// Bits of a physical address (`paddrBits` of the SoC's bus, `SystemBusKey` and `ExtMem` of rocket-chip): the port has
    /// no more, and the TLB cuts what it answers to them. 32 in Chipyard's systems.
    #[serde(default = "default_paddr_bits")]
    paddr_bits: u32 = default_paddr_bits();
    /// Whether the configuration is one of a publication that the generator itself refuses: rules that no modelled block
    /// depends on then only warn.
    #[serde(default)]
    as_published: bool = false;
    /// Layout of the loops' commands in programs for the core; assembled programs always have the current one. Not a
    /// generator field but a difference between revisions.
    #[serde(default, skip_serializing_if = "CommandLayout::is_current")]
    command_layout: CommandLayout = CommandLayout::Current;
    /// Whose registers the hardware has. Not a generator field but a difference between revisions.
    #[serde(default, skip_serializing_if = "Revision::is_current")]
    revision: Revision = Revision::Current;
}

/// Fields that came after the first binary programs: they count in the digest only where they differ from the default.
const ADDED_FIELDS: [&str; 4] = ["paddr_bits", "as_published", "command_layout", "revision"];

const fn default_paddr_bits() -> u32 {
    32
}

/// The named configurations.
impl GemminiConfig {
    /// Names that [`GemminiConfig::by_name`] knows; `dim4` to `dim64` are known as well.
    pub const NAMES: [&'static str; 8] =
        ["default16", "small4", "norm16", "lean", "chip", "large_chip", "survey_baseline", "survey_rebalanced"];

    /// The configuration of this name: one of [`GemminiConfig::NAMES`], or `dimN` for [`GemminiConfig::with_dim`].
    ///
    /// # Errors
    /// [`ConfigError::UnknownName`] lists the names.
    pub fn by_name(name: &str) -> Result<ValidConfig, ConfigError> {
        let config = match name {
            "default16" => Self::default16(),
            "small4" => Self::small4(),
            "norm16" => Self::norm16(),
            "lean" => Self::lean(),
            "chip" => Self::chip(),
            "large_chip" => Self::large_chip(),
            "survey_baseline" => Self::survey_baseline(),
            "survey_rebalanced" => Self::survey_rebalanced(),
            _ => match name.strip_prefix("dim").and_then(|dim| dim.parse().ok()) {
                Some(dim) => return Self::with_dim(dim),
                None => return Err(ConfigError::UnknownName(name.to_owned())),
            },
        };
        config.validated()
    }

    /// The golden cases' `small4`: `default16` with a 4x4 array, a 64 KiB scratchpad and a 16 KiB accumulator.
    pub fn small4() -> Self {
        Self { name: "small4".to_owned(), ..Self::square(4) }
    }

    /// The golden cases' `norm16`: the generator's configuration for integer Transformer inference
    /// (`ibertInferenceConfig`, `CustomConfigs.scala`) with the released exponential.
    pub fn norm16() -> Self {
        Self {
            name: "norm16".to_owned(),
            acc_capacity: Capacity::Kilobytes(128),
            has_training_convs: false,
            has_max_pool: false,
            softmax_exp: ExpVariant::Released,
            ..Self::default16()
        }
    }

    /// Gemmini's `leanConfig` (`Configs.scala`): WS only, no full-width reads, 64 requests in flight.
    pub fn lean() -> Self {
        Self {
            name: "lean".to_owned(),
            dataflow: Dataflow::Ws,
            max_in_flight_mem_reqs: 64,
            acc_read_full_width: false,
            ex_read_from_acc: false,
            ex_write_to_spad: false,
            hardcode_d_to_garbage_addr: true,
            has_normalizations: false,
            ..Self::default16()
        }
    }

    /// Gemmini's `chipConfig` (`Configs.scala`): WS only, small single-ported memories.
    pub fn chip() -> Self {
        let base = Self::default16();
        Self {
            name: "chip".to_owned(),
            dataflow: Dataflow::Ws,
            sp_capacity: Capacity::Kilobytes(64),
            acc_capacity: Capacity::Kilobytes(32),
            acc_scale_args: base.acc_scale_args.map(|args| ScaleArgs { latency: 4, ..args }),
            acc_singleported: true,
            acc_sub_banks: Some(2),
            mesh_output_delay: 2,
            ex_read_from_acc: false,
            ex_write_to_spad: false,
            hardcode_d_to_garbage_addr: true,
            has_normalizations: false,
            ..base
        }
    }

    /// Gemmini's `largeChipConfig` (`Configs.scala`): `chip` with a 32x32 array and doubled memories.
    pub fn large_chip() -> Self {
        Self {
            name: "large_chip".to_owned(),
            sp_capacity: Capacity::Kilobytes(128),
            acc_capacity: Capacity::Kilobytes(64),
            mesh_rows: 32,
            mesh_columns: 32,
            ..Self::chip()
        }
    }

    /// The memory split that the survey (arXiv 2302.14017, section 3.4) starts from: 256 KiB scratchpad, 64 KiB
    /// accumulator. Everything else is `norm16`, so that one program runs on both members of the pair.
    pub fn survey_baseline() -> Self {
        Self {
            name: "survey_baseline".to_owned(),
            sp_capacity: Capacity::Kilobytes(256),
            acc_capacity: Capacity::Kilobytes(64),
            ..Self::norm16()
        }
    }

    /// The memory split that the survey (section 3.4.3) arrives at: 64 KiB scratchpad, 256 KiB accumulator.
    ///
    /// The generator at 8c3f992 asserts that the scratchpad holds at least two matrices more than the accumulator
    /// (`USABLE_SP_TILES`), a rule of the CISC front end that is not instantiated; it only warns here.
    pub fn survey_rebalanced() -> Self {
        Self {
            name: "survey_rebalanced".to_owned(),
            sp_capacity: Capacity::Kilobytes(64),
            acc_capacity: Capacity::Kilobytes(256),
            as_published: true,
            ..Self::norm16()
        }
    }

    /// `default16` with a `dim` x `dim` array, called `dimN`; the memories keep their number of rows, so their
    /// capacity grows with `dim`.
    ///
    /// # Errors
    /// `dim` is not a power of two from 4 to 64.
    pub fn with_dim(dim: u32) -> Result<ValidConfig, ConfigError> {
        Self { name: format!("dim{dim}"), ..Self::square(dim) }.validated()
    }

    fn square(dim: u32) -> Self {
        let base = Self::default16();
        let scaled = |capacity| match capacity {
            Capacity::Kilobytes(kib) => Capacity::Kilobytes((u64::from(kib) * u64::from(dim) / 16) as u32),
            matrices => matrices,
        };
        Self {
            mesh_rows: dim,
            mesh_columns: dim,
            sp_capacity: scaled(base.sp_capacity),
            acc_capacity: scaled(base.acc_capacity),
            ..base
        }
    }
}

/// Text forms.
impl GemminiConfig {
    /// Reads TOML and validates it. A field `base = "NAME"` starts from a named configuration; the other fields then
    /// replace its fields, and `"none"` removes an optional one. Without `base` every field must be present. A text
    /// without a `name` gets one from its base and its digest.
    ///
    /// # Errors
    /// Syntax, unknown or missing fields, wrong types, an unknown base, or an inconsistent configuration.
    pub fn from_toml_str(text: &str) -> Result<ValidConfig, ConfigError> {
        ConfigFile::from_toml_str(text)?.config()
    }

    /// The configuration as TOML; [`GemminiConfig::from_toml_str`] reads it back.
    ///
    /// # Errors
    /// None of the field types can fail to serialise; the error is the TOML writer's.
    pub fn to_toml_string(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }

    /// A 64-bit hash that is stable across versions and machines: FNV-1a over the lines `field=value\n` of
    /// [`GemminiConfig::settings`]. The name is not part of it.
    pub fn digest(&self) -> u64 {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let default = Self::default16().settings();
        let settings = self.settings().into_iter();
        let counts = |setting: &(&str, String)| !ADDED_FIELDS.contains(&setting.0) || !default.contains(setting);
        let canonical: String = settings.filter(counts).map(|(field, value)| format!("{field}={value}\n")).collect();
        canonical.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
    }
}

/// Derived numbers (`GemminiConfigs.scala`). They are meaningful for a valid configuration.
impl GemminiConfig {
    /// Rows and columns of the array (`DIM`).
    pub const fn dim(&self) -> u32 {
        self.tile_rows.saturating_mul(self.mesh_rows)
    }

    /// Bytes of a scratchpad row.
    pub const fn sp_row_bytes(&self) -> u32 {
        self.dim() * self.input_type.bytes()
    }

    /// Bytes of an accumulator row.
    pub const fn acc_row_bytes(&self) -> u32 {
        self.dim() * self.acc_type.bytes()
    }

    const fn bank_entries(&self, capacity: Capacity, banks: u32, element: SInt) -> u32 {
        let entries = match capacity {
            Capacity::Kilobytes(kib) => {
                let bank_row_bits = banks as u64 * (self.mesh_columns * self.tile_columns * element.bits) as u64;
                (kib as u64 * 8192).checked_div(bank_row_bits)
            }
            Capacity::Matrices(n) => (n as u64 * self.dim() as u64).checked_div(banks as u64),
        };
        match entries {
            Some(n) if n <= u32::MAX as u64 => n as u32,
            Some(_) => u32::MAX,
            None => 0,
        }
    }

    /// Rows of a scratchpad bank.
    pub const fn sp_bank_entries(&self) -> u32 {
        self.bank_entries(self.sp_capacity, self.sp_banks, self.input_type)
    }

    /// Rows of the scratchpad.
    pub const fn sp_rows(&self) -> u32 {
        self.sp_banks.saturating_mul(self.sp_bank_entries())
    }

    /// Rows of an accumulator bank.
    pub const fn acc_bank_entries(&self) -> u32 {
        self.bank_entries(self.acc_capacity, self.acc_banks, self.acc_type)
    }

    /// Rows of the accumulator.
    pub const fn acc_rows(&self) -> u32 {
        self.acc_banks.saturating_mul(self.acc_bank_entries())
    }

    /// How the data bits of a local address divide into bank and row.
    pub const fn layout(&self) -> AddressLayout {
        AddressLayout::new(self.sp_banks, self.sp_bank_entries(), self.acc_banks, self.acc_bank_entries())
    }

    /// Columns that one MVIN or MVOUT can move (elements).
    pub const fn max_move_cols(&self) -> u32 {
        let request = match self.input_type.bytes() {
            0 => 0,
            bytes => self.dma_maxbytes / bytes,
        };
        if request > self.dim() { request } else { self.dim() }
    }

    /// Bits kept of the column count of MVIN.
    pub const fn mvin_cols_bits(&self) -> u32 {
        log2_up(self.max_move_cols() as u64 + 1)
    }

    /// Bits kept of the row count of MVIN.
    pub const fn mvin_rows_bits(&self) -> u32 {
        log2_up(self.dim() as u64 + 1)
    }

    /// Bits kept of the column count of MVOUT.
    pub const fn mvout_cols_bits(&self) -> u32 {
        self.mvin_cols_bits()
    }

    /// Bits kept of the row count of MVOUT.
    pub const fn mvout_rows_bits(&self) -> u32 {
        self.mvin_rows_bits()
    }

    /// Bits kept of the row and column counts of PRELOAD and COMPUTE (`LOG2_DIM_COUNT`).
    pub const fn dim_count_bits(&self) -> u32 {
        log2_up(self.dim() as u64 + 1)
    }

    /// Bits kept of MVIN's block stride.
    pub const fn block_stride_bits(&self) -> u32 {
        let (sp, acc) = (log2_up(self.sp_rows() as u64), log2_up(self.acc_rows() as u64));
        let bits = if sp > acc { sp } else { acc };
        if bits < 16 { bits } else { 16 }
    }

    /// Bits of A's stride kept by the reservation station.
    pub const fn a_stride_bits(&self) -> u32 {
        self.block_stride_bits()
    }

    /// Bits of C's stride kept by the reservation station.
    pub const fn c_stride_bits(&self) -> u32 {
        self.block_stride_bits()
    }

    /// Bits kept of MVIN's pixel repeats.
    pub const fn pixel_repeats_bits(&self) -> u32 {
        let bits = log2_up(self.dim() as u64 + 1);
        if bits < 8 { bits } else { 8 }
    }

    /// Width of the mvin scale field; one meaningless bit without a scaler (`mvin_scale_t_bits`).
    pub const fn mvin_scale_bits(&self) -> u32 {
        match (&self.mvin_scale_args, &self.mvin_scale_acc_args) {
            (None, None) => 1,
            (Some(args), _) | (None, Some(args)) => args.multiplicand.bits(),
        }
    }

    /// Width of the accumulator scale field (`acc_scale_t_bits`; float32 even without a scaler).
    pub const fn acc_scale_bits(&self) -> u32 {
        match &self.acc_scale_args {
            Some(args) => args.multiplicand.bits(),
            None => 32,
        }
    }

    /// Bits kept of CONFIG_EX's shift of OS results (`ExecuteController.scala`).
    pub const fn in_shift_bits(&self) -> u32 {
        log2_up(self.acc_type.bits as u64)
    }

    /// Blocks of DIM input elements that one DMA request can carry.
    pub const fn max_block_len(&self) -> u32 {
        blocks(self.dma_maxbytes, self.sp_row_bytes())
    }

    /// Blocks of DIM accumulator elements that one DMA request can carry.
    pub const fn max_block_len_acc(&self) -> u32 {
        blocks(self.dma_maxbytes, self.acc_row_bytes())
    }

    /// Entries of the load and the store controller's DMA command trackers (`nCmds`, `LoadController.scala`).
    pub const fn n_cmds(&self) -> u32 {
        self.max_in_flight_mem_reqs / self.dim() + 1
    }

    /// The largest of the reservation station's three queues (`res_max_per_type`).
    pub const fn res_max_per_type(&self) -> u32 {
        let (ld, st, ex) = (
            self.reservation_station_entries_ld,
            self.reservation_station_entries_st,
            self.reservation_station_entries_ex,
        );
        let larger = if ld > st { ld } else { st };
        if larger > ex { larger } else { ex }
    }

    /// `reservation_station_entries`: three times the largest queue.
    pub const fn reservation_station_entries(&self) -> u32 {
        3 * self.res_max_per_type()
    }

    /// Bits of a reservation station identifier: two for the queue, the rest for the entry (`ROB_ID_WIDTH`).
    pub const fn rob_id_width(&self) -> u32 {
        2 + log2_up(self.res_max_per_type() as u64)
    }

    /// Bits of a counter's index (`nCounterIndexBit`, `CounterFile.scala`).
    pub const fn counter_index_bits(&self) -> u32 {
        log2_ceil(self.num_counter as u64)
    }

    /// Whether a WS tile adds in a tree (`tree_reduction`).
    pub const fn tree_reduction(&self) -> bool {
        self.use_tree_reduction_if_possible && matches!(self.dataflow, Dataflow::Ws) && self.tile_rows > 1
    }

    /// Bytes of a beat on the memory port.
    pub const fn beat_bytes(&self) -> u32 {
        self.dma_buswidth / 8
    }
}

const fn blocks(request_bytes: u32, row_bytes: u32) -> u32 {
    match request_bytes.checked_div(row_bytes) {
        None | Some(0) => 1,
        Some(n) => n,
    }
}
