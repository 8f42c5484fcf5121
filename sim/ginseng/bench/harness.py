"""Tops around parts of a build: the pins that memory models answer."""

from dataclasses import replace
from typing import Any

from amaranth import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiPins, connect_pins
from ginseng.bus.plain import PlainDma
from ginseng.bus.plan import bases_layout
from ginseng.bus.port import MemorySignature
from ginseng.bus.traffic import COUNTERS
from ginseng.isa.config import BusConfig, BusProtocol, CoreConfig

__all__ = ["AsAxi4", "DmaHarness", "FlatAxi", "Watched"]


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


class FlatAxi(wiring.Component):  # type: ignore[type-arg]  # ports come from the signature
    """A component with flat AXI pins, prefix ``m_axi``, in place of its streams ``axi``.

    Parameters
    ----------
    inner : wiring.Component
        Not elaborated yet, with an `AxiSignature` as ``axi``.
    bus : BusConfig
        Its own.

    """

    m_axi: Any

    def __init__(self, inner: Any, bus: BusConfig) -> None:
        self.inner = inner
        self.bus = bus
        members = dict(inner.signature.members.items())
        del members["axi"]
        super().__init__({**members, "m_axi": Out(AxiPins(bus))})

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        m.submodules.inner = self.inner
        connect_pins(m, self.m_axi, self.inner.axi, self.bus)
        theirs = {path: (member, port) for path, member, port in _ports(self.inner)}
        for path, _, port in _ports(self):
            if path[0] != "m_axi":
                member, inner = theirs[path]
                m.d.comb += inner.eq(port) if member.flow is In else port.eq(inner)

        return m


def _ports(component: Any) -> Any:
    return component.signature.flatten(component)


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
        ours = {path: port for path, _, port in _ports(self)}
        for path, member, inner in _ports(self.inner):
            # AXI3 names the burst of write data, AXI4 does not.
            if path in ours:
                port = ours[path]
                takes = member.flow is In
                m.d.comb += inner.eq(port) if takes else port.eq(inner)

        return m


class Watched(wiring.Component):  # type: ignore[type-arg]  # ports come from the signature
    """A component with `AxiPins` as ``m_axi``, and what stands on its write bus as a stream.

    ``written`` gives ``{data, strobe}`` in every cycle in which WVALID is high, taken or not, for
    a sink that is always ready.

    Parameters
    ----------
    inner : wiring.Component
        Not elaborated yet.
    bus : BusConfig
        Its own.

    """

    m_axi: Any
    written: Any

    def __init__(self, inner: Any, bus: BusConfig) -> None:
        self.inner = inner
        beat = data.StructLayout({"data": bus.data_bits, "strobe": bus.beat_bytes})
        members = dict(inner.signature.members.items())
        super().__init__({**members, "written": Out(stream.Signature(beat))})

    def elaborate(self, platform: Any) -> Module:
        """Wire it up."""
        m = Module()

        m.submodules.inner = self.inner
        ours = {path: port for path, _, port in _ports(self)}
        for path, member, inner in _ports(self.inner):
            m.d.comb += inner.eq(ours[path]) if member.flow is In else ours[path].eq(inner)
        m.d.comb += [
            self.written.p.data.eq(self.m_axi.wdata),
            self.written.p.strobe.eq(self.m_axi.wstrb),
            self.written.valid.eq(self.m_axi.wvalid & self.written.ready),
        ]

        return m
