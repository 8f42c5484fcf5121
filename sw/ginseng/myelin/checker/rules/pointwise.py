"""Operators that make an element of the elements in its place, after broadcasting."""

from typing import Final

from ginseng.myelin.checker.dependence import Example, MixesError
from ginseng.myelin.checker.operation import Operation, Rule, require_apart

__all__ = ["RULES", "aligned"]


def aligned(operation: Operation, *, rank: int | None = None) -> Example:
    """Return where the examples are after broadcasting to ``rank`` axes, aligned at the last."""
    operands = operation.operands
    rank = rank if rank is not None else max(operand.rank for operand in operands)
    places = {o.example - o.rank for o in operands if o.example is not None}
    if len(places) != 1:
        raise MixesError("examples of one operand meet those of another on different axes")
    (place,) = places
    require_apart(operands, place, operation.results[0][place])
    return Example(rank + place)


_UNARY: Final = (
    "abs acos acosh asin asinh astype atan atanh bitwise_not ceil clip cos cosh erf exp floor "
    "isfinite isinf isnan log logical_not negative nn.gelu nn.gelu_tanh nn.leakyrelu nn.relu "
    "nn.selu nn.silu nn.softplus round rsqrt sigmoid sign sin sinh sqrt square tan tanh trunc"
)
_BINARY: Final = (
    "add atan2 bitwise_and bitwise_or bitwise_xor divide equal floor_divide floor_mod greater "
    "greater_equal left_shift less less_equal log_add_exp logical_and logical_or logical_xor "
    "maximum minimum mod multiply not_equal power right_shift subtract where"
)


def _constant_like(operation: Operation) -> Example:
    """Every place has the same value; only the shape is that of the examples."""
    return Example(operation.only_first())


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys((*_UNARY.split(), *_BINARY.split()), aligned),
    **dict.fromkeys(("full_like", "ones_like", "zeros_like"), _constant_like),
}
