"""Writes: whole chunks, each at most once per version (TEC specification §3, §6)."""

from dataclasses import dataclass

from ginseng.golden.port import Fatal
from ginseng.golden.tec.keys import KeySlots
from ginseng.golden.tec.lane import Sealer
from ginseng.golden.tec.memory import Meter
from ginseng.golden.tec.table import Entry
from ginseng.isa.formats import chunk_nonce, chunk_place
from ginseng.isa.table import STORE_SPAN, Domain

__all__ = ["Writer"]


@dataclass(slots=True)
class _OpenChunk:
    """The chunk that is being written."""

    entry: Entry
    index: int
    #: The byte that must come next, from the tensor's start.
    position: int
    sealer: Sealer
    #: Its ciphertext so far, for the measurement.
    ciphertext: bytearray
    #: Stores that have brought bytes of it.
    stores: int = 0


class Writer:
    """Seals what the core stores, and knows what was written in this run.

    Parameters
    ----------
    memory : Meter
    keys : KeySlots

    """

    def __init__(self, memory: Meter, keys: KeySlots) -> None:
        self._memory = memory
        self._keys = keys
        #: The bits that are set of the written bitmap.
        self._written: set[int] = set()
        self._open: _OpenChunk | None = None
        self._exports = bytearray()

    @property
    def clear(self) -> bool:
        """Whether no chunk is written or open."""
        return not self._written and self._open is None

    def readable(self, entry: Entry, index: int) -> bool:
        """Whether a chunk of a W row was written completely."""
        chunk = self._open
        if chunk is not None and chunk.entry is entry and chunk.index == index:
            return False
        return entry.first_bit + index in self._written

    def store(self, entry: Entry, rows: list[tuple[int, int]], data: bytes) -> None:
        """Write one STORE's bytes.

        Parameters
        ----------
        entry : Entry
            A W row that has its version.
        rows : list of (int, int)
            First and end byte of each row from the tensor's start, all inside its length.
        data : bytes
            As many as the rows have, dense.

        Raises
        ------
        Fatal
            If the bytes break the whole-chunk rule, or a chunk was written before.

        """
        at = 0
        continued: _OpenChunk | None = None
        for begin, end in _joined(rows):
            while begin < end:
                chunk = self._chunk_at(entry, begin)
                if chunk is not continued:
                    # SEC: TEC.CHUNK_WHOLE -- a chunk continues over few stores.
                    chunk.stores += 1
                    if chunk.stores > STORE_SPAN:
                        raise Fatal("partial write")
                    continued = chunk
                stop = min(end, entry.chunk_span(chunk.index)[1])
                self._append(chunk, data[at : at + stop - begin])
                at += stop - begin
                begin = stop

    def finish(self, exports: list[Entry]) -> bytes:
        """End a run: return what PCR 6 hashes of the measured exports, and clear the bitmap.

        Raises
        ------
        Fatal
            If a chunk is open, or a chunk of an export was not written.

        """
        # SEC: TEC.CHUNK_WHOLE
        if self._open is not None:
            raise Fatal("partial write")
        # SEC: TEC.EXPORT_COMPLETE -- no client mistakes half a result for a whole one.
        for entry in exports:
            if any(entry.first_bit + index not in self._written for index in range(entry.chunks)):
                raise Fatal("unwritten export")
        stream = bytes(self._exports)
        self.reset()
        return stream

    def reset(self) -> None:
        """Clear the bitmap and forget the open chunk."""
        self._written.clear()
        self._exports.clear()
        self._open = None

    def _chunk_at(self, entry: Entry, position: int) -> _OpenChunk:
        """Return the open chunk, whose next byte this must be, or open the one that starts here."""
        chunk = self._open
        if chunk is not None:
            # SEC: TEC.CHUNK_WHOLE -- ascending, without gap or repeat, before any other chunk.
            if chunk.entry is not entry or chunk.position != position:
                raise Fatal("partial write")
            return chunk
        index, into = divmod(position, entry.chunk)
        if into:
            raise Fatal("partial write")
        # SEC: TEC.WRITTEN_BITMAP -- tested and set before the first pad: one write per version.
        bit = entry.first_bit + index
        if bit in self._written:
            raise Fatal("double write")
        self._written.add(bit)
        if entry.version is None:
            raise Fatal("tensor not in place")
        first, last = entry.chunk_span(index)
        nonce = chunk_nonce(entry.domain, entry.handle, entry.version, index)
        sealer = self._keys.sealer(entry.place_slot, nonce, last - first)
        self._open = _OpenChunk(entry, index, position, sealer, bytearray())
        return self._open

    def _append(self, chunk: _OpenChunk, plaintext: bytes) -> None:
        """Seal the next bytes of the open chunk, which they may end but not leave."""
        entry = chunk.entry
        # SEC: TEC.CIPHERTEXT_ONLY -- the only stored bytes that leave are what the lane returned.
        ciphertext = chunk.sealer.update(plaintext)
        place = chunk_place(chunk.index, entry.chunk) - chunk.index * entry.chunk
        self._memory.write(entry.base + place + chunk.position, ciphertext)
        chunk.position += len(plaintext)
        chunk.ciphertext += ciphertext
        if chunk.position < entry.chunk_span(chunk.index)[1]:
            return
        tag = chunk.sealer.finish()
        self._memory.write(entry.base + place + chunk.position, tag)
        if entry.domain == Domain.EXPORT and entry.measured:
            self._exports += entry.handle.to_bytes(2, "big") + chunk.index.to_bytes(4, "big")
            self._exports += chunk.ciphertext + tag
        self._open = None


def _joined(rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join rows that follow one another without a gap: they leave as one run of beats."""
    joined: list[tuple[int, int]] = []
    for begin, end in rows:
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined
