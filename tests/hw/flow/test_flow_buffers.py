import random

import pytest
from amaranth.sim import Simulator

from ginseng.flow.queue import Latch, Queue, Skid, Spill

BUFFERS = {
    "queue": lambda: Queue(8, 3),
    "queue in block RAM": lambda: Queue(8, 3, block_ram=True),
    "skid": lambda: Skid(8),
    "latch": lambda: Latch(8),
    "spill": lambda: Spill(8, 5),
}
#: They may withhold what they have offered.
FICKLE = ("spill",)


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.5, 0), (0, 0.5), (0.4, 0.4)])
@pytest.mark.parametrize("name", BUFFERS)
def test_every_item_passes_once_and_in_order(name, idle, stall):
    dut, rng = BUFFERS[name](), random.Random(1)
    items = [rng.randrange(256) for _ in range(80)]
    got = []

    async def feed(ctx):
        for item in items:
            while rng.random() < idle:
                await ctx.tick()
            ctx.set(dut.i.payload, item)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def drain(ctx):
        held = None
        for _ in range(1000):
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            kept = held is None or (valid and payload == held)
            assert kept or name in FICKLE, "an offer was taken back"
            held = payload if valid and not ready else None
            if valid and ready:
                got.append(payload)
            if len(got) == len(items):
                break

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(feed)
    sim.add_testbench(drain)
    sim.run()
    assert got == items


@pytest.mark.parametrize(("name", "cycles"), [("queue", 1), ("skid", 1), ("latch", 2)])
def test_an_item_takes_so_many_cycles(name, cycles):
    dut, taken = BUFFERS[name](), []

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for _ in range(40):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken.append(ready)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert sum(taken) == 40 // cycles


def test_a_spill_passes_items_in_the_same_cycle_and_takes_them_when_nobody_does():
    dut, seen = Spill(8, 5), []

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for n in range(12):
            ctx.set(dut.i.payload, n)
            # Nobody takes items 4 to 7.
            ctx.set(dut.o.ready, not 4 <= n < 8)
            _, _, taken, valid, payload = await ctx.tick().sample(
                dut.i.ready, dut.o.valid, dut.o.payload
            )
            assert taken
            seen.append(payload if valid else None)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    assert seen[:4] == [0, 1, 2, 3]
    assert seen[8:] == [4, 5, 6, 7]
