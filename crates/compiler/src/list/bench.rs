//! A program under construction: operands with random contents, results with expected ones.

use pollux_asm::program::ElementType;
use pollux_kernels::{Activation, Dataflow, GeluConstants, Matmul, Schedule, SoftmaxConstants, View};
use pollux_model::{Matrix, layer};

use super::spec;
use crate::error::CompileError;
use crate::lowering::Lowering;
use crate::operation::OperationClass;
use crate::random::Random;

/// Adds an item's operations to a program; its buffers and operations are called `ITEM.NAME`.
pub(super) struct Bench<'a> {
    pub lowering: &'a mut Lowering,
    item: String,
    random: Random,
}

impl<'a> Bench<'a> {
    pub fn new(lowering: &'a mut Lowering, item: String) -> Self {
        Self { lowering, item, random: Random::new(1) }
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.item)
    }

    pub fn begin(&mut self, operation: &str, class: OperationClass) {
        self.lowering.begin(&self.name(operation), class);
    }

    /// Numbers up to `magnitude`.
    fn values(&mut self, len: usize, magnitude: i32) -> Vec<i32> {
        (0..len).map(|_| (self.random.bits() as i32).rem_euclid(2 * magnitude + 1) - magnitude).collect()
    }

    /// An int8 operand of elements up to `magnitude`, with `gap` more elements behind each row.
    pub fn i8s(
        &mut self,
        name: &str,
        (rows, cols): (usize, usize),
        gap: usize,
        magnitude: i32,
    ) -> Result<(View, Matrix<i8>), CompileError> {
        let width = cols + gap;
        let data: Vec<i8> = self.values(rows * width, magnitude).into_iter().map(|x| x as i8).collect();
        let view = self.lowering.builder.buffer_i8(&self.name(name), rows, width, &data)?.columns(0..cols)?;
        Ok((view, Matrix::from_vec(rows, width, data).columns(0..cols)))
    }

    pub fn i32s(
        &mut self,
        name: &str,
        (rows, cols): (usize, usize),
        magnitude: i32,
    ) -> Result<(View, Matrix<i32>), CompileError> {
        let data = self.values(rows * cols, magnitude);
        let view = self.lowering.builder.buffer_i32(&self.name(name), rows, cols, &data)?;
        Ok((view, Matrix::from_vec(rows, cols, data)))
    }

    /// A result, with `gap` more elements behind each row.
    pub fn result(
        &mut self,
        name: &str,
        (rows, cols): (usize, usize),
        gap: usize,
        element: ElementType,
    ) -> Result<View, CompileError> {
        Ok(self.lowering.builder.buffer(&self.name(name), rows, cols + gap, element)?.columns(0..cols)?)
    }

    /// What the result of that name must be; elements behind rows must stay zero.
    pub fn expect<T: Copy + Default + Into<i64>>(
        &mut self,
        name: &str,
        view: &View,
        expected: &Matrix<T>,
    ) -> Result<(), CompileError> {
        let mut bytes = Vec::new();
        for row in 0..view.rows {
            expected.row(row).iter().for_each(|&x| view.element.append(&mut bytes, x.into()));
            (view.cols..view.stride).for_each(|_| view.element.append(&mut bytes, 0));
        }
        Ok(self.lowering.builder.expect(&self.name(name), bytes)?)
    }

    /// Emits a product by the plan's schedule, or by Gemmini's own rule.
    ///
    /// # Errors
    /// A schedule with another dataflow than the list's.
    pub fn matmul(&mut self, matmul: &Matmul, dataflow: Dataflow) -> Result<(), CompileError> {
        let planned = self.lowering.planned_schedule();
        if planned.is_some_and(|planned| planned.dataflow != dataflow) {
            return Err(CompileError::Plan {
                operation: self.lowering.builder.operation().to_owned(),
                what: "the plan's schedule has another dataflow than the list: change one of them".to_owned(),
            });
        }
        let default = || Schedule::gemmini_default(self.lowering.config(), &matmul.shape(), dataflow);
        let schedule = planned.unwrap_or_else(default);
        matmul.lower(&mut self.lowering.builder, &schedule)?;
        self.lowering.note_matmul(matmul, schedule);
        Ok(())
    }
}

/// An activation for int32 in this unit.
///
/// # Errors
/// A unit that is too large for the integer exponential.
pub(super) fn activation(activation: spec::Activation, unit: f64) -> Result<Activation, CompileError> {
    Ok(match activation {
        spec::Activation::None => Activation::None,
        spec::Activation::Relu => Activation::Relu,
        spec::Activation::Gelu => Activation::Gelu(gelu(unit)),
        spec::Activation::Layernorm => Activation::LayerNorm,
        spec::Activation::Softmax => Activation::Softmax(softmax(unit)?),
    })
}

pub(super) fn gelu(unit: f64) -> GeluConstants {
    let layer::GeluConstants { qb, qc } = layer::GeluConstants::for_scale(unit);
    GeluConstants { qb, qc }
}

pub(super) fn softmax(unit: f64) -> Result<SoftmaxConstants, CompileError> {
    let constants = layer::SoftmaxConstants::for_scale(unit);
    let layer::SoftmaxConstants { qln2, qln2_inv, qb, qc } = constants
        .ok_or_else(|| CompileError::List(format!("softmax of int32 in units of {unit}: use at most 0.69")))?;
    Ok(SoftmaxConstants { qln2, qln2_inv, qb, qc })
}

/// A factor that brings sums of `terms` products of elements up to `magnitude` into the range of int8.
pub(super) fn suitable_scale(terms: usize, magnitude: i32) -> f32 {
    150.0 / (magnitude * magnitude) as f32 / (terms as f32).sqrt()
}
