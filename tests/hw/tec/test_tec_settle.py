"""Loads that wait for an older one of another client are counted: each, once, in its turn."""

import random

import pytest
from amaranth.sim import Simulator

from ginseng.bus.shapes import READERS
from ginseng.isa.transfer import Client
from ginseng.tec.settle import Settle

INP, WGT = READERS.index(Client.INP), READERS.index(Client.WGT)
#: As many as are not counted yet, at most.
LOADS = 24


async def step(ctx, dut, *, begin=None, ends=()):
    """One cycle: a load of a client is taken if there is room; loads of others end."""
    taken = begin is not None and bool(ctx.get(dut.room) >> begin & 1)
    ctx.set(dut.begin, 1 << begin if taken else 0)
    ending = sum(1 << n for n in ends)
    ctx.set(dut.delivered, ending)
    ctx.set(dut.opened, ending)
    await ctx.tick()
    for port in (dut.begin, dut.delivered, dut.opened):
        ctx.set(port, 0)
    return taken


def simulate(scenario):
    dut = Settle()
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)

    async def bench(ctx):
        await scenario(ctx, dut)

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.sec("TEC.STORE_BARRIER")
def test_no_more_loads_are_taken_than_wait_to_be_counted():
    async def scenario(ctx, dut):
        assert await step(ctx, dut, begin=WGT)
        taken = 1
        for _ in range(3 * LOADS):
            if await step(ctx, dut, begin=INP):
                taken += 1
                await step(ctx, dut, ends=[INP])
        assert taken >= LOADS
        assert ctx.get(dut.issued) == taken
        # The first of all is not verified, so none is.
        assert ctx.get(dut.verified) == 0
        await step(ctx, dut, ends=[WGT])
        for _ in range(2 * LOADS):
            await step(ctx, dut)
        assert ctx.get(dut.verified) == taken
        assert await step(ctx, dut, begin=INP)

    simulate(scenario)


@pytest.mark.parametrize("seed", range(4))
def test_random_loads_are_all_counted_and_none_before_its_end(seed):
    rng = random.Random(seed)

    async def scenario(ctx, dut):
        order, ended = [], {INP: 0, WGT: 0}
        begun = dict.fromkeys(ended, 0)
        for _ in range(2000):
            client = rng.choice([INP, WGT])
            ends = [
                n for n in ended if ended[n] < begun[n] and rng.random() < 0.1 + 0.8 * (n == INP)
            ]
            if await step(ctx, dut, begin=client, ends=ends):
                begun[client] += 1
                order.append((client, begun[client]))
            for n in ends:
                ended[n] += 1
            count = ctx.get(dut.verified)
            assert all(number <= ended[n] for n, number in order[:count])
        for _ in range(200):
            ends = [n for n in ended if ended[n] < begun[n]]
            await step(ctx, dut, ends=ends)
            for n in ends:
                ended[n] += 1
        assert ctx.get(dut.verified) == ctx.get(dut.issued) == len(order)

    simulate(scenario)
