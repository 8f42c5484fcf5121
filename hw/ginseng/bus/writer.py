"""Writes for the storing client: bursts with byte strobes, completions after every response."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature, Response
from ginseng.bus.burst import Cut
from ginseng.bus.flight import Flight
from ginseng.bus.plan import Rows, bases_layout
from ginseng.bus.realign import Place
from ginseng.bus.shapes import DmaShapes
from ginseng.flow.queue import Latch, Queue, Skid
from ginseng.isa.transfer import Client, TransferDescriptor

__all__ = ["Writer"]

#: An address is given once so many beats of its burst, or all, are there: a slow store then does
#: not hold the bus.
_GATHER = 16


class Writer(wiring.Component):
    """Answers the storing client of the plain DMA.

    One beat per cycle. Data of a burst never precede its address. A descriptor completes when the
    responses to all its bursts came.

    Parameters
    ----------
    shapes : DmaShapes

    """

    #: In: descriptors, taken while there is room for one more in flight.
    descriptor: stream.Interface
    #: In: base registers, constant while anything is in flight.
    bases: Any
    #: In: dense beats.
    beat: stream.Interface
    #: Out, in: the write channels of AXI.
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface
    #: In: take and complete nothing any more; end open bursts without writing.
    stop: Signal
    #: Out: a descriptor completes.
    done: Signal
    #: Out: an illegal descriptor was met, or a wrong response comes.
    fault: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: a burst is begun, of so many granules to write.
    counted: Signal
    granules: Signal

    def __init__(self, shapes: DmaShapes) -> None:
        self.shapes = shapes
        self.buffer_beats = max(2 * shapes.burst_beats, 2 * _GATHER)
        axi = AxiSignature(shapes.bus)
        super().__init__(
            {
                "descriptor": In(stream.Signature(TransferDescriptor)),
                "bases": In(bases_layout()),
                "beat": In(stream.Signature(unsigned(shapes.bus.data_bits))),
                "aw": axi.members["aw"],
                "w": axi.members["w"],
                "b": axi.members["b"],
                "stop": In(1),
                "done": Out(1),
                "fault": Out(1),
                "idle": Out(1),
                "counted": Out(1),
                "granules": Out(range(shapes.burst_beats * shapes.granules(Client.STORE) + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.bus
        client = Client.STORE
        granule = shapes.granule(client)
        granules = shapes.granules(client)
        burst = shapes.burst(client)
        beats = range(shapes.burst_beats + 1)
        placed = data.StructLayout({"data": bus.data_bits, "mask": granules})
        depth = bus.outstanding_writes + 2
        m.submodules.rows = rows = Rows(shapes, client)
        m.submodules.cut = cut = Cut(shapes, client)
        m.submodules.place = place = Place(shapes, client)
        m.submodules.buffer = buffer = Queue(placed, self.buffer_beats, block_ram=True)
        m.submodules.planned = planned = Queue(burst, depth)
        m.submodules.lengths = lengths = Queue(beats, depth)
        m.submodules.finals = finals = Queue(1, depth)
        m.submodules.address = address = Latch(self.aw.p.shape())
        m.submodules.skid_w = skid_w = Skid(self.w.p.shape())
        m.submodules.flight = flight = Flight()

        takes = Signal()
        wiring.connect(m, rows.o, cut.i)
        wiring.connect(m, wiring.flipped(self.beat), place.i)
        wiring.connect(m, address.o, wiring.flipped(self.aw))
        wiring.connect(m, skid_w.o, wiring.flipped(self.w))
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

        # Every burst goes both to the address side and to the data side.
        m.d.comb += [
            place.burst.p.eq(cut.o.p),
            planned.i.p.eq(cut.o.p),
            place.burst.valid.eq(cut.o.valid & planned.i.ready),
            planned.i.valid.eq(cut.o.valid & place.burst.ready),
            cut.o.ready.eq(planned.i.ready & place.burst.ready),
        ]

        # Data wait in the buffer, in their lanes.
        piece = place.o.p
        m.d.comb += [
            buffer.i.valid.eq(place.o.valid),
            place.o.ready.eq(buffer.i.ready),
            buffer.i.p.data.eq(piece.data),
            buffer.i.p.mask.eq(((1 << granules) - 1) << piece.first),
        ]
        for lane in range(granules):
            with m.If(piece.end <= lane):
                m.d.comb += buffer.i.p.mask[lane].eq(0)

        # Addresses, once enough data are there that are not owed to earlier ones.
        begun = planned.o.p
        owed = Signal(range(depth * shapes.burst_beats + 1))
        open_bursts = Signal(range(bus.outstanding_writes + 1))
        need = Signal(range(_GATHER + 1))
        gathered = Signal()
        begins = Signal()
        sent = Signal()
        m.d.comb += [
            need.eq(Mux(begun.beats < _GATHER, begun.beats, _GATHER)),
            begins.eq(
                gathered & ~self.stop & (open_bursts != bus.outstanding_writes) & address.i.ready
            ),
            planned.o.ready.eq(begins),
            address.i.valid.eq(begins),
            address.i.p.id.eq(client),
            address.i.p.address.eq(begun.beat << shapes.log_beat),
            address.i.p.length.eq(begun.beats - 1),
            lengths.i.valid.eq(begins),
            lengths.i.p.eq(begun.beats),
            finals.i.valid.eq(begins),
            finals.i.p.eq(begun.final),
            self.counted.eq(begins),
            self.granules.eq(begun.beats * granules - (begun.first + (granules - begun.end))),
        ]

        # Seen a cycle late: what was there stays until the next burst begins.
        m.d.sync += gathered.eq(planned.o.valid & (buffer.level >= owed + need) & ~begins)

        # Data of begun bursts. After a stop, what is owed is sent without strobes.
        count = Signal(range(shapes.burst_beats))
        last = Signal()
        m.d.comb += [
            last.eq(count == lengths.o.p - 1),
            skid_w.i.valid.eq(lengths.o.valid & (buffer.o.valid | self.stop)),
            sent.eq(skid_w.i.valid & skid_w.i.ready),
            buffer.o.ready.eq(sent),
            lengths.o.ready.eq(sent & last),
            skid_w.i.p.id.eq(client),
            skid_w.i.p.last.eq(last),
        ]
        with m.If(~self.stop):
            m.d.comb += skid_w.i.p.data.eq(buffer.o.p.data)
            for lane in range(granules):
                m.d.comb += skid_w.i.p.strobe[lane * granule : (lane + 1) * granule].eq(
                    buffer.o.p.mask[lane].replicate(granule)
                )
        with m.If(sent):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        m.d.sync += owed.eq(owed + Mux(begins, begun.beats, 0) - sent)

        # Responses.
        answered = Signal()
        wrong = Signal()
        m.d.comb += [
            self.b.ready.eq(1),
            answered.eq(self.b.valid & finals.o.valid),
            finals.o.ready.eq(self.b.valid),
            flight.finish.eq(answered & finals.o.p),
            wrong.eq(
                self.b.valid
                & (~finals.o.valid | (self.b.p.response != Response.OKAY) | (self.b.p.id != client))
            ),
            self.fault.eq(wrong | cut.fault),
            self.idle.eq(open_bursts == 0),
        ]
        m.d.sync += open_bursts.eq(open_bursts + begins - answered)

        return m
