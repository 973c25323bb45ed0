"""Whole models: Transformers of published shapes, and quantised models with a text."""

from __future__ import annotations

import json
import os
from typing import Any

from . import _pollux
from .config import of as config_of
from .memory import Memory, text_of
from .program import ConfigLike, Program
from .run import table_text
from .table import Table

__all__ = ["Model", "Report", "model", "shapes", "transformer"]


def shapes() -> list[str]:
    """Names of the published encoder shapes."""
    return _pollux.shapes()


class Report:
    """Where the cycles of a model go: the document of ``pollux report --json``."""

    __slots__ = ("document",)

    def __init__(self, document: dict[str, Any]) -> None:
        #: The document.
        self.document = document

    @property
    def cycles(self) -> int:
        """Cycles of the whole model, the host's included."""
        cycles: int = self.document["total"]["cycles"]
        return cycles

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates over what the array could have done, 0 to 1."""
        utilisation: float = self.document["total"]["utilisation"]
        return utilisation

    @property
    def operations(self) -> Table:
        """A row an operation: cycles, share, MACs, utilisation, bytes, MACs a byte."""
        return Table.from_rows(self.document["operations"])

    @property
    def parts(self) -> Table:
        """The same by operation of a layer, summed over the layers."""
        return Table.from_rows(self.document["parts"])

    @property
    def layers(self) -> Table:
        """The same by layer."""
        return Table.from_rows(self.document["layers"])

    @property
    def energy_pj(self) -> float | None:
        """Energy in pJ, if a table was given."""
        energy = self.document["energy"]
        pj: float | None = None if energy is None else energy["total"]["energy_pj"]
        return pj

    def __repr__(self) -> str:
        return f"Report({self.document['title']} on {self.document['config']}: {self.cycles} cycles, {self.utilisation:.1%})"

    def _repr_html_(self) -> str:
        from ._html import report

        return report(self)


class Model:
    """A model as commands for a configuration, with what the host does between them."""

    __slots__ = ("_native",)

    def __init__(self, native: _pollux.Model) -> None:
        self._native = native

    @property
    def title(self) -> str:
        """What it is."""
        return self._native.title

    @property
    def program(self) -> Program:
        """Its program, if the accelerator does all of it; an error if the host takes part."""
        return Program(self._native.program())

    def report(
        self,
        *,
        memory: Memory | str | None = None,
        interval: int = 1,
        limit: int | None = None,
        values: bool = True,
        replay: bool = True,
        energy: str | os.PathLike[str] | None = None,
        clock_hz: float = 1e9,
    ) -> Report:
        """Runs it clock by clock, and says where the cycles go.

        With ``values=False`` nothing is computed, and no divisor of the normalizer is taken to be zero; otherwise the functional
        model runs beside it to find out.
        """
        options = {
            "memory": text_of(memory),
            "interval": interval,
            "limit": limit,
            "values": values,
            "replay": replay,
            "energy": table_text(energy),
            "clock_hz": clock_hz,
        }
        return Report(json.loads(self._native.report(json.dumps(options))))

    def __repr__(self) -> str:
        return f"Model({self.title})"


def transformer(
    shape: str = "bert-base", *, tokens: int = 128, layers: int | None = None, config: ConfigLike = "norm16"
) -> Model:
    """Encoder layers of a published shape (`shapes`) with pseudo-random weights; all of its layers by default."""
    return Model(_pollux.Model.transformer(config_of(config)._native, shape, layers, tokens))


def model(path: str | os.PathLike[str], text: str, *, config: ConfigLike = "norm16") -> Model:
    """A model's directory, which is quantised first, or the file that ``pollux model quantize`` writes, with a text."""
    return Model(_pollux.Model.load(config_of(config)._native, os.fspath(path), text))
