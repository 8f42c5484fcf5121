"""Encodings of instructions and micro-ops, and the codec that packs them."""

from typing import Any

import numpy as np
import pytest
from amaranth import Shape, signed, unsigned
from amaranth.lib import data, enum
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.isa.codec import Codec, pack_upward
from ginseng.isa.config import NAMED_CORES, CoreConfig, Memory
from ginseng.isa.errors import EncodingError, IsaError
from ginseng.isa.insn import (
    INSN_BYTES,
    UOP_BYTES,
    AluOp,
    Instruction,
    MemInsn,
    Opcode,
    Queue,
    alu_layout,
    finish_layout,
    gemm_layout,
    instruction_set,
    uop_layout,
)
from ginseng.isa.mailbox import LoadKeyPlaintext, RowArgument
from ginseng.isa.table import TensorRow
from ginseng.isa.transfer import TransferDescriptor

#: VTA specification §2, worked encodings of the default configuration, most significant first.
WORKED: list[tuple[str, Opcode, dict[str, int]]] = [
    (
        "0321000900050004000000d158004950",
        Opcode.LOAD,
        {
            "memory": Memory.INP,
            "sram_base": 0x12,
            "dram_base": 0x3456,
            "y_size": 4,
            "x_size": 5,
            "x_stride": 9,
            "y_pad_0": 1,
            "y_pad_1": 2,
            "x_pad_0": 3,
            "pop_next": 1,
            "push_next": 1,
        },
    ),
    (
        "00404004080008100006003800a0020a",
        Opcode.GEMM,
        {
            "uop_begin": 2,
            "uop_end": 5,
            "iter_out": 7,
            "iter_in": 3,
            "dst_factor_out": 16,
            "dst_factor_in": 1,
            "src_factor_out": 32,
            "src_factor_in": 2,
            "wgt_factor_out": 4,
            "wgt_factor_in": 1,
            "pop_prev": 1,
        },
    ),
    (
        "fffdb002000008000080000800200044",
        Opcode.ALU,
        {
            "alu_op": AluOp.SHR,
            "use_imm": 1,
            "imm": -3,
            "uop_end": 1,
            "iter_out": 1,
            "iter_in": 64,
            "dst_factor_in": 1,
            "src_factor_in": 1,
            "push_next": 1,
        },
    ),
    (
        "00000010000800020000004000010229",
        Opcode.STORE,
        {
            "memory": Memory.OUT,
            "sram_base": 0x40,
            "dram_base": 0x1000,
            "y_size": 2,
            "x_size": 8,
            "x_stride": 16,
            "pop_prev": 1,
            "push_prev": 1,
        },
    ),
    ("00000000000000000000000000000003", Opcode.FINISH, {}),
]


@pytest.mark.parametrize(("hexadecimal", "opcode", "fields"), WORKED)
def test_worked_encodings_of_the_specification(
    hexadecimal: str, opcode: Opcode, fields: dict[str, int]
) -> None:
    isa = instruction_set(CoreConfig())
    word = isa.encode(opcode, **fields)
    assert word[::-1].hex() == hexadecimal
    decoded = isa.decode(word)
    assert decoded.opcode is opcode
    assert {name: value for name, value in decoded.fields.items() if value} == {
        name: int(value) for name, value in fields.items() if value
    }
    assert isa.codecs[opcode].reserved(word) == 0


def test_worked_micro_op_of_the_specification() -> None:
    word = instruction_set(CoreConfig()).uop.pack(dst=5, src=9, wgt=3)
    assert word[::-1].hex() == "00c04805"


#: Positions that §2 gives for the default configuration: field to (lowest, highest) bit.
POSITIONS = {
    "LOAD": {"memory": (7, 9), "sram_base": (10, 25), "dram_base": (26, 57), "y_size": (64, 79)},
    "GEMM": {"iter_in": (49, 62), "dst_factor_out": (64, 74), "wgt_factor_in": (118, 127)},
    "ALU": {"src_factor_in": (97, 107), "alu_op": (108, 110), "use_imm": (111, 111)},
}


@pytest.mark.parametrize("name", POSITIONS)
def test_fields_stand_where_the_specification_puts_them(name: str) -> None:
    codec = instruction_set(CoreConfig()).codecs[Opcode[name]]
    for field, (lowest, highest) in POSITIONS[name].items():
        low, high = codec.bounds(field)
        assert codec.pack(**{field: 1}) == (1 << lowest).to_bytes(INSN_BYTES, "little")
        all_ones = ((1 << highest + 1) - (1 << lowest)).to_bytes(INSN_BYTES, "little")
        assert codec.pack(**{field: -1 if low else high}) == all_ones


def test_field_that_would_straddle_bit_64_starts_there() -> None:
    """A smaller micro-op buffer shortens the first word by bits that must stay empty."""
    isa = instruction_set(CoreConfig(log_uop_buff_size=13))
    codec = isa.codecs[Opcode.GEMM]
    assert codec.pack(iter_in=1) == (1 << 45).to_bytes(INSN_BYTES, "little")
    # Four bits are saved; dst_factor_out has 11 and does not fit before bit 64.
    assert codec.pack(dst_factor_out=1) == (1 << 64).to_bytes(INSN_BYTES, "little")
    assert codec.reserved(b"\xff" * INSN_BYTES) == ((1 << 64) - (1 << 59))
    # Far smaller: it fits, and the field behind it straddles instead.
    codec = instruction_set(CoreConfig(log_uop_buff_size=9)).codecs[Opcode.GEMM]
    assert codec.pack(dst_factor_out=1) == (1 << 51).to_bytes(INSN_BYTES, "little")
    assert codec.pack(dst_factor_in=1) == (1 << 64).to_bytes(INSN_BYTES, "little")


def test_field_beyond_its_word_is_refused() -> None:
    fields = {"a": 40, "b": 40, "c": 40}
    assert pack_upward(fields, width=168)["c"].offset == 128
    with pytest.raises(EncodingError, match="Field c ends at bit 168, beyond the 128 bits"):
        pack_upward(fields, width=128)


class Colour(enum.IntEnum, shape=2):
    RED = 1
    BLUE = 2


class Mixed(data.Struct):
    """Every kind of field, none of them aligned."""

    flag: 1
    small: signed(5)
    colour: Colour
    _gap: 7
    key: data.ArrayLayout(unsigned(8), 3)
    wide: 48
    signed_wide: signed(33)


def layouts() -> dict[str, tuple[Any, Any]]:
    """Every layout of the contract that has integers only, and a config's for each core."""
    found: dict[str, tuple[Any, Any]] = {
        "LOAD": (MemInsn, Codec(MemInsn)),
        "row": (TensorRow, Codec(TensorRow)),
        "descriptor": (TransferDescriptor, Codec(TransferDescriptor)),
        "FINISH": (finish_layout(), Codec(finish_layout(), "FINISH")),
    }
    for name, core in NAMED_CORES.items():
        for kind in (gemm_layout, alu_layout, uop_layout):
            layout = kind(core)
            found[f"{kind.__name__} {name}"] = (layout, Codec(layout, kind.__name__))
    return found


LAYOUTS = layouts()


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(content=st.data())
def test_codec_gives_the_bits_of_the_layouts_own_constants(
    name: str, content: st.DataObject
) -> None:
    layout, codec = LAYOUTS[name]
    values = {}
    for field in codec.fields:
        choices = codec.choices(field)
        integers = st.integers(*codec.bounds(field))
        values[field] = content.draw(
            st.sampled_from(sorted(choices.values())) if choices else integers
        )
    word = codec.pack(**values)
    constant = layout.const({key: value for key, value in values.items()})
    assert int.from_bytes(word, "little") == constant.as_bits()
    assert len(word) == -(-Shape.cast(layout).width // 8)
    assert codec.unpack(word) == values
    assert codec.reserved(word) == 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(min_size=15, max_size=15))
def test_codec_round_trips_signed_byte_and_reserved_fields(word: bytes) -> None:
    codec = Codec(Mixed)
    bits = int.from_bytes(word, "little")
    values = codec.unpack(word)
    parts = codec.unpack_bytes(word)
    assert set(parts) == {"key"}
    assert -16 <= values["small"] < 16
    gap = codec.reserved(word)
    assert gap == bits & (0x7F << 8)
    assert codec.pack(**values, **parts) == (bits & ~gap).to_bytes(15, "little")


def test_columns_are_the_words_unpacked(configs: dict[str, CoreConfig]) -> None:
    rng = np.random.default_rng(7)
    for config in configs.values():
        isa = instruction_set(config)
        for codec in (*isa.codecs.values(), isa.uop, Codec(TensorRow), Codec(Mixed)):
            words = [rng.bytes(codec.nbytes) for _ in range(40)]
            columns = codec.columns(b"".join(words))
            unpacked = [codec.unpack(word) for word in words]
            for field, column in columns.items():
                assert column.tolist() == [values[field] for values in unpacked], field
            assert set(columns) == set(unpacked[0])
            assert all(len(column) == 0 for column in codec.columns(b"").values())


def test_columns_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(EncodingError, match="multiple of 16 bytes, not 17"):
        Codec(MemInsn).columns(bytes(17))
    with pytest.raises(EncodingError, match=r"field\.long has 57 bits"):
        Codec(pack_upward({"long": 57}, width=64), "field").columns(bytes(8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sram_base": 65536}, r"LOAD\.sram_base holds 0 to 65535 \(16 bits\), not 65536"),
        ({"sram_base": -1}, r"LOAD\.sram_base holds 0 to 65535 \(16 bits\), not -1"),
        ({"y_pad_0": 16}, r"LOAD\.y_pad_0 holds 0 to 15 \(4 bits\), not 16"),
        ({"pop_prev": 2}, r"LOAD\.pop_prev holds 0 to 1 \(1 bits\), not 2"),
        ({"srm_base": 1}, r"LOAD has no field srm_base \(fields: opcode, .*x_pad_1\)"),
        ({"_zero": 1}, r"LOAD has no field _zero"),
        ({"sram_base": b"ab"}, r"LOAD\.sram_base holds an integer, not bytes"),
        ({"sram_base": 1.0}, r"LOAD\.sram_base holds an integer, not float"),
        ({"sram_base": None}, r"LOAD\.sram_base holds an integer, not NoneType"),
    ],
)
def test_value_that_does_not_fit_is_refused_by_name(values: Any, message: str) -> None:
    with pytest.raises(EncodingError, match=message) as caught:
        instruction_set(CoreConfig()).encode(Opcode.LOAD, **values)
    assert isinstance(caught.value, IsaError)


def test_signed_fields_hold_their_bounds_and_no_more() -> None:
    isa = instruction_set(CoreConfig())
    for imm in (-32768, -1, 0, 32767):
        assert isa.decode(isa.encode(Opcode.ALU, imm=imm))["imm"] == imm
    for imm in (-32769, 32768):
        with pytest.raises(EncodingError, match=r"ALU\.imm holds -32768 to 32767 \(16 bits\)"):
            isa.encode(Opcode.ALU, imm=imm)


@pytest.mark.parametrize("value", [b"", bytes(31), bytes(33), 5, "x" * 32])
def test_byte_fields_hold_exactly_their_bytes(value: Any) -> None:
    codec = Codec(LoadKeyPlaintext)
    with pytest.raises(
        EncodingError, match=r"LoadKeyPlaintext\.secret holds exactly 32 bytes"
    ) as e:
        codec.pack(slot=1, secret=value, blinding=bytes(32))
    assert "xxxx" not in str(e.value)
    good = codec.pack(slot=1, secret=bytes(range(32)), blinding=b"\xff" * 32)
    assert good == b"\x01" + bytes(range(32)) + b"\xff" * 32
    assert codec.unpack(good) == {"slot": 1}
    assert codec.unpack_bytes(good)["secret"] == bytes(range(32))


def test_struct_inside_a_struct_keeps_its_bits() -> None:
    row = Codec(TensorRow).pack(domain=5, length=4096, version=7)
    argument = Codec(RowArgument)
    assert argument.nbytes == 2 + len(row)


def test_numpy_integers_are_integers() -> None:
    isa = instruction_set(CoreConfig())
    fields = {"sram_base": np.uint16(65535), "dram_base": np.uint32(0xFFFFFFFF)}
    plain = {name: int(value) for name, value in fields.items()}
    assert isa.encode(Opcode.LOAD, **fields) == isa.encode(Opcode.LOAD, **plain)
    assert isa.encode(Opcode.ALU, imm=np.int16(-5)) == isa.encode(Opcode.ALU, imm=-5)


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_illegal_opcode_is_refused(opcode: int) -> None:
    with pytest.raises(EncodingError, match=f"Opcode {opcode} is illegal .*LOAD 0, STORE 1"):
        instruction_set(CoreConfig()).decode(bytes([opcode]) + bytes(15))


@pytest.mark.parametrize("length", [0, 15, 17])
def test_word_of_another_length_is_refused(length: int) -> None:
    isa = instruction_set(CoreConfig())
    with pytest.raises(EncodingError, match=f"16 bytes, not {length}"):
        isa.decode(bytes(length))
    with pytest.raises(EncodingError, match="micro-op is 4 bytes, not 5"):
        isa.uop.unpack(bytes(UOP_BYTES + 1))
    if length % INSN_BYTES:
        with pytest.raises(EncodingError, match="multiple of 16"):
            list(isa.decode_stream(bytes(length)))


def test_dispatch_follows_opcode_and_memory() -> None:
    for memory in range(8):
        load = Instruction(Opcode.LOAD, {"memory": memory})
        first = memory in (Memory.INP, Memory.WGT)
        assert load.queue is (Queue.LOAD if first else Queue.COMPUTE)
        assert Instruction(Opcode.STORE, {"memory": memory}).queue is Queue.STORE
    for opcode in (Opcode.GEMM, Opcode.ALU, Opcode.FINISH):
        assert Instruction(opcode, {}).queue is Queue.COMPUTE


def test_transfer_of_no_columns_is_a_no_op() -> None:
    isa = instruction_set(CoreConfig())
    for opcode in (Opcode.LOAD, Opcode.STORE):
        assert isa.decode(isa.encode(opcode, y_size=4, x_pad_0=1)).is_nop
        assert not isa.decode(isa.encode(opcode, x_size=1)).is_nop
    assert not isa.decode(isa.encode(Opcode.GEMM)).is_nop
    assert not isa.decode(isa.encode(Opcode.FINISH)).is_nop


def test_reserved_bits_are_found_and_ignored_by_decode() -> None:
    isa = instruction_set(CoreConfig())
    word = bytearray(isa.encode(Opcode.LOAD, sram_base=3))
    word[7] = 0x84
    assert isa.codecs[Opcode.LOAD].reserved(bytes(word)) == 0x84 << 56
    assert isa.decode(bytes(word)) == isa.decode(isa.encode(Opcode.LOAD, sram_base=3))


def test_enumerated_fields_name_their_values() -> None:
    isa = instruction_set(CoreConfig())
    assert isa.codecs[Opcode.ALU].choices("alu_op") == {op.name: int(op) for op in AluOp}
    assert isa.codecs[Opcode.LOAD].choices("memory") == {m.name: int(m) for m in Memory}
    assert isa.codecs[Opcode.ALU].choices("imm") is None
