"""Loads and stores through the TEC against plain memory (TEC specification §2, §5, §6)."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Tec
from ginseng.isa.config import BusConfig, CoreConfig, Memory, SystemConfig, TecConfig
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source
from ginseng.isa.transfer import Client

R, W, X = (int(p) for p in (Permission.R, Permission.W, Permission.X))
LOADS = {
    Memory.UOP: Client.COMPUTE,
    Memory.ACC: Client.COMPUTE,
    Memory.ACC_8BIT: Client.COMPUTE,
    Memory.INP: Client.INP,
    Memory.WGT: Client.WGT,
}


class Device:
    """A TEC in a run, with a program, micro-ops, one owner's tensor, scratch and an export."""

    PROGRAM, UOPS, DATA, SCRATCH, EXPORT = 0, 1, 2, 5, 63

    def __init__(
        self,
        owner,
        data,
        *,
        chunk=64,
        lazy=False,
        out=(256, 64),
        batch=0,
        block=4,
        key_bits=128,
        dram=None,
    ):
        self.config = SystemConfig(
            core=CoreConfig(log_batch=batch, log_block=block, log_acc_buff_size=15 + batch)
            if (batch, block) != (0, 4)
            else CoreConfig(),
            tec=TecConfig(key_bits=key_bits),
            bus=BusConfig(window_bytes=1 << 17),
        )
        self.data, self.chunk = data, chunk
        self.program = random.Random(1).randbytes(512)
        self.dram = Dram(0, 1 << 17) if dram is None else dram
        tec = self.tec = Tec(self.config, self.dram, lazy=lazy)
        key = bytes(range(key_bits // 8))
        tec.begin(bytes(reversed(key)))
        tec.declare_slot(1, SlotUse.STATIC)
        tec.declare_slot(2, SlotUse.SESSION)
        program = {"permissions": R | X, "measured": 1, "source": int(Source.PLAIN), "length": 512}
        length, out_chunk = out
        for handle, domain, fields in (
            (self.PROGRAM, Domain.PROGRAM, {**program, "chunk": 64}),
            (self.UOPS, Domain.PROGRAM, {**program, "chunk": 64, "permissions": R}),
            (
                self.DATA,
                Domain.WEIGHTS,
                {"permissions": R, "slot": 1, "length": len(data), "chunk": chunk, "version": 3},
            ),
            (self.SCRATCH, Domain.SCRATCH, {"permissions": R | W, "length": length}),
            (self.EXPORT, Domain.EXPORT, {"permissions": W, "slot": 2, "length": length}),
        ):
            place = {"base": 0x1000 + 0x3000 * min(handle, 8), "chunk": out_chunk}
            word = TENSOR_ROW.pack(domain=int(domain), **{**place, **fields})
            assert tec.load_row(handle, word) is Refusal.NONE
        self.dram.write(0x1E000, self.program)
        tec.import_plain(self.PROGRAM, 0x1E000)
        tec.import_plain(self.UOPS, 0x1E000)
        sealed = owner.seal(key, Domain.WEIGHTS, self.DATA, 3, chunk, data)
        self.dram.write(0x1000 + 0x3000 * self.DATA, sealed)
        assert tec.lock(self.PROGRAM) is Refusal.NONE
        assert tec.load_key(1, key) is Refusal.NONE
        assert tec.load_key(2, bytes(len(key))) is Refusal.NONE
        tec.start_run(1)

    def base(self, handle, offset=0):
        return handle << self.config.tec.offset_bits | offset

    def load(self, handle, offset, rows, count, stride, memory=Memory.INP, client=None):
        transfer = Transfer(memory, self.base(handle, offset), rows, count, stride)
        return self.tec.read(LOADS[memory] if client is None else client, transfer).tobytes()

    def store(self, handle, offset, rows, count, stride, data, memory=Memory.OUT, sample=0):
        transfer = Transfer(memory, self.base(handle, offset), rows, count, stride)
        self.tec.write(transfer, np.frombuffer(data, np.uint8), sample)


@pytest.fixture
def device(owner):
    return Device(owner, random.Random(5).randbytes(1024))


def dead(device):
    with pytest.raises(Fatal, match="dead"):
        device.tec.rows()


CONFIGS = st.sampled_from([(0, 4, 128), (1, 4, 128), (0, 5, 256), (1, 5, 128)])


@pytest.mark.sec("TEC.RANGE_UNWRAPPED")
@settings(max_examples=60, deadline=None)
@given(
    CONFIGS,
    st.integers(0, 10**9),
    st.integers(1, 96).map(lambda n: 16 * n),
    st.sampled_from([16, 32, 48, 64, 240, 512, 4096]),
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(list(LOADS)),
            st.integers(0, 90),
            st.integers(0, 5),
            st.integers(0, 12),
            st.integers(0, 20),
        ),
        max_size=12,
    ),
)
def test_loads_return_what_plain_memory_would(owner, config, seed, length, chunk, lazy, loads):
    batch, block, key_bits = config
    data = random.Random(seed).randbytes(length)
    shape = {"batch": batch, "block": block, "key_bits": key_bits}
    device = Device(owner, data, chunk=chunk, lazy=lazy, **shape)
    issued = 0
    for memory, offset, rows, count, stride in loads:
        unit = device.config.core.element_bytes(memory)
        source, handle = (
            (device.program, Device.UOPS) if memory is Memory.UOP else (data, Device.DATA)
        )
        starts = [(offset + row * stride) * unit for row in range(rows)]
        if count and any(start + count * unit > len(source) for start in starts):
            with pytest.raises(Fatal, match="range"):
                device.load(handle, offset, rows, count, stride, memory)
            dead(device)
            return
        expected = b"".join(source[start : start + count * unit] for start in starts)
        assert device.load(handle, offset, rows, count, stride, memory) == expected
        issued += 1
        assert device.tec.issued == issued
        assert device.tec.verified == issued or lazy
    while device.tec.settle():
        pass
    assert device.tec.verified == issued


def chop(rng, length, chunk, unit):
    """Cut a tensor into stores: a chunk in at most four, many chunks in one, in chunk order."""
    order = list(range(-(-length // chunk)))
    rng.shuffle(order)
    pieces, at = [], 0
    while at < len(order):
        run = 1
        while at + run < len(order) and order[at + run] == order[at] + run and rng.random() < 0.5:
            run += 1
        first, last = order[at] * chunk, min((order[at] + run) * chunk, length)
        cuts = sorted(
            rng.sample(range(unit, last - first, unit), min(3, (last - first) // unit - 1))
        )
        edges = [0, *cuts[: rng.randrange(4)], last - first]
        pieces += [(first + a, first + b) for a, b in itertools.pairwise(edges)]
        at += run
    return pieces


@pytest.mark.sec("TEC.CIPHERTEXT_ONLY")
@settings(max_examples=60, deadline=None)
@given(CONFIGS, st.integers(0, 10**9), st.integers(1, 24), st.sampled_from([1, 2, 3, 5]))
def test_whole_chunks_stored_in_any_legal_pieces_read_back(owner, config, seed, units, chunk_units):
    batch, block, key_bits = config
    rng = random.Random(f"stores {seed}")
    unit = 1 << batch + block
    length, chunk = units * unit, chunk_units * unit
    shape = {"batch": batch, "block": block, "key_bits": key_bits}
    device = Device(owner, bytes(16), out=(length, chunk), **shape)
    data = rng.randbytes(length)
    for handle in (Device.SCRATCH, Device.EXPORT):
        for first, last in chop(rng, length, chunk, unit):
            count = (last - first) // unit
            device.store(handle, first // unit, 1, count, count, data[first:last])
    for _ in range(4):
        first = rng.randrange(units)
        count = rng.randint(1, units - first)
        read = device.load(Device.SCRATCH, first, 1, count, count, Memory.ACC_8BIT)
        assert read == data[first * unit : (first + count) * unit]
    device.tec.finish_run()
    # No 16 bytes of plaintext are anywhere in DRAM.
    dram = device.dram.bytes.tobytes()
    assert not any(data[at : at + 16] in dram for at in range(0, length - 15, 16))


@pytest.mark.parametrize(
    ("offset", "rows", "count", "stride", "fetched"),
    [
        (0, 1, 1, 1, [0]),  # over-fetch: one element, the whole chunk
        (3, 1, 2, 2, [0, 1]),
        (0, 4, 1, 1, [0]),  # rows that follow each other share a chunk
        (0, 2, 2, 2, [0]),
        (0, 2, 2, 1, [0, 0]),  # overlapping rows do not
        (0, 3, 4, 0, [0, 0, 0]),
        (0, 3, 1, 4, [0, 1, 2]),
        (2, 2, 4, 4, [0, 1, 2]),
        (2, 2, 4, 3, [0, 1, 1, 2]),
        (0, 2, 1, 60, [0, 15]),
        (0, 0, 4, 4, []),
        (0, 4, 0, 4, []),
    ],
)
def test_chunks_are_fetched_whole_and_shared_by_rows_in_order(
    owner, offset, rows, count, stride, fetched
):
    data = random.Random(2).randbytes(1024)

    class Watching(Dram):
        def read(self, address, nbytes):
            if nbytes == 80 and address in range(0x7000, 0x7500):
                seen.append((address - 0x7000) // 80)
            return super().read(address, nbytes)

    seen = []
    device = Device(owner, data, dram=Watching(0, 1 << 17))
    before = device.tec.read_bytes
    device.load(Device.DATA, offset, rows, count, stride)
    assert seen == fetched
    assert device.tec.read_bytes - before >= 80 * len(fetched)


def test_counters_include_over_fetch_and_tags(device):
    tec = device.tec
    assert (tec.read_bytes, tec.read_bursts, tec.write_bytes, tec.write_bursts) == (0, 0, 0, 0)
    device.load(Device.DATA, 0, 1, 1, 1)
    # One chunk and its tag; AXI3 bursts of 16 beats of 8 bytes.
    assert (tec.read_bytes, tec.read_bursts) == (64 + 16, 1)
    device.load(Device.DATA, 60, 1, 4, 4)
    assert (tec.read_bytes, tec.read_bursts) == (2 * (64 + 16), 2)
    device.store(Device.SCRATCH, 0, 1, 16, 16, bytes(256))
    assert (tec.write_bytes, tec.write_bursts) == (256 + 4 * 16, 4 + 4)
    device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256))
    tec.finish_run()
    tec.start_run(2)
    assert (tec.read_bytes, tec.read_bursts, tec.write_bytes, tec.write_bursts) == (0, 0, 0, 0)


@pytest.mark.sec("TEC.RANGE_UNWRAPPED")
@pytest.mark.parametrize(
    ("memory", "offset", "rows", "count", "stride"),
    [
        (Memory.INP, 64, 1, 1, 1),
        (Memory.INP, 63, 1, 2, 2),
        (Memory.INP, 0, 2, 1, 64),
        (Memory.INP, (1 << 26) - 1, 1, 1, 1),
        (Memory.INP, (1 << 26) - 1, 1, 2, 2),  # offset + count wraps the offset's bits
        (Memory.WGT, 1 << 24, 1, 1, 1),  # byte offset 2**32: plain VTA would wrap to 0
        (Memory.WGT, (1 << 24) + 1, 1, 1, 1),
        (Memory.ACC, 1 << 25, 2, 1, 0),
        (Memory.INP, 0, 65535, 65535, 65535),
        (Memory.INP, 0, 65535, 1, 65535),
        (Memory.INP, 0, 1, 65535, 0),
    ],
)
def test_no_offset_wraps_back_into_the_tensor(device, memory, offset, rows, count, stride):
    before = device.tec.read_bytes
    with pytest.raises(Fatal, match="range"):
        device.load(Device.DATA, offset, rows, count, stride, memory)
    assert device.tec.read_bytes == before, "an address was issued before the range was known"
    dead(device)


@pytest.mark.sec("TEC.RANGE_UNWRAPPED")
def test_the_range_is_exact_for_elements_smaller_than_a_block(owner):
    for count in (1, 2):
        device = Device(owner, bytes(64))
        assert device.load(Device.UOPS, 127, 1, 1, 1, Memory.UOP) == device.program[508:]
        with pytest.raises(Fatal, match="range"):
            device.load(Device.UOPS, 129 - count, 1, count, 1, Memory.UOP)
        dead(device)


@pytest.mark.sec("TEC.RANGE_UNWRAPPED")
def test_a_store_beyond_the_tensor_writes_nothing(device):
    before = device.dram.bytes.copy()
    with pytest.raises(Fatal, match="range"):
        device.store(Device.SCRATCH, 0, 5, 4, 4, bytes(320))
    assert np.array_equal(before, device.dram.bytes)
    dead(device)


def test_nothing_is_checked_of_a_transfer_that_moves_nothing(device):
    """x_size or y_size of zero: no entry is touched, not even one that does not exist."""
    for rows, count in ((0, 5), (5, 0), (0, 0)):
        assert device.load(40, 1 << 25, rows, count, 1) == b""
        assert device.load(40, 0, rows, count, 1, client=Client.FETCH) == b""
        device.store(40, 1 << 25, rows, count, 1, b"", sample=10**6)
    assert (device.tec.issued, device.tec.verified) == (3, 3)


@pytest.mark.parametrize("handle", [3, 6, 62])
def test_a_handle_without_a_row_is_fatal(owner, handle):
    for action in (
        lambda device: device.load(handle, 0, 1, 1, 1),
        lambda device: device.store(handle, 0, 1, 1, 1, bytes(16)),
    ):
        device = Device(owner, bytes(64))
        with pytest.raises(Fatal, match="handle"):
            action(device)
        dead(device)


def test_permissions_hold_for_every_client(owner):
    for handle in (Device.PROGRAM, Device.UOPS, Device.DATA):
        device = Device(owner, bytes(64))
        with pytest.raises(Fatal, match="permission"):
            device.store(handle, 0, 1, 4, 4, bytes(64))
        dead(device)
    for memory in (Memory.INP, Memory.WGT, Memory.ACC, Memory.ACC_8BIT, Memory.UOP):
        device = Device(owner, bytes(64))
        device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256))
        with pytest.raises(Fatal, match="permission"):
            device.load(Device.EXPORT, 0, 1, 1, 1, memory)
        dead(device)


@pytest.mark.sec("TEC.FETCH_X_ONLY")
@pytest.mark.parametrize("handle", [Device.UOPS, Device.DATA, Device.SCRATCH, Device.EXPORT])
def test_instructions_come_from_the_x_row_only(owner, handle):
    device = Device(owner, bytes(256))
    assert device.load(Device.PROGRAM, 0, 1, 32, 32, client=Client.FETCH) == device.program
    assert device.tec.issued == 0
    with pytest.raises(Fatal, match="permission"):
        device.load(handle, 0, 1, 1, 1, client=Client.FETCH)
    dead(device)


@pytest.mark.sec("TEC.UOP_DOMAIN")
@pytest.mark.parametrize("handle", [Device.DATA, Device.SCRATCH])
def test_micro_ops_come_from_programs_only(owner, handle):
    device = Device(owner, bytes(256))
    assert device.load(Device.UOPS, 3, 1, 2, 2, Memory.UOP) == device.program[12:20]
    assert device.load(Device.PROGRAM, 3, 1, 2, 2, Memory.UOP) == device.program[12:20]
    assert device.load(Device.UOPS, 0, 1, 2, 2, Memory.INP) == device.program[:32]
    with pytest.raises(Fatal, match="micro-ops from data"):
        device.load(handle, 0, 1, 1, 1, Memory.UOP)
    dead(device)


@pytest.mark.parametrize(
    ("client", "memory"),
    [
        (client, memory)
        for client in (Client.COMPUTE, Client.INP, Client.WGT, Client.STORE)
        for memory in Memory
        if LOADS.get(memory) is not client
    ],
)
def test_a_client_loads_its_own_memory_types_only(device, client, memory):
    with pytest.raises(Fatal, match="memory id"):
        device.load(Device.DATA, 0, 1, 1, 1, memory, client)
    dead(device)


@pytest.mark.parametrize("memory", [m for m in Memory if m is not Memory.OUT])
def test_only_results_are_stored(device, memory):
    with pytest.raises(Fatal, match="memory id"):
        device.store(Device.SCRATCH, 0, 1, 4, 4, bytes(64), memory)
    dead(device)


@pytest.mark.sec("TEC.CHUNK_WHOLE")
@pytest.mark.parametrize(
    ("stores", "cause"),
    [
        # (handle, offset, rows, count, stride) in 16-byte elements; a chunk has 4.
        ([(5, 1, 1, 3, 3)], "partial write"),  # starts inside a chunk
        ([(5, 0, 1, 2, 2), (5, 3, 1, 1, 1)], "partial write"),  # gap
        ([(5, 0, 1, 2, 2), (5, 1, 1, 3, 3)], "partial write"),  # repeat
        ([(5, 0, 1, 2, 2), (5, 0, 1, 4, 4)], "partial write"),
        ([(5, 0, 1, 2, 2), (5, 4, 1, 4, 4)], "partial write"),  # another chunk first
        ([(5, 0, 1, 2, 2), (63, 0, 1, 4, 4)], "partial write"),  # another tensor first
        ([(5, 0, 1, 2, 2), (63, 2, 1, 2, 2)], "partial write"),
        ([(5, 0, 2, 2, 3)], "partial write"),  # gap between rows
        ([(5, 0, 2, 3, 2)], "partial write"),  # rows overlap
        ([(5, 0, 2, 4, 0)], "double write"),
        ([(5, 0, 4, 1, 4)], "partial write"),  # columns
        ([(5, 3, 1, 2, 2)], "partial write"),
        ([(5, 0, 1, 6, 6), (5, 0, 1, 4, 4)], "partial write"),
        ([(5, 0, 1, 4, 4), (5, 0, 1, 4, 4)], "double write"),
        ([(5, 0, 1, 16, 16), (5, 12, 1, 4, 4)], "double write"),
        ([(5, 4, 1, 4, 4), (5, 0, 1, 16, 16)], "double write"),
        ([(63, 0, 1, 4, 4), (63, 0, 1, 1, 1)], "double write"),
    ],
)
def test_a_store_that_is_no_whole_chunk_in_order_is_fatal(device, stores, cause):
    for handle, offset, rows, count, stride in stores[:-1]:
        device.store(handle, offset, rows, count, stride, bytes(16 * rows * count))
    handle, offset, rows, count, stride = stores[-1]
    with pytest.raises(Fatal, match=cause):
        device.store(handle, offset, rows, count, stride, bytes(16 * rows * count))
    dead(device)


@pytest.mark.sec("TEC.CHUNK_WHOLE")
def test_a_chunk_continues_over_four_stores_and_not_five(owner):
    data = random.Random(3).randbytes(128)
    device = Device(owner, bytes(64), out=(128, 128))
    for offset, count in ((0, 2), (2, 1), (3, 1), (4, 4)):
        device.store(Device.SCRATCH, offset, 1, count, 1, data[16 * offset :][: 16 * count])
    assert device.load(Device.SCRATCH, 0, 1, 8, 8) == data
    for offset in range(4):
        device.store(Device.EXPORT, offset, 1, 1, 1, bytes(16))
    with pytest.raises(Fatal, match="partial write"):
        device.store(Device.EXPORT, 4, 1, 4, 4, bytes(64))
    dead(device)


def test_the_rows_of_a_store_may_be_many_chunks_in_any_order_of_whole_chunks(device):
    data = random.Random(4).randbytes(256)
    device.store(Device.SCRATCH, 0, 2, 4, 8, data[:64] + data[128:192])
    device.store(Device.SCRATCH, 12, 1, 4, 4, data[192:])
    device.store(Device.SCRATCH, 4, 4, 1, 1, data[64:128])
    assert device.load(Device.SCRATCH, 0, 1, 16, 16) == data


@pytest.mark.sec("TEC.WRITTEN_BITMAP")
def test_a_chunk_is_read_only_after_it_was_written_in_this_run(owner):
    def fresh():
        device = Device(owner, bytes(64))
        device.store(Device.SCRATCH, 0, 1, 6, 6, bytes(range(96)))
        return device

    device = fresh()
    assert device.load(Device.SCRATCH, 0, 1, 4, 4) == bytes(range(64))
    with pytest.raises(Fatal, match="unwritten chunk"):
        device.load(Device.SCRATCH, 4, 1, 1, 1)  # begun, not ended
    dead(device)
    device = fresh()
    with pytest.raises(Fatal, match="unwritten chunk"):
        device.load(Device.SCRATCH, 8, 1, 1, 1)  # not begun
    device = fresh()
    device.store(Device.SCRATCH, 6, 1, 10, 10, bytes(160))
    device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256))
    device.tec.finish_run()
    device.tec.start_run(2)
    with pytest.raises(Fatal, match="unwritten chunk"):
        device.load(Device.SCRATCH, 0, 1, 1, 1)  # written in the run before
    dead(device)


@pytest.mark.sec("TEC.CHUNK_WHOLE")
@pytest.mark.sec("TEC.EXPORT_COMPLETE")
def test_finish_needs_every_export_and_no_open_chunk(owner):
    device = Device(owner, bytes(64))
    device.store(Device.EXPORT, 0, 1, 12, 12, bytes(192))
    with pytest.raises(Fatal, match="unwritten export"):
        device.tec.finish_run()
    dead(device)
    device = Device(owner, bytes(64))
    device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256))
    device.store(Device.SCRATCH, 0, 1, 2, 2, bytes(32))
    with pytest.raises(Fatal, match="partial write"):
        device.tec.finish_run()
    dead(device)
    device = Device(owner, bytes(64))
    device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256))
    device.store(Device.SCRATCH, 0, 1, 4, 4, bytes(64))
    assert device.tec.finish_run() == b"", "an unmeasured export leaves no measurement"


@pytest.mark.sec("TEC.STORE_BARRIER")
def test_a_store_before_the_loads_it_depends_on_verified_is_fatal(owner):
    for settled, sample in ((0, 1), (0, 2), (1, 2), (2, 3)):
        device = Device(owner, bytes(256), lazy=True)
        device.load(Device.DATA, 0, 1, 1, 1)
        device.load(Device.DATA, 1, 1, 1, 1, Memory.ACC_8BIT)
        for _ in range(settled):
            assert device.tec.settle()
        assert (device.tec.issued, device.tec.verified) == (2, settled)
        before = device.dram.bytes.copy()
        with pytest.raises(Fatal, match="store barrier"):
            device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256), sample=sample)
        assert np.array_equal(before, device.dram.bytes), "a beat left before the barrier"
        dead(device)


@pytest.mark.sec("TEC.STORE_BARRIER")
@pytest.mark.sec("TEC.VERIFY_BEFORE_USE")
def test_a_forged_load_never_counts_as_verified_and_loads_verify_in_order(owner):
    device = Device(owner, random.Random(0).randbytes(256), lazy=True)
    device.dram.bytes[0x7000 + 64 + 16] ^= 1
    assert device.load(Device.DATA, 0, 1, 4, 4) == device.data[:64]
    assert device.load(Device.DATA, 4, 1, 4, 4) != device.data[64:128]
    assert device.load(Device.DATA, 0, 0, 4, 4) == b""
    assert device.load(Device.DATA, 8, 1, 4, 4) == device.data[128:192]
    assert (device.tec.issued, device.tec.verified) == (4, 0)
    assert device.tec.settle()
    assert device.tec.verified == 1
    device.store(Device.SCRATCH, 0, 1, 4, 4, bytes(64), sample=1)
    with pytest.raises(Fatal, match="tag"):
        device.tec.settle()
    dead(device)


@pytest.mark.sec("TEC.VERIFY_BEFORE_USE")
def test_a_run_does_not_finish_over_an_unverified_load(owner):
    device = Device(owner, bytes(256), lazy=True)
    device.dram.bytes[0x7000] ^= 1
    device.store(Device.EXPORT, 0, 1, 16, 16, bytes(256))
    device.load(Device.DATA, 0, 1, 1, 1)
    with pytest.raises(Fatal, match="tag"):
        device.tec.finish_run()
    dead(device)


def test_empty_loads_are_verified_once_those_before_them_are(owner):
    device = Device(owner, bytes(256), lazy=True)
    device.load(Device.DATA, 0, 0, 1, 1)
    assert (device.tec.issued, device.tec.verified) == (1, 1)
    device.load(Device.DATA, 0, 1, 1, 1)
    device.load(Device.DATA, 0, 1, 0, 1)
    assert (device.tec.issued, device.tec.verified) == (3, 1)
    assert device.tec.settle()
    assert device.tec.verified == 3
    assert not device.tec.settle()


@pytest.mark.sec("TEC.FETCH_VERIFIED")
def test_fetched_instructions_are_verified_on_return_even_if_loads_are_not(owner):
    device = Device(owner, bytes(256), lazy=True)
    device.dram.bytes[0x1000 + 511 + 7 * 16] ^= 0x80
    assert device.load(Device.PROGRAM, 0, 1, 28, 28, client=Client.FETCH) == device.program[:448]
    with pytest.raises(Fatal, match="tag"):
        device.load(Device.PROGRAM, 28, 1, 1, 1, client=Client.FETCH)
    dead(device)
