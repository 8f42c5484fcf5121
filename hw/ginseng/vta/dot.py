"""Matrix product of one GEMM step: one input element by one weight element (spec. §6)."""

from typing import Any, Final

from amaranth import Cat, Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import CoreConfig

__all__ = ["Dot", "dot_latency", "sums_layout"]

#: Products that multipliers sum among themselves, each handing its sum to the next. Two columns
#: that share multipliers can still be told apart after four (`Dot`), and four pass in 8 ns.
_CHAIN: Final = 4
#: Bits from one column to the other where two share a multiplier.
_FIELD: Final = 16


def _chains(config: CoreConfig) -> int:
    """Return the chains whose sums make up the sum of a column."""
    return max(1, config.block // _CHAIN)


def dot_latency(config: CoreConfig) -> int:
    """Return the cycles from operands to sums: operands, products, chains, at least one level."""
    return 3 + max(1, (_chains(config) - 1).bit_length())


def _operand(rows: int, columns: int) -> data.ArrayLayout:
    return data.ArrayLayout(data.ArrayLayout(signed(8), columns), rows)


def sums_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return the sums ``[batch][block]``, exact."""
    total = signed(16 + config.log_block)
    return data.ArrayLayout(data.ArrayLayout(total, config.block), config.batch)


class Dot(wiring.Component):
    """Multiplies ``inp[batch][k]`` by ``wgt[j][k]`` and sums over ``k``, exactly.

    One product of matrices per cycle, `dot_latency` cycles after ``valid``; without ``valid`` or
    ``zero`` registers keep their contents. The multipliers of up to four ``k`` are a chain (the
    adders of a DSP48 and its cascade); every level of adders behind has a register, which keeps
    each of them a carry chain of its own.

    Parameters
    ----------
    config : CoreConfig
        Extents.
    packed : bool
        Whether two products share one multiplier of 25 by 18 bits (a DSP48): the weights of two
        columns are added, one of them 16 bits up. Halves the multipliers; same sums.

    """

    def __init__(self, config: CoreConfig, *, packed: bool = False) -> None:
        self.config = config
        self.packed = packed and config.block > 1
        super().__init__(
            {
                #: In: operands; or there are none, and their sums count as zero.
                "valid": In(1),
                "zero": In(1),
                "inp": In(_operand(config.batch, config.block)),
                "wgt": In(_operand(config.block, config.block)),
                #: Out: sums of the operands of `dot_latency` cycles ago, but for what is in
                #: ``carries``: it enters the adder that the sum goes to.
                "sums": Out(sums_layout(config)),
                "carries": Out(data.ArrayLayout(data.ArrayLayout(1, config.block), config.batch)),
            }
        )

    def elaborate(self, platform):
        m = Module()

        block = self.config.block
        inp, wgt = Signal.like(self.inp), Signal.like(self.wgt)
        # What each stage holds is worth keeping: operands, products, chains, levels of the sum.
        valid, zero = [self.valid], [self.zero]
        for n in range(dot_latency(self.config) - 1):
            for name, stages in (("valid", valid), ("zero", zero)):
                moved = Signal(name=f"{name}_{n}")
                m.d.sync += moved.eq(stages[-1])
                stages.append(moved)
        with m.If(valid[0]):
            m.d.sync += [inp.eq(self.inp), wgt.eq(self.wgt)]

        per_chain = block // _chains(self.config)
        for b in range(self.config.batch):
            for j in range(0, block, 2 if self.packed else 1):
                # Of each column, the sums of its chains, and whether they are one too little.
                terms: list[list[tuple[Any, Any]]] = [[], []]
                for first in range(0, block, per_chain):
                    xs = [inp[b][k] for k in range(first, first + per_chain)]
                    name = f"{b}_{j}_{first}"
                    lows = [wgt[j][k] for k in range(first, first + per_chain)]
                    if not self.packed:
                        total = self._chain(m, valid, name, xs, lows)
                        terms[0].append((total[:18].as_signed(), Const(0)))
                        continue
                    highs = [wgt[j + 1][k] for k in range(first, first + per_chain)]
                    for column, term in zip(
                        terms, self._pair(m, valid, name, xs, lows, highs), strict=True
                    ):
                        column.append(term)
                for n, found in enumerate(terms):
                    if found:
                        self._sum(m, valid, zero, b, j + n, found)

        return m

    def _chain(self, m: Module, valid: list[Any], name: str, xs: list[Any], ws: list[Any]) -> Any:
        """Return the registered sum of products, as wide as the adders of a DSP48."""
        total: Any = None
        for k, (x, w) in enumerate(zip(xs, ws, strict=True)):
            product = Signal(signed(len(w) + len(x)), name=f"product_{name}_{k}")
            with m.If(valid[1]):
                m.d.sync += product.eq(w * x)
            partial = Signal(signed(48), name=f"partial_{name}_{k}")
            m.d.comb += partial.eq(product if total is None else total + product)
            total = partial
        result = Signal(signed(48), name=f"chain_{name}")
        with m.If(valid[2]):
            m.d.sync += result.eq(total)
        return result

    def _pair(
        self,
        m: Module,
        valid: list[Any],
        name: str,
        xs: list[Any],
        lows: list[Any],
        highs: list[Any],
    ) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Return sums of two columns, each with whether it is one too little.

        The chain gives ``high * 2**16 + low``. ``low`` has 17 bits, as a number with sign but for
        2**16, the product of nothing but -128, which stands for itself. Its upper bit, the carry
        into the upper column, is what that column's lowest bit has too much: it should be the
        parity of the lowest bits' products.
        """
        pairs = []
        for k, (low, high) in enumerate(zip(lows, highs, strict=True)):
            pair = Signal(signed(_FIELD + 9), name=f"pair_{name}_{k}")
            m.d.comb += pair.eq(Cat(Const(0, _FIELD), high).as_signed() + low)
            pairs.append(pair)
        total = self._chain(m, valid, name, xs, pairs)

        # What is known of the operands goes along: the products' stage, the chain's.
        odd: Any = Cat(x[0] & high[0] for x, high in zip(xs, highs, strict=True)).xor()
        extreme: Any = Const(0)
        if len(xs) == _CHAIN:
            # As a sum of such inputs is 2**16 or less than zero, signs tell.
            extreme = Cat(x == -128 for x in xs).all() & Cat(low[-1] for low in lows).all()
        known: Any = Cat(odd, extreme)
        for stage in (1, 2):
            moved = Signal(2, name=f"known_{name}_{stage}")
            with m.If(valid[stage]):
                m.d.sync += moved.eq(known)
            known = moved
        odd, extreme = known[0], known[1]

        carry = Signal(name=f"carry_{name}")
        less = Signal(name=f"less_{name}")
        m.d.comb += [carry.eq(total[_FIELD] ^ odd), less.eq(carry & ~extreme)]
        low = Cat(total[:_FIELD], carry, less).as_signed()
        # 2**16 has made the upper column one more, and even inputs leave its lowest bit 0.
        high = Cat(total[_FIELD] & ~extreme, total[_FIELD + 1 : 2 * _FIELD + 2]).as_signed()
        return (low, Const(0)), (high, less)

    def _sum(
        self,
        m: Module,
        valid: list[Any],
        zero: list[Any],
        b: int,
        j: int,
        terms: list[tuple[Any, Any]],
    ) -> None:
        """Sum the chains of a column; each adder takes in what one of its terms lacks."""
        for level, enable in enumerate(valid[3:]):
            sums = []
            for k in range(0, len(terms), 2):
                (x, lacks), *more = terms[k : k + 2]
                for y, left in more:
                    carried = Cat(lacks, x).as_signed() + Cat(lacks, y).as_signed()
                    x, lacks = carried[1:].as_signed(), left
                total = Signal(signed(len(x)), name=f"sum_{b}_{j}_{level}_{k}")
                rest = Signal(name=f"lacks_{b}_{j}_{level}_{k}")
                with m.If(enable):
                    m.d.sync += [total.eq(x), rest.eq(lacks)]
                if enable is valid[-1]:
                    with m.If(zero[-1]):
                        m.d.sync += [total.eq(0), rest.eq(0)]
                sums.append((total, rest))
            terms = sums
        ((total, lacks),) = terms
        m.d.comb += [self.sums[b][j].eq(total), self.carries[b][j].eq(lacks)]
