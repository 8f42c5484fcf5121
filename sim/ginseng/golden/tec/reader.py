"""Reads: rows to chunks, each chunk fetched whole and opened (TEC specification §5)."""

from ginseng.golden.port import Fatal
from ginseng.golden.tec.keys import KeySlots
from ginseng.golden.tec.lane import Opener
from ginseng.golden.tec.memory import Meter
from ginseng.golden.tec.table import Entry
from ginseng.golden.tec.writer import Writer
from ginseng.isa.formats import TAG_BYTES, chunk_nonce, chunk_place

__all__ = ["Reader"]


class Reader:
    """Fetches chunks. It keeps nothing between two reads, so every read sees DRAM as it is then.

    Parameters
    ----------
    memory : Meter
    keys : KeySlots
    writer : Writer
        Knows which chunks of W rows were written.

    """

    def __init__(self, memory: Meter, keys: KeySlots, writer: Writer) -> None:
        self._memory = memory
        self._keys = keys
        self._writer = writer

    def read(
        self, entry: Entry, rows: list[tuple[int, int]], merge: bool
    ) -> tuple[bytearray, list[Opener]]:
        """Return the bytes of ``rows``, and the chunks that are yet to be verified.

        Parameters
        ----------
        entry : Entry
            A tensor in place.
        rows : list of (int, int)
            First and end byte of each row from the tensor's start, all inside its length.
        merge : bool
            Whether rows that follow each other in one chunk share its fetch.

        Raises
        ------
        Fatal
            If a chunk was not written yet, or its slot has no key.

        """
        data = bytearray()
        openers: list[Opener] = []
        fetched = -1
        for begin, end in rows:
            if not merge:
                fetched = -1
            while begin < end:
                index = begin // entry.chunk
                first, last = entry.chunk_span(index)
                if index != fetched:
                    openers.append(self._fetch(entry, index))
                    fetched = index
                stop = min(end, last)
                data += openers[-1].plaintext[begin - first : stop - first]
                begin = stop
        return data, openers

    def _fetch(self, entry: Entry, index: int) -> Opener:
        if entry.version is None:
            raise Fatal("tensor not in place")
        # SEC: TEC.WRITTEN_BITMAP -- what an earlier run or session left is never read.
        if entry.writable and not self._writer.readable(entry, index):
            raise Fatal("unwritten chunk")
        first, last = entry.chunk_span(index)
        at = entry.base + chunk_place(index, entry.chunk)
        sealed = self._memory.read(at, last - first + TAG_BYTES)
        # SEC: TEC.NONCE_BINDS -- a chunk opens only as itself: its tensor, its place, its version.
        nonce = chunk_nonce(entry.domain, entry.handle, entry.version, index)
        return self._keys.opener(entry.place_slot, nonce, sealed[:-TAG_BYTES], sealed[-TAG_BYTES:])
