"""One call that couples sampler, gradients, clip, noise, ledger and optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ginseng.myelin.checker.certificate import certify, write_certificate
from ginseng.myelin.errors import MyelinError, PrivacyError
from ginseng.myelin.graph import BATCH, load_graph
from ginseng.myelin.privacy.accountant import Neighbours, calibrate
from ginseng.myelin.privacy.ledger import Ledger, Terms
from ginseng.myelin.privacy.sampler import PoissonSampler
from ginseng.myelin.privacy.stream import RunKey
from ginseng.myelin.training.checkpoint import Checkpoint
from ginseng.myelin.training.gradient import ExampleGradient
from ginseng.myelin.training.optimizer import Momentum, Optimizer

__all__ = ["Plan", "Trained", "accuracy", "train"]

Array = npt.NDArray[Any]

_LEDGER, _CHECKPOINT = "ledger", "checkpoint.npz"
#: Grid bits; the noise is as many units as the multiplier times 2**20.
_BITS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train.

    Attributes
    ----------
    epsilon, delta : float
        What all of it may cost.
    batch : int
        Examples in a step, on average.
    steps : int
    clip : float
        The norm that one example adds to a sum, at most.
    optimizer : Optimizer
    neighbours : Neighbours

    """

    epsilon: float
    delta: float
    batch: int
    steps: int
    clip: float = 1.0
    optimizer: Optimizer = field(default_factory=lambda: Momentum(0.5, 0.9))
    neighbours: Neighbours = Neighbours.ADD_REMOVE

    def terms(self, examples: int) -> Terms:
        """Return the terms for a dataset, with the least noise that they allow.

        Raises
        ------
        PrivacyError
            If no noise is enough, or a number is out of its range.

        """
        sampler = PoissonSampler.expecting(self.batch, examples)
        multiplier = calibrate(
            epsilon=self.epsilon,
            delta=self.delta,
            probability=sampler.probability,
            steps=self.steps,
            neighbours=self.neighbours,
        )
        return Terms(
            epsilon=self.epsilon,
            delta=self.delta,
            steps=self.steps,
            multiplier=multiplier,
            clip=float(self.clip),
            bits=_BITS,
            examples=examples,
            threshold=sampler.threshold,
            neighbours=self.neighbours,
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What may leave.

    Attributes
    ----------
    parameters : dict of str to ndarray
        By their names in the graph.
    ledger : Ledger
    certificate : bytes
        Canonical CBOR (`ginseng.myelin.checker.certificate`).

    """

    parameters: dict[str, Array] = field(repr=False)
    ledger: Ledger
    certificate: bytes = field(repr=False)


def train(
    model: Path,
    examples: Array,
    labels: Array,
    plan: Plan,
    *,
    folder: Path | None = None,
    key: RunKey | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trained:
    """Train a classifier so that what it becomes says little of any one example.

    The graph is checked first. Each step samples, sums clipped gradients on the grid, is recorded
    in the ledger, and releases the noisy mean; nothing else leaves. How many examples were sampled,
    how large their losses were, and how many gradients were not finite, is not told.

    Parameters
    ----------
    model : Path
        ONNX, from one float input with an open batch to scores of shape (batch, classes).
    examples : float array of shape (n, *input shape)
        Their number is public.
    labels : int array of shape (n,)
        Their classes.
    plan : Plan
        The budget, and how it is spent.
    folder : Path or None
        Keeps ledger and checkpoint; a run that is there goes on. A step that was spent, and not
        complete when it was killed, is not done again.
    key : RunKey or None
        For tests: the same key gives the same model. By default, of the operating system.
    progress : callable or None
        Called with the number of steps done, after each.

    Raises
    ------
    MyelinError
        If the model cannot be trained, or the data do not fit it.
    PrivacyError
        If the graph mixes examples, the budget is too small, or the folder has another run.

    """
    graph = load_graph(model, batch=BATCH)
    checked = certify(graph)
    if not checked.verdict.accepted:
        raise PrivacyError(
            f"{model} is not trained: {checked.verdict.node}: {checked.verdict.reason}"
        )
    gradient = ExampleGradient(load_graph(model, batch=1, alone=True))
    _check_data(model, gradient, examples, labels)
    terms = plan.terms(len(examples))
    certificate = write_certificate(graph, checked.verdict, terms)
    initial = gradient.initial
    at = Checkpoint([part.copy() for part in initial], plan.optimizer.start(initial))
    ledger = Ledger(terms)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        ledger, at = _go_on(folder, terms, at)
    key = key or RunKey(first_step=ledger.done)
    grid = terms.grid
    while ledger.done < terms.steps:
        step = ledger.spend()
        bound = gradient.bind(at.parameters)
        batch = terms.sampler.sample(key.stream(step, "sample"))
        totals = grid.total((bound(examples[n], int(labels[n])) for n in batch), like=at.parameters)
        released = terms.release(totals, key=key, step=step, names=gradient.names)
        plan.optimizer.step(at.parameters, released, at.state)
        if folder is not None:
            at.save(folder / _CHECKPOINT)
        if progress is not None:
            progress(ledger.done)
    reached = plan.optimizer.result(at.parameters, at.state)
    return Trained(
        parameters=dict(zip(gradient.names, reached, strict=True)),
        ledger=ledger,
        certificate=certificate,
    )


def accuracy(model: Path, parameters: Mapping[str, Array], examples: Array, labels: Array) -> float:
    """Return on which part of public examples a model is right.

    Raises
    ------
    MyelinError
        If they do not fit the model.

    """
    gradient = ExampleGradient(load_graph(model, batch=1, alone=True))
    _check_data(model, gradient, examples, labels)
    scores = gradient.scores([parameters[name] for name in gradient.names], examples)
    return float(np.mean(scores.argmax(axis=1) == labels)) if len(labels) else float("nan")


def _check_data(model: Path, gradient: ExampleGradient, examples: Array, labels: Array) -> None:
    """Refuse data that do not fit the model, before any of it is used.

    Raises
    ------
    MyelinError
        If they do not.

    """
    if examples.ndim < 1 or examples.shape[1:] != gradient.shape:
        raise MyelinError(
            f"Examples have shape {examples.shape[1:]}; {model} takes {gradient.shape}"
        )
    if examples.dtype.kind not in "fiu":
        raise MyelinError(f"Examples are numbers, not {examples.dtype}")
    if labels.shape != (len(examples),) or labels.dtype.kind not in "iu":
        raise MyelinError(
            f"Labels are one integer for each of the {len(examples)} examples, not "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < gradient.classes):
        raise MyelinError(
            f"Labels are from 0 to {gradient.classes - 1}, the classes of {model}; one is not"
        )


def _go_on(folder: Path, terms: Terms, fresh: Checkpoint) -> tuple[Ledger, Checkpoint]:
    """Return ledger and state of the run in a folder, or of a new one.

    Raises
    ------
    PrivacyError
        If the run there has other terms.

    """
    path = folder / _LEDGER
    if not path.exists():
        return Ledger(terms, path), fresh
    ledger = Ledger.open(path)
    if ledger.terms != terms:
        raise PrivacyError(
            f"{folder} has a run with other terms; go on with those, or take another folder"
        )
    checkpoint = folder / _CHECKPOINT
    return ledger, Checkpoint.load(checkpoint, fresh) if checkpoint.exists() else fresh
