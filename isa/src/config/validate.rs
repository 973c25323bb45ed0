//! Which configurations can exist, and why the others cannot.

use thiserror::Error;

use super::{Capacity, Dataflow, GemminiConfig, SInt};
use crate::local_addr::METADATA_BITS;

/// Why a configuration could not be read or is not usable.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConfigError {
    /// The fields contradict each other or the hardware's rules.
    #[error("configuration `{name}` is not valid:{}", list(.reasons))]
    Invalid {
        /// The configuration's name.
        name: String,
        /// Every rule that it breaks.
        reasons: Vec<Reason>,
    },
    /// No such named configuration.
    #[error("no configuration is called `{name}`: the named ones are {known} and dim2 to dim64", name = .0, known = GemminiConfig::NAMES.join(", "))]
    UnknownName(String),
    /// The text is not TOML of the expected form.
    #[error("cannot read the configuration: {0}")]
    Read(#[from] toml::de::Error),
    /// The configuration cannot be written as TOML.
    #[error("cannot write the configuration: {0}")]
    Write(#[from] toml::ser::Error),
    /// A header lacks a macro or type that a configuration is read from.
    #[error("the header does not define `{0}`: is it a gemmini_params.h?")]
    HeaderMissing(&'static str),
    /// A header defines something with an unusable value.
    #[error("the header defines `{name}` as `{value}`, expected {expected}")]
    HeaderValue {
        /// Macro or type.
        name: &'static str,
        /// Its definition.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
}

fn list(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| format!("\n  - {reason}")).collect()
}

/// A rule that a configuration breaks (the `require`s of `GemminiConfigs.scala` unless another file is named).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The array is not square.
    #[error(
        "the array must be square, not {rows} x {columns}: tile_rows * mesh_rows must equal tile_columns * mesh_columns"
    )]
    NotSquare {
        /// `tile_rows * mesh_rows`.
        rows: u64,
        /// `tile_columns * mesh_columns`.
        columns: u64,
    },
    /// DIM is out of range.
    #[error("DIM is {0}: it must be a power of two from 2 to 64")]
    Dim(u64),
    /// A field must not be zero.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// A field must be a power of two.
    #[error("`{field}` is {value}: it must be a power of two")]
    NotPowerOfTwo {
        /// Field or derived number.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A field exceeds its limit.
    #[error("`{field}` is {value}: it must be at most {limit}")]
    TooLarge {
        /// Field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Largest possible value.
        limit: u64,
    },
    /// The shifter's banks do not divide the array.
    #[error("`shifter_banks` is {banks}: it must divide DIM = {dim}")]
    ShifterBanks {
        /// Banks.
        banks: u32,
        /// Rows of the array.
        dim: u64,
    },
    /// A memory's bank cannot be divided into matrices.
    #[error("{memory} bank has {rows} rows: that must be a power of two and a multiple of DIM = {dim}")]
    BankRows {
        /// `a scratchpad` or `an accumulator`.
        memory: &'static str,
        /// Rows of a bank.
        rows: u64,
        /// Rows of a matrix.
        dim: u64,
    },
    /// Local addresses do not fit into their word (`LocalAddr.scala`).
    #[error(
        "local addresses need {0} row bits: more than the 25 that fit beside the 6 control bits and the garbage bit"
    )]
    AddressBits(u32),
    /// Element widths do not fit together.
    #[error("`{field}` is {actual}, which does not fit: {expected}")]
    ElementType {
        /// Field.
        field: &'static str,
        /// Its type.
        actual: SInt,
        /// The rule.
        expected: &'static str,
    },
    /// A single-ported accumulator needs sub-banks.
    #[error("a single-ported accumulator needs acc_sub_banks of 1, 2 or 4")]
    SubBanks,
    /// Sharing the scaler needs one to share and equal element widths.
    #[error("mvin_scale_shared needs mvin_scale_args, no mvin_scale_acc_args, and input_type as wide as acc_type")]
    SharedScale,
    /// The execute controller looks at the first three commands of its queue (`ExecuteController.scala`).
    #[error("ex_queue_length is {0}: the execute controller needs at least 3")]
    ExQueue(u32),
    /// The memory port's width does not divide requests.
    #[error(
        "dma_buswidth is {bits} bits: it must be a power of two of at least 8 and a beat must not exceed dma_maxbytes = {maxbytes}"
    )]
    BusWidth {
        /// Bits of the port.
        bits: u32,
        /// Bytes of the largest request.
        maxbytes: u32,
    },
    /// The normalization units compute on 32-bit integers (`Normalizer.scala`).
    #[error("has_normalizations needs acc_type SInt<32>, not {0}")]
    NormalizerType(SInt),
    /// Scaled stores need the scaling unit's output to exist.
    #[error("acc_read_full_width and acc_read_small_width are both off: nothing could be stored from the accumulator")]
    NoAccumulatorRead,
    /// External memories are not modelled.
    #[error("`{0}` is on: external scratchpads are not modelled")]
    ExternalMemory(&'static str),
    /// Gemmini can be built so, but is not modelled.
    #[error("`{field}` is {value}: {reason}; choose {supported}")]
    NotModelled {
        /// Field of the configuration.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
        /// What is modelled.
        supported: &'static str,
    },
}

/// Sizes that the cycle emulator's registers are made for.
pub mod limits {
    /// Banks of the scratchpad and of the accumulator: a mask has a bit for each.
    pub const BANKS: u32 = 32;
    /// Bytes of a beat on the memory port.
    pub const BEAT_BYTES: u32 = 64;
    /// Bytes of a request.
    pub const REQUEST_BYTES: u32 = 256;
    /// Requests of the reader or the writer in flight.
    pub const REQUESTS: u32 = 64;
    /// Entries of the translation buffer.
    pub const TLB_ENTRIES: u32 = 128;
}

/// Commands at the head of the execute queue that the controller decodes together (`cmd_q_heads`).
const EXECUTE_QUEUE_HEADS: u32 = 3;

/// Entries in a table of the reservation station: the models keep one bit for each in a 64-bit word.
const STATION_TABLE_LIMIT: u32 = 64;

impl GemminiConfig {
    /// Checks every rule of the generator that applies to the blocks that Pollux models.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all the broken rules.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut reasons = self.zero_fields();
        // The rules below divide by these fields.
        if reasons.is_empty() {
            self.check_array(&mut reasons);
            self.check_element_types(&mut reasons);
            self.check_queues(&mut reasons);
            self.check_dma(&mut reasons);
            self.check_options(&mut reasons);
        }
        if reasons.is_empty() {
            self.check_memories(&mut reasons);
        }
        if reasons.is_empty() {
            self.check_modelled(&mut reasons);
        }
        if reasons.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { name: self.name.clone(), reasons }) }
    }

    fn zero_fields(&self) -> Vec<Reason> {
        let scale_latency = |args: &Option<super::ScaleArgs>| args.map_or(1, |args| args.latency);
        let capacity = |capacity| match capacity {
            Capacity::Kilobytes(n) | Capacity::Matrices(n) => n,
        };
        let fields = [
            ("tile_rows", self.tile_rows),
            ("tile_columns", self.tile_columns),
            ("mesh_rows", self.mesh_rows),
            ("mesh_columns", self.mesh_columns),
            ("ld_queue_length", self.ld_queue_length),
            ("st_queue_length", self.st_queue_length),
            ("ex_queue_length", self.ex_queue_length),
            ("reservation_station_entries_ld", self.reservation_station_entries_ld),
            ("reservation_station_entries_st", self.reservation_station_entries_st),
            ("reservation_station_entries_ex", self.reservation_station_entries_ex),
            ("sp_banks", self.sp_banks),
            ("sp_capacity", capacity(self.sp_capacity)),
            ("spad_read_delay", self.spad_read_delay),
            ("acc_banks", self.acc_banks),
            ("acc_capacity", capacity(self.acc_capacity)),
            ("acc_latency", self.acc_latency),
            ("dma_maxbytes", self.dma_maxbytes),
            ("dma_buswidth", self.dma_buswidth),
            ("shifter_banks", self.shifter_banks),
            ("aligned_to", self.aligned_to),
            ("tlb_size", self.tlb_size),
            ("max_in_flight_mem_reqs", self.max_in_flight_mem_reqs),
            ("acc_scale_args.latency", scale_latency(&self.acc_scale_args)),
            ("mvin_scale_args.latency", scale_latency(&self.mvin_scale_args)),
            ("mvin_scale_acc_args.latency", scale_latency(&self.mvin_scale_acc_args)),
        ];
        fields.into_iter().filter(|(_, value)| *value == 0).map(|(field, _)| Reason::Zero(field)).collect()
    }

    fn check_array(&self, reasons: &mut Vec<Reason>) {
        let rows = u64::from(self.tile_rows) * u64::from(self.mesh_rows);
        let columns = u64::from(self.tile_columns) * u64::from(self.mesh_columns);
        if rows != columns {
            reasons.push(Reason::NotSquare { rows, columns });
        }
        if !(rows.is_power_of_two() && (2..=64).contains(&rows)) {
            reasons.push(Reason::Dim(rows));
        }
        if rows % u64::from(self.shifter_banks) != 0 {
            reasons.push(Reason::ShifterBanks { banks: self.shifter_banks, dim: rows });
        }
    }

    fn check_element_types(&self, reasons: &mut Vec<Reason>) {
        let mut check = |legal: bool, field, actual, expected| {
            if !legal {
                reasons.push(Reason::ElementType { field, actual, expected });
            }
        };
        let (input, acc, output) = (self.input_type, self.acc_type, self.spatial_array_output_type);
        check(matches!(input.bits, 8 | 16 | 32), "input_type", input, "8, 16 or 32 bits");
        check(matches!(acc.bits, 8 | 16 | 32), "acc_type", acc, "8, 16 or 32 bits");
        check(acc.bits >= input.bits, "acc_type", acc, "at least as wide as input_type");
        check(self.weight_type == input, "weight_type", self.weight_type, "as wide as input_type");
        let array_types = [
            ("spatial_array_input_type", self.spatial_array_input_type),
            ("spatial_array_weight_type", self.spatial_array_weight_type),
        ];
        for (field, array_type) in array_types {
            check((input.bits..=32).contains(&array_type.bits), field, array_type, "input_type's width to 32 bits");
        }
        let expected = "from input_type's to acc_type's width";
        check((input.bits..=acc.bits).contains(&output.bits), "spatial_array_output_type", output, expected);
    }

    fn check_queues(&self, reasons: &mut Vec<Reason>) {
        let entries = [
            ("reservation_station_entries_ld", self.reservation_station_entries_ld),
            ("reservation_station_entries_st", self.reservation_station_entries_st),
            ("reservation_station_entries_ex", self.reservation_station_entries_ex),
        ];
        let odd = entries.into_iter().filter(|(_, n)| !n.is_power_of_two());
        reasons.extend(odd.map(|(field, n)| Reason::NotPowerOfTwo { field, value: n.into() }));
        let large = entries.into_iter().filter(|(_, n)| *n > STATION_TABLE_LIMIT);
        let limit = STATION_TABLE_LIMIT.into();
        reasons.extend(large.map(|(field, n)| Reason::TooLarge { field, value: n.into(), limit }));
        if self.ex_queue_length < EXECUTE_QUEUE_HEADS {
            reasons.push(Reason::ExQueue(self.ex_queue_length));
        }
    }

    fn check_dma(&self, reasons: &mut Vec<Reason>) {
        let powers = [("dma_maxbytes", self.dma_maxbytes), ("aligned_to", self.aligned_to)];
        let odd = powers.into_iter().filter(|(_, n)| !n.is_power_of_two());
        reasons.extend(odd.map(|(field, n)| Reason::NotPowerOfTwo { field, value: n.into() }));
        let beat_fits = (1..=self.dma_maxbytes).contains(&self.beat_bytes());
        if !self.dma_buswidth.is_power_of_two() || !beat_fits {
            reasons.push(Reason::BusWidth { bits: self.dma_buswidth, maxbytes: self.dma_maxbytes });
        }
        // Counts of bytes and rows in flight are kept for requests of this size.
        if self.dma_maxbytes > 4096 {
            reasons.push(Reason::TooLarge { field: "dma_maxbytes", value: self.dma_maxbytes.into(), limit: 4096 });
        }
    }

    fn check_options(&self, reasons: &mut Vec<Reason>) {
        if self.acc_singleported && !matches!(self.acc_sub_banks, Some(1 | 2 | 4)) {
            reasons.push(Reason::SubBanks);
        }
        let can_share = self.mvin_scale_args.is_some()
            && self.mvin_scale_acc_args.is_none()
            && self.input_type.bits == self.acc_type.bits;
        if self.mvin_scale_shared && !can_share {
            reasons.push(Reason::SharedScale);
        }
        if self.num_counter > 255 {
            reasons.push(Reason::TooLarge { field: "num_counter", value: self.num_counter.into(), limit: 255 });
        }
        if self.has_normalizations && self.acc_type.bits != 32 {
            reasons.push(Reason::NormalizerType(self.acc_type));
        }
        if !self.acc_read_full_width && !self.acc_read_small_width {
            reasons.push(Reason::NoAccumulatorRead);
        }
        let external = [("use_shared_ext_mem", self.use_shared_ext_mem), ("use_tl_ext_mem", self.use_tl_ext_mem)];
        reasons.extend(external.into_iter().filter(|(_, on)| *on).map(|(field, _)| Reason::ExternalMemory(field)));
    }

    fn check_memories(&self, reasons: &mut Vec<Reason>) {
        let dim = self.dim();
        let memories = [
            ("a scratchpad", "sp_banks", self.sp_banks, self.sp_bank_entries()),
            ("an accumulator", "acc_banks", self.acc_banks, self.acc_bank_entries()),
        ];
        for (memory, banks_field, banks, rows) in memories {
            if !rows.is_power_of_two() || rows % dim != 0 {
                reasons.push(Reason::BankRows { memory, rows: rows.into(), dim: dim.into() });
            }
            if !banks.is_power_of_two() {
                reasons.push(Reason::NotPowerOfTwo { field: banks_field, value: banks.into() });
            }
        }
        let max_addr_bits = self.layout().max_addr_bits;
        if max_addr_bits + METADATA_BITS >= 32 {
            reasons.push(Reason::AddressBits(max_addr_bits));
        }
    }

    /// What the generator builds and Pollux does not model.
    fn check_modelled(&self, reasons: &mut Vec<Reason>) {
        const BANKS: &str = "one bit a bank in a 32-bit word";
        const ELEMENTS: &str = "Pollux computes on 8-bit inputs and a 32-bit accumulator only";
        const CLOCK: &str = "CLKGATE_EN would stop the clock of everything behind the command port";
        const ROWS: &str = "a weight-stationary pass has at least 4 rows, more than Gemmini's row counter for this DIM \
                            holds, so that it never ends";
        const SIZE: &str = "larger than the emulator's registers";
        let pages = self.tlb_size / 4;
        let tlb = self.tlb_size.is_multiple_of(4) && pages.is_power_of_two() && self.tlb_size <= limits::TLB_ENTRIES;
        let countable = self.dim() >= 4 || self.dataflow == Dataflow::Os;
        let requests = self.max_in_flight_mem_reqs <= limits::REQUESTS;
        let rules: [(_, String, bool, _, _); 10] = [
            ("mesh_rows * tile_rows", self.dim().to_string(), countable, ROWS, "4 to 64, or dataflow = \"os\""),
            ("clock_gate", self.clock_gate.to_string(), !self.clock_gate, CLOCK, "false"),
            ("input_type", self.input_type.to_string(), self.input_type.bits == 8, ELEMENTS, "SInt<8>"),
            ("acc_type", self.acc_type.to_string(), self.acc_type.bits == 32, ELEMENTS, "SInt<32>"),
            ("sp_banks", self.sp_banks.to_string(), self.sp_banks <= limits::BANKS, BANKS, "up to 32"),
            ("acc_banks", self.acc_banks.to_string(), self.acc_banks <= limits::BANKS, BANKS, "up to 32"),
            ("dma_buswidth", self.dma_buswidth.to_string(), self.beat_bytes() <= limits::BEAT_BYTES, SIZE, "up to 512"),
            (
                "dma_maxbytes",
                self.dma_maxbytes.to_string(),
                self.dma_maxbytes <= limits::REQUEST_BYTES,
                SIZE,
                "up to 256",
            ),
            ("max_in_flight_mem_reqs", self.max_in_flight_mem_reqs.to_string(), requests, SIZE, "up to 64"),
            ("tlb_size", self.tlb_size.to_string(), tlb, SIZE, "4 times a power of two, up to 128"),
        ];
        reasons.extend(
            rules.into_iter().filter(|rule| !rule.2).map(|(field, value, _, reason, supported)| Reason::NotModelled {
                field,
                value,
                reason,
                supported,
            }),
        );
    }
}
