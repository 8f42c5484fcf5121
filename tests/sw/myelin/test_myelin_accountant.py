"""What steps cost, against published numbers, a closed form, and what must hold of any bound."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.accountant import Accountant, Neighbours, Spent, calibrate, epsilon

#: The tutorial of TensorFlow Privacy on MNIST, N = 60,000 and batches of 256, delta 1e-5: noise,
#: epochs, and what Myelin specification §2 says that they cost by PLD and by RDP.
REFERENCE = [(1.3, 15, 0.8645, 0.954), (1.1, 60, 2.3817, 2.597), (0.7, 45, 5.6395, 6.319)]


def steps_of(epochs):
    return int(epochs * 60_000 / 256)


def closed_form(sigma, delta):
    """Return the epsilon of one Gaussian release (Balle and Wang 2018, theorem 8)."""

    def excess(eps):
        ends = (1 / (2 * sigma) - eps * sigma, -1 / (2 * sigma) - eps * sigma)
        return norm.cdf(ends[0]) - math.exp(eps) * norm.cdf(ends[1]) - delta

    return brentq(excess, 0, 100)


@pytest.mark.parametrize(("sigma", "epochs", "pld", "rdp"), REFERENCE)
def test_reference_points(sigma, epochs, pld, rdp):
    spent = [Spent(steps=steps_of(epochs), multiplier=sigma, probability=256 / 60_000)]
    assert epsilon(spent, 1e-5) == pytest.approx(pld, abs=1e-3)
    assert epsilon(spent, 1e-5, accountant=Accountant.RDP) == pytest.approx(rdp, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.7, 1, 3])
@pytest.mark.parametrize("delta", [1e-3, 1e-5])
def test_one_release_of_everybody_costs_what_the_closed_form_says(sigma, delta):
    spent = [Spent(steps=1, multiplier=sigma, probability=1)]
    exact = closed_form(sigma, delta)
    assert exact <= epsilon(spent, delta) <= exact + 1e-3
    assert epsilon(spent, delta, accountant=Accountant.RDP) >= exact


def test_the_reference_of_a_full_batch():
    spent = [Spent(steps=1, multiplier=1, probability=1)]
    assert epsilon(spent, 1e-5) == pytest.approx(4.37718, abs=1e-3)


@given(st.floats(0.8, 4), st.floats(0.001, 0.2), st.integers(1, 300), st.sampled_from([1e-3, 1e-6]))
@settings(max_examples=8, deadline=None)
def test_more_steps_less_noise_and_larger_batches_cost_more(sigma, probability, steps, delta):
    def cost(**change):
        values = {"steps": steps, "multiplier": sigma, "probability": probability} | change
        return epsilon([Spent(**values)], delta)

    slack = 1e-3
    base = cost()
    assert cost(steps=2 * steps) >= base - slack
    assert cost(multiplier=1.3 * sigma) <= base + slack
    assert cost(probability=min(1, 1.5 * probability)) >= base - slack


def test_parts_cost_together_what_the_whole_costs():
    whole = [Spent(steps=90, multiplier=1.2, probability=0.05)]
    parts = [Spent(steps=n, multiplier=1.2, probability=0.05) for n in (30, 0, 60)]
    assert epsilon(parts, 1e-5) == pytest.approx(epsilon(whole, 1e-5), abs=1e-3)


def test_nothing_costs_nothing():
    assert epsilon([Spent(steps=0, multiplier=1, probability=0.1)], 1e-5) == 0


def test_one_who_is_replaced_moves_a_sum_twice_as_far():
    one = epsilon([Spent(steps=1, multiplier=1, probability=1)], 1e-5)
    two = [Spent(steps=1, multiplier=2, probability=1)]
    assert epsilon(two, 1e-5, neighbours=Neighbours.REPLACE) == pytest.approx(one, abs=1e-3)


@pytest.mark.parametrize("budget", [0.5, 4])
def test_the_noise_for_a_budget_is_enough_and_hardly_more(budget):
    setting = {"probability": 0.1, "steps": 100}
    sigma = calibrate(epsilon=budget, delta=1e-4, **setting)
    assert epsilon([Spent(multiplier=sigma, **setting)], 1e-4) <= budget
    assert epsilon([Spent(multiplier=0.995 * sigma, **setting)], 1e-4) > budget


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"multiplier": 0}, "Noise multiplier is a positive number, not 0"),
        ({"multiplier": math.nan}, "not nan"),
        ({"probability": 0}, r"Sampling probability is in \(0, 1\], not 0"),
        ({"probability": 1.1}, "not 1.1"),
        ({"steps": -1}, "at least 0, not -1"),
    ],
)
def test_what_is_no_mechanism_is_refused(change, said):
    with pytest.raises(PrivacyError, match=said):
        Spent(**{"steps": 1, "multiplier": 1, "probability": 0.5} | change)


def test_what_is_no_question_is_refused():
    spent = [Spent(steps=1, multiplier=1, probability=0.5)]
    with pytest.raises(PrivacyError, match="Delta is between 0 and 1, not 0"):
        epsilon(spent, 0)
    with pytest.raises(PrivacyError, match="add-or-remove-one only"):
        epsilon(spent, 1e-5, neighbours=Neighbours.REPLACE, accountant=Accountant.RDP)
    with pytest.raises(PrivacyError, match="Epsilon is a positive number, not -1"):
        calibrate(epsilon=-1, delta=1e-5, probability=0.5, steps=1)
    with pytest.raises(PrivacyError, match="No noise makes 100 steps cost"):
        calibrate(epsilon=1e-5, delta=1e-9, probability=1, steps=100)
