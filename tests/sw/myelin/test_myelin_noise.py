"""Rounded Gaussian noise has the probabilities of the Gaussian's intervals, exactly."""

import math
import random

import mpmath
import numpy as np
import pytest
from scipy.stats import chisquare, kstest, norm

pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.noise import MAX_SIGMA, _exact, _quantiles, rounded_gaussian
from ginseng.myelin.privacy.stream import RunKey, Stream

KEY = bytes(range(32))


class Given:
    """A stream of words of the test's choice, and of zeros or ones after them."""

    def __init__(self, words, rest=0):
        self.left, self.rest = list(words), rest

    def words(self, count):
        taken = [self.left.pop(0) if self.left else self.rest for _ in range(count)]
        return np.array(taken, np.uint64)

    bits = Stream.bits


def oracle(tail, sigma):
    """Return `round(|X|)` of the lower and of the upper end of a tail's interval."""
    with mpmath.workprec(400):
        ends = []
        for number in (tail + 1, tail):
            p = mpmath.mpf(number) / 2**64
            z = mpmath.mpf("inf") if not p else mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * p)
            ends.append(math.inf if mpmath.isinf(z) else int(mpmath.floor(z * sigma + 0.5)))
        return ends


@pytest.mark.parametrize("sigma", [0.5, 1.7, 20])
def test_values_have_the_probabilities_of_their_intervals(sigma):
    count = 400_000
    values = rounded_gaussian(Stream(KEY), sigma, count)
    most = int(3.5 * sigma) + 1
    places = np.arange(-most, most + 1)
    expected = norm.cdf((places + 0.5) / sigma) - norm.cdf((places - 0.5) / sigma)
    seen = np.array([np.count_nonzero(values == place) for place in places])
    seen, expected = np.append(seen, count - seen.sum()), np.append(expected, 1 - expected.sum())
    assert chisquare(seen, expected * count).pvalue > 1e-4


@pytest.mark.parametrize("sigma", [1e4, 1.3 * 2**20, MAX_SIGMA])
def test_wide_noise_is_the_gaussian(sigma):
    values = rounded_gaussian(Stream(KEY), sigma, 100_000)
    assert kstest(values / sigma, "norm").pvalue > 1e-4
    assert values.dtype == np.int64


@pytest.mark.parametrize("sigma", [0.5, 3, 1e3, 1.1 * 2**20, 2.0**31])
def test_what_is_said_to_be_certain_is_right(sigma):
    rng = random.Random(int(sigma))
    tails = [rng.getrandbits(63) >> rng.randrange(47) for _ in range(300)]
    # And the ends of the intervals themselves, where float64 could be wrong.
    for _ in range(300):
        place = rng.randrange(int(7 * sigma) + 1) + 0.5
        with mpmath.workprec(200):
            end = mpmath.erfc(place / (mpmath.mpf(sigma) * mpmath.sqrt(2))) * 2**63
        tails += [int(end) + d for d in (-1, 0, 1, rng.randrange(-99, 99))]
    tails = [tail for tail in tails if 0 <= tail < 1 << 63]
    values, certain = _quantiles(np.array(tails, np.uint64), sigma)
    for tail, value, sure in zip(tails, values, certain, strict=True):
        low, high = oracle(tail, sigma)
        assert not sure or low == value == high, (tail, value, low, high)
    assert 0 < np.count_nonzero(certain) < len(tails)


@pytest.mark.parametrize("sigma", [0.5, 2.0**20])
def test_what_is_not_certain_is_decided_by_more_bits(sigma):
    place = int(sigma) + 0.5
    with mpmath.workprec(300):
        end = mpmath.erfc(place / (mpmath.mpf(sigma) * mpmath.sqrt(2))) * 2**63
        tail = int(end)
        after = int((end - tail) * 2**64)
    # Bits above those of the end of the interval are nearer to the middle: a longer tail.
    near, far = (_exact(tail, Given([0, after + d]), sigma) for d in (9, -9))
    assert near == int(place - 0.5)
    assert far == near + 1


def test_the_last_of_the_tail_has_its_values_too():
    assert _exact(0, Given([0, 0, 5, 5]), 1000.0) > _exact(1, Given([3, 3]), 1000.0) > 9000


def test_the_same_key_gives_the_same_noise_and_another_another():
    one, same, other = (rounded_gaussian(Stream(k), 5, 1000) for k in (KEY, KEY, bytes(32)))
    assert (one == same).all()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.15


@pytest.mark.parametrize("sigma", [0.49, 2 * MAX_SIGMA, math.nan])
def test_noise_that_cannot_be_made_is_refused(sigma):
    with pytest.raises(PrivacyError, match="choose another number of grid bits"):
        rounded_gaussian(Stream(KEY), sigma, 1)


def test_a_stream_is_given_once():
    key = RunKey()
    first = key.stream(0, "noise/w").words(8)
    assert (key.stream(1, "noise/w").words(8) != first).any()
    assert (key.stream(0, "noise/v").words(8) != first).any()
    with pytest.raises(PrivacyError, match="Stream 'noise/w' of step 0 was used"):
        key.stream(0, "noise/w")


def test_two_runs_share_no_stream_unless_they_are_the_same():
    assert (RunKey().stream(0, "a").words(4) != RunKey().stream(0, "a").words(4)).any()
    same = [RunKey(KEY).stream(0, "a").words(4) for _ in range(2)]
    assert (same[0] == same[1]).all()


def test_a_run_that_goes_on_does_not_go_back():
    with pytest.raises(PrivacyError, match="Step 4 was done before this run went on at step 5"):
        RunKey(KEY, first_step=5).stream(4, "noise/w")


def test_keys_show_nowhere():
    key = RunKey(KEY)
    assert KEY.hex() not in repr(key) + repr(key.stream(0, "a"))
    with pytest.raises(PrivacyError, match="RunKey has 32 bytes, not 3"):
        RunKey(b"abc")


def test_a_stream_is_aes_in_counter_mode():
    from Crypto.Cipher import AES

    cipher = AES.new(KEY, AES.MODE_CTR, nonce=b"", initial_value=bytes(16))
    assert Stream(KEY).words(5).tobytes() == cipher.encrypt(bytes(40))
