"""Matrix product of one GEMM step: one input element by one weight element (spec. §6)."""

from typing import Any

from amaranth import Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig

__all__ = ["DOT_LATENCY", "Dot", "sums_layout"]

#: Cycles from operands to sums.
DOT_LATENCY = 3


def _operand(rows: int, columns: int) -> data.ArrayLayout:
    return data.ArrayLayout(data.ArrayLayout(signed(8), columns), rows)


def sums_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return the sums ``[batch][block]``, exact."""
    total = signed(16 + config.log_block)
    return data.ArrayLayout(data.ArrayLayout(total, config.block), config.batch)


class Dot(wiring.Component):
    """Multiplies ``inp[batch][k]`` by ``wgt[j][k]`` and sums over ``k``, exactly.

    One product of matrices per cycle, `DOT_LATENCY` cycles after ``valid``; without ``valid``
    registers keep their contents.

    Parameters
    ----------
    config : CoreConfig
        Extents.
    packed : bool
        Whether two products share one multiplier of 25 by 18 bits (a DSP48): the weights of two
        columns stand 16 bits apart. A product of int8 has 16 bits, so the upper one is short by
        one where the lower one is negative, which is put right. Halves the multipliers; same sums.

    """

    def __init__(self, config: CoreConfig, *, packed: bool = False) -> None:
        self.config = config
        self.packed = packed
        super().__init__(
            {
                #: In: operands.
                "valid": In(1),
                "inp": In(_operand(config.batch, config.block)),
                "wgt": In(_operand(config.block, config.block)),
                #: Out: sums of the operands of `DOT_LATENCY` cycles ago.
                "sums": Out(sums_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        batch, block = self.config.batch, self.config.block
        inp, wgt = Signal.like(self.inp), Signal.like(self.wgt)
        operands_valid, products_valid = Signal(), Signal()
        m.d.sync += [operands_valid.eq(self.valid), products_valid.eq(operands_valid)]
        with m.If(self.valid):
            m.d.sync += [inp.eq(self.inp), wgt.eq(self.wgt)]

        products: list[list[list[Any]]] = [[[] for _ in range(block)] for _ in range(batch)]
        with m.If(operands_valid):
            for b in range(batch):
                for k in range(block):
                    for j in range(0, block, 2):
                        name = f"product_{b}_{j}_{k}"
                        if self.packed and block > 1:
                            both = Signal(signed(32), name=name)
                            pair = Signal(signed(25), name=f"pair_{b}_{j}_{k}")
                            m.d.comb += pair.eq((wgt[j + 1][k] << 16) + wgt[j][k])
                            m.d.sync += both.eq(pair * inp[b][k])
                            products[b][j].append(both[:16].as_signed())
                            products[b][j + 1].append(both[16:].as_signed() + both[15])
                            continue
                        for column in range(j, min(j + 2, block)):
                            one = Signal(signed(16), name=f"product_{b}_{column}_{k}")
                            m.d.sync += one.eq(wgt[column][k] * inp[b][k])
                            products[b][column].append(one)

        with m.If(products_valid):
            for b in range(batch):
                for j in range(block):
                    m.d.sync += self.sums[b][j].eq(_tree(products[b][j]))

        return m


def _tree(terms: list[Any]) -> Any:
    """Return the sum of ``terms``, as a balanced tree."""
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(terms) // 2 * 2 :]
    return terms[0] if terms else Const(0)
