"""2-D transposed convolution, with its bias and activation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.linear import lower_linear
from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Call, FloatNode, LinearFloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale, sum_bounds
from ginseng.compiler.slope import Slope
from ginseng.compiler.weighted import WeightedNode, constant_weights

__all__ = ["OPERATOR", "Conv2dTranspose"]


@dataclass(frozen=True, kw_only=True)
class Conv2dTranspose(WeightedNode):
    """``output[o] = clip(slope(rescale(bias[o] + sum x[g + i, y', x'] * weight[o, i, k, l])))``.

    The sum at output pixel ``(y, x)`` runs over every ``i`` and those ``k`` and ``y'`` of the image
    with ``y' * strides[0] + k * dilation[0] - padding[0] = y``, likewise ``l`` and ``x'`` with the
    left padding. Groups and ``g`` are those of a convolution (`Conv2d`). Sums are exact:
    `worst_case` fits int32.

    Attributes
    ----------
    weight : int8 array of shape (out channels, in channels / groups, kernel height, kernel width)
    bias : int32 array of shape (out channels,)
    strides, dilation : tuple of int
        Down, across.
    padding : tuple of int
        Top, left, bottom, right: rows and columns that the result loses.
    output_padding : tuple of int
        Rows and columns that it gains below and on the right.

    """

    kind: ClassVar[str] = "conv2d_transpose"

    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample, zeros between pixels not counted."""
        pixels = self.output.extents[1] * self.output.extents[2]
        return int(self.weight.size) * pixels // (self.strides[0] * self.strides[1])

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the sums of a channel and their rescaling reach."""
        lo, hi = min(inputs[0].lo, 0), max(inputs[0].hi, 0)
        return self.rescale.worst_case(sum_bounds(self.weight, self.bias, lo, hi))

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return channels, height and width of the output."""
        channels, *image = inputs[0].extents
        outputs = self.outputs(channels, rank=4, groups=self.groups)
        sizes = []
        for n, extent in enumerate(image):
            reach = (self.weight.shape[2 + n] - 1) * self.dilation[n]
            if self.padding[n] > reach:
                raise self.refuse(
                    f"its padding {self.padding} exceeds the {reach} pixels that its kernel "
                    "reaches over; crop the image before"
                )
            lost = self.padding[n] + self.padding[n + 2]
            sizes.append((extent - 1) * self.strides[n] + reach + 1 - lost + self.output_padding[n])
        if min(sizes) < 1:
            raise self.refuse(f"its result would be {sizes[0]}x{sizes[1]} pixels; use less padding")
        return outputs, sizes[0], sizes[1]

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: a convolution of the image spread by the strides, phase by phase."""
        if inputs[0].extents[1:] == (1, 1) and self.groups == 1 and self.dilation == (1, 1):
            self._lower_pixel(layer)
            return
        top, left = (
            (self.weight.shape[2 + n] - 1) * self.dilation[n] - self.padding[n] for n in (0, 1)
        )
        lower_linear(
            layer,
            weight=self.weight[:, :, ::-1, ::-1],
            bias=self.bias,
            rescale=self.rescale,
            slope=self.slope,
            clip=(self.output.lo, self.output.hi),
            extents=(inputs[0].extents, self.output.extents),
            padding=(top, left, 0, 0),
            dilation=self.dilation,
            upsample=self.strides,
            groups=self.groups,
        )

    def _lower_pixel(self, layer: Layer) -> None:
        """Emit the layer for one pixel: a dense layer whose features are pixels of blocks."""
        outputs, inputs = self.weight.shape[:2]
        block, (height, width) = layer.config.block, self.output.extents[1:]
        blocks = layer.blocks(outputs)
        full = np.zeros((blocks * block, inputs, height, width), np.int8)
        top, left = self.padding[:2]
        seen = self.weight[:, :, top : top + height, left : left + width]
        full[:outputs, :, : seen.shape[2], : seen.shape[3]] = seen
        weight = full.reshape(blocks, block, inputs, height * width).transpose(0, 3, 1, 2)

        def spread(values: Sequence[int] | NDArray[np.int32], neutral: int) -> NDArray[np.int64]:
            channels = np.full(blocks * block, neutral, np.int64)
            channels[:outputs] = values
            return np.repeat(channels.reshape(blocks, 1, block), height * width, 1).ravel()

        def each(values: tuple[int, ...], neutral: int) -> tuple[int, ...]:
            return values if len(values) == 1 else tuple(map(int, spread(values, neutral)))

        features = blocks * block * height * width
        lower_linear(
            layer,
            weight=weight.reshape(features, inputs, 1, 1),
            bias=spread(self.bias, 0).astype(np.int32),
            rescale=Rescale(
                before=self.rescale.before,
                multiplier=each(self.rescale.multiplier, 1),
                offset=each(self.rescale.offset, 0),
                shift=each(self.rescale.shift, 0),
            ),
            slope=self.slope
            and Slope(multiplier=each(self.slope.multiplier, 0), shift=self.slope.shift),
            clip=(self.output.lo, self.output.hi),
            extents=((inputs, 1, 1), (features, 1, 1)),
        )


@dataclass(kw_only=True)
class FloatConv2dTranspose(LinearFloatNode):
    """A transposed convolution of floats; ``weight`` is (out, in / groups, height, width)."""

    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    output_padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer transposed convolution.

        Raises
        ------
        CompilerError
            If the zero point of its input is not 0: the zeros between pixels are integers.

        """
        if inputs[0].zero:
            raise CompilerError(
                f"Node {self.name} (conv2d_transpose): the zero point of its input is "
                f"{inputs[0].zero}, not 0; quantise the activations of the model symmetrically"
            )
        linear = scales.linear(self, inputs[0])
        return Conv2dTranspose(
            name=self.name,
            inputs=tuple(self.inputs),
            output=linear.output,
            weight=linear.weight,
            bias=linear.bias,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
            rescale=linear.rescale,
            slope=self.integer_slope(linear.output),
        )


def _output_first(weight: NDArray[Any], groups: int) -> NDArray[np.float64]:
    """Return IOHW weights, the channels of each group apart, output channels first."""
    inputs, outputs, *kernel = weight.shape
    split = weight.astype(np.float64).reshape(groups, inputs // groups, outputs, *kernel)
    return split.swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernel)


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a transposed convolution by constant weights."""
    source, weight = constant_weights(call, "IOHW")
    groups = call.attr("groups")
    top, left, bottom, right = call.attr("padding")
    weight = _output_first(weight, groups)
    return FloatConv2dTranspose(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=call.sample_shape(),
        weight=weight,
        bias=np.zeros(len(weight)),
        strides=call.attr("strides"),
        padding=(top, left, bottom, right),
        output_padding=call.attr("output_padding"),
        dilation=call.attr("dilation"),
        groups=groups,
    )


OPERATOR = Operator("conv2d_transpose", ("relax.nn.conv2d_transpose",), _recognise)
