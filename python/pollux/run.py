"""Runs of programs on both models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _pollux
from .errors import MismatchError, PolluxError
from .memory import Memory, text_of
from .program import Program
from .table import Table

__all__ = ["Run", "energy_tables", "run"]

_DTYPES = {"i8": "<i1", "u8": "<u1", "i16": "<i2", "i32": "<i4", "i64": "<i8"}


def array_of(tensor: tuple[str, list[int], bytes]) -> npt.NDArray[Any]:
    """A buffer's contents, shaped."""
    element, shape, contents = tensor
    array: npt.NDArray[Any] = np.frombuffer(contents, dtype=_DTYPES[element]).reshape(shape)
    return array


def energy_tables() -> list[str]:
    """Names of the built-in energy tables."""
    return _pollux.energy_tables()


class Run:
    """What a run did. ``run["C"]`` is the contents of a buffer as a numpy array, shaped, int8 or int32.

    Attributes are the keys of ``pollux run --json``.
    """

    __slots__ = ("_native", "document", "program")

    def __init__(self, program: Program, native: _pollux.Run) -> None:
        #: What ran.
        self.program = program
        self._native = native
        #: The document of ``pollux run --json``.
        self.document: dict[str, Any] = json.loads(native.json())

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return array_of(self._native.tensor(name))

    def _figure(self, key: str) -> Any:
        if key not in self.document:
            raise PolluxError(f"the functional model has no {key}: leave out functional=True")
        return self.document[key]

    @property
    def cycles(self) -> int:
        """Cycles until the accelerator is idle for good."""
        cycles: int = self._figure("cycles")
        return cycles

    @property
    def commands(self) -> int:
        """Commands at the port."""
        commands: int = self.document["commands"]
        return commands

    @property
    def bytes_in(self) -> int:
        """Bytes read from main memory."""
        count: int = self.document["bytes_in"]
        return count

    @property
    def bytes_out(self) -> int:
        """Bytes written to main memory."""
        count: int = self.document["bytes_out"]
        return count

    @property
    def warnings(self) -> list[str]:
        """What is not defined and was let pass."""
        warnings: list[str] = self.document["warnings"]
        return warnings

    @property
    def match(self) -> bool | None:
        """Whether all expected results are there; None if nothing is expected or no values were computed."""
        match: bool | None = self.document["match"]
        return match

    def check(self) -> Run:
        """The run, if all expected results are there.

        Raises
        ------
        MismatchError
            They are not: the message has the first element that differs.
        PolluxError
            The program expects nothing, or no values were computed.
        """
        if self.match is None:
            raise PolluxError("nothing was compared: the program expects nothing, or the run has no values")
        for buffer in self.document["expected"]:
            if buffer["mismatches"]:
                first = buffer["first"]
                raise MismatchError(
                    f"{buffer['buffer']}: {buffer['mismatches']} of {buffer['elements']} elements differ, the first at "
                    f"{first['index']}: expected {first['expected']}, found {first['actual']}",
                    json.dumps(self.document["expected"]),
                )
        return self

    @property
    def report(self) -> dict[str, Any]:
        """What the cycles were spent on: the report of ``pollux run --report json``."""
        report: dict[str, Any] | None = self._figure("report")
        if report is None:
            raise PolluxError("the run was made without its report: give report=True")
        return report

    @property
    def macs(self) -> int:
        """Multiply-accumulates of elements that take part."""
        if "macs" in self.document:
            macs: int = self.document["macs"]
        else:
            macs = self.report["mesh"]["macs"]
        return macs

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates over what the array could have done in all cycles, 0 to 1."""
        utilisation: float = self.report["mesh"]["utilisation"]
        return utilisation

    @property
    def blocks(self) -> Table:
        """A row a block: cycles busy, stalled, draining, idle, and the cause it waited for longest."""
        rows = [{**block, "cause": (block["causes"] or [{"cause": None}])[0]["cause"]} for block in self.report["blocks"]]
        return Table.from_rows(rows)

    @property
    def causes(self) -> Table:
        """A row for each block and cause, with the stalled cycles."""
        rows = [
            {"block": block["block"], **cause} for block in self.report["blocks"] for cause in block["causes"]
        ]
        return Table.from_rows(rows)

    @property
    def operations(self) -> Table:
        """A row an operation: cycles, commands, MACs, utilisation, bytes."""
        return Table.from_rows(self.report["operations"])

    @property
    def banks(self) -> Table:
        """A row a bank of the local memories: reads, writes, cycles busy, stalled and idle."""
        return Table.from_rows(self.report["banks"])

    @property
    def counters(self) -> Table:
        """Gemmini's own event counters."""
        return Table.from_rows(self.report["counters"])

    @property
    def energy(self) -> dict[str, Any]:
        """Energy by component and operation: the document of ``--energy``; energies in pJ."""
        energy: dict[str, Any] | None = self._figure("energy")
        if energy is None:
            raise PolluxError("the run was made without energy: give energy=TABLE")
        return energy

    @property
    def energy_pj(self) -> float:
        """Energy of the whole run in pJ."""
        energy: float = self.energy["total"]["energy_pj"]
        return energy

    def __repr__(self) -> str:
        figures = f"{self.cycles} cycles" if "cycles" in self.document else "functional"
        match = {None: "", True: ", match", False: ", MISMATCH"}[self.match]
        return f"Run({figures}, {self.commands} commands on {self.document['config']}{match})"

    def _repr_html_(self) -> str:
        from ._html import run as page

        return page(self)


def run(
    program: Program,
    *,
    memory: Memory | str | None = None,
    interval: int = 1,
    limit: int | None = None,
    functional: bool = False,
    values: bool = True,
    replay: bool = True,
    report: bool = False,
    energy: str | os.PathLike[str] | None = None,
    clock_hz: float = 1e9,
    policy: str = "error",
) -> Run:
    """Runs a program clock by clock, exactly as Gemmini's RTL. Other Python threads go on meanwhile; Ctrl-C ends it.

    Parameters
    ----------
    memory:
        What stands behind the memory port; `Bench` by default.
    interval:
        Cycles from one command of the host to the next, at least.
    limit:
        Stop after so many cycles.
    functional:
        Run on the functional model instead: the same results, faster, without cycles.
    values:
        False leaves the values out: the same cycles, faster, but nothing is computed.
    replay:
        False simulates everything, with the same result; only runs without values are replayed.
    report:
        Say what the cycles were spent on.
    energy:
        An energy table: one of `energy_tables()`, or a TOML file.
    clock_hz:
        Clock, for leakage and the energy-delay product.
    policy:
        What to do about what the hardware does not define: ``"error"``, ``"warn"`` or ``"ignore"``.

    Raises
    ------
    IllegalProgramError, SimulationError
    """
    if functional:
        given = {
            "memory": memory is not None,
            "limit": limit is not None,
            "interval": interval != 1,
            "values": not values,
            "replay": not replay,
            "report": report,
            "energy": energy is not None,
        }
        useless = [name for name, is_given in given.items() if is_given]
        if useless:
            raise PolluxError(f"{', '.join(useless)}: the functional model has no cycles, leave it out")
    if not replay and values:
        raise PolluxError("replay=False has no effect on a run with values: nothing of it is replayed")
    if interval < 1 or (limit is not None and limit < 1):
        raise PolluxError("interval and limit are at least 1")
    if not (np.isfinite(clock_hz) and clock_hz > 0):
        raise PolluxError(f"clock_hz is {clock_hz}: it must be above 0")
    options = {
        "functional": functional,
        "values": values,
        "memory": text_of(memory),
        "interval": interval,
        "limit": limit,
        "replay": replay,
        "report": report,
        "energy": table_text(energy),
        "clock_hz": clock_hz,
        "policy": policy,
    }
    return Run(program, _pollux.run(program._native, json.dumps(options)))


def table_text(energy: str | os.PathLike[str] | None) -> str | None:
    """An energy table's name, or the text of its file."""
    if energy is None or (isinstance(energy, str) and energy in energy_tables()):
        return energy if energy is None else str(energy)
    path = Path(energy)
    if not path.is_file():
        raise PolluxError(f"no energy table is called `{energy}`: there are {', '.join(energy_tables())}, and TOML files")
    return path.read_text() + "\n"
