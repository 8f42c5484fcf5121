"""`ginseng myelin`: differentially private training."""

from pathlib import Path
from typing import Annotated

import typer

from ginseng.cli.errors import UsageError
from ginseng.cli.output import JsonOption, Output
from ginseng.myelin.graph import BATCH, load_graph

__all__ = ["application"]


def application() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(
        help="Differentially private training: the checker of graphs.", no_args_is_help=True
    )
    app.command("check")(_check)
    for name, what in (
        ("train", "training"),
        ("audit", "auditing a training run"),
    ):
        _planned(app, name, what)
    return app


def _check(
    model: Annotated[Path, typer.Argument(help="The model: .onnx, .pt2 or Relax as .json.")],
    examples: Annotated[
        list[str] | None,
        typer.Option("--examples", help="An input that holds examples; all, if the model says."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Examples, where the model leaves that open.")
    ] = BATCH,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Write it there, if there is one.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check that each result of a model depends on one example only, or name what mixes them."""
    # Imported here: checking needs TVM.
    from ginseng.myelin.checker.certificate import certify

    graph = load_graph(model, examples=examples or (), batch=batch)
    checked = certify(graph)
    verdict = checked.verdict
    output = Output(as_json)
    if verdict.accepted:
        output.say(
            f"[green]accepted[/green]: {graph.name}, {graph.batch} examples in "
            f"{', '.join(graph.examples)}; {len(verdict.operators)} kinds of operators"
        )
    else:
        output.say(f"[red]refused[/red]: {verdict.node}: {verdict.reason}")
    encoded = checked.certificate
    if encoded is not None and certificate is not None:
        try:
            certificate.write_bytes(encoded)
        except OSError as error:
            raise UsageError(
                f"{certificate} cannot be written: {error.strerror or error}"
            ) from None
    output.document(
        {
            "accepted": verdict.accepted,
            "node": verdict.node,
            "reason": verdict.reason,
            "certificate": encoded.hex() if encoded is not None else None,
        }
    )
    return 0 if verdict.accepted else 1


def _planned(app: typer.Typer, name: str, what: str) -> None:
    @app.command(
        name,
        hidden=True,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def planned() -> None:
        raise UsageError(f"'ginseng myelin {name}' ({what}) is not built yet; see CHANGELOG.md")
