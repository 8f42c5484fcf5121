"""A core in Amaranth's simulator with memory behind it, beside the golden core."""

import random
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.sim import Simulator

from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Transfer
from ginseng.golden.vta import Core as GoldenCore
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, instruction_set
from ginseng.isa.transfer import Client
from ginseng.vta.core import Core

CLIENTS = {
    "fetch": Client.FETCH,
    "compute": Client.COMPUTE,
    "inp": Client.INP,
    "wgt": Client.WGT,
}


@dataclass
class Timing:
    """How memory behaves: latency in cycles, and probabilities of no beat and no ready."""

    latency: tuple[int, int] = (3, 3)
    idle: float = 0
    stall: float = 0
    seed: int = 1


@dataclass
class Outcome:
    """What a run left behind."""

    dram: bytes
    done: bool
    fault: bool
    cycles: int
    gemm_uops: int = 0
    alu_uops: int = 0
    insns: int = 0
    samples: list[int] = field(default_factory=list)


class Bench:
    """The core in gates; `run` launches programs one after the other without reset."""

    def __init__(self, config, bus=None, *, timing=None, window=1 << 16, **options):
        self.config = config
        self.bus = bus or BusConfig(window_bytes=window)
        self.core = Core(config, self.bus, **options)
        self.dram = Dram(0, window)
        self.port = PlainPort(self.dram, config, self.bus)
        self.timing = timing or Timing()
        self.issued = 0
        self.samples = []
        #: Cycle in which memory fails, for ever.
        self.fail_at = None

    def run(self, programs, limit=20000, between=None):
        """Run ``programs``, (insn_addr in bytes, count) each; return an Outcome for each."""
        outcomes = []
        core = self.core

        async def drive(ctx):
            for number, (address, count) in enumerate(programs):
                if between is not None:
                    between(number, self.dram)
                ctx.set(core.insn_addr, address // INSN_BYTES)
                ctx.set(core.insn_count, count)
                ctx.set(core.start, 1)
                await ctx.tick()
                ctx.set(core.start, 0)
                cycles, end = 0, None
                while end is None:
                    _, _, done, fault = await ctx.tick().sample(core.done, core.fault)
                    cycles += 1
                    if cycles == self.fail_at:
                        ctx.set(core.memory.fault, 1)
                    if done or fault or cycles >= limit:
                        end = (bool(done), bool(fault))
                outcomes.append(
                    Outcome(
                        self.dram.bytes.tobytes(),
                        *end,
                        cycles,
                        *(ctx.get(c) for c in (core.gemm_uops, core.alu_uops, core.insns)),
                        self.samples,
                    )
                )
                if not end[0]:
                    await ctx.tick().repeat(40)

        sim = Simulator(core)
        sim.add_clock(1e-8)
        sim.add_testbench(drive)
        for name, client in CLIENTS.items():
            sim.add_testbench(self._reader(name, client), background=True)
        sim.add_testbench(self._writer(), background=True)
        sim.run()
        return outcomes

    def _transfer(self, descriptor):
        return Transfer(
            Memory(int(descriptor.memory)),
            descriptor.dram_base,
            descriptor.rows,
            descriptor.row_elements,
            descriptor.stride,
        )

    def _reader(self, name, client):
        timing, beat_bytes = self.timing, self.bus.beat_bytes
        port = getattr(self.core.memory, name)

        async def process(ctx):
            rng = random.Random(f"{timing.seed} {name}")
            pending, completions = deque(), deque()
            now, offered, ready = 0, False, False
            while True:
                _, _, valid, payload, beat_ready = await ctx.tick().sample(
                    port.descriptor.valid, port.descriptor.payload, port.beat.ready
                )
                now += 1
                ctx.set(port.done, 0)
                if ready and valid:
                    due = now + rng.randint(*timing.latency)
                    transfer = self._transfer(payload)
                    raw = self.port.read(client, transfer).tobytes()
                    if client is not Client.FETCH:
                        self.issued += 1
                        ctx.set(self.core.memory.issued, self.issued % (1 << 16))
                    raw += b"\xa5" * (-len(raw) % beat_bytes)
                    beats = deque(
                        int.from_bytes(raw[at : at + beat_bytes], "little")
                        for at in range(0, len(raw), beat_bytes)
                    )
                    pending.append((due, beats))
                if offered and beat_ready:
                    pending[0][1].popleft()
                    offered = False
                while pending and not pending[0][1]:
                    pending.popleft()
                    completions.append(now + rng.randint(*timing.latency))
                if completions and completions[0] <= now:
                    completions.popleft()
                    ctx.set(port.done, 1)
                if not offered and pending and pending[0][0] <= now:
                    offered = rng.random() >= timing.idle
                    if offered:
                        ctx.set(port.beat.payload, pending[0][1][0])
                ctx.set(port.beat.valid, offered)
                ready = rng.random() >= timing.stall
                ctx.set(port.descriptor.ready, ready)

        return process

    def _writer(self):
        timing, beat_bytes = self.timing, self.bus.beat_bytes
        port = self.core.memory.store

        async def process(ctx):
            rng = random.Random(timing.seed)
            pending, completions, raw = deque(), deque(), b""
            now, ready, beat_ready = 0, False, False
            while True:
                _, _, valid, payload, beat_valid, beat = await ctx.tick().sample(
                    port.descriptor.valid,
                    port.descriptor.payload,
                    port.beat.valid,
                    port.beat.payload,
                )
                now += 1
                ctx.set(port.done, 0)
                if ready and valid:
                    self.samples.append(payload.sample)
                    assert payload.sample <= self.issued
                    pending.append(self._transfer(payload.transfer))
                if beat_ready and beat_valid:
                    raw += beat.to_bytes(beat_bytes, "little")
                if pending:
                    transfer = pending[0]
                    element = self.config.element_bytes(Memory.OUT)
                    nbytes = transfer.rows * transfer.row_elements * element
                    if len(raw) >= nbytes:
                        assert len(raw) - nbytes < beat_bytes, "more beats than asked for"
                        pending.popleft()
                        data = np.frombuffer(raw[:nbytes], np.uint8)
                        self.port.write(transfer, data, 0)
                        raw = b""
                        completions.append(now + rng.randint(*timing.latency))
                if completions and completions[0] <= now:
                    completions.popleft()
                    ctx.set(port.done, 1)
                ready = rng.random() >= timing.stall
                # A beat may come before its descriptor is taken; memory takes it afterwards.
                beat_ready = bool(pending) and rng.random() >= timing.stall
                ctx.set(port.descriptor.ready, ready)
                ctx.set(port.beat.ready, beat_ready)

        return process


class Golden:
    """The golden core on DRAM of its own."""

    def __init__(self, config, window=1 << 16, **options):
        self.dram = Dram(0, window)
        self.port = PlainPort(self.dram, config, BusConfig(window_bytes=window))
        self.core = GoldenCore(config, self.port, **options)

    def run(self, address, count):
        """Run the program at byte ``address``; return the DRAM after."""
        self.core.start(address // INSN_BYTES, count)
        self.core.run()
        return self.dram.bytes.tobytes()


class Image:
    """DRAM that a test fills, and the program at its end."""

    def __init__(self, config):
        self.config = config
        self.isa = instruction_set(config)
        self.bytes = bytearray(256)
        self.insns = []

    def put(self, memory, data):
        """Append ``data`` aligned to an element; return its index in elements."""
        element = self.config.element_bytes(memory)
        self.bytes.extend(bytes(-len(self.bytes) % element))
        at = len(self.bytes) // element
        self.bytes.extend(np.ascontiguousarray(data).tobytes())
        return at

    def room(self, memory, count):
        """Reserve ``count`` elements; return the index of the first."""
        return self.put(memory, np.zeros(count * self.config.element_bytes(memory), np.uint8))

    def uops(self, steps):
        """Append micro-ops ``(dst, src, wgt)``; return the index of the first."""
        words = b"".join(self.isa.uop.pack(dst=d, src=s, wgt=w) for d, s, w in steps)
        return self.put(Memory.UOP, np.frombuffer(words, np.uint8))

    def insn(self, opcode, **fields):
        self.insns.append(self.isa.encode(opcode, **fields))

    def raw(self, word):
        self.insns.append(word)

    def close(self):
        """Append the instructions; return their byte address and number."""
        self.bytes.extend(bytes(-len(self.bytes) % INSN_BYTES))
        at = len(self.bytes)
        self.bytes.extend(b"".join(self.insns))
        return at, len(self.insns)


@pytest.fixture
def small():
    """A core of 2 by 2 with scratchpads of 32 elements: the smallest simulates fastest."""
    return CoreConfig(
        log_block=1,
        log_uop_buff_size=7,
        log_inp_buff_size=6,
        log_wgt_buff_size=7,
        log_acc_buff_size=8,
    )


@pytest.fixture
def wide():
    """A core of batch 2 and block 4, with scratchpads of 32 elements."""
    return CoreConfig(
        log_batch=1,
        log_block=2,
        log_uop_buff_size=7,
        log_inp_buff_size=8,
        log_wgt_buff_size=9,
        log_acc_buff_size=10,
    )


@pytest.fixture
def bench():
    return Bench


@pytest.fixture
def golden():
    return Golden


@pytest.fixture
def image():
    return Image


@pytest.fixture
def timing():
    return Timing
