"""Says which beats of a burst are meant, row by row (TEC specification §5)."""

from typing import Any

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.table import GRANULE
from ginseng.tec.orders import UNIT, order_layout
from ginseng.tec.shapes import TecShapes

__all__ = ["BLOCK_UNITS", "Marks", "unit_bits"]

#: Units of a block.
BLOCK_UNITS = GRANULE // UNIT


def unit_bits(shapes: TecShapes) -> int:
    """Bits of a position in units; a chunk may be longer than the window."""
    return max(shapes.position_bits, shapes.chunk_bits) - (UNIT - 1).bit_length()


class Marks(wiring.Component):
    """Gives the orders of a burst: its beats between rows, and those of each row in it.

    Positions are units from the start of the chunk. An answer follows its row a cycle later.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: the row: where it starts, how long it is; it began in an earlier burst, is the last of
    #: its descriptor; nothing of this chunk is meant any more.
    start: Signal
    row: Signal
    begun: Signal
    final: Signal
    mute: Signal
    #: In: the burst: its blocks of the chunk, before which come ``lead`` of its first beat; beats.
    begin: Signal
    stop: Signal
    lead: Signal
    beats: Signal
    #: In: a burst begins; its next order is taken.
    clear: Signal
    takes: Signal
    #: Out: there is an order.
    valid: Signal
    order: Any
    #: Out: the row is in it, with so many pieces, and ends in it; the burst is over.
    meets: Signal
    pieces: Signal
    row_ends: Signal
    over: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        blocks = range(1 << (shapes.chunk_bits - (GRANULE - 1).bit_length()))
        beats = range(shapes.burst_beats + 1)
        super().__init__(
            {
                "start": In(signed(unit_bits(shapes) + 1)),
                "row": In(unit_bits(shapes)),
                "begun": In(1),
                "final": In(1),
                "mute": In(1),
                "begin": In(blocks),
                "stop": In(blocks),
                "lead": In(range(max(1, shapes.config.bus.beat_bytes // GRANULE))),
                "beats": In(beats),
                "clear": In(1),
                "takes": In(1),
                "valid": Out(1),
                "order": Out(order_layout(shapes)),
                "meets": Out(1),
                "pieces": Out(beats),
                "row_ends": Out(1),
                "over": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes = self.shapes
        bits = unit_bits(shapes)
        units = shapes.config.bus.beat_bytes // UNIT
        log_units = (units - 1).bit_length()

        # Compared in blocks: the burst's end is one.
        low = (BLOCK_UNITS - 1).bit_length()
        high = len(self.stop) + low
        start, row_start = self.start, Signal(bits)
        end, row_end = Signal(bits + 1), Signal(bits + 1)
        m.d.comb += end.eq(start + self.row)
        m.d.sync += [
            row_start.eq(start),
            row_end.eq(end),
            self.row_ends.eq(
                (Cat(end[:low].any(), end[low:high]) <= Cat(C(0, 1), self.stop)) & ~end[high:].any()
            ),
            self.meets.eq(
                (self.begun | ((start[low:high] < self.stop) & ~start[high:bits].any()))
                & ~self.mute
            ),
        ]

        # From there on nothing was ordered yet.
        cursor = Signal.like(self.beats)
        first = Signal(range(shapes.burst_beats * units + 1))
        stop = Signal.like(first)
        from_beat, to_beat = (Signal.like(self.beats, name=n) for n in ("from_beat", "to_beat"))
        shares = Signal()
        begin, burst_end, lead = (
            blocks * BLOCK_UNITS for blocks in (self.begin, self.stop, self.lead)
        )
        meets, row_ends, order = self.meets, self.row_ends, self.order
        m.d.comb += [
            first.eq(Mux(self.begun, 0, row_start - begin) + lead),
            stop.eq(Mux(row_ends, row_end, burst_end) - begin + lead),
            from_beat.eq(first >> log_units),
            to_beat.eq((stop + units - 1) >> log_units),
            shares.eq((units > 2) & meets & (from_beat < cursor)),
            self.pieces.eq(to_beat - from_beat),
            self.valid.eq(meets | (cursor != self.beats)),
            self.over.eq(~meets | ~row_ends | (row_end == burst_end)),
            order.again.eq(shares),
            order.drop.eq(Mux(shares, 0, Mux(meets, from_beat, self.beats) - cursor)),
            order.total.eq(
                Mux(meets, to_beat, self.beats) - Mux(shares, from_beat, cursor),
            ),
            order.first.eq(first[:log_units]),
            order.end.eq((stop - 1)[:log_units] + 1),
            order.final.eq(row_ends & self.final),
            order.ends.eq(~meets | (to_beat == self.beats)),
        ]
        with m.If(self.clear):
            m.d.sync += cursor.eq(0)
        with m.Elif(self.takes & meets):
            m.d.sync += cursor.eq(to_beat)

        return m
