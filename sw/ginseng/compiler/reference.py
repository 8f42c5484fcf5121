"""An independent evaluation of quantised graphs in NumPy: what a device must compute, bit for bit.

It reads `ginseng.compiler.graph` and shares nothing else with the compiler (an import contract
forbids it): the integer semantics are those that each node states in its docstring. The accuracy
report and every test of bit-exactness use it. Samples come first in every array.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.graph import Graph, Node, Value

__all__ = ["evaluate", "evaluate_node"]

Integers = NDArray[np.int64]


def evaluate(
    graph: Graph, samples: Mapping[str, NDArray[np.integer]], *, every_value: bool = False
) -> dict[str, Integers]:
    """Return the outputs of ``graph`` by name, or every value.

    Parameters
    ----------
    graph : Graph
        Any, as `compile_model` or `quantise_model` makes it.
    samples : mapping of str to array
        ``(n, *shape)`` device integers of every input.
    every_value : bool
        Whether to return inputs and intermediates too.

    """
    values: dict[str, Integers] = {name: x.astype(np.int64) for name, x in samples.items()}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        values[node.output.name] = evaluate_node(node, graph.sources(node), operands)
    return values if every_value else {name: values[name] for name in graph.outputs}


def evaluate_node(node: Node, sources: Sequence[Value], operands: Sequence[Integers]) -> Integers:
    """Return what one node makes of its operands, given what these are."""
    images = [x.reshape(-1, *v.extents) for x, v in zip(operands, sources, strict=True)]
    raw = _KINDS[node.kind](node, *images)
    out = np.clip(raw, node.output.lo, node.output.hi)
    return out.reshape(len(out), *node.output.shape)


def _round_shift(value: Integers, shift: int) -> Integers:
    return (value + (1 << shift - 1 if shift else 0)) >> shift


def _rescale(rescale: Any, value: Integers) -> Integers:
    multiplier, offset, shift = (
        np.array(part, np.int64)[:, None, None]
        for part in (rescale.multiplier, rescale.offset, rescale.shift)
    )
    rescaled: Integers = (_round_shift(value, rescale.before) * multiplier + offset) >> shift
    return rescaled


def _requantise(node: Any, value: Integers) -> Integers:
    value = _rescale(node.rescale, value)
    return value if node.slope is None else _bend(node.slope, value)


def _bend(slope: Any, value: Integers) -> Integers:
    multiplier = np.array(slope.multiplier, np.int64)[:, None, None]
    negative = np.maximum(np.minimum(value, 0), -(1 << 15)) * multiplier
    return np.maximum(value, 0) + _round_shift(negative, slope.shift)


def _conv2d(node: Any, x: Integers) -> Integers:
    top, left, bottom, right = node.padding
    border = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(x, border, constant_values=node.pad_value)
    weight = node.weight.astype(np.int64)
    _, height, width = node.output.extents
    acc = np.zeros((len(x), len(weight), height, width), np.int64)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            rows = i * node.dilation[0] + node.strides[0] * np.arange(height)
            columns = j * node.dilation[1] + node.strides[1] * np.arange(width)
            window = padded[:, :, rows][:, :, :, columns]
            split = window.reshape(len(x), node.groups, -1, height, width)
            taps = weight[:, :, i, j].reshape(node.groups, -1, weight.shape[1])
            acc += np.einsum("ngihw,goi->ngohw", split, taps).reshape(acc.shape)
    return _requantise(node, acc + node.bias.astype(np.int64)[:, None, None])


def _conv2d_transpose(node: Any, x: Integers) -> Integers:
    weight = node.weight.astype(np.int64)
    outputs, _, *kernel = weight.shape
    _, height, width = node.output.extents
    # Everything that every pixel adds to, then the part that is kept.
    reach = [
        (extent - 1) * node.strides[n] + (kernel[n] - 1) * node.dilation[n] + 1
        for n, extent in enumerate(x.shape[2:])
    ]
    kept = [node.padding[0] + height, node.padding[1] + width]
    acc = np.zeros((len(x), outputs, *(max(pair) for pair in zip(reach, kept, strict=True))), int)
    split = x.reshape(len(x), node.groups, -1, *x.shape[2:])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            taps = weight[:, :, i, j].reshape(node.groups, -1, weight.shape[1])
            product = np.einsum("ngihw,goi->ngohw", split, taps)
            rows = i * node.dilation[0] + node.strides[0] * np.arange(x.shape[2])
            columns = j * node.dilation[1] + node.strides[1] * np.arange(x.shape[3])
            acc[:, :, rows[:, None], columns] += product.reshape(len(x), outputs, *x.shape[2:])
    acc = acc[:, :, node.padding[0] : kept[0], node.padding[1] : kept[1]]
    return _requantise(node, acc + node.bias.astype(np.int64)[:, None, None])


def _dense(node: Any, x: Integers) -> Integers:
    acc = x.reshape(len(x), -1) @ node.weight.astype(np.int64).T + node.bias
    return _requantise(node, acc[:, :, None, None])


def _add(node: Any, *operands: Integers) -> Integers:
    total = np.full_like(operands[0], node.offset)
    constant = () if node.constant is None else (node.constant.astype(np.int64),)
    terms = (*operands, *constant)
    for term, multiplier in zip(terms, node.multiplier, strict=True):
        total += term * multiplier
    shifted: Integers = total >> node.shift
    return shifted if node.slope is None else _bend(node.slope, shifted)


def _multiply(node: Any, a: Integers, b: Integers) -> Integers:
    return _requantise(node, (a - node.zeros[0]) * (b - node.zeros[1]))


def _concat(node: Any, *operands: Integers) -> Integers:
    parts = [_rescale(r, x) for r, x in zip(node.rescales, operands, strict=True)]
    return np.concatenate(parts, 1)


def _clip(node: Any, x: Integers) -> Integers:
    return x


def _windows(node: Any, x: Integers) -> Any:
    """Yield each output pixel, and which rows and columns its window has, in the image or not."""
    _, height, width = node.output.extents
    dilation = getattr(node, "dilation", (1, 1))
    for pixel in np.ndindex(height, width):
        yield (
            pixel,
            *(
                pixel[n] * node.strides[n]
                - node.padding[n]
                + np.arange(node.kernel[n]) * dilation[n]
                for n in (0, 1)
            ),
        )


def _within(positions: Integers, first: int, end: int) -> Integers:
    return positions[(first <= positions) & (positions < end)]


def _max_pool(node: Any, x: Integers) -> Integers:
    out = np.zeros((*x.shape[:2], *node.output.extents[1:]), np.int64)
    for (i, j), rows, columns in _windows(node, x):
        rows, columns = _within(rows, 0, x.shape[2]), _within(columns, 0, x.shape[3])
        out[:, :, i, j] = x[:, :, rows][:, :, :, columns].max((2, 3))
    return out


def _average_pool(node: Any, x: Integers) -> Integers:
    _, _, height, width = x.shape
    top, left, bottom, right = node.counted
    rescales = dict(zip(node.counts, node.rescales, strict=True))
    out = np.zeros((*x.shape[:2], *node.output.extents[1:]), np.int64)
    for (i, j), rows, columns in _windows(node, x):
        count = len(_within(rows, -top, height + bottom))
        count *= len(_within(columns, -left, width + right))
        window = x[:, :, _within(rows, 0, height)][:, :, :, _within(columns, 0, width)]
        total = (window - node.zero).sum((2, 3))[:, :, None, None]
        out[:, :, i, j] = _rescale(rescales[count], total)[:, :, 0, 0]
    return out


def _global_average_pool(node: Any, x: Integers) -> Integers:
    total = x.sum((2, 3), keepdims=True)
    return _rescale(node.rescale, total + node.bias)


def _argmax(node: Any, x: Integers) -> Integers:
    label = x[:, :, 0, 0].argmax(1)
    low = (label + 128) % 256 - 128
    return np.stack([low, label >> 8], 1)[:, None, None, :]


def _pad(node: Any, x: Integers) -> Integers:
    top, left, bottom, right = node.padding
    border = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(x, border, constant_values=node.fill)


def _upsample(node: Any, x: Integers) -> Integers:
    return x.repeat(node.factors[0], 2).repeat(node.factors[1], 3)


_KINDS: Final[Mapping[str, Callable[..., Integers]]] = {
    "conv2d": _conv2d,
    "conv2d_transpose": _conv2d_transpose,
    "dense": _dense,
    "add": _add,
    "requantise": _add,
    "clip": _clip,
    "concat": _concat,
    "leaky_relu": _add,
    "argmax": _argmax,
    "multiply": _multiply,
    "pad": _pad,
    "upsample": _upsample,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": _global_average_pool,
}
