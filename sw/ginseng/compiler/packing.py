"""First layers with few channels: the owner packs its image so that more lanes have work.

An image of three channels fills 3 of the 16 lanes of a block. Whoever seals it may as well lay
neighbouring pixels into the other lanes: the tensor becomes no longer, and the kernel smaller.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

import numpy as np

from ginseng.compiler.operators.conv2d import FloatConv2d
from ginseng.program import OwnerStep

__all__ = ["pack_first"]

#: Of a block in every published build; one with fewer still computes the same.
_LANES: Final = 16


def pack_first(node: FloatConv2d, image: Sequence[int]) -> OwnerStep | None:
    """Change ``node``, which alone reads an input, to read it packed.

    With a stride every pixel of a cell as large as the stride gets channels of its own; without
    one the columns that the kernel looks at do. Both as far as they fit a block.

    Parameters
    ----------
    node : FloatConv2d
        Its weights, strides and padding change.
    image : sequence of int
        Channels, height and width of the input.

    Returns
    -------
    OwnerStep or None
        How to pack; None if nothing is gained, and nothing was changed.

    """
    channels, height, _ = image
    outputs, _, *kernel = node.weight.shape
    if node.groups != 1 or node.dilation != (1, 1):
        return None
    if node.strides != (1, 1) and channels * node.strides[0] * node.strides[1] <= _LANES:
        # Cells begin where the kernel does: padding becomes part of the packed image.
        steps = cell = node.strides
        origin = (node.padding[0], node.padding[1])
        size = [ceil(kernel[n] / cell[n]) for n in (0, 1)]
        weight = np.zeros((outputs, channels, size[0] * cell[0], size[1] * cell[1]))
        weight[:, :, : kernel[0], : kernel[1]] = node.weight
        split = weight.reshape(outputs, channels, size[0], cell[0], size[1], cell[1])
        node.weight = split.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, -1, *size)
        node.strides, node.padding = (1, 1), (0, 0, 0, 0)
        packed = (node.shape[1] - 1 + size[0], node.shape[2] - 1 + size[1])
    elif node.strides == (1, 1) and kernel[1] > 1 and channels * kernel[1] <= _LANES:
        cell = (1, kernel[1])
        split = node.weight.transpose(0, 3, 1, 2)
        node.weight = split.reshape(outputs, -1, kernel[0], 1)
        packed, steps, origin = (height, node.shape[2]), (1, 1), (0, node.padding[1])
        node.padding = (node.padding[0], 0, node.padding[2], 0)
    else:
        return None
    return OwnerStep(
        op="windows",
        before=tuple(image),
        after=(channels * cell[0] * cell[1], *packed),
        kernel=cell,
        strides=steps,
        origin=origin,
    )
