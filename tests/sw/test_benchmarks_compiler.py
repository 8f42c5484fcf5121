"""`ginseng bench compiler`: the networks, the rows, and the processes that measure them."""

import importlib.util
from math import prod

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from ginseng.benchmarks import compiler as subject
from ginseng.benchmarks.errors import BenchmarkError, MissingPackageError
from ginseng.benchmarks.networks import NETWORKS, NetworkBuilder, evaluate_onnx, pictures
from ginseng.benchmarks.session_cost import SetupCost

pytestmark = pytest.mark.tvm


def small_network():
    """One layer of each kind that the builder knows."""
    build = NetworkBuilder("small", (3, 12, 12), seed=5, calibration=4, samples=2)
    x = build.relu6(build.conv("c1", build.image, 8, 3, stride=2))
    x = build.leaky_relu(build.conv("c2", x, 8, 3, groups=8))
    x = build.relu(build.conv("c3", x, 12, 1, norm=False))
    x = build.max_pool("pool", x, 3, stride=1, pads=[1] * 4)
    x = build.add("sum", x, build.upconv("up", x, 12, 3, stride=1, pad=1, norm=True))
    x = build.upconv("double", x, 6, 4, stride=2, pad=1, norm=False)
    return build.network(build.dense("logits", build.global_average("mean", x), 10))


def test_what_the_builder_measured_is_what_onnx_computes():
    """Every normalised value has the mean and variance that its layer was given, in onnx too."""
    network = small_network()
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    norms = [n.output[0] for n in model.graph.node if n.op_type == "BatchNormalization"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in norms)
    for port in (*model.graph.input, model.graph.output[0]):
        port.type.tensor_type.shape.dim[0].dim_param = "n"
    evaluator = ReferenceEvaluator(model)
    _, *results = evaluator.run(None, {network.input: network.calibration[:2]})
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert len(results) == 3
    for name, array in zip(norms, results, strict=True):
        layer = name.removesuffix(".norm")
        mean, spread = array.mean((0, 2, 3)), array.std((0, 2, 3))
        np.testing.assert_allclose(mean, constants[f"{layer}.bias"], atol=1e-3)
        np.testing.assert_allclose(spread, constants[f"{layer}.gain"], rtol=1e-2)


def test_a_layer_without_norm_is_normalised_by_its_weights():
    build = NetworkBuilder("one", (3, 9, 9), seed=1)
    network = build.network(build.conv("c", build.image, 16, 3, norm=False))
    (result,) = ReferenceEvaluator(network.model).run(None, {"image": network.calibration[:1]})
    assert [n.op_type for n in network.model.graph.node] == ["Conv"]
    assert 0.4 < result.std() < 2


def test_results_are_what_onnx_makes_of_the_samples():
    network = small_network()
    (one,) = evaluate_onnx(network.model, network.samples[1:])
    assert network.results.shape == (2, 10)
    np.testing.assert_allclose(network.results[1], one, rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_network_and_pictures():
    one, other = small_network(), small_network()
    assert one.model.SerializeToString() == other.model.SerializeToString()
    assert np.array_equal(one.samples, other.samples)
    images = pictures(3, (3, 32, 32), seed=2)
    assert images.std() == pytest.approx(1)
    # Neighbours are alike, unlike in noise.
    assert np.corrcoef(images[..., 1:].ravel(), images[..., :-1].ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    ("name", "mega_macs", "mega_weights"),
    # As published: He et al. (2016), Howard et al. (2017), Redmon and Farhadi (2017).
    [
        ("resnet32", 69, 0.47),
        ("vgg9", 155, 3.5),
        ("resnet18", 1814, 11.7),
        ("mobilenet_v1", 569, 4.2),
    ],
)
def test_networks_have_the_size_that_their_papers_state(name, mega_macs, mega_weights):
    model = NETWORKS[name]().model
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    known = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes}
    weights = {t.name: t.dims for t in model.graph.initializer}
    macs = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            macs += prod(weights[node.input[1]]) * prod(known.get(node.output[0], [1])[2:])
    assert macs / 1e6 == pytest.approx(mega_macs, rel=0.02)
    assert sum(prod(d) for d in weights.values()) / 1e6 == pytest.approx(mega_weights, rel=0.03)


def test_a_row_has_every_number_of_its_network():
    """In this process; that of a process of its own, as JSON, is the command line's test."""
    lines = []
    row = subject.measure_network(NETWORKS["residual"](), lines.append)
    assert row["bit_exact"] is True
    assert row["samples"] == 8
    assert row["accuracy_float"] is row["accuracy_device"] is None
    assert row["cpu_seconds"] > 0
    assert 50 < row["peak_mb"] < 4096
    assert row["ms_100_mhz"] == pytest.approx(row["cycles"] / 1e5)
    assert row["images_per_second_250_mhz"] == pytest.approx(250e6 / row["cycles"])
    assert 0 < row["utilisation"] < 1
    assert 15 < row["snr_db"] < 45
    assert row["setup_bytes"] <= row["bytes"]
    assert row["setup_images"] == -(-9 * row["setup_cycles"] // row["cycles"])
    assert any("8 samples" in line for line in lines)


def test_weights_that_a_package_ships_lose_less_than_a_point():
    """R-Net has slopes per channel and pooling that rounds up; nothing of it was made here."""
    network = NETWORKS["rnet"]()
    row = subject.measure_network(network, lambda _: None)
    assert row["bit_exact"] is True
    assert row["samples"] == 160
    assert row["accuracy_float"] > 0.97
    assert row["accuracy_device"] >= row["accuracy_float"] - 0.01
    assert set(network.labels) == {0, 1}


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def absent(name, _):
        raise MissingPackageError(f"{name} needs a package")

    monkeypatch.setattr(subject, "_in_process", absent)
    document = subject.measure()
    assert document["networks"] == []
    assert [entry["name"] for entry in document["left_out"]] == list(NETWORKS)
    with pytest.raises(BenchmarkError, match="rnet needs"):
        subject.measure(["rnet"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchmarkError, match="needs scikit-image, which is not installed"):
        NETWORKS["rnet"]()


def test_a_network_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BenchmarkError, match="no network lenet; there are digits, mlp, rnet"):
        subject.measure(["lenet"])


def test_setup_is_paid_off_when_it_is_a_tenth_of_the_whole():
    cost = SetupCost(nbytes=1, cycles=1000)
    assert cost.images(100) == 90
    assert cost.images(101) == 90
    assert cost.images(10**9) == 1
