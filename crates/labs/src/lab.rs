//! [`Lab`]: the description of a task.

use serde::Deserialize;

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
    /// Configuration that a solution is made for.
    pub config: String,
    /// Buffers that a solution declares, without contents.
    pub buffers: Vec<BufferSpec>,
    /// What must stand in the result.
    pub expected: Expected,
    /// What a solution must keep to.
    pub limits: Limits,
    /// What one begins with.
    #[serde(skip)]
    pub starter: &'static str,
    /// A solution that is accepted.
    #[serde(skip)]
    pub reference: &'static str,
    /// Solutions that are not, and why: the verdict's name, and the text.
    #[serde(skip)]
    pub wrong: &'static [(&'static str, &'static str)],
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

macro_rules! labs {
    ($($number:literal: $($wrong:literal),*;)*) => {
        /// All labs, by number.
        pub fn all() -> Vec<Lab> {
            vec![$(made(
                include_str!(concat!("../labs/", $number, "/lab.toml")),
                include_str!(concat!("../labs/", $number, "/starter.pasm")),
                include_str!(concat!("../labs/", $number, "/reference.pasm")),
                &[$(($wrong, include_str!(concat!("../labs/", $number, "/wrong/", $wrong, ".pasm")))),*],
            )),*]
        }
    };
}

labs! {
    "1": "wrong_result", "illegal", "did_not_end", "rule_broken", "not_assembled", "other_task";
    "2": "wrong_result", "rule_broken", "other_task";
    "4": "wrong_result", "too_slow", "rule_broken";
    "5": "wrong_result", "rule_broken", "illegal";
    "6": "wrong_result", "too_slow", "rule_broken";
    "7": "wrong_result", "other_task", "illegal";
    "8": "wrong_result", "too_slow", "rule_broken";
    "9": "wrong_result", "too_slow", "illegal";
}

fn made(
    description: &str,
    starter: &'static str,
    reference: &'static str,
    wrong: &'static [(&'static str, &'static str)],
) -> Lab {
    let lab: Lab = toml::from_str(description).expect("the labs' descriptions are tested");
    Lab { starter, reference, wrong, ..lab }
}

impl Lab {
    /// What a solution must keep to, a line each.
    pub fn rules(&self) -> Vec<String> {
        let limits = &self.limits;
        let cycles =
            limits.memories.iter().map(|(memory, cycles)| format!("at most {cycles} cycles with --memory {memory}"));
        let forbidden = (!limits.forbidden.is_empty()).then(|| format!("without {}", limits.forbidden.join(", ")));
        let causes = limits
            .causes
            .iter()
            .map(|limit| format!("{} waits at most {} cycles for {}", limit.block, limit.cycles, limit.cause));
        let busy = limits
            .array_busy
            .map(|least| format!("a row enters the array in at least {:.0} % of the cycles", 100.0 * least));
        cycles.chain(forbidden).chain(causes).chain(busy).collect()
    }
}

/// The lab of this number.
pub fn lab(number: u32) -> Option<Lab> {
    all().into_iter().find(|lab| lab.number == number)
}
