//! The convolution unroller alone: what it emits, and when.

use super::*;
use pollux_isa::funct;

const WEIGHTS: u64 = 0x1_0000;
const OUTPUT: u64 = 0x2_0000;
const BIAS: u64 = 0x3_0000;
const INPUT: u64 = 0x4_0000;

/// A 1x1 convolution of one image of 2 x 3 pixels, 16 channels in and out.
fn loop_conv(run_rs2: u64) -> Vec<RoccCommand> {
    let cmd = |funct, rs1, rs2| RoccCommand { funct, rs1, rs2 };
    let halves = |x: [u64; 4]| x[3] << 48 | x[2] << 32 | x[1] << 16 | x[0];
    vec![
        cmd(funct::LOOP_CONV_WS_CONFIG_1, halves([1, 2, 16, 16]), halves([2, 1, 3, 1])),
        cmd(funct::LOOP_CONV_WS_CONFIG_2, halves([2 << 8, 2, 1, 1]), halves([16, 1, 1, 1])),
        cmd(funct::LOOP_CONV_WS_CONFIG_3, halves([0, 16, 1, 1]), halves([3, 0, 0, 0])),
        cmd(funct::LOOP_CONV_WS_CONFIG_4, 2 << 48 | 1, halves([3, 16, 16, 16])),
        cmd(funct::LOOP_CONV_WS_CONFIG_5, WEIGHTS, OUTPUT),
        cmd(funct::LOOP_CONV_WS_CONFIG_6, BIAS, INPUT),
        cmd(funct::LOOP_CONV_WS, 1 << 8, run_rs2),
    ]
}

const NO_POOL: u64 = 1;

/// Emissions with the output always ready and commands that complete in the cycle after they are emitted, as
/// `cycle: funct rs1 rs2`; cycle 0 is the first in which the slot is configured. Also the cycle in which it is free.
fn listing(program: &[RoccCommand]) -> (Vec<String>, Option<i64>) {
    let mut unroller = LoopConv::new(&GemminiConfig::default16());
    let mut program = program.iter();
    let (mut first, mut lines, mut freed) = (None, Vec::new(), None);
    let mut departed = [0; 3];
    for cycle in 0..120 {
        if unroller.loop_configured() {
            first.get_or_insert(cycle);
        }
        let transfer = unroller.transfer(true);
        let accepted = if unroller.in_ready() { program.next() } else { None };
        let input = accepted.map(|&cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host, number: 0 });
        let head = unroller.head;
        unroller.tick(input, &transfer, departed);
        departed = [0; 3];
        let zero = first.unwrap_or(cycle);
        if unroller.head != head {
            freed = Some(cycle + 1 - zero);
        }
        if let (Some(out), Some(part)) = (transfer.out, transfer.granted) {
            assert_eq!(out.origin, Origin::Conv);
            departed[part.unit() as usize] = 1;
            lines.push(format!("{}: {} {:x} {:x}", cycle - zero, out.cmd.funct, out.cmd.rs1, out.cmd.rs2));
        }
    }
    assert!(!unroller.busy());
    (lines, freed)
}

#[test]
fn a_pointwise_convolution_loads_everything_then_computes_then_stores() {
    let (lines, freed) = listing(&loop_conv(NO_POOL));
    let expected = [
        // Bias: configuration, then a row of pixels at a time.
        "3: 0 3f80000000060111 0",
        "4: 14 30000 3001080000000",
        "5: 14 30000 3001080000003",
        // Weights, then input.
        "6: 0 3f80000000100109 10",
        "7: 1 10000 10001000001ff0",
        "8: 0 3f80000000060101 10",
        "9: 2 40000 3001000000000",
        "10: 2 40030 3001000000003",
        // The last load leaves in cycle 10; the part is idle in 11, its preload is offered two cycles later.
        "13: 6 10001000001ff0 30010c0000000",
        "14: 4 3001000000000 30010e0007fff",
        "15: 6 100010e0007fff 30010c0000003",
        "16: 5 3001000000003 30010e0007fff",
        "19: 3 20000 3001080000000",
        "20: 3 20030 3001080000003",
    ];
    assert_eq!(lines, expected);
    assert_eq!(freed, Some(23));
}

#[test]
fn a_pooled_store_is_framed_by_configurations() {
    let (lines, _) = listing(&loop_conv(0));
    let stores: Vec<_> = lines.iter().rev().take(3).rev().map(String::as_str).collect();
    let expected = ["19: 0 3020101010000a2 ffffffff00000010", "20: 3 20000 1080000000", "21: 0 2 ffffffff00000010"];
    assert_eq!(stores, expected);
}

#[test]
fn parts_with_a_zero_address_are_left_out() {
    let mut program = loop_conv(NO_POOL);
    program[5].rs1 = 0;
    let (lines, freed) = listing(&program);
    assert_eq!(lines[0], "3: 0 3f80000000100109 10");
    assert_eq!(lines.len(), 11);
    assert!(freed.is_some());
}

#[test]
fn a_dilated_input_is_half_as_large() {
    let settings = |dilated: bool| {
        let mut unroller = LoopConv::new(&GemminiConfig::default16());
        let program = loop_conv(if dilated { NO_POOL | 4 } else { NO_POOL });
        for cmd in &program {
            unroller.loops[0].configure(*cmd, &unroller.config);
        }
        unroller.loops[0].settings.derive(16)
    };
    assert_eq!((settings(false).irows, settings(false).icols), (2, 3));
    assert_eq!((settings(true).irows, settings(true).icols), (1, 2));
}
