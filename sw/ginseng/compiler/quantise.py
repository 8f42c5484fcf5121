"""Power-of-two scales from ranges, and the integer graph they give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import floor, log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import FloatNode, LinearFloatNode, Network
from ginseng.compiler.graph import INT8, Graph, Value
from ginseng.compiler.rescale import SHIFT_LIMIT, Rescale

__all__ = ["Linear", "Scales", "linear_scales", "min_max_shift", "quantise_network"]

#: Shifts beyond are those of constants that are zero but for rounding.
_SHIFTS: Final = (-24, 31)
#: Biases keep below this, so that weights and rounding have room beside them in int32.
_BIAS_LIMIT: Final = 1 << 30

#: Chooses a shift from the least and greatest value that calibration saw.
ShiftRule = Callable[[float, float], int]


def min_max_shift(lo: float, hi: float) -> int:
    """Return the greatest shift at which neither end of the range saturates."""
    magnitude = max(abs(lo), abs(hi))
    if magnitude == 0:
        return INT8[1].bit_length()
    shift = floor(log2((INT8[1] + 0.5) / magnitude))
    return min(max(shift, _SHIFTS[0]), _SHIFTS[1])


class Scales:
    """Decides the scale and the range of each value.

    Parameters
    ----------
    ranges : mapping of str to tuple of float
        Least and greatest element of each value, from calibration.
    rule : callable
        How a range becomes a shift.

    """

    def __init__(
        self, ranges: Mapping[str, tuple[float, float]], rule: ShiftRule = min_max_shift
    ) -> None:
        self._ranges: Final = ranges
        self._rule: Final = rule

    def shift(self, value: str) -> int:
        """Return the shift of a value.

        Raises
        ------
        CompilerError
            If calibration saw something that is not finite there.

        """
        lo, hi = self._ranges[value]
        if not np.isfinite([lo, hi]).all():
            raise CompilerError(
                f"Value {value} is not finite on the calibration data; check model and data"
            )
        return self._rule(lo, hi)

    def value(self, node: FloatNode, *, limit: int | None = None) -> Value:
        """Return the output of ``node``, with a scale of its own, no finer than ``limit``."""
        shift = self.shift(node.output)
        shift = shift if limit is None else min(shift, limit)
        return _clipped(node, Value(name=node.output, shape=node.shape, shift=shift))

    def inherit(
        self, node: FloatNode, source: Value, reach: tuple[int, int] | None = None
    ) -> Value:
        """Return the output of ``node`` in the scale of its input ``source``.

        Its range is ``reach``, by default that of ``source``.
        """
        lo, hi = reach or (source.lo, source.hi)
        value = Value(name=node.output, shape=node.shape, shift=source.shift, lo=lo, hi=hi)
        return _clipped(node, value)


def _clipped(node: FloatNode, value: Value) -> Value:
    """Return ``value`` with the bounds of the node's activation as integers."""
    if node.clip is None:
        return value
    lo, hi = (
        int(np.clip(np.rint(np.ldexp(bound, value.shift)), value.lo, value.hi))
        if np.isfinite(bound)
        else end
        for bound, end in zip(node.clip, (value.lo, value.hi), strict=True)
    )
    return replace(value, lo=lo, hi=hi)


@dataclass(frozen=True)
class Linear:
    """Integer parameters of a convolution or dense layer."""

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    rescale: Rescale
    output: Value


def linear_scales(node: LinearFloatNode, source: Value, scales: Scales) -> Linear:
    """Quantise weights (one scale per tensor) and bias (scale of the accumulators) of ``node``.

    Raises
    ------
    CompilerError
        If a constant is not finite, or no scale brings weights and bias into int32 together.

    """
    for what, array in (("weights", node.weight), ("bias", node.bias)):
        if not np.isfinite(array).all():
            raise CompilerError(
                f"Node {node.name}: its {what} are not finite (NaN or infinity); repair the model"
            )
    largest = float(np.abs(node.weight).max())
    shift = min_max_shift(-largest, largest)
    bias = float(np.abs(node.bias).max())
    if bias:
        # A bias far greater than the products beside it: coarser weights lose nothing visible.
        shift = min(shift, floor(log2(_BIAS_LIMIT / bias)) - source.shift)
    output = scales.value(node, limit=source.shift + shift)
    shift = min(shift, output.shift + SHIFT_LIMIT - source.shift)
    weight = np.rint(np.ldexp(node.weight, shift)).clip(*INT8).astype(np.int8)
    return Linear(
        weight,
        np.rint(np.ldexp(node.bias, source.shift + shift)).astype(np.int32),
        Rescale.shifted(source.shift + shift - output.shift),
        output,
    )


def quantise_network(
    network: Network, ranges: Mapping[str, tuple[float, float]], rule: ShiftRule = min_max_shift
) -> Graph:
    """Return the integer graph of ``network``.

    Raises
    ------
    CompilerError
        If a node cannot be quantised, or the graph breaks a rule of `Graph`.

    """
    scales = Scales(ranges, rule)
    values = {
        name: Value(name=name, shape=shape[1:], shift=scales.shift(name))
        for name, shape in network.inputs.items()
    }
    inputs = tuple(values.values())
    outputs = [network.resolve(name) for name in network.outputs]
    shapes = {r: network.shape(o)[1:] for r, o in zip(outputs, network.outputs, strict=True)}
    nodes = []
    for float_node in network.nodes:
        node = float_node.quantise([values[name] for name in float_node.inputs], scales)
        shape = shapes.get(node.output.name)
        if shape is not None and shape != node.output.shape:
            if max(node.output.extents[1:]) > 1:
                raise node.refuse(
                    f"the output {node.output.shape} is flattened to {shape} at the end; end the "
                    "model before that, the owner can flatten"
                )
            node = replace(node, output=replace(node.output, shape=shape))
        values[node.output.name] = node.output
        nodes.append(node)
    return Graph(
        name=network.name,
        inputs=inputs,
        nodes=tuple(nodes),
        outputs=tuple(dict.fromkeys(outputs)),
    )
