"""Global average pooling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.chunks import divisors
from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, Slots, clip_passes
from ginseng.compiler.backend.requantise import immediate_passes
from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import ACC_LIMIT, Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "GlobalAveragePool", "image_extents", "mean_rescale"]

_ITERATIONS = (1 << 14) - 1


@dataclass(frozen=True, kw_only=True)
class GlobalAveragePool(Node):
    """``output[c] = clip(rescale(sum of x[c] + bias))``.

    Attributes
    ----------
    bias : int
        Takes the zero point of the input off each pixel.
    rescale : Rescale
        Uniform; stands for one over the pixels, and the change of scale.

    """

    kind: ClassVar[str] = "global_average_pool"

    bias: int = 0
    rescale: Rescale

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the sums and their rescaling reach."""
        _, height, width = inputs[0].extents
        ends = (end * height * width + self.bias for end in (inputs[0].lo, inputs[0].hi))
        return self.rescale.worst_case(np.array([max(map(abs, ends))]))

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return one pixel per channel."""
        if not self.rescale.fits(1):
            raise self.refuse("its rescaling is not uniform; give one number for all channels")
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
            clips = clip_passes(self.output.lo, self.output.hi, (-ACC_LIMIT, ACC_LIMIT - 1))
            for op, imm in (*immediate_passes(self.bias, self.rescale), *clips):
                stream.alu(op, Uops.one(total, total), inner=one, imm=imm)
            layer.store(block, sram=total, cols=wide)


@dataclass(kw_only=True)
class FloatGlobalAveragePool(FloatNode):
    """A mean over all pixels."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer mean."""
        (source,) = inputs
        # Finer than this and no multiplier would fit.
        output = scales.value(self, limit=source.shift + 8)
        pixels = source.extents[1] * source.extents[2]
        return GlobalAveragePool(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            bias=-source.zero * pixels,
            rescale=mean_rescale(self.name, pixels, source, output),
        )


def mean_rescale(name: str, count: int, source: Value, output: Value) -> Rescale:
    """Return what makes sums of ``count`` elements of ``source`` their mean in ``output``.

    Raises
    ------
    CompilerError
        If no multiplier does.

    """
    reach = max(abs(source.lo - source.zero), abs(source.hi - source.zero), 128) * count
    try:
        return Rescale.approximate(
            [source.scale / output.scale / count], np.array([reach]), output.zero
        )
    except CompilerError as error:
        raise CompilerError(f"Node {name}: {error}") from None


def image_extents(call: Call, network: Network) -> tuple[int, int]:
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
        image_extents(call, network)
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
