"""Residual addition of two values, with its activation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.lowering import Layer, clip_passes
from ginseng.compiler.backend.pointwise import lower_elementwise
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "Add"]

#: The rounding constant of a right shift is a signed 16-bit immediate.
_SHIFT_LIMIT = 15


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """``output = clip(round_shift((a << left[0]) + (b << left[1]), shift))``, element by element.

    The left shifts bring the operand with the coarser scale to the finer one.

    Attributes
    ----------
    left : tuple of int
        Left shifts of the two inputs, 0 to 22.
    shift : int
        0 to 15.

    """

    kind: ClassVar[str] = "add"

    left: tuple[int, int] = (0, 0)
    shift: int = 0

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the sum and its rounding."""
        rounding = 1 << (self.shift - 1) if self.shift else 0
        return sum(128 << left for left in self.left) + rounding

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of both operands."""
        if inputs[0].extents != inputs[1].extents:
            raise self.refuse(
                f"operands {inputs[0].extents} and {inputs[1].extents} differ; broadcasting is "
                "not supported, make them alike"
            )
        if min(self.left) < 0 or max(self.left) > 22 or not 0 <= self.shift <= _SHIFT_LIMIT:
            raise self.refuse(
                f"the scales of its operands and its result lie too far apart (left shifts "
                f"{self.left}, right shift {self.shift}); calibrate with data that reach all three"
            )
        return inputs[0].extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        rounding = 1 << (self.shift - 1) if self.shift else 0
        bounds = [
            sum(bound << left for bound, left in zip(ends, self.left, strict=True)) + rounding
            for ends in ((v.lo for v in inputs), (v.hi for v in inputs))
        ]
        reach = (bounds[0] >> self.shift, bounds[1] >> self.shift)

        def compute(places: list[int], loop: Loop) -> None:
            a, b = places
            for place, left in zip(places, self.left, strict=True):
                if left:
                    layer.stream.alu(AluOp.SHR, Uops.one(place, place), inner=loop, imm=-left)
            both, first = Uops.one(a, b), Uops.one(a, a)
            layer.stream.alu(AluOp.ADD, both, inner=loop)
            if self.shift:
                layer.stream.alu(AluOp.ADD, first, inner=loop, imm=rounding)
                layer.stream.alu(AluOp.SHR, first, inner=loop, imm=self.shift)
            for op, bound in clip_passes(self.output.lo, self.output.hi, reach):
                layer.stream.alu(op, first, inner=loop, imm=bound)

        lower_elementwise(layer, self.output.extents, 2, compute)


@dataclass(kw_only=True)
class FloatAdd(FloatNode):
    """A sum of two values."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer sum."""
        common = max(v.shift for v in inputs)
        output = scales.value(self, limit=common)
        return Add(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            left=(common - inputs[0].shift, common - inputs[1].shift),
            shift=common - output.shift,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a sum of two values of one shape; sums with constants are for `affine`."""
    if any(isinstance(a, np.ndarray) for a in call.args):
        return None
    shapes = [network.shape(a) for a in call.args]
    if shapes[0] != shapes[1]:
        raise call.refuse(
            f"it adds shapes {shapes[0]} and {shapes[1]}; broadcasting is not supported, make them "
            "alike"
        )
    return FloatAdd(
        name=call.name, inputs=list(call.args), output=call.output, shape=call.sample_shape()
    )


OPERATOR = Operator("add", ("relax.add",), _recognise)
