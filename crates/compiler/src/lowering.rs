//! [`Lowering`]: a program builder that also keeps what each operation is, and follows a plan.

use pollux_asm::program::ElementType;
use pollux_isa::config::ExpVariant;
use pollux_isa::{ConfigError, ValidConfig, config};
use pollux_kernels::diagonal::{PlacedDiagonalSum, PlacedResidualNorm};
use pollux_kernels::{
    Activation, Conv, ConvSchedule, Dataflow, DiagonalSum, KernelError, Linear, Matmul, Normalization, PlacedLinear,
    ProgramBuilder, Residents, ResidualNorm, ResidualNormViews, Schedule, View,
};

use crate::blockwise::{self, TileMap};
use crate::error::CompileError;
use crate::host::HostStep;
use crate::operation::{Compiled, Operation, OperationClass, ScheduledConv, ScheduledMatmul};
use crate::plan::{Placement, Plan, PlanUse};

/// Collects a model's operations.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// Buffers and commands.
    pub builder: ProgramBuilder,
    plan: Plan,
    plan_use: PlanUse,
    operations: Vec<Operation>,
    layer: Option<usize>,
    /// The group of products that is being done together, and what is in the scratchpad of their input.
    together: Option<Together>,
}

/// Products that are done together so far.
#[derive(Clone, Debug)]
struct Together {
    /// Number in the plan.
    group: usize,
    input: View,
    residents: Residents,
}

/// Weights in main memory. They have a map of blocks if columns of the input occur again, or if the plan leaves out blocks
/// of zeros and there are some.
#[derive(Clone, Debug)]
pub struct PlacedWeights {
    linear: PlacedLinear,
    /// Columns of the result.
    pub outputs: usize,
    blocks: Option<TileMap>,
}

/// A dense product's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Weights and bias. Its inputs are those of A: repeated columns count again.
    pub linear: Linear,
    /// Columns of the input that follow the whole input in A.
    pub repeats: Vec<std::ops::Range<usize>>,
}

impl From<Linear> for Weights {
    fn from(linear: Linear) -> Self {
        Self { linear, repeats: Vec::new() }
    }
}

/// Buffers for int32 sums of products that are normalized separately, two in turn.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    buffers: Vec<View>,
    used: usize,
}

impl Sums {
    fn next(&mut self, builder: &mut ProgramBuilder, matmul: &Matmul) -> Result<View, KernelError> {
        if self.buffers.len() < 2 {
            let name = format!("{}.sums{}", builder.operation(), self.buffers.len());
            self.buffers.push(builder.buffer(&name, matmul.c.rows, matmul.c.cols, ElementType::I32)?);
        }
        self.used += 1;
        Ok(self.buffers[(self.used - 1) % self.buffers.len()])
    }
}

/// A diagonal sum in main memory; the values stay at hand for the host.
#[derive(Clone, Debug)]
pub struct PlacedSum {
    placed: PlacedDiagonalSum,
    values: DiagonalSum,
}

/// An int32 residual addition in main memory; the values stay at hand for the host.
#[derive(Clone, Debug)]
pub struct PlacedNorm {
    placed: PlacedResidualNorm,
    values: ResidualNorm,
}

impl Lowering {
    /// An empty program for a configuration.
    ///
    /// # Errors
    /// The configuration is inconsistent.
    pub fn new(config: impl TryInto<ValidConfig, Error: Into<ConfigError>>, plan: Plan) -> Result<Self, CompileError> {
        let builder = ProgramBuilder::new(config)?;
        Ok(Self { builder, plan, plan_use: PlanUse::default(), operations: Vec::new(), layer: None, together: None })
    }

    /// The configuration.
    pub fn config(&self) -> &ValidConfig {
        self.builder.config()
    }

    /// Operations begun from now on belong to this layer.
    pub fn set_layer(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// Begins an operation behind a fence: it may use everything before it, and its cycles are its own.
    pub fn begin(&mut self, name: &str, class: OperationClass) {
        self.together = None;
        self.begin_behind(name, class, !self.operations.is_empty());
    }

    fn begin_behind(&mut self, name: &str, class: OperationClass, fence: bool) {
        if fence {
            self.builder.fence();
        }
        self.builder.begin(name);
        self.plan_use.begin(name);
        self.operations.push(Operation {
            name: name.to_owned(),
            layer: self.layer,
            class,
            matmuls: Vec::new(),
            convolutions: Vec::new(),
            shares: None,
            normalizes: false,
            pools: false,
            host: None,
            work: Default::default(),
        });
    }

    /// An operation that the host does.
    pub fn host(&mut self, name: &str, class: OperationClass, step: HostStep) {
        self.begin(name, class);
        if let Some(operation) = self.operations.last_mut() {
            operation.host = Some(step);
        }
    }

    /// Puts weights and bias into main memory, as buffers `NAME.weights` and `NAME.bias`. The last rows of the weights
    /// belong to the input's columns `repeats`, which occur a second time.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn place(&mut self, name: &str, weights: &Weights) -> Result<PlacedWeights, CompileError> {
        let Weights { linear, repeats } = weights;
        let placed = linear.place(&mut self.builder, name)?;
        let map = TileMap::new(linear, repeats, self.builder.dim());
        let blocks = match self.plan.skip_zero_tiles && map.zero_tiles() > 0 {
            true => Some(map),
            false if repeats.is_empty() => None,
            false => Some(map.with_zeros()),
        };
        Ok(PlacedWeights { linear: placed, outputs: linear.outputs, blocks })
    }

    /// Puts a diagonal sum into main memory, as buffers `NAME.diagonals` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters that do not fit together, or full memory.
    pub fn place_sum(&mut self, name: &str, sum: &DiagonalSum) -> Result<PlacedSum, CompileError> {
        Ok(PlacedSum { placed: sum.place(&mut self.builder, name)?, values: sum.clone() })
    }

    /// Puts an int32 residual addition into main memory, as the buffer `NAME.diagonals`.
    ///
    /// # Errors
    /// Parameters that do not fit together, or full memory.
    pub fn place_norm(&mut self, name: &str, norm: &ResidualNorm) -> Result<PlacedNorm, CompileError> {
        Ok(PlacedNorm { placed: norm.place(&mut self.builder, name)?, values: norm.clone() })
    }

    /// A dense product as an operation.
    ///
    /// # Errors
    /// Operands that do not fit together, or an illegal schedule.
    pub fn linear(&mut self, name: &str, weights: &PlacedWeights, input: View, out: View) -> Result<(), CompileError> {
        let matmul = weights.linear.matmul(input, out);
        if weights.blocks.is_none() && self.plan.group(name).is_some() {
            return self.grouped(name, &matmul);
        }
        self.begin(name, OperationClass::Matmul);
        match &weights.blocks {
            Some(map) => {
                self.check_blockwise(name, map)?;
                Ok(blockwise::lower(&mut self.builder, &matmul, map)?)
            }
            None => {
                self.matmul(&matmul)?;
                self.shares(input);
                Ok(())
            }
        }
    }

    /// The current operation is one plain product of this input.
    fn shares(&mut self, input: View) {
        if let Some(operation) = self.operations.last_mut() {
            operation.shares = Some(input);
        }
    }

    /// A product that the plan does together with others of the same input.
    fn grouped(&mut self, name: &str, matmul: &Matmul) -> Result<(), CompileError> {
        let Some(group) = self.plan.group(name) else { return Ok(()) };
        let before = self.together.take().filter(|before| before.group == group && before.input == matmul.a);
        let fence = before.is_none() && !self.operations.is_empty();
        self.begin_behind(name, OperationClass::Matmul, fence);
        let schedule = self.schedule_for(matmul)?;
        if !Residents::keep(&schedule) {
            return Err(CompileError::Plan {
                operation: name.to_owned(),
                what: "it is done together with others of its input, so its schedule must have emission `unroller` and keep \
                       `recent`"
                    .to_owned(),
            });
        }
        if before.is_some() {
            self.plan_use.together(group);
        }
        let mut residents = before.map(|before| before.residents).unwrap_or_default();
        matmul.lower_beside(&mut self.builder, &schedule, &mut residents)?;
        self.note_matmul(matmul, schedule);
        self.shares(matmul.a);
        self.together = Some(Together { group, input: matmul.a, residents });
        Ok(())
    }

    /// The current operation has a product with this schedule.
    pub fn note_matmul(&mut self, matmul: &Matmul, schedule: Schedule) {
        let scheduled = ScheduledMatmul { shape: matmul.shape(), schedule };
        if let Some(operation) = self.operations.last_mut()
            && !operation.matmuls.contains(&scheduled)
        {
            operation.matmuls.push(scheduled);
        }
    }

    /// The current operation has a convolution with these tiles.
    pub fn note_convolution(&mut self, conv: &Conv, schedule: ConvSchedule) {
        let scheduled = ScheduledConv { shape: conv.shape, schedule };
        if let Some(operation) = self.operations.last_mut() {
            operation.pools |= conv.shape.pool.is_some();
            if !operation.convolutions.contains(&scheduled) {
                operation.convolutions.push(scheduled);
            }
        }
    }

    /// Whether the plan makes the pooling behind a convolution an operation of its own.
    pub fn separate_pooling(&mut self, convolution: &str) -> bool {
        self.plan_use.separate_pooling(&self.plan, convolution)
    }

    /// Products by blocks have one way to be done.
    fn check_blockwise(&self, operation: &str, map: &TileMap) -> Result<(), CompileError> {
        let what = if self.plan.schedule(operation).is_some() {
            "a schedule"
        } else if self.plan.dataflow == Some(Dataflow::Os) {
            "an output-stationary dataflow"
        } else {
            return Ok(());
        };
        let why = match map.zero_tiles() {
            0 => "columns of its input occur twice (outlier channels with several planes)".to_owned(),
            zero => format!("{zero} of its {} blocks of weights are zero and left out", map.tiles()),
        };
        let what = format!(
            "the plan gives it {what}, but it is done block by block, weight-stationary, because {why}; take that out of \
             the plan, or keep all blocks (no skip_zero_tiles, no pruning of blocks or weights)"
        );
        Err(CompileError::Plan { operation: operation.to_owned(), what })
    }

    /// The tiles that the plan gives the current operation, a convolution, if it does.
    pub fn planned_convolution(&mut self) -> Option<ConvSchedule> {
        self.plan_use.convolution(&self.plan, self.builder.operation())
    }

    /// The schedule that the plan gives the current operation, a product, if it does.
    pub fn planned_schedule(&mut self) -> Option<Schedule> {
        self.plan_use.schedule(&self.plan, self.builder.operation())
    }

    /// A product as part of the current operation, by the plan's schedule or by the default one.
    ///
    /// # Errors
    /// Operands that do not fit together, or an illegal schedule.
    pub fn matmul(&mut self, matmul: &Matmul) -> Result<(), CompileError> {
        let schedule = self.schedule_for(matmul)?;
        matmul.lower(&mut self.builder, &schedule)?;
        self.note_matmul(matmul, schedule);
        Ok(())
    }

    /// A product whose activation normalizes: fused if the accumulator holds whole rows beside it, otherwise with int32
    /// sums through main memory, in one of the buffers `sums`.
    ///
    /// # Errors
    /// Operands that do not fit together, or an illegal schedule.
    pub fn normalized_matmul(&mut self, matmul: &Matmul, sums: &mut Sums) -> Result<(), CompileError> {
        if let Some(operation) = self.operations.last_mut() {
            operation.normalizes = true;
        }
        let planned = self.plan.schedule(self.builder.operation());
        let fused = planned.map_or_else(|| self.fuses(matmul), |plan| plan.normalization == Normalization::Fused);
        if fused {
            return self.matmul(matmul);
        }
        let view = sums.next(&mut self.builder, matmul)?;
        match self.planned_schedule() {
            Some(schedule) => {
                matmul.lower_separately_by(&mut self.builder, &view, &schedule)?;
                self.note_matmul(matmul, schedule);
            }
            None => {
                let dataflow = self.dataflow();
                let schedule = matmul.lower_separately(&mut self.builder, &view, dataflow)?;
                self.note_matmul(matmul, Schedule { normalization: Normalization::Separate, ..schedule });
            }
        }
        Ok(())
    }

    fn fuses(&self, matmul: &Matmul) -> bool {
        Schedule::auto(self.config(), &matmul.shape(), self.dataflow()).is_ok()
    }

    fn schedule_for(&mut self, matmul: &Matmul) -> Result<Schedule, KernelError> {
        if let Some(schedule) = self.planned_schedule() {
            return Ok(schedule);
        }
        let operation = || self.builder.operation().to_owned();
        Schedule::auto(self.config(), &matmul.shape(), self.dataflow())
            .map_err(|source| KernelError::Schedule { operation: operation(), source })
    }

    fn dataflow(&self) -> Dataflow {
        match (self.plan.dataflow, self.config().dataflow) {
            (Some(dataflow), _) => dataflow,
            (None, config::Dataflow::Os) => Dataflow::Os,
            (None, _) => Dataflow::Ws,
        }
    }

    /// Whether rows of this width are to be normalized by the host. `operation` is the operation's name.
    ///
    /// # Errors
    /// The plan asks for the accelerator, which cannot do it.
    pub fn normalizes_on_host(
        &mut self,
        operation: &str,
        activation: &Activation,
        columns: usize,
    ) -> Result<bool, CompileError> {
        let blocks = columns.div_ceil(self.builder.dim());
        let possible = self.has_activation(activation) && blocks <= self.config().acc_rows() as usize;
        match self.plan_use.placement(&self.plan, operation) {
            Placement::Host => Ok(true),
            Placement::Auto => Ok(!possible),
            Placement::Accelerator if possible => Ok(false),
            Placement::Accelerator => Err(CompileError::Plan {
                operation: operation.to_owned(),
                what: format!(
                    "{} of {columns} columns needs `has_normalizations` (softmax: with the released exponential) and \
                     {blocks} accumulator rows; choose normalization auto or host",
                    activation.name()
                ),
            }),
        }
    }

    fn has_activation(&self, activation: &Activation) -> bool {
        let config = self.config();
        match activation {
            Activation::Softmax(_) => config.has_normalizations && config.softmax_exp == ExpVariant::Released,
            Activation::LayerNorm | Activation::Gelu(_) => config.has_normalizations,
            Activation::None | Activation::Relu => true,
        }
    }

    /// A diagonal sum as an operation, on the accelerator or on the host.
    ///
    /// # Errors
    /// Operands that do not fit together, or a plan that cannot be followed.
    pub fn diagonal_sum(
        &mut self,
        name: &str,
        sum: &PlacedSum,
        [branch, residual]: [View; 2],
        out: View,
    ) -> Result<(), CompileError> {
        let class = match sum.values.activation {
            Activation::None => OperationClass::DataMovement,
            _ => OperationClass::Nonlinear,
        };
        let activation = &sum.values.activation;
        let activation_normalizes = activation.normalizes();
        // GELU and plain sums are no normalization: the host does them only if the hardware cannot.
        let on_host = match activation_normalizes {
            true => self.normalizes_on_host(name, activation, out.cols)?,
            false => !self.has_activation(activation),
        };
        if on_host {
            let step = HostStep::DiagonalSum { operands: [branch, residual], sum: Box::new(sum.values.clone()), out };
            self.host(name, class, step);
            return Ok(());
        }
        self.begin(name, class);
        if let Some(operation) = self.operations.last_mut() {
            operation.normalizes = activation_normalizes;
        }
        Ok(sum.placed.lower(&mut self.builder, &branch, &residual, &out)?)
    }

    /// An int32 residual addition with its LayerNorm as an operation, on the accelerator or on the host.
    ///
    /// # Errors
    /// Operands that do not fit together, or a plan that cannot be followed.
    pub fn residual_norm(
        &mut self,
        name: &str,
        norm: &PlacedNorm,
        views: &ResidualNormViews,
    ) -> Result<(), CompileError> {
        if self.normalizes_on_host(name, &Activation::LayerNorm, views.out.cols)? {
            let step = HostStep::ResidualNorm { norm: Box::new(norm.values.clone()), views: *views };
            self.host(name, OperationClass::Nonlinear, step);
            return Ok(());
        }
        self.begin(name, OperationClass::Nonlinear);
        if let Some(operation) = self.operations.last_mut() {
            operation.normalizes = true;
        }
        Ok(norm.placed.lower(&mut self.builder, views)?)
    }

    /// The program and its operations.
    ///
    /// # Errors
    /// A plan with a name or a choice that no operation takes, or a malformed program.
    pub fn finish(self) -> Result<Compiled, CompileError> {
        self.plan_use.check(&self.plan)?;
        self.finish_part()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the operations so far made of the plan.
    pub fn plan_use(&self) -> &PlanUse {
        &self.plan_use
    }

    /// The same for a part of a model, which need not have every operation that the plan names.
    ///
    /// # Errors
    /// A malformed program.
    pub fn finish_part(mut self) -> Result<Compiled, CompileError> {
        self.builder.fence();
        let statistics = self.builder.statistics().operations.clone();
        for (operation, work) in self.operations.iter_mut().zip(statistics) {
            operation.work = work;
        }
        Ok(Compiled { program: self.builder.finish()?, operations: self.operations })
    }
}
