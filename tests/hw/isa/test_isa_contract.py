"""Registers, mailbox, tensor rows and public formats."""

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from amaranth.lib import data
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.isa.codec import Codec
from ginseng.isa.config import RootStrength, SystemConfig
from ginseng.isa.errors import EncodingError
from ginseng.isa.formats import (
    CLAIMS,
    COMMITMENT_BYTES,
    LOADKEY_PCRS,
    NONCE_BYTES,
    OEM_ID,
    PCR_BYTES,
    PCR_COUNT,
    ROOT_STRENGTH_CODES,
    SECRET_BYTES,
    ClaimLabel,
    Pcr,
    chunk_count,
    chunk_nonce,
    chunk_place,
    event_header,
    loadkey_info,
    sealed_bytes,
    slot_info,
)
from ginseng.isa.mailbox import (
    COMMANDS,
    Command,
    ImportArgument,
    LoadKeyArgument,
    LoadKeyPlaintext,
    LockArgument,
    QuoteArgument,
    RowArgument,
    SlotArgument,
    State,
)
from ginseng.isa.registers import (
    ARGUMENT_BYTES,
    MAGIC,
    RESULT_BYTES,
    Access,
    CommandWord,
    ControlWord,
    Register,
    RegisterMap,
    StatusWord,
    register_map,
)
from ginseng.isa.table import (
    GRANULE,
    MAX_CHUNK,
    TENSOR_ROW,
    Domain,
    Permission,
    Source,
    TensorRow,
)

BUILDS = {"bare": SystemConfig(tec=None), "protected": SystemConfig()}


@pytest.mark.parametrize("build", BUILDS)
def test_no_two_registers_share_a_word(build: str) -> None:
    registers = register_map(BUILDS[build]).registers
    taken = [range(r.offset, r.offset + r.nbytes) for r in registers]
    for one, other in itertools.combinations(taken, 2):
        assert one.stop <= other.start or other.stop <= one.start
    assert len({r.name for r in registers}) == len(registers)
    for register in registers:
        assert register.offset % 4 == 0
        assert register.nbytes % 4 == 0
        assert register.doc


@pytest.mark.parametrize("build", BUILDS)
def test_every_word_leads_to_its_register_and_no_other_does(build: str) -> None:
    registers = register_map(BUILDS[build])
    for register in registers.registers:
        assert registers[register.name] is register
        for offset in range(register.offset, register.offset + register.nbytes, 4):
            assert registers.at(offset) is register
    end = max(r.offset + r.nbytes for r in registers.registers)
    assert registers.at(end) is None
    covered = sum(r.nbytes for r in registers.registers)
    hits = sum(4 for offset in range(0, end, 4) if registers.at(offset) is not None)
    assert hits == covered


def test_overlapping_or_crooked_registers_are_refused() -> None:
    one = Register("one", 0x10, 8, Access.READ, "two words")
    for other in (
        Register("other", 0x14, 4, Access.READ, "inside"),
        Register("other", 0x12, 4, Access.READ, "crooked"),
        Register("other", 0x0C, 8, Access.READ, "across"),
    ):
        with pytest.raises(ValueError, match=f"Register other at {other.offset:#x} is misplaced"):
            RegisterMap((one, other))


def test_protected_build_has_no_way_around_the_mailbox() -> None:
    bare, protected = (register_map(BUILDS[name]) for name in BUILDS)
    plain = {r.name for r in bare.registers} - {r.name for r in protected.registers}
    assert plain >= {"control", "insn_count", "insn_addr", "uop_base", "out_base"}
    writable = {r.name for r in protected.registers if r.access is not Access.READ}
    assert writable == {"reset", "command", "interrupt", "argument"}
    for name in ("magic", "digest"):
        assert bare[name] == protected[name]
    assert struct.pack("<I", MAGIC) == b"GSNG"
    assert bare["digest"].nbytes == len(SystemConfig().digest)


@pytest.mark.parametrize("word", [CommandWord, ControlWord, StatusWord])
def test_control_words_fit_a_register(word: Any) -> None:
    assert Codec(word).nbytes <= 4


def test_every_command_fits_the_argument_window() -> None:
    assert set(COMMANDS) == set(Command)
    for command, spec in COMMANDS.items():
        assert 0 <= spec.length <= ARGUMENT_BYTES, command
        assert spec.states, command
        assert spec.states <= {State.IDLE, State.CONFIG, State.LOCKED}, command
    high = Codec(CommandWord).bounds("length")[1]
    assert high >= ARGUMENT_BYTES
    assert Codec(StatusWord).bounds("result_length")[1] >= RESULT_BYTES
    window = register_map(SystemConfig())["argument"]
    assert (window.nbytes, register_map(SystemConfig())["result"].nbytes) == (
        ARGUMENT_BYTES,
        RESULT_BYTES,
    )


def test_arguments_have_the_lengths_of_their_parts() -> None:
    lengths = {
        Command.BEGIN: 0,
        Command.ROW: 2 + TENSOR_ROW.nbytes,
        Command.SLOT: 1 + 1 + COMMITMENT_BYTES,
        Command.IMPORT: 2 + 5,
        Command.LOCK: 2 + 6,
        Command.QUOTE: 32,
        # An uncompressed P-256 point, then the plaintext and its tag.
        Command.LOADKEY: 65 + (1 + 2 * SECRET_BYTES) + 16,
        Command.RUN: 0,
        Command.END: 0,
    }
    assert {command: spec.length for command, spec in COMMANDS.items()} == lengths
    assert Codec(LoadKeyPlaintext).nbytes == 1 + 2 * SECRET_BYTES


ARGUMENTS = [
    ImportArgument,
    LoadKeyArgument,
    LoadKeyPlaintext,
    LockArgument,
    QuoteArgument,
    SlotArgument,
    TensorRow,
]


@pytest.mark.parametrize("argument", ARGUMENTS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(content=st.data())
def test_arguments_round_trip(argument: type[data.Struct], content: st.DataObject) -> None:
    codec = Codec(argument)
    word = content.draw(st.binary(min_size=codec.nbytes, max_size=codec.nbytes))
    bits = int.from_bytes(word, "little")
    packed = codec.pack(**codec.unpack(word), **codec.unpack_bytes(word))
    assert int.from_bytes(packed, "little") == bits & ~codec.reserved(word)


def test_byte_strings_stand_as_they_are_behind_little_endian_numbers() -> None:
    commitment = bytes(range(32))
    assert (
        Codec(SlotArgument).pack(slot=3, use=1, commitment=commitment) == b"\x03\x01" + commitment
    )
    word = Codec(ImportArgument).pack(handle=0x0102, source=0x1122334455)
    assert word == bytes.fromhex("0201 5544332211")
    assert Codec(LockArgument).pack(entry=1, max_runs=1 << 40) == bytes.fromhex("0100 000000000001")


def rows() -> Iterator[tuple[str, int, int]]:
    """Greatest legal values of every field of a row (TEC specification §3)."""
    yield from (
        ("domain", 5, 4),
        ("slot", 7, 3),
        ("measured", 1, 1),
        ("chunk", MAX_CHUNK, 20),
        ("base", (1 << 40) - 128, 40),
        ("length", (1 << 40) - GRANULE, 40),
        ("version", (1 << 48) - 1, 48),
    )


def test_row_holds_every_legal_value_and_nothing_wider() -> None:
    assert TENSOR_ROW.nbytes == 32
    for name, greatest, bits in rows():
        assert TENSOR_ROW.unpack(TENSOR_ROW.pack(**{name: greatest}))[name] == greatest
        assert TENSOR_ROW.bounds(name) == (0, (1 << bits) - 1)
        with pytest.raises(EncodingError, match=f"TensorRow.{name} holds 0 to"):
            TENSOR_ROW.pack(**{name: 1 << bits})


def test_row_keeps_the_word_aligned_fields_where_pcr_2_hashes_them() -> None:
    word = TENSOR_ROW.pack(
        domain=Domain.EXPORT,
        permissions=Permission.W,
        slot=7,
        measured=1,
        source=Source.PLAIN,
        chunk=0x12340,
        base=0x0123456780,
        length=0x89ABCDEF10,
        version=0x060504030201,
    )
    assert word[4:9].hex() == "8067452301"
    assert word[9:14].hex() == "10efcdab89"
    assert word[14:20].hex() == "010203040506"
    assert word[20:] == bytes(12)
    # domain 5, W, slot 7, measured, plain, then the chunk's 20 bits.
    head = 5 | 2 << 4 | 7 << 7 | 1 << 10 | 1 << 11 | 0x12340 << 12
    assert int.from_bytes(word[:4], "little") == head


def test_reserved_bits_of_a_row_are_seen() -> None:
    word = bytearray(TENSOR_ROW.pack(domain=Domain.SCRATCH, length=16))
    assert TENSOR_ROW.reserved(bytes(word)) == 0
    for at in range(20, 32):
        word[at] = 1
        assert TENSOR_ROW.reserved(bytes(word))
        word[at] = 0


def test_nonce_is_laid_out_big_endian() -> None:
    nonce = chunk_nonce(0xA, 0xBCD, 0x112233445566, 0x778899AA)
    assert nonce.hex() == "abcd112233445566778899aa"
    assert len(nonce) == NONCE_BYTES


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.tuples(
        st.integers(0, 15),
        st.integers(0, (1 << 12) - 1),
        st.integers(0, (1 << 48) - 1),
        st.integers(0, (1 << 32) - 1),
    )
)
def test_nonce_gives_its_parts_back_so_no_two_are_equal(parts: tuple[int, int, int, int]) -> None:
    bits = int.from_bytes(chunk_nonce(*parts), "big")
    assert (bits >> 92, bits >> 80 & 0xFFF, bits >> 32 & (1 << 48) - 1, bits & 0xFFFFFFFF) == parts


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ((16, 0, 0, 0), "domain"),
        ((0, 4096, 0, 0), "handle"),
        ((0, 0, 1 << 48, 0), "version"),
        ((0, 0, 0, 1 << 32), "chunk index"),
        ((0, 0, 0, -1), "chunk index"),
    ],
)
def test_nonce_part_that_would_spill_into_another_is_refused(
    parts: tuple[int, int, int, int], name: str
) -> None:
    with pytest.raises(ValueError, match=f"The {name} of a nonce has"):
        chunk_nonce(*parts)


def test_chunks_are_counted_with_a_short_last_one() -> None:
    assert [chunk_count(n, 64) for n in (16, 64, 80, 128)] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("length", "chunk"), [(16, 64), (64, 64), (80, 64), (1024, 16), (4080, 512)]
)
def test_a_chunk_stands_behind_the_tag_of_the_one_before(length: int, chunk: int) -> None:
    places = [chunk_place(n, chunk) for n in range(chunk_count(length, chunk))]
    assert places[0] == 0
    assert all(b - a == chunk + 16 for a, b in itertools.pairwise(places))
    last = length - (len(places) - 1) * chunk
    assert sealed_bytes(length, chunk) == places[-1] + last + 16


def test_labels_of_key_derivation_differ_by_slot_and_purpose() -> None:
    infos = [slot_info(slot) for slot in range(1, 8)]
    assert infos[2] == b"ginseng slot\x03"
    assert len(set(infos)) == 7
    assert loadkey_info(bytes(32)) == b"ginseng loadkey 1" + bytes(32)


def test_event_header_names_type_handle_and_length() -> None:
    assert event_header(3, 0x0102, 32).hex() == "03" + "0102" + "0000000000000020"


def test_registers_that_loadkey_binds_are_all_but_the_runs() -> None:
    assert [pcr.value for pcr in LOADKEY_PCRS] == [0, 1, 2, 3, 4, 7]
    assert {pcr.value for pcr in Pcr} == set(range(PCR_COUNT))


def test_claims_are_complete_and_their_holes_fixed() -> None:
    assert {claim.label for claim in CLAIMS} == set(ClaimLabel)
    assert len(CLAIMS) == len(ClaimLabel)
    holes = {claim.label: claim.hole for claim in CLAIMS}
    assert holes[ClaimLabel.MEASUREMENTS] == PCR_COUNT * PCR_BYTES
    assert holes[ClaimLabel.EAT_NONCE] == Codec(QuoteArgument).nbytes
    assert len(OEM_ID) == 16
    assert set(ROOT_STRENGTH_CODES) == set(RootStrength)
    assert len(set(ROOT_STRENGTH_CODES.values())) == len(RootStrength)


def test_row_argument_is_a_handle_before_a_row() -> None:
    row = TENSOR_ROW.pack(domain=Domain.IMPORT, length=64, chunk=64, slot=1)
    argument = Codec(RowArgument)
    assert argument.nbytes == 2 + len(row)
    layout = data.Layout.cast(RowArgument)
    assert (layout["handle"].offset, layout["row"].offset) == (0, 16)
