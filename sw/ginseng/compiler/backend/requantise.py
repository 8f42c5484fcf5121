"""The ALU passes that turn a tile's sums into results, and the constants beside them in ACC."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import clip_passes
from ginseng.compiler.backend.stream import Stream
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import NEGATIVE_LIMIT, Slope
from ginseng.isa.config import CoreConfig
from ginseng.isa.insn import AluOp

__all__ = ["Pass", "Place", "Requantise", "immediate_passes"]

_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_IMMEDIATE: Final = (-(1 << 15), (1 << 15) - 1)


class Place(Enum):
    """What a pass works on, element by element; constants are one element for each block."""

    SUMS = "sums"
    COPY = "copy"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Pass:
    """One operation on every result.

    Attributes
    ----------
    op : AluOp or None
        None zeroes ``dst``.
    dst : Place
        First operand and result.
    imm : int or None
        Second operand; if None, that is ``src``.
    src : Place
    vector : int
        Which constants, if ``src`` is those.
    regional : bool
        Whether each region of the border has a vector of its own, this one and those after it.

    """

    op: AluOp | None
    dst: Place = Place.SUMS
    imm: int | None = None
    src: Place = Place.CONSTANT
    vector: int = 0
    regional: bool = False


class Requantise:
    """``clip(slope(rescale(sum + bias)))`` as ALU passes with one and the same walk.

    Parameters
    ----------
    core : CoreConfig
    biases : int array of shape (vectors, channels)
        As in `ginseng.compiler.backend.border.Border`.
    rescale : Rescale
    clip : tuple of int
        Least and greatest result.
    slope : Slope or None
        The leaky rectifier, if there is one.
    reach : tuple of int
        Least and greatest sum, bias included.

    Attributes
    ----------
    passes : list of Pass
    vectors : int32 array of shape (vectors, blocks, batch, block)
        Constants that passes read, channel by channel.

    """

    def __init__(
        self,
        core: CoreConfig,
        biases: NDArray[np.int64],
        rescale: Rescale,
        clip: tuple[int, int],
        *,
        slope: Slope | None = None,
        reach: tuple[int, int] = _INT32,
    ) -> None:
        self._channels: Final = biases.shape[1]
        self._shape: Final = (-(-biases.shape[1] // core.block), core.batch, core.block)
        self._vectors: Final[list[NDArray[np.int32]]] = []
        self.passes: Final[list[Pass]] = []
        if rescale.is_shift:
            # One addition does for bias and offset.
            self._append_biases(biases + np.array(rescale.offset))
        else:
            rounding = 1 << rescale.before - 1 if rescale.before else 0
            self._append_biases(biases + rounding)
            self._append(AluOp.SHR, np.array([rescale.before]))
            self._append(AluOp.MUL, np.array(rescale.multiplier))
            self._append(AluOp.ADD, np.array(rescale.offset))
        self._append(AluOp.SHR, np.array(rescale.shift))
        reach = rescale.reach(*reach)
        if slope is not None and reach[0] < 0:
            self._bend(slope, reach)
            reach = slope.reach(*reach)
        self.passes.extend(Pass(op, imm=bound) for op, bound in clip_passes(*clip, reach))
        self.vectors: Final = np.array(self._vectors, np.int32).reshape(-1, *self._shape)

    @property
    def copies(self) -> int:
        """Areas as large as the results' that the passes need beside it: 0 or 1."""
        return int(any(step.dst is Place.COPY for step in self.passes))

    def emit(
        self,
        stream: Stream,
        *,
        sums: int,
        copy: int,
        constants: int,
        blocks: int,
        area: int,
        add_regions: Callable[[int], None] | None = None,
    ) -> None:
        """Emit the passes over a tile.

        Parameters
        ----------
        stream : Stream
            Where to.
        sums, copy, constants : int
            Where in ACC the sums stand, room for as many elements, and the tile's constants,
            vector by vector.
        blocks, area : int
            Extents of the tile: channel blocks, pixels.
        add_regions : callable or None
            Emits the additions of a regional pass, given where its first vector stands; None if
            there is none.

        """
        at = {Place.SUMS: sums, Place.COPY: copy}
        few = Loop(blocks, dst=area, src=1), Loop(area, dst=1)
        each = Loop(blocks, dst=area, src=area), Loop(area, dst=1, src=1)
        for step in self.passes:
            dst, src = at[step.dst], constants + step.vector * blocks
            if step.op is None:
                stream.gemm(Uops.one(dst), *few, reset=True)
            elif step.regional:
                assert add_regions is not None  # only convolutions have borders
                add_regions(src)
            elif step.imm is None and step.src is not Place.CONSTANT:
                stream.alu(step.op, Uops.one(dst, at[step.src]), *each)
            else:
                stream.alu(step.op, Uops.one(dst, src), *few, imm=step.imm)

    def _bend(self, slope: Slope, reach: tuple[int, int]) -> None:
        """Add the passes of a leaky rectifier: the negative part is made in the copy."""
        copy = Place.COPY
        self.passes.append(Pass(None, copy))
        self.passes.append(Pass(AluOp.MIN, copy, src=Place.SUMS))
        if reach[0] < NEGATIVE_LIMIT:
            self.passes.append(Pass(AluOp.MAX, copy, imm=NEGATIVE_LIMIT))
        self._append(AluOp.MUL, np.array(slope.multiplier), copy)
        self._append(AluOp.ADD, np.array([1 << slope.shift - 1 if slope.shift else 0]), copy)
        self._append(AluOp.SHR, np.array([slope.shift]), copy)
        if slope.is_maximum:
            self.passes.append(Pass(AluOp.MAX, src=copy))
        else:
            self.passes.append(Pass(AluOp.MAX, imm=0))
            self.passes.append(Pass(AluOp.ADD, src=copy))

    def _append_biases(self, biases: NDArray[np.int64]) -> None:
        """Add the pass that adds them, unless it changes nothing."""
        if len(biases) == 1:
            self._append(AluOp.ADD, biases[0])
            return
        self.passes.append(Pass(AluOp.ADD, vector=len(self._vectors), regional=True))
        for bias in biases:
            self._append_vector(bias, 0)

    def _append(self, op: AluOp, values: NDArray[np.int64], dst: Place = Place.SUMS) -> None:
        """Add a pass unless it changes nothing."""
        neutral = 1 if op is AluOp.MUL else 0
        if (values == neutral).all():
            return
        if (values == values[0]).all() and _IMMEDIATE[0] <= values[0] <= _IMMEDIATE[1]:
            self.passes.append(Pass(op, dst, int(values[0])))
            return
        self.passes.append(Pass(op, dst, vector=len(self._vectors)))
        self._append_vector(values, neutral)

    def _append_vector(self, values: NDArray[np.int64], neutral: int) -> None:
        """Spread constants over blocks and batch."""
        # Channels that only fill up the last block get the constants of nobody.
        full = np.full(np.prod(self._shape[::2]), neutral, np.int64)
        full[: self._channels] = values
        spread = np.broadcast_to(full.reshape(self._shape[0], 1, self._shape[2]), self._shape)
        self._vectors.append(spread.astype(np.int32))


def immediate_passes(bias: int, rescale: Rescale) -> list[tuple[AluOp, int]]:
    """Return ``rescale(v + bias)`` of a uniform rescaling as passes with immediates."""
    (multiplier,), (offset,), (shift,) = rescale.multiplier, rescale.offset, rescale.shift
    rounding = 1 << rescale.before - 1 if rescale.before else 0
    # Only as much before the multiplication as immediates need after it.
    before = 0
    if not _IMMEDIATE[0] <= offset <= _IMMEDIATE[1]:
        before = (2 * offset + multiplier) // (2 * multiplier)
    passes = _additions(bias + rounding)
    if rescale.before:
        passes.append((AluOp.SHR, rescale.before))
    passes += _additions(before)
    if multiplier > 1:
        passes.append((AluOp.MUL, multiplier))
    passes += _additions(offset - before * multiplier)
    if shift:
        passes.append((AluOp.SHR, shift))
    return passes


def _additions(total: int) -> list[tuple[AluOp, int]]:
    """Return as many additions as it takes to add ``total``."""
    passes = []
    while total:
        part = min(max(total, _IMMEDIATE[0]), _IMMEDIATE[1])
        passes.append((AluOp.ADD, part))
        total -= part
    return passes
