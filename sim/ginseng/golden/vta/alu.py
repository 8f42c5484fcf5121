"""ALU, its steps in order, many at a time where none sees another (VTA specification §7)."""

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.port import Fatal
from ginseng.golden.vta.scratchpad import Scratchpads
from ginseng.golden.vta.walk import STEP_BLOCK, Indices, Walk
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["alu_op", "run_alu"]


def alu_op(value: int) -> AluOp:
    """Return the operation that an ``alu_op`` field names.

    Raises
    ------
    Fatal
        If it names none.

    """
    try:
        return AluOp(value)
    except ValueError:
        raise Fatal("illegal ALU opcode") from None


def run_alu(pads: Scratchpads, walk: Walk, op: AluOp, imm: int | None) -> None:
    """Do every step of ``walk``; the second operand is ``imm``, or ``ACC[src]`` if that is None.

    Raises
    ------
    Fatal
        If an index of a step is out of range (``src`` too when it is not used); nothing has been
        written then.

    """
    pads.check(Memory.ACC, walk.last("dst") + 1)
    pads.check(Memory.ACC, walk.last("src") + 1)
    for begin in range(0, walk.steps, STEP_BLOCK):
        dst, src = walk.flat(begin, min(begin + STEP_BLOCK, walk.steps))
        if imm is not None:
            src = dst
        for steps in _independent(dst, src, len(pads.acc)):
            some = dst[steps]
            old = pads.acc[some]
            y = np.full_like(old, imm) if imm is not None else pads.acc[src[steps]]
            pads.acc[some] = _compute(op, old, y)


def _independent(dst: Indices, src: Indices, depth: int) -> list[slice] | list[Indices]:
    """Split steps into sets, to be done one after the other; within a set all at once.

    All steps of a set read before any of them writes. So a step must come in a later set than the
    last write of what it reads or writes, and in no earlier set than any read of what it writes.
    """
    count = len(dst)
    first_write = np.full(depth, count, np.int64)
    first_write[dst[::-1]] = np.arange(count - 1, -1, -1)
    order = np.arange(count)
    if (first_write[dst] == order).all() and (first_write[src] >= order).all():
        return [slice(None)]
    written, read = [0] * depth, [0] * depth
    levels = []
    for d, s in zip(dst.tolist(), src.tolist(), strict=True):
        level = max(written[d] + 1, written[s] + 1, read[d])
        written[d] = level
        read[s] = max(read[s], level)
        levels.append(level)
    level_of = np.array(levels)
    by_level = np.argsort(level_of, kind="stable")
    bounds = np.flatnonzero(np.diff(level_of[by_level])) + 1
    return np.split(by_level, bounds)


def _compute(op: AluOp, x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return ``op`` of each pair of lanes, wrapped to 32 bits."""
    if op is AluOp.MIN:
        return np.minimum(x, y)
    if op is AluOp.MAX:
        return np.maximum(x, y)
    left, right = x.view(np.uint32), y.view(np.uint32)
    if op is AluOp.ADD:
        return (left + right).view(np.int32)
    if op is AluOp.MUL:
        return (left * right).view(np.int32)
    # Amounts are taken modulo 32 after the sign is split off; -y of the least y is itself.
    up = (left << (-right & np.uint32(31))).view(np.int32)
    return np.where(y >= 0, x >> (y & 31), up)
