"""What a tiled convolution or dense layer emits, tile by tile."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.border import Border
from ginseng.compiler.backend.instruction import Loop, Uops
from ginseng.compiler.backend.lowering import Layer, Slots, grid, product, shifted
from ginseng.compiler.backend.parts import Part, Stripe, parts, phases
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.segment import Role, Segment
from ginseng.compiler.backend.tiling import Geometry, Tiling, acc_places
from ginseng.isa.config import Memory
from ginseng.isa.insn import AluOp

__all__ = ["LinearTiles"]

_ITERATIONS = (1 << 14) - 1
_PAD_LIMIT = 15
_STRIDE_LIMIT = (1 << 16) - 1

#: Count, and the steps of destination, source and weight.
_Dim = tuple[int, int, int, int]


class LinearTiles:
    """Tiles and instructions of one layer, or of a stripe of it."""

    def __init__(
        self,
        layer: Layer,
        geometry: Geometry,
        tiling: Tiling,
        weight: NDArray[np.int8],
        requantise: Requantise,
        border: Border,
        stripe: Stripe,
    ) -> None:
        core = layer.config
        self.stripe = stripe
        self.layer, self.g, self.t, self.border = layer, geometry, tiling, border
        self.requantise, self.vectors = requantise, len(requantise.vectors)
        self.row_parts = parts(geometry.out_height, tiling.rows)
        self.out_parts = parts(geometry.out_blocks, tiling.out_blocks)
        self._known_pairs: dict[tuple[Part, Part], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self.steps = {o: self._steps(o) for o in self.out_parts}
        self.weights, self.weight_at = self._pack_weights(weight)
        self.constants = self._pack_constants(requantise.vectors)
        line = geometry.tile_rows(tiling.rows, tiling.kernel_rows) * geometry.pitch
        self.inp = Slots(0, tiling.in_blocks * line, tiling.inp_slots)
        pairs = max(len(self._pairs(o, c)[0]) for o in self.out_parts for c, _ in self.steps[o])
        size = pairs * tiling.kernel_rows * geometry.kernel[1]
        self.wgt = Slots(0, size, tiling.wgt_slots)
        places = acc_places(geometry, tiling, core)
        self.acc = Slots.at(places)
        self.copy = max(places) + tiling.rows * geometry.out_width * tiling.out_blocks
        held = self.vectors * tiling.out_blocks
        self.held = Slots(
            core.depth(Memory.ACC) - tiling.bias_slots * held, held, tiling.bias_slots
        )

    def _steps(self, o: Part) -> list[tuple[Part, Part]]:
        """Return the reduction of a tile: input blocks and kernel rows of each step."""
        begin, end = self.g.span(o.begin, o.size)
        return [
            (c, k)
            for k in parts(self.g.kernel[0], self.t.kernel_rows)
            for c in parts(end - begin, self.t.in_blocks, begin)
        ]

    def _pairs(self, o: Part, c: Part) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the output and the input block of each product of a step, from 0 on."""
        if (o, c) in self._known_pairs:
            return self._known_pairs[o, c]
        pairs = [
            (n, block - c.begin)
            for n, (begin, end) in enumerate(self.g.spans[o.begin : o.begin + o.size])
            for block in range(max(begin, c.begin), min(end, c.begin + c.size))
        ]
        out, inp = np.array(pairs, np.int64).T
        self._known_pairs[o, c] = out, inp
        return out, inp

    def _pack_weights(
        self, weight: NDArray[np.int8]
    ) -> tuple[Segment, dict[tuple[Part, Part, Part], int]]:
        """Lay weights out tile by tile, so that each LOAD reads one contiguous run."""
        pieces, places, at = [], {}, 0
        for o in self.out_parts:
            for c, k in self.steps[o]:
                out, inp = self._pairs(o, c)
                piece = weight[o.begin + out, c.begin + inp, k.begin : k.begin + k.size]
                places[o, c, k] = at
                pieces.append(piece.reshape(-1, *weight.shape[-2:]))
                at += len(pieces[-1])
        return self.layer.constant(Role.WEIGHTS, np.concatenate(pieces)), places

    def _pack_constants(self, vectors: NDArray[np.int32]) -> Segment | None:
        """Lay constants out tile by tile, vector by vector."""
        if not self.vectors:
            return None
        pieces = [vectors[:, o.begin : o.begin + o.size].ravel() for o in self.out_parts]
        return self.layer.constant(Role.BIASES, np.concatenate(pieces))

    def emit(self) -> None:
        """Emit every tile."""
        tiles: Iterator[tuple[Part, Part]]
        if self.t.rows_outer:
            tiles = ((r, o) for r in self.row_parts for o in self.out_parts)
        else:
            tiles = ((r, o) for o in self.out_parts for r in self.row_parts)
        for r, o in tiles:
            self._tile(r, o)

    def _tile(self, r: Part, o: Part) -> None:
        g = self.g
        area = r.size * g.out_width
        first = True
        acc = -1
        for c, k in self.steps[o]:
            if not self._is_real(r, k):
                continue
            # Weights first: they wait for no earlier layer.
            wgt = self._load_wgt(o, c, k)
            inp = self._load_inp(r, c, k)
            if first:
                acc = self._reset(r, o, area)
                first = False
            self._gemm(r, o, c, k, acc, inp, wgt)
        if first:
            # Every input row of this tile is padding.
            acc = self._reset(r, o, area)
        self._requantise(r, o, acc)
        whole = self.stripe.out_width
        plane = g.out_height * whole
        begin = o.begin * plane + r.begin * whole + self.stripe.output
        if g.out_width == whole:
            self.layer.store(begin, sram=acc, rows=o.size, cols=area, stride=plane)
            return
        for n in range(o.size):
            self.layer.store(
                begin + n * plane, sram=acc + n * area, rows=r.size, cols=g.out_width, stride=whole
            )

    def _rows(self, r: Part, k: Part) -> tuple[int, int]:
        """Return the first image row that a step meets, and how many it takes."""
        g, up = self.g, self.g.upsample[0]
        first = r.begin * g.strides[0] - g.padding[0] + k.begin * g.dilation[0]
        last = first + (r.size - 1) * g.strides[0] + (k.size - 1) * g.dilation[0]
        first = -(-first // up)
        return first, max(0, (last // up - first) // g.row_step(k.size) + 1)

    def _pads(self, r: Part, k: Part) -> tuple[int, int, int]:
        """Return how many of these rows lie above the image, in it, and below it."""
        g = self.g
        step = g.row_step(k.size)
        first, count = self._rows(r, k)
        top = min(count, max(0, -(first // step)))
        real = len(range(first + top * step, min(g.height, first + count * step), step))
        return top, real, count - top - real

    def _is_real(self, r: Part, k: Part) -> bool:
        """Whether a reduction step reads anything but padding."""
        return self._pads(r, k)[1] > 0

    def _load_inp(self, r: Part, c: Part, k: Part) -> int:
        """Make the input of a reduction step resident."""
        g = self.g
        step = g.row_step(k.size)
        first, count = self._rows(r, k)
        top, real, bottom = self._pads(r, k)
        base, fresh = self.inp.get((r, c, k))
        if not fresh:
            return base
        source, line = self.layer.source(), self.stripe.width
        plane = g.height * line
        begin = c.begin * plane + (first + top * step) * line + self.stripe.column
        left, right = g.left, g.right
        dense = step == 1 and g.width == line and not (top or bottom or left or right)
        if dense and real * g.width <= _STRIDE_LIMIT and (c.size == 1 or plane <= _STRIDE_LIMIT):
            self.layer.stream.load(
                Memory.INP,
                source,
                begin,
                sram=base,
                rows=c.size,
                cols=real * g.width,
                stride=plane,
            )
            return base
        if max(top, bottom, left, right) > _PAD_LIMIT:
            # More than a LOAD can pad: clear everything, then place row by row.
            self.layer.stream.clear(source, sram=base, count=c.size * count * g.pitch)
            for block, row in np.ndindex(c.size, real):
                self.layer.stream.load(
                    Memory.INP,
                    source,
                    begin + block * plane + row * step * line,
                    sram=base + (block * count + top + row) * g.pitch + left,
                    cols=g.width,
                )
            return base
        for block in range(c.size):
            self.layer.stream.load(
                Memory.INP,
                source,
                begin + block * plane,
                sram=base + block * count * g.pitch,
                rows=real,
                cols=g.width,
                stride=step * line,
                pads=(top, bottom, left, right),
            )
        return base

    def _load_wgt(self, o: Part, c: Part, k: Part) -> int:
        base, fresh = self.wgt.get((o, c, k))
        if fresh:
            self.layer.stream.load(
                Memory.WGT,
                self.weights,
                self.weight_at[o, c, k],
                sram=base,
                cols=len(self._pairs(o, c)[0]) * k.size * self.g.kernel[1],
            )
        return base

    def _reset(self, r: Part, o: Part, area: int) -> int:
        acc, _ = self.acc.get((r, o))
        self.layer.stream.gemm(Uops.one(acc), Loop(o.size, dst=area), Loop(area, dst=1), reset=True)
        return acc

    def _gemm(self, r: Part, o: Part, c: Part, k: Part, acc: int, inp: int, wgt: int) -> None:
        """Emit one reduction step: two of its dimensions are loops, the rest micro-ops."""
        g = self.g
        pitch, kx = g.pitch, g.kernel[1]
        first, count = self._rows(r, k)
        step, area, taps = g.row_step(k.size), r.size * g.out_width, k.size * kx
        out, blocks = self._pairs(o, c)
        pairs = Uops(out * area, blocks * count * pitch, np.arange(len(out)) * taps)
        first_pair = Uops(pairs.dst[:1], pairs.src[:1], pairs.wgt[:1])
        deep, wide = self._pair_dims(o, c, pairs, area, count * pitch, taps)
        for y in phases(g, 0, r, k):
            for x in phases(g, 1, Part(0, g.out_width), Part(0, kx)):
                # Count and steps of dst, src, wgt. The last varies fastest: output blocks, so
                # that successive micro-ops add to different accumulators.
                dims = [
                    (
                        y.outputs,
                        y.output_step * g.out_width,
                        y.output_pixels // step * pitch,
                        0,
                    ),
                    (x.outputs, x.output_step, x.output_pixels, 0),
                    *deep,
                    (y.taps, 0, y.tap_pixels * pitch, y.tap_step * kx),
                    (x.taps, 0, x.tap_pixels, x.tap_step),
                    *wide,
                ]
                if g.is_brief:
                    # Columns last, and not as a loop if others can be.
                    dims.append(dims.pop(1))
                outer, inner = self._loops(dims, len(dims) - 1 if g.is_brief else None)
                uops = grid(*(d for n, d in enumerate(dims) if n not in (outer, inner)))
                # What the dimensions of the pairs leave out: their first, or all of them.
                uops = product(uops, first_pair if wide else pairs)
                uops = shifted(
                    uops,
                    dst=acc + y.output * g.out_width + x.output,
                    src=inp + (y.pixel - first) // step * pitch + x.pixel + g.left,
                    wgt=wgt + y.tap * kx + x.tap,
                )
                self.layer.stream.gemm(uops, Loop(*dims[outer]), Loop(*dims[inner]))

    def _pair_dims(
        self, o: Part, c: Part, pairs: Uops, area: int, block: int, taps: int
    ) -> tuple[list[_Dim], list[_Dim]]:
        """Return the pairs of blocks as dimensions, input and output; none if irregular."""
        count = len(pairs.dst)
        if count == o.size * c.size:
            return [(c.size, 0, block, taps)], [(o.size, area, 0, c.size * taps)]
        steps = [np.unique(np.diff(index)) for index in (pairs.dst, pairs.src, pairs.wgt)]
        if all(len(s) == 1 and s[0] >= 0 for s in steps):
            dst, src, wgt = (int(s[0]) for s in steps)
            return [], [(count, dst, src, wgt)]
        return [], []

    def _loops(self, dims: list[_Dim], last: int | None = None) -> tuple[int, int]:
        """Return the two dimensions that leave the fewest micro-ops, the first such pair.

        Dimension ``last`` is taken only where there are no two others.
        """
        core = self.layer.config
        limits = [core.depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT)]
        allowed = [
            n
            for n, (count, *steps) in enumerate(dims)
            if count <= _ITERATIONS and all(s < m for s, m in zip(steps, limits, strict=True))
        ]
        return max(
            combinations(allowed, 2),
            key=lambda p: (last not in p, dims[p[0]][0] * dims[p[1]][0], -p[0], -p[1]),
        )

    def _requantise(self, r: Part, o: Part, acc: int) -> None:
        """Turn sums into results: ALU passes with one and the same walk."""
        stream, area = self.layer.stream, r.size * self.g.out_width
        held = acc
        if self.constants is not None:
            held, fresh = self.held.get(o)
            if fresh:
                first, count = self.vectors * o.begin, self.vectors * o.size
                stream.load(Memory.ACC, self.constants, first, sram=held, cols=count)
        self.requantise.emit(
            stream,
            sums=acc,
            copy=self.copy,
            constants=held,
            blocks=o.size,
            area=area,
            add_regions=lambda src: self._add_regions(r, o, acc, src),
        )

    def _add_regions(self, r: Part, o: Part, acc: int, src: int) -> None:
        """Add to each region of the border its vector of biases, which start at ``src``."""
        width, area = self.g.out_width, r.size * self.g.out_width
        for region in self.border.regions(r.begin, r.size):
            dims = [
                (region.rows, width, 0, 0),
                (region.columns, 1, 0, 0),
                (o.size, area, 1, 0),
            ]
            outer, inner = self._loops(dims)
            uops = shifted(
                grid(*(d for n, d in enumerate(dims) if n not in (outer, inner))),
                dst=acc + (region.row - r.begin) * width + region.column,
                src=src + region.vector * o.size,
            )
            self.layer.stream.alu(AluOp.ADD, uops, Loop(*dims[outer]), Loop(*dims[inner]))
