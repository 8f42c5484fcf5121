"""Planner and read path beside the golden TEC; lane, table and bitmap stand in for the gates'."""

import random
from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ginseng.bench.axi import AxiMemory
from ginseng.bus.axi import AxiSignature
from ginseng.bus.shapes import READERS
from ginseng.golden.dram import Dram
from ginseng.golden.port import Transfer
from ginseng.golden.tec import Tec
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig, Memory, SystemConfig
from ginseng.isa.formats import TAG_BYTES, chunk_count, chunk_nonce
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source
from ginseng.isa.transfer import Client
from ginseng.tec.plan import Planner
from ginseng.tec.read import ReadPath
from ginseng.tec.shapes import TecShapes

WINDOW = 1 << 16
R, W, X = Permission.R, Permission.W, Permission.X
STATIC, SESSION = 1, 2
KEYS = {slot: bytes([slot + 1] * 16) for slot in (0, STATIC, SESSION)}
LOADS = {
    Client.FETCH: (Memory.UOP,),
    Client.COMPUTE: (Memory.UOP, Memory.ACC, Memory.ACC_8BIT),
    Client.INP: (Memory.INP,),
    Client.WGT: (Memory.WGT,),
}
#: Domain, permissions, slot, measured, source, version of the row; bytes at most.
KINDS = {
    "program": (Domain.PROGRAM, R | X, 0, 1, Source.PLAIN, 0),
    "micro-ops": (Domain.PROGRAM, R, 0, 1, Source.PLAIN, 0),
    "bias": (Domain.WEIGHTS, R, 0, 1, Source.PLAIN, 0),
    "weights": (Domain.WEIGHTS, R, STATIC, 0, Source.SEALED, 7),
    "input": (Domain.IMPORT, R, SESSION, 0, Source.SEALED, 0),
    "scratch": (Domain.SCRATCH, R | W, 0, 0, Source.SEALED, 0),
    "output": (Domain.EXPORT, W, SESSION, 0, Source.SEALED, 0),
}
OFFSET_BITS = 26


@dataclass
class Tensor:
    handle: int
    row: dict
    version: int = 0
    first_bit: int = 0

    @property
    def chunks(self):
        return chunk_count(self.row["length"], self.row["chunk"])

    @property
    def imported(self):
        return self.row["measured"] and self.row["domain"] != Domain.EXPORT

    def entry(self):
        row = self.row
        same = ("domain", "permissions", "measured", "base", "tag_base", "length", "chunk")
        return {name: row[name] for name in same} | {
            "valid": 1,
            "placed": 1,
            "slot": 0 if self.imported else row["slot"],
            "chunks": self.chunks,
            "version": self.version,
            "first_bit": self.first_bit,
        }


class Scene:
    """A golden session in a run: random tensors, all sealed, the scratch one written in part."""

    def __init__(self, config, seed, *, chunks=(16, 48, 64, 208, 512, 1040), longest=5000):
        rng = random.Random(seed)
        self.config = config
        self.dram = Dram(0, config.bus.window_bytes)
        self.golden = golden = Tec(config, self.dram, lazy=True)
        golden.begin(KEYS[0])
        golden.declare_slot(STATIC, SlotUse.STATIC)
        golden.declare_slot(SESSION, SlotUse.SESSION)
        self.tensors = {}
        at, bit = 0, 0
        for handle, (name, kind) in enumerate(KINDS.items()):
            names = ("domain", "permissions", "slot", "measured", "source", "version")
            row = dict(zip(names, kind, strict=True))
            limit = min(512, max(chunks)) if name == "program" else max(chunks)
            row["chunk"] = rng.choice([c for c in chunks if c <= limit])
            row["length"] = 16 * rng.randrange(limit // 16 + 1, longest // 16)
            row["base"] = at
            at += -(-row["length"] // 128) * 128
            row["tag_base"] = at
            tensor = Tensor(handle, row, first_bit=bit)
            at += -(-tensor.chunks * TAG_BYTES // 128) * 128
            if row["permissions"] & W:
                bit += tensor.chunks
            self.tensors[name] = tensor
            assert golden.load_row(handle, TENSOR_ROW.pack(**row)) is Refusal.NONE
        assert at + longest < WINDOW
        epoch = 0
        for name in ("program", "micro-ops", "bias"):
            tensor = self.tensors[name]
            self.dram.write(at + 128 - at % 128, rng.randbytes(tensor.row["length"]))
            golden.import_plain(tensor.handle, at + 128 - at % 128)
            epoch += 1
            tensor.version = epoch
        assert golden.lock(0) is Refusal.NONE
        for slot in (STATIC, SESSION):
            assert golden.load_key(slot, KEYS[slot]) is Refusal.NONE
        for name, version in (("weights", 7), ("input", 1)):
            self.tensors[name].version = version
            self.seal(self.tensors[name], rng)
        golden.start_run(1)
        self.tensors["output"].version = 1
        scratch = self.tensors["scratch"]
        scratch.version = epoch + 1
        #: Chunks of it that are there.
        self.written = rng.randrange(1, scratch.chunks + 1)
        size = min(self.written * scratch.row["chunk"], scratch.row["length"])
        unit = config.core.element_bytes(Memory.OUT)
        if size % unit:
            self.written = scratch.chunks
            size = scratch.row["length"]
        base = scratch.handle << OFFSET_BITS
        transfer = Transfer(Memory.OUT, base, 1, size // unit, size // unit)
        golden.write(transfer, np.frombuffer(rng.randbytes(size), np.uint8), 0)
        self.readable = {scratch.first_bit + n for n in range(self.written)}

    def seal(self, tensor, rng):
        row = tensor.row
        for index in range(tensor.chunks):
            first = index * row["chunk"]
            size = min(row["chunk"], row["length"] - first)
            nonce = chunk_nonce(row["domain"], tensor.handle, tensor.version, index)
            sealed = AESGCM(KEYS[row["slot"]]).encrypt(nonce, rng.randbytes(size), None)
            self.dram.write(row["base"] + first, sealed[:size])
            self.dram.write(row["tag_base"] + TAG_BYTES * index, sealed[size:])

    def draw(self, client, rng, *, longest=900, allowed=None):
        """Draw a legal read of ``client``."""
        memory = rng.choice(LOADS[client])
        names = {
            Client.FETCH: ["program"],
            Client.COMPUTE: ["micro-ops", "program"] if memory == Memory.UOP
            else ["micro-ops", "bias", "scratch", "input"],
            Client.INP: ["input", "scratch", "bias"],
            Client.WGT: ["weights", "bias"],
        }[client]  # fmt: skip
        name = rng.choice([n for n in names if allowed is None or n in allowed])
        tensor = self.tensors[name]
        unit = 16 if client is Client.FETCH else self.config.core.element_bytes(memory)
        length = tensor.row["length"]
        if name == "scratch":
            length = min(length, self.written * tensor.row["chunk"])
        elements = length // unit
        rows = rng.choice([0, 1, 1, 1, 2, 3, 7])
        columns = min(rng.randrange(0, max(longest // unit // max(rows, 1), 1) + 2), elements)
        stride = max(columns + rng.choice([0, 0, -1, 1, 2, 5, -columns, 40]), 0)
        while rows and (rows - 1) * stride + columns > elements:
            rows, stride = rows - 1, max(stride - 1, 0)
        last = elements - (max(rows - 1, 0) * stride + columns)
        offset = rng.randrange(last + 1)
        base = tensor.handle << OFFSET_BITS | offset
        return Transfer(memory, base, rows, columns, stride)


class Reads(Elaboratable):
    """Planner and read path with an AXI port; what stands around them is played by the test."""

    def __init__(self, config):
        self.shapes = TecShapes(config)
        self.planner, self.path = Planner(self.shapes), ReadPath(self.shapes)
        self.axi = AxiSignature(config.bus).create()

    def elaborate(self, platform):
        m = Module()

        m.submodules.planner = planner = self.planner
        m.submodules.path = path = self.path
        wiring.connect(m, planner.read, path.plan)
        wiring.connect(m, path.ar, wiring.flipped(self.axi.ar))
        wiring.connect(m, wiring.flipped(self.axi.r), path.r)
        stop = planner.fault | path.fault
        m.d.comb += [
            planner.room.eq(path.room | 1 << Client.STORE),
            path.begin.eq(planner.taken),
            path.empty.eq(planner.empty),
            planner.store.ready.eq(1),
            planner.stop.eq(stop),
            path.stop.eq(stop),
        ]

        return m


class Lane:
    """A lane in Python: real pads and tags, some cycles late."""

    def __init__(self, port, config, rng, stall):
        self.port, self.rng, self.stall = port, rng, stall
        self.beat_bytes = config.bus.beat_bytes
        self.granule = min(16, self.beat_bytes)
        self.jobs = deque()
        self.chunks = {}
        self.tags = deque()
        self.now = 0

    async def take_jobs(self, ctx):
        port = self.port.job
        while True:
            ready = len(self.jobs) < 4 and self.rng.random() >= self.stall
            ctx.set(port.ready, ready)
            _, _, valid, job = await ctx.tick().sample(port.valid, port.payload)
            if valid and ready:
                assert not job.seals
                self.jobs.append(job)

    async def open_beats(self, ctx):
        port = self.port
        beat = 0
        while True:
            ready = bool(self.jobs) and self.rng.random() >= self.stall
            ctx.set(port.i.ready, ready)
            _, _, valid, word = await ctx.tick().sample(port.i.valid, port.i.payload)
            ctx.set(port.o_valid, valid and ready)
            if not (valid and ready):
                continue
            job = self.jobs[0]
            last = beat + 1 == job.beats
            first = job.first if beat == 0 else 0
            end = job.end if last else self.beat_bytes // self.granule
            cipher = word.to_bytes(self.beat_bytes, "little")
            cipher = cipher[first * self.granule : end * self.granule]
            if beat == 0:
                if job.start:
                    assert job.context not in self.chunks
                    self.chunks[job.context] = b""
                done = self.chunks[job.context]
                assert job.counter == 2 + len(done) // 16
                nonce = job.nonce.to_bytes(12, "big") + job.counter.to_bytes(4, "big")
                self.pads = Cipher(algorithms.AES(KEYS[job.slot]), modes.CTR(nonce)).encryptor()
            plain = self.pads.update(cipher)
            self.chunks[job.context] += cipher
            padded = bytes(first * self.granule) + plain
            ctx.set(port.o_data, int.from_bytes(padded, "little"))
            beat = 0 if last else beat + 1
            if last:
                self.jobs.popleft()
                if job.last:
                    self._close(job)

    def _close(self, job):
        text = self.chunks.pop(job.context)
        assert len(text) == job.nbytes
        nonce = job.nonce.to_bytes(12, "big")
        whole = Cipher(algorithms.AES(KEYS[job.slot]), modes.CTR(nonce + bytes([0, 0, 0, 2])))
        plain = whole.encryptor().update(text)
        tag = AESGCM(KEYS[job.slot]).encrypt(nonce, plain, None)[-16:]
        due = self.now + self.rng.randrange(8, 30)
        self.tags.append((max(due, self.tags[-1][0] + 1 if self.tags else 0), tag))

    async def give_tags(self, ctx):
        while True:
            due = bool(self.tags) and self.tags[0][0] <= self.now
            ctx.set(self.port.tag_valid, due)
            if due:
                ctx.set(self.port.tag, int.from_bytes(self.tags.popleft()[1], "little"))
            await ctx.tick()
            self.now += 1


class Bench:
    """Everything around the read path, in one simulation."""

    def __init__(self, scene, *, stall=0.0, latency=0, seed=0):
        self.scene, self.stall = scene, stall
        bus = scene.config.bus
        self.bus = bus
        self.dut = Reads(scene.config)
        self.rng = random.Random(seed)
        self.memory = bytearray(scene.dram.bytes)
        self.axi = AxiMemory(
            self.dut.axi,
            self.memory,
            bus.beat_bytes,
            bus.burst_bytes // bus.beat_bytes,
            stall=stall,
            latency=latency,
            seed=seed,
        )
        self.lane = Lane(self.dut.path.lane, scene.config, random.Random(seed), stall)
        self.entries = {t.handle: t.entry() for t in scene.tensors.values()}
        self.loaded = 0b111
        self.running = True
        self.readable = set(scene.readable)
        self.beats = {client: [] for client in READERS}
        self.done = dict.fromkeys(READERS, 0)
        self.asked = []
        self.now = 0
        #: Cycle in which descriptors were offered first, addresses, beats.
        self.first = {}

    def pause(self):
        return self.rng.random() < self.stall

    async def table(self, ctx):
        port = self.dut.planner.lookup
        async for (handle,) in ctx.changed(port.handle):
            ctx.set(port.entry, self.entries.get(handle, {"valid": 0}))

    async def bitmap(self, ctx):
        path = self.dut.path
        answers = deque([None, None])
        while True:
            ready = not self.pause()
            ctx.set(path.test.ready, ready)
            _, _, valid, test = await ctx.tick().sample(path.test.valid, path.test.payload)
            answers.append(test.bit if valid and ready else None)
            bit = answers.popleft()
            ctx.set(path.test_valid, bit is not None)
            ctx.set(path.test_readable, bit in self.readable)

    def offer(self, client, transfers):
        port = self.dut.planner.i[client]

        async def process(ctx):
            for transfer in transfers:
                while self.pause():
                    await ctx.tick()
                self.first.setdefault(client, self.now)
                fields = ("memory", "dram_base", "rows", "row_elements", "stride")
                ctx.set(port.payload, {name: getattr(transfer, name) for name in fields})
                ctx.set(port.valid, 1)
                ready = False
                while not ready:
                    _, _, ready = await ctx.tick().sample(port.ready)
                ctx.set(port.valid, 0)

        return process

    def take(self, n):
        port, client = self.dut.path.beat[n], READERS[n]

        async def process(ctx):
            while True:
                ready = not self.pause()
                ctx.set(port.ready, ready)
                _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
                if ready and valid:
                    self.beats[client].append((beat, self.done[client], self.now))

        return process

    async def count(self, ctx):
        path = self.dut.path
        while True:
            _, _, done, asked = await ctx.tick().sample(path.done, path.asked)
            for n, client in enumerate(READERS):
                self.done[client] += done >> n & 1
            if asked.valid:
                self.asked.append((self.now, Client(asked.client), asked.beats))
            self.now += 1

    def run(self, reads, *, deaf=(), cycles=30_000, after=30):
        """Do all reads; return once all that should have completed did, or time is over."""
        dut = self.dut
        wanted = {client: len(items) for client, items in reads.items() if client not in deaf}
        sim = Simulator(dut)
        sim.add_clock(1e-8)
        sim.add_process(self.table)
        lane = self.lane
        for process in (
            *self.axi.processes,
            *(lane.take_jobs, lane.open_beats, lane.give_tags),
            *(self.bitmap, self.count),
            *(self.offer(client, items) for client, items in reads.items()),
            *(self.take(n) for n, client in enumerate(READERS) if client not in deaf),
        ):
            sim.add_testbench(process, background=True)
        result = {}

        async def watch(ctx):
            ctx.set(dut.planner.loaded, self.loaded)
            ctx.set(dut.planner.running, self.running)
            for _ in range(cycles):
                await ctx.tick()
                if all(self.done[c] >= n for c, n in wanted.items()):
                    break
                if ctx.get(dut.path.fault | dut.planner.fault):
                    result.setdefault("beats", {c: len(b) for c, b in self.beats.items()})
                    result.setdefault("done", dict(self.done))
                    await ctx.tick().repeat(200)
                    break
            await ctx.tick().repeat(after)
            result["fault"] = ctx.get(dut.path.fault | dut.planner.fault)
            result["causes"] = (ctx.get(dut.planner.cause), ctx.get(dut.path.cause))
            for name in ("issued", "verified", "idle"):
                result[name] = ctx.get(getattr(dut.path, name))

        sim.add_testbench(watch)
        sim.run()
        return result

    def bytes_of(self, client, sizes):
        beats = iter(self.beats[client])
        arrays = []
        for n, size in enumerate(sizes):
            raw = b""
            for _ in range(-(-size // self.bus.beat_bytes)):
                beat, done, _ = next(beats)
                assert done <= n, "a completion came before its last beat"
                raw += beat.to_bytes(self.bus.beat_bytes, "little")
            arrays.append(raw[:size])
        assert next(beats, None) is None
        return arrays

    def check(self, reads):
        for client, transfers in reads.items():
            wanted = [self.scene.golden.read(client, t).tobytes() for t in transfers]
            got = self.bytes_of(client, [len(w) for w in wanted])
            for transfer, one, other in zip(transfers, got, wanted, strict=True):
                assert one == other, (client, transfer)


def config_of(protocol=BusProtocol.AXI3, bits=64, core=None):
    bus = BusConfig(protocol=protocol, data_bits=bits, window_bytes=WINDOW)
    return SystemConfig(core=core or CoreConfig(), bus=bus)


@pytest.mark.parametrize("stall", [0, 0.3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_client_gets_what_the_golden_tec_gives(stall, seed):
    scene = Scene(config_of(), seed)
    bench = Bench(scene, stall=stall, latency=20, seed=seed)
    rng = random.Random(seed)
    reads = {c: [scene.draw(c, rng) for _ in range(8)] for c in READERS}
    result = bench.run(reads)
    assert not result["fault"], result
    assert bench.done == dict.fromkeys(READERS, 8)
    bench.check(reads)
    assert result["issued"] == result["verified"] == 24
    assert result["idle"]
