"""`ginseng myelin`: differentially private training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from ginseng.cli.compile import load_arrays
from ginseng.cli.errors import UsageError
from ginseng.cli.output import JsonOption, Output
from ginseng.myelin.errors import MyelinError
from ginseng.myelin.graph import BATCH, load_graph, save_parameters

__all__ = ["application"]

_ModelArgument = Annotated[Path, typer.Argument(help="The model: .onnx, scores of classes.")]
_DataOption = Annotated[
    Path, typer.Option("--data", help="Private .npz: x (examples first) and y (classes).")
]
_EpsilonOption = Annotated[float, typer.Option("--epsilon", help="What training may cost.")]
_DeltaOption = Annotated[float, typer.Option("--delta", help="At which delta.")]
_BatchOption = Annotated[int, typer.Option("--batch", help="Examples in a step, on average.")]
_StepsOption = Annotated[int, typer.Option("--steps", help="How many.")]
_ClipOption = Annotated[float, typer.Option("--clip", help="Norm of an example's gradient.")]


def application() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(help="Differentially private training.", no_args_is_help=True)
    app.command("check")(_check)
    app.command("train")(_train)
    app.command("audit")(_audit)
    return app


class _Optimizer(StrEnum):
    """What follows the released gradients."""

    SGD = "sgd"
    ADAM = "adam"


def _train(
    model: _ModelArgument,
    data: _DataOption,
    epsilon: _EpsilonOption,
    delta: _DeltaOption,
    output_path: Annotated[Path, typer.Option("-o", "--output", help="The trained model, .onnx.")],
    batch: _BatchOption = 256,
    steps: _StepsOption = 120,
    clip: _ClipOption = 1.0,
    rate: Annotated[float, typer.Option("--learning-rate", help="Of the optimizer.")] = 0.5,
    momentum: Annotated[float, typer.Option("--momentum", help="Of sgd.")] = 0.9,
    optimizer: Annotated[
        _Optimizer, typer.Option("--optimizer", help="What follows the gradients.")
    ] = _Optimizer.SGD,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Keeps ledger and checkpoint; a run there goes on."),
    ] = None,
    validate: Annotated[
        Path | None, typer.Option("--validate", help="Public .npz: x and y, to tell accuracy.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model so that it says little of any one example."""
    with _extra():
        from ginseng.myelin.training.optimizer import Adam, Momentum
        from ginseng.myelin.training.train import Plan, accuracy, train

    output = Output(as_json)
    examples, labels = _load_data(data)
    held = _load_data(validate) if validate is not None else None
    follows = Adam(rate) if optimizer is _Optimizer.ADAM else Momentum(rate, momentum)
    plan = Plan(
        epsilon=epsilon, delta=delta, batch=batch, steps=steps, clip=clip, optimizer=follows
    )
    with output.progress("training", steps) as advance:
        shown = 0

        def progress(done: int) -> None:
            nonlocal shown
            for _ in range(done - shown):
                advance()
            shown = done

        trained = train(model, examples, labels, plan, folder=folder, progress=progress)
    save_parameters(model, trained.parameters, output_path)
    terms = trained.ledger.terms
    reached = accuracy(model, trained.parameters, *held) if held is not None else None
    output.say(
        f"epsilon {trained.ledger.epsilon:.4f} at delta {terms.delta:g} "
        f"({terms.neighbours.value}), {trained.ledger.done} steps, noise multiplier "
        f"{terms.multiplier:.4f}"
    )
    if reached is not None:
        output.say(f"accuracy on {validate}: {100 * reached:.2f} %")
    output.say(f"[green]written[/green]: {output_path}")
    output.document(
        {
            "steps": trained.ledger.done,
            "epsilon": trained.ledger.epsilon,
            "delta": terms.delta,
            "multiplier": terms.multiplier,
            "neighbours": terms.neighbours.value,
            "accuracy": reached,
            "ledger": trained.ledger.digest.hex(),
            "certificate": trained.certificate.hex(),
            "enclave": None,
        }
    )


def _audit(
    model: _ModelArgument,
    data: _DataOption,
    epsilon: _EpsilonOption,
    delta: _DeltaOption,
    batch: _BatchOption = 256,
    steps: _StepsOption = 120,
    clip: _ClipOption = 1.0,
    as_json: JsonOption = False,
) -> int:
    """Measure whether training keeps what it promises: sensitivity, noise, sampling, canaries."""
    with _extra():
        from ginseng.myelin.audit.audit import audit
        from ginseng.myelin.training.train import Plan

    output = Output(as_json)
    examples, labels = _load_data(data)
    plan = Plan(epsilon=epsilon, delta=delta, batch=batch, steps=steps, clip=clip)
    findings = audit(model, examples, labels, plan, progress=output.note)
    rows = [
        (
            finding.audit,
            "[green]passed[/green]" if finding.passed else "[red]FAILED[/red]",
            f"{finding.measured:.4g}",
            f"{finding.limit:.4g}",
            finding.detail,
        )
        for finding in findings
    ]
    output.table("Audits", ("audit", "", "measured", "claimed", "what"), rows)
    output.document({"findings": [asdict(finding) for finding in findings]})
    return 0 if all(finding.passed for finding in findings) else 1


@contextmanager
def _extra() -> Iterator[None]:
    """Say which extra a module comes with that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MyelinError(
            f"{error.name} is not installed; Myelin needs pip install 'ginseng[myelin]'"
        ) from None


def _load_data(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return examples and classes of a file.

    Raises
    ------
    UsageError
        If it has not both.

    """
    arrays = load_arrays(path)
    if set(arrays) != {"x", "y"}:
        raise UsageError(
            f"{path} has {', '.join(arrays) or 'no arrays'}; data have x, examples first, and y"
        )
    return np.asarray(arrays["x"]), np.asarray(arrays["y"])


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
