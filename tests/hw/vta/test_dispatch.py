import random

import pytest
from amaranth.sim import Simulator

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import Opcode, Queue, instruction_set
from ginseng.vta.dispatch import Dispatch

CODE = instruction_set(CoreConfig())
PORTS = {Queue.LOAD: "o_load", Queue.COMPUTE: "o_compute", Queue.STORE: "o_store"}


def legal_words(count, seed):
    rng = random.Random(seed)
    words = []
    for _ in range(count):
        opcode = rng.choice(list(Opcode))
        fields = {"pop_prev": rng.getrandbits(1), "push_next": rng.getrandbits(1)}
        if opcode is Opcode.LOAD:
            loadable = [m for m in Memory if m is not Memory.OUT]
            fields |= {"memory": rng.choice(loadable), "x_size": rng.randrange(3)}
        if opcode is Opcode.STORE:
            fields |= {"memory": Memory.OUT, "x_size": rng.randrange(1, 9)}
        words.append(int.from_bytes(CODE.encode(opcode, **fields), "little"))
    # TVM's idle store: no memory moves, so its memory type does not count.
    words.append(int.from_bytes(CODE.encode(Opcode.STORE, memory=Memory.UOP, x_size=0), "little"))
    return words


def simulate(dut, *processes):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    for process in processes:
        sim.add_testbench(process)
    sim.run_until(1e-4)


def route(words, *, idle, stall, seed=1):
    """Feed ``words``; return what each queue got. Idle and stall are probabilities."""
    dut = Dispatch()
    got = {queue: [] for queue in Queue}

    async def feed(ctx):
        rng = random.Random(seed)
        for word in words:
            while rng.random() < idle:
                await ctx.tick()
            ctx.set(dut.i.payload, word)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    def drain(queue):
        async def process(ctx):
            rng = random.Random(seed + queue.value)
            port = getattr(dut, PORTS[queue])
            while sum(map(len, got.values())) < len(words):
                ready = rng.random() >= stall
                ctx.set(port.ready, ready)
                _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
                if ready and valid:
                    got[queue].append(payload)

        return process

    simulate(dut, feed, *(drain(queue) for queue in Queue))
    return got


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.6, 0), (0, 0.6), (0.4, 0.4)])
def test_every_instruction_reaches_its_queue_once_and_in_order(idle, stall):
    words = legal_words(200, seed=3)
    got = route(words, idle=idle, stall=stall)
    for queue in Queue:
        wanted = [w for w in words if CODE.decode(w.to_bytes(16, "little")).queue is queue]
        assert got[queue] == wanted


@pytest.mark.parametrize(
    "word",
    [
        5,
        6,
        7,
        *(
            int.from_bytes(CODE.encode(Opcode.LOAD, memory=memory, x_size=1), "little")
            for memory in (4, 6, 7)
        ),
        int.from_bytes(CODE.encode(Opcode.STORE, memory=Memory.INP, x_size=1), "little"),
    ],
)
def test_what_no_queue_executes_raises_a_fault_and_stops_everything(word):
    dut = Dispatch()
    seen = []

    async def feed(ctx):
        for port in PORTS.values():
            ctx.set(getattr(dut, port).ready, 1)
        ctx.set(dut.i.valid, 1)
        for payload in (word, legal_words(1, seed=1)[0]):
            ctx.set(dut.i.payload, payload)
            for _ in range(3):
                _, _, fault, ready, *valid = await ctx.tick().sample(
                    dut.fault, dut.i.ready, *(getattr(dut, p).valid for p in PORTS.values())
                )
                seen.append((fault, ready, any(valid)))

    simulate(dut, feed)
    assert seen[0] == (0, 0, False)
    assert seen[1:] == [(1, 0, False)] * 5
