"""What layers with weights have in common: constants of each output channel, and their shapes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ginseng.compiler.floatgraph import Call
from ginseng.compiler.graph import Node
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.slope import Slope

__all__ = ["WeightedNode", "constant_weights"]


@dataclass(frozen=True, kw_only=True)
class WeightedNode(Node):
    """A node with weights, output channels first.

    Attributes
    ----------
    weight : int8 array of shape (out channels, in channels / groups, ...)
    bias : int32 array of shape (out channels,)
    rescale : Rescale
        From sums to results.
    slope : Slope or None
        A leaky rectifier; None changes nothing.

    """

    weight: NDArray[np.int8] = field(repr=False, compare=False)
    bias: NDArray[np.int32] = field(repr=False, compare=False)
    rescale: Rescale = field(default_factory=Rescale)
    slope: Slope | None = None

    def outputs(self, channels: int, *, rank: int, groups: int = 1) -> int:
        """Return the output channels, given those of the input and the rank of the weights.

        Raises
        ------
        CompilerError
            If weights or other constants do not fit.

        """
        if self.weight.ndim != rank or self.weight.shape[1] * groups != channels:
            raise self.refuse(
                f"weights {self.weight.shape} do not fit {channels} channels in {groups} groups"
            )
        outputs = int(self.weight.shape[0])
        if outputs % groups:
            raise self.refuse(f"{outputs} channels do not fall into {groups} equal groups")
        if not (
            self.bias.shape == (outputs,)
            and self.rescale.fits(outputs)
            and (self.slope is None or self.slope.fits(outputs))
        ):
            raise self.refuse(
                f"bias {self.bias.shape}, rescaling or slope is not of {outputs} channels"
            )
        return outputs


def constant_weights(call: Call, layout: str) -> tuple[str, NDArray[Any]]:
    """Return what a convolution reads, and its weights.

    Raises
    ------
    CompilerError
        If the weights are no constant, the image is not NCHW, or the weights not ``layout``.

    """
    source, weight = call.args
    if not isinstance(weight, np.ndarray) or isinstance(source, np.ndarray):
        raise call.refuse("its weights are not constant; make them initialisers of the model")
    if (call.attr("data_layout"), call.attr("kernel_layout")) != ("NCHW", layout):
        raise call.refuse(
            f"its layouts are {call.attr('data_layout')} and {call.attr('kernel_layout')}; "
            f"export it as NCHW and {layout}"
        )
    return source, weight
