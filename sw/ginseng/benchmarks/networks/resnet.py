"""Residual networks: ResNet-18 and -34 (He et al., 2016, table 1), and ResNet-32 for CIFAR."""

from ginseng.benchmarks.networks.builder import Network, NetworkBuilder

__all__ = ["residual", "resnet18", "resnet32", "resnet34"]


def _block(build: NetworkBuilder, name: str, x: str, outputs: int, stride: int) -> str:
    """Add a basic block: two 3x3 convolutions, and a projection where the shape changes."""
    y = build.relu(build.conv(f"{name}.a", x, outputs, 3, stride=stride))
    y = build.conv(f"{name}.b", y, outputs, 3)
    if stride != 1 or build.channels(x) != outputs:
        x = build.conv(f"{name}.skip", x, outputs, 1, stride=stride)
    return build.relu(build.add(name, y, x))


def _stages(build: NetworkBuilder, x: str, widths: list[int], counts: list[int]) -> str:
    """Add stages of basic blocks, each but the first halving the image, and the classifier."""
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for n in range(count):
            stride = 2 if stage and not n else 1
            x = _block(build, f"s{stage + 1}.{n}", x, width, stride)
    return build.global_average("features", x)


def _imagenet(name: str, counts: list[int], seed: int) -> Network:
    build = NetworkBuilder(name, (3, 224, 224), seed=seed)
    x = build.relu(build.conv("stem", build.image, 64, 7, stride=2))
    x = build.max_pool("stem.pool", x, 3, stride=2, pads=[1] * 4)
    x = _stages(build, x, [64, 128, 256, 512], counts)
    return build.network(build.dense("logits", x, 1000))


def resnet18() -> Network:
    """Return ResNet-18 at 224x224."""
    return _imagenet("resnet18", [2, 2, 2, 2], seed=18)


def resnet34() -> Network:
    """Return ResNet-34 at 224x224."""
    return _imagenet("resnet34", [3, 4, 6, 3], seed=34)


def _cifar(name: str, widths: list[int], counts: list[int], *, seed: int) -> Network:
    build = NetworkBuilder(name, (3, 32, 32), seed=seed, calibration=16, samples=8)
    x = build.relu(build.conv("stem", build.image, widths[0], 3))
    x = _stages(build, x, widths, counts)
    return build.network(build.dense("logits", x, 10))


def resnet32() -> Network:
    """Return ResNet-32 for 32x32 images: three stages of five blocks, 16 to 64 channels."""
    return _cifar("resnet32", [16, 32, 64], [5, 5, 5], seed=32)


def residual() -> Network:
    """Return two residual blocks on 32x32 images: small enough for a test."""
    return _cifar("residual", [32, 64], [1, 1], seed=3)
