"""Runs and their numbers, FATAL, and sessions that are killed and opened again."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from ginseng.driver import CommandRefusedError, Monitor
from ginseng.golden.tec import lane
from ginseng.isa.mailbox import State
from ginseng.program import loads, seal_tensor, sealing
from ginseng.secureos import SessionLostError, SessionRefusedError
from ginseng.secureos.errors import MessageError, ResultError, RunReuseError, SessionError
from ginseng.secureos.keys import SlotSecret
from ginseng.secureos.messages import SealedInputs, SealedValue


def images(samples, at=0):
    return {"image": samples[at : at + 1]}


def test_a_result_opens_only_as_the_run_it_is_of(session, samples):
    sent = {n: session.data_owner.seal(images(samples, n % 6)) for n in range(1, 8)}
    results = {n: session.runtime.run(session.name, [sent[n]]) for n in range(1, 8)}
    with pytest.raises(ResultError, match="of run 3, not of run 7"):
        session.data_owner.open(results[3], run=7)
    with pytest.raises(ResultError, match="run 7 do not open"):
        session.data_owner.open(replace(results[3], run=7), run=7)
    with pytest.raises(ResultError, match="has no inputs"):
        session.data_owner.open(replace(results[3], run=8), run=8)
    assert session.data_owner.open(results[3], run=3)["scores"].shape == (1, 10)


def test_a_result_opens_whole_or_not_at_all(session, samples):
    session.data_owner.seal(images(samples))
    sealed = session.data_owner.seal(images(samples), run=1)
    results = session.runtime.run(session.name, [sealed])
    (value,) = results.values
    for wrong in (
        (),
        (value, value),
        (replace(value, sealed=value.sealed[:-16] + bytes(16)),),
        (replace(value, sealed=value.sealed[:-1]),),
        (replace(value, tensor="x"),),
    ):
        with pytest.raises(ResultError):
            session.data_owner.open(replace(results, values=wrong), run=1)


@pytest.mark.sec("OWNER.RUN_REUSE")
def test_a_run_number_is_never_used_for_two_plaintexts(session, samples):
    owner = session.data_owner
    first = owner.seal(images(samples))
    assert owner.seal(images(samples), run=1) == first, "a retry is the identical message"
    with pytest.raises(RunReuseError, match="other samples"):
        owner.seal(images(samples, 1), run=1)
    with pytest.raises(SessionError, match="next run is 2"):
        owner.seal(images(samples), run=3)
    with pytest.raises(SessionError):
        owner.seal(images(samples), run=0)
    assert owner.seal(images(samples)).run == 2


def test_a_lost_reply_costs_nothing(session, tiny, samples):
    sealed = session.data_owner.seal(images(samples))
    first = session.runtime.run(session.name, [sealed])
    again = session.runtime.run(session.name, [session.data_owner.seal(images(samples), run=1)])
    assert again == first
    opened = session.data_owner.open(again, run=1)["scores"]
    assert (opened == tiny(samples[:1])).all()
    assert session.runtime.status(session.name).runs == 1


def test_runs_are_done_in_order(session, samples):
    one, two = (session.data_owner.seal(images(samples, n)) for n in (0, 1))
    with pytest.raises(SessionError, match="next run of this session is 1"):
        session.runtime.run(session.name, [two])
    session.runtime.run(session.name, [one])
    session.runtime.run(session.name, [two])


def test_incomplete_and_surplus_inputs_are_refused_and_change_nothing(session, tiny, samples):
    sealed = session.data_owner.seal(images(samples))
    for wrong in (
        [],
        [SealedInputs(run=1, values=())],
        [sealed, sealed],
        [replace(sealed, values=(replace(sealed.values[0], tensor="y"),))],
        [replace(sealed, values=(replace(sealed.values[0], sealed=b""),))],
    ):
        with pytest.raises(MessageError, match=r"takes the inputs|with its tags"):
            session.runtime.run(session.name, wrong)
    results = session.runtime.run(session.name, [sealed])
    assert (session.data_owner.open(results, run=1)["scores"] == tiny(samples[:1])).all()


# FATAL, and sessions killed and opened again


def test_after_a_fatal_fresh_secrets_lead_on(session, tiny, samples):
    before = session.terms
    assert (session.infer(samples[:2]) == tiny(samples[:2])).all()
    session.board.dram[:] ^= 1
    with pytest.raises(SessionLostError, match="fresh secrets"):
        session.infer(samples[2:3])
    with pytest.raises(SessionLostError):
        session.runtime.quote(session.name, bytes(32))
    assert session.runtime.status(session.name).state == "over"
    session.renew()
    assert (session.infer(samples) == tiny(samples)).all()
    assert session.data_owner.next_run == 7
    old = {entry.commitment for entry in before.commitments if entry.slot != 1}
    assert old.isdisjoint(entry.commitment for entry in session.terms.commitments)


@pytest.mark.sec("OWNER.ONE_SESSION")
def test_a_data_owner_releases_its_secrets_to_one_session_only(session):
    session.runtime.end(session.name)
    session.begin(session.terms)
    session.attest(session.model_owner)
    with pytest.raises(SessionError, match="renew them"):
        session.attest(session.data_owner)


@pytest.fixture
def encryptions(monkeypatch):
    """Every (key, nonce) that owners and the device encrypted under, with the plaintext."""
    seen = []
    real = sealing.AESGCM

    class Owners:
        def __init__(self, key):
            self._key, self._cipher = key, real(key)

        def encrypt(self, nonce, data, aad):
            seen.append((bytes(self._key), bytes(nonce), bytes(data)))
            return self._cipher.encrypt(nonce, data, aad)

        def decrypt(self, nonce, data, aad):
            return self._cipher.decrypt(nonce, data, aad)

    class Device(lane.Sealer):
        def __init__(self, key, nonce):
            super().__init__(key, nonce)
            self.seen = [bytes(key), bytes(nonce), b""]

        def update(self, plaintext):
            self.seen[2] += bytes(plaintext)
            return super().update(plaintext)

        def finish(self):
            seen.append(tuple(self.seen))
            return super().finish()

    monkeypatch.setattr(sealing, "AESGCM", Owners)
    for module in list(sys.modules.values()):
        # Not `getattr`: some modules answer that with a warning.
        if vars(module).get("Sealer") is Device.__base__:
            monkeypatch.setattr(module, "Sealer", Device)
    return seen


def test_killed_and_reopened_sessions_never_repeat_a_key_and_nonce(
    encryptions, board, meet, samples
):
    """Also for an owner that keeps its secrets: the host kills each session after some runs."""
    parties = meet(board)
    for turn in range(3):
        parties.renew()
        for at in range(2):
            parties.run(images(samples, 2 * turn + at))
    kept = {slot: SlotSecret(slot) for slot in (2, 3)}
    terms = replace(
        parties.terms,
        commitments=(
            parties.terms.commitments[0],
            *(secret.commitment for secret in kept.values()),
        ),
    )
    x = loads(terms.program).by_name["x"]
    parties.runtime.end(parties.name)
    for turn in range(3):
        parties.begin(terms)
        owner = parties.model_owner
        owner.agree(terms)
        parties.attest(owner)
        reply = parties.runtime.quote(parties.name, owner.challenge())
        evidence = owner.appraise(reply, stage="final").require()
        locked = tuple(bytes(32) if n == 4 else pcr for n, pcr in enumerate(evidence.pcrs))
        for secret in kept.values():
            parties.runtime.load_key(parties.name, secret.release(evidence.cnf, locked))
        sealed = seal_tensor(
            kept[2].session_key(evidence.cnf, 16), x, version=1, data=bytes([turn]) * 32
        )
        value = SealedValue(tensor="x", sealed=sealed.data)
        parties.runtime.run(parties.name, [SealedInputs(run=1, values=(value,))])
        parties.runtime.end(parties.name)
    used = {}
    for key, nonce, plaintext in encryptions:
        assert used.setdefault((key, nonce), plaintext) == plaintext
    assert len({key for key, _ in used}) >= 1 + 6 * 3, "static, then three keys in each session"
    assert len(encryptions) > 60


def test_a_power_cycle_in_the_middle_leaves_nothing_of_the_session(session, samples):
    session.run(images(samples))
    Monitor(session.board).reset()
    with pytest.raises(SessionRefusedError, match="WRONG_STATE"):
        session.run(images(samples, 1))
    assert Monitor(session.board).state is State.IDLE
    with pytest.raises(CommandRefusedError):
        Monitor(session.board).quote(bytes(32))


def test_owners_sample_counts_and_shapes_are_checked(session, samples):
    for wrong, message in (
        ({"image": samples[:2]}, "takes 1 to 1 samples"),
        ({"picture": samples[:1]}, "Inputs are"),
        ({"image": samples[:1, :5]}, "takes 1 to 1 samples"),
        ({"image": np.full((1, 20), np.nan)}, "not a number"),
    ):
        with pytest.raises(ValueError, match=message):
            session.data_owner.seal(wrong)
    assert session.data_owner.next_run == 1, "what was refused used no run number"
