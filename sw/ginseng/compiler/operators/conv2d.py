"""2-D convolution, with its bias and activation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.linear import lower_linear
from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.floatgraph import Call, FloatNode, LinearFloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.operators.pad import FloatPad
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import sum_bounds
from ginseng.compiler.weighted import WeightedNode, constant_weights

__all__ = ["OPERATOR", "Conv2d"]


@dataclass(frozen=True, kw_only=True)
class Conv2d(WeightedNode):
    """``output[o] = clip(slope(rescale(bias[o] + sum x[g + i, k', l'] * weight[o, i, k, l])))``.

    The sum runs over ``i``, ``k`` and ``l``; ``k' = y * strides[0] + k * dilation[0] -
    padding[0]``, likewise ``l'`` from ``x`` and the left padding; outside of the image ``x`` is
    ``pad_value``. The channels of input and output fall into ``groups`` runs of equal length, and
    ``g`` is the first channel of the run of the input that stands where that of ``o`` stands. Sums
    are exact: `worst_case` fits int32.

    Attributes
    ----------
    weight : int8 array of shape (out channels, in channels / groups, kernel height, kernel width)
    bias : int32 array of shape (out channels,)
    strides, dilation : tuple of int
        Down, across.
    padding : tuple of int
        Top, left, bottom, right.
    pad_value : int
        The integer that means 0: the zero point of the input.

    """

    kind: ClassVar[str] = "conv2d"

    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return int(self.weight.size) * self.output.extents[1] * self.output.extents[2]

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the sums of a channel and their rescaling reach."""
        lo, hi = min(inputs[0].lo, self.pad_value), max(inputs[0].hi, self.pad_value)
        return self.rescale.worst_case(sum_bounds(self.weight, self.bias, lo, hi))

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return channels, height and width of the output."""
        channels, height, width = inputs[0].extents
        outputs = self.outputs(channels, rank=4, groups=self.groups)
        sizes = []
        for n, extent in enumerate((height, width)):
            padded = extent + self.padding[n] + self.padding[n + 2]
            reach = (self.weight.shape[2 + n] - 1) * self.dilation[n] + 1
            if reach > padded:
                raise self.refuse(f"its kernel reaches over {reach} pixels, the image has {padded}")
            sizes.append((padded - reach) // self.strides[n] + 1)
        return outputs, sizes[0], sizes[1]

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        lower_linear(
            layer,
            weight=self.weight,
            bias=self.bias,
            rescale=self.rescale,
            slope=self.slope,
            clip=(self.output.lo, self.output.hi),
            extents=(inputs[0].extents, self.output.extents),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            pad_value=self.pad_value,
        )


@dataclass(kw_only=True)
class FloatConv2d(LinearFloatNode):
    """A convolution of floats; ``weight`` is OIHW."""

    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int = 1

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer convolution."""
        linear = scales.linear(self, inputs[0])
        return Conv2d(
            name=self.name,
            inputs=tuple(self.inputs),
            output=linear.output,
            weight=linear.weight,
            bias=linear.bias,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            pad_value=inputs[0].zero,
            rescale=linear.rescale,
            slope=self.integer_slope(linear.output),
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a convolution by constant weights."""
    source, weight = constant_weights(call, "OIHW")
    padding = call.attr("padding")
    before = network.sole_producer(source)
    if isinstance(before, FloatPad) and before.is_linear and not before.fill:
        padding = tuple(a + b for a, b in zip(padding, before.padding, strict=True))
        (source,) = before.inputs
        network.drop(before)
    top, left, bottom, right = padding
    return FloatConv2d(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=call.sample_shape(),
        weight=np.asarray(weight, np.float64),
        bias=np.zeros(weight.shape[0]),
        strides=call.attr("strides"),
        padding=(top, left, bottom, right),
        dilation=call.attr("dilation"),
        groups=call.attr("groups"),
    )


OPERATOR = Operator("conv2d", ("relax.nn.conv2d",), _recognise)
