"""Convolutions and dense layers on the GEMM core: tiles, weight order, instructions."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.lowering import Layer, Slots, grid, shifted
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.segment import Role, Segment
from ginseng.compiler.backend.stream import Loop, Uops
from ginseng.compiler.backend.tiling import Geometry, Tiling, acc_places, best_tilings
from ginseng.compiler.rescale import Rescale
from ginseng.isa.config import Memory

__all__ = ["lower_linear"]

_ITERATIONS = (1 << 14) - 1
_PAD_LIMIT = 15
#: Tilings that are tried out instruction by instruction after formulae have ranked them.
_TRIALS = 12
_STRIDE_LIMIT = (1 << 16) - 1


@dataclass(frozen=True)
class _Part:
    """A run of one dimension: where it starts, how long it is."""

    begin: int
    size: int


def _parts(extent: int, size: int) -> list[_Part]:
    return [_Part(at, min(size, extent - at)) for at in range(0, extent, size)]


class _Linear:
    """One layer's tiles and instructions."""

    def __init__(
        self,
        layer: Layer,
        geometry: Geometry,
        tiling: Tiling,
        weight: NDArray[np.int8],
        requantise: Requantise,
    ) -> None:
        core = layer.config
        self.layer, self.g, self.t = layer, geometry, tiling
        self.passes, self.vectors = requantise.passes, len(requantise.vectors)
        self.row_parts = _parts(geometry.out_height, tiling.rows)
        self.out_parts = _parts(geometry.out_blocks, tiling.out_blocks)
        self.steps = [
            (c, k)
            for k in _parts(geometry.kernel[0], tiling.kernel_rows)
            for c in _parts(geometry.in_blocks, tiling.in_blocks)
        ]
        self.weights, self.weight_at = self._pack_weights(weight)
        self.constants = self._pack_constants(requantise.vectors)
        line = geometry.tile_rows(tiling.rows, tiling.kernel_rows) * geometry.pitch
        self.inp = Slots(0, tiling.in_blocks * line, tiling.inp_slots)
        size = tiling.out_blocks * tiling.in_blocks * tiling.kernel_rows * geometry.kernel[1]
        self.wgt = Slots(0, size, tiling.wgt_slots)
        self.acc = Slots.at(acc_places(geometry, tiling, core))
        held = self.vectors * tiling.out_blocks
        self.held = Slots(
            core.depth(Memory.ACC) - tiling.bias_slots * held, held, tiling.bias_slots
        )

    def _pack_weights(
        self, weight: NDArray[np.int8]
    ) -> tuple[Segment, dict[tuple[_Part, _Part, _Part], int]]:
        """Lay weights out tile by tile, so that each LOAD reads one contiguous run."""
        pieces, places, at = [], {}, 0
        for o in self.out_parts:
            for c, k in self.steps:
                piece = weight[
                    o.begin : o.begin + o.size,
                    c.begin : c.begin + c.size,
                    k.begin : k.begin + k.size,
                ]
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
        tiles: Iterator[tuple[_Part, _Part]]
        if self.t.rows_outer:
            tiles = ((r, o) for r in self.row_parts for o in self.out_parts)
        else:
            tiles = ((r, o) for o in self.out_parts for r in self.row_parts)
        for r, o in tiles:
            self._tile(r, o)

    def _tile(self, r: _Part, o: _Part) -> None:
        g = self.g
        area = r.size * g.out_width
        first = True
        acc = -1
        for c, k in self.steps:
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
        self._requantise(o, area, acc)
        plane = g.out_height * g.out_width
        self.layer.store(
            o.begin * plane + r.begin * g.out_width,
            sram=acc,
            rows=o.size,
            cols=area,
            stride=plane,
        )

    def _rows(self, r: _Part, k: _Part) -> tuple[int, int, int, int]:
        """Return what a reduction step reads: first row of the image, rows above, in, below it.

        The first is that of the scratchpad; it lies above the image where rows above are not 0.
        """
        g = self.g
        step = g.row_step(k.size)
        first = r.begin * g.strides[0] - g.padding[0] + k.begin * g.dilation[0]
        count = g.tile_rows(r.size, k.size)
        top = min(count, max(0, -(first // step)))
        real = len(range(first + top * step, min(g.height, first + count * step), step))
        return first, top, real, count - top - real

    def _is_real(self, r: _Part, k: _Part) -> bool:
        """Whether a reduction step reads anything but padding."""
        return self._rows(r, k)[2] > 0

    def _load_inp(self, r: _Part, c: _Part, k: _Part) -> int:
        """Make the input of a reduction step resident."""
        g = self.g
        step = g.row_step(k.size)
        first, top, real, bottom = self._rows(r, k)
        count = top + real + bottom
        base, fresh = self.inp.get((r, c, k))
        if not fresh:
            return base
        source, plane = self.layer.source(), g.height * g.width
        begin = c.begin * plane + (first + top * step) * g.width
        left, right = g.padding[1], g.right
        dense = step == 1 and not (top or bottom or left or right)
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
        for block in range(c.size):
            self.layer.stream.load(
                Memory.INP,
                source,
                begin + block * plane,
                sram=base + block * count * g.pitch,
                rows=real,
                cols=g.width,
                stride=step * g.width,
                pads=(top, bottom, left, right),
            )
        return base

    def _load_wgt(self, o: _Part, c: _Part, k: _Part) -> int:
        base, fresh = self.wgt.get((o, c, k))
        if fresh:
            self.layer.stream.load(
                Memory.WGT,
                self.weights,
                self.weight_at[o, c, k],
                sram=base,
                cols=o.size * c.size * k.size * self.g.kernel[1],
            )
        return base

    def _reset(self, r: _Part, o: _Part, area: int) -> int:
        acc, _ = self.acc.get((r, o))
        self.layer.stream.gemm(Uops.one(acc), Loop(o.size, dst=area), Loop(area, dst=1), reset=True)
        return acc

    def _gemm(self, r: _Part, o: _Part, c: _Part, k: _Part, acc: int, inp: int, wgt: int) -> None:
        """Emit one reduction step: two of its six dimensions are loops, the rest micro-ops."""
        g = self.g
        pitch, kx = g.pitch, g.kernel[1]
        block = g.tile_rows(r.size, k.size) * pitch
        down = g.strides[0] // g.row_step(k.size) * pitch
        area = r.size * g.out_width
        # Count and steps of dst, src, wgt. The last varies fastest: output blocks, so that
        # successive micro-ops add to different accumulators.
        dims = [
            (r.size, g.out_width, down, 0),
            (g.out_width, 1, g.strides[1], 0),
            (c.size, 0, block, k.size * kx),
            (k.size, 0, g.dilation[0] * pitch, kx),
            (kx, 0, g.dilation[1], 1),
            (o.size, area, 0, c.size * k.size * kx),
        ]
        outer, inner = self._loops(dims)
        rest = [d for n, d in enumerate(dims) if n not in (outer, inner)]
        self.layer.stream.gemm(
            shifted(grid(*rest), dst=acc, src=inp, wgt=wgt), Loop(*dims[outer]), Loop(*dims[inner])
        )

    def _loops(self, dims: list[tuple[int, int, int, int]]) -> tuple[int, int]:
        """Return the two dimensions that leave the fewest micro-ops; the first such pair."""
        core = self.layer.config
        limits = [core.depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT)]
        allowed = [
            n
            for n, (count, *steps) in enumerate(dims)
            if count <= _ITERATIONS and all(s < m for s, m in zip(steps, limits, strict=True))
        ]
        return max(
            combinations(allowed, 2), key=lambda p: (dims[p[0]][0] * dims[p[1]][0], -p[0], -p[1])
        )

    def _requantise(self, o: _Part, area: int, acc: int) -> None:
        """Turn sums into results: ALU passes with one and the same walk."""
        stream, loops = self.layer.stream, (Loop(o.size, dst=area, src=1), Loop(area, dst=1))
        held = acc
        if self.constants is not None:
            held, fresh = self.held.get(o)
            if fresh:
                first, count = self.vectors * o.begin, self.vectors * o.size
                stream.load(Memory.ACC, self.constants, first, sram=held, cols=count)
        for step in self.passes:
            uops = Uops.one(acc, held + step.vector * o.size)
            stream.alu(step.op, uops, *loops, imm=step.imm)


def lower_linear(
    layer: Layer,
    *,
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    rescale: Rescale,
    clip: tuple[int, int],
    extents: tuple[tuple[int, int, int], tuple[int, int, int]],
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> None:
    """Emit ``clip(rescale(conv(x, weight) + bias))``.

    Parameters
    ----------
    layer : Layer
        Where to emit.
    weight : int8 array
        Of shape (out, in, kernel height, kernel width).
    bias : int32 array
        Of shape (out,).
    rescale : Rescale
        From sums to results.
    clip : tuple of int
        Least and greatest result.
    extents : tuple
        Channels, height and width of input and output.
    strides, dilation : tuple of int
        Down, across.
    padding : tuple of int
        Top, left, bottom, right.

    Raises
    ------
    CompilerError
        If one row of the image does not fit the buffers, or the padding its field.

    """
    core = layer.config
    (channels, height, width), (outputs, out_height, out_width) = extents
    if max(padding) > _PAD_LIMIT:
        raise layer.node.refuse(
            f"its padding {padding} exceeds {_PAD_LIMIT} pixels; crop the kernel's empty border, "
            "or pad the input"
        )
    requantise = Requantise(core, layer.blocks(outputs), bias, rescale, clip)
    geometry = Geometry(
        in_blocks=layer.blocks(channels),
        out_blocks=layer.blocks(outputs),
        height=height,
        width=width,
        out_height=out_height,
        out_width=out_width,
        kernel=weight.shape[2:],
        strides=strides,
        padding=padding,
        dilation=dilation,
        passes=len(requantise.passes),
        vectors=len(requantise.vectors),
    )
    if geometry.right > _PAD_LIMIT:
        raise layer.node.refuse(
            f"it reads {geometry.right} columns beyond the image; pad the input"
        )
    layer.fits(geometry.pitch, Memory.INP, "one image row")
    layer.fits(out_width + geometry.vectors, Memory.ACC, "one row of results")
    tilings = best_tilings(geometry, core, layer.model, _TRIALS)
    if not tilings:
        raise layer.node.refuse(
            f"no tiling fits the buffers: one row of {geometry.pitch} pixels, "
            f"{weight.shape[3]} columns of weights; use smaller images or kernels, or a build with "
            "larger buffers"
        )
    block = core.block
    shape = (geometry.out_blocks * block, geometry.in_blocks * block)
    full = np.zeros((*shape, *weight.shape[2:]), np.int8)
    full[: weight.shape[0], : weight.shape[1]] = weight
    blocked = full.reshape(
        geometry.out_blocks, block, geometry.in_blocks, block, *weight.shape[2:]
    ).transpose(0, 2, 4, 5, 1, 3)

    def emit(tiling: Tiling, target: Layer) -> None:
        _Linear(target, geometry, tiling, blocked, requantise).emit()

    emit(layer.choose(geometry, tilings, emit), layer)
