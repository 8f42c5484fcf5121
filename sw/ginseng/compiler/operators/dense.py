"""Dense layers: a matrix product with constant weights, over features or a whole image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.linear import lower_linear
from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.floatgraph import Call, FloatNode, LinearFloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import sum_bounds
from ginseng.compiler.weighted import WeightedNode

__all__ = ["OPERATOR", "Dense"]


@dataclass(frozen=True, kw_only=True)
class Dense(WeightedNode):
    """``output[o] = clip(slope(rescale(bias[o] + sum_f x[f] * weight[o, f])))``.

    An input of shape ``(channels, height, width)`` counts as its features in that order, channels
    slowest. Sums are exact: `worst_case` fits int32.

    Attributes
    ----------
    weight : int8 array of shape (out features, in features)
    bias : int32 array of shape (out features,)

    """

    kind: ClassVar[str] = "dense"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return int(self.weight.size)

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the sums of a feature and their rescaling reach."""
        sums = sum_bounds(self.weight, self.bias, inputs[0].lo, inputs[0].hi)
        return self.rescale.worst_case(sums)

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return ``(features, 1, 1)``."""
        outputs = self.outputs(inputs[0].size, rank=2)
        return outputs, 1, 1

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: a convolution whose kernel is as large as the image."""
        lower_linear(
            layer,
            weight=self.weight.reshape(-1, *inputs[0].extents),
            bias=self.bias,
            rescale=self.rescale,
            slope=self.slope,
            clip=(self.output.lo, self.output.hi),
            extents=(inputs[0].extents, self.output.extents),
        )


@dataclass(kw_only=True)
class FloatDense(LinearFloatNode):
    """A dense layer of floats; ``weight`` is (out, in)."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer dense layer."""
        linear = scales.linear(self, inputs[0])
        return Dense(
            name=self.name,
            inputs=tuple(self.inputs),
            output=linear.output,
            weight=linear.weight,
            bias=linear.bias,
            rescale=linear.rescale,
            slope=self.integer_slope(linear.output),
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a product of features with a constant matrix."""
    source, weight = call.args
    if isinstance(source, np.ndarray) or not isinstance(weight, np.ndarray) or weight.ndim != 2:
        raise call.refuse(
            "only features times a constant matrix is supported; make the right operand an "
            "initialiser of the model"
        )
    if len(call.shape) != 2:
        raise call.refuse(
            f"its result has shape {call.shape}; flatten its input to (1, features) first"
        )
    return FloatDense(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=call.sample_shape(),
        weight=np.asarray(weight, np.float64).T.copy(),
        bias=np.zeros(weight.shape[1]),
    )


OPERATOR = Operator("dense", ("relax.matmul",), _recognise)
