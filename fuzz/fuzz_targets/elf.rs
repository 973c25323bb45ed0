//! Files of any bytes as programs for the core: run or refused, never a panic.
#![no_main]

use pollux_riscv::{Elf, Machine, Setup};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    if let Ok(elf) = Elf::parse(file)
        && let Ok(mut machine) = Machine::new(Setup::new(Default::default()), &elf)
    {
        let stop = machine.run(10_000);
        let _ = machine.describe(&stop);
    }
});
