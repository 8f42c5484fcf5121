"""Which tensor rows are legal by themselves, wherever others stand (TEC specification §3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from amaranth import Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import (
    BASE_ALIGNMENT,
    GRANULE,
    Domain,
    Permission,
    SlotUse,
    Source,
    TensorRow,
)

__all__ = ["RowRules"]

#: Bits of a chunk index in a nonce.
_INDEX_BITS: Final = 32


@dataclass(frozen=True)
class _Line:
    """One line of the table of §3; a row without use has slot 0."""

    domain: Domain
    permissions: int
    measured: int
    source: Source
    use: SlotUse | None
    versioned: bool


_R, _W, _X = (p.value for p in (Permission.R, Permission.W, Permission.X))
_LINES: Final = (
    _Line(Domain.WEIGHTS, _R, 0, Source.SEALED, SlotUse.STATIC, True),
    _Line(Domain.WEIGHTS, _R, 1, Source.SEALED, SlotUse.STATIC, True),
    _Line(Domain.WEIGHTS, _R, 1, Source.PLAIN, None, False),
    _Line(Domain.SCRATCH, _R | _W, 0, Source.SEALED, None, False),
    _Line(Domain.PROGRAM, _R, 1, Source.PLAIN, None, False),
    _Line(Domain.PROGRAM, _R | _X, 1, Source.PLAIN, None, False),
    _Line(Domain.IMPORT, _R, 0, Source.SEALED, SlotUse.SESSION, False),
    _Line(Domain.EXPORT, _W, 0, Source.SEALED, SlotUse.SESSION, False),
    _Line(Domain.EXPORT, _W, 1, Source.SEALED, SlotUse.SESSION, False),
)


class RowRules(wiring.Component):
    """Names the first rule that a row breaks by itself, at once: from RESERVED to ALIGNMENT."""

    #: In: the row.
    row: In(TensorRow)
    #: In: what ``row.slot`` was declared for, a `SlotUse`; 0 if it was not.
    use: In(2)
    #: Out: NONE, or the rule.
    refusal: Out(Refusal)

    def elaborate(self, platform):
        m = Module()

        row = self.row
        granule, alignment = exact_log2(GRANULE), exact_log2(BASE_ALIGNMENT)
        length, chunk = row.length[granule:], row.chunk[granule:]
        most, rest = length[_INDEX_BITS:], length[:_INDEX_BITS]
        broken = [
            (Refusal.ROW_RESERVED, row["_zero"].any()),
            *self._kind(),
            (Refusal.ROW_LENGTH, ~length.any() | row.length[:granule].any()),
            (Refusal.ROW_CHUNK, ~chunk.any() | row.chunk[:granule].any()),
            # SEC: TEC.NONCE_UNIQUE -- two chunks of a tensor never share an index of 32 bits.
            (Refusal.ROW_CHUNK, (most > chunk) | ((most == chunk) & rest.any())),
            (Refusal.ROW_ALIGNMENT, row.base[:alignment].any()),
        ]
        # The later assignment wins, so the first rule comes last.
        for refusal, breaks in reversed(broken):
            with m.If(breaks):
                m.d.comb += self.refusal.eq(refusal)

        return m

    def _kind(self) -> list[tuple[Refusal, Any]]:
        """Compare the row with the lines field by field: the first that leaves none is at fault."""
        # SEC: TEC.LEGAL_ROWS
        row, unslotted = self.row, self.row.slot == 0
        rules: tuple[tuple[Refusal, Callable[[_Line], Any]], ...] = (
            (Refusal.ROW_DOMAIN, lambda line: row.domain == line.domain.value),
            (Refusal.ROW_PERMISSIONS, lambda line: row.permissions == line.permissions),
            (Refusal.ROW_MEASURED, lambda line: row.measured == line.measured),
            (Refusal.ROW_SOURCE, lambda line: row.source == line.source.value),
            (
                Refusal.ROW_SLOT,
                lambda line: ~unslotted & (self.use == line.use.value) if line.use else unslotted,
            ),
            (
                Refusal.ROW_VERSION,
                lambda line: Const(1) if line.versioned else row.version == 0,
            ),
        )
        possible: list[Any] = [Const(1)] * len(_LINES)
        broken = []
        for refusal, matches in rules:
            possible = [p & matches(line) for p, line in zip(possible, _LINES, strict=True)]
            broken.append((refusal, ~Cat(*possible).any()))
        return broken
