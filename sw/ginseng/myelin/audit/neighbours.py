"""Whether one example more moves a sum by no more than the norm it is clipped to."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ginseng.myelin.audit.finding import Finding

__all__ = ["audit_neighbours"]

Arrays = Sequence[npt.NDArray[Any]]


def audit_neighbours(
    total: Callable[[Sequence[int]], Arrays], batch: Sequence[int], bound: float
) -> Finding:
    """Leave out each example of a batch in turn, without noise.

    Parameters
    ----------
    total : callable
        From the examples of a batch to the sum that noise is added to. It computes all of it
        again, from the examples on: what one example does to another's gradient is seen.
    batch : sequence of int
        The examples.
    bound : float
        What the norm of a difference must not pass.

    """
    whole = total(batch)
    largest = 0.0
    for n in range(len(batch)):
        without = total([*batch[:n], *batch[n + 1 :]])
        squares = sum(
            float(np.sum((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
            for a, b in zip(whole, without, strict=True)
        )
        largest = max(largest, math.sqrt(squares))
    return Finding(
        audit="neighbours",
        # float64 of the difference of integers, rounded once each.
        passed=largest <= bound * (1 + 1e-12),
        measured=largest / bound,
        limit=1.0,
        detail=f"how far one of {len(batch)} examples moves the sum, in units of the clip",
    )
