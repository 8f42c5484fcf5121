"""Sums and differences of values, or of a value and a constant image, with their activation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.pointwise import ElementTile, Operand, lower_elementwise
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.segment import Role
from ginseng.compiler.floatgraph import Call, FloatNode, Grid, Network, Operator
from ginseng.compiler.graph import INT8, Node, Value
from ginseng.compiler.histogram import Histogram
from ginseng.compiler.methods import min_max
from ginseng.compiler.operators.affine import per_channel
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import MULTIPLIER_LIMIT, Rescale
from ginseng.compiler.slope import Slope
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "Add"]

_SHIFT_LIMIT: Final = 15
#: A multiplier that is a power of two is a left shift, which has more room.
_POWER_LIMIT: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """``output = clip(slope((sum_n x_n * multiplier[n] + offset) >> shift))``, by elements.

    The terms ``x_n`` are the inputs and, after them, the constant. A term with one pixel counts as
    an image of this pixel; the first has as many as the output. The multipliers bring the terms to
    one scale; the offset holds the rounding constant of the shift and all zero points.

    Attributes
    ----------
    multiplier : tuple of int
        One for each term, -32,767 to 32,767 without 0; positive powers of two up to 2**22.
    offset : int
    shift : int
        0 to 15.
    slope : Slope or None
        A leaky rectifier; None changes nothing.
    constant : int8 array of shape (channels, height, width), or None

    """

    kind: ClassVar[str] = "add"

    multiplier: tuple[int, ...] = (1, 1)
    offset: int = 0
    shift: int = 0
    slope: Slope | None = None
    constant: NDArray[np.int8] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        name: str,
        terms: Sequence[Value],
        output: Value,
        *,
        signs: Sequence[int] | None = None,
        slope: Slope | None = None,
        constant: NDArray[np.int8] | None = None,
    ) -> Self:
        """Return the sum of ``terms``, each with its sign, in the scale of ``output``.

        Without error if the scales are powers of two; else each term, as far as its part of
        the result is not clipped, is off by at most ``256 * 2**-(shift + 1)`` steps, where the
        shift is 15, or less by the bits of the greatest ratio of a term's scale to the output's.
        With a constant the last of ``terms`` describes it.
        """
        ratios = [value.scale / output.scale for value in terms]
        shift = max(ratio.denominator.bit_length() - 1 for ratio in ratios)
        scaled = [ratio * 2**shift for ratio in ratios]
        if shift > _SHIFT_LIMIT or any(r.denominator > 1 or _exceeds(int(r)) for r in scaled):
            fitting = (
                s for s in range(_SHIFT_LIMIT, 0, -1) if max(ratios) * 2**s < MULTIPLIER_LIMIT - 1
            )
            shift = next(fitting, 0)
        multiplier = tuple(
            sign * round(ratio * 2**shift)
            for sign, ratio in zip(signs or [1] * len(terms), ratios, strict=True)
        )
        zeros = sum(m * v.zero for m, v in zip(multiplier, terms, strict=True))
        offset = (output.zero << shift) - zeros + (1 << shift - 1 if shift else 0)
        inputs = terms if constant is None else terms[:-1]
        return cls(
            name=name,
            inputs=tuple(value.name for value in inputs),
            output=output,
            multiplier=multiplier,
            offset=offset,
            shift=shift,
            slope=slope,
            constant=constant,
        )

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the sum and its offset."""
        return sum(128 * abs(m) for m in self.multiplier) + abs(self.offset)

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the extents of the first input."""
        extents = inputs[0].extents
        terms = [value.extents for value in inputs]
        terms += [] if self.constant is None else [self.constant.shape]
        for term in terms:
            if term not in (extents, (extents[0], 1, 1)):
                raise self.refuse(
                    f"operands {extents} and {term} differ; make them alike, or the latter one "
                    "pixel of as many channels"
                )
        if len(self.multiplier) != len(terms):
            raise self.refuse(f"it has {len(terms)} terms and {len(self.multiplier)} multipliers")
        legal = all(m and not _exceeds(m) for m in self.multiplier)
        if not legal or not 0 <= self.shift <= _SHIFT_LIMIT:
            raise self.refuse(
                f"the scales of its operands and its result lie too far apart (multipliers "
                f"{self.multiplier}, right shift {self.shift}); calibrate with data that reach all "
                "of them"
            )
        if self.slope is not None and not self.slope.fits(extents[0]):
            raise self.refuse(f"its slopes are not those of {extents[0]} channels")
        return extents

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer."""
        extents, stream = self.output.extents, layer.stream
        operands = [
            Operand(layer.source(n), spread=value.extents != extents)
            for n, value in enumerate(inputs)
        ]
        ranges = [(value.lo, value.hi) for value in inputs]
        if self.constant is not None:
            segment = layer.constant(Role.BIASES, _packed(layer, self.constant))
            operands.append(Operand(segment, spread=self.constant.shape != extents))
            ranges.append((int(self.constant.min()), int(self.constant.max())))
        ends = [
            sorted(m * end for end in reach)
            for m, reach in zip(self.multiplier, ranges, strict=True)
        ]
        requantise = Requantise(
            layer.config,
            np.zeros((1, extents[0]), np.int64),
            Rescale(offset=(self.offset,), shift=(self.shift,)),
            (self.output.lo, self.output.hi),
            slope=self.slope,
            reach=(sum(e[0] for e in ends), sum(e[1] for e in ends)),
        )

        def combine(tile: ElementTile) -> None:
            lengths = [1 if operand.spread else tile.area for operand in operands]
            for place, multiplier, length in zip(
                tile.places, self.multiplier, lengths, strict=True
            ):
                one, loop = Uops.one(place, place), Loop(tile.blocks * length, dst=1)
                if multiplier < 0 or multiplier & (multiplier - 1):
                    stream.alu(AluOp.MUL, one, inner=loop, imm=multiplier)
                elif multiplier > 1:
                    stream.alu(AluOp.SHR, one, inner=loop, imm=1 - multiplier.bit_length())
            for place, operand, length in list(zip(tile.places, operands, lengths, strict=True))[
                1:
            ]:
                stream.alu(
                    AluOp.ADD,
                    Uops.one(tile.places[0], place),
                    Loop(tile.blocks, dst=tile.area, src=length),
                    Loop(tile.area, dst=1, src=0 if operand.spread else 1),
                )

        lower_elementwise(layer, extents, operands, combine, requantise)


def _exceeds(multiplier: int) -> bool:
    """Return whether no instruction multiplies by ``multiplier``."""
    power = multiplier > 0 and multiplier & (multiplier - 1) == 0
    return abs(multiplier) > (_POWER_LIMIT if power else MULTIPLIER_LIMIT - 1)


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
    step: float | None = None

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer sum."""
        terms, constant = list(inputs), None
        if self.constant is not None:
            grid = self._constant_grid(self.constant)
            term = Value(name="constant", shape=self.constant.shape, **asdict(grid))
            terms.append(term)
            integers = np.rint(self.constant / float(term.scale)) + term.zero
            constant = integers.clip(*INT8).astype(np.int8)
        output = scales.value(self, limit=max(v.shift for v in terms))
        return Add.of(
            self.name,
            terms,
            output,
            signs=self.signs,
            slope=self.integer_slope(output),
            constant=constant,
        )

    def _constant_grid(self, constant: NDArray[np.float64]) -> Grid:
        """Return the scale of the constant: the model's own, else a power of two."""
        if self.step is None:
            return Grid(shift=min_max(Histogram.of(constant)), mantissa=1, zero=0)
        # Its zero point is lost, but any does that brings its integers into int8.
        least, greatest = (
            round(float(end) / self.step) for end in (constant.min(), constant.max())
        )
        fits = INT8[0] <= least and greatest <= INT8[1]
        return Grid.of(self.step, 0 if fits else INT8[0] - least)


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a sum or difference; those with constants per channel are for `affine`."""
    signs = (1, 1 if call.op == "relax.add" else -1)
    arrays = [isinstance(a, np.ndarray) for a in call.args]
    inputs, constant, step = list(call.args), None, None
    if any(arrays):
        n = arrays.index(True)
        if len(call.shape) != 4 or all(arrays) or per_channel(call.args[n], call.shape) is not None:
            return None
        constant = np.broadcast_to(call.args[n].astype(np.float64), call.shape)[0]
        if not np.isfinite(constant).all():
            raise call.refuse("its constant is not finite; repair the model")
        steps = np.unique(call.steps.get(n, np.empty(0)))
        step = float(steps[0]) if len(steps) == 1 else None
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
        step=step,
    )


OPERATOR = Operator("add", ("relax.add", "relax.subtract"), _recognise)
