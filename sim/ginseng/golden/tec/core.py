"""The tensor encryption core: answers the VTA core's transfers and the monitor's commands."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec.errors import TecError
from ginseng.golden.tec.lane import Opener
from ginseng.golden.tec.session import Session, guarded
from ginseng.golden.tec.table import Entry
from ginseng.isa.config import Memory
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import Domain
from ginseng.isa.transfer import Client

__all__ = ["Tec"]

#: Which memory types each client loads; the fetch client has units of its own.
_LOADS: Final = {
    Client.COMPUTE: (Memory.UOP, Memory.ACC, Memory.ACC_8BIT),
    Client.INP: (Memory.INP,),
    Client.WGT: (Memory.WGT,),
}


class Tec(Session):
    """One session of the TEC, as a `MemoryPort` for the core and a set of commands for the monitor.

    Commands return a `Refusal` and change nothing if it is not NONE. A fault raises `Fatal`, after
    which, as after `zeroize`, every method raises ``Fatal("dead")``: a new session needs a new
    object.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    dram : ByteMemory
        Belongs to the adversary.
    lazy : bool
        Whether a load's chunks are verified only as `settle` is called, instead of on return.
    limits : Limits
        Ends of the counters.

    Raises
    ------
    TecError
        If the configuration has no TEC.

    Notes
    -----
    *Guarantees.* Stored bytes reach DRAM only as ciphertext, and no store happens before the loads
    that it may depend on are verified. No nonce meets two plaintexts under one key: an epoch is
    given to one import or run, a run number to one run, and a chunk is written once in either.
    *Edge cases.* A program loaded lazily can compute on bytes that do not verify; they influence
    nothing outside the chip, because `write` and `finish_run` verify first.

    """

    # Monitor: runs

    @guarded
    def check_run(self) -> Refusal:
        """Say whether a run may start: every slot that a row names is loaded, every import done."""
        if self._state is not State.LOCKED:
            return Refusal.WRONG_STATE
        # SEC: TEC.UNLOADED_SLOT
        if not all(self._keys.loaded(entry.slot) for entry in self._table):
            return Refusal.RUN_KEY
        if any(entry.imported and entry.version is None for entry in self._table):
            return Refusal.RUN_IMPORT
        return Refusal.NONE

    @guarded
    def start_run(self, run: int) -> None:
        """Give every tensor its version for run number ``run``, which only ever rises.

        Raises
        ------
        TecError
            If `check_run` refuses it.
        Fatal
            If the run number does not rise, or run numbers or epochs are used up.

        """
        refusal = self.check_run()
        if refusal is not Refusal.NONE:
            raise TecError(f"A run cannot start: {refusal.name}; ask check_run first")
        # SEC: TEC.WRITTEN_BITMAP -- completely clear before each run.
        if not self._writer.clear:
            raise Fatal("bitmap")
        # SEC: TEC.NONCE_UNIQUE -- exports of two runs never share a version.
        if not self._run < run <= self._limits.epochs:
            raise Fatal("run number")
        self._run = run
        epoch = self._next_epoch()
        for entry in self._table:
            if entry.domain == Domain.SCRATCH:
                entry.version = epoch
            elif entry.domain in (Domain.IMPORT, Domain.EXPORT):
                entry.version = run
        self._memory.reset()
        self._state = State.RUN

    @guarded
    def finish_run(self) -> bytes:
        """End the run at FINISH and return what PCR 6 hashes of it.

        (handle(2) ‖ chunk index(4) ‖ ciphertext ‖ tag) of each chunk of the measured exports, in
        store order, big-endian.

        Raises
        ------
        Fatal
            If a load does not verify, a chunk is half written, or an export not wholly.

        """
        self._require_run()
        while self._settle():
            pass
        stream = self._writer.finish([e for e in self._table if e.domain == Domain.EXPORT])
        self._state = State.LOCKED
        return stream

    @property
    def read_bytes(self) -> int:
        """Bytes read since the run began, in whole beats; over-fetch and tags included."""
        return self._memory.read_bytes

    @property
    def write_bytes(self) -> int:
        """Bytes written since the run began, tags included."""
        return self._memory.write_bytes

    @property
    def read_bursts(self) -> int:
        """Read bursts since the run began."""
        return self._memory.read_bursts

    @property
    def write_bursts(self) -> int:
        """Write bursts since the run began."""
        return self._memory.write_bursts

    # Core: MemoryPort

    @property
    @guarded
    def issued(self) -> int:
        """LOAD descriptors taken in this session; FETCH has none."""
        return self._issued

    @property
    @guarded
    def verified(self) -> int:
        """Length of the longest prefix of them whose every chunk verified."""
        return self._issued - len(self._pending)

    @guarded
    def read(self, client: Client, transfer: Transfer) -> NDArray[np.uint8]:
        """Return the elements of ``transfer``, dense; see `MemoryPort.read`.

        A partly needed chunk is fetched whole. Rows share the fetch of a chunk if
        ``stride >= row_elements``, otherwise each row fetches its chunks anew.

        Raises
        ------
        Fatal
            If the transfer is not allowed, or a chunk was not written in this run, or (unless
            lazy, and for FETCH always) does not verify.

        """
        self._require_run()
        fetch = client is Client.FETCH
        if not fetch and transfer.memory not in _LOADS.get(client, ()):
            raise Fatal("memory id")
        data, openers = bytearray(), list[Opener]()
        if transfer.rows and transfer.row_elements:
            entry = self._entry_at(transfer.dram_base)
            # SEC: TEC.FETCH_X_ONLY
            if not (entry.executable if fetch else entry.readable):
                raise Fatal("permission")
            # SEC: TEC.UOP_DOMAIN -- what steers the core is measured.
            if not fetch and transfer.memory == Memory.UOP and entry.domain != Domain.PROGRAM:
                raise Fatal("micro-ops from data")
            unit = INSN_BYTES if fetch else self._config.element_bytes(transfer.memory)
            rows = self._rows(entry, transfer, unit)
            merge = transfer.stride >= transfer.row_elements
            data, openers = self._reader.read(entry, rows, merge)
        if fetch:
            # SEC: TEC.FETCH_VERIFIED -- nothing is decoded before its chunk verified.
            for opener in openers:
                opener.verify()
        else:
            self._issued += 1
            self._pending.append(openers)
            self._skip_empty()
            while not self._lazy and self._settle():
                pass
        return np.frombuffer(data, np.uint8)

    @guarded
    def settle(self) -> bool:
        """Verify the oldest unverified load; return whether there was one."""
        return self._settle()

    @guarded
    def write(self, transfer: Transfer, data: NDArray[np.uint8], sample: int) -> None:
        """Seal and write the elements of ``transfer``, given dense; see `MemoryPort.write`.

        Raises
        ------
        TecError
            If ``data`` is not as large as the transfer.
        Fatal
            If the transfer is not allowed, comes before ``sample`` loads verified, writes a chunk
            twice or in pieces that are not whole chunks in order.

        """
        self._require_run()
        unit = self._config.element_bytes(Memory.OUT)
        if data.nbytes != transfer.rows * transfer.row_elements * unit:
            raise TecError(
                f"A store of {transfer.rows} rows of {transfer.row_elements} elements has "
                f"{transfer.rows * transfer.row_elements * unit} bytes, not {data.nbytes}"
            )
        if not data.nbytes:
            return
        # SEC: TEC.STORE_BARRIER -- holds whatever the program did with its tokens.
        if self._issued - len(self._pending) < sample:
            raise Fatal("store barrier")
        if transfer.memory != Memory.OUT:
            raise Fatal("memory id")
        entry = self._entry_at(transfer.dram_base)
        if not entry.writable:
            raise Fatal("permission")
        rows = self._rows(entry, transfer, unit)
        self._writer.store(entry, rows, data.tobytes())

    def _require_run(self) -> None:
        if self._state is not State.RUN:
            raise Fatal("no run")

    def _entry_at(self, dram_base: int) -> Entry:
        entry = self._table.get(dram_base >> self._offset_bits)
        if entry is None:
            raise Fatal("handle")
        return entry

    def _rows(self, entry: Entry, transfer: Transfer, unit: int) -> list[tuple[int, int]]:
        """Return first and end byte of each row from the tensor's start, all inside its length."""
        offset = transfer.dram_base & (1 << self._offset_bits) - 1
        starts = [offset + row * transfer.stride for row in range(transfer.rows)]
        rows = [(start * unit, (start + transfer.row_elements) * unit) for start in starts]
        # SEC: TEC.RANGE_UNWRAPPED -- every row, before any address is issued, never modulo 2**32.
        if any(end > entry.length for _, end in rows):
            raise Fatal("range")
        return rows

    def _settle(self) -> bool:
        if not self._pending:
            return False
        # SEC: TEC.VERIFY_BEFORE_USE -- `verified` grows only here, in order, tag by tag.
        for opener in self._pending[0]:
            opener.verify()
        self._pending.popleft()
        self._skip_empty()
        return True

    def _skip_empty(self) -> None:
        """Count loads without chunks as verified once all before them are."""
        while self._pending and not self._pending[0]:
            self._pending.popleft()
