//! Attention, GELU and LayerNorm of a graph, by the kernels of Transformers; normalizations that a build lacks are the host's.

use pollux_asm::program::ElementType;
use pollux_kernels::diagonal::DiagonalOperand;
use pollux_kernels::{Activation, ColumnGroup, DiagonalSum, DiagonalTerm, Mask, View};
use pollux_model::graph::{IntegerOperation, Step};
use pollux_model::layer;

use super::Network;
use crate::encoder::Attention;
use crate::error::CompileError;
use crate::parameters;

impl Network<'_> {
    pub(super) fn transformer(&mut self, step: &Step, out: View) -> Result<(), CompileError> {
        match &step.operation {
            IntegerOperation::Attention { causal, parameters } => {
                let mask = if *causal { Mask::Causal } else { Mask::Full };
                self.attention(step, parameters, mask, out)
            }
            IntegerOperation::Gelu { sum } => {
                self.diagonal(&step.name, &parameters::diagonal_sum(sum), self.tensors[&step.inputs[0]], out)
            }
            IntegerOperation::LayerNorm { sum, gamma, beta, scale } => {
                let normal = format!("{}.normal", step.name);
                let view = self.lowering.builder.buffer(&normal, out.rows, out.cols, ElementType::I8)?;
                self.diagonal(&normal, &parameters::diagonal_sum(sum), self.tensors[&step.inputs[0]], view)?;
                let affine = DiagonalSum {
                    terms: vec![DiagonalTerm { operand: DiagonalOperand::Branch, diagonal: gamma.clone() }],
                    bias: beta.clone(),
                    activation: Activation::None,
                    groups: vec![ColumnGroup { columns: 0..out.cols, scale: *scale }],
                };
                self.diagonal(&step.name, &affine, view, out)
            }
            _ => Ok(()),
        }
    }

    fn diagonal(&mut self, name: &str, sum: &DiagonalSum, input: View, out: View) -> Result<(), CompileError> {
        let placed = self.lowering.place_sum(name, sum)?;
        self.lowering.diagonal_sum(name, &placed, [input; 2], out)
    }

    /// One of the leading dimensions after the other.
    fn attention(
        &mut self,
        step: &Step,
        parameters: &layer::Attention,
        mask: Mask,
        out: View,
    ) -> Result<(), CompileError> {
        let params = parameters::attention(parameters);
        let rows = |index: usize| {
            let shape = &self.graph.graph.edge(step.inputs[index]).shape;
            shape[shape.len() - 2]
        };
        let (queries, keys) = (rows(0), rows(1));
        for batch in 0..out.rows / queries.max(1) {
            let name = if batch == 0 { step.name.clone() } else { format!("{}.{batch}", step.name) };
            let part =
                |index: usize, rows: usize| self.tensors[&step.inputs[index]].rows(batch * rows..(batch + 1) * rows);
            let (query, key, value) = (part(0, queries)?, part(1, keys)?, part(2, keys)?);
            let probabilities = format!("{name}.probabilities");
            let probabilities =
                self.lowering.builder.buffer(&probabilities, params.heads * queries, keys, ElementType::I8)?;
            let context = out.rows(batch * queries..(batch + 1) * queries)?;
            Attention { params: &params, query, key, value }.lower(
                &mut self.lowering,
                &name,
                mask,
                probabilities,
                context,
            )?;
        }
        Ok(())
    }
}
