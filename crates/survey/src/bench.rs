//! Operations on the emulator: exact cycles, and what they make the hardware do.

use std::collections::HashMap;

use pollux_asm::Program;
use pollux_asm::program::ElementType;
use pollux_energy::{EnergyTable, Prices};
use pollux_isa::config::Capacity;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::{
    Activation, GeluConstants, KernelError, Matmul, Norm, ProgramBuilder, ResidualAdd, ResidualAddSchedule, Schedule,
    SoftmaxConstants, View,
};
use pollux_mapper::counts::of_program;
use pollux_memory::Memory;
use pollux_sim::counts::EventCounts;
use pollux_sim::memory::MemoryModel;
use pollux_sim::observer::NoObserver;
use pollux_sim::replay::ReplayTable;
use pollux_sim::runner::Runner;

use crate::setting::StudyError;

/// Clock at which leakage is reckoned, Hz.
pub const CLOCK: f64 = 1e9;

/// Constants of the integer exponential and of GELU in units of 0.05; time does not depend on them.
const SOFTMAX: SoftmaxConstants = SoftmaxConstants { qln2: 13, qln2_inv: 5041, qb: 27, qc: 383 };
const GELU: GeluConstants = GeluConstants { qb: -50, qc: -2769 };

/// What leaves the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Result {
    /// Scaled to int8.
    Int8,
    /// The sums as they are.
    Int32,
    /// GELU of the sums.
    Gelu,
    /// Softmax of whole rows.
    Softmax,
    /// LayerNorm of whole rows.
    LayerNorm,
}

impl Result {
    fn element(self) -> ElementType {
        if self == Self::Int32 { ElementType::I32 } else { ElementType::I8 }
    }

    fn activation(self) -> Activation {
        match self {
            Self::Int8 | Self::Int32 => Activation::None,
            Self::Gelu => Activation::Gelu(GELU),
            Self::Softmax => Activation::Softmax(SOFTMAX),
            Self::LayerNorm => Activation::LayerNorm,
        }
    }
}

/// An operation on int8 matrices without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// C (m x n) = A (m x k) B (k x n).
    Product {
        /// Rows of A and C.
        m: usize,
        /// Columns of B and C.
        n: usize,
        /// What is summed over.
        k: usize,
        /// What leaves the accumulator.
        result: Result,
        /// How; by default as Gemmini's software does it, or if that does not fit by single commands.
        schedule: Option<Schedule>,
    },
    /// A pass over a matrix that normalizes its rows.
    Norm {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// int32 input, otherwise int8.
        wide: bool,
        /// Which.
        result: Result,
    },
    /// A residual addition.
    Add {
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
}

impl Work {
    /// A product as Gemmini's software does it.
    pub fn product(m: usize, n: usize, k: usize, result: Result) -> Self {
        Self::Product { m, n, k, result, schedule: None }
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        match *self {
            Self::Product { m, n, k, .. } => (m * n * k) as u64,
            _ => 0,
        }
    }

    fn emit(&self, builder: &mut ProgramBuilder, name: &str) -> std::result::Result<(), KernelError> {
        let mut place = |part: &str, rows: usize, cols: usize, element: ElementType| {
            builder.buffer(&format!("{name}.{part}"), rows, cols, element)
        };
        match *self {
            Self::Product { m, n, k, result, schedule } => {
                let (a, b) = (place("A", m, k, ElementType::I8)?, place("B", k, n, ElementType::I8)?);
                let c = place("C", m, n, result.element())?;
                let matmul = Matmul { activation: result.activation(), ..Matmul::new(a, b, c) };
                match schedule {
                    Some(schedule) => matmul.lower(builder, &schedule),
                    None => matmul.lower_auto(builder).map(drop),
                }
            }
            Self::Norm { rows, cols, wide, result } => {
                let element = if wide { ElementType::I32 } else { ElementType::I8 };
                let (input, out) = (place("in", rows, cols, element)?, place("out", rows, cols, ElementType::I8)?);
                Norm { input, out, scale: 1.0, activation: result.activation() }.lower(builder)
            }
            Self::Add { rows, cols } => {
                let [a, b, c]: [View; 3] = [
                    place("A", rows, cols, ElementType::I8)?,
                    place("B", rows, cols, ElementType::I8)?,
                    place("C", rows, cols, ElementType::I8)?,
                ];
                let schedule = ResidualAddSchedule::gemmini_default(builder.config(), rows, cols);
                ResidualAdd::new(a, b, c).lower(builder, &schedule)
            }
        }
    }
}

/// What an operation took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// From the first command until the accelerator is idle.
    pub cycles: u64,
    /// Bytes read and written at the memory port.
    pub bytes: u64,
    /// What was counted; passes of the array are those at least.
    pub counts: EventCounts,
}

impl Measured {
    /// This several times.
    #[must_use]
    pub fn times(self, n: usize) -> Self {
        let mut sum = Self::default();
        (0..n).for_each(|_| sum += self);
        sum
    }
}

impl std::ops::AddAssign for Measured {
    fn add_assign(&mut self, other: Self) {
        self.cycles += other.cycles;
        self.bytes += other.bytes;
        self.counts += other.counts;
    }
}

/// A build behind a memory, with all that was run on it.
pub struct Bench {
    config: ValidConfig,
    memory: MemoryModel,
    table: ReplayTable,
    known: HashMap<Work, Measured>,
}

impl Bench {
    /// Before the first run.
    pub fn new(config: &ValidConfig, memory: MemoryModel) -> Self {
        Self { config: config.clone(), memory, table: ReplayTable::new(), known: HashMap::new() }
    }

    /// The build.
    pub fn config(&self) -> &ValidConfig {
        &self.config
    }

    /// The memory behind its port.
    pub fn memory(&self) -> MemoryModel {
        self.memory
    }

    /// The program of operations, one after the other: each waits for the one before.
    ///
    /// # Errors
    /// An operation that does not fit.
    pub fn program(&self, works: &[Work]) -> std::result::Result<Program, KernelError> {
        let mut builder = ProgramBuilder::new(self.config.clone())?;
        for (index, work) in works.iter().enumerate() {
            let name = format!("operation{index}");
            builder.begin(&name);
            work.emit(&mut builder, &name)?;
            builder.fence();
        }
        builder.finish()
    }

    /// What an operation takes by itself.
    ///
    /// # Errors
    /// An operation that does not fit.
    pub fn run(&mut self, work: &Work) -> std::result::Result<Measured, StudyError> {
        if let Some(known) = self.known.get(work) {
            return Ok(*known);
        }
        let program = self.program(&[*work])?;
        let counts = of_program(&program).map_err(|error| StudyError::Run(error.to_string()))?.least;
        let (cycles, bytes) = self.time(&program)?;
        let measured = Measured { cycles, bytes, counts };
        self.known.insert(*work, measured);
        Ok(measured)
    }

    /// The same; none if it does not fit.
    ///
    /// # Errors
    /// A run that does not come to its end.
    pub fn run_if_it_fits(&mut self, work: &Work) -> std::result::Result<Option<Measured>, StudyError> {
        match self.run(work) {
            Ok(measured) => Ok(Some(measured)),
            Err(StudyError::Kernel(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Operations, each by itself, added up.
    ///
    /// # Errors
    /// As [`Bench::run`].
    pub fn sum(&mut self, works: &[(Work, usize)]) -> std::result::Result<Measured, StudyError> {
        let mut sum = Measured::default();
        for (work, times) in works {
            sum += self.run(work)?.times(*times);
        }
        Ok(sum)
    }

    /// Cycles of a program, and bytes at the memory port.
    ///
    /// # Errors
    /// A run that does not come to its end, or a rule of the RTL that is broken.
    pub fn time(&mut self, program: &Program) -> std::result::Result<(u64, u64), StudyError> {
        let mut runner = Runner::new(&self.config).memory(self.memory).without_values().replay_table(&mut self.table);
        let outcome = runner.run(program.items.clone(), Memory::new(), &mut NoObserver);
        let summary = outcome.map_err(|stopped| StudyError::Run(stopped.error.to_string()))?.summary;
        if let Some(violated) = summary.violations.iter().find(|violated| !violated.violation.is_harmless()) {
            return Err(StudyError::Run(violated.to_string()));
        }
        Ok((summary.busy_falls, summary.traffic.read_bytes + summary.traffic.written_bytes))
    }
}

/// The survey's build with other memories, in KiB.
///
/// # Errors
/// Sizes that the generator does not have.
pub fn sized(scratchpad: u32, accumulator: u32) -> std::result::Result<ValidConfig, StudyError> {
    let config = GemminiConfig {
        name: format!("survey {scratchpad}/{accumulator} KiB"),
        sp_capacity: Capacity::Kilobytes(scratchpad),
        acc_capacity: Capacity::Kilobytes(accumulator),
        // As for `survey_rebalanced`: the rule that is broken is one of a front end that is not instantiated.
        as_published: true,
        ..GemminiConfig::survey_baseline()
    };
    config.validated().map_err(|error| StudyError::Setting(error.to_string()))
}

/// Names of the tables that every energy is reckoned with; figures show the first.
pub const ENERGY_TABLES: [&str; 3] = ["horowitz45-lpddr4", "aladdin45-ddr3", "cacti22-lpddr4"];

/// Prices on a build, by all tables.
///
/// # Errors
/// A table without a figure for one of its memories.
pub fn prices(config: &ValidConfig) -> std::result::Result<Vec<Prices>, StudyError> {
    let of = |name: &&str| Ok(EnergyTable::by_name(name)?.prices(config)?);
    ENERGY_TABLES.iter().map(of).collect()
}

/// Energy in mJ.
pub fn millijoules(prices: &Prices, measured: &Measured) -> f64 {
    prices.energy_pj(&measured.counts, measured.cycles, CLOCK) * 1e-9
}

#[cfg(test)]
mod tests {
    use pollux_sim::counts::CountingObserver;

    use super::*;

    /// The predicted counts are those of a run, for each kind of operation.
    #[test]
    fn counts_are_those_of_a_simulation() {
        let config = sized(64, 64).unwrap();
        let mut bench = Bench::new(&config, MemoryModel::default());
        let works = [
            Work::product(32, 48, 64, Result::Int8),
            Work::product(32, 48, 64, Result::Gelu),
            Work::product(32, 48, 64, Result::LayerNorm),
            Work::product(40, 64, 16, Result::Softmax),
            Work::product(32, 48, 64, Result::Int32),
            Work::Norm { rows: 32, cols: 64, wide: true, result: Result::LayerNorm },
            Work::Norm { rows: 32, cols: 64, wide: false, result: Result::Softmax },
            Work::Add { rows: 32, cols: 64 },
        ];
        for work in works {
            let program = bench.program(&[work]).unwrap();
            let predicted = of_program(&program).unwrap();
            let mut counter = CountingObserver::default();
            let mut runner = Runner::new(&config).without_values();
            let outcome = runner.run(program.items.clone(), Memory::new(), &mut counter).unwrap();
            assert!(predicted.agrees(&counter.total()), "{work:?}");
            let measured = bench.run(&work).unwrap();
            assert_eq!(measured.cycles, outcome.summary.busy_falls, "{work:?}");
            assert_eq!(measured.bytes, predicted.bytes(), "{work:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut bench = Bench::new(&sized(64, 64).unwrap(), MemoryModel::default());
        let fused = Work::product(16, 4096, 64, Result::Softmax);
        assert_eq!(bench.run_if_it_fits(&fused).unwrap(), None);
    }
}
