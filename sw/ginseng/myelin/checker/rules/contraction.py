"""Matrix products and convolutions: examples must not be summed over, weights are public."""

from typing import Final

from ginseng.myelin.checker.dependence import Example, MixesError
from ginseng.myelin.checker.operation import Operand, Operation, Rule, require_apart

__all__ = ["RULES"]


def _matmul(operation: Operation) -> Example:
    left, right = operation.operands
    if left.rank < 2 or right.rank < 2:
        rows = left.example is not None and left.rank >= 2 and left.example != left.rank - 1
        if rows and left.example is not None and right.example is None:
            # A vector of weights: its axis goes.
            return _batched(left, right, left.example - left.rank + 1, operation)
        raise MixesError("a product with a vector of examples")
    places = []
    for operand, summed in ((left, -1), (right, -2)):
        if operand.example is None:
            continue
        place = operand.example - operand.rank
        if place == summed:
            raise MixesError("a product sums over the examples")
        places.append(place)
    if len(set(places)) != 1 or (len(places) == 2 and places[0] >= -2):
        raise MixesError("every example of one operand meets every one of the other")
    return _batched(left, right, places[0], operation)


def _batched(left: Operand, right: Operand, place: int, operation: Operation) -> Example:
    """Return the axis, after a look at who else has one there; of the last two each has its own."""
    rank = len(operation.results[0])
    if right.rank >= 2 and place < -2:
        require_apart((left, right), place, operation.results[0][place])
    return Example(rank + place)


def _convolution(operation: Operation) -> Example:
    return Example(operation.keeps_layout(operation.attributes.data_layout, "a convolution"))


RULES: Final[dict[str, Rule]] = {
    "matmul": _matmul,
    **{
        f"nn.conv{n}d{transposed}": _convolution
        for n in (1, 2, 3)
        for transposed in ("", "_transpose")
    },
}
