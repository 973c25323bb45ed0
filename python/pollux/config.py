"""Configurations of the accelerator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import _pollux
from .errors import ConfigError

__all__ = ["Config", "configs"]


def configs() -> list[str]:
    """Names of the named configurations; ``dim4`` to ``dim64`` exist as well."""
    return _pollux.configs()


class Config:
    """A valid configuration: what Gemmini's generator can build and Pollux models.

    Configurations are values: equal if all fields are, hashable, and can be pickled.

    Parameters
    ----------
    name:
        One of `configs()`, ``dimN``, or a file: TOML, or a ``gemmini_params.h``.

    Raises
    ------
    ConfigError
        There is none of that name, or it cannot be built; each reason names the generator's rule.
    """

    __slots__ = ("_native",)

    def __init__(self, name: str | os.PathLike[str] = "default16") -> None:
        path = Path(name)
        if isinstance(name, str) and not (path.is_file() or "/" in name or path.suffix):
            self._native = _pollux.Config.by_name(name)
            return
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read `{path}`: {error}") from error
        self._native = _pollux.Config.from_text(text, path.stem)

    @classmethod
    def _of(cls, native: _pollux.Config) -> Config:
        config = cls.__new__(cls)
        config._native = native
        return config

    @classmethod
    def from_toml(cls, text: str) -> Config:
        """Of a TOML text: all fields, or ``base = "NAME"`` and those that differ."""
        return cls._of(_pollux.Config.from_text(text, "config"))

    @classmethod
    def from_header(cls, path: str | os.PathLike[str]) -> Config:
        """Of a ``gemmini_params.h``. Fields that a header does not have are those of ``default16``."""
        return cls(Path(path))

    def replace(self, *, name: str | None = None, **fields: Any) -> Config:
        """The same with other values of some fields, as TOML has them; ``None`` removes an optional one.

        ``dim`` sets the rows and columns of the array together. The memories keep their capacities.

        >>> Config("norm16").replace(dim=32, sp_capacity="512 KiB").dim
        32
        """
        pairs = [[field, "none" if value is None else value] for field, value in fields.items()]
        shown = " ".join(f"{field}={value}" for field, value in pairs)
        return Config._of(self._native.replace(json.dumps(pairs), name or f"{self.name} {shown}".strip()))

    @property
    def name(self) -> str:
        """Its name, which no cycle depends on."""
        return self._native.name

    @property
    def dim(self) -> int:
        """Rows and columns of the array."""
        return self._native.dim

    @property
    def digest(self) -> str:
        """64-bit hash of all fields but the name, as hexadecimal digits."""
        return self._native.digest

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._native.json())
        return document

    @property
    def fields(self) -> dict[str, Any]:
        """All fields, under the generator's names in snake case."""
        fields: dict[str, Any] = self._document()["fields"]
        return fields

    @property
    def derived(self) -> dict[str, Any]:
        """What follows from the fields: rows of the memories, bytes of a row, largest blocks."""
        derived: dict[str, Any] = self._document()["derived"]
        return derived

    @property
    def warnings(self) -> list[str]:
        """What to know of it."""
        warnings: list[str] = self._document()["warnings"]
        return warnings

    def to_toml(self) -> str:
        """As TOML, which `from_toml` and every command read."""
        return self._native.toml()

    def __getattr__(self, field: str) -> Any:
        if field.startswith("_"):
            raise AttributeError(field)
        fields = self.fields
        if field in fields:
            return fields[field]
        raise AttributeError(f"a configuration has no field `{field}`: it has {', '.join(sorted(fields))}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.to_toml() == other.to_toml()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Config.from_toml, (self.to_toml(),)

    def __repr__(self) -> str:
        return f"Config({self.name!r}, dim={self.dim})"

    def _repr_html_(self) -> str:
        from ._html import pairs

        return pairs(f"Configuration {self.name}", {**self.derived, **self.fields})


def of(config: Config | str | os.PathLike[str]) -> Config:
    """A configuration, or that of a name or a file."""
    return config if isinstance(config, Config) else Config(config)
