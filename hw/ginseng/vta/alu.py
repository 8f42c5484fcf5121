"""ALU: one step per cycle, exact at any distance of re-use (VTA specification §7)."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import AluOp
from ginseng.vta.acc import Claim, ReadAccess, WriteAccess, bank, lanes_layout
from ginseng.vta.scoreboard import Event
from ginseng.vta.walk import ALU_WALK

__all__ = ["Alu"]

#: Steps whose second operand is read ahead of the first.
_AHEAD = 4


class Alu(wiring.Component):
    """Reads both operands of each step, computes, writes the first back.

    The second operand is read ahead, so that the two reads of a step need not meet in one cycle:
    wherever the two walks alternate between the banks a tensor step takes one cycle, like an
    immediate one. A first operand that the step before computes costs one more cycle, a second
    operand that one of the steps under way writes waits until it is written. The write comes six
    cycles after the step was taken, at the earliest.

    Parameters
    ----------
    config : CoreConfig

    """

    #: In: steps, all in range.
    i: stream.Interface

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(ALU_WALK.step(config))),
                #: Out: reads of the first operand and of the second.
                "read_dst": Out(ReadAccess(config)),
                "read_src": Out(ReadAccess(config)),
                #: Out: the first operand back, three cycles after its read; never refused.
                "write": Out(WriteAccess(config)),
                #: Out: what is written in the next cycle.
                "next": Out(Claim(config)),
                #: Out: the last write of an instruction is made.
                "executed": Out(Event),
            }
        )

    def elaborate(self, platform):
        m = Module()

        element = 8 * self.config.element_bytes(Memory.ACC)
        lanes = lanes_layout(self.config)
        step = self.i.payload
        fields = ("dst", "last", "tag", "alu_op", "use_imm", "imm")
        slot = {"slot": range(_AHEAD)}
        tag = data.StructLayout({"valid": 1} | {k: step[k].shape() for k in fields} | slot)
        # Second operand being read; steps that have it; first operand being read; both there;
        # partial result; result.
        fetched: Any = Signal(tag)
        ahead: list[Any] = [Signal(tag, name=f"ahead_{n}") for n in range(_AHEAD)]
        both: Any = Signal(tag)
        partial: Any = Signal(tag)
        result: Any = Signal(tag)
        operands: Any = memory.Memory(shape=unsigned(element), depth=_AHEAD, init=[])
        m.submodules.operands = operands
        put = operands.write_port()
        get = operands.read_port(domain="comb")

        # Reading the second operand.
        level = Signal(range(_AHEAD + 1))
        under_way = [fetched, *ahead, both, partial, result]
        stale, go, take = Signal(), Signal(), Signal()
        again, kept, kept_src = Signal(), Signal(), Signal.like(step.src)
        # Operands stand in slots; the newest one may serve several steps.
        newest, fetched_new = Signal(range(_AHEAD)), Signal()
        m.d.comb += [
            stale.eq(Cat(t.valid & (t.dst == step.src) for t in under_way).any()),
            go.eq(self.i.valid & (level + fetched.valid < _AHEAD)),
            # The operand of the step before, unless it has been written since, is still here.
            again.eq(kept & (kept_src == step.src)),
            self.read_src.enable.eq(go & ~step.use_imm & ~stale & ~again),
            self.read_src.address.eq(step.src),
            take.eq(go & (step.use_imm | again | (~stale & self.read_src.grant))),
            self.i.ready.eq(take),
        ]
        m.d.sync += [fetched.valid.eq(take), fetched_new.eq(take & ~step.use_imm & ~again)]
        with m.If(take):
            m.d.sync += [fetched[k].eq(step[k]) for k in fields]
            with m.If(~step.use_imm & ~again):
                m.d.sync += [
                    newest.eq(newest + 1),
                    kept_src.eq(step.src),
                    kept.eq(~step.last & (step.dst != step.src)),
                ]
            with m.Elif(step.last | (step.dst == kept_src)):
                m.d.sync += kept.eq(0)

        # What is read ahead waits here, in a ring.
        head, tail = Signal(range(_AHEAD)), Signal(range(_AHEAD))
        start = Signal()
        next_step: Any = Signal(tag)
        m.d.comb += [
            put.addr.eq(newest),
            put.data.eq(self.read_src.data),
            put.en.eq(fetched_new),
            get.addr.eq(next_step.slot),
        ]
        m.d.sync += level.eq(level + fetched.valid - start)
        with m.Switch(head):
            for n, entry in enumerate(ahead):
                with m.Case(n):
                    m.d.comb += next_step.eq(entry)
                    with m.If(start):
                        m.d.sync += entry.valid.eq(0)
        with m.If(start):
            m.d.sync += head.eq(head + 1)
        with m.If(fetched.valid):
            m.d.sync += tail.eq(tail + 1)
            with m.Switch(tail):
                for n, entry in enumerate(ahead):
                    with m.Case(n):
                        m.d.sync += [entry.eq(fetched), entry.slot.eq(newest)]

        # Reading the first operand.
        second = Signal(lanes)
        yields = Signal()
        m.d.comb += [
            # Where the two reads meet in a bank, the one that is short of lead goes first: then
            # they alternate, and do not meet again.
            yields.eq(
                self.read_src.enable & (level <= 1) & (bank(step.src) == bank(next_step.dst))
            ),
            self.read_dst.enable.eq(
                next_step.valid & ~yields & ~(both.valid & (both.dst == next_step.dst))
            ),
            self.read_dst.address.eq(next_step.dst),
            start.eq(self.read_dst.enable & self.read_dst.grant),
        ]
        m.d.sync += both.valid.eq(start)
        count = self.config.batch * self.config.block
        operand = Signal(lanes)
        m.d.comb += operand.as_value().eq(get.data)
        # A shift to the left is a product with a power of two.
        leftwards = Signal(count)
        with m.If(start):
            m.d.sync += [both[k].eq(next_step[k]) for k in fields]
            for n in range(count):
                y = Signal(32, name=f"operand_{n}")
                left = Signal(name=f"left_{n}")
                amount = Signal(5, name=f"left_amount_{n}")
                m.d.comb += [
                    y.eq(Mux(next_step.use_imm, next_step.imm, operand[n])),
                    left.eq((next_step.alu_op == AluOp.SHR) & y[31]),
                    amount.eq(-y[:5]),
                ]
                m.d.sync += [
                    second[n].eq(Mux(left, Const(1, 32) << amount, y)),
                    leftwards[n].eq(left),
                ]

        # Results that were not in the memory yet when it was read.
        done, old, x = Signal(lanes), Signal(lanes), Signal(lanes)
        from_done, from_old = Signal(), Signal()
        m.d.sync += [
            from_done.eq(partial.valid & (partial.dst == next_step.dst)),
            from_old.eq(result.valid & (result.dst == next_step.dst)),
        ]
        m.d.comb += x.as_value().eq(
            Mux(from_done, done.as_value(), Mux(from_old, old.as_value(), self.read_dst.data))
        )

        # Two stages of computing, the second only for products.
        m.d.sync += partial.valid.eq(both.valid)
        simple, low = Signal(lanes), Signal(lanes)
        crosses = [Signal(data.ArrayLayout(16, count), name=f"cross_{n}") for n in range(2)]
        multiplies = Signal(count)
        with m.If(both.valid):
            m.d.sync += [
                *(partial[k].eq(both[k]) for k in fields),
                multiplies.eq(Mux(both.alu_op == AluOp.MUL, -1, leftwards)),
            ]
            for n in range(count):
                m.d.sync += [
                    simple[n].eq(self._simple(m, n, both.alu_op, x[n], second[n])),
                    low[n].eq(x[n][:16] * second[n][:16]),
                    crosses[0][n].eq(x[n][:16] * second[n][16:]),
                    crosses[1][n].eq(x[n][16:] * second[n][:16]),
                ]
        m.d.sync += result.valid.eq(partial.valid)
        with m.If(partial.valid):
            m.d.sync += [result[k].eq(partial[k]) for k in fields]
            for n in range(count):
                product = low[n] + ((crosses[0][n] + crosses[1][n]) << 16)
                m.d.sync += done[n].eq(Mux(multiplies[n], product, simple[n]))
        with m.If(result.valid):
            m.d.sync += old.eq(done)

        m.d.comb += [
            self.next.valid.eq(partial.valid),
            self.next.address.eq(partial.dst),
            self.write.enable.eq(result.valid),
            self.write.address.eq(result.dst),
            self.write.data.eq(done),
            self.executed.valid.eq(result.valid & result.last),
            self.executed.tag.eq(result.tag),
        ]

        return m

    def _simple(self, m: Module, lane: int, op: Any, x: Any, y: Any) -> Any:
        """Return the result of one lane for every operation but products."""
        # One adder adds and compares; a shift by nothing leaves x for MIN and MAX.
        compares = Signal(name=f"compares_{lane}")
        total = Signal(34, name=f"total_{lane}")
        amount = Signal(5, name=f"amount_{lane}")
        shifted = Signal(32, name=f"shifted_{lane}")
        chosen = Signal(32, name=f"chosen_{lane}")
        less = total[33]
        m.d.comb += [
            compares.eq((op == AluOp.MIN) | (op == AluOp.MAX)),
            total.eq(
                Cat(compares, x, x[31]) + Cat(compares, Cat(y, y[31]) ^ compares.replicate(33))
            ),
            amount.eq(Mux(op == AluOp.SHR, y[:5], 0)),
            shifted.eq(x.as_signed() >> amount),
            chosen.eq(shifted),
        ]
        with m.If(op == AluOp.ADD):
            m.d.comb += chosen.eq(total[1:33])
        with m.Elif(compares & (less ^ (op == AluOp.MIN))):
            m.d.comb += chosen.eq(y)
        return chosen
