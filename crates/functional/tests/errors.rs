//! Undefined behaviour: what a user sees, and what each action does.

mod support;

use std::fmt::Write;

use pollux_functional::{Action, FunctionalModel, Issue, Policy};
use pollux_isa::fields::{LoopWs, LoopWsBounds};
use pollux_isa::values::DataflowMode;
use pollux_isa::{Command, GemminiConfig, LocalAddr, RoccCommand, ValidConfig};
use pollux_memory::Memory;
use proptest::prelude::*;
use support::*;

fn with_policy(policy: Policy, memory: Memory) -> FunctionalModel {
    FunctionalModel::with_policy(ValidConfig::default(), memory, policy)
}

fn strict() -> FunctionalModel {
    let mut memory = Memory::new();
    memory.map(DRAM..DRAM + 0x1000);
    with_policy(Policy::all(Action::Error), memory)
}

fn configured() -> FunctionalModel {
    let mut model = strict();
    let config = model.config().clone();
    let commands = [
        Command::ConfigEx(config_ex(DataflowMode::Ws)),
        Command::ConfigLd(config_ld(&config, 16)),
        Command::ConfigSt(config_st(16)),
    ];
    execute(&mut model, &commands).unwrap();
    model
}

fn message(model: &mut FunctionalModel, command: Command) -> String {
    execute(model, &[command]).unwrap_err().to_string()
}

#[test]
fn messages_name_the_command_the_place_and_the_remedy() {
    let (sp, acc) = (LocalAddr::scratchpad, LocalAddr::accumulator);
    let mut text = String::new();
    let mut show = |title: &str, message: String| writeln!(text, "{title}\n    {message}\n").unwrap();
    let mvin = |dram, local| Command::Mvin(moved(dram, local, 16, 16));
    show("load past the end of a range", message(&mut configured(), mvin(DRAM + 0xff8, sp(0))));
    show("store past the end of a range", {
        let mut model = configured();
        (0..16).for_each(|row| model.scratchpad_mut().row_mut(row).fill(1));
        message(&mut model, Command::Mvout(moved(DRAM + 0xf80, sp(0), 16, 16)))
    });
    show("load past the end of the scratchpad", message(&mut configured(), mvin(DRAM, sp(16380))));
    show("load past the end of the accumulator", message(&mut configured(), mvin(DRAM, acc(1020))));
    show("store of a row never written", message(&mut configured(), Command::Mvout(moved(DRAM, acc(5), 1, 16))));
    let at = |local| operand(local, 16, 16);
    show("weights never written", message(&mut configured(), preload(at(sp(32)), at(acc(0)))));
    show("compute without preload", {
        message(&mut configured(), compute_preloaded(at(sp(0)), at(LocalAddr::GARBAGE)))
    });
    show("load without configuration", message(&mut strict(), mvin(DRAM, sp(0))));
    show("unknown function", {
        let unknown = RoccCommand { funct: 99, rs1: 1, rs2: 2 };
        configured().execute(&unknown).unwrap_err().to_string()
    });
    show("step of a loop", {
        let mut model = configured();
        let bounds = LoopWsBounds { pad_i: 0, pad_j: 0, pad_k: 0, i: 1, j: 1, k: 1 };
        let config = model.config().clone();
        let ld = |state_id| Command::ConfigLd(pollux_isa::fields::ConfigLd { state_id, ..config_ld(&config, 16) });
        execute(&mut model, &[ld(1), ld(2)]).unwrap();
        let commands = loop_ws_commands(bounds, [DRAM, DRAM + 0x2000, 0, DRAM + 256], [16; 4], loop_ws());
        execute(&mut model, &commands).unwrap_err().to_string()
    });
    show("loop without parts", {
        let run = LoopWs { skip_lda: true, skip_ldb: true, skip_ldd: true, skip_ex: true, skip_stc: true, ..loop_ws() };
        message(&mut configured(), Command::LoopWs(run))
    });
    show("loop without end", {
        let policy = Policy { max_loop_commands: 1000, ..Policy::all(Action::Ignore) };
        let mut model = with_policy(policy, Memory::new());
        // All bounds are zero.
        model.execute(&RoccCommand { funct: 8, rs1: 0, rs2: 0 }).unwrap_err().to_string()
    });
    insta::assert_snapshot!(text);
}

#[test]
fn a_warning_is_recorded_and_the_model_goes_on_as_the_hardware_does() {
    let mut model = with_policy(Policy::all(Action::Warn), Memory::new());
    let config = model.config().clone();
    let commands = [
        Command::ConfigLd(config_ld(&config, 16)),
        Command::ConfigSt(config_st(16)),
        // Four rows at the end of the scratchpad, the others from row 0 on.
        Command::Mvin(moved(DRAM, LocalAddr::scratchpad(16380), 16, 16)),
        Command::Mvout(moved(DRAM, LocalAddr::scratchpad(12), 1, 16)),
    ];
    model.memory_mut().fill(DRAM, 256, 3);
    execute(&mut model, &commands).unwrap();
    assert_eq!(model.scratchpad().row(16383), [3; 16]);
    assert_eq!(model.scratchpad().row(11), [3; 16]);
    let places: Vec<u64> = model.warnings().iter().map(|warning| warning.place.index).collect();
    assert_eq!(places, [2, 3]);
    assert!(matches!(model.warnings()[1].issue, Issue::UnwrittenRow { row: 12, .. }));
    assert_eq!(model.memory().read_array(DRAM), [0; 16], "the row that was never written is zero");
}

#[test]
fn only_the_first_warnings_are_kept_but_all_are_counted() {
    let mut model = with_policy(Policy { max_warnings: 3, ..Policy::all(Action::Warn) }, Memory::new());
    let commands = [Command::ConfigSt(config_st(16)), Command::Mvout(moved(DRAM, LocalAddr::scratchpad(0), 16, 16))];
    execute(&mut model, &commands).unwrap();
    assert_eq!((model.warnings().len(), model.warning_count()), (3, 16));
}

#[test]
fn what_is_ignored_leaves_no_trace() {
    let mut memory = Memory::new();
    memory.map(0..1);
    let mut model = with_policy(Policy::all(Action::Ignore), memory);
    // Unconfigured, out of range, unmapped and never written.
    execute(&mut model, &[Command::Mvout(moved(DRAM, LocalAddr::scratchpad(16380), 16, 16))]).unwrap();
    model.execute(&RoccCommand { funct: 99, rs1: DRAM, rs2: 1 << 48 | 1 << 32 }).unwrap();
    assert_eq!(model.warning_count(), 0);
    assert_eq!(model.counts().commands.unknown, 1);
}

#[test]
fn each_kind_of_undefined_behaviour_has_its_own_action() {
    let error = Policy::all(Action::Ignore);
    let mvin = Command::Mvin(moved(DRAM, LocalAddr::scratchpad(16380), 16, 16));
    let run = |policy| {
        let mut memory = Memory::new();
        memory.map(0..1);
        let mut model = with_policy(policy, memory);
        let config = Command::ConfigLd(config_ld(model.config(), 16));
        execute(&mut model, &[config, mvin]).err().map(|error| error.0.issue)
    };
    assert_eq!(run(error), None);
    assert!(matches!(run(Policy { out_of_range: Action::Error, ..error }), Some(Issue::Illegal(_))));
    assert!(matches!(run(Policy { unmapped_dram: Action::Error, ..error }), Some(Issue::UnmappedDram { .. })));
    assert_eq!(run(Policy { unwritten_row: Action::Error, illegal: Action::Error, ..error }), None);
}

#[test]
fn without_declared_ranges_all_of_memory_may_be_used() {
    let mut model = with_policy(Policy::all(Action::Error), Memory::new());
    let config = Command::ConfigLd(config_ld(model.config(), 16));
    execute(&mut model, &[config, Command::Mvin(moved(DRAM, LocalAddr::scratchpad(0), 1, 16))]).unwrap();
}

/// Any function with any operands, or with small ones.
fn any_command() -> impl Strategy<Value = RoccCommand> {
    let funct = prop_oneof![0..26u8, Just(126), 26..128u8];
    let word =
        prop_oneof![any::<u64>(), any::<u64>().prop_map(|x| x & 0x0004_0004_c000_03ff), Just(u64::from(u32::MAX))];
    (funct, word.clone(), word).prop_map(|(funct, rs1, rs2)| {
        // Pooled stores have up to 65025 rows; with a large stride each would touch its own page of memory.
        let rs2 = match (funct, rs1 & 3) {
            (0, 2) => rs2 & 0xffff_ffff_0000_00ff,
            (19, _) => rs2 & 0xffff_ffff_00ff_ffff,
            _ => rs2,
        };
        RoccCommand { funct, rs1, rs2 }
    })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_command_stream_panics(
        name in prop::sample::select(vec!["default16", "small4", "norm16", "lean", "large_chip", "dim4", "dim64"]),
        commands in prop::collection::vec(any_command(), 1..60),
        action in prop::sample::select(vec![Action::Warn, Action::Ignore]),
    ) {
        let policy = Policy { max_warnings: 10, max_loop_commands: 200, ..Policy::all(action) };
        let config = GemminiConfig::by_name(name).unwrap();
        let mut model = FunctionalModel::with_policy(config, Memory::new(), policy);
        for command in commands {
            if let Err(error) = model.execute(&command) {
                let is_endless_loop = matches!(error.0.issue, Issue::EndlessLoop { .. });
                prop_assert!(is_endless_loop, "{}", error);
            }
        }
    }
}
