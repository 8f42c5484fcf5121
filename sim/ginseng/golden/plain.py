"""The plain DMA: a memory port with absolute addresses and no protection (VTA specification §5)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.golden.dram import Dram
from ginseng.golden.port import Transfer
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.transfer import Client

__all__ = ["PlainPort", "Traffic"]

_PRODUCT_BITS: Final = 32
_PAGE: Final = 4096


@dataclass(slots=True)
class Traffic:
    """What a port counts; names as in the register map.

    Reads count whole beats, writes count the bytes written. Bursts are those of a DMA that merges
    rows only if they follow one another in DRAM, and cuts at 4 KiB and at the longest burst.
    """

    read_bytes: int = 0
    write_bytes: int = 0
    read_bursts: int = 0
    write_bursts: int = 0


class PlainPort:
    """Answers the core from DRAM; a read is verified as soon as it is done.

    The byte address of element e is ``base + e * element bytes``, the product modulo 2**32. The
    fetch client counts 16-byte units from address 0, without a base register and without wrapping.

    Parameters
    ----------
    dram : Dram
    core : CoreConfig
    bus : BusConfig
        Beat and burst length, for the counters.

    Attributes
    ----------
    bases : dict
        Base register of each memory type; ACC_8BIT has that of ACC.
    traffic : Traffic
        To be replaced to start counting anew.

    """

    def __init__(self, dram: Dram, core: CoreConfig, bus: BusConfig) -> None:
        self.dram: Final = dram
        self.core: Final = core
        self.bus: Final = bus
        self.bases: Final[dict[Memory, int]] = {
            memory: 0 for memory in Memory if memory is not Memory.ACC_8BIT
        }
        self.traffic = Traffic()
        self._issued = 0

    @property
    def issued(self) -> int:
        """LOAD descriptors taken so far."""
        return self._issued

    @property
    def verified(self) -> int:
        """As `issued`: nothing is checked here."""
        return self._issued

    def settle(self) -> bool:
        """Return False: no read is ever unverified."""
        return False

    def read(self, client: Client, transfer: Transfer) -> NDArray[np.uint8]:
        """Return the elements of ``transfer``, dense.

        Raises
        ------
        Fatal
            If a byte is outside DRAM.

        """
        if client is Client.FETCH:
            begin, nbytes = transfer.dram_base * INSN_BYTES, transfer.row_elements * INSN_BYTES
            self._count_read(begin, begin + nbytes)
            return self.dram.read(begin, nbytes)
        self._issued += 1
        runs = list(self._runs(transfer))
        for address, nbytes in _merged(runs):
            self._count_read(address, address + nbytes)
        if not runs:
            return np.zeros(0, np.uint8)
        return np.concatenate([self.dram.read(address, nbytes) for address, nbytes in runs])

    def write(self, transfer: Transfer, data: NDArray[np.uint8], sample: int) -> None:
        """Write the elements of ``transfer``, given dense; rows in order, so the last one wins.

        Raises
        ------
        Fatal
            If a byte would be outside DRAM.

        """
        runs = list(self._runs(transfer))
        for address, nbytes in _merged(runs):
            self.traffic.write_bytes += nbytes
            self.traffic.write_bursts += self._bursts(address, address + nbytes)
        at = 0
        for address, nbytes in runs:
            self.dram.write(address, data[at : at + nbytes])
            at += nbytes

    def _runs(self, transfer: Transfer) -> Iterator[tuple[int, int]]:
        """Yield address and length of each contiguous piece; a row that wraps has two."""
        memory = transfer.memory
        element = self.core.element_bytes(memory)
        base = self.bases[Memory.ACC if memory is Memory.ACC_8BIT else memory]
        length = transfer.row_elements * element
        if not length:
            return
        for row in range(transfer.rows):
            offset = (transfer.dram_base + row * transfer.stride) * element % (1 << _PRODUCT_BITS)
            left = min(length, (1 << _PRODUCT_BITS) - offset)
            yield base + offset, left
            if left < length:
                yield base, length - left

    def _count_read(self, begin: int, end: int) -> None:
        beat = self.bus.beat_bytes
        self.traffic.read_bytes += -(-end // beat) * beat - begin // beat * beat
        self.traffic.read_bursts += self._bursts(begin, end)

    def _bursts(self, begin: int, end: int) -> int:
        """Return how many bursts the bytes ``begin`` to ``end - 1`` take."""
        if begin == end:
            return 0
        beat, burst = self.bus.beat_bytes, self.bus.burst_bytes
        begin, end = begin // beat * beat, -(-end // beat) * beat
        count = 0
        while begin < end:
            page = min(end, (begin // _PAGE + 1) * _PAGE)
            count += -(-(page - begin) // burst)
            begin = page
        return count


def _merged(runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ``runs`` with those joined that follow one another in DRAM."""
    begin = end = 0
    for address, nbytes in runs:
        if begin < end == address:
            end += nbytes
            continue
        if begin < end:
            yield begin, end - begin
        begin, end = address, address + nbytes
    if begin < end:
        yield begin, end - begin
