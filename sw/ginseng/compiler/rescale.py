"""How the int32 sums of a layer become int8: requantisation as exact integers."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError

__all__ = ["MULTIPLIER_LIMIT", "SHIFT_LIMIT", "Rescale"]

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
