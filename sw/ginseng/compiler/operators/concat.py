"""Concatenation of channels: without work where blocks and scales agree, else by selections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, Slots
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.segment import Role
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import Memory

__all__ = ["OPERATOR", "Concat"]


@dataclass(frozen=True)
class _Piece:
    """Part of an output block that comes from one input block; lanes are channels of a block."""

    operand: int
    block: int
    lane: int
    source_lane: int
    lanes: int


@dataclass(frozen=True, kw_only=True)
class Concat(Node):
    """``output = clip(rescales[n](x_n))``, the inputs ``x_n`` one after another along channels.

    Attributes
    ----------
    rescales : tuple of Rescale
        One for each input, uniform and without pre-shift.

    """

    kind: ClassVar[str] = "concat"

    rescales: tuple[Rescale, ...]

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the rescalings reach."""
        return max(rescale.worst_case(np.array([128])) for rescale in self.rescales)

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the image of all channels."""
        image = inputs[0].extents[1:]
        for value in inputs:
            if value.extents[1:] != image:
                raise self.refuse(
                    f"images {inputs[0].extents} and {value.extents} differ; make height and "
                    "width alike"
                )
        if len(self.rescales) != len(inputs) or any(
            rescale.before or not rescale.fits(1) for rescale in self.rescales
        ):
            raise self.refuse("its rescalings are not one for each input, uniform, no pre-shift")
        return (sum(value.extents[0] for value in inputs), *image)

    def placed(self, inputs: Sequence[Value], block: int) -> Mapping[int, int]:
        """Return the inputs that stand in the output as they are, and their first blocks."""
        total, at, found = self.output.extents[0], 0, {}
        for n, value in enumerate(inputs):
            end = at + value.extents[0]
            whole = at % block == 0 and (end % block == 0 or end == total)
            kept = self.output.lo <= value.lo and value.hi <= self.output.hi
            if whole and kept and self.rescales[n] == Rescale():
                found[n] = at // block
            at = end
        return found

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit what the producers of the inputs did not store in place: selections of lanes."""
        moved = self._pieces(inputs, layer)
        if not moved:
            return
        config, stream = layer.config, layer.stream
        channels, height, width = self.output.extents
        plane, block = height * width, config.block
        every = [
            (rescale.multiplier + rescale.offset + rescale.shift,) * value.extents[0]
            for value, rescale in zip(inputs, self.rescales, strict=True)
        ]
        multiplier, offset, shift = zip(*(n for numbers in every for n in numbers), strict=True)
        requantise = Requantise(
            config,
            np.zeros((1, channels), np.int64),
            Rescale(multiplier=multiplier, offset=offset, shift=shift),
            (self.output.lo, self.output.hi),
            reach=(min(v.lo for v in inputs), max(v.hi for v in inputs)),
        )
        vectors = len(requantise.vectors)
        kinds = {
            (p.lane, p.source_lane, p.lanes): n
            for n, p in enumerate(
                {(p.lane, p.source_lane, p.lanes): p for ps in moved.values() for p in ps}.values()
            )
        }
        layer.fits(len(kinds), Memory.WGT, "its selections")
        selections = np.zeros((len(kinds), block, block), np.int8)
        for (lane, source_lane, lanes), n in kinds.items():
            selections[n, range(lane, lane + lanes), range(source_lane, source_lane + lanes)] = 1
        weights = layer.constant(Role.WEIGHTS, selections)
        stream.load(Memory.WGT, weights, 0, sram=0, cols=len(kinds))
        constants = None
        if vectors:
            constants = layer.constant(Role.BIASES, requantise.vectors.swapaxes(0, 1))
        most = max(map(len, moved.values()))
        room = min(
            config.depth(Memory.INP) // (2 * most), config.depth(Memory.ACC) // 2 - vectors, 1 << 13
        )
        layer.fits(2 * (vectors + 1), Memory.ACC, "one pixel, twice,")
        area = max(d for d in range(1, min(plane, room) + 1) if plane % d == 0)
        inp = Slots(0, area, 2 * most)
        acc = Slots(0, area + vectors, 2)
        for target, pieces in moved.items():
            for pixel in range(0, plane, area):
                sums, _ = acc.get((target, pixel))
                stream.gemm(Uops.one(sums), inner=Loop(area, dst=1), reset=True)
                for piece in pieces:
                    place, fresh = inp.get((piece.operand, piece.block, pixel))
                    if fresh:
                        stream.load(
                            Memory.INP,
                            layer.source(piece.operand),
                            piece.block * plane + pixel,
                            sram=place,
                            cols=area,
                        )
                    kind = kinds[piece.lane, piece.source_lane, piece.lanes]
                    stream.gemm(Uops.one(sums, place, kind), inner=Loop(area, dst=1, src=1))
                held = sums
                if constants is not None:
                    held = sums + area
                    stream.load(Memory.ACC, constants, target * vectors, sram=held, cols=vectors)
                requantise.emit(stream, sums=sums, copy=0, constants=held, blocks=1, area=area)
                layer.store(target * plane + pixel, sram=sums, cols=area)

    def _pieces(self, inputs: Sequence[Value], layer: Layer) -> dict[int, list[_Piece]]:
        """Return, for each output block that is not in place, where its lanes come from."""
        block = layer.config.block
        placed, at = layer.placed(), 0
        moved: dict[int, list[_Piece]] = {}
        for n, value in enumerate(inputs):
            channel = 0
            while channel < value.extents[0] and n not in placed:
                target, lane = divmod(at + channel, block)
                source, source_lane = divmod(channel, block)
                lanes = min(block - lane, block - source_lane, value.extents[0] - channel)
                moved.setdefault(target, []).append(_Piece(n, source, lane, source_lane, lanes))
                channel += lanes
            at += value.extents[0]
        return moved


@dataclass(kw_only=True)
class FloatConcat(FloatNode):
    """Values one after another along channels."""

    @property
    def tied(self) -> tuple[str, ...]:
        """Return its inputs and its result: with one scale they need no work."""
        return (*self.inputs, self.output)

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer concatenation."""
        output = scales.value(self, limit=min(value.shift for value in inputs))
        return Concat(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            rescales=tuple(self._rescale(value, output) for value in inputs),
        )

    def _rescale(self, value: Value, output: Value) -> Rescale:
        """Return what brings an input to the scale of the output."""
        if (value.scale, value.zero) == (output.scale, output.zero):
            return Rescale()
        reach = np.array([128 + abs(value.zero)])
        try:
            rescale = Rescale.approximate([value.scale / output.scale], reach, output.zero)
        except CompilerError as error:
            raise CompilerError(f"Node {self.name}: {error}") from None
        (multiplier,), (offset,) = rescale.multiplier, rescale.offset
        return Rescale(
            before=rescale.before,
            multiplier=(multiplier,),
            offset=(offset - value.zero * multiplier,),
            shift=rescale.shift,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a concatenation of values along channels."""
    if any(isinstance(a, np.ndarray) for a in call.args):
        raise call.refuse("it concatenates a constant; make that a part of the weights that follow")
    axis = call.attr("axis")
    if axis is None or axis % len(call.shape) != 1:
        raise call.refuse(f"it concatenates along axis {axis}; only channels (1) are supported")
    if any(len(network.shape(a)) != len(call.shape) for a in call.args):
        raise call.refuse("its inputs are not alike; concatenate images, or features")
    if len(call.shape) == 2 and any(network.is_flattened(a) for a in call.args):
        raise call.refuse(
            "it concatenates flattened images; concatenate them before they are flattened"
        )
    return FloatConcat(
        name=call.name, inputs=list(call.args), output=call.output, shape=call.sample_shape()
    )


OPERATOR = Operator("concat", ("relax.concat",), _recognise)
