"""The ALU passes that turn a tile's sums into results, and the constants beside them in ACC."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.lowering import clip_passes
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import CoreConfig
from ginseng.isa.insn import AluOp

__all__ = ["Pass", "Requantise", "immediate_passes", "split_offset"]

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
    regional : bool
        Whether each region of the border has a vector of its own, this one and those after it.

    """

    op: AluOp
    imm: int | None = None
    vector: int = 0
    regional: bool = False


class Requantise:
    """``clip(rescale(sum + bias))`` as ALU passes with one and the same walk.

    Parameters
    ----------
    core : CoreConfig
    blocks : int
        Of output channels.
    biases : int array of shape (vectors, channels)
        As in `ginseng.compiler.backend.border.Border`.
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
        biases: NDArray[np.int64],
        rescale: Rescale,
        clip: tuple[int, int],
    ) -> None:
        self._shape: Final = (blocks, core.batch, core.block)
        self._channels: Final = biases.shape[1]
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
        self.passes.extend(Pass(op, bound) for op, bound in clip_passes(*clip, _INT32))
        self.vectors: Final = np.array(self._vectors, np.int32).reshape(-1, *self._shape)

    def _append_biases(self, biases: NDArray[np.int64]) -> None:
        """Add the pass that adds them, unless it changes nothing."""
        if biases.any():
            self.passes.append(Pass(AluOp.ADD, vector=len(self._vectors), regional=len(biases) > 1))
            for bias in biases:
                self._append_vector(bias, 0)

    def _append(self, op: AluOp, values: NDArray[np.int64]) -> None:
        """Add a pass unless it changes nothing."""
        neutral = 1 if op is AluOp.MUL else 0
        if (values == neutral).all():
            return
        if (values == values[0]).all() and _IMMEDIATE[0] <= values[0] <= _IMMEDIATE[1]:
            self.passes.append(Pass(op, int(values[0])))
            return
        self.passes.append(Pass(op, vector=len(self._vectors)))
        self._append_vector(values, neutral)

    def _append_vector(self, values: NDArray[np.int64], neutral: int) -> None:
        """Spread constants over blocks and batch."""
        # Channels that only fill up the last block get the constants of nobody.
        full = np.full(np.prod(self._shape[::2]), neutral, np.int64)
        full[: self._channels] = values
        spread = np.broadcast_to(full.reshape(self._shape[0], 1, self._shape[2]), self._shape)
        self._vectors.append(spread.astype(np.int32))


def split_offset(offset: int, multiplier: int) -> tuple[int, int]:
    """Return ``before`` and ``after``: ``(x + before) * multiplier + after`` adds ``offset``.

    Only as much before as immediates need after: without need it is 0.
    """
    if _IMMEDIATE[0] <= offset <= _IMMEDIATE[1]:
        return 0, offset
    before = (2 * offset + multiplier) // (2 * multiplier)
    return before, offset - before * multiplier


def immediate_passes(bias: int, rescale: Rescale) -> list[tuple[AluOp, int]]:
    """Return ``rescale(v + bias)`` of a uniform rescaling as passes with immediates."""
    (multiplier,), (offset,), (shift,) = rescale.multiplier, rescale.offset, rescale.shift
    rounding = 1 << rescale.before - 1 if rescale.before else 0
    before, after = split_offset(offset, multiplier)
    passes = _additions(bias + rounding)
    if rescale.before:
        passes.append((AluOp.SHR, rescale.before))
    passes += _additions(before)
    if multiplier > 1:
        passes.append((AluOp.MUL, multiplier))
    passes += _additions(after)
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
