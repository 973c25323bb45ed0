//! [`FunctionalModel`]: the accelerator's state and the execution of one command.

use pollux_isa::config::CORE_MAX_ADDR_BITS;
use pollux_isa::fields::MoveOperands;
use pollux_isa::legality::{Checker, LocalMemory as MemoryKind};
use pollux_isa::stream::StreamItem;
use pollux_isa::{AddressLayout, Command, LocalAddr, RoccCommand, ValidConfig};
use pollux_memory::Memory;

use crate::counts::Counts;
use crate::execute_controller::ExecuteController;
use crate::load_controller::LoadController;
use crate::local_memory::LocalMemory;
use crate::policy::{Access, Action, Diagnostic, ExecError, Issue, Monitor, Policy};
use crate::store_controller::StoreController;
use crate::unroll::{Accepted, LoopCommands, Unroller};

/// The bits of a main memory address that the accelerator computes with.
pub(crate) const DRAM_MASK: u64 = (1 << CORE_MAX_ADDR_BITS) - 1;

/// What the three controllers share: memories, counts and the record of undefined behaviour.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub layout: AddressLayout,
    pub memory: Memory,
    pub scratchpad: LocalMemory<i8>,
    pub accumulator: LocalMemory<i32>,
    pub counts: Counts,
    pub monitor: Monitor,
    check_mapped: bool,
    /// Bits of an address behind the port.
    paddr_mask: u64,
}

impl Machine {
    /// Reads a row from main memory.
    #[inline]
    pub fn read_dram(&mut self, address: u64, row: &mut [u8]) -> Result<(), ExecError> {
        let (address, head) = self.port(Access::Read, address, row.len())?;
        let (row, rest) = row.split_at_mut(head);
        self.memory.read(address, row);
        self.memory.read(0, rest);
        Ok(())
    }

    /// Writes a row to main memory.
    #[inline]
    pub fn write_dram(&mut self, address: u64, row: &[u8]) -> Result<(), ExecError> {
        let (address, head) = self.port(Access::Write, address, row.len())?;
        let (row, rest) = row.split_at(head);
        self.memory.write(address, row);
        self.memory.write(0, rest);
        Ok(())
    }

    /// The physical address of a transfer, and how many of its bytes lie there; the others follow from address 0 on, as the
    /// port has `paddr_bits` address bits. Reports transfers that need more, or that the program does not own.
    #[inline]
    fn port(&mut self, access: Access, address: u64, bytes: usize) -> Result<(u64, usize), ExecError> {
        let physical = address & self.paddr_mask;
        let below_the_end = self.paddr_mask - physical;
        if physical == address && bytes as u64 <= below_the_end {
            self.check_mapped(access, physical, bytes as u64)?;
            return Ok((physical, bytes));
        }
        let bits = self.paddr_mask.count_ones();
        let head = usize::try_from(below_the_end + 1).map_or(bytes, |end| end.min(bytes));
        if physical != address || head < bytes {
            self.monitor.report(Issue::AddressCut { access, address, bytes: bytes as u64, bits, physical })?;
        }
        self.check_mapped(access, physical, head as u64)?;
        self.check_mapped(access, 0, (bytes - head) as u64)?;
        Ok((physical, head))
    }

    /// Reports bytes of main memory that no declared range covers, if any range is declared.
    #[inline]
    fn check_mapped(&mut self, access: Access, address: u64, bytes: u64) -> Result<(), ExecError> {
        if self.check_mapped
            && let Some(first_unmapped) = self.memory.first_unmapped(address, bytes)
            && self.memory.mapped().next().is_some()
        {
            self.monitor.report(Issue::UnmappedDram { access, address, bytes, first_unmapped })?;
        }
        Ok(())
    }

    /// Row number of an address that is about to be read; reports one that was never written.
    #[inline]
    pub fn scratchpad_row(&mut self, local: LocalAddr) -> Result<usize, ExecError> {
        let row = local.full_sp_addr(self.layout) as usize;
        if !self.scratchpad.is_written(row) {
            self.monitor.report(Issue::UnwrittenRow { memory: MemoryKind::Scratchpad, row: row as u32 })?;
        }
        Ok(row)
    }

    /// The same for the accumulator.
    #[inline]
    pub fn accumulator_row(&mut self, local: LocalAddr) -> Result<usize, ExecError> {
        let row = local.full_acc_addr(self.layout) as usize;
        if !self.accumulator.is_written(row) {
            self.monitor.report(Issue::UnwrittenRow { memory: MemoryKind::Accumulator, row: row as u32 })?;
        }
        Ok(row)
    }

    /// Writes the leading elements of an accumulator row, or adds to them (wrapping), as the address says.
    #[inline]
    pub fn write_accumulator(&mut self, local: LocalAddr, elements: impl Iterator<Item = i32>) {
        let accumulate = local.accumulate();
        let row = self.accumulator.row_mut(local.full_acc_addr(self.layout) as usize);
        if accumulate {
            row.iter_mut().zip(elements).for_each(|(to, x)| *to = to.wrapping_add(x));
        } else {
            row.iter_mut().zip(elements).for_each(|(to, x)| *to = x);
        }
    }
}

/// A Gemmini accelerator with its main memory, without time.
///
/// A clone is a snapshot.
#[derive(Clone, Debug)]
pub struct FunctionalModel {
    config: ValidConfig,
    machine: Machine,
    load: LoadController,
    execute: ExecuteController,
    store: StoreController,
    unroller: Unroller,
    checker: Checker,
}

/// Construction and state.
impl FunctionalModel {
    /// The accelerator after reset, all registers and local memories 0, with the default [`Policy`].
    pub fn new(config: ValidConfig, memory: Memory) -> Self {
        Self::with_policy(config, memory, Policy::default())
    }

    /// The same with a chosen policy.
    pub fn with_policy(config: ValidConfig, memory: Memory, policy: Policy) -> Self {
        let (layout, dim) = (config.layout(), config.dim() as usize);
        Self {
            load: LoadController::new(&config),
            execute: ExecuteController::new(&config),
            store: StoreController::new(&config),
            unroller: Unroller::new(&config),
            checker: Checker::new(&config),
            machine: Machine {
                layout,
                scratchpad: LocalMemory::new(layout.sp_rows as usize, dim),
                accumulator: LocalMemory::new(layout.acc_rows as usize, dim),
                check_mapped: policy.unmapped_dram != Action::Ignore,
                paddr_mask: (1 << config.paddr_bits) - 1,
                memory,
                counts: Counts::default(),
                monitor: Monitor::new(policy),
            },
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ValidConfig {
        &self.config
    }

    /// Main memory.
    pub fn memory(&self) -> &Memory {
        &self.machine.memory
    }

    /// Main memory, for the host's own writes.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.machine.memory
    }

    /// Main memory, taken out of the model.
    pub fn into_memory(self) -> Memory {
        self.machine.memory
    }

    /// The scratchpad: rows of DIM elements.
    pub fn scratchpad(&self) -> &LocalMemory<i8> {
        &self.machine.scratchpad
    }

    /// The scratchpad, to be set up by a test or a view.
    pub fn scratchpad_mut(&mut self) -> &mut LocalMemory<i8> {
        &mut self.machine.scratchpad
    }

    /// The accumulator: rows of DIM elements.
    pub fn accumulator(&self) -> &LocalMemory<i32> {
        &self.machine.accumulator
    }

    /// The accumulator, to be set up by a test or a view.
    pub fn accumulator_mut(&mut self) -> &mut LocalMemory<i32> {
        &mut self.machine.accumulator
    }

    /// Totals so far.
    pub fn counts(&self) -> &Counts {
        &self.machine.counts
    }

    /// Warnings so far, the first [`Policy::max_warnings`] of them.
    pub fn warnings(&self) -> &[Diagnostic] {
        self.machine.monitor.warnings()
    }

    /// Warnings so far, those not kept included.
    pub fn warning_count(&self) -> u64 {
        self.machine.monitor.warning_count()
    }
}

/// Execution.
impl FunctionalModel {
    /// Runs a stream: commands are executed and host writes done, in order; fences, waits and marks mean nothing without time.
    ///
    /// # Errors
    /// The first item that the policy makes an error. Items before it have taken effect.
    pub fn run<'a>(&mut self, items: impl IntoIterator<Item = &'a StreamItem>) -> Result<(), ExecError> {
        for item in items {
            match item {
                StreamItem::Command(command) => self.execute(command)?,
                StreamItem::Write { address, bytes } => self.machine.memory.write(*address, bytes),
                StreamItem::Fence | StreamItem::Wait(_) | StreamItem::Mark(_) => {}
            }
        }
        Ok(())
    }

    /// Executes one command of the host; a loop command with everything it unrolls to.
    ///
    /// # Errors
    /// Undefined behaviour that the policy makes an error. What came before it within the command has taken effect.
    pub fn execute(&mut self, command: &RoccCommand) -> Result<(), ExecError> {
        self.machine.monitor.begin_command(self.machine.counts.host_commands, *command);
        self.machine.counts.host_commands += 1;
        if self.machine.monitor.checks_legality() {
            for illegality in self.checker.check(*command) {
                self.machine.monitor.report(Issue::Illegal(illegality))?;
            }
        }
        let Some(decoded) = Command::from_rocc(&self.config, *command) else {
            self.machine.counts.commands.unknown += 1;
            return self.unknown(command);
        };
        match self.unroller.accept(&decoded) {
            Accepted::PassedThrough => return self.primitive(&decoded, command),
            // The checker reports a loop that never completes; nothing can follow it in hardware.
            Accepted::Configured | Accepted::NeverCompletes => self.machine.counts.commands.add(&decoded),
            Accepted::Loop(unrolled) => {
                self.machine.counts.commands.add(&decoded);
                return self.run_loop(unrolled, command);
            }
        }
        Ok(())
    }

    fn run_loop(&mut self, commands: LoopCommands, registers: &RoccCommand) -> Result<(), ExecError> {
        let limit = self.machine.monitor.max_loop_commands();
        for (step, unrolled) in (0..).zip(commands) {
            self.machine.monitor.begin_step(step, unrolled.command);
            if step >= limit {
                return self.machine.monitor.report(Issue::EndlessLoop { limit });
            }
            self.primitive(&unrolled.command, registers)?;
        }
        Ok(())
    }

    /// Executes a command that is not a loop's. `registers` is the host's command.
    fn primitive(&mut self, command: &Command, registers: &RoccCommand) -> Result<(), ExecError> {
        let machine = &mut self.machine;
        machine.counts.commands.add(command);
        match command {
            Command::ConfigEx(f) => self.execute.config(f),
            Command::ConfigLd(f) => self.load.config(f),
            Command::ConfigSt(f) => self.store.config(f),
            Command::ConfigNorm(f) if self.config.has_normalizations => self.store.config_norm(f),
            // Without normalization units the store controller takes this command for an MVOUT.
            Command::ConfigNorm(_) => {
                let operands = MoveOperands::from_regs(&self.config, registers.rs1, registers.rs2);
                return self.store.mvout(machine, &operands);
            }
            Command::Mvin(f) => return self.load.mvin(machine, 0, f),
            Command::Mvin2(f) => return self.load.mvin(machine, 1, f),
            Command::Mvin3(f) => return self.load.mvin(machine, 2, f),
            Command::Mvout(f) => return self.store.mvout(machine, f),
            // No data path: the rows are read and dropped. The checker reports it.
            Command::MvoutSpad(_) => {}
            Command::Preload(f) => return self.execute.preload(machine, f),
            Command::ComputePreloaded(f) => return self.execute.compute(machine, f, true),
            Command::ComputeAccumulated(f) => return self.execute.compute(machine, f, false),
            Command::Flush(_) | Command::ClockGate(_) | Command::Counter(_) => {}
            // A convolution loop's command in a build without that unroller.
            _ => return self.unknown(registers),
        }
        Ok(())
    }

    /// A function that does not exist: without assertions it goes to the load controller, which takes it for an MVIN.
    fn unknown(&mut self, command: &RoccCommand) -> Result<(), ExecError> {
        let operands = MoveOperands::from_regs(&self.config, command.rs1, command.rs2);
        self.load.mvin(&mut self.machine, 0, &operands)
    }
}
