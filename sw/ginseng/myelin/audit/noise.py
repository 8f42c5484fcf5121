"""Whether the noise is as large as is claimed, Gaussian, and new in every step."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, kstest

from ginseng.myelin.audit.finding import RARE, Finding

__all__ = ["audit_noise"]


def audit_noise(
    release: Callable[[int], Sequence[npt.NDArray[Any]]],
    exact: Sequence[npt.NDArray[Any]],
    sigma: float,
    *,
    steps: int = 16,
) -> list[Finding]:
    """Release one sum in many steps, and look at what is not the sum.

    Parameters
    ----------
    release : callable
        From the number of a step to what that releases of the sum.
    exact : sequence of ndarray
        The sum, in the units of what is released.
    sigma : float
        What the noise's deviation is claimed to be, in those units.
    steps : int
        How often.

    """
    rows = []
    for step in range(steps):
        parts = zip(release(step), exact, strict=True)
        rows.append(np.concatenate([(np.asarray(a, np.float64) - b).ravel() for a, b in parts]))
    noise = np.stack(rows)
    shape = float(kstest(noise.ravel() / sigma, "norm").pvalue)
    squares = float(np.sum((noise / sigma) ** 2))
    size = 2 * float(min(chi2.cdf(squares, noise.size), chi2.sf(squares, noise.size)))
    # Of two steps, and of two halves of one: independent noise hardly agrees.
    half = noise.shape[1] // 2
    pairs = [*zip(noise[1:], noise[:-1], strict=True)]
    pairs += [(row[:half], row[half : 2 * half]) for row in noise] if half > 1 else []
    alike = max(abs(float(a @ b)) / (sigma**2 * math.sqrt(len(a))) for a, b in pairs)
    return [
        Finding(
            audit="noise",
            passed=min(shape, size) > RARE,
            measured=float(noise.std() / sigma),
            limit=1.0,
            detail=f"deviation in units of what is claimed (of that p {size:.2g}, of its shape "
            f"by Kolmogorov and Smirnov {shape:.2g})",
        ),
        Finding(
            audit="noise is new",
            passed=alike < 8,
            measured=alike,
            limit=8.0,
            detail="how much the noise of two steps or tensors is alike, in deviations",
        ),
    ]
