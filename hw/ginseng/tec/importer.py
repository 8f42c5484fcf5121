"""Imports: an owner's tensor, read once, measured, and sealed in place (TEC specification §3)."""

from typing import Any

from amaranth import Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.table import KEY_SLOTS
from ginseng.tec.shapes import NONCE_PREFIX_BITS, MeasuredItem, TecShapes
from ginseng.tec.write import ImportPort

__all__ = ["Importer", "import_layout"]


def import_layout(shapes: TecShapes) -> data.StructLayout:
    """Where an import's source is, from the start of the window, and what opens it."""
    return data.StructLayout(
        {
            "sealed": 1,
            "source": shapes.position_bits,
            "tags": shapes.position_bits,
            "slot": range(KEY_SLOTS),
            "prefix": NONCE_PREFIX_BITS,
        }
    )


class Importer(wiring.Component):
    """Reads the source of an import once, chunk by chunk, measures it and has it sealed in place.

    Every read is of plain bytes: a sealed source is opened by the write path's lane, its tag is
    compared here. The plan of the tensor in place goes to the write path's ``plan``.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: an import; held until ``done``.
    i: stream.Interface
    #: Out: the tensor is in place, for one cycle; ``i`` is taken.
    done: Signal
    #: Out: raw plans for the reading side, in, its dense beats.
    plan: stream.Interface
    beat: stream.Interface
    #: Out: to the write path.
    write: Any
    #: Out: the measured bytes.
    measure: stream.Interface
    #: In: the sticky fault.
    stop: Signal
    #: Out: a tag differs.
    fault: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "i": In(stream.Signature(import_layout(shapes))),
                "done": Out(1),
                "plan": Out(stream.Signature(shapes.plan)),
                "beat": In(stream.Signature(unsigned(shapes.config.bus.data_bits))),
                "write": Out(ImportPort(shapes)),
                "measure": Out(stream.Signature(MeasuredItem)),
                "stop": In(1),
                "fault": Out(1),
            }
        )
