"""Mappings of products and convolutions: searched, drawn, priced."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from . import _pollux
from .config import of as config_of
from .errors import PolluxError
from .memory import Memory, text_of
from .program import ConfigLike
from .run import table_text
from .table import Table

__all__ = ["Conv", "Cost", "Matmul", "Search", "cost", "gemmini_mapping", "sample", "scale_sim", "search"]


@dataclass(frozen=True)
class Matmul:
    """C (m x n) = A (m x k) B (k x n), with an int32 row added if ``bias``; sizes in elements."""

    m: int
    n: int
    k: int
    bias: bool = False
    relu: bool = False

    def _json(self) -> str:
        read_out = "relu" if self.relu else "plain"
        return json.dumps({"matmul": {"m": self.m, "n": self.n, "k": self.k, "bias": self.bias, "read_out": read_out}})

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.n * self.k


@dataclass(frozen=True)
class Conv:
    """A convolution of ``batch`` images of rows x cols x channels; sizes in pixels and channels."""

    rows: int
    cols: int
    channels: int
    out_channels: int
    kernel: int
    batch: int = 1
    stride: int = 1
    padding: int = 0
    pool: int | None = None
    depthwise: bool = False
    bias: bool = False

    def _json(self) -> str:
        pool = None if self.pool is None else {"size": self.pool, "stride": self.pool, "padding": 0}
        shape = {
            "batch": self.batch,
            "in_rows": self.rows,
            "in_cols": self.cols,
            "in_channels": self.channels,
            "out_channels": self.out_channels,
            "kernel": self.kernel,
            "stride": self.stride,
            "padding": self.padding,
            "kernel_dilation": 1,
            "input_dilation": 1,
            "pool": pool,
            "depthwise": self.depthwise,
            "options": {"rotate_kernel": False, "output_hwnc": False, "input_chwn": False, "weights": "hwio"},
        }
        return json.dumps({"conv": {"shape": shape, "bias": self.bias}})


Problem = Matmul | Conv


def _checked(problem: Problem) -> str:
    sizes = [value for value in vars(problem).values() if isinstance(value, int) and not isinstance(value, bool)]
    smallest = 0 if isinstance(problem, Conv) else 1
    if min(sizes) < smallest or max(sizes) > 1 << 20:
        raise PolluxError(f"{problem}: sizes are 1 to {1 << 20}")
    if isinstance(problem, Conv):
        extent = min(problem.rows, problem.cols) + 2 * problem.padding
        if 0 in (problem.rows, problem.cols, problem.channels, problem.kernel, problem.stride) or problem.kernel > extent:
            raise PolluxError(f"{problem}: the image has no output for this kernel and padding")
    return problem._json()


class Search:
    """What a search found: the document of ``pollux map --json``."""

    __slots__ = ("document",)

    def __init__(self, document: dict[str, Any]) -> None:
        #: The document.
        self.document = document

    @property
    def cycles(self) -> int:
        """Cycles of the best mapping, by the emulator."""
        cycles: int = self.document["cycles"]
        return cycles

    @property
    def default_cycles(self) -> int | None:
        """Cycles of Gemmini's own mapping; None if it does not fit."""
        cycles: int | None = self.document["default_cycles"]
        return cycles

    @property
    def schedule(self) -> dict[str, Any]:
        """The best mapping, for `matmul`, `conv` and `cost`."""
        schedule: dict[str, Any] = self.document["schedule"]
        return schedule

    @property
    def proved_optimal(self) -> bool:
        """Whether no mapping of the space that was looked at is better."""
        proved: bool = self.document["proved_optimal"]
        return proved

    @property
    def candidates(self) -> Table:
        """All that ran on the emulator: cycles, energy (pJ), bytes, estimate and bound of the cycles, mapping (JSON)."""
        rows = [{**row, "schedule": json.dumps(row["schedule"])} for row in self.document["candidates"]]
        return Table.from_rows(rows)

    def __repr__(self) -> str:
        proved = ", proved optimal" if self.proved_optimal else ""
        return f"Search({self.cycles} cycles, Gemmini's own {self.default_cycles}{proved})"

    def _repr_html_(self) -> str:
        from ._html import heading, table

        return heading(repr(self)) + table(self.candidates)


def _limits(factors: str, emission: str | None, dataflow: str | None) -> dict[str, Any]:
    return {"factors": factors, "emission": emission, "dataflow": dataflow}


def search(
    problem: Problem,
    *,
    config: ConfigLike = "default16",
    memory: Memory | str | None = None,
    interval: int = 1,
    objective: str = "cycles",
    search: str = "auto",
    budget: int = 20,
    evaluations: int = 20000,
    seed: int = 1,
    factors: str = "ragged",
    emission: str | None = None,
    dataflow: str | None = None,
    energy_table: str | os.PathLike[str] = "horowitz45-lpddr4",
    clock_hz: float = 1e9,
    jobs: int | None = None,
) -> Search:
    """The best mapping of a problem: ``pollux map``, with its options and its defaults.

    ``objective`` is cycles, energy, edp or bytes; ``search`` auto, exhaustive, random, evolutionary, guided or integer; ``budget`` is
    in seconds of emulation on one core (2 million cycles each, so that the result is the same everywhere).
    """
    options = {
        "memory": text_of(memory),
        "interval": interval,
        "objective": objective,
        "search": search,
        "budget": budget,
        "evaluations": evaluations,
        "seed": seed,
        "limits": _limits(factors, emission, dataflow),
        "energy_table": table_text(energy_table),
        "clock_hz": clock_hz,
        "jobs": jobs or os.cpu_count() or 1,
    }
    return Search(json.loads(_pollux.search(config_of(config)._native, _checked(problem), json.dumps(options))))


def sample(
    problem: Problem,
    count: int,
    *,
    config: ConfigLike = "default16",
    seed: int = 1,
    factors: str = "ragged",
    emission: str | None = None,
    dataflow: str | None = None,
) -> list[dict[str, Any]]:
    """So many different mappings, drawn uniformly from all; fewer if there are no more."""
    limits = json.dumps(_limits(factors, emission, dataflow))
    text = _pollux.sample(config_of(config)._native, _checked(problem), limits, count, seed)
    drawn: list[dict[str, Any]] = json.loads(text)
    return drawn


def gemmini_mapping(problem: Problem, *, config: ConfigLike = "default16") -> dict[str, Any]:
    """The mapping of Gemmini's own software."""
    mapping: dict[str, Any] = json.loads(_pollux.gemmini_mapping(config_of(config)._native, _checked(problem)))
    return mapping


class Cost(NamedTuple):
    """What a mapping costs, in cycles."""

    #: By the emulator; None if it was not asked.
    cycles: int | None
    #: By the analytical model, in microseconds instead of a simulation.
    estimate: float
    #: At least.
    bound: int


def cost(
    problem: Problem,
    schedule: dict[str, Any],
    *,
    config: ConfigLike = "default16",
    memory: Memory | str | None = None,
    interval: int = 1,
    limit: int | None = None,
    simulate: bool = True,
) -> Cost:
    """The cycles of a mapping. With ``simulate=False`` only the model is asked.

    Raises
    ------
    PolluxError
        The hardware cannot do it: the first rule that it breaks.
    SimulationError
        It takes more than ``limit`` cycles.
    """
    native = config_of(config)._native
    text = json.dumps(schedule)
    figures = _pollux.cost(native, _checked(problem), text, text_of(memory), interval, limit, simulate)
    return Cost(*figures)


def scale_sim(topology: str | os.PathLike[str]) -> list[tuple[str, Problem]]:
    """The layers of a SCALE-Sim topology (CSV text or file): name and problem of each."""
    text = topology if isinstance(topology, str) and "\n" in topology else Path(topology).read_text()
    layers: list[tuple[str, Problem]] = []
    for name, problem in json.loads(_pollux.scale_sim(text)):
        if "matmul" in problem:
            sizes = problem["matmul"]
            layers.append((name, Matmul(sizes["m"], sizes["n"], sizes["k"])))
        else:
            s = problem["conv"]["shape"]
            conv = Conv(s["in_rows"], s["in_cols"], s["in_channels"], s["out_channels"], s["kernel"], stride=s["stride"])
            layers.append((name, conv))
    return layers
