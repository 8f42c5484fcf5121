"""Builds ONNX networks with seeded weights that neither die nor explode.

Every layer is run in NumPy on a few images while it is added: what batch normalisation would have
learnt of its statistics is measured, so that activations keep unit variance at any depth.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["Network", "NetworkBuilder", "evaluate_onnx", "pictures"]

Array = NDArray[np.float32]
_OPSET: Final = 17
#: Samples that statistics are of.
_SEEN: Final = 2
#: Of measured variances, so that a constant channel divides by something.
_EPSILON: Final = 1e-5


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model and what to feed it.

    Attributes
    ----------
    name : str
    model : onnx.ModelProto
        One input, one output.
    calibration, samples : float32 array of shape (n, *sample shape)
    results : float32 array of shape (n, *output shape)
        What the float network makes of the samples.
    labels : int array of shape (n,) or None
        Classes of the samples, where weights and data are real.

    """

    name: str
    model: onnx.ModelProto
    calibration: Array
    samples: Array
    results: Array
    labels: NDArray[np.int64] | None = None

    @property
    def input(self) -> str:
        """Name of the input."""
        return str(self.model.graph.input[0].name)

    @property
    def output(self) -> str:
        """Name of the output."""
        return str(self.model.graph.output[0].name)


def pictures(count: int, shape: tuple[int, int, int], seed: int) -> Array:
    """Return images of unit variance whose energy lies in coarse structure, as in photographs."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    total = np.zeros((count, *shape), np.float32)
    cell = 1
    while cell <= max(height, width):
        grid = rng.normal(size=(count, channels, -(-height // cell), -(-width // cell)))
        fine = grid.repeat(cell, axis=2).repeat(cell, axis=3)[:, :, :height, :width]
        total += np.float32(cell**0.5) * fine.astype(np.float32)
        cell *= 2
    return np.asarray(total / total.std(), np.float32)


def evaluate_onnx(model: onnx.ModelProto, samples: Array) -> Array:
    """Return what onnx's own evaluator makes of ``samples``, one by one."""
    evaluator, name = ReferenceEvaluator(model), model.graph.input[0].name
    runs = [np.asarray(evaluator.run(None, {name: x[None]})) for x in samples]
    return np.concatenate([run[0] for run in runs])


class NetworkBuilder:
    """Collects nodes and seeded weights; methods return the name of the value they make.

    Statistics are those of the first samples of calibration; those to run go along, and what they
    become is the float network's result.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Of one sample.
    seed : int
        Decides weights and samples.
    calibration : int
        Samples that calibration will see.
    samples : int
        Further ones, to run.

    """

    #: Name of the input.
    image: Final = "image"

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        seed: int,
        calibration: int = 2,
        samples: int = 1,
    ) -> None:
        self._name: Final = name
        self._rng: Final = np.random.default_rng(seed)
        self._nodes: Final[list[onnx.NodeProto]] = []
        self._constants: Final[dict[str, Array]] = {}
        count = calibration + samples
        if len(shape) == 3:
            data = pictures(count, (shape[0], shape[1], shape[2]), seed + 1)
        else:
            data = self._rng.normal(size=(count, *shape)).astype(np.float32)
        self._calibration, self._samples = data[:calibration], data[calibration:]
        self._values: Final = {self.image: np.concatenate([data[:_SEEN], self._samples])}

    def channels(self, x: str) -> int:
        """Return how many channels or features a value has."""
        return int(self._values[x].shape[1])

    def conv(
        self,
        name: str,
        x: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
    ) -> str:
        """Add a convolution that keeps the size (or divides it by ``stride``), normalised."""
        inputs = self.channels(x) // groups
        weight = self._weight((outputs, inputs, kernel, kernel), inputs * kernel**2)
        pad = kernel // 2
        y = _conv(self._values[x], weight, stride, [(pad, pad)] * 2, groups)
        attributes = {
            "kernel_shape": [kernel] * 2,
            "pads": [pad] * 4,
            "strides": [stride] * 2,
            "group": groups,
        }
        return self._normalised("Conv", name, x, weight, 0, y, norm, attributes)

    def upconv(
        self, name: str, x: str, outputs: int, kernel: int, *, stride: int, pad: int, norm: bool
    ) -> str:
        """Add a transposed convolution, normalised."""
        inputs = self.channels(x)
        weight = self._weight((inputs, outputs, kernel, kernel), inputs * kernel**2 // stride**2)
        source = self._values[x]
        count, _, height, width = source.shape
        spread = np.zeros(
            (count, inputs, (height - 1) * stride + 1, (width - 1) * stride + 1), np.float32
        )
        spread[:, :, ::stride, ::stride] = source
        mirrored = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
        y = _conv(spread, mirrored, 1, [(kernel - 1 - pad,) * 2] * 2, 1)
        attributes = {
            "kernel_shape": [kernel] * 2,
            "pads": [pad] * 4,
            "strides": [stride] * 2,
        }
        return self._normalised("ConvTranspose", name, x, weight, 1, y, norm, attributes)

    def dense(self, name: str, x: str, outputs: int) -> str:
        """Add a dense layer on features."""
        inputs = self.channels(x)
        weight = self._weight((outputs, inputs), inputs)
        y = self._values[x] @ weight.T
        return self._normalised("Gemm", name, x, weight, 0, y, False, {"transB": 1})

    def relu(self, x: str) -> str:
        """Add a rectifier."""
        return self._node("Relu", [x], f"{x}.relu", np.maximum(self._values[x], 0))

    def relu6(self, x: str) -> str:
        """Add a rectifier that ends at 6."""
        bounds = [self._constant(f"{x}.{n}", np.float32(v)) for n, v in (("lo", 0), ("hi", 6))]
        return self._node("Clip", [x, *bounds], f"{x}.relu6", np.clip(self._values[x], 0, 6))

    def leaky_relu(self, x: str, slope: float = 0.1) -> str:
        """Add a rectifier that leaks."""
        y = np.where(self._values[x] < 0, slope * self._values[x], self._values[x])
        return self._node("LeakyRelu", [x], f"{x}.leaky", y.astype(np.float32), alpha=slope)

    def add(self, name: str, x: str, y: str) -> str:
        """Add a sum of two values."""
        return self._node("Add", [x, y], name, self._values[x] + self._values[y])

    def max_pool(self, name: str, x: str, kernel: int, *, stride: int, pads: list[int]) -> str:
        """Add a max pooling; ``pads`` are top, left, bottom and right."""
        top, left, bottom, right = pads
        edges = ((0, 0), (0, 0), (top, bottom), (left, right))
        padded = np.pad(self._values[x], edges, constant_values=-np.inf)
        windows = sliding_window_view(padded, (kernel, kernel), (2, 3))
        y = windows[:, :, ::stride, ::stride].max((4, 5))
        return self._node(
            "MaxPool",
            [x],
            name,
            y,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=pads,
        )

    def global_average(self, name: str, x: str) -> str:
        """Add the mean over each channel, as features."""
        mean = self._values[x].mean((2, 3), keepdims=True)
        pooled = self._node("GlobalAveragePool", [x], f"{name}.pool", mean)
        return self.flatten(name, pooled)

    def flatten(self, name: str, x: str) -> str:
        """Make an image features."""
        return self._node("Flatten", [x], name, self._values[x].reshape(len(self._values[x]), -1))

    def network(self, output: str) -> Network:
        """Return the network that ends in ``output``."""
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [info(self.image, TensorProto.FLOAT, [1, *self._samples.shape[1:]])],
            [info(output, TensorProto.FLOAT, [1, *self._values[output].shape[1:]])],
            [numpy_helper.from_array(v, k) for k, v in self._constants.items()],
        )
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return Network(
            name=self._name,
            model=model,
            calibration=self._calibration,
            samples=self._samples,
            results=self._values[output][_SEEN:],
        )

    def _weight(self, shape: tuple[int, ...], fan: int) -> Array:
        return np.asarray(self._rng.normal(size=shape) * (2 / fan) ** 0.5, np.float32)

    def _constant(self, name: str, value: Any) -> str:
        self._constants[name] = np.asarray(value, np.float32)
        return name

    def _node(
        self, kind: str, inputs: list[str], name: str, value: Array, **attributes: Any
    ) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self._values[name] = value
        return name

    def _normalised(
        self,
        kind: str,
        name: str,
        x: str,
        weight: Array,
        channel_axis: int,
        y: Array,
        norm: bool,
        attributes: dict[str, Any],
    ) -> str:
        """Add a layer whose bare result is ``y``; its statistics go to a node or to its weights."""
        axes = (0, *range(2, y.ndim))
        seen = y[:_SEEN]
        mean, variance = seen.mean(axes), seen.var(axes) + _EPSILON
        if prod(y.shape[2:]) == 1:
            # Two samples are no statistics: those of all channels together are.
            mean, variance = np.zeros_like(mean), np.full_like(variance, seen.var() + _EPSILON)
        gain = self._rng.uniform(0.7, 1.3, len(mean)).astype(np.float32)
        bias = self._rng.normal(0, 0.2, len(mean)).astype(np.float32)
        factor = gain / np.sqrt(variance)
        offset = bias - mean * factor
        shape = [1] * y.ndim
        shape[1] = -1
        result = np.asarray(y * factor.reshape(shape) + offset.reshape(shape), np.float32)
        if norm:
            bare = self._node(kind, [x, self._constant(f"{name}.w", weight)], name, y, **attributes)
            parts = {"gain": gain, "bias": bias, "mean": mean, "variance": variance}
            constants = [self._constant(f"{name}.{k}", v) for k, v in parts.items()]
            inputs = [bare, *constants]
            return self._node("BatchNormalization", inputs, f"{name}.norm", result, epsilon=0.0)
        spread = [1] * weight.ndim
        spread[channel_axis] = -1
        constants = [
            self._constant(f"{name}.w", weight * factor.reshape(spread)),
            self._constant(f"{name}.b", offset),
        ]
        return self._node(kind, [x, *constants], name, result, **attributes)


def _conv(x: Array, weight: Array, stride: int, pads: list[tuple[int, ...]], groups: int) -> Array:
    """Return a convolution of floats."""
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    windows = sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    if groups == 1:
        result = np.tensordot(windows, weight, ([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)
    else:
        size = x.shape[1] // groups
        split = windows.reshape(len(x), groups, size, *windows.shape[2:])
        kernels = weight.reshape(groups, -1, *weight.shape[1:])
        result = np.einsum("ngchwij,gocij->ngohw", split, kernels)
        result = result.reshape(len(x), len(weight), *result.shape[3:])
    return np.ascontiguousarray(result, np.float32)
