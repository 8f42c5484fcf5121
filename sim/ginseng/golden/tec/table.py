"""The tensor table: which rows are legal, and where they may stand (TEC specification §3)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import chunk_count, sealed_bytes
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import (
    BASE_ALIGNMENT,
    ENTRY_CHUNK_LIMIT,
    GRANULE,
    K_MEM,
    MAX_CHUNK,
    TENSOR_ROW,
    Domain,
    Permission,
    SlotUse,
    Source,
)

__all__ = ["LEGAL_ROWS", "Entry", "LegalRow", "TensorTable"]

#: Chunks whose index fits the 32 bits that a nonce has for it.
_CHUNK_LIMIT: Final = 1 << 32


@dataclass(frozen=True)
class LegalRow:
    """One line of the table of §3.

    Attributes
    ----------
    domain : Domain
    permissions : int
        Exactly these.
    measured : int
    source : Source
    use : SlotUse or None
        What the row's slot was declared for; None is slot 0.
    versioned : bool
        Whether the row states a version; if not, the field is 0.

    """

    domain: Domain
    permissions: int
    measured: int
    source: Source
    use: SlotUse | None
    versioned: bool


_R, _W, _X = (p.value for p in (Permission.R, Permission.W, Permission.X))
_SEALED, _PLAIN = Source.SEALED, Source.PLAIN

#: Every legal kind of row; all else is refused.
LEGAL_ROWS: Final = (
    LegalRow(Domain.WEIGHTS, _R, 0, _SEALED, SlotUse.STATIC, True),
    LegalRow(Domain.WEIGHTS, _R, 1, _SEALED, SlotUse.STATIC, True),
    LegalRow(Domain.WEIGHTS, _R, 1, _PLAIN, None, False),
    LegalRow(Domain.SCRATCH, _R | _W, 0, _SEALED, None, False),
    LegalRow(Domain.PROGRAM, _R, 1, _PLAIN, None, False),
    LegalRow(Domain.PROGRAM, _R | _X, 1, _PLAIN, None, False),
    LegalRow(Domain.IMPORT, _R, 0, _SEALED, SlotUse.SESSION, False),
    LegalRow(Domain.EXPORT, _W, 0, _SEALED, SlotUse.SESSION, False),
    LegalRow(Domain.EXPORT, _W, 1, _SEALED, SlotUse.SESSION, False),
)


@dataclass(slots=True)
class Entry:
    """A row that was taken, and what the hardware keeps beside it.

    Attributes
    ----------
    handle : int
    domain, permissions, slot, measured, source : int
        As in the row.
    chunk, base, length : int
        As in the row, in bytes.
    row_version : int
        As in the row.
    version : int or None
        What stands in the nonces of the chunks in place; None while there are none.
    first_bit : int
        Where the row's chunks start in the written bitmap; only for W rows.

    """

    handle: int
    domain: int
    permissions: int
    slot: int
    measured: int
    source: int
    chunk: int
    base: int
    length: int
    row_version: int
    version: int | None = None
    first_bit: int = 0

    @classmethod
    def from_word(cls, handle: int, word: bytes) -> Self:
        """Unpack the 32 bytes of a row."""
        fields = TENSOR_ROW.unpack(word)
        return cls(handle=handle, row_version=fields.pop("version"), **fields)

    @property
    def word(self) -> bytes:
        """The row as it is measured: base is zero, placement is the host's."""
        return TENSOR_ROW.pack(
            domain=self.domain,
            permissions=self.permissions,
            slot=self.slot,
            measured=self.measured,
            source=self.source,
            chunk=self.chunk,
            length=self.length,
            version=self.row_version,
        )

    @property
    def readable(self) -> bool:
        """Whether loads may touch it."""
        return bool(self.permissions & _R)

    @property
    def writable(self) -> bool:
        """Whether stores may touch it; it has bits in the written bitmap."""
        return bool(self.permissions & _W)

    @property
    def executable(self) -> bool:
        """Whether instructions come from it."""
        return bool(self.permissions & _X)

    @property
    def imported(self) -> bool:
        """Whether IMPORT puts it in place under K_mem: programs and measured weights."""
        return bool(self.measured) and self.domain != Domain.EXPORT

    @property
    def place_slot(self) -> int:
        """The slot of the key under which the tensor stands in place."""
        return K_MEM if self.imported else self.slot

    @property
    def chunks(self) -> int:
        """How many chunks it has; the last may be short."""
        return chunk_count(self.length, self.chunk)

    @property
    def place_bytes(self) -> int:
        """Bytes that it takes in DRAM: chunks, and a tag behind each."""
        return sealed_bytes(self.length, self.chunk)

    @property
    def span(self) -> tuple[int, int]:
        """First and end address of what it takes in DRAM."""
        return self.base, self.base + self.place_bytes

    def chunk_span(self, index: int) -> tuple[int, int]:
        """First and end byte of a chunk, from the tensor's start."""
        return index * self.chunk, min((index + 1) * self.chunk, self.length)


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


class TensorTable:
    """Rows by handle.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    entries : int
        Rows that a handle can name.
    bitmap_bits : int
        Chunks of writable rows.

    """

    def __init__(self, config: SystemConfig, entries: int, bitmap_bits: int) -> None:
        bus = config.bus
        self._window = (bus.window_base, bus.window_base + bus.window_bytes)
        self._size = entries
        self._bitmap_bits = bitmap_bits
        self._bits_taken = 0
        self._entries: dict[int, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        """Entries in ascending order of handle."""
        return iter([self._entries[handle] for handle in sorted(self._entries)])

    def get(self, handle: int) -> Entry | None:
        """Return the entry of ``handle``."""
        return self._entries.get(handle)

    def clear(self) -> None:
        """Forget every row."""
        self._entries.clear()
        self._bits_taken = 0

    def load(self, handle: int, word: bytes, uses: Mapping[int, SlotUse]) -> Refusal:
        """Take a row, or name the first rule that it breaks and change nothing."""
        if not 0 <= handle < self._size:
            return Refusal.ROW_HANDLE
        if handle in self._entries:
            return Refusal.ROW_DUPLICATE
        if TENSOR_ROW.reserved(word):
            return Refusal.ROW_RESERVED
        entry = Entry.from_word(handle, word)
        refusal = _kind_refusal(entry, uses) or self._place_refusal(entry)
        if refusal is not Refusal.NONE:
            return refusal
        if entry.writable:
            entry.first_bit = self._bits_taken
            self._bits_taken += entry.chunks
        self._entries[handle] = entry
        return Refusal.NONE

    def encloses(self, span: tuple[int, int]) -> bool:
        """Whether ``span`` lies inside the DRAM window."""
        return self._window[0] <= span[0] and span[1] <= self._window[1]

    def touches(self, span: tuple[int, int]) -> bool:
        """Whether ``span`` shares a byte with any row."""
        return any(_meet(span, entry.span) for entry in self)

    def _place_refusal(self, entry: Entry) -> Refusal:
        """Check the numbers of a row of a legal kind."""
        if not entry.length or entry.length % GRANULE:
            return Refusal.ROW_LENGTH
        if not 0 < entry.chunk <= MAX_CHUNK or entry.chunk % GRANULE:
            return Refusal.ROW_CHUNK
        # SEC: TEC.NONCE_UNIQUE -- two chunks of a tensor never share an index of 32 bits.
        if entry.chunks > _CHUNK_LIMIT:
            return Refusal.ROW_CHUNK
        if entry.base % BASE_ALIGNMENT:
            return Refusal.ROW_ALIGNMENT
        # SEC: TEC.ROW_WINDOW
        if not self.encloses(entry.span):
            return Refusal.ROW_WINDOW
        # SEC: TEC.ROW_OVERLAP -- tags included.
        if self.touches(entry.span):
            return Refusal.ROW_OVERLAP
        # SEC: TEC.ENTRY_CHUNK -- instructions wait for their tag in a buffer of this size.
        if entry.executable and (
            entry.chunk > ENTRY_CHUNK_LIMIT or any(other.executable for other in self)
        ):
            return Refusal.ROW_ENTRY
        if entry.writable and self._bits_taken + entry.chunks > self._bitmap_bits:
            return Refusal.ROW_BITMAP
        return Refusal.NONE


def _kind_refusal(entry: Entry, uses: Mapping[int, SlotUse]) -> Refusal:
    """Compare a row with `LEGAL_ROWS` field by field: the first that leaves no line is at fault."""
    # SEC: TEC.LEGAL_ROWS
    use = None if entry.slot == K_MEM else uses.get(entry.slot)
    declared = entry.slot == K_MEM or use is not None
    rules: tuple[tuple[Refusal, Callable[[LegalRow], bool]], ...] = (
        (Refusal.ROW_DOMAIN, lambda line: line.domain == entry.domain),
        (Refusal.ROW_PERMISSIONS, lambda line: line.permissions == entry.permissions),
        (Refusal.ROW_MEASURED, lambda line: line.measured == entry.measured),
        (Refusal.ROW_SOURCE, lambda line: line.source == entry.source),
        (Refusal.ROW_SLOT, lambda line: declared and line.use is use),
        (Refusal.ROW_VERSION, lambda line: line.versioned or entry.row_version == 0),
    )
    lines = list(LEGAL_ROWS)
    for refusal, matches in rules:
        lines = [line for line in lines if matches(line)]
        if not lines:
            return refusal
    return Refusal.NONE
