//! Where everything stands when a run has ended, for people ([`Soc::describe`]).

use pollux_riscv::{BoardError, Op, trap_text, unhandled_text};
use pollux_sim::memory::MemorySystem;

use crate::board::Env;
use crate::ending::Ending;
use crate::soc::Soc;

impl<M: MemorySystem> Soc<M> {
    /// What an ending means, with its place in the program.
    pub fn describe(&mut self, ending: &Ending) -> String {
        let (pc, cycle) = (self.symbols().place(self.core().pc()), self.cycle());
        match ending {
            Ending::Exit(code) => format!("exit code {code}"),
            Ending::Trap(trap) => unhandled_text(trap, self.core().hart.csrs.mtvec != 0, self.symbols()),
            Ending::Board(error) => {
                let from_host = matches!(error, BoardError::Host(_));
                let pc = if from_host { self.board.host_called_at } else { self.core().last_retired() };
                error.explain(&self.symbols().place(pc), self.config())
            }
            Ending::Limit => format!(
                "stopped at the limit after {cycle} cycles, at pc {pc}; raise the limit if the program is meant to be longer{}",
                self.standing()
            ),
            Ending::Endless => {
                format!("the program jumps to itself for ever at pc {pc}, after {cycle} cycles{}", self.standing())
            }
            Ending::Deadlock => {
                format!("nothing can move any more after {cycle} cycles, at pc {pc}{}", self.standing())
            }
        }
    }

    /// What core and Gemmini do when a program does not end, a line each.
    fn standing(&mut self) -> String {
        let mut lines = vec![format!("core: {}", self.core_standing())];
        if let Some(trap) = self.core().last_trap() {
            let (text, times) = (trap_text(&trap, self.symbols()), self.core().counters.traps);
            lines.push(format!("core: its trap handler was entered {times} times, last for: {text}"));
        }
        lines.push(format!("Gemmini: {}", self.gemmini_standing()));
        lines.extend(self.gemmini.waiting_for());
        lines.extend(
            self.gemmini.violations().iter().map(|violated| format!("rule of the RTL broken before, {violated}")),
        );
        lines.iter().map(|line| format!("\n  {line}")).collect()
    }

    fn core_standing(&mut self) -> String {
        let instructions = self.core().counters.instret;
        let mut env = Env { memory: self.uncore.memory_mut(), board: &mut self.board };
        let next = self.core.hart.fetch(&mut env).map(|instruction| instruction.op);
        let waits = match next {
            Ok(Op::Fence) if self.board.gemmini_busy || self.board.router.busy() => ", waits at a fence for Gemmini",
            Ok(Op::Custom0 | Op::Custom1 | Op::Custom2 | Op::Custom3) if !self.board.router.ready() => {
                ", waits for Gemmini to take its command"
            }
            _ if self.board.router.owes_result() => ", waits for the result of a command",
            _ => "",
        };
        format!("{instructions} instructions executed{waits}")
    }

    fn gemmini_standing(&self) -> String {
        let (sent, taken) = (self.core().counters.commands, self.gemmini.machine().accepted());
        let Some(last) = self.board.port.last() else { return "has had no command and waits for none".to_owned() };
        let name = pollux_isa::table::lookup(last).map_or("unknown", |spec| spec.mnemonic);
        let waiting = if sent > taken { format!(", {} more wait at its port", sent - taken) } else { String::new() };
        let busy = if self.board.gemmini_busy { "is busy with" } else { "is idle after" };
        format!("{busy} {taken} commands{waiting} (the core's last is {name})")
    }
}
