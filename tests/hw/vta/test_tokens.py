import random

from amaranth.sim import Simulator

from ginseng.isa.insn import TOKEN_LIMIT
from ginseng.vta.tokens import TokenCounter


def simulate(process):
    dut = TokenCounter()
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def bench(ctx):
        await process(ctx, dut)

    sim.add_testbench(bench)
    sim.run()


def test_a_token_is_there_until_it_is_popped():
    async def process(ctx, dut):
        rng, count = random.Random(1), 0
        for _ in range(400):
            push, pop = rng.getrandbits(1), rng.getrandbits(1) & (count > 0)
            assert ctx.get(dut.available) == (count > 0)
            ctx.set(dut.push, push)
            ctx.set(dut.pop, pop)
            await ctx.tick()
            count += push - pop
        assert not ctx.get(dut.fault)

    simulate(process)


def test_one_token_too_many_is_a_fault():
    async def process(ctx, dut):
        ctx.set(dut.push, 1)
        await ctx.tick().repeat(TOKEN_LIMIT)
        assert not ctx.get(dut.fault)
        ctx.set(dut.pop, 1)
        await ctx.tick()
        assert not ctx.get(dut.fault)
        ctx.set(dut.pop, 0)
        await ctx.tick()
        assert ctx.get(dut.fault)
        ctx.set(dut.push, 0)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.fault)

    simulate(process)
