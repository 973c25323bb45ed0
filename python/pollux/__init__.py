"""The software twin of UC Berkeley's Gemmini accelerator, from Python.

>>> import numpy as np, pollux as px
>>> A, B = np.arange(12, dtype=np.int8).reshape(3, 4), np.eye(4, dtype=np.int8)
>>> run = px.run(px.matmul(A, B), memory=px.Bench(latency=100))
>>> bool((run["C"] == A).all()), run.cycles > 0
(True, True)

* programs: `assemble`, `load`, `matmul`, `conv`, `layer`, `operations`; whole models: `transformer`, `model`;
* `run`: on the emulator, exact in every cycle, or on the functional model; results are numpy arrays, reports are tables;
* `Config`, `configs`; `Memory` and its kinds; `energy_tables`;
* `Session`: time travel, to any cycle forward and back, into the machine, and why something waits; `trace` and `commands`: a run as
  files for Perfetto, Konata and viewers of waves, and as a table of its commands;
* mappings: `Matmul`, `Conv`, `search`, `sample`, `cost`;
* `sweep`: thousands of points, on all cores or on a Ray cluster.

Names are those of the command line's JSON documents. Cycles are clock cycles, sizes are elements, memory is in bytes.
"""

from __future__ import annotations

from ._pollux import version as _version
from .config import Config, configs
from .errors import (
    AssemblyError,
    BufferError,
    ConfigError,
    Diagnostic,
    IllegalProgramError,
    MismatchError,
    PolluxError,
    SimulationError,
    SweepError,
)
from .mapping import Conv, Cost, Matmul, Search, cost, gemmini_mapping, sample, scale_sim, search
from .memory import Bandwidth, Bench, Dram, FireSim, L2, Memory
from .model import Model, Report, model, shapes, transformer
from .program import Program, assemble, conv, layer, load, matmul, operations
from .run import Run, energy_tables, run
from .session import Explanation, Session
from .sweep import Sweep, points, sweep
from .table import Table
from .trace import Trace, commands, trace

__version__ = _version()

__all__ = [
    "AssemblyError",
    "Bandwidth",
    "Bench",
    "BufferError",
    "Config",
    "ConfigError",
    "Conv",
    "Cost",
    "Diagnostic",
    "Dram",
    "Explanation",
    "FireSim",
    "IllegalProgramError",
    "L2",
    "Matmul",
    "Memory",
    "MismatchError",
    "Model",
    "PolluxError",
    "Program",
    "Report",
    "Run",
    "Search",
    "Session",
    "SimulationError",
    "Sweep",
    "SweepError",
    "Table",
    "Trace",
    "assemble",
    "commands",
    "configs",
    "conv",
    "cost",
    "energy_tables",
    "gemmini_mapping",
    "layer",
    "load",
    "matmul",
    "model",
    "operations",
    "points",
    "run",
    "sample",
    "scale_sim",
    "search",
    "shapes",
    "sweep",
    "trace",
    "transformer",
]
