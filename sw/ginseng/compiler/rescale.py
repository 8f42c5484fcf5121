"""How the int32 sums of a layer become int8: requantisation as exact integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError

__all__ = ["MULTIPLIER_LIMIT", "SHIFT_LIMIT", "Rescale", "sum_bounds"]

#: A shift is one ALU step of at most 31.
SHIFT_LIMIT: Final = 31
#: Multipliers stay below: more bits would leave int32 no room for the sums.
MULTIPLIER_LIMIT: Final = 1 << 15
_INT32: Final = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """``rescale(v)[o] = (round_shift(v, before) * multiplier[o] + offset[o]) >> shift[o]``.

    A tuple has one number for all channels, or one for each. The offset holds the rounding constant
    of the shift and the zero point of the output.

    Attributes
    ----------
    before : int
        0 to 31; makes room for the multiplier.
    multiplier : tuple of int
        1 to 32,767.
    offset : tuple of int
        int32.
    shift : tuple of int
        0 to 31.

    Raises
    ------
    CompilerError
        If a number is out of its range.

    """

    before: int = 0
    multiplier: tuple[int, ...] = (1,)
    offset: tuple[int, ...] = (0,)
    shift: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name, values, lo, hi in (
            ("pre-shift", (self.before,), 0, SHIFT_LIMIT),
            ("multiplier", self.multiplier, 1, MULTIPLIER_LIMIT - 1),
            ("offset", self.offset, *_INT32),
            ("shift", self.shift, 0, SHIFT_LIMIT),
        ):
            for value in values:
                if not lo <= value <= hi:
                    raise CompilerError(
                        f"A rescaling's {name} is {lo} to {hi}, not {value}; calibrate with data "
                        "that reach the values before and after"
                    )

    @classmethod
    def shifted(cls, *shifts: int) -> Self:
        """Return ``round_shift(v, shift)``: to the nearest, ties upward."""
        return cls(shift=shifts, offset=tuple(1 << s - 1 if s else 0 for s in shifts))

    @classmethod
    def approximate(
        cls, ratios: Sequence[Fraction], bounds: NDArray[np.int64], zero: int = 0
    ) -> Self:
        """Return the closest rescaling by ``ratios`` whose intermediates provably fit int32.

        Powers of two become plain shifts, without error. Else the pre-shift is the one with the
        least worst error of any channel, and each channel has the greatest multiplier and shift
        that fit beside ``bounds``. Then a result that is not clipped lies within

            1/2 + ratio * 2**(before - 1) + 256 * |multiplier / (ratio * 2**(before + shift)) - 1|

        steps of the exact one: final rounding, rounding of the pre-shift (0 without one), and
        the multiplier's own, over the 256 steps that results can have (`error_bound`).

        Parameters
        ----------
        ratios : sequence of Fraction
            Step of the sums over step of the results; one for all channels, or one for each.
        bounds : int64 array of shape (channels,)
            Magnitude that the sums of each channel can reach.
        zero : int
            Of the results.

        Raises
        ------
        CompilerError
            If no multiplier fits.

        """
        if len(set(ratios)) == 1:
            ratios, bounds = ratios[:1], bounds.max(keepdims=True)
        best: tuple[float, Self] | None = None
        for before in range(SHIFT_LIMIT + 1):
            parts = [
                _multiplier(ratio, int(bound), before, zero)
                for ratio, bound in zip(ratios, bounds, strict=True)
            ]
            found = [part for part in parts if part is not None]
            if len(found) < len(parts):
                continue
            multiplier, shift = zip(*found, strict=True)
            offset = tuple((zero << s) + (1 << s - 1 if s else 0) for s in shift)
            rescale = cls(before=before, multiplier=multiplier, offset=offset, shift=shift)
            error = rescale.error_bound(ratios)
            if best is None or error < best[0]:
                best = error, rescale
            if before and float(max(ratios)) * 2.0**before > 2 * best[0]:
                break  # From here on the pre-shift alone costs more.
        if best is None:
            raise CompilerError(
                f"no multiplier below {MULTIPLIER_LIMIT} rescales sums of up to {bounds.max()} by "
                f"{float(max(ratios)):.3g}; quantise its input, weights and result with scales "
                "that lie closer together"
            )
        return best[1]

    def error_bound(self, ratios: Sequence[Fraction]) -> float:
        """Return how many steps a result that is not clipped can lie from the exact one."""
        scale = [2.0**self.before * float(r) for r in ratios]
        count = len(scale)
        multiplier, shift = (t * count if len(t) == 1 else t for t in (self.multiplier, self.shift))
        return max(
            0.5 + (s / 2 if self.before else 0.0) + 256 * abs(m / (s * 2.0**n) - 1)
            for s, m, n in zip(scale, multiplier, shift, strict=True)
        )

    @property
    def is_shift(self) -> bool:
        """Whether it only adds and shifts."""
        return not self.before and set(self.multiplier) == {1}

    def fits(self, channels: int) -> bool:
        """Return whether every tuple has one number, or one for each of ``channels``."""
        return all(len(t) in (1, channels) for t in (self.multiplier, self.offset, self.shift))

    def reach(self, lo: int, hi: int) -> tuple[int, int]:
        """Return the least and greatest result for ``v`` in ``lo .. hi``."""
        rounding = 1 << self.before - 1 if self.before else 0
        ends = [
            ((v + rounding >> self.before) * np.array(self.multiplier, object) + self.offset)
            >> np.array(self.shift, object)
            for v in (lo, hi)
        ]
        return int(min(ends[0])), int(max(ends[1]))

    def worst_case(self, bounds: NDArray[np.int64]) -> int:
        """Return a bound of every intermediate result.

        Parameters
        ----------
        bounds : int64 array of shape (channels,)
            Magnitude that the sums of each channel can reach.

        """
        rounding = 1 << self.before - 1 if self.before else 0
        scaled = (bounds + rounding >> self.before) * np.array(self.multiplier, np.int64)
        offset = np.abs(np.array(self.offset, np.int64))
        return int(max((bounds + rounding).max(), (scaled + offset).max()))


def _multiplier(ratio: Fraction, bound: int, before: int, zero: int) -> tuple[int, int] | None:
    """Return multiplier and shift for sums of up to ``bound``, None if there are none."""
    exact = -(ratio.denominator.bit_length() - 1)
    if not before and ratio == Fraction(2) ** exact and exact >= -SHIFT_LIMIT:
        offset = abs((zero << -exact) + (1 << -exact - 1 if exact else 0))
        return (1, -exact) if bound + offset <= _INT32[1] else None
    rounding = 1 << before - 1 if before else 0
    top = bound + rounding >> before
    if bound + rounding > _INT32[1]:
        return None
    numerator, denominator = ratio.numerator << before, ratio.denominator
    room = (MULTIPLIER_LIMIT * denominator // numerator).bit_length()
    for shift in range(min(SHIFT_LIMIT, room), -1, -1):
        multiplier = ((numerator << shift + 1) + denominator) // (2 * denominator)
        offset = abs((zero << shift) + (1 << shift - 1 if shift else 0))
        if 1 <= multiplier < MULTIPLIER_LIMIT and top * multiplier + offset <= _INT32[1]:
            return multiplier, shift
    return None


def sum_bounds(
    weight: NDArray[np.integer], bias: NDArray[np.integer], lo: int, hi: int
) -> NDArray[np.int64]:
    """Return how far from 0 ``bias[o] + sum x * weight[o]`` gets with ``x`` in ``lo .. hi``.

    Parameters
    ----------
    weight : int array
        Of shape (channels, ...).
    bias : int array
        Of shape (channels,).
    lo, hi : int
        Least and greatest input.

    """
    flat = weight.reshape(len(weight), -1).astype(np.int64)
    positive, negative = flat.clip(0).sum(1), flat.clip(None, 0).sum(1)
    least = bias + positive * lo + negative * hi
    greatest = bias + positive * hi + negative * lo
    reach: NDArray[np.int64] = np.maximum(np.abs(least), np.abs(greatest))
    return reach
