"""Labels found on the core, and layers that the data's owner does by explicit choice."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ginseng.compiler import CompilerError, Graph, Value, compile_model
from ginseng.compiler.operators.argmax import ArgMax
from ginseng.driver.boards.model import ModelBoard
from ginseng.isa.config import CoreConfig, SystemConfig
from ginseng.program import OwnerStep, ProgramError, dumps, loads
from ginseng.secureos import local_session


def onnx_floats(model, samples):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": samples})[0]


def label_graph(classes):
    node = ArgMax(name="label", inputs=("x",), output=Value(name="y", shape=(1, 1, 2), shift=0))
    source = Value(name="x", shape=(classes,), shift=0)
    return Graph(name="one", inputs=(source,), nodes=(node,), outputs=("y",))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    classes=st.integers(1, 1200),
    levels=st.integers(1, 256),
    small=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_labels_are_exact_and_the_first_of_equals_wins(agrees, classes, levels, small, seed):
    """Few levels make many equal maxima."""
    rng = np.random.default_rng(seed)
    core = CoreConfig(log_batch=1, log_block=3, log_acc_buff_size=13) if small else None
    samples = rng.integers(-128, levels - 128, (2 if small else 1, classes)).astype(np.int8)
    agrees(label_graph(classes), samples={"x": samples}, core=core, scheduler=seed)


def test_a_label_beyond_a_byte_is_read_back_as_it_is(agrees):
    samples = np.full((1, 1000), -128, np.int8)
    samples[0, 934] = -127
    _, run = agrees(label_graph(1000), samples={"x": samples})
    step = OwnerStep(op="label", before=(1, 1, 2), after=())
    assert step(run.outputs["y"]) == [934]


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(12, 3, 8, 8)).astype(np.float32)


def labeller(build, keepdims):
    x = build.add("Relu", [build.conv("x", "c", 8, 3)], "r")
    x = build.add("Flatten", [build.add("GlobalAveragePool", [x], "p")], "f")
    build.add("ArgMax", [build.dense(x, "logits", 5, 8)], "y", axis=1, keepdims=keepdims)
    model = build.model((3, 8, 8), {"y": (1,) if keepdims else ()})
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return model


@pytest.mark.tvm
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_consumer_of_labels_gets_nothing_but_labels(build, images, small_bus, keepdims):
    model = labeller(build, keepdims)
    config = SystemConfig(bus=small_bus)
    compiled = compile_model(model, {"x": images}, config=config)
    (port,) = compiled.program.outputs
    assert port.nbytes(batch=1, block=config.core.block) == 2 * config.core.block
    session = local_session(ModelBoard(config), compiled.program)
    try:
        labels = session.infer(images[:4])
    finally:
        session.close()
    expected = onnx_floats(model, images[:4])
    assert labels.shape == expected.shape
    assert (labels == expected).mean() >= 0.75


def probabilities(build):
    """An image with channels last, in bytes, to the probabilities of five classes."""
    x = build.add("Sub", ["x", build.constant(np.array([120.0, 110.0, 100.0]), "mean")], "less")
    x = build.add("Div", [x, build.constant(np.array([60.0, 57.0, 55.0]), "deviation")], "unit")
    x = build.add("Transpose", [x], "image", perm=[0, 3, 1, 2])
    x = build.add("Relu", [build.conv(x, "c", 8, 3)], "r")
    x = build.add("Flatten", [build.add("GlobalAveragePool", [x], "p")], "f")
    build.add("Softmax", [build.dense(x, "logits", 5, 8)], "y", axis=1)
    return build.model((8, 8, 3), {"y": (5,)})


@pytest.mark.tvm
def test_first_and_last_layers_go_to_the_owner_only_if_that_is_said(build, small_bus):
    model = probabilities(build)
    samples = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.float32)
    with pytest.raises(CompilerError, match="--owner-side"):
        compile_model(model, {"x": samples})
    config = SystemConfig(bus=small_bus)
    compiled = compile_model(model, {"x": samples}, config=config, owner_side=True)
    program = compiled.program
    (given,), (result,) = program.inputs, program.outputs
    assert [step.op for step in given.steps] == ["affine", "affine", "transpose", "windows"]
    assert [step.op for step in result.steps] == ["softmax"]
    assert [node.kind for node in compiled.graph.nodes] == [
        "conv2d",
        "global_average_pool",
        "dense",
    ]
    assert loads(dumps(program)) == program
    session = local_session(ModelBoard(config), program)
    try:
        got = session.infer(samples[:3])
    finally:
        session.close()
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-6)
    assert np.abs(got - onnx_floats(model, samples[:3])).max() < 0.05


@pytest.mark.tvm
@pytest.mark.parametrize(("kind", "small"), [("Tanh", 0.02), ("Sigmoid", 0.02)])
def test_a_generator_ends_on_the_owners_side(build, images, evaluate, kind, small):
    build.add(kind, [build.conv("x", "c", 3, 3)], "y")
    model = build.model((3, 8, 8), {"y": (3, 8, 8)})
    compiled = compile_model(model, {"x": images}, owner_side=True)
    (given,), (result,) = compiled.program.inputs, compiled.program.outputs
    got = result.dequantise(evaluate(compiled.graph, {"x": given.quantise(images)})["y"])
    assert np.abs(got - onnx_floats(model, images)).mean() < small


@pytest.mark.tvm
def test_a_layer_in_the_middle_cannot_go_to_the_owner(build, images):
    x = build.add("Softmax", [build.conv("x", "c", 8, 3)], "middle", axis=1)
    build.conv(x, "y", 4, 8)
    model = build.model((3, 8, 8), {"y": (4, 8, 8)})
    with pytest.raises(CompilerError, match=r"middle.node.*nn.softmax") as refused:
        compile_model(model, {"x": images}, owner_side=True)
    assert "\n" not in str(refused.value)


@pytest.mark.tvm
def test_a_label_that_is_used_in_the_model_is_refused(build, images):
    build.add("ArgMax", [build.conv("x", "c", 8, 3)], "y", axis=2)
    with pytest.raises(CompilerError, match="take the logits"):
        compile_model(build.model((3, 8, 8), {"y": (8, 1, 8)}), {"x": images})


def test_steps_of_the_owner_are_checked():
    for step, words in [
        ({"op": "sort"}, "knows affine"),
        ({"op": "softmax", "axis": 2}, "no axis 2"),
        ({"op": "transpose", "axes": (0, 0)}, "no order"),
        ({"op": "affine", "factors": ((1, 0),)}, "4 factors"),
    ]:
        with pytest.raises(ProgramError, match=words):
            OwnerStep(before=(4, 3), after=(4, 3), **step)
    with pytest.raises(ProgramError, match="takes samples of shape"):
        OwnerStep(op="tanh", before=(4,), after=(4,))(np.zeros((2, 5)))
