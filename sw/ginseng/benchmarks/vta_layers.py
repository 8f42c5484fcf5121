"""The convolutions of ResNet-18 that the core is measured on, with seeded weights."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ginseng.compiler import Graph, Value
from ginseng.compiler.operators.conv2d import Conv2d
from ginseng.compiler.rescale import Rescale

__all__ = ["RESNET18", "ConvLayer", "conv_graph"]

#: Standard deviation of outputs, in device integers: most of int8 is used, little is clipped.
_SPREAD: Final = 48
#: Standard deviation of uniform int8.
_UNIFORM: Final = 74


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """A convolution of a network.

    Attributes
    ----------
    name : str
        As in the literature on VTA.
    pixels : int
        Height and width of the output.
    channels_in, channels_out : int
    kernel, stride : int
        Of a kernel of 3, one pixel of padding surrounds the image; of a kernel of 1, none.
    count : int
        How often the network has it.

    """

    name: str
    pixels: int
    channels_in: int
    channels_out: int
    kernel: int = 3
    stride: int = 1
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.pixels**2 * self.kernel**2 * self.channels_in * self.channels_out


#: C2 to C11 in the numbering of the VTA project: all but the first convolution.
RESNET18: Final = (
    ConvLayer(name="C2", pixels=56, channels_in=64, channels_out=64, count=4),
    ConvLayer(name="C3", pixels=28, channels_in=64, channels_out=128, stride=2),
    ConvLayer(name="C4", pixels=28, channels_in=64, channels_out=128, kernel=1, stride=2),
    ConvLayer(name="C5", pixels=28, channels_in=128, channels_out=128, count=3),
    ConvLayer(name="C6", pixels=14, channels_in=128, channels_out=256, stride=2),
    ConvLayer(name="C7", pixels=14, channels_in=128, channels_out=256, kernel=1, stride=2),
    ConvLayer(name="C8", pixels=14, channels_in=256, channels_out=256, count=3),
    ConvLayer(name="C9", pixels=7, channels_in=256, channels_out=512, stride=2),
    ConvLayer(name="C10", pixels=7, channels_in=256, channels_out=512, kernel=1, stride=2),
    ConvLayer(name="C11", pixels=7, channels_in=512, channels_out=512, count=3),
)


def conv_graph(layer: ConvLayer) -> Graph:
    """Return ``layer`` as a graph from ``image`` to ``out``: bias, shift, and clip to 0 .. 127.

    Weights and bias are seeded by the layer's name.
    """
    rng = np.random.default_rng(list(layer.name.encode()))
    reduction = layer.channels_in * layer.kernel**2
    spread = _UNIFORM**2 * reduction**0.5
    shape = (layer.channels_out, layer.channels_in, layer.kernel, layer.kernel)
    node = Conv2d(
        name=layer.name,
        inputs=("image",),
        output=Value(
            name="out", shape=(layer.channels_out, layer.pixels, layer.pixels), shift=0, lo=0
        ),
        weight=rng.integers(-128, 128, shape, np.int8),
        bias=rng.integers(-int(spread), int(spread), layer.channels_out, np.int32),
        strides=(layer.stride, layer.stride),
        padding=(layer.kernel // 2,) * 4,
        rescale=Rescale.shifted(round(np.log2(spread / _SPREAD))),
    )
    size = layer.pixels * layer.stride
    image = Value(name="image", shape=(layer.channels_in, size, size), shift=0)
    return Graph(name=layer.name, inputs=(image,), nodes=(node,), outputs=("out",))
