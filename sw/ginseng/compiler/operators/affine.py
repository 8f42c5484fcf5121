"""Per-channel constants: biases and batch normalisation, folded into the layer before them."""

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.floatgraph import Call, FloatNode, LinearFloatNode, Network, Operator

__all__ = ["OPERATOR"]


def _per_channel(
    constant: NDArray[np.generic], shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Return one number per channel (axis 1 of ``shape``), None if it is not that."""
    if constant.ndim > len(shape):
        return None
    aligned = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    if any(extent != 1 for axis, extent in enumerate(aligned.shape) if axis != 1):
        return None
    flat = aligned.astype(np.float64).ravel()
    return np.broadcast_to(flat, (shape[1],)) if flat.size in (1, shape[1]) else None


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Fold ``value op constant`` into the convolution or dense layer that made the value."""
    left, right = call.args
    operator = call.op.removeprefix("relax.")
    if isinstance(left, np.ndarray) and operator in ("add", "multiply"):
        left, right = right, left
    if isinstance(left, np.ndarray) or not isinstance(right, np.ndarray):
        raise call.refuse(
            "it combines two values in a way that the core cannot; only additions of values and "
            "constants per channel are supported"
        )
    constant = _per_channel(right, call.shape)
    if constant is None:
        raise call.refuse(
            f"its constant has shape {right.shape}; only one number per channel is supported"
        )
    if not np.isfinite(constant).all() or (operator == "divide" and not constant.all()):
        raise call.refuse("its constant is not finite, or divides by zero; repair the model")
    producer = network.sole_producer(left)
    if not isinstance(producer, LinearFloatNode) or producer.clip is not None:
        raise call.refuse(
            "its input does not come straight from a convolution or dense layer, or is used "
            "elsewhere too; move the constant there, into that layer's weights"
        )
    producer.absorb_affine(operator, constant)
    network.rename(producer, call)
    return producer


OPERATOR = Operator(
    "affine",
    ("relax.add", "relax.subtract", "relax.multiply", "relax.divide"),
    _recognise,
)
