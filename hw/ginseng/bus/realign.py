"""Packs pieces of beats into dense beats, and places dense beats into pieces."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import DmaShapes
from ginseng.isa.transfer import Client

__all__ = ["Pack", "Place"]


def _rotate(m: Any, value: Signal, by: Any, count: int) -> Signal:
    """Return ``value``, of ``count`` granules, moved up by ``by`` granules and round."""
    if count == 1:
        return value
    granule = len(value) // count
    rotated = Signal(len(value))
    with m.Switch(by):
        for shift in range(count):
            with m.Case(shift):
                m.d.comb += rotated.eq(value.rotate_left(shift * granule))
    return rotated


def _below(m: Any, bound: Any, low: Signal, high: Signal, count: int) -> Signal:
    """Return the granules of ``low`` before ``bound``, those of ``high`` from there on."""
    granule = len(high) // count
    result = Signal(len(high))
    m.d.comb += result.eq(high)
    with m.Switch(bound):
        for shift in range(1, min(len(low) // granule + 1, 1 << len(bound))):
            with m.Case(shift):
                m.d.comb += result.eq(Cat(low[: shift * granule], high[shift * granule :]))
    return result


class Pack(wiring.Component):
    """Joins the meant granules of pieces to dense beats; each descriptor starts a fresh beat.

    One piece per cycle, no latency; the last piece of a descriptor takes one more where it leaves
    granules over. What fills that beat up is undefined, and may change while it waits.

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: pieces.
    i: stream.Interface
    #: Out: ``{data, last}``: dense beats, the last of each descriptor marked.
    o: stream.Interface

    def __init__(self, shapes: DmaShapes, client: Client) -> None:
        self.shapes = shapes
        self.client = client
        dense = data.StructLayout({"data": shapes.bus.data_bits, "last": 1})
        super().__init__(
            {
                "i": In(stream.Signature(shapes.piece(client))),
                "o": Out(stream.Signature(dense)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        count = self.shapes.granules(self.client)
        piece = self.i.p
        if count == 1:
            m.d.comb += [
                self.o.valid.eq(self.i.valid),
                self.o.p.data.eq(piece.data),
                self.o.p.last.eq(piece.final),
                self.i.ready.eq(self.o.ready),
            ]
            return m

        # Granules 0 to fill - 1 of kept wait for the rest of their beat, never all of one.
        kept = Signal(self.shapes.bus.data_bits // count * (count - 1))
        fill = Signal(range(count))
        flush = Signal()
        amount = Signal(range(count))
        total = Signal(range(2 * count + 1))
        m.d.comb += [amount.eq(fill - piece.first), total.eq(fill + (piece.end - piece.first))]
        moved = _rotate(m, piece.data, amount, count)
        joined = _below(m, fill, kept, moved, count)
        m.d.comb += self.o.p.data.eq(joined)

        with m.If(flush):
            m.d.comb += [self.o.valid.eq(1), self.o.p.last.eq(1)]
            with m.If(self.o.ready):
                m.d.sync += [flush.eq(0), fill.eq(0)]
        with m.Else():
            completes = (total >= count) | piece.final
            over = Signal()
            m.d.comb += [
                over.eq(total > count),
                self.o.valid.eq(self.i.valid & completes),
                self.o.p.last.eq(piece.final & ~over),
                self.i.ready.eq(self.o.ready | ~completes),
            ]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += [
                    kept.eq(Mux(completes, moved, joined)),
                    fill.eq(Mux(piece.final & ~over, 0, total)),
                    flush.eq(piece.final & over),
                ]

        return m


class Place(wiring.Component):
    """Lays dense beats where bursts want them; the reverse of `Pack`.

    One beat of a burst per cycle, without latency. What is left of a dense beat when its
    descriptor ends is dropped.

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: dense beats.
    i: stream.Interface
    #: In: bursts.
    burst: stream.Interface
    #: Out: beats of bursts: granules ``first`` to before ``end`` are to be written.
    o: stream.Interface

    def __init__(self, shapes: DmaShapes, client: Client) -> None:
        self.shapes = shapes
        self.client = client
        super().__init__(
            {
                "i": In(stream.Signature(shapes.bus.data_bits)),
                "burst": In(stream.Signature(shapes.burst(client))),
                "o": Out(stream.Signature(shapes.piece(client))),
            }
        )

    def elaborate(self, platform):
        m = Module()

        count = self.shapes.granules(self.client)
        current = Signal(self.shapes.burst(self.client))
        busy = Signal()
        last = Signal()
        first = Signal(range(count))
        end = Signal(range(count + 1))
        #: The topmost ``holds`` granules of held come before the next dense beat.
        held = Signal(self.shapes.bus.data_bits)
        holds = Signal(range(count))
        needs = Signal()
        fire = Signal()
        amount = Signal(range(count))
        wanted = Signal(range(count + 1))

        m.d.comb += [
            last.eq(current.beats == 1),
            first.eq(current.first),
            end.eq(Mux(last, current.end, count)),
            wanted.eq(end - first),
            needs.eq(holds < wanted),
            amount.eq(first + holds),
            fire.eq(self.o.valid & self.o.ready),
            self.o.valid.eq(busy & (~needs | self.i.valid)),
            self.o.p.first.eq(first),
            self.o.p.end.eq(end),
            self.o.p.final.eq(current.final & last),
            self.i.ready.eq(busy & needs & self.o.ready),
            self.burst.ready.eq(~busy | (fire & last)),
        ]
        bound = Signal(range(count + 1))
        m.d.comb += bound.eq(count - holds)
        joined = self.i.p if count == 1 else _below(m, bound, self.i.p, held, count)
        m.d.comb += self.o.p.data.eq(_rotate(m, joined, amount, count))

        with m.If(self.burst.ready):
            m.d.sync += [busy.eq(self.burst.valid), current.eq(self.burst.p)]
        with m.Elif(fire):
            m.d.sync += [current.beats.eq(current.beats - 1), current.first.eq(0)]
        with m.If(fire):
            with m.If(last & current.final):
                m.d.sync += holds.eq(0)
            with m.Elif(needs):
                m.d.sync += [holds.eq(holds + count - wanted), held.eq(self.i.p)]
            with m.Else():
                m.d.sync += holds.eq(holds - wanted)

        return m
