"""Layers that only the ALU works on: int8 operands go to ACC, are changed there, and are stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ginseng.compiler.backend.chunks import divisors
from ginseng.compiler.backend.lowering import Layer, Slots
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.segment import Role, Segment
from ginseng.isa.config import Memory

__all__ = ["ElementTile", "Operand", "PlaneTile", "lower_elementwise", "plane_tiles"]


@dataclass(frozen=True)
class Operand:
    """An int8 operand of an element-wise layer.

    Attributes
    ----------
    segment : Segment
    spread : bool
        Whether it has one pixel, which counts for the whole image.

    """

    segment: Segment
    spread: bool = False


@dataclass(frozen=True)
class ElementTile:
    """A tile of an element-wise layer: ``blocks`` runs of ``area`` pixels.

    Attributes
    ----------
    blocks, area : int
    places : tuple of int
        Where in ACC each operand stands: run after run, or one element for each block.

    """

    blocks: int
    area: int
    places: tuple[int, ...]


def lower_elementwise(
    layer: Layer,
    extents: tuple[int, int, int],
    operands: Sequence[Operand],
    combine: Callable[[ElementTile], None],
    requantise: Requantise,
) -> None:
    """Emit a layer whose output element depends on the same element of each operand.

    Parameters
    ----------
    layer : Layer
        Where to emit.
    extents : tuple of int
        Channels, height and width of the result and of operands that are not spread.
    operands : sequence of Operand
        The first is not spread.
    combine : callable
        Emits what a tile's sums are, and leaves them in place of the first operand.
    requantise : Requantise
        Makes results of the sums.

    Raises
    ------
    CompilerError
        If not even one pixel fits ACC.

    """
    channels, height, width = extents
    blocks, plane, vectors = layer.blocks(channels), height * width, len(requantise.vectors)
    wide = requantise.copies + sum(not operand.spread for operand in operands)
    narrow = vectors + sum(operand.spread for operand in operands)
    depth = layer.config.depth(Memory.ACC)
    layer.fits(2 * (wide + narrow), Memory.ACC, "one pixel, twice,")
    tall, area = _tile(blocks, height, width, depth // 2, wide, narrow)
    slots = Slots(0, tall * (wide * area + narrow), 2)
    constants = layer.constant(Role.BIASES, requantise.vectors.swapaxes(0, 1)) if vectors else None
    for block in range(0, blocks, tall):
        for pixel in range(0, plane, area):
            at, _ = slots.get((block, pixel))
            places = []
            for operand in operands:
                length = 1 if operand.spread else area
                layer.stream.load(
                    Memory.ACC_8BIT,
                    operand.segment,
                    block if operand.spread else block * plane + pixel,
                    sram=at,
                    cols=tall * length,
                )
                places.append(at)
                at += tall * length
            held = places[0]
            if constants is not None:
                held = at + requantise.copies * tall * area
                for n in range(vectors):
                    layer.stream.load(
                        Memory.ACC,
                        constants,
                        block * vectors + n,
                        sram=held + n * tall,
                        rows=tall,
                        cols=1,
                        stride=vectors,
                    )
            combine(ElementTile(tall, area, tuple(places)))
            requantise.emit(
                layer.stream, sums=places[0], copy=at, constants=held, blocks=tall, area=area
            )
            layer.store(block * plane + pixel, sram=places[0], cols=tall * area)


def _tile(
    blocks: int, height: int, width: int, room: int, wide: int, narrow: int
) -> tuple[int, int]:
    """Return blocks and pixels of the largest tile of whole planes, else whole rows, else a part.

    A tile takes ``blocks * (wide * pixels + narrow)`` elements; all tiles are alike.
    """
    plane = height * width
    tall = [d for d in divisors(blocks) if d * (wide * plane + narrow) <= room]
    if tall:
        return tall[-1], plane
    rows = [d for d in divisors(height) if wide * d * width + narrow <= room]
    if rows:
        return 1, rows[-1] * width
    return 1, max(d for d in divisors(width) if wide * d + narrow <= room)


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
