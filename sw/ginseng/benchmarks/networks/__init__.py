"""The networks that benchmarks compile: two with real weights and data, the others seeded."""

from collections.abc import Callable
from typing import Final

import onnx

from ginseng.benchmarks.digits import MODEL, load_digits, split
from ginseng.benchmarks.networks.builder import (
    Network,
    NetworkBuilder,
    evaluate_onnx,
    pictures,
)
from ginseng.benchmarks.networks.dcgan import dcgan
from ginseng.benchmarks.networks.mlp import mlp
from ginseng.benchmarks.networks.mobilenet import mobilenet_v1
from ginseng.benchmarks.networks.resnet import residual, resnet18, resnet32, resnet34
from ginseng.benchmarks.networks.rnet import rnet
from ginseng.benchmarks.networks.vgg import vgg9
from ginseng.benchmarks.networks.yolo import tiny_yolo

__all__ = ["NETWORKS", "Network", "NetworkBuilder", "evaluate_onnx", "pictures"]


def digits() -> Network:
    """Return the demo's network, trained on real digits, with the 360 that were held back."""
    training, held = split(load_digits())
    model = onnx.load_from_string(MODEL.read_bytes())
    return Network(
        name="digits",
        model=model,
        calibration=training.images[:256],
        samples=held.images,
        results=evaluate_onnx(model, held.images),
        labels=held.labels,
    )


#: What makes each network, by name; small ones first.
NETWORKS: Final[dict[str, Callable[[], Network]]] = {
    "digits": digits,
    "mlp": mlp,
    "rnet": rnet,
    "residual": residual,
    "resnet32": resnet32,
    "vgg9": vgg9,
    "dcgan": dcgan,
    "mobilenet_v1": mobilenet_v1,
    "tiny_yolo": tiny_yolo,
    "resnet18": resnet18,
    "resnet34": resnet34,
}
