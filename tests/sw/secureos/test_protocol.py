"""Owners against a host that does with the device and the messages whatever it likes."""

from dataclasses import replace

import pytest

from ginseng.driver.boards.model import ModelBoard
from ginseng.golden.keygen import DeviceIdentity
from ginseng.isa.config import CoreConfig, RootStrength, TecConfig
from ginseng.program import dumps, loads
from ginseng.secureos import (
    DataOwner,
    ModelOwner,
    QuoteRefusedError,
    SessionLostError,
    SessionRefusedError,
    local_session,
)
from ginseng.secureos.errors import (
    SessionError,
    TermsError,
)
from ginseng.secureos.keys import SlotSecret


def images(samples, at=0):
    return {"image": samples[at : at + 1]}


def test_two_owners_get_the_networks_results_through_an_untrusted_host(session, tiny, samples):
    assert (session.infer(samples) == tiny(samples)).all()
    assert session.verdicts["model"].accepted
    assert session.verdicts["data"].exports[0].owner == "data"
    assert session.read_bytes > 0
    assert session.write_bytes > 0


def test_a_wider_build_does_the_same(config, tiny_for, samples):
    """AES-256, and two samples in each run."""
    wide = replace(
        config, tec=TecConfig(table_entries=256, key_bits=256), core=CoreConfig(log_batch=1)
    )
    network = tiny_for(wide)
    with ModelBoard(wide) as board, local_session(board, network.program) as session:
        assert session.data_owner.batch == 2
        assert (session.infer(samples[:5]) == network(samples[:5])).all()
        assert session.data_owner.next_run == 4


def test_what_the_device_measures_is_what_the_owners_computed(parties):
    """Every register, at both stages: the golden device and `measure` share only the contract."""
    parties.begin(parties.terms)
    parties.model_owner.agree(parties.terms)
    parties.attest(parties.model_owner)
    parties.data_owner.agree(parties.terms)
    reply = parties.runtime.quote(parties.name, parties.data_owner.challenge())
    verdict = parties.data_owner.appraise(reply)
    assert verdict.accepted, verdict.reason
    assert any(verdict.require().pcrs[4])


def test_progress_names_the_parties_and_never_a_secret(board, tiny, samples):
    steps = []
    with local_session(board, tiny.program, progress=steps.append) as session:
        session.infer(samples[:1])
    assert {"host", "device", "model owner", "data owner"} <= {step.party for step in steps}
    assert "no gates" in steps[0].text


# What an owner refuses


def test_inputs_are_not_released_before_the_weights_are_measured(parties):
    parties.begin(parties.terms)
    parties.data_owner.agree(parties.terms)
    with pytest.raises(QuoteRefusedError) as refused:
        parties.attest(parties.data_owner)
    assert refused.value.claim == "pcr4"


def test_a_host_that_loads_its_own_key_is_seen_in_the_quote(parties):
    own = SlotSecret(3).commitment
    forged = replace(
        parties.terms,
        commitments=tuple(own if c.slot == 3 else c for c in parties.terms.commitments),
    )
    parties.begin(forged)
    for owner in (parties.model_owner, parties.data_owner):
        owner.agree(parties.terms)
    with pytest.raises(QuoteRefusedError) as refused:
        parties.attest(parties.model_owner)
    assert refused.value.claim == "pcr7"
    parties.runtime.end(parties.name)
    with pytest.raises(TermsError, match="not its own"):
        parties.data_owner.agree(forged)


def test_another_run_limit_is_seen_in_the_quote(parties):
    parties.begin(replace(parties.terms, max_runs=9))
    parties.model_owner.agree(parties.terms)
    with pytest.raises(QuoteRefusedError) as refused:
        parties.attest(parties.model_owner)
    assert refused.value.claim == "pcr2"


def test_another_monitor_than_the_agreed_one_is_seen_in_the_quote(parties):
    terms = replace(parties.terms, monitor_rom=bytes(32))
    parties.begin(terms)
    parties.model_owner.agree(terms)
    with pytest.raises(QuoteRefusedError) as refused:
        parties.attest(parties.model_owner)
    assert refused.value.claim == "pcr1"


def test_another_program_is_refused_by_both_owners_and_seen_in_the_quote(parties):
    program = loads(parties.terms.program)
    code = program.contents["code"]
    other = program.with_contents(program.contents | {"code": code[16:] + code[:16]})
    swapped = replace(parties.terms, program=dumps(other))
    for owner in (parties.model_owner, parties.data_owner):
        with pytest.raises(TermsError, match="another program"):
            owner.agree(swapped)
    parties.begin(swapped)
    parties.model_owner.agree(parties.terms)
    with pytest.raises(QuoteRefusedError) as refused:
        parties.attest(parties.model_owner)
    assert refused.value.claim == "pcr3"


def test_changed_weights_never_reach_an_import(parties, tiny, samples):
    """The host flips a bit of the sealed weights: no measurement before the tag is checked."""
    damaged = bytearray(parties.terms.program)
    weights = loads(parties.terms.program).contents["weights"].data
    # The last byte of the last tag.
    damaged[parties.terms.program.index(weights) + len(weights) - 1] ^= 1
    parties.begin(replace(parties.terms, program=bytes(damaged)))
    parties.model_owner.agree(parties.terms)
    with pytest.raises(SessionLostError):
        parties.attest(parties.model_owner)


def test_a_quote_answers_one_challenge_once(parties):
    parties.begin(parties.terms)
    owner = parties.model_owner
    owner.agree(parties.terms)
    reply = parties.runtime.quote(parties.name, owner.challenge())
    owner.challenge()
    with pytest.raises(QuoteRefusedError) as refused:
        owner.release(reply)
    assert refused.value.claim == "eat_nonce"
    with pytest.raises(SessionError, match="No challenge is open"):
        owner.release(reply)


def test_a_quote_that_comes_late_is_refused(board, tiny, maker, policy, meet):
    now = [0.0]
    parties = meet(board)
    owner = ModelOwner(tiny.program, roots=(maker.root,), policy=policy, clock=lambda: now[0])
    terms = replace(
        parties.terms,
        program=owner.program,
        commitments=(*owner.commitments, *parties.data_owner.commitments),
    )
    parties.begin(terms)
    owner.agree(terms)
    nonce = owner.challenge()
    now[0] = policy.nonce_seconds + 1
    with pytest.raises(SessionError, match="older than"):
        owner.release(parties.runtime.quote(parties.name, nonce))
    nonce = owner.challenge()
    now[0] += policy.nonce_seconds - 1
    assert len(owner.release(parties.runtime.quote(parties.name, nonce))) == 1


@pytest.mark.parametrize(
    ("build", "claim"),
    [({"debug": True}, "dbgstat"), ({"root": RootStrength.DEVELOPMENT}, "root_strength")],
)
def test_a_build_that_the_policy_does_not_accept_is_refused(config, meet, tiny_for, build, claim):
    config = replace(config, **build)
    with ModelBoard(config) as board:
        parties = meet(board, network=tiny_for(config))
        with pytest.raises(QuoteRefusedError) as refused:
            parties.open()
        assert refused.value.claim == claim


def test_a_monitor_that_was_rolled_back_is_refused(config, meet, policy):
    with ModelBoard(config, identity=DeviceIdentity(bytes(32), svn=4)) as board:
        parties = meet(board, policy=replace(policy, min_svn=5))
        with pytest.raises(QuoteRefusedError) as refused:
            parties.open()
        assert refused.value.claim == "svn"
        meet(board, policy=replace(policy, min_svn=4)).open()


def test_a_key_released_to_one_device_does_not_open_on_another(board, config, meet):
    """The host relays the quote of board A and offers the released keys to board B."""
    with ModelBoard(config) as other:
        honest, relayed = meet(board), meet(other)
        honest.begin(honest.terms)
        honest.model_owner.agree(honest.terms)
        relayed.begin(honest.terms)
        quote = honest.runtime.quote(honest.name, honest.model_owner.challenge())
        (release,) = honest.model_owner.release(quote)
        with pytest.raises(SessionRefusedError, match="KEY_REFUSED"):
            relayed.runtime.load_key(relayed.name, release)
        assert honest.runtime.load_key(honest.name, release).imported


def test_the_quote_of_one_session_with_the_key_of_another_is_refused(board, config, meet):
    with ModelBoard(config) as other:
        one, two = meet(board), meet(other)
        one.begin(one.terms)
        two.begin(one.terms)
        owner = one.model_owner
        owner.agree(one.terms)
        nonce = owner.challenge()
        mine, theirs = (p.runtime.quote(p.name, nonce) for p in (one, two))
        key = session_key_of(theirs.quote)
        forged = mine.quote.replace(session_key_of(mine.quote), key)
        assert forged != mine.quote
        with pytest.raises(QuoteRefusedError) as refused:
            owner.release(replace(mine, quote=forged))
        assert refused.value.claim == "signature"


def session_key_of(quote):
    """Return the encoded COSE_Key of a quote: its session's public key."""
    at = quote.index(b"\xa4\x01\x02\x20\x01\x21\x58\x20")
    return quote[at : at + 8 + 32 + 3 + 32]


def test_a_session_that_ran_already_gets_no_keys(session, samples):
    """The host shows an owner a session in which runs were done with somebody else's inputs."""
    session.infer(samples[:1])
    with pytest.raises(QuoteRefusedError) as refused:
        session.attest(session.model_owner)
    assert refused.value.claim == "pcr4"
    with pytest.raises(QuoteRefusedError) as refused:
        session.attest(session.data_owner)
    assert refused.value.claim == "pcr6"


def test_exports_that_others_can_read_need_a_policy_that_names_them(parties, maker, policy):
    program = loads(parties.terms.program)
    slots = tuple(replace(s, owner="other") if s.slot == 3 else s for s in program.slots)
    shown = dumps(replace(program, slots=slots))
    reader = SlotSecret(3).commitment

    def owner_and_terms(readers):
        owner = DataOwner(shown, roots=(maker.root,), policy=replace(policy, readers=readers))
        commitments = (parties.terms.commitments[0], *owner.commitments, reader)
        return owner, replace(parties.terms, program=shown, commitments=commitments)

    owner, terms = owner_and_terms(frozenset())
    with pytest.raises(TermsError, match="readable by other"):
        owner.agree(terms)
    for readers in (frozenset({reader.commitment}), None):
        owner, terms = owner_and_terms(readers)
        owner.agree(terms)


def test_a_data_owner_alone_needs_no_list_of_readers(parties, maker, policy):
    owner = DataOwner(
        parties.terms.program, roots=(maker.root,), policy=replace(policy, readers=frozenset())
    )
    commitments = (parties.terms.commitments[0], *owner.commitments)
    owner.agree(replace(parties.terms, commitments=commitments))


# What the device refuses


def test_a_host_cannot_run_without_keys_or_more_often_than_agreed(board, meet, samples):
    parties = meet(board, max_runs=2)
    parties.begin(parties.terms)
    with (
        pytest.raises(SessionRefusedError, match="RUN_KEY"),
        parties.runtime.device_session(parties.name) as device,
    ):
        device.execute()
    parties.runtime.end(parties.name)
    parties.renew()
    for at in range(2):
        parties.run(images(samples, at))
    sealed = parties.data_owner.seal(images(samples, 2))
    with pytest.raises(SessionRefusedError, match="RUN_LIMIT"):
        parties.runtime.run(parties.name, [sealed])


def test_a_host_that_repeats_a_run_with_old_inputs_stops_the_device(session, samples):
    session.run(images(samples))
    with (
        pytest.raises(SessionLostError),
        session.runtime.device_session(session.name) as device,
    ):
        device.execute()


def test_a_key_is_loaded_once(parties):
    parties.begin(parties.terms)
    owner = parties.model_owner
    owner.agree(parties.terms)
    (release,) = owner.release(parties.runtime.quote(parties.name, owner.challenge()))
    parties.runtime.load_key(parties.name, release)
    with pytest.raises(SessionRefusedError, match="KEY_SLOT"):
        parties.runtime.load_key(parties.name, release)


def test_a_program_for_another_build_is_refused(parties, config, tiny_for):
    other = replace(config, debug=True)
    owner = ModelOwner(tiny_for(other).program, roots=(), policy=parties.model_owner.policy)
    terms = replace(
        parties.terms,
        program=owner.program,
        commitments=(*owner.commitments, *parties.data_owner.commitments),
    )
    with pytest.raises(TermsError, match="compile it for this device"):
        parties.runtime.request(terms)
