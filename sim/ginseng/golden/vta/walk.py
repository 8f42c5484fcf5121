"""The triple loop of GEMM and ALU: which elements its steps touch (VTA specification §6)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.vta.scratchpad import Scratchpads
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import Instruction, uop_layout

__all__ = ["STEP_BLOCK", "Indices", "Loop", "Walk", "walk_of"]

#: Element indices.
Indices = NDArray[np.int64]

#: Steps that are worked on at once; bounds the memory of temporaries.
STEP_BLOCK: Final = 1 << 16

_OPERANDS: Final = ("dst", "src", "wgt")


@dataclass(frozen=True, slots=True)
class Loop:
    """One of the two loops around the micro-ops: how often, and what it adds to each index."""

    count: int
    dst: int
    src: int
    wgt: int


@dataclass(frozen=True, slots=True)
class Walk:
    """The steps ``for outer: for inner: for micro-op``, as the micro-ops' indices and two loops."""

    dst: Indices
    src: Indices
    wgt: Indices
    outer: Loop
    inner: Loop

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.outer.count * self.inner.count * len(self.dst)

    def last(self, operand: str) -> int:
        """Return the greatest index that ``operand`` (dst, src or wgt) takes; there are steps."""
        first = int(getattr(self, operand).max())
        loops = (self.outer, self.inner)
        return first + sum((loop.count - 1) * int(getattr(loop, operand)) for loop in loops)

    def destinations(self) -> Indices:
        """Return every ``dst`` that some step has, once each, ascending. Indices are in range."""
        found = np.unique(self.dst)
        for loop in (self.outer, self.inner):
            if loop.count > 1 and loop.dst:
                shifts = np.arange(loop.count, dtype=np.int64) * loop.dst
                found = np.unique(found[:, None] + shifts)
        return found

    def flat(self, begin: int, end: int) -> tuple[Indices, Indices]:
        """Return ``dst`` and ``src`` of the steps ``begin`` to ``end - 1``, in order."""
        rest, uop = np.divmod(np.arange(begin, end, dtype=np.int64), len(self.dst))
        o, n = np.divmod(rest, self.inner.count)
        dst = self.dst[uop] + o * self.outer.dst + n * self.inner.dst
        return dst, self.src[uop] + o * self.outer.src + n * self.inner.src


@lru_cache(maxsize=16)
def _uop_fields(config: CoreConfig) -> tuple[tuple[int, int], ...]:
    """Return shift and mask of each micro-op field."""
    layout = uop_layout(config)
    return tuple((layout[k].offset, (1 << layout[k].width) - 1) for k in _OPERANDS)


def walk_of(pads: Scratchpads, insn: Instruction) -> Walk | None:
    """Return the steps of a GEMM or ALU instruction, None if it has none.

    Raises
    ------
    Fatal
        If a step would read a micro-op outside UOP. Nothing else is checked.

    """
    begin, end = insn["uop_begin"], insn["uop_end"]
    if end <= begin or not insn["iter_out"] or not insn["iter_in"]:
        return None
    pads.check(Memory.UOP, end)
    words = pads.uop[begin:end].astype(np.int64)
    dst, src, wgt = (words >> shift & mask for shift, mask in _uop_fields(pads.config))
    outer, inner = (
        Loop(insn[f"iter_{way}"], *(insn.fields.get(f"{x}_factor_{way}", 0) for x in _OPERANDS))
        for way in ("out", "in")
    )
    return Walk(dst, src, wgt, outer, inner)
