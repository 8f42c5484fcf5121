"""The ALU passes that turn a tile's sums into results, and the constants beside them in ACC."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.lowering import clip_passes
from ginseng.compiler.backend.stream import Loop, Stream, Uops
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import NEGATIVE_LIMIT, Slope
from ginseng.isa.config import CoreConfig
from ginseng.isa.insn import AluOp

__all__ = ["Pass", "Place", "Requantise"]

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

    """

    op: AluOp | None
    dst: Place = Place.SUMS
    imm: int | None = None
    src: Place = Place.CONSTANT
    vector: int = 0


class Requantise:
    """``clip(slope(rescale(sum + bias)))`` as ALU passes with one and the same walk.

    Parameters
    ----------
    core : CoreConfig
    bias : int array of shape (channels,)
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
        bias: NDArray[np.integer],
        rescale: Rescale,
        clip: tuple[int, int],
        *,
        slope: Slope | None = None,
        reach: tuple[int, int] = _INT32,
    ) -> None:
        self._channels: Final = len(bias)
        self._shape: Final = (-(-len(bias) // core.block), core.batch, core.block)
        self._vectors: Final[list[NDArray[np.int32]]] = []
        self.passes: Final[list[Pass]] = []
        sums = bias.astype(np.int64)
        if rescale.is_shift:
            # One addition does for bias and offset.
            self._append(AluOp.ADD, sums + np.array(rescale.offset))
        else:
            rounding = 1 << rescale.before - 1 if rescale.before else 0
            self._append(AluOp.ADD, sums + rounding)
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
        self, stream: Stream, *, sums: int, copy: int, constants: int, blocks: int, area: int
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

        """
        at = {Place.SUMS: sums, Place.COPY: copy}
        few = Loop(blocks, dst=area, src=1), Loop(area, dst=1)
        each = Loop(blocks, dst=area, src=area), Loop(area, dst=1, src=1)
        for step in self.passes:
            dst = at[step.dst]
            if step.op is None:
                stream.gemm(Uops.one(dst), *few, reset=True)
            elif step.imm is None and step.src is not Place.CONSTANT:
                stream.alu(step.op, Uops.one(dst, at[step.src]), *each)
            else:
                uops = Uops.one(dst, constants + step.vector * blocks)
                stream.alu(step.op, uops, *few, imm=step.imm)

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

    def _append(self, op: AluOp, values: NDArray[np.int64], dst: Place = Place.SUMS) -> None:
        """Add a pass unless it changes nothing."""
        neutral = 1 if op is AluOp.MUL else 0
        if (values == neutral).all():
            return
        if (values == values[0]).all() and _IMMEDIATE[0] <= values[0] <= _IMMEDIATE[1]:
            self.passes.append(Pass(op, dst, int(values[0])))
            return
        # Channels that only fill up the last block get the constants of nobody.
        full = np.full(np.prod(self._shape[::2]), neutral, np.int64)
        full[: self._channels] = values
        spread = np.broadcast_to(full.reshape(self._shape[0], 1, self._shape[2]), self._shape)
        self.passes.append(Pass(op, dst, vector=len(self._vectors)))
        self._vectors.append(spread.astype(np.int32))
