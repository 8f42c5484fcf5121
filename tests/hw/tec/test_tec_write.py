"""The write path against the golden TEC: stores, imports, faults."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from ginseng.bench.axi import AxiMemory
from ginseng.bench.lane import LaneModel
from ginseng.bench.offers import offers
from ginseng.bus.axi import Response
from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Tec
from ginseng.golden.tec.lane import Sealer
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig, Memory, SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.formats import TAG_BYTES, chunk_nonce, chunk_place, sealed_bytes
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source
from ginseng.tec.importer import Importer
from ginseng.tec.shapes import TecShapes
from ginseng.tec.write import WritePath

WINDOW = 1 << 17
R, W, X = (int(p) for p in (Permission.R, Permission.W, Permission.X))
STATIC, SESSION = 1, 2
KEYS = {slot: random.Random(slot).randbytes(16) for slot in (0, STATIC, SESSION)}
RUN, EPOCH, SEALED_VERSION = 5, 3, 77
#: Where owners put what is imported.
SOURCE = 0x18000
NARROW = BusConfig(window_bytes=WINDOW)
BUSES = [NARROW, BusConfig(protocol=BusProtocol.AXI4, data_bits=512, window_bytes=WINDOW)]


@dataclass(frozen=True)
class Tensor:
    """A row of the table, and its nonces' version in this run."""

    handle: int
    domain: Domain
    base: int
    length: int
    chunk: int
    measured: int = 0
    first_bit: int = 0

    def place(self, position):
        """Where a byte of it stands, from its base."""
        index = position // self.chunk
        return chunk_place(index, self.chunk) + position % self.chunk

    @property
    def slot(self):
        return SESSION if self.domain == Domain.EXPORT else 0

    @property
    def prefix(self):
        version = RUN if self.domain == Domain.EXPORT else EPOCH
        return self.domain << 60 | self.handle << 48 | version

    @property
    def chunks(self):
        return -(-self.length // self.chunk)

    @property
    def word(self):
        permissions, measured, source, slot, version = {
            Domain.PROGRAM: (R | X, 1, Source.PLAIN, 0, 0),
            Domain.WEIGHTS: (R, 1, Source.SEALED, STATIC, SEALED_VERSION),
            Domain.SCRATCH: (R | W, 0, Source.SEALED, 0, 0),
            Domain.EXPORT: (W, self.measured, Source.SEALED, SESSION, 0),
        }[self.domain]
        return TENSOR_ROW.pack(
            domain=int(self.domain),
            permissions=permissions,
            slot=slot,
            measured=measured,
            source=int(source),
            version=version,
            chunk=self.chunk,
            base=self.base,
            length=self.length,
        )

    def plan(self, transfer, unit, offset_bits):
        """What the planner makes of a legal transfer."""
        offset = (transfer.dram_base & (1 << offset_bits) - 1) * unit
        stride = transfer.stride * unit
        return self.whole(self.prefix) | {
            "tracked": 1,
            "position": self.place(offset),
            "index": offset // self.chunk,
            "within": offset % self.chunk,
            "row_bytes": transfer.row_elements * unit,
            "rows": transfer.rows,
            "stride": stride,
            "stride_index": stride // self.chunk,
            "stride_within": stride % self.chunk,
            "merge": int(transfer.stride >= transfer.row_elements),
        }

    def whole(self, prefix):
        """The plan of an import in place."""
        return {
            "slot": self.slot,
            "prefix": prefix,
            "base": self.base,
            "extent": sealed_bytes(self.length, self.chunk),
            "chunk": self.chunk,
            "first_bit": self.first_bit,
            "measured": self.measured,
            "row_bytes": self.length,
            "rows": 1,
        }


SCRATCH = Tensor(3, Domain.SCRATCH, 0x8000, 0x930, 0x70)
EXPORT = Tensor(4, Domain.EXPORT, 0xA000, 0x2A0, 0xE0, measured=1, first_bit=SCRATCH.chunks)
PLANE = Tensor(5, Domain.EXPORT, 0xC080, 0xA50, 0x700, first_bit=SCRATCH.chunks + EXPORT.chunks)
PROGRAM = Tensor(0, Domain.PROGRAM, 0x4000, 512, 64)
WEIGHTS = Tensor(1, Domain.WEIGHTS, 0x6000, 0x5D0, 0x150)
TENSORS = (SCRATCH, EXPORT, PLANE)


def golden_session(config, dram):
    """A golden TEC with the tensors above, before any import."""
    tec = Tec(config, dram)
    tec.begin(KEYS[0])
    tec.declare_slot(STATIC, SlotUse.STATIC)
    tec.declare_slot(SESSION, SlotUse.SESSION)
    for tensor in (PROGRAM, WEIGHTS, *TENSORS):
        assert tec.load_row(tensor.handle, tensor.word) is Refusal.NONE
    return tec


def golden_run(config, dram):
    """The same in a run; nobody reads what was imported."""
    tec = golden_session(config, dram)
    tec.import_plain(0, SOURCE)
    assert tec.lock(0) is Refusal.NONE
    seal_source(dram)
    assert tec.load_key(STATIC, KEYS[STATIC]) is Refusal.NONE
    assert tec.load_key(SESSION, KEYS[SESSION]) is Refusal.NONE
    tec.import_sealed(WEIGHTS.handle, SOURCE)
    tec.start_run(RUN)
    return tec


def seal_source(dram):
    """The owner's seal of the weights."""
    plaintext = bytes(dram.read(SOURCE, WEIGHTS.length))
    for index in range(WEIGHTS.chunks):
        begin, end = index * WEIGHTS.chunk, min((index + 1) * WEIGHTS.chunk, WEIGHTS.length)
        nonce = chunk_nonce(WEIGHTS.domain, WEIGHTS.handle, SEALED_VERSION, index)
        sealer = Sealer(KEYS[STATIC], nonce)
        sealed = sealer.update(plaintext[begin:end]) + sealer.finish()
        dram.write(SOURCE + chunk_place(index, WEIGHTS.chunk), sealed)


class Bench:
    """The write path and the importer, with what stands around them."""

    def __init__(self, bus=NARROW, *, stall=0.0, seed=0, imports=False, stop_at=None):
        self.config = SystemConfig(bus=bus)
        self.shapes = TecShapes(self.config)
        self.rng = random.Random(seed)
        self.stall = stall
        self.dut = Module()
        self.write = self.dut.submodules.write = WritePath(self.shapes)
        self.importer = self.dut.submodules.importer = Importer(self.shapes)
        wiring.connect(self.dut, self.importer.write, self.write.importing)
        self.dram = Dram(0, WINDOW)
        self.dram.bytes[SOURCE:] = np.frombuffer(self.rng.randbytes(WINDOW - SOURCE), np.uint8)
        self.golden = (golden_session if imports else golden_run)(self.config, self.dram)
        self.memory = bytearray(self.dram.bytes.tobytes())
        self.axi = AxiMemory(
            _WriteChannels(self.write),
            self.memory,
            bus.beat_bytes,
            bus.burst_bytes // bus.beat_bytes,
            stall=stall,
            seed=seed,
        )
        self.lane = LaneModel(self.write.lane, self.shapes, KEYS, stall=stall, seed=seed)
        self.written = set()
        self.begun = []
        self.blocks = dict.fromkeys(KEYS, 0)
        self.measured = b""
        self.done = 0
        self.counted = []
        self.seal_ok = 1
        self.checks = []
        self.seen = []
        #: Cycles after a stop until all is idle and overwritten.
        self.wipe = 600
        self.stop_at = stop_at

    def pause(self):
        return self.rng.random() < self.stall

    def offer(self, stream, values):
        return offers(stream, values, self.pause)

    async def measure(self, ctx):
        port = self.write.measure
        while True:
            ready = not self.pause()
            ctx.set(port.ready, ready)
            _, _, valid, item = await ctx.tick().sample(port.valid, port.payload)
            if valid and ready:
                self.measured += item.block.to_bytes(16, "little")[: item.nbytes]

    async def control(self, ctx):
        """The bitmap with its list of eight, and the count of blocks."""
        write = self.write
        answers = [None, None]
        while True:
            ready = len(self.begun) < 8 and not self.pause()
            ctx.set(write.chunk_begin.ready, ready)
            ctx.set(write.seal_ok, self.seal_ok)
            _, _, valid, chunk, finish, seal, taken, job = await ctx.tick().sample(
                write.chunk_begin.valid,
                write.chunk_begin.payload,
                write.chunk_finish,
                write.seal,
                write.lane.job.valid & write.lane.job.ready,
                write.lane.job.payload,
            )
            if finish:
                self.begun.pop(0)
            answers.append(None)
            if valid and ready:
                answers[-1] = chunk.bit not in self.written
                self.written.add(chunk.bit)
                self.begun.append(chunk.bit)
            answer = answers.pop(0)
            ctx.set(write.begin_valid, answer is not None)
            ctx.set(write.begin_fresh, bool(answer))
            if seal.valid:
                self.blocks[seal.slot] += seal.blocks
            if taken and job.start and job.seals:
                # Whether the lane has noted this job yet or not.
                jobs = self.lane.jobs if self.lane.jobs[-1:] == [job] else [*self.lane.jobs, job]
                sealed = sum(j.nbytes // 16 for j in jobs if j.last and j.seals)
                counted = sum(self.blocks.values()) - (not job.last)
                assert counted >= sealed, "a job before its blocks were counted"

    def descriptors(self, stores):
        async def process(ctx):
            write = self.write
            unit = self.config.core.element_bytes(Memory.OUT)
            for (tensor, transfer, _), sample in zip(stores, self.samples(stores), strict=True):
                while not ctx.get(write.room) or self.pause():
                    await ctx.tick()
                empty = transfer.rows == 0 or transfer.row_elements == 0
                ctx.set(write.begin, 1)
                ctx.set(write.empty, empty)
                ctx.set(write.sample, sample)
                await ctx.tick()
                ctx.set(write.begin, 0)
                if empty:
                    continue
                ctx.set(write.plan.payload, tensor.plan(transfer, unit, self.offset_bits))
                ctx.set(write.plan.valid, 1)
                ready = False
                while not ready:
                    _, _, ready = await ctx.tick().sample(write.plan.ready)
                ctx.set(write.plan.valid, 0)

        return process

    def samples(self, stores):
        return [0] * len(stores)

    @property
    def offset_bits(self):
        return self.config.tec.offset_bits

    async def count(self, ctx):
        write = self.write
        while True:
            _, _, done, counted, nbytes = await ctx.tick().sample(
                write.done, write.counted, write.nbytes
            )
            if done:
                for check in self.checks[self.done : self.done + 1]:
                    check()
                self.done += 1
            if counted:
                self.counted.append(nbytes)

    async def stopper(self, ctx):
        """The top's sticky fault; also at a cycle of the test's choice."""
        cycle = 0
        while True:
            _, _, fault, stop = await ctx.tick().sample(self.write.fault, self.write.stop)
            cycle += 1
            stop |= fault | (cycle == self.stop_at)
            ctx.set(self.write.stop, stop)
            ctx.set(self.importer.stop, stop)

    async def spy(self, ctx):
        """What W offers, and whether a stop was there."""
        port = self.write
        while True:
            _, _, *now = await ctx.tick().sample(
                port.stop,
                port.w.valid,
                port.w.payload,
                port.w.ready,
                port.aw.valid & port.aw.ready,
                port.lane.job.valid,
            )
            self.seen.append(now)

    async def source(self, ctx):
        """The reading side's client for imports: plain bytes, dense from each plan's start."""
        plan, out = self.importer.plan, self.importer.beat
        beat = self.config.bus.beat_bytes
        while True:
            ctx.set(plan.ready, 1)
            _, _, valid, rows = await ctx.tick().sample(plan.valid, plan.payload)
            if not valid:
                continue
            ctx.set(plan.ready, 0)
            assert (rows.raw, rows.rows) == (1, 1)
            begin = rows.base + rows.position
            for at in range(begin, begin + rows.row_bytes, beat):
                data = self.memory[at : min(at + beat, begin + rows.row_bytes)]
                noise = self.rng.randbytes(beat - len(data))
                await self.offer(out, [int.from_bytes(data + noise, "little")])(ctx)

    def place(self, tensor, epoch, *, sealed, cycles=30_000):
        """Import a tensor; return whether it was done."""
        sim = self.simulator([])
        sim.add_testbench(self.source, background=True)
        done = []

        async def watch(ctx):
            port = self.importer.i
            version = tensor.domain << 60 | tensor.handle << 48
            opening = {"slot": STATIC, "version": SEALED_VERSION}
            ctx.set(
                port.payload, {"sealed": sealed, "source": SOURCE} | (opening if sealed else {})
            )
            ctx.set(port.valid, 1)
            ctx.set(self.write.plan.payload, tensor.whole(version | epoch))
            ctx.set(self.write.plan.valid, 1)
            for _ in range(cycles):
                _, _, ready, taken, stop = await ctx.tick().sample(
                    port.ready, self.write.plan.ready, self.write.stop
                )
                if taken:
                    ctx.set(self.write.plan.valid, 0)
                if ready or stop:
                    break
            done.append(ready)
            ctx.set(port.valid, 0)
            await ctx.tick().repeat(self.wipe if stop else 20)
            assert ctx.get(self.write.idle)
            assert ctx.get(self.write.wiped) == stop

        sim.add_testbench(watch)
        sim.run()
        return done == [1]

    def simulator(self, stores):
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        for process in self.axi.write_processes:
            sim.add_testbench(process, background=True)
        processes = self.measure, self.control, self.count, self.stopper, self.spy
        for process in (self.lane.process, *processes):
            sim.add_testbench(process, background=True)
        sim.add_testbench(self.descriptors(stores), background=True)
        beat = self.config.bus.beat_bytes
        dense = [
            int.from_bytes(data[at : at + beat].tobytes(), "little")
            for _, _, data in stores
            for at in range(0, len(data), beat)
        ]
        sim.add_testbench(self.offer(self.write.beat, dense), background=True)
        return sim

    def run(self, stores, cycles=30_000):
        """Do all stores; return once they completed, a fault came, or time is over."""
        sim = self.simulator(stores)
        result = {}

        async def watch(ctx):
            for cycle in range(cycles):  # noqa: B007
                _, _, stop = await ctx.tick().sample(self.write.stop)
                if self.done == len(stores) or stop:
                    break
            result["cycles"] = cycle
            await ctx.tick().repeat(self.wipe if stop else 20)
            result["fault"] = stop
            for name in ("idle", "open_chunk", "wiped"):
                result[name] = ctx.get(getattr(self.write, name))

        sim.add_testbench(watch)
        sim.run()
        return result


class _WriteChannels:
    """The write channels of a component, for `AxiMemory`."""

    def __init__(self, component):
        self.aw, self.w, self.b = component.aw, component.w, component.b


def store(tensor, element, data, rows=1, stride=0, *, unit=16, offset_bits=26):
    columns = len(data) // unit // rows if rows else 0
    return (
        tensor,
        Transfer(Memory.OUT, tensor.handle << offset_bits | element, rows, columns, stride),
        np.frombuffer(data, np.uint8),
    )


def random_stores(rng, tensor):
    """Stores that fill a tensor, chunk by chunk or several, one chunk in up to four pieces."""
    chunk, length = tensor.chunk // 16, tensor.length // 16
    runs, at = [], 0
    while at < length:
        count = min(rng.choice([1, 1, 2, 5]) * chunk, length - at)
        runs.append((at, count))
        at += count
    rng.shuffle(runs)
    for at, count in runs:
        if count > chunk and count % chunk == 0 and rng.random() < 0.3:
            # Every other chunk, then those between.
            chunks = count // chunk
            for first in range(2):
                rows = (chunks + 1 - first) // 2
                data = rng.randbytes(rows * chunk * 16)
                yield store(tensor, at + first * chunk, data, rows, 2 * chunk)
            continue
        cuts = sorted(rng.sample(range(1, count), min(count - 1, rng.randrange(4))))
        for begin, end in zip([0, *cuts], [*cuts, count], strict=True):
            size = end - begin
            rows = rng.choice([n for n in range(1, size + 1) if size % n == 0])
            yield store(tensor, at + begin, rng.randbytes(size * 16), rows, size // rows)
        if rng.random() < 0.1:
            yield store(tensor, 0, b"", 0)


def mixed_stores(rng):
    """The stores of every tensor; those of one chunk stay together."""
    return [item for tensor in rng.sample(TENSORS, 3) for item in random_stores(rng, tensor)]


def bytes_of(memory, tensor, transfer):
    """The rows of a store, as they stand in memory, with the tags inside of them."""
    offset = (transfer.dram_base & (1 << 26) - 1) * 16
    rows = (offset + r * transfer.stride * 16 for r in range(transfer.rows))
    spans = [
        (tensor.base + tensor.place(at), tensor.base + tensor.place(last) + 1)
        for at in rows
        for last in [at + transfer.row_elements * 16 - 1]
    ]
    return b"".join(bytes(memory[at:end]) for at, end in spans)


@pytest.mark.parametrize("bus", BUSES, ids=["64", "512"])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_stores_leave_dram_and_measurements_as_the_golden_tec_does(bus, stall):
    bench = Bench(bus, stall=stall, seed=int(stall * 10) + bus.data_bits)
    stores = mixed_stores(bench.rng)
    for tensor, transfer, data in stores:
        bench.golden.write(transfer, data, 0)
        wanted = bytes_of(bench.dram.bytes, tensor, transfer)

        def check(tensor=tensor, transfer=transfer, wanted=wanted):
            assert bytes_of(bench.memory, tensor, transfer) == wanted, "completed too early"

        bench.checks.append(check)
    result = bench.run(stores)
    assert (result["fault"], result["idle"], result["open_chunk"]) == (0, 1, 0)
    assert bench.done == len(stores)
    assert bench.memory == bench.dram.bytes.tobytes()
    assert sum(bench.counted) == bench.golden.write_bytes
    assert bench.measured == bench.golden.finish_run()
    assert not bench.begun
    blocks = {0: SCRATCH.length // 16, SESSION: (EXPORT.length + PLANE.length) // 16, STATIC: 0}
    assert bench.blocks == blocks


def test_long_stores_move_one_beat_per_cycle():
    bench = Bench()
    big = Tensor(6, Domain.SCRATCH, 0x8000, 0x1000, 0x800)
    stores = [store(big, n * 128, bytes(0x800)) for n in range(2)]
    cycles = bench.run(stores)["cycles"]
    # Tags are two beats each; the first chunk's first burst and the last tag's way are not hidden.
    assert cycles < 0x1000 // 8 + 2 * 2 + 100


def test_short_chunks_do_not_wait_for_tags():
    bench = Bench()
    rows = Tensor(6, Domain.SCRATCH, 0x8000, 14 * 14 * 16, 14 * 16)
    cycles = bench.run([store(rows, 0, bytes(rows.length), 14, 14)])["cycles"]
    assert cycles < 14 * (14 * 2 + 2) + 120


@pytest.mark.sec("TEC.CIPHERTEXT_ONLY")
@pytest.mark.parametrize("bus", BUSES, ids=["64", "512"])
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_imports_are_measured_and_sealed_in_place_as_the_golden_tec_does(bus, sealed, stall):
    bench = Bench(bus, stall=stall, seed=bus.data_bits, imports=True)
    if sealed:
        bench.golden.import_plain(0, SOURCE)
        assert bench.golden.lock(0) is Refusal.NONE
        seal_source(bench.dram)
        assert bench.golden.load_key(STATIC, KEYS[STATIC]) is Refusal.NONE
        bench.memory[:] = bench.dram.bytes.tobytes()
        measured = bench.golden.import_sealed(WEIGHTS.handle, SOURCE)
        assert bench.place(WEIGHTS, 2, sealed=True)
    else:
        measured = bench.golden.import_plain(0, SOURCE)
        assert bench.place(PROGRAM, 1, sealed=False)
    assert bench.memory == bench.dram.bytes.tobytes()
    assert bench.measured == measured
    assert bench.blocks[0] == (WEIGHTS if sealed else PROGRAM).length // 16


@pytest.mark.parametrize("where", ["first", "last", "tag"])
def test_a_source_that_does_not_open_is_a_fault(where):
    bench = Bench(imports=True)
    seal_source(bench.dram)
    bench.memory[:] = bench.dram.bytes.tobytes()
    end = SOURCE + sealed_bytes(WEIGHTS.length, WEIGHTS.chunk)
    at = {"first": SOURCE, "last": end - TAG_BYTES - 1, "tag": end - 1}[where]
    bench.memory[at] ^= 0x20
    assert not bench.place(WEIGHTS, 2, sealed=True)


def piece_of(tensor, first, blocks, seed=1):
    return store(tensor, first, random.Random(seed).randbytes(16 * blocks))


#: Stores that break a rule of §6; `Tensor.chunk` of SCRATCH is 7 blocks, of EXPORT 14.
BROKEN = {
    "starts inside a chunk": [piece_of(SCRATCH, 1, 6)],
    "leaves a gap": [piece_of(SCRATCH, 0, 2), piece_of(SCRATCH, 3, 4)],
    "repeats a byte": [piece_of(SCRATCH, 0, 2), piece_of(SCRATCH, 1, 6)],
    "goes on with another chunk": [piece_of(SCRATCH, 0, 2), piece_of(SCRATCH, 7, 7)],
    "goes on with another tensor": [piece_of(SCRATCH, 0, 2), piece_of(EXPORT, 2, 12)],
    "starts another tensor": [piece_of(SCRATCH, 0, 2), piece_of(EXPORT, 0, 14)],
    "takes five stores": [piece_of(SCRATCH, n, 1) for n in range(5)],
    "writes a chunk twice": [piece_of(SCRATCH, 0, 7), piece_of(SCRATCH, 0, 7)],
    "jumps before the end of a chunk": [store(SCRATCH, 0, bytes(32), 2, 7)],
    "jumps into a chunk": [store(SCRATCH, 0, bytes(14 * 16), 2, 8)],
    "jumps into a chunk later": [store(SCRATCH, 0, bytes(21 * 16), 3, 15)],
    "repeats a row": [store(SCRATCH, 0, bytes(14 * 16), 2, 0)],
    "jumps from the middle into a chunk": [
        piece_of(SCRATCH, 0, 3),
        store(SCRATCH, 3, bytes(8 * 16), 2, 8),
    ],
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.sec("TEC.CHUNK_WHOLE")
def test_a_store_that_is_not_whole_chunks_in_order_is_a_fault(name):
    bench = Bench(seed=7)
    was = bytes(bench.memory)
    *before, (_, last, last_data) = BROKEN[name]
    for _, transfer, data in before:
        bench.golden.write(transfer, data, 0)
    with pytest.raises(Fatal, match=r"double write|partial write"):
        bench.golden.write(last, last_data, 0)
    result = bench.run(BROKEN[name], cycles=1500)
    assert (result["fault"], result["idle"], result["wiped"]) == (1, 1, 1)
    assert bench.done < len(BROKEN[name])
    changed = [at for at, byte in enumerate(bench.memory) if byte != was[at]]
    assert all(bench.memory[at] == bench.dram.bytes[at] for at in changed)


LEGAL = {
    "four stores": [piece_of(SCRATCH, n, 1 + 3 * (n == 3)) for n in range(4)],
    "from the middle to the start of a chunk": [
        piece_of(SCRATCH, 0, 3),
        store(SCRATCH, 3, bytes(8 * 16), 2, 11),
        piece_of(SCRATCH, 18, 3),
    ],
    "chunks apart": [store(SCRATCH, 7, bytes(3 * 7 * 16), 3, 14)],
    "backwards": [piece_of(SCRATCH, 14, 7), piece_of(SCRATCH, 0, 14)],
}


@pytest.mark.parametrize("name", LEGAL)
def test_chunks_may_come_in_pieces_and_in_any_order(name):
    bench = Bench(seed=8)
    for _, transfer, data in LEGAL[name]:
        bench.golden.write(transfer, data, 0)
    assert not bench.run(LEGAL[name], cycles=1500)["fault"]
    assert bench.done == len(LEGAL[name])
    assert bench.memory == bench.dram.bytes.tobytes()


def test_a_part_of_a_chunk_is_an_open_chunk():
    assert Bench().run([piece_of(SCRATCH, 0, 10)], cycles=1000)["open_chunk"]


@pytest.mark.sec("TEC.BLOCK_LIMIT")
def test_no_block_is_sealed_with_a_key_that_may_not():
    bench = Bench()
    bench.seal_ok = 0
    assert bench.run([piece_of(SCRATCH, 0, 7)], cycles=1000)["fault"]
    assert not bench.lane.jobs


@pytest.mark.parametrize("response", [Response.SLVERR, Response.DECERR, Response.EXOKAY])
@pytest.mark.parametrize("at", [SCRATCH.base + 0x48, SCRATCH.base + SCRATCH.chunk + 8])
def test_a_wrong_response_to_data_or_tag_is_a_fault_that_completes_nothing(response, at):
    bench = Bench(stall=0.2)
    bench.axi.failing = {at: response}
    result = bench.run([piece_of(SCRATCH, 0, 7)], cycles=1000)
    assert (result["fault"], result["idle"], bench.done) == (1, 1, 0)


def test_a_response_to_somebody_else_is_a_fault():
    bench = Bench()
    bench.axi.response_id = 2
    assert bench.run([piece_of(SCRATCH, 0, 7)], cycles=1000)["fault"]
    assert bench.done == 0


@pytest.mark.sec("TEC.FATAL_SILENT")
@pytest.mark.parametrize("stall", [0, 0.4])
def test_after_a_stop_in_any_cycle_only_the_offered_beat_leaves(stall):
    tiny = Tensor(6, Domain.SCRATCH, 0x8000, 0x40, 0x20)
    stores = [piece_of(tiny, 0, 4)]
    cycles = Bench(stall=stall, seed=3).run(stores)["cycles"]
    for cycle in range(1, cycles, 1 if stall == 0 else 6):
        bench = Bench(stall=stall, seed=3, stop_at=cycle)
        bench.wipe = 40
        assert bench.run(stores)["idle"]
        stopped = next(n for n, (stop, *_) in enumerate(bench.seen) if stop)
        after = bench.seen[stopped:]
        # The beat that was offered as the stop came, until it is taken.
        _, offered, beat, *_ = after[0]
        for _, valid, now, ready, *_ in after:
            if offered:
                assert (valid, now) == (1, beat)
                offered = not ready
            else:
                assert not valid or (now.data, now.strobe) == (0, 0)
        assert not any(job for *_, job in after)
        # At most the address that was offered.
        assert sum(address for *_, address, _ in after) <= 1
        assert bench.done == 0


@pytest.mark.sec("TEC.STORE_BARRIER")
@pytest.mark.parametrize(
    ("issued", "verified", "sample"),
    [(5, 3, 4), (2, 0xFFFE, 1), (1, 0xFFF0, 0xFFFF), (40_001, 40_000, 40_001)],
)
def test_a_store_waits_for_the_loads_before_its_sample(issued, verified, sample):
    class Held(Bench):
        def samples(self, stores):
            return [sample] * len(stores)

        async def loads(self, ctx):
            ctx.set(self.write.issued, issued)
            now = verified
            ctx.set(self.write.verified, now)
            while now != sample:
                await ctx.tick().repeat(40)
                assert not any(job or v or a for _, v, _, _, a, job in self.seen)
                now = (now + 1) % (1 << 16)
                ctx.set(self.write.verified, now)

        def simulator(self, stores):
            sim = super().simulator(stores)
            sim.add_testbench(self.loads, background=True)
            return sim

    bench = Held()
    result = bench.run([piece_of(SCRATCH, 0, 7)], cycles=1500)
    assert (result["fault"], bench.done) == (0, 1)
    assert result["cycles"] > 40 * ((sample - verified) % (1 << 16))


@pytest.mark.parametrize(("issued", "verified"), [(7, 7), (40_000, 40_000), (9, 7)])
def test_a_store_of_old_data_waits_for_nothing(issued, verified):
    class Old(Bench):
        def simulator(self, stores):
            sim = super().simulator(stores)

            async def loads(ctx):
                ctx.set(self.write.issued, issued)
                ctx.set(self.write.verified, verified)

            sim.add_testbench(loads, background=True)
            return sim

    bench = Old()
    assert bench.run([piece_of(SCRATCH, 0, 7)], cycles=400)["fault"] == 0
    assert bench.done == 1


def test_elements_smaller_than_a_block_are_refused():
    core = CoreConfig(log_block=3, log_inp_buff_size=13, log_wgt_buff_size=15, log_acc_buff_size=14)
    with pytest.raises(ConfigError, match="whole cipher blocks"):
        TecShapes(SystemConfig(core=core))
