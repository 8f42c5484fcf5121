"""Average pooling over windows; over whole images it is `global_average_pool`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from ginseng.compiler.backend.lowering import Layer, clip_passes, grid, shifted
from ginseng.compiler.backend.pointwise import PlaneTile
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.backend.window import Window, lower_window
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import ACC_LIMIT, Node, Value
from ginseng.compiler.operators.global_average_pool import (
    FloatGlobalAveragePool,
    Mean,
    means,
)
from ginseng.compiler.quantise import Scales
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "AveragePool"]


@dataclass(frozen=True, kw_only=True)
class AveragePool(Node):
    """``output = clip(((sum of x over the window + m.offset) * m.multiplier) >> shift)``.

    The window is that of `MaxPool`; what lies outside of the image adds nothing. ``m`` is the mean
    of ``n`` numbers in ``means``, where ``n`` is how many positions of the window lie in the image
    enlarged by ``counted``.

    Attributes
    ----------
    kernel, strides : tuple of int
        Down, across.
    padding : tuple of int
        Top, left. Bottom and right follow from the output's extents.
    counted : tuple of int
        Rows and columns around the image that count as zeros: top, left, bottom, right.
    means : tuple of Mean
        One for each ``n``.
    shift : int
        0 to 31.

    """

    kind: ClassVar[str] = "average_pool"

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    counted: tuple[int, int, int, int]
    means: tuple[Mean, ...]
    shift: int

    @property
    def window(self) -> Window:
        """What each output looks at."""
        return Window(kernel=self.kernel, strides=self.strides, padding=self.padding)

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return the bound of the products."""
        return max((128 * mean.count + mean.offset) * mean.multiplier for mean in self.means)

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the output's own extents, once every window counts something."""
        channels, *image = inputs[0].extents
        sizes = _counts(self.window, self.output.extents[1:], image, self.counted)
        wanted = {a * b for a in sizes[0] for b in sizes[1]}
        if missing := wanted - {mean.count for mean in self.means}:
            raise self.refuse(f"windows of {sorted(missing)} pixels have no mean; use less padding")
        for mean in self.means:
            if problem := mean.problem(self.shift):
                raise self.refuse(problem)
        return (channels, *self.output.extents[1:])

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: sums over the positions of the window, then their means."""
        stream, width = layer.stream, self.output.extents[2]
        counts = _counts(self.window, self.output.extents[1:], inputs[0].extents[1:], self.counted)
        known = {mean.count: mean for mean in self.means}
        reach = (-ACC_LIMIT >> self.shift, (ACC_LIMIT - 1) >> self.shift)

        def finish(tile: PlaneTile) -> None:
            area = tile.rows * width
            blocks = grid((tile.blocks, area, area, 0))
            for down, y, rows in _runs(counts[0][tile.row : tile.row + tile.rows]):
                for across, x, columns in _runs(counts[1]):
                    mean = known[down * across]
                    at = tile.base + y * width + x
                    uops = shifted(blocks, dst=at, src=at)
                    loops = Loop(rows, dst=width, src=width), Loop(columns, dst=1, src=1)
                    if mean.offset:
                        stream.alu(AluOp.ADD, uops, *loops, imm=mean.offset)
                    stream.alu(AluOp.MUL, uops, *loops, imm=mean.multiplier)
            base, everything = Uops.one(tile.base, tile.base), Loop(tile.blocks * area, dst=1)
            if self.shift:
                stream.alu(AluOp.SHR, base, inner=everything, imm=self.shift)
            for op, bound in clip_passes(self.output.lo, self.output.hi, reach):
                stream.alu(op, base, inner=everything, imm=bound)

        lower_window(
            layer,
            self.window,
            inputs[0].extents,
            self.output.extents,
            op=AluOp.ADD,
            start=0,
            finish=finish,
        )


def _counts(
    window: Window,
    output: Sequence[int],
    image: Sequence[int],
    counted: tuple[int, int, int, int],
) -> tuple[list[int], list[int]]:
    """Return, for each output row and column, how many positions of its window count."""
    rows, columns = (
        [
            sum(-counted[n] <= p < image[n] + counted[n + 2] for p in window.positions(n, y))
            for y in range(output[n])
        ]
        for n in (0, 1)
    )
    return rows, columns


def _runs(counts: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return value, begin and length of each run of equal numbers."""
    found, at = [], 0
    for value, group in groupby(counts):
        length = len(list(group))
        found.append((value, at, length))
        at += length
    return found


@dataclass(kw_only=True)
class FloatAveragePool(FloatNode):
    """Average pooling of floats."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    counted: tuple[int, int, int, int]

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer pooling."""
        output = scales.value(self, limit=inputs[0].shift + 8)
        window = Window(kernel=self.kernel, strides=self.strides, padding=self.padding)
        sizes = _counts(window, self.shape[1:], inputs[0].extents[1:], self.counted)
        counts = sorted({a * b for a in sizes[0] for b in sizes[1]})
        found, shift = means(self.name, counts, output.shift - inputs[0].shift)
        return AveragePool(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            kernel=self.kernel,
            strides=self.strides,
            padding=self.padding,
            counted=self.counted,
            means=found,
            shift=shift,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim an average pooling."""
    if call.attr("layout") != "NCHW":
        raise call.refuse(f"its layout is {call.attr('layout')}; export it as NCHW")
    if call.attr("dilation") != (1, 1):
        raise call.refuse(f"its dilation is {call.attr('dilation')}; use (1, 1)")
    source, kernel, padding = call.args[0], call.attr("pool_size"), call.attr("padding")
    if kernel == network.shape(source)[2:] and padding == (0, 0, 0, 0):
        return FloatGlobalAveragePool(
            name=call.name, inputs=[source], output=call.output, shape=call.sample_shape()
        )
    return FloatAveragePool(
        name=call.name,
        inputs=[source],
        output=call.output,
        shape=call.sample_shape(),
        kernel=kernel,
        strides=call.attr("strides"),
        padding=padding[:2],
        counted=padding if call.attr("count_include_pad") else (0, 0, 0, 0),
    )


OPERATOR = Operator("average_pool", ("relax.nn.avg_pool2d",), _recognise)
