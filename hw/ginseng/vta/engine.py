"""Turns LOAD instructions into descriptors, and beats and padding into scratchpad writes."""

from collections.abc import Sequence

from amaranth import Module, Mux, Signal, unsigned
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

    ``data`` stands at bit 0, filled up with zeros.
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


class Engine(wiring.Component):
    """Executes checked LOADs of some memories, in order.

    An instruction's descriptor is issued as soon as it is taken, up to ``depth`` instructions
    ahead of the writes. Writes one padding element, or one beat (one element, if beats are wider)
    per cycle. Bytes are written as they come; they are verified when ``memory.done`` says so.

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

        # The instruction being written: what it is, and its extents, padding included.
        valid, nothing, done = Signal(), Signal(), Signal()
        address, row, column = Signal(16), Signal(17), Signal(17)
        waiting, head = queue.o.payload, Signal(MemInsn)
        width, height = Signal(17), Signal(17)
        x_end, y_end = Signal(17), Signal(17)
        take, inside, last_row, last_column = Signal(), Signal(), Signal(), Signal()
        last_piece, last_of_beat, last_read = Signal(), Signal(), Signal()
        m.d.comb += queue.o.ready.eq(~valid | done)
        with m.If(take & (~inside | last_piece)):
            m.d.sync += [address.eq(address + 1), column.eq(Mux(last_column, 0, column + 1))]
            with m.If(last_column):
                m.d.sync += row.eq(row + 1)
        with m.If(queue.o.ready):
            rows = waiting.y_pad_0 + waiting.y_size + waiting.y_pad_1
            m.d.sync += [
                valid.eq(queue.o.valid),
                head.eq(waiting),
                x_end.eq(waiting.x_pad_0 + waiting.x_size),
                y_end.eq(waiting.y_pad_0 + waiting.y_size),
                width.eq(waiting.x_pad_0 + waiting.x_size + waiting.x_pad_1),
                height.eq(rows),
                nothing.eq(rows == 0),
                address.eq(waiting.sram_base),
                row.eq(0),
                column.eq(0),
            ]

        index = Signal(10)
        at = Signal(range(max(2, self.bus.beat_bytes)))
        m.d.comb += [
            inside.eq(
                (row >= head.y_pad_0) & (row < y_end) & (column >= head.x_pad_0) & (column < x_end)
            ),
            last_row.eq(row + 1 == height),
            last_column.eq(column + 1 == width),
            last_read.eq((row + 1 == y_end) & (column + 1 == x_end)),
        ]

        beat = self.memory.beat
        piece = self.o.payload
        with m.Switch(head.memory):
            for memory in self.memories:
                bits = piece_bits(self.config, self.bus, memory)
                per_beat = self.bus.data_bits // bits
                per_element = _pieces(self.config, self.bus, memory)
                with m.Case(memory):
                    m.d.comb += [
                        last_piece.eq(index == per_element - 1),
                        last_of_beat.eq(at == per_beat - 1),
                        piece.data.eq(Mux(inside, beat.payload.word_select(at, bits), 0)),
                    ]

        m.d.comb += [
            piece.memory.eq(head.memory),
            piece.address.eq(address),
            piece.zero.eq(~inside),
            piece.index.eq(Mux(inside, index, 0)),
            self.o.valid.eq(valid & ~nothing & (~inside | beat.valid)),
            take.eq(self.o.valid & self.o.ready),
            beat.ready.eq(
                valid & inside & self.o.ready & (last_of_beat | (last_piece & last_read))
            ),
        ]

        m.d.comb += [
            done.eq(Mux(nothing, valid, take & last_row & last_column & (~inside | last_piece))),
            self.written.eq(done),
        ]
        with m.If(take & inside):
            m.d.sync += [
                index.eq(Mux(last_piece, 0, index + 1)),
                at.eq(Mux(last_of_beat | (last_piece & last_read), 0, at + 1)),
            ]

        return m
