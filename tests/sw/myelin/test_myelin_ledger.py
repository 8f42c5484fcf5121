"""A ledger is never behind what was seen, and reads back as it was or not at all."""

import os

import cbor2
import pytest

pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.myelin import files
from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.accountant import Neighbours, Spent, epsilon
from ginseng.myelin.privacy.ledger import Ledger, Terms
from ginseng.myelin.privacy.sampler import PoissonSampler

SAMPLER = PoissonSampler.expecting(64, 1437)


def terms(**change):
    values = {
        "epsilon": 4.0,
        "delta": 1e-4,
        "steps": 20,
        "multiplier": 1.0,
        "clip": 1.0,
        "bits": 20,
        "examples": SAMPLER.examples,
        "threshold": SAMPLER.threshold,
    }
    return Terms(**values | change)


def test_steps_are_numbered_and_cost_what_they_cost():
    ledger = Ledger(terms())
    assert ledger.epsilon == 0
    assert [ledger.spend() for _ in range(5)] == [0, 1, 2, 3, 4]
    spent = Spent(steps=5, multiplier=1.0, probability=SAMPLER.probability)
    assert ledger.epsilon == epsilon([spent], 1e-4)
    assert ledger.done == 5


def test_a_budget_is_spent_once():
    ledger = Ledger(terms(steps=2))
    ledger.spend()
    ledger.spend()
    with pytest.raises(PrivacyError, match="All 2 steps of the budget"):
        ledger.spend()
    assert ledger.done == 2


def test_terms_that_cost_too_much_are_refused():
    with pytest.raises(PrivacyError, match=r"20 steps .* cost epsilon .* more than the 0\.1"):
        terms(epsilon=0.1)


def test_a_run_goes_on_where_the_file_ends(tmp_path):
    path = tmp_path / "ledger"
    first = Ledger(terms(), path)
    for _ in range(3):
        first.spend()
    again = Ledger.open(path)
    assert again.terms == first.terms
    assert again.digest == first.digest
    assert again.spend() == 3
    assert Ledger.open(path).done == 4


@pytest.mark.parametrize("dies_at", ["fsync", "replace"])
def test_who_dies_while_writing_has_the_old_or_the_new(tmp_path, monkeypatch, dies_at):
    path = tmp_path / "ledger"
    ledger = Ledger(terms(), path)
    ledger.spend()

    def die(*arguments):
        raise KeyboardInterrupt

    if dies_at == "fsync":
        monkeypatch.setattr(files.os, "fsync", die)
    else:
        monkeypatch.setattr(type(path), "replace", die)
    with pytest.raises(KeyboardInterrupt):
        ledger.spend()
    monkeypatch.undo()
    # The step was not given, so nothing of it was seen.
    assert Ledger.open(path).done == 1


def test_a_step_is_on_the_disk_before_it_is_given(tmp_path, monkeypatch):
    path = tmp_path / "ledger"
    ledger = Ledger(terms(), path)
    synced = []
    true = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda fd: synced.append(true(fd)))
    step = ledger.spend()
    assert len(synced) == 2
    assert Ledger.open(path).done == step + 1


def test_the_digest_is_that_of_all_it_says():
    seen = {Ledger(terms()).digest, Ledger(terms(), done=1).digest}
    changes = ({"clip": 2.0}, {"multiplier": 1.5}, {"steps": 19}, {"bits": 21}, {"epsilon": 5.0})
    seen |= {Ledger(terms(**change)).digest for change in changes}
    seen.add(Ledger(terms(neighbours=Neighbours.REPLACE, multiplier=3.0)).digest)
    assert len(seen) == 8


def changed(**change):
    document = cbor2.loads(Ledger(terms()).to_bytes())
    document.update(change)
    return cbor2.dumps(document, canonical=True)


def changed_terms(**change):
    return changed(terms=cbor2.loads(Ledger(terms()).to_bytes())["terms"] | change)


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (b"", "is CBOR, and this is not"),
        (b"\xff\xff", "is CBOR, and this is not"),
        (cbor2.dumps([1]), "has version, terms and done"),
        (changed(more=1), "has version, terms and done"),
        (changed(version=2), "Ledger version is 1, not 2"),
        (changed(done=21), "from 0 to its 20 steps, not 21"),
        (changed(done=True), "not True"),
        (changed(terms={}), "Terms of a ledger are epsilon, delta"),
        (changed_terms(steps=20.0), "steps is a int"),
        (changed_terms(neighbours="nobody"), "one of add-or-remove-one, replace-one"),
        (changed_terms(multiplier=0.5), "more than the 4 of the budget"),
        (cbor2.dumps(cbor2.loads(Ledger(terms()).to_bytes())), "say the same otherwise"),
    ],
)
def test_what_is_no_ledger_is_refused(encoded, said):
    with pytest.raises(PrivacyError, match=said):
        Ledger.from_bytes(encoded)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PrivacyError, match=r"Ledger .*nowhere cannot be read: No such file"):
        Ledger.open(tmp_path / "nowhere")
