"""Gaussian noise rounded to integers, exactly as if it were made of infinitely many bits.

To a vector of integers S the noise ``round(X)`` is added, X Gaussian. As S is whole,
``S + round(X) = round(S + X)``: what leaves is made of the output of the Gaussian mechanism alone,
and every theorem about that holds, with nothing to add (decision record 0010). So each value is to
have the probability of its interval under the Gaussian, no more and no less.

A uniform number of infinitely many bits is known by its first 64; by these its quantile is known
within a margin. Nearly always both ends of the margin round to the same integer. Where they do not,
more bits are taken, and the quantile is computed with as many digits as that needs.
"""

import math
from typing import Final

import mpmath
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from ginseng.myelin.errors import PrivacyError
from ginseng.myelin.privacy.stream import Stream

__all__ = ["MAX_SIGMA", "rounded_gaussian"]

#: Beyond, a value may not fit into the 53 bits of a float64 with room for its margin.
MAX_SIGMA: Final = float(1 << 32)
#: Of `scipy.special.ndtri` and of the product, relative: thousands of times what was measured.
_RELATIVE: Final = 2.0**-40
#: Of a uniform number, for its sign and for its tail.
_TAIL_BITS: Final = 63
#: Below, the slope of the quantile is not the same all over an interval of 2**-64.
_FEW: Final = 1 << 16
#: Bits that are added where a value is not certain.
_MORE_BITS: Final = 128


def rounded_gaussian(stream: Stream, sigma: float, count: int) -> npt.NDArray[np.int64]:
    """Return independent values of ``round(X)``, X Gaussian of mean 0 and deviation ``sigma``.

    The same stream gives the same values on every machine.

    Parameters
    ----------
    stream : Stream
        Of its own; 64 bits a value are taken, rarely more.
    sigma : float
        In units of the integers, from 1/2 to `MAX_SIGMA`.
    count : int
        How many.

    Raises
    ------
    PrivacyError
        If ``sigma`` is out of its range.

    """
    if not 0.5 <= sigma <= MAX_SIGMA:
        raise PrivacyError(
            f"Noise of deviation {sigma:g} of the grid cannot be made; it is from 0.5 to 2**32, "
            f"choose another number of grid bits"
        )
    words = stream.words(count)
    tails = words >> np.uint64(1)
    values, certain = _quantiles(tails, sigma)
    for at in np.flatnonzero(~certain):
        values[at] = _exact(int(tails[at]), stream, sigma)
    negative = (words & np.uint64(1)).astype(bool)
    return np.where(negative, -values, values)


def _quantiles(
    tails: npt.NDArray[np.uint64], sigma: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return ``round(|X|)`` by the first bits of the tail's probability, and where it is certain.

    The probability of a tail beyond |X| lies in ``[tail, tail + 1) * 2**-64``.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # float64 rounds the 63 bits: by 2**-53 of what it is, well inside the margin below.
        middle = (tails.astype(np.float64) + 0.5) * 2.0 ** -(_TAIL_BITS + 1)
        z = -ndtri(middle)
        # By the slope of the quantile, how far the ends of the interval are, and then some.
        width = 2.0**-_TAIL_BITS * math.sqrt(2 * math.pi) * np.exp(z * z / 2)
        margin = sigma * (width + _RELATIVE * (z + 1))
        low, high = sigma * z - margin, sigma * z + margin
        sure = (np.rint(low) == np.rint(high)) & (tails >= _FEW)
        return np.where(sure, np.rint(sigma * z), 0).astype(np.int64), sure


def _exact(tail: int, stream: Stream, sigma: float) -> int:
    """Return ``round(|X|)`` of a tail, with as many more bits as that takes."""
    bits = _TAIL_BITS + 1
    while True:
        tail = tail << _MORE_BITS | stream.bits(_MORE_BITS)
        bits += _MORE_BITS
        if not tail:
            continue
        guess = round(sigma * -float(ndtri(tail / (1 << bits))))
        for value in range(max(guess - 1, 0), guess + 2):
            # Beyond both ends of the value's interval, how much of the Gaussian is left.
            with mpmath.workprec(bits + 64):
                inner, outer = (
                    mpmath.erfc((value + end) / (mpmath.mpf(sigma) * mpmath.sqrt(2)))
                    * 2 ** (bits - 1)
                    for end in (mpmath.mpf(-0.5), mpmath.mpf(0.5))
                )
                if outer <= tail and (value == 0 or tail + 1 <= inner):
                    return value
