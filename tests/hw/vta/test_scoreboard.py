"""What instructions reach, and the order in which they start and retire."""

import random
from dataclasses import dataclass

import pytest
from amaranth.sim import Simulator

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import instruction_set
from ginseng.vta.reach import Reach
from ginseng.vta.scoreboard import COMPARED_BITS, WINDOW, Scoreboard, Unit


@dataclass
class Entry:
    """An instruction that the bench has issued."""

    tag: int
    claim: dict
    executes: bool
    verifies: bool

    @property
    def complete(self):
        return not (self.executes or self.verifies)


def draw(rng, config):
    def some(memory):
        # Within 32 of what is compared, so that many nearly meet.
        shift = ignored(config, memory)
        first = rng.randrange(32 << shift)
        return {
            "any": rng.random() < 0.6,
            "first": first,
            "last": min((32 << shift) - 1, first + rng.randrange(4 << shift)),
        }

    unit = rng.choice(list(Unit))
    return {
        "unit": unit,
        "writes": some(Memory.ACC),
        # Of all units, an ALU reads accumulators.
        "reads": some(Memory.ACC) | ({} if unit is Unit.ALU else {"any": 0}),
        "uops": some(Memory.UOP),
        "executes": rng.random() < 0.9,
        "verifies": unit is Unit.LOAD and rng.random() < 0.7,
        "push_prev": rng.random() < 0.3,
        "push_next": rng.random() < 0.3,
    }


def ignored(config, memory):
    """Lower bits of an index that are not compared."""
    return max(0, config.log_depth(memory) - COMPARED_BITS[memory])


def conflict(new, old, config):
    def meet(ours, theirs, memory=Memory.ACC):
        a, b = new[ours], old[theirs]
        shift = ignored(config, memory)
        return (
            a["any"]
            and b["any"]
            and a["first"] >> shift <= b["last"] >> shift
            and b["first"] >> shift <= a["last"] >> shift
        )

    return new["unit"] is not old["unit"] and (
        meet("writes", "writes")
        or meet("writes", "reads")
        or meet("reads", "writes")
        or (new["unit"] is Unit.LOAD and meet("uops", "uops", Memory.UOP))
    )


@pytest.mark.parametrize(
    ("busy", "seed", "exact"), [(1.0, 1, True), (0.5, 2, True), (0.2, 3, True), (1.0, 4, False)]
)
def test_an_instruction_starts_after_what_it_conflicts_with_and_retires_in_order(
    busy, seed, exact, small
):
    config = small if exact else CoreConfig()
    assert exact == (ignored(config, Memory.ACC) == 0 == ignored(config, Memory.UOP))
    dut, rng = Scoreboard(config), random.Random(seed)
    under_way, retired = [], []

    async def bench(ctx):
        expected = []
        for _ in range(1500):
            # What the scoreboard says now holds for what happened before this cycle.
            for n, entry in enumerate(under_way):
                free = all(
                    old.complete or not conflict(entry.claim, old.claim, config)
                    for old in under_way[:n]
                )
                assert (ctx.get(dut.ready) >> entry.tag) & 1 == free
            assert ctx.get(dut.empty) == (not under_way)
            loading = any(
                e.claim["unit"] is Unit.LOAD and e.claim["uops"]["any"] and not e.complete
                for e in under_way
            )
            assert ctx.get(dut.loading) == loading
            retires = bool(under_way) and under_way[0].complete
            assert ctx.get(dut.retired) == retires
            if retires:
                expected.append(under_way[0])
                retired.append((ctx.get(dut.push_prev), ctx.get(dut.push_next)))

            # Events of this cycle, one of each unit at most, in the order of the unit.
            events = []
            for unit in Unit:
                first = next((e for e in under_way if e.claim["unit"] is unit and e.executes), None)
                happens = first is not None and rng.random() < 0.3
                ctx.set(dut.executed[unit].valid, happens)
                if happens:
                    ctx.set(dut.executed[unit].tag, first.tag)
                    events.append((first, "executes"))
            loads = [e for e in under_way if e.verifies]
            happens = bool(loads) and rng.random() < 0.3
            ctx.set(dut.verified.valid, happens)
            if happens:
                ctx.set(dut.verified.tag, loads[0].tag)
                events.append((loads[0], "verifies"))

            issues = ctx.get(dut.room) and rng.random() < busy
            assert ctx.get(dut.room) == (len(under_way) < WINDOW)
            ctx.set(dut.issue, issues)
            if issues:
                claim = draw(rng, config)
                ctx.set(dut.claim, claim)
                new = Entry(ctx.get(dut.tag), claim, claim["executes"], claim["verifies"])
            await ctx.tick()
            if retires:
                under_way.pop(0)
            for entry, what in events:
                setattr(entry, what, False)
            if issues:
                under_way.append(new)
        assert len(expected) > 100
        assert retired == [(e.claim["push_prev"], e.claim["push_next"]) for e in expected]

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("grant", [1.0, 0.4])
def test_reach_bounds_every_index_and_no_more(grant, small):
    dut, rng = Reach(small), random.Random(7)
    isa = instruction_set(small)
    top = small.depth(Memory.ACC) - 1
    words = [(rng.randrange(9), rng.randrange(9), 0) for _ in range(32)]

    async def uops(ctx):
        while True:
            _, _, enable, granted, address = await ctx.tick().sample(
                dut.uop_enable, dut.uop_grant, dut.uop_address
            )
            if enable and granted:
                d, s, w = words[address]
                word = int.from_bytes(isa.uop.pack(dst=d, src=s, wgt=w), "little")
                ctx.set(dut.uop.as_value(), word)
            ctx.set(dut.uop_grant, rng.random() < grant)

    async def bench(ctx):
        for _ in range(40):
            begin = rng.randrange(28)
            fields = {
                "uop_begin": begin,
                "uop_end": begin + rng.choice([1, 1, 2, 4]),
                "iter_out": rng.choice([1, 2, 3, 16383]),
                "iter_in": rng.choice([1, 2, 5]),
            }
            for k in ("dst", "src"):
                for way in ("out", "in"):
                    fields[f"{k}_factor_{way}"] = rng.choice([0, 1, 4, 31])
            ctx.set(dut.start, 1)
            ctx.set(dut.enable, 0)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.insn, fields)
            ctx.set(dut.enable, 1)
            await ctx.tick().until(dut.done)
            used = words[begin : fields["uop_end"]]
            assert (ctx.get(dut.first).dst, ctx.get(dut.first).src) == used[0][:2]
            for n, k in enumerate(("dst", "src")):
                further = sum(
                    (fields[f"iter_{way}"] - 1) * fields[f"{k}_factor_{way}"]
                    for way in ("out", "in")
                )
                low, high = min(u[n] for u in used), max(u[n] for u in used)
                assert ctx.get(getattr(dut, f"{k}_first")) == low
                assert ctx.get(getattr(dut, f"{k}_last")) == min(top, high + further)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.add_testbench(uops, background=True)
    sim.run()
