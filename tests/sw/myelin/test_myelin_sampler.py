"""Who is in a batch is decided by integers, one example at a time."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest

pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.sampler import PoissonSampler
from ginseng.myelin.privacy.stream import RunKey, Stream


class Given:
    def __init__(self, words):
        self.left = words

    def words(self, count):
        assert count == len(self.left)
        return np.array(self.left, np.uint64)


def test_a_word_below_the_threshold_is_in():
    sampler = PoissonSampler(examples=5, threshold=1000)
    assert sampler.sample(Given([999, 1000, 0, 2**64 - 1, 1001])).tolist() == [0, 2]


def test_everybody_is_in_at_the_largest_threshold():
    sampler = PoissonSampler.expecting(3, 3)
    assert sampler.threshold == 1 << 64
    assert sampler.probability == 1
    assert sampler.sample(Given([2**64 - 1] * 3)).tolist() == [0, 1, 2]


def test_a_batch_may_be_empty():
    assert PoissonSampler(examples=2, threshold=1).sample(Given([5, 6])).size == 0


def test_batches_are_as_large_as_expected_and_examples_independent():
    sampler = PoissonSampler.expecting(64, 500)
    key = RunKey(bytes(32))
    batches = [sampler.sample(key.stream(step, "sample")) for step in range(2000)]
    counts = np.bincount(np.concatenate(batches), minlength=500)
    total = int(counts.sum())
    assert binomtest(total, 2000 * 500, 64 / 500).pvalue > 1e-4
    # Sizes vary as independent examples do; a shuffled loader's would not vary at all.
    sizes = np.array([batch.size for batch in batches])
    assert sizes.var() == pytest.approx(500 * 0.128 * 0.872, rel=0.15)
    together = sum(1 for batch in batches if {3, 4} <= set(batch.tolist()))
    assert binomtest(together, 2000, 0.128**2).pvalue > 1e-4


def test_a_probability_is_never_less_than_the_threshold_says():
    for batch, examples in ((1, 3), (256, 60_000), (1, 10**9)):
        sampler = PoissonSampler.expecting(batch, examples)
        exact = Fraction(sampler.threshold, 1 << 64)
        assert exact <= Fraction(sampler.probability) <= exact * (1 + Fraction(1, 1 << 50))
        assert float(sampler.expected) == pytest.approx(batch)


def test_a_small_probability_is_not_that_of_float32():
    sampler = PoissonSampler(examples=1, threshold=int(1e-7 * 2**64))
    assert sampler.probability == pytest.approx(1e-7, rel=1e-9)


@pytest.mark.parametrize(("batch", "examples"), [(0, 5), (6, 5)])
def test_an_impossible_batch_is_refused(batch, examples):
    with pytest.raises(PrivacyError, match=f"from 1 to the {examples} examples, not {batch}"):
        PoissonSampler.expecting(batch, examples)


def test_impossible_numbers_are_refused():
    with pytest.raises(PrivacyError, match="examples is at least 1, not 0"):
        PoissonSampler(examples=0, threshold=1)
    with pytest.raises(PrivacyError, match="threshold is from 1 to 2"):
        PoissonSampler(examples=1, threshold=0)


def test_the_words_are_those_of_the_stream():
    sampler = PoissonSampler.expecting(10, 100)
    words = Stream(bytes(32)).words(100)
    assert sampler.sample(Stream(bytes(32))).tolist() == [
        n for n, word in enumerate(words.tolist()) if word < sampler.threshold
    ]
