"""The monitor's side of the TEC up to LOCK: slots, rows, imports, and the end of everything."""

from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ginseng.golden.port import Fatal
from ginseng.golden.tec.errors import TecError
from ginseng.golden.tec.keys import KeySlots
from ginseng.golden.tec.lane import Opener
from ginseng.golden.tec.memory import ByteMemory, Meter
from ginseng.golden.tec.reader import Reader
from ginseng.golden.tec.table import Entry, TensorTable
from ginseng.golden.tec.writer import Writer
from ginseng.isa.config import SystemConfig
from ginseng.isa.formats import TAG_BYTES, chunk_nonce, chunk_place
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import BASE_ALIGNMENT, K_MEM, Domain, Limits, SlotUse, Source

__all__ = ["Session", "guarded"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Session")


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make every fault sticky: the first one zeroizes, and from then on there is only `Fatal`."""

    @wraps(method)
    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # SEC: TEC.STICKY_FATAL
        if self._state is State.FATAL:
            raise Fatal("dead")
        try:
            return method(self, *args, **kwargs)
        except Fatal:
            self.zeroize()
            raise

    return wrapper


class Session:
    """Slots, table and imports of one session; `Tec` adds runs and the core's transfers.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    dram : ByteMemory
        Belongs to the adversary.
    lazy : bool
        See `Tec`.
    limits : Limits or None
        Ends of the counters.

    Raises
    ------
    TecError
        If the configuration has no TEC.

    """

    def __init__(
        self,
        config: SystemConfig,
        dram: ByteMemory,
        *,
        lazy: bool = False,
        limits: Limits | None = None,
    ) -> None:
        if config.tec is None:
            raise TecError("This configuration has no TEC; give SystemConfig a TecConfig")
        self._config = config.core
        self._offset_bits = config.tec.offset_bits
        self._lazy = lazy
        self._limits = limits or Limits()
        self._memory = Meter(dram, config.bus)
        self._keys = KeySlots(config.tec.key_bytes, self._limits)
        self._table = TensorTable(config, config.tec.table_entries, config.tec.bitmap_bits)
        self._writer = Writer(self._memory, self._keys)
        self._reader = Reader(self._memory, self._keys, self._writer)
        self._state = State.IDLE
        self._reset()

    @guarded
    def begin(self, k_mem: bytes) -> None:
        """Start the session: ``k_mem``, fresh from the DRBG, goes into slot 0, all else is empty.

        Raises
        ------
        TecError
            If a session has begun: its counters must not restart under a key that may be the same.

        """
        if self._state is not State.IDLE:
            raise TecError("This Tec has had its session; make a new one for the next")
        self._keys.begin(k_mem)
        self._state = State.CONFIG

    @guarded
    def declare_slot(self, slot: int, use: SlotUse) -> Refusal:
        """Say what a slot is for; before LOCK and before any row names it."""
        if self._state is not State.CONFIG:
            return Refusal.WRONG_STATE
        return self._keys.declare(slot, use)

    @guarded
    def load_row(self, handle: int, row: bytes) -> Refusal:
        """Take one row (32 bytes, `TensorRow`), or name the first rule of §3 that it breaks."""
        # SEC: TEC.TABLE_LOCKED
        if self._state is not State.CONFIG:
            return Refusal.WRONG_STATE
        refusal = self._table.load(handle, row, self._keys.uses)
        if refusal is Refusal.NONE:
            entry = self._entry(handle)
            if entry.domain == Domain.WEIGHTS and not entry.measured:
                entry.version = entry.row_version
        return refusal

    @guarded
    def load_key(self, slot: int, key: bytes) -> Refusal:
        """Fill a declared slot, once, after LOCK; ``key`` is derived by the monitor."""
        if self._state is not State.LOCKED:
            return Refusal.WRONG_STATE
        return self._keys.load(slot, key)

    @guarded
    def check_import(self, handle: int, source: int) -> Refusal:
        """Say whether IMPORT would be taken.

        Plain sources are imported before LOCK, sealed ones after it, each kind in ascending order
        of handle. The source is aligned like a row's, lies inside the DRAM window and touches no
        row.
        """
        entry = self._table.get(handle)
        if entry is None or not entry.imported:
            return Refusal.IMPORT_ROW
        plain = entry.source == Source.PLAIN
        # SEC: TEC.TABLE_LOCKED -- plain imports are closed by LOCK.
        if self._state is not (State.CONFIG if plain else State.LOCKED):
            return Refusal.IMPORT_ROW
        # SEC: TEC.IMPORT_ONCE
        if handle <= self._last_import[plain]:
            return Refusal.IMPORT_ORDER
        span = (source, source + (entry.length if plain else entry.place_bytes))
        # SEC: TEC.IMPORT_SOURCE -- what is imported cannot be what the TEC itself has written.
        if source % BASE_ALIGNMENT or not self._table.encloses(span) or self._table.touches(span):
            return Refusal.IMPORT_SOURCE
        if not plain and not self._keys.loaded(entry.slot):
            return Refusal.IMPORT_KEY
        return Refusal.NONE

    @guarded
    def import_plain(self, handle: int, source: int) -> bytes:
        """Fetch a row's plaintext once, seal it in place under K_mem, return it to be measured.

        Raises
        ------
        TecError
            If `check_import` refuses it.
        Fatal
            If the epochs are used up.

        """
        entry = self._importable(handle, source, Source.PLAIN)
        epoch = self._next_epoch()
        measured = bytearray()
        for index in range(entry.chunks):
            first, last = entry.chunk_span(index)
            plaintext = self._memory.read(source + first, last - first)
            self._seal_in_place(entry, epoch, index, plaintext)
            measured += plaintext
        self._place(entry, epoch)
        return bytes(measured)

    @guarded
    def import_sealed(self, handle: int, source: int) -> bytes:
        """Open a row's source, seal it in place under K_mem, return (ciphertext ‖ tag) per chunk.

        Raises
        ------
        TecError
            If `check_import` refuses it.
        Fatal
            If a chunk does not open under the row's slot and version.

        """
        entry = self._importable(handle, source, Source.SEALED)
        epoch = self._next_epoch()
        measured = bytearray()
        for index in range(entry.chunks):
            first, last = entry.chunk_span(index)
            at = source + chunk_place(index, entry.chunk)
            sealed = self._memory.read(at, last - first + TAG_BYTES)
            ciphertext, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
            nonce = chunk_nonce(entry.domain, handle, entry.row_version, index)
            opener = self._keys.opener(entry.slot, nonce, ciphertext, tag)
            # SEC: TEC.IMPORT_VERIFIED -- the gates may be a chunk ahead; a bad tag kills K_mem.
            opener.verify()
            self._seal_in_place(entry, epoch, index, opener.plaintext)
            measured += ciphertext + tag
        self._place(entry, epoch)
        return bytes(measured)

    @guarded
    def check_lock(self, entry: int) -> Refusal:
        """Say whether `lock` would be taken."""
        if self._state is not State.CONFIG:
            return Refusal.WRONG_STATE
        program = self._table.get(entry)
        # SEC: TEC.ENTRY_MEASURED
        if program is None or not program.executable or program.version is None:
            return Refusal.LOCK_ENTRY
        if any(e.imported and e.source == Source.PLAIN and e.version is None for e in self._table):
            return Refusal.LOCK_IMPORT
        return Refusal.NONE

    @guarded
    def lock(self, entry: int) -> Refusal:
        """Close the table; ``entry`` is the handle of the imported X row."""
        refusal = self.check_lock(entry)
        if refusal is Refusal.NONE:
            self._state = State.LOCKED
        return refusal

    @guarded
    def rows(self) -> list[tuple[int, bytes]]:
        """Return handle and measured form of each row, in ascending order."""
        return [(entry.handle, entry.word) for entry in self._table]

    @guarded
    def length(self, handle: int) -> int:
        """Return the length of a tensor in bytes."""
        return self._entry(handle).length

    def zeroize(self) -> None:
        """Destroy the keys, the table and all that was read; only a new object leaves this."""
        # SEC: TEC.ZEROIZE
        self._keys.zeroize()
        self._table.clear()
        self._reset()
        self._state = State.FATAL

    def _reset(self) -> None:
        self._writer.reset()
        self._epoch = 0
        self._run = 0
        self._issued = 0
        #: Loads that are not verified yet, oldest first, each with its chunks.
        self._pending: deque[list[Opener]] = deque()
        #: Highest handle imported so far, of sealed (False) and plain (True) sources.
        self._last_import = {False: -1, True: -1}

    def _entry(self, handle: int) -> Entry:
        entry = self._table.get(handle)
        if entry is None:
            raise TecError(f"There is no row with handle {handle}; load it first")
        return entry

    def _next_epoch(self) -> int:
        # SEC: TEC.EPOCH -- one counter per K_mem, never reused, ends in a fault.
        if self._epoch >= self._limits.epochs:
            raise Fatal("epoch limit")
        self._epoch += 1
        return self._epoch

    def _importable(self, handle: int, source: int, kind: Source) -> Entry:
        refusal = self.check_import(handle, source)
        if refusal is not Refusal.NONE:
            raise TecError(f"Row {handle} cannot be imported: {refusal.name}; ask check_import")
        entry = self._entry(handle)
        if entry.source != kind:
            raise TecError(f"Row {handle} has no {kind.name.lower()} source; use the other import")
        return entry

    def _seal_in_place(self, entry: Entry, epoch: int, index: int, plaintext: bytes) -> None:
        nonce = chunk_nonce(entry.domain, entry.handle, epoch, index)
        sealer = self._keys.sealer(K_MEM, nonce, len(plaintext))
        sealed = sealer.update(plaintext) + sealer.finish()
        self._memory.write(entry.base + chunk_place(index, entry.chunk), sealed)

    def _place(self, entry: Entry, epoch: int) -> None:
        entry.version = epoch
        self._last_import[entry.source == Source.PLAIN] = entry.handle
