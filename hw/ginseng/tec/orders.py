"""What the walker tells those who take the beats that it asks for."""

from typing import Final

from amaranth.lib import data, enum

from ginseng.bus.shapes import READERS
from ginseng.isa.table import GRANULE
from ginseng.tec.shapes import TecShapes

__all__ = [
    "CHUNKS",
    "UNIT",
    "Kind",
    "buffer_depth",
    "most_pieces",
    "order_layout",
    "visit_layout",
]

#: Chunks of all clients that are asked for but not verified.
CHUNKS: Final = 16
#: Bytes of what rows are multiples of: a micro-op.
UNIT: Final = 4


def most_pieces(shapes: TecShapes) -> int:
    """Pieces that a beat may be to its client: rows of a unit, each with a unit between."""
    return shapes.config.bus.beat_bytes // UNIT // 2 + 1


def buffer_depth(shapes: TecShapes) -> int:
    """Pieces of beats that a client's buffer holds, a power of two.

    A block RAM of 72 bits holds 512; a burst must fit, into however many pieces rows cut it.
    """
    return max(512, 1 << (shapes.burst_beats * most_pieces(shapes) - 1).bit_length())


class Kind(enum.Enum, shape=2):
    """Where the beats of a burst go."""

    #: Through the lane to the client's buffer.
    DATA = 0
    #: To the client's buffer as they are.
    RAW = 1
    #: A chunk's tag, from the first block on.
    TAG = 2


def order_layout(shapes: TecShapes) -> data.StructLayout:
    """What to do with the next ``total`` beats that come; a burst is one order or several.

    ``ends``
        The last of them is the last of its burst.
    ``drop``
        So many are for the tag of their chunk only.
    ``first``, ``end``
        Of those after, units ``first`` of the first to before ``end`` of the last are meant, in
        units of 4 bytes.
    ``again``
        The first of them is the last of the order before: rows that are less than a beat apart.
    ``final``
        They end their descriptor.
    ``tagged``, ``tag_at``
        The last of them has the chunk's tag too, behind its data: which block of the beat it is.
    """
    units = shapes.config.bus.beat_bytes // UNIT
    blocks = max(1, shapes.config.bus.beat_bytes // GRANULE)
    return data.StructLayout(
        {
            "kind": Kind,
            "client": range(len(READERS)),
            "ends": 1,
            "drop": range(shapes.burst_beats + 1),
            "total": range(shapes.burst_beats + 1),
            "first": range(units),
            "end": range(units + 1),
            "again": 1,
            "final": 1,
            "tagged": 1,
            "tag_at": range(blocks),
        }
    )


def visit_layout(shapes: TecShapes) -> data.StructLayout:
    """A chunk all of whose bursts are asked for.

    ``final``
        It is the last of its descriptor.
    ``beats``
        Pointer into its client's buffer, after its last beat.
    """
    return data.StructLayout(
        {
            "client": range(len(READERS)),
            "final": 1,
            "beats": range(2 * buffer_depth(shapes)),
        }
    )
