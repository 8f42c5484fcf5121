"""Where a tensor row may stand: inside the window, apart from all others (TEC specification §3)."""

from typing import Any, Final

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ginseng.isa.table import BASE_ALIGNMENT, GRANULE
from ginseng.tec.shapes import TecShapes

__all__ = ["Placement"]


class _Choice(enum.Enum, shape=2):
    """What is added next."""

    BASE = 0
    EXTENT = 1
    LENGTH = 2
    CHUNKS = 3


class Placement(wiring.Component):
    """Counts the chunks of a row, and compares its place with the window and the table.

    Lengths and positions are in units of `GRANULE` bytes, positions from the start of the window.
    Inputs stay as they are from ``start`` to ``done``. The division takes a cycle for each bit of a
    length; the comparison one for each place of the table, and 4 to 8 for each row in it.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: for one cycle.
    start: Signal
    #: In: not a row, but the source of an import: as long as the row of the table whose turn it is
    #: while ``by_index`` is low, with its tags if it is ``tagged``.
    imports: Signal
    tagged: Signal
    base: Signal
    #: In: of a row.
    length: Signal
    chunk: Signal
    #: In: the row of the table whose turn it is; bases in units of `BASE_ALIGNMENT` bytes.
    other: Any
    #: Out: the turn is that of ``index``.
    by_index: Signal
    index: Signal
    #: In: bits left in the written bitmap.
    free: Signal
    #: Out: for one cycle.
    done: Signal
    #: Out: what is wrong, from ``done`` on.
    outside: Signal
    overlaps: Signal
    #: Out: of a row: its chunks, and what it takes with their tags.
    chunks: Signal
    extent: Signal
    #: Out: bits left behind it, where nothing else is wrong; negative if there are too few.
    left: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes: Final = shapes
        granules = shapes.index_bits
        bits = (shapes.tec.bitmap_bits).bit_length()
        place = shapes.position_bits - exact_log2(BASE_ALIGNMENT)
        other = data.StructLayout(
            {
                "valid": 1,
                "base": place,
                "length": granules,
                "extent": granules,
            }
        )
        #: Sums of two numbers of either kind, with their sign.
        self.width: Final = max(granules, bits) + 3
        super().__init__(
            {
                "start": In(1),
                "imports": In(1),
                "tagged": In(1),
                "base": In(granules),
                "length": In(granules),
                "chunk": In(shapes.chunk_bits - exact_log2(GRANULE)),
                "other": In(other),
                "by_index": Out(1),
                "index": Out(shapes.tec.handle_bits),
                "free": In(bits),
                "done": Out(1),
                "outside": Out(1),
                "overlaps": Out(1),
                "chunks": Out(granules),
                "extent": Out(granules + 1),
                "left": Out(signed(self.width)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        end = self.shapes.config.bus.window_bytes // GRANULE
        unit = exact_log2(BASE_ALIGNMENT) - exact_log2(GRANULE)

        # One adder does it all. A span A meets a span B unless one of them starts behind the other:
        # A.base - B.base < B.extent and B.base - A.base < A.extent. It is inside the window if not
        # end - A.base < A.extent. An operand is of A or B, and is added or subtracted in the cycle
        # after it was chosen.
        acc, total = Signal(signed(self.width)), Signal(signed(self.width))
        own = Signal(self.width)
        others = Signal(self.width)
        of_row = Signal()
        of_other = Signal()
        choice = Signal(_Choice)
        subtract, carry = Signal(), Signal()
        below = total[-1]
        m.d.sync += [
            own.eq(
                Array([self.base, self.extent, self.length, self.chunks])[choice.as_value()],
            ),
            others.eq(
                Array([self.other.base << unit, self.other.extent, self.other.length])[
                    choice.as_value()
                ]
            ),
            of_row.eq(of_other),
        ]
        operand = Mux(of_row, others, own)
        m.d.comb += [
            # With a bit below, whose carry is the adder's.
            total.eq(
                (Cat(1, acc) + Cat(subtract | carry, operand ^ subtract.replicate(self.width)))[1:]
            ),
            self.left.eq(acc),
        ]

        # Restoring division; the quotient is shifted in behind the dividend.
        remainder = Signal(len(self.chunk))
        step = Signal(range(len(self.chunks)))
        shifted = Signal(len(remainder) + 1)
        difference = Signal(signed(len(shifted) + 1))
        m.d.comb += [
            shifted.eq(Cat(self.chunks[-1], remainder)),
            difference.eq(shifted - self.chunk),
        ]

        # What is compared: with the window, or else with another row; the second half of that.
        window = Signal()
        back = Signal()
        last = self.index == self.shapes.tec.table_entries - 1

        def choose(*, extent: bool = False, first: bool = False) -> None:
            """Choose the base of the first span of a comparison, or base or extent of the second.

            Which of the two is the row's turns in the second half.
            """
            theirs = ~window & (back if first else ~back)
            m.d.comb += [
                # The source of an import is as long as its row.
                of_other.eq(theirs | (self.imports & extent)),
                self.by_index.eq(theirs),
            ]
            if extent:
                dense = self.imports & ~self.tagged & ~theirs
                m.d.comb += choice.eq(Mux(dense, _Choice.LENGTH, _Choice.EXTENT))

        with m.FSM():
            with m.State("Idle"):
                m.d.sync += [
                    acc.eq(end),
                    window.eq(1),
                    back.eq(0),
                    self.index.eq(0),
                    self.chunks.eq(self.length),
                    remainder.eq(0),
                    step.eq(0),
                ]
                with m.If(self.start):
                    m.d.sync += [self.outside.eq(0), self.overlaps.eq(0)]
                    m.next = "Divide"
                    with m.If(self.imports):
                        m.next = "Compare-Window"

            with m.State("Divide"):
                m.d.sync += [
                    self.chunks.eq(Cat(~difference[-1], self.chunks)),
                    remainder.eq(Mux(difference[-1], shifted, difference)),
                    step.eq(step + 1),
                    acc.eq(0),
                ]
                with m.If(step == len(self.chunks) - 1):
                    m.next = "Choose-Quotient"

            with m.State("Choose-Quotient"):
                m.d.comb += choice.eq(_Choice.CHUNKS)
                m.next = "Round-Up"

            with m.State("Round-Up"):
                m.d.comb += [carry.eq(remainder.any()), choice.eq(_Choice.LENGTH)]
                m.d.sync += acc.eq(total)
                m.next = "Add-Length"

            with m.State("Add-Length"):
                m.d.sync += [self.chunks.eq(acc), acc.eq(total)]
                m.next = "Take-Extent"

            with m.State("Take-Extent"):
                m.d.sync += [self.extent.eq(acc), acc.eq(end)]
                m.next = "Compare-Window"

            with m.State("Compare-Window"):
                choose()
                m.next = "Subtract-Base"

            with m.State("Compare-Span"):
                choose(first=True)
                m.next = "Add-Base"

            with m.State("Add-Base"):
                choose()
                m.d.sync += acc.eq(total)
                m.next = "Subtract-Base"

            with m.State("Subtract-Base"):
                choose(extent=True)
                m.d.comb += subtract.eq(1)
                m.d.sync += acc.eq(total)
                m.next = "Subtract-Extent"

            with m.State("Subtract-Extent"):
                m.d.comb += subtract.eq(1)
                m.d.sync += [acc.eq(0), window.eq(0), back.eq(0)]
                with m.If(window):
                    m.next = "Seek-Row"
                    with m.If(below):
                        m.d.sync += self.outside.eq(1)
                        m.next = "Finish"
                with m.Elif(~below):
                    m.d.sync += self.index.eq(self.index + 1)
                    m.next = "Seek-Row"
                    with m.If(last):
                        m.next = "Take-Free"
                with m.Elif(back):
                    m.d.sync += self.overlaps.eq(1)
                    m.next = "Finish"
                with m.Else():
                    m.d.sync += back.eq(1)
                    m.next = "Compare-Span"

            with m.State("Seek-Row"):
                m.d.comb += self.by_index.eq(1)
                with m.If(self.other.valid):
                    m.next = "Compare-Span"
                with m.Else():
                    m.d.sync += self.index.eq(self.index + 1)
                    with m.If(last):
                        m.next = "Take-Free"

            with m.State("Take-Free"):
                m.d.comb += choice.eq(_Choice.CHUNKS)
                m.d.sync += acc.eq(self.free)
                m.next = "Subtract-Chunks"

            with m.State("Subtract-Chunks"):
                m.d.comb += subtract.eq(1)
                m.d.sync += acc.eq(total)
                m.next = "Finish"

            with m.State("Finish"):
                m.d.comb += self.done.eq(1)
                m.next = "Idle"

        return m
