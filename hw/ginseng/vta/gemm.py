"""GEMM: one step per cycle, at any distance of re-use (VTA specification §6)."""

from itertools import pairwise
from typing import Any

from amaranth import Module, Mux, Signal, signed
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

    Takes one step per cycle and never stalls; its write comes six cycles later. The sum of the
    step before, and of the one before that, is not in the memory yet when it is needed: they are
    taken from the registers of the write. A step to the same element as the one before it does
    not read, which leaves the bank to others.

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
        m.d.comb += dot.valid.eq(stages[0].valid & ~stages[0].reset)

        # The accumulator is read in the cycle in which the products are summed.
        reading, adding = stages[-2], stages[-1]
        lanes = lanes_layout(self.config)
        result, previous = Signal(lanes), Signal(lanes)
        result_tag: Any = Signal(tag)
        # Whether the old sum will be in one of the registers is known a cycle before.
        from_result, from_previous = Signal(), Signal()
        m.d.comb += [
            self.read.enable.eq(
                reading.valid & ~reading.reset & ~(adding.valid & (adding.dst == reading.dst))
            ),
            self.read.address.eq(reading.dst),
        ]
        m.d.sync += [
            from_result.eq(adding.valid & (adding.dst == reading.dst)),
            from_previous.eq(result_tag.valid & (result_tag.dst == reading.dst)),
        ]
        old = Signal(lanes)
        m.d.comb += old.as_value().eq(
            Mux(
                from_result,
                result.as_value(),
                Mux(from_previous, previous.as_value(), self.read.data),
            )
        )

        m.d.sync += result_tag.valid.eq(adding.valid)
        with m.If(adding.valid):
            m.d.sync += [result_tag[k].eq(adding[k]) for k in fields]
            for b in range(self.config.batch):
                for j in range(self.config.block):
                    lane = b * self.config.block + j
                    total = Signal(signed(32), name=f"total_{lane}")
                    m.d.comb += total.eq(old[lane] + dot.sums[b][j])
                    m.d.sync += result[lane].eq(Mux(adding.reset, 0, total))
        with m.If(result_tag.valid):
            m.d.sync += previous.eq(result)

        m.d.comb += [
            self.coming.valid.eq(stages[-ALU_LATENCY].valid),
            self.coming.address.eq(stages[-ALU_LATENCY].dst),
            self.next.valid.eq(adding.valid),
            self.next.address.eq(adding.dst),
            self.write.enable.eq(result_tag.valid),
            self.write.address.eq(result_tag.dst),
            self.write.data.eq(result),
            self.executed.valid.eq(result_tag.valid & result_tag.last),
            self.executed.tag.eq(result_tag.tag),
        ]

        return m
