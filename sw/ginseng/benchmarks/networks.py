"""The networks that benchmarks compile: one with real weights and data, and seeded ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ginseng.benchmarks.digits import MODEL, load_digits, split

__all__ = ["Network", "digits", "residual"]


@dataclass(frozen=True)
class Network:
    """A model and what to feed it.

    Attributes
    ----------
    model : onnx.ModelProto
        One input.
    calibration, samples : array
        ``(n, *shape)`` float32.
    labels : array or None
        Classes of the samples, where they are real.

    """

    name: str
    model: onnx.ModelProto
    calibration: NDArray[np.float32]
    samples: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None

    @property
    def input(self) -> str:
        """Name of the input."""
        return str(self.model.graph.input[0].name)


class _Builder:
    """Collects nodes and seeded weights of a convolutional network."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._tensors: dict[str, NDArray[np.float64]] = {}

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def conv(self, name: str, x: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        fan = inputs * kernel * kernel
        shape = (outputs, inputs, kernel, kernel)
        self._tensors[f"{name}.w"] = self._rng.normal(0, np.sqrt(2 / fan), shape)
        self._tensors[f"{name}.b"] = self._rng.normal(0, 0.1, outputs)
        return self.node(
            "Conv",
            [x, f"{name}.w", f"{name}.b"],
            name,
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[stride, stride],
        )

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def block(self, name: str, x: str, inputs: int, outputs: int, stride: int) -> str:
        y = self.relu(self.conv(f"{name}.a", x, inputs, outputs, 3, stride))
        y = self.conv(f"{name}.b", y, outputs, outputs, 3, 1)
        if stride != 1 or inputs != outputs:
            x = self.conv(f"{name}.skip", x, inputs, outputs, 1, stride)
        return self.relu(self.node("Add", [y, x], name))

    def classifier(self, x: str, inputs: int, outputs: int) -> str:
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x], "mean")], "features")
        self._tensors["logits.w"] = self._rng.normal(0, inputs**-0.5, (outputs, inputs))
        self._tensors["logits.b"] = self._rng.normal(0, 0.1, outputs)
        return self.node("Gemm", [x, "logits.w", "logits.b"], "logits", transB=1)

    def model(self, name: str, shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            name,
            [info("image", TensorProto.FLOAT, [1, *shape])],
            [info("logits", TensorProto.FLOAT, [1, classes])],
            [numpy_helper.from_array(v.astype(np.float32), k) for k, v in self._tensors.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def residual() -> Network:
    """Two residual blocks on 32x32 images, the second with a strided projection; seeded."""
    build = _Builder(seed=3)
    x = build.relu(build.conv("stem", "image", 3, 32, 3, 1))
    x = build.block("first", x, 32, 32, 1)
    x = build.block("second", x, 32, 64, 2)
    build.classifier(x, 64, 10)
    rng = np.random.default_rng(4)
    images = rng.normal(0, 1, (24, 3, 32, 32)).astype(np.float32)
    return Network("residual", build.model("residual", (3, 32, 32), 10), images[:16], images[16:])


def digits() -> Network:
    """Return the demo's network, trained on real digits, with the 360 that were held back."""
    training, held = split(load_digits())
    model = onnx.load_from_string(MODEL.read_bytes())
    return Network("digits", model, training.images[:256], held.images, held.labels)
