"""Matrix product of one GEMM step: one input element by one weight element (spec. §6)."""

from typing import Any

from amaranth import Cat, Const, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig

__all__ = ["Dot", "dot_latency", "sums_layout"]


def dot_latency(config: CoreConfig) -> int:
    """Return the cycles from operands to sums: operands, products, levels, correction."""
    return 3 + config.log_block


def _operand(rows: int, columns: int) -> data.ArrayLayout:
    return data.ArrayLayout(data.ArrayLayout(signed(8), columns), rows)


def sums_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return the sums ``[batch][block]``, exact."""
    total = signed(16 + config.log_block)
    return data.ArrayLayout(data.ArrayLayout(total, config.block), config.batch)


class Dot(wiring.Component):
    """Multiplies ``inp[batch][k]`` by ``wgt[j][k]`` and sums over ``k``, exactly.

    One product of matrices per cycle, `dot_latency` cycles after ``valid``; without ``valid``
    registers keep their contents. Every level of the sum has a register, which keeps each of its
    adders a carry chain of its own.

    Parameters
    ----------
    config : CoreConfig
        Extents.
    packed : bool
        Whether two products share one multiplier of 25 by 18 bits (a DSP48): the weights of two
        columns stand side by side, 16 bits apart, the lower one raised by 128 so that it has no
        sign, and 2**15 is added, so that the lower product does not borrow from the upper one.
        What the lower column has too much is 128 times the sum of the inputs, taken off at the
        end. Halves the multipliers; same sums.

    """

    def __init__(self, config: CoreConfig, *, packed: bool = False) -> None:
        self.config = config
        self.packed = packed and config.block > 1
        super().__init__(
            {
                #: In: operands.
                "valid": In(1),
                "inp": In(_operand(config.batch, config.block)),
                "wgt": In(_operand(config.block, config.block)),
                #: Out: sums of the operands of `dot_latency` cycles ago.
                "sums": Out(sums_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        batch, block = self.config.batch, self.config.block
        inp, wgt = Signal.like(self.inp), Signal.like(self.wgt)
        # What each stage holds is worth keeping: operands, products, levels of the sum.
        valid = [self.valid]
        for n in range(dot_latency(self.config) - 1):
            moved = Signal(name=f"valid_{n}")
            m.d.sync += moved.eq(valid[-1])
            valid.append(moved)
        with m.If(valid[0]):
            m.d.sync += [inp.eq(self.inp), wgt.eq(self.wgt)]

        terms: dict[tuple[int, int], list[Any]] = {}
        delayed = Signal.like(inp)
        with m.If(valid[1]):
            m.d.sync += delayed.eq(inp)
            for b in range(batch):
                for j in range(block):
                    terms[b, j] = []
                for k in range(block):
                    for j in range(0, block, 2) if self.packed else ():
                        both = Signal(signed(32), name=f"products_{b}_{j}_{k}")
                        low = Cat(wgt[j][k][:7], ~wgt[j][k][7])
                        pair = Cat(low, Const(0, 8), wgt[j + 1][k].as_unsigned()).as_signed()
                        m.d.sync += both.eq(pair * inp[b][k] + (1 << 15))
                        terms[b, j].append(both[:16])
                        terms[b, j + 1].append(both[16:].as_signed())
                    # The sum of the inputs of a row, as one more column.
                    if self.packed:
                        terms.setdefault((b, -1), []).append(delayed[b][k])
                    for j in range(block) if not self.packed else ():
                        one = Signal(signed(16), name=f"product_{b}_{j}_{k}")
                        m.d.sync += one.eq(wgt[j][k] * inp[b][k])
                        terms[b, j].append(one)

        for level in range(self.config.log_block):
            with m.If(valid[2 + level]):
                for (b, j), old in terms.items():
                    new: list[Any] = []
                    shape = unsigned if self.packed and j >= 0 and j % 2 == 0 else signed
                    for k, (x, y) in enumerate(zip(old[::2], old[1::2], strict=True)):
                        total = Signal(shape(17 + level), name=f"sum_{b}_{j}_{level}_{k}")
                        m.d.sync += total.eq(x + y)
                        new.append(total)
                    terms[b, j] = new
        with m.If(valid[-1]):
            for b in range(batch):
                for j in range(block):
                    found: Any = terms[b, j][0]
                    excess: Any = 0
                    if self.packed and j % 2 == 0:
                        # All the 2**15 together are half the range: the sign bit, flipped.
                        found = Cat(found[:-1], ~found[-1]).as_signed()
                        excess = terms[b, -1][0] << 7
                    m.d.sync += self.sums[b][j].eq(found - excess)

        return m
