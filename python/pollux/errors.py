"""Everything that can go wrong. Each message names the place and the remedy."""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "AssemblyError",
    "BufferError",
    "ConfigError",
    "Diagnostic",
    "IllegalProgramError",
    "MismatchError",
    "PolluxError",
    "SimulationError",
    "SweepError",
]


class PolluxError(Exception):
    """Something that Pollux cannot do. Its subclasses say what kind of thing it is."""

    def __init__(self, message: str, details: str = "null") -> None:
        super().__init__(message, details)
        self.message = message
        #: What the error knows beside its message, as JSON values.
        self.details: Any = json.loads(details)

    def __str__(self) -> str:
        return self.message


class ConfigError(PolluxError, ValueError):
    """A configuration that does not exist, or that Gemmini's generator or Pollux refuses."""


class Diagnostic:
    """A fault in assembly text."""

    __slots__ = ("column", "file", "help", "line", "message")

    def __init__(self, message: str, file: str, line: int, column: int, help: str | None) -> None:
        #: What is wrong.
        self.message = message
        #: The file, or the name of the text.
        self.file = file
        #: Line, from 1.
        self.line = line
        #: Column, from 1.
        self.column = column
        #: What would be right, or how to find out.
        self.help = help

    def __repr__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class AssemblyError(PolluxError, ValueError):
    """Assembly text with faults; the message shows each with its line."""

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """The faults with their places."""
        return [Diagnostic(**place) for place in self.details]


class IllegalProgramError(PolluxError):
    """Commands or accesses that the hardware does not define."""

    @property
    def findings(self) -> list[str]:
        """One line each."""
        return list(self.details)


class SimulationError(PolluxError, RuntimeError):
    """A run that did not come to its end: a deadlock, or its limit. The message says what each block waits for."""


class BufferError(PolluxError, KeyError):  # noqa: A001 - the field's word for it
    """A buffer that the program does not have."""

    def __str__(self) -> str:
        return self.message


class MismatchError(PolluxError, AssertionError):
    """Results that are not what the program expects."""


class SweepError(PolluxError, ValueError):
    """A manifest or a folder of a sweep with something wrong in it."""
