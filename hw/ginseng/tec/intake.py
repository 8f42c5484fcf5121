"""Where plaintext waits until a burst of it is complete (TEC specification §6, §7)."""

from amaranth import Cat, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.realign import Place
from ginseng.bus.shapes import DmaShapes
from ginseng.flow.queue import Queue
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.transfer import Client
from ginseng.tec.measure import piece_layout
from ginseng.tec.shapes import TecShapes

__all__ = ["Intake"]


class Intake(wiring.Component):
    """Holds the beats of coming bursts: the core's, those of an import, or what the lane opened.

    One beat per cycle. The core's beats are taken as they come. Of an import as much is taken as a
    ``fill`` says, and goes to ``tap`` too; a tag goes nowhere else.

    Parameters
    ----------
    shapes : TecShapes
    depth : int
        Beats.

    """

    #: In: dense beats of the core, and of an import.
    core: stream.Interface
    source: stream.Interface
    #: In: an import is under way.
    active: Signal
    #: In: take the beats of a burst, and the tag after them. Taken when they were.
    fill: stream.Interface
    #: In: bursts, to lay beats where they want them; only where a beat is more than a block.
    place: stream.Interface
    #: In: what the lane opened.
    o_valid: Signal
    o_data: Signal
    #: Out: beats of bursts.
    o: stream.Interface
    #: Out: a beat went in.
    pushed: Signal
    #: Out: the beats of an import, to be measured.
    tap: stream.Interface
    #: Out: the last tag.
    tag: Signal
    #: In: the sticky fault: overwrite everything.
    stop: Signal
    #: Out: it is done.
    wiped: Signal

    def __init__(self, shapes: TecShapes, depth: int) -> None:
        self.shapes = shapes
        self.depth = depth
        beat = unsigned(shapes.config.bus.data_bits)
        self.dma = DmaShapes(shapes.config.core, shapes.config.bus)
        fill = data.StructLayout({"beats": range(shapes.burst_beats + 1), "tag": 1})
        super().__init__(
            {
                "core": In(stream.Signature(beat)),
                "source": In(stream.Signature(beat)),
                "active": In(1),
                "fill": In(stream.Signature(fill)),
                "place": In(stream.Signature(self.dma.burst(Client.STORE))),
                "o_valid": In(1),
                "o_data": In(beat),
                "o": Out(stream.Signature(beat)),
                "pushed": Out(1),
                "tap": Out(stream.Signature(piece_layout(shapes))),
                "tag": Out(8 * TAG_BYTES),
                "stop": In(1),
                "wiped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes = self.shapes
        beat_bytes = shapes.config.bus.beat_bytes
        tag_beats = max(TAG_BYTES // beat_bytes, 1)
        m.submodules.buffer = buffer = Queue(self.o.p.shape(), self.depth, block_ram=True)

        # The beats that come, in their lanes.
        piece = Signal(piece_layout(shapes))
        dense = Signal.like(self.core.p)
        comes = Signal()
        takes = Signal()
        dense_ready = Signal()
        filling = Signal()
        tagging = Signal()
        m.d.comb += [
            dense.eq(Mux(self.active, self.source.p, self.core.p)),
            self.core.ready.eq(dense_ready & ~self.active),
            self.source.ready.eq(Mux(tagging, self.tap.ready, dense_ready & self.active)),
        ]
        offered = Mux(self.active, self.source.valid & ~tagging, self.core.valid)
        if shapes.granules > 1:
            # SEC: TEC.ZEROIZE
            place = ResetInserter(self.stop)(Place(self.dma, Client.STORE))
            m.submodules.place = place
            wiring.connect(m, wiring.flipped(self.place), place.burst)
            m.d.comb += [
                place.i.valid.eq(offered),
                place.i.p.eq(dense),
                dense_ready.eq(place.i.ready),
                comes.eq(place.o.valid),
                piece.data.eq(place.o.p.data),
                piece.first.eq(place.o.p.first),
                piece.end.eq(place.o.p.end),
                place.o.ready.eq(takes),
            ]
        else:
            m.d.comb += [
                comes.eq(offered),
                # A tag's too.
                piece.data.eq(dense),
                piece.end.eq(1),
                dense_ready.eq(takes),
            ]

        # Into the buffer.
        m.d.comb += [
            takes.eq(buffer.i.ready & ~self.stop & (~self.active | (filling & self.tap.ready))),
            buffer.i.valid.eq(self.o_valid | (comes & takes) | self.stop),
            self.pushed.eq(buffer.i.valid),
            self.o.p.eq(buffer.o.p),
            self.o.valid.eq(buffer.o.valid & ~self.stop),
            buffer.o.ready.eq(self.o.ready | self.stop),
            self.tap.valid.eq((filling & comes & buffer.i.ready) | (tagging & self.source.valid)),
            self.tap.p.eq(piece),
        ]
        if shapes.granules > 1:
            with m.If(tagging):
                m.d.comb += [
                    self.tap.p.data.eq(self.source.p),
                    self.tap.p.first.eq(0),
                    self.tap.p.end.eq(1),
                ]
        # SEC: TEC.ZEROIZE -- zeros go through all of the buffer.
        with m.If(~self.stop):
            m.d.comb += buffer.i.p.eq(Mux(self.o_valid, self.o_data, piece.data))
        wiped = Signal(range(self.depth + 1))
        m.d.comb += self.wiped.eq(wiped == self.depth)
        with m.If(self.stop & buffer.i.ready & ~self.wiped):
            m.d.sync += wiped.eq(wiped + 1)

        # Of an import, so many beats.
        left = Signal(range(shapes.burst_beats + 1))
        at = Signal(range(tag_beats + 1))
        moved = Signal()
        m.d.comb += moved.eq(self.tap.valid & self.tap.ready)
        with m.FSM():
            with m.State("Await-Fill"):
                m.d.sync += [left.eq(self.fill.p.beats), at.eq(0)]
                with m.If(self.fill.valid):
                    m.next = "Take-Beats"

            with m.State("Take-Beats"):
                m.d.comb += filling.eq(1)
                with m.If(moved):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        with m.If(self.fill.p.tag):
                            m.next = "Take-Tag"
                        with m.Else():
                            m.next = "End-Fill"

            with m.State("Take-Tag"):
                m.d.comb += tagging.eq(1)
                with m.If(moved):
                    m.d.sync += [
                        self.tag.eq(
                            Cat(self.tag, self.source.p)[-8 * TAG_BYTES :]
                            if tag_beats > 1
                            else self.source.p
                        ),
                        at.eq(at + 1),
                    ]
                    with m.If(at == tag_beats - 1):
                        m.next = "End-Fill"

            with m.State("End-Fill"):
                m.d.comb += self.fill.ready.eq(1)
                m.next = "Await-Fill"

        return m
