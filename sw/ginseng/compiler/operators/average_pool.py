"""Average pooling over windows; over whole images it is `global_average_pool`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.instruction import Loop
from ginseng.compiler.backend.lowering import Layer, clip_passes, grid, shifted
from ginseng.compiler.backend.pointwise import PlaneTile
from ginseng.compiler.backend.requantise import immediate_passes
from ginseng.compiler.backend.window import Window, lower_window
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.operators.global_average_pool import FloatGlobalAveragePool, mean_rescale
from ginseng.compiler.quantise import Scales
from ginseng.compiler.rescale import Rescale
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "AveragePool"]


@dataclass(frozen=True, kw_only=True)
class AveragePool(Node):
    """``output = clip(rescales[n](sum of (x - zero) over the window))``.

    The window is that of `MaxPool`; what lies outside of the image adds nothing. ``counts[n]`` is
    how many positions of the window lie in the image enlarged by ``counted``.

    Attributes
    ----------
    kernel, strides : tuple of int
        Down, across.
    padding : tuple of int
        Top, left. Bottom and right follow from the output's extents.
    counted : tuple of int
        Rows and columns around the image that count as zeros: top, left, bottom, right.
    counts : tuple of int
        Every number of positions that there is.
    rescales : tuple of Rescale
        Uniform ones; each stands for one over its count, and the change of scale.
    zero : int
        Zero point of the input.

    """

    kind: ClassVar[str] = "average_pool"

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    counted: tuple[int, int, int, int]
    counts: tuple[int, ...]
    rescales: tuple[Rescale, ...]
    zero: int = 0

    @property
    def window(self) -> Window:
        """What each output looks at."""
        return Window(kernel=self.kernel, strides=self.strides, padding=self.padding)

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return what the sums and their rescaling reach."""
        reach = max(abs(end - self.zero) for end in (inputs[0].lo, inputs[0].hi))
        return max(
            rescale.worst_case(np.array([max(reach, 128) * count]))
            for count, rescale in zip(self.counts, self.rescales, strict=True)
        )

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the output's own extents, once every window has a mean."""
        channels, *image = inputs[0].extents
        sizes = _counts(self.window, self.output.extents[1:], image, self.counted)
        wanted = {a * b for _, a in sizes[0] for _, b in sizes[1]}
        if len(self.counts) != len(self.rescales) or not wanted <= set(self.counts):
            raise self.refuse(f"its windows have {sorted(wanted)} pixels, means {self.counts}")
        if 0 in wanted:
            raise self.refuse("one of its windows counts nothing; use less padding")
        if not all(rescale.fits(1) for rescale in self.rescales):
            raise self.refuse("its rescaling is not uniform; give one number for all channels")
        return (channels, *self.output.extents[1:])

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: sums over the positions of the window, then their means."""
        stream, width = layer.stream, self.output.extents[2]
        image = inputs[0].extents
        down, across = _counts(self.window, self.output.extents[1:], image[1:], self.counted)
        known = dict(zip(self.counts, self.rescales, strict=True))
        reach = (min(inputs[0].lo, 0), max(inputs[0].hi, 0))

        def finish(tile: PlaneTile) -> None:
            blocks = grid((tile.blocks, tile.rows * width, 0, 0))
            for (inside, rows), y, height in _runs(down[tile.row : tile.row + tile.rows]):
                for (met, columns), x, wide in _runs(across):
                    rescale, pixels = known[rows * columns], inside * met
                    sums = tuple(end * pixels - self.zero * pixels for end in reach)
                    passes = immediate_passes(-self.zero * pixels, rescale)
                    passes += clip_passes(
                        self.output.lo, self.output.hi, rescale.reach(min(sums), max(sums))
                    )
                    at = tile.base + y * width + x
                    for op, imm in passes:
                        loops = Loop(height, dst=width), Loop(wide, dst=1)
                        stream.alu(op, shifted(blocks, dst=at, src=at), *loops, imm=imm)

        lower_window(
            layer, self.window, image, self.output.extents, op=AluOp.ADD, start=0, finish=finish
        )


def _counts(
    window: Window,
    output: Sequence[int],
    image: Sequence[int],
    counted: tuple[int, int, int, int],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return, for each output row and column, how many positions lie in the image, and count."""
    rows, columns = (
        [
            (
                sum(0 <= p < image[n] for p in window.positions(n, y)),
                sum(-counted[n] <= p < image[n] + counted[n + 2] for p in window.positions(n, y)),
            )
            for y in range(output[n])
        ]
        for n in (0, 1)
    )
    return rows, columns


def _runs(
    counts: Sequence[tuple[int, int]],
) -> list[tuple[tuple[int, int], int, int]]:
    """Return value, begin and length of each run of equal values."""
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
        (source,) = inputs
        output = scales.value(self, limit=source.shift + 8)
        window = Window(kernel=self.kernel, strides=self.strides, padding=self.padding)
        sizes = _counts(window, self.shape[1:], source.extents[1:], self.counted)
        counts = sorted({a * b for _, a in sizes[0] for _, b in sizes[1]} - {0})
        return AveragePool(
            name=self.name,
            inputs=tuple(self.inputs),
            output=output,
            kernel=self.kernel,
            strides=self.strides,
            padding=self.padding,
            counted=self.counted,
            counts=tuple(counts),
            rescales=tuple(mean_rescale(self.name, n, source, output) for n in counts),
            zero=source.zero,
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
