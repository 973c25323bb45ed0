"""Traces: files of a run for the viewers of other people, and its commands as a table."""

from __future__ import annotations

import json
import os
from typing import Any

from . import _pollux
from .errors import PolluxError
from .memory import Memory, text_of
from .program import Program
from .table import Table

__all__ = ["Trace", "commands", "trace"]

#: A cycle, or the name of an operation; None is the start or the end of the run.
Moment = int | str | None
Window = tuple[Moment, Moment]


class Trace:
    """What `trace` wrote."""

    __slots__ = ("files", "notes")

    def __init__(self, files: dict[str, str], notes: list[str]) -> None:
        #: Paths by viewer: ``perfetto``, ``kanata``, ``fst``, ``vcd``.
        self.files = files
        #: What a file does not show, as it would have been larger than its budget: a line each.
        self.notes = notes

    def __repr__(self) -> str:
        notes = f"; {len(self.notes)} left something out" if self.notes else ""
        return f"Trace({', '.join(self.files.values())}{notes})"

    def _repr_html_(self) -> str:
        from ._html import pairs

        return pairs("Traces", {**self.files, **{f"note {i + 1}": note for i, note in enumerate(self.notes)}})


def _run(
    program: Program,
    files: dict[str, str],
    window: Window | None,
    memory: Memory | str | None,
    interval: int,
    **others: Any,
) -> tuple[list[str], str]:
    start, end = window or (None, None)
    if interval < 1:
        raise PolluxError("interval is at least 1")
    options = {
        "memory": text_of(memory),
        "interval": interval,
        "from": None if start is None else str(start),
        "to": None if end is None else str(end),
        **{"limit": None, "policy": "error", "level": None, "budget": 1, "commands": False, **others},
    }
    return _pollux.trace(program._native, json.dumps(options), list(files.items()))


def trace(
    program: Program,
    *,
    perfetto: str | os.PathLike[str] | None = None,
    kanata: str | os.PathLike[str] | None = None,
    fst: str | os.PathLike[str] | None = None,
    vcd: str | os.PathLike[str] | None = None,
    window: Window | None = None,
    level: str | None = None,
    budget_mib: int = 64,
    memory: Memory | str | None = None,
    interval: int = 1,
    limit: int | None = None,
    policy: str = "error",
) -> Trace:
    """Runs a program once, and writes what happens in it for viewers.

    Parameters
    ----------
    perfetto:
        File for ui.perfetto.dev: operations, commands, blocks, counters.
    kanata:
        File for Konata: the commands with their stages.
    fst, vcd:
        Waves for GTKWave and Surfer, by the RTL's names where it has them.
    window:
        From where to where, each a cycle, the name of an operation, or None. The rest of the run is as fast as without a trace.
    level:
        What the Perfetto file shows: ``"ops"``, ``"host"`` (and the host's commands), ``"commands"`` or ``"all"``; by default as much as
        fits.
    budget_mib:
        Size of each file at most. What does not fit is left out, which the file and `Trace.notes` say.

    Each file is written whole or not at all. The other parameters are those of `run`.
    """
    given = {"perfetto": perfetto, "kanata": kanata, "fst": fst, "vcd": vcd}
    files = {viewer: os.fspath(path) for viewer, path in given.items() if path is not None}
    if not files:
        raise PolluxError("nothing to write: give perfetto, kanata, fst or vcd")
    if level is not None and (perfetto is None or level not in ("ops", "host", "commands", "all")):
        raise PolluxError("level is of a Perfetto file: ops, host, commands or all")
    if budget_mib < 1 or (limit is not None and limit < 1):
        raise PolluxError("budget_mib and limit are at least 1")
    others = {"level": level, "budget": budget_mib << 20, "limit": limit, "policy": policy}
    notes, _ = _run(program, files, window, memory, interval, **others)
    return Trace(files, notes)


def commands(
    program: Program, *, window: Window | None = None, memory: Memory | str | None = None, interval: int = 1
) -> Table:
    """Runs a program, and gives all its commands, in the order of their completion: the table of ``pollux run --commands``.

    The host's commands have a ``number``, those of the reservation station ``seq``, ``queue`` and ``entry``; ``accepted``,
    ``allocated``, ``issued`` and ``completed`` are cycles.
    """
    _, lines = _run(program, {}, window, memory, interval, commands=True)
    rows = json.loads(lines)
    for row in rows:
        del row["schema"]
    return Table.from_rows(rows)
