"""A multilayer perceptron for 28x28 images: two hidden layers of 512, bound by its weights."""

from ginseng.benchmarks.networks.builder import Network, NetworkBuilder

__all__ = ["mlp"]


def mlp() -> Network:
    """Return the perceptron 784-512-512-10; every weight is read once for an image."""
    build = NetworkBuilder("mlp", (784,), seed=10, calibration=16, samples=8)
    x = build.image
    for n in (1, 2):
        x = build.relu(build.dense(f"dense{n}", x, 512))
    return build.network(build.dense("logits", x, 10))
