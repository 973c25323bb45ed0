//! The station alone: who waits for whom.

use super::*;
use proptest::prelude::*;

/// Positions of the counts in an operand word.
const COLS: u32 = 32;
const ROWS: u32 = 48;
/// Low bits of a CONFIG.
const LOADS: u64 = 1;
const STORES: u64 = 2;
const IDENTITY: u64 = 0x3f80_0000 << 32;

fn cmd(funct: u8, rs1: u64, rs2: u64) -> GemminiCmd {
    GemminiCmd { cmd: RoccCommand { funct, rs1, rs2 }, rd: 0, origin: Origin::Host, number: 0 }
}

fn word(rows: u64, cols: u64, address: u64) -> u64 {
    rows << ROWS | cols << COLS | address
}

const ACC: u64 = 1 << 31;
const GARBAGE: u64 = 0xffff_ffff;

fn config_ld(block_stride: u64) -> GemminiCmd {
    cmd(funct::CONFIG_CMD, IDENTITY | block_stride << 16 | 1 << 8 | LOADS, 64)
}

fn config_st(pool_stride: u64) -> GemminiCmd {
    cmd(funct::CONFIG_CMD, pool_stride << 4 | STORES, 64)
}

fn config_ex() -> GemminiCmd {
    cmd(funct::CONFIG_CMD, 1 << 16, 1 << 48)
}

fn mvin(row: u64) -> GemminiCmd {
    cmd(funct::LOAD_CMD, 0x8000_0000, word(16, 16, row))
}

fn mvout(address: u64) -> GemminiCmd {
    cmd(funct::STORE_CMD, 0x8000_0000, word(16, 16, address))
}

fn preload(b: u64, c: u64) -> GemminiCmd {
    cmd(funct::PRELOAD_CMD, word(16, 16, b), word(16, 16, c))
}

fn compute(a: u64) -> GemminiCmd {
    cmd(funct::COMPUTE_AND_FLIP_CMD, word(16, 16, a), word(16, 16, GARBAGE))
}

/// A station whose controllers take every command at once. `commands` are offered in order from cycle 0 on, one a
/// cycle; `completions` are `(cycle, sequence number)`. Gives the cycles of allocation and issue of each command.
fn run(commands: &[GemminiCmd], completions: &[(u64, u64)]) -> Vec<(u64, Option<u64>)> {
    let mut station = ReservationStation::new(&GemminiConfig::default16());
    let mut buffer = EventBuffer::new(true);
    let mut times: Vec<(u64, Option<u64>)> = Vec::new();
    let mut ids = std::collections::HashMap::new();
    for cycle in 0..100 {
        let alloc = commands.get(times.len()).copied().filter(|cmd| station.alloc_ready(&cmd.cmd));
        let issued = UNITS.map(|unit| station.issue_valid(unit));
        let completed = completions.iter().find(|(at, _)| *at == cycle).map(|(_, seq)| ids[seq]);
        station.tick(alloc, issued, completed, &mut buffer);
        buffer.drain_sorted(|event| match *event {
            Event::Alloc { seq, unit, entry, .. } => {
                ids.insert(seq, RobId { unit, index: entry });
                times.push((cycle, None));
            }
            Event::Issue { seq, .. } => times[seq as usize].1 = Some(cycle),
            _ => {}
        });
    }
    times
}

#[test]
fn independent_commands_issue_in_the_cycle_after_their_allocation() {
    assert_eq!(run(&[mvin(0), mvin(16), mvin(32)], &[]), [(0, Some(1)), (1, Some(2)), (2, Some(3))]);
}

#[test]
fn a_load_configuration_completes_as_it_issues() {
    let times = run(&[config_ld(16), mvin(0), config_ld(16)], &[]);
    assert_eq!(times, [(0, Some(1)), (1, Some(2)), (2, Some(3))]);
}

#[test]
fn a_preload_issues_in_the_cycle_after_the_load_it_reads_completes() {
    assert_eq!(run(&[mvin(0), preload(0, ACC)], &[(20, 0)]), [(0, Some(1)), (1, Some(21))]);
    assert_eq!(run(&[mvin(0), preload(16, ACC)], &[(20, 0)]), [(0, Some(1)), (1, Some(2))]);
}

#[test]
fn a_command_allocated_as_its_blocker_completes_does_not_wait() {
    assert_eq!(run(&[mvin(0), preload(0, ACC)], &[(1, 0)]), [(0, Some(1)), (1, Some(2))]);
}

#[test]
fn a_store_waits_until_the_store_before_it_has_completed() {
    let times = run(&[mvout(ACC), mvout(ACC | 64), config_st(0), mvout(ACC)], &[(20, 0), (30, 1)]);
    assert_eq!(times, [(0, Some(1)), (1, Some(21)), (2, Some(31)), (3, Some(32))]);
}

#[test]
fn a_full_table_takes_a_command_in_the_cycle_after_an_entry_is_freed() {
    let loads: Vec<_> = (0..9).map(|i| mvin(16 * i)).collect();
    assert_eq!(run(&loads, &[(20, 3)])[8], (21, Some(22)));
}

#[test]
fn an_execute_configuration_waits_for_nothing_but_the_issue_of_older_execute_commands() {
    let times = run(&[mvin(0), preload(0, ACC), compute(0), config_ex()], &[(20, 0)]);
    assert_eq!(times.iter().map(|t| t.1).collect::<Vec<_>>(), [Some(1), Some(21), Some(22), Some(23)]);
}

#[test]
fn the_garbage_address_and_the_other_memory_never_depend() {
    assert_eq!(run(&[mvin(0), preload(GARBAGE, ACC)], &[])[1].1, Some(2));
    assert_eq!(run(&[mvin(0), mvout(ACC)], &[])[1].1, Some(2));
    assert_eq!(run(&[mvin(0), mvout(0)], &[])[1].1, None);
}

#[test]
fn a_pooled_store_reads_up_to_the_next_accumulator_bank() {
    let last_row_of_bank_0 = ACC | 511;
    let load = |address: u64| cmd(funct::LOAD_CMD, 0x8000_0000, word(1, 16, address));
    let issue = |pool, address| run(&[config_st(pool), load(address), mvout(ACC | 8)], &[])[2].1;
    assert_eq!(issue(0, last_row_of_bank_0), Some(3));
    assert_eq!(issue(2, last_row_of_bank_0), None);
    assert_eq!(issue(2, ACC | 512), Some(3));
}

#[test]
fn a_wide_load_covers_its_blocks_at_their_stride() {
    let wide = cmd(funct::LOAD_CMD, 0x8000_0000, word(16, 64, 0));
    let issue = |stride, b| run(&[config_ld(stride), wide, preload(b, ACC)], &[])[2].1;
    assert_eq!(issue(16, 63), None);
    assert_eq!(issue(16, 64), Some(3));
    assert_eq!(issue(100, 315), None);
    assert_eq!(issue(100, 316), Some(3));
}

#[test]
fn a_lone_preload_does_not_keep_the_station_busy() {
    let mut station = ReservationStation::new(&GemminiConfig::default16());
    let mut buffer = EventBuffer::default();
    station.tick(Some(preload(0, ACC)), [false; 3], None, &mut buffer);
    assert!(!station.busy());
    station.tick(Some(compute(16)), [false; 3], None, &mut buffer);
    assert!(station.busy());
}

fn any_command() -> impl Strategy<Value = GemminiCmd> {
    let local = prop_oneof![0..64u64, (0..64u64).prop_map(|row| ACC | row), Just(GARBAGE)];
    (0..8u8, local.clone(), local).prop_map(|(kind, x, y)| match kind {
        0 => config_ld(16),
        1 => config_st(x & 3),
        2 => config_ex(),
        3 => mvout(x),
        4 => preload(x, y),
        5 => compute(x),
        _ => mvin(x),
    })
}

proptest! {
    /// Whatever depends on what: no command is lost, and each class issues in order of entry.
    #[test]
    fn every_command_issues_once_in_order_of_its_class(
        commands in proptest::collection::vec(any_command(), 1..60),
        latencies in proptest::collection::vec(1..30u64, 60),
    ) {
        let mut station = ReservationStation::new(&GemminiConfig::default16());
        let mut buffer = EventBuffer::new(true);
        let (mut next, mut issued_seqs) = (0, [const { Vec::new() }; 3]);
        let mut running: Vec<(u64, RobId)> = Vec::new();
        for cycle in 0..4000 {
            let alloc = commands.get(next).copied().filter(|cmd| station.alloc_ready(&cmd.cmd));
            next += usize::from(alloc.is_some());
            let due = running.iter().position(|(at, _)| *at <= cycle).map(|i| running.remove(i).1);
            let issued = UNITS.map(|unit| station.issue_valid(unit));
            for id in UNITS.into_iter().filter_map(|unit| station.issue(unit)?.rob_id) {
                running.push((cycle + latencies[next % latencies.len()], id));
            }
            station.tick(alloc, issued, due, &mut buffer);
            buffer.drain_sorted(|event| match *event {
                Event::Issue { seq, unit, .. } => issued_seqs[unit as usize].push(seq),
                // A configuration of loads or stores has completed already.
                Event::Complete { unit, entry, .. } => running.retain(|(_, id)| *id != RobId { unit, index: entry }),
                _ => {}
            });
        }
        prop_assert!(!station.busy() || station.utilization() == [0, 1, 0]);
        for seqs in &issued_seqs {
            prop_assert!(seqs.is_sorted());
        }
        prop_assert_eq!(issued_seqs.iter().map(Vec::len).sum::<usize>(), commands.len());
    }
}
