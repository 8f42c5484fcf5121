"""Counts what goes over a bus, as events of a cycle (register map of the contract)."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import READERS
from ginseng.isa.config import BusConfig
from ginseng.isa.transfer import Client

__all__ = ["COUNTERS", "Traffic"]

#: What is counted; names as in the register map.
COUNTERS = ("read_bytes", "write_bytes", "read_bursts", "write_bursts")


class Traffic(wiring.Component):
    """Turns bursts that are asked for into events, a cycle later.

    Parameters
    ----------
    bus : BusConfig
    granule : int
        Bytes of which every write is a multiple.

    Attributes
    ----------
    units : dict of str to int
        Bytes that an increment of one means.
    limits : dict of str to int
        Greatest increment of each counter in a cycle.

    """

    #: In: a read of ``beats`` beats is asked for, for this client.
    read: Signal
    client: Any
    beats: Signal
    #: In: a write of so many granules is begun.
    write: Signal
    granules: Signal
    #: Out: increments of this cycle in `units`, at most `limits`: of `COUNTERS` and of the shares
    #: of each reading client, ``fetch_bytes``, ``fetch_bursts`` and so on.
    events: data.View

    def __init__(self, bus: BusConfig, granule: int) -> None:
        shares = [
            f"{client.name.lower()}_{what}" for client in READERS for what in ("bytes", "bursts")
        ]
        self.units = {
            name: granule if name == "write_bytes" else bus.beat_bytes
            for name in (*COUNTERS, *shares)
            if name.endswith("bytes")
        }
        self.limits = {
            name: bus.burst_bytes // self.units[name] if name in self.units else 1
            for name in (*COUNTERS, *shares)
        }
        super().__init__(
            {
                "read": In(1),
                "client": In(Client),
                "beats": In(range(bus.burst_bytes // bus.beat_bytes + 1)),
                "write": In(1),
                "granules": In(range(bus.burst_bytes // granule + 1)),
                "events": Out(self.layout),
            }
        )

    @property
    def layout(self) -> data.StructLayout:
        """Of ``events``."""
        return data.StructLayout({name: most.bit_length() for name, most in self.limits.items()})

    def elaborate(self, platform):
        m = Module()

        beats, read, client = Signal.like(self.beats), Signal(), Signal(Client)
        granules, write = Signal.like(self.granules), Signal()
        events = self.events
        m.d.sync += [
            beats.eq(self.beats),
            read.eq(self.read),
            client.eq(self.client),
            granules.eq(self.granules),
            write.eq(self.write),
        ]
        with m.If(read):
            m.d.comb += [events.read_bytes.eq(beats), events.read_bursts.eq(1)]
            for reader in READERS:
                with m.If(client == reader):
                    m.d.comb += [
                        events[f"{reader.name.lower()}_bytes"].eq(beats),
                        events[f"{reader.name.lower()}_bursts"].eq(1),
                    ]
        with m.If(write):
            m.d.comb += [events.write_bytes.eq(granules), events.write_bursts.eq(1)]

        return m
