//! Files of any bytes as programs on the whole system: run or refused, and what they end with is said, never a panic.
#![no_main]

use pollux_isa::ValidConfig;
use pollux_riscv::{DEFAULT_RAM, Elf};
use pollux_sim::uncore::hierarchy::L2Parameters;
use pollux_soc::{Soc, SocSetup};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let Ok(elf) = Elf::parse(file) else { return };
    let parameters = L2Parameters::default();
    let setup = SocSetup::new(ValidConfig::default(), DEFAULT_RAM, parameters.cache);
    if let Ok(mut soc) = Soc::new(setup, &elf, 0, |bytes| parameters.memory(bytes)) {
        let ending = soc.run(20_000);
        let _ = soc.describe(&ending);
    }
});
