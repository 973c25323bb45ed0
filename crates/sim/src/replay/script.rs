//! What a host will do, as far as time depends on it.

use std::collections::HashSet;

use pollux_isa::table::Class;
use pollux_isa::{Command, GemminiConfig, RoccCommand, funct};
use xxhash_rust::xxh3::xxh3_64;

use super::names::Names;
use super::table::{ReplayOptions, command_name};
use crate::host::ScriptItem;
use crate::port::operand_space::{PAGE, REACH};

/// What the commands of a program must keep to for its operands to be [told apart](crate::port::operand_space): every address that a
/// command reaches lies near the operand's first byte. Programs for any real memory do.
pub(super) fn is_replayable(config: &GemminiConfig, script: &[ScriptItem]) -> bool {
    let mut reach = Reach::new(config);
    script.iter().all(|item| match item {
        ScriptItem::Command(cmd) => reach.keeps(config, cmd),
        _ => true,
    })
}

/// Bounds on how far the commands of a program reach from their addresses, each the largest that any of them has asked for.
struct Reach {
    dim: u64,
    /// Bytes from the first row of a move to the last.
    moves: u64,
    /// Rows of a matrix loop, and elements from one to the next.
    loop_rows: u64,
    loop_stride: u64,
    /// Images, rows, columns and channels of a convolution loop.
    images: u64,
    image_rows: u64,
    image_columns: u64,
    channels: u64,
    /// Edge of its kernel.
    kernel: u64,
}

/// Rows of a move, and pixels of a pooled one, at most (`GemminiISA.scala`: the widths of the fields).
const MOVE_ROWS: u64 = 1 << 8;
const POOLED_PIXELS: u64 = 1 << 16;
/// Bytes of the largest element.
const ELEMENT_BYTES: u64 = 4;

impl Reach {
    fn new(config: &GemminiConfig) -> Self {
        Self {
            dim: config.dim().into(),
            moves: 0,
            loop_rows: 0,
            loop_stride: 0,
            images: 0,
            image_rows: 0,
            image_columns: 0,
            channels: 0,
            kernel: 0,
        }
    }

    /// True if the operands of this command, and of all before it, stay within reach.
    fn keeps(&mut self, config: &GemminiConfig, cmd: &RoccCommand) -> bool {
        let addresses = cmd.dram_registers().into_iter().zip([cmd.rs1, cmd.rs2]);
        if addresses.into_iter().any(|(is, address)| is && address >= 1 << 40) {
            return false;
        }
        if let Some(command) = Command::from_rocc(config, *cmd) {
            self.note(&command);
        }
        let product = |factors: &[u64]| factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor));
        let matrix = product(&[self.loop_rows, self.loop_stride, ELEMENT_BYTES]);
        let images = product(&[self.images, self.image_rows, self.image_columns, self.channels, ELEMENT_BYTES]);
        let weights = product(&[self.kernel, self.kernel, self.channels, self.channels]);
        self.moves.max(matrix).max(images).max(weights) <= REACH - PAGE
    }

    fn note(&mut self, command: &Command) {
        let raise = |bound: &mut u64, values: &[u16]| {
            *bound = values.iter().map(|value| u64::from(*value) + 1).fold(*bound, u64::max);
        };
        match command {
            Command::ConfigLd(c) => self.moves = self.moves.max(c.stride.saturating_mul(MOVE_ROWS)),
            Command::ConfigSt(c) => {
                let rows = if c.pool_stride == 0 { MOVE_ROWS } else { POOLED_PIXELS };
                self.moves = self.moves.max(u64::from(c.stride).saturating_mul(rows));
            }
            Command::LoopWsBounds(c) => {
                let blocks = u64::from(c.i.max(c.j).max(c.k)) + 1;
                self.loop_rows = self.loop_rows.max(blocks * self.dim);
            }
            Command::LoopWsStridesAb(c) => self.loop_stride = self.loop_stride.max(c.a_stride).max(c.b_stride),
            Command::LoopWsStridesDc(c) => self.loop_stride = self.loop_stride.max(c.d_stride).max(c.c_stride),
            Command::LoopConvConfig1(c) => {
                raise(&mut self.images, &[c.batch_size]);
                raise(&mut self.image_rows, &[c.in_row_dim, c.out_row_dim, c.pool_out_row_dim]);
                raise(&mut self.image_columns, &[c.out_col_dim]);
                raise(&mut self.channels, &[c.in_channels, c.out_channels]);
            }
            Command::LoopConvConfig2(c) => {
                raise(&mut self.images, &[c.batches]);
                raise(&mut self.image_columns, &[c.pool_out_col_dim]);
                raise(&mut self.kernel, &[c.kernel_dim]);
            }
            Command::LoopConvConfig3(c) => {
                raise(&mut self.image_columns, &[c.in_col_dim]);
                raise(&mut self.kernel, &[c.krows, c.kcols]);
            }
            Command::LoopConvConfig4(c) => raise(&mut self.channels, &[c.out_stride, c.weight_stride, c.in_stride]),
            _ => {}
        }
    }
}

/// Whether there are commands for the performance counters.
pub(crate) fn has_counters(script: &[ScriptItem]) -> bool {
    let is_counter = |cmd: &RoccCommand| cmd.funct == funct::COUNTER_OP;
    script.iter().any(|item| matches!(item, ScriptItem::Command(cmd) if is_counter(cmd)))
}

/// Commands in a row that are looked for again: a loop with its configuration.
const IN_A_ROW: usize = 6;
/// Of so many places in a program one must come again for its situations to be worth their recording.
const ONE_OF: usize = 8;
/// Places after which what was seen may be enough.
const ENOUGH: usize = 256;

/// Whether recording the situations of a script pays, if they are of no use to later runs.
pub(crate) fn pays(config: &GemminiConfig, script: &[ScriptItem], options: &ReplayOptions) -> bool {
    let wanted = options.every_command || options.check > 0.0 || options.drop_field.is_some();
    wanted || may_repeat(script, Names::of(config))
}

/// Whether commands of a script come again, so that its situations may. Loops and single commands are looked at apart: a loop takes as
/// long as many commands.
fn may_repeat(script: &[ScriptItem], names: Names) -> bool {
    #[derive(Default)]
    struct Places {
        seen: HashSet<u64>,
        all: usize,
        again: usize,
    }
    impl Places {
        fn are_worth(&self) -> bool {
            self.again > 0 && self.again * ONE_OF >= self.all
        }
    }
    let [mut loops, mut single] = <[Places; 2]>::default();
    let mut row = [0u128; IN_A_ROW];
    for item in script {
        let ScriptItem::Command(cmd) = item else { continue };
        row.rotate_left(1);
        row[IN_A_ROW - 1] = command_name(cmd, names);
        let places = match (starts_loop(cmd), belongs_to_loop(cmd)) {
            (true, _) => &mut loops,
            (false, true) => continue,
            (false, false) => &mut single,
        };
        let bytes = row.map(u128::to_le_bytes);
        places.all += 1;
        places.again += usize::from(!places.seen.insert(xxh3_64(bytes.as_flattened())));
        if places.all >= ENOUGH && places.are_worth() {
            return true;
        }
    }
    loops.are_worth() || single.are_worth()
}

/// Which loop commands are still to come at each item of a script before the unroller's next loop starts.
#[derive(Debug, Default)]
pub(super) struct LoopGroups {
    /// By item: functions that the group of its command has not presented yet.
    pending: Vec<u32>,
    /// Functions that are presented anew for every loop of their unroller.
    pub always: u32,
}

/// Whether any load of a script may have a scale other than this one, which passes rows on as they are.
pub(super) fn scales_loads(config: &GemminiConfig, script: &[ScriptItem], identity: Option<u32>) -> bool {
    let Some(identity) = identity else { return false };
    // Channels that have been given this scale. The unroller of convolutions configures those that it loads by.
    let mut channels = [false; 3];
    script.iter().any(|item| {
        let ScriptItem::Command(cmd) = item else { return false };
        match (cmd.funct, Command::from_rocc(config, *cmd)) {
            (_, Some(Command::ConfigLd(c))) => {
                if let Some(channel) = channels.get_mut(usize::from(c.state_id)) {
                    *channel = true;
                }
                c.scale.0 != identity
            }
            (funct::LOAD_CMD, _) => !channels[0],
            (funct::LOAD2_CMD, _) => !channels[1],
            (funct::LOAD3_CMD, _) => !channels[2],
            (funct::LOOP_WS, _) => channels != [true; 3],
            _ => false,
        }
    })
}

/// The functions that configure a loop, and the one that starts it.
const GROUPS: [(u32, u8); 2] = [
    (
        1 << funct::LOOP_WS_CONFIG_BOUNDS
            | 1 << funct::LOOP_WS_CONFIG_ADDRS_AB
            | 1 << funct::LOOP_WS_CONFIG_ADDRS_DC
            | 1 << funct::LOOP_WS_CONFIG_STRIDES_AB
            | 1 << funct::LOOP_WS_CONFIG_STRIDES_DC,
        funct::LOOP_WS,
    ),
    (
        1 << funct::LOOP_CONV_WS_CONFIG_1
            | 1 << funct::LOOP_CONV_WS_CONFIG_2
            | 1 << funct::LOOP_CONV_WS_CONFIG_3
            | 1 << funct::LOOP_CONV_WS_CONFIG_4
            | 1 << funct::LOOP_CONV_WS_CONFIG_5
            | 1 << funct::LOOP_CONV_WS_CONFIG_6,
        funct::LOOP_CONV_WS,
    ),
];

impl LoopGroups {
    pub fn of(script: &[ScriptItem]) -> Self {
        let mut groups = Self { pending: Vec::with_capacity(script.len()), always: u32::MAX };
        let mut pending = GROUPS.map(|(all, _)| all);
        for item in script {
            groups.pending.push(pending[0] | pending[1]);
            let ScriptItem::Command(cmd) = item else { continue };
            for (i, (all, run)) in GROUPS.into_iter().enumerate() {
                if cmd.funct == run {
                    groups.always &= !pending[i];
                    pending[i] = all;
                } else if cmd.funct < 32 {
                    pending[i] &= !(1 << cmd.funct);
                }
            }
        }
        groups
    }

    /// The functions still to be presented when item `at` is next.
    pub fn pending(&self, at: usize) -> u32 {
        self.pending.get(at).copied().unwrap_or(0)
    }
}

/// True if a command starts a loop of an unroller.
pub(super) fn starts_loop(cmd: &RoccCommand) -> bool {
    matches!(cmd.funct, funct::LOOP_WS | funct::LOOP_CONV_WS)
}

/// True if a command only configures a loop.
pub(super) fn belongs_to_loop(cmd: &RoccCommand) -> bool {
    matches!(cmd.class(), Some(Class::LoopWs | Class::LoopConv))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names { identity: None, request: 64 };

    /// So many loads, the same ones from the beginning after `period`, each from a place of its own.
    fn loads(count: u64, period: u64) -> Vec<ScriptItem> {
        let load = |i: u64| RoccCommand { funct: funct::LOAD_CMD, rs1: 0x8000_0000 + 4096 * i, rs2: i % period };
        (0..count).map(|i| ScriptItem::Command(load(i))).collect()
    }

    #[test]
    fn commands_that_come_again_elsewhere_may_repeat() {
        assert!(may_repeat(&loads(40, 20), NAMES));
        assert!(!may_repeat(&loads(40, 40), NAMES));
        // One place in forty is not worth it.
        assert!(!may_repeat(&loads(46, 40), NAMES));
        assert!(!may_repeat(&[], NAMES));
    }

    #[test]
    fn a_loop_counts_for_more_than_the_commands_around_it() {
        let loops = |cmd: u64| {
            let config = RoccCommand { funct: funct::LOOP_WS_CONFIG_BOUNDS, rs1: 0, rs2: cmd };
            let start = RoccCommand { funct: funct::LOOP_WS, rs1: 0, rs2: 0 };
            [config, config, config, config, config, start].map(ScriptItem::Command)
        };
        let around = loads(200, 200);
        let program = |bounds: [u64; 2]| [&loops(bounds[0])[..], &around, &loops(bounds[1])].concat();
        assert!(may_repeat(&program([7, 7]), NAMES));
        assert!(!may_repeat(&program([7, 8]), NAMES));
    }
}
