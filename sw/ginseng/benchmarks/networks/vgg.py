"""VGG-9 for CIFAR: six 3x3 convolutions, three max poolings, three dense layers, no norms."""

from ginseng.benchmarks.networks.builder import Network, NetworkBuilder

__all__ = ["vgg9"]


def vgg9() -> Network:
    """Return VGG-9 for 32x32 images."""
    build = NetworkBuilder("vgg9", (3, 32, 32), seed=9, calibration=16, samples=8)
    x = build.image
    for n, width in enumerate((64, 128, 256)):
        for which in "ab":
            x = build.relu(build.conv(f"conv{n + 1}{which}", x, width, 3, norm=False))
        x = build.max_pool(f"pool{n + 1}", x, 2, stride=2, pads=[0] * 4)
    x = build.flatten("features", x)
    for n in (1, 2):
        x = build.relu(build.dense(f"dense{n}", x, 512))
    return build.network(build.dense("logits", x, 10))
