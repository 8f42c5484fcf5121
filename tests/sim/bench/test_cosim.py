"""The gates over a golden memory port: what the port refuses, and what only gates can break."""

import numpy as np
import pytest

from ginseng.bench.cosim import GatesCore
from ginseng.bench.errors import BenchError
from ginseng.bench.port import PortTiming
from ginseng.bench.programs import random_program
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Fatal
from ginseng.golden.vta.schedule import stream_order
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, Opcode, instruction_set

pytestmark = pytest.mark.rtl

CONFIG = CoreConfig()


class LatePort(PlainPort):
    """Verifies a read only when it is asked to, and remembers when stores came."""

    def __init__(self, dram):
        super().__init__(dram, CONFIG, BusConfig())
        self.settled = 0
        self.stores = []

    @property
    def verified(self):
        return self.settled

    def settle(self):
        self.settled += 1
        return True

    def write(self, transfer, data, sample):
        self.stores.append((sample, self.settled))
        super().write(transfer, data, sample)


def gates(model, port, **how):
    core = GatesCore(model(CONFIG), CONFIG, BusConfig(), port, **how)
    core.reset()
    return core


def program_of(insns, dram):
    words = b"".join(instruction_set(CONFIG).encode(op, **fields) for op, fields in insns)
    dram.write(0, words)
    return 0, len(words) // INSN_BYTES


def load(memory, **fields):
    return Opcode.LOAD, {"memory": memory, "y_size": 1, "x_size": 4, "x_stride": 4} | fields


STORE = (Opcode.STORE, {"memory": Memory.OUT, "dram_base": 256, "y_size": 1, "x_size": 4})
FINISH = (Opcode.FINISH, {})


@pytest.mark.sec("TEC.STORE_BARRIER")
@pytest.mark.parametrize("seed", range(6))
def test_no_store_is_written_before_the_loads_it_may_depend_on_are_verified(core_gates, seed):
    program = random_program(CONFIG, 50 + seed)
    port = LatePort(Dram(0, 1 << 20))
    port.dram.bytes[: len(program.image)] = program.image
    timing = PortTiming(latency=(0, 200), idle=0.5, stall=0.5, seed=seed)
    core = gates(core_gates, port, timing=timing)
    core.start(program.insn_addr // INSN_BYTES, program.insn_count)
    core.run()
    assert port.stores
    assert all(sample <= settled for sample, settled in port.stores)
    assert any(sample > 0 for sample, _ in port.stores)


@pytest.mark.sec("TEC.STORE_BARRIER")
def test_a_store_without_tokens_waits_for_the_load_of_its_accumulators(core_gates):
    port = LatePort(Dram(0, 1 << 16))
    core = gates(core_gates, port, timing=PortTiming(latency=(100, 100)))
    # The last no-op of compute waits for the store, which waits for nothing.
    insns = [
        load(Memory.ACC, dram_base=16, push_next=1),
        (Opcode.STORE, STORE[1] | {"pop_prev": 1, "push_prev": 1}),
        (Opcode.LOAD, {"memory": Memory.UOP, "pop_next": 1}),
        FINISH,
    ]
    core.start(*program_of(insns, port.dram))
    core.run()
    assert port.stores == [(1, 1)]


@pytest.mark.parametrize(
    ("name", "insns"),
    [
        ("no FINISH", [load(Memory.UOP)]),
        ("a token that nobody pushes", [load(Memory.UOP, pop_prev=1), FINISH]),
        ("a token left over", [load(Memory.INP, push_next=1), FINISH]),
        ("FINISH before the end", [FINISH, load(Memory.UOP), FINISH]),
        ("a load past its scratchpad", [load(Memory.UOP, sram_base=8190), FINISH]),
    ],
)
def test_what_no_program_may_do_is_fatal_and_a_reset_leaves_it(core_gates, name, insns):
    port = PlainPort(Dram(0, 1 << 16), CONFIG, BusConfig())
    core = gates(core_gates, port)
    core.start(*program_of(insns, port.dram))
    with pytest.raises(Fatal):
        core.run()
    core.reset()
    core.start(*program_of([load(Memory.UOP), FINISH], port.dram))
    core.run()
    assert core.counters.insns == 2


def test_a_refusal_of_the_port_stops_the_core_for_ever(core_gates):
    port = PlainPort(Dram(0, 1 << 16), CONFIG, BusConfig())
    core = gates(core_gates, port)
    outside = [load(Memory.UOP, dram_base=1 << 20), FINISH]
    core.start(*program_of(outside, port.dram))
    with pytest.raises(Fatal, match="bus error"):
        core.run()
    core.start(*program_of([FINISH], port.dram))
    with pytest.raises(Fatal, match="fault of the core"):
        core.run()


def test_scratchpads_read_zero_after_clear(core_gates, pair):
    both = pair()
    assert both.run(random_program(CONFIG, 3))
    assert both.accumulators().any()
    both.gates.clear()
    assert not both.accumulators().any()


def test_the_gates_take_no_scheduler(core_gates):
    core = gates(core_gates, PlainPort(Dram(0, 1 << 16), CONFIG, BusConfig()))
    with pytest.raises(BenchError, match="timing of their own"):
        core.run(stream_order)


def test_bursts_of_data_reach_dram_whole(core_gates):
    port = PlainPort(Dram(0, 1 << 16), CONFIG, BusConfig())
    core = gates(core_gates, port, timing=PortTiming(latency=(0, 0)))
    data = np.random.default_rng(2).integers(-128, 128, (256, 16)).astype("<i4")
    port.dram.write(1 << 14, data.tobytes())
    size = {"x_size": 256, "x_stride": 256}
    insns = [
        load(Memory.ACC, dram_base=(1 << 14) // 64, push_next=1, **size),
        (Opcode.STORE, STORE[1] | size | {"pop_prev": 1, "push_prev": 1}),
        (Opcode.LOAD, {"memory": Memory.UOP, "pop_next": 1}),
        FINISH,
    ]
    core.start(*program_of(insns, port.dram))
    core.run()
    assert np.array_equal(port.dram.read(4096, 4096).view(np.int8), data.astype(np.int8).ravel())
