"""What notebooks show: tables, a card of the result, a bar of causes, a roofline. Plain HTML and SVG, no scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import Report
    from .run import Run
    from .session import Session
    from .table import Table

#: Rows of a table that are shown.
_ROWS = 40
_COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#9c755f", "#bab0ac"]


def heading(text: str) -> str:
    """A line above a table."""
    return f"<p><b>{escape(text)}</b></p>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}".replace(",", "&#8239;")
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))


def table(values: Table) -> str:
    """The first rows of a table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in values.columns)
    rows = []
    for index, row in enumerate(values.rows()):
        if index == _ROWS:
            rows.append(f"<tr><td colspan={len(values)}>and {values.num_rows - _ROWS} more</td></tr>")
            break
        rows.append("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def pairs(title: str, values: Mapping[str, Any]) -> str:
    """Names and values."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{_cell(value)}</td></tr>" for name, value in values.items())
    return f"{heading(title)}<table><tbody>{rows}</tbody></table>"


def bar(parts: list[tuple[str, int]], total: int) -> str:
    """Parts of a whole as one bar, and what its colours are."""
    width, x = 640.0, 0.0
    boxes, legend = [], []
    for index, (name, count) in enumerate(part for part in parts if part[1]):
        colour, extent = _COLOURS[index % len(_COLOURS)], width * count / max(total, 1)
        label = f"{escape(name)} {100 * count / max(total, 1):.1f} %"
        boxes.append(f'<rect x="{x:.1f}" width="{extent:.1f}" height="24" fill="{colour}"><title>{label}</title></rect>')
        legend.append(f'<span style="color:{colour}">&#9632;</span> {label}')
        x += extent
    return (
        f'<svg width="{width:.0f}" height="24" role="img" aria-label="{escape(", ".join(name for name, _ in parts))}">'
        f"{''.join(boxes)}</svg><br>{' &nbsp; '.join(legend)}"
    )


def roofline(points: list[tuple[str, float, float]], macs_per_cycle: float, bytes_per_cycle: float) -> str:
    """MACs a cycle over MACs a byte, on logarithmic axes, under the roofs of array and memory port."""
    width, height, left, below = 640.0, 260.0, 50.0, 30.0
    low_x, high_x = -1.0, max([3.0] + [math.log10(x) for _, x, _ in points if x > 0])
    low_y, high_y = -1.0, math.log10(macs_per_cycle) + 0.3

    def at(x: float, y: float) -> tuple[float, float]:
        across = (min(max(math.log10(x), low_x), high_x) - low_x) / (high_x - low_x)
        up = (min(max(math.log10(y), low_y), high_y) - low_y) / (high_y - low_y)
        return left + across * (width - left - 10), (height - below) * (1 - up) + 5

    ridge = macs_per_cycle / bytes_per_cycle
    roof = " ".join(
        f"{x:.1f},{y:.1f}"
        for x, y in (
            at(10**low_x, 10**low_x * bytes_per_cycle),
            at(ridge, macs_per_cycle),
            at(10**high_x, macs_per_cycle),
        )
    )
    dots = []
    for index, (name, x, y) in enumerate(points):
        if x > 0 and y > 0:
            cx, cy = at(x, y)
            colour = _COLOURS[index % len(_COLOURS)]
            text = f"{escape(name)}: {y:.1f} MACs a cycle, {x:.1f} MACs a byte"
            dots.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="5" fill="{colour}"><title>{text}</title></circle>')
    axes = (
        f'<text x="{width / 2:.0f}" y="{height:.0f}" font-size="12">MACs a byte (log)</text>'
        f'<text x="2" y="14" font-size="12">MACs a cycle (log), peak {macs_per_cycle:.0f}</text>'
    )
    return (
        f'<svg width="{width:.0f}" height="{height + 5:.0f}" role="img" aria-label="roofline">'
        f'<polyline points="{roof}" fill="none" stroke="#333" stroke-width="2"/>{"".join(dots)}{axes}</svg>'
    )


def run(result: Run) -> str:
    """The card of a run."""
    document = result.document
    match = {None: "nothing compared", True: "results match", False: "results DIFFER"}[result.match]
    facts: dict[str, Any] = {
        "configuration": document["config"],
        "commands": document["commands"],
        "bytes in": document["bytes_in"],
        "bytes out": document["bytes_out"],
        "results": match,
    }
    if "cycles" not in document:
        return pairs("Functional run", {**facts, "MACs": document["macs"]})
    title = f"{document['cycles']:,} cycles".replace(",", " ")
    page = pairs(title, facts)
    report = document["report"]
    if report is None:
        return page
    mesh = next(block for block in report["blocks"] if block["block"] == "mesh")
    parts = [("busy", mesh["busy"])] + [(f"waits for {c['cause']}", c["cycles"]) for c in mesh["causes"]]
    parts += [("draining", mesh["draining"]), ("idle", mesh["idle"])]
    page += heading(f"The array: {100 * report['mesh']['utilisation']:.1f} % of its MACs")
    page += bar(parts, report["totals"]["cycles"])
    cycles, dma = max(document["cycles"], 1), report["dma"]
    points = [("whole run", *_intensity(report["mesh"]["macs"], document["bytes_in"] + document["bytes_out"], cycles))]
    for operation in report["operations"]:
        moved = operation["read_bytes"] + operation["written_bytes"]
        points.append((operation["name"], *_intensity(operation["macs"], moved, max(operation["cycles"], 1))))
    return page + heading("Roofline") + roofline(points, report["mesh"]["peak_macs_per_cycle"], dma["beat_bytes"])


def session(result: Session) -> str:
    """The present cycle: where the host is, what the blocks do, what happens."""
    view = result.view()
    operation = view["operation"]
    facts = {
        "operation": None if operation is None else operation["name"],
        "the host": view["host"]["position"],
        "next": "; ".join(view["host"]["next"][:3]),
        "events": "; ".join(view["events"]),
    }
    return pairs(f"Cycle {result.cycle}{', the end of the run' if view['ended'] else ''}", facts) + table(result.blocks)


def _intensity(macs: int, moved: int, cycles: int) -> tuple[float, float]:
    return macs / max(moved, 1), macs / cycles


def report(result: Report) -> str:
    """The card of a model's report."""
    document = result.document
    title = f"{document['title']} on {document['config']}: {result.cycles:,} cycles".replace(",", " ")
    parts = [(row["name"], row["cycles"]) for row in document["parts"]]
    points = [
        (row["name"], row["intensity"], row["macs"] / max(row["cycles"], 1)) for row in document["parts"] if row["macs"]
    ]
    return (
        heading(title)
        + bar(parts, result.cycles)
        + heading("Roofline")
        + roofline(points, document["macs_per_cycle"], document["bytes_per_cycle"])
        + table(result.parts)
    )
