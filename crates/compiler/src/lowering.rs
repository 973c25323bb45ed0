//! [`Lowering`]: a program builder that also keeps what each operation is, and follows a plan.

use pollux_isa::config::ExpVariant;
use pollux_isa::{GemminiConfig, config};
use pollux_kernels::{Activation, Dataflow, DiagonalSum, KernelError, Matmul, ProgramBuilder, Schedule, View};
use pollux_kernels::{diagonal::PlacedDiagonalSum, encoder, encoder::PlacedLinear};

use crate::error::CompileError;
use crate::host::HostStep;
use crate::operation::{Compiled, Operation, OperationClass, ScheduledMatmul};
use crate::plan::{Placement, Plan};
use crate::sparse::{self, TileMap};

/// Collects a model's operations.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// Buffers and commands.
    pub builder: ProgramBuilder,
    plan: Plan,
    operations: Vec<Operation>,
    layer: Option<usize>,
}

/// Weights in main memory, with the map of their blocks that are not zero if the plan skips the others.
#[derive(Clone, Debug)]
pub struct PlacedWeights {
    linear: PlacedLinear,
    /// Columns of the result.
    pub outputs: usize,
    sparse: Option<TileMap>,
}

/// A diagonal sum in main memory; the values stay at hand for the host.
#[derive(Clone, Debug)]
pub struct PlacedSum {
    placed: PlacedDiagonalSum,
    values: DiagonalSum,
}

impl Lowering {
    /// An empty program for a configuration.
    ///
    /// # Errors
    /// The configuration is inconsistent.
    pub fn new(config: GemminiConfig, plan: Plan) -> Result<Self, CompileError> {
        let builder = ProgramBuilder::new(config)?;
        Ok(Self { builder, plan, operations: Vec::new(), layer: None })
    }

    /// The configuration.
    pub fn config(&self) -> &GemminiConfig {
        self.builder.config()
    }

    /// Operations begun from now on belong to this layer.
    pub fn set_layer(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    /// Begins an operation behind a fence: it may use everything before it, and its cycles are its own.
    pub fn begin(&mut self, name: &str, class: OperationClass) {
        if !self.operations.is_empty() {
            self.builder.fence();
        }
        self.builder.begin(name);
        self.operations.push(Operation {
            name: name.to_owned(),
            layer: self.layer,
            class,
            matmuls: Vec::new(),
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

    /// Puts weights and bias into main memory, as buffers `NAME.weights` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters of the wrong length, or full memory.
    pub fn place(&mut self, name: &str, linear: &encoder::Linear) -> Result<PlacedWeights, CompileError> {
        let placed = linear.place(&mut self.builder, name)?;
        let map = TileMap::new(&linear.weights, linear.inputs, linear.outputs, self.builder.dim());
        let sparse = Some(map).filter(|map| self.plan.skip_zero_tiles && map.zero_tiles() > 0);
        Ok(PlacedWeights { linear: placed, outputs: linear.outputs, sparse })
    }

    /// Puts a diagonal sum into main memory, as buffers `NAME.diagonals` and `NAME.bias`.
    ///
    /// # Errors
    /// Parameters that do not fit together, or full memory.
    pub fn place_sum(&mut self, name: &str, sum: &DiagonalSum) -> Result<PlacedSum, CompileError> {
        Ok(PlacedSum { placed: sum.place(&mut self.builder, name)?, values: sum.clone() })
    }

    /// A dense product as an operation.
    ///
    /// # Errors
    /// Operands that do not fit together, or an illegal schedule.
    pub fn linear(&mut self, name: &str, weights: &PlacedWeights, input: View, out: View) -> Result<(), CompileError> {
        self.begin(name, OperationClass::Matmul);
        let matmul = weights.linear.matmul(input, out);
        match &weights.sparse {
            Some(map) => Ok(sparse::lower(&mut self.builder, &matmul, map)?),
            None => self.matmul(&matmul),
        }
    }

    /// A product as part of the current operation, by the plan's schedule or by the default one.
    ///
    /// # Errors
    /// Operands that do not fit together, or an illegal schedule.
    pub fn matmul(&mut self, matmul: &Matmul) -> Result<(), CompileError> {
        let schedule = self.schedule_for(matmul)?;
        matmul.lower(&mut self.builder, &schedule)?;
        let scheduled = ScheduledMatmul { shape: matmul.shape(), schedule };
        if let Some(operation) = self.operations.last_mut()
            && !operation.matmuls.contains(&scheduled)
        {
            operation.matmuls.push(scheduled);
        }
        Ok(())
    }

    fn schedule_for(&self, matmul: &Matmul) -> Result<Schedule, KernelError> {
        if let Some(schedule) = self.plan.schedule(self.builder.operation()) {
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

    /// Whether rows of this product are to be normalized by the host. `operation` is the operation's name.
    ///
    /// # Errors
    /// The plan asks for the accelerator, which cannot do it.
    pub fn normalizes_on_host(&self, operation: &str, matmul: &Matmul) -> Result<bool, CompileError> {
        let possible = self.has_activation(&matmul.activation)
            && Schedule::auto(self.config(), &matmul.shape(), self.dataflow()).is_ok();
        self.choose(operation, possible, || {
            let blocks = matmul.shape().j.div_ceil(self.builder.dim());
            format!(
                "a row of {} columns needs {} accumulator rows of {}, and `has_normalizations` with the released \
                 exponential; choose normalization auto or host",
                matmul.shape().j,
                blocks * self.builder.dim(),
                self.config().acc_rows()
            )
        })
    }

    fn choose(&self, operation: &str, possible: bool, why: impl Fn() -> String) -> Result<bool, CompileError> {
        match self.plan.placement(operation) {
            Placement::Host => Ok(true),
            Placement::Auto => Ok(!possible),
            Placement::Accelerator if possible => Ok(false),
            Placement::Accelerator => Err(CompileError::Plan { operation: operation.to_owned(), what: why() }),
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
        let rows = out.cols.div_ceil(self.builder.dim()) * self.builder.dim();
        let fits = !sum.values.activation.normalizes() || rows <= self.config().acc_rows() as usize;
        let possible = self.has_activation(&sum.values.activation) && fits;
        let on_host = self.choose(name, possible, || {
            format!("a row of {} columns needs {rows} accumulator rows; choose normalization auto or host", out.cols)
        })?;
        // GELU and plain sums are no normalization: the host does them only if the hardware cannot.
        if on_host && (sum.values.activation.normalizes() || !possible) {
            let step = HostStep::DiagonalSum { operands: [branch, residual], sum: Box::new(sum.values.clone()), out };
            self.host(name, class, step);
            return Ok(());
        }
        self.begin(name, class);
        Ok(sum.placed.lower(&mut self.builder, &branch, &residual, &out)?)
    }

    /// The program and its operations.
    ///
    /// # Errors
    /// A plan that names operations that do not exist, or a malformed program.
    pub fn finish(self) -> Result<Compiled, CompileError> {
        self.plan.check_names(self.operations.iter().map(|operation| operation.name.as_str()))?;
        self.finish_part()
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
