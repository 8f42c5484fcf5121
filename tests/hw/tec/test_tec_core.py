"""The whole TEC in Verilator beside the golden one: imports, stores, loads, one session."""

import numpy as np
import pytest

from ginseng.bench.engine import beats_of, tec_model, transfer_word
from ginseng.bench.memory import MemoryModel
from ginseng.bench.protected import GatesTec
from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Tec as GoldenTec
from ginseng.isa.config import BusConfig, BusProtocol, Memory, SystemConfig, TecConfig
from ginseng.isa.formats import sealed_bytes
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source
from ginseng.isa.transfer import Client

WINDOW = 1 << 18
LONG = 200_000
LOADS = {
    Client.COMPUTE: (Memory.UOP, Memory.ACC, Memory.ACC_8BIT),
    Client.INP: (Memory.INP,),
    Client.WGT: (Memory.WGT,),
}
QUIET = MemoryModel(name="quiet", latency=(5, 5))
ROUGH = MemoryModel(name="rough", latency=(0, 90), stall=(0.3, 0.4, 0.5, 0.3, 0.5), seed=3)


def row(domain, permissions, base, length, chunk, *, slot=0, measured=0, version=0, plain=0):
    return {
        "domain": domain,
        "permissions": permissions,
        "slot": slot,
        "measured": measured,
        "source": Source.PLAIN if plain else Source.SEALED,
        "chunk": chunk,
        "base": base,
        "length": length,
        "version": version,
    }


class Pair:
    """A golden TEC and one in gates, each with a DRAM of the same bytes."""

    def __init__(self, memory, seed, *, protocol=BusProtocol.AXI4, bits=64):
        self.rng = np.random.default_rng(seed)
        bus = BusConfig(protocol=protocol, data_bits=bits, window_bytes=WINDOW)
        lanes = {64: {}, 512: {"lanes": 4, "half_duplex": False}}[bits]
        self.config = SystemConfig(bus=bus, tec=TecConfig(bitmap_bits=4096, **lanes))
        self.model = tec_model(self.config)
        self.golden_dram = Dram(0, WINDOW)
        self.golden_dram.bytes[:] = self.rng.integers(0, 256, WINDOW, np.uint8)
        self.dram = self.golden_dram.bytes.copy()
        self.model.attach_memory("m_axi__", bus, memory, self.dram)
        self.golden = GoldenTec(self.config, self.golden_dram)
        self.gates = GatesTec(self.model)
        self.rows = {}
        self.free = 0
        #: Length and chunk of rows that have them from their test.
        self.sizes = {}
        self.beats = {}

    def both(self, method, *arguments):
        wanted = getattr(self.golden, method)(*arguments)
        assert getattr(self.gates, method)(*arguments) == wanted, method
        return wanted

    def place(self, nbytes):
        at, self.free = self.free, self.free + -(-nbytes // 128) * 128
        return at

    def add(self, handle, domain, permissions, **fields):
        length = 16 * int(self.rng.integers(40, 400))
        chunk = 16 * int(self.rng.choice([1, 2, 5, 8, 14, 32]))
        length, chunk = self.sizes.get(handle, (length, chunk))
        base = self.place(sealed_bytes(length, chunk))
        self.rows[handle] = row(domain, permissions, base, length, chunk, **fields)
        word = TENSOR_ROW.pack(**self.rows[handle])
        assert self.both("load_row", handle, word) is Refusal.NONE
        return length

    def open(self):
        """Rows of every kind, all in place, and a run on."""
        key = bytes(self.rng.integers(0, 256, 16, np.uint8))
        self.both("begin", key)
        self.both("declare_slot", 1, SlotUse.STATIC)
        self.both("declare_slot", 2, SlotUse.SESSION)
        read, write, execute = Permission.R, Permission.W, Permission.X
        length = self.add(0, Domain.PROGRAM, read | execute, measured=1, plain=1)
        lengths = {0: length, 1: self.add(1, Domain.PROGRAM, read, measured=1, plain=1)}
        lengths[2] = self.add(2, Domain.WEIGHTS, read, measured=1, plain=1)
        for handle in (3, 4):
            self.add(handle, Domain.SCRATCH, read | write)
        self.add(5, Domain.EXPORT, write, slot=2, measured=1)
        for handle, nbytes in lengths.items():
            source = self.place(nbytes)
            assert self.both("check_import", handle, source) is Refusal.NONE
            self.both("import_plain", handle, source)
        assert self.both("lock", 0) is Refusal.NONE
        assert self.both("check_run") is Refusal.RUN_KEY
        for slot in (1, 2):
            self.both("load_key", slot, bytes(self.rng.integers(0, 256, 16, np.uint8)))
        self.same()
        self.both("start_run", 1)
        if not self.beats:
            self.attach()

    def attach(self):
        self.beats = {
            client: self.model.sink(f"memory__{client.name.lower()}__beat")
            for client in (Client.FETCH, *LOADS)
        }
        self.ports = {
            client: self.model.source(f"memory__{client.name.lower()}__descriptor")
            for client in (Client.FETCH, *LOADS, Client.STORE)
        }
        self.data = self.model.source("memory__store__beat")
        self.done = {
            client: self.model.pulses(f"memory__{client.name.lower()}__done")
            for client in self.ports
        }

    def same(self):
        assert np.array_equal(self.dram, self.golden_dram.bytes)

    def base(self, handle, offset):
        return handle << self.config.tec.offset_bits | offset

    def store(self, handle):
        """Write a whole tensor in stores that break where chunks do, or not."""
        fields = self.rows[handle]
        length, chunk = fields["length"], fields["chunk"]
        data = self.rng.integers(0, 256, length, np.uint8)
        at = 0
        count = 0
        while at < length:
            size = chunk * int(self.rng.integers(1, 6))
            size = min(size, length - at)
            self.give_store(handle, at, data[at : at + size])
            at += size
            count += 1
        return count

    def give_store(self, handle, at, data):
        element = self.config.core.element_bytes(Memory.OUT)
        columns = data.nbytes // element
        transfer = Transfer(Memory.OUT, self.base(handle, at // element), 1, columns, columns)
        self.golden.write(transfer, data, 0)
        self.ports[Client.STORE].feed([self.descriptor(transfer, write=1)])
        self.data.feed(beats_of(data.tobytes(), self.config.bus.beat_bytes))

    def descriptor(self, transfer, *, write=0):
        # No load is under way, none has to be waited for.
        sample = self.model.get("memory__issued") if write else 0
        return transfer_word(transfer, write, sample=sample)

    def load(self, client):
        """Draw a load of ``client``; return it with what the golden TEC reads."""
        memory = Memory(self.rng.choice(LOADS[client])) if client in LOADS else Memory.UOP
        unit = INSN_BYTES if client is Client.FETCH else self.config.core.element_bytes(memory)
        handles = [0] if client is Client.FETCH else [1] if memory is Memory.UOP else [2, 3, 4]
        handle = int(self.rng.choice(handles))
        room = self.rows[handle]["length"] // unit
        columns = int(self.rng.integers(1, min(room, 40) + 1))
        rows = 1 if client is Client.FETCH else int(self.rng.choice([1, 1, 2, 3, 0]))
        stride = int(self.rng.choice([columns, columns + 1, 0, columns + 9]))
        span = max(rows - 1, 0) * stride + columns
        if span > room:
            rows, span = 1, columns
        offset = int(self.rng.integers(0, room - span + 1))
        transfer = Transfer(memory, self.base(handle, offset), rows, columns, stride)
        return transfer, self.golden.read(client, transfer).tobytes()

    def run_until(self, ready):
        begin = self.model.cycle
        while not ready():
            assert not self.model.get("fatal"), "the gates met a fault"
            assert self.model.cycle - begin < LONG, "nothing comes any more"
            self.model.run(64, until=("fatal",))


def test_stores_that_wait_for_their_beats_keep_no_load_waiting():
    pair = Pair(QUIET, 5)
    pair.open()
    columns = pair.rows[3]["chunk"] // pair.config.core.element_bytes(Memory.OUT)
    for n in range(2):
        store = Transfer(Memory.OUT, pair.base(3, n * columns), 1, columns, columns)
        pair.ports[Client.STORE].feed([pair.descriptor(store, write=1)])
    pair.model.run(200)

    load = Transfer(Memory.WGT, pair.base(2, 0), 1, 1, 1)
    pair.ports[Client.WGT].feed([pair.descriptor(load)])
    pair.run_until(lambda: pair.done[Client.WGT].count == 1)
    assert pair.done[Client.STORE].count == 0


@pytest.mark.parametrize("memory", [QUIET, ROUGH], ids=lambda m: m.name)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("protocol", "bits"), [(BusProtocol.AXI4, 64)])
def test_a_session_is_that_of_the_golden_tec_byte_for_byte(memory, seed, protocol, bits):
    pair = Pair(memory, seed, protocol=protocol, bits=bits)
    pair.open()

    stores = pair.store(3) + pair.store(4)
    pair.run_until(lambda: pair.done[Client.STORE].count == stores)
    pair.same()

    wanted = {client: [] for client in pair.beats}
    for _ in range(40):
        client = Client(pair.rng.choice(list(pair.beats)))
        transfer, data = pair.load(client)
        pair.ports[client].feed([pair.descriptor(transfer)])
        wanted[client].append(data)
    pair.run_until(lambda: all(pair.done[c].count == len(wanted[c]) for c in wanted))
    step = pair.config.bus.beat_bytes
    for client, parts in wanted.items():
        beats = b"".join(beat.to_bytes(step, "little") for beat in pair.beats[client].take()[0])
        at = 0
        for part in parts:
            assert beats[at : at + len(part)] == part, client
            at += -(-len(part) // step) * step
        assert at == len(beats)

    stores += pair.store(5)
    pair.run_until(lambda: pair.done[Client.STORE].count == stores)
    pair.both("finish_run")
    pair.same()


def test_a_flipped_bit_is_fatal_and_nothing_is_left_in_the_gates():
    pair = Pair(QUIET, 9)
    pair.open()
    transfer, _ = pair.load(Client.WGT)
    while not transfer.rows or transfer.dram_base >> pair.config.tec.offset_bits != 2:
        transfer, _ = pair.load(Client.WGT)
    fields = pair.rows[2]
    at = (transfer.dram_base & (1 << pair.config.tec.offset_bits) - 1) * 256
    pair.dram[fields["base"] + at] ^= 1
    pair.ports[Client.WGT].feed([pair.descriptor(transfer)])
    pair.model.run(LONG, until=("fatal",))
    assert pair.model.get("fatal")
    assert not pair.done[Client.WGT].count
    pair.model.run(LONG, until=("wiped",))
    assert pair.model.get("wiped")
    with pytest.raises(Fatal):
        pair.gates.check_run()


def test_loads_that_fill_their_buffer_ask_for_each_chunk_once():
    pair = Pair(QUIET, 1)
    pair.sizes[2] = 8192, 2048
    pair.open()
    wanted = b""
    for n in range(4):
        transfer = Transfer(Memory.WGT, pair.base(2, 8 * n), 1, 8, 8)
        wanted += pair.golden.read(Client.WGT, transfer).tobytes()
        pair.ports[Client.WGT].feed([pair.descriptor(transfer)])
    pair.run_until(lambda: pair.done[Client.WGT].count == 4)
    step = pair.config.bus.beat_bytes
    beats = pair.beats[Client.WGT].take()[0]
    assert b"".join(beat.to_bytes(step, "little") for beat in beats) == wanted


def test_a_session_that_was_ended_is_followed_by_another():
    pair = Pair(QUIET, 2)
    pair.open()
    transfer, _ = pair.load(Client.INP)
    pair.ports[Client.INP].feed([pair.descriptor(transfer)])
    pair.run_until(lambda: pair.done[Client.INP].count == 1)
    pair.gates.zeroize()
    pair.golden, pair.free = GoldenTec(pair.config, pair.golden_dram), 0
    pair.open()
    stores = pair.store(3)
    pair.run_until(lambda: pair.done[Client.STORE].count == stores)
    pair.same()
