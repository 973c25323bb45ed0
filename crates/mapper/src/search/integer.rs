//! The choice of a tile as an integer program in the logarithms of its sizes, as CoSA makes it (`cosa.py` of `ucb-bar/cosa`): which size each
//! axis has is a binary variable a size; that the tiles of the operands fit their parts of the memories are sums of logarithms, and so are
//! traffic and use of the memories in the objective. The parts of the scratchpad and the form are chosen around it.

use good_lp::{Expression, ProblemVariables, Solution, SolverModel, Variable, microlp, variable};
use pollux_kernels::{Axis, ConvAxis, Emission};

use super::proposals::in_order;
use super::{Proposal, Search};
use crate::problem::Problem;
use crate::space::with_tile;

/// Parts of the scratchpad that the first operand gets, of eight.
const PARTS: std::ops::RangeInclusive<usize> = 1..=7;
/// Sizes of an axis that the program may choose from, evenly over their logarithms.
const MOST_SIZES: usize = 24;

/// Weights of the objective: traffic, and use of the accumulator. CoSA weighs traffic 1 and use 0.1 of its own terms; both orders are tried.
const WEIGHTS: [(f64, f64); 2] = [(1.0, 0.1), (1.0, 1.0)];

/// A solution for each form, each division of the scratchpad and each weight, best first by the analytical model.
pub(crate) fn proposals(search: &Search<'_>) -> Vec<Proposal> {
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut tiles: Vec<Vec<usize>> = Vec::new();
    for part in PARTS {
        for weights in WEIGHTS {
            if let Some(tile) = solve(search, part as f64 / 8.0, weights)
                && !tiles.contains(&tile)
            {
                tiles.push(tile);
            }
        }
    }
    let (config, problem) = (search.space.config(), search.space.problem());
    for form in search.space.forms() {
        for tile in &tiles {
            let mapping = with_tile(form, tile);
            if mapping.check(config, problem).is_ok() && search.space.is_canonical(&mapping) {
                proposals.push(search.propose(mapping));
            }
        }
    }
    in_order(&mut proposals);
    proposals
}

/// An axis's sizes as variables, of which one is chosen.
struct Choice {
    sizes: Vec<usize>,
    chosen: Vec<Variable>,
}

impl Choice {
    /// The logarithm of something of the size that is chosen.
    fn log(&self, of: impl Fn(usize) -> f64) -> Expression {
        self.sizes.iter().zip(&self.chosen).map(|(size, chosen)| of(*size).ln() * *chosen).sum()
    }
}

/// The best tile if the first operand has this part of the scratchpad.
fn solve(search: &Search<'_>, part: f64, (traffic, usage): (f64, f64)) -> Option<Vec<usize>> {
    let machine = search.costs.machine();
    let mut variables = ProblemVariables::new();
    let choices: Vec<Choice> = search
        .space
        .sizes()
        .iter()
        .map(|sizes| {
            let sizes = thinned(sizes);
            let chosen = sizes.iter().map(|_| variables.add(variable().binary())).collect();
            Choice { sizes, chosen }
        })
        .collect();
    let halves = match search.settings.limits.emission {
        Some(Emission::Commands) => 1.0,
        _ => 2.0,
    };
    let scratchpad = machine.scratchpad_rows as f64 / halves;
    let accumulator = machine.accumulator_rows as f64 / halves;
    let dim = machine.dim as f64;
    let tiles = |axis: usize| {
        let extent = *search.space.sizes()[axis].last().unwrap_or(&1);
        choices[axis].log(move |size| extent.div_ceil(size) as f64)
    };
    // Rows of the two operands and of the result, and the loads of the operands.
    let (rows, reloads): ([Expression; 3], Expression) = match search.space.problem() {
        Problem::Matmul(_) => {
            let [i, j, k] = [Axis::I, Axis::J, Axis::K].map(|axis| axis as usize);
            let log = |axis: usize| choices[axis].log(|size| size as f64);
            let rows = [log(i) + log(k) + dim.ln(), log(k) + log(j) + dim.ln(), log(i) + log(j) + dim.ln()];
            (rows, tiles(i) + tiles(j))
        }
        Problem::Conv(conv) => {
            let at = |axis: ConvAxis| &choices[axis as usize];
            let plain = |axis: ConvAxis| at(axis).log(|size| size as f64);
            let blocks = |axis: ConvAxis| at(axis).log(|size| size.div_ceil(machine.dim) as f64);
            // The input's rows and columns as if the kernel's parts were whole: the logarithm of a sum is no sum.
            let shape = conv.shape;
            let inputs = |axis: ConvAxis| at(axis).log(|size| (size * shape.stride + shape.kernel - 1) as f64);
            let kernel = || plain(ConvAxis::KernelRows) + plain(ConvAxis::KernelCols);
            let input =
                blocks(ConvAxis::InChannels) + plain(ConvAxis::Batch) + inputs(ConvAxis::Rows) + inputs(ConvAxis::Cols);
            let weights = blocks(ConvAxis::OutChannels) + kernel() + plain(ConvAxis::InChannels);
            let output =
                blocks(ConvAxis::OutChannels) + plain(ConvAxis::Batch) + plain(ConvAxis::Rows) + plain(ConvAxis::Cols);
            let reloads = tiles(ConvAxis::OutChannels as usize)
                + tiles(ConvAxis::Batch as usize)
                + tiles(ConvAxis::Rows as usize)
                + tiles(ConvAxis::Cols as usize)
                + tiles(ConvAxis::KernelRows as usize)
                + tiles(ConvAxis::KernelCols as usize);
            ([input, weights, output], reloads)
        }
    };
    let [first, second, result] = rows;
    let objective = traffic * reloads - usage * result.clone();
    let mut model = variables.minimise(objective).using(microlp);
    for choice in &choices {
        let one: Expression = choice.chosen.iter().copied().sum();
        model = model.with(one.eq(1.0));
    }
    model = model
        .with(first.leq((scratchpad * part).ln()))
        .with(second.leq((scratchpad * (1.0 - part)).ln()))
        .with(result.leq(accumulator.ln()));
    let solution = model.solve().ok()?;
    let pick = |choice: &Choice| {
        let chosen = choice.chosen.iter().position(|variable| solution.value(*variable) > 0.5);
        chosen.map(|index| choice.sizes[index])
    };
    choices.iter().map(pick).collect()
}

/// At most [`MOST_SIZES`] of the sizes, evenly over their logarithms, the smallest and the largest among them.
fn thinned(sizes: &[usize]) -> Vec<usize> {
    if sizes.len() <= MOST_SIZES {
        return sizes.to_vec();
    }
    let (first, last) = (sizes[0] as f64, sizes[sizes.len() - 1] as f64);
    let mut thinned: Vec<usize> = (0..MOST_SIZES)
        .map(|step| {
            let wanted = first * (last / first).powf(step as f64 / (MOST_SIZES - 1) as f64);
            sizes[sizes.partition_point(|size| (*size as f64) < wanted - 0.5).min(sizes.len() - 1)]
        })
        .collect();
    thinned.dedup();
    thinned
}
