"""Reads for one client: bursts with room reserved, dense beats in order."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.burst import Cut
from ginseng.bus.flight import Flight
from ginseng.bus.plan import Rows, bases_layout
from ginseng.bus.realign import Pack
from ginseng.bus.shapes import DmaShapes
from ginseng.flow.queue import Latch, Queue, Skid
from ginseng.isa.transfer import Client, TransferDescriptor

__all__ = ["Reader"]


class Reader(wiring.Component):
    """Answers one reading client of the plain DMA.

    A burst is requested only when the buffer has room for all of it, so data are always accepted
    and no client ever waits for another one's sink. From a descriptor to its first request pass
    eight cycles, from data to the client three.

    Parameters
    ----------
    shapes : DmaShapes
    client : Client

    """

    #: In: descriptors, taken while there is room for one more in flight.
    descriptor: stream.Interface
    #: In: base registers, constant while anything is in flight.
    bases: Any
    #: Out: bursts.
    request: stream.Interface
    #: In: ``{data, last}``: the beats of this client's bursts; always taken.
    data: stream.Interface
    #: Out: dense beats.
    beat: stream.Interface
    #: In: request and complete nothing any more, discard what comes.
    stop: Signal
    #: Out: a descriptor completes.
    done: Signal
    #: Out: an illegal descriptor was met, or data that nobody asked for come.
    fault: Signal

    def __init__(self, shapes: DmaShapes, client: Client) -> None:
        self.shapes = shapes
        self.client = client
        #: Beats of the buffer: twice the longest burst, and what hides 128 cycles of latency.
        self.buffer_beats = max(2 * shapes.burst_beats, 128)
        raw = data.StructLayout({"data": shapes.bus.data_bits, "last": 1})
        super().__init__(
            {
                "descriptor": In(stream.Signature(TransferDescriptor)),
                "bases": In(bases_layout()),
                "request": Out(stream.Signature(shapes.burst(client))),
                "data": In(stream.Signature(raw, always_ready=True)),
                "beat": Out(stream.Signature(unsigned(shapes.bus.data_bits))),
                "stop": In(1),
                "done": Out(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, client = self.shapes, self.client
        piece = shapes.piece(client)
        burst = shapes.burst(client)
        m.submodules.rows = rows = Rows(shapes, client)
        m.submodules.cut = cut = Cut(shapes, client)
        m.submodules.bursts = bursts = Latch(burst)
        m.submodules.records = records = Queue(
            shapes.record(client), shapes.bus.outstanding_reads + 2
        )
        m.submodules.buffer = buffer = Queue(piece, self.buffer_beats, block_ram=True)
        m.submodules.pack = pack = Pack(shapes, client)
        m.submodules.dense = dense = Skid(pack.o.p.shape())
        m.submodules.flight = flight = Flight()

        takes = Signal()
        wiring.connect(m, rows.o, cut.i)
        wiring.connect(m, cut.o, bursts.i)
        m.d.comb += [
            rows.i.p.eq(self.descriptor.p),
            rows.i.valid.eq(self.descriptor.valid & takes),
            rows.bases.eq(self.bases),
            takes.eq(flight.room & ~self.stop),
            self.descriptor.ready.eq(rows.i.ready & takes),
            flight.begin.eq(rows.begin),
            flight.empty.eq(rows.empty),
            flight.stop.eq(self.stop),
            self.done.eq(flight.done),
        ]

        # Requests, with room in the buffer reserved.
        free = Signal(range(self.buffer_beats + 1), init=self.buffer_beats)
        allowed = Signal()
        requested = Signal()
        popped = Signal()
        m.d.comb += [
            allowed.eq(~self.stop & records.i.ready & (free >= bursts.o.p.beats)),
            self.request.p.eq(bursts.o.p),
            self.request.valid.eq(bursts.o.valid & allowed),
            bursts.o.ready.eq(self.request.ready & allowed),
            requested.eq(self.request.valid & self.request.ready),
            *(records.i.p[name].eq(bursts.o.p[name]) for name, _ in shapes.record(client)),
            records.i.valid.eq(requested),
            popped.eq(buffer.o.valid & buffer.o.ready),
        ]
        m.d.sync += free.eq(free - Mux(requested, bursts.o.p.beats, 0) + popped)

        # Data: which granules are meant.
        seen = Signal(range(shapes.burst_beats))
        record = records.o.p
        last = Signal()
        wrong = Signal()
        m.d.comb += [
            last.eq(seen == record.beats - 1),
            wrong.eq(self.data.valid & (~records.o.valid | (last != self.data.p.last))),
            buffer.i.valid.eq(self.data.valid & ~self.stop),
            buffer.i.p.data.eq(self.data.p.data),
            buffer.i.p.first.eq(Mux(seen == 0, record.first, 0)),
            buffer.i.p.end.eq(Mux(last, record.end, shapes.granules(client))),
            buffer.i.p.final.eq(last & record.final),
            records.o.ready.eq(self.data.valid & last),
        ]
        with m.If(self.data.valid):
            m.d.sync += seen.eq(Mux(last, 0, seen + 1))
        m.d.comb += self.fault.eq(cut.fault | wrong)

        # Dense beats.
        wiring.connect(m, buffer.o, pack.i)
        wiring.connect(m, pack.o, dense.i)
        m.d.comb += [
            self.beat.p.eq(dense.o.p.data),
            self.beat.valid.eq(dense.o.valid),
            dense.o.ready.eq(self.beat.ready),
            flight.finish.eq(dense.o.valid & dense.o.ready & dense.o.p.last),
        ]

        return m
