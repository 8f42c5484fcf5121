"""Products of two values, element by element, with their activation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.pointwise import ElementTile, Operand, lower_elementwise
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import Slope
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "Multiply"]


@dataclass(frozen=True, kw_only=True)
class Multiply(Node):
    """``output = clip(slope(rescale((a - zeros[0]) * (b - zeros[1]))))``, element by element.

    A second input with one pixel counts as an image of this pixel.

    Attributes
    ----------
    zeros : tuple of int
        Zero points of the inputs.
    rescale : Rescale
        Uniform.
    slope : Slope or None
        A leaky rectifier; None changes nothing.

    """

    kind: ClassVar[str] = "multiply"

    zeros: tuple[int, int] = (0, 0)
    rescale: Rescale = field(default_factory=Rescale)
    slope: Slope | None = None

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the products and their rescaling reach."""
        reach = np.prod([128 + abs(zero) for zero in self.zeros])
        return self.rescale.worst_case(np.array([reach]))

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the first input."""
        extents, other = inputs[0].extents, inputs[1].extents
        if other not in (extents, (extents[0], 1, 1)):
            raise self.refuse(
                f"operands {extents} and {other} differ; make them alike, or the latter one pixel "
                "of as many channels"
            )
        if not self.rescale.fits(1) or not (self.slope is None or self.slope.fits(extents[0])):
            raise self.refuse("its rescaling is not uniform, or its slopes are not its channels'")
        return extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        extents, stream = self.output.extents, layer.stream
        spread = inputs[1].extents != extents
        operands = [Operand(layer.source(0)), Operand(layer.source(1), spread=spread)]
        ends = [
            [end - zero for end in (value.lo, value.hi)]
            for value, zero in zip(inputs, self.zeros, strict=True)
        ]
        products = [a * b for a in ends[0] for b in ends[1]]
        requantise = Requantise(
            layer.config,
            np.zeros((1, extents[0]), np.int64),
            self.rescale,
            (self.output.lo, self.output.hi),
            slope=self.slope,
            reach=(min(products), max(products)),
        )

        def combine(tile: ElementTile) -> None:
            length = 1 if spread else tile.area
            for place, zero, area in zip(tile.places, self.zeros, (tile.area, length), strict=True):
                if zero:
                    everything = Loop(tile.blocks * area, dst=1)
                    stream.alu(AluOp.ADD, Uops.one(place, place), inner=everything, imm=-zero)
            stream.alu(
                AluOp.MUL,
                Uops.one(*tile.places),
                Loop(tile.blocks, dst=tile.area, src=length),
                Loop(tile.area, dst=1, src=0 if spread else 1),
            )

        lower_elementwise(layer, extents, operands, combine, requantise)


@dataclass(kw_only=True)
class FloatMultiply(FloatNode):
    """A product of two values."""

    bends = True

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer product."""
        output = scales.value(self, limit=sum(value.shift for value in inputs))
        zeros = (inputs[0].zero, inputs[1].zero)
        bound = np.array([np.prod([128 + abs(zero) for zero in zeros])])
        ratio = inputs[0].scale * inputs[1].scale / output.scale
        try:
            rescale = Rescale.approximate([ratio], bound, output.zero)
        except CompilerError as error:
            raise CompilerError(f"Node {self.name}: {error}") from None
        return Multiply(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            zeros=zeros,
            rescale=rescale,
            slope=self.integer_slope(output),
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a product of two values; those with constants are for `affine`."""
    if any(isinstance(a, np.ndarray) for a in call.args):
        return None
    inputs = list(call.args)
    if network.shape(inputs[0]) != call.shape:
        inputs.reverse()
    pixel = (*call.shape[:2], 1, 1)
    shapes = [network.shape(a) for a in inputs]
    if shapes[0] != call.shape or shapes[1] not in (call.shape, pixel):
        raise call.refuse(
            f"it multiplies shapes {shapes[0]} and {shapes[1]}; make them alike, or one of them "
            f"{pixel}"
        )
    return FloatMultiply(
        name=call.name, inputs=inputs, output=call.output, shape=call.sample_shape()
    )


OPERATOR = Operator("multiply", ("relax.multiply",), _recognise)
