"""Padding that means something else than the zeros that LOAD fills in: biases of the border.

An input with zero point ``z`` is padded with ``z``, the core pads with 0. The sums of an output
pixel therefore lack ``z`` times the weights of all kernel positions that met padding. Which these
are depends on the pixel's row and on its column; pixels with the same have the same missing part,
and get it with their bias.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "Border", "Region"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a convolution, in pixels."""

    outputs: int
    kernel: int
    stride: int
    dilation: int
    padding: int
    extent: int

    def met(self, output: int) -> tuple[int, ...]:
        """Return the kernel positions that meet the image, not padding."""
        first = output * self.stride - self.padding
        positions = range(self.kernel)
        return tuple(k for k in positions if 0 <= first + k * self.dilation < self.extent)


@dataclass(frozen=True)
class Region:
    """A rectangle of output pixels with one vector of biases."""

    vector: int
    row: int
    rows: int
    column: int
    columns: int


class Border:
    """Biases of every output pixel.

    Parameters
    ----------
    weight : int8 array of shape (out channels, in channels, kernel height, kernel width)
    bias : int array of shape (out channels,)
    pad_value : int
        What stands outside of the image.
    axes : tuple of Axis
        Down, across.

    Attributes
    ----------
    biases : int64 array of shape (vectors, out channels)
        One vector where the padding is 0, or there is none.

    """

    def __init__(
        self,
        weight: NDArray[np.int8],
        bias: NDArray[np.integer],
        pad_value: int,
        axes: tuple[Axis, Axis],
    ) -> None:
        taps = weight.sum(1, dtype=np.int64) * pad_value
        met = [[axis.met(n) if pad_value else () for n in range(axis.outputs)] for axis in axes]
        kinds = [list(dict.fromkeys(m)) for m in met]
        self._lines: Final = [
            [kind.index(m) for m in line] for kind, line in zip(kinds, met, strict=True)
        ]
        self._columns: Final = len(kinds[1])
        lacking = [
            taps.sum((1, 2)) - taps[:, rows][:, :, columns].sum((1, 2))
            for rows in kinds[0]
            for columns in kinds[1]
        ]
        if not pad_value:
            lacking = [np.zeros(len(bias), np.int64)]
        self.biases: Final[NDArray[np.int64]] = bias + np.array(lacking)

    def regions(self, row: int, rows: int) -> Iterator[Region]:
        """Yield the regions of output rows ``row`` to ``row + rows - 1``."""
        down, across = self._lines
        for y, height in _runs(down, row, row + rows):
            for x, width in _runs(across, 0, len(across)):
                yield Region(down[y] * self._columns + across[x], y, height, x, width)


def _runs(line: list[int], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of every run of equal numbers."""
    at = begin
    for n in range(begin + 1, end + 1):
        if n == end or line[n] != line[at]:
            yield at, n - at
            at = n
