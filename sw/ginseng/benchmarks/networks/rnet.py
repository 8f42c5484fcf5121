"""MTCNN's refinement network (Zhang et al., 2016), with the weights that the package ships.

It says whether a crop is a face. Its data are the 100 faces (Labeled Faces in the Wild) and 100
other crops that scikit-image ships.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ginseng.benchmarks.errors import MissingPackageError
from ginseng.benchmarks.networks.builder import Network, evaluate_onnx

__all__ = ["rnet"]

_SIZE = 24
#: Every fifth crop is for calibration, the others are run.
_EVERY = 5


def rnet() -> Network:
    """Return the network up to its two logits, without the corners of the box.

    Raises
    ------
    MissingPackageError
        If a package that ships weights or data is not installed.

    """
    images, labels = _crops()
    chosen = np.arange(len(images)) % _EVERY == 0
    model = _model(_weights())
    return Network(
        name="rnet",
        model=model,
        calibration=images[chosen],
        samples=images[~chosen],
        results=evaluate_onnx(model, images[~chosen]),
        labels=labels[~chosen],
    )


def _shipped(package: str, project: str, path: str) -> Path:
    """Return a file of an installed package, which is not imported: mtcnn would want TensorFlow."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            f"R-Net needs {project}, which is not installed; pip install 'ginseng[bench]'"
        )
    return Path(spec.submodule_search_locations[0]) / path


def _weights() -> list[NDArray[np.float32]]:
    path = _shipped("mtcnn", "mtcnn", "assets/weights/rnet.lz4")
    import joblib

    weights: list[NDArray[np.float32]] = joblib.load(path)
    return weights


def _crops() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 200 crops as MTCNN wants them, faces first, and which are faces."""
    grey = np.load(_shipped("skimage", "scikit-image", "data/lfw_subset.npy"))
    for axis in (1, 2):
        grey = _resampled(grey, axis)
    # -1 to 1, three channels alike.
    scaled = ((grey * 255 - 127.5) / 128).astype(np.float32)
    return scaled[:, None].repeat(3, axis=1), (np.arange(len(grey)) < 100).astype(np.int64)


def _resampled(image: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return an axis at the network's size, by linear interpolation."""
    extent = image.shape[axis]
    places = (np.arange(_SIZE) + 0.5) * extent / _SIZE - 0.5
    first = np.floor(places).astype(int).clip(0, extent - 2)
    shape = [1] * image.ndim
    shape[axis] = -1
    part = (places - first).reshape(shape)
    left, right = np.take(image, first, axis), np.take(image, first + 1, axis)
    return np.asarray(left * (1 - part) + right * part)


def _model(weights: list[NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the package's weights (height, width, in, out) as ONNX."""
    convolutions = [weights[n : n + 3] for n in (0, 3, 6)]
    hidden, hidden_bias, hidden_slope = weights[9:12]
    constants: dict[str, NDArray[np.float32]] = {}
    nodes: list[Any] = []
    x = "image"

    def node(kind: str, name: str, *parts: NDArray[np.float32], **attributes: Any) -> None:
        nonlocal x
        names = [f"{name}.{n}" for n in range(len(parts))]
        constants.update(zip(names, parts, strict=True))
        nodes.append(helper.make_node(kind, [x, *names], [name], name, **attributes))
        x = name

    for n, (weight, bias, slope) in enumerate(convolutions, 1):
        node("Conv", f"conv{n}", weight.transpose(3, 2, 0, 1), bias, kernel_shape=weight.shape[:2])
        node("PRelu", f"prelu{n}", slope.reshape(-1, 1, 1))
        if n < 3:
            # The first is padded below and on the right: what rounding up does here.
            node("MaxPool", f"pool{n}", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=n == 1)
    node("Flatten", "features")
    # The package flattens (width, height, channels), ONNX (channels, height, width).
    channels = convolutions[-1][0].shape[3]
    side = round((len(hidden) / channels) ** 0.5)
    order = hidden.reshape(side, side, channels, -1).transpose(2, 1, 0, 3)
    node("Gemm", "dense", order.reshape(len(hidden), -1), hidden_bias)
    node("PRelu", "prelu4", hidden_slope)
    node("Gemm", "logits", *weights[14:16])
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "rnet",
        [info("image", TensorProto.FLOAT, [1, 3, _SIZE, _SIZE])],
        [info("logits", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
