"""The ALU passes that turn a tile's sums into results, and the constants beside them in ACC."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.lowering import clip_passes
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import CoreConfig
from ginseng.isa.insn import AluOp

__all__ = ["Pass", "Requantise"]

_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_IMMEDIATE: Final = (-(1 << 15), (1 << 15) - 1)


@dataclass(frozen=True)
class Pass:
    """One ALU operation on every result: with an immediate, or with a number per channel.

    Attributes
    ----------
    op : AluOp
    imm : int or None
    vector : int
        Which constants, if there is no immediate.

    """

    op: AluOp
    imm: int | None = None
    vector: int = 0


class Requantise:
    """``clip(rescale(sum + bias))`` as ALU passes with one and the same walk.

    Parameters
    ----------
    core : CoreConfig
    blocks : int
        Of output channels.
    bias : int array of shape (channels,)
    rescale : Rescale
    clip : tuple of int
        Least and greatest result.

    Attributes
    ----------
    passes : list of Pass
    vectors : int32 array of shape (vectors, blocks, batch, block)
        What passes without immediate read, channel by channel.

    """

    def __init__(
        self,
        core: CoreConfig,
        blocks: int,
        bias: NDArray[np.integer],
        rescale: Rescale,
        clip: tuple[int, int],
    ) -> None:
        self._shape: Final = (blocks, core.batch, core.block)
        self._channels: Final = len(bias)
        self._vectors: Final[list[NDArray[np.int32]]] = []
        self.passes: Final[list[Pass]] = []
        sums = bias.astype(np.int64)
        if rescale.is_shift:
            # One addition does for bias and offset.
            self._append(AluOp.ADD, sums + np.array(rescale.offset), vector=True)
        else:
            rounding = 1 << rescale.before - 1 if rescale.before else 0
            self._append(AluOp.ADD, sums + rounding, vector=True)
            self._append(AluOp.SHR, np.array([rescale.before]))
            self._append(AluOp.MUL, np.array(rescale.multiplier))
            self._append(AluOp.ADD, np.array(rescale.offset))
        self._append(AluOp.SHR, np.array(rescale.shift))
        self.passes.extend(Pass(op, bound) for op, bound in clip_passes(*clip, _INT32))
        self.vectors: Final = np.array(self._vectors, np.int32).reshape(-1, *self._shape)

    def _append(self, op: AluOp, values: NDArray[np.int64], *, vector: bool = False) -> None:
        """Add a pass unless it changes nothing; ``vector`` where an immediate gains nothing."""
        neutral = 1 if op is AluOp.MUL else 0
        if (values == neutral).all():
            return
        uniform = (values == values[0]).all() and _IMMEDIATE[0] <= values[0] <= _IMMEDIATE[1]
        if uniform and not vector:
            self.passes.append(Pass(op, int(values[0])))
            return
        # Channels that only fill up the last block get the constants of nobody.
        full = np.full(np.prod(self._shape[::2]), neutral, np.int64)
        full[: self._channels] = values
        spread = np.broadcast_to(full.reshape(self._shape[0], 1, self._shape[2]), self._shape)
        self.passes.append(Pass(op, vector=len(self._vectors)))
        self._vectors.append(spread.astype(np.int32))
