"""Activations: absorbed into what they follow where they can be, else a pass of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.pointwise import Operand, lower_elementwise
from ginseng.compiler.backend.requantise import Requantise as Passes
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.operators.requantise import Requantise
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale

__all__ = ["OPERATOR", "Clip"]


@dataclass(frozen=True, kw_only=True)
class Clip(Node):
    """``output = clip(x)``, element by element; input and output have the same shift."""

    kind: ClassVar[str] = "clip"

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return 128: nothing grows."""
        return 128

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the input."""
        return inputs[0].extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        requantise = Passes(
            layer.config,
            np.zeros((1, self.output.extents[0]), np.int64),
            Rescale(),
            (self.output.lo, self.output.hi),
            reach=(inputs[0].lo, inputs[0].hi),
        )
        operands = [Operand(layer.source())]
        lower_elementwise(layer, self.output.extents, operands, lambda _: None, requantise)


@dataclass(kw_only=True)
class FloatClip(FloatNode):
    """An activation whose input has other readers too."""

    @property
    def tied(self) -> tuple[str, ...]:
        """Return its input and its result: it does not rescale."""
        return (*self.inputs, self.output)

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer clip, in the scale of its input where the model allows that."""
        if not scales.keeps(self, inputs[0]):
            return Requantise.of(self.name, inputs, scales.value(self))
        output = scales.inherit(self, inputs[0])
        return Clip(name=self.name, inputs=tuple(self.inputs), output=output)


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Absorb the activation, or claim it."""
    source, lo, hi = call.args[0], -np.inf, np.inf
    if call.op == "relax.nn.relu":
        lo = 0.0
    else:
        bounds = [np.asarray(a) for a in call.args[1:] if not isinstance(a, str)]
        if len(bounds) != len(call.args) - 1 or any(b.size != 1 for b in bounds) or not bounds:
            raise call.refuse(
                "its bounds are no constant numbers; make them initialisers of the model"
            )
        numbers = [float(b.reshape(())) for b in bounds]
        if call.op == "relax.maximum":
            lo = numbers[0]
        elif call.op == "relax.minimum":
            hi = numbers[0]
        else:
            lo, hi = numbers
    if not lo < hi:
        raise call.refuse(f"it clips to {lo} .. {hi}, which is empty; give bounds in order")
    producer = network.sole_producer(source)
    if producer is not None:
        producer.absorb_clip(lo, hi)
        network.rename(producer, call)
        return producer
    return FloatClip(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=call.sample_shape(),
        clip=(lo, hi),
    )


OPERATOR = Operator(
    "clip", ("relax.nn.relu", "relax.clip", "relax.maximum", "relax.minimum"), _recognise
)
