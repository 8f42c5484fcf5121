"""Models that are quantised already run in their own scales, to the bit."""

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.compiler import CompilerError, Graph, compile_model
from ginseng.compiler.rescale import Rescale
from ginseng.driver import open_board
from ginseng.isa.config import SystemConfig
from ginseng.program import dumps, loads
from ginseng.secureos import local_session

pytestmark = pytest.mark.tvm
SAMPLES = np.random.default_rng(1).normal(0, 1, (24, 3, 16, 16)).astype(np.float32)
#: Activations, symmetric or not, weights per channel or per tensor.
MODES = [
    ("QUInt8", False, True),
    ("QUInt8", False, False),
    ("QInt8", False, True),
    ("QInt8", True, False),
]


def network(build):
    """A residual block, both poolings, a strided convolution with relu6, a dense layer."""
    x = build.add("Relu", [build.conv("x", "c1", 16, 3)], "r1")
    x = build.add("Relu", [build.add("Add", [build.conv(x, "c2", 16, 16), x], "s")], "r2")
    x = build.add("MaxPool", [x], "p", kernel_shape=[2, 2], strides=[2, 2])
    bounds = [build.constant(np.array(bound), f"bound{bound}") for bound in (0.0, 6.0)]
    x = build.add("Clip", [build.conv(x, "c3", 24, 16, stride=2), *bounds], "r3")
    x = build.add("Flatten", [build.add("GlobalAveragePool", [x], "mean")], "flat")
    build.dense(x, "logits", 10, 24)
    return build.model((3, 16, 16), {"logits": (10,)})


def branches(build):
    """Depthwise and dilated convolutions, a concatenation, a local mean, factors per channel."""
    x = build.add("Relu", [build.conv("x", "c1", 16, 3)], "r1")
    weights = build.weights("dw.w", 16, 1, 3, 3)
    y = build.add("Conv", [x, weights], "dw", group=16, dilations=[2, 2], pads=[2] * 4)
    z = build.conv(x, "c2", 24, 16, kernel=1)
    x = build.add("Concat", [y, z], "both", axis=1)
    x = build.add("Mul", [x, build.weights("factors", 1, 40, 1, 1, scale=1)], "scaled")
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    x = build.add("AveragePool", [x], "local", **pool)
    x = build.add("Flatten", [build.add("GlobalAveragePool", [x], "mean")], "flat")
    x = build.add("MatMul", [x, build.weights("m.w", 40, 10, scale=0.3)], "m")
    build.add("Add", [x, build.weights("m.b", 10, scale=0.3)], "logits")
    return build.model((3, 16, 16), {"logits": (10,)})


CASES = [(network, mode) for mode in MODES] + [(branches, MODES[0]), (branches, MODES[3])]


@pytest.fixture(scope="module")
def quantise(tmp_path_factory):
    """Return a function that quantises a float model with onnxruntime's own quantiser."""
    from onnxruntime import quantization as tools

    folder = tmp_path_factory.mktemp("quantised")

    def run(model, activations="QUInt8", symmetric=False, per_channel=True, **options):
        class Reader(tools.CalibrationDataReader):
            def __init__(self):
                self._samples = iter(SAMPLES[:8])

            def get_next(self):
                sample = next(self._samples, None)
                return None if sample is None else {"x": sample[None]}

        onnx.save(model, folder / "float.onnx")
        tools.quantize_static(
            folder / "float.onnx",
            folder / "quantised.onnx",
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            activation_type=tools.QuantType[activations],
            weight_type=tools.QuantType.QInt8,
            per_channel=per_channel,
            extra_options={"ActivationSymmetric": symmetric, **options},
        )
        return onnx.load(folder / "quantised.onnx")

    return run


def onnxruntime_values(model):
    """Return what onnxruntime computes: every quantised value as int8, and the output."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            names[node.input[0]] = node.output[0]
            watched.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    session = onnxruntime.InferenceSession(watched.SerializeToString())
    outputs = [output.name for output in session.get_outputs()]
    runs = [session.run(None, {"x": sample[None]}) for sample in SAMPLES]
    values = {name: np.concatenate([run[n] for run in runs]) for n, name in enumerate(outputs)}
    result = outputs[0]
    names[result] = names.pop(f"{result}_QuantizeLinear_Input")
    offset = {np.dtype(np.uint8): 128, np.dtype(np.int8): 0}
    integers = {
        name: values[q].astype(np.int64) - offset[values[q].dtype] for name, q in names.items()
    }
    return integers, values[result]


@pytest.mark.parametrize(("make", "mode"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_network_quantised_by_onnxruntime_is_exact_on_the_device(
    build, quantise, agrees, evaluate, record_property, make, mode
):
    model = quantise(make(build), *mode)
    compiled = compile_model(model)
    assert "clip" not in {node.kind for node in compiled.graph.nodes}
    given, result = compiled.program.inputs[0], compiled.program.outputs[0]
    agrees(compiled.graph, samples={"x": given.quantise(SAMPLES[:1])})
    integers, real = onnxruntime_values(model)
    # The core gets the image as its owner packs it.
    packed = integers["x"] - given.zero
    for step in given.steps:
        packed = step(packed)
    integers["x"] = packed.astype(np.int64) + given.zero
    np.testing.assert_array_equal(given.quantise(SAMPLES), integers["x"])
    # Layer by layer, each from the integers that onnxruntime has there.
    for node in compiled.graph.nodes:
        name = node.output.name
        sources = tuple(dict.fromkeys(compiled.graph.sources(node)))
        alone = Graph(name=name, inputs=sources, nodes=(node,), outputs=(name,))
        ours = evaluate(alone, {v.name: integers[v.name] for v in sources})[name]
        difference = np.abs(ours - integers[name].reshape(ours.shape))
        assert difference.max() <= 1, node.name
        # Means of 4 and 6 pixels are often halves: upward here, to even there.
        least = 0.97 if node.kind == "average_pool" else 0.99
        assert (difference == 0).mean() >= least, node.name
        record_property(f"equal {node.name}", round(float((difference == 0).mean()), 4))
    # And from end to end, where the layers' differences add up.
    ours = result.dequantise(evaluate(compiled.graph, {"x": integers["x"]})["logits"])
    steps = np.abs(ours - real) / float(result.mantissa * Fraction(2) ** -result.shift)
    record_property("equal from end to end", round(float((steps < 0.5).mean()), 4))
    record_property("most steps apart", float(steps.max().round()))
    assert steps.max() < (1.5 if make is network else 2.5)
    assert (steps < 0.5).mean() > 0.6


def test_a_quantised_network_runs_protected(build, quantise, evaluate, small_bus):
    config = SystemConfig(bus=small_bus)
    compiled = compile_model(quantise(network(build)), config=config)
    program = loads(dumps(compiled.program))
    given, result = program.inputs[0], program.outputs[0]
    assert (given.name, result.name) == ("x", "logits")
    assert given.mantissa > 1
    assert given.zero != 0
    with open_board("model", config=config) as board, local_session(board, program) as session:
        outputs = session.infer(SAMPLES[:2])
    integers = evaluate(compiled.graph, {"x": given.quantise(SAMPLES[:2])})["logits"]
    np.testing.assert_array_equal(outputs, result.dequantise(integers))


def test_the_same_quantised_model_gives_the_same_bytes(build, quantise):
    model = quantise(network(build))
    assert dumps(compile_model(model).program) == dumps(compile_model(model).program)


def test_weights_may_be_floats_with_a_quantiser_of_their_own(build, quantise):
    """AddQDQPairToWeight: the file holds float weights, QuantizeLinear and DequantizeLinear."""
    model = network(build)
    pair = compile_model(quantise(model, AddQDQPairToWeight=True))
    plain = compile_model(quantise(model))
    for one, other in zip(pair.graph.nodes, plain.graph.nodes, strict=True):
        if hasattr(one, "weight"):
            np.testing.assert_array_equal(one.weight, other.weight)


def test_a_change_of_scale_is_a_layer_of_its_own(build, agrees, evaluate):
    """relu(x), each with a scale of its own, then once more in another one."""
    x = build.quantised("x", "xq", 0.05, 3)
    y = build.quantised(build.add("Relu", [x], "r"), "rq", 0.03, -128)
    build.quantised(y, "y", 0.11, 250, np.uint8)
    compiled = compile_model(build.model((20,), {"y": (20,)}))
    assert [node.kind for node in compiled.graph.nodes] == ["requantise", "requantise"]
    given, result = compiled.program.inputs[0], compiled.program.outputs[0]
    real = np.linspace(-7, 7, 20, dtype=np.float32)[None]
    agrees(compiled.graph, samples={"x": given.quantise(real)})
    once = (given.quantise(real).astype(np.float64) - 3) * 0.05
    once = np.clip(np.rint(np.maximum(once, 0) / 0.03), 0, 255) * 0.03
    twice = np.clip(np.rint(once / 0.11), -250, 5) * 0.11
    ours = result.dequantise(evaluate(compiled.graph, {"x": given.quantise(real)})["y"])
    assert np.abs(ours - twice).max() < 0.5 * 0.11 + 1e-6


@pytest.mark.parametrize("zero", [0, 117])
def test_a_quantised_constant_image_keeps_its_integers(build, agrees, evaluate, zero):
    rng = np.random.default_rng(2)
    x = build.quantised("x", "xq", 0.05, 7)
    image = rng.integers(0, 128, (1, 3, 4, 5)).astype(np.int8)
    constant = build.dequantised(image, "image", 0.037, zero=zero)
    build.quantised(build.add("Add", [x, constant], "sum"), "y", 0.06, -3)
    compiled = compile_model(build.model((3, 4, 5), {"y": (3, 4, 5)}))
    agrees(compiled.graph)
    given = rng.integers(-128, 128, (4, 3, 4, 5))
    ours = evaluate(compiled.graph, {"x": given})["y"]
    real = ((given - 7) * 0.05 + (image.astype(int) - zero) * 0.037) / 0.06 - 3
    assert np.abs(ours - real.clip(-128, 127)).max() < 0.51


def test_calibration_data_for_a_quantised_model_are_refused(build):
    build.quantised(build.add("Relu", [build.quantised("x", "xq", 0.05)], "r"), "y", 0.05)
    model = build.model((20,), {"y": (20,)})
    with pytest.raises(CompilerError, match="brings its own scales"):
        compile_model(model, {"x": np.zeros((1, 20))})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    ratios=st.lists(st.floats(1e-6, 100), min_size=1, max_size=4),
    bits=st.integers(8, 30),
    zero=st.integers(-128, 127),
    seed=st.integers(0, 1 << 30),
)
def test_rescalings_fit_int32_and_keep_their_error_bound(ratios, bits, zero, seed):
    rng = np.random.default_rng(seed)
    exact = [Fraction(ratio) for ratio in ratios]
    bounds = rng.integers(1 << bits - 1, 1 << bits, len(ratios))
    try:
        rescale = Rescale.approximate(exact, bounds, zero)
    except CompilerError:
        # Sums and ratio leave no multiplier: as good as saturated.
        assert max(bounds) * max(ratios) > 1 << 16
        return
    assert rescale.worst_case(bounds) < 1 << 31
    multiplier, offset, shift = (
        np.array(part) for part in (rescale.multiplier, rescale.offset, rescale.shift)
    )
    sums = rng.integers(-bounds, bounds + 1, (500, len(ratios)))
    before = sums + (1 << rescale.before - 1 if rescale.before else 0) >> rescale.before
    ours = before * multiplier + offset >> shift
    real = sums * np.array(ratios) + zero
    inside = (np.abs(real - zero) <= 255.5) & (np.abs(ours - zero) <= 255)
    assert (np.abs(ours - real)[inside] <= rescale.error_bound(exact) + 1e-6).all()
