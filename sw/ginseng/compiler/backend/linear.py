"""Convolutions and dense layers on the GEMM core: blocks of weights, stripes, the best tiling."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.backend.border import Axis, Border
from ginseng.compiler.backend.linear_tiles import LinearTiles
from ginseng.compiler.backend.lowering import Layer
from ginseng.compiler.backend.parts import Stripe, parts
from ginseng.compiler.backend.requantise import Requantise
from ginseng.compiler.backend.tiling import Geometry, Tiling, best_tilings, neighbours, splits
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import Slope
from ginseng.isa.config import Memory

__all__ = ["lower_linear"]

#: Tilings from which the search begins, ranked by formulae.
_STARTS = 8


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
    upsample: tuple[int, int] = (1, 1),
    groups: int = 1,
    slope: Slope | None = None,
    pad_value: int = 0,
) -> None:
    """Emit ``clip(slope(rescale(conv(x, weight) + bias)))``.

    Parameters
    ----------
    layer : Layer
        Where to emit.
    weight : int8 array
        Of shape (out, in / groups, kernel height, kernel width).
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
    upsample : tuple of int
        Down, across: how far the image is spread before, with zeros between its pixels.
    groups : int
        Of channels that meet only each other.
    slope : Slope or None
        A leaky rectifier of the results.
    pad_value : int
        What stands in the padding.

    Raises
    ------
    CompilerError
        If one row of the image does not fit the buffers.

    """
    core = layer.config
    (channels, height, width), (outputs, out_height, out_width) = extents
    blocked, spans = _block_weights(layer, weight, channels, groups)
    depths = core.depth(Memory.INP), core.depth(Memory.ACC)

    def stripe(output: int, columns: int) -> tuple[Geometry, Requantise, Border, Stripe]:
        """Return what columns ``output`` to ``output + columns - 1`` of the result take."""
        left = padding[1] - output * strides[1]
        reach = (columns - 1) * strides[1] + (weight.shape[3] - 1) * dilation[1] + 1
        begin, end = (0, width) if columns == out_width else (max(0, -left), reach - left)
        end = min(end, width)
        down, across = (
            Axis(
                outputs=(out_height, columns)[n],
                kernel=weight.shape[2 + n],
                stride=strides[n],
                dilation=dilation[n],
                padding=(padding[0], left)[n],
                extent=(height, width)[n],
            )
            for n in (0, 1)
        )
        border = Border(weight, bias, pad_value, (down, across))
        requantise = Requantise(core, border.biases, rescale, clip, slope=slope)
        geometry = Geometry(
            in_blocks=layer.blocks(channels),
            out_blocks=layer.blocks(outputs),
            height=height,
            width=end - begin,
            out_height=out_height,
            out_width=columns,
            kernel=weight.shape[2:],
            strides=strides,
            padding=(padding[0], max(0, left), *padding[2:]),
            dilation=dilation,
            passes=len(requantise.passes),
            vectors=len(requantise.vectors),
            copies=requantise.copies,
            upsample=upsample,
            spans=spans,
        )
        return geometry, requantise, border, Stripe(begin, output, width, out_width)

    # Whole rows if they fit; else stripes of columns, so narrow that two fit.
    sizes = splits(out_width) if upsample == (1, 1) else [out_width]
    for columns in sizes:
        slots = 1 if columns == out_width else 2
        pieces = [stripe(p.begin, p.size) for p in parts(out_width, columns)]
        if all(
            g.width > 0
            and slots * g.pitch <= depths[0]
            and slots * (1 + g.copies) * g.out_width + g.vectors <= depths[1]
            for g, *_ in pieces
        ):
            break
    else:
        geometry = stripe(0, out_width)[0]
        layer.fits(geometry.pitch, Memory.INP, "one image row")
        layer.fits(
            (1 + geometry.copies) * out_width + geometry.vectors, Memory.ACC, "one row of results"
        )
        raise layer.node.refuse("no part of its rows fits the buffers; use smaller kernels")
    for piece in pieces:
        _lower_part(layer, blocked, *piece)


def _lower_part(
    layer: Layer,
    weight: NDArray[np.int8],
    geometry: Geometry,
    requantise: Requantise,
    border: Border,
    stripe: Stripe,
) -> None:
    """Emit a layer, or a stripe of it, with the best tiling."""

    def emit(tiling: Tiling, target: Layer) -> None:
        LinearTiles(target, geometry, tiling, weight, requantise, border, stripe).emit()

    # Immediates decide nothing but values; regions of the border follow from the geometry.
    passes = tuple(replace(p, imm=None if p.imm is None else 0) for p in requantise.passes)
    tiling = layer.tune(
        (geometry, passes, stripe),
        lambda: best_tilings(geometry, layer.config, layer.model, _STARTS),
        partial(neighbours, geometry, layer.config),
        emit,
    )
    if tiling is None:
        raise layer.node.refuse(
            f"no tiling fits the buffers: one row of {geometry.pitch} pixels, "
            f"{weight.shape[3]} columns of weights; use smaller images or kernels, or a build with "
            "larger buffers"
        )
    emit(tiling, layer)


def _block_weights(
    layer: Layer, weight: NDArray[np.int8], channels: int, groups: int
) -> tuple[NDArray[np.int8], tuple[tuple[int, int], ...]]:
    """Return the weights of every pair of blocks, and which input blocks each output block reads.

    Groups share no weights: what lies outside of the block diagonal is zero and not multiplied,
    but for the rest of a block that a group's border cuts.
    """
    block, outputs = layer.config.block, len(weight)
    inp, out = channels // groups, outputs // groups
    blocks = layer.blocks(outputs), layer.blocks(channels)
    full = np.zeros((blocks[0] * block, blocks[1] * block, *weight.shape[2:]), np.int8)
    for n in range(groups):
        rows = slice(n * out, (n + 1) * out)
        full[rows, n * inp : (n + 1) * inp] = weight[rows]
    spans = []
    for at in range(0, outputs, block):
        last = min(at + block, outputs) - 1
        spans.append((at // out * inp // block, layer.blocks((last // out + 1) * inp)))
    split = full.reshape(blocks[0], block, blocks[1], block, *weight.shape[2:])
    return split.transpose(0, 2, 4, 5, 1, 3), tuple(spans)
