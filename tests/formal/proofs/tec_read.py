"""The read path: nothing completes, and no load counts, before all of it verified."""

from abc import abstractmethod

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import data

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Engine, Proof
from ginseng.bus import flight
from ginseng.bus.shapes import READERS
from ginseng.isa.config import SystemConfig
from ginseng.isa.transfer import Client
from ginseng.tec import settle, verify
from ginseng.tec.settle import Settle
from ginseng.tec.shapes import TecShapes
from ginseng.tec.verify import Verifier

SHAPES = TecShapes(SystemConfig())
#: Descriptors of a client in flight; built, there are 8.
DEPTH = 2
#: Loads that are not counted yet; built, there are 24.
LOADS = 3
CLIENTS = range(len(READERS))
#: Whose loads are numbered; built, there are three.
COUNTED = (Client.INP, Client.WGT)


class Settling(Harness):
    """`Settle`, with descriptors of which each is delivered and opened once, in any order."""

    def build(self, m: Module) -> None:
        settle.DEPTH = flight.DEPTH = DEPTH
        settle._LOADS = LOADS
        m.submodules.dut = dut = Settle()
        begin, empty = self.free("begin", len(READERS)), self.free("empty")
        self.delivered, self.opened = (
            self.free(name, len(READERS)) for name in ("delivered", "opened")
        )
        m.d.comb += [
            dut.begin.eq(begin),
            dut.empty.eq(empty),
            dut.delivered.eq(self.delivered),
            dut.opened.eq(self.opened),
            dut.stop.eq(self.free("stop")),
            # The planner takes one in a cycle, where there is room.
            Assume((begin & (begin - 1)) == 0),
            Assume((begin & ~dut.room) == 0),
        ]
        #: Of each client, what is in flight, and what of it is still to be delivered, to be opened.
        counts = [
            [Signal(range(DEPTH + 2), name=f"{name}_{n}") for n in CLIENTS]
            for name in ("inside", "undelivered", "unopened")
        ]
        self.inside, self.undelivered, self.unopened = counts
        for n in CLIENTS:
            moves = begin[n] & ~empty
            m.d.sync += self.inside[n].eq(self.inside[n] + begin[n] - dut.done[n])
            for count, event in (
                (self.undelivered[n], self.delivered[n]),
                (self.unopened[n], self.opened[n]),
            ):
                m.d.comb += Assume(~event | (count != 0))
                m.d.sync += count.eq(count + moves - event)
        self.follow(m, dut, begin, empty)

    @abstractmethod
    def follow(self, m: Module, dut: Settle, begin: Signal, empty: Signal) -> None:
        """Follow one of them."""

    def behind(self, m: Module, starts: Signal, count: Signal, event: Signal, name: str) -> Signal:
        """Return whether the event of what starts now came, those of ``count`` others first."""
        ahead, waits, came = Signal.like(count), Signal(name=f"waits_{name}"), Signal(name=name)
        with m.If(starts):
            m.d.sync += [ahead.eq(count - event), waits.eq(1), came.eq(0)]
        with m.Elif(waits & event):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += [waits.eq(0), came.eq(1)]
        return came


class Completes(Settling):
    """One descriptor of a client, any: when it is done it was delivered and opened."""

    CLIENT = READERS.index(Client.INP)

    def follow(self, m, dut, begin, empty):
        n = self.CLIENT
        follows, starts = Signal(), Signal()
        m.d.comb += starts.eq(begin[n] & ~empty & self.free("follow") & ~follows)
        delivered = self.behind(m, starts, self.undelivered[n], self.delivered[n], "was_delivered")
        opened = self.behind(m, starts, self.unopened[n], self.opened[n], "was_opened")
        before = Signal(range(DEPTH + 1))
        with m.If(starts):
            m.d.sync += [follows.eq(1), before.eq(self.inside[n] - dut.done[n])]
        with m.Elif(follows & dut.done[n]):
            m.d.sync += [before.eq(before - 1), follows.eq(before != 0)]
            with m.If(before == 0):
                m.d.comb += [Assert(delivered), Assert(opened), Cover(1)]


class Prefix(Settling):
    """One load, any, of any client: when it counts as verified it was opened."""

    def follow(self, m, dut, begin, empty):
        settle._COUNTED = COUNTED
        counted = [READERS.index(client) for client in COUNTED]
        begins = Signal()
        inside = Signal(range(LOADS + 2))
        follows, starts, moves, passes, old = (Signal() for _ in range(5))
        m.d.comb += [
            begins.eq(Cat(begin[n] for n in counted).any()),
            Assume(begin == Cat(Mux(n in counted, begin[n], 0) for n in CLIENTS)),
            starts.eq(begins & self.free("follow") & ~follows),
            passes.eq(dut.verified[0] ^ old),
        ]
        m.d.sync += [old.eq(dut.verified[0]), inside.eq(inside + begins - passes)]
        # `verified` says so a cycle after the load passed; one may pass a cycle after it came.
        of = [
            self.behind(m, starts & begin[n], self.unopened[n], self.opened[n], f"was_opened_{n}")
            for n in counted
        ]
        client = Signal(range(len(COUNTED)))
        before = Signal.like(inside)
        with m.If(starts):
            m.d.sync += [follows.eq(1), moves.eq(~empty), before.eq(inside - passes)]
            for place, n in enumerate(counted):
                with m.If(begin[n]):
                    m.d.sync += client.eq(place)
        with m.Elif(follows & passes):
            m.d.sync += [before.eq(before - 1), follows.eq(before != 0)]
            with m.If(before == 0):
                m.d.comb += [Assert(~moves | Array(of)[client]), Cover(moves)]


class Compares(Harness):
    """`Verifier` with a tag of two beats of two bits, and one chunk that is followed."""

    def build(self, m: Module) -> None:
        verify.TAG_BYTES = 1
        layout = data.StructLayout({"at": 0, "data": 4})
        verify.tag_layout = lambda shapes: layout
        m.submodules.dut = dut = Verifier(SHAPES)
        stop = self.free("stop")
        tag, tag_valid = self.free("tag", 8), self.free("tag_valid")
        word, visit = self.free("word", layout), self.free("visit", dut.visit.p.shape())
        word_valid, visit_valid = self.free("word_valid"), self.free("visit_valid")
        m.d.comb += [
            dut.stop.eq(stop),
            dut.tag.eq(tag),
            dut.tag_valid.eq(tag_valid),
            dut.expected.p.eq(word),
            dut.expected.valid.eq(word_valid),
            dut.visit.p.eq(visit),
            dut.visit.valid.eq(visit_valid),
        ]
        # How many of each came before those of the chunk that is followed: one number for all.
        number = self.constant(m, "number", 3)
        ends = Signal()
        words = Signal()
        takes = dut.expected.valid & dut.expected.ready
        first = Signal(4)
        with m.If(takes):
            m.d.sync += [words.eq(~words), first.eq(word.data)]
        m.d.comb += ends.eq(takes & words)
        kept = {}
        for name, event, value in (
            ("tag", tag_valid, tag),
            ("expected", ends, first | (word.data << 4)),
            ("visit", dut.visit.valid & dut.visit.ready, visit.as_value()),
        ):
            count = Signal(4, name=f"{name}_count")
            kept[name] = Signal(len(value), name=f"{name}_kept")
            with m.If(event & (count <= number)):
                m.d.sync += count.eq(count + 1)
                with m.If(count == number):
                    m.d.sync += kept[name].eq(value)
            kept[f"{name} came"] = count > number
        said = Signal(4)
        says = dut.valid | dut.fault
        with m.If(says & (said <= number)):
            m.d.sync += said.eq(said + 1)
        # A tag that nobody can hold is a fault, and from then on nothing is in order.
        lost = Signal()
        m.d.sync += lost.eq(lost | dut.fault)
        with m.If(dut.valid & ~lost & (said == number)):
            m.d.comb += [
                Assert(kept["tag came"] & kept["expected came"] & kept["visit came"]),
                Assert(kept["tag"] == kept["expected"][:8]),
                Assert(dut.verified.as_value() == kept["visit"]),
                Cover(number == 2),
            ]
        stopped = Signal()
        m.d.sync += stopped.eq(stop)
        m.d.comb += Assert(~(stopped & dut.valid))


PROOFS = [
    Proof(
        name="read-completes",
        claim="P3: a descriptor that moves something is done only after all its beats were "
        "delivered and all its chunks verified, those of its client before it first",
        harness=Completes,
        configuration=f"`Settle`, {DEPTH} descriptors of a client in flight; the input client's",
        generalises="the clients have one source each; the depth is that of a queue and a counter",
        assumptions=("one descriptor is taken in a cycle, where there is room",),
        sec=("TEC.VERIFY_BEFORE_USE",),
        quick=True,
        bugs=(
            Bug(
                name="done as soon as it is delivered",
                module="ginseng.tec.settle",
                old="(delivered & opened) | (delivered & (ahead < 0))",
                new="delivered | (delivered & (ahead < 0))",
            ),
            Bug(
                name="done without an end",
                module="ginseng.bus.flight",
                old="queue.o.p | (finished != 0)",
                new="queue.o.p | (finished != 0) | queue.i.valid",
            ),
        ),
    ),
    Proof(
        name="read-prefix",
        claim="P3: a load counts as verified only after all its chunks verified, and every load "
        "before it, of any client, counts",
        harness=Prefix,
        configuration=f"`Settle`, {DEPTH} descriptors in flight of each of two counted clients",
        generalises="a third counted client is one number more in a queue; bounded in time it is",
        assumptions=("one descriptor is taken in a cycle, where there is room",),
        engine=Engine.BMC,
        depth=9,
        timeout=900,
        sec=("TEC.STORE_BARRIER",),
        bugs=(
            Bug(
                name="any client's chunk counts for the oldest load",
                module="ginseng.tec.settle",
                old="(oldest.empty | (Array(verified)[oldest.client] != 0))",
                new="(oldest.empty | (verified.as_value() != 0))",
            ),
            Bug(
                name="more loads are taken than can wait to be counted",
                module="ginseng.tec.settle",
                old="flight.room & (loads.i.ready if client in _COUNTED else 1)",
                new="flight.room",
            ),
        ),
    ),
    Proof(
        name="tags-compared",
        claim="P3: a chunk verifies only if all bits of its tag from the lane and of its tag from "
        "memory agree, each the same number in its order; none after a stop",
        harness=Compares,
        configuration="`Verifier`, tags of two beats of four bits, chunks up to the eighth",
        generalises="the bits of a tag are compared one by one; later chunks go through the same "
        "queue, which has wrapped by then",
        timeout=900,
        sec=("TEC.VERIFY_BEFORE_USE",),
        bugs=(
            Bug(
                name="one bit is not compared",
                module="ginseng.tec.verify",
                old="self.valid.eq(compares & (tag == expected)),",
                new="self.valid.eq(compares & (tag[1:] == expected[1:])),",
            ),
            Bug(
                name="compared when half a tag is there",
                module="ginseng.tec.verify",
                old="there & (count == beats) & queue",
                new="there & (count != 0) & queue",
            ),
            Bug(
                name="compared before the lane's tag",
                module="ginseng.tec.verify",
                old="compares.eq(there & (count",
                new="compares.eq((count",
            ),
        ),
    ),
]
