"""Descriptors and their bytes: each element asked for once and in order, each beat moved once."""

from functools import partial

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bus.plan import BASES, Rows
from ginseng.bus.reader import Reader
from ginseng.bus.shapes import OFFSET_BITS, DmaShapes
from ginseng.bus.writer import Writer
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.transfer import Client, TransferDescriptor


class Walked(Harness):
    """`Rows`: the stream of bytes that its runs are, against the rule of the specification.

    One element of a descriptor, of the solver's choice, is followed to the run that has it.
    """

    ROWS, COLUMNS = 3, 3

    def __init__(self, bus, memory):
        super().__init__()
        self.shapes = DmaShapes(CoreConfig(), bus)
        self.memory = memory
        self.wraps = self.shapes.window_end >= 1 << OFFSET_BITS

    def build(self, m: Module) -> None:
        shapes, client = self.shapes, Client.COMPUTE
        log = shapes.log_unit(client, self.memory)
        m.submodules.dut = dut = Rows(shapes, client)
        self.drain(m, dut.o, "o")
        self.check_held(m, dut.o, "o")

        # One descriptor; another of any kind may follow it, and another.
        # Numbers near the ends of what they may be: few bits are free.
        inside = (shapes.window_end - 1).bit_length()
        base = Signal(64)
        near, high, beyond = (
            self.constant(m, f"base_{n}", bits) for n, bits in enumerate((9, 1, 1))
        )
        m.d.comb += base.eq(Cat(near, high.replicate(inside - 9), beyond.replicate(64 - inside)))
        for name in set(BASES.values()):
            m.d.comb += dut.bases[name].eq(base)
        rows = self.constant(m, "rows", range(self.ROWS + 1))
        columns = self.constant(m, "columns", range(self.COLUMNS + 1))
        first, last = self.constant(m, "start_low", 7), self.constant(m, "start_high")
        start, stride = Signal(32), self.constant(m, "stride", 5)
        m.d.comb += start.eq(Cat(first, last.replicate(25)))
        foreign = self.constant(m, "foreign")
        m.d.comb += [
            dut.i.valid.eq(self.free("i_valid")),
            dut.i.p.memory.eq(Mux(foreign, Memory.OUT, self.memory)),
            dut.i.p.dram_base.eq(start),
            dut.i.p.rows.eq(rows),
            dut.i.p.row_elements.eq(columns),
            dut.i.p.stride.eq(stride),
        ]

        # The element that is followed, and where it is: in the stream, and in memory.
        row, column = self.constant(m, "row", range(4)), self.constant(m, "column", range(4))
        exists = (row < rows) & (column < columns)
        place, offset, address = Signal(16), Signal(OFFSET_BITS), Signal(66)
        m.d.comb += [
            place.eq((row * columns + column) << log),
            offset.eq((start + row * stride + column) << log),
            address.eq(base + offset),
        ]
        busy, passed, total = Signal(), Signal(16), Signal(16)
        run = dut.o.p
        taken, given = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
        after = passed + run.nbytes
        m.d.comb += [
            total.eq((rows * columns) << log),
            Assert(~dut.o.valid | busy),
            Assert(~taken | ~busy),
            Cover(given & run.final & (passed != 0)),
        ]
        with m.If(taken):
            m.d.sync += [busy.eq(total != 0), passed.eq(0)]
        with m.Elif(given):
            m.d.sync += [busy.eq(~run.final), passed.eq(after)]
        begun = Signal()
        m.d.sync += begun.eq(taken)
        m.d.comb += [Assert(dut.begin == begun), Assert(~begun | (dut.empty == (total == 0)))]

        legal = ~foreign & ((base & (shapes.alignment(client) - 1)) == 0)
        with m.If(dut.o.valid & ~run.illegal):
            m.d.comb += [
                Assert(legal),
                Assert(run.nbytes != 0),
                Assert(after <= total),
                Assert(run.final == (after == total)),
            ]
            with m.If(exists & (place >= passed) & (place < after)):
                m.d.comb += Assert(run.address + place == address + passed)
        if not self.wraps:
            self.hold_together(m, dut, (base, rows, columns, start, stride, foreign), legal, passed)
            m.d.comb += [
                Assert(busy == ((self.peek("dut.fsm_state", 3) > 1) | (begun & (total != 0)))),
                Assert(begun == (self.peek("dut.fsm_state", 3) == 1)),
                Assert(~busy | (total != 0)),
            ]
        # Nothing is refused that is in the window.
        with m.If(dut.o.valid & run.illegal & exists & (place == passed)):
            m.d.comb += Assert(~legal | (address + (columns << log) > shapes.window_end))

    def hold_together(self, m: Module, dut, descriptor, legal, passed):
        """Assert what the registers hold in each state; for the induction, and without wraps."""
        base, rows, columns, start, stride, foreign = descriptor
        inside, log = self.shapes.position_bits, self.shapes.log_unit(dut.client, self.memory)
        state, wanted = self.peek("dut.fsm_state", 3), self.peek("dut.wanted", TransferDescriptor)
        merged, number = self.peek("dut.merged"), self.peek("dut.number", 16)
        row, elements = self.peek("dut.row", 32), self.peek("dut.elements", 32)
        scanning, counting, finding, giving = (state == n for n in (1, 2, 3, 4))
        scanned = counting | finding | giving
        joins = (stride == columns) | (rows == 1)
        steps, size, offset = Signal(2), Signal(16), Signal(OFFSET_BITS)
        m.d.comb += [
            steps.eq(number - 1),
            size.eq(Mux(joins, rows * columns, columns)),
            offset.eq((start + steps * stride) << log),
        ]
        held = {"memory": dut.i.p.memory, "rows": rows, "row_elements": columns}
        held |= {"dram_base": start, "stride": stride}
        named = [wanted[name] == value for name, value in held.items()]
        kind = self.shapes.memories(dut.client).index(self.memory)
        m.d.comb += [
            Assert(state <= 4),
            Assert((state == 0) | Cat(named).all()),
            Assert((state == 0) | ((number != 0) & (number <= Mux(scanning, 1, rows)))),
            Assert(~scanning | (row == 0)),
            Assert(~counting | ((row == start) & (number == 1))),
            Assert(~finding | (row == (start + steps * stride)[:32])),
            Assert(~giving | (row == (start + (steps + 1) * stride)[:32])),
            Assert(~scanned | (merged == joins)),
            Assert(~scanned | (self.peek("dut.known") == ~foreign)),
            Assert(~scanned | foreign | (self.peek("dut.kind", 2) == kind)),
            Assert(~counting | (self.peek("dut.together", 16) == Mux(joins, rows, 1))),
            Assert(~(finding | giving) | (elements == size)),
            Assert(~(finding | giving) | ~joins | (number == 1)),
            Assert(~scanned | foreign | (passed == ((steps * columns) << log))),
            Assert(~giving | foreign | (dut.o.p.nbytes == size << log)),
            Assert(~giving | foreign | (dut.o.p.address == base[:inside] + offset[:inside])),
            Assert(
                ~giving
                | foreign
                | (dut.o.p.illegal == (~legal | base[inside:].any() | offset[inside:].any()))
            ),
            Assert(~giving | ~foreign | dut.o.p.illegal),
        ]


class Beats(Harness):
    """A part of the DMA between the bursts that are wanted and the bytes that move."""

    #: The longest burst here, and the beats that the buffer holds.
    LONGEST, BUFFER = 2, 4

    def bursts(self, m: Module, dut, client):
        """Replace how bursts are found by bursts of whole beats, held until they are taken."""
        shape = dut.shapes.burst(client)
        valid, burst = self.replace("dut.cut.o__valid"), self.replace("dut.cut.o__payload", shape)
        ready = self.peek("dut.cut.o__ready")
        self.replace("dut.cut.fault")
        held, before = Signal(), Signal(shape)
        m.d.sync += [held.eq(valid & ~ready), before.eq(burst)]
        m.d.comb += [
            Assume(~valid | ((burst.beats != 0) & (burst.beats <= self.LONGEST))),
            Assume(~held | (valid & (burst.as_value() == before.as_value()))),
        ]


class Read(Beats):
    """`Reader`, whose memory brings what was asked for, whenever it likes."""

    def build(self, m: Module) -> None:
        client = Client.INP
        m.submodules.dut = dut = Reader(DmaShapes(CoreConfig(), BusConfig()), client)
        dut.buffer_beats = self.BUFFER
        self.bursts(m, dut, client)
        self.drain(m, dut.request, "request")
        self.drain(m, dut.beat, "beat")
        data, valid = self.free("data", len(dut.data.p.as_value())), self.free("data_valid")
        m.d.comb += [dut.data.p.as_value().eq(data), dut.data.valid.eq(valid)]

        # Beats asked for that did not come; memory brings no others, and marks the last right.
        asked = dut.request.valid & dut.request.ready
        owed = Signal(range(8 * self.LONGEST))
        m.d.sync += owed.eq(owed + Mux(asked, dut.request.p.beats, 0) - valid)
        inside = self.check_order(
            m,
            put=valid,
            item=dut.data.p.data[:1],
            take=dut.beat.valid & dut.beat.ready,
            result=dut.beat.p[:1],
            capacity=self.BUFFER + 2,
            name="order",
        )
        m.d.comb += [
            Assume(~valid | (owed != 0)),
            Assume(~dut.fault),
            # Room is reserved for all that is asked for.
            Assert(inside + owed <= self.BUFFER + 2),
        ]
        self.check_soon(m, (inside != 0), dut.beat.valid, within=2, name="offer")


class Written(Beats):
    """`Writer`, with anything on the side of memory."""

    def build(self, m: Module) -> None:
        client = Client.STORE
        m.submodules.dut = dut = Writer(DmaShapes(CoreConfig(), BusConfig(outstanding_writes=2)))
        dut.buffer_beats = self.BUFFER
        self.bursts(m, dut, client)
        self.feed(m, dut.beat, "beat")
        self.drain(m, dut.aw, "aw")
        self.drain(m, dut.w, "w")
        self.check_order(
            m,
            put=dut.beat.valid & dut.beat.ready,
            item=dut.beat.p[:1],
            take=dut.w.valid & dut.w.ready,
            result=dut.w.p.data[:1],
            capacity=self.BUFFER + 2,
            name="order",
        )
        strobe = dut.w.p.strobe
        m.d.comb += [
            Assert(~dut.w.valid | strobe.all()),
            dut.b.valid.eq(self.free("b_valid")),
            Assume(~dut.fault),
        ]


PLAN, READER, WRITER, QUEUE = (
    "ginseng.bus.plan",
    "ginseng.bus.reader",
    "ginseng.bus.writer",
    "ginseng.flow.queue",
)
ROWS_CLAIM = (
    "Every element of a descriptor is asked for exactly once and in order, at the address that the "
    "specification gives it; nothing else is; a run is refused only where it has to be"
)
ROWS_BUGS = (
    Bug(
        name="rows are joined that do not follow one another",
        module=PLAN,
        old="(wanted.stride == wanted.row_elements)",
        new="(wanted.stride[:1] == wanted.row_elements[:1])",
    ),
    Bug(
        name="the last row is left out",
        module=PLAN,
        old="merged | (number == wanted.rows)",
        new="merged | (number + 1 == wanted.rows)",
    ),
    Bug(
        name="the row of the descriptor before goes on",
        module=PLAN,
        old="[wanted.eq(self.i.p), row.eq(0), number.eq(1)]",
        new="[wanted.eq(self.i.p), number.eq(1)]",
    ),
    Bug(
        name="a base register that is not aligned goes unnoticed",
        module=PLAN,
        old="~known\n                        | ~aligned",
        new="~known",
    ),
)

PROOFS = [
    Proof(
        name="rows",
        claim=ROWS_CLAIM,
        harness=partial(Walked, BusConfig(), Memory.UOP),
        configuration="window of 256 MiB at 0, micro-ops; up to 3 rows of up to 3 elements, "
        "bases, starts and strides near the ends of what they may be",
        generalises="sizes are counted by one multiplier and one counter; other memory types "
        "differ by a constant shift",
        assumptions=("base registers are constant", "one descriptor over and over again"),
        depth=7,
        engine=Engine.INDUCTION,
        bugs=(
            *ROWS_BUGS,
            Bug(
                name="bytes beyond the window wrap into it",
                module=PLAN,
                old="| offset[inside:].any()",
                new="",
            ),
        ),
    ),
    Proof(
        name="rows-wide",
        claim=f"{ROWS_CLAIM}; also where they pass the end of the 32-bit offsets",
        harness=partial(Walked, BusConfig(window_bytes=1 << 36), Memory.ACC),
        configuration="window of 64 GiB at 0, accumulators; up to 3 rows of up to 3 elements, "
        "bases, starts and strides near the ends of what they may be",
        generalises="as of `rows`, but bounded: the first two runs",
        assumptions=("base registers are constant", "one descriptor over and over again"),
        depth=7,
        engine=Engine.BMC,
        bugs=(
            Bug(
                name="a row goes on behind the end of the offsets",
                module=PLAN,
                old="exceeds.eq(left > room)",
                new="exceeds.eq(0)",
            ),
            Bug(
                name="what follows the end of the offsets is asked for twice",
                module=PLAN,
                old="left.eq(left - room)",
                new="left.eq(left)",
            ),
        ),
    ),
    Proof(
        name="reader",
        claim="Every beat that memory brings reaches the client once, unchanged and in order; "
        "no more are asked for than there is room for",
        harness=Read,
        configuration="INP client, beats of 64 bits, bursts of up to 2 beats, buffer of 4",
        generalises="pointers wrap as in any queue (see queue); the compute client's granules are "
        "packed as `pack-2` proves",
        assumptions=(
            "memory brings what was asked for, the last beat of each burst marked",
            "bursts are cut as `bursts` proves",
        ),
        depth=14,
        bugs=(
            Bug(
                name="bursts are asked for without room",
                module=READER,
                old="(free >= bursts.o.p.beats)",
                new="(free != 0)",
            ),
            Bug(
                name="room is given back twice",
                module=READER,
                old="- Mux(requested, bursts.o.p.beats, 0) + popped",
                new="- Mux(requested, bursts.o.p.beats, 0) + (popped << 1)",
            ),
        ),
    ),
    Proof(
        name="writer",
        claim="Every beat that the client gives is written once, unchanged, whole and in order",
        harness=Written,
        configuration="beats of 64 bits, bursts of up to 2 beats, buffer of 4, 2 writes open",
        generalises="pointers wrap as in any queue (see queue)",
        assumptions=(
            "responses are those that were asked for",
            "nothing stops",
            "bursts are cut as `bursts` proves",
        ),
        depth=14,
        bugs=(
            Bug(
                name="the held beat is overtaken",
                module=QUEUE,
                old="            with m.If(holds):\n                m.d.sync += self.o.p.eq(held)",
                new="            with m.If(~holds):\n                m.d.sync += self.o.p.eq(held)",
            ),
            Bug(
                name="a beat is dropped while W waits",
                module=WRITER,
                old="buffer.o.ready.eq(sent)",
                new="buffer.o.ready.eq(lengths.o.valid)",
            ),
        ),
    ),
]
