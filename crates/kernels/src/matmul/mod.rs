//! Matrix products: `C = read_out(A * B + D)` in both dataflows.

mod commands;
mod product;
pub(crate) mod unroller;

use pollux_asm::program::ElementType;

use crate::activation::Activation;
use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::norm::Norm;
use crate::schedule::{Dataflow, Emission, MatmulShape, Normalization, Schedule, ScheduleError};
use crate::view::View;
pub use product::{Bias, Matmul};
pub(crate) use product::{CHANNEL_A, CHANNEL_B, CHANNEL_D};
pub use unroller::Residents;

impl Matmul {
    /// Emits the product by the first legal schedule of [`Schedule::auto`], weight-stationary if the build has that.
    ///
    /// # Errors
    /// Operands that do not fit together, no legal schedule, or a value that has no encoding.
    pub fn lower_auto(&self, builder: &mut ProgramBuilder) -> Result<Schedule, KernelError> {
        let schedule = self.auto_schedule(builder).map_err(|e| illegal(builder, e))?;
        self.lower(builder, &schedule)?;
        Ok(schedule)
    }

    /// Whether [`Matmul::lower_auto`] finds a schedule: the activation does not need more whole rows than fit.
    pub fn fuses(&self, builder: &ProgramBuilder) -> bool {
        self.auto_schedule(builder).is_ok()
    }

    fn auto_schedule(&self, builder: &ProgramBuilder) -> Result<Schedule, ScheduleError> {
        let dataflow = match builder.config().dataflow {
            pollux_isa::config::Dataflow::Os => Dataflow::Os,
            _ => Dataflow::Ws,
        };
        Schedule::auto(builder.config(), &self.shape(), dataflow)
    }

    /// Emits the product. There is no fence: see [`ProgramBuilder::fence`].
    ///
    /// # Errors
    /// Operands that do not fit together, an illegal schedule, or a value that has no encoding.
    pub fn lower(&self, builder: &mut ProgramBuilder, schedule: &Schedule) -> Result<(), KernelError> {
        self.prepare(builder, schedule)?;
        match schedule.emission {
            Emission::Unroller => unroller::lower(self, builder, schedule),
            Emission::Commands => commands::lower(self, builder, schedule),
        }
    }

    /// Checks operands and schedule, and configures the hardware.
    fn prepare(&self, builder: &mut ProgramBuilder, schedule: &Schedule) -> Result<(), KernelError> {
        let shape = self.shape();
        self.check(builder, &shape)?;
        schedule.check(builder.config(), &shape).map_err(|e| illegal(builder, e))?;
        if schedule.normalization == Normalization::Separate && shape.whole_rows {
            return Err(KernelError::Parameter {
                operation: builder.operation().to_owned(),
                what: "a separate normalization is an operation of its own: give this one an int32 result".to_owned(),
            });
        }
        self.configure(builder, schedule)
    }

    /// Elements from one row of the addend to the next. Without one the software's callers give the result's width.
    fn bias_stride(&self) -> u64 {
        self.bias.view().map_or(self.c.cols, |view| view.stride) as u64
    }

    /// Emits a product whose activation normalizes in two steps: int32 sums to `sums`, a fence, and a [`Norm`] of them.
    /// This is for rows that the accumulator cannot hold beside the product.
    ///
    /// # Errors
    /// Operands that do not fit together, no legal schedule, or rows that do not fit the accumulator at all.
    pub fn lower_separately(
        &self,
        builder: &mut ProgramBuilder,
        sums: &View,
        dataflow: Dataflow,
    ) -> Result<Schedule, KernelError> {
        let product = Self { c: *sums, scale: 1.0, activation: Activation::None, ..*self };
        let schedule = Schedule::auto(builder.config(), &product.shape(), dataflow).map_err(|e| illegal(builder, e))?;
        self.lower_separately_by(builder, sums, &schedule)?;
        Ok(schedule)
    }

    /// The same by a schedule of the product.
    ///
    /// # Errors
    /// As [`Matmul::lower_separately`], or an illegal schedule.
    pub fn lower_separately_by(
        &self,
        builder: &mut ProgramBuilder,
        sums: &View,
        schedule: &Schedule,
    ) -> Result<(), KernelError> {
        let product = Self { c: *sums, scale: 1.0, activation: Activation::None, ..*self };
        product.lower(builder, &Schedule { normalization: Normalization::Fused, ..*schedule })?;
        builder.fence();
        Norm { input: *sums, out: self.c, scale: self.scale, activation: self.activation }.lower(builder)
    }

    /// Emits the product behind others with the same A, without a fence: tiles of A that are in the scratchpad stay there.
    /// The results must not be operands of each other.
    ///
    /// # Errors
    /// As [`Matmul::lower`], or a schedule that does not keep its tiles ([`Residents::keep`]).
    pub fn lower_beside(
        &self,
        builder: &mut ProgramBuilder,
        schedule: &Schedule,
        residents: &mut Residents,
    ) -> Result<(), KernelError> {
        self.prepare(builder, schedule)?;
        if !Residents::keep(schedule) {
            return Err(KernelError::Parameter {
                operation: builder.operation().to_owned(),
                what: "products with one A need the unroller and recent tiles kept".to_owned(),
            });
        }
        unroller::lower_beside(self, builder, schedule, residents)
    }

    /// The configuration commands of `tiled_matmul_outer`, in its order.
    fn configure(&self, builder: &mut ProgramBuilder, schedule: &Schedule) -> Result<(), KernelError> {
        builder.config_ex(schedule.dataflow.mode(), &self.activation, self.a_transpose, self.b_transpose)?;
        builder.config_st_only(self.c.stride_bytes(), self.scale, &self.activation)?;
        builder.config_ld(CHANNEL_A, self.a.stride_bytes(), self.a_scale, false)?;
        builder.config_ld(CHANNEL_B, self.b.stride_bytes(), self.b_scale, false)?;
        let low = self.bias.is_low();
        let element = if low { ElementType::I8 } else { ElementType::I32 };
        builder.config_ld(
            CHANNEL_D,
            self.bias_stride() * element.size(),
            if low { self.bias_scale } else { 1.0 },
            low,
        )?;
        for norm in self.activation.constants() {
            builder.emit(pollux_isa::Command::ConfigNorm(norm))?;
        }
        Ok(())
    }

    fn check(&self, builder: &ProgramBuilder, shape: &MatmulShape) -> Result<(), KernelError> {
        let MatmulShape { i, j, k, .. } = *shape;
        let expect = |operand, view: &View, expected: (usize, usize)| {
            let found = (view.rows, view.cols);
            if found == expected {
                return Ok(());
            }
            Err(KernelError::Shape { operation: builder.operation().to_owned(), operand, found, expected })
        };
        expect("B", &self.b, if self.b_transpose { (j, k) } else { (k, j) })?;
        expect("C", &self.c, (i, j))?;
        match &self.bias {
            Bias::None => {}
            Bias::Matrix(view) => expect("the bias matrix", view, (i, j))?,
            Bias::Row(view) => expect("the bias row", view, (1, j))?,
        }
        let parameter = |what: &str| {
            Err(KernelError::Parameter { operation: builder.operation().to_owned(), what: what.to_owned() })
        };
        if [&self.a, &self.b].iter().any(|view| view.element != ElementType::I8) {
            return parameter("A and B must be int8");
        }
        if self.is_full() && self.activation != Activation::None {
            return parameter("an int32 result is read out as it is: it can have no activation");
        }
        Ok(())
    }
}

fn illegal(builder: &ProgramBuilder, source: ScheduleError) -> KernelError {
    KernelError::Schedule { operation: builder.operation().to_owned(), source }
}
