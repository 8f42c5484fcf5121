"""The accumulator scratchpad: four banks, so that units run side by side (specification §3)."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.vta.engine import piece_bits

__all__ = [
    "Accumulators",
    "Claim",
    "ReadAccess",
    "WriteAccess",
    "bank",
    "granules",
    "half",
    "lanes_layout",
]


def granules(config: CoreConfig, bus: BusConfig) -> int:
    """Parts of an element that are written on their own: as many as a load takes beats."""
    return 8 * config.element_bytes(Memory.ACC) // piece_bits(config, bus, Memory.ACC)


def half(address: Any) -> Any:
    """Return the half of the scratchpad in which an element is: lower or upper."""
    return address[-1:]


def bank(address: Any) -> Any:
    """Return the bank of an element: its half, and in it even or odd elements.

    Two tiles in one half each never meet, and within a half two walks that alternate between even
    and odd need not when they read.
    """
    return Cat(half(address), address[:1]) if len(address) > 1 else half(address)


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


class Claim(wiring.Signature):
    """Tells ahead which element will be written."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__({"valid": Out(1), "address": Out(config.log_depth(Memory.ACC))})


class Accumulators(wiring.Component):
    """Four banks of one read port each; the two of a half share one write.

    GEMM is never refused. The ALU writes three cycles after it reads its first operand, and is
    never refused then: it is refused the read if GEMM reads that bank now, or will write to that
    half then. Both say a cycle ahead what they will write, so that whose data a half takes is known
    early.

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
                #: In: what GEMM will write in three cycles; what both will write in the next.
                "gemm_coming": In(Claim(config)),
                "gemm_next": In(Claim(config)),
                "alu_next": In(Claim(config)),
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
        # A scratchpad of one or two elements has fewer banks and halves of use.
        halves, count = 1 << min(1, log_depth), 1 << min(2, log_depth)
        row = slice(1 if log_depth > 1 else 0, max(0, log_depth - 1))
        readers = (self.gemm_read, self.alu_dst, self.alu_src, self.store_read)
        gemm, alu, other = self.gemm_write, self.alu_write, self.other_write
        m.d.comb += [gemm.grant.eq(1), alu.grant.eq(1)]

        writes: list[Any] = []
        for n in range(halves):
            address = Signal(log_depth, name=f"address_{n}")
            data_in = Signal(width, name=f"data_{n}")
            enable = Signal(parts, name=f"enable_{n}")
            writes.append((address, data_in, enable))
            of_gemm = Signal(name=f"of_gemm_{n}")
            of_alu = Signal(name=f"of_alu_{n}")
            m.d.sync += [
                of_gemm.eq(self.gemm_next.valid & (half(self.gemm_next.address) == n)),
                of_alu.eq(self.alu_next.valid & (half(self.alu_next.address) == n)),
            ]
            m.d.comb += [
                address.eq(Mux(of_gemm, gemm.address, Mux(of_alu, alu.address, other.address))),
                data_in.eq(Mux(of_gemm, gemm.data, Mux(of_alu, alu.data, other.data))),
            ]
            with m.If(of_gemm):
                m.d.comb += enable.eq(gemm.enable.replicate(parts))
            with m.Elif(of_alu):
                m.d.comb += enable.eq(alu.enable.replicate(parts))
            with m.Elif(half(other.address) == n):
                m.d.comb += [enable.eq(other.enable), other.grant.eq(1)]

        outputs = []
        for n in range(count):
            contents: Any = memory.Memory(
                shape=unsigned(width), depth=(1 << log_depth) // count, init=[]
            )
            m.submodules[f"bank_{n}"] = contents
            port = contents.write_port(granularity=width // parts)
            address, data_in, enable = writes[n % halves]
            m.d.comb += [port.addr.eq(address[row]), port.data.eq(data_in)]
            with m.If(bank(address) == n):
                m.d.comb += port.en.eq(enable)

            read = contents.read_port()
            outputs.append(read.data)
            wants = [reader.enable & (bank(reader.address) == n) for reader in readers]
            coming = self.gemm_coming
            # The second reader yields to a write to come; whoever is behind it may read then.
            wants[1] &= ~(coming.valid & (half(coming.address) == n % halves))
            m.d.comb += read.en.eq(Cat(wants).any())
            for k, (reader, wanted) in enumerate(zip(readers, wants, strict=True)):
                with m.If(wanted) if k == 0 else m.Elif(wanted):
                    m.d.comb += [read.addr.eq(reader.address[row]), reader.grant.eq(1)]

        for k, reader in enumerate(readers):
            chosen = Signal(range(max(2, count)), name=f"chosen_{k}")
            with m.If(reader.enable):
                m.d.sync += chosen.eq(bank(reader.address))
            level = outputs
            for bit in chosen:
                level = [
                    Mux(bit, high, low) for low, high in zip(level[::2], level[1::2], strict=False)
                ] or level
            m.d.comb += reader.data.eq(level[0])

        return m


def lanes_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return an element as ``[batch * block]`` unsigned lanes."""
    return data.ArrayLayout(unsigned(32), config.batch * config.block)
