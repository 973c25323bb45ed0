//! Step 1 of a cycle: the row at the mesh's output, and where it is written.

use pollux_isa::GemminiConfig;
use pollux_isa::values::DataflowMode;
use pollux_numerics::arithmetic::write_scratchpad_row;

use super::ExecuteController;
use super::operands::{Configuration, Parameters};
use super::wires::ExResults;
use crate::execute::mesh_with_delays::MeshResponse;
use crate::execute::tag_queue::Tag;
use crate::parts::banks::{acc_place, spad_place};
use crate::parts::row::copy_row;
use crate::parts::values::Values;
use crate::parts::wires::{ExTarget, ExWrite};

/// What the destination of a result row depends on beside its tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResultWriter {
    parameters: Parameters,
    dataflow: DataflowMode,
    c_stride: u32,
    ex_write_to_acc: bool,
    ex_write_to_spad: bool,
}

impl ResultWriter {
    /// Where row `k` of the results of a tag goes. OS results leave the array bottom row first.
    #[inline(always)] // once for each row of results
    pub(crate) fn target<V: Values>(&self, response: &MeshResponse<V>, tag: &Tag, k: u32) -> Option<ExTarget> {
        let Parameters { layout, dim, count_mask, .. } = self.parameters;
        let step = k * self.c_stride;
        let (offset, row) = match self.dataflow {
            DataflowMode::Ws => (step, k),
            DataflowMode::Os => {
                let last = u32::from(response.total_rows).wrapping_sub(1);
                (last.wrapping_sub(step), last.wrapping_sub(k) & count_mask)
            }
        };
        if tag.addr.is_garbage(layout) || row >= tag.rows.into() {
            return None;
        }
        let addr = tag.addr.add(layout, offset);
        let cols = usize::from(tag.cols).min(dim as usize);
        if addr.is_acc() {
            let (bank, row) = acc_place(addr, layout);
            let write = ExTarget::Acc { bank, row, cols, accumulate: addr.accumulate() };
            self.ex_write_to_acc.then_some(write)
        } else {
            let (bank, row) = spad_place(addr, layout);
            self.ex_write_to_spad.then_some(ExTarget::Spad { bank, row, cols })
        }
    }
}

impl<V: Values> ExecuteController<V> {
    /// Step 1 of a cycle: the row at the mesh's output.
    pub fn results(&self) -> ExResults<V> {
        let mut results = ExResults::default();
        self.drive_results(&mut results);
        results
    }

    /// [`Self::results`], into wires that are driven in every cycle: of the row only what its target needs.
    #[inline]
    pub(crate) fn drive_results(&self, results: &mut ExResults<V>) {
        (results.write.target, results.completed, results.counted, results.shown) = (None, None, None, None);
        if let Some(response) = self.mesh.response() {
            self.fill_results(&response, results);
        }
    }

    #[inline(always)] // once for each row of results
    fn fill_results(&self, response: &MeshResponse<V>, results: &mut ExResults<V>) {
        results.shown = Some(response.last);
        let Some(tag) = response.tag else { return };
        let Some(rob_id) = tag.rob_id else { return };
        results.completed = response.last.then_some(rob_id);
        results.counted = Some(response.total_rows);
        results.write.target = self.result_writer().target(response, tag, self.output_counter);
        self.fill_write(response.data, &mut results.write);
    }

    #[inline]
    pub(crate) fn result_writer(&self) -> ResultWriter {
        let Configuration { dataflow, c_stride, .. } = self.configuration;
        let GemminiConfig { ex_write_to_acc, ex_write_to_spad, .. } = self.config;
        ResultWriter { parameters: self.parameters, dataflow, c_stride, ex_write_to_acc, ex_write_to_spad }
    }

    /// The result row as it is written: all bits to the accumulator, clipped and activated to the scratchpad.
    #[inline]
    fn fill_write(&self, row: &[V::Of<i32>], write: &mut ExWrite<V>) {
        match write.target {
            Some(ExTarget::Acc { .. }) => copy_row(&mut write.acc_row.0[..row.len()], row),
            Some(ExTarget::Spad { .. }) => {
                let relu = self.configuration.relu;
                V::update(&mut write.spad_row.0[..row.len()], |written, sight| {
                    write_scratchpad_row(V::see(row, sight), relu, written);
                });
            }
            None => {}
        }
    }
}
