"""Per-channel constants: biases and batch normalisation, folded into the layer before them.

Without a layer that they can fold into they are one of their own, a 1x1 convolution of each channel
for itself.
"""

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.floatgraph import Call, FloatNode, LinearFloatNode, Network, Operator
from ginseng.compiler.operators.conv2d import FloatConv2d

__all__ = ["OPERATOR", "per_channel"]


def per_channel(
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
    """Fold ``value op constant`` into the layer that made the value, or claim it."""
    left, right = call.args
    operator = call.op.removeprefix("relax.")
    negated = isinstance(left, np.ndarray) and operator == "subtract"
    if isinstance(left, np.ndarray) and operator != "divide":
        left, right = right, left
    if isinstance(left, np.ndarray) or not isinstance(right, np.ndarray):
        raise call.refuse(
            "it combines two values in a way that the core cannot; only sums and differences of "
            "values, and constants per channel are supported"
        )
    constant = per_channel(right, call.shape)
    if constant is None:
        raise call.refuse(
            f"its constant has shape {right.shape}; only one number per channel is supported; "
            "if it scales an input, do that on the owner's side (--owner-side)"
        )
    if not np.isfinite(constant).all() or (operator == "divide" and not constant.all()):
        raise call.refuse("its constant is not finite, or divides by zero; repair the model")
    producer = network.sole_producer(left)
    if not isinstance(producer, LinearFloatNode) or not producer.is_linear:
        producer = _standalone(call, left)
    else:
        network.rename(producer, call)
    if negated:
        producer.absorb_affine("multiply", np.full_like(constant, -1))
        operator = "add"
    producer.absorb_affine(operator, constant)
    return producer


def _standalone(call: Call, source: str) -> LinearFloatNode:
    """Return a layer that changes nothing yet."""
    shape = call.sample_shape()
    return FloatConv2d(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=shape,
        weight=np.ones((shape[0], 1, 1, 1)),
        bias=np.zeros(shape[0]),
        strides=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=shape[0],
    )


OPERATOR = Operator(
    "affine",
    ("relax.add", "relax.subtract", "relax.multiply", "relax.divide"),
    _recognise,
)
