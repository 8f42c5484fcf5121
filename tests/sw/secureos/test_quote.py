from dataclasses import replace

import pytest

from ginseng.isa.config import RootStrength
from ginseng.isa.formats import MEASUREMENTS_FORMAT, Pcr
from ginseng.program import Measurements
from ginseng.secureos import Policy, QuoteRefusedError


def test_an_honest_quote_is_accepted(forger):
    verdict = forger.verify(forger.quote())
    assert verdict.accepted
    assert verdict.claim is None
    assert verdict.require().pcrs == forger.measurements.final
    assert verdict.require().svn == 3


def test_the_chain_may_carry_the_root(forger):
    assert forger.verify(forger.quote(), chain=(*forger.chain, forger.maker.root)).accepted


def test_every_flipped_byte_of_a_quote_is_rejected(forger):
    quote = forger.quote()
    for at in range(len(quote)):
        for mask in (1 << at % 8, 0xFF):
            damaged = bytearray(quote)
            damaged[at] ^= mask
            verdict = forger.verify(bytes(damaged))
            assert not verdict.accepted, f"byte {at} was changed"
            assert verdict.claim
            with pytest.raises(QuoteRefusedError):
                verdict.require()


def test_a_quote_cut_at_any_length_is_rejected(forger):
    quote = forger.quote()
    assert not any(forger.verify(quote[:length]).accepted for length in range(len(quote)))


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"EAT_NONCE": bytes(32)}, "eat_nonce"),
        ({"EAT_NONCE": bytes(31)}, "eat_nonce"),
        ({"EAT_NONCE": 5}, "eat_nonce"),
        ({"UEID": b"\1" + bytes(32)}, "ueid"),
        ({"OEMID": bytes(16)}, "oemid"),
        ({"DBGSTAT": 0}, "dbgstat"),
        ({"DBGSTAT": True}, "dbgstat"),
        ({"DBGSTAT": 3}, "dbgstat"),
        ({"EAT_PROFILE": "tag:somebody,2026:quote-1"}, "eat_profile"),
        ({"ROOT_STRENGTH": b"\3"}, "root_strength"),
        ({"ROOT_STRENGTH": b"\1"}, "root_strength"),
        ({"ROOT_STRENGTH": b"\x09"}, "root_strength"),
        ({"ROOT_STRENGTH": b"\0\0"}, "root_strength"),
        ({"ROOT_STRENGTH": b""}, "root_strength"),
        ({"SVN": bytes(8)}, "svn"),
        ({"SVN": b"\3"}, "svn"),
        ({"RUNS": (1).to_bytes(8, "big")}, "runs"),
        ({"ENTROPY_HEALTH": b"\0"}, "entropy_health"),
        ({"ENTROPY_HEALTH": b"\xff"}, "entropy_health"),
        ({"CNF": {1: 2, -1: 1, -2: bytes(32), -3: bytes(32)}}, "cnf"),
        ({"CNF": {1: 2, -1: 2, -2: bytes(32), -3: bytes(32)}}, "cnf"),
        ({"CNF": {1: 2, -1: 1, -2: bytes(31), -3: bytes(32)}}, "cnf"),
        ({"CNF": {1: 2, -1: 1, -2: bytes(32)}}, "cnf"),
        ({"CNF": bytes(64)}, "cnf"),
        ({"MEASUREMENTS": [[MEASUREMENTS_FORMAT, bytes(255)]]}, "measurements"),
        ({"MEASUREMENTS": [[60, bytes(256)]]}, "measurements"),
        ({"MEASUREMENTS": []}, "measurements"),
    ],
)
def test_one_wrong_claim_is_rejected_and_named(forger, changes, claim):
    verdict = forger.verify(forger.quote(**changes))
    assert not verdict.accepted
    assert verdict.claim == claim


@pytest.mark.parametrize("register", range(8))
def test_one_wrong_register_is_rejected_and_named(forger, register):
    for at in (0, 31):
        wrong = bytearray(b"".join(forger.measurements.final))
        wrong[32 * register + at] ^= 1
        quote = forger.quote(MEASUREMENTS=[[MEASUREMENTS_FORMAT, bytes(wrong)]])
        verdict = forger.verify(quote)
        assert (verdict.accepted, verdict.claim) == (False, f"pcr{register}")
        assert Pcr(register).name.lower() in verdict.reason


def test_the_stage_decides_which_reference_values_hold(forger):
    locked = b"".join(forger.measurements.locked)
    early = forger.quote(MEASUREMENTS=[[MEASUREMENTS_FORMAT, locked]])
    assert forger.verify(early, stage="locked").accepted
    assert forger.verify(early, stage="final").claim == "pcr4"
    assert forger.verify(forger.quote(), stage="locked").claim == "pcr4"


def test_later_quotes_are_compared_with_the_runs_that_were_done(forger):
    registers = list(forger.measurements.final)
    registers[Pcr.RUNS] = b"\5" * 32
    quote = forger.quote(
        MEASUREMENTS=[[MEASUREMENTS_FORMAT, b"".join(registers)]], RUNS=(7).to_bytes(8, "big")
    )
    assert forger.verify(quote, runs=7, run_register=b"\5" * 32).accepted
    assert forger.verify(quote, runs=6, run_register=b"\5" * 32).claim == "runs"
    assert forger.verify(quote, runs=7).claim == "pcr6"


def test_a_rolled_back_monitor_is_rejected(forger):
    strict = replace(forger.policy, min_svn=4)
    assert forger.verify(forger.quote(), policy=strict).claim == "svn"
    assert forger.verify(forger.quote(SVN=(4).to_bytes(8, "big")), policy=strict).accepted


def test_a_debug_build_needs_a_policy_that_allows_it(forger):
    lenient = replace(forger.policy, allow_debug=True)
    assert forger.verify(forger.quote(DBGSTAT=0), policy=lenient).accepted
    assert forger.verify(forger.quote(), policy=lenient).accepted
    assert forger.verify(forger.quote(DBGSTAT=1), policy=lenient).claim == "dbgstat"


@pytest.mark.sec("VERIFY.ROOT_STRENGTH")
def test_a_device_cannot_claim_a_stronger_root_than_its_certificate(forger):
    """Who runs a simulated device knows its key and can sign anything."""
    lenient = replace(forger.policy, root_strengths=frozenset(RootStrength))
    for code in (1, 2, 3):
        verdict = forger.verify(forger.quote(ROOT_STRENGTH=bytes([code])), policy=lenient)
        assert verdict.claim == "root_strength"
        assert "the certificate simulated" in verdict.reason


def test_a_root_that_the_policy_does_not_accept_is_rejected(forger):
    strict = replace(forger.policy, root_strengths=frozenset({RootStrength.HARDWARE}))
    assert forger.verify(forger.quote(), policy=strict).claim == "root_strength"


def test_the_policy_can_carry_the_reference_values(forger):
    policy = replace(forger.policy, reference=forger.measurements)
    assert forger.verify(forger.quote(), policy=policy, measurements=None).accepted
    assert forger.verify(forger.quote(), measurements=None).claim == "policy"
    other = Measurements(forger.measurements.locked, (bytes(32),) * 8)
    policy = replace(forger.policy, reference=other)
    assert forger.verify(forger.quote(), policy=policy, measurements=None).claim == "pcr0"


def test_the_verdict_is_an_attestation_result(forger):
    good = forger.verify(forger.quote()).document
    assert (good["accepted"], good["claim"]) == (True, None)
    result = good["ear"]["submods"]["ginseng"]
    assert result["ear.status"] == "warning", "a simulated root is never better than a warning"
    assert result["ear.trustworthiness-vector"]["hardware"] == 32
    assert result["ear.appraisal-policy-id"] == f"sha-256:{forger.policy.name}"
    for changes, part in (
        ({"EAT_NONCE": bytes(32)}, "instance-identity"),
        ({"ENTROPY_HEALTH": b"\0"}, "hardware"),
        ({"DBGSTAT": 0}, "configuration"),
        ({"MEASUREMENTS": [[MEASUREMENTS_FORMAT, bytes(256)]]}, "configuration"),
    ):
        bad = forger.verify(forger.quote(**changes)).document["ear"]["submods"]["ginseng"]
        assert bad["ear.status"] == "contraindicated"
        assert bad["ear.trustworthiness-vector"][part] == 96


def test_verdicts_name_the_policy(forger):
    stricter = Policy(root_strengths=forger.policy.root_strengths, min_svn=2)
    assert (
        forger.verify(forger.quote()).policy
        != forger.verify(forger.quote(), policy=stricter).policy
    )
