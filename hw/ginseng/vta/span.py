"""Size and end of what a LOAD or STORE covers in its scratchpad (VTA specification §5, §8)."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import MemInsn

__all__ = ["Span"]

_COUNT_BITS = 17


class Span(wiring.Component):
    """Multiplies a transfer's extents, padding included, and compares its end with the depth.

    ``insn`` is held; the outputs are right from three cycles after it changed on. One multiplier of
    17 by 17 bits.

    Parameters
    ----------
    config : CoreConfig
        Depths.

    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                #: In: the transfer.
                "insn": In(MemInsn),
                #: Out: elements, padding included; right a cycle earlier.
                "count": Out(2 * _COUNT_BITS),
                #: Out: the first element behind it.
                "end": Out(2 * _COUNT_BITS + 1),
                #: Out: whether the last element is outside the scratchpad.
                "outside": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        width, height = Signal(_COUNT_BITS), Signal(_COUNT_BITS)
        insn = self.insn

        m.d.sync += [
            width.eq(insn.x_pad_0 + insn.x_size + insn.x_pad_1),
            height.eq(insn.y_pad_0 + insn.y_size + insn.y_pad_1),
            self.count.eq(width * height),
        ]
        m.d.sync += self.end.eq(self.count + insn.sram_base)
        with m.Switch(insn.memory):
            for memory in (Memory.UOP, Memory.WGT, Memory.INP):
                with m.Case(memory):
                    m.d.comb += self.outside.eq(self._beyond(memory))
            with m.Default():
                m.d.comb += self.outside.eq(self._beyond(Memory.ACC))

        return m

    def _beyond(self, memory: Memory) -> Any:
        """Return whether ``end`` is more than the depth, a power of two: without a carry chain."""
        log_depth = self.config.log_depth(memory)
        more, rest = self.end[log_depth + 1 :].any(), self.end[:log_depth].any()
        return more | (self.end[log_depth] & rest)
