"""Tilings of a convolution: which fit the buffers, and which one costs least."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import lcm, prod

from ginseng.compiler.backend.cost import CostModel
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import INSN_BYTES, UOP_BYTES

__all__ = ["Geometry", "Tiling", "acc_places", "best_tilings", "neighbours", "splits"]

_FACTOR_LIMIT = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A convolution in elements: channels are counted in blocks.

    ``passes`` ALU passes over the results follow it, which read ``vectors`` constants per channel
    and need ``copies`` areas beside the results.

    Attributes
    ----------
    upsample : tuple of int
        Down, across: the image counts as spread by these factors, with zeros between its pixels;
        strides, padding and dilation are in spread pixels.
    spans : tuple of (int, int)
        For each output block, the first input block that it reads and the one after the last.

    """

    in_blocks: int
    out_blocks: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    passes: int
    vectors: int
    copies: int
    upsample: tuple[int, int]
    spans: tuple[tuple[int, int], ...]

    @property
    def pitch(self) -> int:
        """Elements of an input row in the scratchpad: the image's, and its padding's."""
        return self.left + self.width + self.right

    @property
    def left(self) -> int:
        """Columns of padding on the left that some output reads."""
        return self.padding[1] // self.upsample[1]

    @property
    def right(self) -> int:
        """Columns of padding on the right that some output reads."""
        reach = (self.out_width - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilation[1]
        return max(0, (reach - self.padding[1]) // self.upsample[1] + 1 - self.width)

    @property
    def steps(self) -> int:
        """GEMM micro-ops."""
        area = self.out_height * self.out_width
        pairs = sum(end - begin for begin, end in self.spans)
        return area * pairs * self.kernel[0] * self.kernel[1] // prod(self.upsample)

    @cached_property
    def is_dense(self) -> bool:
        """Whether every output block reads every input block."""
        return all(span == (0, self.in_blocks) for span in self.spans)

    @cached_property
    def is_brief(self) -> bool:
        """Whether the ALU has about as much to do as GEMM, so that they meet in every half of ACC.

        GEMM then changes banks with every step: columns are micro-ops, and the fastest.
        """
        return self.steps < 2 * self.passes * self.out_height * self.out_width * self.out_blocks

    def span(self, begin: int, size: int) -> tuple[int, int]:
        """Return which input blocks ``size`` output blocks read together: first, and after last."""
        spans = self.spans[begin : begin + size]
        return min(s[0] for s in spans), max(s[1] for s in spans)

    def reach(self, out_blocks: int) -> int:
        """Return the most input blocks that a tile of ``out_blocks`` output blocks reads."""
        if self.is_dense:
            return self.in_blocks
        spans = (self.span(at, out_blocks) for at in range(0, self.out_blocks, out_blocks))
        return max(end - begin for begin, end in spans)

    def pairs(self, out_blocks: int) -> int:
        """Return the most pairs of output and input block that such a tile multiplies."""
        if self.is_dense:
            return out_blocks * self.in_blocks
        sizes = [end - begin for begin, end in self.spans]
        return max(sum(sizes[at : at + out_blocks]) for at in range(0, self.out_blocks, out_blocks))

    def row_step(self, kernel_rows: int) -> int:
        """Image rows between two loaded rows: with one kernel row, only those that it meets."""
        return self.strides[0] if kernel_rows == 1 and self.upsample[0] == 1 else 1

    def tile_rows(self, rows: int, kernel_rows: int) -> int:
        """Most rows in the scratchpad for ``rows`` output rows and ``kernel_rows`` kernel rows."""
        reach = (rows - 1) * self.strides[0] + (kernel_rows - 1) * self.dilation[0]
        return reach // (self.upsample[0] * self.row_step(kernel_rows)) + 1


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a convolution is cut.

    Attributes
    ----------
    rows, out_blocks : int
        Output rows and channel blocks of a tile; rows are always whole.
    in_blocks, kernel_rows : int
        Input blocks and kernel rows of one reduction step; partial sums stay in ACC.
    rows_outer : bool
        Whether the loop over rows is the outer one.
    inp_slots, wgt_slots, acc_slots : int
        Areas of each buffer; with two or more, loads overlap the work on another one.
    bias_slots : int

    """

    rows: int
    out_blocks: int
    in_blocks: int
    kernel_rows: int
    rows_outer: bool
    inp_slots: int
    wgt_slots: int
    acc_slots: int
    bias_slots: int


def splits(extent: int) -> list[int]:
    """Return the sizes that cut ``extent`` into equal parts, the last one shorter; descending."""
    return sorted({-(-extent // parts) for parts in range(1, extent + 1)}, reverse=True)


def _count(extent: int, size: int) -> int:
    return -(-extent // size)


def _kernel(g: Geometry, rows: int, out_blocks: int, in_blocks: int, kernel_rows: int) -> int:
    """Return the micro-ops of a tile: its extents without the two longest, which are loops."""
    extents = [rows, g.out_width, kernel_rows, g.kernel[1]]
    pairs = min(g.pairs(out_blocks), out_blocks * in_blocks)
    if g.is_dense:
        extents += [in_blocks, out_blocks]
    if g.is_brief:
        extents.remove(g.out_width)
    least = prod(sorted(extents)[:-2])
    return least * (g.out_width if g.is_brief else 1) * (1 if g.is_dense else pairs)


def acc_places(g: Geometry, t: Tiling, core: CoreConfig) -> list[int]:
    """Return where the tiles of ACC begin, in the order in which they are first used.

    Neighbours in that order lie in different halves as far as constants at the upper end leave
    room: GEMM on one and ALU on the other never share a bank then.
    """
    half = core.depth(Memory.ACC) // 2
    tile = t.rows * g.out_width * t.out_blocks
    held = t.bias_slots * g.vectors * t.out_blocks
    if not g.copies and -(-t.acc_slots // 2) * tile + held <= half:
        return [n % 2 * half + n // 2 * tile for n in range(t.acc_slots)]
    return [n * tile for n in range(t.acc_slots)]


def _tiling(
    g: Geometry,
    core: CoreConfig,
    *,
    out_blocks: int,
    rows: int,
    kernel_rows: int,
    in_blocks: int,
    rows_outer: bool,
) -> Tiling | None:
    """Return the tiling of these extents with as many slots as there is room for, if it fits."""
    acc, inp, wgt = (core.depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT))
    groups, row_tiles = _count(g.out_blocks, out_blocks), _count(g.out_height, rows)
    # Constants of the whole layer stay in ACC unless they would crowd out the tiles.
    bias_slots = groups if g.vectors * g.out_blocks <= acc // 8 else min(groups, 2)
    room = acc - bias_slots * g.vectors * out_blocks
    # GEMM, ALU and STORE work on one each; an even number keeps to the halves.
    acc_slots = min(room // (rows * g.out_width * out_blocks) - g.copies, groups * row_tiles, 4)
    acc_slots = 2 if acc_slots == 3 else acc_slots
    line = in_blocks * g.tile_rows(rows, kernel_rows) * g.pitch
    weights = min(g.pairs(out_blocks), out_blocks * in_blocks) * kernel_rows * g.kernel[1]
    kernel = _kernel(g, rows, out_blocks, in_blocks, kernel_rows)
    if acc_slots < 1 or rows * g.out_width >= _FACTOR_LIMIT:
        return None
    if line > inp or weights > wgt or kernel > core.depth(Memory.UOP):
        return None
    steps = _count(g.reach(out_blocks), in_blocks) * _count(g.kernel[0], kernel_rows)
    wgt_slots = min(groups * steps, wgt // weights)
    if wgt_slots < groups * steps:
        # All of them or just enough to overlap: others only multiply kernels.
        wgt_slots = min(wgt_slots, max(2, steps))
    return Tiling(
        rows=rows,
        out_blocks=out_blocks,
        in_blocks=in_blocks,
        kernel_rows=kernel_rows,
        rows_outer=rows_outer,
        inp_slots=min(row_tiles * steps, inp // line, max(2, steps)),
        wgt_slots=wgt_slots,
        acc_slots=acc_slots,
        bias_slots=bias_slots,
    )


def _tilings(g: Geometry, core: CoreConfig) -> Iterator[Tiling]:
    """Yield every tiling that fits."""
    for out_blocks in splits(g.out_blocks):
        extents = (splits(g.out_height), splits(g.kernel[0]), splits(g.reach(out_blocks)))
        for rows, kernel_rows, in_blocks in product(*extents):
            for rows_outer in (True, False):
                tiling = _tiling(
                    g,
                    core,
                    out_blocks=out_blocks,
                    rows=rows,
                    kernel_rows=kernel_rows,
                    in_blocks=in_blocks,
                    rows_outer=rows_outer,
                )
                if tiling is not None:
                    yield tiling


def neighbours(g: Geometry, core: CoreConfig, t: Tiling) -> list[Tiling]:
    """Return the tilings that differ from ``t`` by one step of one extent, or by the loop order.

    A step is to the next size, or to the next that divides the extent: chunks like equal parts.
    """
    extents = {
        "rows": g.out_height,
        "out_blocks": g.out_blocks,
        "in_blocks": g.reach(t.out_blocks),
        "kernel_rows": g.kernel[0],
    }
    at = {name: getattr(t, name) for name in extents}
    moves: list[dict[str, int]] = []
    for name, extent in extents.items():
        sizes = splits(extent)
        for some in (sizes, [n for n in sizes if extent % n == 0]):
            below = [n for n in some if n < at[name]]
            above = [n for n in some if n > at[name]]
            moves += [
                move for n in (*below[:1], *above[-1:]) if (move := at | {name: n}) not in moves
            ]
    found = [_tiling(g, core, rows_outer=t.rows_outer, **move) for move in moves]
    found.append(_tiling(g, core, rows_outer=not t.rows_outer, **at))
    return [tiling for tiling in found if tiling is not None]


@dataclass(frozen=True, kw_only=True)
class _Loads:
    """How often each operand of a tiling is loaded, and what a load keeps the bus for."""

    inp: int
    inp_cycles: int
    wgt: int
    wgt_cycles: int


def _loads(g: Geometry, t: Tiling, core: CoreConfig, model: CostModel) -> _Loads:
    row_tiles, groups = _count(g.out_height, t.rows), _count(g.out_blocks, t.out_blocks)
    reach, pairs = g.reach(t.out_blocks), g.pairs(t.out_blocks)
    steps = _count(reach, t.in_blocks) * _count(g.kernel[0], t.kernel_rows)
    total = row_tiles * groups * steps
    # Which loads find their tile still there.
    if not g.is_dense:
        inp = total
        wgt = groups * steps if t.wgt_slots >= groups * steps or not t.rows_outer else total
    elif t.rows_outer:
        inp = row_tiles * steps if t.inp_slots >= steps else total
        wgt = groups * steps if t.wgt_slots >= groups * steps else total
    else:
        wgt = groups * steps if t.wgt_slots >= steps else total
        inp = row_tiles * steps if t.inp_slots >= row_tiles * steps else total
    line = g.width * core.element_bytes(Memory.INP)
    rows = min(g.tile_rows(t.rows, t.kernel_rows), g.height)
    dense = g.row_step(t.kernel_rows) == 1
    rows_cycles = model.runs(1, rows * line) if dense else model.runs(rows, line)
    weights = min(pairs, t.out_blocks * t.in_blocks) * t.kernel_rows * g.kernel[1]
    return _Loads(
        inp=inp,
        inp_cycles=t.in_blocks * (rows_cycles + model.beats(model.tag_bytes * rows)),
        wgt=wgt,
        wgt_cycles=model.runs(1, weights * core.element_bytes(Memory.WGT))
        + model.beats(model.tag_bytes),
    )


def _price(g: Geometry, t: Tiling, core: CoreConfig, model: CostModel) -> tuple[int, int, int]:
    """Return cycles, those of the bus, and reduction steps; docs/compiler.md has the formulae."""
    row_tiles, groups = _count(g.out_height, t.rows), _count(g.out_blocks, t.out_blocks)
    reach = g.reach(t.out_blocks)
    steps = _count(reach, t.in_blocks) * _count(g.kernel[0], t.kernel_rows)
    tiles = row_tiles * groups
    loads = _loads(g, t, core, model)
    line = g.out_width * core.element_bytes(Memory.INP)
    store = t.out_blocks * model.runs(1, t.rows * line + model.tag_bytes)
    kernel = _kernel(g, t.rows, t.out_blocks, t.in_blocks, t.kernel_rows)
    kernels = min(tiles * steps, lcm(t.acc_slots * steps, t.inp_slots, t.wgt_slots))
    if kernel * kernels > core.depth(Memory.UOP):
        kernels = tiles * steps
    uops = model.runs(kernels, kernel * UOP_BYTES)
    # A tile's reset, passes and store; a step's two loads and GEMM.
    insns = tiles * (2 + g.passes) + loads.inp * t.in_blocks + loads.wgt + tiles * steps
    bus = loads.inp * loads.inp_cycles + loads.wgt * loads.wgt_cycles + tiles * store + uops
    bus += model.beats(insns * INSN_BYTES)
    # What one tile takes of each unit; those of different tiles overlap as the slots allow.
    area = t.rows * g.out_width * t.out_blocks
    gemm = g.steps // tiles + steps * model.core.compute_issue
    alu = g.passes * area
    drain = model.core.gemm_drain + model.core.alu_drain
    chain = (gemm + alu + store + drain) * tiles // t.acc_slots
    # A lone slot of INP or WGT keeps GEMM waiting for every load into it.
    alone = loads.inp * loads.inp_cycles * (t.inp_slots == 1)
    alone += loads.wgt * loads.wgt_cycles * (t.wgt_slots == 1)
    busiest = max(gemm * tiles + alone, alu * tiles, bus, chain)
    # Before anything is used again, the first pass of the outer loop waits for what it loads.
    inner, per_pass = (groups, loads.wgt) if t.rows_outer else (row_tiles, loads.inp)
    cost = loads.wgt_cycles if t.rows_outer else loads.inp_cycles
    ramp = max(0, per_pass * cost - gemm * inner) if per_pass == inner * steps else 0
    first = loads.inp_cycles + loads.wgt_cycles + 4 * model.memory.latency
    return busiest + ramp + first + alu + store + drain, bus, tiles * steps


@lru_cache(maxsize=256)
def best_tilings(g: Geometry, core: CoreConfig, model: CostModel, count: int) -> tuple[Tiling, ...]:
    """Return cheap tilings, cheapest first, each of another width than the others.

    At most ``count``, none if none fits; with a TEC as many more of equal parts, each of which is
    a chunk. The same arguments give the same tilings every time.
    """
    priced = ((_price(g, t, core, model), n, t) for n, t in enumerate(_tilings(g, core)))
    ordered = [tiling for _, _, tiling in sorted(priced, key=lambda entry: entry[:2])]
    found: dict[Tiling, None] = {}
    for some in (ordered, [t for t in ordered if _is_even(g, t)] if model.protect else []):
        widths: dict[int, Tiling] = {}
        for tiling in some:
            widths.setdefault(tiling.out_blocks, tiling)
            if len(widths) == count:
                break
        found |= dict.fromkeys(widths.values())
    return tuple(found)


def _is_even(g: Geometry, t: Tiling) -> bool:
    """Return whether every part of each extent is as long as the others."""
    parts = (
        (g.out_height, t.rows),
        (g.out_blocks, t.out_blocks),
        (g.reach(t.out_blocks), t.in_blocks),
        (g.kernel[0], t.kernel_rows),
    )
    return not any(extent % part for extent, part in parts)
