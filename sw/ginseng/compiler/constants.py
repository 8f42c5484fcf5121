"""Constants that a model gives as integers: what they mean, and what one step of them means."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError

__all__ = ["can_fold", "fold", "output_steps"]

#: How many operands of an operator must be constant for it to be computed here. Not by TVM: folded
#: by it, the integers and their scales would be lost.
_OPERANDS: Final = {
    "relax.quantize": 3,
    "relax.dequantize": 3,
    "relax.permute_dims": 1,
    "relax.reshape": 1,
    "relax.expand_dims": 1,
    "relax.squeeze": 1,
}
#: Which axis of the weights are output channels.
_OUTPUT_AXIS: Final = {"relax.nn.conv2d": 0, "relax.matmul": 1, "relax.nn.conv2d_transpose": 1}


def can_fold(op: str, arguments: Sequence[Any]) -> bool:
    """Return whether `fold` computes ``op`` of ``arguments``."""
    operands = arguments[: _OPERANDS.get(op, 0)]
    return bool(operands) and all(isinstance(a, np.ndarray) for a in operands)


def fold(
    op: str,
    arguments: Sequence[Any],
    attributes: Mapping[str, Any],
    shape: tuple[int, ...],
    steps: NDArray[np.float64] | None,
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Compute an operator of a constant; of a dequantised one the steps go with it.

    Parameters
    ----------
    op : str
        For which `can_fold` is true.
    arguments : sequence
        The constant first.
    attributes : mapping of str to object
        Of the call.
    shape : tuple of int
        Of the result.
    steps : float64 array or None
        What one step of each element of the constant means, in its shape, if it was dequantised.

    Returns
    -------
    array
        The result.
    float64 array or None
        Its steps.

    """
    array = arguments[0]
    if op == "relax.permute_dims":
        axes = attributes["axes"]
        return array.transpose(axes), None if steps is None else steps.transpose(axes)
    if op not in ("relax.quantize", "relax.dequantize"):
        return array.reshape(shape), None if steps is None else steps.reshape(shape)
    scale, zero = arguments[1:3]
    spread = [1] * array.ndim
    if scale.size > 1:
        spread[attributes["axis"] % array.ndim] = scale.size
    scale, zero = (np.broadcast_to(a, scale.shape).reshape(spread) for a in (scale, zero))
    if op == "relax.quantize":
        ends = np.iinfo(attributes["out_dtype"])
        integers = np.rint(array / scale) + zero
        return integers.clip(ends.min, ends.max).astype(ends.dtype), None
    # Exact: the scale has 24 bits, weights 9, and the last bits of a bias do not matter.
    steps = np.broadcast_to(scale.astype(np.float64), array.shape)
    return (array.astype(np.float64) - zero) * steps, steps


def output_steps(
    op: str, steps: NDArray[np.float64] | None, outputs: int
) -> NDArray[np.float64] | None:
    """Return the step of the weights of each output channel, None if they are floats.

    Parameters
    ----------
    op : str
        The Relax operator whose second argument the weights are.
    steps : float64 array or None
        Of each weight.
    outputs : int
        Channels.

    Raises
    ------
    CompilerError
        If it differs within a channel.

    """
    if steps is None or op not in _OUTPUT_AXIS:
        return None
    rows = np.moveaxis(steps, _OUTPUT_AXIS[op], 0)
    rows = rows.reshape(len(rows), -1)
    if (rows != rows[:, :1]).any():
        raise CompilerError(
            "its weights have more than one scale for an output channel; quantise them per tensor "
            "or per output channel"
        )
    # Groups of a transposed convolution share their scales.
    return np.tile(rows[:, 0], outputs // len(rows))
