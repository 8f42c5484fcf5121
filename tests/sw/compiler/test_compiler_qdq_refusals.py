"""Quantised models that cannot be compiled are refused in one line, like any other."""

import numpy as np
import onnx
import pytest

from ginseng.compiler import CompilerError, compile_model

pytestmark = pytest.mark.tvm
RNG = np.random.default_rng(0)
SHAPE = (3, 8, 8)


def weights(build, *, scale=0.01, dtype=np.int8, zero=None, axis=None, shape=(8, 3, 3, 3)):
    ends = np.iinfo(dtype)
    array = RNG.integers(ends.min, ends.max + 1, shape).astype(dtype)
    return build.dequantised(array, "w", scale, zero=zero, axis=axis)


def conv(build, x, w, name="c", bias=None):
    inputs = [x, w] if bias is None else [x, w, bias]
    return build.add("Conv", inputs, name, kernel_shape=[3, 3], pads=[1] * 4)


def model(build, result="y", shape=(8, 8, 8), **more):
    return build.model(SHAPE, {result: shape}, **more)


def network(build, *, x=(0.05, 0), y=(0.1, 0), bias=None, x_type=np.int8, **more):
    """A quantised convolution, with what makes it wrong."""
    source = build.quantised("x", "xq", *x, x_type)
    build.quantised(conv(build, source, weights(build, **more), bias=bias), "y", *y)
    return model(build)


def wide_activations(build):
    return network(build, x_type=np.int16)


def scale_per_activation_channel(build):
    return network(build, x=([0.1, 0.2, 0.3], [0, 0, 0]))


def another_scale_after(build):
    grid = [build.constant(np.asarray(0.1), "s"), build.integers(np.int8(0), "z")]
    other = [build.constant(np.asarray(0.2), "t"), grid[1]]
    source = build.add(
        "DequantizeLinear", [build.add("QuantizeLinear", ["x", *grid], "q"), *other], "xq"
    )
    build.quantised(conv(build, source, weights(build)), "y", 0.1)
    return model(build)


def result_not_quantised(build):
    conv(build, build.quantised("x", "xq", 0.05), weights(build), "y")
    return model(build)


def middle_not_quantised(build):
    x = conv(build, build.quantised("x", "xq", 0.05), weights(build))
    x = build.add("MaxPool", [x], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    build.quantised(x, "y", 0.1)
    return model(build, shape=(8, 4, 4))


def input_not_quantised(build):
    build.quantised(conv(build, "x", weights(build)), "y", 0.1)
    return model(build)


def float_weights(build):
    build.quantised(
        conv(build, build.quantised("x", "xq", 0.05), build.weights("w", 8, 3, 3, 3)), "y", 0.1
    )
    return model(build)


def asymmetric_weights(build):
    return network(build, dtype=np.uint8, zero=3)


def scale_per_input_channel(build):
    return network(build, scale=[0.1, 0.2, 0.3], axis=1)


def no_scale(build):
    return network(build, x=(0.0, 0))


def infinite_scale(build):
    return network(build, y=(np.inf, 0))


def computed_scale(build):
    zero = build.integers(np.int8(0), "z")
    scale = build.add("ReduceMax", ["x"], "scale", keepdims=0)
    source = build.add(
        "DequantizeLinear",
        [build.add("QuantizeLinear", ["x", scale, zero], "q"), scale, zero],
        "xq",
    )
    build.quantised(conv(build, source, weights(build)), "y", 0.1)
    return model(build)


def pool_changes_scale(build):
    x = build.quantised("x", "xq", 0.05)
    build.quantised(build.add("MaxPool", [x], "p", kernel_shape=[2, 2]), "y", 0.07)
    return model(build, shape=(3, 7, 7))


def vast_bias(build):
    bias = build.dequantised(np.full(8, 1 << 30, np.int32), "b", 1.0)
    return network(build, bias=bias)


def scales_far_apart(build):
    return network(build, y=(1e-9, 0))


def two_scales_of_one_value(build):
    x = conv(build, build.quantised("x", "xq", 0.05), weights(build))
    build.quantised(build.add("Relu", [build.quantised(x, "one", 0.1)], "r"), "y", 0.1)
    build.quantised(x, "z", 0.2)
    return build.model(SHAPE, {"y": (8, 8, 8), "z": (8, 8, 8)})


def softmax_among_integers(build):
    x = build.quantised("x", "xq", 0.05)
    build.quantised(build.add("Softmax", [x], "probabilities", axis=1), "y", 0.01)
    return model(build, shape=SHAPE)


def quantised_input(build):
    grid = [build.constant(np.asarray(0.1), "s"), build.integers(np.uint8(0), "z")]
    build.quantised(
        build.add("Relu", [build.add("DequantizeLinear", ["x", *grid], "d")], "r"), "y", 0.1
    )
    return model(build, shape=SHAPE, dtype=onnx.TensorProto.UINT8)


def operator_form(build):
    grid = [build.constant(np.asarray(0.1), "s"), build.integers(np.int8(0), "z")]
    q = build.add("QuantizeLinear", ["x", *grid], "q")
    w = build.integers(RNG.integers(-9, 9, (8, 3, 3, 3)).astype(np.int8), "w")
    c = build.add("QLinearConv", [q, *grid, w, *grid, *grid], "c", pads=[1] * 4)
    build.add("DequantizeLinear", [c, *grid], "y")
    return model(build)


def dynamic_quantisation(build):
    build.nodes.append(
        onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "dynamic")
    )
    build.add("DequantizeLinear", ["q", "s", "z"], "y")
    return model(build, shape=SHAPE)


CASES = [
    (wide_activations, "Node xq.q.node (QuantizeLinear)", "int8 or uint8"),
    (scale_per_activation_channel, "Node xq.q.node", "only weights have one per channel"),
    (another_scale_after, "Node xq.node (DequantizeLinear)", "make both alike"),
    (result_not_quantised, "Node y.node", "quantise every value"),
    (middle_not_quantised, "Node c.node", "quantise every value"),
    (input_not_quantised, "Input x", "begin the model with QuantizeLinear"),
    (float_weights, "Node c.node", "quantise them to int8"),
    (asymmetric_weights, "Node c.node", "symmetrically"),
    (scale_per_input_channel, "Node c.node", "per output channel"),
    (no_scale, "Node xq.q.node", "positive and finite"),
    (infinite_scale, "Node y.q.node", "positive and finite"),
    (computed_scale, "Node scale.node (ReduceMax)", "only height and width"),
    (pool_changes_scale, "Node p.node", "quantise both alike"),
    (vast_bias, "Node c.node", "more coarsely"),
    (scales_far_apart, "Node c.node", "lie closer together"),
    (two_scales_of_one_value, "Node z.q.node", "one scale"),
    (softmax_among_integers, "Node probabilities.node (Softmax)", "owner's side"),
    (quantised_input, "Input x is UINT8", "float32"),
    (operator_form, "Node c.node (QLinearConv)", "QDQ form"),
    (dynamic_quantisation, "Node dynamic (DynamicQuantizeLinear)", "QDQ form"),
]


@pytest.mark.parametrize(
    ("make", "where", "way_out"), CASES, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_quantised_model_that_cannot_be_compiled_is_refused_by_name(
    build, capfd, make, where, way_out
):
    broken = make(build)
    with pytest.raises(CompilerError) as refused:
        compile_model(broken)
    message = str(refused.value)
    assert where in message
    assert way_out in message
    assert "\n" not in message
    assert len(message) < 500
    assert capfd.readouterr().out == ""
