"""Pictures of measurements: one PNG each, drawn by Matplotlib."""

from pathlib import Path
from typing import Any

from ginseng.benchmarks.errors import BenchmarkError

__all__ = ["new_figure", "save_figure"]


def new_figure(path: Path, what: str, *, size: tuple[float, float] = (8, 5)) -> Any:
    """Return an empty ``matplotlib.figure.Figure`` of ``size`` inches for the file ``path``.

    Raises
    ------
    BenchmarkError
        If Matplotlib is missing, or ``path`` is no PNG; ``what`` says what it would be of.

    """
    if path.suffix != ".png":
        raise BenchmarkError(f"The {what} is a PNG, {path} has another suffix; name it .png")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise BenchmarkError(
            f"A {what} is drawn by Matplotlib, which is missing; pip install 'ginseng[plot]'"
        ) from None
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure.

    Raises
    ------
    BenchmarkError
        If the file cannot be written.

    """
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be written: {error.strerror}") from None
