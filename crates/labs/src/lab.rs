//! [`Lab`]: the description of a task.

use serde::Deserialize;

use crate::fault;

/// A task.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lab {
    /// Its number.
    pub number: u32,
    /// Its title.
    pub title: String,
    /// What is learned.
    pub goal: String,
    /// What is to be done.
    pub task: String,
    /// What is handed in, and what it is held against.
    pub work: Work,
    /// What one begins with; of a program that is made from a seed, its head.
    #[serde(skip)]
    pub(crate) head: &'static str,
    /// A solution that is accepted.
    #[serde(skip)]
    pub reference: &'static str,
    /// Solutions that are not, and why: the verdict's name, perhaps with `-` and more, and the text.
    #[serde(skip)]
    pub wrong: &'static [(&'static str, &'static str)],
}

/// What is handed in.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A program, which runs on hidden data.
    Program(ProgramWork),
    /// Where and when a program that is made from a seed goes wrong.
    Fault(FaultWork),
    /// A configuration and mappings, which run a hidden layer as well.
    Design(DesignWork),
}

impl Work {
    /// Its kind: `program`, `fault` or `design`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Program(_) => "program",
            Self::Fault(_) => "fault",
            Self::Design(_) => "design",
        }
    }
}

impl Lab {
    /// Configuration that the lab is about.
    pub fn config(&self) -> &str {
        match &self.work {
            Work::Program(work) => &work.config,
            Work::Fault(work) => &work.config,
            Work::Design(work) => &work.base,
        }
    }

    /// What one begins with depends on a seed.
    pub fn starter_has_seed(&self) -> bool {
        matches!(self.work, Work::Fault(_))
    }

    /// What one begins with: a program, or an answer with gaps. The seed makes a difference only if [`Lab::starter_has_seed`].
    pub fn starter(&self, seed: u64) -> String {
        match &self.work {
            Work::Fault(work) => fault::Case::new(work, self.head, seed).text,
            Work::Program(_) | Work::Design(_) => self.head.to_owned(),
        }
    }

    /// An answer in TOML with gaps, if that is what is handed in.
    pub fn answer(&self, seed: u64) -> Option<String> {
        match &self.work {
            Work::Program(_) => None,
            Work::Fault(_) => Some(fault::answer(seed)),
            Work::Design(_) => Some(self.head.to_owned()),
        }
    }

    /// What a solution must keep to, a line each.
    pub fn rules(&self) -> Vec<String> {
        match &self.work {
            Work::Program(work) => work.limits.rules(),
            Work::Fault(_) => Vec::new(),
            Work::Design(work) => work.rules(),
        }
    }
}

/// A program that computes what is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramWork {
    /// Configuration that a solution is made for.
    pub config: String,
    /// Buffers that a solution declares, without contents.
    pub buffers: Vec<BufferSpec>,
    /// What must stand in the result.
    pub expected: Expected,
    /// What a solution must keep to.
    pub limits: Limits,
}

/// A product C = A B, tile by tile, with a fault in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultWork {
    /// Configuration of the program.
    pub config: String,
    /// Tiles of DIM: rows of C, columns of C, and those that are summed over.
    pub tiles: [u32; 3],
    /// Commands, or pairs of them, that do not belong to the product; one is the fault.
    pub strangers: usize,
}

/// A configuration under a budget, and a mapping for each layer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesignWork {
    /// Configuration from which all fields come that may not be chosen.
    pub base: String,
    /// Fields of the configuration that may be chosen.
    pub free: Vec<String>,
    /// What is built at most.
    pub budget: Budget,
    /// Memory behind the accelerator.
    pub memory: String,
    /// Layers that are known: products.
    pub layers: Vec<Layer>,
    /// Multiply-accumulates of the hidden layer, about.
    pub hidden_macs: u64,
    /// Smallest and largest extent of the hidden layer; it has multiples of the base's DIM.
    pub hidden_extents: [u64; 2],
    /// Most cycles, the geometric mean over all layers.
    pub cycles: u64,
}

/// The most that is built.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bytes of scratchpad and accumulator together.
    pub local_bytes: u64,
    /// Processing elements.
    pub processing_elements: u64,
}

/// A layer: A (m x k) B (k x n).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Columns of B and C.
    pub n: usize,
}

/// A buffer in main memory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BufferSpec {
    /// Its name.
    pub name: String,
    /// `i8` or `i32`.
    pub element: String,
    /// Extent of each dimension.
    pub shape: Vec<u64>,
    /// Smallest and largest value that it is filled with; none for a result.
    pub range: Option<[i32; 2]>,
}

/// What a result must be: the product `C = A B + D`, then scaled, cut to int8 and made positive as the lab says. Without factors it is
/// what the reference solution leaves on the functional model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Left and right factor.
    pub product: Option<[String; 2]>,
    /// A row of 32-bit numbers that is added to every row.
    pub bias: Option<String>,
    /// The result.
    pub c: String,
    /// Scale of an int8 result.
    pub scale: Option<f32>,
    /// Negative results become 0.
    #[serde(default)]
    pub relu: bool,
}

/// What a solution must keep to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Cycles behind each memory: its text form, and the most cycles.
    pub memories: Vec<(String, u64)>,
    /// Instructions that may not be used.
    #[serde(default)]
    pub forbidden: Vec<String>,
    /// Stalls by cause.
    #[serde(default)]
    pub causes: Vec<CauseLimit>,
    /// Dataflow of every CONFIG_EX: `ws` or `os`.
    pub dataflow: Option<String>,
    /// Part of the cycles in which a row enters the array, at least.
    pub array_busy: Option<f64>,
}

/// The most cycles that a block may be stalled for a cause.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CauseLimit {
    /// The block.
    pub block: String,
    /// The cause.
    pub cause: String,
    /// Cycles.
    pub cycles: u64,
}

impl Limits {
    fn rules(&self) -> Vec<String> {
        let cycles =
            self.memories.iter().map(|(memory, cycles)| format!("at most {cycles} cycles with --memory {memory}"));
        let forbidden = (!self.forbidden.is_empty()).then(|| format!("without {}", self.forbidden.join(", ")));
        let causes = self
            .causes
            .iter()
            .map(|limit| format!("{} waits at most {} cycles for {}", limit.block, limit.cycles, limit.cause));
        let busy = self
            .array_busy
            .map(|least| format!("a row enters the array in at least {:.0} % of the cycles", 100.0 * least));
        cycles.chain(forbidden).chain(causes).chain(busy).collect()
    }
}

macro_rules! labs {
    ($($number:literal $starter:literal $solution:literal: $($wrong:literal),*;)*) => {
        /// All labs, by number.
        pub fn all() -> Vec<Lab> {
            vec![$(made(
                include_str!(concat!("../labs/", $number, "/lab.toml")),
                include_str!(concat!("../labs/", $number, "/starter.", $starter)),
                include_str!(concat!("../labs/", $number, "/reference.", $solution)),
                &[$(($wrong, include_str!(concat!("../labs/", $number, "/wrong/", $wrong, ".", $solution)))),*],
            )),*]
        }
    };
}

labs! {
    "1" "pasm" "pasm": "wrong_result", "illegal", "did_not_end", "rule_broken", "not_assembled", "other_task";
    "2" "pasm" "pasm": "wrong_result", "rule_broken", "other_task";
    "3" "pasm" "toml": "wrong_result-command", "wrong_result-place", "wrong_result-cycle", "not_read", "other_task";
    "4" "pasm" "pasm": "wrong_result", "too_slow", "rule_broken";
    "5" "pasm" "pasm": "wrong_result", "rule_broken", "illegal";
    "6" "pasm" "pasm": "wrong_result", "too_slow", "rule_broken";
    "7" "pasm" "pasm": "wrong_result", "other_task", "illegal";
    "8" "pasm" "pasm": "wrong_result", "too_slow", "rule_broken";
    "9" "pasm" "pasm": "wrong_result", "too_slow", "illegal";
    "10" "toml" "toml": "too_slow", "rule_broken-bytes", "rule_broken-field", "illegal-schedule", "illegal-config", "not_read", "other_task";
}

fn made(
    description: &str,
    head: &'static str,
    reference: &'static str,
    wrong: &'static [(&'static str, &'static str)],
) -> Lab {
    let lab: Lab = toml::from_str(description).expect("the labs' descriptions are tested");
    Lab { head, reference, wrong, ..lab }
}

/// The lab of this number.
pub fn lab(number: u32) -> Option<Lab> {
    all().into_iter().find(|lab| lab.number == number)
}
