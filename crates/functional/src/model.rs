//! [`FunctionalModel`]: the accelerator's state and the execution of one command.

use pollux_isa::fields::MoveOperands;
use pollux_isa::legality::Checker;
use pollux_isa::stream::StreamItem;
use pollux_isa::{Command, RoccCommand, ValidConfig};
use pollux_memory::Memory;

use crate::accesses::{AccessWalk, report_rows};
use crate::counts::{Counts, Divisions};
use crate::execute_controller::ExecuteController;
use crate::load_controller::LoadController;
use crate::local_memory::LocalMemory;
use crate::machine::Machine;
use crate::policy::{Action, Diagnostic, ExecError, Issue, Monitor, Policy};
use crate::store_controller::StoreController;
use crate::unroll::{Accepted, LoopCommands, Unroller};

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
    /// If accesses to main memory are checked.
    accesses: Option<AccessWalk>,
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
            accesses: (policy.unmapped_dram != Action::Ignore).then(|| AccessWalk::new(&config)),
            machine: Machine {
                layout,
                scratchpad: LocalMemory::new(layout.sp_rows as usize, dim),
                accumulator: LocalMemory::new(layout.acc_rows as usize, dim),
                paddr_mask: (1 << config.paddr_bits) - 1,
                stored: None,
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

    /// The normalizer's divisions so far.
    pub fn divisions(&self) -> &Divisions {
        self.store.divisions()
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

/// What a command has written, in the order of the writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Rows of the scratchpad.
    pub scratchpad: Vec<u32>,
    /// Rows of the accumulator.
    pub accumulator: Vec<u32>,
    /// Main memory: addresses and numbers of bytes.
    pub memory: Vec<(u64, usize)>,
}

/// Notes for those who want to know what each command does.
impl FunctionalModel {
    /// Notes what is written from now on.
    pub fn note_writes(&mut self) {
        self.machine.scratchpad.note_writes();
        self.machine.accumulator.note_writes();
        self.machine.stored = Some(Vec::new());
    }

    /// What was written since this was asked last, if writes are noted.
    pub fn take_writes(&mut self) -> Writes {
        Writes {
            scratchpad: self.machine.scratchpad.take_noted(),
            accumulator: self.machine.accumulator.take_noted(),
            memory: self.machine.stored.as_mut().map(std::mem::take).unwrap_or_default(),
        }
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
        self.check_accesses(Some(command), registers)?;
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

    /// Reports bytes of main memory that no declared range covers.
    fn check_accesses(&mut self, command: Option<&Command>, registers: &RoccCommand) -> Result<(), ExecError> {
        let Some(walk) = &mut self.accesses else { return Ok(()) };
        let Machine { memory, monitor, .. } = &mut self.machine;
        let report = &mut |rows| report_rows(self.config.paddr_bits, memory.mapped(), rows, monitor);
        walk.command(&self.config, command, registers, report)
    }

    /// A function that does not exist: without assertions it goes to the load controller, which takes it for an MVIN.
    fn unknown(&mut self, command: &RoccCommand) -> Result<(), ExecError> {
        self.check_accesses(None, command)?;
        let operands = MoveOperands::from_regs(&self.config, command.rs1, command.rs2);
        self.load.mvin(&mut self.machine, 0, &operands)
    }
}
