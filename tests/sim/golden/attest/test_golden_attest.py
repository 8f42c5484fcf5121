"""Measurement registers and quotes, read by libraries that did not make them."""

import hashlib
import itertools
import random
from dataclasses import replace

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from pycose.algorithms import Es256
from pycose.headers import Algorithm
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message

from ginseng.golden.attest import Attestation, Evidence, MeasurementRegisters, public_bytes, ueid
from ginseng.golden.port import Fatal
from ginseng.isa.config import RootStrength, SystemConfig
from ginseng.isa.formats import (
    CLAIMS,
    EAT_PROFILE,
    OEM_ID,
    PCR_BYTES,
    PCR_COUNT,
    ClaimLabel,
    Pcr,
    event_header,
)
from ginseng.isa.mailbox import EventType
from ginseng.isa.registers import RESULT_BYTES

KEY = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())


def evidence(seed=0):
    """Return evidence in which every byte is random."""
    randomness = random.Random(seed)
    return Evidence(
        nonce=randomness.randbytes(32),
        cnf=randomness.randbytes(64),
        pcrs=tuple(randomness.randbytes(PCR_BYTES) for _ in range(PCR_COUNT)),
        runs=randomness.getrandbits(48),
        healthy=bool(randomness.getrandbits(1)),
    )


def verify_with_cryptography(quote, key):
    """Return the payload; raise if the signature is wrong or the structure is another."""
    message = cbor2.loads(quote)
    if message.tag != 18:
        raise ValueError("not a COSE_Sign1")
    protected, unprotected, payload, signature = message.value
    if cbor2.loads(protected) != {1: -7} or unprotected != {} or len(signature) != 64:
        raise ValueError("not as this profile has it")
    if cbor2.dumps(message, canonical=True) != quote:
        raise ValueError("not deterministic")
    der = encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    key.verify(der, signed, ec.ECDSA(SHA256()))
    return payload


def decode_with_pycose(quote):
    """Return pycose's message. Its own decoder cannot read what cbor2 6 makes of a tag's value."""
    if quote[:1] != cbor2.dumps(cbor2.CBORTag(Sign1Message.cbor_tag, 0))[:1]:
        raise ValueError("not a COSE_Sign1")
    parts = cbor2.loads(quote[1:])
    # The one byte that nobody signs; pycose takes null for it too.
    if parts[1] != {}:
        raise ValueError("not as this profile has it")
    return Sign1Message.from_cose_obj(parts, True)


def verify_with_pycose(quote, key):
    """Return the payload; raise if pycose does not verify it."""
    message = decode_with_pycose(quote)
    point = public_bytes(key)
    message.key = EC2Key(crv=P256, x=point[:32], y=point[32:])
    if not message.verify_signature():
        raise InvalidSignature
    return message.payload


@pytest.fixture(scope="module")
def attestation():
    return Attestation(SystemConfig(), 5, KEY)


def test_a_register_is_extended_as_the_format_says():
    registers = MeasurementRegisters()
    data = b"a program"
    registers.extend(Pcr.PROGRAM, EventType.PLAIN_IMPORT, 3, data)
    header = b"\x05" + b"\x00\x03" + (9).to_bytes(8, "big")
    assert header == event_header(EventType.PLAIN_IMPORT, 3, 9)
    inner = hashlib.sha256(header + data).digest()
    expected = [bytes(32)] * PCR_COUNT
    expected[3] = hashlib.sha256(bytes(32) + inner).digest()
    assert registers.values == tuple(expected)


@pytest.mark.sec("ATTEST.EXTEND_ONLY")
@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(Pcr),
            st.sampled_from(EventType),
            st.integers(0, 63),
            st.binary(max_size=40),
        ),
        max_size=12,
    )
)
def test_no_sequence_of_events_brings_a_value_back_or_touches_another_register(events):
    registers = MeasurementRegisters()
    seen = [{bytes(PCR_BYTES)} for _ in range(PCR_COUNT)]
    for register, kind, handle, data in events:
        before = registers.values
        registers.extend(register, kind, handle, data)
        after = registers.values
        assert after[register] not in seen[register]
        seen[register].add(after[register])
        assert [n for n in range(PCR_COUNT) if before[n] != after[n]] == [register]
    registers.reset()
    assert registers.values == (bytes(PCR_BYTES),) * PCR_COUNT


def test_events_do_not_commute_and_do_not_run_into_each_other():
    results = set()
    events = [(1, b"ab"), (2, b"c"), (1, b"a"), (2, b"bc")]
    for order in itertools.permutations(events, 2):
        registers = MeasurementRegisters()
        for handle, data in order:
            registers.extend(Pcr.PROGRAM, EventType.PLAIN_IMPORT, handle, data)
        results.add(registers.values[Pcr.PROGRAM])
    assert len(results) == 12


def test_a_quote_is_what_pycose_and_cryptography_verify(attestation):
    given_evidence = evidence()
    quote = attestation.quote(given_evidence)
    assert len(quote) <= RESULT_BYTES
    payload = verify_with_cryptography(quote, KEY.public_key())
    assert verify_with_pycose(quote, KEY.public_key()) == payload
    message = decode_with_pycose(quote)
    assert message.phdr == {Algorithm: Es256}
    assert message.uhdr == {}
    cnf = given_evidence.cnf
    assert cbor2.loads(payload) == {
        ClaimLabel.CNF: {1: 2, -1: 1, -2: cnf[:32], -3: cnf[32:]},
        ClaimLabel.EAT_NONCE: given_evidence.nonce,
        ClaimLabel.UEID: b"\1" + hashlib.sha256(public_bytes(KEY.public_key())).digest(),
        ClaimLabel.OEMID: OEM_ID,
        ClaimLabel.DBGSTAT: 2,
        ClaimLabel.EAT_PROFILE: EAT_PROFILE,
        ClaimLabel.MEASUREMENTS: [[65000, b"".join(given_evidence.pcrs)]],
        ClaimLabel.ROOT_STRENGTH: b"\0",
        ClaimLabel.SVN: (5).to_bytes(8, "big"),
        ClaimLabel.RUNS: given_evidence.runs.to_bytes(8, "big"),
        ClaimLabel.ENTROPY_HEALTH: bytes([given_evidence.healthy]),
    }


def test_a_quote_is_deterministic_cbor(attestation):
    payload = verify_with_cryptography(attestation.quote(evidence()), KEY.public_key())
    assert cbor2.dumps(cbor2.loads(payload), canonical=True) == payload
    labels = [cbor2.dumps(label) for label in cbor2.loads(payload)]
    assert labels == sorted(labels)
    assert {int(claim.label) for claim in CLAIMS} == set(cbor2.loads(payload))


@pytest.mark.parametrize(
    ("config", "debug_status", "strength"),
    [
        (SystemConfig(), 2, 0),
        (SystemConfig(debug=True), 0, 0),
        (SystemConfig(root=RootStrength.DEVELOPMENT), 2, 1),
    ],
)
def test_a_build_says_of_itself_what_it_is(config, debug_status, strength):
    quote = Attestation(config, 1, KEY).quote(evidence())
    claims = cbor2.loads(verify_with_cryptography(quote, KEY.public_key()))
    assert claims[ClaimLabel.DBGSTAT] == debug_status
    assert claims[ClaimLabel.ROOT_STRENGTH] == bytes([strength])


@pytest.mark.sec("ATTEST.FIXED_TEMPLATE")
def test_quotes_of_one_build_differ_only_inside_the_holes(attestation):
    first = evidence(0)
    holes = [first.nonce, first.cnf[:32], first.cnf[32:], b"".join(first.pcrs)]
    holes += [b"\x48" + first.runs.to_bytes(8, "big")]
    quote = attestation.quote(first)
    allowed = set(range(len(quote) - 64, len(quote)))
    for hole in holes:
        assert quote.count(hole) == 1
        allowed |= set(range(quote.index(hole), quote.index(hole) + len(hole)))
    # Entropy health: the byte after its label, -70004, and the head of a string of one byte.
    label = cbor2.dumps(int(ClaimLabel.ENTROPY_HEALTH)) + b"\x41"
    assert quote.count(label) == 1
    allowed.add(quote.index(label) + len(label))
    for seed in range(1, 30):
        other = attestation.quote(evidence(seed))
        assert len(other) == len(quote)
        assert {n for n in range(len(quote)) if quote[n] != other[n]} <= allowed


@pytest.mark.parametrize("runs", [0, 23, 24, 255, 256, 1 << 32, (1 << 48) - 1])
def test_the_length_of_a_quote_does_not_depend_on_its_counters(attestation, runs):
    quote = attestation.quote(replace(evidence(), runs=runs))
    assert len(quote) == len(attestation.quote(evidence()))


def test_evidence_of_another_length_makes_no_quote(attestation):
    for wrong in (
        replace(evidence(), nonce=bytes(31)),
        replace(evidence(), cnf=bytes(65)),
        replace(evidence(), pcrs=(bytes(32),) * 7),
    ):
        with pytest.raises(Fatal):
            attestation.quote(wrong)


@pytest.mark.sec("ATTEST.DETERMINISTIC_NONCE")
def test_the_same_evidence_gives_the_same_signature_and_other_evidence_another_r(attestation):
    assert attestation.quote(evidence(1)) == attestation.quote(evidence(1))
    r = {attestation.quote(evidence(seed))[-64:-32] for seed in range(20)}
    assert len(r) == 20


def test_every_changed_byte_of_a_quote_is_refused(attestation):
    quote = attestation.quote(evidence())
    for verify in (verify_with_pycose, verify_with_cryptography):
        verify(quote, KEY.public_key())
    for at in range(len(quote)):
        # Every value of the structure's bytes, two of all others.
        for flip in range(1, 256) if at < 12 else (0x01, 0x80):
            changed = quote[:at] + bytes([quote[at] ^ flip]) + quote[at + 1 :]
            for verify in (verify_with_pycose, verify_with_cryptography):
                # Whatever a decoder raises on garbage: the test is that no payload comes out.
                with pytest.raises(Exception):  # noqa: B017, PT011
                    verify(changed, KEY.public_key())


def test_the_key_of_another_device_verifies_nothing(attestation):
    other = ec.derive_private_key(0xBEEF, ec.SECP256R1()).public_key()
    quote = attestation.quote(evidence())
    with pytest.raises(InvalidSignature):
        verify_with_cryptography(quote, other)
    with pytest.raises(InvalidSignature):
        verify_with_pycose(quote, other)
    assert ueid(other) != ueid(KEY.public_key())


def test_a_zeroized_block_signs_nothing():
    block = Attestation(SystemConfig(), 1, KEY)
    block.zeroize()
    with pytest.raises(Fatal):
        block.quote(evidence())
