//! Nothing that a file or a program says makes the core panic, and what is wrong is said with its place.

mod common;

use common::{BASE, HOST, elf_bytes, machine};
use pollux_isa::ValidConfig;
use pollux_riscv::{Cause, Elf, ElfError, Hart, Machine, Misaligned, Setup, Stop, Trap};
use proptest::prelude::*;

const NOP: u32 = 0x0000_0013;
/// `lui x5, 0x18` and `csrrs x0, mstatus, x5`: XS on.
const XS_ON: [u32; 2] = [0x0001_82b7, 0x3002_a073];

fn stop(words: &[u32]) -> (Stop, String) {
    let mut machine = machine(words);
    let stop = machine.run(1000);
    let text = machine.describe(&stop);
    (stop, text)
}

#[test]
fn an_illegal_instruction_is_named_with_its_place() {
    let (stop, text) = stop(&[NOP, 0xffff_ffff]);
    assert_eq!(stop, Stop::Trap(Trap { pc: BASE + 4, cause: Cause::Illegal, value: 0xffff_ffff }));
    assert!(text.contains("0x80000004") && text.contains("0xffffffff"), "{text}");
}

#[test]
fn an_access_outside_of_memory_is_named_with_its_address() {
    // lw a0, 8(zero); sw a0, 16(zero); jr 0(zero)
    for (word, cause, value) in [
        (0x0080_2503, Cause::LoadAccess, 8),
        (0x00a0_2823, Cause::StoreAccess, 16),
        (0x0000_3503, Cause::LoadAccess, 0),
    ] {
        assert_eq!(stop(&[word]).0, Stop::Trap(Trap { pc: BASE, cause, value }));
    }
    assert_eq!(stop(&[0x0000_0067]).0, Stop::Trap(Trap { pc: 0, cause: Cause::FetchAccess, value: 0 }));
}

#[test]
fn a_misaligned_access_traps_unless_it_is_allowed() {
    // auipc a0, 0; lw a1, 2(a0)
    let words = [0x0000_0517, 0x0025_2583];
    let expected = Trap { pc: BASE + 4, cause: Cause::LoadMisaligned, value: BASE + 2 };
    assert_eq!(stop(&words).0, Stop::Trap(expected));
    let mut machine = machine(&words);
    machine.hart.misaligned = Misaligned::Allow;
    assert_eq!(machine.run(2), Stop::Limit);
    assert_eq!(machine.hart.x(11), 0x2583_0000);
}

#[test]
fn commands_need_the_accelerator_to_be_on_and_at_their_opcode() {
    // custom3 of function 7, and the same on custom0
    let (flush, other) = (0x0e00_307b, 0x0e00_300b);
    assert!(matches!(stop(&[flush]).0, Stop::Trap(Trap { cause: Cause::Illegal, .. })));
    assert!(stop(&[flush]).1.contains("mstatus.XS"));
    assert_eq!(stop(&[XS_ON[0], XS_ON[1], flush, 0x0000_006f]).0, Stop::Endless);
    assert!(matches!(stop(&[XS_ON[0], XS_ON[1], other]).0, Stop::Trap(Trap { cause: Cause::Illegal, .. })));
}

#[test]
fn a_result_that_never_comes_is_an_error() {
    // custom3 of function 7 with xd
    let (stop, text) = stop(&[XS_ON[0], XS_ON[1], 0x0e00_757b]);
    assert!(matches!(stop, Stop::Error(_)));
    assert!(text.contains("0x80000008") && text.contains("function 7"), "{text}");
}

#[test]
fn a_command_that_gemmini_does_not_define_is_an_error_with_its_place() {
    // function 100, which does not exist
    let (stop, text) = stop(&[XS_ON[0], XS_ON[1], 100 << 25 | 0x307b]);
    assert!(matches!(stop, Stop::Error(_)));
    assert!(text.contains("pc 0x80000008") && text.contains("funct 100"), "{text}");
}

#[test]
fn a_handler_that_raises_exceptions_itself_ends() {
    // csrw mtvec, x5 with x5 = 4; the handler is outside of memory
    let (stop, text) = stop(&[0x0040_0293, 0x3052_9073, 0xffff_ffff]);
    assert_eq!(stop, Stop::Trap(Trap { pc: 4, cause: Cause::FetchAccess, value: 4 }));
    assert!(text.contains("own trap handler"), "{text}");
}

#[test]
fn an_endless_program_is_stopped_with_its_place() {
    let (stop, text) = stop(&[0x0000_006f]);
    assert_eq!(stop, Stop::Endless);
    assert!(text.contains("0x80000000") && text.contains("Gemmini has had no command"), "{text}");
    // Two jumps to each other.
    let (stop, text) = self::stop(&[0x0040_006f, 0xffdf_f06f]);
    assert_eq!(stop, Stop::Limit);
    assert!(text.contains("1000 instructions"), "{text}");
}

#[test]
fn files_that_are_no_programs_say_why() {
    let good = elf_bytes(&NOP.to_le_bytes(), None);
    assert!(Elf::parse(&good).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Elf::parse(&bytes).expect_err("damaged")
    };
    assert_eq!(with(4, 1), ElfError::Bits32);
    assert_eq!(with(5, 2), ElfError::BigEndian);
    assert_eq!(with(18, 62), ElfError::Machine(62));
    assert_eq!(with(16, 3), ElfError::Type(3));
    assert_eq!(with(64, 3), ElfError::Dynamic);
    assert!(matches!(with(26, 1), ElfError::Entry(_)));
    assert!(matches!(Elf::parse(b"#!/bin/sh\n"), Err(ElfError::Damaged(_))));
    let mut outside = good;
    // The entry point and the segment's physical address.
    outside[24 + 3] = 0x10;
    outside[64 + 24 + 3] = 0x10;
    let elf = Elf::parse(&outside).expect("an ELF file");
    let error = Machine::new(Setup::new(ValidConfig::default()), &elf).expect_err("outside");
    assert!(matches!(error, ElfError::Outside { address: 0x1000_0000, .. }), "{error}");
}

/// Registers and memory of a machine.
fn state(machine: &Machine) -> (Vec<u64>, u64, u64, Vec<u8>) {
    let hart: &Hart = &machine.hart;
    let registers = (0..32).map(|n| hart.x(n)).chain((0..32).map(|n| hart.f(n))).collect();
    (registers, hart.pc, hart.csrs.instret, machine.board.memory().read_vec(BASE, 0x2000))
}

/// Words of which many are instructions.
fn words() -> impl Strategy<Value = Vec<u32>> {
    let row = (0..pollux_riscv::table::TABLE.len(), any::<u32>()).prop_map(|(row, free)| {
        let row = &pollux_riscv::table::TABLE[row];
        row.matches | free & !row.mask
    });
    prop::collection::vec(prop_oneof![4 => row, 1 => any::<u32>()], 1..64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_as_a_file(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Elf::parse(&bytes);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.extend(bytes);
        let _ = Elf::parse(&elf);
    }

    #[test]
    fn a_damaged_file(changes in prop::collection::vec((0usize..600, any::<u8>()), 1..6), cut in 0usize..700) {
        let code: Vec<u8> = XS_ON.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = elf_bytes(&code, Some(HOST));
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(cut.max(64));
        if let Ok(elf) = Elf::parse(&bytes)
            && let Ok(mut machine) = Machine::new(Setup::new(ValidConfig::default()), &elf)
        {
            machine.run(100);
        }
    }

    #[test]
    fn any_instructions_do_the_same_one_by_one_and_together(words in words(), misaligned: bool) {
        // The accelerator and floats on, sp in memory, a handler that goes on behind the exception.
        let mut machine = machine(&words);
        machine.hart.csrs.write(0x300, 0x1e000, 0).expect("mstatus");
        machine.hart.misaligned = if misaligned { Misaligned::Allow } else { Misaligned::Trap };
        for register in 1..32 {
            machine.hart.set_x(register, BASE + 64 * u64::from(register));
        }
        let mut stepped = machine.clone();
        let together = machine.run(300);
        let mut left = 300;
        let one_by_one = loop {
            if left == 0 {
                break None;
            }
            left -= 1;
            if let (_, Some(stop)) = stepped.step() {
                break Some(stop);
            }
        };
        match one_by_one {
            Some(stop) => prop_assert_eq!(together, stop),
            None => prop_assert!(matches!(together, Stop::Limit | Stop::Endless)),
        }
        prop_assert_eq!(state(&machine), state(&stepped));
        let _ = machine.describe(&Stop::Limit);
    }
}
