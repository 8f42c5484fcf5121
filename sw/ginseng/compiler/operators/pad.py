"""Padding with a constant: part of the convolution that follows, else a pass of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.spread import Spread, lower_spread
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import INT8, Node, Value
from ginseng.compiler.quantise import Scales

__all__ = ["OPERATOR", "FloatPad", "Pad"]


@dataclass(frozen=True, kw_only=True)
class Pad(Node):
    """``output = clip(x)`` in the image, ``clip(fill)`` around it; both have one scale.

    Attributes
    ----------
    padding : tuple of int
        Top, left, bottom, right.
    fill : int
        int8.

    """

    kind: ClassVar[str] = "pad"

    padding: tuple[int, int, int, int]
    fill: int = 0

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return 256: the fill may be taken off a pixel and added again."""
        return 256

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the image and its padding."""
        channels, height, width = inputs[0].extents
        top, left, bottom, right = self.padding
        if min(self.padding) < 0 or not INT8[0] <= self.fill <= INT8[1]:
            raise self.refuse(
                f"its padding {self.padding} crops, or its fill {self.fill} is no int8; pad with "
                "less, and with what calibration data reach"
            )
        return channels, top + height + bottom, left + width + right

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        spread = Spread(origin=self.padding[:2], fill=self.fill)
        lower_spread(layer, spread, inputs[0], self.output)


@dataclass(kw_only=True)
class FloatPad(FloatNode):
    """Padding of floats; top, left, bottom, right."""

    padding: tuple[int, int, int, int]
    fill: float

    @property
    def tied(self) -> tuple[str, ...]:
        """Return its input and its result: it does not rescale."""
        return (*self.inputs, self.output)

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer padding."""
        (source,) = inputs
        fill = int(np.clip(np.rint(self.fill / float(source.scale)) + source.zero, *INT8))
        reach = replace(source, lo=min(source.lo, fill), hi=max(source.hi, fill))
        return Pad(
            name=self.name,
            inputs=tuple(self.inputs),
            output=scales.inherit(self, reach),
            padding=self.padding,
            fill=fill,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a padding of height and width by a constant."""
    mode = call.attr("pad_mode")
    if mode not in (None, "constant"):
        raise call.refuse(f"it pads by {mode}; only constants are supported")
    widths, fill = call.attr("pad_width"), call.attr("pad_value")
    if len(call.shape) != 4 or any(widths[:4]) or min(widths) < 0:
        raise call.refuse(
            f"it pads {widths} (before and after each axis); only height and width can grow"
        )
    top, bottom, left, right = widths[4:]
    return FloatPad(
        name=call.name,
        inputs=[call.args[0]],
        output=call.output,
        shape=call.sample_shape(),
        padding=(top, left, bottom, right),
        fill=float(fill or 0),
    )


OPERATOR = Operator("pad", ("relax.nn.pad",), _recognise)
