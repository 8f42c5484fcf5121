"""Gradients of examples become whole numbers of bounded norm, whose sum is exact."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.noise import rounded_gaussian
from ginseng.myelin.privacy.stream import RunKey

__all__ = ["Grid"]

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]

#: Each time that rounding leaves a norm above the bound, and it is made so much less.
_LESS = 1 - 2.0**-20


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Multiples of ``clip / 2**bits``.

    Rounding is towards zero, so it makes no norm greater, and the norm of what was rounded is
    compared as an integer: the sensitivity of a sum is ``2**bits`` to the last digit, with no slack
    for floats, whatever computed the gradients.

    Attributes
    ----------
    clip : float
        The norm that one example adds to a sum, at most.
    bits : int
        From 8 to 30.

    Raises
    ------
    PrivacyError
        If one is out of its range.

    """

    clip: float
    bits: int = 20

    def __post_init__(self) -> None:
        if not (0 < self.clip < float("inf")):
            raise PrivacyError(f"Grid.clip is a positive number, not {self.clip!r}")
        if not 8 <= self.bits <= 30:
            raise PrivacyError(f"Grid.bits is from 8 to 30, not {self.bits}")

    @property
    def bound(self) -> int:
        """The norm of an example on the grid, at most."""
        return 1 << self.bits

    def quantise(self, gradient: Sequence[Floats]) -> list[Integers]:
        """Return an example's gradient, all its tensors as one vector, clipped, on the grid.

        What is not finite, in any element, contributes zeros.
        """
        zeros = [np.zeros(part.shape, np.int64) for part in gradient]
        # float64 holds the square of every float32, and a sum of 2**40 of them.
        norm = float(np.sqrt(sum(float(np.sum(np.square(p, dtype=np.float64))) for p in gradient)))
        if not np.isfinite(norm):
            return zeros
        factor = self.bound / max(norm, self.clip)
        while True:
            rounded = [np.trunc(p.astype(np.float64) * factor).astype(np.int64) for p in gradient]
            if _squares(rounded) <= self.bound**2:
                return rounded
            factor *= _LESS

    def total(
        self, gradients: Iterable[Sequence[Floats]], like: Sequence[Floats]
    ) -> list[Integers]:
        """Return the sum over examples, of the shapes of ``like``; over no example, zeros."""
        totals = [np.zeros(part.shape, np.int64) for part in like]
        for gradient in gradients:
            for total, part in zip(totals, self.quantise(gradient), strict=True):
                total += part
        return totals

    def release(
        self,
        totals: Sequence[Integers],
        *,
        multiplier: float,
        expected: Fraction,
        key: RunKey,
        step: int,
        names: Sequence[str],
    ) -> list[npt.NDArray[np.float32]]:
        """Return the noisy mean gradient: the only thing of a step that may be seen.

        Parameters
        ----------
        totals : sequence of ndarray
            Of `total`.
        multiplier : float
            The noise's deviation, in units of ``clip``.
        expected : Fraction
            Examples in a batch on average; their true number is not public.
        key : RunKey
            Of the run.
        step : int
            Its number, from the ledger.
        names : sequence of str
            Of the tensors, each of which has a key of its own.

        Raises
        ------
        PrivacyError
            If the noise of this step was used, or there is none.

        """
        if len(set(names)) != len(totals):
            raise PrivacyError(f"Noise needs one name per tensor; {len(totals)} have {list(names)}")
        if not multiplier > 0:
            raise PrivacyError(
                f"Noise multiplier is {multiplier!r}; without noise a step is not private, and "
                f"`total` is what to look at"
            )
        scale = float(Fraction(self.clip) / (self.bound * expected))
        released = []
        for name, total in zip(names, totals, strict=True):
            noise = rounded_gaussian(
                key.stream(step, f"noise/{name}"), multiplier * self.bound, total.size
            )
            noisy = total + noise.reshape(total.shape)
            released.append((noisy * scale).astype(np.float32))
        return released


def _squares(parts: Sequence[Integers]) -> int:
    """Return the square of a norm, exactly."""
    total = 0
    for part in parts:
        flat = part.ravel()
        # A sum of 2**20 squares of 31 bits fits.
        for at in range(0, flat.size, 1 << 20):
            piece = flat[at : at + (1 << 20)]
            high, low = piece >> 16, piece & 0xFFFF
            total += int(high @ high) * (1 << 32) + int(high @ low) * (1 << 17) + int(low @ low)
    return total
