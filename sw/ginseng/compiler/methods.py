"""Calibration methods: how what was seen of a value becomes its power-of-two scale."""

from collections.abc import Callable
from functools import partial
from math import floor, log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.graph import INT8
from ginseng.compiler.histogram import Histogram

__all__ = [
    "ShiftRule",
    "calibration_method",
    "fitting",
    "mean_squared_error",
    "min_max",
    "percentile",
]

#: Chooses a shift for what was seen of a value.
ShiftRule = Callable[[Histogram], int]

#: Shifts beyond are those of constants that are zero but for rounding.
_SHIFTS: Final = (-24, 31)
#: How far beyond the scale of the whole range a search looks: clipping all but 1/64 of it.
_FINER: Final = 6


def fitting(magnitude: float) -> int:
    """Return the greatest shift at which ``magnitude`` does not saturate."""
    if magnitude == 0:
        return INT8[1].bit_length()
    shift = floor(log2((INT8[1] + 0.5) / magnitude))
    return min(max(shift, _SHIFTS[0]), _SHIFTS[1])


def min_max(seen: Histogram) -> int:
    """Return the greatest shift at which nothing that was seen saturates."""
    return fitting(max(-seen.lo, seen.hi))


def percentile(seen: Histogram, share: float) -> int:
    """Return the greatest shift at which at least ``share`` per cent of what was seen fits.

    Magnitudes count, zeros among them.
    """
    folded = seen.counts[len(seen.counts) // 2 :] + seen.counts[: len(seen.counts) // 2][::-1]
    reached = seen.zeros + np.cumsum(folded)
    needed = share / 100 * seen.total
    if seen.zeros >= needed:
        return min_max(seen)
    bins = int(np.searchsorted(reached, needed))
    edge = (min(bins, len(folded) - 1) + 1) * seen.reach / len(folded)
    return max(min_max(seen), fitting(edge))


def mean_squared_error(seen: Histogram) -> int:
    """Return the shift with the least mean squared error of rounding and saturation together."""
    coarsest = min_max(seen)
    finest = min(coarsest + _FINER, _SHIFTS[1])
    return min(range(coarsest, finest + 1), key=partial(_error, seen.centres, seen.counts))


def _error(values: NDArray[np.float64], counts: NDArray[np.int64], shift: int) -> float:
    """Return the summed squared error of ``values`` in int8 at ``shift``."""
    scaled = np.ldexp(values, shift)
    return float((counts * np.ldexp(scaled - np.rint(scaled).clip(*INT8), -shift) ** 2).sum())


def calibration_method(text: str) -> ShiftRule:
    """Return the method of that name: ``minmax``, ``percentile:SHARE`` or ``mse``.

    Raises
    ------
    CompilerError
        If there is none.

    """
    name, _, parameter = text.partition(":")
    if name == "percentile":
        try:
            share = float(parameter)
        except ValueError:
            share = 0.0
        if 50 <= share <= 100:
            return partial(percentile, share=share)
    elif text in _METHODS:
        return _METHODS[text]
    raise CompilerError(
        f"There is no calibration method {text}; use minmax, mse, or percentile:SHARE with a "
        "share from 50 to 100, such as percentile:99.9"
    )


_METHODS: Final[dict[str, ShiftRule]] = {"minmax": min_max, "mse": mean_squared_error}
