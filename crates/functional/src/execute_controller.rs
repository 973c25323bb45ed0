//! PRELOAD, COMPUTE and CONFIG_EX: `ExecuteController.scala` and the array behind it (`MeshWithDelays.scala`, `PE.scala`).

use pollux_isa::config::Dataflow;
use pollux_isa::fields::{Compute, ConfigEx, ExecOperand, Preload};
use pollux_isa::values::{Activation, DataflowMode, Scale};
use pollux_isa::{GemminiConfig, LocalAddr};
use pollux_numerics::arithmetic::write_scratchpad_row;
use pollux_numerics::mesh::{mac_row, propagate};
use pollux_numerics::{MeshWidth, Readout, read_row};

use crate::machine::Machine;
use crate::policy::ExecError;

/// The registers that CONFIG_EX writes. They have no reset value in hardware; the golden bench starts them at 0.
#[derive(Clone, Copy, Debug)]
struct Registers {
    dataflow: DataflowMode,
    activation: Activation,
    a_transpose: bool,
    b_transpose: bool,
    a_stride: u32,
    c_stride: u32,
    in_shift: u32,
    acc_scale: Scale,
}

/// The execute controller's state and the array's: DIM x DIM elements each, row-major.
///
/// The hardware's two registers of a processing element change places at every flip. Here they have the names of what they hold.
#[derive(Clone, Debug)]
pub(crate) struct ExecuteController {
    registers: Registers,
    /// Destination of the next compute.
    c: ExecOperand,
    /// The values preloaded last: weights, or initial sums. They go into use at the next flip.
    preloaded: Vec<i8>,
    /// Weight-stationary: the weights in use.
    weights: Vec<i8>,
    /// Output-stationary: the sums in use.
    sums: Vec<i32>,
    /// The operands A and B of one compute, and its result.
    a: Vec<i8>,
    b: Vec<i8>,
    result: Vec<i32>,
    /// An operand row read from the accumulator.
    narrow: Vec<i8>,
    dim: usize,
    width: MeshWidth,
    built: Dataflow,
    hardcode_d_to_garbage_addr: bool,
    ex_write_to_spad: bool,
    ex_write_to_acc: bool,
}

impl ExecuteController {
    pub(crate) fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        let elements = dim * dim;
        Self {
            registers: Registers {
                dataflow: built_dataflow(config.dataflow, DataflowMode::Os),
                activation: Activation::None,
                a_transpose: false,
                b_transpose: false,
                a_stride: 0,
                c_stride: 0,
                in_shift: 0,
                acc_scale: Scale(0),
            },
            c: ExecOperand { local: LocalAddr::GARBAGE, cols: 0, rows: 0 },
            preloaded: vec![0; elements],
            weights: vec![0; elements],
            sums: vec![0; elements],
            a: vec![0; elements],
            b: vec![0; elements],
            result: vec![0; elements],
            narrow: vec![0; dim],
            dim,
            width: MeshWidth::new(config.spatial_array_output_type.bits).unwrap_or(MeshWidth::DEFAULT),
            built: config.dataflow,
            hardcode_d_to_garbage_addr: config.hardcode_d_to_garbage_addr,
            ex_write_to_spad: config.ex_write_to_spad,
            ex_write_to_acc: config.ex_write_to_acc,
        }
    }

    pub(crate) fn config(&mut self, f: &ConfigEx) {
        let strides = (f.a_stride.into(), f.c_stride.into());
        if !f.set_only_strides {
            self.registers = Registers {
                dataflow: built_dataflow(self.built, f.dataflow),
                activation: f.activation,
                a_transpose: f.a_transpose,
                b_transpose: f.b_transpose,
                in_shift: f.in_shift,
                acc_scale: f.acc_scale,
                ..self.registers
            };
        }
        (self.registers.a_stride, self.registers.c_stride) = strides;
    }

    pub(crate) fn preload(&mut self, m: &mut Machine, f: &Preload) -> Result<(), ExecError> {
        let mut d = f.d();
        if self.built == Dataflow::Os && self.hardcode_d_to_garbage_addr {
            d.local = LocalAddr::GARBAGE;
        }
        let weight_stationary = self.registers.dataflow == DataflowMode::Ws;
        let transpose = weight_stationary && self.registers.b_transpose;
        self.c = f.c();
        let mut tile = std::mem::take(&mut self.preloaded);
        let done = self.read_operand(m, d, 1, transpose, &mut tile);
        self.preloaded = tile;
        done
    }

    /// One compute; with `flip` on the values preloaded last, otherwise on those in use.
    pub(crate) fn compute(&mut self, m: &mut Machine, f: &Compute, flip: bool) -> Result<(), ExecError> {
        let mut bd = f.bd();
        if self.built == Dataflow::Ws && self.hardcode_d_to_garbage_addr {
            bd.local = LocalAddr::GARBAGE;
        }
        let r = self.registers;
        let mut a = std::mem::take(&mut self.a);
        let mut b = std::mem::take(&mut self.b);
        let read = self.read_operand(m, f.a(), r.a_stride, r.a_transpose, &mut a).and_then(|()| {
            let transpose = r.dataflow == DataflowMode::Os && r.b_transpose;
            self.read_operand(m, bd, 1, transpose, &mut b)
        });
        (self.a, self.b) = (a, b);
        read?;
        // Results leave the array after the last operand row has entered it, so a result never feeds its own operands.
        match r.dataflow {
            DataflowMode::Ws => self.weight_stationary(f, flip),
            DataflowMode::Os => self.output_stationary(f, flip),
        }
        self.count_macs(m, f);
        self.write_result(m)
    }

    /// `result = BD + A * weights`, at the array's width.
    fn weight_stationary(&mut self, f: &Compute, flip: bool) {
        if flip {
            self.weights.copy_from_slice(&self.preloaded);
        }
        let (dim, inner) = (self.dim, usize::from(f.a_cols).min(self.dim));
        let rows = self.a.chunks_exact(dim).zip(self.b.chunks_exact(dim)).zip(self.result.chunks_exact_mut(dim));
        for ((a, b), result) in rows.take(self.c.rows.into()) {
            for (sum, &bias) in result.iter_mut().zip(b) {
                *sum = bias.into();
            }
            mac_row(&a[..inner], &self.weights[..inner * dim], result);
        }
        if !self.width.never_wraps(dim) {
            self.width.wrap_row(&mut self.result);
        }
    }

    /// `sums += A * BD`, wrapping at the array's width. The result is the sums, shifted and clipped.
    fn output_stationary(&mut self, f: &Compute, flip: bool) {
        if flip {
            for (sum, &d) in self.sums.iter_mut().zip(&self.preloaded) {
                *sum = d.into();
            }
        }
        let (dim, inner) = (self.dim, usize::from(f.a_cols).min(self.dim));
        let rows = self.a.chunks_exact(dim).zip(self.sums.chunks_exact_mut(dim));
        for (a, sums) in rows.take(f.a_rows.into()) {
            mac_row(&a[..inner], &self.b[..inner * dim], sums);
        }
        self.width.wrap_row(&mut self.sums);
        for (result, &sum) in self.result.iter_mut().zip(&self.sums) {
            *result = propagate(sum, self.registers.in_shift, self.width);
        }
    }

    fn count_macs(&self, m: &mut Machine, f: &Compute) {
        let columns = match self.registers.dataflow {
            DataflowMode::Ws => self.c.cols,
            DataflowMode::Os if f.bd.is_garbage(m.layout) => 0,
            DataflowMode::Os => f.bd_cols,
        };
        if !f.a.is_garbage(m.layout) {
            m.counts.macs += u64::from(f.a_rows) * u64::from(f.a_cols) * u64::from(columns);
        }
    }

    /// Reads an operand of `rows` x `cols` elements into a tile, which is zero elsewhere. A transposed operand lies in memory as
    /// `cols` rows of `rows` elements.
    fn read_operand(
        &mut self,
        m: &mut Machine,
        operand: ExecOperand,
        stride: u32,
        transpose: bool,
        tile: &mut [i8],
    ) -> Result<(), ExecError> {
        let dim = self.dim;
        let (rows, cols) = (usize::from(operand.rows).min(dim), usize::from(operand.cols).min(dim));
        let (rows, cols) = if transpose { (cols, rows) } else { (rows, cols) };
        if operand.local.is_garbage(m.layout) {
            tile.fill(0);
            return Ok(());
        }
        if transpose || cols < dim {
            tile.fill(0);
        } else {
            tile[rows * dim..].fill(0);
        }
        if !transpose
            && stride == 1
            && !operand.local.is_acc()
            && let Some(lines) = m.scratchpad.written_rows(operand.local.full_sp_addr(m.layout) as usize, rows)
        {
            copy_columns(dim, cols, lines, tile);
            return Ok(());
        }
        for row in 0..rows {
            let local = operand.local.add(m.layout, stride.wrapping_mul(row as u32));
            let elements = self.operand_row(m, local)?;
            if transpose {
                for (to, &x) in tile[row..].iter_mut().step_by(dim).zip(&elements[..cols]) {
                    *to = x;
                }
            } else {
                tile[row * dim..][..cols].copy_from_slice(&elements[..cols]);
            }
        }
        Ok(())
    }

    /// A row of the scratchpad. From the accumulator the hardware would deliver the row activated and scaled, if the read were
    /// ever answered.
    fn operand_row<'m>(&'m mut self, m: &'m mut Machine, local: LocalAddr) -> Result<&'m [i8], ExecError> {
        if !local.is_acc() {
            let row = m.scratchpad_row(local)?;
            return Ok(m.scratchpad.row(row));
        }
        let row = m.accumulator_row(local)?;
        let scale = self.registers.acc_scale.0;
        let readout = match self.registers.activation {
            Activation::Relu => Readout::Relu { scale },
            _ => Readout::None { scale },
        };
        let narrow = &mut self.narrow;
        read_row(m.accumulator.row(row), &readout, narrow);
        Ok(narrow)
    }

    fn write_result(&mut self, m: &mut Machine) -> Result<(), ExecError> {
        let c = self.c;
        if c.local.is_garbage(m.layout) {
            return Ok(());
        }
        let (rows, cols) = (usize::from(c.rows).min(self.dim), usize::from(c.cols).min(self.dim));
        let stride = self.registers.c_stride;
        for (row, result) in self.result.chunks_exact(self.dim).enumerate().take(rows) {
            let offset = match self.registers.dataflow {
                DataflowMode::Ws => stride.wrapping_mul(row as u32),
                // The last row comes out first, and only the way to the others is strided.
                DataflowMode::Os => {
                    let last = self.dim as u32 - 1;
                    last.wrapping_sub((last - row as u32).wrapping_mul(stride))
                }
            };
            let local = c.local.add(m.layout, offset);
            self.write_row(m, local, &result[..cols]);
        }
        Ok(())
    }

    fn write_row(&self, m: &mut Machine, local: LocalAddr, result: &[i32]) {
        if local.is_acc() {
            if self.ex_write_to_acc {
                m.write_accumulator(local, result.iter().copied());
            }
        } else if self.ex_write_to_spad {
            let row = m.scratchpad.row_mut(local.full_sp_addr(m.layout) as usize);
            write_scratchpad_row(result, self.registers.activation == Activation::Relu, &mut row[..result.len()]);
        }
    }
}

/// Copies the leading `cols` of each row of `dim` elements.
fn copy_columns(dim: usize, cols: usize, from: &[i8], to: &mut [i8]) {
    if cols == dim {
        to[..from.len()].copy_from_slice(from);
        return;
    }
    for (to, from) in to.chunks_exact_mut(dim).zip(from.chunks_exact(dim)) {
        to[..cols].copy_from_slice(&from[..cols]);
    }
}

/// The dataflow in effect: CONFIG_EX chooses only if the build has both.
fn built_dataflow(built: Dataflow, chosen: DataflowMode) -> DataflowMode {
    match built {
        Dataflow::Os => DataflowMode::Os,
        Dataflow::Ws => DataflowMode::Ws,
        Dataflow::Both => chosen,
    }
}
