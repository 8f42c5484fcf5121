"""What a sequence of steps costs (`dp_accounting`): by privacy loss distributions, and by Rényi."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import dp_accounting
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq

from ginseng.myelin.errors import PrivacyError

__all__ = ["Accountant", "Neighbours", "Spent", "calibrate", "epsilon"]


class Neighbours(Enum):
    """Which datasets must not be told apart.

    The sum of gradients of norm C changes by C at most with `ADD_REMOVE`, and by 2 C with
    `REPLACE`.
    """

    #: One example more or less.
    ADD_REMOVE = "add-or-remove-one"
    #: One example another.
    REPLACE = "replace-one"


class Accountant(Enum):
    """How ε is computed. Both are upper bounds; that of a central limit is none, and not here."""

    #: Privacy loss distributions, numerically: tight.
    PLD = "pld"
    #: Rényi differential privacy: above, and a check of the other.
    RDP = "rdp"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Equal steps of the Gaussian mechanism on a Poisson sample.

    Attributes
    ----------
    steps : int
    multiplier : float
        The noise's deviation, in units of the norm that one example adds at most.
    probability : float
        Of each example to be in a batch.

    """

    steps: int
    multiplier: float
    probability: float

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise PrivacyError(f"Spent.steps is at least 0, not {self.steps}")
        if not (0 < self.multiplier < math.inf):
            raise PrivacyError(
                f"Noise multiplier is a positive number, not {self.multiplier!r}; without noise "
                f"nothing is private"
            )
        if not 0 < self.probability <= 1:
            raise PrivacyError(f"Sampling probability is in (0, 1], not {self.probability!r}")


_RELATIONS: Final = {
    Neighbours.ADD_REMOVE: dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    Neighbours.REPLACE: dp_accounting.NeighboringRelation.REPLACE_ONE,
}
#: The largest noise that `calibrate` looks at.
_MOST_NOISE: Final = 1e4
#: The least; and how near `calibrate` comes, relative.
_LEAST_NOISE: Final = 0.05
_PRECISION: Final = 1e-4
#: Of Rényi's divergence, those that are quickly computed.
_QUICK_ORDERS: Final = (*range(2, 64), 96, 128, 256, 512)
#: Steps of its search for noise that is enough and noise that is not.
_NEAR: Final = 1.25


def epsilon(
    spent: Iterable[Spent],
    delta: float,
    *,
    neighbours: Neighbours = Neighbours.ADD_REMOVE,
    accountant: Accountant = Accountant.PLD,
) -> float:
    """Return the ε that all of it costs together, at a δ.

    Raises
    ------
    PrivacyError
        If ``delta`` is no probability, or the accountant does not know the relation.

    """
    if not 0 < delta < 1:
        raise PrivacyError(f"Delta is between 0 and 1, not {delta!r}")
    if neighbours is Neighbours.REPLACE and accountant is Accountant.RDP:
        raise PrivacyError(
            "Rényi accounting of Poisson samples knows the relation add-or-remove-one only; take "
            "privacy loss distributions"
        )
    return _epsilon(tuple(spent), delta, neighbours, accountant)


def calibrate(
    *,
    epsilon: float,
    delta: float,
    probability: float,
    steps: int,
    neighbours: Neighbours = Neighbours.ADD_REMOVE,
) -> float:
    """Return the least noise multiplier with which so many steps cost no more than ``epsilon``.

    It is found to 1e-4 relative, from above: what it costs is never more.

    Raises
    ------
    PrivacyError
        If no noise is enough, or a number is out of its range.

    """
    if not 0 < epsilon < math.inf:
        raise PrivacyError(f"Epsilon is a positive number, not {epsilon!r}")

    def cost(multiplier: float) -> float:
        spent = (Spent(steps=steps, multiplier=multiplier, probability=probability),)
        return _epsilon(spent, delta, neighbours, Accountant.PLD)

    def quick(multiplier: float) -> float:
        account = RdpAccountant(_QUICK_ORDERS)
        spent = Spent(steps=steps, multiplier=multiplier, probability=probability)
        return float(account.compose(_event(spent), steps).get_epsilon(delta))

    def least(enough: Callable[[float], bool], guess: float) -> tuple[float, float]:
        """Return noise that is not enough, and some that is, near to each other."""
        high = guess
        while not enough(high):
            high *= _NEAR
            if high > _MOST_NOISE:
                raise PrivacyError(
                    f"No noise makes {steps} steps cost epsilon {epsilon:g} at delta {delta:g}; "
                    f"take fewer steps, a smaller batch or a larger budget"
                )
        low = high / _NEAR
        while low > _LEAST_NOISE and enough(low):
            low, high = low / _NEAR, low
        return low, high

    guess = 1.0
    if neighbours is Neighbours.ADD_REMOVE:
        # Not far above.
        _, guess = least(lambda x: quick(x) <= epsilon, guess)
    low, high = least(lambda x: cost(x) <= epsilon, guess)
    if low <= _LEAST_NOISE:
        return high
    found = float(brentq(lambda x: cost(x) - epsilon, low, high, rtol=_PRECISION))
    while cost(found) > epsilon:
        found *= 1 + _PRECISION
    return found


@lru_cache(maxsize=256)
def _epsilon(
    spent: tuple[Spent, ...], delta: float, neighbours: Neighbours, accountant: Accountant
) -> float:
    """Return what `epsilon` does; a run asks the same again and again."""
    kind = PLDAccountant if accountant is Accountant.PLD else RdpAccountant
    account = kind(neighboring_relation=_RELATIONS[neighbours])
    for part in spent:
        if part.steps:
            account.compose(_event(part), part.steps)
    return float(account.get_epsilon(delta))


def _event(part: Spent) -> Any:
    """Return it as the accountants know it; they double the norm where one is replaced."""
    gaussian = dp_accounting.GaussianDpEvent(part.multiplier)
    if part.probability == 1:
        return gaussian
    return dp_accounting.PoissonSampledDpEvent(part.probability, gaussian)
