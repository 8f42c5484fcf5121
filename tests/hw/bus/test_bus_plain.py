import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from ginseng.bench.axi import AxiMemory
from ginseng.bench.offers import offers
from ginseng.bench.transfers import Store, random_reads, random_stores
from ginseng.bus.axi import Response
from ginseng.bus.plain import PlainDma
from ginseng.bus.plan import BASES
from ginseng.bus.shapes import READERS
from ginseng.bus.traffic import COUNTERS
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Transfer
from ginseng.isa.config import NAMED_CORES, BusConfig, BusProtocol, CoreConfig, Memory
from ginseng.isa.transfer import Client

WINDOW = 1 << 16
# Every bus is tried in Verilator; here two that differ in everything.
BUSES = [(BusProtocol.AXI3, 64), (BusProtocol.AXI4, 128)]


def bus_of(protocol, bits):
    return BusConfig(protocol=protocol, data_bits=bits, window_bytes=WINDOW)


def fields(transfer):
    return {
        "memory": transfer.memory,
        "dram_base": transfer.dram_base,
        "rows": transfer.rows,
        "row_elements": transfer.row_elements,
        "stride": transfer.stride,
    }


class Bench:
    """A DMA in Amaranth's simulator, its memory, and a golden port on a copy of it."""

    def __init__(self, core, bus, *, stall=0.0, seed=0, bases=None):
        rng = np.random.default_rng(seed)
        self.bus = bus
        self.dut = PlainDma(core, bus)
        self.rng = random.Random(seed)
        self.stall = stall
        self.memory = bytearray(rng.bytes(bus.window_bytes))
        self.axi = AxiMemory(
            self.dut.axi,
            self.memory,
            bus.beat_bytes,
            bus.burst_bytes // bus.beat_bytes,
            stall=stall,
            seed=seed,
        )
        dram = Dram(0, bus.window_bytes)
        dram.bytes[:] = np.frombuffer(self.memory, np.uint8)
        self.golden = PlainPort(dram, core, bus)
        self.bases = bases or {}
        self.golden.bases.update(self.bases)
        self.beats = {client: [] for client in READERS}
        self.done = dict.fromkeys(Client, 0)

    def pause(self):
        return self.rng.random() < self.stall

    def offer(self, stream, values):
        return offers(stream, values, self.pause)

    def take(self, client):
        port = getattr(self.dut.memory, client.name.lower()).beat

        async def process(ctx):
            while True:
                ready = not self.pause()
                ctx.set(port.ready, ready)
                _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
                if ready and valid:
                    self.beats[client].append((beat, self.done[client]))

        return process

    def count(self, client):
        port = getattr(self.dut.memory, client.name.lower())

        async def process(ctx):
            while True:
                _, _, done = await ctx.tick().sample(port.done)
                self.done[client] += done

        return process

    def run(self, reads, stores=(), *, deaf=(), cycles=60_000):
        """Do all transfers; return once all that should have completed did, or time is over."""
        beat_bytes = self.bus.beat_bytes
        wanted = {client: len(items) for client, items in reads.items() if client not in deaf}
        if stores:
            wanted[Client.STORE] = len(stores)
        dense = []
        for store in stores:
            for at in range(0, len(store.data), beat_bytes):
                dense.append(int.from_bytes(store.data[at : at + beat_bytes].tobytes(), "little"))
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        for process in self.axi.processes:
            sim.add_testbench(process, background=True)
        for client, items in reads.items():
            port = getattr(self.dut.memory, client.name.lower())
            sim.add_testbench(self.offer(port.descriptor, map(fields, items)), background=True)
        for client in reads:
            if client not in deaf:
                sim.add_testbench(self.take(client), background=True)
        store = self.dut.memory.store
        sim.add_testbench(
            self.offer(store.descriptor, [{"transfer": fields(s.transfer)} for s in stores]),
            background=True,
        )
        sim.add_testbench(self.offer(store.beat, dense), background=True)
        for client in Client:
            sim.add_testbench(self.count(client), background=True)
        result = {}

        async def watch(ctx):
            for memory, base in self.bases.items():
                ctx.set(self.dut.bases[BASES[memory]], base)
            for _ in range(cycles):
                await ctx.tick()
                if all(self.done[c] >= n for c, n in wanted.items()):
                    break
            await ctx.tick().repeat(20)
            for name in ("fault", "issued"):
                result[name] = ctx.get(getattr(self.dut.memory, name))
            for name in COUNTERS:
                result[name] = ctx.get(getattr(self.dut, name))
            result["idle"] = ctx.get(self.dut.idle)

        sim.add_testbench(watch)
        sim.run()
        return result

    def bytes_of(self, client, sizes):
        """Return what a client got, as one array per descriptor of ``sizes`` bytes."""
        beat_bytes = self.bus.beat_bytes
        beats = iter(self.beats[client])
        arrays = []
        for n, size in enumerate(sizes):
            raw = b""
            for _ in range(-(-size // beat_bytes)):
                beat, done = next(beats)
                assert done <= n, "a completion came before its last beat"
                raw += beat.to_bytes(beat_bytes, "little")
            arrays.append(np.frombuffer(raw[:size], np.uint8))
        assert next(beats, None) is None
        return arrays


def check_reads(bench, reads):
    for client, transfers in reads.items():
        wanted = [bench.golden.read(client, transfer) for transfer in transfers]
        got = bench.bytes_of(client, [len(w) for w in wanted])
        for transfer, one, other in zip(transfers, got, wanted, strict=True):
            assert np.array_equal(one, other), (client, transfer)


@pytest.mark.parametrize(("protocol", "bits"), BUSES)
@pytest.mark.parametrize("stall", [0, 0.4])
def test_every_client_gets_and_stores_what_the_golden_port_does(protocol, bits, stall):
    core = NAMED_CORES["b2k4"] if bits == 128 else CoreConfig()
    bench = Bench(core, bus_of(protocol, bits), stall=stall, seed=bits)
    half = WINDOW // 2
    reads = {c: random_reads(core, c, half, count=6, seed=bits) for c in READERS}
    shift = half // core.element_bytes(Memory.OUT)
    stores = [
        Store(Transfer(t.memory, t.dram_base + shift, t.rows, t.row_elements, t.stride), s.data)
        for s in random_stores(core, half, count=6, seed=bits)
        for t in (s.transfer,)
    ]
    result = bench.run(reads, stores)
    assert bench.done == dict.fromkeys(Client, 6)
    assert not result["fault"]
    assert result["idle"]
    assert result["issued"] == 18
    check_reads(bench, reads)
    for store in stores:
        bench.golden.write(store.transfer, store.data, 0)
    assert bench.memory == bench.golden.dram.bytes.tobytes()
    traffic = bench.golden.traffic
    assert {name: result[name] for name in COUNTERS} == {
        name: getattr(traffic, name) for name in COUNTERS
    }


def test_base_registers_are_added_and_products_wrap():
    core = CoreConfig()
    bases = {Memory.UOP: 0x204, Memory.ACC: 0x1008, Memory.INP: 0x4000, Memory.WGT: 0x30}
    bench = Bench(core, bus_of(BusProtocol.AXI3, 64), bases=bases)
    top = 1 << 32
    reads = {
        Client.COMPUTE: [
            Transfer(Memory.UOP, 3, 2, 5, 9),
            Transfer(Memory.ACC, top // 64 + 2, 1, 3, 3),
            Transfer(Memory.ACC_8BIT, top // 16 + 1, 2, 3, 3),
        ],
        Client.INP: [Transfer(Memory.INP, 1 << 28, 2, 2, 4)],
        Client.WGT: [Transfer(Memory.WGT, (1 << 24) + 1, 1, 2, 2)],
    }
    bench.run(reads)
    check_reads(bench, reads)


def test_a_client_that_takes_nothing_holds_nobody_up():
    core, bus = CoreConfig(), bus_of(BusProtocol.AXI3, 64)
    bench = Bench(core, bus)
    reads = {c: random_reads(core, c, WINDOW, count=8, seed=5, longest=3000) for c in READERS}
    bench.run(reads, deaf=(Client.WGT, Client.FETCH))
    assert bench.done[Client.INP] == bench.done[Client.COMPUTE] == 8
    check_reads(bench, {c: reads[c] for c in (Client.INP, Client.COMPUTE)})


def test_many_bursts_are_open_at_once():
    core, bus = CoreConfig(), bus_of(BusProtocol.AXI3, 64)
    bench = Bench(core, bus, stall=0.3)
    reads = {
        Client.INP: [Transfer(Memory.INP, 0, 1, 200, 200)],
        Client.WGT: [Transfer(Memory.WGT, 0, 1, 12, 12)],
        Client.COMPUTE: [Transfer(Memory.ACC, 0, 1, 50, 50)],
    }
    data = (np.arange(3200) % 251).astype(np.uint8)
    bench.run(reads, [Store(Transfer(Memory.OUT, 2048, 1, 200, 200), data)])
    assert bench.axi.most_reads == bus.outstanding_reads
    assert 2 <= bench.axi.most_writes <= bus.outstanding_writes
    check_reads(bench, reads)


FAULTS = {
    "slave error": ({0x100: Response.SLVERR}, False, Transfer(Memory.INP, 0, 1, 64, 64), {}),
    "decode error": ({0x80: Response.DECERR}, False, Transfer(Memory.INP, 0, 1, 64, 64), {}),
    "exclusive": ({0x80: Response.EXOKAY}, False, Transfer(Memory.INP, 0, 1, 64, 64), {}),
    "early last": ({}, True, Transfer(Memory.INP, 0, 1, 64, 64), {}),
    "outside": ({}, False, Transfer(Memory.INP, WINDOW // 16 - 1, 1, 2, 2), {}),
    "misaligned base": ({}, False, Transfer(Memory.INP, 0, 1, 1, 1), {Memory.INP: 8}),
    "base too high": ({}, False, Transfer(Memory.INP, 0, 1, 1, 1), {Memory.INP: 1 << 40}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_memory_refuses_is_a_fault_that_completes_nothing(name):
    failing, premature, transfer, bases = FAULTS[name]
    bench = Bench(CoreConfig(), bus_of(BusProtocol.AXI3, 64), bases=bases)
    bench.axi.failing = failing
    bench.axi.premature = premature
    result = bench.run({Client.INP: [transfer] * 3}, cycles=600)
    assert result["fault"]
    assert bench.done[Client.INP] == 0


def test_a_refused_write_is_a_fault_and_open_bursts_end():
    bench = Bench(CoreConfig(), bus_of(BusProtocol.AXI3, 64), stall=0.2)
    bench.axi.failing = {0x188: Response.SLVERR}
    data = np.ones(16 * 200, np.uint8)
    store = Store(Transfer(Memory.OUT, 0, 1, 200, 200), data)
    result = bench.run({}, [store], cycles=1500)
    assert result["fault"]
    assert result["idle"]
    assert bench.done[Client.STORE] == 0
