"""Reads and writes share one lane: whose turn it is, and whose beats come back."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from ginseng.isa.config import BusConfig, SystemConfig
from ginseng.tec.shapes import TecShapes
from ginseng.tec.share import LaneShare

SHAPES = TecShapes(SystemConfig(bus=BusConfig(window_bytes=1 << 17)))
READ, WRITE = 0, 1


async def taken(ctx, port):
    """Wait until what is offered is taken; the simulation may end before."""
    ready = False
    while not ready:
        _, _, ready = await ctx.tick().sample(port.ready)
    ctx.set(port.valid, 0)


class Bench:
    """The share between two users and a lane that adds one to each beat.

    A job's slot says whose it is, so that the lane tells which jobs it was given.
    """

    def __init__(self, *, idle=0.0, seed=0):
        self.dut = LaneShare(SHAPES)
        self.rng, self.idle = random.Random(seed), idle
        #: Jobs that the lane was given: user and beats.
        self.given = []
        self.got = ([], [])
        self.tags = ([], [])
        self._owed, self._late = deque(), deque()

    def pause(self):
        return self.rng.random() < self.idle

    async def lane(self, ctx):
        port = self.dut.lane
        tag = None
        while True:
            ctx.set(port.job.ready, not self.pause())
            ctx.set(port.i.ready, bool(self._owed) and not self.pause())
            ctx.set(port.tag_valid, tag is not None)
            tag = None
            _, _, job, valid, ready, beat, beat_valid, beat_ready = await ctx.tick().sample(
                port.job.payload,
                port.job.valid,
                port.job.ready,
                port.i.payload,
                port.i.valid,
                port.i.ready,
            )
            ctx.set(port.o_valid, beat_valid & beat_ready)
            ctx.set(port.o_data, beat + 1)
            # Bit 0 of what the lane is given says for this bench what its job does.
            ctx.set(port.o_seals, beat & 1)
            if beat_valid & beat_ready:
                job_left = self._owed[0]
                job_left[0] -= 1
                if not job_left[0]:
                    self._owed.popleft()
                    tag = job_left[1] or None
            if valid & ready:
                self.given.append((job.slot, job.beats))
                self._owed.append([job.beats, job.last])

    async def watch(self, ctx):
        users = self.dut.users
        while True:
            values = await ctx.tick().sample(
                *(
                    getattr(u, n)
                    for u in users
                    for n in ("o_valid", "o_data", "o_seals", "tag_valid")
                )
            )
            for n, (valid, data, seals, tag) in enumerate((values[2:6], values[6:10])):
                if valid:
                    assert seals == (data - 1) & 1
                    self.got[n].append(data)
                if tag:
                    self.tags[n].append(len(self.got[n]))

    def jobs(self, user, beats):
        async def process(ctx):
            port = self.dut.users[user].job
            for count in beats:
                while self.pause():
                    await ctx.tick()
                ctx.set(port.payload, {"slot": user, "beats": count, "last": 1})
                ctx.set(port.valid, 1)
                await taken(ctx, port)

        return process

    def beats(self, user, values, *, after=0):
        async def process(ctx):
            port = self.dut.users[user].i
            await ctx.tick().repeat(after + 1)
            for value in values:
                while self.pause():
                    await ctx.tick()
                ctx.set(port.payload, value)
                ctx.set(port.valid, 1)
                await taken(ctx, port)

        return process

    def run(self, *parts, cycles, pressing=0, exclusive=0):
        async def clock(ctx):
            ctx.set(self.dut.pressing, pressing)
            ctx.set(self.dut.exclusive, exclusive)
            await ctx.tick().repeat(cycles)

        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        for part in (self.lane, self.watch, *parts):
            sim.add_testbench(part, background=True)
        sim.add_testbench(clock)
        sim.run()


@pytest.mark.parametrize("pressing", [0, 1])
@pytest.mark.parametrize("idle", [0, 0.4])
def test_every_user_gets_its_own_beats_and_tags_in_order(pressing, idle):
    bench = Bench(idle=idle, seed=pressing)
    sizes = ([3, 1, 5, 2], [4, 4, 1, 7])
    values = [[100 * user + n for n in range(sum(sizes[user]))] for user in (READ, WRITE)]
    parts = [bench.jobs(user, sizes[user]) for user in (READ, WRITE)]
    parts += [bench.beats(user, values[user]) for user in (READ, WRITE)]
    bench.run(*parts, cycles=400, pressing=pressing)
    for user in (READ, WRITE):
        assert bench.got[user] == [value + 1 for value in values[user]]
        assert len(bench.tags[user]) == 4
    assert sorted(bench.given) == sorted((user, n) for user in (READ, WRITE) for n in sizes[user])


def test_a_read_far_away_holds_up_no_store_that_waits():
    """While stores press, a read has its turn once its beats are there."""
    bench = Bench()
    parts = [bench.jobs(READ, [4]), bench.jobs(WRITE, [4, 4, 4])]
    parts += [bench.beats(READ, range(4), after=60), bench.beats(WRITE, range(12))]
    bench.run(*parts, cycles=120, pressing=1)
    assert bench.given == [(WRITE, 4)] * 3 + [(READ, 4)]


def test_otherwise_pads_of_at_most_two_reads_are_made_before_their_beats():
    bench = Bench()
    bench.run(bench.jobs(READ, [4] * 5), cycles=60)
    assert bench.given == [(READ, 4)] * 2


def test_a_burst_that_is_under_way_lets_no_read_in():
    """Its address may be out: a read's beats could be behind it."""
    bench = Bench()
    parts = [bench.jobs(READ, [4]), bench.beats(READ, range(4))]
    parts += [bench.jobs(WRITE, [4, 4]), bench.beats(WRITE, range(8))]
    bench.run(*parts, cycles=80, pressing=1, exclusive=1)
    assert bench.given == [(WRITE, 4)] * 2
