"""ALU: one step per cycle, exact at any distance of re-use (VTA specification §7)."""

from itertools import pairwise
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig
from ginseng.isa.insn import AluOp
from ginseng.vta.acc import ALU_LATENCY, Claim, ReadAccess, WriteAccess, lanes_layout
from ginseng.vta.scoreboard import Event
from ginseng.vta.walk import ALU_WALK

__all__ = ["Alu"]

#: Where operands are cut in two, so that all four products fit multipliers of 25 by 18 bits.
_CUT = 17
#: What a step takes along to its write.
_TAG = ("dst", "last", "tag", "alu_op")


class Alu(wiring.Component):
    """Reads both operands of each step, computes, writes the first back.

    The second operand is read one step ahead: where it never is in the bank of the first operand
    of the step before, a tensor step takes one cycle, like an immediate one; else two. An operand
    that one of the steps under way writes waits until it is written.

    Every operation is a product and a sum, so that the adders behind the multipliers do all of
    it: what adds or compares multiplies by one, what shifts by a power of two. The lower half of
    the product is one shifted to the left, the upper half one shifted to the right.

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
                #: Out: the first operand back, `ALU_LATENCY` after its read; never refused.
                "write": Out(WriteAccess(config)),
                #: Out: what is written in the next cycle.
                "next": Out(Claim(config)),
                #: Out: the last write of an instruction is made.
                "executed": Out(Event),
            }
        )

    def elaborate(self, platform):
        m = Module()

        step = self.i.payload
        tag = data.StructLayout({"valid": 1} | {k: step[k].shape() for k in _TAG})
        # A step whose first operand is still to be read, then with both, with the lower and with
        # all products, and with its result.
        waiting: Any = Signal(step.shape())
        waits, take, start = Signal(), Signal(), Signal()
        stages: list[Any] = [Signal(tag, name=f"stage_{n}") for n in range(ALU_LATENCY)]
        arrived, multiplied, summed, result = stages
        m.d.sync += [waits.eq(take | (waits & ~start)), arrived.valid.eq(start)]
        with m.If(take):
            m.d.sync += waiting.eq(step)
        with m.If(start):
            m.d.sync += [arrived[k].eq(waiting[k]) for k in _TAG]
        for before, after in pairwise(stages):
            m.d.sync += after.valid.eq(before.valid)
            with m.If(before.valid):
                m.d.sync += [after[k].eq(before[k]) for k in _TAG]

        fetched = self._read(m, waiting, waits, stages, take, start)
        addends, factors, upper = self._second(m, waiting, start, arrived, fetched)

        lanes = lanes_layout(self.config)
        compares = (summed.alu_op == AluOp.MIN) | (summed.alu_op == AluOp.MAX)
        x, late_x, late_addends, done = Signal(lanes), Signal(lanes), Signal(lanes), Signal(lanes)
        late_upper = Signal.like(upper)
        with m.If(arrived.valid):
            m.d.sync += x.as_value().eq(self.read_dst.data)
        with m.If(multiplied.valid):
            m.d.sync += [late_x.eq(x), late_addends.eq(addends), late_upper.eq(upper)]
        for n in range(len(upper)):
            # Products of parts, each added to what is above the part below.
            parts = x[n][:_CUT], x[n][_CUT:].as_signed()
            late_parts = late_x[n][:_CUT], late_x[n][_CUT:].as_signed()
            lowest = Signal(signed(2 * _CUT + 2), name=f"lowest_{n}")
            above, middle = Signal(_CUT, name=f"above_{n}"), Signal(signed(33), name=f"middle_{n}")
            late_factor = Signal(32 - _CUT, name=f"late_factor_{n}")
            cross = Signal(signed(35), name=f"cross_{n}")
            highest = Signal(signed(32), name=f"highest_{n}")
            picks = Signal(name=f"picks_{n}")
            m.d.comb += [
                lowest.eq(parts[0] * factors[n][:_CUT] + addends[n].as_signed()),
                cross.eq(late_parts[0] * late_factor + middle),
                highest.eq(late_parts[1] * late_factor + (cross >> _CUT)),
                # A comparison leaves a negative sum if the first operand is not the greater one.
                picks.eq(
                    Mux(
                        compares,
                        middle[-1] ^ (summed.alu_op == AluOp.MIN),
                        late_upper[n],
                    )
                ),
            ]
            with m.If(multiplied.valid):
                m.d.sync += [
                    above.eq(lowest),
                    middle.eq(parts[1] * factors[n][:_CUT] + (lowest >> _CUT)),
                    late_factor.eq(factors[n][_CUT:]),
                ]
            product = Cat(above, cross[: 32 - _CUT]), Cat(cross[32 - _CUT : _CUT], highest)
            compared = late_x[n], ~late_addends[n]
            with m.If(summed.valid):
                m.d.sync += done[n].eq(
                    Mux(
                        compares,
                        Mux(picks, compared[1], compared[0]),
                        Mux(picks, product[1], product[0]),
                    )
                )

        m.d.comb += [
            self.next.valid.eq(summed.valid),
            self.next.address.eq(summed.dst),
            self.write.enable.eq(result.valid),
            self.write.address.eq(result.dst),
            self.write.data.eq(done),
            self.executed.valid.eq(result.valid & result.last),
            self.executed.tag.eq(result.tag),
        ]

        return m

    def _read(
        self, m: Module, waiting: Any, waits: Any, stages: list[Any], take: Any, start: Any
    ) -> Any:
        """Read operands; return whether a second one is there."""
        step = self.i.payload
        # The second operand of a step is read when the first of the one before is, or later. What
        # is still to be written cannot be read yet: of the first operand, that is known when the
        # step is taken, and moves on with the steps under way.
        needs, stale, kept, kept_src = Signal(), Signal(), Signal(), Signal.like(step.src)
        unwritten, fetched = Signal(len(stages)), Signal()
        writes = [(waits, waiting.dst), *((stage.valid, stage.dst) for stage in stages)]
        m.d.comb += [
            stale.eq(Cat(valid & (dst == step.src) for valid, dst in writes).any()),
            # The operand of the step before, unless it has been written since, is still here.
            needs.eq(~step.use_imm & ~(kept & (kept_src == step.src))),
            self.read_dst.enable.eq(waits & ~unwritten.any()),
            self.read_dst.address.eq(waiting.dst),
            start.eq(self.read_dst.enable & self.read_dst.grant),
            self.read_src.enable.eq(self.i.valid & (~waits | start) & needs & ~stale),
            self.read_src.address.eq(step.src),
            self.i.ready.eq((~waits | start) & (~needs | (~stale & self.read_src.grant))),
            take.eq(self.i.valid & self.i.ready),
        ]
        m.d.sync += [unwritten.eq(unwritten << 1), fetched.eq(take & needs)]
        with m.If(take):
            m.d.sync += unwritten.eq(
                Cat(valid & (dst == step.dst) for valid, dst in writes[: len(stages)])
            )
            with m.If(needs):
                m.d.sync += [kept_src.eq(step.src), kept.eq(~step.last & (step.dst != step.src))]
            with m.Elif(step.last | (step.dst == kept_src)):
                m.d.sync += kept.eq(0)
        return fetched

    def _second(self, m: Module, waiting: Any, start: Any, arrived: Any, fetched: Any) -> Any:
        """Return what each lane adds and multiplies by, and which half of the product it takes."""
        op = waiting.alu_op
        imm = Signal(32)
        adds, compares, shifts = Signal(), Signal(), Signal()
        # The factor of every lane, of an immediate one or if it is always the same.
        shared, shared_factor, shared_upper = Signal(), Signal(32), Signal()
        immediate, use_imm = Signal(32), Signal()
        m.d.comb += imm.eq(waiting.imm)
        with m.If(start):
            m.d.sync += [
                use_imm.eq(waiting.use_imm),
                immediate.eq(imm),
                shared.eq(waiting.use_imm | ((op != AluOp.MUL) & (op != AluOp.SHR))),
                shared_upper.eq((op == AluOp.SHR) & _rightwards(imm)),
                shared_factor.eq(1),
                adds.eq((op != AluOp.MUL) & (op != AluOp.SHR)),
                compares.eq((op == AluOp.MIN) | (op == AluOp.MAX)),
                shifts.eq(op == AluOp.SHR),
            ]
            with m.If(op == AluOp.MUL):
                m.d.sync += shared_factor.eq(imm)
            with m.If(op == AluOp.SHR):
                m.d.sync += shared_factor.eq(_power(*_digits(imm)))

        lanes = lanes_layout(self.config)
        count = self.config.batch * self.config.block
        operand, addends, factors, upper = (
            Signal(lanes),
            Signal(lanes),
            Signal(lanes),
            Signal(count),
        )
        came: Any = Signal(lanes)
        m.d.comb += came.as_value().eq(self.read_src.data)
        for n in range(count):
            # Amounts are decoded as they come.
            ones, fours = Signal(4, name=f"ones_{n}"), Signal(8, name=f"fours_{n}")
            rightwards = Signal(name=f"rightwards_{n}")
            with m.If(fetched):
                m.d.sync += [
                    operand[n].eq(came[n]),
                    Cat(ones, fours).eq(Cat(*_digits(came[n]))),
                    rightwards.eq(_rightwards(came[n])),
                ]
            own = Mux(shifts, _power(ones, fours), operand[n])
            addend = Mux(use_imm, immediate, operand[n]) ^ compares.replicate(32)
            with m.If(arrived.valid):
                m.d.sync += [
                    factors[n].eq(Mux(shared, shared_factor, own)),
                    upper[n].eq(Mux(shared, shared_upper, shifts & rightwards)),
                    addends[n].eq(Mux(adds, addend, 0)),
                ]
        return addends, factors, upper


def _digits(amount: Any) -> tuple[Any, Any]:
    """Return an amount modulo 32 to the base of four: the lower digit and the rest, one-hot."""
    return Cat(amount[:2] == n for n in range(4)), Cat(amount[2:5] == n for n in range(8))


def _power(ones: Any, fours: Any) -> Any:
    """Return ``2**(-amount % 32)``.

    Half of the product with it, the lower one, is the number shifted by ``-amount`` to the left,
    the other one by ``amount`` to the right, except by zero.
    """
    return Cat(fours[-n % 32 // 4] & ones[-n % 4] for n in range(32))


def _rightwards(amount: Any) -> Any:
    return ~amount[31] & (amount[:5] != 0)
