"""The plain DMA: memory without protection, absolute addresses (VTA specification §5)."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature, Response
from ginseng.bus.plan import bases_layout
from ginseng.bus.port import MemorySignature
from ginseng.bus.reader import Reader
from ginseng.bus.shapes import READERS, DmaShapes
from ginseng.bus.traffic import COUNTERS, Traffic, traffic_limits, traffic_units
from ginseng.bus.writer import Writer
from ginseng.flow.arbiter import RoundRobin
from ginseng.isa.config import BusConfig, CoreConfig
from ginseng.isa.transfer import Client

__all__ = ["PlainDma"]

_COUNTED = (Client.COMPUTE, Client.INP, Client.WGT)


class PlainDma(wiring.Component):
    """Answers the core from an AXI memory.

    The byte address of element e is ``base + e * element bytes``, the product modulo 2**32. Rows
    that follow one another are one; bursts are INCR, at most `BusConfig.burst_bytes`, never across
    4 KiB. Up to `BusConfig.outstanding_reads` and ``outstanding_writes`` bursts are open; reads are
    granted round-robin per burst, and only when the client's own buffer has room, so no client
    waits for another's sink. A descriptor is taken while earlier ones are in flight; from
    descriptor to address pass nine cycles where nothing is in the way, from data to beat three.

    A response other than OKAY, data or responses that nobody asked for, a wrong ``last``, an
    access outside the window of `BusConfig`, an unknown memory type and a base register that is
    not a multiple of 16 bytes (of a micro-op, for ``uop`` and ``acc``) raise ``memory.fault`` until
    reset. Then nothing new begins, nothing completes, and open bursts are ended as the bus wants
    it, without writing.

    Parameters
    ----------
    core : CoreConfig
    bus : BusConfig

    """

    #: The core's side.
    memory: Any
    #: AXI, the manager's side.
    axi: Any
    #: In: base registers, constant while anything is in flight.
    bases: data.View
    #: In: set the counters to zero.
    clear: Signal
    #: In: end as after a fault; a reset may follow when ``idle``.
    halt: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: increments of this cycle in `event_units`, at most `event_limits`: of the counters below
    #: and of the shares of each reading client, ``fetch_bytes``, ``fetch_bursts`` and so on.
    events: data.View
    #: Out: whole beats asked for, in bytes. A build with `ginseng.soc.counters` leaves these open.
    read_bytes: Signal
    #: Out: bytes written, those without strobe not counted.
    write_bytes: Signal
    #: Out: bursts.
    read_bursts: Signal
    write_bursts: Signal

    def __init__(self, core: CoreConfig, bus: BusConfig) -> None:
        self.shapes = DmaShapes(core, bus)
        granule = self.shapes.granule(Client.STORE)
        #: As of `Traffic`.
        self.event_units = traffic_units(bus, granule)
        self.event_limits = traffic_limits(bus, granule)
        super().__init__(
            {
                "memory": In(MemorySignature(bus)),
                "axi": Out(AxiSignature(bus)),
                "bases": In(bases_layout()),
                "clear": In(1),
                "halt": In(1),
                "idle": Out(1),
                "events": Out(
                    data.StructLayout({k: v.bit_length() for k, v in self.event_limits.items()})
                ),
                **{name: Out(64) for name in COUNTERS},
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.bus
        readers = [Reader(shapes, client) for client in READERS]
        for reader in readers:
            m.submodules[reader.client.name.lower()] = reader
        m.submodules.store = writer = Writer(shapes)
        # One shape for all requests: which granules are meant stays with the reader.
        address = data.StructLayout(
            {"beat": readers[0].request.p.beat.shape(), "beats": range(shapes.burst_beats + 1)}
        )
        m.submodules.arbiter = arbiter = RoundRobin(address, len(readers))

        stop = Signal()
        taken = {}
        for client, part in zip(Client, [*readers, writer], strict=True):
            port = getattr(self.memory, client.name.lower())
            wanted = port.descriptor.p.transfer if client is Client.STORE else port.descriptor.p
            taken[client] = port.descriptor.valid & port.descriptor.ready
            m.d.comb += [
                part.descriptor.p.eq(wanted),
                part.descriptor.valid.eq(port.descriptor.valid),
                port.descriptor.ready.eq(part.descriptor.ready),
                part.bases.eq(self.bases),
                part.stop.eq(stop),
                port.done.eq(part.done),
            ]

        opened = Signal(range(bus.outstanding_reads + 1))
        closed = Signal()
        answer = self.axi.r.p
        request = arbiter.o.p
        m.d.comb += [
            arbiter.enable.eq((opened != bus.outstanding_reads) & ~stop),
            self.axi.ar.valid.eq(arbiter.o.valid),
            arbiter.o.ready.eq(self.axi.ar.ready),
            self.axi.ar.p.id.eq(request.source),
            self.axi.ar.p.address.eq(request.item.beat << shapes.log_beat),
            self.axi.ar.p.length.eq(request.item.beats - 1),
            self.axi.r.ready.eq(1),
            closed.eq(self.axi.r.valid & answer.last & (opened != 0)),
        ]
        m.d.sync += opened.eq(opened + arbiter.taken - closed)

        for n, reader in enumerate(readers):
            port = getattr(self.memory, reader.client.name.lower())
            m.d.comb += [
                arbiter.i[n].valid.eq(reader.request.valid),
                arbiter.i[n].p.beat.eq(reader.request.p.beat),
                arbiter.i[n].p.beats.eq(reader.request.p.beats),
                reader.request.ready.eq(arbiter.i[n].ready),
                reader.data.valid.eq(self.axi.r.valid & (answer.id == n)),
                reader.data.p.data.eq(answer.data),
                reader.data.p.last.eq(answer.last),
            ]
            wiring.connect(m, reader.beat, wiring.flipped(port.beat))
        wiring.connect(m, wiring.flipped(self.memory.store.beat), writer.beat)
        wiring.connect(m, writer.aw, wiring.flipped(self.axi.aw))
        wiring.connect(m, writer.w, wiring.flipped(self.axi.w))
        wiring.connect(m, wiring.flipped(self.axi.b), writer.b)

        wrong = Signal()
        m.d.comb += [
            wrong.eq(
                self.axi.r.valid
                & ((answer.response != Response.OKAY) | (answer.id >= len(readers)))
            ),
            stop.eq(self.memory.fault | self.halt),
            self.idle.eq((opened == 0) & writer.idle),
        ]
        m.d.sync += self.memory.fault.eq(
            self.memory.fault | wrong | Cat(part.fault for part in [*readers, writer]).any()
        )

        issued = sum(taken[client] for client in _COUNTED)
        m.d.sync += self.memory.issued.eq(self.memory.issued + issued)
        granule = shapes.granule(Client.STORE)
        m.submodules.traffic = traffic = Traffic(bus, granule)
        m.d.comb += [
            traffic.read.eq(arbiter.taken),
            traffic.write.eq(writer.counted),
            traffic.granules.eq(writer.granules),
            self.events.eq(traffic.events),
        ]
        for n, reader in enumerate(readers):
            with m.If(arbiter.i[n].ready):
                m.d.comb += [
                    traffic.client.eq(reader.client),
                    traffic.beats.eq(arbiter.i[n].p.beats),
                ]
        events = self.events
        m.d.sync += [
            getattr(self, name).eq(
                getattr(self, name) + events[name] * self.event_units.get(name, 1)
            )
            for name in COUNTERS
        ]
        with m.If(self.clear):
            m.d.sync += [getattr(self, name).eq(0) for name in COUNTERS]

        return m
