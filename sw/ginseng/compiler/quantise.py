"""Power-of-two scales from calibration, and the integer graph they give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import FloatNode, LinearFloatNode, Network
from ginseng.compiler.graph import ACC_LIMIT, Graph, Value
from ginseng.compiler.histogram import Histogram
from ginseng.compiler.methods import calibration_method
from ginseng.compiler.rescale import SHIFT_LIMIT, Rescale, sum_bounds
from ginseng.compiler.weights import WeightScales, quantise_weights, weight_shifts

__all__ = ["Linear", "Scales", "clipped", "integer_graph", "linear_scales"]

#: Biases keep below this, so that weights and rounding have room beside them in int32.
_BIAS_LIMIT: Final = 1 << 30
#: Beyond every shift of weights.
_FINEST: Final = 64


@dataclass(frozen=True)
class Linear:
    """Integer parameters of a convolution or dense layer."""

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    rescale: Rescale
    output: Value


class Scales:
    """Decides the scale and the range of each value.

    Parameters
    ----------
    seen : mapping of str to Histogram
        What calibration saw of each value.
    method : str
        How that becomes a shift (`calibration_method`).
    weights : str
        How many scales weights have (`WeightScales`).

    Raises
    ------
    CompilerError
        If there is no such method or choice.

    """

    def __init__(
        self, seen: Mapping[str, Histogram], method: str = "minmax", weights: str = "auto"
    ) -> None:
        self._seen: Final = seen
        self._rule: Final = calibration_method(method)
        self._weights: Final = WeightScales.parse(weights)
        self._tied: Final[dict[str, set[str]]] = {}

    def tie(self, values: Sequence[str]) -> None:
        """Give ``values``, and what they are tied to already, one shift: the coarsest of theirs."""
        group = {other for value in values for other in self._tied.get(value, {value})}
        self._tied.update(dict.fromkeys(group, group))

    def shift(self, value: str) -> int:
        """Return the shift of a value.

        Raises
        ------
        CompilerError
            If calibration saw something that is not finite there.

        """
        shifts = []
        for name in self._tied.get(value, {value}):
            seen = self._seen[name]
            if not np.isfinite([seen.lo, seen.hi]).all():
                raise CompilerError(
                    f"Value {name} is not finite on the calibration data; check model and data"
                )
            shifts.append(self._rule(seen))
        return min(shifts)

    def value(self, node: FloatNode, *, limit: int | None = None) -> Value:
        """Return the output of ``node``, with a scale of its own, no finer than ``limit``."""
        shift = self.shift(node.output)
        shift = shift if limit is None else min(shift, limit)
        return clipped(node, Value(name=node.output, shape=node.shape, shift=shift))

    def inherit(self, node: FloatNode, source: Value) -> Value:
        """Return the output of ``node`` in the scale and range of its input ``source``."""
        return clipped(node, replace(source, name=node.output, shape=node.shape))

    def keeps(self, node: FloatNode, source: Value) -> bool:
        """Return whether the output of ``node`` can have the scale of its input ``source``."""
        return True

    def input(self, name: str, shape: tuple[int, ...]) -> Value:
        """Return an input of the network."""
        return Value(name=name, shape=shape, shift=self.shift(name))

    def weights(self, weight: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the shift of a layer's weights, or one for each output channel."""
        return weight_shifts(weight, self._weights)

    def linear(self, node: LinearFloatNode, source: Value) -> Linear:
        """Return the integer parameters of ``node``, which reads ``source``."""
        return linear_scales(node, source, self)


def clipped(node: FloatNode, value: Value) -> Value:
    """Return ``value`` with the bounds of the node's activation as integers."""
    if node.clip is None:
        return value
    lo, hi = (
        min(max(round(Fraction(bound) / value.scale) + value.zero, value.lo), value.hi)
        if np.isfinite(bound)
        else end
        for bound, end in zip(node.clip, (value.lo, value.hi), strict=True)
    )
    return replace(value, lo=lo, hi=hi)


def linear_scales(node: LinearFloatNode, source: Value, scales: Scales) -> Linear:
    """Quantise weights and bias (scale of the accumulators) of ``node``.

    Where biases or sums would leave int32, weights get coarser scales until they cannot.

    Raises
    ------
    CompilerError
        If a constant is not finite.

    """
    for what, array in (("weights", node.weight), ("bias", node.bias)):
        if not np.isfinite(array).all():
            raise CompilerError(
                f"Node {node.name}: its {what} are not finite (NaN or infinity); repair the model"
            )
    shifts = scales.weights(node.weight)
    # One scale for all channels follows the channel that needs the most room.
    alike = len(shifts) == 1
    biased = node.bias != 0
    if biased.any():
        # A bias far greater than the products beside it: coarser weights lose nothing visible.
        finest = np.full(len(node.bias), _FINEST)
        finest[biased] = np.floor(np.log2(_BIAS_LIMIT / np.abs(node.bias[biased]))) - source.shift
        shifts = np.minimum(shifts, finest.min() if alike else finest)
    while True:
        output = scales.value(node, limit=source.shift + int(shifts.min()))
        shifts = np.minimum(shifts, output.shift + SHIFT_LIMIT - source.shift)
        weight = quantise_weights(node.weight, shifts)
        bias = np.rint(np.ldexp(node.bias, source.shift + shifts)).astype(np.int32)
        rescale = Rescale.shifted(*(int(s) for s in source.shift + shifts - output.shift))
        # Padding is 0. Only the finished sum must fit: additions before it may wrap, for they
        # are exact modulo 2**32.
        reach = sum_bounds(weight, bias, min(source.lo, 0), max(source.hi, 0))
        wide = reach + np.array(rescale.offset) >= ACC_LIMIT
        if not wide.any():
            return Linear(weight, bias, rescale, output)
        shifts = shifts - (wide.any() if alike else wide)


def integer_graph(network: Network, scales: Scales) -> Graph:
    """Return the integer graph of ``network`` with the scales that ``scales`` decides.

    Raises
    ------
    CompilerError
        If a node cannot be quantised, or the graph breaks a rule of `Graph`.

    """
    for float_node in network.nodes:
        scales.tie(float_node.tied)
    values = {}
    for name, (_, *dims) in network.inputs.items():
        image = network.images.get(name)
        value = scales.input(name, image or tuple(dims))
        values[name] = replace(value, shape=tuple(dims), image=image)
    inputs = tuple(values.values())
    outputs = [network.resolve(name) for name in network.outputs]
    shapes = {r: network.shape(o)[1:] for r, o in zip(outputs, network.outputs, strict=True)}
    nodes = []
    for float_node in network.nodes:
        node = float_node.quantise([values[name] for name in float_node.inputs], scales)
        shape = shapes.get(node.output.name)
        if shape is not None and shape != node.output.shape and node.scaled:
            # The owner flattens an image; a vector is one pixel by any name.
            extents = node.output.extents
            flattened = extents if max(extents[1:]) > 1 else None
            node = replace(node, output=replace(node.output, shape=shape, image=flattened))
        values[node.output.name] = node.output
        nodes.append(node)
    return Graph(
        name=network.name,
        inputs=inputs,
        nodes=tuple(nodes),
        outputs=tuple(dict.fromkeys(outputs)),
        steps=network.steps
        | {name: (*network.steps.get(name, ()), step) for name, step in network.packings.items()},
    )
