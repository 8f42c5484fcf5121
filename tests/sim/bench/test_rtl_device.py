"""The whole bare build in Verilator: vectors under bus delays, errors of the bus, watchdog."""

import json
from pathlib import Path

import numpy as np
import pytest

from ginseng.bench.device import RtlDevice
from ginseng.bench.memory import REFERENCE, Injection, MemoryModel
from ginseng.bench.programs import random_program
from ginseng.golden.bare import BareDevice
from ginseng.isa.config import NAMED_CORES, CoreConfig, Memory, SystemConfig
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.registers import register_map

pytestmark = pytest.mark.rtl

FOLDER = Path(__file__).parents[2] / "vectors" / "vta"
VECTORS = sorted(path.stem for path in FOLDER.glob("*.npz"))
DELAYS = {
    "no": MemoryModel(name="no delay"),
    "random": MemoryModel(name="random delay", latency=(0, 80), mix=True, stall=0.3, seed=3),
    "extreme": MemoryModel(
        name="extreme delay", latency=(0, 500), reads=1, writes=1, stall=0.8, seed=4
    ),
}
CONTROL = {"launch": 1, "reset": 8}


@pytest.fixture(scope="module")
def device():
    """A device per core and memory, built once; each is reset before it is given."""
    devices = {}

    def give(memory=REFERENCE, core=None, **how):
        config = SystemConfig(core=core or CoreConfig(), tec=None)
        key = (config, memory, *how.items())
        if key not in devices:
            devices[key] = RtlDevice(config, memory=memory, **how)
        devices[key].write(register_map(config)["reset"].offset, 1)
        return devices[key]

    yield give
    for one in devices.values():
        one.close()


def launch(device, address, count, limit=4_000_000):
    """Run a program; return whether it is done, and whether there is a fault."""
    registers = register_map(device.config)
    device.write(registers["insn_addr"].offset, address)
    device.write(registers["insn_count"].offset, count)
    device.write(registers["control"].offset, CONTROL["launch"])
    device.run(limit)
    word = device.read(registers["control"].offset)
    return bool(word & 2), bool(word & 4)


def run_vector(device, name, **how):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        meta = json.loads(str(arrays["meta"]))
        before, changed = arrays["dram_before"], arrays["after_bytes"]
    gates = device(core=NAMED_CORES[meta["config"]], **how)
    gates.dram[: len(before)] = before
    assert launch(gates, meta["insn_addr"], meta["insn_count"]) == (True, False)
    after = before.copy()
    after[meta["after_lo"] : meta["after_lo"] + len(changed)] = changed
    assert np.array_equal(gates.dram[: len(before)], after)
    # Raises if the device broke a rule of AXI.
    assert gates.traffic.read_bursts


def core_of(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return str(json.loads(str(arrays["meta"]))["config"])


@pytest.mark.parametrize("name", [name for name in VECTORS[::6] if core_of(name) == "default"])
def test_a_vector_is_byte_exact_on_the_gates(device, name):
    run_vector(lambda core: device(DELAYS["random"], core), name)


@pytest.mark.campaign
@pytest.mark.parametrize("name", [name for name in VECTORS[::12] if core_of(name) == "default"])
def test_a_vector_is_byte_exact_where_products_share_a_multiplier(device, name):
    run_vector(device, name, packed=True)


@pytest.mark.campaign
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("name", VECTORS)
def test_every_vector_is_byte_exact_under_every_delay(device, name, delay):
    run_vector(lambda core: device(DELAYS[delay], core), name)


@pytest.mark.campaign
@pytest.mark.parametrize("delay", DELAYS)
def test_random_programs_through_axi_leave_what_the_golden_device_leaves(device, delay):
    gates = device(DELAYS[delay])
    golden = BareDevice(gates.config)
    registers = register_map(gates.config)
    for seed in range(70_000, 70_000 + (10 if delay == "extreme" else 40)):
        program = random_program(gates.config.core, seed)
        images = gates.dram[: len(program.image)], golden.dram.bytes[: len(program.image)]
        for image in images:
            image[:] = program.image
        assert launch(gates, program.insn_addr, program.insn_count) == (True, False)
        golden.write(registers["insn_addr"].offset, program.insn_addr)
        golden.write(registers["insn_count"].offset, program.insn_count)
        golden.write(registers["control"].offset, CONTROL["launch"])
        assert golden.cause is None
        assert np.array_equal(*images), f"DRAM differs after program {seed}"


def program_of(insns, gates):
    words = b"".join(
        instruction_set(gates.config.core).encode(op, **fields) for op, fields in insns
    )
    gates.dram[:8192] = 0
    gates.dram[: len(words)] = list(words)
    return 0, len(insns)


LOAD = (Opcode.LOAD, {"memory": Memory.ACC, "dram_base": 16, "y_size": 1, "x_size": 32})
#: LOAD ACC of 2 KiB from 1024 on, STORE of 512 bytes to 4096, and all tokens home.
COPY = [
    (Opcode.LOAD, LOAD[1] | {"push_next": 1}),
    (
        Opcode.STORE,
        {"memory": Memory.OUT, "dram_base": 256, "y_size": 1, "x_size": 32}
        | {"pop_prev": 1, "push_prev": 1},
    ),
    (Opcode.LOAD, {"memory": Memory.UOP, "pop_next": 1}),
    (Opcode.FINISH, {}),
]
ERRORS = [
    *((Injection.READ_RESPONSE, at, code) for at in (0, 1024, 1032, 3064) for code in (2, 3)),
    *((Injection.WRITE_RESPONSE, at, code) for at in (4096, 4600) for code in (2, 3)),
    *((Injection.READ_ID, burst, 1) for burst in (0, 1, 3)),
    (Injection.WRITE_ID, 0, 1),
    *((kind, n, 0) for kind in (Injection.EARLY_LAST, Injection.LATE_LAST) for n in (0, 1, 3)),
]


@pytest.mark.parametrize(
    ("kind", "at", "value"), ERRORS, ids=lambda v: v.name if isinstance(v, Injection) else str(v)
)
def test_an_error_of_the_bus_is_a_fault_that_a_reset_leaves(kind, at, value):
    # An injected error stays: a device of its own, which is then reset and runs without the bus.
    gates = RtlDevice(SystemConfig(tec=None), memory=DELAYS["no"])
    where = gates.traffic
    number = at + (where.write_bursts if kind is Injection.WRITE_ID else where.read_bursts)
    by_number = kind not in (Injection.READ_RESPONSE, Injection.WRITE_RESPONSE)
    gates.inject(kind, number if by_number else at, value)
    assert launch(gates, *program_of(COPY, gates)) == (False, True)
    assert launch(gates, *program_of(COPY, gates)) == (False, True), (
        "a fault was left without reset"
    )
    gates.write(register_map(gates.config)["reset"].offset, 1)
    if by_number:
        assert launch(gates, *program_of(COPY, gates)) == (True, False)
    gates.close()


@pytest.mark.parametrize(
    ("name", "insns"),
    [
        ("no FINISH", COPY[:-1]),
        ("a dead token of load", [(Opcode.LOAD, LOAD[1] | {"memory": Memory.INP, "pop_next": 1})]),
        ("a dead token of compute", [(Opcode.LOAD, LOAD[1] | {"pop_prev": 1}), COPY[-1]]),
        ("a dead token of store", [COPY[1], COPY[2], COPY[3]]),
    ],
)
def test_a_program_in_which_nothing_can_move_ends_in_the_watchdogs_fault(device, name, insns):
    gates = device(DELAYS["no"])
    assert launch(gates, *program_of(insns, gates), limit=20_000) == (False, True)
    gates = device(DELAYS["no"])
    assert launch(gates, *program_of(COPY, gates)) == (True, False)


def test_without_a_tec_one_flipped_bit_changes_the_result_silently(device, record_property):
    """The control of the attacks on the TEC: nothing stops the same flips here."""
    gates = device(DELAYS["no"])
    program = program_of(COPY, gates)
    source, result = slice(1024, 1024 + 2048), slice(4096, 4096 + 512)
    assert launch(gates, *program) == (True, False)
    right = gates.dram[result].copy()
    changed = 0
    flips = range(source.start, source.stop, 128)
    for at in flips:
        gates.dram[at] ^= 1
        assert launch(gates, *program) == (True, False)
        changed += not np.array_equal(gates.dram[result], right)
        gates.dram[at] ^= 1
    assert changed == len(flips)
    record_property("trials", changed)
