"""First and last layers that the core does not do: the owner of the data does, before and after."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.program.errors import ProgramError

__all__ = ["OwnerStep", "Real"]

#: A real number: ``mantissa * 2**-shift``; a manifest holds no floats.
Real = tuple[int, int]

_OPERATIONS: Final = (
    "affine",
    "argmax",
    "label",
    "reshape",
    "sigmoid",
    "softmax",
    "tanh",
    "transpose",
    "windows",
)


@dataclass(frozen=True, kw_only=True)
class OwnerStep:
    """One operation on the owner's side, sample by sample, in floats.

    Attributes
    ----------
    op : str
        ``affine``: times a factor, plus an offset, one of each for every index of ``axis``;
        ``argmax``: index of the first maximum along ``axis``; ``label``: the index that the core's
        own argmax gives in two bytes, the low one first; ``reshape``; ``sigmoid``; ``softmax``
        along ``axis``; ``tanh``; ``transpose`` by ``axes``; ``windows``: of an image ``x``,
        channel ``(i, j, c)`` of pixel ``(y, x)``, ``c`` fastest, is ``x[c, y * strides[0] + i -
        origin[0], x * strides[1] + j - origin[1]]``, or 0 outside, ``(i, j)`` within ``kernel``.
    before, after : tuple of int
        Shape of a sample.
    axis : int
        Axis of a sample.
    axes : tuple of int
        Axes of a sample, in their new order.
    factors, offsets : tuple of Real
        Of ``affine``.
    kernel, strides, origin : tuple of int
        Of ``windows``; down, across.

    """

    op: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    axis: int = 0
    axes: tuple[int, ...] = ()
    factors: tuple[Real, ...] = ()
    offsets: tuple[Real, ...] = ()
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    origin: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.op not in _OPERATIONS:
            raise ProgramError(
                f"The owner's side knows {', '.join(_OPERATIONS)}, not {self.op!r}; use a release "
                "that does"
            )
        if self.op in ("affine", "argmax", "softmax") and not 0 <= self.axis < len(self.before):
            raise ProgramError(f"Owner's {self.op}: {self.before} has no axis {self.axis}")
        if self.op == "transpose" and sorted(self.axes) != list(range(len(self.before))):
            raise ProgramError(f"Owner's transpose: {self.axes} is no order of {self.before}")
        if self.op == "affine":
            count = self.before[self.axis]
            if len(self.factors) != count or len(self.offsets) != count:
                raise ProgramError(f"Owner's affine: it has not {count} factors and offsets")

        if self.op == "windows" and not (
            len(self.before) == len(self.after) == 3
            and len(self.kernel) == len(self.strides) == len(self.origin) == 2
            and min(*self.kernel, *self.strides) > 0
            and self.after[0] == self.before[0] * self.kernel[0] * self.kernel[1]
        ):
            raise ProgramError(
                f"Owner's windows: kernel {self.kernel}, strides {self.strides} and origin "
                f"{self.origin} do not make {self.after} of {self.before}"
            )

    def __call__(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return what it makes of ``(n, *before)`` samples.

        Raises
        ------
        ProgramError
            If their shape is another.

        """
        if samples.shape[1:] != self.before:
            raise ProgramError(
                f"Owner's {self.op} takes samples of shape {self.before}, not {samples.shape[1:]}"
            )
        result: NDArray[Any] = self._apply(samples).reshape(len(samples), *self.after)
        return result

    def _apply(self, samples: NDArray[Any]) -> Any:
        axis = self.axis + 1
        if self.op == "affine":
            shape = [1] * samples.ndim
            shape[axis] = -1
            factors, offsets = (
                np.array([np.ldexp(m, -s) for m, s in reals]).reshape(shape)
                for reals in (self.factors, self.offsets)
            )
            return (samples * factors + offsets).astype(np.float32)
        if self.op == "argmax":
            return samples.argmax(axis)
        if self.op == "label":
            low, high = np.moveaxis(samples.reshape(len(samples), 2).astype(np.int64), 1, 0)
            return low % 256 + 256 * high
        if self.op == "sigmoid":
            # Either form would overflow where the other does not.
            small = np.exp(-np.abs(samples.astype(np.float64)))
            positive = np.where(samples >= 0, 1, small) / (1 + small)
            return positive.astype(np.float32)
        if self.op == "softmax":
            powers = np.exp(samples.astype(np.float64) - samples.max(axis, keepdims=True))
            return (powers / powers.sum(axis, keepdims=True)).astype(np.float32)
        if self.op == "tanh":
            return np.tanh(samples.astype(np.float64)).astype(np.float32)
        if self.op == "transpose":
            return samples.transpose(0, *(a + 1 for a in self.axes))
        if self.op == "windows":
            return self._windows(samples)
        return samples  # A reshape.

    def _windows(self, samples: NDArray[Any]) -> NDArray[Any]:
        _, height, width = self.before
        found = np.zeros((len(samples), *self.kernel, self.before[0], *self.after[1:]), np.float32)
        for i, j in np.ndindex(*self.kernel):
            rows, columns = (
                np.arange(self.after[n + 1]) * self.strides[n] + (i, j)[n] - self.origin[n]
                for n in (0, 1)
            )
            ys = (rows >= 0) & (rows < height)
            xs = (columns >= 0) & (columns < width)
            window = samples[:, :, rows[ys]][:, :, :, columns[xs]]
            found[:, i, j][np.ix_(range(len(samples)), range(self.before[0]), ys, xs)] = window
        return found
