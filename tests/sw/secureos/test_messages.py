import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.secureos.errors import MessageError
from ginseng.secureos.messages import (
    DeviceInfo,
    KeyRelease,
    QuoteReply,
    SealedInputs,
    SealedResults,
    SealedValue,
    SessionStatus,
    SessionTerms,
    SlotCommitment,
    decode,
    encode,
)

BYTES, TEXT = st.binary(max_size=40), st.text(max_size=10)
VALUE = st.builds(SealedValue, tensor=TEXT, sealed=BYTES)
VALUES = st.lists(VALUE, max_size=3).map(tuple)
COUNT = st.integers(0, 1 << 48)
MESSAGES = st.one_of(
    st.builds(SlotCommitment, slot=COUNT, commitment=BYTES),
    st.builds(KeyRelease, slot=COUNT, enc=BYTES, ciphertext=BYTES),
    st.builds(SealedInputs, run=COUNT, values=VALUES),
    st.builds(SealedResults, run=COUNT, values=VALUES, cycles=COUNT),
    st.builds(QuoteReply, quote=BYTES, certificates=st.lists(BYTES, max_size=2).map(tuple)),
    st.builds(SessionStatus, session=TEXT, state=TEXT, imported=st.booleans(), reason=TEXT),
    st.builds(
        DeviceInfo,
        board=TEXT,
        simulated=st.lists(TEXT, max_size=2).map(tuple),
        config=BYTES,
        certificates=st.just(()),
    ),
    st.builds(
        SessionTerms,
        program=BYTES,
        commitments=st.lists(
            st.builds(SlotCommitment, slot=COUNT, commitment=BYTES), max_size=2
        ).map(tuple),
        max_runs=COUNT,
        monitor_rom=BYTES,
    ),
)
KINDS = (SlotCommitment, KeyRelease, SealedInputs, SealedResults, QuoteReply, SessionTerms)


@settings(max_examples=200)
@given(MESSAGES)
def test_a_message_survives_the_wire(message):
    assert decode(type(message), encode(message)) == message


@settings(max_examples=200)
@given(st.sampled_from(KINDS), st.binary(max_size=60))
def test_random_bytes_are_refused_or_the_only_encoding(kind, data):
    try:
        message = decode(kind, data)
    except MessageError:
        return
    assert encode(message) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        cbor2.dumps([True, b"", b""]),
        cbor2.dumps([1.0, b"", b""]),
        cbor2.dumps([1, "text", b""]),
        cbor2.dumps([1, b"", b"", b""]),
        cbor2.dumps({"slot": 1}),
        cbor2.dumps([1, b"", b""]) + b"\0",
        b"\x9f\x01\x40\x40\xff",
        b"\x83\x18\x01\x40\x40",
        b"\x81" * 5000,
        b"\x9b" + b"\x7f" * 8,
    ],
)
def test_malformed_messages_are_refused(data):
    with pytest.raises(MessageError):
        decode(KeyRelease, data)


def test_a_message_beyond_the_limit_is_refused_unread():
    message = encode(QuoteReply(quote=bytes(1000), certificates=()))
    with pytest.raises(MessageError, match="at most 999"):
        decode(QuoteReply, message, limit=999)


def test_ciphertext_does_not_fill_the_logs():
    value = SealedValue(tensor="x", sealed=bytes(1000))
    assert len(repr(SealedInputs(run=1, values=(value,)))) < 100
