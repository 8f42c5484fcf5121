"""Residual addition of two values, with its activation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np

from ginseng.compiler.backend.lowering import Layer, clip_passes
from ginseng.compiler.backend.pointwise import lower_elementwise
from ginseng.compiler.backend.requantise import split_offset
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import MULTIPLIER_LIMIT
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "Add"]

#: The rounding constant of a right shift is a signed 16-bit immediate.
_SHIFT_LIMIT: Final = 15
#: A multiplier that is a power of two is a left shift, which has more room.
_POWER_LIMIT: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """``output = clip((sum_n x_n * multiplier[n] + offset) >> shift)``, element by element.

    The multipliers bring the operands to one scale; the offset holds the rounding constant of the
    shift and all zero points.

    Attributes
    ----------
    multiplier : tuple of int
        One for each input, 1 to 32,767; powers of two up to 2**22.
    offset : int
    shift : int
        0 to 15.

    """

    kind: ClassVar[str] = "add"

    multiplier: tuple[int, ...] = (1, 1)
    offset: int = 0
    shift: int = 0

    @classmethod
    def of(cls, name: str, inputs: Sequence[Value], output: Value) -> Self:
        """Return the sum of ``inputs`` in the scale of ``output``.

        Without error if the scales are powers of two; else each operand, as far as its part of
        the result is not clipped, is off by at most ``256 * 2**-(shift + 1)`` steps, where the
        shift is 15, or less by the bits of the greatest ratio of an input's scale to the output's.
        """
        ratios = [value.scale / output.scale for value in inputs]
        shift = max(ratio.denominator.bit_length() - 1 for ratio in ratios)
        scaled = [ratio * 2**shift for ratio in ratios]
        if shift > _SHIFT_LIMIT or any(r.denominator > 1 or _exceeds(int(r)) for r in scaled):
            fitting = (
                s for s in range(_SHIFT_LIMIT, 0, -1) if max(ratios) * 2**s < MULTIPLIER_LIMIT - 1
            )
            shift = next(fitting, 0)
        multiplier = tuple(round(ratio * 2**shift) for ratio in ratios)
        zeros = sum(m * v.zero for m, v in zip(multiplier, inputs, strict=True))
        offset = (output.zero << shift) - zeros + (1 << shift - 1 if shift else 0)
        return cls(
            name=name,
            inputs=tuple(value.name for value in inputs),
            output=output,
            multiplier=multiplier,
            offset=offset,
            shift=shift,
        )

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the sum and its offset."""
        return sum(128 * m for m in self.multiplier) + abs(self.offset)

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the operands."""
        if any(value.extents != inputs[0].extents for value in inputs):
            raise self.refuse(
                f"operands {inputs[0].extents} and {inputs[-1].extents} differ; broadcasting is "
                "not supported, make them alike"
            )
        legal = all(m > 0 and not _exceeds(m) for m in self.multiplier)
        if not legal or not 0 <= self.shift <= _SHIFT_LIMIT:
            raise self.refuse(
                f"the scales of its operands and its result lie too far apart (multipliers "
                f"{self.multiplier}, right shift {self.shift}); calibrate with data that reach all "
                "of them"
            )
        return inputs[0].extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        before, after = split_offset(self.offset, self.multiplier[0])
        bounds = [
            sum(end * m for end, m in zip(ends, self.multiplier, strict=True)) + self.offset
            for ends in ((v.lo for v in inputs), (v.hi for v in inputs))
        ]
        reach = (bounds[0] >> self.shift, bounds[1] >> self.shift)
        alu = layer.stream.alu

        def compute(places: list[int], loop: Loop) -> None:
            first = Uops.one(places[0], places[0])
            if before:
                alu(AluOp.ADD, first, inner=loop, imm=before)
            for place, multiplier in zip(places, self.multiplier, strict=True):
                one = Uops.one(place, place)
                if multiplier & (multiplier - 1):
                    alu(AluOp.MUL, one, inner=loop, imm=multiplier)
                elif multiplier > 1:
                    alu(AluOp.SHR, one, inner=loop, imm=1 - multiplier.bit_length())
            for place in places[1:]:
                alu(AluOp.ADD, Uops.one(places[0], place), inner=loop)
            if after:
                alu(AluOp.ADD, first, inner=loop, imm=after)
            if self.shift:
                alu(AluOp.SHR, first, inner=loop, imm=self.shift)
            for op, bound in clip_passes(self.output.lo, self.output.hi, reach):
                alu(op, first, inner=loop, imm=bound)

        lower_elementwise(layer, self.output.extents, len(inputs), compute)


def _exceeds(multiplier: int) -> bool:
    """Return whether no instruction multiplies by ``multiplier``."""
    power = multiplier & (multiplier - 1) == 0
    return multiplier > (_POWER_LIMIT if power else MULTIPLIER_LIMIT - 1)


@dataclass(kw_only=True)
class FloatAdd(FloatNode):
    """A sum of two values."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer sum."""
        output = scales.value(self, limit=max(v.shift for v in inputs))
        return Add.of(self.name, inputs, output)


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
