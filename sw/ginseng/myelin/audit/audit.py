"""All the audits of a plan, on the mechanism that `ginseng.myelin.training.train` runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ginseng.myelin.audit.canaries import audit_canaries
from ginseng.myelin.audit.finding import Finding
from ginseng.myelin.audit.neighbours import audit_neighbours
from ginseng.myelin.audit.noise import audit_noise
from ginseng.myelin.audit.sampling import audit_sampling
from ginseng.myelin.graph import load_graph
from ginseng.myelin.privacy.ledger import Terms
from ginseng.myelin.privacy.sampler import PoissonSampler
from ginseng.myelin.privacy.stream import RunKey
from ginseng.myelin.training.gradient import ExampleGradient
from ginseng.myelin.training.train import Plan

__all__ = ["audit"]

_CANARIES: Final = 1000
#: Of so many it is guessed.
_GUESSES: Final = 200
#: Of the noise, steps and values to look at, at least.
_STEPS: Final = 16
_VALUES: Final = 20_000
#: Examples that are left out in turn.
_NEIGHBOURS: Final = 24


def audit(
    model: Path,
    examples: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    plan: Plan,
    *,
    seed: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Finding]:
    """Measure sensitivity, noise, sampling, and what one run gives away.

    The numbers say what is private of these examples: they are for the owner.

    Parameters
    ----------
    model : Path
        As of `ginseng.myelin.training.train.train`.
    examples, labels : ndarray
        As of that.
    plan : Plan
        As of that.
    seed : int or None
        Of the choice of examples, weights and coins, for tests; keys are always new.
    progress : callable
        Called with the name of each audit.

    Raises
    ------
    MyelinError
        If the model cannot be trained, or the budget is too small.

    """
    rng = np.random.default_rng(seed)
    terms = plan.terms(len(examples))
    gradient = ExampleGradient(load_graph(model, batch=1, alone=True))
    # Weights that are nowhere in particular: gradients are long, and are clipped.
    weights = [rng.normal(0, 1, part.shape).astype(np.float32) for part in gradient.initial]
    bound = gradient.bind(weights)
    grid = terms.grid

    def total(batch: Sequence[int]) -> list[npt.NDArray[np.int64]]:
        return grid.total((bound(examples[n], int(labels[n])) for n in batch), weights)

    progress("neighbours")
    chosen = rng.permutation(len(examples))[:_NEIGHBOURS].tolist()
    findings = [audit_neighbours(total, chosen, float(grid.bound))]

    progress("noise")
    totals, key = total(chosen), RunKey()
    scale = terms.clip / grid.bound / float(terms.sampler.expected)

    def release(step: int) -> list[npt.NDArray[np.float32]]:
        return terms.release(totals, key=key, step=step, names=gradient.names)

    sigma = terms.multiplier * grid.bound * scale
    exact = [part * scale for part in totals]
    steps = max(_STEPS, _VALUES // sum(part.size for part in exact))
    findings += audit_noise(release, exact, sigma, steps=steps)

    progress("sampling")
    findings += audit_sampling(
        lambda step: terms.sampler.sample(key.stream(step, "sample")),
        terms.examples,
        terms.threshold / 2**64,
    )

    progress("canaries")
    findings.append(
        audit_canaries(
            lambda there: _canary_run(terms, there),
            canaries=_CANARIES,
            guesses=_GUESSES,
            epsilon=plan.epsilon,
            delta=plan.delta,
            rng=rng,
        )
    )
    return findings


def _canary_run(terms: Terms, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return how far all the releases of a run go along each canary.

    A canary's gradient is as long as may be, in a direction of its own, at every step: nobody can
    show more.
    """
    grid, key = terms.grid, RunKey()
    sampler = PoissonSampler(examples=len(there), threshold=terms.threshold)
    scores = np.zeros(len(there))
    for step in range(terms.steps):
        batch = sampler.sample(key.stream(step, "sample"))
        totals = [np.zeros(len(there), np.int64)]
        for n in batch[there[batch]]:
            canary = np.zeros(len(there), np.float32)
            canary[n] = 2 * terms.clip
            totals[0] += grid.quantise([canary])[0]
        scores += terms.release(totals, key=key, step=step, names=["canaries"])[0]
    return scores
