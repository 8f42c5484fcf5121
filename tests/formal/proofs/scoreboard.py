"""The compute queue's scoreboard: hazards kept, retirement in order, nobody waits for ever."""

from unittest.mock import patch

from amaranth import Cat, Module, Signal
from amaranth.hdl import Assert, Assume, Cover

from ginseng.bench.formal.harness import Harness
from ginseng.bench.formal.proof import Bug, Proof
from ginseng.isa.config import CoreConfig, Memory
from ginseng.vta import scoreboard as scoreboard_module
from ginseng.vta.scoreboard import Scoreboard, Unit

#: Instructions under way in the proofs.
WINDOW = 4
SMALL = CoreConfig(log_acc_buff_size=8, log_uop_buff_size=4)


def touches(ranged, element):
    return ranged.any & (ranged.first <= element) & (element <= ranged.last)


class Hazards(Harness):
    """One older and one younger instruction of the solver's choice, and an element of each kind."""

    def build(self, m: Module) -> None:
        with patch.object(scoreboard_module, "WINDOW", WINDOW):
            dut = Scoreboard(SMALL)
            m.submodules.dut = dut.elaborate(None)
        claim = dut.claim
        issue = self.free("issue")
        m.d.comb += [
            dut.issue.eq(issue),
            claim.as_value().eq(self.free("claim", len(claim.as_value()))),
            dut.executed.as_value().eq(self.free("executed", len(dut.executed.as_value()))),
            dut.verified.as_value().eq(self.free("verified", len(dut.verified.as_value()))),
            dut.halt.eq(self.free("halt")),
            Assume(dut.room | ~issue),
            Assume((claim.unit == Unit.ALU) | ~claim.reads.any),
        ]
        inside = self.check_order(
            m,
            put=issue,
            item=Cat(claim.push_prev, claim.push_next),
            take=dut.retired,
            result=Cat(dut.push_prev, dut.push_next),
            capacity=WINDOW,
            name="order",
        )
        m.d.comb += [
            Assert(dut.empty == (inside == 0)),
            Assert(dut.room == (inside != WINDOW)),
            Assert(dut.retired | ~(dut.push_prev | dut.push_next)),
        ]

        # The older one: its claim, its tag, what it still waits for, how many are before it.
        pick, chosen = self.free("pick"), Signal()
        old, tag = Signal(claim.shape(), name="old"), Signal(dut.tag.shape())
        ahead = Signal(range(WINDOW + 1))
        takes_older = issue & pick & ~chosen
        executed = Cat(e.valid & (e.tag == tag) for e in dut.executed).any()
        verified = dut.verified.valid & (dut.verified.tag == tag)
        under_way = old.executes | old.verifies
        leaves = chosen & dut.retired & (ahead == 0)
        with m.If(takes_older):
            m.d.sync += [
                chosen.eq(1),
                old.eq(claim),
                tag.eq(dut.tag),
                ahead.eq(inside - dut.retired),
            ]
        with m.Elif(chosen):
            m.d.sync += [
                ahead.eq(ahead - dut.retired),
                old.executes.eq(old.executes & ~executed),
                old.verifies.eq(old.verifies & ~verified),
            ]
            with m.If(leaves):
                m.d.sync += chosen.eq(0)
        # An event is of an instruction issued in a cycle before that waits for it.
        m.d.comb += [
            Assume(~chosen | ~executed | old.executes),
            Assume(~chosen | ~verified | old.verifies),
            Assert(~leaves | ~(under_way | dut.halt)),
            Assert(~(chosen & under_way & (old.unit == Unit.LOAD) & old.uops.any) | dut.loading),
        ]
        with m.If(chosen & (ahead == 0)):
            # The oldest may start, and goes as soon as it can: nobody waits for ever.
            m.d.comb += [
                Assert(dut.ready.bit_select(tag, 1)),
                Assert(dut.retired == ~(under_way | dut.halt)),
            ]

        # The younger one, and whether they meet at the element.
        acc = self.constant(m, "acc", SMALL.log_depth(Memory.ACC))
        uop = self.constant(m, "uop", SMALL.log_depth(Memory.UOP))
        pick_younger, meets = self.free("pick_younger"), Signal()
        young_tag = Signal(dut.tag.shape())
        conflict = (claim.unit != old.unit) & (
            (touches(old.writes, acc) & (touches(claim.writes, acc) | touches(claim.reads, acc)))
            | (touches(old.reads, acc) & touches(claim.writes, acc))
            | ((claim.unit == Unit.LOAD) & touches(old.uops, uop) & touches(claim.uops, uop))
        )
        with m.If(takes_older | leaves):
            m.d.sync += meets.eq(0)
        with m.Elif(chosen & issue & pick_younger & ~meets):
            m.d.sync += [meets.eq(conflict), young_tag.eq(dut.tag)]
        with m.If(chosen & meets & under_way):
            m.d.comb += Assert(~dut.ready.bit_select(young_tag, 1))
        m.d.comb += [
            Cover(chosen & meets & under_way),
            Cover(leaves & meets),
        ]


SCOREBOARD = "ginseng.vta.scoreboard"

PROOFS = [
    Proof(
        name="scoreboard",
        claim="An instruction may not start before every older one of another unit, with which it "
        "shares an accumulator that one of them writes, or a micro-op that it loads, is complete; "
        "instructions retire once, in order, after their events, with their own tokens; the oldest "
        "may always start",
        harness=Hazards,
        configuration=f"{WINDOW} instructions under way, 4 accumulators, 4 micro-ops",
        generalises="entries are alike, for any pair and any element of them; bounds are compared "
        "and nothing else",
        assumptions=(
            "an instruction is issued only while there is room",
            "of all units, an ALU reads accumulators",
            "an event is of an instruction issued before that waits for it",
        ),
        depth=8,
        timeout=280,
        bugs=(
            Bug(
                name="a write does not wait for an older read",
                module=SCOREBOARD,
                old="                        | _meet(claim.others, held.others)\n",
                new="",
            ),
            Bug(
                name="ranges that share their last element do not meet",
                module=SCOREBOARD,
                old="(a.first <= b.last) & (b.first <= a.last)",
                new="(a.first <= b.last) & (b.first < a.last)",
            ),
            Bug(
                name="instructions retire without the verification of their bytes",
                module=SCOREBOARD,
                old="complete[n].eq(busy[n] & ~held.executes & ~held.verifies & ~self.halt)",
                new="complete[n].eq(busy[n] & ~held.executes & ~self.halt)",
            ),
            Bug(
                name="a wait is never over",
                module=SCOREBOARD,
                old="m.d.sync += [waiting[n].eq(0) for waiting in waits]",
                new="pass",
            ),
        ),
    ),
]
