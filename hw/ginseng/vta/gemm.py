"""GEMM: one step per cycle, at any distance of re-use (VTA specification §6)."""

from itertools import pairwise
from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.vta.acc import ALU_LATENCY, Claim, ReadAccess, WriteAccess, lanes_layout
from ginseng.vta.dot import Dot, dot_latency
from ginseng.vta.scoreboard import Event
from ginseng.vta.walk import GEMM_WALK

__all__ = ["Gemm"]


class Gemm(wiring.Component):
    """Adds the product of each step into its accumulator, or zeroes it.

    Takes one step per cycle and never stalls. It writes in the cycle in which it adds, so that only
    the sum of the step before is not in the memory yet when it is needed: a step to the same
    element takes it from a register and does not read, which leaves the bank to others.

    Parameters
    ----------
    config : CoreConfig
    packed : bool
        As `Dot`.

    """

    #: In: steps, all in range; taken at once.
    i: stream.Interface

    def __init__(self, config: CoreConfig, *, packed: bool = False) -> None:
        self.config = config
        self.packed = packed
        super().__init__(
            {
                "i": In(stream.Signature(GEMM_WALK.step(config))),
                #: Out: reads of INP and WGT; in: the elements, in the next cycle.
                "enable": Out(1),
                "inp_address": Out(config.log_depth(Memory.INP)),
                "wgt_address": Out(config.log_depth(Memory.WGT)),
                "inp": In(8 * config.element_bytes(Memory.INP)),
                "wgt": In(8 * config.element_bytes(Memory.WGT)),
                #: Out: the accumulator; never refused.
                "read": Out(ReadAccess(config)),
                "write": Out(WriteAccess(config)),
                #: Out: what is written in `ALU_LATENCY`, and in the next.
                "coming": Out(Claim(config)),
                "next": Out(Claim(config)),
                #: Out: the last write of an instruction is made.
                "executed": Out(Event),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.dot = dot = Dot(self.config, packed=self.packed)

        step = self.i.payload
        m.d.comb += [
            self.i.ready.eq(1),
            self.enable.eq(self.i.valid & ~step.reset),
            self.inp_address.eq(step.src),
            self.wgt_address.eq(step.wgt),
            dot.inp.as_value().eq(self.inp),
            dot.wgt.as_value().eq(self.wgt),
        ]

        # A step accompanies its operands: memory, then the stages of the product.
        fields = ("dst", "reset", "last", "tag")
        tag = data.StructLayout({"valid": 1} | {k: step[k].shape() for k in fields})
        stages: list[Any] = [
            Signal(tag, name=f"stage_{n}") for n in range(1 + dot_latency(self.config))
        ]
        m.d.sync += stages[0].valid.eq(self.i.valid)
        with m.If(self.i.valid):
            m.d.sync += [stages[0][k].eq(step[k]) for k in fields]
        for before, after in pairwise(stages):
            m.d.sync += after.valid.eq(before.valid)
            with m.If(before.valid):
                m.d.sync += [after[k].eq(before[k]) for k in fields]
        m.d.comb += [
            dot.valid.eq(stages[0].valid & ~stages[0].reset),
            dot.zero.eq(stages[0].valid & stages[0].reset),
        ]

        # The accumulator is read in the cycle in which the last sums are made.
        reading, adding = stages[-2], stages[-1]
        lanes = lanes_layout(self.config)
        same = Signal()
        m.d.comb += [
            same.eq(adding.valid & (adding.dst == reading.dst)),
            self.read.enable.eq(reading.valid & ~reading.reset & ~same),
            self.read.address.eq(reading.dst),
        ]

        # Where the old sum is was known a cycle ago, so that what does not count is zero: a lookup
        # table for each bit chooses and adds, since the new sum enters the carry chain directly.
        before, total, came = Signal(lanes), Signal(lanes), Signal()
        read = self.read.data & came.replicate(len(self.read.data))
        old: Any = data.View(lanes, before.as_value() | read)
        for b in range(self.config.batch):
            for j in range(self.config.block):
                lane = b * self.config.block + j
                carry = dot.carries[b][j]
                added = Cat(carry, dot.sums[b][j]).as_signed() + Cat(carry, old[lane])
                m.d.comb += total[lane].eq(added[1:])
        m.d.sync += [before.eq(total), came.eq(self.read.enable)]
        with m.If(~same | reading.reset):
            m.d.sync += before.eq(0)

        m.d.comb += [
            self.coming.valid.eq(stages[-1 - ALU_LATENCY].valid),
            self.coming.address.eq(stages[-1 - ALU_LATENCY].dst),
            self.next.valid.eq(reading.valid),
            self.next.address.eq(reading.dst),
            self.write.enable.eq(adding.valid),
            self.write.address.eq(adding.dst),
            self.write.data.eq(total),
            self.executed.valid.eq(adding.valid & adding.last),
            self.executed.tag.eq(adding.tag),
        ]

        return m
