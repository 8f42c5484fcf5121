"""The written bitmap: each chunk of a W row is written once in a run, and read after it (§3)."""

from typing import Any, Final

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["OPEN_CHUNKS", "Bitmap"]

#: Chunks that are begun and whose responses have not all come, at most.
OPEN_CHUNKS: Final = 8
#: Bits of a word; a word is cleared in a cycle.
_WORD: Final = 16


class Bitmap(wiring.Component):
    """A bit per chunk, and the list of those that are begun but not yet in DRAM.

    A chunk can be tested in every cycle, and begun in every second one while the list has room and
    nothing is being cleared. After a reset, and at ``clear``, every bit from ``lowest`` on is
    cleared, `_WORD` bits in a cycle.

    Parameters
    ----------
    bits : int
        Chunks.

    Notes
    -----
    *Guarantees.* A chunk that was begun once is not fresh again before a clearing. A chunk is
    readable only if it was begun and finished since the last clearing, and not during one.

    """

    #: In: ``{bit}``.
    test: stream.Interface
    #: Out: in the second cycle after: it is written completely.
    test_valid: Signal
    test_readable: Signal
    #: In: ``{bit, export}``; the chunk is begun.
    begin: stream.Interface
    #: Out: in the second cycle after: it was not begun before.
    begin_valid: Signal
    begin_fresh: Signal
    #: Out: with ``begin_valid``: it belongs to an export.
    begin_export: Signal
    #: In: the oldest chunk of the list is written completely.
    finish: Signal
    #: Out: the list is not empty.
    waits: Signal
    #: In: for one cycle: clear; no chunk is begun until it ends.
    clear: Signal
    #: In: the lowest bit that is used.
    lowest: Signal
    #: Out: no chunk is begun since all bits in use were cleared.
    clean: Signal

    def __init__(self, bits: int) -> None:
        self.bits: Final = bits
        super().__init__(
            {
                **self.transfer_ports(bits),
                "begin_export": Out(1),
                "waits": Out(1),
                "clear": In(1),
                "lowest": In(range(bits + 1)),
                "clean": Out(1),
            }
        )

        self.words: Final[Any] = memory.MemoryData(shape=_WORD, depth=-(-bits // _WORD), init=[])

    @staticmethod
    def transfer_ports(bits: int) -> dict[str, Any]:
        """Return the ports that serve transfers."""
        bit = range(bits)
        return {
            "test": In(stream.Signature(data.StructLayout({"bit": bit}))),
            "test_valid": Out(1),
            "test_readable": Out(1),
            "begin": In(stream.Signature(data.StructLayout({"bit": bit, "export": 1}))),
            "begin_valid": Out(1),
            "begin_fresh": Out(1),
            "finish": In(1),
        }

    def elaborate(self, platform):
        m = Module()

        depth = self.words.depth
        select = _WORD.bit_length() - 1
        m.submodules.words = words = memory.Memory(self.words)
        tests, begins = words.read_port(), words.read_port()
        # Reading for a begin and writing take turns at one address: one port of a block RAM.
        write = words.write_port()

        # Chunks that are begun and not finished, the newest first.
        listed = [Signal(range(self.bits), name=f"listed_{n}") for n in range(OPEN_CHUNKS)]
        waiting = Signal(OPEN_CHUNKS)
        begun = self.begin.valid & self.begin.ready
        with m.If(begun):
            m.d.sync += Cat(*listed).eq(Cat(self.begin.p.bit, *listed))
        with m.If(begun & ~self.finish):
            m.d.sync += waiting.eq(Cat(1, waiting))
        with m.Elif(self.finish & ~begun):
            m.d.sync += waiting.eq(waiting[1:])

        # The newest was begun a cycle ago, and its word is there.
        modifies, export = Signal(), Signal()
        newest = listed[0]
        sweeps, sweep = Signal(init=1), Signal(range(depth))
        # SEC: TEC.WRITTEN_BITMAP -- tested and set before the first pad: one write per version.
        with m.If(sweeps):
            m.d.comb += [write.addr.eq(sweep), write.en.eq(1)]
        with m.Elif(modifies):
            m.d.comb += [
                write.addr.eq(newest[select:]),
                write.data.eq(begins.data | (Const(1, _WORD) << newest[:select])[:_WORD]),
                write.en.eq(1),
            ]
        with m.Else():
            m.d.comb += write.addr.eq(self.begin.p.bit[select:])
        fresh = ~begins.data.bit_select(newest[:select], 1)
        m.d.comb += [
            begins.addr.eq(write.addr),
            self.begin.ready.eq(~(sweeps | self.clear) & ~modifies & ~waiting[-1]),
            self.waits.eq(waiting[0]),
        ]
        m.d.sync += [
            modifies.eq(begun),
            export.eq(self.begin.p.export),
            self.begin_valid.eq(modifies),
            self.begin_fresh.eq(fresh),
            self.begin_export.eq(export),
        ]

        tested, tests_now, usable = Signal(range(self.bits)), Signal(), Signal()
        open_ = Cat(w & (bit == tested) for w, bit in zip(waiting, listed, strict=True)).any()
        written = tests.data.bit_select(tested[:select], 1)
        m.d.comb += [tests.addr.eq(self.test.p.bit[select:]), self.test.ready.eq(1)]
        m.d.sync += [
            tested.eq(self.test.p.bit),
            tests_now.eq(self.test.valid),
            usable.eq(~sweeps),
            self.test_valid.eq(tests_now),
            self.test_readable.eq(written & ~open_ & usable),
        ]

        dirty = Signal()
        m.d.comb += self.clean.eq(~(sweeps | dirty))
        with m.If(sweeps):
            m.d.sync += [sweep.eq(sweep + 1), dirty.eq(0)]
            with m.If(sweep == depth - 1):
                m.d.sync += sweeps.eq(0)
        with m.Elif(self.clear):
            m.d.sync += [sweeps.eq(1), sweep.eq(self.lowest[select:])]
        with m.Elif(begun):
            m.d.sync += dirty.eq(1)

        return m
