"""Nearest-neighbour upsampling by whole factors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.spread import Spread, lower_spread
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales

__all__ = ["OPERATOR", "Upsample"]

#: With whole factors these repeat each pixel; others mix or move them.
_REPEATING: Final = (
    ("asymmetric", "floor"),
    ("half_pixel", "round"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
)


@dataclass(frozen=True, kw_only=True)
class Upsample(Node):
    """``output[c, y, x] = clip(x[c, y // factors[0], x // factors[1]])``; both have one scale.

    Attributes
    ----------
    factors : tuple of int
        Down, across.

    """

    kind: ClassVar[str] = "upsample"

    factors: tuple[int, int]

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return 128: nothing grows."""
        return 128

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the larger image."""
        channels, height, width = inputs[0].extents
        if min(self.factors) < 1:
            raise self.refuse(f"its factors are {self.factors}; they are at least 1")
        return channels, height * self.factors[0], width * self.factors[1]

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        lower_spread(layer, Spread(factors=self.factors), inputs[0], self.output)


@dataclass(kw_only=True)
class FloatUpsample(FloatNode):
    """Upsampling of floats."""

    factors: tuple[int, int]

    @property
    def tied(self) -> tuple[str, ...]:
        """Return its input and its result: it does not rescale."""
        return (*self.inputs, self.output)

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer upsampling."""
        return Upsample(
            name=self.name,
            inputs=tuple(self.inputs),
            output=scales.inherit(self, inputs[0]),
            factors=self.factors,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim an upsampling that repeats each pixel."""
    before, after = network.shape(call.args[0]), call.shape
    if call.attr("layout") != "NCHW":
        raise call.refuse(f"its layout is {call.attr('layout')}; export it as NCHW")
    mode = (call.attr("coordinate_transformation_mode"), call.attr("rounding_method") or "round")
    if call.attr("method") != "nearest_neighbor" or mode not in _REPEATING:
        raise call.refuse(
            f"it resizes by {call.attr('method')} ({mode[0]}, {mode[1]}); only nearest neighbours "
            "are supported, asymmetric with floor or half_pixel with rounding"
        )
    if after[2] % before[2] or after[3] % before[3]:
        raise call.refuse(
            f"it resizes {before[2:]} to {after[2:]}; only whole factors are supported"
        )
    return FloatUpsample(
        name=call.name,
        inputs=[call.args[0]],
        output=call.output,
        shape=call.sample_shape(),
        factors=(after[2] // before[2], after[3] // before[3]),
    )


OPERATOR = Operator("upsample", ("relax.image.resize2d",), _recognise)
