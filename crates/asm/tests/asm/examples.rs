//! The programs in `programs/`.

use std::fs;

use pollux_asm::{assemble_file, fuzz};
use pollux_functional::FunctionalModel;

use crate::support::example_programs;

#[test]
fn example_programs_leave_the_memory_that_they_expect() {
    let paths = example_programs();
    assert!(paths.len() >= 6);
    for path in paths {
        let program = assemble_file(&path).unwrap_or_else(|errors| panic!("{}", errors.render()));
        let mut model = FunctionalModel::new(program.config.clone(), program.initial_memory());
        model.run(&program.items).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut compared = 0;
        for buffer in &program.buffers {
            if let Some(expected) = &buffer.expected {
                let actual = model.memory().read_vec(buffer.address, expected.len());
                assert_eq!(actual, *expected, "{}: {}", path.display(), buffer.name);
                compared += expected.len();
            }
        }
        assert!(compared > 0, "{} expects nothing", path.display());
    }
}

#[test]
fn example_programs_survive_the_round_trips() {
    for path in example_programs() {
        fuzz::check_program(&assemble_file(&path).unwrap());
    }
}

#[test]
fn example_programs_begin_by_saying_what_they_compute() {
    for path in example_programs() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ") && text.contains("\nconfig "), "{}", path.display());
    }
}
