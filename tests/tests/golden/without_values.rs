//! Timing does not depend on values: a machine without them gives the same events in the same cycles.
//!
//! The one exception, the normalizer's divisions with a zero operand, comes from the functional model.

use std::path::Path;

use pollux_functional::{Action, Divisions, FunctionalModel, Policy};
use pollux_isa::{StreamItem, ValidConfig};
use pollux_memory::Memory;
use pollux_sim::observer::{Cycle, Event, NoObserver, Observer};
use pollux_sim::runner::{Outcome, Run, Runner, Stopped};
use pollux_sim::simulation::{RunError, RunSummary};
use pollux_sim::values::ZeroDivisors;
use pollux_trace::GoldenCase;
use pollux_trace::verify::{bench, config_of, initial_memory};

/// Runs longer than this are those of streams on which the hardware itself stops.
const LIMIT: Cycle = 1_000_000;

/// How a run ended.
#[derive(Debug, PartialEq)]
struct End {
    summary: RunSummary,
    error: Option<RunError>,
    in_flight: u32,
    divisions: u64,
}

fn end<V: Run>(result: Result<Outcome<V>, Box<Stopped<V>>>) -> (End, Memory) {
    let (outcome, error) = match result {
        Ok(outcome) => (outcome, None),
        Err(stopped) => (stopped.outcome, Some(stopped.error)),
    };
    let (in_flight, divisions) = (outcome.machine.in_flight(), outcome.machine.divisions());
    (End { summary: outcome.summary, error, in_flight, divisions }, outcome.memory)
}

/// The functional model's list of the divisions with a zero operand, and how many there are in all.
fn zero_divisors(config: &ValidConfig, items: &[StreamItem], memory: Memory) -> (ZeroDivisors, u64) {
    let policy = Policy::all(Action::Ignore);
    let mut model = FunctionalModel::with_policy(config.clone(), memory, policy);
    model.run(items).expect("nothing is an error");
    let divisions = model.divisions();
    assert!(Divisions::possible(config, items) || divisions.count() == 0);
    (divisions.zero().iter().copied().collect(), divisions.count())
}

fn run<V: Run>(mut runner: Runner<'_, V>, case: &GoldenCase, observer: &mut impl Observer) -> (End, Memory) {
    end(runner.run(case.items.clone(), initial_memory(case), observer))
}

fn recorded<V: Run>(runner: Runner<'_, V>, case: &GoldenCase) -> ((End, Memory), Vec<(Cycle, Event)>) {
    let mut events = Vec::new();
    let end = run(runner, case, &mut |cycle: Cycle, event: &Event| events.push((cycle, *event)));
    (end, events)
}

/// Number of the cases in which divisors are zero.
fn assert_equal(group: &str) -> usize {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(group);
    let mut asked = 0;
    for folder in GoldenCase::find(&dir).expect("the cases are part of the project") {
        let case = GoldenCase::read(&folder).expect("a golden case");
        let config = config_of(&case).expect("a named configuration");
        let name = &case.name;
        let (oracle, divisions) = zero_divisors(&config, &case.items, initial_memory(&case));
        asked += usize::from(!oracle.is_empty());
        let runner = |plain| bench(&case, &config).plain(plain).limit(LIMIT);
        let without = |plain| runner(plain).without_values().replay(None).zero_divisors(oracle.clone());
        for plain in [false, true] {
            let ((full, _), expected) = recorded(runner(plain), &case);
            let ((timing, memory), events) = recorded(without(plain), &case);
            let differs = events.iter().zip(&expected).find(|(a, b)| a != b);
            assert_eq!(differs, None, "{name}: first event that differs");
            assert_eq!(events.len(), expected.len(), "{name}");
            assert_eq!(timing, full, "{name}");
            assert!(timing.error.is_some() || timing.divisions == divisions, "{name}: {divisions} divisions");
            assert!(memory == unchanged(&case), "{name}: memory");
            assert_eq!(run(without(plain), &case, &mut NoObserver).0, run(runner(plain), &case, &mut NoObserver).0);
        }
    }
    asked
}

/// Memory as it is if nothing but the host writes.
fn unchanged(case: &GoldenCase) -> Memory {
    let mut memory = initial_memory(case);
    for item in &case.items {
        if let StreamItem::Write { address, bytes } = item {
            memory.write(*address, bytes);
        }
    }
    memory
}

#[test]
fn the_directed_cases_take_the_same_cycles_without_values() {
    assert!(assert_equal("directed") > 0, "no case shows that a zero divisor is told");
}

#[test]
fn the_random_cases_take_the_same_cycles_without_values() {
    assert_equal("random");
}

#[test]
fn the_software_cases_take_the_same_cycles_without_values() {
    assert_equal("software");
}

/// LayerNorm of rows that take turns in the two statistics registers: a constant row has a variance of zero, and a row of zeros a
/// mean of zero, too.
const LAYER_NORM: &str = "
config norm16
buffer x: i32[4, 32] = fill 0
buffer y: i8[4, 32]
acc rows[2 * DIM]
config_ld stride=x.stride
config_st stride=y.stride acc_scale=1.0 activation=layernorm
repeat block in 0..2
    mvin dram=x[0, block * DIM] local=rows[block * DIM] cols=DIM rows=4
end
repeat row in 0..4 step 2
    repeat s in 0..2
        config_norm norm_stats_id=s set_stats_id_only
        mvout dram=y[row + s] local=norm(rows[row + s], mean) cols=32 rows=1
    end
    repeat s in 0..2
        config_norm norm_stats_id=s set_stats_id_only
        mvout dram=y[row + s] local=norm(rows[row + s], inv_stddev) cols=32 rows=1
    end
    repeat s in 0..2
        config_norm norm_stats_id=s set_stats_id_only
        mvout dram=y[row + s] local=rows[row + s] cols=32 rows=1
    end
end
fence
";

/// Softmax of rows whose maximum is that of an unmasked row before: all exponentials of a masked one are zero.
const SOFTMAX: &str = "
config norm16
buffer x: i32[4, 32] = fill 0
buffer y: i8[4, 32]
acc rows[2 * DIM]
config_ld stride=x.stride
config_st stride=y.stride acc_scale=1.0
config_norm act_msb q_const_type=0 q_const=13 qb=27 qc=383
config_norm act_msb q_const_type=1 q_const=5041 qb=27 qc=383
repeat block in 0..2
    mvin dram=x[0, block * DIM] local=rows[block * DIM] cols=DIM rows=4
end
repeat s in 0..2
    config_norm norm_stats_id=s set_stats_id_only
    mvout dram=y[0] local=norm(rows[0], max) cols=32 rows=1
end
repeat row in 0..4 step 2
    repeat s in 0..2
        config_norm norm_stats_id=1 - s set_stats_id_only
        mvout dram=y[row + s] local=norm(rows[row + s], inv_sum_exp) cols=32 rows=1
    end
    repeat s in 0..2
        config_norm norm_stats_id=1 - s set_stats_id_only
        mvout dram=y[row + s] local=rows[row + s] cols=32 rows=1
    end
end
fence
";

/// Element `i` of a row.
type Row = fn(i32) -> i32;

/// Summaries of a program with these rows: with values, without them and with the functional model's list, and without that; and the
/// length of the list.
fn with_rows(text: &str, rows: [Row; 4], plain: bool) -> ([RunSummary; 3], usize) {
    let program = pollux_asm::assemble("rows", text).expect("a program");
    let mut memory = program.initial_memory();
    let x = program.buffer("x").expect("the input").address;
    for (at, row) in (x..).step_by(4 * 32).zip(rows) {
        let bytes: Vec<u8> = (0..32).flat_map(|i| row(i).to_le_bytes()).collect();
        memory.write(at, &bytes);
    }
    let (zero, _) = zero_divisors(&program.config, &program.items, memory.clone());
    let listed = zero.len();
    let items = || program.items.clone();
    let full = end(Runner::new(&program.config).plain(plain).run(items(), memory.clone(), &mut NoObserver));
    let mut timing = Runner::new(&program.config).plain(plain).without_values().replay(None);
    let untold = end(timing.run(items(), memory.clone(), &mut NoObserver));
    let told = end(timing.zero_divisors(zero).run(items(), memory, &mut NoObserver));
    ([full.0.summary, told.0.summary, untold.0.summary], listed)
}

#[test]
fn zero_divisors_are_told_by_the_functional_model() {
    let [ramp, constant, zeros, masked]: [Row; 4] = [|i| 3 * i - 20, |_| 7, |_| 0, |_| -1_000_000];
    // Rows, and how many divisions of theirs have a zero operand.
    let cases = [
        (LAYER_NORM, [ramp, ramp, ramp, ramp], 0),
        (LAYER_NORM, [constant, ramp, ramp, zeros], 3),
        (LAYER_NORM, [zeros, constant, constant, zeros], 6),
        (SOFTMAX, [ramp, ramp, ramp, ramp], 0),
        (SOFTMAX, [ramp, masked, masked, ramp], 2),
        (SOFTMAX, [ramp, masked, masked, masked], 3),
    ];
    for (text, rows, expected) in cases {
        for plain in [false, true] {
            let ([full, told, untold], listed) = with_rows(text, rows, plain);
            assert_eq!(listed, expected);
            assert_eq!(told, full);
            assert_eq!(untold.cycles > full.cycles, expected > 0, "{expected}: {} and {}", untold.cycles, full.cycles);
        }
    }
}
