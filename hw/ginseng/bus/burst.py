"""Cuts runs of bytes into legal bursts."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import PAGE_BYTES, DmaShapes
from ginseng.isa.transfer import Client

__all__ = ["Cut"]


class Cut(wiring.Component):
    """Cuts runs at 4 KiB and at the longest burst: one burst in two cycles.

    A run that is illegal, or leaves the window of the build, gives none: ``fault`` rises and
    stays, and nothing is given any more.

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: runs of whole granules.
    i: stream.Interface
    #: Out: bursts, in order.
    o: stream.Interface
    #: Out: an illegal run was met.
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
        granules = shapes.granules(self.client)
        log_granule = (shapes.granule(self.client) - 1).bit_length()
        log_burst = (shapes.burst_beats - 1).bit_length()
        page_bits = (PAGE_BYTES // bus.beat_bytes - 1).bit_length()

        run = self.i.p
        stop = Signal(shapes.position_bits + 2)
        inside = Signal()
        m.d.comb += [
            stop.eq(run.address + run.nbytes),
            inside.eq(
                (run.address >= bus.window_base) & (stop <= shapes.window_end) & ~run.illegal
            ),
        ]

        busy = Signal()
        beat = Signal(shapes.position_bits - shapes.log_beat)
        # Where the run ends: whole beats, and granules of one more.
        stop_beat = Signal.like(beat)
        stop_granule = Signal(range(granules))
        more = Signal()
        first = Signal(range(granules))
        final = Signal()
        # What a burst may have, and what is left after its first beat, is worked out in the first
        # of its two cycles.
        measured = Signal()
        limit = Signal(range(shapes.burst_beats + 1))
        rest = Signal(log_burst)
        near = Signal()
        last = Signal()
        beats_after = Signal.like(beat)
        m.d.comb += [
            # A bit below the others borrows a beat, unless granules are left after the whole ones.
            beats_after.eq((Cat(Const(0, 1), stop_beat) - Cat(~more, beat)) >> 1),
            more.eq(stop_granule.any()),
            last.eq(near & (rest < limit)),
            self.o.valid.eq(busy & measured),
            self.o.p.beat.eq(beat),
            self.o.p.beats.eq(Mux(last, rest + 1, limit)),
            self.o.p.first.eq(first),
            self.o.p.end.eq(Mux(last & more, stop_granule, granules)),
            self.o.p.final.eq(final & last),
            self.i.ready.eq(~self.fault & (~busy | (measured & self.o.ready & last))),
        ]
        m.d.sync += [
            limit.eq(shapes.burst_beats),
            rest.eq(beats_after),
            near.eq(beats_after[log_burst:] == 0),
            measured.eq(busy & ~(self.o.valid & self.o.ready)),
        ]
        with m.If(beat[log_burst:page_bits] == (1 << (page_bits - log_burst)) - 1):
            m.d.sync += limit.eq(shapes.burst_beats - beat[:log_burst])
        with m.If(self.i.ready):
            m.d.sync += [
                busy.eq(self.i.valid & inside),
                self.fault.eq(self.i.valid & ~inside),
                beat.eq(run.address >> shapes.log_beat),
                stop_beat.eq(stop >> shapes.log_beat),
                stop_granule.eq(stop[log_granule : shapes.log_beat]),
                first.eq(run.address[log_granule : shapes.log_beat]),
                final.eq(run.final),
            ]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [beat.eq(beat + limit), first.eq(0)]

        return m
