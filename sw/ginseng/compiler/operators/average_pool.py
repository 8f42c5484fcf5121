"""Global average pooling."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log2
from typing import ClassVar

from ginseng.compiler.backend.chunks import divisors
from ginseng.compiler.backend.lowering import Layer, Slots, clip_passes
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import ACC_LIMIT, Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "GlobalAveragePool"]

#: Immediates are signed 16-bit, shifts at most 31.
_IMMEDIATE = (1 << 15) - 1
_SHIFT_LIMIT = 31
_ITERATIONS = (1 << 14) - 1


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(Node):
    """``output[c] = clip(((sum of x[c] + offset) * multiplier) >> shift)``.

    ``multiplier / 2**shift`` stands for one over the pixels, and the change of scale; ``offset``
    is half a result's worth of the sum and makes the shift round to nearest.

    Attributes
    ----------
    multiplier, offset : int
        0 to 32,767.
    shift : int
        0 to 31.

    """

    kind: ClassVar[str] = "global_average_pool"

    multiplier: int
    offset: int
    shift: int

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the product."""
        _, height, width = inputs[0].extents
        return (128 * height * width + self.offset) * self.multiplier

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return one pixel per channel."""
        legal = 0 < self.multiplier <= _IMMEDIATE and 0 <= self.offset <= _IMMEDIATE
        if not legal or not 0 <= self.shift <= _SHIFT_LIMIT:
            raise self.refuse(
                f"multiplier {self.multiplier}, offset {self.offset} or shift {self.shift} does "
                "not fit an instruction; average a smaller image, or pool in two steps"
            )
        return inputs[0].extents[0], 1, 1

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: sums in ACC, block by block, then multiply, shift and clip."""
        stream = layer.stream
        channels, height, width = inputs[0].extents
        blocks, plane = layer.blocks(channels), height * width
        room = layer.config.depth(Memory.ACC) // 2
        if plane + 1 <= room:
            wide, part = max(d for d in divisors(blocks) if d * (plane + 1) <= room), plane
        else:
            wide, rows = 1, max(1, min(room - 1, _ITERATIONS) // width)
            part = rows * width
            layer.fits(2 * (part + 1), Memory.ACC, "one image row, twice,")
        slots = Slots(0, wide * part, 2)
        sums = Slots(2 * wide * part, wide, 2)
        for block in range(0, blocks, wide):
            total, _ = sums.get(block)
            one = Loop(wide, dst=1)
            stream.gemm(Uops.one(total), inner=one, reset=True)
            for begin in range(0, plane, part):
                size = min(part, plane - begin)
                base, _ = slots.get((block, begin))
                stream.load(
                    Memory.ACC_8BIT,
                    layer.source(),
                    block * plane + begin,
                    sram=base,
                    rows=wide,
                    cols=size,
                    stride=plane,
                )
                # Blocks in the inner loop: successive steps add to different sums.
                stream.alu(
                    AluOp.ADD,
                    Uops.one(total, base),
                    Loop(size, src=1),
                    Loop(wide, dst=1, src=size),
                )
            uops = Uops.one(total, total)
            if self.offset:
                stream.alu(AluOp.ADD, uops, inner=one, imm=self.offset)
            stream.alu(AluOp.MUL, uops, inner=one, imm=self.multiplier)
            if self.shift:
                stream.alu(AluOp.SHR, uops, inner=one, imm=self.shift)
            reach = (-ACC_LIMIT >> self.shift, (ACC_LIMIT - 1) >> self.shift)
            for op, bound in clip_passes(self.output.lo, self.output.hi, reach):
                stream.alu(op, uops, inner=one, imm=bound)
            layer.store(block, sram=total, cols=wide)


@dataclass(kw_only=True)
class FloatGlobalAveragePool(FloatNode):
    """A mean over all pixels."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer mean: the greatest multiplier that fits its field and int32."""
        # Finer than this and the multiplier would not fit.
        output = scales.value(self, limit=inputs[0].shift + 8)
        _, height, width = inputs[0].extents
        pixels = height * width
        ratio = 2.0 ** (output.shift - inputs[0].shift) / pixels
        shift = min(_SHIFT_LIMIT, floor(log2(_IMMEDIATE / ratio)))
        while shift >= 0:
            multiplier = round(ratio * 2**shift)
            offset = round(2 ** (shift - 1) / multiplier) if shift and multiplier else 0
            if (128 * pixels + offset) * multiplier < ACC_LIMIT:
                break
            shift -= 1
        return GlobalAveragePool(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            multiplier=multiplier,
            offset=offset,
            shift=shift,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a mean over the image."""
    if len(network.shape(call.args[0])) != 4:
        raise call.refuse("a mean is supported over the height and width of an image only")
    if call.op == "relax.nn.adaptive_avg_pool2d":
        if tuple(call.attr("output_size") or ()) != (1, 1):
            raise call.refuse(
                f"its output size is {call.attr('output_size')}; only global pooling, to (1, 1), "
                "is supported"
            )
    else:
        axes = sorted(a % 4 for a in call.attr("axis"))
        if axes != [2, 3]:
            raise call.refuse(f"it averages over axes {axes}; only height and width is supported")
    return FloatGlobalAveragePool(
        name=call.name, inputs=[call.args[0]], output=call.output, shape=call.sample_shape()
    )


OPERATOR = Operator(
    "global_average_pool", ("relax.mean", "relax.nn.adaptive_avg_pool2d"), _recognise
)
