"""The backbone of Tiny YOLO v2 (Redmon and Farhadi, 2017): leaky rectifiers and max pooling."""

from ginseng.benchmarks.networks.builder import Network, NetworkBuilder

__all__ = ["tiny_yolo"]


def tiny_yolo() -> Network:
    """Return the nine convolutions of Tiny YOLO v2 at 416x416, up to its 13x13x125 map."""
    build = NetworkBuilder("tiny_yolo", (3, 416, 416), seed=416)
    x = build.image
    for n, width in enumerate((16, 32, 64, 128, 256, 512), 1):
        x = build.leaky_relu(build.conv(f"conv{n}", x, width, 3))
        stride, pads = (2, [0] * 4) if n < 6 else (1, [0, 0, 1, 1])
        x = build.max_pool(f"pool{n}", x, 2, stride=stride, pads=pads)
    for n in (7, 8):
        x = build.leaky_relu(build.conv(f"conv{n}", x, 1024, 3))
    return build.network(build.conv("map", x, 125, 1, norm=False))
