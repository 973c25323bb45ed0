//! Illegal programs: the same diagnosis from both models, and never a panic or a hang if they are run anyway.

use pollux_functional::{Action, FunctionalModel, Issue, Policy};
use pollux_isa::legality::{Illegality, check_program};
use pollux_isa::{Command, GemminiConfig, RoccCommand, StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::observer::NoObserver;
use pollux_sim::runner::Runner;
use pollux_sim::simulation::{RunError, RunSummary};
use pollux_testkit::{self as testkit, Gene};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Runs a stream on the cycle model, with a limit.
fn run(config: &ValidConfig, items: Vec<StreamItem>, limit: u64) -> Result<RunSummary, RunError> {
    let mut runner = Runner::new(config).limit(limit);
    runner = runner.memory("bench:latency=3".parse().expect("a memory system"));
    match runner.run(items, Memory::new(), &mut NoObserver) {
        Ok(outcome) => Ok(outcome.summary),
        Err(stopped) => Err(stopped.error),
    }
}

/// Any 64 bits, with the extremes and small numbers more often than by chance.
fn register() -> impl Strategy<Value = u64> {
    let small = 0u64..64;
    // Rows, columns and a local address, as moves and execute operands have them.
    let operand =
        (0u64..20, 0u64..70, prop_oneof![any::<u32>(), 0u32..40, 0x8000_0000u32..0x8000_0040, Just(u32::MAX)])
            .prop_map(|(rows, cols, local)| rows << 48 | cols << 32 | u64::from(local));
    prop_oneof![3 => any::<u64>(), 2 => small, 4 => operand, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn command() -> impl Strategy<Value = StreamItem> {
    let funct = prop_oneof![6 => 0u8..26, 2 => Just(0u8), 1 => 0u8..128, 1 => Just(126u8)];
    (funct, register(), register()).prop_map(|(funct, rs1, rs2)| StreamItem::Command(RoccCommand { funct, rs1, rs2 }))
}

fn item() -> impl Strategy<Value = StreamItem> {
    prop_oneof![20 => command(), 1 => Just(StreamItem::Fence), 1 => (0u64..50).prop_map(StreamItem::Wait)]
}

fn config() -> impl Strategy<Value = &'static str> {
    let names: &[&str] = &["default16", "small4", "norm16", "lean", "chip", "dim8", "dim64"];
    prop::sample::select(names)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_commands_end_in_success_deadlock_or_at_the_limit(
        config in config(),
        items in prop::collection::vec(item(), 1..40),
    ) {
        ends(&GemminiConfig::by_name(config).expect("a known name"), items)?;
    }

    #[test]
    fn damaged_programs_end_in_success_deadlock_or_at_the_limit(
        config in config(),
        dense in any::<bool>(),
        genes in prop::collection::vec(any::<Gene>(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..136), 1..6),
    ) {
        let mut items = testkit::program(&GemminiConfig::by_name(config).expect("a known name"), dense, &genes).items;
        for (place, bit) in damage {
            if let StreamItem::Command(cmd) = place.get_mut(&mut items) {
                match bit {
                    0..64 => cmd.rs1 ^= 1 << bit,
                    64..128 => cmd.rs2 ^= 1 << (bit - 64),
                    _ => cmd.funct ^= 1 << (bit % 7),
                }
            }
        }
        ends(&GemminiConfig::by_name(config).expect("a known name"), items)?;
    }
}

fn ends(config: &ValidConfig, items: Vec<StreamItem>) -> Result<(), TestCaseError> {
    match run(config, items, 20_000) {
        Ok(_) | Err(RunError::Limit { .. }) => Ok(()),
        Err(RunError::Deadlock { position, .. }) => {
            prop_assert!(!position.waiting.is_empty(), "a deadlock without a reason; {}", position.host);
            Ok(())
        }
        Err(other) => Err(TestCaseError::fail(other.to_string())),
    }
}

fn cases() -> u32 {
    std::env::var("POLLUX_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// The default configuration after a change.
fn without(change: impl FnOnce(&mut GemminiConfig)) -> ValidConfig {
    let mut config = GemminiConfig::default16();
    change(&mut config);
    config.validated().expect("a valid configuration")
}

/// Programs in which the hardware itself stops, and the words that must explain it.
fn stopping() -> Vec<(&'static str, ValidConfig, String, &'static str)> {
    let config = ValidConfig::default;
    let operand =
        |preload: &str, compute: &str| format!("{WS}preload {preload} c=0x80000100\ncompute_preloaded {compute}\n");
    let pair = "preload d=0 c=0x80000000\ncompute_preloaded a=0 bd=0xffffffff\n";
    vec![
        (
            "A in the accumulator",
            config(),
            operand("d=0", "a=0x80000000 bd=0xffffffff"),
            "ExecuteController waits for operand A from accumulator bank 0",
        ),
        (
            "weights in the accumulator",
            config(),
            operand("d=0x80000200", "a=0 bd=0xffffffff"),
            "ExecuteController waits for operand D from accumulator bank 1",
        ),
        (
            "the addend in the accumulator",
            config(),
            operand("d=0", "a=0 bd=0x80000000"),
            "ExecuteController waits for operand B from accumulator bank 0",
        ),
        (
            "the dataflow changes over a result without destination",
            config(),
            format!("{OS}preload d=0 c=0xffffffff\ncompute_preloaded a=0 bd=0\n{WS}{pair}{pair}"),
            "ExecuteController waits for a result that has left the array under another tag",
        ),
        (
            "a loop without parts",
            config(),
            "loop_ws_config_bounds i=1 j=1 k=1\nloop_ws skip_lda=1 skip_ldb=1 skip_ldd=1 skip_ex=1 skip_stc=1\n".into(),
            "LoopMatmul waits for a part of the loop that is not skipped: all five skip bits are set",
        ),
        (
            "two preloads in a row",
            config(),
            format!("{WS}preload d=0 c=0\npreload d=0 c=0\ncompute_preloaded a=0 bd=0xffffffff\n"),
            "ExecuteController waits for a result in the array that starts at the row of an operand",
        ),
        (
            "a COUNTER without counters",
            without(|c| c.num_counter = 0),
            "raw 126 0 0\n".into(),
            "dispatch holds a command with funct 126: a COUNTER is never taken in a build without counters",
        ),
        (
            "zeros for a load that counts fewer bytes",
            config(),
            "config_ld stride=16 shrink=1\nmvin dram=0 local=0x80000000 cols=16 rows=3\n".into(),
            "LoadController: a load got 144 bytes more than it counted, so that it never completes",
        ),
    ]
}

#[test]
fn where_the_hardware_stops_the_run_ends_with_the_reason() {
    for (name, config, text, expected) in stopping() {
        let items = stream(&config, &format!("{text}fence"));
        match run(&config, items, 1_000_000) {
            Err(error @ RunError::Deadlock { .. }) => {
                assert!(error.to_string().contains(expected), "{name}: {error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Illegal programs, one for each way to be illegal that a stream can have in `default16` or the configuration given.
fn illegal() -> Vec<(ValidConfig, String)> {
    let config = ValidConfig::default;
    let moves = "config_ld stride=16\nconfig_st stride=16\n";
    let product = |config: &str, preload: &str, compute: &str| format!("{config}preload {preload}\n{compute}\n");
    let default16 = [
        "raw 64 40 0001001000000000".to_owned(),
        "raw 0 3f80000000100119 10\nmvin dram=64 local=0 cols=16 rows=4".to_owned(),
        format!("{moves}raw 2 40 0000001000000000"),
        format!("{moves}raw 2 40 0001000000000000"),
        format!("{moves}raw 3 40 0000001000000000"),
        format!("{moves}raw 3 40 0001000000000000"),
        format!("{moves}mvout dram=64 local=0xa0000000 cols=64 rows=1"),
        format!("{moves}mvin dram=64 local=16383 cols=16 rows=2"),
        format!("{moves}mvout_spad dst=0 local=16 cols=16 rows=4"),
        "config_ld stride=16 block_stride=4\nmvin dram=64 local=0 cols=32 rows=8".to_owned(),
        "config_ld stride=16 pixel_repeats=2 shrink=1\nmvin dram=64 local=0x80000000 cols=4 rows=8".to_owned(),
        "config_st stride=16 pool_stride=1\nmvout dram=64 local=0x80000000 cols=16 rows=4".to_owned(),
        "preload d=0 c=0".to_owned(),
        format!("{WS}compute_preloaded a=0 bd=0xffffffff"),
        format!("{OS}compute_preloaded a=0 bd=0"),
        product(WS, "d=0 c=0", "compute_preloaded a=0xffffffff bd=0xffffffff"),
        product(WS, "d=0xffffffff c=0", "compute_preloaded a=0 bd=0xffffffff"),
        product(WS, "d=0 d_cols=0 c=0", "compute_preloaded a=0 bd=0xffffffff"),
        product(WS, "d=0 c=0x80000000", "compute_preloaded a=0 a_rows=5 bd=0xffffffff"),
        product(WS, "d=0 c=0", "compute_accumulated a=0 bd=0xffffffff"),
        product(OS, "d=0 c=0", "compute_preloaded a=0 bd=0\npreload d=0 c=0\ncompute_accumulated a=0 bd=0"),
        product("config_ex dataflow=1 a_transpose=1 b_transpose=1\n", "d=0 c=0", "compute_preloaded a=0"),
        product("config_ex dataflow=0 b_transpose=1\n", "d=0 c=0", "compute_preloaded a=0 bd=0"),
        "loop_ws_config_bounds i=1 j=1 k=1\nloop_ws a_transpose=1 b_transpose=1".to_owned(),
        format!("{moves}{WS}config_ld state_id=1 stride=16\nraw 9 0 0001000100000000\nloop_ws"),
        format!("{moves}{WS}config_ld state_id=1 stride=16\nraw 9 0 0400040004000400\nloop_ws"),
        format!("{WS}raw 15 0 0"),
    ];
    let mut programs: Vec<_> = default16.into_iter().map(|text| (config(), text)).collect();
    programs.extend(stopping().into_iter().map(|(_, config, text, _)| (config, text)));
    programs.push((without(|c| c.has_normalizations = false), "raw 0 3 0".to_owned()));
    programs.push((without(|c| c.has_loop_conv = false), "raw 15 0 0".to_owned()));
    programs
}

#[test]
fn the_functional_model_gives_the_diagnosis_of_the_check_before_a_run() {
    for (config, text) in illegal() {
        let items = stream(&config, &format!("{text}\nfence"));
        let expected: Vec<(u64, Illegality)> =
            check_program(&config, &items).into_iter().map(|(number, found)| (number as u64, found)).collect();
        assert!(!expected.is_empty(), "{text}");
        let policy = Policy { max_loop_commands: 1 << 12, ..Policy::all(Action::Warn) };
        let mut model = FunctionalModel::with_policy(config, Memory::new(), policy);
        // A loop that is too long is an error after its diagnosis.
        let _ = model.run(&items);
        let found: Vec<(u64, Illegality)> = model
            .warnings()
            .iter()
            .filter_map(|warning| match &warning.issue {
                Issue::Illegal(illegality) => Some((warning.place.index, illegality.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn illegal_programs_run_all_the_same_end_in_success_deadlock_or_at_the_limit() {
    for (config, text) in illegal() {
        let items = stream(&config, &format!("{text}\nfence"));
        ends(&config, items).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

const WS: &str = "config_ex dataflow=1\n";
const OS: &str = "config_ex dataflow=0\n";

/// A stream in a simple notation: a mnemonic with its operands, `raw FUNCT RS1 RS2`, or `fence` in a line.
fn stream(config: &ValidConfig, text: &str) -> Vec<StreamItem> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).expect("a hexadecimal number"),
        None => text.parse().expect("a number"),
    };
    let command = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["fence"] => StreamItem::Fence,
            ["raw", funct, rs1, rs2] => {
                let hex = |digits| u64::from_str_radix(digits, 16).expect("a hexadecimal number");
                StreamItem::Command(RoccCommand { funct: number(funct) as u8, rs1: hex(rs1), rs2: hex(rs2) })
            }
            [mnemonic, ref operands @ ..] => {
                let operand =
                    |text: &&'_ str| text.split_once('=').map(|(name, value)| (name.to_owned(), number(value)));
                let operands: Vec<(String, u64)> = operands.iter().filter_map(operand).collect();
                let operands: Vec<(&str, u64)> = operands.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                let command = Command::from_operands(config, mnemonic, &operands).expect("known operands");
                StreamItem::Command(command.encode(config).expect("values that fit"))
            }
            [] => StreamItem::Wait(0),
        }
    };
    text.lines().map(command).collect()
}
