//! Lists of single operations, as programs that know what they must compute: those of `programs/parity`, or one's own.
//!
//! ```
//! use pollux_compiler::list::OperationList;
//!
//! let list = OperationList::from_toml("
//!     config = 'small4'
//!     [[matmul]]
//!     i = 6
//!     j = 5
//!     k = 9
//!     activation = ['none', 'relu']
//!     [[resadd]]
//!     rows = 6
//!     cols = 5
//! ")?;
//! let compiled = list.lower(None, &Default::default())?;
//! let names: Vec<_> = compiled.operations.iter().map(|operation| operation.name.as_str()).collect();
//! assert_eq!(names, ["matmul1.matmul", "matmul2.matmul", "resadd1.resadd"]);
//! # Ok::<(), pollux_compiler::CompileError>(())
//! ```

mod bench;
mod lower;
mod reference;
pub mod spec;
mod transformer;

use pollux_asm::Program;
use pollux_asm::program::ElementType;
use pollux_isa::{GemminiConfig, ValidConfig};
use pollux_kernels::Dataflow;

use crate::error::CompileError;
use crate::lowering::Lowering;
use crate::operation::Compiled;
use crate::plan::{OperationPlan, Plan};
use crate::size;
use bench::{Bench, suitable_scale};
use spec::Operations;

/// A checked list.
#[derive(Clone, Debug)]
pub struct OperationList(Operations);

/// One choice of each listed value of a product.
#[derive(Clone, Copy, Debug)]
struct Combination {
    dataflow: Dataflow,
    activation: spec::Activation,
    scale: f32,
    bias: spec::Bias,
    transpose: spec::Transpose,
}

/// One operation, or several that belong together.
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Matmul(&'a spec::Matmul, Combination),
    Mlp(&'a spec::Mlp),
    Conv(&'a spec::Conv),
    ResidualAdd(&'a spec::ResidualAdd),
    GlobalAverage(&'a spec::GlobalAverage),
    Norm(&'a spec::Norm, spec::Activation, ElementType),
    Transformer(&'a spec::Transformer),
}

impl Item<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Matmul(..) => "matmul",
            Self::Mlp(_) => "mlp",
            Self::Conv(_) => "conv",
            Self::ResidualAdd(_) => "resadd",
            Self::GlobalAverage(_) => "global_average",
            Self::Norm(..) => "norm",
            Self::Transformer(_) => "transformer",
        }
    }

    /// Bytes that it takes in a build of this size, at least.
    fn bytes(&self, dim: usize, by_commands: bool) -> u128 {
        let matrix = |rows: usize, cols: usize, bytes: u128| rows as u128 * cols as u128 * bytes;
        match self {
            Self::Matmul(m, with) => {
                let bias = if matches!(with.bias, spec::Bias::Matrix) { 4 } else { 0 };
                let by_commands = by_commands || with.dataflow == Dataflow::Os;
                size::product_bytes([m.i, m.j, m.k], by_commands, dim) + matrix(m.i, m.j, bias)
            }
            Self::Mlp(mlp) => mlp.bytes(),
            Self::Conv(conv) => conv.bytes(),
            // Operands, result, and what it must be; of norms int32 operands.
            Self::ResidualAdd(add) => matrix(add.rows, add.cols + add.gap, 4),
            Self::GlobalAverage(average) => matrix(average.batch * average.edge * average.edge, average.channels, 1),
            Self::Norm(norm, ..) => matrix(norm.rows, norm.cols, 10),
            Self::Transformer(transformer) => transformer.bytes(),
        }
    }

    /// Adds it to a program; `number` counts items of its kind.
    fn lower(&self, lowering: &mut Lowering, number: usize) -> Result<(), CompileError> {
        let bench = &mut Bench::new(lowering, format!("{}{number}", self.kind()));
        match self {
            Self::Matmul(spec, with) => lower::matmul(bench, spec, with),
            Self::Mlp(spec) => lower::mlp(bench, spec),
            Self::Conv(spec) => lower::conv(bench, spec),
            Self::ResidualAdd(spec) => lower::residual_add(bench, spec),
            Self::GlobalAverage(spec) => lower::global_average(bench, spec),
            Self::Norm(spec, activation, element) => lower::norm(bench, spec, *activation, *element),
            Self::Transformer(spec) => transformer::lower(bench, spec),
        }
    }
}

impl OperationList {
    /// Reads a list.
    ///
    /// # Errors
    /// Text that is no TOML, unknown fields, or sizes out of range.
    pub fn from_toml(text: &str) -> Result<Self, CompileError> {
        let operations: Operations = toml::from_str(text).map_err(|error| CompileError::List(error.to_string()))?;
        operations.check().map_err(CompileError::List)?;
        Ok(Self(operations))
    }

    /// The list's own configuration.
    ///
    /// # Errors
    /// No configuration has that name.
    pub fn config(&self) -> Result<ValidConfig, CompileError> {
        GemminiConfig::by_name(&self.0.config).map_err(|error| CompileError::List(error.to_string()))
    }

    /// All operations as one program, for the list's configuration or another one. The plan's schedules and tiles are
    /// followed, instead of Gemmini's own; everything else is in the list.
    ///
    /// # Errors
    /// An operation that the configuration cannot do, or a plan that cannot be followed.
    pub fn lower(&self, config: Option<&ValidConfig>, plan: &Plan) -> Result<Compiled, CompileError> {
        check_plan(plan)?;
        let config = self.config_or(config)?;
        let by_commands = plan.operations.values().any(OperationPlan::by_commands);
        let bytes = self.items().iter().map(|item| item.bytes(config.dim() as usize, by_commands)).sum();
        size::check("the list of operations", bytes)?;
        let mut lowering = Lowering::new(config, plan.clone())?;
        let mut before: Vec<&str> = Vec::new();
        for item in self.items() {
            before.push(item.kind());
            let number = before.iter().filter(|kind| **kind == item.kind()).count();
            item.lower(&mut lowering, number)?;
        }
        lowering.finish()
    }

    /// Each operation as a program of its own.
    ///
    /// # Errors
    /// As [`OperationList::lower`].
    pub fn programs(&self, config: Option<&ValidConfig>) -> Result<Vec<Program>, CompileError> {
        let config = self.config_or(config)?;
        let program = |item: Item<'_>| {
            size::check(item.kind(), item.bytes(config.dim() as usize, false))?;
            let mut lowering = Lowering::new(config.clone(), Plan::default())?;
            item.lower(&mut lowering, 1)?;
            Ok(lowering.finish_part()?.program)
        };
        self.items().into_iter().map(program).collect()
    }

    fn config_or(&self, config: Option<&ValidConfig>) -> Result<ValidConfig, CompileError> {
        config.map_or_else(|| self.config(), |config| Ok(config.clone()))
    }

    /// One for every operation and combination of listed values.
    fn items(&self) -> Vec<Item<'_>> {
        let list = &self.0;
        let mut items: Vec<Item<'_>> = Vec::new();
        for spec in &list.matmul {
            items.extend(combinations(spec).into_iter().map(|with| Item::Matmul(spec, with)));
        }
        items.extend(list.mlp.iter().map(Item::Mlp));
        items.extend(list.conv.iter().map(Item::Conv));
        items.extend(list.resadd.iter().map(Item::ResidualAdd));
        items.extend(list.global_average.iter().map(Item::GlobalAverage));
        for spec in &list.norm {
            let both = |&act: &spec::Activation| [ElementType::I8, ElementType::I32].map(|e| Item::Norm(spec, act, e));
            items.extend(spec.activation.iter().flat_map(both));
        }
        items.extend(list.transformer.iter().map(Item::Transformer));
        items
    }
}

/// A list says itself what a plan says for a whole model.
fn check_plan(plan: &Plan) -> Result<(), CompileError> {
    let defaults = Plan { operations: plan.operations.clone(), ..Plan::default() };
    if *plan == defaults {
        return Ok(());
    }
    Err(CompileError::List(
        "a plan for a list gives schedules and tiles of operations only: dataflow, normalization, skip_zero_tiles and \
         separate_pooling are for models"
            .to_owned(),
    ))
}

fn combinations(spec: &spec::Matmul) -> Vec<Combination> {
    let suitable = [suitable_scale(spec.k, spec.magnitude)];
    let scales = if spec.scale.is_empty() { &suitable[..] } else { &spec.scale };
    let mut all = Vec::new();
    for &dataflow in &spec.dataflow {
        for &activation in &spec.activation {
            for &scale in scales {
                for &bias in &spec.bias {
                    let with = |&transpose| Combination { dataflow, activation, scale, bias, transpose };
                    all.extend(spec.transpose.iter().map(with));
                }
            }
        }
    }
    all
}
