"""Hostile encodings; the forger signs each, so only the parser stands between it and a verdict."""

import time
import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.secureos.evidence import QUOTE_LIMIT


@pytest.mark.sec("VERIFY.STRICT_ENCODING")
def test_a_payload_in_another_encoding_is_rejected(forge):
    claims = forge.claims()
    good = cbor2.dumps(claims, canonical=True)
    assert forge.verify(forge.envelope(good)).accepted
    backwards = cbor2.dumps(dict(sorted(claims.items(), reverse=True)))
    endless = b"\xbf" + good[1:] + b"\xff"
    twice = b"\xac" + good[1:] + cbor2.dumps(10) + cbor2.dumps(bytes(32))
    long_count = b"\xb8\x0b" + good[1:]
    nested_tag = b"\xd8\x3d" + good
    for payload in (backwards, endless, twice, long_count, nested_tag, good + b"\0", good[:-1]):
        assert payload != good
        verdict = forge.verify(forge.envelope(payload))
        assert verdict.claim == "encoding"


def test_missing_and_surplus_claims_are_rejected(forge):
    claims = forge.claims()
    for label in claims:
        less = {key: value for key, value in claims.items() if key != label}
        assert forge.verify(forge.envelope(cbor2.dumps(less, canonical=True))).claim == "encoding"
    more = claims | {4: 1}
    assert forge.verify(forge.envelope(cbor2.dumps(more, canonical=True))).claim == "encoding"
    for payload in (b"", b"\xa0", b"\x80", b"\xf6", cbor2.dumps(list(claims.items()))):
        assert forge.verify(forge.envelope(payload)).claim == "encoding"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({1: -8}, "not ES256"),
        ({1: -35}, "not ES256"),
        ({1: 5}, "not ES256"),
        ({1: "ES256"}, "not ES256"),
        ({1: 0}, "not ES256"),
        ({}, "not ES256"),
        ({1: -7, 2: [4], 4: b"key"}, "critical"),
        ({1: -7, 2: []}, "critical"),
        ({1: -7, 4: b"key"}, "no device writes"),
        ([1, -7], "is a map"),
    ],
)
def test_confused_algorithms_and_unknown_headers_are_rejected(forger, header, reason):
    payload = cbor2.dumps(forger.claims(), canonical=True)
    quote = forger.envelope(payload, protected=cbor2.dumps(header, canonical=True))
    verdict = forger.verify(quote)
    assert verdict.claim == "header"
    assert reason in verdict.reason


@pytest.mark.parametrize("protected", [b"", b"\xa1\x01\x38\x06", b"\xbf\x01\x26\xff", b"\xa1\x01"])
def test_a_protected_header_in_another_encoding_is_rejected(forger, protected):
    payload = cbor2.dumps(forger.claims(), canonical=True)
    assert forger.verify(forger.envelope(payload, protected=protected)).claim == "header"


@pytest.mark.parametrize("unprotected", [{1: -7}, {4: b"key"}, {2: [99]}, {33: b"certificate"}])
def test_unprotected_headers_are_rejected(forger, unprotected):
    payload = cbor2.dumps(forger.claims(), canonical=True)
    assert forger.verify(forger.envelope(payload, unprotected=unprotected)).claim == "header"


def test_other_envelopes_are_rejected(forger):
    parts = cbor2.loads(forger.quote()).value
    protected, _, payload, signature = parts
    whole = [protected, {}, payload, signature]
    for envelope in (
        whole,
        cbor2.CBORTag(17, whole),
        cbor2.CBORTag(61, cbor2.CBORTag(18, whole)),
        cbor2.CBORTag(18, whole[:3]),
        cbor2.CBORTag(18, [*whole, b""]),
        cbor2.CBORTag(18, [protected, {}, None, signature]),
        cbor2.CBORTag(18, b"quote"),
    ):
        assert forger.verify(cbor2.dumps(envelope)).claim == "encoding"
    for wrong in (signature[:-1], signature + b"\0", b""):
        short = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, wrong]))
        assert forger.verify(short).claim == "signature"
    for wrong in (bytes(64), b"\xff" * 64):
        zero = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, wrong]))
        assert forger.verify(zero).claim == "signature"
    assert forger.verify(forger.quote() + b"\0").claim == "encoding"


def blobs():
    mega = 1 << 20
    yield from (bytes(mega), b"\xff" * mega, b"\x81" * mega, b"\xa1\x01" * (mega // 2))
    yield b"\x5a\x00\x0f\xff\xfb" + bytes(mega - 5)
    yield from (b"\x81" * QUOTE_LIMIT, b"\xa1\x01" * (QUOTE_LIMIT // 2), b"\xd2" * QUOTE_LIMIT)
    yield from (b"\x9b" + b"\xff" * 8, b"\x5b" + b"\x7f" * 8, b"\xbb" + b"\x00" + b"\xff" * 7)
    yield b"\xc2\x59\x03\xf0" + b"\xff" * 0x3F0
    yield b"\xd8\x1c\x81\xd8\x1d\x00"


@pytest.mark.parametrize("blob", list(blobs()), ids=lambda blob: f"{blob[:3].hex()}-{len(blob)}")
def test_hostile_blobs_are_rejected_in_bounded_time_and_memory(forger, blob):
    forger.verify(b"")  # whatever is loaded on first use
    payload = forger.envelope(blob[:400])
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        assert forger.verify(blob).claim == "encoding"
        assert forger.verify(payload).claim == "encoding"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - begun < 1
    assert peak < 1 << 19


@settings(max_examples=200)
@given(data=st.binary(max_size=200))
def test_random_bytes_give_a_verdict_never_an_exception(forger, data):
    assert not forger.verify(data).accepted
    assert not forger.verify(forger.envelope(data)).accepted


LABELS = ("CNF", "EAT_NONCE", "UEID", "DBGSTAT", "MEASUREMENTS", "ROOT_STRENGTH", "SVN", "RUNS")
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=70) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-4, 4), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(label=st.sampled_from(LABELS), value=TREES)
def test_claims_of_any_type_give_a_verdict_never_an_exception(forger, label, value):
    verdict = forger.verify(forger.quote(**{label: value}))
    assert not verdict.accepted or label == "SVN"  # every version from 1 on is accepted
