"""Makes what the monitor hashes of the beats that pass (monitor specification §2)."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.table import GRANULE
from ginseng.tec.shapes import MeasuredItem, TecShapes

__all__ = ["HEADER_BYTES", "Measurer", "piece_layout"]

#: Handle and chunk index, before the ciphertext of an export's chunk.
HEADER_BYTES = 6


def piece_layout(shapes: TecShapes) -> data.StructLayout:
    """A beat, of which granules ``first`` to before ``end`` are meant."""
    return data.StructLayout(
        {
            "data": shapes.config.bus.data_bits,
            "first": range(shapes.granules),
            "end": range(shapes.granules + 1),
        }
    )


class Measurer(wiring.Component):
    """Joins or splits beats into cipher blocks; headers of six bytes come between.

    A beat per cycle where a beat is a block or less, else a block per cycle. Beats are of whole
    blocks.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: beats.
    i: stream.Interface
    #: In: headers, in the low bits byte 0.
    header: stream.Interface
    #: Out: what is hashed.
    o: stream.Interface

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        super().__init__(
            {
                "i": In(stream.Signature(piece_layout(shapes))),
                "header": In(stream.Signature(8 * HEADER_BYTES)),
                "o": Out(stream.Signature(MeasuredItem)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        bits = self.shapes.config.bus.data_bits
        piece = self.i.p
        free = Signal()
        ends = Signal()
        block = Signal(max(bits, 8 * GRANULE))
        short = Signal()
        m.d.comb += [
            free.eq(~self.o.valid | (self.o.ready & ends)),
            self.o.p.nbytes.eq(Mux(short, HEADER_BYTES, GRANULE)),
        ]
        with m.If(self.o.ready & ends):
            m.d.sync += self.o.valid.eq(0)

        if bits < 8 * GRANULE:
            half = Signal()
            m.d.comb += [ends.eq(1), self.o.p.block.eq(block)]
            m.d.comb += [
                self.i.ready.eq(free),
                self.header.ready.eq(free & ~half),
            ]
            with m.If(self.i.valid & free):
                m.d.sync += [half.eq(~half), self.o.valid.eq(half), short.eq(0)]
            with m.If(free & ~half):
                m.d.sync += block[:bits].eq(piece.data)
                with m.If(self.header.valid):
                    m.d.sync += block[: len(self.header.p)].eq(self.header.p)
            with m.If(free):
                m.d.sync += block[bits:].eq(piece.data)
        else:
            at = Signal(range(self.shapes.granules))
            end = Signal(range(self.shapes.granules + 1))
            m.d.comb += [
                self.o.p.block.eq(block.word_select(at, 8 * GRANULE)),
                ends.eq(short | (at + 1 == end)),
                self.i.ready.eq(free),
                self.header.ready.eq(free),
            ]
            with m.If(self.i.valid & free):
                m.d.sync += [
                    self.o.valid.eq(1),
                    short.eq(0),
                    at.eq(piece.first),
                    end.eq(piece.end),
                ]
            with m.Elif(self.o.ready & ~ends):
                m.d.sync += at.eq(at + 1)
            with m.If(free):
                m.d.sync += block.eq(piece.data)
                with m.If(self.header.valid):
                    m.d.sync += [block.eq(self.header.p), at.eq(0)]
        with m.If(self.header.valid & self.header.ready):
            m.d.sync += [self.o.valid.eq(1), short.eq(1)]

        return m
