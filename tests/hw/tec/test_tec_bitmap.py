"""The written bitmap: written once, readable when finished, clear when cleared."""

import random

import pytest
from amaranth import ResetInserter, Signal
from amaranth.sim import Simulator

from ginseng.tec.bitmap import OPEN_CHUNKS, Bitmap

BITS = 70


def simulate(process, bits=BITS):
    dut, reset = Bitmap(bits), Signal()

    async def bench(ctx):
        while not ctx.get(dut.clean):
            await ctx.tick()
        await process(ctx, dut, reset)

    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.sec("TEC.WRITTEN_BITMAP")
def test_chunks_are_fresh_once_and_readable_when_they_are_finished():
    """Everything at once, against a set and a list; answers come in the second cycle."""

    async def process(ctx, dut, reset):
        rng = random.Random(5)
        written, listed, recent = set(), [], [0]
        # What was asked in the last two cycles, and whether it is so.
        begun, tested = [None, None], [None, None]
        counts = dict.fromkeys(("fresh", "stale", "readable", "open", "full", "cleared"), 0)
        clearing = False
        for cycle in range(8000):
            test = rng.choice([*recent[-9:], rng.randrange(BITS)])
            begin = rng.choice([rng.randrange(BITS), *(set(range(BITS)) - written)])
            tests, begins = rng.random() < 0.7, rng.random() < 0.7 and not clearing
            # Responses take longer than it takes to set a bit.
            done = bool(listed) and listed[0][1] < cycle - 2 and rng.random() < (cycle >> 8) % 4 / 4
            clear = not (listed or begins or clearing) and begun == [None, None]
            ctx.set(dut.test.valid, tests)
            ctx.set(dut.test.p.bit, test)
            ctx.set(dut.begin.valid, begins)
            ctx.set(dut.begin.p.bit, begin)
            ctx.set(dut.begin.p.export, begin & 1)
            ctx.set(dut.finish, done)
            ctx.set(dut.clear, clear)
            assert ctx.get(dut.test.ready)
            assert ctx.get(dut.waits) == bool(listed)
            for asked, valid, good in (
                (begun, dut.begin_valid, dut.begin_fresh),
                (tested, dut.test_valid, dut.test_readable),
            ):
                expected = asked.pop(0)
                assert ctx.get(valid) == (expected is not None)
                if expected is not None:
                    assert ctx.get(good) == expected[0], expected
                    if asked is begun:
                        assert ctx.get(dut.begin_export) == expected[1] & 1
            taken = begins and ctx.get(dut.begin.ready)
            counts["full"] += len(listed) == OPEN_CHUNKS
            assert not (taken and len(listed) == OPEN_CHUNKS)
            if done:
                listed.pop(0)
            begun.append((begin not in written, begin) if taken else None)
            if taken:
                counts["stale" if begin in written else "fresh"] += 1
                written.add(begin)
                listed.append((begin, cycle))
                recent.append(begin)
            is_open = test in [bit for bit, _ in listed]
            readable = test in written and not (is_open or clearing)
            tested.append((readable, test) if tests else None)
            counts["readable"] += tests and readable
            counts["open"] += tests and is_open
            if clear:
                written.clear()
                counts["cleared"] += 1
                clearing = True
            await ctx.tick()
            clearing = clearing and not ctx.get(dut.clean)
        assert min(counts.values()) > 10, counts

    simulate(process)


@pytest.mark.sec("TEC.ZEROIZE")
def test_a_reset_clears_every_bit_a_word_in_a_cycle():
    async def process(ctx, dut, reset):
        for bit in range(0, BITS, 3):
            ctx.set(dut.begin.p.bit, bit)
            ctx.set(dut.begin.valid, 1)
            await ctx.tick().until(dut.begin.ready)
            ctx.set(dut.begin.valid, 0)
            await ctx.tick().repeat(2)
            ctx.set(dut.finish, 1)
            await ctx.tick()
            ctx.set(dut.finish, 0)
        assert all(ctx.get(dut.words[n]) for n in range(dut.words.depth))
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await ctx.tick().repeat(dut.words.depth)
        assert ctx.get(dut.clean)
        assert not any(ctx.get(dut.words[n]) for n in range(dut.words.depth))

    simulate(process)


def test_only_the_words_in_use_are_cleared_between_runs():
    async def process(ctx, dut, reset):
        ctx.set(dut.lowest, BITS - 10)
        ctx.set(dut.begin.p.bit, BITS - 1)
        ctx.set(dut.begin.valid, 1)
        await ctx.tick()
        ctx.set(dut.begin.valid, 0)
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.clean)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.clean)
        assert not ctx.get(dut.words[dut.words.depth - 1])

    simulate(process)
