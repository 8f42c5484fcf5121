"""What `ginseng bench privacy` measures, as a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ginseng.benchmarks.plot import new_figure, save_figure

__all__ = ["curves"]


def curves(path: Path) -> Callable[[dict[str, Any]], None]:
    """Return the function that draws a document of `ginseng.benchmarks.privacy.measure`.

    Of each model, the mean accuracy of all seeds, and from lowest to highest, against epsilon.

    Raises
    ------
    BenchmarkError
        If Matplotlib is missing, or ``path`` is no PNG.

    """
    figure = new_figure(path, "plot of accuracy against epsilon", size=(7, 5))

    def draw(document: dict[str, Any]) -> None:
        axes = figure.subplots()
        for model in dict.fromkeys(row["model"] for row in document["rows"]):
            rows = [row for row in document["rows"] if row["model"] == model]
            places = [row["epsilon"] for row in rows]
            mean, low, high = (
                [100 * row[key] for row in rows] for key in ("accuracy", "lowest", "highest")
            )
            axes.plot(places, mean, marker="o", label=model)
            axes.fill_between(places, low, high, alpha=0.2)
        axes.set_xscale("log")
        axes.set_xlabel(f"epsilon at delta {document['rows'][0]['delta']:g}")
        axes.set_ylabel(f"accuracy on {document['held']} digits held back, %")
        axes.set_title(f"{document['examples']} digits, {document['seeds']} seeds")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        save_figure(figure, path)

    return draw
