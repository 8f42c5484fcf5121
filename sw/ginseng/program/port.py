"""The inputs and outputs of a program, as their owners see them."""

from dataclasses import dataclass
from math import ldexp, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ginseng.program.errors import ProgramError
from ginseng.program.fields import require_types
from ginseng.program.owner_side import OwnerStep

__all__ = ["PortSpec"]

#: Largest shift of a port: beyond it every device integer means the same float32.
_MAX_SHIFT = 64
#: A mantissa has the 24 bits of a float32.
_MAX_MANTISSA = (1 << 24) - 1


@dataclass(frozen=True, kw_only=True)
class PortSpec:
    """An input or output of the network, as its owner sees it.

    Attributes
    ----------
    name : str
        The model's name for it.
    tensor : str
        Where it lies.
    shape : tuple of int
        Of one sample, without the batch: ``(channels, height, width)`` or ``(features,)``.
    shift, mantissa, zero : int
        A device integer ``q`` means ``(q - zero) * mantissa * 2**-shift``: mantissa and shift
        are exactly one positive float32, the scale; without further ado the mantissa is 1 and
        the zero point 0.
    image : tuple of int or None
        ``(channels, height, width)`` if ``shape`` is its flattened form, channels slowest.
    steps : tuple of OwnerStep
        What the owner does to samples before they are quantised (inputs), or to results (outputs).
    row_elements : int
        Elements between the starts of two image rows in DRAM; at least ``width``. Elements
        between are padding that owners write as zero and ignore.

    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    shift: int
    row_elements: int
    mantissa: int = 1
    zero: int = 0
    image: tuple[int, int, int] | None = None
    steps: tuple[OwnerStep, ...] = ()

    def __post_init__(self) -> None:
        require_types(self, f"Port {self.name!r}")
        if len(self.shape) not in (1, 3) or not all(
            type(extent) is int and extent > 0 for extent in self.shape
        ):
            raise ProgramError(
                f"Port {self.name}: its shape is (features,) or (channels, height, width), all "
                f"positive, not {self.shape}"
            )
        if abs(self.shift) > _MAX_SHIFT:
            raise ProgramError(
                f"Port {self.name}: its shift is -{_MAX_SHIFT} to {_MAX_SHIFT}, not {self.shift}"
            )
        if not 1 <= self.mantissa <= _MAX_MANTISSA or not -128 <= self.zero <= 127:
            raise ProgramError(
                f"Port {self.name}: its mantissa is 1 to {_MAX_MANTISSA} and its zero point an "
                f"int8, not {self.mantissa} and {self.zero}"
            )
        if self.image is not None and not (
            len(self.image) == 3
            and all(type(extent) is int and extent > 0 for extent in self.image)
            and self.shape == (prod(self.image),)
        ):
            raise ProgramError(
                f"Port {self.name}: its shape {self.shape} is not the image {self.image} flattened"
            )
        if self.row_elements < self.extents[2]:
            raise ProgramError(
                f"Port {self.name}: a row of {self.row_elements} elements does not hold its "
                f"{self.extents[2]} pixels"
            )

    def nbytes(self, *, batch: int, block: int) -> int:
        """Bytes of the packed tensor."""
        channels, height, _ = self.extents
        return -(-channels // block) * height * self.row_elements * batch * block

    @property
    def given_shape(self) -> tuple[int, ...]:
        """Shape of a sample that the owner of an input gives."""
        return self.steps[0].before if self.steps else self.shape

    @property
    def extents(self) -> tuple[int, int, int]:
        """``(channels, height, width)``; a vector is one pixel."""
        if self.image is not None:
            return self.image
        return (*self.shape, 1, 1) if len(self.shape) == 1 else self.shape  # type: ignore[return-value]

    def quantise(self, samples: NDArray[np.floating]) -> NDArray[np.int8]:
        """Return the samples, after the owner's steps, as device integers.

        That is ``sample / scale``, rounded half to even, plus the zero point, saturating.

        In the precision of ``samples``, as ONNX's QuantizeLinear does with float32.

        Raises
        ------
        ProgramError
            If a sample is not a number.

        """
        for step in self.steps:
            samples = step(samples)
        if np.isnan(samples).any():
            raise ProgramError(f"Port {self.name}: a sample is not a number; clean the data")
        steps = np.rint(samples / ldexp(self.mantissa, -self.shift)) + self.zero
        integers: NDArray[np.int8] = steps.clip(-128, 127).astype(np.int8)
        return integers

    def dequantise(self, samples: NDArray[np.int8]) -> NDArray[Any]:
        """Return what device integers mean to the owner: the steps' result.

        That is real values, to the nearest float32, or what the steps make of them.
        """
        exact = samples.astype(np.float64) - self.zero
        values: NDArray[Any] = np.ldexp(exact * self.mantissa, -self.shift).astype(np.float32)
        for step in self.steps:
            values = step(values)
        return values

    def pack(self, samples: NDArray[np.int8], *, batch: int, block: int) -> bytes:
        """Lay ``(n, *shape)`` integers, ``n <= batch``, out as the core reads them.

        The layout is ``[channel blocks][height][row_elements][batch][block]`` int8 (VTA
        specification §1.1); absent samples and channels are zero.

        Raises
        ------
        ProgramError
            If the shape is another.

        """
        if samples.shape[1:] != self.shape or not 1 <= len(samples) <= batch:
            raise ProgramError(
                f"Port {self.name} takes 1 to {batch} samples of shape {self.shape}, "
                f"not {samples.shape}"
            )
        channels, height, width = self.extents
        blocks = -(-channels // block)
        image = np.zeros((batch, blocks * block, height, self.row_elements), np.int8)
        image[: len(samples), :channels, :, :width] = samples.reshape(-1, channels, height, width)
        split = image.reshape(batch, blocks, block, height, self.row_elements)
        return split.transpose(1, 3, 4, 0, 2).tobytes()

    def unpack(self, data: bytes, *, batch: int, block: int) -> NDArray[np.int8]:
        """Undo `pack`: return ``(batch, *shape)`` integers."""
        channels, height, width = self.extents
        blocks = -(-channels // block)
        split = np.frombuffer(data, np.int8)
        if split.size != self.nbytes(batch=batch, block=block):
            raise ProgramError(f"Port {self.name}: {split.size} bytes are no tensor of its shape")
        split = split.reshape(blocks, height, self.row_elements, batch, block)
        image = split.transpose(3, 0, 4, 1, 2).reshape(batch, blocks * block, height, -1)
        return image[:, :channels, :, :width].reshape(batch, *self.shape).copy()
