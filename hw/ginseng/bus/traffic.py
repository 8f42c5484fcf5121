"""Counts what goes over a bus, as events of a cycle (register map of the contract)."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.shapes import READERS
from ginseng.isa.config import BusConfig
from ginseng.isa.transfer import Client

__all__ = ["COUNTERS", "Traffic", "traffic_limits", "traffic_units"]

#: What is counted; names as in the register map.
COUNTERS = ("read_bytes", "write_bytes", "read_bursts", "write_bursts")
_SHARES = tuple(
    f"{client.name.lower()}_{what}" for client in READERS for what in ("bytes", "bursts")
)


def traffic_units(bus: BusConfig, granule: int) -> dict[str, int]:
    """Return how many bytes an increment of one means, of counters of bytes."""
    names = (name for name in (*COUNTERS, *_SHARES) if name.endswith("bytes"))
    return {name: granule if name == "write_bytes" else bus.beat_bytes for name in names}


def traffic_limits(bus: BusConfig, granule: int) -> dict[str, int]:
    """Return the greatest increment of each counter in a cycle."""
    units = traffic_units(bus, granule)
    return {
        name: bus.burst_bytes // units[name] if name in units else 1
        for name in (*COUNTERS, *_SHARES)
    }


class Traffic(wiring.Component):
    """Turns bursts that are asked for into events, a cycle later.

    Parameters
    ----------
    bus : BusConfig
    granule : int
        Bytes of which every write is a multiple.

    Attributes
    ----------
    units, limits : dict of str to int
        `traffic_units`, `traffic_limits`.

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
        self.units = traffic_units(bus, granule)
        self.limits = traffic_limits(bus, granule)
        layout = {name: most.bit_length() for name, most in self.limits.items()}
        super().__init__(
            {
                "read": In(1),
                "client": In(Client),
                "beats": In(range(bus.burst_bytes // bus.beat_bytes + 1)),
                "write": In(1),
                "granules": In(range(bus.burst_bytes // granule + 1)),
                "events": Out(data.StructLayout(layout)),
            }
        )

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
