"""Bytes on their way: none lost, none twice, none moved, whatever the alignment."""

from functools import partial

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume, Cover

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Proof
from ginseng.bus.realign import Pack, Place
from ginseng.bus.shapes import DmaShapes
from ginseng.isa.config import BusConfig, CoreConfig
from ginseng.isa.transfer import Client

CLIENT = Client.COMPUTE


class Realigned(Harness):
    """Granules, of which the harness keeps the lowest bit."""

    def __init__(self, bus):
        super().__init__()
        self.shapes = DmaShapes(CoreConfig(), bus)
        self.count = self.shapes.granules(CLIENT)
        self.bits = 8 * self.shapes.granule(CLIENT)

    def marks(self, data):
        """Return the lowest bit of each granule of a beat."""
        return [data[n * self.bits] for n in range(self.count)]


class Packed(Realigned):
    """`Pack`: pieces in, dense beats out; each descriptor starts a fresh beat."""

    def build(self, m: Module) -> None:
        count = self.count
        m.submodules.dut = dut = Pack(self.shapes, CLIENT)
        self.feed(m, dut.i, "i")
        self.drain(m, dut.o, "o")
        # The harness says what the meant granules are, so that these hold too.
        self.check_held(m, dut.o, "o", payload=dut.o.p.last)
        piece = dut.i.p
        taken, given = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
        came, went = self.marks(piece.data), self.marks(dut.o.p.data)

        # Granules that are here, the oldest first, and whether the last ends its descriptor.
        kept = [Signal(name=f"kept_{n}") for n in range(2 * count)]
        held, ends = Signal(range(2 * count + 1)), Signal()
        incoming = Mux(dut.i.valid & ~ends, piece.end - piece.first, 0)
        here = [Signal(name=f"here_{n}") for n in range(2 * count)]
        total = Signal(range(2 * count + 1))
        arrivals = Array(came)
        m.d.comb += total.eq(held + incoming)
        for n, mark in enumerate(here):
            index = (piece.first + n - held)[: max(1, (count - 1).bit_length())]
            m.d.comb += mark.eq(Mux(n < held, kept[n], arrivals[index]))
        finishes = ends | (dut.i.valid & piece.final)
        m.d.comb += [
            Assume(~dut.i.valid | ((piece.first < piece.end) & (piece.end <= count))),
            # A beat is offered when it is full or its descriptor ends, and else the piece is taken.
            Assert(dut.o.valid == ((total >= count) | (finishes & (total != 0)))),
            Assert(~dut.i.valid | dut.o.valid | dut.i.ready),
            Assert(~(ends & taken)),
            Assert(held < 2 * count),
            Cover(given & dut.o.p.last & (total > 1)),
            Cover(ends),
        ]
        with m.If(dut.o.valid):
            m.d.comb += Assert(dut.o.p.last == (finishes & (total <= count)))
            for n in range(count):
                m.d.comb += Assert((went[n] == here[n]) | (total <= n))
        moved = Mux(given, Mux(total < count, total, count), 0)
        stays = Signal(range(2 * count + 1))
        m.d.comb += stays.eq(Mux(taken | ends, total, held) - moved)
        shifted = Array(here)
        m.d.sync += held.eq(stays)
        for n, mark in enumerate(kept):
            m.d.sync += mark.eq(Mux(given, shifted[(n + count) % (2 * count)], here[n]))
        with m.If(taken & piece.final):
            m.d.sync += ends.eq(stays != 0)
        with m.Elif(given & ends):
            m.d.sync += ends.eq(0)


class Placed(Realigned):
    """`Place`: dense beats in, beats of bursts out; what a descriptor leaves over is dropped."""

    def build(self, m: Module) -> None:
        count = self.count
        m.submodules.dut = dut = Place(self.shapes, CLIENT)
        self.feed(m, dut.i, "i")
        self.feed(m, dut.burst, "burst")
        self.drain(m, dut.o, "o")
        # Lanes that are not meant carry anything, and change.
        meant = Cat(dut.o.p.first, dut.o.p.end, dut.o.p.final)
        self.check_held(m, dut.o, "o", payload=meant)
        came, went = self.marks(dut.i.payload), self.marks(dut.o.p.data)
        burst, piece = dut.burst.p, dut.o.p
        taken, given = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready

        # The burst under way, beat by beat.
        beats = Signal(range(self.shapes.burst_beats + 1))
        first, end, final = Signal(range(count)), Signal(range(count + 1)), Signal()
        last = beats == 1
        with m.If(dut.burst.valid & dut.burst.ready):
            m.d.sync += [
                beats.eq(burst.beats),
                first.eq(burst.first),
                end.eq(burst.end),
                final.eq(burst.final),
            ]
        with m.Elif(given):
            m.d.sync += [beats.eq(beats - 1), first.eq(0)]
        stop = Mux(last, end, count)
        m.d.comb += [
            Assume(
                ~dut.burst.valid
                | (
                    (burst.beats != 0)
                    & (burst.beats <= self.shapes.burst_beats)
                    & (burst.end != 0)
                    & (burst.end <= count)
                    & ((burst.beats != 1) | (burst.first < burst.end))
                )
            ),
            Assert(~dut.o.valid | (beats != 0)),
            Assert(~(dut.burst.valid & dut.burst.ready) | (beats == 0) | (given & last)),
            Cover(given & last & final & (first != 0)),
        ]

        # Granules of dense beats that are here and not given, the oldest first.
        kept = [Signal(name=f"kept_{n}") for n in range(count)]
        held, wanted = Signal(range(count + 1)), Signal(range(count + 1))
        needs = wanted > held
        arrivals, stored = Array(came), Array(kept)
        m.d.comb += [
            wanted.eq(stop - first),
            Assert(dut.o.valid == ((beats != 0) & (~needs | dut.i.valid))),
            Assert(taken == (given & needs)),
            Assert(held < count),
        ]
        bits = max(1, (count - 1).bit_length())
        with m.If(dut.o.valid):
            m.d.comb += [
                Assert(piece.first == first),
                Assert(piece.end == stop),
                Assert(piece.final == (final & last)),
            ]
            for n in range(count):
                age = Signal(range(2 * count), name=f"age_{n}")
                m.d.comb += age.eq(n - first)
                mark = Mux(age < held, stored[age[:bits]], arrivals[(age - held)[:bits]])
                inside = (n >= first) & (n < stop)
                m.d.comb += Assert(~inside | (went[n] == mark))
        with m.If(given):
            rest = Signal(range(2 * count))
            m.d.comb += rest.eq(held + Mux(needs, count, 0) - wanted)
            m.d.sync += held.eq(Mux(last & final, 0, rest))
            for n, mark in enumerate(kept):
                position = Signal(range(4 * count), name=f"position_{n}")
                m.d.comb += position.eq(n + wanted)
                m.d.sync += mark.eq(
                    Mux(
                        position < held,
                        stored[position[:bits]],
                        arrivals[(position - held)[:bits]],
                    )
                )


REALIGN = "ginseng.bus.realign"
WIDTHS = "granules are moved whole, so that their lowest bit stands for all; only of {} a beat"

PROOFS = [
    Proof(
        name=f"pack-{bits // 32}",
        claim="Pieces of any alignment become dense beats: every granule once, in order; each "
        "descriptor starts a fresh beat, its last one is marked",
        harness=partial(Packed, BusConfig(data_bits=bits)),
        configuration=f"beats of {bits} bits, granules of 32",
        generalises=WIDTHS.format(bits // 32),
        assumptions=(
            "the producer holds an offer until it is taken",
            "a piece has at least one granule",
        ),
        bugs=(
            Bug(
                name="what is left over of the last piece is dropped",
                module=REALIGN,
                old="flush.eq(piece.final & over)",
                new="flush.eq(0)",
            ),
            Bug(
                name="a descriptor goes on in the beat of the one before",
                module=REALIGN,
                old="m.d.sync += [flush.eq(0), fill.eq(0)]",
                new="m.d.sync += [flush.eq(0)]",
            ),
            Bug(
                name="the kept granules are those of the beat that went",
                module=REALIGN,
                old="kept.eq(Mux(completes, moved, joined))",
                new="kept.eq(joined)",
            ),
        ),
        quick=bits == 64,
    )
    for bits in (64, 128)
] + [
    Proof(
        name=f"place-{bits // 32}",
        claim="Dense beats are laid where bursts want them: every granule once, in order, in its "
        "lane; what a descriptor leaves over is dropped",
        harness=partial(Placed, BusConfig(data_bits=bits)),
        configuration=f"beats of {bits} bits, granules of 32",
        generalises=WIDTHS.format(bits // 32),
        assumptions=("producers hold an offer until it is taken", "bursts are not empty"),
        bugs=(
            Bug(
                name="granules left over go to the next descriptor",
                module=REALIGN,
                old="with m.If(last & current.final):",
                new="with m.If(last & current.final & (holds == 0)):",
            ),
            Bug(
                name="a beat is taken before it is needed",
                module=REALIGN,
                old="self.i.ready.eq(busy & needs & self.o.ready)",
                new="self.i.ready.eq(busy & self.o.ready)",
            ),
            Bug(
                name="the first lane of a burst counts for every beat",
                module=REALIGN,
                old="current.first.eq(0)]",
                new="current.first.eq(current.first)]",
            ),
        ),
    )
    for bits in (64, 128)
]
