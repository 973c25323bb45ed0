"""Programs: assembled, loaded, and lowered from operations."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _pollux
from .config import Config
from .config import of as config_of
from .errors import PolluxError
from .table import Table

__all__ = ["Program", "assemble", "conv", "layer", "load", "matmul", "operations"]

ConfigLike = Config | str | os.PathLike[str]


class Program:
    """A stream of commands, the configuration they are encoded for, and the buffers in main memory.

    Made by `assemble`, `load`, `matmul`, `conv`, `layer` and `operations`. Programs can be pickled.
    """

    __slots__ = ("_document", "_native")

    def __init__(self, native: _pollux.Program) -> None:
        self._native = native
        self._document: dict[str, Any] = json.loads(native.json())

    @property
    def config(self) -> Config:
        """The configuration that the commands are encoded for."""
        return Config._of(self._native.config())

    @property
    def commands(self) -> int:
        """Number of commands."""
        count: int = self._document["commands"]
        return count

    @property
    def buffers(self) -> Table:
        """Name, address (bytes), element type, shape (text), and whether contents and expected contents are given."""
        rows = [{**row, "shape": " x ".join(map(str, row["shape"]))} for row in self._document["buffers"]]
        return Table.from_rows(rows)

    def to_text(self) -> str:
        """As assembly text."""
        return self._native.text()

    def to_bytes(self) -> bytes:
        """As a binary."""
        return self._native.binary()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it: assembly text to ``*.pasm``, a binary to other names."""
        path = Path(path)
        contents = self.to_text().encode() if path.suffix == ".pasm" else self.to_bytes()
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(contents)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def check(self, policy: str = "error") -> list[str]:
        """What is wrong with it before it runs: warnings, a line each.

        Raises
        ------
        IllegalProgramError
            It is illegal, and ``policy`` is ``"error"`` (not ``"warn"`` or ``"ignore"``).
        """
        return self._native.check(policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return _from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        names = ", ".join(row["name"] for row in self._document["buffers"][:8])
        return f"Program({self.commands} commands for {self.config.name!r}; buffers {names})"

    def _repr_html_(self) -> str:
        from ._html import heading, table

        return heading(f"{self.commands} commands for {self.config.name}") + table(self.buffers)


def _from_bytes(contents: bytes) -> Program:
    return Program(_pollux.Program.from_contents("program", contents))


def assemble(text: str, config: ConfigLike | None = None) -> Program:
    """Assembles a text. ``config`` is for one that names none.

    Raises
    ------
    AssemblyError
        The text has faults: ``error.diagnostics`` has file, line, column, message and help of each.
    """
    return Program(_pollux.Program.from_contents("text", text.encode(), _optional(config)))


def load(path: str | os.PathLike[str], config: ConfigLike | None = None) -> Program:
    """A program from a file, which is assembly text or a binary; its contents tell which."""
    try:
        contents = Path(path).read_bytes()
    except OSError as error:
        raise PolluxError(f"cannot read `{path}`: {error}") from error
    return Program(_pollux.Program.from_contents(os.fspath(path), contents, _optional(config)))


def _optional(config: ConfigLike | None) -> _pollux.Config | None:
    return None if config is None else config_of(config)._native


def _operand(name: str, values: npt.ArrayLike, dtype: type, dimensions: int) -> npt.NDArray[Any]:
    """Values as a dense array of a type that holds all of them."""
    array = np.asarray(values)
    if array.ndim != dimensions:
        raise PolluxError(f"{name} has {array.ndim} dimensions: it must have {dimensions}")
    if array.dtype != dtype:
        limits = np.iinfo(dtype)
        if not np.issubdtype(array.dtype, np.integer):
            raise PolluxError(f"{name} is {array.dtype}: quantise it to {limits.dtype} first")
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise PolluxError(f"{name} has values beyond {limits.min} to {limits.max}")
    little = np.dtype(dtype).newbyteorder("<")
    return np.ascontiguousarray(array, dtype=little)


def _positive(name: str, scale: float) -> float:
    if not (np.isfinite(scale) and scale > 0):
        raise PolluxError(f"{name} is {scale}: it must be above 0")
    return float(scale)


def matmul(
    A: npt.ArrayLike,
    B: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    scale: float | None = None,
    activation: str = "none",
    dataflow: str = "ws",
    config: ConfigLike = "norm16",
    schedule: dict[str, Any] | None = None,
) -> Program:
    """The product ``C = activation(A B + bias)`` as a program with buffers ``A``, ``B``, ``D`` (the bias) and ``C``.

    Parameters
    ----------
    A, B:
        int8, M x K and K x N.
    bias:
        int32, N: added to every row.
    scale:
        Factor of the read-out to int8, rounded to nearest even, saturated. Without one, C has the exact int32 sums.
    activation:
        ``"none"`` or ``"relu"``.
    dataflow:
        ``"ws"`` (B stays in the array) or ``"os"`` (C does).
    schedule:
        A mapping, as `search` or `sample` give it; by default what Gemmini's own software does.
    """
    a, b = _operand("A", A, np.int8, 2), _operand("B", B, np.int8, 2)
    if a.shape[1] != b.shape[0]:
        raise PolluxError(f"A is {a.shape[0]} x {a.shape[1]} and B {b.shape[0]} x {b.shape[1]}: the inner sizes differ")
    if activation not in ("none", "relu"):
        raise PolluxError(f"activation `{activation}`: choose none or relu")
    if activation == "relu" and scale is None:
        raise PolluxError("int32 sums have no activation: give scale")
    row = None
    if bias is not None:
        row = _operand("bias", bias, np.int32, 1)
        if row.shape[0] != b.shape[1]:
            raise PolluxError(f"bias has {row.shape[0]} elements, B {b.shape[1]} columns")
    options = {
        "shape": [a.shape[0], a.shape[1], b.shape[1]],
        "scale": None if scale is None else _positive("scale", scale),
        "relu": activation == "relu",
        "dataflow": dataflow,
        "schedule": schedule,
    }
    native = _pollux.Program.matmul(
        config_of(config)._native, a.tobytes(), b.tobytes(), None if row is None else row.tobytes(), json.dumps(options)
    )
    return Program(native)


def conv(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    scale: float,
    stride: int = 1,
    padding: int = 0,
    pool: int | None = None,
    depthwise: bool = False,
    activation: str = "none",
    config: ConfigLike = "default16",
    schedule: dict[str, Any] | None = None,
) -> Program:
    """A convolution as a program with buffers ``input``, ``weights``, ``bias`` and ``output``.

    Parameters
    ----------
    input:
        int8, images x rows x columns x channels.
    weights:
        int8, kernel x kernel x input channels x output channels; of a depthwise convolution kernel x kernel x channels.
    bias:
        int32, output channels.
    scale:
        Factor of the read-out to int8.
    pool:
        Edge and step of a max pooling window.

    The buffer ``output`` has a row for each pixel and a column for each output channel.
    """
    image = _operand("input", input, np.int8, 4)
    kernel = _operand("weights", weights, np.int8, 3 if depthwise else 4)
    if kernel.shape[0] != kernel.shape[1]:
        raise PolluxError(f"a kernel of {kernel.shape[0]} x {kernel.shape[1]}: Gemmini's kernels are square")
    if kernel.shape[2] != image.shape[3]:
        raise PolluxError(f"the input has {image.shape[3]} channels, the weights {kernel.shape[2]}")
    if activation not in ("none", "relu"):
        raise PolluxError(f"activation `{activation}`: choose none or relu")
    out_channels = kernel.shape[2] if depthwise else kernel.shape[3]
    row = None if bias is None else _operand("bias", bias, np.int32, 1)
    if row is not None and row.shape[0] != out_channels:
        raise PolluxError(f"bias has {row.shape[0]} elements for {out_channels} output channels")
    # Memory has the weights of a depthwise convolution by channel.
    dense = np.ascontiguousarray(kernel.transpose(2, 0, 1)) if depthwise else kernel
    options = {
        "batch": image.shape[0],
        "rows": image.shape[1],
        "cols": image.shape[2],
        "channels": image.shape[3],
        "out_channels": out_channels,
        "kernel": kernel.shape[0],
        "stride": stride,
        "padding": padding,
        "pool": pool,
        "depthwise": depthwise,
        "scale": _positive("scale", scale),
        "relu": activation == "relu",
        "schedule": schedule,
    }
    native = _pollux.Program.conv(
        config_of(config)._native,
        image.tobytes(),
        dense.tobytes(),
        None if row is None else row.tobytes(),
        json.dumps(options),
    )
    return Program(native)


def layer(path: str | os.PathLike[str] | None = None, *, config: ConfigLike = "norm16") -> Program:
    """A quantised encoder layer with its sample input and all expected results, as ``pollux demo`` runs it.

    ``path`` is a file of ``pollux quantize``; without one it is layer 0 of all-MiniLM-L6-v2, which is built in.
    """
    contents = None if path is None else Path(path).read_bytes()
    return Program(_pollux.Program.layer(config_of(config)._native, os.fspath(path or "embedded"), contents))


def operations(source: str | os.PathLike[str], *, config: ConfigLike | None = None) -> Program:
    """A list of operations (TOML text or file), as ``pollux lower list``, with pseudo-random data and expected results."""
    text = source if isinstance(source, str) and "\n" in source else Path(source).read_text()
    return Program(_pollux.Program.operations(text, _optional(config)))
