"""MobileNet v1 (Howard et al., 2017, table 1): depthwise separable convolutions."""

from typing import Final

from ginseng.benchmarks.networks.builder import Network, NetworkBuilder

__all__ = ["mobilenet_v1"]

#: Output channels and stride of each separable convolution.
_LAYERS: Final = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet_v1() -> Network:
    """Return MobileNet v1, width 1, at 224x224, with ReLU6."""
    build = NetworkBuilder("mobilenet_v1", (3, 224, 224), seed=1)
    x = build.relu6(build.conv("stem", build.image, 32, 3, stride=2))
    for n, (width, stride) in enumerate(_LAYERS, 1):
        channels = build.channels(x)
        x = build.relu6(build.conv(f"depth{n}", x, channels, 3, stride=stride, groups=channels))
        x = build.relu6(build.conv(f"point{n}", x, width, 1))
    x = build.global_average("features", x)
    return build.network(build.dense("logits", x, 1000))
