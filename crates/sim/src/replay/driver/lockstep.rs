//! A clock edge commutes with relocation and renaming: two machines whose states have one form, in which operands lie elsewhere, entries
//! of the station and ring positions have other numbers and cycles are counted from another start, have one form after every later
//! edge. The form is compared field by field, so that a failure names the block and the register.

use std::sync::Arc;

use pollux_isa::{GemminiConfig, StreamItem};
use pollux_memory::Memory;
use pollux_testkit::{Gene, Random, program};

use super::*;
use crate::host::StreamHost;
use crate::memory::{BandwidthMemory, BandwidthParameters, BenchMemory, BenchParameters};
use crate::observation::observer::NoObserver;
use crate::port::frontend_tlb::{TLB_READER, TLB_WRITER, Translation};
use crate::port::operand_space::PAGE;
use crate::values::ZeroDivisors;

/// Edges that two machines go side by side from each state.
const EDGES: usize = 60;
const LIMIT: Cycle = 400_000;

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    /// Pairs of machines with one form.
    pairs: u64,
    /// Edges of both.
    edges: u64,
}

impl<H: Host + Clone, M: ReplayableMemory> Replayer<'_, H, M> {
    /// Steps the machine and the one that was kept in this state, with its operands elsewhere.
    fn step_both(&self, place: &Place, random: &mut Random, compared: &mut Compared) {
        let kept = self.table.kept(place.node).expect("a machine in a state that was just reached");
        if kept.cycle == self.sim.cycle() {
            return;
        }
        let (mut here, mut there) = (self.sim.clone(), self.sim.clone());
        here.host.begin(self.tags.iter().copied());
        here.machine.tlb.set_pages(&place.pages);
        let mut elsewhere = place.clone();
        elsewhere.operands.iter_mut().for_each(|base| *base += PAGE * random.below(1 << 20) as u64);
        let (machine, memory) = self.moved(kept, &elsewhere);
        there.install(machine, memory, None);
        there.host.begin(kept.operands.iter().copied());
        let [mut first, mut second] = [Canon::default(), Canon::default()];
        for canon in [&mut first, &mut second] {
            canon.set_scaled_loads(self.canon.scaled_loads(), self.names.identity);
        }
        compared.pairs += 1;
        for edge in 0..EDGES {
            for sim in [&mut here, &mut there] {
                sim.skip_idle = false;
                tell_operands(sim);
            }
            let ends = [&mut here, &mut there].map(|sim| sim.run_to(&mut NoObserver, sim.cycle() + 1).ok());
            assert_eq!(ends[0], ends[1], "edge {edge}");
            // Where an operand shares its page with another one, and where it does not, time may differ from now on.
            let misses = |sim: &Simulation<SymbolicHost<H>, M, Timing>| {
                let (tlb, looks) = (&sim.machine.tlb, sim.machine.scratchpad.looks());
                let responses = tlb.wires().responses;
                [TLB_WRITER, TLB_READER].map(|i| (tlb.request(i).valid || looks[i]) && responses[i].miss)
            };
            if misses(&here) != misses(&there) {
                return;
            }
            // Behind the last item nothing overwrites what a slot of an unroller holds of an earlier loop.
            if self.script.get(here.host.at()).is_none() {
                return;
            }
            write_form(&here, &self.groups, None, &mut first);
            write_form(&there, &self.groups, None, &mut second);
            let aside = |sim: &Simulation<SymbolicHost<H>, M, Timing>, canon: &Canon| {
                std::array::from_fn::<_, ASIDE, _>(|part| AsideName::of(part, canon, &sim.machine, |_, _| ()))
            };
            if first.bytes() != second.bytes() || aside(&here, &first) != aside(&there, &second) {
                // Who watches the fields sees all of them.
                write_form(&there, &self.groups, Some(""), &mut second);
                write_form(&here, &self.groups, Some(""), &mut first);
                let field = first.first_difference(second.bytes());
                panic!("{field:?} differs after edge {edge} behind cycle {}", self.sim.cycle());
            }
            compared.edges += 1;
            if ends[0] != Some(crate::simulation::Reached::Target) {
                return;
            }
        }
    }

    /// Runs the program to its end and steps both machines from each state that comes again.
    fn step_all(&mut self, random: &mut Random, compared: &mut Compared) -> Result<(), RunError> {
        let watch: &mut Watch<'_> = &mut |_| ControlFlow::Continue(());
        if self.simulate(Some(&mut NoObserver), LIMIT, watch, None).0? == Halt::Finished {
            return Ok(());
        }
        let mut place = self.arrive(PageRegisters::default())?;
        loop {
            self.step_both(&place, random, compared);
            match self.record(&place, &mut NoObserver, LIMIT, watch)? {
                Some(next) => place = next,
                None => return Ok(()),
            }
        }
    }
}

/// A random program three times, with a fence in between or none.
fn items(config: &ValidConfig, random: &mut Random) -> Vec<StreamItem> {
    let genes: Vec<Gene> = (0..1 + random.below(12)).map(|_| std::array::from_fn(|_| random.bits() as u32)).collect();
    let mut items = program(config, random.below(2) == 0, &genes).items;
    if random.below(2) == 0 {
        items.pop();
    }
    let mut items = [&items[..], &items, &items].concat();
    items.push(StreamItem::Fence);
    items
}

fn compare<M: ReplayableMemory>(config: &ValidConfig, port: M, random: &mut Random, compared: &mut Compared) {
    let host = StreamHost::new(items(config, random).into(), 1, &mut Memory::new());
    let Some(script) = script_of(config, &host) else { return };
    let machine = Machine::with_oracle(config, Translation::Bare, ZeroDivisors::default());
    let options = ReplayOptions { every_command: true, ..ReplayOptions::default() };
    let mut table = Table::new(usize::MAX);
    let mut replayer = Replayer::new(config, (host, Arc::clone(&script)), &mut table, options, None, |host| {
        Simulation::with_machine(machine, host, port, false)
    });
    // Programs that cannot go on say so on both machines.
    match replayer.step_all(random, compared) {
        Ok(()) | Err(RunError::Deadlock { .. } | RunError::Limit { .. } | RunError::Livelock { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_clock_edge_commutes_with_relocation_and_renaming() {
    let cases = std::env::var("POLLUX_LOCKSTEP_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let configs = ["default16", "small4", "norm16", "lean", "chip", "large_chip", "dim8"];
    let mut compared = Compared::default();
    for case in 0..cases {
        let random = &mut Random::new(case);
        let name = configs[random.below(configs.len())];
        let config = GemminiConfig::by_name(name).expect("a configuration");
        println!("case {case}: {name}");
        let beat_bytes = config.beat_bytes() as usize;
        if case % 3 == 0 {
            let p = BandwidthParameters { latency: 30, bytes: 6, cycles: 1, outstanding: 8 };
            compare(&config, BandwidthMemory::with_values(p, beat_bytes, Memory::new()), random, &mut compared);
        } else {
            let p = BenchParameters { latency: 1 + random.below(90) as u64, a_period: 1, d_period: 1 };
            compare(&config, BenchMemory::with_values(p, beat_bytes, Memory::new()), random, &mut compared);
        }
    }
    println!("{compared:?}");
    assert!(compared.pairs > 4 * cases && compared.edges > 200 * cases, "{compared:?}");
}
