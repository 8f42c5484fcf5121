"""Max pooling, exact on int8."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.backend.lowering import Layer, clip_passes, grid, shifted
from ginseng.compiler.backend.pointwise import PlaneTile, plane_tiles
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.floatgraph import Call, FloatNode, Network, Operator
from ginseng.compiler.graph import INT8, Node, Value
from ginseng.compiler.quantise import Scales
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["OPERATOR", "MaxPool"]


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """``output = clip(max of x over the window)``; input and output have the same shift.

    Output pixel ``(y, x)`` looks at rows ``y * strides[0] - padding[0] + 0 .. kernel[0] - 1``,
    likewise at columns, as far as they lie in the image: padding never wins.

    Attributes
    ----------
    kernel, strides : tuple of int
        Down, across.
    padding : tuple of int
        Top, left. Bottom and right follow from the output's extents.

    """

    kind: ClassVar[str] = "max_pool"

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    def worst_case(self, inputs: Sequence[Value]) -> int:
        """Return 128: nothing grows."""
        return 128

    def output_extents(self, inputs: Sequence[Value]) -> tuple[int, int, int]:
        """Return the output's own extents, once every window is known to meet the image."""
        channels, *image = inputs[0].extents
        for n in (0, 1):
            last = (self.output.extents[n + 1] - 1) * self.strides[n] - self.padding[n]
            if last >= image[n] or self.padding[n] >= self.kernel[n]:
                raise self.refuse(
                    f"a window of {self.kernel} with padding {self.padding} lies wholly outside "
                    f"the {image[0]}x{image[1]} image; use less padding"
                )
        return (channels, *self.output.extents[1:])

    def lower(self, inputs: Sequence[Value], layer: Layer) -> None:
        """Emit the layer: a running maximum over the positions of the window."""
        source = inputs[0]
        channels, out_height, out_width = self.output.extents
        _, height, width = source.extents

        def rows_of(row: int, rows: int) -> tuple[int, int]:
            begin = row * self.strides[0] - self.padding[0]
            end = begin + (rows - 1) * self.strides[0] + self.kernel[0]
            return max(0, begin), min(height, end)

        def elements(rows: int) -> int:
            loaded = min(height, (rows - 1) * self.strides[0] + self.kernel[0])
            return rows * out_width + loaded * width

        tiles = plane_tiles(
            layer,
            blocks=layer.blocks(channels),
            rows=out_height,
            elements=elements,
            what=f"one row of results with the {self.kernel[0]} image rows that it needs",
        )
        for tile in tiles:
            begin, end = rows_of(tile.row, tile.rows)
            area, loaded = tile.rows * out_width, (end - begin) * width
            image = tile.base + tile.blocks * area
            layer.stream.load(
                Memory.ACC_8BIT,
                layer.source(),
                tile.block * height * width + begin * width,
                sram=image,
                rows=tile.blocks,
                cols=loaded,
                stride=height * width,
            )
            self._pool(layer, tile, source, image, begin, loaded)
            layer.store(
                tile.block * out_height * out_width + tile.row * out_width,
                sram=tile.base,
                rows=tile.blocks,
                cols=area,
                stride=out_height * out_width,
            )

    def _pool(
        self, layer: Layer, tile: PlaneTile, source: Value, image: int, begin: int, loaded: int
    ) -> None:
        """Emit the passes of one tile, whose image rows from ``begin`` on stand at ``image``."""
        stream = layer.stream
        _, height, width = source.extents
        out_width = self.output.extents[2]
        area = tile.rows * out_width
        everything = Loop(tile.blocks * area, dst=1)
        base = Uops.one(tile.base, tile.base)
        stream.gemm(base, inner=everything, reset=True)
        if source.lo < 0:
            stream.alu(AluOp.ADD, base, inner=everything, imm=INT8[0])
        # Positions that meet the image for the same outputs share an instruction.
        groups: dict[tuple[int, int, int, int], list[tuple[int, int]]] = {}
        for ky in range(self.kernel[0]):
            down = tile.row * self.strides[0] - self.padding[0] + ky
            ys = _inside(down, self.strides[0], tile.rows, height)
            for kx in range(self.kernel[1]):
                xs = _inside(kx - self.padding[1], self.strides[1], out_width, width)
                if ys and xs:
                    across = xs.start * self.strides[1] + kx - self.padding[1]
                    top = ys.start * self.strides[0] + down - begin
                    place = (ys.start * out_width + xs.start, top * width + across)
                    key = (ys.start, ys.stop, xs.start, xs.stop)
                    groups.setdefault(key, []).append(place)
        for (y0, y1, x0, x1), places in groups.items():
            blocks = grid((tile.blocks, area, loaded, 0))
            parts = [shifted(blocks, dst=tile.base + d, src=image + s) for d, s in places]
            indices = [np.concatenate([getattr(p, f) for p in parts]) for f in _FIELDS]
            depth = layer.config.depth(Memory.UOP)
            for at in range(0, len(indices[0]), depth):
                stream.alu(
                    AluOp.MAX,
                    Uops(*(index[at : at + depth] for index in indices)),
                    Loop(y1 - y0, dst=out_width, src=self.strides[0] * width),
                    Loop(x1 - x0, dst=1, src=self.strides[1]),
                )
        for op, bound in clip_passes(self.output.lo, self.output.hi, (source.lo, source.hi)):
            stream.alu(op, base, inner=everything, imm=bound)


_FIELDS = ("dst", "src", "wgt")


def _inside(first: int, step: int, count: int, extent: int) -> range:
    """Return which ``n < count`` have ``first + n * step`` in ``0 .. extent - 1``."""
    begin = max(0, -(first // step))
    end = min(count, (extent - 1 - first) // step + 1)
    return range(begin, max(begin, end))


@dataclass(kw_only=True)
class FloatMaxPool(FloatNode):
    """Max pooling of floats."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the integer pooling."""
        return MaxPool(
            name=self.name,
            inputs=tuple(self.inputs),
            output=scales.inherit(self, inputs[0]),
            kernel=self.kernel,
            strides=self.strides,
            padding=self.padding,
        )


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Claim a max pooling."""
    if call.attr("layout") != "NCHW":
        raise call.refuse(f"its layout is {call.attr('layout')}; export it as NCHW")
    if call.attr("dilation") != (1, 1):
        raise call.refuse(f"its dilation is {call.attr('dilation')}; use (1, 1)")
    return FloatMaxPool(
        name=call.name,
        inputs=[call.args[0]],
        output=call.output,
        shape=call.sample_shape(),
        kernel=call.attr("pool_size"),
        strides=call.attr("strides"),
        padding=call.attr("padding")[:2],
    )


OPERATOR = Operator("max_pool", ("relax.nn.max_pool2d",), _recognise)
