//! What a host will do, as far as time depends on it.

use pollux_isa::table::Class;
use pollux_isa::{GemminiConfig, RoccCommand, funct};

use crate::host::ScriptItem;
use crate::port::operand_space::{PAGE, REACH};

/// What the commands of a program must keep to for its operands to be [told apart](crate::port::operand_space): every address that a
/// command reaches lies near the operand's first byte. Programs for any real memory do.
pub(super) fn is_replayable(config: &GemminiConfig, script: &[ScriptItem]) -> bool {
    let mut reach = Reach::new(config);
    script.iter().all(|item| match item {
        ScriptItem::Command(cmd) => reach.keeps(cmd),
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
    fn keeps(&mut self, cmd: &RoccCommand) -> bool {
        let (rs1, rs2) = (cmd.rs1, cmd.rs2);
        let addresses = cmd.dram_registers().into_iter().zip([rs1, rs2]);
        // A counter's value is an answer that the host may act upon.
        if cmd.funct == funct::COUNTER_OP || addresses.into_iter().any(|(is, address)| is && address >= 1 << 40) {
            return false;
        }
        self.note(
            cmd.funct,
            cmd,
            [0, 16, 32, 48].map(|lsb| rs1 >> lsb & 0xffff),
            [0, 16, 32, 48].map(|lsb| rs2 >> lsb & 0xffff),
        );
        let product = |factors: &[u64]| factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor));
        let matrix = product(&[self.loop_rows, self.loop_stride, ELEMENT_BYTES]);
        let images = product(&[self.images, self.image_rows, self.image_columns, self.channels, ELEMENT_BYTES]);
        let weights = product(&[self.kernel, self.kernel, self.channels, self.channels]);
        self.moves.max(matrix).max(images).max(weights) <= REACH - PAGE
    }

    /// Notes the quarters of the two registers (`fields.rs` of the ISA has their meaning).
    fn note(&mut self, function: u8, cmd: &RoccCommand, a: [u64; 4], b: [u64; 4]) {
        let raise = |bound: &mut u64, values: &[u64]| {
            *bound = values.iter().map(|value| value + 1).fold(*bound, u64::max);
        };
        match function {
            funct::CONFIG_CMD => match cmd.class() {
                Some(Class::Load) => self.moves = self.moves.max(cmd.rs2.saturating_mul(MOVE_ROWS)),
                Some(Class::Store) if cmd.subtype() == 2 => {
                    let rows = if cmd.rs1 >> 4 & 3 == 0 { MOVE_ROWS } else { POOLED_PIXELS };
                    self.moves = self.moves.max((cmd.rs2 & u64::from(u32::MAX)).saturating_mul(rows));
                }
                _ => {}
            },
            funct::LOOP_WS_CONFIG_BOUNDS => raise(&mut self.loop_rows, &[b[0], b[1], b[2]].map(|n| (n + 1) * self.dim)),
            funct::LOOP_WS_CONFIG_STRIDES_AB | funct::LOOP_WS_CONFIG_STRIDES_DC => {
                self.loop_stride = self.loop_stride.max(cmd.rs1).max(cmd.rs2);
            }
            funct::LOOP_CONV_WS_CONFIG_1 => {
                raise(&mut self.images, &[a[0]]);
                raise(&mut self.image_rows, &[a[1], b[0], b[1]]);
                raise(&mut self.image_columns, &[b[2]]);
                raise(&mut self.channels, &[a[2], a[3]]);
            }
            funct::LOOP_CONV_WS_CONFIG_2 => {
                raise(&mut self.images, &[b[3]]);
                raise(&mut self.image_columns, &[a[2]]);
                raise(&mut self.kernel, &[a[3]]);
            }
            funct::LOOP_CONV_WS_CONFIG_3 => {
                raise(&mut self.image_columns, &[b[0]]);
                raise(&mut self.kernel, &[a[2], a[3]]);
            }
            funct::LOOP_CONV_WS_CONFIG_4 => raise(&mut self.channels, &[b[1], b[2], b[3]]),
            _ => {}
        }
    }
}

/// Which loop commands are still to come at each item of a script before the unroller's next loop starts.
#[derive(Debug, Default)]
pub(super) struct LoopGroups {
    /// By item: functions that the group of its command has not presented yet.
    pending: Vec<u32>,
    /// Unrollers of which every loop is configured as a whole.
    pub complete: [bool; 2],
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
        let mut groups = Self { pending: Vec::with_capacity(script.len()), complete: [true; 2] };
        let mut pending = GROUPS.map(|(all, _)| all);
        for item in script {
            groups.pending.push(pending[0] | pending[1]);
            let ScriptItem::Command(cmd) = item else { continue };
            for (i, (all, run)) in GROUPS.into_iter().enumerate() {
                if cmd.funct == run {
                    groups.complete[i] &= pending[i] == 0;
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
