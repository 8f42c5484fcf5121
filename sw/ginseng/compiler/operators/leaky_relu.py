"""Leaky rectifiers: absorbed into what they follow where they can be, else a pass of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.operators.add import Add
from ginseng.compiler.operators.affine import per_channel
from ginseng.compiler.quantise import Scales

__all__ = ["OPERATOR", "LeakyRelu"]


@dataclass(frozen=True, kw_only=True)
class LeakyRelu(Add):
    """``output = clip(slope((x * multiplier[0] + offset) >> shift))``, element by element."""

    kind: ClassVar[str] = "leaky_relu"


@dataclass(kw_only=True)
class FloatLeakyRelu(FloatNode):
    """A leaky rectifier whose input has other readers too, or no sums."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer rectifier."""
        output = scales.value(self, limit=inputs[0].shift)
        return LeakyRelu.of(self.name, inputs, output, slope=self.integer_slope(output))


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Absorb the rectifier, or claim it."""
    source = call.args[0]
    if call.op == "relax.nn.leakyrelu":
        slopes = np.array([call.attr("alpha")])
    else:
        constant = call.args[1]
        if isinstance(constant, np.ndarray) and constant.ndim == 1:
            constant = constant.reshape(-1, *(1,) * (len(call.shape) - 2))
        found = per_channel(constant, call.shape) if isinstance(constant, np.ndarray) else None
        if found is None:
            raise call.refuse("its slopes are no constants, one for each channel; make them so")
        slopes = found
    if isinstance(source, np.ndarray) or not np.isfinite(slopes).all():
        raise call.refuse("its slope is not finite, or its input a constant; repair the model")
    slope = tuple(map(float, slopes[:1] if (slopes == slopes[0]).all() else slopes))
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
