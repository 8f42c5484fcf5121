"""What a value depends on (Myelin specification §3)."""

from dataclasses import dataclass
from typing import Final

__all__ = ["PUBLIC", "Dependence", "Example", "MixesError", "Public"]


@dataclass(frozen=True)
class Public:
    """It depends on no example."""

    def __str__(self) -> str:
        return "public"


@dataclass(frozen=True)
class Example:
    """Slice i along ``axis`` depends on example i, on parameters and on public data, only.

    Nor does it depend on i itself: where an example stands in a batch depends on who else is there.
    """

    axis: int

    def __str__(self) -> str:
        return f"one example per slice of axis {self.axis}"


Dependence = Public | Example

PUBLIC: Final = Public()


class MixesError(Exception):
    """A value would depend on more than one example; the text says why."""
