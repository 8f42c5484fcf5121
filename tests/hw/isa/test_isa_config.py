"""Configurations: which are legal, what they mean, and the digest that names one."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ginseng.isa.config import (
    ISA_VERSION,
    NAMED_CORES,
    BusConfig,
    BusProtocol,
    CoreConfig,
    Memory,
    RootStrength,
    SystemConfig,
    TecConfig,
)
from ginseng.isa.errors import ConfigError, IsaError
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES, instruction_set

#: Digest of the default build under ISA_VERSION "ginseng-3". It changes only if an encoding, a
#: register or a public format does, or a configuration field is added: then change ISA_VERSION
#: too, because devices and `.ginseng` files of the old contract must not pass for the new one.
DEFAULT_DIGEST = "f1bca2c5175b591fd7e10853f6b5eb9e2f11f412998288b71d5e465e7ef0c360"


def test_default_core_is_the_references() -> None:
    core = CoreConfig()
    assert core.name == "1x16_i8w8a32_15_15_18_17"
    depths = {m.name: core.depth(m) for m in Memory}
    assert depths == {
        "UOP": 8192,
        "WGT": 1024,
        "INP": 2048,
        "ACC": 2048,
        "OUT": 2048,
        "ACC_8BIT": 2048,
    }
    sizes = {m.name: core.element_bytes(m) for m in Memory}
    assert sizes == {"UOP": 4, "WGT": 256, "INP": 16, "ACC": 64, "OUT": 16, "ACC_8BIT": 16}
    assert (core.batch, core.block, core.macs) == (1, 16, 256)


def test_elements_have_the_shapes_of_the_specification() -> None:
    core = CoreConfig(log_batch=1, log_block=3, log_wgt_buff_size=16)
    assert core.element_shape(Memory.UOP) == (1,)
    assert core.element_shape(Memory.WGT) == (8, 8)
    for memory in (Memory.INP, Memory.ACC, Memory.OUT, Memory.ACC_8BIT):
        assert core.element_shape(memory) == (2, 8)
    assert core.element_bytes(Memory.ACC) == 64
    assert core.depth(Memory.INP) == 1 << (15 - 1 - 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # One more bit of any depth than the default overflows a word (specification §1).
        ({"log_acc_buff_size": 18}, "micro-op field wgt_idx overflows.*34 bits.*ACC 12"),
        ({"log_wgt_buff_size": 19}, "micro-op field wgt_idx overflows.*33 bits.*WGT 11"),
        ({"log_inp_buff_size": 16}, "micro-op field wgt_idx overflows.*33 bits.*INP 12"),
        ({"log_uop_buff_size": 16}, "GEMM field iter_in overflows.*65 bits.*UOP 14"),
        (
            {"log_acc_buff_size": 18, "log_inp_buff_size": 14, "log_wgt_buff_size": 16},
            "ALU field imm overflows.*68 bits.*ACC 12",
        ),
        ({"log_wgt_buff_size": 7}, r"log_wgt_buff_size gives WGT less than .* 256 .* by 1 or more"),
        ({"log_inp_buff_size": 2}, r"log_inp_buff_size gives INP less than .* 16 .* by 2 or more"),
        ({"log_acc_buff_size": 5}, r"log_acc_buff_size gives ACC less than .* 64 "),
        ({"log_uop_buff_size": 1}, r"log_uop_buff_size gives UOP less than .* 4 "),
        ({"log_inp_width": 2}, r"CoreConfig\.log_inp_width must be 3 \(8-bit scalars\), not 2"),
        ({"log_wgt_width": 4}, r"CoreConfig\.log_wgt_width must be 3"),
        ({"log_acc_width": 4}, r"CoreConfig\.log_acc_width must be 5 \(32-bit scalars\), not 4"),
        ({"log_batch": -1}, r"CoreConfig\.log_batch is at least 0, not -1"),
        ({"log_block": True}, r"CoreConfig\.log_block is an integer, not True"),
        ({"log_block": 4.0}, r"CoreConfig\.log_block is an integer, not 4\.0"),
    ],
)
def test_core_that_no_word_can_encode_is_refused_by_field(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        CoreConfig(**change)
    assert isinstance(caught.value, IsaError)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 2),
    block=st.integers(0, 5),
    sizes=st.tuples(*[st.integers(0, 19)] * 4),
)
def test_every_core_that_is_accepted_can_encode_every_index(
    batch: int, block: int, sizes: tuple[int, int, int, int]
) -> None:
    names = ("uop", "inp", "wgt", "acc")
    fields = {f"log_{n}_buff_size": size for n, size in zip(names, sizes, strict=True)}
    try:
        core = CoreConfig(log_batch=batch, log_block=block, **fields)
    except ConfigError:
        assume(False)
    isa = instruction_set(core)
    assert isa.uop.nbytes == UOP_BYTES
    assert {codec.nbytes for codec in isa.codecs.values()} == {INSN_BYTES}
    indices = {"dst": Memory.ACC, "src": Memory.INP, "wgt": Memory.WGT}
    last = {operand: core.depth(memory) - 1 for operand, memory in indices.items()}
    assert isa.uop.unpack(isa.uop.pack(**last)) == last
    assert isa.uop.bounds("src")[1] >= core.depth(Memory.ACC) - 1


def test_vta_config_files_are_read_by_their_keys() -> None:
    parameters = {"TARGET": 1, "HW_VER": 2, "LOG_BATCH": 1, "LOG_ACC_BUFF_SIZE": 16}
    assert CoreConfig.from_vta(parameters) == CoreConfig(log_batch=1, log_acc_buff_size=16)
    assert CoreConfig.from_vta({}) == CoreConfig()
    for core in NAMED_CORES.values():
        upper = {key.upper(): value for key, value in dataclasses.asdict(core).items()}
        assert CoreConfig.from_vta(upper) == core


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (TecConfig, {"table_entries": 63}, "table_entries is a power of two from 2 to 4096"),
        (TecConfig, {"table_entries": 1}, "table_entries is a power of two"),
        (TecConfig, {"table_entries": 8192}, "table_entries is a power of two"),
        (TecConfig, {"key_bits": 192}, "key_bits is 128 or 256, not 192"),
        (TecConfig, {"lanes": 0}, "lanes is at least 1"),
        (TecConfig, {"half_duplex": 1}, "half_duplex is true or false, not 1"),
        (SystemConfig, {"debug": 0}, "debug is true or false, not 0"),
        (TecConfig, {"bitmap_bits": 0}, "bitmap_bits is at least 1"),
        (BusConfig, {"data_bits": 32}, "data_bits is 64, 128, 256 or 512, not 32"),
        (BusConfig, {"window_base": 100}, "multiples of 4096"),
        (BusConfig, {"window_bytes": 0}, "the window not empty"),
        (BusConfig, {"window_base": 1 << 40}, "beyond the 40 address bits"),
        (BusConfig, {"outstanding_reads": 0}, "outstanding_reads is at least 1"),
        (BusConfig, {"outstanding_writes": 0}, "outstanding_writes is at least 1"),
    ],
)
def test_impossible_build_is_refused_by_field(
    kind: type, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**change)


def test_handle_and_offset_share_the_dram_base() -> None:
    for entries, bits in ((2, 1), (64, 6), (256, 8), (4096, 12)):
        tec = TecConfig(table_entries=entries)
        assert (tec.handle_bits, tec.handle_bits + tec.offset_bits) == (bits, 32)
    assert TecConfig(key_bits=256).key_bytes == 32


def test_bursts_are_bounded_by_protocol_and_page() -> None:
    assert BusConfig().burst_bytes == 16 * 8
    assert BusConfig(protocol=BusProtocol.AXI4).burst_bytes == 256 * 8
    assert BusConfig(protocol=BusProtocol.AXI4, data_bits=512).burst_bytes == 4096


SYSTEMS = [
    SystemConfig(),
    SystemConfig(tec=None),
    SystemConfig(debug=True, root=RootStrength.DEVELOPMENT),
    SystemConfig(
        core=NAMED_CORES["b0k5"],
        tec=TecConfig(table_entries=256, key_bits=256, lanes=4, half_duplex=False),
        bus=BusConfig(protocol=BusProtocol.AXI4, data_bits=512, window_base=1 << 32),
        root=RootStrength.VENDOR,
    ),
]


@pytest.mark.parametrize("system", SYSTEMS)
def test_canonical_text_gives_the_configuration_back(system: SystemConfig) -> None:
    text = system.canonical
    again = SystemConfig.from_canonical(text)
    assert again == system
    assert (again.canonical, again.digest) == (text, system.digest)
    assert system.digest == hashlib.sha256(text).digest()
    assert isinstance(again.bus.protocol, BusProtocol)
    assert isinstance(again.root, RootStrength)
    tree = json.loads(text)
    assert text == json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    assert tree["isa"] == ISA_VERSION


def test_digest_of_the_default_build_is_stable() -> None:
    assert ISA_VERSION == "ginseng-3"
    assert SystemConfig().digest.hex() == DEFAULT_DIGEST


def test_every_field_is_part_of_the_digest() -> None:
    variants = [
        *SYSTEMS,
        *(SystemConfig(core=core) for core in list(NAMED_CORES.values())[1:]),
        SystemConfig(debug=True),
        *(SystemConfig(root=root) for root in list(RootStrength)[1:]),
        SystemConfig(core=CoreConfig(log_uop_buff_size=14)),
        *(
            SystemConfig(tec=TecConfig(**change))
            for change in (
                {"table_entries": 32},
                {"key_bits": 256},
                {"lanes": 2},
                {"half_duplex": False},
                {"bitmap_bits": 1},
            )
        ),
        *(
            SystemConfig(bus=BusConfig(**change))
            for change in (
                {"protocol": BusProtocol.AXI4},
                {"data_bits": 128},
                {"window_base": 4096},
                {"window_bytes": 4096},
                {"outstanding_reads": 9},
                {"outstanding_writes": 9},
            )
        ),
    ]
    assert len({system.digest for system in variants}) == len(variants)


def _without(text: bytes, *path: str) -> bytes:
    tree = json.loads(text)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()


CANONICAL = SystemConfig().canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CANONICAL.replace(b",", b", ", 1), "not canonical"),
        (CANONICAL + b"\n", "not canonical"),
        (json.dumps(dict(reversed(json.loads(CANONICAL).items()))).encode(), "not canonical"),
        (CANONICAL.replace(b'{"bus"', b'{"bus":1,"bus"', 1), "not canonical"),
        (CANONICAL.replace(b"{", b'{"more":1,', 1), "not canonical"),
        (CANONICAL.replace(b"false", b"0"), "debug is true or false, not 0"),
        (CANONICAL.replace(b"ginseng-3", b"ginseng-0"), "another contract than 'ginseng-3'"),
        (_without(CANONICAL, "isa"), "cannot be read"),
        (_without(CANONICAL, "bus"), "cannot be read"),
        (_without(CANONICAL, "tec"), "cannot be read"),
        (_without(CANONICAL, "core", "log_batch"), "not canonical"),
        (CANONICAL.replace(b'"axi3"', b'"axi5"'), "cannot be read"),
        (CANONICAL.replace(b'"simulated"', b'"certified"'), "cannot be read"),
        (CANONICAL.replace(b'"log_batch":0', b'"log_batch":"0"'), "log_batch is an integer"),
        (CANONICAL.replace(b'"key_bits":128', b'"key_bits":129'), "key_bits is 128 or 256"),
        (CANONICAL.replace(b'"log_batch"', b'"log_bath"'), "cannot be read"),
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"null", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_text_that_is_not_canonical_is_refused(text: bytes, message: str) -> None:
    assert text != CANONICAL
    with pytest.raises(ConfigError, match=message):
        SystemConfig.from_canonical(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(at=st.integers(0, len(CANONICAL) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_never_gives_the_same_build(at: int, bit: int) -> None:
    flipped = bytearray(CANONICAL)
    flipped[at] ^= 1 << bit
    try:
        system = SystemConfig.from_canonical(bytes(flipped))
    except ConfigError:
        return
    assert system.digest != SystemConfig().digest
    assert system.canonical == flipped
