"""The plain DMA as a manager of AXI: its bursts are legal, whatever the core and memory do."""

from functools import partial

from amaranth import Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bus.burst import Cut
from ginseng.bus.plain import PlainDma
from ginseng.bus.shapes import PAGE_BYTES, READERS, DmaShapes
from ginseng.bus.writer import Writer
from ginseng.isa.config import BusConfig, CoreConfig
from ginseng.isa.transfer import Client


def legal_burst(shapes, burst):
    """Return whether a burst is what `Cut` promises: not empty, not too long, within a page."""
    page = PAGE_BYTES // shapes.bus.beat_bytes
    return (
        (burst.beats != 0)
        & (burst.beats <= shapes.burst_beats)
        & (burst.beat % page + burst.beats <= page)
    )


class Manager(Harness):
    """A DMA between a core that asks for anything and a memory that answers what was asked."""

    def __init__(self, bus):
        super().__init__()
        self.bus = bus

    def surround(self, m: Module):
        """Return the DMA; its AXI is still open."""
        m.submodules.dut = dut = PlainDma(CoreConfig(), self.bus)
        for client in Client:
            name = client.name.lower()
            port = getattr(dut.memory, name)
            self.offer(m, port.descriptor, name)
            if client is Client.STORE:
                self.offer(m, port.beat, "beat")
            else:
                self.drain(m, port.beat, name)
        halt, halted = self.free("halt"), Signal()
        m.d.sync += halted.eq(dut.halt)
        m.d.comb += [
            dut.bases.as_value().eq(self.free("bases", len(dut.bases.as_value()))),
            dut.halt.eq(halt),
            Assume(halt | ~halted),
            dut.clear.eq(self.free("clear")),
        ]
        return dut

    def assume_bursts(self, m: Module, path, shape, legal):
        """Replace the `Cut` at a path by its contract."""
        valid, burst = self.replace(f"{path}.o__valid"), self.replace(f"{path}.o__payload", shape)
        ready = self.peek(f"{path}.o__ready")
        name = path.replace(".", "_")
        held = Signal(name=f"{name}_held")
        before = Signal(shape, name=f"{name}_before")
        m.d.sync += [held.eq(valid & ~ready), before.eq(burst)]
        m.d.comb += [
            Assume(~valid | legal(burst)),
            Assume(~held | (valid & (burst.as_value() == before.as_value()))),
        ]

    def check_burst(self, m: Module, request, name):
        """Assert that a request is held, aligned, and does not cross 4 KiB."""
        self.check_held(m, request, name)
        start, length = request.p.address, request.p.length
        page = PAGE_BYTES // self.bus.beat_bytes
        with m.If(request.valid):
            m.d.comb += [
                Assert(start % self.bus.beat_bytes == 0),
                Assert((start % PAGE_BYTES) // self.bus.beat_bytes + length + 1 <= page),
            ]


class Reads(Manager):
    """Its read channels."""

    def build(self, m: Module) -> None:
        dut = self.surround(m)
        for client in READERS:
            path = f"dut.{client.name.lower()}"
            shape = dut.shapes.burst(client)
            self.assume_bursts(m, f"{path}.cut", shape, partial(legal_burst, dut.shapes))
            self.replace(f"{path}.buffer.o__payload", dut.shapes.piece(client))
            self.replace(f"{path}.fault")
        self.replace("dut.store.fault")
        ar, r = dut.axi.ar, dut.axi.r
        self.drain(m, ar, "ar")
        self.check_burst(m, ar, "ar")
        r_valid, r_payload = self.free("r_valid"), self.free("r", len(r.p.as_value()))
        m.d.comb += [r.valid.eq(r_valid), r.p.as_value().eq(r_payload)]
        limit = self.bus.outstanding_reads
        opened = Signal(range(limit + 2))
        m.d.sync += opened.eq(opened + (ar.valid & ar.ready) - (r.valid & r.p.last))
        m.d.comb += [
            Assume((opened != 0) | ~r_valid),
            Assert(opened <= limit),
            Assert(r.ready),
            Assert(ar.p.id < len(READERS)),
            Cover(ar.valid & ar.ready),
            Cover(opened == 2),
        ]


class Writes(Manager):
    """The write channels, of the one client that writes."""

    def build(self, m: Module) -> None:
        shapes = DmaShapes(CoreConfig(), self.bus)
        m.submodules.dut = dut = Writer(shapes)
        burst = shapes.burst(Client.STORE)
        begun = self.replace("dut.planned.o__payload", burst)
        m.d.comb += Assume(legal_burst(shapes, begun))
        self.replace("dut.planned.o__valid")
        self.replace("dut.cut.fault")
        self.replace("dut.buffer.o__payload", shapes.bus.data_bits + shapes.granules(Client.STORE))
        self.replace("dut.buffer.level", range(dut.buffer_beats + 1))
        self.offer(m, dut.descriptor, "descriptor")
        self.offer(m, dut.beat, "beat")
        self.replace("dut.rows.begin")
        stop, stopped = self.free("stop"), Signal()
        m.d.sync += stopped.eq(stop)
        m.d.comb += [
            dut.stop.eq(stop),
            Assume(stop | ~stopped),
        ]
        aw, w, b = dut.aw, dut.w, dut.b
        self.drain(m, aw, "aw")
        self.drain(m, w, "w")
        self.check_burst(m, aw, "aw")
        self.check_held(m, w, "w")

        # Each burst begun has one address and its beats, the last of them marked, in one order.
        addressed, moved, ended = Signal(), Signal(), Signal()
        beats = Signal(range(shapes.burst_beats + 1))
        limit = self.bus.outstanding_writes
        m.d.comb += [
            addressed.eq(aw.valid & aw.ready),
            moved.eq(w.valid & w.ready),
            ended.eq(moved & w.p.last),
            Assert(~moved | (beats < shapes.burst_beats)),
        ]
        m.d.sync += beats.eq(Mux(ended, 0, beats + moved))
        order = partial(self.check_order, m, put=dut.counted, item=begun.beats)
        order(take=addressed, result=(aw.p.length + 1)[:5], capacity=1, name="address")
        order(take=ended, result=(beats + 1)[:5], capacity=limit, name="data")

        # Memory answers bursts of which it has everything; else anything, errors among them.
        b_valid, b_payload = self.free("b_valid"), self.free("b", len(b.p.as_value()))
        m.d.comb += [b.valid.eq(b_valid), b.p.as_value().eq(b_payload)]
        opened, complete = Signal(range(limit + 2)), Signal(range(limit + 2))
        m.d.sync += [
            opened.eq(opened + addressed - b_valid),
            complete.eq(complete + ended - b_valid),
        ]
        m.d.comb += [
            Assume(~b_valid | ((opened != 0) & (complete != 0))),
            Assert(opened <= limit),
            Assert(b.ready),
            Assert(~aw.valid | (aw.p.id == Client.STORE)),
            Assert(~w.valid | (w.p.id == Client.STORE)),
            Cover(b_valid),
        ]


class Bursts(Manager):
    """`Cut`: what the other proofs take for granted of its bursts."""

    def build(self, m: Module) -> None:
        client = Client.COMPUTE
        shapes = DmaShapes(CoreConfig(), self.bus)
        m.submodules.dut = dut = Cut(shapes, client)
        self.feed(m, dut.i, "i")
        self.drain(m, dut.o, "o")
        self.check_held(m, dut.o, "o")
        granules, log_beat = shapes.granules(client), shapes.log_beat
        log_granule = (shapes.granule(client) - 1).bit_length()

        # What a piece is, in beats from ``first`` on, and whether it may be touched.
        piece, bus = dut.i.p, self.bus
        end = piece.address + piece.nbytes
        allowed = (
            (piece.address >= bus.window_base)
            & (end <= bus.window_base + bus.window_bytes)
            & ~piece.illegal
        )
        start_beat, end_beat = piece.address >> log_beat, (end + bus.beat_bytes - 1) >> log_beat
        busy, failed, fresh, final = Signal(), Signal(), Signal(), Signal()
        beat, left = Signal(len(dut.o.p.beat)), Signal(len(dut.o.p.beat) + 1)
        head, tail = Signal(range(granules)), Signal(range(granules))
        taken, given = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
        burst = dut.o.p
        last = burst.beats == left
        with m.If(given):
            m.d.sync += [beat.eq(beat + burst.beats), left.eq(left - burst.beats), fresh.eq(0)]
            with m.If(last):
                m.d.sync += busy.eq(0)
        with m.If(taken):
            m.d.sync += [
                busy.eq(allowed),
                failed.eq(failed | ~allowed),
                fresh.eq(1),
                beat.eq(start_beat),
                left.eq(end_beat - start_beat),
                head.eq(piece.address[log_granule:log_beat]),
                tail.eq(end[log_granule:log_beat]),
                final.eq(piece.final),
            ]
        m.d.comb += [
            Assume(~dut.i.valid | (piece.nbytes != 0)),
            Assume(~dut.i.valid | (piece.address[:log_granule] == 0)),
            Assume(~dut.i.valid | (piece.nbytes[:log_granule] == 0)),
            Assert(~dut.o.valid | busy),
            Assert(dut.fault == failed),
            Assert(~(failed & (taken | busy))),
            Cover(given & ~fresh & last),
            Cover(failed),
        ]
        self.check_soon(m, busy, dut.o.valid, within=1, name="offer")
        with m.If(dut.o.valid):
            m.d.comb += [
                Assert(legal_burst(shapes, burst)),
                Assert(burst.beat == beat),
                Assert(burst.beats <= left),
                Assert(burst.first == Mux(fresh, head, 0)),
                Assert(burst.end == Mux(last & (tail != 0), tail, granules)),
                Assert(burst.final == (final & last)),
            ]
        with m.If(busy):
            m.d.comb += [
                Assert(left != 0),
                Assert((beat << log_beat) >= bus.window_base),
                Assert(((beat + left) << log_beat) <= bus.window_base + bus.window_bytes),
            ]
        self.hold_together(m, dut, busy, beat, left, Mux(fresh, head, 0), tail, final)

    def hold_together(self, m: Module, dut, busy, beat, left, head, tail, final):
        """Assert how the registers of the component hang together with those of the harness.

        For the induction: above all, that what was measured in the first cycle of a burst is true.
        """
        longest, page = dut.shapes.burst_beats, PAGE_BYTES // self.bus.beat_bytes
        measured = self.peek("dut.measured")
        m.d.comb += [Assert(self.peek("dut.busy") == busy), Assert(busy | ~measured)]
        with m.If(busy):
            m.d.comb += [
                Assert(dut.o.p.beat == beat),
                Assert(self.peek("dut.stop_beat", len(beat)) + (tail != 0) == beat + left),
                Assert(self.peek("dut.stop_granule", len(tail)) == tail),
                Assert(self.peek("dut.first", len(tail)) == head),
                Assert(self.peek("dut.final") == final),
            ]
        to_page, limit = page - beat % page, self.peek("dut.limit", range(longest + 1))
        m.d.comb += [
            Assert(~measured | (limit == Mux(to_page < longest, to_page, longest))),
            Assert(~measured | (self.peek("dut.rest", range(longest)) == (left - 1) % longest)),
            Assert(~measured | (self.peek("dut.near") == (left <= longest))),
        ]


PLAIN, BURST, WRITER, ARBITER, QUEUE = (
    "ginseng.bus.plain",
    "ginseng.bus.burst",
    "ginseng.bus.writer",
    "ginseng.flow.arbiter",
    "ginseng.flow.queue",
)
BUS = BusConfig(outstanding_reads=2, outstanding_writes=2)
SIZES = "the limits of open bursts are compared with and nothing else; other widths are not proved"

PROOFS = [
    Proof(
        name="axi-reads",
        claim="AR holds until taken; bursts are aligned and never cross 4 KiB; no more are open "
        "than configured; data are always accepted",
        harness=partial(Reads, BUS),
        configuration="the whole DMA; AXI3, 64 bit, 2 reads open, default core",
        generalises=SIZES,
        assumptions=(
            "memory answers open bursts only, in any way, errors among them",
            "halt stays once it is given",
            "bursts are cut as `bursts` proves",
        ),
        depth=8,
        bugs=(
            Bug(
                name="one read more than allowed is opened",
                module=PLAIN,
                old="arbiter.enable.eq((opened != bus.outstanding_reads) & ~stop)",
                new="arbiter.enable.eq(~stop)",
            ),
            Bug(
                name="a burst counts as closed at its first beat",
                module=PLAIN,
                old="closed.eq(self.axi.r.valid & answer.last & (opened != 0))",
                new="closed.eq(self.axi.r.valid & (opened != 0))",
            ),
            Bug(
                name="a burst is one beat longer",
                module=PLAIN,
                old="self.axi.ar.p.length.eq(request.item.beats - 1)",
                new="self.axi.ar.p.length.eq(request.item.beats)",
            ),
            Bug(
                name="an address changes while it waits",
                module=ARBITER,
                old="free.eq(self.enable & (~self.o.valid | self.o.ready))",
                new="free.eq(self.enable)",
            ),
            Bug(
                name="data wait after a fault",
                module=PLAIN,
                old="self.axi.r.ready.eq(1)",
                new="self.axi.r.ready.eq(~stop)",
            ),
        ),
    ),
    Proof(
        name="axi-writes",
        claim="AW and W hold until taken; bursts are aligned and never cross 4 KiB; each has "
        "exactly its beats, WLAST on the last one, in the order of the addresses; no more are "
        "open than configured; responses are always accepted; a stop changes none of it",
        harness=partial(Writes, BUS),
        configuration="the writer; AXI3, 64 bit, 2 writes open, default core",
        generalises=SIZES,
        assumptions=(
            "memory answers complete bursts only, in any way, errors among them",
            "a stop stays",
            "bursts are cut as `bursts` proves",
            "the buffer holds anything and says any level",
        ),
        depth=10,
        timeout=900,
        bugs=(
            Bug(
                name="WLAST comes a beat early",
                module=WRITER,
                old="last.eq(count == lengths.o.p - 1)",
                new="last.eq((count == lengths.o.p - 1) | (count == lengths.o.p - 2))",
            ),
            Bug(
                name="one write more than allowed is opened",
                module=WRITER,
                old="& (open_bursts != bus.outstanding_writes)",
                new="& (open_bursts != bus.outstanding_writes + 1)",
            ),
            Bug(
                name="a burst's address is one beat longer",
                module=WRITER,
                old="address.i.p.length.eq(begun.beats - 1)",
                new="address.i.p.length.eq(begun.beats)",
            ),
            Bug(
                name="beats are counted on from burst to burst",
                module=WRITER,
                old="count.eq(Mux(last, 0, count + 1))",
                new="count.eq(count + 1)",
            ),
            Bug(
                name="the held beat is overtaken",
                module=QUEUE,
                old="            with m.If(holds):\n                m.d.sync += self.o.p.eq(held)",
                new="            with m.If(~holds):\n                m.d.sync += self.o.p.eq(held)",
            ),
        ),
    ),
    Proof(
        name="bursts",
        claim="Runs are cut into bursts that cover exactly their bytes, in order, not empty, no "
        "longer than AXI allows, never across 4 KiB, inside the window; what leaves it is a fault",
        harness=partial(Bursts, BUS),
        configuration="AXI3, 64 bit, window of 256 MiB at 0, granules of 4 bytes (compute client)",
        generalises="one width; the other clients have granules of a whole beat",
        assumptions=(
            "the producer holds an offer until it is taken",
            "a run is not empty, and of whole granules, as `rows` proves",
        ),
        engine=Engine.INDUCTION,
        depth=8,
        bugs=(
            Bug(
                name="bursts cross 4 KiB",
                module=BURST,
                old="limit.eq(shapes.burst_beats - beat[:log_burst])",
                new="limit.eq(shapes.burst_beats)",
            ),
            Bug(
                name="the last byte may be outside of the window",
                module=BURST,
                old="(stop <= shapes.window_end)",
                new="(stop <= shapes.window_end + bus.beat_bytes)",
            ),
            Bug(
                name="the last beat of an unaligned run is lost",
                module=BURST,
                old="Cat(~more, beat)",
                new="Cat(1, beat)",
            ),
            Bug(
                name="every burst starts within its first beat",
                module=BURST,
                old="beat.eq(beat + limit), first.eq(0)]",
                new="beat.eq(beat + limit)]",
            ),
            Bug(
                name="a burst is what was measured for the one before",
                module=BURST,
                old="measured.eq(busy & ~(self.o.valid & self.o.ready))",
                new="measured.eq(busy)",
            ),
        ),
    ),
]
