"""What passes between the parts of the plain DMA, and how wide it is."""

from functools import cached_property
from typing import Final

from amaranth.lib import data

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
        #: The first byte behind the window.
        self.window_end: Final = bus.window_base + bus.window_bytes
        #: Bits of a byte address in the window, or of its end.
        self.position_bits: Final = self.window_end.bit_length()

    def granule(self, client: Client) -> int:
        """Bytes to a multiple of which every row of ``client`` is aligned, at most a beat."""
        return min(self.alignment(client), self.bus.beat_bytes)

    def memories(self, client: Client) -> tuple[Memory, ...]:
        """Memory types that ``client`` may ask for; one that means nothing for fetch."""
        return MEMORIES.get(client, (Memory.UOP,))

    def log_unit(self, client: Client, memory: Memory) -> int:
        """log2 of the bytes that descriptors of ``client`` count in."""
        if client is Client.FETCH:
            return (INSN_BYTES - 1).bit_length()
        return self.log_element[memory]

    def alignment(self, client: Client) -> int:
        """Bytes to a multiple of which base registers that ``client`` uses must be aligned."""
        units = (1 << self.log_unit(client, memory) for memory in self.memories(client))
        return min(INSN_BYTES, *units)

    def granules(self, client: Client) -> int:
        """Granules of a beat."""
        return self.bus.beat_bytes // self.granule(client)

    @cached_property
    def run(self) -> data.StructLayout:
        """Bytes that follow one another; ``final`` ends its descriptor."""
        return data.StructLayout(
            {
                "address": self.position_bits + 1,
                "nbytes": self.position_bits,
                "final": 1,
                "illegal": 1,
            }
        )

    def burst(self, client: Client) -> data.StructLayout:
        """A burst: its first beat, and its `record`."""
        beat = {"beat": self.position_bits - self.log_beat}
        return data.StructLayout(beat | self.record(client).members)

    def record(self, client: Client) -> data.StructLayout:
        """Beats of a burst; from granule ``first`` of the first to before ``end`` of the last.

        The burst marked ``final`` ends its descriptor.
        """
        count = self.granules(client)
        return data.StructLayout(
            {
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
