"""What passes between the parts of the plain DMA, and how wide it is."""

from functools import cached_property
from typing import Final

from amaranth.lib import data

from ginseng.bus.axi import ADDRESS_BITS
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.transfer import Client

__all__ = ["MEMORIES", "OFFSET_BITS", "PAGE_BYTES", "READERS", "DmaShapes"]

#: No burst crosses a multiple of this.
PAGE_BYTES: Final = 4096
#: Offsets from a base register count bytes modulo 2**32 (VTA specification §5).
OFFSET_BITS: Final = 32
#: The clients that read, in the order of their identifiers.
READERS: Final = (Client.FETCH, Client.COMPUTE, Client.INP, Client.WGT)

#: What each client but the fetch client may name.
MEMORIES: Final = {
    Client.COMPUTE: (Memory.UOP, Memory.ACC, Memory.ACC_8BIT),
    Client.INP: (Memory.INP,),
    Client.WGT: (Memory.WGT,),
    Client.STORE: (Memory.OUT,),
}


class DmaShapes:
    """Layouts and sizes of one build's DMA.

    Parameters
    ----------
    core : CoreConfig
    bus : BusConfig

    """

    def __init__(self, core: CoreConfig, bus: BusConfig) -> None:
        self.core: Final = core
        self.bus: Final = bus
        #: log2 of the bytes of a beat.
        self.log_beat: Final = (bus.beat_bytes - 1).bit_length()
        #: log2 of the bytes of an element, per memory type.
        self.log_element: Final = {m: (core.element_bytes(m) - 1).bit_length() for m in Memory}
        #: Longest burst, in beats.
        self.burst_beats: Final = bus.burst_bytes // bus.beat_bytes
        #: Bits of a row's bytes, or of all rows' bytes if they follow one another.
        self.size_bits: Final = 32 + max(*self.log_element.values(), 4)
        #: Bits of a stride in bytes.
        self.stride_bits: Final = 16 + max(*self.log_element.values(), 4)

    def granule(self, client: Client) -> int:
        """Bytes to a multiple of which every row of ``client`` is aligned, at most a beat."""
        return min(self.alignment(client), self.bus.beat_bytes)

    def alignment(self, client: Client) -> int:
        """Bytes to a multiple of which base registers that ``client`` uses must be aligned."""
        if client is Client.FETCH:
            return INSN_BYTES
        return min(INSN_BYTES, *(self.core.element_bytes(m) for m in MEMORIES[client]))

    def granules(self, client: Client) -> int:
        """Granules of a beat."""
        return self.bus.beat_bytes // self.granule(client)

    @cached_property
    def plan(self) -> data.StructLayout:
        """A descriptor in bytes; rows that follow one another are one row."""
        return data.StructLayout(
            {
                "base": ADDRESS_BITS,
                "offset": OFFSET_BITS + 4,
                "nbytes": self.size_bits,
                "stride": self.stride_bits,
                "rows": 16,
                "illegal": 1,
            }
        )

    @cached_property
    def run(self) -> data.StructLayout:
        """Bytes that follow one another; ``final`` ends its descriptor."""
        return data.StructLayout(
            {"address": ADDRESS_BITS + 1, "nbytes": OFFSET_BITS + 5, "final": 1, "illegal": 1}
        )

    def burst(self, client: Client) -> data.StructLayout:
        """A burst: granules ``first`` of its first beat to before ``end`` of its last are meant."""
        count = self.granules(client)
        return data.StructLayout(
            {
                "beat": ADDRESS_BITS - self.log_beat,
                "beats": range(self.burst_beats + 1),
                "first": range(count),
                "end": range(count + 1),
                "final": 1,
            }
        )

    def piece(self, client: Client) -> data.StructLayout:
        """A beat of a burst, of which granules ``first`` to before ``end`` are meant."""
        count = self.granules(client)
        return data.StructLayout(
            {
                "data": self.bus.data_bits,
                "first": range(count),
                "end": range(count + 1),
                "final": 1,
            }
        )
