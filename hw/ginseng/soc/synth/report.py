"""The report of a synthesis: a document for programs and tables for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from ginseng.soc.synth.area import DEVICE, PERIOD_NS, TARGET, Area
from ginseng.soc.synth.delays import NET_NS
from ginseng.soc.synth.flow import Synthesis, block_of
from ginseng.soc.synth.timing import Path

__all__ = ["document", "show"]

_COLUMNS = ("lut", "lutram", "ff", "dsp", "bram36", "carry4")


def document(
    result: Synthesis,
    paths: Sequence[Path],
    *,
    limits: Mapping[str, float],
    count: int,
    digest: str,
    tool: str,
) -> dict[str, Any]:
    """Return the report as one JSON document.

    Parameters
    ----------
    result : Synthesis
        Areas and netlist.
    paths : sequence of Path
        Slowest first.
    limits : mapping of str to float
        Of the total, by column.
    count : int
        How many paths to give with their cells.
    digest : str
        Of the configuration.
    tool : str
        What synthesised it.

    """
    per_block: dict[str, float] = {}
    for path in paths:
        block = block_of(path.end, result.blocks)
        per_block[block] = max(per_block.get(block, 0), path.ns)
    return {
        "target": TARGET,
        "config": digest,
        "tool": tool,
        "blocks": [{"name": name, **asdict(area)} for name, area in result.blocks.items()],
        "total": asdict(result.total),
        "device": asdict(DEVICE),
        "limits": dict(limits),
        "timing": {
            "what": f"estimate: data-sheet delays and {NET_NS} ns a net, not sign-off",
            "period_ns": PERIOD_NS,
            "worst_ns": paths[0].ns if paths else 0.0,
            "failing": sum(path.ns > PERIOD_NS for path in paths),
            "blocks": [
                {"name": name, "worst_ns": ns}
                for name, ns in sorted(per_block.items(), key=lambda item: -item[1])
            ],
            "paths": [
                {"block": block_of(path.end, result.blocks), **asdict(path)}
                for path in paths[:count]
            ],
        },
    }


def _area_table(report: Mapping[str, Any]) -> Table:
    table = Table(title=f"Area by block, {report['target']}: synthesis, before packing")
    table.add_column("block")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    rows = {row["name"]: Area(**{c: row[c] for c in _COLUMNS}) for row in report["blocks"]}
    for name in sorted(rows):
        area = rows[name]
        if any(getattr(area, column) for column in _COLUMNS):
            table.add_row("  " * name.count(".") + name, *(_number(area, c) for c in _COLUMNS))
    table.add_section()
    summed = sum(rows.values(), Area())
    total, device = Area(**report["total"]), Area(**report["device"])
    table.add_row("blocks apart, summed", *(_number(summed, c) for c in _COLUMNS))
    table.add_row("[bold]whole, flattened", *(_number(total, c) for c in _COLUMNS))
    table.add_row("device", *(_number(device, c) for c in _COLUMNS))
    table.add_row(
        "share", *(f"{100 * getattr(total, c) / getattr(device, c):.1f} %" for c in _COLUMNS)
    )
    limits = report["limits"]
    table.add_row("limit", *(f"{limits[c]:,}" if c in limits else "" for c in _COLUMNS))
    return table


def _number(area: Area, column: str) -> str:
    value = getattr(area, column)
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _endpoint_table(timing: Mapping[str, Any]) -> Table:
    table = Table(title=f"Slowest ends by block; {timing['what']}")
    for column, side in (("block", "left"), ("ns", "right"), ("cells", "right")):
        table.add_column(column, justify="right" if side == "right" else "left")
    table.add_column("from")
    table.add_column("to")
    for path in sorted(timing["paths"], key=lambda path: (path["block"], -path["ns"])):
        table.add_row(
            path["block"], f"{path['ns']:.2f}", str(path["levels"]), path["start"], path["end"]
        )
    return table


def _path_table(path: Mapping[str, Any]) -> Table:
    table = Table(title=f"{path['ns']:.2f} ns from {path['start']} to {path['end']}")
    for column in ("net", "cell", "total"):
        table.add_column(column, justify="right")
    for column in ("primitive", "through", "signal", "source"):
        table.add_column(column)
    for step in path["steps"]:
        table.add_row(
            f"{step['net_ns']:.2f}",
            f"{step['cell_ns']:.2f}",
            f"{step['total_ns']:.2f}",
            step["kind"],
            step["pins"],
            step["signal"],
            step["source"],
        )
    return table


def _ecp5_table(blocks: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        title="Placed and routed on an ECP5-85 at speed grade 6; says little of the 7 series"
    )
    for column in ("block", "MHz", "comb", "ff", "mult18"):
        table.add_column(column, justify="left" if column == "block" else "right")
    for block in blocks:
        numbers = (f"{block[column]:,}" for column in ("comb", "ff", "mult18"))
        table.add_row(block["name"], f"{block['mhz']:.1f}", *numbers)
    return table


def show(report: Mapping[str, Any], console: Console, *, detailed: int = 3) -> None:
    """Print the report; the cells of the ``detailed`` slowest paths.

    Parameters
    ----------
    report : mapping
        What `document` returned.
    console : Console
        Where.
    detailed : int
        Paths.

    """
    timing = report["timing"]
    console.print(_area_table(report))
    console.print(_endpoint_table(timing))
    for path in timing["paths"][:detailed]:
        console.print(_path_table(path))
    if "ecp5" in report:
        console.print(_ecp5_table(report["ecp5"]))
    console.print(
        f"Longest path {timing['worst_ns']:.2f} ns of {timing['period_ns']:g}; "
        f"{timing['failing']} ends are later. {timing['what']}."
    )
