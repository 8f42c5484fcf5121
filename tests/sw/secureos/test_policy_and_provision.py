import json
import stat
from dataclasses import replace

import pytest
from cryptography import x509

from ginseng.isa.config import RootStrength
from ginseng.program import Measurements
from ginseng.secureos import Manufacturer, Policy
from ginseng.secureos.errors import PolicyError, ProvisionError
from ginseng.secureos.provision import device_name

REFERENCE = Measurements(tuple(bytes([n]) * 32 for n in range(8)), (bytes(32),) * 8)
POLICY = Policy(
    root_strengths=frozenset({RootStrength.VENDOR, RootStrength.HARDWARE}),
    min_svn=9,
    nonce_seconds=60,
    readers=frozenset({b"\5" * 32}),
    reference=REFERENCE,
)
#: The base point of P-256.
POINT = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


def test_a_policy_survives_its_file(tmp_path):
    for policy in (POLICY, replace(POLICY, readers=None, reference=None, allow_debug=True)):
        policy.save(tmp_path / "policy.json")
        assert Policy.load(tmp_path / "policy.json") == policy
        assert Policy.load(tmp_path / "policy.json").name == policy.name


def test_absent_keys_take_their_default_but_roots_have_none(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text('{"format": "ginseng-policy-1", "root_strengths": ["simulated"]}')
    assert Policy.load(path) == Policy(root_strengths=frozenset({RootStrength.SIMULATED}))
    path.write_text('{"format": "ginseng-policy-1"}')
    with pytest.raises(PolicyError, match="root_strengths"):
        Policy.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "ginseng-policy-0"}, "format"),
        ({"min_snv": 3}, "unknown keys"),
        ({"min_svn": "3"}, "of type int"),
        ({"min_svn": True}, "of type int"),
        ({"allow_debug": 0}, "of type bool"),
        ({"root_strengths": ["strong"]}, "strong"),
        ({"readers": ["xy"]}, "no policy"),
        ({"reference": {"locked": [], "final": []}}, "8 registers"),
        ({"reference": {"locked": ["00" * 32] * 8}}, "final"),
        ({"reference": {"locked": ["00" * 32] * 8, "final": ["00"] * 8}}, "32 bytes"),
    ],
)
def test_a_policy_that_could_be_misread_is_refused(tmp_path, changes, message):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(json.loads(POLICY.text) | changes))
    with pytest.raises(PolicyError, match=message):
        Policy.load(path)


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "null", '"x"', "[" * 100_000, "\ud800"])
def test_what_is_no_policy_is_refused(tmp_path, text):
    path = tmp_path / "policy.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(PolicyError):
        Policy.load(path)
    with pytest.raises(PolicyError, match="cannot be read"):
        Policy.load(tmp_path / "absent.json")


def test_a_manufacturer_survives_its_folder_and_keeps_its_key_to_itself(tmp_path):
    maker = Manufacturer.create("Test maker")
    maker.save(tmp_path / "ca")
    (key,) = (tmp_path / "ca").glob("*key*")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = Manufacturer.load(tmp_path / "ca")
    assert again.root == maker.root
    assert "Test maker" in repr(again)
    with pytest.raises(ProvisionError, match="exists"):
        Manufacturer.create().save(tmp_path / "ca")


def test_a_damaged_manufacturer_is_refused(tmp_path):
    with pytest.raises(ProvisionError, match="holds no manufacturer"):
        Manufacturer.load(tmp_path)
    one, two = Manufacturer.create(), Manufacturer.create()
    one.save(tmp_path / "one")
    two.save(tmp_path / "two")
    (certificate,) = set((tmp_path / "two").iterdir()) - set((tmp_path / "two").glob("*key*"))
    (tmp_path / "one" / certificate.name).write_bytes(certificate.read_bytes())
    with pytest.raises(ProvisionError, match="another key"):
        Manufacturer.load(tmp_path / "one")
    certificate.write_text("nothing")
    with pytest.raises(ProvisionError, match="damaged"):
        Manufacturer.load(tmp_path / "two")


def test_a_certificate_names_the_device_and_how_well_its_key_is_guarded():
    maker = Manufacturer.create()
    der = maker.certify(POINT, strength=RootStrength.DEVELOPMENT)
    certificate = x509.load_der_x509_certificate(der)
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(maker.root))
    (serial,) = certificate.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)
    assert serial.value == device_name(POINT)
    assert b"development" in der


def test_a_key_in_a_file_vouches_for_no_hardware():
    for strength in (RootStrength.VENDOR, RootStrength.HARDWARE):
        with pytest.raises(ProvisionError, match="cannot be vouched for"):
            Manufacturer.create().certify(POINT, strength=strength)


@pytest.mark.parametrize("point", [bytes(64), POINT[:-1], POINT + b"\0", POINT[:-1] + b"\0"])
def test_what_is_no_point_is_not_certified(point):
    with pytest.raises(ProvisionError, match="no attestation key"):
        Manufacturer.create().certify(point, strength=RootStrength.SIMULATED)
