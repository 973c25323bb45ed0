//! Residual addition of int8 matrices: `C = sat8(round(relu(sat8(A * a_scale) + sat8(B * b_scale)) * scale))`
//! (`tiled_resadd_auto` of Gemmini's software).

use pollux_asm::program::ElementType;
use pollux_isa::GemminiConfig;
use pollux_isa::LocalAddr;
use pollux_isa::fields::{LoopWs, LoopWsAddrsAb, LoopWsAddrsDc, LoopWsBounds, LoopWsStridesAb, LoopWsStridesDc};
use pollux_isa::values::DataflowMode;
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::allocator::LocalAllocator;
use crate::builder::{LoopMatmul, ProgramBuilder};
use crate::error::KernelError;
use crate::matmul::{CHANNEL_A, CHANNEL_B};
use crate::normalize::pieces;
use crate::schedule::{Emission, ScheduleError};
use crate::view::View;

/// Scratchpad rows of the zeros that sums begin with.
const ZEROS: LocalAddr = LocalAddr::scratchpad(0);

/// A residual addition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidualAdd {
    /// First addend, int8.
    pub a: View,
    /// Second addend, int8.
    pub b: View,
    /// Result, int8.
    pub c: View,
    /// Factor of A's elements as they are loaded.
    pub a_scale: f32,
    /// Factor of B's elements as they are loaded.
    pub b_scale: f32,
    /// Factor of the read-out.
    pub scale: f32,
    /// Whether negative results become 0.
    pub relu: bool,
}

/// How a residual addition is cut into tiles and emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualAddSchedule {
    /// Rows of a tile, in elements.
    pub rows: usize,
    /// Columns of a tile, in elements.
    pub cols: usize,
    /// How a tile becomes commands.
    pub emission: Emission,
}

impl ResidualAddSchedule {
    /// The rule of `tiled_resadd_stride_auto`: starts with everything; while half the accumulator is too small, halves
    /// the rows or takes a block of columns away.
    pub fn gemmini_default(config: &GemminiConfig, rows: usize, cols: usize) -> Self {
        let (dim, half) = (config.dim() as usize, config.acc_rows() as usize / 2);
        let (mut rows, mut cols) = (rows, cols);
        while rows.div_ceil(dim) * dim * cols.div_ceil(dim) > half && rows > 0 {
            if rows >= cols || cols <= dim {
                rows /= 2;
            } else {
                cols -= dim;
            }
        }
        Self { rows, cols, emission: Emission::Unroller }
    }

    /// Whether the hardware can do it.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self, config: &GemminiConfig) -> Result<(), ScheduleError> {
        let dim = config.dim() as usize;
        if self.rows == 0 || self.cols == 0 {
            return Err(ScheduleError::Empty { axis: if self.rows == 0 { "i" } else { "j" } });
        }
        let needed = self.rows.div_ceil(dim) * dim * self.cols.div_ceil(dim);
        let available = config.acc_rows() as usize / 2;
        if needed > available {
            return Err(ScheduleError::Accumulator { needed, available });
        }
        Ok(())
    }
}

impl ResidualAdd {
    /// `C = sat8(A + B)`.
    pub fn new(a: View, b: View, c: View) -> Self {
        Self { a, b, c, a_scale: 1.0, b_scale: 1.0, scale: 1.0, relu: false }
    }

    /// Emits the addition with Gemmini's tiles, by single commands.
    ///
    /// Gemmini's software uses the unroller ([`ResidualAddSchedule::gemmini_default`]), which overwrites with A and then
    /// adds B. When the memory port is blocked, the requests of the two may change places, and a part of A is lost.
    ///
    /// # Errors
    /// As [`ResidualAdd::lower`].
    pub fn lower_auto(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        let default = ResidualAddSchedule::gemmini_default(builder.config(), self.c.rows, self.c.cols);
        self.lower(builder, &ResidualAddSchedule { emission: Emission::Commands, ..default })
    }

    /// Emits the addition.
    ///
    /// # Errors
    /// Operands of different shapes or not int8, or an illegal schedule.
    pub fn lower(&self, builder: &mut ProgramBuilder, schedule: &ResidualAddSchedule) -> Result<(), KernelError> {
        let expected = (self.c.rows, self.c.cols);
        for (operand, view) in [("A", &self.a), ("B", &self.b), ("the int8 result", &self.c)] {
            let found = (view.rows, view.cols);
            if found != expected || view.element != ElementType::I8 {
                return Err(KernelError::Shape { operation: builder.operation().to_owned(), operand, found, expected });
            }
        }
        schedule
            .check(builder.config())
            .map_err(|source| KernelError::Schedule { operation: builder.operation().to_owned(), source })?;
        let activation = if self.relu { Activation::Relu } else { Activation::None };
        builder.config_st(self.c.stride_bytes(), self.scale, &activation)?;
        builder.config_ex(DataflowMode::Ws, &Activation::None, false, false)?;
        builder.config_ld(CHANNEL_A, self.a.stride_bytes(), self.a_scale, true)?;
        builder.config_ld(CHANNEL_B, self.b.stride_bytes(), self.b_scale, true)?;
        if schedule.emission == Emission::Commands {
            builder.load_zeros(ZEROS)?;
        }
        let mut tiles = 0;
        for row in (0..self.c.rows).step_by(schedule.rows) {
            for col in (0..self.c.cols).step_by(schedule.cols) {
                let rows = row..(row + schedule.rows).min(self.c.rows);
                let cols = col..(col + schedule.cols).min(self.c.cols);
                let part = |view: &View| view.rows(rows.clone())?.columns(cols.clone());
                let tile = Self { a: part(&self.a)?, b: part(&self.b)?, c: part(&self.c)?, ..*self };
                match schedule.emission {
                    Emission::Unroller => tile.unrolled(builder)?,
                    Emission::Commands => tile.commands(builder, schedule, tiles % 2)?,
                }
                tiles += 1;
            }
        }
        Ok(())
    }

    fn unrolled(&self, builder: &mut ProgramBuilder) -> Result<(), KernelError> {
        let dim = builder.dim();
        let (i, j) = (self.c.rows.div_ceil(dim), self.c.cols.div_ceil(dim));
        let activation = if self.relu { Activation::Relu } else { Activation::None };
        builder.loop_ws(&LoopMatmul {
            bounds: LoopWsBounds {
                pad_i: (i * dim - self.c.rows) as u16,
                pad_j: (j * dim - self.c.cols) as u16,
                pad_k: 0,
                i: i as u16,
                j: j as u16,
                k: 0,
            },
            ab: LoopWsAddrsAb { a: self.a.address, b: self.b.address },
            dc: LoopWsAddrsDc { d: 0, c: self.c.address },
            strides_ab: LoopWsStridesAb { a_stride: self.a.stride as u64, b_stride: self.b.stride as u64 },
            strides_dc: LoopWsStridesDc { d_stride: 0, c_stride: self.c.stride as u64 },
            run: LoopWs {
                ex_accumulate: false,
                full_c: false,
                low_d: false,
                act: activation.code(),
                b_spad_id: 0,
                a_spad_id: 0,
                a_transpose: false,
                b_transpose: false,
                is_resadd: true,
                skip_lda: false,
                skip_ldb: false,
                skip_ldd: false,
                skip_ex: false,
                skip_stc: false,
                inc_acc_addr: false,
                spad_only: false,
                c_spad: 0,
            },
        })?;
        let bytes = (self.c.rows * self.c.cols) as u64;
        builder.count(|s| {
            // B is fetched in whole blocks of rows.
            s.bytes_in += bytes + (i * dim * self.c.cols) as u64;
            s.bytes_out += bytes;
        });
        for row in self.b.rows..i * dim {
            builder.overread(self.b.at(row, 0)..self.b.at(row, self.b.cols));
        }
        Ok(())
    }

    /// Both addends accumulate onto zeros, since loads are not kept in order: see [`ProgramBuilder::clear`].
    fn commands(
        &self,
        builder: &mut ProgramBuilder,
        schedule: &ResidualAddSchedule,
        half: usize,
    ) -> Result<(), KernelError> {
        let dim = builder.dim();
        let rows = schedule.rows.div_ceil(dim) * dim * schedule.cols.div_ceil(dim);
        let mut accumulator = LocalAllocator::accumulator(builder.config(), builder.operation());
        let base = [accumulator.allocate("sums", rows)?, accumulator.allocate("sums", rows)?][half];
        self.for_pieces(builder, base, |builder, _, [rows, cols], local| {
            let layout = builder.config().layout();
            (0..cols.div_ceil(dim))
                .try_for_each(|block| builder.clear(ZEROS, local.add(layout, (block * dim) as u32), rows))
        })?;
        for (channel, view) in [(CHANNEL_A, &self.a), (CHANNEL_B, &self.b)] {
            self.for_pieces(builder, base, |builder, at, extent, local| {
                builder.mvin(channel, view, at, extent, local.with_accumulate())
            })?;
        }
        self.for_pieces(builder, base, |builder, at, extent, local| builder.mvout(&self.c, at, extent, local))
    }

    /// Applies something to each piece of a block row that one command can move: its first element, extent and place.
    fn for_pieces(
        &self,
        builder: &mut ProgramBuilder,
        base: LocalAddr,
        apply: impl Fn(&mut ProgramBuilder, [usize; 2], [usize; 2], LocalAddr) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let (dim, layout) = (builder.dim(), builder.config().layout());
        let blocks = self.c.cols.div_ceil(dim);
        for (block_row, row) in (0..self.c.rows).step_by(dim).enumerate() {
            for piece in pieces(self.c.cols, dim, builder.config().max_block_len() as usize) {
                let local = base.add(layout, ((block_row * blocks + piece.block) * dim) as u32);
                let extent = [dim.min(self.c.rows - row), piece.columns.len()];
                apply(builder, [row, piece.columns.start], extent, local)?;
            }
        }
        Ok(())
    }
}
