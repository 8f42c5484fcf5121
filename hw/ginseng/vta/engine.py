"""Turns LOAD instructions into descriptors, and beats and padding into scratchpad writes."""

from collections.abc import Sequence
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.port import ReadPort
from ginseng.flow.queue import Queue
from ginseng.isa.config import BusConfig, CoreConfig, Memory
from ginseng.isa.insn import MemInsn
from ginseng.isa.transfer import Direction

__all__ = ["Engine", "piece_bits", "piece_layout"]


def piece_bits(config: CoreConfig, bus: BusConfig, memory: Memory) -> int:
    """Bits of DRAM that one write carries: a beat, or an element if that is smaller."""
    return min(bus.data_bits, 8 * config.element_bytes(memory))


def _pieces(config: CoreConfig, bus: BusConfig, memory: Memory) -> int:
    """Pieces of an element."""
    return 8 * config.element_bytes(memory) // piece_bits(config, bus, memory)


def piece_layout(bus: BusConfig) -> data.StructLayout:
    """Return one write: piece ``index`` of element ``index`` of ``memory``, or a zero element.

    ``data`` stands at bit 0; what is above it means nothing. A zero element's is zero.
    """
    return data.StructLayout(
        {
            "memory": Memory,
            "address": unsigned(16),
            "zero": unsigned(1),
            "index": unsigned(10),
            "data": unsigned(bus.data_bits),
        }
    )


def _wide(count: Any) -> Any:
    return Cat(count, Const(0, 16 - len(count)))


class _Regions:
    """Walks the columns of a row, or the rows: those of padding, those read, those of padding.

    Parameters
    ----------
    m : Module
        Where the counter goes.
    name : str
        Of what is walked.
    before, read, after : Value
        How many there are of each, held while they are walked.

    """

    def __init__(self, m: Module, name: str, before: Any, read: Any, after: Any) -> None:
        #: In: begin, or go on to the next; begin again.
        self.steps, self.restarts = Signal(name=f"{name}_steps"), Signal(name=f"{name}_restarts")
        #: Out: this one is read; it is the last of its region; of all; there is none.
        self.inside, self.region_ends = Signal(name=f"{name}_inside"), Signal(name=f"{name}_ends")
        self.last, self.empty = Signal(name=f"last_{name}"), Signal(name=f"no_{name}")

        # Minus what is left of the region: loading and counting are then one addition.
        left = Signal(16, name=f"{name}_left")
        origin = Signal(16, name=f"{name}_origin")
        is_before, is_after = Signal(name=f"{name}_before"), Signal(name=f"{name}_after")
        some_before, some_read, some_after = before != 0, read != 0, after != 0
        enters_read = Signal(name=f"{name}_enters_read")
        enters_before = Signal(name=f"{name}_enters_before")
        enters_after = Signal(name=f"{name}_enters_after")
        m.d.comb += [
            self.inside.eq(~is_before & ~is_after),
            self.region_ends.eq(left.all()),
            self.empty.eq(~(some_before | some_read | some_after)),
            self.last.eq(
                self.region_ends & (is_after | (~some_after & (self.inside | ~some_read)))
            ),
            origin.eq(left),
        ]
        with m.If(self.restarts):
            m.d.comb += [
                enters_before.eq(some_before),
                enters_read.eq(~some_before & some_read),
                enters_after.eq(~some_before & ~some_read),
            ]
        with m.Elif(self.region_ends):
            m.d.comb += [
                enters_read.eq(is_before & some_read),
                enters_after.eq(~is_before | ~some_read),
            ]
        with m.If(enters_before):
            m.d.comb += origin.eq(~_wide(before))
        with m.Elif(enters_read):
            m.d.comb += origin.eq(~_wide(read))
        with m.Elif(enters_after):
            m.d.comb += origin.eq(~_wide(after))
        with m.If(self.steps):
            m.d.sync += left.eq(origin + 1)
            with m.If(enters_before | enters_read | enters_after):
                m.d.sync += [is_before.eq(enters_before), is_after.eq(enters_after)]


class Engine(wiring.Component):
    """Executes checked LOADs of some memories, in order.

    An instruction's descriptor is issued as soon as it is taken, up to ``depth`` instructions
    ahead of the writes. Writes one padding element, or one beat (one element, if beats are wider)
    per cycle, and pauses for one between instructions. Bytes are written as they come; they are
    verified when ``memory.done`` says so.

    Parameters
    ----------
    config : CoreConfig
    bus : BusConfig
    memories : sequence of Memory
        What can be loaded.
    depth : int
        Instructions whose descriptors are issued ahead.

    """

    #: In: LOADs with ``x_size`` not zero whose span is inside the scratchpad.
    i: stream.Interface
    #: Out: writes, in order.
    o: stream.Interface

    def __init__(
        self, config: CoreConfig, bus: BusConfig, memories: Sequence[Memory], depth: int = 8
    ) -> None:
        self.config = config
        self.bus = bus
        self.memories = tuple(memories)
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(MemInsn)),
                "memory": Out(ReadPort(bus)),
                "o": Out(stream.Signature(piece_layout(bus))),
                #: Out: high for one cycle when the last write of an instruction has been made.
                "written": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.queue = queue = Queue(MemInsn, self.depth)

        # An instruction goes to the queue and, if it reads, to memory in the same cycle.
        insn = self.i.payload
        descriptor = self.memory.descriptor
        reads = insn.y_size != 0
        m.d.comb += [
            descriptor.valid.eq(self.i.valid & reads & queue.i.ready),
            descriptor.payload.direction.eq(Direction.READ),
            descriptor.payload.memory.eq(insn.memory),
            descriptor.payload.dram_base.eq(insn.dram_base),
            descriptor.payload.rows.eq(insn.y_size),
            descriptor.payload.row_elements.eq(insn.x_size),
            descriptor.payload.stride.eq(insn.x_stride),
            self.i.ready.eq(queue.i.ready & (~reads | descriptor.ready)),
            queue.i.valid.eq(self.i.valid & self.i.ready),
            queue.i.payload.eq(insn),
        ]

        # The oldest instruction stays in the queue while it is written. Its rows and columns are
        # walked region by region: padding before, what is read, padding after.
        head = queue.o.payload
        active, starts, done = Signal(), Signal(), Signal()
        columns = _Regions(m, "column", head.x_pad_0, head.x_size, head.x_pad_1)
        rows = _Regions(m, "row", head.y_pad_0, head.y_size, head.y_pad_1)
        address = Signal(16)
        gives, inside, element_ends = Signal(), Signal(), Signal()
        last_piece, last_of_beat, last_read = Signal(), Signal(), Signal()
        ends = columns.last & rows.last
        m.d.comb += [
            starts.eq(~active & queue.o.valid),
            inside.eq(columns.inside & rows.inside),
            last_read.eq(columns.region_ends & rows.region_ends),
            element_ends.eq(gives & (~inside | last_piece)),
            done.eq(element_ends & ends),
            columns.restarts.eq(starts | columns.last),
            columns.steps.eq(starts | element_ends),
            rows.restarts.eq(starts),
            rows.steps.eq(starts | (element_ends & columns.last)),
        ]
        with m.If(columns.steps):
            m.d.sync += address.eq(~starts + Mux(starts, head.sram_base, address))

        index = Signal(range(max(2, *(self._pieces(memory) for memory in self.memories))))
        at = Signal(range(max(2, self.bus.beat_bytes)))
        beat = self.memory.beat
        read = Signal(self.bus.data_bits)
        m.d.comb += read.eq(beat.payload)
        with m.Switch(head.memory):
            for memory in self.memories:
                bits = piece_bits(self.config, self.bus, memory)
                with m.Case(memory):
                    m.d.comb += [
                        last_piece.eq(index == self._pieces(memory) - 1),
                        last_of_beat.eq(at == self.bus.data_bits // bits - 1),
                    ]
                    if bits < self.bus.data_bits:
                        m.d.comb += read[:bits].eq(beat.payload.word_select(at, bits))

        # A write stands in a register until it is made. Its data is not reset, so that the reset of
        # its flip-flops makes the zeros.
        piece, last = self.o.payload, Signal()
        held = Signal(self.bus.data_bits, reset_less=True)
        free, nothing = Signal(), Signal()
        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            gives.eq(active & free & (~inside | beat.valid)),
            beat.ready.eq(active & free & inside & (last_of_beat | (last_piece & last_read))),
            piece.data.eq(held),
            # An instruction without rows ends when those before have.
            nothing.eq(starts & rows.empty & ~self.o.valid),
            queue.o.ready.eq(done | nothing),
            self.written.eq(nothing | (self.o.valid & self.o.ready & last)),
        ]
        m.d.sync += active.eq(Mux(active, ~done, starts & ~rows.empty))
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(gives),
                last.eq(ends & (~inside | last_piece)),
                piece.memory.eq(head.memory),
                piece.address.eq(address),
                piece.zero.eq(~inside),
                piece.index.eq(index),
                held.eq(Mux(inside, read, 0)),
            ]
        with m.If(gives & inside):
            m.d.sync += [
                index.eq(Mux(last_piece, 0, index + 1)),
                at.eq(Mux(last_of_beat | (last_piece & last_read), 0, at + 1)),
            ]

        return m

    def _pieces(self, memory: Memory) -> int:
        return _pieces(self.config, self.bus, memory)
