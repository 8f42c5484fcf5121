"""Operators that look along axes: sums, softmax, normalisation, pools."""

from typing import Final

from ginseng.myelin.checker.dependence import Example, MixesError
from ginseng.myelin.checker.operation import Operation, Rule

__all__ = ["RULES"]


def _reduce(operation: Operation) -> Example:
    rank = operation.operands[0].rank
    given = operation.attributes.axis
    if given is None:
        axes = list(range(rank))
    else:
        axes = [int(a) % rank for a in (given if hasattr(given, "__len__") else [given])]
    axis = operation.keeps(axes, "a reduction")
    kept = bool(operation.attributes.keepdims)
    return Example(axis if kept else axis - sum(a < axis for a in axes))


def _along(operation: Operation) -> Example:
    given = operation.attributes.axis
    if given is None:
        raise MixesError("a scan over all the elements")
    return Example(operation.keeps([int(given)], "a normalisation or scan"))


def _layer_norm(operation: Operation) -> Example:
    axes = [int(axis) for axis in operation.attributes.axes]
    return Example(operation.keeps(axes, "a normalisation"))


def _group_norm(operation: Operation) -> Example:
    given = operation.attributes
    axes = [int(given.channel_axis), *(int(axis) for axis in given.axes)]
    return Example(operation.keeps(axes, "a normalisation"))


def _batch_norm(operation: Operation) -> Example:
    raise MixesError(
        "batch normalisation has statistics over the examples; use group normalisation"
    )


def _pool(operation: Operation) -> Example:
    return Example(operation.keeps_layout(operation.attributes.layout, "a pool"))


def _nll_loss(operation: Operation) -> Example:
    if str(operation.attributes.reduction) != "none":
        raise MixesError("a loss summed over the examples; its reduction must be 'none'")
    predictions, targets, *weights = operation.operands
    if any(w.example is not None for w in weights) or predictions.rank != targets.rank + 1:
        raise MixesError("a loss whose weights depend on examples")
    if predictions.example != 0 or targets.example != 0:
        raise MixesError("a loss whose predictions and targets are not one per example")
    return Example(0)


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("sum", "mean", "max", "min", "prod", "variance", "std"), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _reduce),
    **dict.fromkeys(("nn.softmax", "nn.log_softmax", "cumsum", "cumprod"), _along),
    **dict.fromkeys(("nn.layer_norm", "nn.rms_norm"), _layer_norm),
    **dict.fromkeys(("nn.group_norm", "nn.instance_norm"), _group_norm),
    "nn.batch_norm": _batch_norm,
    **{f"nn.{kind}_pool{n}d": _pool for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)},
    "nn.nll_loss": _nll_loss,
}
