"""Audits pass what is right, and find what is wrong by their own means."""

import json

import numpy as np
import pytest

pytest.importorskip("tvm", reason="comes with the extra tvm")
pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.cli.app import main
from ginseng.myelin.audit.audit import audit
from ginseng.myelin.audit.canaries import audit_canaries, epsilon_from_guesses
from ginseng.myelin.audit.neighbours import audit_neighbours
from ginseng.myelin.audit.noise import audit_noise
from ginseng.myelin.audit.sampling import audit_sampling
from ginseng.myelin.privacy.grid import Grid
from ginseng.myelin.training.train import Plan

AUDITS = ["neighbours", "noise", "noise is new", "sampling", "sampling is independent", "canaries"]
RNG = np.random.default_rng


def data(count=200):
    rng = RNG(1)
    return rng.standard_normal((count, 4)).astype(np.float32), rng.integers(0, 3, count)


def test_the_mechanism_passes_its_audits(linear):
    plan = Plan(epsilon=4.0, delta=1e-4, batch=60, steps=40)
    findings = audit(linear, *data(), plan, seed=1)
    assert [finding.audit for finding in findings] == AUDITS
    assert all(finding.passed for finding in findings), findings
    by_name = {finding.audit: finding for finding in findings}
    # They see something: examples that are clipped, and canaries that are found.
    assert by_name["neighbours"].measured > 0.99
    assert 0.3 < by_name["canaries"].measured < 4


GRADIENTS = 4 * RNG(2).standard_normal((8, 5))


def clipped(n):
    gradient = GRADIENTS[n]
    return gradient / max(1.0, np.linalg.norm(gradient))


BROKEN_SUMS = {
    "no clip": lambda batch: [sum(GRADIENTS[n] for n in batch)],
    "clip after the sum": lambda batch: [
        (lambda s: s / max(1.0, np.linalg.norm(s) / 3))(sum(GRADIENTS[n] for n in batch))
    ],
    "divided by the true batch": lambda batch: [sum(clipped(n) for n in batch) * 20 / len(batch)],
    "with something of all the batch": lambda batch: [
        sum(
            (lambda g: g / max(1.0, np.linalg.norm(g)))(GRADIENTS[n] + 3 * GRADIENTS[batch].sum(0))
            for n in batch
        )
    ],
}


def test_a_sum_of_clipped_gradients_passes():
    finding = audit_neighbours(lambda batch: [sum(clipped(n) for n in batch)], range(8), 1.0)
    assert finding.passed
    assert finding.measured == pytest.approx(1)


@pytest.mark.parametrize("total", BROKEN_SUMS.values(), ids=BROKEN_SUMS)
def test_a_sum_that_is_not_clipped_right_is_found(total):
    finding = audit_neighbours(total, list(range(8)), 1.0)
    assert not finding.passed
    assert finding.measured > 1


def normal(step, scale=1.0):
    return RNG(step).normal(0, 3.0 * scale, 3000)


BROKEN_NOISE = {
    "divided twice": ("noise", lambda step: [normal(step, 0.25)]),
    "a little less": ("noise", lambda step: [normal(step, 0.97)]),
    "of another shape": ("noise", lambda step: [RNG(step).laplace(0, 3.0 / 2**0.5, 3000)]),
    "none": ("noise", lambda step: [np.zeros(3000)]),
    "the same in every step": ("noise is new", lambda step: [normal(0)]),
    "the same in two tensors": ("noise is new", lambda step: [normal(step)] * 2),
    "the other sign of the step before": (
        "noise is new",
        lambda step: [normal(step // 2) * (-1) ** step],
    ),
}


def test_noise_that_is_right_passes():
    exact = [np.full(3000, 7.0), np.ones((2, 100))]

    def release(step):
        return [exact[0] + normal(step), exact[1] + RNG([9, step]).normal(0, 3, (2, 100))]

    assert all(finding.passed for finding in audit_noise(release, exact, 3.0))


@pytest.mark.parametrize(("audit_name", "release"), BROKEN_NOISE.values(), ids=BROKEN_NOISE)
def test_noise_that_is_wrong_is_found(audit_name, release):
    exact = [np.zeros(3000)] * len(release(0))
    findings = audit_noise(release, exact, 3.0)
    assert audit_name in [finding.audit for finding in findings if not finding.passed]


BROKEN_SAMPLES = {
    "more often": ("sampling", lambda step: np.flatnonzero(RNG(step).random(500) < 0.13)),
    "shuffled": (
        "sampling is independent",
        lambda step: RNG(step).permutation(500)[:50],
    ),
    "in groups": (
        "sampling is independent",
        lambda step: np.flatnonzero(np.repeat(RNG(step).random(50) < 0.1, 10)),
    ),
    "twice": ("sampling", lambda step: RNG(step).integers(0, 500, 50)),
}


def test_independent_examples_pass():
    def sample(step):
        return np.flatnonzero(RNG(step).random(500) < 0.1)

    assert all(finding.passed for finding in audit_sampling(sample, 500, 0.1))
    everybody = audit_sampling(lambda step: np.arange(5), 5, 1.0)
    assert all(finding.passed for finding in everybody)


@pytest.mark.parametrize(("audit_name", "sample"), BROKEN_SAMPLES.values(), ids=BROKEN_SAMPLES)
def test_samples_that_are_wrong_are_found(audit_name, sample):
    findings = audit_sampling(sample, 500, 0.1)
    assert audit_name in [finding.audit for finding in findings if not finding.passed]


def canary_run(sigma):
    return lambda there: there + RNG(3).normal(0, sigma, len(there))


def test_canaries_refute_what_has_too_little_noise():
    setting = {"canaries": 1000, "guesses": 200, "epsilon": 2.0, "delta": 1e-5}
    loud = audit_canaries(canary_run(0.1), **setting, rng=RNG(4))
    assert not loud.passed
    assert loud.measured > 2
    silent = audit_canaries(canary_run(5.0), **setting, rng=RNG(4))
    assert silent.passed
    assert silent.measured < 1


def test_guesses_that_could_be_luck_show_nothing():
    same = {"canaries": 1000, "guesses": 100, "delta": 1e-5}
    assert epsilon_from_guesses(right=50, **same) == 0
    found = [epsilon_from_guesses(right=right, **same) for right in (70, 80, 90, 100)]
    assert found == sorted(found)
    assert found[0] > 0
    # With no delta and all right, the binomial alone: e^eps / (1 + e^eps) to the 100 is 1 %.
    exact = epsilon_from_guesses(canaries=100, guesses=100, right=100, delta=0.0)
    assert (1 / (1 + np.exp(-exact))) ** 100 == pytest.approx(0.01, rel=1e-2)


def run_audit(linear, tmp_path):
    path = tmp_path / "private.npz"
    examples, labels = data()
    np.savez(path, x=examples, y=labels)
    arguments = ["myelin", "audit", str(linear), "--data", str(path), "--epsilon", "4"]
    return main([*arguments, "--delta", "1e-4", "--batch", "60", "--steps", "20", "--json"])


def test_the_command_passes_what_is_right(linear, tmp_path, capsys):
    assert run_audit(linear, tmp_path) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [finding["audit"] for finding in findings] == AUDITS


def test_the_command_fails_for_a_mechanism_without_a_clip(linear, tmp_path, capsys, monkeypatch):
    def unclipped(self, gradient):
        return [np.trunc(part * (self.bound / self.clip)).astype(np.int64) for part in gradient]

    monkeypatch.setattr(Grid, "quantise", unclipped)
    assert run_audit(linear, tmp_path) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert "neighbours" in [finding["audit"] for finding in findings if not finding["passed"]]
