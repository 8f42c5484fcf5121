"""Simulated leakage: the measure finds what is there, and nothing where nothing is."""

import numpy as np
import pytest

from ginseng.bench.leakage import THRESHOLD, measure, welch
from ginseng.crypto.aes import AesConfig


def test_t_is_that_of_a_worked_example():
    # Means 2 and 4, variances 1 and 4, three rows each: t = -2 / sqrt(1/3 + 4/3).
    a, b = np.array([[1], [2], [3]]), np.array([[2], [4], [6]])
    assert welch(a, b) == pytest.approx([-2 / np.sqrt(5 / 3)])


def test_columns_that_never_vary_differ_wholly_or_not_at_all():
    ones, twos = np.ones((3, 1)), 2 * np.ones((3, 1))
    assert welch(ones, ones) == [0]
    assert np.isinf(welch(ones, twos)).all()


@pytest.mark.campaign
def test_unmasked_aes_leaks_in_simulation_and_equal_sets_do_not():
    """No countermeasure stands against power analysis (adr/0005): this is what an attacker gets."""
    result = measure(AesConfig(), traces=500)
    assert result.fixed_random > THRESHOLD
    assert result.random_random < THRESHOLD
