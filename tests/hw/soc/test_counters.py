import random

import pytest
from amaranth.sim import Simulator

from ginseng.soc.counters import Counters


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_a_counter_is_right_when_its_turn_comes(count):
    rng = random.Random(count)
    limits = {f"event_{n}": rng.choice([1, 2, 300]) for n in range(count)}
    units = {name: 1 << n % 4 for n, name in enumerate(limits) if n % 2}
    dut = Counters(limits, units)
    totals = dict.fromkeys(limits, 0)

    async def count_events(ctx):
        for busy in (1.0, 0.3):
            for name in limits:
                ctx.set(dut.events[name], 0)
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            totals.update(dict.fromkeys(limits, 0))
            for _ in range(150):
                for name, most in limits.items():
                    # At first always the most that may come.
                    value = most if busy == 1 else rng.randint(0, most) * (rng.random() < busy)
                    ctx.set(dut.events[name], value)
                    totals[name] += value * units.get(name, 1)
                await ctx.tick()
            for name in limits:
                ctx.set(dut.events[name], 0)
            for n, name in enumerate(limits):
                ctx.set(dut.number, n)
                waited = 0
                while not ctx.get(dut.current):
                    await ctx.tick()
                    waited += 1
                assert waited < dut.turns
                assert ctx.get(dut.value) == totals[name], name
                await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(count_events)
    sim.run()
