//! Two-dimensional convolutions through the LOOP_CONV_WS unroller, with everything that it can do: stride, padding,
//! dilation of kernel and input, max pooling, depthwise kernels and the memory layouts of training. Plain ones also as
//! single commands.

mod commands;
mod geometry;
mod schedule;
mod shape;
mod unroller;

use pollux_asm::program::ElementType;

use crate::builder::ProgramBuilder;
use crate::error::KernelError;
use crate::schedule::Emission;
pub use schedule::{ConvAxis, ConvSchedule, ConvScheduleError};
pub use shape::{Conv, ConvShape, Pool, TrainingOptions, WeightLayout};

impl Conv {
    /// Emits the convolution with Gemmini's tiles.
    ///
    /// # Errors
    /// As [`Conv::lower`].
    pub fn lower_auto(&self, builder: &mut ProgramBuilder) -> Result<ConvSchedule, KernelError> {
        let schedule = ConvSchedule::gemmini_default(builder.config(), &self.shape);
        self.lower(builder, &schedule)?;
        Ok(schedule)
    }

    /// Emits the convolution. There is no fence: see [`ProgramBuilder::fence`].
    ///
    /// # Errors
    /// Views of the wrong shape, something that the unroller or the build cannot do, or an illegal schedule.
    pub fn lower(&self, builder: &mut ProgramBuilder, schedule: &ConvSchedule) -> Result<(), KernelError> {
        let illegal = |what: ConvScheduleError| KernelError::Parameter {
            operation: builder.operation().to_owned(),
            what: what.to_string(),
        };
        schedule.check(builder.config(), &self.shape).map_err(illegal)?;
        self.check_views(builder)?;
        match schedule.emission {
            Emission::Unroller => unroller::lower(self, builder, schedule),
            Emission::Commands => commands::lower(self, builder, schedule),
        }
    }

    fn check_views(&self, builder: &ProgramBuilder) -> Result<(), KernelError> {
        let [input, weights, output] = self.shape.views();
        for (operand, view, expected) in [
            ("the int8 input", &self.input, input),
            ("the int8 weights", &self.weights, weights),
            ("the int8 output", &self.output, output),
        ] {
            let found = (view.rows, view.cols);
            if found != expected || view.element != ElementType::I8 {
                return Err(KernelError::Shape { operation: builder.operation().to_owned(), operand, found, expected });
            }
        }
        let options = &self.shape.options;
        let dense = [
            ("input", &self.input, options.input_chwn || self.shape.depthwise),
            ("weights", &self.weights, options.weights != WeightLayout::Hwio || self.shape.depthwise),
            ("output", &self.output, options.output_hwnc || self.shape.depthwise),
        ];
        if let Some((name, ..)) = dense.iter().find(|(_, view, dense)| *dense && view.stride != view.cols) {
            return Err(KernelError::Parameter {
                operation: builder.operation().to_owned(),
                what: format!("the {name} must be without gaps in this layout"),
            });
        }
        match self.bias {
            Some(bias) if (bias.rows, bias.cols, bias.element) != (1, self.shape.out_channels, ElementType::I32) => {
                Err(KernelError::Shape {
                    operation: builder.operation().to_owned(),
                    operand: "the int32 bias",
                    found: (bias.rows, bias.cols),
                    expected: (1, self.shape.out_channels),
                })
            }
            _ => Ok(()),
        }
    }
}
