"""Poisson sampling: each example of the dataset is in a step's batch or not, on its own."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.stream import Stream

__all__ = ["PoissonSampler"]

_RANGE: Final = 1 << 64


@dataclass(frozen=True, kw_only=True)
class PoissonSampler:
    """Takes each of ``examples`` with probability ``threshold / 2**64``, by comparing integers.

    A comparison of floats would sample with another probability than is accounted for: 2**-24 is
    all that float32 tells apart.

    Attributes
    ----------
    examples : int
        Of the dataset. Their number is public.
    threshold : int
        From 1 to 2**64.

    Raises
    ------
    PrivacyError
        If a number is out of its range.

    """

    examples: int
    threshold: int

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise PrivacyError(f"PoissonSampler.examples is at least 1, not {self.examples}")
        if not 1 <= self.threshold <= _RANGE:
            raise PrivacyError(
                f"PoissonSampler.threshold is from 1 to 2**64, not {self.threshold}; it is the "
                f"sampling probability times 2**64"
            )

    @classmethod
    def expecting(cls, batch: int, examples: int) -> "PoissonSampler":
        """Return the sampler of batches of this size on average.

        Raises
        ------
        PrivacyError
            If there are not so many examples, or none are expected.

        """
        if not 1 <= batch <= examples:
            raise PrivacyError(f"Expected batch is from 1 to the {examples} examples, not {batch}")
        return cls(examples=examples, threshold=batch * _RANGE // examples)

    @property
    def probability(self) -> float:
        """Of each example, not less than it is."""
        return float(np.nextafter(self.threshold / _RANGE, 1)) if self.threshold < _RANGE else 1.0

    @property
    def expected(self) -> Fraction:
        """Examples in a batch, on average: what a sum is divided by, whatever its batch is."""
        return Fraction(self.threshold * self.examples, _RANGE)

    def sample(self, stream: Stream) -> npt.NDArray[np.intp]:
        """Return the indices of a batch, ascending; it may be empty, and counts all the same."""
        words = stream.words(self.examples)
        if self.threshold == _RANGE:
            return np.arange(self.examples)
        return np.flatnonzero(words < np.uint64(self.threshold))
