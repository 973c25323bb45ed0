"""SCALE-Sim's topology in, cycles out: its closed form and Gemmini's hardware side by side.

SCALE-Sim's compute cycles of an output-stationary array of R x C (arXiv 1811.02883, equation 1 with the fold count of equation 3):
(2 R + C + T - 2) for each of ceil(S_R / R) ceil(S_C / C) folds, where S_R x S_C is the result and T the summed dimension. Its
memory never stalls the array. Gemmini's column is the cycle-exact emulator by Gemmini's own mapping, memory included.

    python scale_sim_columns.py [topology.csv]
"""

import sys
from math import ceil

import pollux as px

TOPOLOGY = """\
Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
stem, 30, 30, 3, 3, 3, 32, 2,
block1, 16, 16, 3, 3, 32, 32, 1,
block2, 16, 16, 3, 3, 32, 64, 2,
point, 14, 14, 1, 1, 64, 128, 1,
"""


def as_product(problem: px.Matmul | px.Conv) -> tuple[int, int, int]:
    """Rows and columns of the result, and the dimension that is summed."""
    if isinstance(problem, px.Matmul):
        return problem.m, problem.n, problem.k
    rows, cols = ((extent - problem.kernel) // problem.stride + 1 for extent in (problem.rows, problem.cols))
    return rows * cols, problem.out_channels, problem.kernel**2 * problem.channels


files = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
config = px.Config("default16")
print(f"{'layer':12} {'SCALE-Sim':>12} {'Pollux':>12} {'ratio':>7}")
for name, problem in px.scale_sim(files[0] if files else TOPOLOGY):
    rows, cols, depth = as_product(problem)
    folds = ceil(rows / config.dim) * ceil(cols / config.dim)
    closed_form = (2 * config.dim + config.dim + depth - 2) * folds
    cycles = px.cost(problem, px.gemmini_mapping(problem, config=config), config=config).cycles
    assert cycles is not None
    print(f"{name:12} {closed_form:12} {cycles:12} {cycles / closed_form:7.2f}")
