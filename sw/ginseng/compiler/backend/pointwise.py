"""Layers that only the ALU works on: int8 operands go to ACC, are changed there, and are stored."""

from collections.abc import Callable
from dataclasses import dataclass

from ginseng.compiler.backend.chunks import divisors
from ginseng.compiler.backend.lowering import Layer, Slots
from ginseng.compiler.backend.stream import Loop
from ginseng.isa.config import Memory

__all__ = ["PlaneTile", "lower_elementwise", "plane_tiles"]

_ITERATIONS = (1 << 14) - 1


def lower_elementwise(
    layer: Layer,
    extents: tuple[int, int, int],
    operands: int,
    compute: Callable[[list[int], Loop], None],
) -> None:
    """Emit a layer whose output element depends on the same element of each operand.

    Parameters
    ----------
    layer : Layer
        Where to emit.
    extents : tuple of int
        Channels, height and width of operands and output alike.
    operands : int
        How many inputs of the node to load.
    compute : callable
        Given where each operand's tile starts in ACC and the loop over it; leaves the result in
        place of the first operand.

    """
    channels, height, width = extents
    blocks = layer.blocks(channels)
    total = blocks * height * width
    room = min(layer.config.depth(Memory.ACC) // 2 // operands, _ITERATIONS)
    tile = _aligned(blocks, height, width, room)
    slots = Slots(0, operands * tile, 2)
    for begin in range(0, total, tile):
        size = min(tile, total - begin)
        base, _ = slots.get(begin)
        places = [base + n * tile for n in range(operands)]
        for n, place in enumerate(places):
            layer.stream.load(Memory.ACC_8BIT, layer.source(n), begin, sram=place, cols=size)
        compute(places, Loop(size, dst=1, src=1))
        layer.store(begin, sram=base, cols=size)


def _aligned(blocks: int, height: int, width: int, room: int) -> int:
    """Return the longest run of whole planes, else whole rows, that divides the tensor evenly."""
    plane = height * width
    if plane <= room:
        return plane * max(d for d in divisors(blocks) if d * plane <= room)
    if width <= room:
        return width * max(d for d in divisors(height) if d * width <= room)
    return max(d for d in divisors(width) if d <= room)


@dataclass(frozen=True)
class PlaneTile:
    """Some rows of some channel blocks of an output, and a place for it in ACC."""

    block: int
    blocks: int
    row: int
    rows: int
    base: int


def plane_tiles(
    layer: Layer,
    *,
    blocks: int,
    rows: int,
    elements: Callable[[int], int],
    what: str,
) -> list[PlaneTile]:
    """Cut an output of ``blocks`` times ``rows`` rows into tiles that fit ACC twice, else once.

    Parameters
    ----------
    layer : Layer
        Whose buffers count.
    blocks, rows : int
        Of the output.
    elements : callable
        Elements of ACC that one block takes, given output rows.
    what : str
        For the error: what does not fit.

    Raises
    ------
    CompilerError
        If not even one row of one block fits.

    """
    depth = layer.config.depth(Memory.ACC)
    layer.fits(elements(1), Memory.ACC, what)
    for slots in (2, 1):
        room = depth // slots
        if elements(1) > room:
            continue
        if elements(rows) <= room:
            tall, wide = rows, max(d for d in divisors(blocks) if d * elements(rows) <= room)
        else:
            tall, wide = max(d for d in range(1, rows + 1) if elements(d) <= room), 1
            even = [d for d in divisors(rows) if elements(d) <= room]
            # Equal tiles, unless that means far smaller ones.
            tall = max(even) if 2 * max(even) >= tall else tall
        places = Slots(0, wide * elements(tall), slots)
        return [
            PlaneTile(b, min(wide, blocks - b), r, min(tall, rows - r), places.get((b, r))[0])
            for b in range(0, blocks, wide)
            for r in range(0, rows, tall)
        ]
    raise AssertionError("unreachable: a row that fits the whole buffer fits one slot")
