"""Chunk shapes: the unit of authentication of each segment (TEC specification §4 to §6).

A chunk is read whole or not at all, carries a tag, and must be filled by one STORE. So the chunk
of an activation divides every boundary between the runs that its writer stores; among those, the
one with the least traffic is taken: long chunks save tags, short ones save over-fetch.
"""

from collections.abc import Sequence
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.segment import Access, Role, Segment, runs
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.table import ENTRY_CHUNK_LIMIT, GRANULE, MAX_CHUNK

__all__ = ["choose_chunk", "divisors", "protected_bytes", "segment_traffic"]

#: Chunks of what nobody stores; anything in between gains nothing.
_POWERS: Final = tuple(GRANULE << n for n in range(16))
#: What a chunk costs beside its bytes: a burst more, whose latency is that of so many bytes.
_BURST_COST: Final = 128
#: Longest chunk of an activation: a run of this length pays 0.1 % for its tag, and a longer one
#: only makes a partial reader fetch more.
_ACTIVATION_LIMIT: Final = 16384


def divisors(number: int) -> list[int]:
    """Return the divisors of ``number``, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def protected_bytes(access: Access, chunk: int, length: int) -> int:
    """Return the bytes that the TEC moves for ``access``: whole chunks, and their tags."""
    begin, end = runs([access])
    return int(_traffic(begin, end, np.zeros(1, np.int64), chunk, length))


def _traffic(
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    starts: NDArray[np.int64],
    chunk: int,
    length: int,
    per_chunk: int = 0,
) -> int:
    """Return bytes moved for runs; ``starts`` are the indices at which a new transfer begins.

    Rows of one transfer that lie in one chunk fetch it once.
    """
    first, last = begin // chunk, (end - 1) // chunk
    shared = np.zeros(len(begin), bool)
    shared[1:] = first[1:] == last[:-1]
    shared[starts] = False
    count = int((last - first + 1).sum() - shared.sum())
    short = length % chunk
    tail = int((last == (length - 1) // chunk).sum()) if short else 0
    return count * (chunk + TAG_BYTES + per_chunk) - tail * (chunk - short)


def _reads_traffic(
    reads: Sequence[Access], chunks: Sequence[int], length: int, per_chunk: int
) -> list[int]:
    begin, end = runs(reads)
    counts = [1 if a.rows == 1 or a.stride == a.row_bytes else a.rows for a in reads]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    return [_traffic(begin, end, starts, chunk, length, per_chunk) for chunk in chunks]


def choose_chunk(segment: Segment) -> int:
    """Return the chunk, in bytes, with which ``segment`` causes the least traffic."""
    length = segment.length
    if segment.role is Role.PROGRAM:
        return ENTRY_CHUNK_LIMIT
    limit = MAX_CHUNK
    if segment.writes:
        limit = _ACTIVATION_LIMIT
        begin, end = runs(segment.writes)
        boundary = gcd(*(int(b) for b in np.unique(np.concatenate([begin, end]))))
        candidates = divisors(boundary // GRANULE)
        candidates = [GRANULE * c for c in candidates]
    else:
        begin, end = runs(segment.reads)
        boundary = gcd(length, *(int(b) for b in np.unique(np.concatenate([begin, end]))))
        if segment.role is Role.INPUT:
            limit = _ACTIVATION_LIMIT
        candidates = [GRANULE * c for c in divisors(boundary // GRANULE)]
        if segment.role in (Role.INPUT, Role.UOPS):
            candidates += _POWERS
    candidates = sorted({c for c in candidates if c <= limit})
    if not segment.reads:
        return candidates[-1]
    # The shorter of two equals: its first bytes are verified sooner.
    costs = segment_traffic(segment, candidates, per_chunk=_BURST_COST)
    return min(zip(costs, candidates, strict=True))[1]


def segment_traffic(segment: Segment, chunks: Sequence[int], *, per_chunk: int = 0) -> list[int]:
    """Return the bytes that every access of ``segment`` together moves, with each of ``chunks``.

    What is stored counts with its tags alone. Each chunk that is moved counts ``per_chunk`` more.
    """
    read = (
        _reads_traffic(segment.reads, chunks, segment.length, per_chunk)
        if segment.reads
        else [0] * len(chunks)
    )
    if not segment.writes:
        return read
    return [
        nbytes + (TAG_BYTES + per_chunk) * -(-segment.length // chunk)
        for nbytes, chunk in zip(read, chunks, strict=True)
    ]
