//! MVOUT, CONFIG_ST and CONFIG_NORM: `StoreController.scala` and the way of the data out of the local memories
//! (`Normalizer.scala`, `AccumulatorScale.scala`, `DMA.scala`).

use pollux_isa::config::{ExpVariant, NORM_STAT_IDS};
use pollux_isa::fields::{ConfigNorm, ConfigSt, MoveOperands};
use pollux_isa::values::{Activation, Bits, NormCmd, Scale};
use pollux_isa::{GemminiConfig, LocalAddr};
use pollux_numerics::{IexpConstants, IexpVariant, Readout, Statistics, read_row};

use crate::counts::Divisions;
use crate::machine::{DRAM_MASK, Machine};
use crate::policy::ExecError;

/// The registers of CONFIG_ST's image geometry.
#[derive(Clone, Copy, Debug, Default)]
struct Pooling {
    stride: u32,
    size: u32,
    out_dim: u32,
    porows: u32,
    pocols: u32,
    orows: u32,
    ocols: u32,
    upad: u32,
    lpad: u32,
}

/// The store controller's state, and the normalizer's statistics registers behind it.
#[derive(Clone, Debug)]
pub(crate) struct StoreController {
    stride: u64,
    /// Three bits: CONFIG_ST writes two and clears the third, CONFIG_NORM writes the third.
    activation: u64,
    acc_scale: Scale,
    pool: Pooling,
    iexp: IexpConstants,
    stats_id: usize,
    statistics: [Statistics; NORM_STAT_IDS as usize],
    divisions: Divisions,
    dim: usize,
    has_acc_scale: bool,
    has_nonlinear_activations: bool,
    has_normalizations: bool,
    has_max_pool: bool,
    iexp_variant: IexpVariant,
    /// The writer's row (`data_blocks`, `data_single_block`).
    row: Vec<u8>,
    /// A row of scratchpad elements.
    elements: Vec<i8>,
}

impl StoreController {
    pub(crate) fn new(config: &GemminiConfig) -> Self {
        let dim = config.dim() as usize;
        Self {
            stride: 0,
            activation: 0,
            acc_scale: Scale(0),
            pool: Pooling::default(),
            iexp: IexpConstants::default(),
            stats_id: 0,
            statistics: std::array::from_fn(|_| Statistics::default()),
            divisions: Divisions::default(),
            dim,
            has_acc_scale: config.acc_scale_args.is_some(),
            has_nonlinear_activations: config.has_nonlinear_activations,
            has_normalizations: config.has_normalizations,
            has_max_pool: config.has_max_pool,
            iexp_variant: match config.softmax_exp {
                ExpVariant::Polynomial8c3f992 => IexpVariant::GeluPolynomial,
                ExpVariant::Released => IexpVariant::Exponential,
            },
            row: Vec::new(),
            elements: vec![0; dim],
        }
    }

    pub(crate) fn divisions(&self) -> &Divisions {
        &self.divisions
    }

    pub(crate) fn config(&mut self, f: &ConfigSt) {
        self.stride = f.stride.into();
        self.activation = f.activation.to_bits();
        if f.acc_scale != Scale::KEEP {
            self.acc_scale = f.acc_scale;
        }
        let pool = &mut self.pool;
        (pool.stride, pool.size) = (f.pool_stride.into(), f.pool_size.into());
        if f.pool_stride != 0 || f.pool_size != 0 {
            (pool.orows, pool.ocols, pool.out_dim) = (f.orows.into(), f.ocols.into(), f.pool_out_dim.into());
        }
        if f.pool_stride != 0 {
            (pool.porows, pool.pocols) = (f.porows.into(), f.pocols.into());
            (pool.upad, pool.lpad) = (f.upad.into(), f.lpad.into());
        }
    }

    pub(crate) fn config_norm(&mut self, f: &ConfigNorm) {
        self.stats_id = usize::from(f.norm_stats_id) % self.statistics.len();
        if f.set_stats_id_only {
            return;
        }
        (self.iexp.qb, self.iexp.qc) = (f.qb, f.qc);
        if f.q_const_type {
            self.iexp.qln2_inv = f.q_const;
        } else {
            self.iexp.qln2 = f.q_const;
        }
        self.activation = u64::from(f.act_msb) << 2 | self.activation & 3;
    }

    pub(crate) fn mvout(&mut self, m: &mut Machine, f: &MoveOperands) -> Result<(), ExecError> {
        if f.cols == 0 {
            return Ok(());
        }
        if self.has_max_pool && self.pool.stride != 0 {
            self.mvout_pooled(m, f)
        } else if self.pool.size != 0 {
            self.mvout_1d(m, f)
        } else {
            self.mvout_plain(m, f)
        }
    }

    fn mvout_plain(&mut self, m: &mut Machine, f: &MoveOperands) -> Result<(), ExecError> {
        let (cols, dim) = (usize::from(f.cols), self.dim);
        let blocks = cols.div_ceil(dim);
        for row in 0..u32::from(f.rows) {
            self.row.clear();
            let mut stored = true;
            for block in 0..blocks {
                let local = f.local.add(m.layout, (block * dim) as u32 + row);
                let (len, cmd) = match block + 1 == blocks {
                    true => (cols - block * dim, f.local.norm_cmd()),
                    false => (dim, f.local.norm_cmd().non_reset_version()),
                };
                stored = self.append_row(m, local, cmd, len)?;
            }
            if stored {
                self.write_row(m, f.dram.wrapping_add(self.stride.wrapping_mul(row.into())));
            }
        }
        Ok(())
    }

    /// Rows of one image, packed in the accumulator, to the pixels of a larger image.
    fn mvout_1d(&mut self, m: &mut Machine, f: &MoveOperands) -> Result<(), ExecError> {
        let Pooling { orows, ocols, out_dim, .. } = self.pool;
        let len = usize::from(f.cols).min(self.dim);
        for row in 0..orows * ocols {
            self.row.clear();
            if self.append_row(m, f.local.add(m.layout, row), f.local.norm_cmd(), len)? {
                let pixel = u64::from(row / ocols * out_dim + row % ocols);
                self.write_row(m, f.dram.wrapping_add(pixel.wrapping_mul(self.stride)));
            }
        }
        Ok(())
    }

    /// The largest element over each window; positions outside the image contribute 0.
    fn mvout_pooled(&mut self, m: &mut Machine, f: &MoveOperands) -> Result<(), ExecError> {
        let pool = self.pool;
        let mut largest = Vec::new();
        for porow in 0..pool.porows {
            for pocol in 0..pool.pocols {
                let mut stored = false;
                for window in 0..pool.size * pool.size {
                    let (wrow, wcol) = (window / pool.size, window % pool.size);
                    let local = self.pool_row(m, f.local, porow * pool.stride + wrow, pocol * pool.stride + wcol);
                    self.row.clear();
                    stored = self.append_row(m, local, f.local.norm_cmd(), usize::from(f.cols).min(self.dim))?;
                    if stored {
                        Self::take_largest(&mut largest, &self.row, window == 0, self.dim);
                    }
                }
                if stored {
                    self.row.clone_from(&largest);
                    let pixel = u64::from(porow * pool.out_dim + pocol);
                    self.write_row(m, f.dram.wrapping_add(pixel.wrapping_mul(self.stride)));
                }
            }
        }
        Ok(())
    }

    /// Local row of the padded image's pixel; garbage outside the image.
    fn pool_row(&self, m: &Machine, base: LocalAddr, row: u32, col: u32) -> LocalAddr {
        let Pooling { orows, ocols, upad, lpad, .. } = self.pool;
        let inside = |at: u32, pad: u32, size: u32| at.checked_sub(pad).filter(|&at| at < size);
        match (inside(row, upad, orows), inside(col, lpad, ocols)) {
            (Some(row), Some(col)) => base.add(m.layout, row * ocols + col),
            _ => LocalAddr::GARBAGE,
        }
    }

    /// `pooled` of `DMA.scala`: compares the first DIM input elements of the row; what is behind them keeps its old value.
    fn take_largest(largest: &mut Vec<u8>, row: &[u8], first: bool, dim: usize) {
        if first {
            row.clone_into(largest);
            return;
        }
        for (old, new) in largest.iter_mut().zip(row).take(dim) {
            *old = (*old as i8).max(*new as i8) as u8;
        }
    }

    /// Appends `len` elements of a local row to the writer's row, or gives them to the normalizer.
    /// Returns whether the row goes to memory.
    fn append_row(&mut self, m: &mut Machine, local: LocalAddr, cmd: NormCmd, len: usize) -> Result<bool, ExecError> {
        if local.is_garbage(m.layout) {
            self.row.resize(self.row.len() + len, 0);
            return Ok(true);
        }
        if !local.is_acc() {
            let row = m.scratchpad_row(local)?;
            self.row.extend(m.scratchpad.row(row)[..len].iter().map(|&x| x as u8));
            return Ok(true);
        }
        let row = m.accumulator_row(local)?;
        let elements = &m.accumulator.row(row)[..len];
        if self.has_normalizations {
            self.normalize(cmd, elements);
            if !cmd.writes_to_main_memory() {
                return Ok(false);
            }
        }
        if local.read_full() {
            self.row.extend(elements.iter().flat_map(|x| x.to_le_bytes()));
        } else {
            let readout = self.readout();
            let small = &mut self.elements[..len];
            read_row(elements, &readout, small);
            self.row.extend(small.iter().map(|&x| x as u8));
        }
        Ok(true)
    }

    /// What the normalizer does with a row.
    fn normalize(&mut self, cmd: NormCmd, row: &[i32]) {
        let (iexp, variant, scale) = (self.iexp, self.iexp_variant, self.acc_scale.0);
        let statistics = &mut self.statistics[self.stats_id];
        match cmd {
            NormCmd::Reset => statistics.reset(),
            NormCmd::Sum => statistics.add_sum(row),
            NormCmd::Mean => self.divisions.push(statistics.finish_mean(row)),
            NormCmd::Variance => statistics.add_variance(row),
            NormCmd::InvStddev => self.divisions.push(statistics.finish_inv_stddev(row, scale)),
            NormCmd::Max => statistics.add_max(row),
            NormCmd::SumExp => statistics.add_sum_exp(row, &iexp, variant),
            NormCmd::InvSumExp => {
                self.divisions.push(statistics.finish_inv_sum_exp(row, &iexp, variant, scale));
            }
        }
    }

    /// Activation and scale of a row read at the scratchpad's width.
    fn readout(&self) -> Readout {
        // Without `acc_scale_args` nothing is multiplied, by the statistics neither (`acc_scale_func`, `GemminiConfigs.scala`).
        let factor = |scale| if self.has_acc_scale { scale } else { Scale::IDENTITY.0 };
        let scale = factor(self.acc_scale.0);
        let activation = Activation::from_bits(self.activation);
        let built = match activation {
            Activation::None => true,
            Activation::Relu => self.has_nonlinear_activations,
            _ => self.has_nonlinear_activations && self.has_normalizations,
        };
        let statistics = &self.statistics[self.stats_id];
        match activation {
            _ if !built => Readout::None { scale },
            Activation::None => Readout::None { scale },
            Activation::Relu => Readout::Relu { scale },
            Activation::Layernorm => {
                Readout::LayerNorm { mean: statistics.mean, inv_stddev: factor(statistics.inv_stddev) }
            }
            Activation::Igelu => Readout::Igelu { scale, qb: self.iexp.qb, qc: self.iexp.qc },
            Activation::Softmax => Readout::Softmax {
                max: statistics.max,
                inv_sum_exp: factor(statistics.inv_sum_exp),
                constants: self.iexp,
                variant: self.iexp_variant,
            },
        }
    }

    fn write_row(&self, m: &mut Machine, address: u64) {
        m.write_dram(address & DRAM_MASK, &self.row);
        m.counts.bytes_out += self.row.len() as u64;
    }
}
