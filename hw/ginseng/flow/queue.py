"""Streams that wait: a queue in memory or registers, and buffers of two registers and of one."""

from typing import Any

from amaranth import Module, Mux, Shape, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Chain", "Latch", "Queue", "Skid", "Spill"]


class Queue(wiring.Component):
    """Holds up to ``depth`` items, in order.

    Takes and gives one item per cycle. An item can be given the cycle after it was taken, with
    ``block_ram`` two cycles after.

    Parameters
    ----------
    shape : shape-like
        Of the payload.
    depth : int
        Items.
    block_ram : bool
        Whether reading may be synchronous, so that the memory may be a block RAM.

    """

    #: In: items.
    i: stream.Interface
    #: Out: the same items.
    o: stream.Interface
    #: Out: items held.
    level: Signal

    def __init__(self, shape: Any, depth: int, *, block_ram: bool = False) -> None:
        self.shape = shape
        self.depth = depth
        self.block_ram = block_ram
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        kind: Any = fifo.SyncFIFOBuffered if self.block_ram else fifo.SyncFIFO
        m.submodules.memory = memory = kind(width=Shape.cast(self.shape).width, depth=self.depth)

        m.d.comb += [
            memory.w_data.eq(self.i.p),
            memory.w_en.eq(self.i.valid),
            self.i.ready.eq(memory.w_rdy),
            self.o.p.eq(memory.r_data),
            self.o.valid.eq(memory.r_rdy),
            memory.r_en.eq(self.o.ready),
            self.level.eq(memory.level),
        ]

        return m


class Chain(wiring.Component):
    """Holds up to ``depth`` items in registers one behind the other, in order.

    Takes and gives one item per cycle. An item moves on wherever there is room, so an item that
    finds none ahead can be given ``depth`` cycles after it was taken. Registers only: no lookup
    tables for the data, which is less than `Queue` where a few wide items wait.

    Parameters
    ----------
    shape : shape-like
        Of the payload.
    depth : int
        Items.

    """

    #: In: items.
    i: stream.Interface
    #: Out: the same items.
    o: stream.Interface

    def __init__(self, shape: Any, depth: int) -> None:
        self.shape = shape
        self.depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()

        valid = [Signal(name=f"valid_{n}") for n in range(self.depth)]
        items = [Signal(self.shape, name=f"item_{n}") for n in range(self.depth)]
        # From the last one backwards: an item moves if any place ahead is free or given away.
        moves = [Signal(name=f"moves_{n}") for n in range(self.depth)]
        for n in range(self.depth):
            ahead = self.o.ready if n == self.depth - 1 else moves[n + 1]
            before_valid, before = (
                (self.i.valid, self.i.p) if n == 0 else (valid[n - 1], items[n - 1])
            )
            m.d.comb += moves[n].eq(~valid[n] | ahead)
            with m.If(moves[n]):
                m.d.sync += [valid[n].eq(before_valid), items[n].eq(before)]
        m.d.comb += [
            self.i.ready.eq(moves[0]),
            self.o.valid.eq(valid[-1]),
            self.o.p.eq(items[-1]),
        ]

        return m


class Skid(wiring.Component):
    """Cuts every combinational path of a stream, at full rate, with one cycle of latency.

    Parameters
    ----------
    shape : shape-like
        Of the payload.

    """

    #: In: items.
    i: stream.Interface
    #: Out: the same items.
    o: stream.Interface

    def __init__(self, shape: Any) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()

        held = Signal.like(self.o.p)
        holds = Signal()

        m.d.comb += self.i.ready.eq(~holds)

        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid | holds), holds.eq(0)]
            with m.If(holds):
                m.d.sync += self.o.p.eq(held)
            with m.Else():
                m.d.sync += self.o.p.eq(self.i.p)
        with m.Elif(self.i.valid & ~holds):
            m.d.sync += [held.eq(self.i.p), holds.eq(1)]

        return m


class Spill(wiring.Component):
    """Passes items on in the same cycle, and holds up to ``depth`` that nobody takes, in order.

    Reading may be synchronous, so that the memory may be a block RAM: what is held can be given two
    cycles after it came. What is offered in the cycle in which it comes, and not taken, is then
    withheld until that: ``o.valid`` may fall.

    Parameters
    ----------
    shape : shape-like
        Of the payload.
    depth : int
        Items.

    """

    #: In: items.
    i: stream.Interface
    #: Out: the same items.
    o: stream.Interface

    def __init__(self, shape: Any, depth: int) -> None:
        self.shape = shape
        self.depth = depth
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()

        m.submodules.held = held = Queue(self.shape, self.depth, block_ram=True)
        empty = Signal()
        m.d.comb += [
            empty.eq(held.level == 0),
            self.o.valid.eq(Mux(empty, self.i.valid, held.o.valid)),
            self.o.p.eq(Mux(empty, self.i.p, held.o.p)),
            self.i.ready.eq(held.i.ready),
            held.i.p.eq(self.i.p),
            held.i.valid.eq(self.i.valid & ~(empty & self.o.ready)),
            held.o.ready.eq(self.o.ready & ~empty),
        ]

        return m


class Latch(wiring.Component):
    """Cuts every combinational path of a stream with one register, at half rate.

    Takes an item when it holds none: one in two cycles, each given the cycle after.

    Parameters
    ----------
    shape : shape-like
        Of the payload.

    """

    #: In: items.
    i: stream.Interface
    #: Out: the same items.
    o: stream.Interface

    def __init__(self, shape: Any) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()

        m.d.comb += self.i.ready.eq(~self.o.valid)

        with m.If(self.o.valid):
            m.d.sync += self.o.valid.eq(~self.o.ready)
        with m.Else():
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.p.eq(self.i.p)]

        return m
