"""The rules, by operator of Relax; what has none mixes examples."""

from typing import Final

from ginseng.myelin.checker.operation import Rule
from ginseng.myelin.checker.rules import contraction, movement, pointwise, reduction

__all__ = ["RULES"]

RULES: Final[dict[str, Rule]] = {
    **pointwise.RULES,
    **contraction.RULES,
    **reduction.RULES,
    **movement.RULES,
}
