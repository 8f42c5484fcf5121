"""Sums of clipped gradients on the grid: bounded to the last digit, exact, and noisy outside."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.grid import Grid, _squares
from ginseng.myelin.privacy.stream import RunKey

SHAPES = ((3, 5), (4,))
NAMES = ("w", "b")


def gradients(seed, count, scale=1.0):
    rng = np.random.default_rng(seed)
    return [
        [(scale * rng.standard_normal(shape)).astype(np.float32) for shape in SHAPES]
        for _ in range(count)
    ]


def norm_squared(parts):
    """In integers of Python, which have no end."""
    return sum(int(x) ** 2 for part in parts for x in part.ravel())


@given(
    st.integers(0, 2**32),
    st.sampled_from([1e-30, 1e-3, 0.3, 1, 7, 1e30]),
    st.sampled_from([1e-3, 0.5, 1, 1.1, 30]),
    st.integers(8, 30),
)
@settings(max_examples=200, deadline=None)
def test_no_example_is_above_the_bound(seed, scale, clip, bits):
    grid = Grid(clip=clip, bits=bits)
    (gradient,) = gradients(seed, 1, scale)
    rounded = grid.quantise(gradient)
    assert norm_squared(rounded) <= grid.bound**2
    norm = math.sqrt(sum(float(np.sum(part.astype(np.float64) ** 2)) for part in gradient))
    factor = grid.bound / max(clip, norm)
    for part, whole in zip(gradient, rounded, strict=True):
        ideal = part.astype(np.float64) * factor
        # Towards zero, by less than one, and by what makes up for a norm that rounding exceeds.
        assert np.all(np.abs(whole) <= np.abs(ideal))
        assert np.all(np.abs(whole) >= np.abs(ideal) * (1 - 2.0**-18) - 1)


@pytest.mark.parametrize("bits", [8, 20, 30])
def test_a_norm_that_is_just_the_bound_stays_within_it(bits):
    grid = Grid(clip=1, bits=bits)
    for n in (1, 2, 3, 7, 1000):
        gradient = [np.full(n, 1 / math.sqrt(n), np.float64)]
        assert norm_squared(grid.quantise(gradient)) <= grid.bound**2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_contributes_nothing(bad):
    grid = Grid(clip=1)
    (gradient,) = gradients(1, 1)
    gradient[1][2] = bad
    assert norm_squared(grid.quantise(gradient)) == 0
    good = gradients(2, 3)
    with_bad = grid.total([*good, gradient], gradient)
    for one, two in zip(with_bad, grid.total(good, gradient), strict=True):
        assert (one == two).all()


def test_a_sum_is_the_same_in_any_order_and_any_tiles():
    grid = Grid(clip=0.7)
    examples = gradients(3, 37)
    whole = grid.total(examples, examples[0])
    backwards = grid.total(examples[::-1], examples[0])
    tiles = [grid.total(examples[n : n + 8], examples[0]) for n in range(0, 37, 8)]
    for n, part in enumerate(whole):
        assert (part == backwards[n]).all()
        assert (part == sum(tile[n] for tile in tiles)).all()


def test_neighbours_differ_by_no_more_than_the_bound():
    grid = Grid(clip=0.5, bits=16)
    examples = gradients(4, 12, scale=5)
    whole = grid.total(examples, examples[0])
    for n in range(12):
        without = grid.total(examples[:n] + examples[n + 1 :], examples[0])
        distance = norm_squared([a - b for a, b in zip(whole, without, strict=True)])
        # Clipped, so nearly the bound: the test would see a clip that clips to less.
        assert 0.999 * grid.bound**2 < distance <= grid.bound**2


def test_the_sum_of_nobody_is_zero():
    totals = Grid(clip=1).total([], gradients(5, 1)[0])
    assert [part.shape for part in totals] == list(SHAPES)
    assert not any(part.any() for part in totals)


def release(grid, totals, key, *, step=0, multiplier=1.0, expected=Fraction(8), names=NAMES):
    return grid.release(
        totals, multiplier=multiplier, expected=expected, key=key, step=step, names=names
    )


def test_what_is_released_is_the_mean_with_noise_of_the_multiplier():
    grid = Grid(clip=0.25)
    examples = gradients(6, 8, scale=0.01)
    totals = grid.total(examples, examples[0])
    key = RunKey(bytes(32))
    seen = [release(grid, totals, key, step=n, multiplier=2.0) for n in range(4000)]
    for n, shape in enumerate(SHAPES):
        values = np.stack([parts[n] for parts in seen])
        assert values.dtype == np.float32
        mean = np.mean([parts[n] for parts in examples], axis=0)
        sigma = 2.0 * 0.25 / 8
        assert values.shape[1:] == shape
        assert np.abs(values.mean(0) - mean).max() < 5 * sigma / math.sqrt(4000)
        assert values.std() == pytest.approx(sigma, rel=0.02)


def test_a_batch_of_nobody_is_noise_all_the_same():
    grid = Grid(clip=1)
    released = release(grid, grid.total([], gradients(7, 1)[0]), RunKey())
    assert all(np.any(part != 0) for part in released)


def test_noise_is_not_used_twice():
    grid, key = Grid(clip=1), RunKey()
    totals = grid.total(gradients(8, 2), gradients(8, 1)[0])
    release(grid, totals, key)
    with pytest.raises(PrivacyError, match="was used"):
        release(grid, totals, key)


@pytest.mark.parametrize("names", [("w",), ("w", "w")])
def test_tensors_do_not_share_noise(names):
    grid = Grid(clip=1)
    totals = grid.total([], gradients(9, 1)[0])
    with pytest.raises(PrivacyError, match="Noise needs one name per tensor"):
        release(grid, totals, RunKey(), names=names)


def test_a_step_without_noise_is_refused():
    grid = Grid(clip=1)
    totals = grid.total([], gradients(9, 1)[0])
    with pytest.raises(PrivacyError, match="without noise a step is not private"):
        release(grid, totals, RunKey(), multiplier=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clip": 0}, "clip is a positive number, not 0"),
        ({"clip": math.inf}, "not inf"),
        ({"clip": 1, "bits": 7}, "from 8 to 30, not 7"),
        ({"clip": 1, "bits": 31}, "not 31"),
    ],
)
def test_what_is_no_grid_is_refused(values, said):
    with pytest.raises(PrivacyError, match=said):
        Grid(**values)


@given(st.lists(st.integers(-(2**30), 2**30), max_size=50))
def test_squares_are_exact(numbers):
    assert _squares([np.array(numbers, np.int64)]) == sum(n * n for n in numbers)
