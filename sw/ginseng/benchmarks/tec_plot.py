"""What `ginseng bench tec` measures, as a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ginseng.benchmarks.plot import new_figure, save_figure

__all__ = ["overheads"]

#: The targets: geometric mean, and worst layer (TEC specification §1).
_TARGETS: Final = (2, 5)
_SUBJECTS: Final = (("cycle_ratio", "cycles"), ("byte_ratio", "bytes of the bus"))


def overheads(path: Path) -> Callable[[dict[str, Any]], None]:
    """Return the function that draws a document of `ginseng.benchmarks.tec.measure` into ``path``.

    For cycles and for bytes: what the TEC adds, in percent, one bar per row and memory; geometric
    means and targets as lines.

    Raises
    ------
    BenchmarkError
        If Matplotlib is missing, or ``path`` is no PNG.

    """
    figure = new_figure(path, "plot of overheads", size=(9, 6))

    def draw(document: dict[str, Any]) -> None:
        panels = figure.subplots(len(_SUBJECTS), sharex=True)
        runs = document["runs"]
        names = [row["name"] for row in document["rows"]]
        width = 0.8 / len(runs)
        for axes, (key, label) in zip(panels, _SUBJECTS, strict=True):
            for n, run in enumerate(runs):
                added = [100 * (row[key] - 1) for row in run["rows"]]
                mean = 100 * (run[label.split()[0]]["all"] - 1)
                places = [at + (n - (len(runs) - 1) / 2) * width for at in range(len(names))]
                axes.bar(places, added, width, label=f"{run['memory']} memory, mean {mean:+.2f} %")
            for target in _TARGETS:
                axes.axhline(target, color="black", linewidth=0.8, linestyle="dotted")
            axes.axhline(0, color="black", linewidth=0.8)
            axes.set_ylabel(f"{label}, added in %")
            axes.legend()
        panels[0].set_title(f"The TEC on {document['config']}, {document['bus']}")
        panels[-1].set_xticks(range(len(names)), names)
        save_figure(figure, path)

    return draw
