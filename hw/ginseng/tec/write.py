"""Writes: whole chunks, each sealed once per version (TEC specification §3, §6, §7)."""

from typing import Any, Final

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature
from ginseng.bus.flight import DEPTH, Flight
from ginseng.bus.port import READ_COUNT_BITS
from ginseng.flow.queue import Queue
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.table import GRANULE, KEY_SLOTS, MAX_CHUNK, Domain
from ginseng.isa.transfer import Client
from ginseng.tec.importer import ImportPort
from ginseng.tec.intake import Intake
from ginseng.tec.measure import Measurer
from ginseng.tec.segment import Segments, segment_layout
from ginseng.tec.shapes import VERSION_BITS, LanePort, MeasuredItem, NoncePrefix, TecShapes
from ginseng.tec.sink import Sink

__all__ = ["OPEN_CONTEXT", "SEAL_CONTEXT", "WritePath"]

#: Of the lane: what is sealed, and the source of an import.
SEAL_CONTEXT: Final = Client.STORE.value
OPEN_CONTEXT: Final = SEAL_CONTEXT + 1
#: Beats of a store that the lane takes at once, where a beat is less than a block: the first are
#: on their way while the last of the burst still come.
_JOB_BEATS: Final = 32
#: Beats that wait; one more is in the output register of the queue.
_PLAINTEXT_BYTES: Final = 4096
_LOG_TAG: Final = (TAG_BYTES - 1).bit_length()


class WritePath(wiring.Component):
    """Seals what the core stores and what is imported, and writes it.

    One beat per cycle. A burst takes the lane part by part, each when all its beats are there, and
    a descriptor's first only when all the loads that it may depend on verified. Then nobody else
    has the lane until all of the burst had it: its address may be out. Chunks of measured exports
    do not overlap. A descriptor completes when the responses to all its bursts came.

    Imports go burst by burst: the source's beats are measured and, if they are sealed, opened,
    before the next come.

    Parameters
    ----------
    shapes : TecShapes

    Notes
    -----
    *Guarantees.* What leaves is what the lane returned under a nonce that no other chunk had: each
    chunk's bit is set, and its blocks are counted, before its first job. After ``stop`` nothing
    leaves but what was offered (`Sink`), and plaintext is overwritten (``wiped``).

    """

    #: In: plans of stores, or of the import.
    plan: stream.Interface
    #: In: the core's dense beats.
    beat: stream.Interface
    #: In: a descriptor of the core was taken, whether it moves nothing, and its barrier sample.
    begin: Signal
    empty: Signal
    sample: Signal
    #: Out: one more descriptor can be taken.
    room: Signal
    #: Out: a descriptor completes.
    done: Signal
    #: In: loads taken, and the longest prefix of them that verified; both modulo 2**16.
    issued: Signal
    verified: Signal
    #: Out: to the lane; beats wait for it, and the burst of which it had a part goes on.
    lane: Any
    pressing: Signal
    exclusive: Signal
    #: Out: chunks to be begun: test and set the bit. In: the answer, in order.
    chunk_begin: stream.Interface
    begin_valid: Signal
    begin_fresh: Signal
    #: Out: the oldest begun chunk is completely written.
    chunk_finish: Signal
    #: Out: count so many blocks of a key. In, at the same time: it may encrypt them.
    seal: data.View
    seal_ok: Signal
    #: In: the importer.
    importing: Any
    #: Out: what measured exports are, in store order.
    measure: stream.Interface
    #: Out, in: the write channels of AXI.
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface
    #: In: the sticky fault.
    stop: Signal
    #: Out: a rule was broken, or a wrong response comes.
    fault: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: after a stop, all plaintext is overwritten.
    wiped: Signal
    #: Out: a chunk is not complete.
    open_chunk: Signal
    #: Out: a burst of ``nbytes`` bytes to write is begun.
    counted: Signal
    nbytes: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        bus = shapes.config.bus
        bit = {"bit": range(shapes.tec.bitmap_bits), "export": 1}
        blocks = {"blocks": range(MAX_CHUNK // GRANULE + 1)}
        axi = AxiSignature(bus)
        super().__init__(
            {
                "plan": In(stream.Signature(shapes.plan)),
                "beat": In(stream.Signature(unsigned(bus.data_bits))),
                "begin": In(1),
                "empty": In(1),
                "sample": In(READ_COUNT_BITS),
                "room": Out(1),
                "done": Out(1),
                "issued": In(READ_COUNT_BITS),
                "verified": In(READ_COUNT_BITS),
                "lane": Out(LanePort(shapes)),
                "pressing": Out(1),
                "exclusive": Out(1),
                "chunk_begin": Out(stream.Signature(data.StructLayout(bit))),
                "begin_valid": In(1),
                "begin_fresh": In(1),
                "chunk_finish": Out(1),
                "seal": Out(data.StructLayout({"valid": 1, "slot": range(KEY_SLOTS), **blocks})),
                "seal_ok": In(1),
                "importing": In(ImportPort(shapes)),
                "measure": Out(stream.Signature(MeasuredItem)),
                "aw": axi.members["aw"],
                "w": axi.members["w"],
                "b": axi.members["b"],
                "stop": In(1),
                "fault": Out(1),
                "idle": Out(1),
                "wiped": Out(1),
                "open_chunk": Out(1),
                "counted": Out(1),
                "nbytes": Out(range(bus.burst_bytes + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        shapes, bus = self.shapes, self.shapes.config.bus
        importing = self.importing
        m.submodules.segments = segments = Segments(shapes)
        m.submodules.intake = intake = Intake(
            shapes, max(4 * segments.burst_beats, _PLAINTEXT_BYTES // bus.beat_bytes) + 1
        )
        m.submodules.sink = sink = Sink(shapes, segments.burst_beats)
        m.submodules.measurer = measurer = Measurer(shapes)
        m.submodules.flight = flight = Flight()
        m.submodules.samples = samples = Queue(READ_COUNT_BITS, DEPTH)

        wiring.connect(m, wiring.flipped(self.plan), segments.i)
        wiring.connect(m, segments.chunk, wiring.flipped(importing.chunk))
        wiring.connect(m, wiring.flipped(self.beat), intake.core)
        wiring.connect(m, wiring.flipped(importing.beat), intake.source)
        wiring.connect(m, measurer.o, wiring.flipped(self.measure))
        for name in ("aw", "w"):
            wiring.connect(m, getattr(sink, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, wiring.flipped(self.b), sink.b)
        m.d.comb += [
            segments.announces.eq(importing.active),
            self.open_chunk.eq(segments.open_chunk),
            flight.begin.eq(self.begin),
            flight.empty.eq(self.empty),
            flight.finish.eq(sink.finish & ~importing.active),
            flight.stop.eq(self.stop),
            self.room.eq(flight.room),
            self.done.eq(flight.done),
            importing.done.eq(sink.finish & importing.active & ~self.stop),
            samples.i.valid.eq(self.begin & ~self.empty),
            samples.i.p.eq(self.sample),
            self.chunk_finish.eq(sink.chunk_finish & ~importing.active),
            self.idle.eq(sink.idle),
            self.wiped.eq(intake.wiped),
            self.counted.eq(sink.counted),
            self.nbytes.eq(sink.nbytes),
            intake.active.eq(importing.active),
            intake.stop.eq(self.stop),
            sink.stop.eq(self.stop),
        ]

        # The burst that is next, and what it waits for.
        now: Any = Signal(segment_layout(shapes))
        bursts = _bursts(m, shapes, segments, intake)
        sample = Signal(READ_COUNT_BITS)
        age = Signal(READ_COUNT_BITS)
        pending = Signal(READ_COUNT_BITS)
        verified = Signal()
        exported = Signal()
        twice = Signal()
        failed = Signal()
        #: Beats in the buffer that no job was made of; of the burst; what the next job has of it.
        there = Signal(range(intake.depth + 1))
        left, part = Signal.like(now.beats), Signal.like(now.beats)
        ends = Signal()
        complete = Signal()
        given = Signal()
        m.d.comb += [
            # SEC: TEC.STORE_BARRIER -- what is pending is younger than the sample.
            verified.eq(age >= pending),
            exported.eq(now.measured & ~importing.active),
            part.eq(Mux(ends, left, _JOB_BEATS)),
            ends.eq(importing.active | (shapes.granules > 1) | (left <= _JOB_BEATS)),
            complete.eq(there >= part),
            self.pressing.eq(self.lane.job.valid & ~importing.active),
            given.eq(self.lane.job.valid & self.lane.job.ready),
        ]
        m.d.sync += [
            age.eq(self.issued - sample),
            pending.eq(self.issued - self.verified),
            there.eq(there + intake.pushed - Mux(given, part, 0)),
        ]
        with m.If(given & ~ends):
            blocks = _JOB_BEATS * bus.beat_bytes >> _LOG_TAG
            m.d.sync += [now.start.eq(0), now.counter.eq(now.counter + blocks)]

        # The lane.
        job = self.lane.job.p
        opening = Signal()
        for name in ("first", "end", "counter", "start", "nbytes"):
            m.d.comb += job[name].eq(now[name])
        m.d.comb += [
            job.beats.eq(part),
            job.last.eq(now.last & ends),
            job.seals.eq(~opening),
            job.slot.eq(Mux(opening, importing.slot, now.slot)),
            job.context.eq(Mux(opening, OPEN_CONTEXT, SEAL_CONTEXT)),
            # SEC: TEC.NONCE_BINDS
            job.nonce[:32].eq(now.index),
            job.nonce[32:].eq(now.prefix),
        ]
        with m.If(opening):
            m.d.comb += job.nonce[32 : 32 + VERSION_BITS].eq(importing.version)
        wiring.connect(m, intake.o, wiring.flipped(self.lane.i))

        # What it returns: ciphertext, or the plaintext of an import that is sealed next.
        #: A chunk was opened, its tag not compared; that is the first of the chunk's two tags.
        unverified = Signal()
        second = Signal()
        tag_of_open = Signal()
        differs = Signal()
        m.d.comb += [
            intake.o_valid.eq(self.lane.o_valid & ~self.lane.o_seals),
            intake.o_data.eq(self.lane.o_data),
            # SEC: TEC.CIPHERTEXT_ONLY -- what leaves is what the lane says that it encrypted.
            sink.o_valid.eq(self.lane.o_valid & self.lane.o_seals),
            sink.o_data.eq(self.lane.o_data),
            sink.tag.eq(self.lane.tag),
            sink.tag_valid.eq(self.lane.tag_valid & ~tag_of_open),
            sink.burst.beat.eq(now.beat),
            sink.burst.measured.eq(exported),
        ]
        for name in ("beats", "first", "end", "last", "joins", "final"):
            m.d.comb += sink.burst[name].eq(now[name])
        m.d.comb += [
            tag_of_open.eq(importing.active & importing.sealed & ~second),
            # SEC: TEC.IMPORT_VERIFIED -- before the next chunk's bytes are taken.
            differs.eq(self.lane.tag_valid & tag_of_open & (self.lane.tag != intake.tag)),
        ]
        with m.If(~importing.active):
            m.d.sync += second.eq(0)
        with m.Elif(self.lane.tag_valid):
            m.d.sync += second.eq(tag_of_open)
            with m.If(tag_of_open):
                m.d.sync += unverified.eq(0)

        # What is measured.
        tap = Mux(importing.active, intake.tap.p.as_value(), sink.tap.p.as_value())
        prefix = data.View(NoncePrefix, now.prefix)
        m.d.comb += [
            measurer.i.p.as_value().eq(tap),
            measurer.i.valid.eq(Mux(importing.active, intake.tap.valid, sink.tap.valid)),
            intake.tap.ready.eq(measurer.i.ready),
            sink.tap.ready.eq(measurer.i.ready),
            measurer.header.p.eq(_big_endian(prefix.handle, 2) | _big_endian(now.index, 4) << 16),
        ]

        m.d.comb += [
            self.chunk_begin.p.bit.eq(now.first_bit + now.index),
            self.chunk_begin.p.export.eq(prefix.domain == Domain.EXPORT),
            self.seal.slot.eq(now.slot),
            self.seal.blocks.eq(now.nbytes >> _LOG_TAG),
            intake.fill.p.beats.eq(now.beats),
            intake.fill.p.tag.eq(now.last & importing.sealed),
            twice.eq(self.begin_valid & ~self.begin_fresh),
            self.fault.eq(segments.fault | sink.fault | failed),
        ]

        m.d.sync += failed.eq(failed | twice | (self.seal.valid & ~self.seal_ok) | differs)

        with m.FSM():
            with m.State("Take-Burst"):
                loads = bursts.p.fresh & ~importing.active
                m.d.comb += [
                    bursts.ready.eq(~self.stop & (samples.o.valid | ~loads)),
                    samples.o.ready.eq(bursts.valid & bursts.ready & loads),
                ]
                m.d.sync += [now.eq(bursts.p), left.eq(bursts.p.beats), sample.eq(samples.o.p)]
                with m.If(bursts.valid & bursts.ready):
                    with m.If(loads):
                        m.next = "Count-Loads"
                    with m.Elif(bursts.p.start):
                        m.next = "Write-Header"
                    with m.Else():
                        m.next = "Fill-Buffer"

            with m.State("Count-Loads"):
                m.next = "Await-Loads"

            with m.State("Await-Loads"), m.If(verified):
                with m.If(now.start):
                    m.next = "Write-Header"
                with m.Else():
                    m.next = "Fill-Buffer"

            with m.State("Write-Header"):
                m.d.comb += measurer.header.valid.eq(exported & sink.quiet)
                with m.If(~exported | (sink.quiet & measurer.header.ready)):
                    m.next = "Begin-Chunk"

            with m.State("Begin-Chunk"):
                # SEC: TEC.WRITTEN_BITMAP -- set before the first pad is made.
                m.d.comb += self.chunk_begin.valid.eq(now.tracked & ~self.stop)
                with m.If(~now.tracked):
                    m.next = "Count-Blocks"
                with m.Elif(self.chunk_begin.ready & ~self.stop):
                    m.next = "Await-Bit"

            with m.State("Await-Bit"), m.If(self.begin_valid):
                m.next = "Count-Blocks"

            with m.State("Count-Blocks"):
                # SEC: TEC.BLOCK_LIMIT -- the whole chunk, before the first pad is made.
                m.d.comb += self.seal.valid.eq(~self.stop & ~failed)
                with m.If(self.seal.valid):
                    m.next = "Fill-Buffer"

            with m.State("Fill-Buffer"):
                m.d.comb += intake.fill.valid.eq(importing.active & ~unverified & ~failed)
                with m.If(~importing.active):
                    m.next = "Seal-Burst"
                with m.Elif(intake.fill.ready):
                    m.next = "Seal-Burst"
                    with m.If(importing.sealed):
                        m.next = "Open-Burst"

            with m.State("Open-Burst"):
                # What the lane still returns is ciphertext.
                m.d.comb += [
                    opening.eq(1),
                    self.lane.job.valid.eq(sink.drained & ~self.stop & ~failed),
                ]
                with m.If(given):
                    m.d.sync += unverified.eq(now.last)
                    m.next = "Seal-Burst"

            with m.State("Seal-Burst"):
                m.d.comb += [
                    self.lane.job.valid.eq(
                        complete & (sink.room | self.exclusive) & ~self.stop & ~failed
                    ),
                    sink.enable.eq(given & ~self.exclusive),
                ]
                with m.If(given):
                    m.d.sync += [left.eq(left - part), self.exclusive.eq(~ends)]
                    with m.If(ends):
                        m.next = "Take-Burst"

        return m


def _bursts(m: Module, shapes: TecShapes, segments: Segments, intake: Intake) -> Any:
    """Return the stream of bursts; where beats must be moved into their lanes, that comes first."""
    if shapes.granules == 1:
        return segments.o
    m.submodules.bursts = bursts = Queue(segment_layout(shapes), 4)
    m.d.comb += [
        bursts.i.p.eq(segments.o.p),
        bursts.i.valid.eq(segments.o.valid & intake.place.ready),
        intake.place.valid.eq(segments.o.valid & bursts.i.ready),
        segments.o.ready.eq(bursts.i.ready & intake.place.ready),
        # The beats of an import are dense per chunk.
        intake.place.p.final.eq(Mux(intake.active, segments.o.p.last, segments.o.p.final)),
    ]
    for name in ("beats", "first", "end"):
        m.d.comb += intake.place.p[name].eq(segments.o.p[name])
    return bursts.o


def _big_endian(value: Any, nbytes: int) -> Any:
    """Return the bytes of a number, the first in bits 7:0."""
    word = Cat(value, Const(0, 8 * nbytes - len(value)))
    return Cat(word.word_select(n, 8) for n in reversed(range(nbytes)))
