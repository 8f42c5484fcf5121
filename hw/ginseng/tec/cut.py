"""How long the next burst of a chunk is."""

from typing import Any, Final

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import PAGE_BYTES
from ginseng.isa.config import BusConfig
from ginseng.isa.table import GRANULE
from ginseng.tec.shapes import TecShapes

__all__ = ["Cut", "beat_of"]

_LOG_BLOCK: Final = (GRANULE - 1).bit_length()


def beat_of(bus: BusConfig, block: Any) -> Any:
    """Return the address on the bus of the beat in which a block is; blocks count in the window."""
    log_beat = (bus.beat_bytes - 1).bit_length()
    return bus.window_base + ((block << _LOG_BLOCK) >> log_beat << log_beat)


class Cut(wiring.Component):
    """Sizes bursts: to the end of the page, and as long as the bus allows. Combinational.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: the first block, from the start of the window; blocks of the chunk that the burst is to
    #: have, and whether its tag comes behind them.
    address: Signal
    blocks: Signal
    tag: Signal
    #: Out: blocks that a burst from there may have.
    allowed: Signal
    #: Out: blocks of its first beat that come before it; its beats, and those with the chunk.
    lead: Signal
    beats: Signal
    data_beats: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self._bus = bus = shapes.config.bus
        self._most = most = bus.burst_bytes // GRANULE
        #: log2 of the blocks of a beat; 0 if it has less than one.
        self.log_per_beat = (max(1, bus.beat_bytes // GRANULE) - 1).bit_length()
        super().__init__(
            {
                "address": In(shapes.position_bits - _LOG_BLOCK),
                "blocks": In(range(most + 1)),
                "tag": In(1),
                "allowed": Out(range(PAGE_BYTES // GRANULE + 1)),
                "lead": Out(self.log_per_beat),
                "beats": Out(range(shapes.burst_beats + 1)),
                "data_beats": Out(range(shapes.burst_beats + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        log, rest = self.log_per_beat, (1 << self.log_per_beat) - 1
        beats_of_block = max(1, GRANULE // self._bus.beat_bytes)
        page = PAGE_BYTES // GRANULE
        to_page = page - self.address[: (page - 1).bit_length()]
        to_most = self._most - self.lead
        m.d.comb += [
            self.lead.eq(self.address[:log]),
            self.allowed.eq(Mux(to_page < to_most, to_page, to_most)),
            self.data_beats.eq((self.lead + self.blocks + rest) * beats_of_block >> log),
            self.beats.eq((self.lead + self.blocks + self.tag + rest) * beats_of_block >> log),
        ]

        return m
