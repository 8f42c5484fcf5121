"""The accumulator scratchpad: four banks, so that units run side by side (specification §3)."""

from typing import Any

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.vta.engine import piece_bits

__all__ = ["Accumulators", "ReadAccess", "WriteAccess", "bank", "granules", "lanes_layout"]


def granules(config: CoreConfig, bus: BusConfig) -> int:
    """Parts of an element that are written on their own: as many as a load takes beats."""
    return 8 * config.element_bytes(Memory.ACC) // piece_bits(config, bus, Memory.ACC)


def bank(address: Any) -> Any:
    """Return the bank of an element: lower or upper half of the scratchpad, even or odd element.

    Two tiles in one half each never meet, and within a half two walks that alternate between even
    and odd need not.
    """
    return Cat(address[:1], address[-1:]) if len(address) > 1 else address[:1]


class ReadAccess(wiring.Signature):
    """Reads an element; members as the reader sees them.

    ``enable``, ``address``
        What to read.
    ``grant``
        Whether it is read in this cycle; depends on what more urgent units do only.
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
    """Writes an element, or granules of it: a read in the same cycle gives the old contents.

    ``grant`` says whether ``enable`` is heeded in this cycle.
    """

    def __init__(self, config: CoreConfig, parts: int = 1) -> None:
        super().__init__(
            {
                "enable": Out(parts),
                "address": Out(config.log_depth(Memory.ACC)),
                "data": Out(8 * config.element_bytes(Memory.ACC)),
                "grant": In(1),
            }
        )


class Accumulators(wiring.Component):
    """Four banks of one read and one write port; see `bank`.

    GEMM is never refused. The ALU writes three cycles after it reads its first operand, and is
    never refused then: it is refused the read if GEMM reads that bank now, or will write it then.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
        Granularity of writes.

    """

    def __init__(self, config: CoreConfig, bus: BusConfig) -> None:
        self.config = config
        self.bus = bus
        read = ReadAccess(config)
        super().__init__(
            {
                #: In: readers, most urgent first; ``alu_dst`` is what the ALU writes back.
                "gemm_read": In(read),
                "alu_dst": In(read),
                "alu_src": In(read),
                "store_read": In(read),
                #: In: what GEMM will write in three cycles.
                "gemm_coming": In(1),
                "gemm_coming_address": In(config.log_depth(Memory.ACC)),
                #: In: writers, most urgent first.
                "gemm_write": In(WriteAccess(config)),
                "alu_write": In(WriteAccess(config)),
                "other_write": In(WriteAccess(config, granules(config, bus))),
            }
        )

    def elaborate(self, platform):
        m = Module()

        width = 8 * self.config.element_bytes(Memory.ACC)
        log_depth = self.config.log_depth(Memory.ACC)
        parts = granules(self.config, self.bus)
        # A scratchpad of one or two elements has fewer banks of use.
        count = 1 << min(2, log_depth)
        row = slice(1, -1)
        readers = (self.gemm_read, self.alu_dst, self.alu_src, self.store_read)
        writers = (self.gemm_write, self.alu_write, self.other_write)
        outputs = []
        for n in range(count):
            contents: Any = memory.Memory(
                shape=unsigned(width), depth=(1 << log_depth) // count, init=[]
            )
            m.submodules[f"bank_{n}"] = contents
            write = contents.write_port(granularity=width // parts)
            read = contents.read_port()
            outputs.append(read.data)

            wants = [port.enable & (bank(port.address) == n) for port in readers]
            claimed = self.gemm_coming & (bank(self.gemm_coming_address) == n)
            # The second reader yields to a write to come; whoever is behind it may read then.
            wants[1] &= ~claimed
            m.d.comb += read.en.eq(Cat(wants).any())
            for k, (port, wanted) in enumerate(zip(readers, wants, strict=True)):
                with m.If(wanted) if k == 0 else m.Elif(wanted):
                    m.d.comb += [read.addr.eq(port.address[row]), port.grant.eq(1)]

            for k, port in enumerate(writers):
                wanted = (port.enable != 0) & (bank(port.address) == n)
                with m.If(wanted) if k == 0 else m.Elif(wanted):
                    m.d.comb += [
                        write.addr.eq(port.address[row]),
                        write.data.eq(port.data),
                        write.en.eq(port.enable if k == 2 else -1),
                        port.grant.eq(1),
                    ]

        for k, port in enumerate(readers):
            chosen = Signal(range(max(2, count)), name=f"chosen_{k}")
            with m.If(port.enable):
                m.d.sync += chosen.eq(bank(port.address))
            with m.Switch(chosen):
                for n, output in enumerate(outputs):
                    with m.Case(n):
                        m.d.comb += port.data.eq(output)

        return m


def lanes_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return an element as ``[batch * block]`` unsigned lanes."""
    return data.ArrayLayout(unsigned(32), config.batch * config.block)
