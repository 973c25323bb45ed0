"""Sweeps: thousands of points, on all cores or on a Ray cluster, with the same table whoever runs them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import _pollux
from .errors import SweepError
from .table import Table

__all__ = ["Sweep", "points", "sweep"]

Manifest = str | os.PathLike[str] | Mapping[str, Any]


class Sweep:
    """A finished sweep: its table, and what became of its points."""

    __slots__ = ("content_sha256", "left_out", "out", "skipped", "table", "written")

    def __init__(self, out: Path, document: dict[str, Any], written: int, skipped: int, left_out: list[str]) -> None:
        #: Folder with the shards.
        self.out = out
        #: A row for each point; what was not measured is None.
        self.table = Table({column["name"]: column["values"] for column in document["columns"]})
        #: SHA-256 of the table's contents, the same whoever ran the shards.
        self.content_sha256: str = document["content_sha256"]
        #: Shards that were run, and those that were there already.
        self.written, self.skipped = written, skipped
        #: Configurations of grids that cannot be built, with reasons.
        self.left_out = left_out

    @property
    def outcomes(self) -> dict[str, int]:
        """How many points came to their end (``ok``), were ``refused`` by the hardware, or ``stopped``."""
        found = self.table["outcome"]
        return {outcome: found.count(outcome) for outcome in ("ok", "refused", "stopped")}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table: ``*.parquet``, ``*.jsonl`` or ``*.csv``."""
        _pollux.merge_to(os.fspath(self.out), os.fspath(path))

    def __repr__(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items() if count)
        return f"Sweep({self.table.num_rows} points: {outcomes}; sha256 {self.content_sha256[:12]})"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def _toml(value: Any) -> str:
    """A value as TOML, whose strings, numbers and lists are those of JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(str(key))} = {_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, (bool, int, float, str)):
        return json.dumps(value)
    if isinstance(value, os.PathLike):
        return json.dumps(os.fspath(value))
    if hasattr(value, "text"):
        return json.dumps(value.text)
    if hasattr(value, "item"):
        return _toml(value.item())
    raise SweepError(f"{value!r} has no place in a manifest: give numbers, texts, flags, lists or dictionaries")


def _text(manifest: Manifest) -> tuple[str, str]:
    """The manifest's text, and the folder that its files are relative to."""
    if isinstance(manifest, Mapping):
        top = [f"{key} = {_toml(value)}" for key, value in manifest.items() if key not in _SECTIONS]
        sections = []
        for name in _SECTIONS:
            for section in manifest.get(name, ()):
                sections.append(f"[[{name}]]")
                sections += [f"{json.dumps(str(key))} = {_toml(value)}" for key, value in section.items()]
        return "\n".join(top + sections) + "\n", os.getcwd()
    if isinstance(manifest, str) and "\n" in manifest:
        return manifest, os.getcwd()
    path = Path(manifest)
    try:
        return path.read_text(), str(path.resolve().parent)
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"cannot read `{path}`: {error}") from error


_SECTIONS = ("config", "work", "mapping", "exclude")


def points(manifest: Manifest) -> Table:
    """The points of a manifest: id, work, config, memory, mapping."""
    text, base = _text(manifest)
    return Table.from_rows(json.loads(_pollux.Sweep(text, base).json())["list"])


def sweep(
    manifest: Manifest,
    out: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    shards: int | None = None,
    format: str = "parquet",
    ray: bool = False,
    ray_options: Mapping[str, Any] | None = None,
    progress: bool | Callable[[int, int], object] = False,
) -> Sweep:
    """Runs all points of a manifest, but those whose shard is in ``out`` already, and merges them.

    Parameters
    ----------
    manifest:
        A TOML file, its text, or a dictionary with the same keys; sections are lists of dictionaries.
    out:
        Folder for the shards. An interrupted sweep goes on where it was; on a cluster it must be one that all nodes see.
    jobs:
        Shards at the same time; by default one a core. With Ray, the cluster decides.
    shards:
        How many; by default what the manifest says, or some points each.
    ray:
        Run each shard as a Ray task. Workers and nodes may die: their shards run again elsewhere. Needs ``pip install pollux[ray]``
        on all nodes.
    ray_options:
        Options of the tasks, such as ``{"num_cpus": 2}``; tasks that lose their worker are retried without end by default.
    progress:
        True for a line on the standard error, or a function that is given the points done and all of them.
    """
    text, base = _text(manifest)
    folder = Path(out)
    native = _pollux.Sweep(text, base, os.fspath(folder), shards, format)
    document = json.loads(native.json())
    tell = _teller(progress, document["points"])
    if ray:
        if jobs is not None:
            raise SweepError("jobs has no effect with ray=True: give ray_options={'num_cpus': N}")
        call = (text, base, os.fspath(folder.resolve()), document["shards"], format)
        written = _on_ray(call, native.missing(), dict(ray_options or {}), document["points"], tell)
        skipped = document["shards"] - written
    else:
        if ray_options is not None:
            raise SweepError("ray_options has no effect without ray=True")
        written, skipped = native.run(list(range(document["shards"])), jobs or os.cpu_count() or 1, tell)
    return Sweep(folder, json.loads(_pollux.merge(os.fspath(folder))), written, skipped, document["left_out"])


def _teller(progress: bool | Callable[[int, int], object], total: int) -> Callable[[int], object] | None:
    if callable(progress):
        function = progress
        return lambda done: function(done, total)
    if not progress:
        return None

    def line(done: int) -> None:
        end = "\n" if done >= total else ""
        print(f"\r{done} of {total} points", end=end, file=sys.stderr, flush=True)

    return line


def _run_shard(text: str, base: str, out: str, shards: int, format: str, shard: int) -> int:
    """One shard, in a Ray task. Only a count comes back: the results are in the folder."""
    written, _ = _pollux.Sweep(text, base, out, shards, format).run([shard], 1)
    return written


def _on_ray(
    call: tuple[str, str, str, int, str],
    missing: list[int],
    options: dict[str, Any],
    points: int,
    tell: Callable[[int], object] | None,
) -> int:
    try:
        import ray
    except ImportError as error:
        raise SweepError("ray=True needs Ray: pip install pollux[ray]") from error
    if not ray.is_initialized():
        ray.init()
    # A task whose worker or node dies is one that was never begun: shards are written whole or not at all.
    task = ray.remote(_run_shard).options(**{"num_cpus": 1, "max_retries": -1, **options})
    waiting = [task.remote(*call, shard) for shard in missing]
    shards, written = call[3], 0
    while waiting:
        ready, waiting = ray.wait(waiting)
        written += sum(ray.get(ready))
        if tell is not None:
            tell((shards - len(waiting)) * points // shards)
    return written
