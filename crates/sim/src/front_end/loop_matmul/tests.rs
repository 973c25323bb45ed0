//! The matmul unroller alone: what it emits, and when.

use super::*;
use pollux_isa::LocalAddr;

const A: u64 = 0x1_0000;
const B: u64 = 0x2_0000;
const C: u64 = 0x3_0000;
const D: u64 = 0x4_0000;

fn loop_ws(i: u64, j: u64, k: u64, d: u64) -> Vec<RoccCommand> {
    let cmd = |funct, rs1, rs2| RoccCommand { funct, rs1, rs2 };
    vec![
        cmd(funct::LOOP_WS_CONFIG_BOUNDS, 0, k << 32 | j << 16 | i),
        cmd(funct::LOOP_WS_CONFIG_ADDRS_AB, A, B),
        cmd(funct::LOOP_WS_CONFIG_ADDRS_DC, d, C),
        cmd(funct::LOOP_WS_CONFIG_STRIDES_AB, 16 * k, 16 * j),
        cmd(funct::LOOP_WS_CONFIG_STRIDES_DC, 16 * j, 16 * j),
        cmd(funct::LOOP_WS, 0, 0),
    ]
}

/// A block as `name+index`, counted in DIM rows from the start of its operand in the slot.
fn block(name: &str, local: u64, start: u32) -> String {
    let local = LocalAddr(local as u32);
    if local.is_garbage(GemminiConfig::default16().layout()) {
        return "garbage".to_owned();
    }
    let row = (local.0 & 0x3fff) - start;
    format!("{name}{}{}", row / 16, if local.is_acc() && local.accumulate() { " acc" } else { "" })
}

/// The command in short, with the blocks' rows relative to the scratchpad half's A start and B start and to the
/// accumulator half `acc`.
fn short(cmd: &RoccCommand, b_rows: u32, half: u32) -> String {
    let (a, b, c) = (8192 * half, 8192 * (half + 1) - b_rows, 512 * half);
    let blocks = (cmd.rs2 >> 32 & 0xffff) / 16;
    match cmd.funct {
        funct::LOAD_CMD => format!("load {} x{blocks}", block("A", cmd.rs2, a)),
        funct::LOAD2_CMD => format!("load {} x{blocks}", block("B", cmd.rs2, b)),
        funct::LOAD3_CMD => format!("load {} x{blocks}", block("D", cmd.rs2, c)),
        funct::PRELOAD_CMD => format!("preload {} -> {}", block("B", cmd.rs1, b), block("C", cmd.rs2, c)),
        funct::COMPUTE_AND_FLIP_CMD => format!("flip {}", block("A", cmd.rs1, a)),
        funct::COMPUTE_AND_STAY_CMD => format!("stay {}", block("A", cmd.rs1, a)),
        funct::STORE_CMD => format!("store {} x{blocks}", block("C", cmd.rs2, c)),
        other => format!("funct {other}"),
    }
}

/// Emissions with the output always ready and commands that complete in the cycle after they are emitted, as
/// `(cycle, command)`; cycle 0 is the first in which the first loop's slot is configured. Also the cycles in which
/// slots are free again.
fn emissions(program: &[RoccCommand]) -> (Vec<(i64, RoccCommand)>, Vec<i64>) {
    let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
    let mut program = program.iter();
    let (mut first, mut emitted, mut freed) = (None, Vec::new(), Vec::new());
    let mut departed = [0; 3];
    for cycle in 0..200 {
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
            freed.push(cycle + 1 - zero);
        }
        if let Some(GemminiCmd { cmd, origin, .. }) = transfer.out {
            assert_eq!(origin, Origin::Matmul);
            departed[transfer.source.map_or(0, |source| source.unit() as usize)] = 1;
            emitted.push((cycle - zero, cmd));
        }
    }
    assert!(!unroller.busy());
    (emitted, freed)
}

fn listing(program: &[RoccCommand], b_rows: u32) -> (Vec<String>, Vec<i64>) {
    let (emitted, freed) = emissions(program);
    (emitted.iter().map(|(cycle, cmd)| format!("{cycle}: {}", short(cmd, b_rows, 0))).collect(), freed)
}

#[test]
fn a_loop_of_one_block_loads_b_before_a_and_frees_its_slot_three_cycles_after_the_store() {
    let (lines, freed) = listing(&loop_ws(1, 1, 1, 0), 16);
    assert_eq!(lines, ["1: load B0 x1", "2: load A0 x1", "3: preload B0 -> C0", "4: flip A0", "5: store C0 x1"]);
    assert_eq!(freed, [8]);
}

#[test]
fn parts_overtake_each_other_block_by_block() {
    let (lines, freed) = listing(&loop_ws(2, 2, 2, 0), 64);
    let expected = "\
        1: load B0 x2|2: load A0 x2|3: preload B0 -> C0|4: flip A0|5: load A2 x2|6: preload garbage -> C2|\
        7: stay A2|8: preload B1 -> C1|9: flip A0|10: preload garbage -> C3|11: stay A2|12: load B2 x2|\
        13: preload B2 -> C0 acc|14: flip A1|15: preload garbage -> C2 acc|16: stay A3|17: preload B3 -> C1 acc|\
        18: flip A1|19: store C0 x2|20: preload garbage -> C3 acc|21: stay A3|22: store C2 x2";
    assert_eq!(lines, expected.split('|').collect::<Vec<_>>());
    assert_eq!(freed, [25]);
}

#[test]
fn the_execute_part_waits_for_the_whole_bias() {
    let (lines, freed) = listing(&loop_ws(2, 1, 1, D), 16);
    let expected = "\
        1: load D0 x1|2: load D1 x1|3: load B0 x1|4: load A0 x1|5: preload B0 -> C0|6: flip A0|7: store C0 x1|\
        8: load A1 x1|9: preload garbage -> C1|10: stay A1|11: store C1 x1";
    assert_eq!(lines, expected.split('|').collect::<Vec<_>>());
    assert_eq!(freed, [14]);
}

#[test]
fn the_second_loop_uses_the_other_halves_and_starts_as_the_parts_get_free() {
    let (emitted, freed) = emissions(&[loop_ws(1, 1, 1, 0), loop_ws(1, 1, 1, 0)].concat());
    let second: Vec<_> = emitted[5..].iter().map(|(cycle, cmd)| format!("{cycle}: {}", short(cmd, 16, 1))).collect();
    let expected = ["7: load B0 x1", "8: load A0 x1", "9: preload B0 -> C0", "10: flip A0", "11: store C0 x1"];
    assert_eq!(second, expected);
    assert_eq!(freed, [8, 14]);
}

#[test]
fn a_third_loop_waits_at_the_input_until_the_first_is_released() {
    let one = loop_ws(1, 1, 1, 0);
    let (emitted, freed) = emissions(&[one.clone(), one.clone(), one].concat());
    assert_eq!(emitted.len(), 15);
    // Its six commands leave the queue in the cycles 8 to 13; from 14 on it takes its eight cycles.
    assert_eq!(freed, [8, 14, 22]);
}

#[test]
fn an_ordinary_command_waits_for_the_loops_before_it() {
    let mut program = loop_ws(1, 1, 1, 0);
    program.push(RoccCommand { funct: funct::FLUSH_CMD, rs1: 0, rs2: 0 });
    let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
    let mut program = program.into_iter();
    let mut order = Vec::new();
    for _ in 0..60 {
        let transfer = unroller.transfer(true);
        let cmd = if unroller.in_ready() { program.next() } else { None };
        let departed = transfer.source.map_or([0; 3], |source| UNIT_COUNTS[source.unit() as usize]);
        order.extend(transfer.out.map(|out| (out.cmd.funct, out.origin)));
        unroller.tick(cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host, number: 0 }), &transfer, departed);
    }
    assert_eq!(order.last(), Some(&(funct::FLUSH_CMD, Origin::Host)));
    assert_eq!(order.len(), 6);
}

const UNIT_COUNTS: [PerUnit<u8>; 3] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

#[test]
fn as_many_commands_are_in_flight_as_the_station_has_entries() {
    let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
    let mut program = loop_ws(20, 1, 1, 0).into_iter();
    let mut emitted = [0; 3];
    for _ in 0..100 {
        let transfer = unroller.transfer(true);
        let cmd = if unroller.in_ready() { program.next() } else { None };
        if let Some(source) = transfer.source {
            emitted[source.unit() as usize] += 1;
        }
        unroller.tick(cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host, number: 0 }), &transfer, [0; 3]);
    }
    assert_eq!(emitted, [8, 14, 4], "one load of B and seven of A, with which seven blocks can be computed");
    assert_eq!(unroller.activity(true), UnrollerActivity::Stalled(UnrollerStall::InFlight(Unit::St)));
}

#[test]
fn a_loop_that_skips_all_its_parts_never_ends() {
    let mut program = loop_ws(1, 1, 1, 0);
    program[5].rs2 = 0b1111_1000;
    let mut unroller = LoopMatmul::new(&GemminiConfig::default16());
    for cmd in program.into_iter().map(Some).chain(std::iter::repeat_n(None, 50)) {
        let transfer = unroller.transfer(true);
        unroller.tick(cmd.map(|cmd| GemminiCmd { cmd, rd: 0, origin: Origin::Host, number: 0 }), &transfer, [0; 3]);
    }
    assert!(unroller.busy());
    assert!(unroller.waiting_for().is_some_and(|reason| reason.contains("all five skip bits")));
}
