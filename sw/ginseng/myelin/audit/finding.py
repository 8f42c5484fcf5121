"""What an audit found."""

from dataclasses import dataclass
from typing import Final

__all__ = ["RARE", "Finding"]

#: The chance with which a test of statistics may refuse what is right.
RARE: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One measurement, and the claim that it is held against.

    Attributes
    ----------
    audit : str
        Which.
    passed : bool
        It agrees with the claim.
    measured, limit : float
        What was seen, and what it must not pass.
    detail : str
        What they are.

    """

    audit: str
    passed: bool
    measured: float
    limit: float
    detail: str
