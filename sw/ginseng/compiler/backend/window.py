"""Layers that reduce a window of each channel's plane on the ALU: pooling."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, grid, shifted
from ginseng.compiler.backend.pointwise import PlaneTile, plane_tiles
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["Window", "lower_window"]

_FIELDS = ("dst", "src", "wgt")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which pixels an output pixel looks at, each number down and across.

    Output ``y`` looks at rows ``y * strides[0] - padding[0] + n * dilation[0]``, ``n`` below
    ``kernel[0]``, likewise at columns.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def positions(self, axis: int, output: int) -> range:
        """Return the rows or columns of an output, outside of the image too."""
        begin = output * self.strides[axis] - self.padding[axis]
        step = self.dilation[axis]
        return range(begin, begin + self.kernel[axis] * step, step)

    def rows(self, first: int, count: int, height: int) -> range:
        """Return the image rows that some outputs look at."""
        begin = self.positions(0, first)[0]
        end = self.positions(0, first + count - 1)[-1] + 1
        return range(max(0, begin), max(min(height, end), 0))


def lower_window(
    layer: Layer,
    window: Window,
    image: tuple[int, int, int],
    output: tuple[int, int, int],
    *,
    op: AluOp,
    start: int,
    finish: Callable[[PlaneTile], None],
) -> None:
    """Emit a layer whose results reduce windows by ``op``.

    Parameters
    ----------
    layer : Layer
        Where to emit.
    window : Window
        What each output looks at; what lies outside of the image does not count.
    image, output : tuple of int
        Channels, height and width.
    op : AluOp
        Takes each pixel into its outputs.
    start : int
        What outputs are before.
    finish : callable
        Given a tile of reduced outputs, ``blocks`` runs of its rows, makes results of them.

    Raises
    ------
    CompilerError
        If one row of outputs and the image rows that it needs do not fit ACC.

    """
    channels, out_height, out_width = output
    _, height, width = image

    def elements(rows: int) -> int:
        reach = (rows - 1) * window.strides[0] + (window.kernel[0] - 1) * window.dilation[0] + 1
        return rows * out_width + min(height, reach) * width

    tiles = plane_tiles(
        layer,
        blocks=layer.blocks(channels),
        rows=out_height,
        elements=elements,
        what=f"one row of results with the {window.kernel[0]} image rows that it needs",
    )
    for tile in tiles:
        rows, area = window.rows(tile.row, tile.rows, height), tile.rows * out_width
        everything, base = Loop(tile.blocks * area, dst=1), Uops.one(tile.base, tile.base)
        if rows:
            layer.stream.load(
                Memory.ACC_8BIT,
                layer.source(),
                tile.block * height * width + rows.start * width,
                sram=tile.base + tile.blocks * area,
                rows=tile.blocks,
                cols=len(rows) * width,
                stride=height * width,
            )
        layer.stream.gemm(base, inner=everything, reset=True)
        if start:
            layer.stream.alu(AluOp.ADD, base, inner=everything, imm=start)
        if rows:
            _reduce(layer, window, tile, rows, (width, out_width), op)
        finish(tile)
        layer.store(
            tile.block * out_height * out_width + tile.row * out_width,
            sram=tile.base,
            rows=tile.blocks,
            cols=area,
            stride=out_height * out_width,
        )


def _reduce(
    layer: Layer,
    window: Window,
    tile: PlaneTile,
    rows: range,
    widths: tuple[int, int],
    op: AluOp,
) -> None:
    """Emit the passes of one tile, whose image rows stand after its outputs."""
    width, out_width = widths
    area, image = tile.rows * out_width, tile.base + tile.blocks * tile.rows * out_width
    # Positions that meet the image for the same outputs share an instruction.
    groups: dict[tuple[int, int, int, int], list[tuple[int, int]]] = {}
    for down in window.positions(0, tile.row):
        ys = _inside(down - rows.start, window.strides[0], tile.rows, len(rows))
        for across in window.positions(1, 0):
            xs = _inside(across, window.strides[1], out_width, width)
            if ys and xs:
                top = ys.start * window.strides[0] + down - rows.start
                left = xs.start * window.strides[1] + across
                place = (ys.start * out_width + xs.start, top * width + left)
                groups.setdefault((ys.start, ys.stop, xs.start, xs.stop), []).append(place)
    blocks = grid((tile.blocks, area, len(rows) * width, 0))
    depth = layer.config.depth(Memory.UOP)
    for (y0, y1, x0, x1), places in groups.items():
        parts = [shifted(blocks, dst=tile.base + d, src=image + s) for d, s in places]
        indices = [np.concatenate([getattr(p, f) for p in parts]) for f in _FIELDS]
        for at in range(0, len(indices[0]), depth):
            layer.stream.alu(
                op,
                Uops(*(index[at : at + depth] for index in indices)),
                Loop(y1 - y0, dst=out_width, src=window.strides[0] * width),
                Loop(x1 - x0, dst=1, src=window.strides[1]),
            )


def _inside(first: int, step: int, count: int, extent: int) -> range:
    """Return which ``n < count`` have ``first + n * step`` in ``0 .. extent - 1``."""
    begin = max(0, -(first // step))
    end = min(count, (extent - 1 - first) // step + 1)
    return range(begin, max(begin, end))
