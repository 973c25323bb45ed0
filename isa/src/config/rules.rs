//! The rules of configurations as a table: whose rule it is, and what a configuration that breaks it is told.
//!
//! The rules of the generator are the `require`s and `assert`s that run at elaboration, and what Chisel 3.6 and
//! rocket-chip cannot build; each names the line of Gemmini at commit 8c3f992 at which elaboration stops.

use super::error::Source::{self, Generator, Hardware, Lossy, Model};
use super::{Capacity, Dataflow, GemminiConfig, Revision, ScaleArgs, ScaleUnits};
use crate::local_addr::METADATA_BITS;

/// Sizes that the cycle emulator's registers are made for.
pub mod limits {
    /// Rows and columns of the array.
    pub const DIM: u32 = 64;
    /// Banks of the scratchpad and of the accumulator: a mask has a bit for each.
    pub const BANKS: u32 = 32;
    /// Entries in a table of the reservation station: a mask has a bit for each.
    pub const STATION_ENTRIES: u32 = 64;
    /// Bytes of a beat on the memory port.
    pub const BEAT_BYTES: u32 = 64;
    /// Bytes of a request.
    pub const REQUEST_BYTES: u32 = 256;
    /// Requests of the reader or the writer in flight: a mask has a bit for each.
    pub const REQUESTS: u32 = 64;
    /// Entries of the translation buffer.
    pub const TLB_ENTRIES: u32 = 128;
    /// Registers behind a scratchpad bank, in the revision that has them: a mask has a bit for each.
    pub const SPAD_REGISTERS: u32 = 32;
}

/// Multipliers of the accumulator's scaling unit that are built for normalizations (`num_units_with_norm`,
/// `AccumulatorScale.scala`).
const UNITS_WITH_NORM: u32 = 4;

/// Rows that a scaling unit with shared multipliers works on (`nEntries`, `AccumulatorScale.scala`,
/// `VectorScalarMultiplier.scala`).
const SCALE_ENTRIES: u32 = 3;

/// Commands at the head of the execute queue that the controller decodes together (`cmd_q_heads`).
const EXECUTE_QUEUE_HEADS: u32 = 3;

/// Rows of the shortest weight-stationary pass (`total_rows`, `ExecuteController.scala`).
const SHORTEST_PASS: u32 = 4;

/// Pages of a TLB entry (`nSectors` of rocket-chip's `TLBConfig`).
const SECTORS: u32 = 4;

/// What becomes of a configuration that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It is refused.
    Error,
    /// It is used with a warning.
    Warning,
}

/// A rule.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub source: Source,
    pub severity: fn(&GemminiConfig) -> Severity,
    /// Everything that breaks the rule.
    pub complaints: fn(&GemminiConfig) -> Vec<String>,
}

const fn rule(source: Source, complaints: fn(&GemminiConfig) -> Vec<String>) -> Rule {
    Rule { source, severity: |_| Severity::Error, complaints }
}

const fn warning(source: Source, complaints: fn(&GemminiConfig) -> Vec<String>) -> Rule {
    Rule { source, severity: |_| Severity::Warning, complaints }
}

/// One complaint, if there is a reason for it.
fn complain(broken: bool, message: impl FnOnce() -> String) -> Vec<String> {
    if broken { vec![message()] } else { Vec::new() }
}

fn each<T: Copy, const N: usize>(fields: [(&str, T); N], complaint: impl Fn(&str, T) -> Option<String>) -> Vec<String> {
    fields.into_iter().filter_map(|(field, value)| complaint(field, value)).collect()
}

fn zeros<const N: usize>(fields: [(&str, u32); N]) -> Vec<String> {
    each(fields, |field, value| (value == 0).then(|| format!("`{field}` must be at least 1")))
}

fn odd<const N: usize>(fields: [(&str, u32); N]) -> Vec<String> {
    let message = |field: &str, value: u32| format!("`{field}` is {value}: it must be a power of two");
    each(fields, |field, value| (!value.is_power_of_two()).then(|| message(field, value)))
}

fn above<const N: usize>(fields: [(&str, u32, u32); N]) -> Vec<String> {
    let broken = fields.into_iter().filter(|(_, value, limit)| value > limit);
    broken.map(|(field, value, limit)| format!("`{field}` is {value}: it must be at most {limit}")).collect()
}

fn station(c: &GemminiConfig) -> [(&'static str, u32); 3] {
    [
        ("reservation_station_entries_ld", c.reservation_station_entries_ld),
        ("reservation_station_entries_st", c.reservation_station_entries_st),
        ("reservation_station_entries_ex", c.reservation_station_entries_ex),
    ]
}

fn array_sides(c: &GemminiConfig) -> (u64, u64) {
    let side = |tile: u32, mesh: u32| u64::from(tile) * u64::from(mesh);
    (side(c.tile_rows, c.mesh_rows), side(c.tile_columns, c.mesh_columns))
}

fn amount(capacity: Capacity) -> u32 {
    match capacity {
        Capacity::Kilobytes(n) | Capacity::Matrices(n) => n,
    }
}

fn latency(args: &Option<ScaleArgs>) -> u32 {
    args.map_or(1, |args| args.latency)
}

fn shared_units(args: &Option<ScaleArgs>) -> Option<u32> {
    match args.map(|args| args.units) {
        Some(ScaleUnits::Count(n)) => Some(n),
        _ => None,
    }
}

/// Execute queue entries for products with transposed weights. While a compute overlaps with the first of the four commands of the
/// next product, the next two must enter, and one more where an overlapped pass waits for a third command
/// (`third_instruction_needed`, `ExecuteController.scala`).
fn transposed_weights_queue(c: &GemminiConfig) -> u32 {
    if c.ex_read_from_acc || c.ex_write_to_spad { 5 } else { 4 }
}

/// The rules in stages: each stage takes the ones before for granted.
pub(super) const STAGES: [&[Rule]; 4] = [NONZERO, RECORD, MEMORIES, MODELS];

/// What other rules divide by, and queues that need an entry.
const NONZERO: &[Rule] = &[
    rule(Generator("GemminiConfigs.scala:107"), |c| {
        zeros([
            ("tile_rows", c.tile_rows),
            ("tile_columns", c.tile_columns),
            ("mesh_rows", c.mesh_rows),
            ("mesh_columns", c.mesh_columns),
            ("sp_banks", c.sp_banks),
            ("sp_capacity", amount(c.sp_capacity)),
            ("acc_banks", c.acc_banks),
            ("acc_capacity", amount(c.acc_capacity)),
        ])
    }),
    rule(Generator("ReservationStation.scala:118"), |c| zeros(station(c))),
    rule(Generator("GemminiConfigs.scala:165"), |c| zeros([("acc_scale_args.latency", latency(&c.acc_scale_args))])),
    rule(Generator("DMA.scala:133"), |c| zeros([("aligned_to", c.aligned_to)])),
    rule(Generator("DMA.scala:373"), |c| zeros([("dma_buswidth", c.dma_buswidth), ("dma_maxbytes", c.dma_maxbytes)])),
    rule(Generator("MeshWithDelays.scala:71"), |c| zeros([("shifter_banks", c.shifter_banks)])),
    rule(Generator("DMA.scala:396"), |c| zeros([("max_in_flight_mem_reqs", c.max_in_flight_mem_reqs)])),
    rule(Model, |c| {
        zeros([
            ("ld_queue_length", c.ld_queue_length),
            ("st_queue_length", c.st_queue_length),
            ("spad_read_delay", c.spad_read_delay),
            ("mvin_scale_args.latency", latency(&c.mvin_scale_args)),
            ("mvin_scale_acc_args.latency", latency(&c.mvin_scale_acc_args)),
        ])
    }),
];

/// Rules on the fields of the record.
const RECORD: &[Rule] = &[
    rule(Generator("GemminiConfigs.scala:191"), |c| {
        let (rows, columns) = array_sides(c);
        complain(rows != columns, || {
            format!(
                "the array must be square, not {rows} x {columns}: tile_rows * mesh_rows must equal \
                 tile_columns * mesh_columns"
            )
        })
    }),
    rule(Generator("GemminiConfigs.scala:277"), |c| {
        let (rows, _) = array_sides(c);
        complain(rows < 2 || !rows.is_power_of_two(), || {
            format!("DIM is {rows}: it must be a power of two from 4 to {}", limits::DIM)
        })
    }),
    rule(Generator("MeshWithDelays.scala:71"), |c| {
        let (rows, _) = array_sides(c);
        let banks = c.shifter_banks;
        complain(rows % u64::from(banks) != 0, || format!("`shifter_banks` is {banks}: it must divide DIM = {rows}"))
    }),
    rule(Generator("GemminiConfigs.scala:326"), |c| {
        let types = [("input_type", c.input_type), ("acc_type", c.acc_type)];
        each(types, |field, ty| {
            let broken = !matches!(ty.bits, 8 | 16 | 32 | 64);
            broken.then(|| format!("`{field}` is {ty}, which does not fit: 8, 16, 32 or 64 bits"))
        })
    }),
    rule(Generator("GemminiConfigs.scala:105"), |c| {
        complain(c.weight_type != c.input_type, || {
            format!("`weight_type` is {}, which does not fit: as wide as input_type", c.weight_type)
        })
    }),
    rule(Generator("ReservationStation.scala:118"), |c| odd(station(c))),
    // A table of two entries selects with a Bool, which Chisel cannot pad to the width of the largest table.
    rule(Generator("ReservationStation.scala:441"), |c| {
        each(station(c), |field, entries| {
            let broken = entries == 2 && c.res_max_per_type() > 2;
            broken.then(|| format!("`{field}` is 2: it must be 1, or at least 4, unless no table has more than 2"))
        })
    }),
    rule(Hardware("ReservationStation.scala:398"), |c| {
        complain(c.reservation_station_entries_ex == 1, || {
            "`reservation_station_entries_ex` is 1: a PRELOAD leaves its entry only with its COMPUTE, which needs a \
             second one; choose 2 or more"
                .to_owned()
        })
    }),
    rule(Generator("ExecuteController.scala:67"), |c| {
        complain(c.ex_queue_length < EXECUTE_QUEUE_HEADS, || {
            format!(
                "ex_queue_length is {}: the execute controller needs at least {EXECUTE_QUEUE_HEADS}",
                c.ex_queue_length
            )
        })
    }),
    rule(Generator("DMA.scala:133"), |c| odd([("aligned_to", c.aligned_to)])),
    // The byte mask of zeros has a bit for every byte, the port's only one for every `aligned_to` bytes.
    rule(Generator("Scratchpad.scala:381"), |c| {
        complain(c.aligned_to.is_power_of_two() && c.aligned_to > 1, || {
            format!("`aligned_to` is {}: only 1 fits the masks of the zero writer", c.aligned_to)
        })
    }),
    rule(Generator("DMA.scala:197"), |c| {
        let fits = c.dma_buswidth.is_power_of_two() && (1..=c.dma_maxbytes).contains(&c.beat_bytes());
        complain(!fits, || {
            format!(
                "dma_buswidth is {} bits: it must be a power of two of at least 8 and a beat must not exceed \
                 dma_maxbytes = {}",
                c.dma_buswidth, c.dma_maxbytes
            )
        })
    }),
    rule(Hardware("DMA.scala:513"), |c| {
        complain(c.max_in_flight_mem_reqs == 1, || {
            "`max_in_flight_mem_reqs` is 1: the writer sends the later beats of a request only while another request \
             is free; choose 2 or more"
                .to_owned()
        })
    }),
    rule(Generator("FrontendTLB.scala:46"), |c| {
        complain(c.tlb_size < SECTORS, || {
            format!(
                "`tlb_size` is {}: rocket-chip's TLB keeps {SECTORS} pages in an entry and would have none; choose \
                 {SECTORS} or more",
                c.tlb_size
            )
        })
    }),
    rule(Generator("AccumulatorMem.scala:111"), |c| {
        complain(c.acc_latency < 2, || format!("`acc_latency` is {}: it must be at least 2", c.acc_latency))
    }),
    rule(Generator("GemminiConfigs.scala:115"), |c| {
        complain(c.acc_singleported && !matches!(c.acc_sub_banks, Some(1 | 2 | 4)), || {
            "a single-ported accumulator needs acc_sub_banks of 1, 2 or 4".to_owned()
        })
    }),
    // One line keeps this revision from building what its own chipConfig asks for; without it, it does.
    warning(Generator("AccumulatorMem.scala:223"), |c| {
        complain(c.acc_singleported && !c.use_shared_ext_mem, || {
            "`acc_singleported` is on: this revision stops at a port that only builds with use_shared_ext_mem \
             have; Pollux models the accumulator as it is without that line"
                .to_owned()
        })
    }),
    warning(Lossy("AccumulatorMem.scala:297"), |c| {
        complain(c.acc_singleported && c.acc_sub_banks == Some(1), || {
            "`acc_sub_banks` is 1: results that accumulate read their rows in every cycle, so that the queue of three writes \
             overflows; rows are lost, and a later access to a row of the queue can wait forever; choose 2 or 4"
                .to_owned()
        })
    }),
    // Results for one row come a pass apart; an accumulating write holds its row until the memory has it.
    warning(Lossy("ExecuteController.scala:962"), |c| {
        let pass = if c.dataflow == Dataflow::Os { c.dim() } else { SHORTEST_PASS };
        let held = c.acc_latency.saturating_add(c.acc_singleported.into());
        complain(held >= pass, || {
            let port = if c.acc_singleported { ", with one port" } else { "" };
            format!(
                "`acc_latency` is {}{port}: sums of products in a row lose some, as the next result for a row comes after {pass} \
                 cycles and is not taken; choose {} or less",
                c.acc_latency,
                c.acc_latency - (held + 1 - pass)
            )
        })
    }),
    warning(Lossy("ExecuteController.scala:613"), |c| {
        let needed = transposed_weights_queue(c);
        complain(c.dataflow != Dataflow::Os && c.ex_queue_length < needed, || {
            format!(
                "`ex_queue_length` is {}: weight-stationary products with transposed weights (CONFIG_EX) can lose the \
                 weights, as their second PRELOAD comes too late; choose {needed} or more",
                c.ex_queue_length
            )
        })
    }),
    rule(Generator("GemminiConfigs.scala:279"), |c| {
        let can_share =
            c.mvin_scale_args.is_some() && c.mvin_scale_acc_args.is_none() && c.input_type.bits == c.acc_type.bits;
        complain(c.mvin_scale_shared && !can_share, || {
            "mvin_scale_shared needs mvin_scale_args, no mvin_scale_acc_args, and input_type as wide as acc_type"
                .to_owned()
        })
    }),
    rule(Generator("GemminiConfigs.scala:271"), |c| above([("num_counter", c.num_counter, 255)])),
    rule(Generator("Normalizer.scala:774"), |c| {
        complain(c.has_normalizations && c.acc_type.bits != 32, || {
            format!("has_normalizations needs acc_type SInt<32>, not {}", c.acc_type)
        })
    }),
    // The multipliers without normalizations are numbered from 4 on: the first four would have no inputs.
    rule(Generator("AccumulatorScale.scala:316"), |c| {
        let units = shared_units(&c.acc_scale_args).filter(|_| !c.has_normalizations);
        units.map_or(Vec::new(), |n| {
            vec![format!(
                "`acc_scale_args.units` is {n}: without has_normalizations only -1 (one for each column) is possible"
            )]
        })
    }),
    rule(Generator("AccumulatorScale.scala:231"), |c| {
        let units = shared_units(&c.acc_scale_args).filter(|n| c.has_normalizations && *n < UNITS_WITH_NORM);
        units.map_or(Vec::new(), |n| {
            vec![format!(
                "`acc_scale_args.units` is {n}: {UNITS_WITH_NORM} are needed for normalizations; choose \
                 {UNITS_WITH_NORM} or more, or -1 (one for each column)"
            )]
        })
    }),
    rule(Generator("AccumulatorScale.scala:318"), |c| {
        let largest = SCALE_ENTRIES.saturating_mul(c.dim()).saturating_add(UNITS_WITH_NORM);
        above([("acc_scale_args.units", shared_units(&c.acc_scale_args).unwrap_or(0), largest)])
    }),
    rule(Generator("VectorScalarMultiplier.scala:160"), |c| {
        let largest = SCALE_ENTRIES.saturating_mul(c.dim());
        above([
            ("mvin_scale_args.units", shared_units(&c.mvin_scale_args).unwrap_or(0), largest),
            ("mvin_scale_acc_args.units", shared_units(&c.mvin_scale_acc_args).unwrap_or(0), largest),
        ])
    }),
];

/// Rules on the memories, whose sizes follow from several fields.
const MEMORIES: &[Rule] = &[
    rule(Generator("GemminiConfigs.scala:273"), |c| bank_rows("a scratchpad", c.sp_bank_entries(), c.dim())),
    rule(Generator("GemminiConfigs.scala:278"), |c| bank_rows("an accumulator", c.acc_bank_entries(), c.dim())),
    rule(Generator("AccumulatorMem.scala:222"), |c| {
        let (sub_banks, rows) = (c.acc_sub_banks.unwrap_or(1), c.acc_bank_entries());
        complain(c.acc_singleported && sub_banks > rows, || {
            format!("`acc_sub_banks` is {sub_banks}: it must not exceed the {rows} rows of an accumulator bank")
        })
    }),
    rule(Model, |c| odd([("sp_banks", c.sp_banks), ("acc_banks", c.acc_banks)])),
    rule(Generator("LocalAddr.scala:27"), |c| {
        let bits = c.layout().max_addr_bits;
        complain(bits + METADATA_BITS >= 32, || {
            format!(
                "local addresses need {bits} row bits: more than the 25 that fit beside the 6 control bits and the \
                 garbage bit"
            )
        })
    }),
    Rule {
        // Only the CISC front end, which is not instantiated, depends on it.
        severity: |c| if c.as_published { Severity::Warning } else { Severity::Error },
        ..rule(Generator("GemminiConfigs.scala:257"), |c| {
            let (spad, acc) = (c.sp_rows() / c.dim(), c.acc_rows() / c.dim());
            complain(spad < acc.saturating_add(2), || {
                format!(
                    "the scratchpad holds {spad} matrices: it must hold at least two more than the accumulator's {acc}"
                )
            })
        })
    },
];

fn bank_rows(memory: &str, rows: u32, dim: u32) -> Vec<String> {
    complain(!rows.is_power_of_two() || !rows.is_multiple_of(dim), || {
        format!("{memory} bank has {rows} rows: that must be a power of two and a multiple of DIM = {dim}")
    })
}

/// What the generator builds, and Pollux does not model.
const MODELS: &[Rule] = &[
    rule(Hardware("MeshWithDelays.scala:98"), |c| {
        complain(c.dim() < 4 && c.dataflow != Dataflow::Os, || {
            format!(
                "DIM is {}: a weight-stationary pass has at least 4 rows, more than the row counter holds; choose 4 or \
                 more",
                c.dim()
            )
        })
    }),
    // The generator's own doubt about matrices of this size stands above `AccumulatorMemIO`.
    rule(Model, |c| {
        complain(c.dim() < 4 && c.dataflow == Dataflow::Os, || {
            format!(
                "DIM is {}: output-stationary sums over more than one tile come faster than the accumulator takes them; \
                 choose 4 or more",
                c.dim()
            )
        })
    }),
    // A flush takes its dataflow from the oldest entry of the control queue: with two dataflows, a shorter queue has only
    // entries from after the last CONFIG_EX, as a preload has DIM rows and a compute at least 4.
    warning(Model, |c| {
        complain(c.dataflow == Dataflow::Both && c.spad_read_delay >= c.dim().saturating_add(4), || {
            format!(
                "`spad_read_delay` is {}: after a change of the dataflow, a flush may take the former one, and with it the \
                 last rows of a result; below {} it cannot",
                c.spad_read_delay,
                c.dim().saturating_add(4)
            )
        })
    }),
    rule(Model, |c| {
        complain(c.clock_gate, || {
            "`clock_gate` is on: CLKGATE_EN would stop the clock of everything behind the command port; choose false"
                .to_owned()
        })
    }),
    rule(Model, |c| {
        let external = [("use_shared_ext_mem", c.use_shared_ext_mem), ("use_tl_ext_mem", c.use_tl_ext_mem)];
        each(external, |field, on| on.then(|| format!("`{field}` is on: external scratchpads; choose false")))
    }),
    rule(Model, |c| {
        let types = [("input_type", (c.input_type, 8)), ("acc_type", (c.acc_type, 32))];
        each(types, |field, (ty, bits)| {
            (ty.bits != bits).then(|| format!("`{field}` is {ty}: elements are SInt<8>, sums SInt<32>"))
        })
    }),
    rule(Model, |c| {
        let (input, acc) = (c.input_type.bits, c.acc_type.bits);
        let types = [
            ("spatial_array_input_type", (c.spatial_array_input_type, 32, "input_type's width to 32 bits")),
            ("spatial_array_weight_type", (c.spatial_array_weight_type, 32, "input_type's width to 32 bits")),
            ("spatial_array_output_type", (c.spatial_array_output_type, acc, "from input_type's to acc_type's width")),
        ];
        each(types, |field, (ty, widest, expected)| {
            let broken = !(input..=widest).contains(&ty.bits);
            broken.then(|| format!("`{field}` is {ty}, which does not fit: {expected}"))
        })
    }),
    rule(Model, |c| {
        complain(!c.acc_read_full_width && !c.acc_read_small_width, || {
            "acc_read_full_width and acc_read_small_width are both off: nothing could be stored from the accumulator"
                .to_owned()
        })
    }),
    rule(Model, |c| above(station(c).map(|(field, entries)| (field, entries, limits::STATION_ENTRIES)))),
    rule(Model, |c| {
        above([
            ("mesh_rows * tile_rows", c.dim(), limits::DIM),
            ("sp_banks", c.sp_banks, limits::BANKS),
            ("acc_banks", c.acc_banks, limits::BANKS),
            ("dma_buswidth", c.dma_buswidth, 8 * limits::BEAT_BYTES),
            ("dma_maxbytes", c.dma_maxbytes, limits::REQUEST_BYTES),
            ("max_in_flight_mem_reqs", c.max_in_flight_mem_reqs, limits::REQUESTS),
            ("tlb_size", c.tlb_size, limits::TLB_ENTRIES),
            ("paddr_bits", c.paddr_bits, super::CORE_MAX_ADDR_BITS),
        ])
    }),
    rule(Model, |c| {
        let registers = if c.revision == Revision::March2023 { c.spad_read_delay } else { 0 };
        above([("spad_read_delay", registers, limits::SPAD_REGISTERS)])
    }),
    rule(Model, |c| odd([("dma_maxbytes", c.dma_maxbytes)])),
    rule(Model, |c| {
        complain(!(c.tlb_size / SECTORS).is_power_of_two(), || {
            format!("`tlb_size` is {}: it must be {SECTORS} times a power of two", c.tlb_size)
        })
    }),
    rule(Model, |c| {
        complain(c.paddr_bits < 20, || format!("`paddr_bits` is {}: it must be at least 20", c.paddr_bits))
    }),
];
