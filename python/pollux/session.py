"""Time travel: a run that can be at any of its cycles, be looked into, and say why something waits."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _pollux
from .errors import PolluxError
from .memory import Memory, text_of
from .program import Program
from .run import array_of
from .table import Table

__all__ = ["Explanation", "Session"]


class Explanation:
    """Why something is as it is, and until when. ``str`` of it is a sentence."""

    __slots__ = ("document",)

    def __init__(self, document: dict[str, Any]) -> None:
        #: The document of ``why``: subject, cycle, sentence, chain, until, advice.
        self.document = document

    @property
    def chain(self) -> Table:
        """From the subject to the last cause that is known, each the reason of the one before."""
        return Table.from_rows(self.document["chain"])

    @property
    def until(self) -> int | None:
        """The first cycle in which it is no longer so; None if that was not found."""
        until = self.document["until"]
        cycle: int | None = None if until is None else until["cycle"]
        return cycle

    @property
    def advice(self) -> str | None:
        """What would help, if that is known."""
        advice: str | None = self.document["advice"]
        return advice

    def __str__(self) -> str:
        sentence: str = self.document["sentence"]
        return sentence

    def __repr__(self) -> str:
        return f"Explanation({self.document['subject']} in cycle {self.document['cycle']}: {self})"

    def _repr_html_(self) -> str:
        from ._html import heading, table

        return heading(str(self)) + table(self.chain)


class Session:
    """A program at a cycle, and the means to be at any other: forward and back, to a condition or a number.

    Runs are deterministic: a cycle before the present is reached by replay from a snapshot in memory. Ctrl-C ends a long move or
    search, and leaves the session where it was.

    Parameters
    ----------
    memory:
        What stands behind the memory port; `Bench` by default.
    interval:
        Cycles from one command of the host to the next, at least.
    snapshot_mib:
        Memory for snapshots in MiB, about. Less makes steps back slower.

    >>> import numpy as np, pollux as px
    >>> session = px.Session(px.matmul(np.eye(4, dtype=np.int8), np.eye(4, dtype=np.int8)))
    >>> session.run_until("result_row") == session.cycle, session.back(3) == session.cycle
    (True, True)
    """

    __slots__ = ("_native", "program")

    def __init__(
        self, program: Program, *, memory: Memory | str | None = None, interval: int = 1, snapshot_mib: int = 432
    ) -> None:
        if interval < 1 or snapshot_mib < 1:
            raise PolluxError("interval and snapshot_mib are at least 1")
        #: What runs.
        self.program = program
        self._native = _pollux.Session(program._native, text_of(memory), interval, snapshot_mib << 20)

    def _execute(self, line: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self._native.execute(line))
        return result

    def _place(self) -> dict[str, Any]:
        place: dict[str, Any] = json.loads(self._native.place())
        return place

    @property
    def cycle(self) -> int:
        """The present cycle: the one that comes next."""
        cycle: int = self._place()["cycle"]
        return cycle

    @property
    def ended(self) -> bool:
        """The run is over here."""
        ended: bool = self._place()["ended"]
        return ended

    @property
    def last_cycle(self) -> int | None:
        """The last cycle of the run, if the session has come to it."""
        cycle: int | None = self._place()["last_cycle"]
        return cycle

    @property
    def error(self) -> str | None:
        """Why the run ends here, unless the program is used up: a deadlock, with what each block waits for."""
        error: str | None = self._place()["error"]
        return error

    def goto(self, cycle: int) -> int:
        """Goes to a cycle, before or behind the present one.

        Raises
        ------
        PolluxError
            The run is over before it.
        """
        return self._moved(f"goto {_count('cycle', cycle)}")

    def step(self, cycles: int = 1) -> int:
        """Goes forward, but not behind the end of the run. The cycle that was reached."""
        return self._moved(f"step {_count('cycles', cycles)}")

    def back(self, cycles: int = 1) -> int:
        """Goes back, but not before the start. The cycle that was reached."""
        return self._moved(f"back {_count('cycles', cycles)}")

    def goto_end(self) -> int:
        """Goes to the end of the run. Its cycle."""
        return self._moved("end")

    def _moved(self, line: str) -> int:
        cycle: int = self._execute(line)["cycle"]
        return cycle

    def run_until(self, condition: str) -> int | None:
        """Goes forward to the next cycle in which a condition holds; None, and the end of the run, if there is none.

        ========================================  ======================================================
        ``cycle N``, ``busy rises|falls``          the cycle, Gemmini's busy output
        ``mark NAME``                              the host comes to this operation
        ``accepted [N] [MNEMONIC]``                a command of the host is accepted
        ``allocated``, ``issued``, ``completed``   a command's step, with ``[load|execute|store] [SEQ]``
        ``request``, ``response``                  a beat at the memory port, with ``[read|write]``
        ``spad[ROWS]``, ``acc[ROWS]``              rows are accessed, with ``[read|written] [by execute|by dma]``
        ``mem[BYTES]``, ``mem[NAME]``              main memory is accessed, with ``[read|written]``
        ``stall BLOCK [CAUSE] [for N]``            a block waits in its N-th cycle
        ``matrix``, ``operand_row``, ``result_row``  the array begins a matrix, takes a row, gives one
        ========================================  ======================================================

        Several are joined by ``or``.
        """
        return self._found("until", condition)

    def reverse_until(self, condition: str) -> int | None:
        """Goes back to the last cycle before the present one in which a condition holds; None, and cycle 0, if there is none."""
        return self._found("reverse-until", condition)

    def _found(self, word: str, condition: str) -> int | None:
        hit: int | None = self._execute(f"{word} {_line(condition)}")["hit"]
        return hit

    def view(self, path: str = "") -> Any:
        """The machine in the present cycle, as dictionaries and lists; or the part at a path, such as ``"station.load"``.

        Other paths are ``"array"``, rows of a local memory (``"spad[0..16]"``), and bytes of main memory (``"mem[C]"``).
        """
        return self._execute(f"view {_line(path)}")["view"]

    def why(self, subject: str | int) -> Explanation:
        """Why a block, the host, or the command with this number in the station is as it is, and until when."""
        return Explanation(self._execute(f"why {_line(str(subject))}")["why"])

    def mesh(self, register: str = "c1") -> npt.NDArray[Any]:
        """A register of all processing elements, DIM x DIM: ``c1``, ``c2``, ``a``, ``b``, ``d``, ``valid``, and more."""
        return np.array(self.view(f"array.{register}"))

    def scratchpad(self, first: int, rows: int = 1) -> npt.NDArray[np.int8]:
        """Rows of the scratchpad, counted through all banks: rows x DIM, int8."""
        return np.array(self._rows("spad", first, rows), dtype=np.int8)

    def accumulator(self, first: int, rows: int = 1) -> npt.NDArray[np.int32]:
        """Rows of the accumulator, counted through all banks: rows x DIM, int32."""
        return np.array(self._rows("acc", first, rows), dtype=np.int32)

    def _rows(self, memory: str, first: int, rows: int) -> Any:
        return self.view(f"{memory}[{_count('first', first)}..{first + _count('rows', rows)}]")["rows"]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return array_of(self._native.tensor(name))

    def commands(self, cycles: int = 1000) -> Table:
        """The commands that were in the station in the last cycles: number, text, queue, and the cycles of their steps."""
        return Table.from_rows(json.loads(self._native.lives(_count("cycles", cycles))))

    @property
    def blocks(self) -> Table:
        """A row a block: what it does in this cycle, why it waits, for how long, and its last 64 cycles as letters."""
        return Table.from_rows(self.view("blocks"))

    def __repr__(self) -> str:
        place = self._place()
        return f"Session(cycle {place['cycle']}{', ended' if place['ended'] else ''}, {self.program!r})"

    def _repr_html_(self) -> str:
        from ._html import session

        return session(self)


def _count(name: str, value: int) -> int:
    if value < 0:
        raise PolluxError(f"{name} is {value}: it is at least 0")
    return int(value)


def _line(text: str) -> str:
    if "\n" in text:
        raise PolluxError(f"{text!r}: one line is wanted")
    return text
