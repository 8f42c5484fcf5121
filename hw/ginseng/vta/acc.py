"""The accumulator scratchpad: two banks, so that readers run side by side (specification §3)."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.vta.engine import piece_bits

__all__ = ["Accumulators", "ReadAccess", "WriteAccess", "granules", "lanes_layout"]


def granules(config: CoreConfig, bus: BusConfig) -> int:
    """Parts of an element that are written on their own: as many as a load takes beats."""
    return 8 * config.element_bytes(Memory.ACC) // piece_bits(config, bus, Memory.ACC)


class ReadAccess(wiring.Signature):
    """Reads an element; members as the reader sees them.

    ``enable``, ``address``
        What to read.
    ``grant``
        Whether it is read in this cycle; depends on ``enable`` of more urgent readers only.
    ``data``
        The element, in the cycle after ``enable`` and ``grant``, before any write of that cycle.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {
                "enable": Out(1),
                "address": Out(config.log_depth(Memory.ACC)),
                "grant": In(1),
                "data": In(8 * config.element_bytes(Memory.ACC)),
            }
        )


class WriteAccess(wiring.Signature):
    """Writes an element, or granules of it: a read in the same cycle gives the old contents."""

    def __init__(self, config: CoreConfig, bus: BusConfig) -> None:
        super().__init__(
            {
                "enable": Out(granules(config, bus)),
                "address": Out(config.log_depth(Memory.ACC)),
                "data": Out(8 * config.element_bytes(Memory.ACC)),
            }
        )


class Accumulators(wiring.Component):
    """Even and odd elements in banks of one read and one write port.

    Readers of different banks are granted in the same cycle; of the same, the first named.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
        Granularity of writes.

    """

    def __init__(self, config: CoreConfig, bus: BusConfig) -> None:
        self.config = config
        self.bus = bus
        super().__init__(
            {
                #: In: readers, most urgent first.
                "first": In(ReadAccess(config)),
                "second": In(ReadAccess(config)),
                "store": In(ReadAccess(config)),
                #: In: the writer.
                "write": In(WriteAccess(config, bus)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        width = 8 * self.config.element_bytes(Memory.ACC)
        log_depth = self.config.log_depth(Memory.ACC)
        parts = granules(self.config, self.bus)
        # A scratchpad of one element has one bank of use.
        depth = max(1, 1 << log_depth >> 1)
        row = slice(1, None)
        reads, writes = [], []
        for name in ("even", "odd"):
            bank: Any = memory.Memory(shape=unsigned(width), depth=depth, init=[])
            m.submodules[name] = bank
            writes.append(bank.write_port(granularity=width // parts))
            reads.append(bank.read_port())

        readers = (self.first, self.second, self.store)
        for n, (read, write) in enumerate(zip(reads, writes, strict=True)):
            mine = [reader.enable & (reader.address[:1] == n) for reader in readers]
            m.d.comb += [
                read.en.eq(mine[0] | mine[1] | mine[2]),
                write.addr.eq(self.write.address[row]),
                write.data.eq(self.write.data),
                write.en.eq(Mux(self.write.address[:1] == n, self.write.enable, 0)),
            ]
            with m.If(mine[0]):
                m.d.comb += [read.addr.eq(self.first.address[row]), self.first.grant.eq(1)]
            with m.Elif(mine[1]):
                m.d.comb += [read.addr.eq(self.second.address[row]), self.second.grant.eq(1)]
            with m.Else():
                m.d.comb += read.addr.eq(self.store.address[row])
                with m.If(mine[2]):
                    m.d.comb += self.store.grant.eq(1)

        for k, reader in enumerate(readers):
            odd = Signal(name=f"odd_{k}")
            with m.If(reader.enable):
                m.d.sync += odd.eq(reader.address[:1])
            m.d.comb += reader.data.eq(Mux(odd, reads[1].data, reads[0].data))

        return m


def lanes_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return an element as ``[batch * block]`` unsigned lanes."""
    return data.ArrayLayout(unsigned(32), config.batch * config.block)
