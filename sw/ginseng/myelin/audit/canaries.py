"""What an adversary who sees every release finds out, in one run: a lower bound of epsilon.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run" (2023): of many canaries,
each is in the dataset by the toss of a coin; from what is released it is guessed of some whether
they are. More right guesses than an epsilon allows refute that epsilon.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from ginseng.myelin.audit.finding import Finding

__all__ = ["audit_canaries", "epsilon_from_guesses"]

_CONFIDENCE: Final = 0.99
_MOST: Final = 50.0


def epsilon_from_guesses(
    *, canaries: int, guesses: int, right: int, delta: float, confidence: float = _CONFIDENCE
) -> float:
    """Return the epsilon that so many right guesses refute everything below of (theorem 5.2)."""

    def chance(epsilon: float) -> float:
        of_one = 1 / (1 + math.exp(-epsilon))
        beta = float(binom.sf(right - 1, guesses, of_one))
        seen = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, of_one))
        alpha = float(np.max(seen / np.arange(1, right + 1), initial=0.0))
        return min(1.0, beta + 2 * canaries * delta * alpha)

    if chance(0.0) > 1 - confidence:
        return 0.0
    low, high = 0.0, _MOST
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) <= 1 - confidence else (low, middle)
    return low


def audit_canaries(
    run: Callable[[npt.NDArray[np.bool_]], npt.NDArray[Any]],
    *,
    canaries: int,
    guesses: int,
    epsilon: float,
    delta: float,
    rng: np.random.Generator,
) -> Finding:
    """Train once on canaries, and guess.

    Parameters
    ----------
    run : callable
        From whether each canary is in the dataset to a score for each, greater if it seems so.
    canaries, guesses : int
        How many there are, and of how many it is guessed: half of them those of the greatest
        scores, half those of the least.
    epsilon, delta : float
        What is claimed.
    rng : Generator
        Tosses the coins.

    """
    there = rng.random(canaries) < 0.5
    order = np.argsort(run(there))
    half = guesses // 2
    right = int(np.count_nonzero(~there[order[:half]]) + np.count_nonzero(there[order[-half:]]))
    found = epsilon_from_guesses(canaries=canaries, guesses=2 * half, right=right, delta=delta)
    return Finding(
        audit="canaries",
        passed=found <= epsilon,
        measured=found,
        limit=epsilon,
        detail=f"epsilon that {right} right guesses of {2 * half} refute all below of",
    )
