//! A loop's slot (`LoopConvState` in `LoopConv.scala`): what the configuration commands wrote, and how far the loop is.

use pollux_isa::fields::{LoopConvConfig5, LoopConvConfig6};
use pollux_isa::{Command, GemminiConfig, RoccCommand, funct};

use crate::front_end::geometry::Geometry;
use crate::front_end::loop_conv::settings::Settings;
use crate::front_end::unroller::{LoopFlags, LoopId};
use crate::observation::event::Unit;
use crate::parts::canonical::{Canon, Canonical};

/// The five parts of a loop, as its flags count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Bias,
    Input,
    Weights,
    Ex,
    St,
}

pub(super) const PARTS: [Part; 5] = [Part::Bias, Part::Input, Part::Weights, Part::Ex, Part::St];
pub(super) const LOADS: [Part; 3] = [Part::Bias, Part::Input, Part::Weights];

/// Parts in the order of the arbiter's priorities.
pub(super) const PRIORITIES: [Part; 5] = [Part::St, Part::Ex, Part::Bias, Part::Weights, Part::Input];

impl Part {
    pub(super) fn unit(self) -> Unit {
        match self {
            Part::Bias | Part::Input | Part::Weights => Unit::Ld,
            Part::Ex => Unit::Ex,
            Part::St => Unit::St,
        }
    }
}

/// Configuration and progress of a loop (`LoopConvState`).
#[derive(Clone, Debug)]
pub(super) struct LoopState {
    pub settings: Settings,
    pub c5: LoopConvConfig5,
    pub c6: LoopConvConfig6,
    pub flags: LoopFlags,
    pub a_addr_start: u32,
    pub b_addr_end: u32,
}

impl LoopState {
    /// The canonical form without the registers that are written by the functions in `overwritten` before they are looked at.
    pub(super) fn canonical_but(&self, overwritten: u32, canon: &mut Canon) {
        let Self { settings: Settings { c1, c2, c3, c4, run }, c5, c6, flags, a_addr_start, b_addr_end } = self;
        let registers: [(u8, &dyn Canonical); 7] = [
            (funct::LOOP_CONV_WS_CONFIG_1, c1),
            (funct::LOOP_CONV_WS_CONFIG_2, c2),
            (funct::LOOP_CONV_WS_CONFIG_3, c3),
            (funct::LOOP_CONV_WS_CONFIG_4, c4),
            (funct::LOOP_CONV_WS_CONFIG_5, c5),
            (funct::LOOP_CONV_WS_CONFIG_6, c6),
            (funct::LOOP_CONV_WS, run),
        ];
        for (funct, register) in registers {
            if overwritten >> funct & 1 == 0 {
                register.canonical(canon);
            }
        }
        flags.canonical(canon);
        [*a_addr_start, *b_addr_end].canonical(canon);
    }

    pub(super) fn new(id: LoopId, config: &GemminiConfig, geometry: &Geometry) -> Self {
        Self {
            settings: Settings::new(config),
            c5: LoopConvConfig5::from_regs(config, 0, 0),
            c6: LoopConvConfig6::from_regs(config, 0, 0),
            flags: LoopFlags::default(),
            a_addr_start: geometry.spad_half(id as u32),
            b_addr_end: geometry.spad_half(id as u32 + 1),
        }
    }

    /// Takes a command of the unroller.
    pub(super) fn configure(&mut self, cmd: RoccCommand, config: &GemminiConfig) {
        let settings = &mut self.settings;
        match Command::from_rocc(config, cmd) {
            Some(Command::LoopConvConfig1(c1)) => settings.c1 = c1,
            Some(Command::LoopConvConfig2(c2)) => settings.c2 = c2.gated(config),
            Some(Command::LoopConvConfig3(c3)) => settings.c3 = c3,
            Some(Command::LoopConvConfig4(c4)) => settings.c4 = c4,
            Some(Command::LoopConvConfig5(c5)) => self.c5 = c5,
            Some(Command::LoopConvConfig6(c6)) => self.c6 = c6,
            Some(Command::LoopConvWs(run)) => {
                settings.run = run.gated(config);
                self.flags.configured = true;
            }
            _ => {}
        }
    }

    pub(super) fn dram_addr(&self, part: Part) -> u64 {
        match part {
            Part::Bias => self.c6.bias,
            Part::Input => self.c6.input,
            Part::Weights => self.c5.weights,
            Part::Ex => 0,
            Part::St => self.c5.output,
        }
    }
}
