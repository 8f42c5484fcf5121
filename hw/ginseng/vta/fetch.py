"""Streams the instructions of a program from memory (VTA specification §4)."""

from typing import Final

from amaranth import Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.port import ReadPort
from ginseng.flow.queue import Queue
from ginseng.isa.config import BusConfig, Memory
from ginseng.isa.insn import INSN_BYTES
from ginseng.isa.transfer import Direction

__all__ = ["FETCH_INSNS", "Fetch"]

#: Instructions per transfer; its bytes are the longest chunk of a program (TEC specification §3).
FETCH_INSNS: Final = 32


class Fetch(wiring.Component):
    """Reads ``insn_count`` instructions from ``insn_addr`` on, ahead of what is taken.

    A transfer is asked for when there is room for all of it, so that memory never waits; with two
    transfers of room, instructions come one per cycle if the bus brings them.

    Parameters
    ----------
    bus : BusConfig

    """

    #: Out: instruction words, in order.
    o: stream.Interface

    def __init__(self, bus: BusConfig) -> None:
        self.bus = bus
        super().__init__(
            {
                "memory": Out(ReadPort(bus)),
                "o": Out(stream.Signature(unsigned(8 * INSN_BYTES))),
                #: In: begin, while idle; address in units of 16 bytes.
                "start": In(1),
                "insn_addr": In(32),
                "insn_count": In(32),
                #: In: ask for nothing more, and throw away what comes.
                "stop": In(1),
                #: Out: instructions are asked for, or still to be asked for and there is room.
                "active": Out(1),
                #: Out: no transfer is under way or offered.
                "quiet": Out(1),
                #: Out: every instruction has been given.
                "exhausted": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        word = 8 * INSN_BYTES
        depth = 2 * FETCH_INSNS
        queue = Queue(unsigned(word), depth, block_ram=True)
        m.submodules.queue = ResetInserter(self.start)(queue)

        wiring.connect(m, queue.o, wiring.flipped(self.o))

        # Minus the instructions still to be asked for, and to be given: loading and counting are
        # then one addition. Those still to come; room not yet promised.
        unasked, ungiven, unseen = Signal(32), Signal(32), Signal(32)
        address = Signal(32)
        room = Signal(range(depth + 1), init=depth)
        asking, under_way = Signal(), Signal(range(depth))
        count = Signal(range(FETCH_INSNS + 1))
        descriptor = self.memory.descriptor
        ask = Signal()
        m.d.comb += [
            ask.eq(~self.stop & ~asking & (unasked != 0) & (room >= FETCH_INSNS)),
            descriptor.valid.eq(asking),
            descriptor.payload.direction.eq(Direction.READ),
            # The fetch client counts units of 16 bytes, whatever is named here.
            descriptor.payload.memory.eq(Memory.UOP),
            descriptor.payload.rows.eq(1),
            descriptor.payload.row_elements.eq(count),
            descriptor.payload.stride.eq(count),
            descriptor.payload.dram_base.eq(address),
            self.quiet.eq(~asking & (under_way == 0)),
            self.active.eq(~self.quiet | ask),
            self.exhausted.eq(ungiven == 0),
        ]
        taken = Signal()
        bits = (FETCH_INSNS - 1).bit_length()
        few = unasked[bits:].all() & unasked[:bits].any()
        next_count = Mux(few, (-unasked)[:bits], FETCH_INSNS)
        m.d.comb += taken.eq(descriptor.valid & descriptor.ready)
        m.d.sync += [
            room.eq(room - Mux(ask, next_count, 0) + (self.o.valid & self.o.ready)),
            under_way.eq(under_way + taken - self.memory.done),
        ]
        with m.If(ask):
            m.d.sync += [asking.eq(1), count.eq(next_count)]
        with m.If(taken):
            m.d.sync += asking.eq(0)
        with m.If(self.start | taken):
            m.d.sync += [
                address.eq(Mux(self.start, self.insn_addr, address) + Mux(self.start, 0, count)),
                unasked.eq(Mux(self.start, ~self.insn_count, unasked) + Mux(self.start, 1, count)),
            ]
        with m.If(self.start | (self.o.valid & self.o.ready)):
            m.d.sync += ungiven.eq(Mux(self.start, ~self.insn_count, ungiven) + 1)

        # Only the last transfer of a program can end within a beat.
        beat = self.memory.beat
        brought = Signal()
        if self.bus.data_bits < word:
            parts = word // self.bus.data_bits
            at = Signal(range(parts))
            gathered = Signal(word)
            full = Signal()
            m.d.comb += [
                queue.i.valid.eq(full & ~self.stop),
                queue.i.payload.eq(gathered),
                beat.ready.eq(1),
                brought.eq(full),
            ]
            m.d.sync += full.eq(beat.valid & (at == parts - 1))
            with m.If(beat.valid):
                m.d.sync += [
                    gathered.word_select(at, self.bus.data_bits).eq(beat.payload),
                    at.eq(at + 1),
                ]
        else:
            parts = self.bus.data_bits // word
            at = Signal(range(max(2, parts)))
            final = (at == parts - 1) | (unseen == 1)
            m.d.comb += [
                queue.i.valid.eq(beat.valid & ~self.stop),
                queue.i.payload.eq(beat.payload.word_select(at, word)),
                brought.eq(beat.valid),
                beat.ready.eq(final),
            ]
            with m.If(beat.valid):
                m.d.sync += at.eq(Mux(final, 0, at + 1))
        with m.If(brought):
            m.d.sync += unseen.eq(unseen - 1)

        with m.If(self.start):
            m.d.sync += [unseen.eq(self.insn_count), room.eq(depth)]

        return m
