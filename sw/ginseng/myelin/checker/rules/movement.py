"""Operators that move elements and compute nothing."""

from math import prod
from typing import Any, Final

from ginseng.myelin.checker.dependence import Example, MixesError
from ginseng.myelin.checker.operation import Operation, Rule
from ginseng.myelin.checker.rules.pointwise import aligned

__all__ = ["RULES"]


def _reshape(operation: Operation) -> Example:
    """Keep an axis of the same extent, before which as many elements are as there were."""
    axis = operation.only_first()
    shape, result = operation.operands[0].shape, operation.results[0]
    for place, extent in enumerate(result):
        # An axis of extent 1 before it could be meant as well; it would not be the examples'.
        if _same(extent, shape[axis]) and _same_product(result[:place], shape[:axis]):
            return Example(place)
    raise MixesError("a reshape that takes the axis of the examples apart")


def _permute(operation: Operation) -> Example:
    axis = operation.only_first()
    rank = operation.operands[0].rank
    given = operation.attributes.axes
    order = range(rank)[::-1] if given is None else [int(a) % rank for a in given]
    return Example(list(order).index(axis))


def _expand(operation: Operation) -> Example:
    axis = operation.only_first()
    rank = len(operation.results[0])
    new = {int(a) % rank for a in operation.attributes.axis}
    return Example([n for n in range(rank) if n not in new][axis])


def _squeeze(operation: Operation) -> Example:
    (operand,) = operation.operands
    given = operation.attributes.axis
    if given is None:
        gone = {n for n, extent in enumerate(operand.shape) if _same(extent, 1)}
    else:
        gone = {operand.axis(int(a)) for a in given}
    axis = operation.only_first()
    if axis in gone:
        raise MixesError("a squeeze of the axis of the examples")
    return Example(axis - sum(a < axis for a in gone))


def _broadcast(operation: Operation) -> Example:
    operation.only_first()
    return aligned(operation, rank=len(operation.results[0]))


def _concat(operation: Operation) -> Example:
    axes = {operand.example for operand in operation.operands}
    if None in axes:
        # A public tensor has a row for each place of the batch.
        raise MixesError("a public tensor tells the places of the batch apart")
    if len(axes) != 1:
        raise MixesError("examples of one operand meet those of another on different axes")
    (axis,) = axes
    along = operation.operands[0].axis(int(operation.attributes.axis or 0))
    if axis == along or axis is None:
        raise MixesError("a concatenation along the examples")
    return Example(axis)


def _split(operation: Operation) -> Example:
    return Example(operation.keeps([int(operation.attributes.axis)], "a split"))


def _flip(operation: Operation) -> Example:
    return Example(operation.keeps([int(operation.attributes.axis)], "a reversal"))


def _slice(operation: Operation) -> Example:
    axes = operation.arguments[1]
    return Example(operation.keeps([int(axis) for axis in axes], "a slice"))


def _pad(operation: Operation) -> Example:
    axis = operation.only_first()
    width = [int(n) for n in operation.attributes.pad_width]
    if any(width[2 * axis : 2 * axis + 2]):
        raise MixesError("padding of the examples")
    return Example(axis)


def _take(operation: Operation) -> Example:
    data, indices = operation.operands
    given = operation.attributes.axis
    if given is None:
        raise MixesError("elements are taken out of all of a tensor")
    along = data.axis(int(given))
    if data.example is None and indices.example is not None:
        return Example(along + indices.example)
    if indices.example is None and data.example is not None:
        if data.example == along:
            raise MixesError("examples are taken by their places")
        return Example(data.example + (indices.rank - 1 if along < data.example else 0))
    raise MixesError("elements of one example are taken by indices of others")


def _one_hot(operation: Operation) -> Example:
    indices = operation.operands[0]
    if indices.example is None or any(o.example is not None for o in operation.operands[1:]):
        raise MixesError("values of a one-hot code that depend on examples")
    new = int(operation.attributes.axis) % len(operation.results[0])
    return Example(indices.example + (new <= indices.example))


def _same(one: Any, other: Any) -> bool:
    """Whether two extents are known to be equal."""
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    return not isinstance(one, int) and not isinstance(other, int) and one is other


def _same_product(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether as many elements are in both, as far as that is known."""
    numbers = [prod(n for n in extents if isinstance(n, int)) for extents in (one, other)]
    symbols = [[n for n in extents if not isinstance(n, int)] for extents in (one, other)]
    return (
        numbers[0] == numbers[1]
        and len(symbols[0]) == len(symbols[1])
        and all(a is b for a, b in zip(*symbols, strict=True))
    )


RULES: Final[dict[str, Rule]] = {
    "reshape": _reshape,
    "flatten": _reshape,
    "nn.batch_flatten": _reshape,
    "permute_dims": _permute,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "broadcast_to": _broadcast,
    "concat": _concat,
    "split": _split,
    "flip": _flip,
    "strided_slice": _slice,
    "nn.pad": _pad,
    "take": _take,
    "one_hot": _one_hot,
}
