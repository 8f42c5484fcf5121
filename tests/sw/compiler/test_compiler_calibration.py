"""Calibration methods against direct computation, and the accuracy report against both graphs."""

import contextlib

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from ginseng.compiler import CompilerError, compile_model, quantise_model
from ginseng.compiler.histogram import Histogram
from ginseng.compiler.methods import calibration_method, mean_squared_error, min_max, percentile

pytestmark = pytest.mark.tvm


def heavy_tailed(seed, size=200_000):
    """Activations as they come: many zeros, a body, a tail, and not symmetric."""
    rng = np.random.default_rng(seed)
    values = rng.standard_t(rng.uniform(2, 8), size) * rng.uniform(0.01, 50)
    return np.where(rng.random(size) < 0.3, 0, values + rng.normal()).astype(np.float32)


def seen_of(values, batches=7):
    seen = Histogram()
    for part in np.array_split(values, batches):
        seen.add(part)
    return seen


def saturated(values, shift):
    """Return the share of values that int8 at ``shift`` cannot reach."""
    return np.mean(np.abs(values.astype(np.float64)) > np.ldexp(127.5, -shift))


def squared_error(values, shift):
    exact = values.astype(np.float64)
    near = np.ldexp(np.rint(np.ldexp(exact, shift)).clip(-128, 127), -shift)
    return np.mean((near - exact) ** 2)


@pytest.mark.parametrize("order", [1, -1])
def test_a_histogram_that_widens_counts_as_one_of_the_whole_range(order):
    """Whether small batches come first or last, and by what factor the range grows."""
    rng = np.random.default_rng(3)
    parts = [rng.normal(size=5000) * scale for scale in (1e-3, 0.7, 900)][::order]
    seen = Histogram()
    for part in parts:
        seen.add(part)
    everything = np.concatenate(parts)
    direct, _ = np.histogram(everything, len(seen.counts), (-seen.reach, seen.reach))
    assert np.array_equal(seen.counts, direct)
    assert (seen.lo, seen.hi) == (everything.min(), everything.max())
    assert seen.reach >= np.abs(everything).max() > seen.reach / 2
    assert seen.total == len(everything)


def test_a_value_that_was_once_not_finite_stays_so():
    seen = seen_of(np.array([1.0, np.inf, 2.0, 3.0]), batches=4)
    assert np.isnan([seen.lo, seen.hi]).all()


@pytest.mark.parametrize("seed", range(8))
def test_min_max_is_the_finest_scale_at_which_nothing_saturates(seed):
    values = heavy_tailed(seed)
    shift = min_max(seen_of(values))
    assert saturated(values, shift) == 0
    assert saturated(values, shift + 1) > 0


@pytest.mark.parametrize("share", [99.0, 99.9, 99.99])
@pytest.mark.parametrize("seed", range(8))
def test_percentiles_are_those_of_all_elements(seed, share):
    values = heavy_tailed(seed)
    seen = seen_of(values)
    shift = percentile(seen, share)
    assert saturated(values, shift) <= 1 - share / 100
    exact = np.percentile(np.abs(values.astype(np.float64)), share)
    width = seen.reach / 2048
    # One bin is all that the histogram may be wrong by.
    assert shift in {np.floor(np.log2(127.5 / (exact + d))) for d in (0, width)}
    assert shift >= min_max(seen)


@pytest.mark.parametrize("seed", range(8))
def test_the_least_squared_error_is_that_of_the_elements(seed):
    values = heavy_tailed(seed)
    seen = seen_of(values)
    direct = {shift: squared_error(values, shift) for shift in range(-8, 24)}
    assert direct[mean_squared_error(seen)] <= 1.01 * min(direct.values())


def test_a_tail_makes_the_three_methods_differ():
    values = heavy_tailed(1)
    shifts = {calibration_method(m)(seen_of(values)) for m in ("minmax", "percentile:99", "mse")}
    assert len(shifts) == 3


def test_nothing_but_zeros_has_a_scale():
    seen = seen_of(np.zeros(100))
    assert min_max(seen) == percentile(seen, 99.9) == mean_squared_error(seen) == 7


@pytest.mark.parametrize(
    "text", ["", "max", "percentile", "percentile:x", "percentile:0.5", "mse:2"]
)
def test_a_method_that_is_not_there_is_refused_with_those_that_are(text):
    with pytest.raises(CompilerError, match="use minmax, mse, or percentile:SHARE"):
        calibration_method(text)


def two_layers(build, factor=1.0):
    """Two convolutions; the second has weights ``factor`` times the others for a dead channel."""
    first = build.conv("x", "first", 8, 3)
    weight = build.rng.normal(0, 0.2, (8, 8, 3, 3))
    weight[:, 0, 1, 1] *= factor
    inputs = [build.add("Relu", [first], "r1"), build.constant(weight, "second.w")]
    second = build.add("Conv", inputs, "second", kernel_shape=[3, 3], pads=[1] * 4)
    x = build.add("Flatten", [build.add("GlobalAveragePool", [second], "mean")], "flat")
    build.dense(x, "logits", 10, 8)
    bias = next(c for c in build.constants if c.name == "first.b")
    dead = onnx.numpy_helper.to_array(bias) - 100 * (np.arange(8) == 0)
    bias.CopyFrom(onnx.numpy_helper.from_array(dead.astype(np.float32), "first.b"))
    return build.model((3, 8, 8), {"logits": (10,)})


def data(count=24, scale=1.0, seed=6):
    images = np.random.default_rng(seed).normal(size=(count, 3, 8, 8)) * scale
    return {"x": images.astype(np.float32)}


def test_a_rare_outlier_does_not_spoil_a_percentile(build):
    samples = data()
    samples["x"][0, 0, 0, 0] = 1000
    model = two_layers(build)
    shifts = {
        method: quantise_model(model, samples, method=method).graph.inputs[0].shift
        for method in ("minmax", "percentile:99.9", "mse")
    }
    assert shifts["percentile:99.9"] > shifts["minmax"] + 4
    assert shifts["minmax"] <= shifts["mse"] <= shifts["percentile:99.9"]


def test_min_max_is_the_default_and_methods_reach_the_program(build):
    model, samples = two_layers(build), data()
    default = quantise_model(model, samples).graph.sha256
    assert quantise_model(model, samples, method="minmax").graph.sha256 == default
    assert quantise_model(model, samples, method="percentile:90").graph.sha256 != default
    with pytest.raises(CompilerError, match="no calibration method"):
        compile_model(model, samples, method="median")


def test_a_progress_bar_moves_once_for_each_sample(build):
    opened, steps = [], []

    @contextlib.contextmanager
    def bar(label, total):
        opened.append((label, total))
        yield lambda: steps.append(label)

    quantise_model(two_layers(build), data(5), compare=data(3, seed=7), bar=bar)
    assert opened == [("calibrating", 5), ("comparing with float", 3)]
    assert len(steps) == 8


def test_the_report_is_the_ratio_of_float_signal_to_integer_noise(build, evaluate):
    model, held = two_layers(build), data(16, seed=9)
    quantised = quantise_model(model, data(), compare=held)
    graph, report = quantised.graph, quantised.accuracy
    exact = ReferenceEvaluator(model).run(None, held)[0].astype(np.float64)
    value = graph.values["x"]
    given = np.rint(np.ldexp(held["x"].astype(np.float64), value.shift)).clip(-128, 127)
    for step in graph.steps["x"]:
        given = step(given)
    got = np.ldexp(evaluate(graph, {"x": given})["logits"], -graph.values["logits"].shift)
    last = report.layers[-1]
    ratio = 10 * np.log10((exact**2).sum() / ((got - exact) ** 2).sum())
    assert last.snr_db == pytest.approx(ratio, abs=0.01)
    assert last.effective_bits == pytest.approx((ratio - 1.76) / 6.02, abs=0.01)
    assert [layer.name for layer in report.layers] == [node.name for node in graph.nodes]
    assert report.samples == 16
    assert report.document()["layers"][-1]["value"] == "logits"


def test_saturated_elements_are_counted(build):
    """Samples four times as large as those of calibration leave the scales."""
    model, held = two_layers(build), data(4, scale=4.0, seed=9)
    quantised = quantise_model(model, data(), compare=held)
    first = quantised.accuracy.layers[0]
    exact = np.maximum(ReferenceEvaluator(_also(model, "first")).run(None, held)[1], 0)
    assert first.elements == exact.size
    assert first.saturated == (exact > np.ldexp(127.5, -first.shift)).sum() > 0
    calibrated = quantise_model(model, data(), compare=data()).accuracy
    assert all(layer.saturated == 0 for layer in calibrated.layers)


def _also(model, value):
    """Return the model with a further output."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.output.append(onnx.ValueInfoProto(name=value))
    return extended


def test_the_layer_that_costs_most_is_named(build):
    """Weights a thousand times the others' leave these no bits, though they never matter."""
    model = two_layers(build, factor=1000)
    report = quantise_model(model, data(), compare=data(seed=9)).accuracy
    assert report.worst(1)[0].name == "second.node"
    assert report.document()["worst"][0] == "second.node"


def test_bad_samples_to_compare_with_are_refused(build):
    with pytest.raises(CompilerError, match="input x"):
        quantise_model(two_layers(build), data(), compare={"x": np.zeros((2, 3, 8))})
