"""Which tensor rows the TEC takes, and which rule it names for others (TEC specification §3)."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.golden.dram import Dram
from ginseng.golden.tec import Tec, TecError
from ginseng.isa.config import BusConfig, CoreConfig, SystemConfig, TecConfig
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import TENSOR_ROW, Domain, Permission, SlotUse, Source

R, W, X = (int(p) for p in (Permission.R, Permission.W, Permission.X))
SEALED, PLAIN = int(Source.SEALED), int(Source.PLAIN)
#: A slot of every class: K_mem's, one of each use, one that nobody declared.
ZERO, STATIC, SESSION, UNDECLARED = 0, 1, 2, 3
ANY, NIL = {0, 5}, {0}
#: The table of §3 in its own order: domain, permissions, measured, source, slot, version.
LAW = {
    1: {R: {0: {SEALED: {STATIC: ANY}}, 1: {SEALED: {STATIC: ANY}, PLAIN: {ZERO: NIL}}}},
    2: {R | W: {0: {SEALED: {ZERO: NIL}}}},
    3: {R: {1: {PLAIN: {ZERO: NIL}}}, R | X: {1: {PLAIN: {ZERO: NIL}}}},
    4: {R: {0: {SEALED: {SESSION: NIL}}}},
    5: {W: {0: {SEALED: {SESSION: NIL}}, 1: {SEALED: {SESSION: NIL}}}},
}
RULES = (
    Refusal.ROW_DOMAIN,
    Refusal.ROW_PERMISSIONS,
    Refusal.ROW_MEASURED,
    Refusal.ROW_SOURCE,
    Refusal.ROW_SLOT,
    Refusal.ROW_VERSION,
)
SCRATCH = {"domain": int(Domain.SCRATCH), "permissions": R | W}


def session(window=1 << 14, base=0, entries=64, bitmap=1 << 16, **core):
    config = SystemConfig(
        core=CoreConfig(**core),
        bus=BusConfig(window_base=base, window_bytes=window),
        tec=TecConfig(table_entries=entries, bitmap_bits=bitmap),
    )
    tec = Tec(config, Dram(base, 4096))
    tec.begin(bytes(16))
    assert tec.declare_slot(STATIC, SlotUse.STATIC) is Refusal.NONE
    assert tec.declare_slot(SESSION, SlotUse.SESSION) is Refusal.NONE
    return tec


def row(**fields):
    return TENSOR_ROW.pack(**{"chunk": 64, "length": 256, "base": 0, **SCRATCH, **fields})


@pytest.mark.sec("TEC.LEGAL_ROWS")
def test_every_kind_of_row_is_taken_or_refused_as_the_table_says():
    taken = 0
    for domain, permissions, measured, source, slot, version in itertools.product(
        range(16), range(8), (0, 1), (SEALED, PLAIN), range(4), (0, 5)
    ):
        expected, level = Refusal.NONE, LAW
        for rule, value in zip(
            RULES, (domain, permissions, measured, source, slot, version), strict=True
        ):
            if value not in level:
                expected = rule
                break
            level = level[value] if isinstance(level, dict) else None
        word = row(
            domain=domain,
            permissions=permissions,
            measured=measured,
            source=source,
            slot=slot,
            version=version,
        )
        tec = session()
        assert tec.load_row(9, word) is expected, (domain, permissions, measured, source, slot)
        # A refused row left nothing behind: the place and the handle are free.
        legal = expected is Refusal.NONE
        assert len(tec.rows()) == legal
        assert tec.load_row(9, row()) is (Refusal.ROW_DUPLICATE if legal else Refusal.NONE)
        taken += legal
    assert taken == 11


def test_each_of_the_seven_slots_serves_rows_of_its_use_only():
    tec = session(window=1 << 16)
    for slot in range(3, 8):
        use = SlotUse.STATIC if slot % 2 else SlotUse.SESSION
        assert tec.declare_slot(slot, use) is Refusal.NONE
        domain = Domain.WEIGHTS if slot % 2 else Domain.IMPORT
        wrong = Domain.IMPORT if slot % 2 else Domain.WEIGHTS
        place = {"base": 0x200 * slot, "permissions": R}
        assert tec.load_row(slot, row(domain=wrong, slot=slot, **place)) is Refusal.ROW_SLOT
        assert tec.load_row(slot, row(domain=domain, slot=slot, **place)) is Refusal.NONE


@pytest.mark.parametrize(
    ("handle", "fields", "refusal"),
    [
        (64, {}, Refusal.ROW_HANDLE),
        (0xFFFF, {}, Refusal.ROW_HANDLE),
        (63, {}, Refusal.NONE),
        (0, {"length": 0}, Refusal.ROW_LENGTH),
        (0, {"length": 8}, Refusal.ROW_LENGTH),
        (0, {"length": 264}, Refusal.ROW_LENGTH),
        (0, {"chunk": 0}, Refusal.ROW_CHUNK),
        (0, {"chunk": 8}, Refusal.ROW_CHUNK),
        (0, {"chunk": 72}, Refusal.ROW_CHUNK),
        (0, {"chunk": (1 << 20) - 16}, Refusal.NONE),
        (0, {"chunk": (1 << 20) - 1}, Refusal.ROW_CHUNK),
        (0, {"base": 64}, Refusal.ROW_ALIGNMENT),
        (0, {"base": 0x4000}, Refusal.ROW_WINDOW),
        (0, {"base": 0x3F80}, Refusal.ROW_WINDOW),
        (0, {"base": 0x3F00}, Refusal.ROW_WINDOW),
        (0, {"base": 0x3F00, "length": 240, "chunk": 256}, Refusal.NONE),
        (0, {"base": 0x3F00, "length": 256, "chunk": 256}, Refusal.ROW_WINDOW),
        (0, {"base": 0x3E80}, Refusal.NONE),
        (0, {"base": (1 << 40) - 128}, Refusal.ROW_WINDOW),
        (0, {"length": (1 << 40) - 16}, Refusal.ROW_CHUNK),
        (0, {"length": (1 << 40) - 16, "chunk": 1024}, Refusal.ROW_WINDOW),
    ],
)
def test_the_numbers_of_a_row_are_checked_to_the_byte(handle, fields, refusal):
    assert session().load_row(handle, row(**fields)) is refusal


@pytest.mark.parametrize("bit", range(160, 256))
def test_a_reserved_bit_that_is_set_is_refused(bit):
    word = int.from_bytes(row(), "little") | 1 << bit
    assert session().load_row(0, word.to_bytes(32, "little")) is Refusal.ROW_RESERVED


def test_the_rules_are_checked_in_the_order_of_their_numbers():
    bad = [
        (Refusal.ROW_DOMAIN, {"domain": 0}),
        (Refusal.ROW_PERMISSIONS, {"permissions": X}),
        (Refusal.ROW_MEASURED, {"measured": 1}),
        (Refusal.ROW_SOURCE, {"source": PLAIN}),
        (Refusal.ROW_SLOT, {"slot": STATIC}),
        (Refusal.ROW_VERSION, {"version": 1}),
        (Refusal.ROW_LENGTH, {"length": 24}),
        (Refusal.ROW_CHUNK, {"chunk": 24}),
        (Refusal.ROW_ALIGNMENT, {"base": 0x100010}),
        (Refusal.ROW_WINDOW, {"base": 0x100000}),
    ]
    numbers = [refusal.value for refusal, _ in bad]
    assert numbers == sorted(numbers)
    for first in range(len(bad)):
        fields = {}
        for _, broken in bad[first:]:
            fields = broken | fields
        assert session().load_row(0, row(**fields)) is bad[first][0]
    reserved = int.from_bytes(row(domain=0), "little") | 1 << 255
    tec = session()
    assert tec.load_row(0, row()) is Refusal.NONE
    assert tec.load_row(64, reserved.to_bytes(32, "little")) is Refusal.ROW_HANDLE
    assert tec.load_row(0, reserved.to_bytes(32, "little")) is Refusal.ROW_DUPLICATE
    assert tec.load_row(1, reserved.to_bytes(32, "little")) is Refusal.ROW_RESERVED


@pytest.mark.sec("TEC.ENTRY_CHUNK")
def test_there_is_one_x_row_and_its_chunks_fit_the_fetch_buffer():
    program = {
        "domain": int(Domain.PROGRAM),
        "permissions": R | X,
        "measured": 1,
        "source": PLAIN,
    }
    tec = session()
    assert tec.load_row(0, row(chunk=528, **program)) is Refusal.ROW_ENTRY
    assert tec.load_row(0, row(chunk=512, **program)) is Refusal.NONE
    second = row(base=0x400, **program)
    assert tec.load_row(1, second) is Refusal.ROW_ENTRY
    readable = program | {"permissions": R}
    assert tec.load_row(1, row(base=0x400, chunk=1024, **readable)) is Refusal.NONE


def test_writable_rows_share_the_bits_of_the_bitmap_and_no_more():
    tec = session(bitmap=6)
    assert tec.load_row(0, row(chunk=64, length=256)) is Refusal.NONE
    other = {"base": 0x400}
    assert tec.load_row(1, row(chunk=64, length=144, **other)) is Refusal.ROW_BITMAP
    export = {"domain": int(Domain.EXPORT), "permissions": W, "slot": SESSION}
    assert tec.load_row(1, row(chunk=64, length=144, **export, **other)) is Refusal.ROW_BITMAP
    readable = {"domain": int(Domain.IMPORT), "permissions": R, "slot": SESSION}
    assert tec.load_row(2, row(chunk=16, length=512, base=0x800, **readable)) is (Refusal.NONE)
    assert tec.load_row(1, row(chunk=64, length=128, **other)) is Refusal.NONE
    assert tec.load_row(3, row(base=0xC00, length=16)) is Refusal.ROW_BITMAP


@pytest.mark.sec("TEC.ROW_OVERLAP")
@pytest.mark.sec("TEC.ROW_WINDOW")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 70).map(lambda n: 64 * n),
            st.integers(1, 60).map(lambda n: 16 * n),
            st.sampled_from([16, 32, 48, 256, 4096]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([0, 4096]),
)
def test_rows_never_share_a_byte_and_never_leave_the_window(rows, window):
    """Against sets of byte addresses."""
    tec = session(window=4096, base=window)
    allowed, taken = set(range(window, window + 4096)), set()
    for handle, (base, length, chunk) in enumerate(rows):
        base += window - 256
        if base < 0:
            continue
        at, place = base, set()
        for first in range(0, length, chunk):
            size = min(chunk, length - first) + 16
            place |= set(range(at, at + size))
            at += size
        if base % 128:
            expected = Refusal.ROW_ALIGNMENT
        elif not place <= allowed:
            expected = Refusal.ROW_WINDOW
        elif place & taken:
            expected = Refusal.ROW_OVERLAP
        else:
            expected = Refusal.NONE
            taken |= place
        word = row(base=base, length=length, chunk=chunk)
        assert tec.load_row(handle, word) is expected


def test_the_largest_table_names_its_last_handle():
    tec = session(entries=4096)
    assert tec.load_row(4096, row()) is Refusal.ROW_HANDLE
    assert tec.load_row(4095, row()) is Refusal.NONE
    assert tec.length(4095) == 256


def test_measured_rows_are_ascending_and_say_nothing_of_placement():
    tec = session()
    words = {7: row(), 3: row(base=0x400, length=128, chunk=32)}
    for handle, word in words.items():
        assert tec.load_row(handle, word) is Refusal.NONE
    assert tec.rows() == [
        (3, row(base=0, length=128, chunk=32)),
        (7, row(base=0)),
    ]


@pytest.mark.sec("TEC.KEY_SLOT_USE")
def test_a_slot_is_declared_once_and_for_one_use():
    tec = session()
    assert tec.declare_slot(0, SlotUse.STATIC) is Refusal.SLOT_USE
    assert tec.declare_slot(8, SlotUse.STATIC) is Refusal.ILLEGAL_ARGUMENT
    for use in (0, 3, 4, 255):
        assert tec.declare_slot(4, use) is Refusal.SLOT_USE
    assert tec.declare_slot(4, 2) is Refusal.NONE
    assert tec.declare_slot(4, SlotUse.SESSION) is Refusal.SLOT_TAKEN
    assert tec.declare_slot(STATIC, SlotUse.SESSION) is Refusal.SLOT_TAKEN


def test_a_build_without_tec_has_no_model_of_one():
    with pytest.raises(TecError, match="TecConfig"):
        Tec(SystemConfig(tec=None), Dram(0, 16))
