"""Training: gradients are right, a step is what the mechanism says, and no step is spent twice."""

import json
from fractions import Fraction

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm", reason="comes with the extra tvm")
pytest.importorskip("dp_accounting", reason="comes with the extra myelin")

from ginseng.cli.app import main
from ginseng.myelin.errors import MyelinError, PrivacyError
from ginseng.myelin.graph import load_graph, save_parameters
from ginseng.myelin.privacy.grid import Grid
from ginseng.myelin.privacy.ledger import Ledger
from ginseng.myelin.privacy.stream import RunKey
from ginseng.myelin.training.gradient import ExampleGradient
from ginseng.myelin.training.optimizer import Adam, Averaging, Momentum
from ginseng.myelin.training.train import Plan, accuracy, train

KEY = bytes(range(32))


def data(count=60, seed=1):
    """Three clouds that a line can tell apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    centres = np.array([[2, 0, 0, 1], [0, 2, 0, 1], [0, 0, 2, 1]], np.float32)
    return (centres[labels] + 0.3 * rng.standard_normal((count, 4))).astype(np.float32), labels


def plan(**change):
    values = {"epsilon": 8.0, "delta": 1e-3, "batch": 20, "steps": 6} | change
    return Plan(**values)


def gradient_of(path):
    return ExampleGradient(load_graph(path, batch=1, alone=True))


def test_the_gradient_of_a_line_is_the_formula(linear):
    gradient = gradient_of(linear)
    rng = np.random.default_rng(3)
    weights, bias = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3), (3,)))
    bound = gradient.bind([weights, bias])
    for label in range(3):
        example = rng.standard_normal(4).astype(np.float32)
        scores = example.astype(np.float64) @ weights + bias
        errors = np.exp(scores - scores.max())
        errors /= errors.sum()
        errors[label] -= 1
        found = bound(example, label)
        np.testing.assert_allclose(found[0], np.outer(example, errors), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], errors, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_convolutional_net_is_its_slope(networks, tmp_path):
    net = networks.Net((2, 6, 6))
    net.conv(3)
    net.node("Relu", net.at)
    net.pool()
    net.node("Flatten", net.at)
    net.dense(4)
    path = tmp_path / "conv.onnx"
    onnx.save(net.model(), path)
    gradient = gradient_of(path)
    assert gradient.shape == (2, 6, 6)
    rng = np.random.default_rng(4)
    parameters = [0.3 * rng.standard_normal(p.shape).astype(np.float32) for p in gradient.initial]
    example, label = rng.standard_normal((2, 6, 6)).astype(np.float32), 2

    def loss(changed):
        scores = gradient.scores(changed, example[None])[0].astype(np.float64)
        return np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label]

    found = gradient.bind(parameters)(example, label)
    step = 1e-2
    for n, part in enumerate(parameters):
        for at in rng.integers(0, part.size, 6):
            ends = []
            for sign in (1, -1):
                changed = [p.copy() for p in parameters]
                changed[n].ravel()[at] += sign * step
                ends.append(loss(changed))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert found[n].ravel()[at] == pytest.approx(slope, abs=2e-3)


def test_a_step_is_what_the_mechanism_says(linear):
    examples, labels = data()
    trained = train(
        linear, examples, labels, plan(steps=1, optimizer=Momentum(0.25)), key=RunKey(KEY)
    )
    terms = trained.ledger.terms
    key, grid = RunKey(KEY), Grid(clip=terms.clip, bits=terms.bits)
    batch = terms.sampler.sample(key.stream(0, "sample"))
    assert 0 < batch.size < 60
    zeros = [np.zeros((4, 3), np.float32), np.zeros(3, np.float32)]
    bound = gradient_of(linear).bind(zeros)
    totals = grid.total([bound(examples[n], int(labels[n])) for n in batch], zeros)
    released = grid.release(
        totals,
        multiplier=terms.multiplier,
        expected=Fraction(terms.threshold * 60, 1 << 64),
        key=key,
        step=0,
        names=list(trained.parameters),
    )
    for part, gradient in zip(trained.parameters.values(), released, strict=True):
        np.testing.assert_array_equal(part, -np.float32(0.25) * gradient)


def test_the_same_key_gives_the_same_model_and_no_key_another(linear):
    runs = [train(linear, *data(), plan(steps=2), key=RunKey(KEY)) for _ in range(2)]
    other = train(linear, *data(), plan(steps=2))
    for name, part in runs[0].parameters.items():
        np.testing.assert_array_equal(part, runs[1].parameters[name])
        assert (part != other.parameters[name]).any()


def test_what_is_learnt_is_right_and_within_the_budget(linear):
    trained = train(linear, *data(400), plan(batch=100, steps=25), key=RunKey(KEY))
    assert accuracy(linear, trained.parameters, *data(200, seed=9)) > 0.95
    assert trained.ledger.done == 25
    assert 7.9 < trained.ledger.epsilon <= 8


class KilledError(Exception):
    pass


def kill_at(step):
    def progress(done):
        if done == step:
            raise KilledError

    return progress


def test_a_run_that_was_killed_goes_on_and_spends_nothing_twice(linear, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KilledError):
        train(linear, *data(), plan(), folder=folder, progress=kill_at(4))
    assert Ledger.open(folder / "ledger").done == 4
    seen = []
    trained = train(linear, *data(), plan(), folder=folder, progress=seen.append)
    assert seen == [5, 6]
    assert trained.ledger.done == 6
    # It is complete: nothing is left to spend.
    again = train(linear, *data(), plan(), folder=folder, progress=seen.append)
    assert seen == [5, 6]
    for name, part in trained.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], part)


@pytest.mark.parametrize("dies_in", ["total", "release"])
def test_a_step_that_was_spent_and_not_seen_is_not_done_again(
    linear, tmp_path, monkeypatch, dies_in
):
    folder = tmp_path / "run"
    with pytest.raises(KilledError):
        train(linear, *data(), plan(), folder=folder, progress=kill_at(2))

    def die(*arguments, **options):
        raise KilledError

    monkeypatch.setattr(Grid, dies_in, die)
    with pytest.raises(KilledError):
        train(linear, *data(), plan(), folder=folder)
    monkeypatch.undo()
    seen = []
    train(linear, *data(), plan(), folder=folder, progress=seen.append)
    assert seen == [4, 5, 6]


def test_another_run_in_the_folder_is_not_gone_on_with(linear, tmp_path):
    folder = tmp_path / "run"
    train(linear, *data(), plan(), folder=folder)
    with pytest.raises(PrivacyError, match="has a run with other terms"):
        train(linear, *data(), plan(epsilon=3.0), folder=folder)
    with pytest.raises(MyelinError, match="of another model or optimizer"):
        train(linear, *data(), plan(optimizer=Adam(0.1)), folder=folder)
    (folder / "checkpoint.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(MyelinError, match="is no checkpoint, or is damaged"):
        train(linear, *data(), plan(), folder=folder)


def test_a_model_that_mixes_examples_is_not_trained(networks, tmp_path):
    path = tmp_path / "centred.onnx"
    onnx.save(networks.centred(), path)
    with pytest.raises(PrivacyError, match=r"is not trained: .*relax\.mean: a reduction over"):
        train(path, *data(), plan())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:, :3], y), r"Examples have shape \(3,\); .* takes \(4,\)"),
        (lambda x, y: (x.astype(str), y), "Examples are numbers, not"),
        (lambda x, y: (x, y[:-1]), "Labels are one integer for each of the 60 examples"),
        (lambda x, y: (x, y.astype(float)), "not float64"),
        (lambda x, y: (x, y + 1), "Labels are from 0 to 2, the classes of"),
        (lambda x, y: (x, y - 1), "one is not"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_anything_is_spent(linear, tmp_path, change, said):
    with pytest.raises(MyelinError, match=said):
        train(linear, *change(*data()), plan(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_budget_that_is_too_small_is_refused(linear):
    with pytest.raises(PrivacyError, match="No noise makes 6 steps cost epsilon"):
        train(linear, *data(), plan(epsilon=1e-7, delta=1e-9))


def test_momentum_is_momentum():
    parameters = [np.array([1.0, 2.0], np.float32)]
    optimizer = Momentum(0.5, 0.5)
    state = optimizer.start(parameters)
    for _ in range(2):
        optimizer.step(parameters, [np.array([1.0, -2.0], np.float32)], state)
    np.testing.assert_allclose(parameters[0], [1 - 0.5 * (1 + 1.5), 2 + 0.5 * (2 + 3)])


def test_adam_is_adam():
    rng = np.random.default_rng(5)
    parameters = [np.zeros(3, np.float32)]
    optimizer = Adam(0.1)
    state = optimizer.start(parameters)
    mean, square, at = np.zeros(3), np.zeros(3), np.zeros(3)
    for n in range(1, 6):
        gradient = rng.standard_normal(3).astype(np.float32)
        optimizer.step(parameters, [gradient], state)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        at -= 0.1 * (mean / (1 - 0.9**n)) / (np.sqrt(square / (1 - 0.999**n)) + 1e-8)
        np.testing.assert_allclose(parameters[0], at, rtol=1e-4)


def test_an_average_is_of_where_the_other_was():
    parameters = [np.array([1.0], np.float32)]
    optimizer = Averaging(inner=Momentum(0.5), decay=0.5)
    state = optimizer.start(parameters)
    assert optimizer.result(parameters, state)[0] == 1
    for _ in range(3):
        optimizer.step(parameters, [np.array([1.0], np.float32)], state)
    assert parameters[0] == -0.5
    expected = (0.25 * 0.5 + 0.5 * 0 + 1 * -0.5) / 1.75
    np.testing.assert_allclose(optimizer.result(parameters, state)[0], [expected], rtol=1e-6)


def test_a_run_that_averages_goes_on_too(linear, tmp_path):
    averages = plan(optimizer=Averaging(inner=Momentum(0.5, 0.9)))
    with pytest.raises(KilledError):
        train(linear, *data(), averages, folder=tmp_path / "run", progress=kill_at(3))
    trained = train(linear, *data(), averages, folder=tmp_path / "run")
    assert trained.ledger.done == 6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Averaging(inner=Momentum(1), decay=1), "Decay of an average is between 0 and 1"),
        (lambda: Momentum(0), "Learning rate is a positive number, not 0"),
        (lambda: Adam(float("inf")), "not inf"),
        (lambda: Momentum(1, 1), "Momentum is from 0 to below 1, not 1"),
    ],
)
def test_what_is_no_optimizer_is_refused(make, said):
    with pytest.raises(MyelinError, match=said):
        make()


def test_what_was_trained_is_a_model_again(linear, tmp_path):
    trained = train(linear, *data(), plan(steps=2), key=RunKey(KEY))
    written = tmp_path / "trained.onnx"
    save_parameters(linear, trained.parameters, written)
    again = load_graph(written, batch=1, alone=True)
    for name, part in trained.parameters.items():
        np.testing.assert_array_equal(again.initial[name], part)
    # The certificate is of the graph, which is the same.
    assert load_graph(written).sha256 == load_graph(linear).sha256
    with pytest.raises(MyelinError, match="has no initializer 'other'; it has c0, c1"):
        save_parameters(linear, {"other": np.zeros(1)}, written)


def test_names_of_other_tools_are_kept(networks, tmp_path):
    model = networks.small()
    names = {"c0": "fc1.weight", "c1": "fc1/bias:0"}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        for n, name in enumerate(node.input):
            node.input[n] = names.get(name, name)
    path, written = tmp_path / "names.onnx", tmp_path / "trained.onnx"
    onnx.save(model, path)
    examples, labels = data()
    trained = train(path, examples, labels, plan(steps=1))
    save_parameters(path, trained.parameters, written)
    assert {t.name for t in onnx.load(written).graph.initializer} == set(names.values())


def test_the_command_trains_and_says_what_it_cost(linear, tmp_path, capsys):
    files = {}
    for name, seed in (("private", 1), ("public", 2)):
        files[name] = tmp_path / f"{name}.npz"
        examples, labels = data(200, seed)
        np.savez(files[name], x=examples, y=labels)
    written = tmp_path / "trained.onnx"
    arguments = ["myelin", "train", str(linear), "--data", str(files["private"])]
    arguments += ["--epsilon", "8", "--delta", "1e-3", "--batch", "60", "--steps", "12"]
    arguments += ["--validate", str(files["public"]), "-o", str(written), "--json"]
    assert main([*arguments, "--folder", str(tmp_path / "run")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["steps"] == 12
    assert document["epsilon"] <= 8
    assert document["accuracy"] > 0.8
    assert document["enclave"] is None
    assert bytes.fromhex(document["certificate"])
    assert Ledger.open(tmp_path / "run" / "ledger").digest.hex() == document["ledger"]
    assert written.exists()


def test_the_command_names_what_is_wrong_with_data(linear, tmp_path, capsys):
    path = tmp_path / "private.npz"
    np.savez(path, images=np.zeros((3, 4)))
    arguments = ["myelin", "train", str(linear), "--data", str(path), "--epsilon", "1"]
    arguments += ["--delta", "1e-3", "-o", str(tmp_path / "out.onnx")]
    assert main(arguments) == 1
    assert "has images; data have x, examples first, and y" in capsys.readouterr().err
