"""Takes what memory answers, in the order of asking, and brings it where it belongs."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature, Response
from ginseng.bus.shapes import READERS
from ginseng.tec.orders import UNIT, Kind, order_layout
from ginseng.tec.shapes import TecShapes

__all__ = ["Arrivals", "piece_layout", "tag_layout"]


def piece_layout(shapes: TecShapes) -> data.StructLayout:
    """A beat of which units ``first`` to before ``end`` are meant, in units of 4 bytes."""
    units = shapes.config.bus.beat_bytes // UNIT
    return data.StructLayout(
        {
            "data": shapes.config.bus.data_bits,
            "first": range(units),
            "end": range(units + 1),
            "final": 1,
        }
    )


def tag_layout(shapes: TecShapes) -> data.StructLayout:
    """A beat of a tag, of which that is block ``at``."""
    return data.StructLayout(
        {"at": order_layout(shapes)["tag_at"].shape, "data": shapes.config.bus.data_bits}
    )


class Arrivals(wiring.Component):
    """Follows the orders of `Walker`: one beat per cycle while the lane takes them.

    A beat is written to its client's buffer in the cycle after it came. A response that is not
    OKAY, another identifier than 0, a wrong ``last`` and data that nobody asked for raise
    ``fault``.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: orders.
    order: stream.Interface
    #: In: beats of AXI.
    r: stream.Interface
    #: Out: to the lane. In: its answer.
    lane_beat: stream.Interface
    lane_data: Signal
    #: Out: ``piece`` is for the buffer of this client.
    valid: Signal
    client: Signal
    piece: Any
    #: Out: tags, in order, beat by beat.
    tag: stream.Interface
    #: In: a burst is open.
    expects: Signal
    #: Out: the last beat of a burst came.
    closes: Signal
    #: In: take everything, give nothing.
    stop: Signal
    #: In: let ``piece`` be zero.
    wipe: Signal
    #: Out: the bus is wrong; for one cycle.
    fault: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        bus = shapes.config.bus
        super().__init__(
            {
                "order": In(stream.Signature(order_layout(shapes))),
                "r": AxiSignature(bus).members["r"],
                "lane_beat": Out(stream.Signature(unsigned(bus.data_bits))),
                "lane_data": In(bus.data_bits),
                "valid": Out(1),
                "client": Out(range(len(READERS))),
                "piece": Out(piece_layout(shapes)),
                "tag": Out(stream.Signature(tag_layout(shapes))),
                "expects": In(1),
                "closes": Out(1),
                "stop": In(1),
                "wipe": In(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        order, answer = self.order.p, self.r.p
        units = self.shapes.config.bus.beat_bytes // UNIT
        count = Signal.like(order.total)
        last = Signal()
        takes = Signal()
        opens = Signal()
        # A beat that is two pieces is given twice, while the bus waits.
        repeats = Signal()
        #: A tag is in the beat. No beat waits for more than one of the lane and the tag's place.
        tagged = Signal()
        blocked = Signal()
        m.d.comb += [
            opens.eq(order.kind == Kind.DATA),
            tagged.eq((order.kind == Kind.TAG) | (order.tagged & last)),
            blocked.eq(repeats | (tagged & ~self.tag.ready)),
            repeats.eq(self.order.valid & order.again & (count == 0)),
            self.lane_beat.p.eq(answer.data),
            self.lane_beat.valid.eq(
                self.r.valid & self.order.valid & opens & ~blocked & ~self.stop
            ),
            self.r.ready.eq(
                self.stop
                | ~self.expects
                | (self.order.valid & ~blocked & (~opens | self.lane_beat.ready))
            ),
            takes.eq(((self.r.valid & self.r.ready & self.order.valid) | repeats) & ~self.stop),
            last.eq(count + 1 == order.total),
            self.order.ready.eq(takes & last),
            self.closes.eq(self.r.valid & self.r.ready & answer.last & self.expects),
            self.fault.eq(
                self.r.valid
                & self.r.ready
                & ~self.stop
                & (
                    ~self.expects
                    | (answer.response != Response.OKAY)
                    | (answer.id != 0)
                    | (answer.last != (last & order.ends))
                )
            ),
            self.tag.valid.eq(takes & tagged & ~repeats),
            self.tag.p.at.eq(order.tag_at),
            self.tag.p.data.eq(answer.data),
        ]
        with m.If(takes):
            m.d.sync += count.eq(Mux(last, 0, count + 1))

        # One cycle later, as the lane's answer.
        plain = Signal(len(answer.data))
        opened = Signal()
        m.d.sync += [
            self.valid.eq(takes & (order.kind != Kind.TAG) & (count >= order.drop)),
            self.client.eq(order.client),
            self.piece.first.eq(Mux(count == order.drop, order.first, 0)),
            self.piece.end.eq(Mux(last, order.end, units)),
            self.piece.final.eq(last & order.final),
            opened.eq(opens & ~self.wipe),
            plain.eq(Mux(order.kind == Kind.RAW, answer.data, 0)),
        ]
        with m.If(self.wipe):
            m.d.sync += plain.eq(0)
        fresh = Mux(opened, self.lane_data, 0) | plain
        m.d.comb += self.piece.data.eq(fresh)
        if units > 2:
            held, repeated = Signal.like(plain), Signal()
            m.d.comb += self.piece.data.eq(Mux(repeated, held, fresh))
            m.d.sync += repeated.eq(repeats)
            with m.If(self.wipe):
                m.d.sync += held.eq(0)
            with m.Elif(self.valid):
                m.d.sync += held.eq(self.piece.data)

        return m
