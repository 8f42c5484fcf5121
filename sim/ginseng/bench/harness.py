"""The plain DMA alone, with the pins that the memory model answers."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiPins, connect_pins
from ginseng.bus.plain import COUNTERS, PlainDma
from ginseng.bus.plan import bases_layout
from ginseng.bus.port import MemorySignature
from ginseng.isa.config import BusConfig, CoreConfig

__all__ = ["DmaHarness"]


class DmaHarness(wiring.Component):  # type: ignore[type-arg]  # ports come from the signature
    """`PlainDma` with flat AXI pins, prefix ``m_axi``; every other port is the DMA's.

    Parameters
    ----------
    core : CoreConfig
    bus : BusConfig

    """

    memory: Any
    m_axi: Any
    bases: Any
    halt: Any
    idle: Any

    def __init__(self, core: CoreConfig, bus: BusConfig) -> None:
        self.core = core
        self.bus = bus
        super().__init__(
            {
                "memory": In(MemorySignature(bus)),
                "m_axi": Out(AxiPins(bus)),
                "bases": In(bases_layout()),
                "halt": In(1),
                "idle": Out(1),
                **{name: Out(64) for name in COUNTERS},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        m.submodules.dma = dma = PlainDma(self.core, self.bus)
        wiring.connect(m, wiring.flipped(self.memory), dma.memory)
        connect_pins(m, self.m_axi, dma.axi, self.bus)
        m.d.comb += [
            dma.bases.eq(self.bases),
            dma.halt.eq(self.halt),
            self.idle.eq(dma.idle),
            *(getattr(self, name).eq(getattr(dma, name)) for name in COUNTERS),
        ]

        return m
