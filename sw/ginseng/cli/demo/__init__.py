"""`ginseng demo`: the whole story on real data."""

from typing import Annotated

import typer

from ginseng.cli.errors import UsageError
from ginseng.cli.output import BoardOption, JsonOption, Output, TraceOption

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        board: BoardOption = "model",
        trace: TraceOption = None,
        images: Annotated[int, typer.Option(help="Held-back images to run.", min=1, max=360)] = 360,
        as_json: JsonOption = False,
    ) -> None:
        """Compile, attest, seal, run and open on real data, then attacks that must fail."""
        try:
            from ginseng.cli.demo.story import Story
        except ModuleNotFoundError as error:
            raise UsageError(
                f"The demo needs {error.name}, which is not installed; pip install 'ginseng[demo]'"
            ) from None
        output = Output(as_json)
        document = Story(board, images=images, output=output, trace=trace).tell()
        output.document(document)
        if document["accuracy_device"] < document["accuracy_float"] - 0.01:
            raise UsageError("The device lost more than a point of accuracy; this is a defect")
        if document["blocks_in_clear"] or document["control"]["outcome"] != "silent":
            raise UsageError("Plaintext was found in DRAM, or the control had no effect")
