"""What stands behind the accelerator's memory port."""

from __future__ import annotations

from typing import Any

from . import _pollux

__all__ = ["Bandwidth", "Bench", "Dram", "FireSim", "L2", "Memory"]


class Memory:
    """A memory system as text, ``KIND[:KEY=VALUE,...]``, with what is a default left out.

    Raises
    ------
    PolluxError
        No such kind or parameter, or a value out of its range.
    """

    __slots__ = ("text",)

    def __init__(self, text: str = "bench") -> None:
        #: The text, as ``--memory`` takes it.
        self.text: str = _pollux.memory(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Memory) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Memory({self.text!r})"


def _make(kind: str, parameters: dict[str, Any]) -> Memory:
    shown = ",".join(f"{key}={int(value) if isinstance(value, bool) else value}" for key, value in parameters.items())
    return Memory(f"{kind}:{shown}" if shown else kind)


def Bench(**parameters: int) -> Memory:
    """Fixed latency, in order, as the bench of the recordings: ``latency``, ``a_period``, ``d_period`` in cycles."""
    return _make("bench", parameters)


def Bandwidth(**parameters: int) -> Memory:
    """``latency`` in cycles, ``bytes`` in so many ``cycles``, and ``outstanding`` requests at most."""
    return _make("bandwidth", parameters)


def Dram(**parameters: int | str) -> Memory:
    """A shared L2 in front of banked DRAM: ``type`` (ddr3, lpddr3), ``clock_mhz``, ``l2_kib``, timings in ps, and more."""
    return _make("dram", parameters)


def FireSim(**parameters: int) -> Memory:
    """An L2 and a last-level cache in front of DRAM, as in FireSim's measurements."""
    return _make("firesim", parameters)


def L2(**parameters: int) -> Memory:
    """SiFive's inclusive cache, clocked, in front of a memory with ``latency`` and ``bytes`` a cycle."""
    return _make("l2", parameters)


def text_of(memory: Memory | str | None) -> str:
    """The text of a memory system; the bench's by default."""
    return (memory if isinstance(memory, Memory) else Memory(memory or "bench")).text
