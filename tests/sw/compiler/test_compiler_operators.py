"""Each operator from ONNX through TVM: exact on the device, near onnxruntime's floats."""

from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest

from ginseng.compiler import compile_model
from ginseng.program import dumps, loads

pytestmark = pytest.mark.tvm
SHAPE = (20, 9, 8)


def conv(build, name="c", out=20, **more):
    """A layer before the operator, so that its input is no input of the model."""
    return build.conv("x", name, out, SHAPE[0], **more)


def activation(kind, **attributes):
    def make(build):
        build.add(kind, [conv(build)], "y", **attributes)
        return build.model(SHAPE, {"y": SHAPE})

    return make


def alone(kind, *constants, shape=SHAPE, **attributes):
    """The operator on the model's input; constants are shapes of random ones."""

    def make(build):
        inputs = [build.weights(f"k{n}", *shape, scale=1) for n, shape in enumerate(constants)]
        build.add(kind, ["x", *inputs], "y", **attributes)
        return build.model(SHAPE, {"y": shape})

    return make


def depthwise(build):
    weight = build.weights("w", 40, 1, 3, 3)
    x = build.add("Conv", ["x", weight], "c", group=20, kernel_shape=[3, 3], pads=[1] * 4)
    build.add("Relu", [build.norm(x, "n", 40)], "y")
    return build.model(SHAPE, {"y": (40, 9, 8)})


def grouped(build):
    weight = build.weights("w", 30, 4, 3, 3)
    build.add("Conv", ["x", weight], "y", group=5, kernel_shape=[3, 3], strides=[2, 1])
    return build.model(SHAPE, {"y": (30, 4, 6)})


def transposed(build):
    inputs = ["x", build.weights("w", 20, 6, 4, 4), build.weights("b", 12, scale=0.1)]
    x = build.add("ConvTranspose", inputs, "c", group=2, strides=[2, 2], pads=[1] * 4)
    build.add("LeakyRelu", [build.norm(x, "n", 12)], "y", alpha=0.2)
    return build.model(SHAPE, {"y": (12, 18, 16)})


def from_one_pixel(build):
    x = build.add("GlobalAveragePool", ["x"], "p")
    x = build.add("ConvTranspose", [x, build.weights("w", 20, 24, 4, 4)], "c")
    build.add("Relu", [build.norm(x, "n", 24)], "y")
    return build.model(SHAPE, {"y": (24, 4, 4)})


def shared_activation(build):
    """A value that is rectified and also used as it is."""
    x = conv(build)
    build.add("Add", [build.add("LeakyRelu", [x], "r", alpha=0.125), x], "y")
    return build.model(SHAPE, {"y": SHAPE})


def spread_sum(build):
    x = conv(build)
    build.add("Add", [build.add("GlobalAveragePool", [x], "p"), x], "y")
    return build.model(SHAPE, {"y": SHAPE})


def difference(build):
    build.add("Sub", [conv(build, "a"), conv(build, "b", kernel=1)], "y")
    return build.model(SHAPE, {"y": SHAPE})


def product(build):
    x = conv(build)
    gate = build.add("HardSigmoid", [build.add("GlobalAveragePool", [x], "p")], "g", alpha=0.4)
    build.add("Mul", [gate, x], "y")
    return build.model(SHAPE, {"y": SHAPE})


def from_constant(build):
    """A constant less a value."""
    build.add("Sub", [build.weights("k", 20, 1, 1, scale=1), conv(build)], "y")
    return build.model(SHAPE, {"y": SHAPE})


def norm_after_sum(build):
    x = build.add("Add", [conv(build, "a"), conv(build, "b", kernel=1)], "s")
    build.add("Relu", [build.norm(x, "n", 20)], "y")
    return build.model(SHAPE, {"y": SHAPE})


def scaled(build):
    x = build.add("Relu", [conv(build)], "r")
    build.add("Mul", [x, build.constant(np.array(0.37), "k")], "y")
    return build.model(SHAPE, {"y": SHAPE})


def concatenated(first, second):
    def make(build):
        parts = [conv(build, "a", first), conv(build, "b", second, kernel=1)]
        build.add("Relu", [build.add("Concat", parts, "s", axis=1)], "y")
        return build.model(SHAPE, {"y": (first + second, 9, 8)})

    return make


def dropped(build):
    x = build.add("Dropout", [build.add("Identity", [conv(build)], "i")], "d")
    build.add("Relu", [x], "y")
    return build.model(SHAPE, {"y": SHAPE})


def averages(**attributes):
    shape = attributes.pop("shape")

    def make(build):
        build.add("AveragePool", [build.add("Relu", [conv(build)], "r")], "y", **attributes)
        return build.model(SHAPE, {"y": shape})

    return make


def large_kernel(size):
    def make(build):
        build.conv("x", "y", 18, 20, kernel=size)
        return build.model(SHAPE, {"y": (18, 9, 8)})

    return make


def integers(build, name, *values):
    build.constants.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def padded(build, *, fill=0.0, then_conv=True):
    pads = integers(build, "pads", 0, 0, 1, 2, 0, 0, 3, 0)
    x = build.add("Pad", ["x", pads, build.constant(np.array(fill), "fill")], "p")
    if then_conv:
        build.conv(x, "y", 18, 20, kernel=3, pad=0)
        return build.model(SHAPE, {"y": (18, 11, 8)})
    build.add("Relu", [x], "y")
    return build.model(SHAPE, {"y": (20, 13, 10)})


def resized(transformation, rounding):
    def make(build):
        factors = build.constant(np.array([1, 1, 2, 3]), "factors")
        modes = {"coordinate_transformation_mode": transformation, "nearest_mode": rounding}
        x = build.add("Resize", [conv(build), "", factors], "u", mode="nearest", **modes)
        build.add("Relu", [x], "y")
        return build.model(SHAPE, {"y": (20, 18, 24)})

    return make


def flattened(build):
    build.add("Flatten", [conv(build)], "y")
    return build.model(SHAPE, {"y": (20 * 9 * 8,)})


CASES = {
    "depthwise convolution": depthwise,
    "grouped convolution": grouped,
    "convolution, kernel 7": large_kernel(7),
    "convolution, kernel 11": large_kernel(11),
    "transposed convolution": transposed,
    "transposed convolution of a pixel": from_one_pixel,
    "leaky relu": activation("LeakyRelu", alpha=0.1),
    "leaky relu of the input": alone("LeakyRelu", alpha=0.3),
    "leaky relu of a shared value": shared_activation,
    "prelu": alone("PRelu", (20, 1, 1)),
    "hard sigmoid": activation("HardSigmoid", alpha=0.2, beta=0.5),
    "sum with a constant image": alone("Add", SHAPE),
    "sum with a constant row": alone("Add", (1, 8)),
    "sum with a spread pixel": spread_sum,
    "difference": difference,
    "constant less value": from_constant,
    "product of values": product,
    "hard swish": activation("HardSwish"),
    "multiplication by channel": alone("Mul", (20, 1, 1)),
    "multiplication by a number": scaled,
    "batch normalisation after a sum": norm_after_sum,
    "concatenation of blocks": concatenated(16, 32),
    "concatenation of odd channels": concatenated(10, 23),
    "identity and dropout": dropped,
    "average pooling": averages(kernel_shape=[2, 2], strides=[2, 2], shape=(20, 4, 4)),
    "average pooling without padding counted": averages(
        kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, shape=(20, 5, 4)
    ),
    "average pooling with padding counted": averages(
        kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1, shape=(20, 9, 8)
    ),
    "average pooling, rounded up": averages(
        kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, shape=(20, 4, 4)
    ),
    "average pooling of all": averages(kernel_shape=[9, 8], shape=(20, 1, 1)),
    "max pooling, rounded up": alone(
        "MaxPool", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1, shape=(20, 5, 4)
    ),
    "padding before a convolution": padded,
    "padding by a number before a convolution": partial(padded, fill=-0.7),
    "padding": partial(padded, then_conv=False),
    "padding by a number": partial(padded, fill=0.7, then_conv=False),
    "upsampling, asymmetric": resized("asymmetric", "floor"),
    "upsampling, half pixel": resized("half_pixel", "round_prefer_floor"),
    "flattening at the end": flattened,
    "dilated max pooling": alone(
        "MaxPool", kernel_shape=[3, 2], dilations=[2, 3], shape=(20, 5, 5)
    ),
    "global max pooling": alone("GlobalMaxPool", shape=(20, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_exact_and_near_its_float_evaluation(build, agrees, evaluate, name):
    model = CASES[name](build)
    samples = np.random.default_rng(5).normal(0, 1, (6, *SHAPE)).astype(np.float32)
    compiled = compile_model(model, {"x": samples})
    given, (result,) = compiled.program.inputs[0], compiled.program.outputs
    agrees(compiled.graph, samples={"x": given.quantise(samples[:1])}, scheduler=1)
    # The float network sees the rounded input too: that rounding is not the operator's.
    seen = given.dequantise(given.quantise(samples))
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": seen})[0]
    got = result.dequantise(evaluate(compiled.graph, {"x": given.quantise(samples)})["y"])
    noise = float(((got - expected) ** 2).mean() / (expected**2).mean())
    assert noise < 10 ** (-22 / 10)
    assert np.abs(got - expected).max() < 0.15 * np.abs(expected).max()


def test_padding_costs_nothing_where_a_convolution_follows(build):
    samples = np.random.default_rng(5).normal(0, 1, (2, *SHAPE)).astype(np.float32)
    graph = compile_model(padded(build), {"x": samples}).graph
    assert [node.kind for node in graph.nodes] == ["conv2d"]


def test_an_image_that_comes_flattened_is_one_by_another_name(build, agrees, evaluate):
    x = build.add("Reshape", ["x", integers(build, "shape", -1, *SHAPE)], "image")
    build.add("Flatten", [build.conv(x, "c", 6, SHAPE[0])], "y")
    model = build.model((20 * 9 * 8,), {"y": (6 * 9 * 8,)})
    samples = np.random.default_rng(5).normal(0, 1, (3, 20 * 9 * 8)).astype(np.float32)
    compiled = compile_model(model, {"x": samples})
    (given,), (result,) = compiled.program.inputs, compiled.program.outputs
    assert (given.shape, given.image) == ((1440,), SHAPE)
    assert loads(dumps(compiled.program)) == compiled.program
    agrees(compiled.graph, samples={"x": given.quantise(samples[:1])})
    got = result.dequantise(evaluate(compiled.graph, {"x": given.quantise(samples)})["y"])
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": samples})[0]
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "pad", "steps"),
    [
        (3, 7, 2, 3, 4 * 4),
        (3, 3, 1, 1, 3),
        (3, 3, 2, 0, 2 * 2),
        (1, 5, 1, 2, 5),
        (1, 2, 3, 1, 1),
        (4, 3, 1, 0, 3),
        (3, 1, 1, 0, 1),
        (5, 5, 2, 2, 5 * 5),
    ],
)
def test_a_first_layer_with_few_channels_fills_more_lanes(
    build, agrees, evaluate, channels, kernel, stride, pad, steps
):
    """The owner packs the image; the core multiplies no step more than this takes."""
    size = [(extent + 2 * pad - kernel) // stride + 1 for extent in (17, 14)]
    build.conv("x", "y", 16, channels, kernel=kernel, stride=stride, pad=pad)
    model = build.model((channels, 17, 14), {"y": (16, *size)})
    samples = np.random.default_rng(5).normal(0, 1, (3, channels, 17, 14)).astype(np.float32)
    compiled = compile_model(model, {"x": samples})
    (given,), (result,) = compiled.program.inputs, compiled.program.outputs
    assert given.given_shape == (channels, 17, 14)
    assert loads(dumps(compiled.program)) == compiled.program
    _, run = agrees(compiled.graph, samples={"x": given.quantise(samples[:1])}, scheduler=3)
    resets = size[0] * size[1]
    assert run.gemm_uops == size[0] * size[1] * steps + resets
    got = result.dequantise(evaluate(compiled.graph, {"x": given.quantise(samples)})["y"])
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": samples})[0]
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
