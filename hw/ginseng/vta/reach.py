"""The accumulators that a GEMM or ALU can reach: bounds of its affine walk (specification §6)."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import alu_layout, uop_layout

__all__ = ["Reach"]

_OPERANDS = ("dst", "src")


class Reach(wiring.Component):
    """Reads the micro-ops of an instruction once, and bounds what ``dst`` and ``src`` index.

    ``insn`` is held from the cycle after ``start`` on. One micro-op is read per cycle that grants
    it; ``done`` rises two cycles after the last, and no earlier than three after ``start``.
    Bounds beyond the scratchpad are cut to its last element: such a walk faults anyway.

    Parameters
    ----------
    config : CoreConfig

    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        index = unsigned(config.log_depth(Memory.ACC))
        super().__init__(
            {
                #: In: a new instruction comes in the next cycle.
                "start": In(1),
                #: In: it; fields as of an ALU, which those of GEMM share as far as ``dst``.
                "insn": In(alu_layout(config)),
                #: In: micro-ops may be read.
                "enable": In(1),
                #: Out: micro-op to read; in: it is read, and comes in the next cycle.
                "uop_enable": Out(1),
                "uop_address": Out(config.log_depth(Memory.UOP)),
                "uop_grant": In(1),
                "uop": In(uop_layout(config)),
                #: Out: everything below is right.
                "done": Out(1),
                #: Out: the first micro-op.
                "first": Out(uop_layout(config)),
                #: Out: bounds, both included.
                **{f"{k}_{way}": Out(index) for k in _OPERANDS for way in ("first", "last")},
            }
        )

    def elaborate(self, platform):
        m = Module()

        insn: Any = self.insn
        bits = self.config.log_depth(Memory.ACC)
        top = self.config.depth(Memory.ACC) - 1
        at = Signal(insn.uop_end.shape())
        begun, arriving, seen = Signal(), Signal(), Signal()
        age = Signal(2)
        here: Any = self.uop
        m.d.comb += [
            self.uop_address.eq(Mux(begun, at, insn.uop_begin)),
            self.uop_enable.eq(self.enable & (~begun | (at != insn.uop_end))),
            self.done.eq(age[1] & begun & ~arriving & (at == insn.uop_end)),
        ]
        read = self.uop_enable & self.uop_grant
        m.d.sync += arriving.eq(read)
        with m.If(read):
            m.d.sync += [begun.eq(1), at.eq(self.uop_address + 1)]
        with m.If(~age[1]):
            m.d.sync += age.eq(age + 1)
        with m.If(arriving):
            m.d.sync += seen.eq(1)
            with m.If(~seen):
                m.d.sync += self.first.eq(here)
        with m.If(self.start):
            m.d.sync += [begun.eq(0), seen.eq(0), age.eq(0)]

        for k in _OPERANDS:
            low = Signal(here[k].shape(), name=f"{k}_low")
            high = Signal(here[k].shape(), name=f"{k}_high")
            with m.If(arriving):
                with m.If(~seen | (here[k] < low)):
                    m.d.sync += low.eq(here[k])
                with m.If(~seen | (here[k] > high)):
                    m.d.sync += high.eq(here[k])
            # How far the loops carry it.
            ways = [Signal(14 + bits, name=f"{k}_{way}") for way in ("out", "in")]
            further = Signal(15 + bits, name=f"{k}_further")
            for way, carried in zip(("out", "in"), ways, strict=True):
                m.d.sync += carried.eq((insn[f"iter_{way}"] - 1)[:14] * insn[f"{k}_factor_{way}"])
            m.d.sync += further.eq(ways[0] + ways[1])
            end = Signal(16 + bits, name=f"{k}_end")
            m.d.comb += [
                end.eq(high + further),
                getattr(self, f"{k}_first").eq(low),
                getattr(self, f"{k}_last").eq(Mux(end > top, top, end)),
            ]

        return m
