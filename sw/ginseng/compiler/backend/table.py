"""Rows of the tensor table: segments of equal chunks share one, as few as the build has."""

from dataclasses import dataclass, field
from math import gcd
from typing import Final

from ginseng.compiler.backend.chunks import choose_chunk, segment_traffic
from ginseng.compiler.backend.segment import Role, Segment
from ginseng.compiler.errors import CompilerError
from ginseng.isa.config import TecConfig
from ginseng.isa.formats import chunk_count
from ginseng.isa.table import Domain, Permission, Source
from ginseng.program import TensorSpec

__all__ = ["MODEL_SLOT", "SESSION_SLOT", "Row", "build_rows"]

#: Slots of the model's owner and of the data's owner.
MODEL_SLOT: Final = 1
SESSION_SLOT: Final = 2
_WEIGHT_VERSION: Final = 1

#: Roles in the order of their handles.
_ORDER: Final = (
    Role.PROGRAM,
    Role.UOPS,
    Role.WEIGHTS,
    Role.BIASES,
    Role.INPUT,
    Role.SCRATCH,
    Role.OUTPUT,
)
#: Roles whose segments share rows from the start; the others do when the table is full.
_MERGED: Final = (Role.WEIGHTS, Role.BIASES)
_ALL: Final = (*_MERGED, Role.SCRATCH)


@dataclass(eq=False)
class Row:
    """One tensor of the table and the segments that stand in it, one after another."""

    name: str
    handle: int
    segments: list[Segment]
    offsets: dict[Segment, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at = 0
        for segment in self.segments:
            self.offsets[segment] = at
            at += segment.length

    @property
    def role(self) -> Role:
        """What its segments are for."""
        return self.segments[0].role

    @property
    def chunk(self) -> int:
        """Bytes of a chunk."""
        return self.segments[0].chunk

    @property
    def length(self) -> int:
        """Bytes."""
        return sum(segment.length for segment in self.segments)

    @property
    def data(self) -> bytes:
        """What the model's owner puts there."""
        return b"".join(segment.data or b"" for segment in self.segments)

    def spec(self) -> TensorSpec:
        """Return the row as a program's manifest has it."""
        role = self.role
        name, handle, length, chunk = self.name, self.handle, self.length, self.chunk
        if role in (Role.PROGRAM, Role.UOPS):
            return TensorSpec(
                name=name,
                handle=handle,
                domain=Domain.PROGRAM,
                permissions=Permission.R | Permission.X if role is Role.PROGRAM else Permission.R,
                length=length,
                chunk=chunk,
                measured=True,
                source=Source.PLAIN,
            )
        if role in (Role.WEIGHTS, Role.BIASES):
            return TensorSpec(
                name=name,
                handle=handle,
                domain=Domain.WEIGHTS,
                permissions=Permission.R,
                length=length,
                chunk=chunk,
                slot=MODEL_SLOT,
                measured=True,
                version=_WEIGHT_VERSION,
            )
        domain, permissions, slot = {
            Role.INPUT: (Domain.IMPORT, Permission.R, SESSION_SLOT),
            Role.SCRATCH: (Domain.SCRATCH, Permission.R | Permission.W, 0),
            Role.OUTPUT: (Domain.EXPORT, Permission.W, SESSION_SLOT),
        }[role]
        return TensorSpec(
            name=name,
            handle=handle,
            domain=domain,
            permissions=permissions,
            length=length,
            chunk=chunk,
            slot=slot,
        )


def build_rows(segments: list[Segment], tec: TecConfig) -> list[Row]:
    """Choose every chunk, and put segments into rows.

    Raises
    ------
    CompilerError
        If they do not fit the table or the bitmap of the build.

    """
    for segment in segments:
        segment.chunk = choose_chunk(segment)
    groups = _groups(segments, _MERGED)
    if len(groups) > tec.table_entries:
        # Scratch tensors whose chunks are equal anyway share a row, then what costs least.
        groups = _groups(segments, _ALL)
        traffic = _Traffic()
        while len(groups) > tec.table_entries and _join_cheapest(groups, traffic):
            groups = _groups(segments, _ALL)
    if len(groups) > tec.table_entries:
        raise CompilerError(
            f"The program needs {len(groups)} rows of the tensor table, the build has "
            f"{tec.table_entries}; split the model, or choose a build with more rows"
        )
    rows = [Row(_name(group), handle, group) for handle, group in enumerate(groups)]
    writable = (Role.SCRATCH, Role.OUTPUT)
    chunks = sum(chunk_count(r.length, r.chunk) for r in rows if r.role in writable)
    if chunks > tec.bitmap_bits:
        raise CompilerError(
            f"The program writes {chunks} chunks, the build's bitmap has {tec.bitmap_bits}; use a "
            "smaller input, or a build with a larger bitmap"
        )
    return rows


class _Traffic:
    """Bytes that segments move with a chunk in common; each asked for once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Segment, int], int] = {}

    def __call__(self, group: list[Segment], chunk: int) -> int:
        total = 0
        for segment in group:
            key = segment, chunk
            if key not in self._known:
                self._known[key] = segment_traffic(segment, [chunk])[0]
            total += self._known[key]
        return total


def _join_cheapest(groups: list[list[Segment]], traffic: _Traffic) -> bool:
    """Give two rows of one role one chunk, with the least traffic added; False if none can.

    The chunk is the longest that fills every segment and that all their stores fill.
    """
    best: tuple[int, list[Segment], int] | None = None
    for n, one in enumerate(groups):
        for other in groups[n + 1 :]:
            if one[0].role not in _ALL or one[0].role is not other[0].role:
                continue
            both = one + other
            chunk = gcd(*(s.chunk for s in both), *(s.length for s in both))
            added = traffic(both, chunk)
            added -= traffic(one, one[0].chunk) + traffic(other, other[0].chunk)
            if best is None or added < best[0]:
                best = added, both, chunk
    if best is None:
        return False
    for segment in best[1]:
        segment.chunk = best[2]
    return True


def _groups(segments: list[Segment], merged: tuple[Role, ...]) -> list[list[Segment]]:
    """Return the segments of each row, roles in order."""
    found: list[list[Segment]] = []
    for role in _ORDER:
        shared: dict[int, list[Segment]] = {}
        for segment in segments:
            if segment.role is not role or not segment.length:
                continue
            # A short last chunk can only stand at the end of a row.
            if role in merged and segment.length % segment.chunk == 0:
                shared.setdefault(segment.chunk, []).append(segment)
            else:
                found.append([segment])
        found += shared.values()
    return found


def _name(group: list[Segment]) -> str:
    first = group[0]
    if first.role in _MERGED:
        return f"{first.role.value}.{first.chunk}"
    return first.name
