//! Accesses to main memory: the walk without values sees the bytes that the model moves, and races are found.

mod support;

use pollux_functional::{AccessWalk, Action, FunctionalModel, Issue, Policy, check_accesses};
use pollux_isa::fields::{ConfigSt, LoopWsBounds};
use pollux_isa::stream::StreamItem;
use pollux_isa::values::NormCmd;
use pollux_isa::{Command, GemminiConfig, LocalAddr};
use pollux_memory::{Memory, RangeSet};
use proptest::prelude::*;
use support::*;

fn items(config: &GemminiConfig, commands: &[Command]) -> Vec<StreamItem> {
    commands.iter().map(|command| StreamItem::Command(command.encode(config).unwrap())).collect()
}

fn write(address: u64, bytes: usize) -> StreamItem {
    StreamItem::Write { address, bytes: vec![1; bytes] }
}

/// Bytes that the walk sees read and written.
fn walked(config: &GemminiConfig, commands: &[Command]) -> (u64, u64) {
    let mut walk = AccessWalk::new(config);
    let (mut read, mut written) = (0, 0);
    for command in commands {
        let host = command.encode(config).unwrap();
        let mut add = |rows: pollux_functional::MemoryRows| -> Result<(), ()> {
            let bytes = rows.addresses().count() as u64 * rows.bytes;
            match rows.access {
                pollux_functional::Access::Read => read += bytes,
                pollux_functional::Access::Write => written += bytes,
            }
            Ok(())
        };
        walk.command(config, Some(command), &host, &mut add).unwrap();
    }
    (read, written)
}

fn moved_bytes(config: &GemminiConfig, commands: &[Command]) -> (u64, u64) {
    let valid = config.clone().validated().unwrap();
    let mut model = FunctionalModel::with_policy(valid, Memory::new(), Policy::all(Action::Ignore));
    execute(&mut model, commands).unwrap();
    (model.counts().bytes_in, model.counts().bytes_out)
}

fn local(pooling: bool) -> impl Strategy<Value = LocalAddr> {
    let row = 0u32..1024;
    let acc = move |row| LocalAddr::accumulator(row);
    prop_oneof![
        row.clone().prop_map(LocalAddr::scratchpad),
        row.clone().prop_map(acc),
        row.prop_map(move |row| if pooling { acc(row) } else { acc(row).with_full() }),
    ]
}

prop_compose! {
    fn store_config()(kind in 0u8..3, steps in 1u8..4, size in 1u8..4, image in prop::array::uniform4(0u8..12),
        out_dim in any::<u8>(), pads in prop::array::uniform2(0u8..4), stride in any::<u32>()) -> ConfigSt
    {
        let [porows, pocols, orows, ocols] = image;
        let (pool_stride, pool_size) = [(0, 0), (0, size), (steps, size)][usize::from(kind)];
        let [upad, lpad] = pads;
        let pool_out_dim = out_dim;
        ConfigSt { pool_stride, pool_size, pool_out_dim, porows, pocols, orows, ocols, upad, lpad, ..config_st(stride) }
    }
}

prop_compose! {
    fn moves()(store in store_config(), stride in prop_oneof![Just(0), 1u64..1 << 33], shrink in any::<bool>())
        (load in local(false), from in local(store.pool_size > 0), extents in prop::array::uniform4(0usize..=16),
            blocks in 1usize..=4, dram in prop::array::uniform2(prop_oneof![Just(0), any::<u32>().prop_map(u64::from)]),
            store in Just(store), stride in Just(stride), shrink in Just(shrink)) -> Vec<Command>
    {
        let [rows, cols, store_rows, store_cols] = extents;
        let cols = (cols * blocks).min(64);
        let ld = pollux_isa::fields::ConfigLd { shrink, ..config_ld(&GemminiConfig::default16(), stride) };
        vec![
            Command::ConfigLd(ld),
            Command::ConfigSt(store),
            Command::Mvin(moved(dram[0], load, rows, cols)),
            Command::Mvout(moved(dram[1], from, store_rows, store_cols)),
        ]
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_walk_sees_the_bytes_that_the_model_moves(moves in prop::collection::vec(moves(), 1..4)) {
        let commands = moves.concat();
        let config = GemminiConfig::default16();
        prop_assert_eq!(walked(&config, &commands), moved_bytes(&config, &commands));
    }

    #[test]
    fn rows_for_the_statistics_stay_inside(command in prop::sample::select(vec![NormCmd::Reset, NormCmd::Sum, NormCmd::Max])) {
        let config = GemminiConfig::norm16();
        let from = LocalAddr::accumulator(3).with_norm_cmd(command);
        let commands = [Command::ConfigSt(config_st(64)), Command::Mvout(moved(DRAM, from, 4, 40))];
        prop_assert_eq!(walked(&config, &commands), moved_bytes(&config, &commands));
    }
}

#[test]
fn a_garbage_row_is_stored_at_the_width_of_inputs() {
    let config = GemminiConfig::norm16();
    let commands = [Command::ConfigSt(config_st(64)), Command::Mvout(moved(DRAM, LocalAddr::GARBAGE, 1, 12))];
    assert_eq!(walked(&config, &commands), (0, 12));
    assert_eq!(moved_bytes(&config, &commands), (0, 12));
}

#[test]
fn the_commands_of_a_loop_are_named_by_their_step() {
    let config = GemminiConfig::default16();
    let bounds = LoopWsBounds { i: 2, j: 2, k: 2, pad_i: 0, pad_j: 0, pad_k: 0 };
    let mut commands = vec![Command::ConfigLd(config_ld(&config, 32)), Command::ConfigSt(config_st(32))];
    commands.extend(loop_ws_commands(bounds, [DRAM, DRAM + 0x400, 0, DRAM + 0x800], [32, 32, 0, 32], loop_ws()));
    let mut owned = RangeSet::default();
    owned.add(DRAM..DRAM + 0xbff);
    let error = check_accesses(&config, &owned, &items(&config, &commands), Policy::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("command 7 (funct 8,") && text.contains("of the loop (mvout): writes 32 bytes at"),
        "{text}"
    );
    owned.add(DRAM..DRAM + 0xc00);
    let found = check_accesses(&config, &owned, &items(&config, &commands), Policy::default()).unwrap();
    assert_eq!(found.count, 0);
}

#[test]
fn a_write_of_the_processor_races_until_the_next_fence_with_the_bytes_of_rows_only() {
    let config = GemminiConfig::default16();
    let mvin = items(
        &config,
        &[Command::ConfigLd(config_ld(&config, 0x100)), Command::Mvin(moved(DRAM, LocalAddr::scratchpad(0), 4, 16))],
    );
    let races = |behind: &[StreamItem]| {
        let stream = [&mvin[..], behind].concat();
        check_accesses(&config, &RangeSet::default(), &stream, Policy::default()).unwrap()
    };
    let found = races(&[write(DRAM + 0x20c, 8)]);
    assert_eq!(found.count, 1);
    assert_eq!(found.kept[0].place.index, 1);
    assert!(matches!(found.kept[0].issue, Issue::Race { address, after: 2, .. } if address == DRAM + 0x20c));
    assert_eq!(races(&[write(DRAM + 0x210, 0xf0), write(DRAM + 0x400, 16)]).count, 0);
    assert_eq!(races(&[StreamItem::Fence, write(DRAM, 16)]).count, 0);
    assert_eq!(races(&[StreamItem::Wait(1 << 40), write(DRAM, 16), StreamItem::Fence, write(DRAM, 16)]).count, 1);
    // The processor's write comes first here, as in the program.
    let first = [&[write(DRAM, 16)], &mvin[..]].concat();
    assert_eq!(check_accesses(&config, &RangeSet::default(), &first, Policy::default()).unwrap().count, 0);
    let strict = check_accesses(
        &config,
        &RangeSet::default(),
        &[&mvin[..], &[write(DRAM, 1)]].concat(),
        Policy::all(Action::Error),
    );
    assert!(strict.is_err());
}
