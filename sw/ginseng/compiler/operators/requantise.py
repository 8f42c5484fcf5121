"""Scales that the model brings along: QuantizeLinear and DequantizeLinear."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ginseng.compiler.floatgraph import Call, FloatNode, Grid, Network, Operator
from ginseng.compiler.graph import Node, Value
from ginseng.compiler.operators.add import Add
from ginseng.compiler.quantise import Scales

__all__ = ["OPERATOR", "Requantise"]


@dataclass(frozen=True, kw_only=True)
class Requantise(Add):
    """``output = clip((x * multiplier[0] + offset) >> shift)``: a value in another scale."""

    kind: ClassVar[str] = "requantise"


@dataclass(kw_only=True)
class FloatRequantise(FloatNode):
    """A value that the model quantises once more, in another scale."""

    def quantise(self, inputs: Sequence[Value], scales: Scales) -> Node:
        """Return the change of scale."""
        return Requantise.of(self.name, inputs, scales.value(self))


def _grid(call: Call) -> Grid:
    """Return the scale and zero point of a call."""
    if not all(isinstance(a, np.ndarray) for a in call.args[1:3]):
        raise call.refuse(
            "its scale or zero point is computed; make both constants: quantise statically, with "
            "calibration data"
        )
    scale, zero = call.args[1:3]
    kind = str(call.attr("out_dtype") if call.op == "relax.quantize" else zero.dtype)
    if scale.dtype.kind != "f" or scale.size != 1 or zero.size != 1:
        raise call.refuse(
            f"its scale has shape {scale.shape}; values have one constant scale and zero point, "
            "only weights have one per channel"
        )
    if kind not in ("int8", "uint8"):
        raise call.refuse(f"it quantises to {kind}; quantise activations to int8 or uint8")
    real = float(scale.reshape(()))
    if not np.isfinite(real) or real <= 0:
        raise call.refuse(f"its scale is {real}; a scale is positive and finite")
    # The core knows int8 only: uint8 is the same with everything 128 less.
    return Grid.of(real, int(zero.reshape(())) - (128 if kind == "uint8" else 0))


def _recognise(call: Call, network: Network) -> FloatNode | None:
    """Note the scale of a value; a second, other one is a node of its own."""
    source, grid = call.args[0], _grid(call)
    if isinstance(source, np.ndarray):
        raise call.refuse("it quantises a constant; give the integers and a DequantizeLinear")
    value = network.resolve(source)
    if call.op == "relax.dequantize":
        if network.grids.get(value) != grid:
            raise call.refuse(
                "its scale or zero point is not that of the QuantizeLinear before it; make both "
                "alike"
            )
        network.grids[call.output] = grid
    elif network.grids.setdefault(value, grid) != grid:
        if not network.is_dequantised(source):
            raise call.refuse(
                "another QuantizeLinear quantises the same value in another scale; a value has one "
                "scale"
            )
        network.grids[call.output] = grid
        return FloatRequantise(
            name=call.name, inputs=[source], output=call.output, shape=call.sample_shape()
        )
    network.alias(call.output, source)
    network.fix(value)
    return network.producer(source)


OPERATOR = Operator("requantise", ("relax.quantize", "relax.dequantize"), _recognise)
