"""Imports: an owner's tensor, read once, measured, and sealed in place (TEC specification §3)."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.table import KEY_SLOTS
from ginseng.tec.segment import chunk_layout
from ginseng.tec.shapes import VERSION_BITS, TecShapes

__all__ = ["ImportPort", "Importer", "import_layout"]


class ImportPort(wiring.Signature):
    """An import's source on its way in place; members as the importer sees them.

    ``active``
        The next plan is of an import: it waits for no load, its beats come from here.
    ``sealed``, ``slot``, ``version``
        Whether the source is opened first, the key for that, and what the nonce has then.
    ``chunk``
        The chunk of the tensor that comes next.
    ``beat``
        Its bytes, dense from bit 0 on; of a sealed source its tag after them, from bit 0 on.
    ``done``
        High for one cycle: the tensor is in place.
    """

    def __init__(self, shapes: TecShapes) -> None:
        super().__init__(
            {
                "active": Out(1),
                "sealed": Out(1),
                "slot": Out(range(KEY_SLOTS)),
                "version": Out(VERSION_BITS),
                "chunk": In(stream.Signature(chunk_layout(shapes))),
                "beat": Out(stream.Signature(unsigned(shapes.config.bus.data_bits))),
                "done": In(1),
            }
        )


def import_layout(shapes: TecShapes) -> data.StructLayout:
    """Where an import's source is, from the start of the window, and what opens it."""
    return data.StructLayout(
        {
            "sealed": 1,
            "source": shapes.position_bits,
            "slot": range(KEY_SLOTS),
            "version": VERSION_BITS,
        }
    )


class Importer(wiring.Component):
    """Reads the source of an import once, chunk by chunk, and has it sealed in place.

    Every read is of plain bytes, of a sealed source a chunk and its tag in turn: the write path
    measures all of them as they come, opens them, and compares the tag. It gets the plan of the
    tensor in place from who has the table, while ``i`` is valid.

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
    #: In: the sticky fault.
    stop: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "i": In(stream.Signature(import_layout(shapes))),
                "done": Out(1),
                "plan": Out(stream.Signature(shapes.plan)),
                "beat": In(stream.Signature(unsigned(shapes.config.bus.data_bits))),
                "write": Out(ImportPort(shapes)),
                "stop": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        source = self.i.p
        plan = self.plan.p
        chunk = self.write.chunk
        wiring.connect(m, wiring.flipped(self.beat), wiring.flipped(self.write.beat))
        m.d.comb += [
            self.write.active.eq(self.i.valid),
            self.write.sealed.eq(source.sealed),
            self.write.slot.eq(source.slot),
            self.write.version.eq(source.version),
            self.i.ready.eq(self.write.done),
            self.done.eq(self.write.done),
        ]

        # Rows of one chunk, or of one tag; a tag is asked for once its chunk was.
        tag = Signal()
        position = Signal(self.shapes.position_bits)
        m.d.comb += [
            plan.raw.eq(1),
            # Each a tensor of its own, of one chunk.
            plan.base.eq(source.source + position),
            plan.chunk.eq(Mux(tag, TAG_BYTES, chunk.p.nbytes)),
            plan.extent.eq(plan.chunk),
            plan.row_bytes.eq(plan.chunk),
            plan.rows.eq(1),
            self.plan.valid.eq((tag | chunk.valid) & ~self.stop),
            chunk.ready.eq(self.plan.ready & ~tag & ~self.stop),
        ]
        with m.If(self.plan.valid & self.plan.ready):
            m.d.sync += [tag.eq(source.sealed & ~tag), position.eq(position + plan.chunk)]
        with m.If(~self.i.valid):
            m.d.sync += position.eq(0)

        return m
