"""Sums and differences of two values, or of a value and a constant image, with their activation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.pointwise import ElementTile, Operand, lower_elementwise
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.segment import Role
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales, min_max_shift
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import Slope
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "Add"]

#: Factors are an immediate times a power of two up to this.
_FACTOR_LIMIT = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """``output = clip(slope(rescale(a * factors[0] + b * factors[1])))``, element by element.

    ``b`` is the second input or, if there is none, the constant. A second input with one pixel
    counts as an image of this pixel.

    Attributes
    ----------
    factors : tuple of int
        They bring both operands to one scale: not zero, up to 2**22, and but for powers of two no
        more than signed 16 bits.
    rescale : Rescale
        From sums to results.
    slope : Slope or None
        A leaky rectifier; None changes nothing.
    constant : int8 array of shape (channels, height, width), or None

    """

    kind: ClassVar[str] = "add"

    factors: tuple[int, int] = (1, 1)
    rescale: Rescale = field(default_factory=Rescale)
    slope: Slope | None = None
    constant: NDArray[np.int8] | None = field(default=None, repr=False, compare=False)

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the sum and its rescaling."""
        return self.rescale.worst_case(np.array([sum(128 * abs(f) for f in self.factors)]))

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the first operand."""
        extents = inputs[0].extents
        other = inputs[1].extents if self.constant is None else self.constant.shape
        if (
            other not in (extents, (extents[0], 1, 1))
            or len(inputs) + (self.constant is not None) != 2
        ):
            raise self.refuse(
                f"operands {extents} and {other} differ; make them alike, or the second one pixel "
                "of as many channels"
            )
        if any(_split(f) is None for f in self.factors):
            raise self.refuse(
                f"the scales of its operands lie too far apart (factors {self.factors}); "
                "calibrate with data that reach both"
            )
        channels = extents[0]
        if not self.rescale.fits(channels) or not (self.slope is None or self.slope.fits(channels)):
            raise self.refuse(f"rescaling or slope is not of {channels} channels")
        return extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        extents, stream = self.output.extents, layer.stream
        ranges = [(v.lo, v.hi) for v in inputs]
        if self.constant is None:
            second = Operand(layer.source(1), spread=inputs[1].extents != extents)
        else:
            second = Operand(layer.constant(Role.BIASES, _packed(layer, self.constant)))
            ranges.append((int(self.constant.min()), int(self.constant.max())))
        ends = [sorted(f * end for end in r) for f, r in zip(self.factors, ranges, strict=True)]
        requantise = Requantise(
            layer.config,
            np.zeros(extents[0], np.int32),
            self.rescale,
            (self.output.lo, self.output.hi),
            slope=self.slope,
            reach=(ends[0][0] + ends[1][0], ends[0][1] + ends[1][1]),
        )

        def combine(tile: ElementTile) -> None:
            lengths = (tile.area, 1 if second.spread else tile.area)
            for place, factor, length in zip(tile.places, self.factors, lengths, strict=True):
                split = _split(factor)
                assert split is not None  # output_extents
                everything, uops = Loop(tile.blocks * length, dst=1, src=1), Uops.one(place, place)
                if split[0] != 1:
                    stream.alu(AluOp.MUL, uops, inner=everything, imm=split[0])
                if split[1]:
                    stream.alu(AluOp.SHR, uops, inner=everything, imm=-split[1])
            blocks = Loop(tile.blocks, dst=tile.area, src=lengths[1])
            pixels = Loop(tile.area, dst=1, src=0 if second.spread else 1)
            stream.alu(AluOp.ADD, Uops.one(*tile.places), blocks, pixels)

        lower_elementwise(layer, extents, [Operand(layer.source(0)), second], combine, requantise)


def _split(factor: int) -> tuple[int, int] | None:
    """Return an immediate and a left shift that make ``factor``, None if nothing does."""
    if not factor or abs(factor) > _FACTOR_LIMIT:
        return None
    twos = (factor & -factor).bit_length() - 1
    if factor > 0 and factor == 1 << twos:
        return 1, twos
    if abs(factor) < 1 << 15:
        return factor, 0
    odd = factor >> twos
    return (odd, twos) if abs(odd) < 1 << 15 else None


def _packed(layer: Layer, constant: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return a constant image as activations lie in DRAM, filled up to whole ACC elements."""
    core = layer.config
    channels, height, width = constant.shape
    full = np.zeros((layer.blocks(channels) * core.block, height, width), np.int8)
    full[:channels] = constant
    split = full.reshape(-1, core.block, height, width).transpose(0, 2, 3, 1)
    spread = np.repeat(split[..., None, :], core.batch, -2).ravel()
    return np.pad(spread, (0, -len(spread) % (4 * core.batch * core.block)))


@dataclass(kw_only=True)
class FloatAdd(FloatNode):
    """A sum of two values, or of a value and a constant image; ``signs`` are 1 or -1."""

    bends = True

    signs: tuple[int, int] = (1, 1)
    constant: NDArray[np.float64] | None = field(default=None, repr=False)

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer sum."""
        shifts, constant = [v.shift for v in inputs], None
        if self.constant is not None:
            shifts.append(min_max_shift(float(self.constant.min()), float(self.constant.max())))
            integers = np.rint(np.ldexp(self.constant, shifts[1])).clip(-128, 127)
            constant = integers.astype(np.int8)
        common = max(shifts)
        output = scales.value(self, limit=common)
        a, b = (sign << common - shift for sign, shift in zip(self.signs, shifts, strict=True))
        return Add(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            factors=(a, b),
            rescale=Rescale.shifted(common - output.shift),
            slope=self.integer_slope,
            constant=constant,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a sum or difference; those with constants per channel are for `affine`."""
    signs = (1, 1 if call.op == "relax.add" else -1)
    arrays = [isinstance(a, np.ndarray) for a in call.args]
    inputs, constant = list(call.args), None
    if any(arrays):
        n = arrays.index(True)
        if len(call.shape) != 4 or call.args[n].squeeze().ndim < 2 or all(arrays):
            return None
        constant = np.broadcast_to(call.args[n].astype(np.float64), call.shape)[0]
        if not np.isfinite(constant).all():
            raise call.refuse("its constant is not finite; repair the model")
        inputs = [call.args[1 - n]]
        signs = (signs[1 - n], signs[n])
    shapes = [network.shape(a) for a in inputs]
    if len(shapes) == 2 and shapes[0] != call.shape:
        inputs, shapes, signs = inputs[::-1], shapes[::-1], signs[::-1]
    pixel = (*call.shape[:2], 1, 1)
    if shapes[0] != call.shape or shapes[-1] not in (call.shape, pixel):
        raise call.refuse(
            f"it combines shapes {shapes[0]} and {shapes[-1]}; make them alike, or one of them "
            f"{pixel}"
        )
    return FloatAdd(
        name=call.name,
        inputs=inputs,
        output=call.output,
        shape=call.sample_shape(),
        signs=signs,
        constant=constant,
    )


OPERATOR = Operator("add", ("relax.add", "relax.subtract"), _recognise)
