//! Local addresses against `LocalAddr.scala`.

use pollux_isa::values::NormCmd;
use pollux_isa::{AddressLayout, GemminiConfig, LocalAddr};
use proptest::prelude::*;

fn layouts() -> impl Strategy<Value = AddressLayout> {
    let names = GemminiConfig::NAMES.into_iter().chain(["dim4", "dim64"]).collect::<Vec<_>>();
    prop::sample::select(names).prop_map(|name| GemminiConfig::by_name(name).unwrap().layout())
}

#[test]
fn the_canonical_garbage_address_and_the_shortest_one_are_garbage() {
    let layout = GemminiConfig::default16().layout();
    for bits in [0xffff_ffff, 0xe000_7fff, 0xfc00_7fff] {
        assert!(LocalAddr(bits).is_garbage(layout), "{bits:#x}");
    }
    for bits in [0xe000_3fff, 0x6000_7fff, 0xe000_7ffe, 0xa000_7fff, 0xc000_7fff, 0] {
        assert!(!LocalAddr(bits).is_garbage(layout), "{bits:#x}");
    }
    assert!(LocalAddr::GARBAGE.is_garbage(layout));
}

#[test]
fn constructors_set_the_control_bits() {
    let layout = GemminiConfig::default16().layout();
    let addr = LocalAddr::accumulator(5).with_accumulate().with_full().with_norm_cmd(NormCmd::InvSumExp);
    assert_eq!(addr, LocalAddr(0xfc00_0005));
    assert!(addr.is_acc() && addr.accumulate() && addr.read_full());
    assert_eq!((addr.norm_cmd(), addr.data(layout)), (NormCmd::InvSumExp, 5));
    assert_eq!(addr.with_norm_cmd(NormCmd::Reset).norm_cmd(), NormCmd::Reset);
    let scratchpad = LocalAddr::scratchpad(7);
    assert!(!scratchpad.is_acc() && !scratchpad.accumulate() && !scratchpad.read_full());
    assert_eq!(format!("{addr:?}"), "LocalAddr(0xfc000005)");
}

#[test]
fn rows_divide_into_banks() {
    let layout = GemminiConfig::default16().layout();
    let scratchpad = LocalAddr::scratchpad(3 * 4096 + 17);
    assert_eq!((scratchpad.sp_bank(layout), scratchpad.sp_row(layout)), (3, 17));
    // The accumulator ignores data bits above its ten.
    let accumulator = LocalAddr::accumulator(2048 + 512 + 17);
    assert_eq!((accumulator.acc_bank(layout), accumulator.acc_row(layout)), (1, 17));
    assert_eq!((accumulator.full_acc_addr(layout), accumulator.full_sp_addr(layout)), (529, 2577));
    let one_bank = AddressLayout::new(4, 1024, 1, 512);
    assert_eq!(
        (LocalAddr::accumulator(511).acc_bank(one_bank), LocalAddr::accumulator(511).acc_row(one_bank)),
        (0, 511)
    );
}

#[test]
fn overflow_is_one_bit_of_the_sum() {
    let layout = GemminiConfig::default16().layout();
    let last = LocalAddr::accumulator(1023);
    assert_eq!(last.add_with_overflow(layout, 1), (LocalAddr::accumulator(1024), true));
    // Twice the accumulator reads as no overflow.
    assert!(!last.add_with_overflow(layout, 1025).1);
    assert_eq!(LocalAddr::scratchpad(16383).add_with_overflow(layout, 2), (LocalAddr::scratchpad(1), true));
}

#[test]
fn addresses_of_different_memories_are_never_ordered_or_equal() {
    let layout = GemminiConfig::default16().layout();
    let (sp, acc) = (LocalAddr::scratchpad(3), LocalAddr::accumulator(4));
    assert!(!sp.lt(layout, acc) && !sp.le(layout, acc) && !acc.gt(layout, sp) && !sp.same_address(layout, acc));
    assert!(acc.same_address(layout, acc.with_accumulate().with_full()));
    // Order ignores data bits that the accumulator ignores; equality does not.
    let wrapped = LocalAddr::accumulator(1024 + 4);
    assert!(acc.le(layout, wrapped) && !acc.lt(layout, wrapped) && !acc.same_address(layout, wrapped));
}

proptest! {
    #[test]
    fn adding_changes_the_row_only_and_wraps(layout in layouts(), bits: u32, rows: u32) {
        let addr = LocalAddr(bits);
        let sum = addr.add(layout, rows);
        let size = 1u64 << layout.max_addr_bits;
        prop_assert_eq!(u64::from(sum.data(layout)), (u64::from(addr.data(layout)) + u64::from(rows)) % size);
        prop_assert_eq!(sum.0 >> layout.max_addr_bits, bits >> layout.max_addr_bits);
        prop_assert_eq!(addr.add_with_overflow(layout, rows).0, sum);
    }

    #[test]
    fn floor_sub_stops_at_the_floor(layout in layouts(), row in 0u32..4096, rows in 0u32..64, floor in 0u32..4096) {
        let row = row % (1 << layout.max_addr_bits);
        let (difference, underflow) = LocalAddr::scratchpad(row).floor_sub(layout, rows, floor);
        let expected = i64::from(row) - i64::from(rows);
        prop_assert_eq!(underflow, expected < i64::from(floor));
        prop_assert_eq!(i64::from(difference.data(layout)), if underflow { i64::from(floor) % (1 << layout.max_addr_bits) } else { expected });
    }

    #[test]
    fn order_within_a_memory_is_that_of_the_rows(layout in layouts(), left: u32, right: u32, acc: bool) {
        let (rows, build): (u32, fn(u32) -> LocalAddr) = if acc { (layout.acc_rows, LocalAddr::accumulator) } else { (layout.sp_rows, LocalAddr::scratchpad) };
        let (left, right) = (left % rows, right % rows);
        let (a, b) = (build(left), build(right));
        prop_assert_eq!(a.lt(layout, b), left < right);
        prop_assert_eq!(a.le(layout, b), left <= right);
        prop_assert_eq!(a.gt(layout, b), left > right);
        prop_assert_eq!(a.same_address(layout, b), left == right);
        prop_assert_eq!(a.memory_row(layout), left);
    }

    #[test]
    fn bank_and_row_make_the_address(layout in layouts(), row: u32) {
        let (sp, acc) = (LocalAddr::scratchpad(row % layout.sp_rows), LocalAddr::accumulator(row % layout.acc_rows));
        prop_assert_eq!(sp.sp_bank(layout) << layout.sp_bank_row_bits | sp.sp_row(layout), row % layout.sp_rows);
        prop_assert_eq!(acc.acc_bank(layout) << layout.acc_bank_row_bits | acc.acc_row(layout), row % layout.acc_rows);
    }
}
