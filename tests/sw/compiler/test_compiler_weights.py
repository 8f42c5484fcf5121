"""Scales of weights per tensor and per channel, and sums that cannot wrap, by the device."""

import numpy as np
import onnx
import pytest

from ginseng.compiler import CompilerError, Graph, Value, compile_model, quantise_model
from ginseng.compiler.graph import ACC_LIMIT
from ginseng.compiler.operators.dense import Dense
from ginseng.compiler.rescale import Rescale
from ginseng.compiler.weights import WeightScales, quantise_weights, weight_shifts

pytestmark = pytest.mark.tvm


def noise(weight, shifts):
    """Return the squared error of ``weight`` at one shift per output channel, directly."""
    total = 0.0
    for row, shift in zip(weight, np.broadcast_to(shifts, len(weight)), strict=True):
        total += np.square(np.clip(np.rint(row * 2.0**shift), -128, 127) / 2.0**shift - row).sum()
    return total


def weights(seed, spread):
    """Output channels whose magnitudes differ by factors of up to ``2**spread``."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(20, 6, 3, 3)) * 2 ** rng.uniform(0, spread, (20, 1, 1, 1))


@pytest.mark.parametrize("seed", range(4))
def test_each_channel_has_the_finest_scale_at_which_it_fits(seed):
    weight = weights(seed, 5)
    for shift, row in zip(weight_shifts(weight, WeightScales.CHANNEL), weight, strict=True):
        largest = np.abs(row).max()
        assert largest * 2.0**shift <= 127.5 < largest * 2.0 ** (shift + 1)
    tensor = weight_shifts(weight, WeightScales.TENSOR)
    assert list(tensor) == [weight_shifts(weight, WeightScales.CHANNEL).min()]


@pytest.mark.parametrize("spread", [0, 0.5, 1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_scales_per_channel_are_taken_where_they_gain_a_decibel(seed, spread):
    weight = weights(seed, spread)
    tensor, channel, chosen = (
        weight_shifts(weight, s)
        for s in (WeightScales.TENSOR, WeightScales.CHANNEL, WeightScales.AUTO)
    )
    gain = 10 * np.log10(noise(weight, tensor) / noise(weight, channel))
    assert np.array_equal(chosen, channel if gain >= 1 else tensor)


def test_a_channel_without_weights_follows_the_others():
    weight = weights(0, 4)
    weight[3] = 0
    shifts = weight_shifts(weight, WeightScales.CHANNEL)
    assert shifts[3] == shifts.min()
    assert not quantise_weights(weight, shifts)[3].any()


def uneven(build):
    """A convolution and a dense layer with channels of very different magnitudes."""
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(24, 3, 3, 3)) * 2 ** rng.uniform(-5, 0, (24, 1, 1, 1))
    inputs = ["x", build.constant(weight, "c.w"), build.weights("c.b", 24, scale=0.1)]
    x = build.add("Conv", inputs, "c", kernel_shape=[3, 3], pads=[1] * 4)
    x = build.add("Flatten", [build.add("Relu", [x], "r")], "flat")
    build.dense(x, "logits", 10, 24 * 36)
    return build.model((3, 6, 6), {"logits": (10,)})


def samples(seed=1, count=8):
    return {"x": np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32)}


def test_scales_per_channel_are_exact_on_the_device_and_cost_less_noise(build, agrees):
    model = uneven(build)
    found = {
        scales: quantise_model(model, samples(), weights=scales, compare=samples(2))
        for scales in ("tensor", "channel", "auto")
    }
    shifts = found["auto"].graph.nodes[0].rescale.shift
    assert len(shifts) == 24
    assert len(set(shifts)) > 3
    assert len(found["tensor"].graph.nodes[0].rescale.shift) == 1
    _, run = agrees(found["auto"].graph)
    assert run.gemm_uops
    own = {scales: q.accuracy.layers[0].own_snr_db for scales, q in found.items()}
    assert own["auto"] == own["channel"] > own["tensor"]


def test_a_choice_that_is_not_there_is_refused(build):
    with pytest.raises(CompilerError, match="use tensor, channel, auto"):
        compile_model(uneven(build), samples(), weights="layer")


@pytest.mark.parametrize("scales", ["tensor", "channel"])
def test_sums_that_could_wrap_get_coarser_weights_instead(build, scales):
    """140,000 features of one sign: 127 * 128 * 140,000 is beyond int32."""
    features = 140_000
    weight = np.full((2, features), 0.99)
    weight[1, 100:] = 0
    build.constant(weight, "w")
    build.add("Gemm", ["x", "w"], "y", transB=1)
    model = build.model((features,), {"y": (2,)})
    data = np.random.default_rng(0).normal(size=(2, features)).astype(np.float32)
    node = quantise_model(model, {"x": data}, weights=scales).graph.nodes[0]
    reached = 128 * np.abs(node.weight.astype(np.int64)).sum(1)
    assert node.weight[0].max() == 63
    assert node.weight[1].max() == (63 if scales == "tensor" else 127)
    assert ACC_LIMIT // 4 < reached[0] < ACC_LIMIT


def test_a_bias_far_beyond_the_products_coarsens_its_channel_alone(build):
    build.constant(np.full((2, 4), 0.001), "w")
    build.constant(np.array([0.0, 1e4]), "b")
    build.add("Gemm", ["x", "w", "b"], "y", transB=1)
    model = build.model((4,), {"y": (2,)})
    data = {"x": np.random.default_rng(0).normal(size=(4, 4))}
    node = quantise_model(model, data, weights="channel").graph.nodes[0]
    assert node.weight[0].max() > 64
    assert node.weight[1].max() < 64
    assert np.abs(node.bias.astype(np.int64)).max() <= 1 << 30


def test_constants_may_wrap_where_the_finished_sum_cannot(evaluate, bare_device):
    """Additions are modulo 2**32, so only the end counts: bias and rounding leave int32 here."""
    rounding, features = 1 << 18, 50
    node = Dense(
        name="dense",
        inputs=("x",),
        output=Value(name="y", shape=(1,), shift=0),
        weight=np.full((1, features), -127, np.int8),
        bias=np.array([ACC_LIMIT - 1], np.int32),
        rescale=Rescale(offset=(rounding,), shift=(25,)),
    )
    source = Value(name="x", shape=(features,), shift=0, lo=100, hi=127)
    graph = Graph(name="one", inputs=(source,), nodes=(node,), outputs=("y",))
    assert ACC_LIMIT - 1 + rounding > ACC_LIMIT > node.worst_case([source])
    for number in (100, 127):
        given = {"x": np.full((1, features), number, np.int8)}
        expected = evaluate(graph, given)["y"]
        assert expected[0, 0] == 63
        np.testing.assert_array_equal(bare_device(graph, given).outputs["y"], expected)


def test_the_largest_sums_that_are_accepted_do_not_wrap(evaluate, bare_device):
    """The worst sample of each sign, by a node exactly at the bound."""
    rng = np.random.default_rng(8)
    weight = rng.integers(-128, 128, (3, 50)).astype(np.int8)
    wide = weight.astype(np.int64)
    for sign in (1, -1):
        worst = np.where(sign * wide[0] > 0, 127, -128).astype(np.int8)
        bias = sign * (ACC_LIMIT - 1 - (1 << 23)) - int(wide[0] @ worst)
        node = Dense(
            name="dense",
            inputs=("x",),
            output=Value(name="y", shape=(3,), shift=0),
            weight=weight,
            bias=np.array([bias, 0, 0], np.int32),
            rescale=Rescale.shifted(24),
        )
        source = Value(name="x", shape=(50,), shift=0)
        graph = Graph(name="one", inputs=(source,), nodes=(node,), outputs=("y",))
        assert node.worst_case([source]) == ACC_LIMIT - 1
        given = {"x": worst[None]}
        expected = evaluate(graph, given)["y"]
        assert expected[0, 0] == sign * 127
        np.testing.assert_array_equal(bare_device(graph, given).outputs["y"], expected)


def test_the_model_with_an_empty_layer_still_has_scales(build):
    """All weights zero, as pruning leaves them."""
    build.constant(np.zeros((4, 3, 1, 1)), "w")
    build.add("Conv", ["x", "w", build.weights("b", 4, scale=1.0)], "y", kernel_shape=[1, 1])
    model = build.model((3, 6, 6), {"y": (4, 6, 6)})
    assert isinstance(model, onnx.ModelProto)
    graph = quantise_model(model, samples()).graph
    assert not graph.nodes[0].weight.any()
