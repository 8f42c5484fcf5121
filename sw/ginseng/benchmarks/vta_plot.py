"""Rooflines as pictures: of `ginseng bench vta`, and of what `ginseng compile` expects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ginseng.benchmarks.plot import new_figure, save_figure
from ginseng.benchmarks.vta import CONFIG
from ginseng.isa.config import SystemConfig

__all__ = ["roofline"]


def roofline(
    path: Path, *, config: SystemConfig = CONFIG, title: str = "ResNet-18"
) -> Callable[[dict[str, Any]], None]:
    """Return the function that draws a document of `ginseng.benchmarks.vta.measure` into ``path``.

    Of the document it takes ``memory`` and ``runs``; layers that multiply nothing have no place.
    ``config`` is the build, ``title`` the network.

    Each layer is a point: multiply-accumulates done per byte that crossed the bus, and per cycle.
    The roof is the bus at a beat a cycle, then the array of multipliers.

    Raises
    ------
    BenchmarkError
        If Matplotlib is missing, or ``path`` is no PNG.

    """
    figure = new_figure(path, "roofline")

    def draw(document: dict[str, Any]) -> None:
        from matplotlib.ticker import ScalarFormatter

        axes = figure.add_subplot()
        peak, beat = config.core.macs, config.bus.beat_bytes
        points = [
            (
                run["memory"],
                row["name"],
                row["macs_done"] / row["bytes"],
                row["macs_done"] / row["cycles"],
            )
            for run in document["runs"]
            for row in run["layers"]
            if row["macs_done"]
        ]
        least = min(min(x for *_, x, _ in points), peak / beat) / 2
        most = max(max(x for *_, x, _ in points), peak / beat) * 2
        axes.plot([least, peak / beat, most], [least * beat, peak, peak], color="black", zorder=1)
        for memory in dict.fromkeys(memory for memory, *_ in points):
            x = [x for name, _, x, _ in points if name == memory]
            y = [y for name, *_, y in points if name == memory]
            axes.scatter(x, y, s=24, zorder=2, label=f"{memory} memory")
        for memory, name, *at in points:
            if memory == document["memory"]:
                axes.annotate(name, (at[0], at[1]), (4, -10), textcoords="offset points", size=8)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="multiply-accumulates per byte of the bus",
            ylabel="multiply-accumulates per cycle",
            title=f"{title} on {config.core.name}, {config.bus.protocol.name}, "
            f"{config.bus.data_bits} bit",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(ScalarFormatter())
        axes.legend(loc="lower right")
        axes.grid(which="both", alpha=0.3)
        save_figure(figure, path)

    return draw
