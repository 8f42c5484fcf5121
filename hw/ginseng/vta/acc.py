"""The accumulator scratchpad: four banks, so that units run side by side (specification §3)."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.vta.engine import piece_bits

__all__ = [
    "ALU_LATENCY",
    "Accumulators",
    "Claim",
    "ReadAccess",
    "WriteAccess",
    "bank",
    "granules",
    "lanes_layout",
]

#: Cycles from the read of what the ALU writes back to the write.
ALU_LATENCY: Final = 4


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


class Claim(wiring.Signature):
    """Tells ahead which element will be written."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__({"valid": Out(1), "address": Out(config.log_depth(Memory.ACC))})


class Accumulators(wiring.Component):
    """Four banks of one read and one write port; see `bank`.

    GEMM is never refused. The ALU writes `ALU_LATENCY` after it reads its first operand, and is
    never refused then: it is refused the read if GEMM reads that bank now, or will write it then.
    Both say a cycle ahead what they will write, so that whose data a bank takes is known early.

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
                #: In: what GEMM will write in `ALU_LATENCY`; what both will write in the next.
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
        # A scratchpad of one or two elements has fewer banks of use.
        count = 1 << min(2, log_depth)
        row = slice(1, max(1, log_depth - 1))
        readers = (self.gemm_read, self.alu_dst, self.alu_src, self.store_read)
        gemm, alu, other = self.gemm_write, self.alu_write, self.other_write
        outputs = []
        grants: list[list[Any]] = [[] for _ in readers]
        m.d.comb += [gemm.grant.eq(1), alu.grant.eq(1)]
        for n in range(count):
            contents: Any = memory.Memory(
                shape=unsigned(width), depth=(1 << log_depth) // count, init=[]
            )
            m.submodules[f"bank_{n}"] = contents
            write = contents.write_port(granularity=width // parts)
            read = contents.read_port()
            outputs.append(read.data)

            wants = [port.enable & (bank(port.address) == n) for port in readers]
            coming = self.gemm_coming
            # The second reader yields to a write to come; whoever is behind it may read then.
            wants[1] &= ~(coming.valid & (bank(coming.address) == n))
            m.d.comb += read.en.eq(Cat(wants).any())
            for k, (port, wanted) in enumerate(zip(readers, wants, strict=True)):
                with m.If(wanted) if k == 0 else m.Elif(wanted):
                    m.d.comb += read.addr.eq(port.address[row])
                # Apart, so that a reader may wait for the grant of a more urgent one.
                grants[k].append(wanted & ~Cat(wants[:k]).any())

            of_gemm = Signal(name=f"of_gemm_{n}")
            of_alu = Signal(name=f"of_alu_{n}")
            m.d.sync += [
                of_gemm.eq(self.gemm_next.valid & (bank(self.gemm_next.address) == n)),
                of_alu.eq(self.alu_next.valid & (bank(self.alu_next.address) == n)),
            ]
            m.d.comb += [
                write.addr.eq(
                    Mux(of_gemm, gemm.address, Mux(of_alu, alu.address, other.address))[row]
                ),
                write.data.eq(Mux(of_gemm, gemm.data, Mux(of_alu, alu.data, other.data))),
            ]
            with m.If(of_gemm):
                m.d.comb += write.en.eq(gemm.enable.replicate(parts))
            with m.Elif(of_alu):
                m.d.comb += write.en.eq(alu.enable.replicate(parts))
            with m.Elif(bank(other.address) == n):
                m.d.comb += [write.en.eq(other.enable), other.grant.eq(1)]

        for k, port in enumerate(readers):
            m.d.comb += port.grant.eq(Cat(grants[k]).any())
            chosen = Signal(range(max(2, count)), name=f"chosen_{k}")
            with m.If(port.enable):
                m.d.sync += chosen.eq(bank(port.address))
            level = outputs
            for bit in chosen:
                level = [
                    Mux(bit, high, low) for low, high in zip(level[::2], level[1::2], strict=False)
                ] or level
            m.d.comb += port.data.eq(level[0])

        return m


def lanes_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return an element as ``[batch * block]`` unsigned lanes."""
    return data.ArrayLayout(unsigned(32), config.batch * config.block)
