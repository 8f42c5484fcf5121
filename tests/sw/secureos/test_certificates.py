from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ginseng.isa.config import RootStrength
from ginseng.secureos import Manufacturer
from ginseng.secureos.provision import ROOT_STRENGTH_OID


def certificate(key, issuer_key, issuer, **changes):
    """Return a certificate as the manufacturer's but for ``changes``."""
    given = {"ca": False, "signs": True, "until": timedelta(days=9), "extra": True} | changes
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + given["until"])
        .add_extension(x509.BasicConstraints(given["ca"], None), critical=True)
        .add_extension(
            x509.KeyUsage(given["signs"], *[False] * 5, not given["signs"], False, False)
            if given["signs"]
            else x509.KeyUsage(False, False, True, *[False] * 6),
            critical=True,
        )
    )
    if given["extra"]:
        text = given.get("strength", b"\x0c\x09simulated")
        builder = builder.add_extension(
            x509.UnrecognizedExtension(ROOT_STRENGTH_OID, text), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def authority():
    """A root whose key the tests hold."""
    key = ec.derive_private_key(0x99, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    now = datetime.now(UTC)
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + timedelta(days=20))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, name, root.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ca": True}, "an authority's"),
        ({"signs": False}, "not for signatures"),
        ({"until": -timedelta(days=1)}, "not valid at this time"),
        ({"extra": False}, "malformed"),
        ({"strength": b"\x0c\x08hardware!"}, "UTF8String"),
        ({"strength": b"\x0c\x04none"}, "malformed"),
    ],
)
def test_a_certificate_that_is_not_a_devices_is_rejected(forge, authority, changes, reason):
    key, name, root = authority
    good = certificate(forge.key, key, name)
    assert forge.verify(forge.quote(), chain=(good,), roots=(root,)).accepted
    bad = certificate(forge.key, key, name, **changes)
    verdict = forge.verify(forge.quote(), chain=(bad,), roots=(root,))
    assert verdict.claim == "chain"
    assert reason in verdict.reason


def test_a_certificate_is_checked_at_the_time_that_is_given(forge):
    late = datetime.now(UTC) + timedelta(days=36500)
    assert forge.verify(forge.quote(), at=late).claim == "chain"


def test_only_a_trusted_manufacturer_counts(forge):
    stranger = Manufacturer.create("Another name")
    assert forge.verify(forge.quote(), roots=(stranger.root,)).claim == "chain"
    assert forge.verify(forge.quote(), roots=()).claim == "chain"
    assert forge.verify(forge.quote(), roots=(stranger.root, forge.maker.root)).accepted


def test_a_namesake_of_the_manufacturer_neither_passes_nor_blocks(forge):
    stranger = Manufacturer.create()
    assert forge.verify(forge.quote(), roots=(stranger.root,)).claim == "chain"
    assert forge.verify(forge.quote(), roots=(stranger.root, forge.maker.root)).accepted
    assert forge.verify(forge.quote(), roots=(forge.maker.root, stranger.root)).accepted


def test_another_devices_certificate_does_not_fit(forge):
    other = ec.derive_private_key(0x42, ec.SECP256R1())
    numbers = other.public_key().public_numbers()
    public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    chain = (forge.maker.certify(public, strength=RootStrength.SIMULATED),)
    assert forge.verify(forge.quote(), chain=chain).claim == "ueid"
    impostor = replace(forge, key=other)
    renamed = impostor.quote(UEID=forge.claims()[256])
    assert forge.verify(renamed).claim == "signature"


@pytest.mark.parametrize(
    "chain",
    [(), (b"",), (b"\x30\x80",), (bytes(5000),), (b"\x30" * 3000,)],
)
def test_what_is_no_certificate_is_rejected(forger, chain):
    assert forger.verify(forger.quote(), chain=chain).claim == "chain"


def test_a_long_chain_is_rejected(forger):
    assert forger.verify(forger.quote(), chain=forger.chain * 3).claim == "chain"
