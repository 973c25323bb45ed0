"""A loop in the style of Timeloop and ZigZag: all that a mapper does, in the open.

Draw mappings, price each by the analytical model in microseconds, run the most promising ones on the emulator, keep the best. At the
end stands what the model said of the mappings that ran, beside the truth.

    python timeloop_loop.py            1000 mappings of a BERT projection
    python timeloop_loop.py --quick    30 of a small product
"""

import sys

import numpy as np
import pollux as px

quick = "--quick" in sys.argv
problem = px.Matmul(m=32, n=48, k=64) if quick else px.Matmul(m=128, n=768, k=768)
drawn, finalists = (30, 3) if quick else (1000, 20)
memory = px.Bandwidth(latency=60, bytes=8)

mappings = px.sample(problem, drawn, seed=1)
estimates = np.array([px.cost(problem, mapping, memory=memory, simulate=False).estimate for mapping in mappings])
own = px.cost(problem, px.gemmini_mapping(problem), memory=memory)
assert own.cycles is not None
best, best_cycles = px.gemmini_mapping(problem), own.cycles
ratios = []
for index in np.argsort(estimates)[:finalists]:
    # Nothing that is already slower than the best has to run to its end.
    try:
        cost = px.cost(problem, mappings[index], memory=memory, limit=2 * best_cycles)
    except px.SimulationError:
        continue
    assert cost.cycles is not None
    ratios.append(cost.estimate / cost.cycles)
    if cost.cycles < best_cycles:
        best, best_cycles = mappings[index], cost.cycles
ideal = problem.macs / px.Config("default16").dim ** 2
print(f"{problem}: {len(mappings)} mappings, {len(ratios)} on the emulator")
if ratios:
    print(f"the model says {np.mean(ratios):.2f} of the emulator's cycles, {np.min(ratios):.2f} to {np.max(ratios):.2f}")
print(f"best mapping: {best_cycles} cycles, Gemmini's own {own.cycles}, ideal {ideal:.0f}")
print(best)
