"""The leaky rectifier as exact integers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from ginseng.compiler.errors import CompilerError

__all__ = ["NEGATIVE_LIMIT", "Slope"]

#: What is steeper than this on the negative side counts as this: int16, so that products fit int32.
NEGATIVE_LIMIT: Final = -(1 << 15)
#: Multipliers and the rounding constant are signed 16-bit immediates.
_MULTIPLIER_LIMIT: Final = (1 << 15) - 1
_SHIFT_LIMIT: Final = 15


@dataclass(frozen=True, kw_only=True)
class Slope:
    """``slope(v) = max(v, 0) + round_shift(max(min(v, 0), -2**15) * multiplier[o], shift)``.

    Attributes
    ----------
    multiplier : tuple of int
        One for all channels, or one for each; -32,767 to 32,767.
    shift : int
        0 to 15.

    Raises
    ------
    CompilerError
        If a number is out of its range.

    """

    multiplier: tuple[int, ...]
    shift: int

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= _SHIFT_LIMIT or any(
            abs(m) > _MULTIPLIER_LIMIT for m in self.multiplier
        ):
            raise CompilerError(
                f"A slope is a multiplier up to {_MULTIPLIER_LIMIT} over a shift of 0 to "
                f"{_SHIFT_LIMIT}, not {self.multiplier} over {self.shift}; use flatter ones"
            )

    @classmethod
    def nearest(cls, slopes: Sequence[float]) -> Self:
        """Return the nearest to real ``slopes``, one for all channels or one for each.

        Raises
        ------
        CompilerError
            If one is beyond -32,767 to 32,767.

        """
        shift = _SHIFT_LIMIT
        while shift and max(abs(s) for s in slopes) * 2**shift > _MULTIPLIER_LIMIT:
            shift -= 1
        multiplier = [round(s * 2**shift) for s in slopes]
        while shift and not any(m & 1 for m in multiplier):
            multiplier, shift = [m >> 1 for m in multiplier], shift - 1
        return cls(multiplier=tuple(multiplier), shift=shift)

    @property
    def is_maximum(self) -> bool:
        """Whether it is ``max(v, slope * v)``: no multiplier is negative or beyond one."""
        return all(0 <= m <= 1 << self.shift for m in self.multiplier)

    def fits(self, channels: int) -> bool:
        """Return whether there is one multiplier, or one for each of ``channels``."""
        return len(self.multiplier) in (1, channels)

    def reach(self, lo: int, hi: int) -> tuple[int, int]:
        """Return the least and greatest result for ``v`` in ``lo .. hi``."""
        rounding = 1 << self.shift - 1 if self.shift else 0
        steep = [
            (max(min(lo, 0), NEGATIVE_LIMIT) * m + rounding) >> self.shift for m in self.multiplier
        ]
        return min(*steep, max(lo, 0)), max(*steep, hi, 0)
