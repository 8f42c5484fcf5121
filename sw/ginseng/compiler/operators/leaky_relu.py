"""Leaky rectifiers: absorbed into what they follow where they can be, else a pass of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.pointwise import Operand, lower_elementwise
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.operators.affine import per_channel
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import Slope

__all__ = ["OPERATOR", "LeakyRelu"]


@dataclass(frozen=True, kw_only=True)
class LeakyRelu(Node):
    """``output = clip(slope(x))``, element by element; input and output have the same shift."""

    kind: ClassVar[str] = "leaky_relu"

    slope: Slope

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the product."""
        return 128 * max(1, *(abs(m) for m in self.slope.multiplier)) + (1 << self.slope.shift)

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the input."""
        if not self.slope.fits(inputs[0].extents[0]):
            raise self.refuse(f"its slopes are not those of {inputs[0].extents[0]} channels")
        return inputs[0].extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        requantise = Requantise(
            layer.config,
            np.zeros(self.output.extents[0], np.int32),
            Rescale(),
            (self.output.lo, self.output.hi),
            slope=self.slope,
            reach=(inputs[0].lo, inputs[0].hi),
        )
        operands = [Operand(layer.source())]
        lower_elementwise(layer, self.output.extents, operands, lambda _: None, requantise)


@dataclass(kw_only=True)
class FloatLeakyRelu(FloatNode):
    """A leaky rectifier whose input has other readers too, or no sums."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer rectifier."""
        slope = self.integer_slope
        assert slope is not None  # _recognise
        source = inputs[0]
        lo, hi = slope.reach(source.lo, source.hi)
        return LeakyRelu(
            name=self.name,
            inputs=tuple(self.inputs),
            output=scales.inherit(self, source, (max(lo, -128), min(hi, 127))),
            slope=slope,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Absorb the rectifier, or claim it."""
    source = call.args[0]
    if call.op == "relax.nn.leakyrelu":
        slopes = np.array([call.attr("alpha")])
    else:
        constant = call.args[1]
        found = per_channel(constant, call.shape) if isinstance(constant, np.ndarray) else None
        if found is None:
            raise call.refuse("its slopes are no constants, one for each channel; make them so")
        slopes = found
    if isinstance(source, np.ndarray) or not np.isfinite(slopes).all():
        raise call.refuse("its slope is not finite, or its input a constant; repair the model")
    slope = tuple(map(float, np.unique(slopes) if len(np.unique(slopes)) == 1 else slopes))
    producer = network.sole_producer(source)
    if producer is not None and producer.bends and producer.is_linear:
        producer.slope = slope
        network.rename(producer, call)
        return producer
    return FloatLeakyRelu(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=call.sample_shape(),
        slope=slope,
    )


OPERATOR = Operator("leaky_relu", ("relax.nn.leakyrelu", "relax.nn.prelu"), _recognise)
