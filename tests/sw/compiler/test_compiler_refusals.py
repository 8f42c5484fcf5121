"""What cannot be compiled is refused in one line that names the node, the rule and the way out."""

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from ginseng.compiler import CompilerError, Graph, Value, compile_model, lower
from ginseng.compiler.operators.conv2d import Conv2d
from ginseng.isa.config import SystemConfig, TecConfig

pytestmark = pytest.mark.tvm
SHAPE = (3, 8, 8)
RNG = np.random.default_rng(0)


def tail(build, kind, *more, shape=(8, 8, 8), **attributes):
    """A convolution, then the node to be refused; its output is named ``y``."""
    build.add(kind, [build.conv("x", "c", 8, 3), *more], "y", **attributes)
    return build.model(SHAPE, {"y": shape})


def lstm(build):
    inputs = ["x", build.weights("w", 1, 16, 8), build.weights("r", 1, 16, 4)]
    build.add("LSTM", inputs, "y", hidden_size=4)
    return build.model((8, 8), {"y": (1, 8, 4)})


def softmax_in_the_middle(build):
    x = build.add("Softmax", [build.dense("x", "d1", 8, 6)], "probabilities", axis=1)
    build.dense(x, "y", 4, 8)
    return build.model((6,), {"y": (4,)})


def volume(build):
    build.add("Conv", ["x", build.weights("w", 4, 3, 3, 3, 3)], "y", kernel_shape=[3, 3, 3])
    return build.model((3, 8, 8, 8), {"y": (4, 6, 6, 6)})


def dynamic_height(build):
    build.conv("x", "y", 8, 3)
    model = build.model(SHAPE, {"y": (8, 8, 8)})
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return model


def batch_of_four(build):
    build.conv("x", "y", 8, 3)
    return build.model(SHAPE, {"y": (8, 8, 8)}, batch=4)


def nan_weights(build):
    build.constant(np.full((4, 3, 1, 1), np.nan), "w")
    build.add("Conv", ["x", "w"], "y", kernel_shape=[1, 1])
    return build.model(SHAPE, {"y": (4, 8, 8)})


def half_precision(build):
    build.add("Relu", ["x"], "y")
    return build.model(SHAPE, {"y": SHAPE}, dtype=onnx.TensorProto.FLOAT16)


def computed_weights(build):
    build.add("Conv", ["x", "z"], "y", kernel_shape=[3, 3])
    model = build.model(SHAPE, {"y": (1, 6, 6)})
    info = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 3, 3, 3])
    model.graph.input.append(info)
    return model


def transposed(build):
    return tail(build, "Transpose", perm=[0, 2, 3, 1])


def sequence_mean(build):
    return tail(build, "ReduceMean", axes=[1], shape=(1, 8, 8))


def wide_pool(build):
    build.add("MaxPool", ["x"], "y", kernel_shape=[3, 3])
    return build.model((1, 4, 900), {"y": (1, 2, 898)})


def unused_input(build):
    build.conv("x", "y", 8, 3)
    model = build.model(SHAPE, {"y": (8, 8, 8)})
    info = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 5])
    model.graph.input.append(info)
    return model


def identity(build):
    build.add("Identity", ["x"], "y")
    return build.model(SHAPE, {"y": SHAPE})


def invalid(build):
    build.add("Relu", ["nobody"], "y")
    return build.model(SHAPE, {"y": SHAPE})


CASES = [
    (lstm, "y.node", "owner's side"),
    (softmax_in_the_middle, "probabilities.node", "owner's side"),
    (volume, "Input x", "(batch, channels, height, width)"),
    (dynamic_height, "Input x", "fixed height"),
    (batch_of_four, "Input x", "batch 1"),
    (nan_weights, "y.node", "repair the model"),
    (half_precision, "Input x", "float32"),
    (computed_weights, "y.node", "initialisers"),
    (transposed, "y.node", "leave it out"),
    (sequence_mean, "y.node", "only height and width"),
    (wide_pool, "y.node", "smaller images"),
    (unused_input, "z", "remove it"),
    (identity, "net", "at least one node"),
    (invalid, "ONNX model", "nobody"),
]


def samples_for(model):
    return {
        port.name: RNG.normal(
            size=(2, *(d.dim_value or 8 for d in port.type.tensor_type.shape.dim[1:]))
        ).astype(np.float32)
        for port in model.graph.input
    }


@pytest.mark.parametrize(
    ("make", "where", "way_out"), CASES, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_model_that_cannot_be_compiled_is_refused_by_name(build, capfd, make, where, way_out):
    model = make(build)
    with pytest.raises(CompilerError) as refused:
        compile_model(model, samples_for(model))
    message = str(refused.value)
    assert where in message
    assert way_out in message
    assert "\n" not in message
    assert len(message) < 500
    assert capfd.readouterr().out == ""


def small_model(build):
    build.conv("x", "y", 8, 3)
    return build.model(SHAPE, {"y": (8, 8, 8)})


GOOD = RNG.normal(size=(2, *SHAPE))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "Input x has no calibration data"),
        ({"x": GOOD[:, :, :4]}, "shape (2, 3, 4, 8)"),
        ({"x": GOOD[:0]}, "n at least 1"),
        ({"x": GOOD, "z": GOOD}, "z belongs to no input"),
        ({"x": np.where(GOOD > 2, np.nan, GOOD) * np.inf}, "not finite"),
        ({"x": GOOD.astype(str)}, "numbers"),
    ],
)
def test_bad_calibration_data_are_refused(build, data, words):
    with pytest.raises(CompilerError) as refused:
        compile_model(small_model(build), data)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_different_numbers_of_samples_are_refused(build):
    build.add("Add", ["x", "z"], "y")
    model = build.model(SHAPE, {"y": SHAPE})
    info = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", *SHAPE])
    model.graph.input.append(info)
    with pytest.raises(CompilerError, match="different numbers of samples"):
        compile_model(model, {"x": GOOD, "z": GOOD[:1]})


def test_files_that_are_no_models_are_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is no protobuf")
    with pytest.raises(CompilerError, match=r"broken\.onnx is no ONNX model"):
        compile_model(path, {})
    with pytest.raises(CompilerError, match="cannot be read"):
        compile_model(tmp_path / "absent.onnx", {})
    with pytest.raises(CompilerError, match="not int"):
        compile_model(5, {})


def test_a_build_without_protection_has_no_programs(build):
    with pytest.raises(CompilerError, match="TEC"):
        compile_model(small_model(build), {"x": GOOD}, config=SystemConfig(tec=None))


@pytest.mark.parametrize("module", ["tvm", "onnx"])
def test_a_missing_extra_is_named(build, monkeypatch, module):
    model = small_model(build)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CompilerError, match=r"pip install 'ginseng\[tvm\]'"):
        compile_model(model, {"x": GOOD})


def image(name, shape=SHAPE, **more):
    return Value(name=name, shape=shape, shift=0, **more)


def convolution(name="c", source="x", out="y", bias=0):
    weight = np.ones((4, 3, 1, 1), np.int8)
    return Conv2d(
        name=name,
        inputs=(source,),
        output=image(out, (4, 8, 8)),
        weight=weight,
        bias=np.full(4, bias, np.int32),
    )


def graph(*nodes, outputs=("y",)):
    return Graph(name="g", inputs=(image("x"),), nodes=nodes, outputs=outputs)


def test_accumulators_that_could_overflow_are_refused_exactly_at_the_bound():
    limit = (1 << 31) - 1
    graph(convolution(bias=limit - 3 * 127))
    graph(convolution(bias=3 * 128 - limit))
    for bias in (limit - 3 * 127 + 1, 3 * 128 - limit - 1):
        with pytest.raises(CompilerError, match="could reach 2147483648, beyond int32"):
            graph(convolution(bias=bias))


def test_malformed_graphs_are_refused():
    good = convolution()
    for nodes, outputs, words in [
        ((replace(good, inputs=("z",)),), ("y",), "nothing before it makes"),
        ((good, replace(good, name="d")), ("y",), "exists already"),
        ((good, convolution("c", out="z")), ("y", "z"), "names are unique"),
        ((replace(good, output=image("y", (4, 7, 8))),), ("y",), "not \\(4, 7, 8\\)"),
        ((good,), ("z",), "does not exist"),
        ((good,), ("x", "y"), "is an input"),
        ((good,), (), "no output"),
        ((good, convolution("d", out="z")), ("y",), "nothing uses z"),
    ]:
        with pytest.raises(CompilerError, match=words):
            graph(*nodes, outputs=outputs)
    with pytest.raises(CompilerError, match="range"):
        image("x", lo=5, hi=4)


def test_a_program_that_exceeds_table_or_bitmap_is_refused():
    nodes = [convolution("c0", out="v0")]
    for n in range(1, 8):
        weight = np.ones((4, 4, 1, 1), np.int8)
        node = convolution(f"c{n}", f"v{n - 1}", f"v{n}")
        nodes.append(replace(node, weight=weight))
    chain = graph(*nodes, outputs=("v7",))
    lower(chain, SystemConfig(tec=TecConfig(table_entries=8)))
    with pytest.raises(CompilerError, match="rows of the tensor table"):
        lower(chain, SystemConfig(tec=TecConfig(table_entries=4)))
    with pytest.raises(CompilerError, match="bitmap"):
        lower(chain, SystemConfig(tec=TecConfig(bitmap_bits=4)))


def relax_model(emit, shape, dtype="float32"):
    """Return a module whose ``main`` is what ``emit`` makes of its one input."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(emit(relax, tvm, x)))
        builder.emit_func_output(result)
    return builder.get()


def channels_last(relax, tvm, x):
    weight = relax.const(np.ones((3, 3, 3, 4), np.float32))
    return relax.op.nn.conv2d(x, weight, data_layout="NHWC", kernel_layout="HWIO")


@pytest.mark.parametrize(
    ("emit", "shape", "dtype", "words"),
    [
        (channels_last, (1, 8, 8, 3), "float32", "export it as NCHW"),
        (lambda r, t, x: r.op.nn.softmax(x), (1, 8), "float32", "cannot do nn.softmax"),
        (lambda r, t, x: r.op.split(x, 2, 1), (1, 8), "float32", "no single tensor"),
        (lambda r, t, x: r.op.nn.relu(x), (1, 8), "int8", "make it float32"),
        (lambda r, t, x: r.op.nn.relu(x), (4, 8), "float32", "batch of 4"),
        (lambda r, t, x: r.op.nn.relu(x), (1, 2, 3), "float32", "3 dimensions"),
        (lambda r, t, x: r.op.reshape(x, (1, 2, 2, 2)), (1, 8), "float32", "at least one node"),
    ],
)
def test_relax_functions_that_cannot_be_compiled_are_refused(emit, shape, dtype, words):
    model = relax_model(emit, shape, dtype)
    with pytest.raises(CompilerError) as refused:
        compile_model(model, {"x": np.ones((2, *shape[1:]), np.float32)})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_symbolic_batch_of_a_relax_function_is_bound():
    import tvm
    from tvm import relax

    batch = tvm.tirx.Var("n", "int64")
    model = relax_model(lambda r, t, x: r.op.nn.relu(x), (batch, 4, 5, 5))
    assert isinstance(model["main"], relax.Function)
    compiled = compile_model(model, {"x": RNG.normal(size=(3, 4, 5, 5))})
    assert [n.kind for n in compiled.graph.nodes] == ["clip"]


def test_a_module_without_main_is_refused():
    import tvm

    with pytest.raises(CompilerError, match="named main"):
        compile_model(tvm.IRModule(), {})
