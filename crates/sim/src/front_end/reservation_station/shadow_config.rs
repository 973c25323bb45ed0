//! What the configuration commands set, as far as the station needs it for the ranges of later commands.

use pollux_isa::config::LOAD_STATES;
use pollux_isa::fields::{ConfigEx, ConfigLd, MoveOperands, MoveSpad};
use pollux_isa::table::Class;
use pollux_isa::{AddressLayout, Command, GemminiConfig, LocalAddr, RoccCommand, funct};

use crate::front_end::geometry::mask;
use crate::front_end::reservation_station::operands::{Operand, Operands};
use crate::observation::event::EventBuffer;
use crate::observation::violation::Violation;
use crate::parts::canonical::Canonical;

/// The station's copy of what the configuration commands set, kept at allocation for the ranges of later commands.
#[derive(Clone, Debug, Canonical)]
pub(super) struct ShadowConfig {
    #[canon(skip = "constant")]
    config: GemminiConfig,
    #[canon(skip = "constant")]
    layout: AddressLayout,
    a_stride: u32,
    c_stride: u32,
    a_transpose: bool,
    block_strides: [u32; LOAD_STATES],
    /// Pixel repeats minus one.
    pixel_repeats: [u32; LOAD_STATES],
    pooling_is_enabled: bool,
}

impl ShadowConfig {
    pub(super) fn new(config: &GemminiConfig) -> Self {
        Self {
            layout: config.layout(),
            config: config.clone(),
            a_stride: 0,
            c_stride: 0,
            a_transpose: false,
            block_strides: [0; LOAD_STATES],
            pixel_repeats: [0; LOAD_STATES],
            pooling_is_enabled: false,
        }
    }

    /// Takes a configuration.
    pub(super) fn update(&mut self, cmd: RoccCommand) {
        match Command::from_rocc(&self.config, cmd) {
            Some(Command::ConfigEx(fields)) => self.update_execute(&fields),
            Some(Command::ConfigLd(fields)) => self.update_load(&fields),
            Some(Command::ConfigSt(fields)) => self.pooling_is_enabled = fields.pool_stride != 0,
            _ => {}
        }
    }

    fn update_execute(&mut self, fields: &ConfigEx) {
        // The station keeps fewer bits of the strides than the execute controller.
        self.a_stride = u32::from(fields.a_stride) & mask(self.config.a_stride_bits()) as u32;
        self.c_stride = u32::from(fields.c_stride) & mask(self.config.c_stride_bits()) as u32;
        if !fields.set_only_strides {
            self.a_transpose = fields.a_transpose;
        }
    }

    fn update_load(&mut self, fields: &ConfigLd) {
        let channel = usize::from(fields.state_id);
        if channel < LOAD_STATES {
            self.block_strides[channel] = fields.block_stride.into();
            self.pixel_repeats[channel] = u32::from(fields.repeats()) - 1;
        }
    }

    /// The station's assertions on a command.
    pub(super) fn require_legal(&self, cmd: RoccCommand, events: &mut EventBuffer) {
        let known = matches!(cmd.class(), Some(Class::Load | Class::Execute | Class::Store));
        events.require(known, Violation::UnknownFunction);
        if cmd.funct == funct::STORE_SPAD_CMD {
            let fields = MoveSpad::from_regs(&self.config, cmd.rs1, cmd.rs2);
            events.require(!self.pooling_is_enabled, Violation::PooledMove);
            events.require(!fields.dst.is_acc(), Violation::MoveToAccumulator);
        }
    }

    /// The ranges of a command that is no configuration.
    pub(super) fn operands(&self, cmd: RoccCommand) -> Operands {
        match Command::from_rocc(&self.config, cmd) {
            Some(Command::Preload(fields)) => {
                let c = self.rows(fields.c, u32::from(fields.c_rows) * self.c_stride);
                Operands::written(c, Some(self.rows(fields.d, fields.d_rows.into())))
            }
            Some(Command::ComputePreloaded(fields) | Command::ComputeAccumulated(fields)) => {
                let rows_of_a = if self.a_transpose { fields.a_cols } else { fields.a_rows };
                let a = self.rows(fields.a, u32::from(rows_of_a) * self.a_stride);
                Operands::read(a, self.rows(fields.bd, fields.bd_rows.into()))
            }
            Some(Command::Mvout(fields)) => {
                let source = self.mvout_source(&fields);
                Operands::read(source, source)
            }
            Some(Command::MvoutSpad(fields)) => {
                let source = MoveOperands { dram: 0, local: fields.local, cols: fields.cols, rows: fields.rows };
                let destination = self.rows(fields.dst, fields.rows.into());
                Operands::written(destination, Some(self.mvout_source(&source)))
            }
            // The station takes whatever it does not know for a load.
            _ => Operands::written(self.mvin_destination(cmd), None),
        }
    }

    fn rows(&self, start: LocalAddr, rows: u32) -> Operand {
        Operand::rows(self.layout, start, rows)
    }

    fn mvout_source(&self, operands: &MoveOperands) -> Operand {
        if self.pooling_is_enabled {
            return self.rest_of_bank(operands.local);
        }
        self.rows(operands.local, self.moved_rows(operands, self.config.dim()))
    }

    /// A pooled MVOUT is taken to read everything up to the next accumulator bank.
    fn rest_of_bank(&self, start: LocalAddr) -> Operand {
        let bank_bits = (self.layout.acc_addr_bits - self.layout.acc_bank_row_bits).max(1);
        let next_bank = (start.acc_bank(self.layout) + 1) & mask(bank_bits) as u32;
        let end = LocalAddr::accumulator(0).with_data(self.layout, next_bank << self.layout.acc_bank_row_bits);
        Operand::new(self.layout, start, end, end.acc_bank(self.layout) == 0)
    }

    fn mvin_destination(&self, cmd: RoccCommand) -> Operand {
        let channel = match cmd.funct {
            funct::LOAD2_CMD => 1,
            funct::LOAD3_CMD => 2,
            _ => 0,
        };
        let operands = MoveOperands::from_regs(&self.config, cmd.rs1, cmd.rs2);
        let mut start = operands.local;
        if self.config.has_first_layer_optimizations && !start.is_acc() {
            let middle = self.layout.sp_rows / 2;
            let floor = if start.full_sp_addr(self.layout) > middle { middle } else { 0 };
            start = start.floor_sub(self.layout, self.pixel_repeats[channel], floor).0;
        }
        self.rows(start, self.moved_rows(&operands, self.block_strides[channel]))
    }

    /// Local rows from the first to the last that a move touches.
    fn moved_rows(&self, operands: &MoveOperands, block_stride: u32) -> u32 {
        let blocks_before_last =
            operands.blocks(&self.config).wrapping_sub(1) & mask(self.config.mvin_cols_bits()) as u32;
        blocks_before_last * block_stride + u32::from(operands.rows)
    }
}
