"""GEMM, exact modulo 2**32 and as fast as the BLAS allows (VTA specification §6).

Addition modulo 2**32 is associative, so the steps of one instruction may be summed in any order.
Steps are arranged into few matrix products: a loop that changes the weight, or that adds to the
same accumulators again, becomes more micro-ops; the other loop becomes rows. Products of int8 are
at most 2**14, so a float32 sum of 1024 of them is exact in whatever order the BLAS adds.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.vta.scratchpad import Scratchpads
from ginseng.golden.vta.walk import STEP_BLOCK, Indices, Loop, Walk
from ginseng.isa.config import Memory

__all__ = ["run_gemm"]

#: Terms of one exact float32 sum: 2**24 / 2**14.
_EXACT_TERMS: Final = 1 << 10

#: Products of at most this size are done by one thread of OpenBLAS. More threads gain little on
#: matrices so narrow, and lose a hundredfold when they wait for one another on a busy machine.
_PIECE_MACS: Final = 1 << 18
_PIECE_ROWS: Final = 16

_ONCE: Final = Loop(1, 0, 0, 0)


def run_gemm(pads: Scratchpads, walk: Walk, *, reset: bool) -> None:
    """Do every step of ``walk``: accumulate into ACC, or with ``reset`` zero it.

    Raises
    ------
    Fatal
        If an index that a step uses is out of range; nothing has been written then.

    """
    pads.check(Memory.ACC, walk.last("dst") + 1)
    if reset:
        pads.acc[walk.destinations()] = 0
        return
    pads.check(Memory.INP, walk.last("src") + 1)
    pads.check(Memory.WGT, walk.last("wgt") + 1)
    _accumulate(pads, walk, 1)


def _accumulate(pads: Scratchpads, walk: Walk, times: int) -> None:
    """Add every step of ``walk``, ``times`` times; first strip and cut the loops."""
    for loop, other in ((walk.outer, walk.inner), (walk.inner, walk.outer)):
        if loop.count > 1 and not (loop.dst or loop.src or loop.wgt):
            alone = Walk(walk.dst, walk.src, walk.wgt, _ONCE, other)
            _accumulate(pads, alone, times * loop.count)
            return
    if walk.steps > STEP_BLOCK and (walk.outer.count > 1 or walk.inner.count > 1):
        # Cut the longer loop; what is left of it starts further on.
        cut_outer = walk.outer.count >= walk.inner.count
        loop, other = (walk.outer, walk.inner) if cut_outer else (walk.inner, walk.outer)
        piece = max(1, STEP_BLOCK * loop.count // walk.steps)
        for at in range(0, loop.count, piece):
            part = Walk(
                walk.dst + at * loop.dst,
                walk.src + at * loop.src,
                walk.wgt + at * loop.wgt,
                Loop(min(piece, loop.count - at), loop.dst, loop.src, loop.wgt),
                other,
            )
            _accumulate(pads, part, times)
        return
    _accumulate_block(pads, walk, times)


def _accumulate_block(pads: Scratchpads, walk: Walk, times: int) -> None:
    """Add a block of steps: expand the loops, then group micro-ops by ``dst``."""
    dst, src, wgt = walk.dst, walk.src, walk.wgt
    row_dst = row_src = np.zeros(1, np.int64)
    for loop in (walk.outer, walk.inner):
        if loop.count == 1:
            continue
        k = np.arange(loop.count, dtype=np.int64)[:, None]
        if loop.wgt or not loop.dst:
            dst = (k * loop.dst + dst).ravel()
            src = (k * loop.src + src).ravel()
            wgt = (k * loop.wgt + wgt).ravel()
        else:
            row_dst = (k * loop.dst + row_dst).ravel()
            row_src = (k * loop.src + row_src).ravel()
    order = np.argsort(dst, kind="stable")
    _, starts, counts = np.unique(dst[order], return_index=True, return_counts=True)
    for terms in np.unique(counts):
        members = order[starts[counts == terms][:, None] + np.arange(terms)]
        _sum_group(pads, dst[members[:, 0]], src[members], wgt[members], row_dst, row_src, times)


def _sum_group(
    pads: Scratchpads,
    dst: Indices,
    src: Indices,
    wgt: Indices,
    row_dst: Indices,
    row_src: Indices,
    times: int,
) -> None:
    """Add ``INP[src + row] . WGT[wgt]`` into ``ACC[dst + row]`` for each group and row.

    ``dst`` has shape (groups,), ``src`` and ``wgt`` (groups, terms), the rows (rows,).
    """
    config = pads.config
    sources, which_src = _unique_rows(src)
    weights, which_wgt = _unique_rows(wgt)
    pairs = which_src * len(weights) + which_wgt
    if len(pairs) == len(sources) * len(weights) and len(np.unique(pairs)) == len(pairs):
        # Every source list meets every weight list: one product, wide in both directions.
        target = np.empty(len(pairs), np.int64)
        target[pairs] = dst
        target = target.reshape(len(sources), 1, len(weights)) + row_dst[:, None]
        total = _product(pads, (sources[:, None, :] + row_src[:, None])[None], weights[None])
        # (source, row, batch, weight, block) to (source, row, weight, batch, block)
        total = total.reshape(len(sources), len(row_src), config.batch, len(weights), config.block)
        _scatter(pads, target, total.swapaxes(2, 3), times)
        return
    # Otherwise one small product per group, as many at a time as temporaries allow.
    size = max(1, STEP_BLOCK // (src.shape[1] * max(config.block, len(row_src))))
    for at in range(0, len(dst), size):
        some = slice(at, at + size)
        total = _product(pads, (src[some, None, :] + row_src[:, None]), wgt[some, None])
        target = dst[some, None] + row_dst
        _scatter(pads, target, total, times)


def _unique_rows(lists: Indices) -> tuple[Indices, Indices]:
    """Return the distinct rows of ``lists`` and, for each row, which one it is."""
    if len(lists) == 1:
        return lists, np.zeros(1, np.int64)
    rows, which = np.unique(lists, axis=0, return_inverse=True)
    return rows, which.reshape(-1)


def _product(pads: Scratchpads, src: Indices, wgt: Indices) -> NDArray[np.int32]:
    """Return the sums of products, shape (..., rows * batch, columns * block), exact mod 2**32.

    ``src`` is (..., rows, terms) or (..., a, rows, terms), ``wgt`` (..., columns, terms): with
    leading axes of ``wgt`` there is one product for each of them.
    """
    config = pads.config
    lead, columns, terms = len(wgt), wgt.shape[1], wgt.shape[2]
    src = src.reshape(lead, -1, terms)
    rows = src.shape[1]
    total = np.zeros((lead, rows * config.batch, columns * config.block), np.int32)
    at_once = max(1, _EXACT_TERMS // config.block)
    for at in range(0, terms, at_once):
        left = pads.inp[src[:, :, at : at + at_once]]
        right = pads.wgt[wgt[:, :, at : at + at_once]]
        some = left.shape[2]
        # (lead, row, term, batch, k) to (lead, row * batch, term * k)
        a = left.swapaxes(2, 3).reshape(lead, rows * config.batch, some * config.block)
        # (lead, column, term, j, k) to (lead, column * j, term * k)
        b = right.swapaxes(2, 3).reshape(lead, columns * config.block, some * config.block)
        _add_product(total, a.astype(np.float32), b.astype(np.float32))
    return total


def _add_product(total: NDArray[np.int32], a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Add ``a @ b.T`` to ``total`` along the first axis, in pieces of one thread's size."""
    rows, columns, terms = a.shape[1], b.shape[1], a.shape[2]
    high = min(rows, _PIECE_ROWS)
    wide = max(1, _PIECE_MACS // (high * terms))
    for top in range(0, rows, high):
        for left in range(0, columns, wide):
            down, across = slice(top, top + high), slice(left, left + wide)
            sums = a[:, down] @ b[:, across].swapaxes(1, 2)
            total[:, down, across] += sums.astype(np.int32)


def _scatter(pads: Scratchpads, dst: Indices, total: NDArray[np.int32], times: int) -> None:
    """Add ``total`` to ACC at ``dst``, which may name an element more than once."""
    acc = pads.acc.view(np.uint32)
    where = dst.reshape(-1)
    what = np.ascontiguousarray(total).view(np.uint32).reshape(-1, *acc.shape[1:])
    if times != 1:
        what = what * np.uint32(times % (1 << 32))
    if np.bincount(where).max() == 1:
        acc[where] += what
    else:
        np.add.at(acc, where, what)
