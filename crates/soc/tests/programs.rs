//! Programs on the system and on the model without time: the same text (times apart), exit code and memory; and a core that is stepped only when
//! something moves takes the same cycles.

use std::path::Path;

use pollux_isa::ValidConfig;
use pollux_riscv::{DEFAULT_RAM, Elf, Machine, Setup, Stop};
use pollux_sim::memory::{BandwidthMemory, BandwidthParameters, MemorySystem};
use pollux_sim::uncore::l2::InclusiveCacheParameters;
use pollux_soc::{Ending, Soc, SocSetup};

const PROGRAMS: [&str; 3] = ["copy", "matmul", "loop_matmul"];
const LIMIT: u64 = 20_000_000;

fn elf(program: &str) -> Elf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../programs/riscv/{program}.elf"));
    Elf::parse(&std::fs::read(path).unwrap()).unwrap()
}

fn system(program: &str, plain: bool) -> Soc<BandwidthMemory> {
    let setup = SocSetup::new(ValidConfig::default(), DEFAULT_RAM, InclusiveCacheParameters::default());
    let parameters = BandwidthParameters { latency: 40, bytes: 8, cycles: 1, outstanding: u64::MAX };
    let mut soc = Soc::new(setup, &elf(program), 0, |bytes| BandwidthMemory::new(parameters, 8, bytes)).unwrap();
    soc.plain = plain;
    soc.observations.busy = Some(Vec::new());
    soc
}

#[test]
fn programs_end_as_without_time() {
    for program in PROGRAMS {
        let mut machine = Machine::new(Setup::new(ValidConfig::default()), &elf(program)).unwrap();
        let Stop::Exit(code) = machine.run(LIMIT) else { panic!("{program} does not end") };
        let mut soc = system(program, false);
        assert_eq!(soc.run(LIMIT), Ending::Exit(code), "{program}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(text(&soc.observations.console), text(&machine.board.htif.take_console()), "{program}");
        // A program that does not look at the clock leaves the same memory.
        if program == "copy" {
            let difference = soc.uncore().memory().first_difference_anywhere(machine.board.memory());
            assert_eq!(difference, None, "{program}: memory differs");
        }
        assert!(soc.observations.busy_cycles > 0, "{program} uses Gemmini");
    }
}

#[test]
fn sleeping_changes_no_cycle() {
    for program in PROGRAMS {
        let [mut sleeping, mut plain] = [false, true].map(|plain| system(program, plain));
        assert_eq!(sleeping.run(LIMIT), plain.run(LIMIT), "{program}");
        assert_eq!(sleeping.cycle(), plain.cycle(), "{program}");
        assert_eq!(sleeping.core().counters, plain.core().counters, "{program}");
        assert_eq!(sleeping.observations.busy, plain.observations.busy, "{program}");
    }
}
