"""Scales that a quantised model brings along, instead of calibrated ones."""

from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np

from ginseng.compiler.errors import CompilerError
from ginseng.compiler.floatgraph import FloatNode, LinearFloatNode, Network
from ginseng.compiler.graph import INT8, Graph, Node, Value
from ginseng.compiler.quantise import Linear, Scales, clipped, integer_graph
from ginseng.compiler.rescale import Rescale, sum_bounds

__all__ = ["GivenScales", "given_graph"]

_INT32 = np.iinfo(np.int32)


class GivenScales(Scales):
    """Takes scale and zero point of each value from the model.

    Weights keep their integers. Biases become the nearest integers in units of the sums, with the
    zero point of the input folded in. Results are rescaled by `Rescale.approximate`.

    Parameters
    ----------
    network : Network
        With its grids.

    """

    def __init__(self, network: Network) -> None:
        super().__init__({})
        self._grids = network.grids

    def value(self, node: FloatNode, *, limit: int | None = None) -> Value:
        """Return the output of ``node``."""
        grid = self._grids.get(node.output)
        if grid is None:
            raise CompilerError(
                f"Node {node.name}: its result {node.output} is not quantised, though the model "
                "is; quantise every value, with QuantizeLinear and DequantizeLinear after this node"
            )
        return clipped(node, Value(name=node.output, shape=node.shape, **asdict(grid)))

    def inherit(self, node: FloatNode, source: Value) -> Value:
        """Return the output of ``node``, whose scale must be that of its input ``source``."""
        if not self.keeps(node, source):
            raise CompilerError(
                f"Node {node.name}: its result is quantised in another scale or zero point than "
                "its input; quantise both alike"
            )
        return super().inherit(node, source)

    def keeps(self, node: FloatNode, source: Value) -> bool:
        """Return whether ``source`` and the output of ``node`` have one scale and zero point."""
        value = self.value(node)
        return (value.scale, value.zero) == (source.scale, source.zero)

    def input(self, name: str, shape: tuple[int, ...]) -> Value:
        """Return an input of the network."""
        grid = self._grids.get(name)
        if grid is None:
            raise CompilerError(
                f"Input {name} is not quantised, though the model is; begin the model with "
                "QuantizeLinear and DequantizeLinear"
            )
        return Value(name=name, shape=shape, **asdict(grid))

    def linear(self, node: LinearFloatNode, source: Value) -> Linear:
        """Return the integers of ``node`` in the model's own scales.

        Raises
        ------
        CompilerError
            If its weights are no int8, or sums and biases leave int32.

        """
        given = node.steps
        if given is None and node.weight[0].size == 1:
            # One factor for a channel: a step of its own makes it exact.
            given = np.abs(node.weight).reshape(-1) / INT8[1]
            given[given == 0] = 1
        if given is None:
            raise CompilerError(
                f"Node {node.name}: its weights are not quantised, though the model is; quantise "
                "them to int8, with a DequantizeLinear"
            )
        exact = node.weight / given.reshape(-1, *(1,) * (node.weight.ndim - 1))
        weight = np.rint(exact)
        if (abs(exact - weight) > 1e-6).any() or weight.min() < INT8[0] or weight.max() > INT8[1]:
            raise CompilerError(
                f"Node {node.name}: its weights less their zero points are {exact.min():g} to "
                f"{exact.max():g}, no int8; quantise weights symmetrically to int8"
            )
        output = self.value(node)
        steps = [source.scale * Fraction(float(step)) for step in given]
        biases = [
            round(Fraction(float(bias)) / step) for bias, step in zip(node.bias, steps, strict=True)
        ]
        weight = weight.astype(np.int8)
        sums = weight.astype(np.int64).reshape(len(weight), -1).sum(1)
        bias = np.array(biases, object) - source.zero * sums
        if min(bias) < _INT32.min or max(bias) > _INT32.max:
            raise CompilerError(
                f"Node {node.name}: its bias reaches {max(map(abs, bias))} steps of its sums, "
                "beyond int32; quantise input or weights more coarsely"
            )
        bias = bias.astype(np.int32)
        # Padding means real 0.
        lo, hi = min(source.lo, source.zero), max(source.hi, source.zero)
        bounds = sum_bounds(weight, bias, lo, hi)
        try:
            rescale = Rescale.approximate(
                [step / output.scale for step in steps], bounds, output.zero
            )
        except CompilerError as error:
            raise CompilerError(f"Node {node.name}: {error}") from None
        return Linear(weight, bias, rescale, output)


def given_graph(network: Network) -> Graph:
    """Return the integer graph of a network that is quantised already.

    A clip in the scale of its input becomes part of the node that makes it, if nothing else reads
    that: between them the float network could not fold.

    Raises
    ------
    CompilerError
        If a node cannot be done in the model's scales.

    """
    graph = integer_graph(network, GivenScales(network))
    made: dict[str, Node] = {}
    for node in graph.nodes:
        source = node.inputs[0]
        alone = len(graph.readers(source)) == 1 and source not in graph.outputs
        if node.kind == "clip" and source in made and alone:
            node = replace(made.pop(source), output=node.output)
        made[node.output.name] = node
    return replace(graph, nodes=tuple(made.values()))
