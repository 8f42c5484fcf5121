"""Reads: rows to chunks, each chunk fetched whole, opened and verified (TEC specification §5)."""

from typing import Any, Final

from amaranth import Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature
from ginseng.bus.port import READ_COUNT_BITS
from ginseng.bus.realign import Pack
from ginseng.bus.shapes import READERS, DmaShapes
from ginseng.crypto.job import LanePort
from ginseng.flow.queue import Queue, Spill
from ginseng.isa.transfer import Client
from ginseng.tec.arrive import Arrivals, piece_layout
from ginseng.tec.buffer import Buffer
from ginseng.tec.orders import UNIT, buffer_depth, order_layout
from ginseng.tec.settle import Settle
from ginseng.tec.shapes import TecShapes
from ginseng.tec.verify import Verifier
from ginseng.tec.walk import Walker

__all__ = ["ReadFault", "ReadPath"]


#: Orders that wait for their beats: several of a burst where only parts of it are meant.
_ORDERS: Final = 32


#: Beats that came while the lane was with a store; a block RAM of them, one is in its register.
_SPILL: Final = 513


class ReadFault(enum.Enum, shape=2):
    """What went wrong; seen by tests only."""

    NONE = 0
    #: A response that is not OKAY, another identifier, a wrong ``last``, data nobody asked for.
    BUS = 1
    #: A chunk was not written yet.
    UNWRITTEN = 2
    TAG = 3


class ReadPath(wiring.Component):
    """Answers the clients that read, and the importer.

    All reads have one identifier, 0.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: ``{client, plan}``, of `Planner`.
    plan: stream.Interface
    #: In: raw plans of the importer, of ``row_bytes`` bytes from ``base`` on, no more than a chunk
    #: may have; while no other client reads. Out: their dense beats.
    source: stream.Interface
    source_beat: stream.Interface
    #: In: a descriptor of this client was taken, and whether it moves nothing.
    begin: Signal
    empty: Signal
    #: Out: this client may have one more descriptor in flight, and there is room for its plan.
    room: Signal
    #: Out: dense beats, by client as in `READERS`.
    beat: Any
    #: Out: a descriptor of this client completes: all its beats taken, all its chunks verified.
    done: Signal
    #: Out: loads taken, and the longest prefix of them that verified; both modulo 2**16.
    issued: Signal
    verified: Signal
    #: Out: to the lane.
    lane: Any
    #: Out: ``{bit}`` of a chunk of a W row. In: whether it may be read, in order.
    test: stream.Interface
    test_valid: Signal
    test_readable: Signal
    #: Out, in: the read channels of AXI.
    ar: stream.Interface
    r: stream.Interface
    #: In: the sticky fault.
    stop: Signal
    #: In: overwrite the buffers, for as long as this is high; only while ``stop``.
    wipe: Signal
    #: Out: nothing is left.
    wiped: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: something went wrong; stays until reset.
    fault: Signal
    #: Out: what, of the first.
    cause: Any
    #: Out: in this cycle ``beats`` beats are asked for, for this client.
    asked: data.View

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        bus = shapes.config.bus
        axi = AxiSignature(bus)
        beat = stream.Signature(unsigned(bus.data_bits))
        plan = data.StructLayout({"client": Client, "plan": shapes.plan})
        asked = data.StructLayout(
            {"valid": 1, "client": Client, "beats": range(shapes.burst_beats + 1)}
        )
        super().__init__(
            {
                "plan": In(stream.Signature(plan)),
                "source": In(stream.Signature(shapes.plan)),
                "source_beat": Out(beat),
                "begin": In(len(READERS)),
                "empty": In(1),
                "room": Out(len(READERS)),
                "beat": Out(beat).array(len(READERS)),
                "done": Out(len(READERS)),
                "issued": Out(READ_COUNT_BITS),
                "verified": Out(READ_COUNT_BITS),
                "lane": Out(LanePort(shapes.lane)),
                "test": Out(
                    stream.Signature(data.StructLayout({"bit": range(shapes.tec.bitmap_bits)}))
                ),
                "test_valid": In(1),
                "test_readable": In(1),
                "ar": axi.members["ar"],
                "r": axi.members["r"],
                "stop": In(1),
                "wipe": In(1),
                "wiped": Out(1),
                "idle": Out(1),
                "fault": Out(1),
                "cause": Out(ReadFault),
                "asked": Out(asked),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.config.bus
        depth = buffer_depth(shapes)
        m.submodules.walker = walker = Walker(shapes)
        m.submodules.orders = orders = Queue(order_layout(shapes), _ORDERS)
        m.submodules.arrivals = arrivals = Arrivals(shapes)
        m.submodules.verifier = verifier = Verifier(shapes)
        m.submodules.settle = settle = Settle()

        stop = Signal()
        opened = Signal(range(bus.outstanding_reads + 1))
        m.d.comb += stop.eq(self.stop | self.fault)
        wiring.connect(m, wiring.flipped(self.plan), walker.plan)
        wiring.connect(m, wiring.flipped(self.source), walker.source)
        wiring.connect(m, walker.ar, wiring.flipped(self.ar))
        wiring.connect(m, walker.order, orders.i)
        wiring.connect(m, orders.o, arrivals.order)
        wiring.connect(m, walker.job, wiring.flipped(self.lane.job))
        wiring.connect(m, walker.visit, verifier.visit)
        wiring.connect(m, walker.test, wiring.flipped(self.test))
        if shapes.tec.half_duplex:
            # The bus goes on while the lane is with a store.
            m.submodules.spill = spill = Spill(self.r.p.shape(), _SPILL)
            wiring.connect(m, wiring.flipped(self.r), spill.i)
            wiring.connect(m, spill.o, arrivals.r)
        else:
            wiring.connect(m, wiring.flipped(self.r), arrivals.r)
        wiring.connect(m, arrivals.lane_beat, wiring.flipped(self.lane.i))
        wiring.connect(m, arrivals.tag, verifier.expected)
        m.d.comb += [
            walker.test_valid.eq(self.test_valid),
            walker.test_readable.eq(self.test_readable),
            walker.enable.eq(opened != bus.outstanding_reads),
            arrivals.lane_data.eq(self.lane.o_data),
            arrivals.expects.eq(opened != 0),
            arrivals.wipe.eq(self.wipe),
            verifier.tag_valid.eq(self.lane.tag_valid),
            verifier.tag.eq(self.lane.tag),
            *(part.stop.eq(stop) for part in (walker, arrivals, verifier, settle)),
            settle.begin.eq(self.begin),
            settle.empty.eq(self.empty),
            self.room.eq(settle.room & walker.room),
            self.done.eq(settle.done),
            self.issued.eq(settle.issued),
            self.verified.eq(settle.verified),
            self.idle.eq(opened == 0),
            self.asked.eq(walker.asked),
        ]
        m.d.sync += opened.eq(opened + walker.asked.valid - arrivals.closes)

        imports = Signal()
        with m.If(self.source.valid & self.source.ready):
            m.d.sync += imports.eq(1)
        with m.If(self.plan.valid & self.plan.ready):
            m.d.sync += imports.eq(0)
        dma = DmaShapes(shapes.config.core, bus)
        for n, client in enumerate(READERS):
            name = client.name.lower()
            m.submodules[f"{name}_buffer"] = buffer = Buffer(piece_layout(shapes), depth)
            pack = Pack(dma, client)
            m.submodules[f"{name}_pack"] = ResetInserter(self.wipe)(pack)
            m.d.comb += [
                buffer.write.eq(arrivals.valid & (arrivals.client == n)),
                buffer.item.eq(arrivals.piece),
                buffer.limit.eq(buffer.written),
                buffer.wipe.eq(self.wipe),
                walker.taken[n].eq(buffer.taken),
                pack.i.valid.eq(buffer.o.valid & ~stop),
                buffer.o.ready.eq(pack.i.ready & ~stop),
                pack.i.p.data.eq(buffer.o.p.data),
                pack.i.p.final.eq(buffer.o.p.final),
                self.beat[n].p.eq(pack.o.p.data),
                # SEC: TEC.STICKY_FATAL -- the core gets nothing any more, nor what was offered.
                self.beat[n].valid.eq(pack.o.valid & ~stop),
                pack.o.ready.eq(self.beat[n].ready & ~stop),
                settle.delivered[n].eq(pack.o.valid & pack.o.ready & pack.o.p.last),
                settle.opened[n].eq(
                    verifier.valid & verifier.verified.final & (verifier.verified.client == n)
                ),
            ]
            log_units = (dma.granule(client) // UNIT - 1).bit_length()
            if dma.granules(client) == 1:
                m.d.comb += pack.i.p.end.eq(1)
            else:
                m.d.comb += [
                    pack.i.p.first.eq(buffer.o.p.first >> log_units),
                    pack.i.p.end.eq(buffer.o.p.end >> log_units),
                ]
            if client is Client.FETCH:
                # SEC: TEC.FETCH_VERIFIED -- the core gets a chunk's beats after its tag.
                released = Signal.like(buffer.limit)
                m.d.comb += buffer.limit.eq(released)
                with m.If(verifier.valid & (verifier.verified.client == n)):
                    m.d.sync += released.eq(verifier.verified.beats)
            if client is Client.WGT:
                m.d.comb += [
                    self.beat[n].valid.eq(pack.o.valid & ~imports & ~stop),
                    self.source_beat.p.eq(pack.o.p.data),
                    self.source_beat.valid.eq(pack.o.valid & imports & ~stop),
                    pack.o.ready.eq(
                        Mux(imports, self.source_beat.ready, self.beat[n].ready) & ~stop
                    ),
                    settle.delivered[n].eq(pack.o.valid & pack.o.ready & pack.o.p.last & ~imports),
                ]

        causes = Signal(ReadFault)
        with m.If(arrivals.fault):
            m.d.comb += causes.eq(ReadFault.BUS)
        with m.Elif(verifier.fault):
            m.d.comb += causes.eq(ReadFault.TAG)
        with m.Elif(walker.fault):
            m.d.comb += causes.eq(ReadFault.UNWRITTEN)
        with m.If((causes != ReadFault.NONE) & ~self.fault):
            m.d.sync += [self.fault.eq(1), self.cause.eq(causes)]

        overwritten = Signal(range(depth))
        m.d.sync += [
            overwritten.eq(Mux(self.wipe, overwritten + 1, 0)),
            self.wiped.eq(self.wipe & (self.wiped | (overwritten == depth - 1))),
        ]

        return m
