//! Any words as instructions: executed or refused, one by one and together with the same outcome, never a panic.
#![no_main]

use pollux_riscv::{AccessFault, Bus, Hart, NoAccelerator, RamPort};
use pollux_isa::{RoccCommand, RoccInstruction};
use pollux_memory::Memory;

const RAM: std::ops::Range<u64> = 0x8000_0000..0x8001_0000;

/// Memory, and an accelerator that answers every command.
struct Board {
    ram: RamPort,
    memory: Memory,
}

impl Bus for Board {
    fn load(&mut self, address: u64, bytes: u64) -> Result<u64, AccessFault> {
        self.ram.load(&self.memory, address, bytes)
    }

    fn store(&mut self, address: u64, bytes: u64, value: u64) -> Result<(), AccessFault> {
        self.ram.store(&mut self.memory, address, bytes, value)
    }

    fn rocc(&mut self, _: RoccInstruction, command: RoccCommand) -> Result<Option<u64>, NoAccelerator> {
        Ok(Some(command.rs1))
    }

    fn fence(&mut self) {}
}

libfuzzer_sys::fuzz_target!(|code: &[u8]| {
    let mut memory = Memory::new();
    memory.write(RAM.start, &code[..code.len().min(0x1000)]);
    let mut board = Board { ram: RamPort::new(RAM), memory };
    let mut other = Board { ram: RamPort::new(RAM), memory: board.memory.clone() };
    let mut hart = Hart::new(RAM.start, 0);
    hart.csrs.write(0x300, 0x1e000, 0).expect("mstatus");
    (1..32).for_each(|register| hart.set_x(register, RAM.start + 256 * u64::from(register)));
    let mut stepped = hart.clone();
    let together = hart.run(&mut board, 1000).map(|_| ());
    let one_by_one = (0..1000).try_for_each(|_| stepped.step(&mut other).map(|_| ()));
    assert_eq!((together, hart.pc, board.memory), (one_by_one, stepped.pc, other.memory));
});
