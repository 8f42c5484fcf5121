"""What commands show: tables and progress for people, one JSON document for programs."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["BoardOption", "JsonOption", "Output", "TraceOption"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TraceOption = Annotated[
    Path | None, typer.Option("--trace", help="Waveforms of board rtl: .fst, or .vcd (larger).")
]
BoardOption = Annotated[str, typer.Option("--board", help="Where to run: model, rtl, pynq, f2.")]


class Output:
    """Where one command's output goes.

    Parameters
    ----------
    as_json : bool
        Whether standard output is reserved for one JSON document.

    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)
        self._progress = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """Show one line."""
        self.console.print(text)

    def note(self, text: str) -> None:
        """Show one line of progress, on standard error."""
        self._progress.print(text)

    def waves(self, board: object) -> None:
        """Say where a board's waveforms go, if it writes any."""
        written = getattr(board, "waves", "")
        if written:
            self.note(f"waveforms: {written}")

    def document(self, tree: dict[str, Any]) -> None:
        """Print the JSON document, if that was asked for."""
        if self.as_json:
            json.dump(tree, sys.stdout, indent=1)
            sys.stdout.write("\n")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show a table; columns after the first are numbers, right-aligned."""
        table = Table(
            title=title or None, title_justify="left", title_style="bold", header_style="bold"
        )
        for n, column in enumerate(columns):
            table.add_column(column, justify="right" if n else "left")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.console.print(table)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Any]:
        """Show a progress bar on standard error; call the value once per step."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._progress,
            transient=True,
        )
        with bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
