"""Tops around parts of a build: the pins that memory models answer."""

from dataclasses import replace
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiPins, connect_pins
from ginseng.bus.plain import PlainDma
from ginseng.bus.plan import bases_layout
from ginseng.bus.port import MemorySignature
from ginseng.bus.traffic import COUNTERS
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig

__all__ = ["AsAxi4", "DmaHarness"]


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


class AsAxi4(wiring.Component):  # type: ignore[type-arg]  # ports come from the signature
    """A component whose pins ``m_axi`` have the widths of AXI4, for models that know no other.

    Of AXI3, a burst stays as short as it is, and write data stays in the order of addresses.

    Parameters
    ----------
    inner : wiring.Component
        Not elaborated yet, with `AxiPins` as ``m_axi``.
    bus : BusConfig
        Its own.

    """

    m_axi: Any

    def __init__(self, inner: Any, bus: BusConfig) -> None:
        self.inner = inner
        wide = AxiPins(replace(bus, protocol=BusProtocol.AXI4))
        super().__init__({**dict(inner.signature.members.items()), "m_axi": Out(wide)})

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        m.submodules.inner = self.inner
        signature = self.inner.signature
        ours = {path: port for path, _, port in self.signature.flatten(self)}
        for path, member, inner in signature.flatten(self.inner):
            # AXI3 names the burst of write data, AXI4 does not.
            if path in ours:
                port = ours[path]
                takes = member.flow is In
                m.d.comb += inner.eq(port) if takes else port.eq(inner)

        return m
