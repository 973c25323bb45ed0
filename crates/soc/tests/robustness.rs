//! Nothing that a program does makes the system panic or hang, and what is wrong is said with its place; any instructions do on the
//! pipeline what they do without time.

#[path = "../../riscv/tests/common/mod.rs"]
mod common;

use common::{BASE, HOST, elf_bytes, machine};
use pollux_functional::{Action, Policy};
use pollux_isa::ValidConfig;
use pollux_riscv::{Cause, DEFAULT_RAM, Elf, Hart, Stop, Trap};
use pollux_sim::memory::{MemorySystem, OuterMemory};
use pollux_sim::uncore::hierarchy::L2Parameters;
use pollux_soc::{Ending, Soc, SocSetup};
use proptest::prelude::*;

const NOP: u32 = 0x0000_0013;
/// `lui x5, 0x18` and `csrrs x0, mstatus, x5`: XS on.
const XS_ON: [u32; 2] = [0x0001_82b7, 0x3002_a073];
const FENCE: u32 = 0x0ff0_000f;
/// Enough for any of these programs.
const LIMIT: u64 = 300_000;

fn system(words: &[u32]) -> Soc<OuterMemory> {
    system_with(words, Policy::default())
}

fn system_with(words: &[u32], policy: Policy) -> Soc<OuterMemory> {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let elf = Elf::parse(&elf_bytes(&code, Some(HOST))).expect("an ELF file");
    let parameters = L2Parameters::default();
    let setup = SocSetup { policy, ..SocSetup::new(ValidConfig::default(), DEFAULT_RAM, parameters.cache) };
    Soc::new(setup, &elf, 0, |bytes| parameters.memory(bytes)).expect("it fits")
}

fn ending(words: &[u32]) -> (Ending, String) {
    let mut soc = system(words);
    let ending = soc.run(LIMIT);
    let text = soc.describe(&ending);
    (ending, text)
}

#[test]
fn exceptions_without_a_handler_end_the_run_with_their_place() {
    for (words, pc, cause, value) in [
        (vec![NOP, 0xffff_ffff], BASE + 4, Cause::Illegal, 0xffff_ffff),
        // lw a0, 8(zero); sw a0, 16(zero); jr 0(zero)
        (vec![0x0080_2503], BASE, Cause::LoadAccess, 8),
        (vec![0x00a0_2823], BASE, Cause::StoreAccess, 16),
        (vec![0x0000_0067], 0, Cause::FetchAccess, 0),
        // auipc a0, 0; lw a1, 2(a0)
        (vec![0x0000_0517, 0x0025_2583], BASE + 4, Cause::LoadMisaligned, BASE + 2),
        (vec![NOP, 0x0010_0073], BASE + 4, Cause::Breakpoint, 0),
    ] {
        let (ending, text) = ending(&words);
        let Ending::Trap(trap) = &ending else { panic!("{ending:?}") };
        assert_eq!((trap.pc, trap.cause), (pc, cause));
        assert!(cause == Cause::Breakpoint || trap.value == value, "{trap:?}");
        assert!(text.contains(&format!("{pc:#x}")) && text.contains("no trap handler"), "{text}");
    }
    // csrw mtvec, x5 with x5 = 4; the handler is outside of memory.
    let (ending, text) = ending(&[0x0040_0293, 0x3052_9073, 0xffff_ffff]);
    assert_eq!(ending, Ending::Trap(Trap { pc: 4, cause: Cause::FetchAccess, value: 4 }));
    assert!(text.contains("own trap handler"), "{text}");
}

#[test]
fn commands_that_gemmini_does_not_define_are_errors_with_their_place() {
    let with = |word: u32| ending(&[XS_ON[0], XS_ON[1], word, FENCE, 0x0000_006f]);
    // custom3: function 7; 100, which does not exist; 7 with a result; custom0.
    assert_eq!(with(0x0e00_307b).0, Ending::Endless);
    let (unknown, text) = with(100 << 25 | 0x307b);
    assert!(matches!(unknown, Ending::Board(_)));
    assert!(text.contains("pc 0x80000008") && text.contains("funct 100"), "{text}");
    let (no_result, text) = with(0x0e00_757b);
    assert!(matches!(no_result, Ending::Board(_)));
    assert!(text.contains("0x80000008") && text.contains("function 7"), "{text}");
    // The place is that of the command, though the pipeline has gone on to an addition.
    let (_, text) = ending(&[XS_ON[0], XS_ON[1], 100 << 25 | 0x307b, NOP, NOP, 0x0000_006f]);
    assert!(text.contains("pc 0x80000008"), "{text}");
    assert!(matches!(with(0x0e00_300b).0, Ending::Trap(Trap { cause: Cause::Illegal, .. })));
    let (off, text) = ending(&[0x0e00_307b]);
    assert!(matches!(off, Ending::Trap(Trap { cause: Cause::Illegal, .. })));
    assert!(text.contains("mstatus.XS"), "{text}");
}

#[test]
fn programs_without_an_end_are_stopped_with_what_everybody_waits_for() {
    let (endless, text) = ending(&[0x0000_006f]);
    assert_eq!(endless, Ending::Endless);
    assert!(text.contains("pc 0x80000000") && text.contains("has had no command"), "{text}");
    // Two jumps to each other.
    let (limit, text) = ending(&[0x0040_006f, 0xffdf_f06f]);
    assert_eq!(limit, Ending::Limit);
    assert!(text.contains("after 300000 cycles, at pc 0x8000000"), "{text}");
    // A product with A in the accumulator, which the execute controller never gets; the fence waits for ever.
    let rocc = |funct: u32, rs1: u32, rs2: u32| funct << 25 | rs2 << 20 | rs1 << 15 | 0x307b;
    let stuck = [
        XS_ON[0],
        XS_ON[1],
        // a0 = 4: config_ex, weight-stationary.
        0x0040_0513,
        rocc(0, 10, 0),
        // a1 = 0xffff_ffff: the garbage address, without rows.
        0xfff0_0593,
        0x0205_d593,
        rocc(6, 11, 11),
        // a2 = 16 rows of 16 columns at row 0 of the accumulator.
        0x0010_0613,
        0x01f6_1613,
        0x0010_06b7,
        0x0106_8693,
        0x0206_9693,
        0x00d6_6633,
        rocc(4, 12, 11),
        FENCE,
        0x0000_006f,
    ];
    assert!(matches!(ending(&stuck).0, Ending::Board(_)), "it is illegal");
    let mut soc = system_with(&stuck, Policy::all(Action::Ignore));
    let ending = soc.run(LIMIT);
    let text = soc.describe(&ending);
    assert_eq!(ending, Ending::Deadlock, "{text}");
    assert!(text.contains("waits at a fence for Gemmini") && text.contains("is busy with 3 commands"), "{text}");
    assert!(text.contains("ExecuteController waits for"), "{text}");
}

/// All but two bits of the registers' numbers: with few registers instructions wait for each other.
const MOST_REGISTERS: u32 = 0b11100 << 7 | 0b11100 << 15 | 0b11100 << 20;

/// Words of which many are instructions.
fn words() -> impl Strategy<Value = Vec<u32>> {
    let free = (any::<u32>(), any::<bool>());
    let row = (0..pollux_riscv::table::TABLE.len(), free).prop_map(|(row, (free, few))| {
        let row = &pollux_riscv::table::TABLE[row];
        row.matches | free & !row.mask & if few { !MOST_REGISTERS } else { u32::MAX }
    });
    prop::collection::vec(prop_oneof![8 => row, 1 => any::<u32>()], 1..64)
}

/// A command to an accelerator.
fn is_command(word: u32) -> bool {
    matches!(word & 0x7f, 0x0b | 0x2b | 0x5b | 0x7b)
}

/// Instructions whose effects depend on the clock, or differ on the system: commands, and reads of counters.
fn depends_on_time(word: u32) -> bool {
    let opcode = word & 0x7f;
    let is_csr = opcode == 0x73 && word >> 12 & 7 != 0;
    let counters = [0xb00, 0xb02, 0xc00, 0xc01, 0xc02];
    is_command(word) || is_csr && counters.contains(&(word >> 20))
}

/// `csrw mtvec, x0; ebreak`: the end.
const END: [u32; 2] = [0x3050_1073, 0x0010_0073];
/// Where [`HANDLER`] is.
const HANDLER_AT: u64 = BASE + 0x400;
/// `csrr t0, mepc; addi t0, t0, 4; csrw mepc, t0; mret`: goes on behind what raised the exception.
const HANDLER: [u32; 4] = [0x3410_22f3, 0x0042_8293, 0x3412_9073, 0x3020_0073];

/// A core before a program: accelerator and floats on, registers in memory, a handler.
fn prepare(hart: &mut Hart) {
    hart.csrs.write(0x300, 0x1e000, 0).expect("mstatus");
    hart.csrs.mtvec = HANDLER_AT;
    (1..32).for_each(|register| hart.set_x(register, BASE + 0x1000 + 64 * u64::from(register)));
}

fn registers(hart: &Hart) -> (Vec<u64>, u64, u64, u64) {
    let registers = (0..32).map(|n| hart.x(n)).chain((0..32).map(|n| hart.f(n))).collect();
    (registers, hart.pc, hart.csrs.mepc, hart.csrs.mcause)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// A core that is stepped only when something can move takes the same cycles for any instructions.
    #[test]
    fn sleeping_changes_no_cycle(words in words()) {
        let words: Vec<u32> = words.into_iter().filter(|word| !is_command(*word)).chain(END).collect();
        let [(one, cycles, counters), (other, plain_cycles, plain_counters)] = [false, true].map(|plain| {
            let mut soc = system(&words);
            soc.plain = plain;
            prepare(soc.hart_mut());
            soc.hart_mut().csrs.mtvec = 0;
            (soc.run(5_000), soc.cycle(), soc.core().counters)
        });
        prop_assert_eq!(one, other);
        prop_assert_eq!((cycles, counters), (plain_cycles, plain_counters));
    }

    /// Registers and memory behind any instructions, exceptions included, are those of the core without time. Code is not written,
    /// as the pipeline has fetched ahead.
    #[test]
    fn any_instructions_do_the_same_with_and_without_time(words in words()) {
        let mut words: Vec<u32> = words.into_iter().filter(|word| !depends_on_time(*word)).chain(END).collect();
        words.resize(0x100, 0);
        words.extend(HANDLER);
        let (mut machine, mut soc) = (machine(&words), system(&words));
        prepare(&mut machine.hart);
        prepare(soc.hart_mut());
        let mut stop = None;
        for _ in 0..500 {
            let (retired, stopped) = machine.step();
            let access = retired.and_then(|retired| retired.access).filter(|access| access.written.is_some());
            prop_assume!(access.is_none_or(|access| access.address >= BASE + 0x800));
            stop = stopped;
            if stop.is_some() {
                break;
            }
        }
        let ending = soc.run(60_000);
        match (stop, ending) {
            // It goes round and round, or the host looks at its words, while the pipeline goes on.
            (None, _) | (Some(Stop::Error(_)), Ending::Board(_)) => return Ok(()),
            (Some(Stop::Exit(one)), Ending::Exit(other)) if one == other => return Ok(()),
            (Some(Stop::Trap(one)), Ending::Trap(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert!(false, "{:?} without time, {:?} with: {}", one, other, soc.describe(&Ending::Limit)),
        }
        prop_assert_eq!(registers(&machine.hart), registers(&soc.core().hart));
        prop_assert_eq!(soc.uncore().memory().first_difference_anywhere(machine.board.memory()), None);
    }
}
