"""Layers that only move pixels: each goes to one or more places of a larger image."""

from dataclasses import dataclass

from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, clip_passes, grid, shifted
from ginseng.compiler.backend.pointwise import plane_tiles
from ginseng.compiler.graph import Value
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["Spread", "lower_spread"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Pixel ``(y, x)`` goes to rows ``origin[0] + y * factors[0] + 0 .. factors[0] - 1``.

    Likewise to columns; everything else is ``fill``.
    """

    factors: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)
    fill: int = 0


def lower_spread(layer: Layer, spread: Spread, source: Value, output: Value) -> None:
    """Emit a layer that spreads ``source``; results are clipped to the range of ``output``.

    Raises
    ------
    CompilerError
        If one row of results and what it comes from do not fit ACC.

    """
    stream = layer.stream
    channels, height, width = source.extents
    _, out_height, out_width = output.extents
    down, across = spread.factors
    top, left = spread.origin
    reach = (min(source.lo, spread.fill), max(source.hi, spread.fill))
    tiles = plane_tiles(
        layer,
        blocks=layer.blocks(channels),
        rows=out_height,
        elements=lambda rows: rows * out_width + min(height, rows // down + 2) * width,
        what="one row of results with the image rows that it comes from",
    )
    for tile in tiles:
        area, end = tile.rows * out_width, tile.row + tile.rows
        first = max(0, (tile.row - top) // down)
        last = min(height, -(-(end - top) // down))
        rows = range(first, max(first, last))
        image, base = tile.base + tile.blocks * area, Uops.one(tile.base, tile.base)
        everything = Loop(tile.blocks * area, dst=1)
        stream.gemm(base, inner=everything, reset=True)
        if rows:
            stream.load(
                Memory.ACC_8BIT,
                layer.source(),
                tile.block * height * width + rows.start * width,
                sram=image,
                rows=tile.blocks,
                cols=len(rows) * width,
                stride=height * width,
            )
        if spread.fill:
            stream.alu(AluOp.ADD, base, inner=everything, imm=spread.fill)
            if rows:
                loaded = Loop(tile.blocks * len(rows) * width, dst=1)
                stream.alu(AluOp.ADD, Uops.one(image, image), inner=loaded, imm=-spread.fill)
        for n in range(down):
            # Image rows whose n-th copy lies in the tile.
            begin = max(rows.start, -(-(tile.row - top - n) // down))
            count = min(rows.stop, -(-(end - top - n) // down)) - begin
            if count > 0:
                at = (top + begin * down + n - tile.row) * out_width + left
                copies = grid(
                    (tile.blocks, area, len(rows) * width, 0),
                    (across, 1, 0, 0),
                )
                stream.alu(
                    AluOp.ADD,
                    shifted(copies, dst=tile.base + at, src=image + (begin - rows.start) * width),
                    Loop(count, dst=down * out_width, src=width),
                    Loop(width, dst=across, src=1),
                )
        for op, bound in clip_passes(output.lo, output.hi, reach):
            stream.alu(op, base, inner=everything, imm=bound)
        layer.store(
            tile.block * out_height * out_width + tile.row * out_width,
            sram=tile.base,
            rows=tile.blocks,
            cols=area,
            stride=out_height * out_width,
        )
