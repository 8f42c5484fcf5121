"""The generator of DCGAN (Radford et al., 2016): transposed convolutions from noise to an image."""

from ginseng.benchmarks.networks.builder import Network, NetworkBuilder

__all__ = ["dcgan"]


def dcgan() -> Network:
    """Return the 64x64 generator, before its tanh: the owner applies that to what he decrypts."""
    build = NetworkBuilder("dcgan", (100, 1, 1), seed=64, calibration=8, samples=2)
    x = build.relu(build.upconv("up1", build.image, 512, 4, stride=1, pad=0, norm=True))
    for n, width in enumerate((256, 128, 64), 2):
        x = build.relu(build.upconv(f"up{n}", x, width, 4, stride=2, pad=1, norm=True))
    return build.network(build.upconv("picture", x, 3, 4, stride=2, pad=1, norm=False))
