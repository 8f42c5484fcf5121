"""Global average pooling."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log2
from typing import ClassVar

from ginseng.compiler.backend.chunks import divisors
from ginseng.compiler.backend.lowering import Layer, Slots, clip_passes
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import ACC_LIMIT, Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "GlobalAveragePool", "Mean", "image_mean", "means"]

#: Immediates are signed 16-bit, shifts at most 31.
_IMMEDIATE = (1 << 15) - 1
_SHIFT_LIMIT = 31
_ITERATIONS = (1 << 14) - 1


@dataclass(frozen=True, kw_only=True)
class Mean:
    """``((sum + offset) * multiplier) >> shift``: the mean of ``count`` numbers in a new scale.

    The offset is half a result's worth of the sum and makes the shift round to nearest.

    Attributes
    ----------
    count : int
        At least 1.
    multiplier, offset : int
        0 to 32,767.

    """

    count: int
    multiplier: int
    offset: int

    def problem(self, shift: int) -> str | None:
        """Return what does not fit an instruction, None if all does."""
        legal = 0 < self.multiplier <= _IMMEDIATE and 0 <= self.offset <= _IMMEDIATE
        if legal and 0 <= shift <= _SHIFT_LIMIT:
            return None
        return (
            f"multiplier {self.multiplier}, offset {self.offset} or shift {shift} does not fit an "
            "instruction; average a smaller image, or pool in two steps"
        )


def means(name: str, counts: Sequence[int], scale: int) -> tuple[tuple[Mean, ...], int]:
    """Return means of ``counts`` int8 numbers times ``2**scale``, and the shift that all have.

    The multipliers are the greatest that fit their field and int32.

    Raises
    ------
    CompilerError
        If none fits.

    """
    shift = min(_SHIFT_LIMIT, floor(log2(_IMMEDIATE / (2.0**scale / min(counts)))))
    while shift >= 0:
        found = []
        for count in counts:
            multiplier = round(2.0**scale / count * 2**shift)
            if not multiplier:
                break
            offset = round(2 ** (shift - 1) / multiplier) if shift else 0
            found.append(Mean(count=count, multiplier=multiplier, offset=offset))
        sound = all((128 * m.count + m.offset) * m.multiplier < ACC_LIMIT for m in found)
        if sound and len(found) == len(counts):
            return tuple(found), shift
        shift -= 1
    raise CompilerError(
        f"Node {name}: a mean of {max(counts)} numbers does not fit int32; pool in two steps"
    )


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(Node):
    """``output[c] = clip(((sum of x[c] + mean.offset) * mean.multiplier) >> shift)``.

    Attributes
    ----------
    mean : Mean
        Of all pixels.
    shift : int
        0 to 31.

    """

    kind: ClassVar[str] = "global_average_pool"

    mean: Mean
    shift: int

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the product."""
        _, height, width = inputs[0].extents
        return (128 * height * width + self.mean.offset) * self.mean.multiplier

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return one pixel per channel."""
        if problem := self.mean.problem(self.shift):
            raise self.refuse(problem)
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
            if self.mean.offset:
                stream.alu(AluOp.ADD, uops, inner=one, imm=self.mean.offset)
            stream.alu(AluOp.MUL, uops, inner=one, imm=self.mean.multiplier)
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
        """Return the integer mean."""
        # Finer than this and the multiplier would not fit.
        output = scales.value(self, limit=inputs[0].shift + 8)
        _, height, width = inputs[0].extents
        (mean,), shift = means(self.name, [height * width], output.shift - inputs[0].shift)
        return GlobalAveragePool(
            name=self.name, inputs=tuple(self.inputs), output=output, mean=mean, shift=shift
        )


def image_mean(call: Call, network: Network) -> tuple[int, int]:
    """Return height and width of the image over which ``call`` reduces.

    Raises
    ------
    CompilerError
        If it reduces over anything else.

    """
    shape = network.shape(call.args[0])
    if len(shape) != 4:
        raise call.refuse("it is supported over the height and width of an image only")
    axes = sorted(a % 4 for a in call.attr("axis") or range(4))
    if axes != [2, 3]:
        raise call.refuse(f"it reduces axes {axes}; only height and width are supported")
    return shape[2], shape[3]


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a mean over the image."""
    if call.op == "relax.mean":
        image_mean(call, network)
    elif tuple(call.attr("output_size") or ()) != (1, 1):
        raise call.refuse(
            f"its output size is {call.attr('output_size')}; only global pooling, to (1, 1), "
            "is supported"
        )
    return FloatGlobalAveragePool(
        name=call.name, inputs=[call.args[0]], output=call.output, shape=call.sample_shape()
    )


OPERATOR = Operator(
    "global_average_pool", ("relax.mean", "relax.nn.adaptive_avg_pool2d"), _recognise
)
