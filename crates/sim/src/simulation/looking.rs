//! Looking at a machine with values while it runs, and at what it holds.

use std::ops::ControlFlow;

use pollux_isa::ValidConfig;

use super::{Position, Reached, RunError, RunSummary, Simulation, WATCH_INTERVAL};
use crate::execute::mesh_pe::MeshPe;
use crate::host::Host;
use crate::memory::MemorySystem;
use crate::observation::event::Cycle;
use crate::observation::observer::{NoObserver, Observer};
use crate::observation::view::MachineView;

impl<H: Host, M: MemorySystem> Simulation<H, M> {
    /// Like [`Self::run_watched`], but shows the observer what is held behind every cycle.
    ///
    /// # Errors
    /// As [`Self::run_watched`].
    pub fn run_by_cycle(
        &mut self,
        observer: &mut impl Observer,
        limit: Cycle,
        watch: &mut dyn FnMut(Position) -> ControlFlow<()>,
    ) -> Result<RunSummary, RunError> {
        while self.cycle < limit {
            let reached = self.run_to(observer, self.cycle + 1)?;
            observer.cycle_end(&self.machine, self.memory.memory());
            if reached == Reached::End {
                self.tell_counts(observer);
                return Ok(self.summary());
            }
            if self.cycle.is_multiple_of(WATCH_INTERVAL.into()) && watch(self.position()).is_break() {
                return Err(self.cancelled());
            }
        }
        Err(RunError::Limit { limit, position: self.standstill() })
    }

    /// The array register by register as it would be now if all rows of the past had left it: a start for
    /// [`Self::run_beside_array`].
    pub fn array(&self, config: &ValidConfig) -> MeshPe {
        MeshPe::settled(config, self.machine.execute.mesh.mesh())
    }

    /// Runs to `target` like [`Self::run_to`], with an array beside it that takes the same rows, register by register. `array` must be
    /// the one of this cycle.
    ///
    /// # Errors
    /// As [`Self::run_to`].
    pub fn run_beside_array(&mut self, array: &mut MeshPe, target: Cycle) -> Result<Reached, RunError> {
        self.settle();
        while self.cycle < target {
            let row = self.machine.execute.mesh.presented();
            let reached = self.run_to(&mut NoObserver, self.cycle + 1)?;
            array.tick(row.as_ref().map(|row| row.row()).as_ref());
            if reached == Reached::End {
                return Ok(reached);
            }
        }
        Ok(Reached::Target)
    }

    /// Number of the matrix product that the array was asked for last, and modulo what products are counted.
    pub fn newest_product(&self) -> (u8, u8) {
        self.machine.execute.mesh.newest()
    }

    /// Everything that the machine holds now. Registers must be up to date, as they are after [`Self::run_to`].
    pub fn view(&self) -> MachineView {
        let [scratchpad_digest, accumulator_digest] = self.machine.digests();
        MachineView { cycle: self.cycle, scratchpad_digest, accumulator_digest, ..self.machine.view() }
    }
}
