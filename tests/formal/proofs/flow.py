"""Streams of `ginseng.flow`: nothing lost, nothing twice, in order; valid holds."""

from amaranth import Module, Mux, Signal
from amaranth.hdl import Assert

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Proof
from ginseng.flow.arbiter import RoundRobin
from ginseng.flow.queue import Queue, Skid

DATA = "items are copied and never looked at: two bits stand for any width"


class InOrder(Harness):
    """A component with one input and one output stream."""

    def __init__(self, component, *, capacity, wait=0):
        super().__init__()
        self.component, self.capacity, self.wait = component, capacity, wait

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = self.component
        self.feed(m, dut.i, "i")
        self.drain(m, dut.o, "o")
        self.check_held(m, dut.o, "o")
        inside = self.check_order(
            m,
            put=dut.i.valid & dut.i.ready,
            item=dut.i.payload,
            take=dut.o.valid & dut.o.ready,
            result=dut.o.payload,
            capacity=self.capacity,
            name="order",
        )
        # Not kept for ever: what is inside is offered, and a free place is taken.
        self.check_soon(m, inside != 0, dut.o.valid, within=self.wait, name="offer")
        self.check_soon(m, inside < self.capacity, dut.i.ready, within=self.wait, name="accept")
        if hasattr(dut, "level"):
            m.d.comb += Assert(dut.level == inside)


class Fair(Harness):
    """`RoundRobin`: each stream in order, all of them in their turn."""

    COUNT = 3

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = RoundRobin(2, self.COUNT)
        self.drain(m, dut.o, "o")
        self.check_held(m, dut.o, "o")
        m.d.comb += dut.enable.eq(self.free("enable"))
        source = self.constant(m, "source", range(self.COUNT))
        put, item, others, offers = Signal(), Signal(2), Signal(), Signal()
        for n, port in enumerate(dut.i):
            self.feed(m, port, f"i{n}")
            with m.If(source == n):
                m.d.comb += [
                    put.eq(port.valid & port.ready),
                    item.eq(port.payload),
                    offers.eq(port.valid),
                ]
            with m.Elif(port.valid & port.ready):
                m.d.comb += others.eq(1)
        granted = dut.o.valid & (dut.o.p.source == source)
        inside = self.check_order(
            m,
            put=put,
            item=item,
            take=granted & dut.o.ready,
            result=dut.o.p.item,
            capacity=1,
            name="order",
        )
        m.d.comb += [
            Assert(granted == (inside != 0)),
            # One at a time, and only while it may.
            Assert(~(put & others)),
            Assert(dut.taken == (put | others)),
            Assert(dut.enable | ~dut.taken),
        ]
        # Whoever offers waits for at most one item of each other stream.
        waited = Signal(range(self.COUNT + 1))
        m.d.comb += Assert(waited < self.COUNT)
        m.d.sync += waited.eq(Mux(offers & ~put, waited + others, 0))


QUEUE, ARBITER = "ginseng.flow.queue", "ginseng.flow.arbiter"
QUEUE_BUGS = (
    Bug(
        name="a full queue says that it has room",
        module=QUEUE,
        old="self.i.ready.eq(memory.w_rdy)",
        new="self.i.ready.eq(1)",
    ),
    Bug(
        name="an item is dropped while nobody takes it",
        module=QUEUE,
        old="memory.r_en.eq(self.o.ready)",
        new="memory.r_en.eq(self.o.ready | (memory.level == self.depth))",
    ),
    Bug(
        name="an item is stored twice",
        module=QUEUE,
        old="memory.w_en.eq(self.i.valid)",
        new="memory.w_en.eq(self.i.valid | (memory.level == 1))",
    ),
)

PROOFS = [
    Proof(
        name="queue",
        claim="A queue gives what it took, once, in order, and is never stuck",
        harness=lambda: InOrder(Queue(2, 4), capacity=4),
        configuration="depth 4, 2 bits",
        generalises=f"{DATA}; pointers wrap as for any depth (see queue-odd)",
        assumptions=("the producer holds an offer until it is taken",),
        bugs=QUEUE_BUGS,
        quick=True,
    ),
    Proof(
        name="queue-odd",
        claim="So does one whose depth is no power of two",
        harness=lambda: InOrder(Queue(2, 3), capacity=3),
        configuration="depth 3, 2 bits",
        generalises=DATA,
        assumptions=("the producer holds an offer until it is taken",),
        bugs=QUEUE_BUGS[:1],
    ),
    Proof(
        name="queue-block-ram",
        claim="So does one with a registered output, whose items may take a cycle more",
        harness=lambda: InOrder(Queue(2, 4, block_ram=True), capacity=4, wait=1),
        configuration="depth 4, 2 bits, block_ram",
        generalises=DATA,
        assumptions=("the producer holds an offer until it is taken",),
        bugs=QUEUE_BUGS[1:],
    ),
    Proof(
        name="skid",
        claim="A skid buffer gives what it took, once, in order, at full rate",
        harness=lambda: InOrder(Skid(2), capacity=2),
        configuration="2 bits",
        generalises=f"{DATA}; it has no other parameter",
        assumptions=("the producer holds an offer until it is taken",),
        bugs=(
            Bug(
                name="the held item is forgotten",
                module=QUEUE,
                old="self.o.valid.eq(self.i.valid | holds)",
                new="self.o.valid.eq(self.i.valid)",
            ),
            Bug(
                name="the held item is overtaken",
                module=QUEUE,
                old="            with m.If(holds):\n                m.d.sync += self.o.p.eq(held)",
                new="            with m.If(~holds):\n                m.d.sync += self.o.p.eq(held)",
            ),
            Bug(
                name="an item replaces the held one",
                module=QUEUE,
                old="self.i.ready.eq(~holds)",
                new="self.i.ready.eq(1)",
            ),
        ),
        quick=True,
    ),
    Proof(
        name="round-robin",
        claim="The arbiter gives each stream's items once and in order, and nobody waits for more "
        "than one item of each other stream",
        harness=Fair,
        configuration="3 streams, 2 bits",
        generalises=f"{DATA}; the turn is a loop over the count",
        assumptions=("producers hold an offer until it is taken",),
        bugs=(
            Bug(
                name="the first stream goes first",
                module=ARBITER,
                old="last.eq(chosen),\n            ]",
                new="last.eq(self.count - 1),\n            ]",
            ),
            Bug(
                name="the item of another stream is given",
                module=ARBITER,
                old="self.o.p.source.eq(chosen)",
                new="self.o.p.source.eq(last)",
            ),
            Bug(
                name="an item is taken while the output waits",
                module=ARBITER,
                old="free.eq(self.enable & (~self.o.valid | self.o.ready))",
                new="free.eq(self.enable)",
            ),
        ),
        quick=True,
    ),
]
