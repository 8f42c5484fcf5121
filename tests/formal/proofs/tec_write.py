"""The write path: silence after a fault, legal bursts, and the store barrier."""

from functools import partial

from amaranth import Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bus.axi import Response
from ginseng.bus.port import READ_COUNT_BITS
from ginseng.bus.shapes import PAGE_BYTES
from ginseng.flow.queue import Chain
from ginseng.isa.config import BusConfig, SystemConfig
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.table import BASE_ALIGNMENT, GRANULE
from ginseng.isa.transfer import Client
from ginseng.tec.segment import Segments, segment_layout
from ginseng.tec.shapes import TecShapes
from ginseng.tec.sink import Sink, outgoing_layout
from ginseng.tec.write import WritePath

BUS = BusConfig(outstanding_writes=2, window_bytes=1 << 16)
SHAPES = TecShapes(SystemConfig(bus=BUS))
#: Two pages, for what adds positions.
SMALL = TecShapes(SystemConfig(bus=BusConfig(window_bytes=2 * PAGE_BYTES)))


class Silence(Harness):
    """`Sink` on a memory that answers whenever and whatever it likes."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Sink(SHAPES, SHAPES.burst_beats)
        beats_of = range(SHAPES.burst_beats + 1)
        # Bursts are what `Segments` cuts; when data and tags come is left open.
        head = self.replace("dut.bursts.o__payload", outgoing_layout(SHAPES))
        offered = self.replace("dut.bursts.o__valid")
        page = PAGE_BYTES // BUS.beat_bytes
        tag_beats = TAG_BYTES // BUS.beat_bytes
        taken = Signal(len(head.beats) + 1)
        m.d.comb += [
            taken.eq(head.beats + Mux((head.last > 0) & (head.joins > 0), tag_beats, 0)),
            Assume(
                ~offered
                | (
                    (head.beats != 0)
                    & (taken <= SHAPES.burst_beats)
                    & (head.beat % page + taken <= page)
                    # Whole blocks, so whole beats.
                    & ~((head.beat | head.beats) % tag_beats).any()
                    & (head.end > 0)
                )
            ),
        ]
        # A burst stays until it is taken: with its tag's own, if that is not in the same.
        before, waits, owes, apart = Signal(len(head.as_value())), Signal(), Signal(), Signal()
        m.d.comb += [
            apart.eq((head.last > 0) & (head.joins == 0)),
            Assume(~waits | (offered & (head.as_value() == before))),
        ]
        m.d.sync += [
            before.eq(head.as_value()),
            owes.eq(Mux(dut.counted, apart & ~owes, owes)),
            waits.eq(offered & ~(dut.counted & (owes | ~apart))),
        ]
        self.replace("dut.spare", 8)
        self.replace("dut.came", 3)
        self.replace("dut.ciphertext.o__payload", BUS.data_bits)
        self.replace("dut.ciphertext.o__valid")
        self.replace("dut.tags.o__payload", 128)
        self.replace("dut.tags.o__valid")
        self.drain(m, dut.tap, "tap")
        aw, w, b = dut.aw, dut.w, dut.b
        self.drain(m, aw, "aw")
        self.drain(m, w, "w")
        self.check_held(m, aw, "aw")
        self.check_held(m, w, "w")

        # The stop stays. What was offered in its first cycle is the last that says anything.
        stop, stopped, old = self.free("stop"), Signal(), Signal()
        addressed, moved, ended = Signal(), Signal(), Signal()
        m.d.comb += [
            dut.stop.eq(stop),
            Assume(stop | ~stopped),
            addressed.eq(aw.valid & aw.ready),
            moved.eq(w.valid & w.ready),
            ended.eq(moved & w.p.last),
        ]
        waited = Signal()
        m.d.sync += [
            stopped.eq(stop),
            old.eq(stop & (~stopped | old) & w.valid & ~w.ready),
            waited.eq(aw.valid & ~aw.ready),
        ]
        with m.If(stopped & w.valid & ~old):
            m.d.comb += [Assert(w.p.data == 0), Assert(w.p.strobe == 0)]
        with m.If(stopped & aw.valid):
            m.d.comb += Assert(waited)

        # Bursts are legal, whatever was stopped.
        start, length = aw.p.address, aw.p.length
        with m.If(aw.valid):
            m.d.comb += [
                Assert(start % BUS.beat_bytes == 0),
                Assert((start % PAGE_BYTES) // BUS.beat_bytes + length + 1 <= page),
                Assert(aw.p.id == Client.STORE),
            ]
        beats = Signal(beats_of)
        limit = BUS.outstanding_writes
        m.d.sync += beats.eq(Mux(ended, 0, beats + moved))
        begun = Signal(beats_of)
        m.d.comb += [
            begun.eq(dut.nbytes // BUS.beat_bytes),
            Assert(~moved | (beats < SHAPES.burst_beats)),
            Assert(~w.valid | (w.p.id == Client.STORE)),
        ]
        order = partial(self.check_order, m, put=dut.counted, item=begun)
        order(take=addressed, result=(aw.p.length + 1)[:5], capacity=1, name="address")
        owed = order(take=ended, result=(beats + 1)[:5], capacity=limit, name="data")
        # What is owed after a stop is offered at once.
        self.check_soon(m, stopped & (owed != 0), w.valid, within=1, name="end")

        # Any answer at any time; those that nothing can have asked for are faults.
        b_valid, b_payload = self.free("b_valid"), self.free("b", len(b.p.as_value()))
        m.d.comb += [b.valid.eq(b_valid), b.p.as_value().eq(b_payload), Assert(b.ready)]
        opened, complete = Signal(range(limit + 2)), Signal(range(limit + 2))
        answers = b_valid & (opened != 0) & (complete != 0)
        m.d.sync += [
            opened.eq(opened + addressed - answers),
            complete.eq(complete + ended - answers),
        ]
        good = answers & (b.p.response == Response.OKAY) & (b.p.id == Client.STORE)
        m.d.comb += [
            Assert(opened <= limit),
            Assert(dut.fault == (b_valid & ~good)),
            Assert(~(dut.finish | dut.chunk_finish) | good),
            Cover(dut.finish),
            Cover(stopped & old),
            Cover(stopped & (owed == 2)),
        ]


class Bursts(Harness):
    """`Segments`, on plans of up to three rows inside their tensors."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Segments(SMALL)
        self.feed(m, dut.i, "i")
        self.drain(m, dut.o, "o")
        self.drain(m, dut.chunk, "chunk")
        self.check_held(m, dut.o, "o")
        m.d.comb += dut.announces.eq(self.constant(m, "announces"))
        plan, o = dut.i.p, dut.o.p
        block = GRANULE - 1
        extra = Mux(plan.rows == 1, 0, Mux(plan.rows == 2, plan.stride, plan.stride << 1))
        end = plan.base + plan.extent
        # One tensor, whose chunks are a power of two long, so that shifts divide by them.
        window = SMALL.config.bus.window_bytes
        log = self.constant(m, "log_chunk", range(window.bit_length()))
        base, length = (self.constant(m, name, len(plan.base)) for name in ("base", "length"))
        first = self.free("first", len(plan.base))

        def chunks(nbytes):
            return (nbytes >> log)[: len(plan.index)]

        def within(nbytes):
            return nbytes & ((1 << log) - 1)

        m.d.comb += Assume(
            ~dut.i.valid
            | (
                (log >= (GRANULE - 1).bit_length())
                & (plan.chunk == 1 << log)
                & (plan.base == base)
                & (base % BASE_ALIGNMENT == 0)
                & (length <= window)
                & (plan.extent == length + ((chunks(length) + within(length).any()) * GRANULE))
                & (end <= window)
                & (plan.rows > 0)
                & (plan.rows <= 3)
                & (plan.row_bytes > 0)
                & (first + extra + plan.row_bytes <= length)
                & (plan.position == first + chunks(first) * GRANULE)
                & (plan.index == chunks(first))
                & (plan.within == within(first))
                & (plan.stride_index == chunks(plan.stride))
                & (plan.stride_within == within(plan.stride))
                & ~((first | plan.stride | plan.row_bytes | length) & block).any()
            )
        )
        page = PAGE_BYTES // BUS.beat_bytes
        tag_beats = TAG_BYTES // BUS.beat_bytes
        given = dut.o.valid & dut.o.ready
        next_beat = Signal(len(o.beat) + 1)
        open_chunk = Signal()
        with m.If(given):
            m.d.sync += [next_beat.eq(o.beat + o.beats), open_chunk.eq(~o.last)]
        m.d.comb += [
            Cover(given & o.final & (plan.rows == 2)),
            Cover(given & ~o.final & ~o.last),
            Cover(dut.fault),
        ]
        with m.If(dut.o.valid):
            m.d.comb += [
                Assert(o.beats != 0),
                Assert(o.beats <= SMALL.burst_beats),
                Assert(o.beat % page + o.beats <= page),
                Assert(o.beat * BUS.beat_bytes >= plan.base),
                Assert((o.beat + o.beats + Mux(o.last, tag_beats, 0)) * BUS.beat_bytes <= end),
                Assert(~o.joins | (o.beat % page + o.beats + tag_beats <= page)),
                Assert(~o.joins | (o.last & (o.beats + tag_beats <= SMALL.burst_beats))),
                # An open chunk goes on where it stopped, and nowhere else.
                Assert(o.start == ~open_chunk),
                Assert(~open_chunk | (o.beat == next_beat)),
            ]


class Barrier(Harness):
    """`WritePath`, one store of several: its loads, its samples, and its jobs."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = WritePath(SHAPES)
        burst = self.replace("dut.segments.o__payload", segment_layout(SHAPES))
        valid = self.replace("dut.segments.o__valid")
        self.replace("dut.segments.fault")
        for path in ("intake.o__valid", "intake.pushed", "intake.fill__ready"):
            self.replace(f"dut.{path}")
        self.replace("dut.intake.o__payload", BUS.data_bits)
        self.replace("dut.sink.room")
        self.replace("dut.sink.quiet")
        self.replace("dut.sink.fault")
        for name in ("begin_valid", "begin_fresh", "seal_ok"):
            m.d.comb += getattr(dut, name).eq(self.free(name))
        self.drain(m, dut.chunk_begin, "chunk_begin")
        self.drain(m, dut.measure, "measure")
        self.drain(m, dut.lane.job, "job")
        m.d.comb += dut.stop.eq(self.free("stop"))

        # Loads are issued and verified in order; a sample is a number that was once issued.
        issues, verifies = self.free("issues"), self.free("verifies")
        issued, pending = Signal(READ_COUNT_BITS), Signal(5)
        first = self.constant(m, "first", READ_COUNT_BITS)
        now = Signal(READ_COUNT_BITS)
        age = self.free("age", READ_COUNT_BITS)
        begin = self.free("begin")
        m.d.comb += [
            now.eq(first + issued),
            Assume(~verifies | (pending != 0)),
            Assume((pending != 31) | ~issues),
            dut.issued.eq(now),
            dut.verified.eq(now - pending),
            dut.begin.eq(begin & dut.room),
            dut.empty.eq(0),
            dut.sample.eq(now - age),
        ]
        m.d.sync += [
            issued.eq(issued + issues),
            pending.eq(pending + issues - verifies),
        ]

        # One descriptor is followed: so many of the loads that it needs are not verified.
        put = begin & dut.room
        take = valid & self.peek("dut.segments.o__ready") & burst.fresh
        follow, follows = self.free("follow"), Signal()
        ahead, inside, needs = Signal(5), Signal(5), Signal(5)
        current = Signal()
        m.d.sync += inside.eq(inside + put - take)
        with m.If(needs != 0):
            m.d.sync += needs.eq(needs - verifies)
        with m.If(put & follow & ~follows):
            young = Signal(READ_COUNT_BITS)
            m.d.comb += young.eq(Mux(pending > age, pending - age, 0))
            m.d.sync += [
                follows.eq(1),
                ahead.eq(inside - take),
                needs.eq(Mux(young != 0, young - verifies, 0)),
            ]
        with m.If(follows & take):
            m.d.sync += [ahead.eq(ahead - 1), current.eq(ahead == 0)]
        m.d.comb += [
            # Bursts come after their descriptor.
            Assume((inside != 0) | ~take),
            # SEC: what is shown of TEC.STORE_BARRIER
            Assert(~(current & dut.lane.job.valid) | (needs == 0)),
            Cover(current & dut.lane.job.valid),
            Cover(current & (needs == 2)),
        ]


class Ordered(Harness):
    """`Chain`."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Chain(2, 3)
        self.feed(m, dut.i, "i")
        self.drain(m, dut.o, "o")
        self.check_held(m, dut.o, "o")
        inside = self.check_order(
            m,
            put=dut.i.valid & dut.i.ready,
            item=dut.i.payload,
            take=dut.o.valid & dut.o.ready,
            result=dut.o.payload,
            capacity=3,
            name="order",
        )
        self.check_soon(m, inside != 0, dut.o.valid, within=2, name="offer")
        self.check_soon(m, inside < 3, dut.i.ready, within=0, name="accept")


SEGMENT, SINK, WRITE, QUEUE = (
    "ginseng.tec.segment",
    "ginseng.tec.sink",
    "ginseng.tec.write",
    "ginseng.flow.queue",
)
SIZES = "limits are compared with and nothing else; other bus widths are not proved"

PROOFS = [
    Proof(
        name="write-silence",
        sec=("TEC.FATAL_SILENT",),
        claim="After a stop every beat on W but the one that was offered has no strobe and no bit "
        "of data set, no address is offered that was not, and what is owed is sent (P4); always, "
        "AW and W hold until taken, bursts are aligned and never cross 4 KiB, each has exactly its "
        "beats with WLAST on the last one, in the order of the addresses (P8); a response of which "
        "memory has not everything, or a wrong one, is a fault and completes nothing",
        harness=Silence,
        configuration="the sink; AXI3, 64 bit, 2 writes open",
        generalises=SIZES,
        assumptions=(
            "a stop stays",
            "bursts are not empty, and with a tag that joins not too long and within 4 KiB",
            "a burst stays until it is taken",
            "data, tags and bursts come at any time and are anything",
        ),
        depth=12,
        timeout=900,
        bugs=(
            Bug(
                name="data are sent after a stop",
                module=SINK,
                old="m.d.sync += [self.w.p.data.eq(0), self.w.p.strobe.eq(0)]",
                new="m.d.sync += [self.w.p.data.eq(beat), self.w.p.strobe.eq(0)]",
            ),
            Bug(
                name="the offered beat is emptied too",
                module=SINK,
                old="with m.If(load & self.stop):",
                new="with m.If(self.stop):",
            ),
            Bug(
                name="addresses are given after a stop",
                module=SINK,
                old="& ~self.stop & ((accepted",
                new="& ((accepted",
            ),
            Bug(
                name="what is owed waits for data that do not come",
                module=SINK,
                old="load.eq(there & (self.stop | (has",
                new="load.eq(there & ((has",
            ),
            Bug(
                name="WLAST comes a beat early",
                module=SINK,
                old="last.eq(Mux(tagging, word == tag_beats - 1,",
                new="last.eq(Mux(tagging, 1,",
            ),
            Bug(
                name="a response before the data is taken for one",
                module=SINK,
                old="answered.eq(self.b.valid & answers.o.valid & (accepted != 0))",
                new="answered.eq(self.b.valid & (accepted != 0))",
            ),
        ),
    ),
    Proof(
        name="store-bursts",
        claim="The first bursts of a store are not empty, no longer than AXI allows, never across "
        "4 KiB, and inside the tensor; so is a tag behind them, and one that joins them",
        harness=Bursts,
        configuration="AXI3, 64 bit; a window of 8 KiB; one tensor, chunks of a power of 2, up to "
        "three rows",
        generalises="bounded; rows are walked one by one, and their number is only counted",
        assumptions=(
            "plans are legal: rows inside the tensor, the tensor inside the window, whole blocks",
            "the producer holds a plan until it is taken",
        ),
        engine=Engine.BMC,
        depth=9,
        timeout=900,
        bugs=(
            Bug(
                name="bursts cross 4 KiB",
                module=SEGMENT,
                old="short.eq(longest - Mux(near, where[:log_longest], first))",
                new="short.eq(longest - first)",
            ),
            Bug(
                name="a tag joins across 4 KiB",
                module=SEGMENT,
                old="o.joins.eq(last & (next_block != 0) & (stop_at < most))",
                new="o.joins.eq(last & (stop_at < most))",
            ),
            Bug(
                name="a burst is a beat longer",
                module=SEGMENT,
                old="o.beats.eq(((stop_at << _LOG) + (beat_bytes - 1)) >> log_beat)",
                new="o.beats.eq(((stop_at << _LOG) + beat_bytes) >> log_beat)",
            ),
        ),
    ),
    Proof(
        name="store-barrier",
        sec=("TEC.STORE_BARRIER",),
        claim="No job of a store is offered to the lane while a load before its sample is not "
        "verified (the part of P3 that concerns stores; AW and W follow the jobs)",
        harness=Barrier,
        configuration="the write path; AXI3, 64 bit; samples of 16 bits, any age",
        generalises="bounded; the count of loads is as wide as in every build",
        assumptions=(
            "loads are verified in order, at most 31 are pending, at most one a cycle",
            "a descriptor's bursts come after it, the first of them marked",
            "what Segments gives, what data and answers come, is anything",
        ),
        engine=Engine.BMC,
        depth=11,
        timeout=900,
        bugs=(
            Bug(
                name="one load too few is waited for",
                module=WRITE,
                old="verified.eq(age >= pending)",
                new="verified.eq(age + 1 >= pending)",
            ),
            Bug(
                name="the sample of the store before is looked at",
                module=WRITE,
                old='                        m.next = "Count-Loads"',
                new='                        m.next = "Await-Loads"',
            ),
            Bug(
                name="samples are compared as numbers",
                module=WRITE,
                old="verified.eq(age >= pending)",
                new="verified.eq(self.verified >= sample)",
            ),
        ),
    ),
    Proof(
        name="chain",
        claim="A chain gives every item once, in order, unchanged, and holds what it offers",
        harness=Ordered,
        configuration="3 items of 2 bits",
        generalises="items are copied and never looked at: two bits stand for any width",
        depth=8,
        quick=True,
        bugs=(
            Bug(
                name="an item moves onto another",
                module=QUEUE,
                old="m.d.comb += moves[n].eq(~valid[n] | ahead)",
                new="m.d.comb += moves[n].eq(1)",
            ),
        ),
    ),
]
