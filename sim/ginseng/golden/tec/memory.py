"""DRAM as the TEC reaches it, with the bytes and bursts counted."""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import BusConfig

__all__ = ["ByteMemory", "Meter"]

_PAGE: Final = 4096


class ByteMemory(Protocol):
    """What `ginseng.golden.dram.Dram` offers; both raise Fatal outside."""

    def read(self, address: int, nbytes: int, /) -> bytes | NDArray[np.uint8]:
        """Return a copy of ``nbytes`` bytes from ``address`` on."""
        ...

    def write(self, address: int, data: bytes, /) -> None:
        """Write ``data`` from ``address`` on."""
        ...


class Meter:
    """Passes accesses on and counts them, named as in the register map.

    Reads count whole beats, writes the bytes written; a burst ends at 4 KiB and at the longest
    burst of the bus.

    Parameters
    ----------
    memory : ByteMemory
    bus : BusConfig

    Attributes
    ----------
    read_bytes, write_bytes, read_bursts, write_bursts : int
        Since `reset`.

    """

    def __init__(self, memory: ByteMemory, bus: BusConfig) -> None:
        self._memory = memory
        self._bus = bus
        self.reset()

    def reset(self) -> None:
        """Start counting anew."""
        self.read_bytes = self.write_bytes = self.read_bursts = self.write_bursts = 0

    def read(self, address: int, nbytes: int) -> bytes:
        """Return ``nbytes`` bytes from ``address`` on, counted."""
        begin, end = self._beats(address, nbytes)
        self.read_bytes += end - begin
        self.read_bursts += self._bursts(begin, end)
        return bytes(self._memory.read(address, nbytes))

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` from ``address`` on, counted."""
        self.write_bytes += len(data)
        self.write_bursts += self._bursts(*self._beats(address, len(data)))
        self._memory.write(address, data)

    def _beats(self, address: int, nbytes: int) -> tuple[int, int]:
        beat = self._bus.beat_bytes
        return address // beat * beat, -(-(address + nbytes) // beat) * beat

    def _bursts(self, begin: int, end: int) -> int:
        count = 0
        while begin < end:
            page = min(end, (begin // _PAGE + 1) * _PAGE)
            count += -(-(page - begin) // self._bus.burst_bytes)
            begin = page
        return count
