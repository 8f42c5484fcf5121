"""The bare device as its host sees it, its DRAM, and the plain DMA behind the base registers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ginseng.golden.bare import BareDevice
from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Fatal, Transfer
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig, Memory, SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.insn import Opcode, instruction_set
from ginseng.isa.registers import MAGIC, RESULT_BYTES, Build, register_map
from ginseng.isa.transfer import Client

CONFIG = SystemConfig(tec=None, bus=BusConfig(window_bytes=1 << 20))
MAP = register_map(CONFIG)
ISA = instruction_set(CONFIG.core)
DONE, FAULT, RESET = 2, 4, 8
FINISH = ISA.encode(Opcode.FINISH)


def at(name: str, word: int = 0) -> int:
    return MAP[name].offset + 4 * word


def put(device: BareDevice, address: int, data: bytes) -> None:
    start = address - device.config.bus.window_base
    device.dram.bytes[start : start + len(data)] = np.frombuffer(data, np.uint8)


def launch(device: BareDevice, address: int, *words: bytes) -> int:
    """Put a program at ``address``, run it, return the control register."""
    put(device, address, b"".join(words))
    device.write(at("insn_addr"), address & 0xFFFFFFFF)
    device.write(at("insn_addr", 1), address >> 32)
    device.write(at("insn_count"), len(words))
    device.write(at("control"), 1)
    return device.read(at("control"))


@pytest.fixture
def device() -> BareDevice:
    return BareDevice(CONFIG)


def test_a_protected_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match="tec=None"):
        BareDevice(SystemConfig())


def test_the_identity_registers_say_what_the_build_is(device: BareDevice) -> None:
    assert device.read(at("magic")) == MAGIC
    assert device.read(at("build")) == Build.BARE
    digest = b"".join(device.read(at("digest", k)).to_bytes(4, "little") for k in range(8))
    assert digest == CONFIG.digest
    debug = BareDevice(SystemConfig(tec=None, debug=True))
    assert debug.read(at("build")) == Build.BARE | 1 << 8


def test_settings_read_back_word_by_word(device: BareDevice) -> None:
    device.write(at("insn_addr", 1), 0x89ABCDEF)
    device.write(at("insn_addr"), 0x01234567)
    device.write(at("insn_count"), 0xFFFFFFFF)
    assert device.read(at("insn_addr")) == 0x01234567
    assert device.read(at("insn_addr", 1)) == 0x89ABCDEF
    assert device.read(at("insn_count")) == 0xFFFFFFFF
    device.write(at("insn_addr"), 5)
    assert device.read(at("insn_addr", 1)) == 0x89ABCDEF


def test_what_does_not_exist_or_may_not_be_touched_reads_zero_and_ignores_writes(
    device: BareDevice,
) -> None:
    known = {r.offset + k for r in MAP.registers for k in range(0, r.nbytes, 4)}
    for offset in range(0, 0x800 + RESULT_BYTES, 4):
        if offset not in known:
            device.write(offset, 0xFFFFFFFF)
            assert device.read(offset) == 0
    for name in ("magic", "build", "digest", "cycles", "insns", "read_bytes"):
        before = device.read(at(name))
        device.write(at(name), ~before & 0xFFFFFFFF)
        assert device.read(at(name)) == before
    assert device.read(at("reset")) == 0
    with pytest.raises(ValueError, match="32 bits"):
        device.write(at("control"), 1 << 32)


def test_control_shows_done_until_the_next_launch(device: BareDevice) -> None:
    assert device.read(at("control")) == 0
    assert launch(device, 64, FINISH) == DONE
    device.write(at("control"), 0)
    assert device.read(at("control")) == DONE
    assert launch(device, 64, FINISH, FINISH) == DONE
    assert device.read(at("insns")) == 1


@pytest.mark.parametrize("way", ["control", "reset"])
def test_only_a_reset_leaves_a_fault(device: BareDevice, way: str) -> None:
    assert launch(device, 64, b"\x07" * 16) == FAULT
    assert device.cause == "illegal opcode"
    assert launch(device, 64, FINISH) == FAULT
    device.write(at("reset"), 2)
    assert device.read(at("control")) == FAULT
    device.write(at(way), RESET if way == "control" else 1)
    assert device.read(at("control")) == 0
    assert device.cause is None
    assert device.read(at("insn_addr")) == device.read(at("insns")) == 0
    assert launch(device, 64, FINISH) == DONE


@pytest.mark.parametrize(("address", "cause"), [(72, "multiple of 16"), (1 << 20, "bus error")])
def test_a_program_where_none_can_be_is_a_fault(
    device: BareDevice, address: int, cause: str
) -> None:
    device.write(at("insn_addr"), address)
    device.write(at("insn_count"), 1)
    device.write(at("control"), 1)
    assert device.read(at("control")) == FAULT
    assert cause in str(device.cause)


def test_tokens_survive_a_run_but_not_a_reset(device: BareDevice) -> None:
    push, pop = (
        ISA.encode(Opcode.FINISH, push_next=1),
        ISA.encode(Opcode.STORE, pop_prev=1, push_prev=1),
    )
    wait = ISA.encode(Opcode.FINISH, pop_next=1)
    assert launch(device, 64, push) == DONE
    assert launch(device, 64, push) == DONE
    assert launch(device, 64, pop, wait) == DONE
    device.write(at("reset"), 1)
    assert launch(device, 64, pop, wait) == FAULT
    assert device.cause == "watchdog"


def test_each_memory_type_has_its_base_register(device: BareDevice) -> None:
    rng = np.random.default_rng(3)
    device.dram.bytes[:] = rng.integers(0, 256, 1 << 20)
    original = device.dram.bytes.copy()
    bases = {"uop_base": 0x1000, "inp_base": 0x2010, "wgt_base": 0x3100, "acc_base": 0x5040}
    for name, base in (bases | {"out_base": 0x9001}).items():
        device.write(at(name), base)
    row = {"y_size": 1, "x_size": 1, "x_stride": 1}
    program = [
        ISA.encode(Opcode.LOAD, memory=Memory.INP, push_next=1, **row),
        ISA.encode(Opcode.LOAD, memory=Memory.WGT, push_next=1, **row),
        ISA.encode(Opcode.LOAD, memory=Memory.UOP, pop_prev=1, **row),
        ISA.encode(Opcode.LOAD, memory=Memory.ACC, pop_prev=1, **row),
        ISA.encode(Opcode.LOAD, memory=Memory.ACC_8BIT, sram_base=1, dram_base=2, **row),
        # The micro-op is random; steer with reset micro-ops of index 0, loaded as padding.
        ISA.encode(Opcode.LOAD, memory=Memory.UOP, sram_base=1, x_pad_0=1, **row),
        ISA.encode(Opcode.GEMM, uop_begin=1, uop_end=2, iter_out=1, iter_in=1, push_next=1),
        ISA.encode(
            Opcode.STORE,
            memory=Memory.OUT,
            dram_base=1,
            pop_prev=1,
            push_prev=1,
            **row | {"x_size": 2},
        ),
        ISA.encode(Opcode.FINISH, pop_next=1),
    ]
    assert launch(device, 0x40000, *program) == DONE
    acc = original[0x5040:0x5080].view("<i4").astype(np.int64)
    inp = original[0x2010:0x2020].view(np.int8).astype(np.int64)
    wgt = original[0x3100:0x3200].view(np.int8).astype(np.int64).reshape(16, 16)
    first = (acc + wgt @ inp) & 0xFF
    found = device.dram.bytes[0x9011:0x9031]
    assert found[:16].tolist() == first.tolist()
    assert found[16:].tolist() == original[0x5060:0x5070].tolist()


def test_the_counters_are_those_of_the_last_run(device: BareDevice) -> None:
    load = ISA.encode(Opcode.LOAD, memory=Memory.ACC, y_size=1, x_size=4, x_stride=4, push_next=1)
    store = ISA.encode(
        Opcode.STORE, memory=Memory.OUT, dram_base=4096, y_size=1, x_size=4, pop_prev=1, push_prev=1
    )
    alu = ISA.encode(Opcode.ALU, use_imm=1, uop_end=1, iter_out=2, iter_in=3)
    zero = ISA.encode(Opcode.LOAD, memory=Memory.UOP, y_pad_0=1, x_size=1)
    finish = ISA.encode(Opcode.FINISH, pop_next=1)
    for _ in range(2):
        assert launch(device, 0x2000, zero, alu, load, store, finish) == DONE
        counters = {
            name: device.read(at(name)) | device.read(at(name, 1)) << 32
            for name in (
                "cycles",
                "gemm_uops",
                "alu_uops",
                "insns",
                "read_bytes",
                "write_bytes",
                "read_bursts",
                "write_bursts",
            )
        }
        assert counters == {
            "cycles": 0,
            "gemm_uops": 0,
            "alu_uops": 6,
            "insns": 5,
            "read_bytes": 5 * 16 + 4 * 64,
            "write_bytes": 64,
            # 80 and 256 bytes in bursts of at most 16 beats of 8 bytes.
            "read_bursts": 1 + 2,
            "write_bursts": 1,
        }
    assert launch(device, 0x2000, FINISH) == DONE
    assert device.read(at("alu_uops")) == device.read(at("write_bytes")) == 0


def test_a_window_high_in_memory_is_reached_through_64_bit_registers() -> None:
    base = 0x12_3456_0000
    config = SystemConfig(tec=None, bus=BusConfig(window_base=base, window_bytes=1 << 16))
    device = BareDevice(config)
    put(device, base, bytes(range(64)))
    device.write(at("acc_base"), base & 0xFFFFFFFF)
    device.write(at("acc_base", 1), base >> 32)
    device.write(at("out_base"), base & 0xFFFFFFFF)
    device.write(at("out_base", 1), base >> 32)
    row = {"y_size": 1, "x_size": 1}
    program = (
        ISA.encode(Opcode.LOAD, memory=Memory.ACC, push_next=1, **row),
        ISA.encode(Opcode.STORE, memory=Memory.OUT, dram_base=8, pop_prev=1, push_prev=1, **row),
        ISA.encode(Opcode.FINISH, pop_next=1),
    )
    assert launch(device, base + 0x1000, *program) == DONE
    assert device.dram.bytes[128:144].tolist() == [*range(0, 64, 4)]


class TestDram:
    def test_bytes_are_read_and_written_at_their_address(self) -> None:
        dram = Dram(0x1000, 32)
        dram.write(0x1004, b"abc")
        dram.write(0x101F, np.array([7], np.uint8))
        assert dram.read(0x1003, 5).tobytes() == b"\0abc\0"
        assert dram.bytes[31] == 7
        dram.bytes[0] = 9
        assert dram.read(0x1000, 1)[0] == 9
        dram.read(0x1000, 32)[:] = 1
        assert dram.bytes[1] == 0

    @pytest.mark.parametrize(("address", "nbytes"), [(0xFFF, 1), (0x1020, 1), (0x101F, 2), (0, 4)])
    def test_a_byte_outside_the_window_is_a_bus_error(self, address: int, nbytes: int) -> None:
        dram = Dram(0x1000, 32)
        with pytest.raises(Fatal, match="bus error"):
            dram.read(address, nbytes)
        with pytest.raises(Fatal, match="bus error"):
            dram.write(address, bytes(nbytes))
        assert not dram.bytes.any()


class TestPlainPort:
    @pytest.fixture
    def port(self) -> Callable[..., PlainPort]:
        def make(**bus: Any) -> PlainPort:
            dram = Dram(0, 1 << 16)
            dram.bytes[:] = np.arange(1 << 16) % 251
            return PlainPort(dram, CoreConfig(), BusConfig(**bus))

        return make

    def test_rows_are_gathered_dense_and_scattered_in_order(self, port: Any) -> None:
        p = port()
        rows = p.read(Client.INP, Transfer(Memory.INP, 3, 3, 2, 1))
        image = np.arange(1 << 16) % 251
        expected = [image[(3 + r) * 16 : (5 + r) * 16] for r in range(3)]
        assert rows.tolist() == np.concatenate(expected).tolist()
        p.write(Transfer(Memory.OUT, 10, 3, 2, 1), np.arange(96, dtype=np.uint8), 0)
        after = [*range(0, 16), *range(32, 48), *range(64, 96)]
        assert p.dram.bytes[160:224].tolist() == after

    def test_reads_are_numbered_but_fetches_are_not(self, port: Any) -> None:
        p = port()
        p.read(Client.FETCH, Transfer(Memory.UOP, 2, 1, 3, 3))
        assert (p.issued, p.verified, p.settle()) == (0, 0, False)
        assert len(p.read(Client.WGT, Transfer(Memory.WGT, 0, 2, 1, 1))) == 512
        assert (p.issued, p.verified, p.settle()) == (1, 1, False)

    def test_a_row_across_the_end_of_the_address_range_continues_at_the_base(self) -> None:
        class Recorder(Dram):
            """Says where it was read, so that nobody needs 4 GiB."""

            def read(self, address: int, nbytes: int) -> Any:
                asked.append((address, nbytes))
                return np.zeros(nbytes, np.uint8)

        asked: list[tuple[int, int]] = []
        p = PlainPort(Recorder(0, 16), CoreConfig(), BusConfig())
        p.bases[Memory.UOP] = 0x100
        p.read(Client.COMPUTE, Transfer(Memory.UOP, (1 << 30) - 2, 2, 3, 1))
        end = 1 << 32
        assert asked == [
            (end + 0x100 - 8, 8),
            (0x100, 4),
            (end + 0x100 - 4, 4),
            (0x100, 8),
        ]

    @pytest.mark.parametrize(
        ("bus", "transfer", "nbytes", "bursts"),
        [
            ({}, Transfer(Memory.INP, 0, 4, 8, 8), 512, 4),
            ({}, Transfer(Memory.INP, 0, 4, 1, 2), 64, 4),
            ({"protocol": BusProtocol.AXI4}, Transfer(Memory.INP, 255, 1, 2, 0), 32, 2),
            ({"protocol": BusProtocol.AXI4}, Transfer(Memory.INP, 0, 1, 512, 0), 8192, 4),
            (
                {"data_bits": 512, "protocol": BusProtocol.AXI4},
                Transfer(Memory.INP, 3, 1, 2, 0),
                128,
                1,
            ),
            ({}, Transfer(Memory.UOP, 1, 1, 1, 0), 8, 1),
            ({}, Transfer(Memory.INP, 0, 0, 8, 8), 0, 0),
        ],
    )
    def test_traffic_counts_whole_beats_and_legal_bursts(
        self, port: Any, bus: dict[str, Any], transfer: Transfer, nbytes: int, bursts: int
    ) -> None:
        p = port(**bus)
        p.read(Client.INP, transfer)
        assert (p.traffic.read_bytes, p.traffic.read_bursts) == (nbytes, bursts)
        assert (p.traffic.write_bytes, p.traffic.write_bursts) == (0, 0)
