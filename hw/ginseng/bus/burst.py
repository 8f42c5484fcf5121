"""Cuts planned transfers into legal bursts."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import ADDRESS_BITS
from ginseng.bus.shapes import OFFSET_BITS, PAGE_BYTES, DmaShapes
from ginseng.isa.transfer import Client

__all__ = ["Cut", "Rows"]


class Rows(wiring.Component):
    """Walks the rows of a plan: one piece of contiguous bytes per cycle.

    A row that passes the end of the 32-bit offset space continues at its start, in a piece of its
    own; that of the fetch client does not wrap (VTA specification §5).

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: plans.
    i: stream.Interface
    #: Out: their pieces, in order.
    o: stream.Interface

    def __init__(self, shapes: DmaShapes, client: Client) -> None:
        self.shapes = shapes
        self.client = client
        super().__init__(
            {
                "i": In(stream.Signature(shapes.plan)),
                "o": Out(stream.Signature(shapes.run)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        plan = Signal(self.shapes.plan)
        wraps = self.client is not Client.FETCH
        offset_bits = OFFSET_BITS if wraps else len(plan.offset)
        busy = Signal()
        row = Signal(offset_bits)
        offset = Signal(offset_bits)
        left = Signal(self.shapes.size_bits)
        room = Signal(OFFSET_BITS + 1)
        exceeds = Signal()
        final = Signal()

        m.d.comb += [
            room.eq((1 << OFFSET_BITS) - offset),
            exceeds.eq((left > room) if wraps else 0),
            final.eq((plan.rows == 1) & ~exceeds),
            self.o.valid.eq(busy),
            self.o.p.address.eq(plan.base + offset),
            self.o.p.nbytes.eq(Mux(exceeds, room, left)),
            self.o.p.final.eq(final),
            self.o.p.illegal.eq(plan.illegal),
            self.i.ready.eq(~busy | (self.o.ready & final)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                busy.eq(self.i.valid),
                plan.eq(self.i.p),
                row.eq(self.i.p.offset),
                offset.eq(self.i.p.offset),
                left.eq(self.i.p.nbytes),
            ]
        with m.Elif(self.o.ready & exceeds):
            m.d.sync += [offset.eq(0), left.eq(left - room)]
        with m.Elif(self.o.ready):
            following = Signal(offset_bits)
            m.d.comb += following.eq(row + plan.stride)
            m.d.sync += [
                row.eq(following),
                offset.eq(following),
                left.eq(plan.nbytes),
                plan.rows.eq(plan.rows - 1),
            ]

        return m


class Cut(wiring.Component):
    """Cuts pieces at 4 KiB and at the longest burst: one burst in two cycles.

    A piece that is illegal, or leaves the window of the build, gives none: ``fault`` rises and
    stays, and nothing is given any more.

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: pieces.
    i: stream.Interface
    #: Out: bursts, in order.
    o: stream.Interface
    #: Out: an illegal piece was met.
    fault: Signal

    def __init__(self, shapes: DmaShapes, client: Client) -> None:
        self.shapes = shapes
        self.client = client
        super().__init__(
            {
                "i": In(stream.Signature(shapes.run)),
                "o": Out(stream.Signature(shapes.burst(client))),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.bus
        log_granule = (shapes.granule(self.client) - 1).bit_length()
        granules = shapes.granules(self.client)
        page_beats = PAGE_BYTES // bus.beat_bytes
        log_page = (page_beats - 1).bit_length()
        beats_bits = OFFSET_BITS + 6 - shapes.log_beat

        # What a piece is in beats.
        piece = self.i.p
        window_end = bus.window_base + bus.window_bytes
        stop = Signal(ADDRESS_BITS + 2)
        end = Signal(range(granules + 1))
        total = Signal(beats_bits)
        inside = Signal()
        within = piece.address[: shapes.log_beat]
        m.d.comb += [
            stop.eq(piece.address + piece.nbytes),
            inside.eq((piece.address >= bus.window_base) & (stop <= window_end) & ~piece.illegal),
            total.eq((within + piece.nbytes + (bus.beat_bytes - 1)) >> shapes.log_beat),
            end.eq(stop[log_granule : shapes.log_beat]),
        ]
        with m.If(stop[log_granule : shapes.log_beat] == 0):
            m.d.comb += end.eq(granules)

        busy = Signal()
        beat = Signal(ADDRESS_BITS - shapes.log_beat)
        left = Signal(beats_bits)
        first = Signal(range(granules))
        last_end = Signal(range(granules + 1))
        final = Signal()
        # What a burst may have is worked out in the first of its two cycles.
        measured = Signal()
        limit = Signal(range(shapes.burst_beats + 1))
        last = Signal()
        to_page = page_beats - beat[:log_page]
        m.d.sync += [
            limit.eq(Mux(to_page < shapes.burst_beats, to_page, shapes.burst_beats)),
            measured.eq(busy & ~(self.o.valid & self.o.ready)),
        ]
        m.d.comb += [
            last.eq(left <= limit),
            self.o.valid.eq(busy & measured),
            self.o.p.beat.eq(beat),
            self.o.p.beats.eq(Mux(last, left, limit)),
            self.o.p.first.eq(first),
            self.o.p.end.eq(Mux(last, last_end, granules)),
            self.o.p.final.eq(final & last),
            self.i.ready.eq(~self.fault & (~busy | (measured & self.o.ready & last))),
        ]
        with m.If(self.i.ready):
            m.d.sync += [
                busy.eq(self.i.valid & inside),
                self.fault.eq(self.i.valid & ~inside),
                beat.eq(piece.address >> shapes.log_beat),
                left.eq(total),
                first.eq(within >> log_granule),
                last_end.eq(end),
                final.eq(piece.final),
            ]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [beat.eq(beat + limit), left.eq(left - limit), first.eq(0)]

        return m
