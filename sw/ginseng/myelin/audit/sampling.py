"""Whether every example is sampled on its own, with the probability that is accounted for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, chi2

from ginseng.myelin.audit.finding import RARE, Finding

__all__ = ["audit_sampling"]


def audit_sampling(
    sample: Callable[[int], npt.NDArray[Any]],
    examples: int,
    probability: float,
    *,
    steps: int = 400,
) -> list[Finding]:
    """Sample many batches.

    Parameters
    ----------
    sample : callable
        From the number of a step to its batch.
    examples : int
        Of the dataset.
    probability : float
        What is accounted for.
    steps : int
        How many.

    """
    batches = [np.asarray(sample(step)) for step in range(steps)]
    sizes = np.array([len(batch) for batch in batches])
    often = float(binomtest(int(sizes.sum()), steps * examples, probability).pvalue)
    # A shuffled loader's batches are all of one size; those of independent examples are not.
    variance = examples * probability * (1 - probability)
    spread = float(np.sum((sizes - examples * probability) ** 2) / variance) if variance else 0.0
    tails = (chi2.cdf(spread, steps), chi2.sf(spread, steps)) if variance else (1.0, 1.0)
    return [
        Finding(
            audit="sampling",
            passed=often > RARE and all(len(set(b.tolist())) == len(b) for b in batches),
            measured=float(sizes.mean() / examples),
            limit=probability,
            detail=f"how often an example is sampled (binomial p {often:.2g})",
        ),
        Finding(
            audit="sampling is independent",
            passed=float(min(tails)) > RARE,
            measured=spread / steps,
            limit=1.0,
            detail=f"spread of batch sizes, of what independent examples have (p {min(tails):.2g})",
        ),
    ]
