"""The tensor encryption core: between the VTA core and memory that belongs to the adversary."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ginseng.bus.axi import AxiSignature
from ginseng.bus.port import MemorySignature
from ginseng.bus.shapes import READERS
from ginseng.bus.traffic import Traffic, traffic_limits, traffic_units
from ginseng.crypto.lane import Lane
from ginseng.flow.queue import Latch
from ginseng.isa.config import SystemConfig
from ginseng.isa.mailbox import Refusal, State
from ginseng.isa.table import GRANULE, Limits
from ginseng.isa.transfer import Client
from ginseng.tec.control import Control, ControlCommand
from ginseng.tec.importer import Importer
from ginseng.tec.plan import Planner
from ginseng.tec.read import ReadPath
from ginseng.tec.shapes import MeasuredItem, NoncePrefix, TecShapes
from ginseng.tec.share import LaneShare
from ginseng.tec.write import WritePath

__all__ = ["LANE_COUNTERS", "Tec"]

#: Cycles in which a lane's AES, and its GHASH, take a block.
LANE_COUNTERS: Final = ("aes_busy", "ghash_busy")


class Tec(wiring.Component):
    """Answers the core out of tensors that only it can read and write, as the monitor says.

    ``command`` takes what the monitor asks (`ginseng.tec.control.ControlCommand`), ``memory`` what
    the core asks while a run is on. The first fault of specification §7, here or in the core
    (``halt``), raises ``fatal`` for ever: nothing completes any more, every beat from then on is
    empty, and within some thousand cycles ``wiped`` says that no key, no row and no plaintext is
    left. ``wipe`` does the same at the end of a session, and another may begin after it.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.
    limits : Limits or None
        Ends of the counters.

    """

    #: The core's side.
    memory: Any
    #: AXI, the manager's side.
    axi: Any
    #: In: `ControlCommand`.
    command: stream.Interface
    #: Out: a command is answered, and how.
    answer_valid: Signal
    answer: Any
    #: Out: where the session stands.
    state: Any
    #: Out: what the monitor is to hash: an import, or the measured exports of a run.
    measured: stream.Interface
    #: In: the core has met a fault.
    halt: Signal
    #: In: for one cycle: end the session.
    wipe: Signal
    #: Out: high for one cycle when it is ended; for ever after a fault, once all is zero.
    wiped: Signal
    #: Out: there was a fault.
    fatal: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: increments of this cycle, of at most `event_limits`.
    events: data.View

    def __init__(self, config: SystemConfig, limits: Limits | None = None) -> None:
        self.shapes: Final = TecShapes(config)
        self.limits: Final = limits
        bus = config.bus
        #: As of `Traffic`; what the lanes count has no unit.
        self.event_units: Final = traffic_units(bus, GRANULE)
        self.event_limits: Final = traffic_limits(bus, GRANULE) | dict.fromkeys(LANE_COUNTERS, 1)
        super().__init__(
            {
                "memory": In(MemorySignature(bus)),
                "axi": Out(AxiSignature(bus)),
                "command": In(stream.Signature(ControlCommand)),
                "answer_valid": Out(1),
                "answer": Out(Refusal),
                "state": Out(State, init=State.BOOT),  # type: ignore[call-arg]
                "measured": Out(stream.Signature(MeasuredItem)),
                "halt": In(1),
                "wipe": In(1),
                "wiped": Out(1),
                "fatal": Out(1),
                "idle": Out(1),
                "events": Out(
                    data.StructLayout({k: v.bit_length() for k, v in self.event_limits.items()})
                ),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes = self.shapes
        # What a session leaves is wiped, then all of it is reset.
        again = Signal()
        fresh = ResetInserter(again)
        control = Control(shapes, self.limits)
        planner, reads, writes = Planner(shapes), ReadPath(shapes), WritePath(shapes)
        importer = Importer(shapes)
        # A store keeps its plan until its last burst; the planner must not wait for it: what it
        # would keep from planning are loads and instructions.
        stores = Latch(shapes.plan)
        for name, part in (
            ("control", control),
            ("planner", planner),
            ("reads", reads),
            ("writes", writes),
            ("importer", importer),
            ("stores", stores),
        ):
            m.submodules[name] = fresh(part)
        lanes = self._lanes(m, fresh, control, reads, writes)

        connect(m, flipped(self.command), control.command)
        connect(m, planner.lookup, control.lookup)
        connect(m, reads.test, control.test)
        connect(m, writes.chunk_begin, control.begin)
        connect(m, writes.measure, flipped(self.measured))
        connect(m, planner.read, reads.plan)
        connect(m, planner.store, stores.i)
        connect(m, reads.ar, flipped(self.axi.ar))
        connect(m, flipped(self.axi.r), reads.r)
        connect(m, writes.aw, flipped(self.axi.aw))
        connect(m, writes.w, flipped(self.axi.w))
        connect(m, flipped(self.axi.b), writes.b)
        m.d.comb += [
            self.answer_valid.eq(control.answer_valid),
            self.answer.eq(control.answer),
            planner.loaded.eq(control.has_key),
            planner.running.eq(control.running),
            reads.test_valid.eq(control.test_valid),
            reads.test_readable.eq(control.test_readable),
            writes.begin_valid.eq(control.begin_valid),
            writes.begin_fresh.eq(control.begin_fresh),
            control.finish.eq(writes.chunk_finish),
            # What may not be encrypted is a fault there, long before the first pad is made.
            control.seal.valid.eq(writes.seal.valid),
            control.seal.p.slot.eq(writes.seal.slot),
            control.seal.p.blocks.eq(writes.seal.blocks),
            writes.seal_ok.eq(1),
            control.open_chunk.eq(writes.open_chunk),
            writes.issued.eq(reads.issued),
            writes.verified.eq(reads.verified),
            self.memory.issued.eq(reads.issued),
        ]
        self._clients(m, planner, stores, reads, writes)
        self._import(m, control, importer, reads, writes, stores)

        # SEC: TEC.STICKY_FATAL -- the same edge stops everything.
        # What has been offered on W by then is out when `fatal` says so, a cycle later.
        dead, stop, stopped, ending = Signal(), Signal(), Signal(), Signal()
        parts = (control, planner, reads, writes, importer)
        empty = Cat(control.wiped, reads.wiped, writes.wiped, *(lane.wiped for lane in lanes)).all()
        m.d.comb += [
            *(part.stop.eq(stop) for part in parts),
            stop.eq(dead | ending),
            self.memory.fault.eq(dead),
            self.idle.eq(reads.idle & writes.idle),
            # SEC: TEC.ZEROIZE
            control.wipe.eq(stop & ~stopped),
            reads.wipe.eq(stop & reads.idle),
            *(lane.wipe.eq(stop & self.idle) for lane in lanes),
            self.wiped.eq(stopped & self.idle & empty),
            again.eq(self.wiped & ~dead),
        ]
        m.d.sync += [stopped.eq(stop), self.fatal.eq(dead)]
        faults = (part.fault for part in (control, planner, reads, writes))
        with m.If(self.halt | Cat(faults).any()):
            m.d.sync += dead.eq(1)
        with m.If(self.wipe):
            m.d.sync += ending.eq(1)
        with m.Elif(again):
            m.d.sync += ending.eq(0)
        m.d.comb += self.state.eq(control.state)
        with m.If(self.fatal):
            m.d.comb += self.state.eq(State.FATAL)

        m.submodules.traffic = traffic = Traffic(shapes.config.bus, GRANULE)
        m.d.comb += [
            traffic.read.eq(reads.asked.valid),
            traffic.client.eq(reads.asked.client),
            traffic.beats.eq(reads.asked.beats),
            traffic.write.eq(writes.counted),
            traffic.granules.eq(writes.nbytes >> (GRANULE - 1).bit_length()),
            *(self.events[name].eq(traffic.events[name]) for name in traffic.limits),
            self.events.aes_busy.eq(Cat(lane.busy_aes for lane in lanes).any()),
            self.events.ghash_busy.eq(Cat(lane.busy_ghash for lane in lanes).any()),
        ]

        return m

    def _lanes(self, m, fresh, control, reads, writes):
        """Make the lane, or one a direction, and give both the keys."""
        shapes = self.shapes
        users = (reads.lane, writes.lane)
        if shapes.tec.half_duplex:
            m.submodules.lane = lane = fresh(Lane(shapes.lane))
            m.submodules.share = share = fresh(LaneShare(shapes))
            m.d.comb += [
                share.pressing.eq(writes.pressing),
                share.exclusive.eq(writes.exclusive),
            ]
            for user, port in zip(users, share.users, strict=True):
                connect(m, user, port)
            connect(m, share.lane, lane.port)
            lanes = [lane]
        else:
            lanes = [fresh(Lane(shapes.lane)) for _ in users]
            m.submodules.read_lane, m.submodules.write_lane = lanes
            for user, lane in zip(users, lanes, strict=True):
                connect(m, user, lane.port)
        ready = Cat(lane.hash_key.ready for lane in lanes).all()
        m.d.comb += control.hash_key.ready.eq(ready)
        for lane in lanes:
            connect(m, control.round_key, lane.round_key)
            m.d.comb += [
                lane.hash_key.p.eq(control.hash_key.p),
                lane.hash_key.valid.eq(control.hash_key.valid & ready),
            ]
        return lanes

    def _clients(self, m, planner, stores, reads, writes):
        """Wire the core's ports: descriptors to the planner, beats and completions to the paths."""
        room = [*reads.room, writes.room & ~stores.o.valid]
        m.d.comb += [planner.room.eq(Cat(room)), reads.begin.eq(planner.taken[: len(READERS)])]
        for client in Client:
            port = getattr(self.memory, client.name.lower())
            descriptor = port.descriptor
            wanted = descriptor.p.transfer if client is Client.STORE else descriptor.p
            m.d.comb += [
                planner.i[client].p.eq(wanted),
                planner.i[client].valid.eq(descriptor.valid),
                descriptor.ready.eq(planner.i[client].ready),
            ]
        for n, client in enumerate(READERS):
            port = getattr(self.memory, client.name.lower())
            connect(m, reads.beat[n], flipped(port.beat))
            m.d.comb += port.done.eq(reads.done[n])
        store = self.memory.store
        m.d.comb += [
            reads.empty.eq(planner.empty),
            writes.begin.eq(planner.taken[Client.STORE]),
            writes.empty.eq(planner.empty),
            writes.sample.eq(store.descriptor.p.sample),
            store.done.eq(writes.done),
        ]
        connect(m, flipped(store.beat), writes.beat)

    def _import(self, m, control, importer, reads, writes, stores):
        """Wire the importer between both paths; it has them for itself, no run is on."""
        order, entry = control.importing, control.importing.entry
        connect(m, importer.plan, reads.source)
        connect(m, reads.source_beat, importer.beat)
        connect(m, importer.write, writes.importing)
        place, prefix = Signal(self.shapes.plan), Signal(NoncePrefix)
        placed, given = Signal(), Signal()
        m.d.comb += [
            prefix.version.eq(order.epoch),
            prefix.handle.eq(order.handle),
            prefix.domain.eq(entry.domain),
            importer.i.valid.eq(order.valid),
            importer.i.p.sealed.eq(order.sealed),
            importer.i.p.source.eq(order.source),
            importer.i.p.slot.eq(order.slot),
            importer.i.p.version.eq(entry.version),
            order.done.eq(importer.done),
            writes.plan.valid.eq(stores.o.valid | (placed & ~given)),
            writes.plan.p.eq(Mux(placed, place, stores.o.p)),
            stores.o.ready.eq(writes.plan.ready),
        ]
        # In place: the whole tensor as one row, under the next epoch. The table is slow.
        m.d.sync += [
            placed.eq(order.valid & ~importer.done),
            given.eq(order.valid & ~importer.done & (given | (placed & writes.plan.ready))),
            place.prefix.eq(prefix.as_value()),
            place.slot.eq(entry.slot),
            place.base.eq(entry.base),
            place.extent.eq(entry.extent),
            place.chunk.eq(entry.chunk),
            place.row_bytes.eq(entry.length),
            place.rows.eq(1),
        ]
