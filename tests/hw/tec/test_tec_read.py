"""Planner and read path beside the golden TEC; lane, table and bitmap stand in for the gates'."""

import random
from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth import Elaboratable, Module, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ginseng.bench.axi import AxiMemory
from ginseng.bus.axi import AxiSignature, Response
from ginseng.bus.shapes import READERS
from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Tec
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig, Memory, SystemConfig
from ginseng.isa.formats import TAG_BYTES, chunk_count, chunk_nonce, chunk_place, sealed_bytes
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source
from ginseng.isa.transfer import Client
from ginseng.tec.arrive import Arrivals
from ginseng.tec.orders import Kind
from ginseng.tec.plan import PlanFault, Planner
from ginseng.tec.read import ReadFault, ReadPath
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
        same = ("domain", "permissions", "measured", "base", "length", "chunk")
        return {name: row[name] for name in same} | {
            "valid": 1,
            "placed": row.get("placed", 1),
            "slot": 0 if self.imported else row["slot"],
            "extent": sealed_bytes(row["length"], row["chunk"]),
            "version": self.version,
            "first_bit": self.first_bit,
        }


class Scene:
    """A golden session in a run: random tensors, all sealed, the scratch one written in part."""

    def __init__(
        self, config, seed, *, chunks=(16, 48, 64, 208, 512, 1040), shortest=0, longest=5000
    ):
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
            row["length"] = 16 * rng.randrange(max(limit, shortest) // 16 + 1, longest // 16)
            row["base"] = at
            at += -(-sealed_bytes(row["length"], row["chunk"]) // 128) * 128
            tensor = Tensor(handle, row, first_bit=bit)
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
            self.dram.write(row["base"] + chunk_place(index, row["chunk"]), sealed)

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
        self.asked, self.bursts = [], []
        self.now = 0
        #: Cycle in which descriptors were offered first, addresses, beats.
        self.first = {}
        #: Which descriptors wait for what; more processes.
        self.hold, self.extra = {}, []

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

    async def addresses(self, ctx):
        port = self.dut.axi.ar
        while True:
            _, _, valid, ready, burst = await ctx.tick().sample(
                port.valid, port.ready, port.payload
            )
            if valid and ready:
                assert burst.id == 0
                self.bursts.append((burst.address, burst.length + 1))

    def offer(self, client, transfers):
        port = self.dut.planner.i[client]

        async def process(ctx):
            for n, transfer in enumerate(transfers):
                while self.pause() or (n in self.hold and not self.hold[n]()):
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

    def run(self, reads, *, deaf=(), cycles=30_000, after=30, offers=True):
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
            *(self.bitmap, self.count, self.addresses, *self.extra),
            *(self.offer(client, items) for client, items in reads.items() if offers),
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


def planned(scene, descriptors):
    """Give descriptors, one after the other, to a planner; return its plans and its fault."""
    dut = Planner(TecShapes(scene.config))
    entries = {t.handle: t.entry() for t in scene.tensors.values()}
    plans = []

    async def table(ctx):
        async for (handle,) in ctx.changed(dut.lookup.handle):
            ctx.set(dut.lookup.entry, entries.get(handle, {"valid": 0}))

    async def process(ctx):
        ctx.set(dut.loaded, 0b111)
        ctx.set(dut.running, 1)
        ctx.set(dut.room, 0b11111)
        for client, transfer in descriptors:
            port = dut.i[client]
            fields = ("memory", "dram_base", "rows", "row_elements", "stride")
            for name in fields:
                ctx.set(Value.cast(getattr(port.payload, name)), int(getattr(transfer, name)))
            ctx.set(port.valid, 1)
            while not ctx.get(port.ready):
                await ctx.tick()
            assert ctx.get(dut.taken) == 1 << client
            empty = ctx.get(dut.empty)
            await ctx.tick()
            ctx.set(port.valid, 0)
            ctx.set(dut.read.ready, 1)
            ctx.set(dut.store.ready, 1)
            for _ in range(100):
                one = dut.store if client == Client.STORE else dut.read
                if ctx.get(one.valid) or ctx.get(dut.fault):
                    break
                if empty:
                    break
                await ctx.tick()
            else:
                raise AssertionError("no plan")
            if ctx.get(dut.fault):
                plans.append(PlanFault(ctx.get(dut.cause)))
                return
            plan = ctx.get(dut.store.payload)
            plans.append(
                {k: plan[k] for k in dut.shapes.plan.members} if ctx.get(one.valid) else None
            )
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_process(table)
    sim.add_testbench(process)
    sim.run()
    return plans


def test_plans_say_where_the_rows_are():
    scene = Scene(config_of(), 5)
    rng = random.Random(5)
    given = [(c, scene.draw(c, rng)) for c in READERS for _ in range(40)]
    for (client, transfer), plan in zip(given, planned(scene, given), strict=True):
        if not transfer.rows or not transfer.row_elements:
            assert plan is None
            continue
        tensor = list(scene.tensors.values())[transfer.dram_base >> OFFSET_BITS]
        unit = 16 if client is Client.FETCH else scene.config.core.element_bytes(transfer.memory)
        position = (transfer.dram_base & (1 << OFFSET_BITS) - 1) * unit
        assert isinstance(plan, dict), (client, transfer, plan, tensor)
        chunk = tensor.row["chunk"]
        one = transfer.rows == 1 or transfer.stride == transfer.row_elements
        stride = 0 if one else transfer.stride * unit
        rows = 1 if one else transfer.rows
        index = position // chunk
        assert plan["position"] == chunk_place(index, chunk) + position % chunk
        assert (plan["index"], plan["within"]) == divmod(position, chunk)
        assert (plan["stride_index"], plan["stride_within"]) == divmod(stride, chunk)
        assert (plan["rows"], plan["stride"]) == (rows, stride)
        assert plan["row_bytes"] * rows == transfer.rows * transfer.row_elements * unit
        assert plan["merge"] == (transfer.stride >= transfer.row_elements)
        assert plan["tracked"] == (tensor.row["domain"] == Domain.SCRATCH)
        entry = tensor.entry()
        for name in ("slot", "base", "extent", "chunk"):
            assert plan[name] == entry[name]
        nonce = chunk_nonce(tensor.row["domain"], tensor.handle, tensor.version, 0)
        assert plan["prefix"] == int.from_bytes(nonce, "big") >> 32


@pytest.mark.parametrize(
    ("protocol", "bits", "stall", "seed"),
    [
        (BusProtocol.AXI3, 64, 0, 1),
        (BusProtocol.AXI3, 64, 0.3, 3),
        (BusProtocol.AXI4, 64, 0.1, 2),
        (BusProtocol.AXI4, 512, 0, 4),
        (BusProtocol.AXI4, 512, 0.3, 5),
        (BusProtocol.AXI3, 128, 0.2, 6),
    ],
)
def test_every_client_gets_what_the_golden_tec_gives(protocol, bits, stall, seed):
    scene = Scene(config_of(protocol, bits), seed)
    bench = Bench(scene, stall=stall, latency=20, seed=seed)
    rng = random.Random(seed)
    reads = {c: [scene.draw(c, rng, longest=300) for _ in range(5)] for c in READERS}
    result = bench.run(reads)
    assert not result["fault"], result
    assert bench.done == dict.fromkeys(READERS, 5)
    bench.check(reads)
    assert result["issued"] == result["verified"] == 15
    assert result["idle"]


@pytest.mark.parametrize(("columns", "stride"), [(1, 2), (3, 4), (2, 7), (17, 18), (40, 41)])
def test_rows_that_share_a_beat_are_all_given(columns, stride):
    scene = Scene(config_of(BusProtocol.AXI4, 512), 11, chunks=(208, 1040), shortest=2000)
    bench = Bench(scene, latency=5, stall=0.1)
    rows = 400 // stride
    uops = Transfer(Memory.UOP, 1 << OFFSET_BITS | 7, rows, columns, stride)
    inputs = Transfer(Memory.INP, 4 << OFFSET_BITS | 1, 40, 1, 2)
    reads = {Client.COMPUTE: [uops, uops], Client.INP: [inputs]}
    result = bench.run(reads)
    assert not result["fault"]
    bench.check(reads)


def cut(address, nbytes, bus):
    """Cut bytes into bursts: address and beats of each."""
    at = address // bus.beat_bytes * bus.beat_bytes
    end = -(-(address + nbytes) // bus.beat_bytes) * bus.beat_bytes
    while at < end:
        stop = min(end, at + bus.burst_bytes, (at // 4096 + 1) * 4096)
        yield at, (stop - at) // bus.beat_bytes
        at = stop


@pytest.mark.parametrize(
    ("rows", "columns", "stride", "visits"),
    [
        # Rows in one chunk share its fetch, whatever is between them.
        (5, 2, 5, [0, 1, 2]),
        (2, 3, 22, [0, 2, 3]),
        # Rows that overlap fetch theirs anew.
        (3, 6, 5, [0, 0, 1, 1, 2]),
        (2, 30, 0, [0, 1, 2, 3] * 2),
        (1, 30, 7, [0, 1, 2, 3]),
    ],
)
def test_a_chunk_is_fetched_whole_and_once_unless_rows_overlap(rows, columns, stride, visits):
    scene = Scene(config_of(), 4, chunks=(144,))
    row = scene.tensors["input"].row
    bench = Bench(scene, latency=5)
    transfer = Transfer(Memory.INP, 4 << OFFSET_BITS | 3, rows, columns, stride)
    result = bench.run({Client.INP: [transfer]})
    assert not result["fault"]
    bench.check({Client.INP: [transfer]})
    spans = [(row["base"] + 160 * n, min(144, row["length"] - 144 * n) + 16) for n in visits]
    assert bench.bursts == [burst for at, size in spans for burst in cut(at, size, bench.bus)]
    assert sum(beats for _, _, beats in bench.asked) == sum(beats for _, beats in bench.bursts)


@pytest.mark.parametrize("chunk", [1024, 2048])
def test_rows_are_where_they_should_be_while_orders_wait_for_a_slow_memory(chunk):
    # So many rows in bursts on their way that the queue of orders is full long before a beat comes.
    scenes = (
        Scene(config_of(BusProtocol.AXI4), n, chunks=(256, chunk), shortest=5000, longest=6000)
        for n in range(50)
    )
    scene = next(one for one in scenes if one.tensors["input"].row["chunk"] == chunk)
    bench = Bench(scene, latency=200)
    base = scene.tensors["input"].handle << OFFSET_BITS
    transfers = {Client.INP: [Transfer(Memory.INP, base | n, 40, 1, 8) for n in range(5)]}
    assert not bench.run(transfers)["fault"]
    bench.check(transfers)


@pytest.mark.parametrize("bus", [BusProtocol.AXI3, BusProtocol.AXI4])
def test_a_tag_has_a_burst_of_its_own_only_behind_a_page_or_a_full_burst(bus):
    scene = Scene(config_of(bus), 4, chunks=(0x400 - 16, 0x80), longest=6000, shortest=5000)
    tensor = scene.tensors["weights"]
    row, unit = tensor.row, scene.config.core.element_bytes(Memory.WGT)
    bench = Bench(scene, latency=5)
    reads = [Transfer(Memory.WGT, tensor.handle << OFFSET_BITS, 1, 4096 // unit, 4096 // unit)]
    result = bench.run({Client.WGT: reads})
    assert not result["fault"]
    bench.check({Client.WGT: reads})
    spans = []
    for index in range(-(-4096 // row["chunk"])):
        size = min(row["chunk"], row["length"] - index * row["chunk"])
        spans.append((row["base"] + chunk_place(index, row["chunk"]), size + TAG_BYTES))
    assert bench.bursts == [burst for at, size in spans for burst in cut(at, size, bench.bus)]


@pytest.mark.sec("TEC.WRITTEN_BITMAP")
def test_a_chunk_that_was_not_written_is_a_fault_before_its_address():
    scene = Scene(config_of(), 6, chunks=(64,), longest=2000)
    bench = Bench(scene, latency=5)
    tensor = scene.tensors["scratch"]
    bench.readable = {tensor.first_bit}
    base = tensor.handle << OFFSET_BITS
    result = bench.run({Client.INP: [Transfer(Memory.INP, base | 2, 1, 8, 8)]})
    assert result["causes"] == (PlanFault.NONE, ReadFault.UNWRITTEN)
    assert bench.done[Client.INP] == 0
    assert all(a < tensor.row["base"] + 64 + TAG_BYTES for a, _ in bench.bursts)
    assert result["idle"]


TAMPERED = {Client.FETCH: "program", Client.COMPUTE: "bias", Client.INP: "input",
            Client.WGT: "weights"}  # fmt: skip


@pytest.mark.sec("TEC.VERIFY_BEFORE_USE")
@pytest.mark.sec("TEC.FETCH_VERIFIED")
@pytest.mark.sec("TEC.STORE_BARRIER")
@pytest.mark.sec("TEC.STICKY_FATAL")
@pytest.mark.parametrize("where", ["data", "tag"])
@pytest.mark.parametrize("client", TAMPERED)
def test_a_flipped_bit_is_a_fault_and_nothing_completes_after_it(client, where):
    scene = Scene(config_of(), 7, chunks=(256,), shortest=1536, longest=2500)
    tensor = scene.tensors[TAMPERED[client]]
    bench = Bench(scene, latency=5, stall=0.1)
    memory = {Client.COMPUTE: Memory.ACC, Client.WGT: Memory.WGT}.get(client, Memory.INP)
    unit = 16 if client is Client.FETCH else scene.config.core.element_bytes(memory)
    count = 256 // unit
    base = tensor.handle << OFFSET_BITS
    # One chunk each; the third one does not verify, not even for the client who takes its data.
    reads = [Transfer(memory, base | n * count, 1, count, count) for n in range(6)]
    at = tensor.row["base"] + chunk_place(2, 256) + (9 if where == "data" else 256)
    bench.memory[at] ^= 4
    result = bench.run({client: reads})
    assert result["causes"] == (PlanFault.NONE, ReadFault.TAG)
    if client is Client.FETCH:
        # What verified may still be on its way to the core; the third chunk never is.
        assert bench.done[client] in (1, 2)
        assert 256 // 8 <= len(bench.beats[client]) <= 2 * 256 // 8
    else:
        assert bench.done[client] == 2
        assert result["verified"] == 2
        assert result["issued"] > 2
    assert len(bench.beats[client]) == result["beats"][client]
    assert result["idle"]


BROKEN = {
    "slave error": ({0x100: Response.SLVERR}, False),
    "decode error": ({0x80: Response.DECERR}, False),
    "exclusive": ({0x80: Response.EXOKAY}, False),
    "early last": ({}, True),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_answer_of_memory_is_a_fault(name):
    scene = Scene(config_of(), 7, chunks=(512,))
    failing, premature = BROKEN[name]
    bench = Bench(scene)
    base = scene.tensors["program"].row["base"]
    bench.axi.failing = {base + at: response for at, response in failing.items()}
    bench.axi.premature = premature
    result = bench.run({Client.FETCH: [Transfer(Memory.UOP, 0, 1, 32, 32)] * 2}, cycles=600)
    assert result["causes"] == (PlanFault.NONE, ReadFault.BUS)
    assert bench.done[Client.FETCH] == 0


@pytest.mark.parametrize(
    ("order", "answers"),
    [
        ({"total": 2, "drop": 2, "ends": 1}, [{"last": 0}, {"last": 1, "id": 1}]),
        ({"total": 2, "drop": 2, "ends": 1}, [{"last": 1}]),
        ({"total": 2, "drop": 2, "ends": 1}, [{"last": 0}, {"last": 0}]),
        ({"total": 2, "drop": 2, "ends": 0}, [{"last": 0}, {"last": 1}]),
        (None, [{"last": 1}]),
    ],
    ids=["identifier", "early last", "late last", "last in a burst", "nobody asked"],
)
def test_what_does_not_fit_the_order_of_asking_is_a_fault(order, answers):
    dut = Arrivals(TecShapes(config_of()))
    seen = []

    async def process(ctx):
        ctx.set(dut.expects, order is not None)
        ctx.set(dut.order.valid, order is not None)
        ctx.set(dut.order.payload, {**(order or {}), "kind": Kind.RAW})
        for answer in answers:
            ctx.set(dut.r.payload, {**answer, "response": Response.OKAY})
            ctx.set(dut.r.valid, 1)
            assert ctx.get(dut.r.ready)
            seen.append(ctx.get(dut.fault))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(process)
    sim.run()
    assert seen == [0] * (len(answers) - 1) + [1]


def test_a_client_that_takes_nothing_holds_nobody_up():
    scene = Scene(config_of(), 8, chunks=(512,), shortest=5120, longest=6000)
    bench = Bench(scene, latency=10)
    rng = random.Random(8)
    reads = {c: [scene.draw(c, rng, longest=200) for _ in range(3)] for c in READERS}
    full = Transfer(Memory.WGT, 3 << OFFSET_BITS, 1, 20, 20)
    reads[Client.WGT] = [full] * 4
    result = bench.run(reads, deaf=(Client.WGT,))
    assert not result["fault"]
    assert all(bench.done[c] == 3 for c in READERS if c is not Client.WGT)
    bench.check({c: reads[c] for c in READERS if c is not Client.WGT})


ILLEGAL = {
    "no such row": (Client.INP, Transfer(Memory.INP, 9 << 26, 1, 1, 1), PlanFault.HANDLE),
    "not in place": (Client.INP, Transfer(Memory.INP, 8 << 26, 1, 1, 1), PlanFault.HANDLE),
    "no R": (Client.INP, Transfer(Memory.INP, 6 << 26, 1, 1, 1), PlanFault.PERMISSION),
    "no W": (Client.STORE, Transfer(Memory.OUT, 4 << 26, 1, 1, 1), PlanFault.PERMISSION),
    "no X": (Client.FETCH, Transfer(Memory.UOP, 1 << 26, 1, 1, 1), PlanFault.PERMISSION),
    "micro-ops": (Client.COMPUTE, Transfer(Memory.UOP, 4 << 26, 1, 1, 1), PlanFault.UOP_DOMAIN),
    "memory": (Client.INP, Transfer(Memory.WGT, 4 << 26, 1, 1, 1), PlanFault.MEMORY),
    "empty memory": (Client.WGT, Transfer(Memory.INP, 4 << 26, 0, 1, 1), PlanFault.MEMORY),
    "no memory": (Client.COMPUTE, Transfer(7, 4 << 26, 1, 1, 1), PlanFault.MEMORY),
    "no key": (Client.INP, Transfer(Memory.INP, 7 << 26, 1, 1, 1), PlanFault.NO_KEY),
}


@pytest.mark.sec("TEC.FETCH_X_ONLY")
@pytest.mark.sec("TEC.UOP_DOMAIN")
@pytest.mark.sec("TEC.UNLOADED_SLOT")
@pytest.mark.parametrize("name", ILLEGAL)
def test_what_may_not_be_read_or_written_is_a_fault(name):
    scene = Scene(config_of(), 9)
    given = scene.tensors["input"]
    scene.tensors["unloaded"] = Tensor(7, {**given.row, "slot": 5}, 1)
    scene.tensors["absent"] = Tensor(8, {**given.row, "placed": 0}, 1)
    client, transfer, cause = ILLEGAL[name]
    assert planned(scene, [(client, transfer)]) == [cause]


@pytest.mark.sec("TEC.RANGE_UNWRAPPED")
def test_a_row_that_ends_beyond_its_tensor_is_a_fault_however_large_the_numbers():
    scene = Scene(config_of(), 10)
    tensor = scene.tensors["input"]
    last = tensor.row["length"] // 16
    base = tensor.handle << OFFSET_BITS
    top = (1 << OFFSET_BITS) - 1
    legal = [(last - 1, 1, 1, 9), (0, 2, 1, last - 1), (0, 1, last, 65535), (1, last - 1, 1, 0),
             (0, 65535, last, 0), (last - 5, 5, 1, 1)]  # fmt: skip
    for offset, rows, columns, stride in legal:
        transfer = Transfer(Memory.INP, base | offset, rows, columns, stride)
        assert isinstance(planned(scene, [(Client.INP, transfer)])[0], dict), transfer
    beyond = [(last, 1, 1, 1), (last - 1, 1, 2, 2), (0, 2, 1, last), (top, 1, 1, 1),
              (0, 65535, 65535, 65535), (1, 65535, 1, 4096), (0, 3, 1, 32768),
              (last - 5, 6, 1, 1), (0, 2, last, 1)]  # fmt: skip
    for offset, rows, columns, stride in beyond:
        transfer = Transfer(Memory.INP, base | offset, rows, columns, stride)
        assert planned(scene, [(Client.INP, transfer)]) == [PlanFault.RANGE], transfer
        with pytest.raises(Fatal, match="range"):
            Scene(config_of(), 10).golden.read(Client.INP, transfer)


def test_outside_of_a_run_every_descriptor_is_a_fault():
    scene = Scene(config_of(), 9)
    bench = Bench(scene)
    bench.running = False
    result = bench.run({Client.INP: [Transfer(Memory.INP, 4 << OFFSET_BITS, 0, 0, 0)]})
    assert result["causes"] == (PlanFault.NO_RUN, ReadFault.NONE)
    assert not bench.bursts


@pytest.mark.parametrize(("protocol", "bits"), [(BusProtocol.AXI3, 64), (BusProtocol.AXI4, 512)])
def test_an_import_reads_bytes_as_they_are(protocol, bits):
    bench = Bench(Scene(config_of(protocol, bits), 12), latency=5, stall=0.2)
    path = bench.dut.path
    spans = [(128, 400), (4096 - 48, 2000), (16 * 77, 16), (9000, 1040)]
    spans = [(at // 16 * 16, size) for at, size in spans]
    got = []

    async def plans(ctx):
        for at, size in spans:
            plan = {"raw": 1, "base": at, "row_bytes": size, "rows": 1, "chunk": size}
            ctx.set(path.source.payload, {**plan, "extent": size})
            ctx.set(path.source.valid, 1)
            await ctx.tick().until(path.source.ready)
            ctx.set(path.source.valid, 0)

    async def beats(ctx):
        count = sum(-(-size // bench.bus.beat_bytes) for _, size in spans)
        while len(got) < count:
            ready = not bench.pause()
            ctx.set(path.source_beat.ready, ready)
            _, _, valid, beat = await ctx.tick().sample(
                path.source_beat.valid, path.source_beat.payload
            )
            if ready and valid:
                got.append(beat.to_bytes(bench.bus.beat_bytes, "little"))
        bench.done[Client.WGT] += 1

    bench.extra = [plans, beats]
    result = bench.run({Client.WGT: [None]} | {c: [] for c in READERS if c is not Client.WGT},
                       offers=False)  # fmt: skip
    assert not result["fault"]
    assert result["idle"]
    for at, size in spans:
        count = -(-size // bench.bus.beat_bytes)
        assert b"".join(got[:count])[:size] == bytes(bench.memory[at : at + size])
        del got[:count]
    assert not got


@pytest.mark.sec("TEC.ZEROIZE")
def test_after_a_fault_the_buffers_are_overwritten_and_give_nothing():
    scene = Scene(config_of(), 7, chunks=(256,), shortest=1536, longest=2500)
    bench = Bench(scene, latency=5)
    bench.memory[scene.tensors["input"].row["base"] + 256] ^= 1
    path = bench.dut.path
    seen = {}

    async def wipe(ctx):
        while not ctx.get(path.fault):
            await ctx.tick()
        # Nobody took the weights: plaintext stands at the port, but is not offered.
        assert ctx.get(path.beat[3].payload)
        await ctx.tick().repeat(100)
        ctx.set(path.wipe, 1)
        await ctx.tick()
        for cycle in range(600):
            if ctx.get(path.wiped):
                seen["cycles"] = cycle
                break
            await ctx.tick()
        await ctx.tick().repeat(2)
        seen["left"] = [ctx.get(port.payload) for port in path.beat]
        seen["valid"] = [ctx.get(port.valid) for port in path.beat]

    bench.extra = [wipe]
    weights = Transfer(Memory.WGT, 3 << OFFSET_BITS, 1, 4, 4)
    inputs = Transfer(Memory.INP, 4 << OFFSET_BITS, 1, 32, 32)
    late = {Client.WGT: [weights], Client.INP: [inputs] * 3}
    result = bench.run(late, deaf=(Client.WGT,), after=700)
    assert result["causes"] == (PlanFault.NONE, ReadFault.TAG)
    assert seen["cycles"] <= 512
    assert seen["left"] == seen["valid"] == [0, 0, 0, 0]
