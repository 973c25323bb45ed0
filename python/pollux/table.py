"""Tables: columns by name, ready for pandas, Arrow, polars and DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["Table"]


class Table(dict[str, list[Any]]):
    """Columns of the same length: a dictionary of lists. Missing values are ``None``.

    ``pandas.DataFrame(table)`` works as it is, and so does everything that takes the Arrow PyCapsule interface (``pyarrow.table``,
    ``polars.from_arrow``, DuckDB), if pyarrow is installed. ``len`` is the number of columns; `num_rows` is that of the rows.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        super().__init__({name: list(values) for name, values in columns.items()})
        lengths = {len(values) for values in self.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        self._rows = lengths.pop() if lengths else 0

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Table:
        """A table of dictionaries; what one of them lacks is ``None``. Lists and dictionaries inside are left out."""
        names: dict[str, None] = {}
        for row in rows:
            for name, value in row.items():
                if not isinstance(value, (dict, list)):
                    names.setdefault(name)
        return cls({name: [row.get(name) for row in rows] for name in names})

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dictionaries."""
        for index in range(self._rows):
            yield {name: values[index] for name, values in self.items()}

    def to_pandas(self) -> Any:
        """As a ``pandas.DataFrame``. Needs pandas (``pip install pollux[pandas]``)."""
        import pandas

        return pandas.DataFrame(dict(self))

    def to_arrow(self) -> Any:
        """As a ``pyarrow.Table``. Needs pyarrow (``pip install pollux[arrow]``)."""
        import pyarrow

        return pyarrow.table(dict(self))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"Table({self._rows} rows: {', '.join(self)})"

    def _repr_html_(self) -> str:
        from ._html import table

        return table(self)
