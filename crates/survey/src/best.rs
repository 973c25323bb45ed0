//! The best schedule of a product that the mapper finds: its model proposes, the emulator decides.

use std::ops::ControlFlow;

use pollux_kernels::{Emission, Normalization, Schedule};
use pollux_mapper::model::Costs;
use pollux_mapper::{Factors, Limits, Mapping, Mapspace, MatmulProblem, Problem, ReadOut, Surroundings};

use crate::bench::{Bench, Measured, Result, Work};
use crate::setting::StudyError;

/// Mappings that run on the emulator, Gemmini's own apart.
const FINALISTS: usize = 3;

/// The fastest way to run a product: one of the unroller's whose tile sizes divide the matrices, in the order of the refined analytical
/// model's cycles; `FINALISTS` of them and Gemmini's own rule run. Single commands are looked at where the unroller cannot do it. None
/// if nothing fits.
///
/// # Errors
/// A run that fails.
pub fn product(
    bench: &mut Bench,
    [m, n, k]: [usize; 3],
    result: Result,
) -> std::result::Result<Option<(Measured, Work)>, StudyError> {
    let whole_rows = matches!(result, Result::Softmax | Result::LayerNorm);
    let mut works: Vec<Work> = Vec::new();
    for emission in [Emission::Unroller, Emission::Commands] {
        let schedules = proposals(bench, [m, n, k], whole_rows, emission);
        works.extend(schedules.into_iter().map(|schedule| Work::Product { m, n, k, result, schedule: Some(schedule) }));
        if !works.is_empty() {
            break;
        }
    }
    works.push(Work::product(m, n, k, result));
    let mut best: Option<(Measured, Work)> = None;
    for work in works {
        let Some(measured) = bench.run_if_it_fits(&work)? else { continue };
        if best.is_none_or(|(known, _)| measured.cycles < known.cycles) {
            best = Some((measured, work));
        }
    }
    Ok(best)
}

/// The model's best schedules, best first.
fn proposals(bench: &Bench, [m, n, k]: [usize; 3], whole_rows: bool, emission: Emission) -> Vec<Schedule> {
    let read_out = if whole_rows { ReadOut::LayerNorm } else { ReadOut::Plain };
    let problem = Problem::Matmul(MatmulProblem { m, n, k, bias: false, read_out });
    let limits = Limits { factors: Factors::Divisors, emission: Some(emission), dataflow: None };
    let space = Mapspace::new(bench.config(), &problem, &limits);
    let costs = Costs::new(bench.config(), &problem, &Surroundings { memory: bench.memory(), interval: 1 });
    let mut best: Vec<(f64, Schedule)> = Vec::new();
    let _ = space.for_each(|mapping| {
        let Mapping::Matmul(schedule) = mapping else { return ControlFlow::Continue(()) };
        if schedule.normalization == Normalization::Fused {
            let cycles = costs.cycles(&mapping);
            let at = best.partition_point(|(known, _)| *known <= cycles);
            if at < FINALISTS {
                best.insert(at, (cycles, schedule));
                best.truncate(FINALISTS);
            }
        }
        ControlFlow::Continue(())
    });
    best.into_iter().map(|(_, schedule)| schedule).collect()
}

#[cfg(test)]
mod tests {
    use pollux_sim::memory::MemoryModel;

    use super::*;
    use crate::bench::sized;

    #[test]
    fn nothing_found_is_slower_than_gemminis_rule() {
        let mut bench = Bench::new(&sized(64, 64).unwrap(), MemoryModel::default());
        for result in [Result::Int8, Result::LayerNorm] {
            let own = bench.run(&Work::product(64, 128, 96, result)).unwrap();
            let (found, _) = product(&mut bench, [64, 128, 96], result).unwrap().unwrap();
            assert!(found.cycles <= own.cycles, "{result:?}");
        }
    }
}
