"""What calibration keeps of a value: its ends and a histogram, however many samples it sees."""

from math import frexp
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram"]

#: Over the whole range: at least 16 for a step of the coarsest scale that a search looks at.
_BINS: Final = 4096


class Histogram:
    """Counts of the elements that were added, over a range that doubles when they leave it.

    The range is ``-reach .. reach``, a power of two, so that a doubling merges bins in pairs and
    loses nothing. Zeros, of which activations make many, are counted apart: every scale has them
    exactly.

    Attributes
    ----------
    lo, hi : float
        Least and greatest element; not a number once an element was not finite.
    zeros : int
        Elements that are 0.
    counts : int64 array
        Of the others, by bin from ``-reach`` upward.
    reach : float

    """

    def __init__(self) -> None:
        self.lo = np.inf
        self.hi = -np.inf
        self.zeros = 0
        self.reach = 0.0
        self.counts: NDArray[np.int64] = np.zeros(_BINS, np.int64)

    @classmethod
    def of(cls, array: NDArray[np.floating]) -> "Histogram":
        """Return the histogram of one array."""
        histogram = cls()
        histogram.add(array)
        return histogram

    @property
    def total(self) -> int:
        """How many elements were added."""
        return self.zeros + int(self.counts.sum())

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        width = 2 * self.reach / _BINS
        return np.asarray(-self.reach + width * (np.arange(_BINS) + 0.5), np.float64)

    def add(self, array: NDArray[np.floating]) -> None:
        """Count the elements of ``array``."""
        flat = array.ravel()
        lo, hi = float(flat.min()), float(flat.max())
        if not np.isfinite([lo, hi]).all():
            self.lo = self.hi = np.nan
            return
        # What is not a number stays so: no comparison with it holds.
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        kept = flat[flat != 0].astype(np.float64)
        self.zeros += len(flat) - len(kept)
        if not len(kept):
            return
        self._widen(max(-lo, hi))
        places = ((kept + self.reach) * (_BINS / (2 * self.reach))).astype(np.int64)
        self.counts += np.bincount(places.clip(0, _BINS - 1), minlength=_BINS)

    def _widen(self, magnitude: float) -> None:
        """Double the range until it has ``magnitude``."""
        if magnitude <= self.reach:
            return
        mantissa, exponent = frexp(magnitude)
        reach = 2.0 ** (exponent - (mantissa == 0.5))
        while self.reach and self.reach < reach:
            quarter = _BINS // 4
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(merged, quarter)
            self.reach *= 2
        self.reach = reach
