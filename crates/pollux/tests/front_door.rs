//! The front door as its users come through it; the examples are run, too.

use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use pollux::sim::machine::{PageTables, Translation};
use pollux::sim::simulation::RunError;
use pollux::{Action, Config, Error, Program};

#[path = "../examples/memories.rs"]
#[allow(dead_code)]
mod memories;
#[path = "../examples/observer.rs"]
#[allow(dead_code)]
mod observer;
#[path = "../examples/operation.rs"]
#[allow(dead_code)]
mod operation;
#[path = "../examples/product.rs"]
#[allow(dead_code)]
mod product;

#[test]
fn the_examples_run() {
    product::main().unwrap();
    memories::main().unwrap();
    observer::main().unwrap();
    operation::main().unwrap();
}

#[test]
fn text_binary_and_file_are_the_same_program() {
    let text =
        "config default16\nbuffer A: i8[4,4]\nconfig_ld stride=4\nmvin dram=A local=spad(0) cols=4 rows=4\nfence\n";
    let program = Program::from_text(text).unwrap();
    let bytes = program.to_bytes().unwrap();
    assert!(Program::is_binary(&bytes));
    assert_eq!(Program::from_bytes("x", bytes.clone(), None).unwrap(), program);
    assert_eq!(Program::from_bytes("x", text.into(), Some(&Config::default())).unwrap(), program);
    assert_eq!(Program::from_text(&program.to_text()).unwrap(), program);
    let other = pollux::config("small4").unwrap();
    assert!(matches!(Program::from_bytes("x", bytes.clone(), Some(&other)), Err(Error::Binary { .. })));

    let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let path = std::env::temp_dir().join(format!("pollux-{}-{unique}.pbin", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let read = Program::from_file(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read.unwrap(), program);
    assert!(matches!(Program::from_file(&path), Err(Error::Read { .. })));
}

#[test]
fn both_models_leave_the_product() {
    let (m, k, n) = (20, 33, 17);
    let a: Vec<i8> = (0..m * k).map(|i| (i * 37 % 255) as u8 as i8).collect();
    let b: Vec<i8> = (0..k * n).map(|i| (i * 91 % 253) as u8 as i8).collect();
    let sum = |i: usize, j: usize| (0..k).map(|x| i64::from(a[i * k + x]) * i64::from(b[x * n + j])).sum::<i64>();
    let expected: Vec<i64> = (0..m * n).map(|at| sum(at / n, at % n)).collect();
    for name in ["default16", "small4", "norm16"] {
        let program = Program::matmul(&pollux::config(name).unwrap(), [m, k, n], &a, &b).unwrap();
        let (fast, plain) = (program.run().cycles().unwrap(), program.run().plain(true).cycles().unwrap());
        assert_eq!(fast.cycles(), plain.cycles());
        let timing = program.run().without_values().cycles().unwrap();
        assert_eq!((timing.summary, timing.divisions.count()), (fast.summary, 0));
        assert!(timing.memory == program.initial_memory());
        assert_eq!(fast.tensor("C").unwrap().values, expected);
        assert_eq!(fast.tensor("C").unwrap().shape, [m as u64, n as u64]);
        assert_eq!(program.run().functional().unwrap().tensor("C").unwrap().values, expected);
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let config = Config::default();
    let error = |result: Result<Program, Error>| result.unwrap_err().to_string();
    assert_eq!(
        error(Program::matmul(&config, [2, 2, 2], &[0; 3], &[0; 4])),
        "A has 3 elements, but its shape [2, 2] takes 4"
    );
    let program = Program::matmul(&config, [2, 2, 2], &[0; 4], &[0; 4]).unwrap();
    let outcome = program.run().cycles().unwrap();
    let missing = outcome.tensor("D").unwrap_err().to_string();
    assert!(missing.starts_with("the program has no buffer `D`: it has A, B, C"), "{missing}");
    assert!(matches!(pollux::config("default17"), Err(Error::Config(_))));
    assert!(matches!(Program::from_text("frobnicate"), Err(Error::Text(_))));
    let stopped = program.run().limit(10).cycles().unwrap_err();
    assert!(matches!(stopped, Error::Stopped(stopped) if matches!(stopped.error, RunError::Limit { limit: 10, .. })));
}

#[test]
fn an_illegal_program_runs_only_if_it_is_let() {
    let program =
        Program::from_text("config default16\npreload d=spad(0) c=spad(0)\ncompute_preloaded a=spad(0) bd=spad(0)\n")
            .unwrap();
    assert!(
        matches!(program.run().cycles(), Err(Error::Illegal(lines)) if lines[0].starts_with("command 0 (`preload"))
    );
    assert!(matches!(program.run().functional(), Err(Error::Illegal(_))));
    let outcome = program.run().illegal(Action::Warn).limit(1000).cycles();
    assert!(!matches!(outcome, Err(Error::Illegal(_))));
}

#[test]
fn who_watches_can_end_a_run() {
    let mut text = String::from("config default16\nbuffer A: i8[16,16]\nconfig_ld stride=16\n");
    text.push_str(&"mvin dram=A local=spad(0) cols=16 rows=16\nfence\n".repeat(2000));
    let program = Program::from_text(&text).unwrap();
    let result = program.run().plain(true).watch(|_| ControlFlow::Break(())).cycles();
    assert!(matches!(result, Err(Error::Stopped(stopped)) if matches!(stopped.error, RunError::Cancelled { .. })));
}

#[test]
fn a_result_that_depends_on_the_time_is_warned_of_and_runs_to_its_end() {
    let text = "config default16\nconfig_ex dataflow=ws\npreload d=spad(0) c=acc(0) c_rows=16\n\
                compute_preloaded a=spad(0) a_rows=5\nfence\nwait 20_000_000\n";
    let program = Program::from_text(text).expect("a program");
    let outcome = program.run().cycles().expect("it ends, beyond the limit of illegal programs");
    assert!(outcome.summary.cycles > 20_000_000);
    assert!(outcome.warnings.iter().any(|warning| warning.contains("depending on the time")), "{:?}", outcome.warnings);
}

#[test]
fn a_run_without_values_that_depends_on_them_is_refused() {
    let program = Program::matmul(&Config::default(), [2, 2, 2], &[1; 4], &[1; 4]).unwrap();
    let paged = Translation::Paged { tables: PageTables::Sv39 { root: 0x1000 }, walk_latency: 10 };
    let error = program.run().translation(paged).without_values().cycles().unwrap_err().to_string();
    assert_eq!(error, "page tables in main memory are values: run it with its values");
    let stopped = program.run().limit(10).without_values().cycles().unwrap_err();
    assert!(
        matches!(&stopped, Error::StoppedWithoutValues(stopped) if matches!(stopped.error, RunError::Limit { .. }))
    );
}
