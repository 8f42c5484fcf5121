"""Zeroes the scratchpads: a program of padding, which needs no memory (TEC specification §7)."""

from typing import Any, Final

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, Opcode, instruction_set

__all__ = ["Wipe", "wipe_words"]

#: Rows of padding of one LOAD: four bits above, four below.
_PAD_ROWS: Final = 30


def wipe_words(config: CoreConfig, memories: tuple[Memory, ...]) -> tuple[int, ...]:
    """Return the instructions that fill scratchpads with padding, as words."""
    isa = instruction_set(config)
    words = []
    for kind in memories:
        rows = min(_PAD_ROWS, config.depth(kind))
        columns, rest = divmod(config.depth(kind), rows)
        # Two loads, of which the second covers what does not divide.
        for base, height, width in ((0, rows, columns), (rows * columns, 1, rest)):
            if width:
                top = min(height, _PAD_ROWS // 2)
                fields = {"sram_base": base, "x_size": width, "y_pad_0": top}
                fields["y_pad_1"] = height - top
                words.append(isa.encode(Opcode.LOAD, memory=int(kind), **fields))
    return tuple(int.from_bytes(word, "little") for word in words)


class Wipe(wiring.Component):
    """Gives the instructions that zero INP, WGT and ACC, and before them UOP where asked.

    Parameters
    ----------
    config : CoreConfig

    """

    #: Out: instruction words.
    o: stream.Interface
    #: In: begin from the first word.
    start: Signal
    #: In: micro-ops too; counts with ``start``.
    uops: Signal

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "o": Out(stream.Signature(unsigned(8 * INSN_BYTES))),
                "start": In(1),
                "uops": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        uops = wipe_words(self.config, (Memory.UOP,))
        words = uops + wipe_words(self.config, (Memory.ACC, Memory.WGT, Memory.INP))
        rom: Any = memory.Memory(shape=unsigned(8 * INSN_BYTES), depth=len(words), init=words)
        m.submodules.rom = rom
        read = rom.read_port(domain="comb")
        at = Signal(range(len(words) + 1), init=len(words))

        m.d.comb += [
            read.addr.eq(at),
            self.o.p.eq(read.data),
            self.o.valid.eq(at != len(words)),
        ]
        with m.If(self.start):
            m.d.sync += at.eq(Mux(self.uops, 0, len(uops)))
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += at.eq(at + 1)

        return m
